//! What is there is told at once, what is not is counted, once, and kept.

use super::counter::Counter;
use super::*;
use crate::store::sqlite::SqliteStore;
use crate::store::thread;
use coordinator_core::coordinator::RequestId;
use coordinator_core::maps::Sum;
use coordinator_core::maps::addresses::{self, roots};
use coordinator_core::store::conformance::{example, settle};
use coordinator_core::store::memory::MemoryStore;
use coordinator_core::store::{ScanStatus, StoreRequest};
use coordinator_core::tally::Part;
use protocol::probe::{Outcome, State};

/// All of a scan's map, added up, and how many cohorts are not counted.
fn sum(scene: &Scene<'_>) -> Result<(Sum, u64), StoreError> {
    let source = scene.source(None)?;
    let mut sum = Sum::default();
    for root in roots(scene.plan()) {
        for cell in addresses::map(&source, root, 6)?.into_iter().flat_map(|map| map.cells) {
            sum += cell.sum;
        }
    }
    Ok((sum, scene.waiting()))
}

/// The example's two cohorts, the first one settled and closed, the second one open.
fn half_done(store: &mut dyn Store) {
    store.create_scan(&example()).expect("a scan");
    let plan = Plan::try_from(example().plan).expect("a plan");
    settle(store, plan.cohort_at(1).expect("a cohort"), &[Outcome::CLOSED; 10]);
}

#[test]
fn what_is_not_counted_is_told_apart_and_counted_after_the_answer() {
    let mut store = MemoryStore::new();
    half_done(&mut store);
    let (scan, mut counter) = (example().id, Counter::default());
    let (_asked, mut nobody) = bounded(QUESTIONS);
    let open = Plan::try_from(example().plan).expect("a plan").cohort_at(0).expect("a cohort");
    let (_, waiting) = counter.look(&store, scan, 0, sum).expect("a map");
    assert_eq!(waiting, 0, "an open cohort without reports is read for nothing");
    settle(&mut store, open, &[Outcome::OPEN; 10]);
    store.begin_pass(scan, open, 2).expect("opened again");
    let (told, waiting) = counter.look(&store, scan, 0, sum).expect("a map");
    assert_eq!((told.targets.of(State::Open), waiting), (0, 1), "as it was counted last");
    assert_eq!(told.targets.of(State::NotProbed), 10);
    counter.count_next(&mut store, &mut nobody).expect("it is counted");
    let (told, waiting) = counter.look(&store, scan, 0, sum).expect("a map");
    assert_eq!((told.targets.of(State::Open), told.targets.of(State::Closed), waiting), (10, 10, 0));
    let mut fresh = Counter::default();
    let (told, waiting) = fresh.look(&store, scan, 9, sum).expect("a map");
    assert_eq!((told.uncounted, waiting), (10, 1), "it was never counted");
    let (told, waiting) = fresh.look(&store, scan, 10, sum).expect("a map");
    assert_eq!((told.uncounted, told.targets.sum(), waiting), (0, 20, 0), "so few are counted at once");
    assert!(fresh.look(&store, protocol::id::ScanId::from_bytes([9; 16]), 0, sum).is_err());
}

#[test]
fn a_thread_answers_beside_the_writer_and_has_it_keep_what_was_missing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("coordinator.db");
    let mut store = SqliteStore::create(&path).expect("a store");
    half_done(&mut store);
    store.forget_tallies().expect("as a version of before left it");
    let reader = store.reader().expect("a reader");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let (handle, mut answers) = thread::start(Box::new(store)).expect("threads");
    let maps = Maps::start(reader, handle.clone()).expect("a thread");
    runtime.block_on(async {
        let (told, waiting) = maps.look(example().id, sum).await.expect("a map");
        assert_eq!((told.targets.of(State::Closed), told.targets.of(State::NotProbed), waiting), (10, 10, 0));
        // What the writer was given is done before what it is asked now.
        handle.ask(RequestId(1), StoreRequest::SetStatus(example().id, ScanStatus::Running)).expect("room");
        answers.next().await.expect("an answer").1.expect("it is done");
        let kept = handle.look(|store| {
            let mut kept = 0;
            let tell = &mut |_: u64, _: &[u8]| {
                kept += 1;
                Ok(())
            };
            store.tallies(example().id, 0..9, Part::Totals, tell).map(|()| kept)
        });
        assert_eq!(kept.await.expect("a look").expect("tallies"), 1);
        let none = maps.look(protocol::id::ScanId::from_bytes([9; 16]), sum).await;
        assert!(matches!(none, Err(MapError::Store(StoreError::UnknownScan(_)))));
    });
}
