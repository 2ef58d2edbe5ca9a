//! What every store must do, as one suite that each implementation runs.

use super::{
    AgentFacts, CohortRecord, Commit, Committed, Cut, LeaseOrder, Part, ScanRecord, ScanStatus, Shard, Store,
    StoreError,
};
use crate::control::{Change, ControlState};
use crate::tally::{self, Part as TallyPart, Totals};
use protocol::chunk;
use protocol::id::{Epoch, InstanceId, ScanId};
use protocol::message::{Finding, PingMethod, ProbeOptions};
use protocol::plan::{Plan, PlanParts, Slots};
use protocol::probe::{Outcome, State};
use protocol::range_set::{AddressSet, RankedRanges};
use protocol::rate::Rate;

/// Runs the suite; `make` gives an empty store each time.
///
/// # Panics
/// If the store does not conform: it is for tests.
pub fn check(make: &mut dyn FnMut() -> Box<dyn Store>) {
    scans_are_kept_and_repeated_harmlessly(&mut *make());
    a_cohort_may_be_opened_before_its_turn(&mut *make());
    what_holds_for_a_scan_is_kept_and_never_goes_back(&mut *make());
    leases_are_made_all_or_none_and_epochs_rise(&mut *make());
    a_report_counts_once_while_its_epoch_is_live(&mut *make());
    a_returned_shard_keeps_its_epoch_until_it_is_leased_again(&mut *make());
    a_returned_shard_is_cut_in_parts(&mut *make());
    a_cohort_closes_when_it_is_through(&mut *make());
    a_later_pass_covers_what_it_says(&mut *make());
    ports_in_stages_are_leased_once_their_host_is_up(&mut *make());
    the_audit_finds_what_is_wrong(&mut *make());
    a_group_is_whole_but_for_what_failed_in_it(&mut *make());
    a_scan_that_is_removed_leaves_nothing_and_others_stay(&mut *make());
    a_closed_cohort_has_its_tally(&mut *make());
}

const SCAN: ScanId = ScanId::from_bytes([7; 16]);

/// A scan to be kept: two hosts in cohorts of one, ten ports each, so cohorts of ten targets.
///
/// # Panics
/// Never: it is made of what is valid.
#[must_use]
pub fn example() -> ScanRecord {
    let mut addresses = AddressSet::new();
    for address in ["192.0.2.1", "192.0.2.2"] {
        addresses.insert(address.parse().expect("an address"));
    }
    let addresses = RankedRanges::try_from(&addresses).expect("two addresses");
    let plan = PlanParts { addresses, slots: Slots::new(false, (1..=10).collect()), seed: 5, vantages: Vec::new() };
    let options = ProbeOptions::new(900, 64);
    ScanRecord {
        id: SCAN,
        plan,
        options,
        rate: None,
        tries: None,
        weight: super::WEIGHT,
        agent_wait_s: None,
        status: ScanStatus::Running,
        request: "{}".into(),
    }
}

fn agent(name: &str) -> AgentFacts {
    AgentFacts { name: name.into(), vantage: "here".into(), software: "0".into(), ping_method: PingMethod::Icmp }
}

fn order(cuts: Vec<Cut>) -> LeaseOrder {
    LeaseOrder { scan: SCAN, holder: InstanceId::new(1), agent: agent("a"), cuts }
}

fn frontier(shard: Shard) -> Cut {
    Cut::Frontier { shard, covers: Vec::new() }
}

fn shard(cohort: u64, lo: u32, hi: u32) -> Shard {
    Shard { cohort, pass: 1, lo, hi }
}

fn cohort_at(position: u64) -> u64 {
    Plan::try_from(example().plan).expect("a plan").cohort_at(position).expect("a cohort")
}

fn commit(epoch: Epoch, outcomes: &[Outcome]) -> Commit {
    let findings =
        outcomes.iter().zip(0..).filter(|(o, _)| o.is_finding()).map(|(_, index)| Finding { index, rtt_us: 1 });
    Commit { scan: SCAN, epoch, chunk: chunk::encode(outcomes), findings: findings.collect() }
}

/// Leases a cohort of [`example`] whole, commits what was found in it, and closes it. All before it must be open.
///
/// # Panics
/// If the store does not do so.
pub fn settle(store: &mut dyn Store, cohort: u64, outcomes: &[Outcome]) {
    let hi = u32::try_from(outcomes.len()).expect("few");
    let epoch = store.lease(&order(vec![frontier(shard(cohort, 0, hi))])).expect("a lease")[0];
    assert_eq!(store.commit(&commit(epoch, outcomes)).expect("a commit"), Committed::Applied);
    store.close_cohort(SCAN, cohort).expect("through");
}

fn scans_are_kept_and_repeated_harmlessly(store: &mut dyn Store) {
    store.create_scan(&example()).expect("a new scan");
    store.create_scan(&example()).expect("the same again");
    let other = ScanRecord { request: "other".into(), ..example() };
    assert!(matches!(store.create_scan(&other), Err(StoreError::ScanExists(SCAN))));
    store.set_status(SCAN, ScanStatus::Done).expect("a status");
    assert_eq!(store.scans().expect("scans"), [ScanRecord { status: ScanStatus::Done, ..example() }]);
    let unknown = ScanId::from_bytes([8; 16]);
    assert!(matches!(store.set_status(unknown, ScanStatus::Done), Err(StoreError::UnknownScan(id)) if id == unknown));
    assert!(store.leases(unknown).is_err() && store.chunks(unknown, 0, 0..1).is_err() && store.audit(unknown).is_err());
}

fn a_cohort_may_be_opened_before_its_turn(store: &mut dyn Store) {
    store.create_scan(&example()).expect("a new scan");
    let (first, second) = (cohort_at(0), cohort_at(1));
    store.lease(&order(vec![frontier(shard(second, 0, 4))])).expect("a lease");
    let mut open = vec![
        CohortRecord { number: first, pass: 1, frontier: 0 },
        CohortRecord { number: second, pass: 1, frontier: 4 },
    ];
    open.sort_by_key(|record| record.number);
    assert_eq!(store.cohorts(SCAN).expect("cohorts"), (open, 2));
    store.lease(&order(vec![frontier(shard(first, 0, 10))])).expect("a lease");
    store.audit(SCAN).expect("the invariants hold");
}

fn what_holds_for_a_scan_is_kept_and_never_goes_back(store: &mut dyn Store) {
    assert!(store.control(SCAN).is_err());
    store.create_scan(&ScanRecord { rate: Some(Rate::per_second(7)), weight: 3, ..example() }).expect("a new scan");
    let first = store.control(SCAN).expect("what holds at first");
    assert_eq!(first, ControlState::initial(Some(Rate::per_second(7)), None, 3));
    assert!(store.set_control(ScanId::from_bytes([8; 16]), &first).is_err());
    let mut excluded = AddressSet::new();
    excluded.insert("192.0.2.2".parse().expect("an address"));
    excluded.insert_net("2001:db8::/64".parse().expect("a network"));
    let second = first.with(&Change::Exclude(excluded)).expect("a change");
    let third = second.with(&Change::Pause).expect("a change").with(&Change::Rate(None)).expect("a change");
    for control in [&second, &third, &third, &second] {
        store.set_control(SCAN, control).expect("it is kept");
    }
    assert_eq!(store.control(SCAN).expect("what holds"), third, "an older version that is repeated changes nothing");
    store.set_status(SCAN, ScanStatus::Cancelled).expect("a status");
    assert_eq!(store.scans().expect("scans")[0].status, ScanStatus::Cancelled);
}

fn leases_are_made_all_or_none_and_epochs_rise(store: &mut dyn Store) {
    store.create_scan(&example()).expect("a new scan");
    let (first, second) = (cohort_at(0), cohort_at(1));
    let epochs =
        store.lease(&order(vec![frontier(shard(first, 0, 4)), frontier(shard(first, 4, 10))])).expect("two leases");
    assert!(epochs[0] < epochs[1]);
    for wrong in [shard(first, 4, 10), shard(second, 2, 5), shard(second, 0, 11), shard(second, 0, 0), shard(9, 0, 1)] {
        let result = store.lease(&order(vec![frontier(shard(second, 0, 1)), frontier(wrong)]));
        assert!(matches!(result, Err(StoreError::Conflict(_))), "{wrong:?}: {result:?}");
    }
    assert_eq!(store.leases(SCAN).expect("leases").len(), 2, "none of a refused order's leases stays");
    assert_eq!(store.cohorts(SCAN).expect("cohorts").1, 1, "nor did it open a cohort");
    let held = store.lease(&order(vec![Cut::Returned(epochs[0])]));
    assert!(matches!(held, Err(StoreError::Conflict(_))), "a held lease is nobody else's");
    let next = store.lease(&order(vec![frontier(shard(second, 0, 10))])).expect("a lease");
    assert!(next[0] > epochs[1]);
    store.audit(SCAN).expect("the invariants hold");
}

fn a_report_counts_once_while_its_epoch_is_live(store: &mut dyn Store) {
    store.create_scan(&example()).expect("a new scan");
    let epoch = store.lease(&order(vec![frontier(shard(cohort_at(0), 0, 3))])).expect("a lease")[0];
    let report = commit(epoch, &[Outcome::OPEN, Outcome::CLOSED, Outcome::FILTERED]);
    assert_eq!(store.commit(&report).expect("a commit"), Committed::Applied);
    assert_eq!(store.commit(&report).expect("again"), Committed::Duplicate);
    assert!(store.is_taken(SCAN, epoch).expect("an answer") && !store.is_taken(SCAN, Epoch::new(99)).expect("one"));
    let other = commit(epoch, &[Outcome::CLOSED; 3]);
    assert_eq!(store.commit(&other).expect("the same epoch, other content"), Committed::Duplicate);
    assert_eq!(store.commit(&commit(Epoch::new(99), &[])).expect("an epoch never given"), Committed::Fenced);
    let chunks = store.chunks(SCAN, cohort_at(0), 0..10).expect("chunks");
    assert_eq!((chunks.len(), &chunks[0].chunk, chunks[0].epoch), (1, &report.chunk, epoch));
    assert_eq!(chunks[0].findings, report.findings);
    assert!(store.leases(SCAN).expect("leases").is_empty());
    assert_eq!(store.agents(SCAN).expect("agents"), [agent("a")]);
    store.audit(SCAN).expect("the invariants hold");
}

fn a_returned_shard_keeps_its_epoch_until_it_is_leased_again(store: &mut dyn Store) {
    store.create_scan(&example()).expect("a new scan");
    let cohort = cohort_at(0);
    let epochs =
        store.lease(&order(vec![frontier(shard(cohort, 0, 1)), frontier(shard(cohort, 1, 2))])).expect("leases");
    store.release(SCAN, &epochs, true).expect("a release");
    store.release(SCAN, &[Epoch::new(99)], true).expect("of what is no more");
    store.release(SCAN, &epochs, true).expect("again");
    assert!(store.leases(SCAN).expect("leases").iter().all(|lease| lease.holder.is_none() && lease.ends == 1));
    assert_eq!(store.commit(&commit(epochs[0], &[Outcome::OPEN])).expect("late"), Committed::Applied);
    let again =
        store.lease(&LeaseOrder { agent: agent("b"), ..order(vec![Cut::Returned(epochs[1])]) }).expect("leased again");
    assert!(again[0] > epochs[1]);
    assert_eq!(store.commit(&commit(epochs[1], &[Outcome::OPEN])).expect("too late"), Committed::Fenced);
    assert_eq!(store.commit(&commit(again[0], &[Outcome::CLOSED])).expect("in time"), Committed::Applied);
    assert_eq!(store.agents(SCAN).expect("agents").len(), 2);
    assert_eq!(
        store.chunks(SCAN, cohort, 0..10).expect("chunks").iter().map(|chunk| chunk.agent).collect::<Vec<_>>(),
        [0, 1]
    );
    store.audit(SCAN).expect("the invariants hold");
}

fn a_returned_shard_is_cut_in_parts(store: &mut dyn Store) {
    store.create_scan(&example()).expect("a new scan");
    let cohort = cohort_at(0);
    let epoch = store.lease(&order(vec![frontier(shard(cohort, 0, 4))])).expect("a lease")[0];
    let part = |lo, hi, ends| Part { shard: shard(cohort, lo, hi), covers: Vec::new(), ends };
    let parts = [part(0, 2, 1), part(2, 3, 2), part(3, 4, 2)];
    assert!(store.split(SCAN, epoch, &parts).is_err(), "it has a holder");
    store.release(SCAN, &[epoch], true).expect("a release");
    assert!(store.split(SCAN, epoch, &[part(0, 5, 1)]).is_err(), "it lies beyond");
    let epochs = store.split(SCAN, epoch, &parts).expect("parts");
    assert!(epochs.iter().all(|part| *part > epoch) && epochs.is_sorted());
    assert!(store.split(SCAN, epoch, &parts).is_err(), "it is no more");
    let leases = store.leases(SCAN).expect("leases");
    assert!(leases.iter().all(|lease| lease.holder.is_none()));
    assert_eq!(leases.iter().map(|lease| (lease.shard.lo, lease.ends)).collect::<Vec<_>>(), [(0, 1), (2, 2), (3, 2)]);
    assert_eq!(store.commit(&commit(epoch, &[Outcome::OPEN; 4])).expect("too late"), Committed::Fenced);
    assert_eq!(store.commit(&commit(epochs[1], &[Outcome::CLOSED])).expect("of one"), Committed::Applied);
    let again = store.lease(&order(vec![Cut::Returned(epochs[2]), Cut::Returned(epochs[0])])).expect("leased again");
    assert_eq!(store.leases(SCAN).expect("leases").iter().map(|lease| lease.ends).collect::<Vec<_>>(), [2, 1]);
    store.audit(SCAN).expect("the invariants hold");
    store.commit(&commit(again[0], &[Outcome::CLOSED])).expect("a commit");
    store.commit(&commit(again[1], &[Outcome::CLOSED; 2])).expect("a commit");
    store.audit(SCAN).expect("the invariants hold");
}

fn a_cohort_closes_when_it_is_through(store: &mut dyn Store) {
    store.create_scan(&example()).expect("a new scan");
    let cohort = cohort_at(0);
    let epoch = store.lease(&order(vec![frontier(shard(cohort, 0, 9))])).expect("a lease")[0];
    assert!(store.close_cohort(SCAN, cohort).is_err(), "it is leased");
    store.commit(&commit(epoch, &[Outcome::CLOSED; 9])).expect("a commit");
    assert!(store.close_cohort(SCAN, cohort).is_err(), "a target is left");
    let last = store.lease(&order(vec![frontier(shard(cohort, 9, 10))])).expect("a lease")[0];
    store.commit(&commit(last, &[Outcome::CLOSED])).expect("a commit");
    store.close_cohort(SCAN, cohort).expect("through");
    store.close_cohort(SCAN, cohort).expect("again");
    assert_eq!(store.cohorts(SCAN).expect("cohorts"), (vec![], 1));
    store.audit(SCAN).expect("the invariants hold");
}

fn a_later_pass_covers_what_it_says(store: &mut dyn Store) {
    store.create_scan(&example()).expect("a new scan");
    let cohort = cohort_at(0);
    assert!(store.begin_pass(SCAN, cohort, 2).is_err(), "it was never opened");
    let epoch = store.lease(&order(vec![frontier(shard(cohort, 0, 10))])).expect("a lease")[0];
    assert!(store.begin_pass(SCAN, cohort, 2).is_err(), "it is leased");
    store.commit(&commit(epoch, &[Outcome::FILTERED; 10])).expect("a commit");
    store.begin_pass(SCAN, cohort, 2).expect("through");
    store.begin_pass(SCAN, cohort, 2).expect("again");
    let later = Shard { pass: 2, ..shard(cohort, 3, 6) };
    let cut = |shard, covers: u8| Cut::Frontier { shard, covers: vec![covers] };
    for (wrong, covers) in [(later, 0), (later, 0xff), (Shard { pass: 1, ..later }, 0b1010_0000)] {
        assert!(store.lease(&order(vec![cut(wrong, covers)])).is_err(), "{wrong:?} {covers:b}");
    }
    let epoch = store.lease(&order(vec![cut(later, 0b1010_0000)])).expect("a lease")[0];
    let leases = store.leases(SCAN).expect("leases");
    assert_eq!((&leases[0].shard, &leases[0].covers), (&later, &vec![0b1010_0000]));
    assert!(store.lease(&order(vec![cut(Shard { lo: 5, hi: 7, ..later }, 0b1100_0000)])).is_err(), "it overlaps");
    let report = Commit {
        findings: vec![Finding { index: 5, rtt_us: 9 }],
        ..commit(epoch, &[Outcome::FILTERED, Outcome::OPEN])
    };
    assert_eq!(store.commit(&report).expect("a commit"), Committed::Applied);
    let met = store.chunks(SCAN, cohort, 5..6).expect("chunks");
    assert_eq!(met.iter().map(|chunk| (chunk.shard.pass, chunk.shard.lo)).collect::<Vec<_>>(), [(1, 0), (2, 3)]);
    assert_eq!(store.chunks(SCAN, cohort, 6..10).expect("chunks").len(), 1);
    let chunks = store.chunks(SCAN, cohort, 0..10).expect("chunks");
    store.close_cohort(SCAN, cohort).expect("through");
    assert_eq!(store.chunks(SCAN, cohort, 0..10).expect("chunks"), chunks, "what is kept otherwise reads the same");
    assert_eq!(store.chunks(SCAN, cohort, 6..10).expect("chunks").len(), 1);
    assert!(store.is_taken(SCAN, epoch).expect("an answer"));
    assert_eq!(store.commit(&report).expect("again"), Committed::Duplicate);
    store.begin_pass(SCAN, cohort, 3).expect("opened again");
    assert_eq!(store.cohorts(SCAN).expect("cohorts").0, [CohortRecord { number: cohort, pass: 3, frontier: 0 }]);
    store.audit(SCAN).expect("the invariants hold");
}

fn ports_in_stages_are_leased_once_their_host_is_up(store: &mut dyn Store) {
    let slots = Slots::new(true, (1..=10).collect()).in_stages();
    let scan = ScanRecord { plan: PlanParts { slots, ..example().plan }, ..example() };
    store.create_scan(&scan).expect("a new scan");
    assert_eq!(store.scans().expect("scans"), [scan]);
    let broken = |store: &dyn Store| match store.audit(SCAN) {
        Err(StoreError::Broken { invariant, .. }) => Some(invariant),
        _ => None,
    };
    let (up, down) = (cohort_at(0), cohort_at(1));
    let port = store.lease(&order(vec![frontier(shard(up, 0, 2))]));
    assert!(matches!(port, Err(StoreError::Conflict(_))), "the first pass is ping alone: {port:?}");
    let pings = store.lease(&order(vec![frontier(shard(up, 0, 1)), frontier(shard(down, 0, 1))])).expect("leases");
    assert!(store.begin_pass(SCAN, up, 2).is_err(), "it is leased");
    for (epoch, outcome) in pings.into_iter().zip([Outcome::UP, Outcome::DOWN]) {
        assert_eq!(store.commit(&commit(epoch, &[outcome])).expect("a commit"), Committed::Applied);
    }
    store.close_cohort(SCAN, down).expect("through: its ports are no targets");
    store.audit(SCAN).expect("the invariants hold");
    store.close_cohort(SCAN, up).expect("through, as far as a store knows");
    assert_eq!(broken(store), Some("I6"), "its ports were never leased");
    store.begin_pass(SCAN, up, 2).expect("opened again");
    let ports = |cohort| frontier(Shard { pass: 2, ..shard(cohort, 1, 11) });
    let epoch = store.lease(&order(vec![ports(up)])).expect("a lease")[0];
    store.audit(SCAN).expect("the invariants hold");
    store.commit(&commit(epoch, &[Outcome::CLOSED; 10])).expect("a commit");
    store.close_cohort(SCAN, up).expect("through");
    store.audit(SCAN).expect("the invariants hold");
    store.begin_pass(SCAN, down, 2).expect("opened again");
    store.lease(&order(vec![ports(down)])).expect("a lease");
    assert_eq!(broken(store), Some("I6"), "its host is down");
}

fn the_audit_finds_what_is_wrong(store: &mut dyn Store) {
    store.create_scan(&example()).expect("a new scan");
    let epochs = store
        .lease(&order(vec![frontier(shard(cohort_at(0), 0, 2)), frontier(shard(cohort_at(0), 2, 4))]))
        .expect("leases");
    let broken = |store: &dyn Store| match store.audit(SCAN) {
        Err(StoreError::Broken { invariant, .. }) => Some(invariant),
        _ => None,
    };
    // The machine checks reports before it commits them; a store takes what it is told, and the audit tells.
    store
        .commit(&Commit { findings: vec![], ..commit(epochs[0], &[Outcome::OPEN, Outcome::CLOSED]) })
        .expect("a commit");
    assert_eq!(broken(store), Some("I5"));
    store.commit(&commit(epochs[1], &[Outcome::CLOSED; 3])).expect("a commit");
    assert!(matches!(broken(store), Some("I2" | "I5")));
}

fn a_group_is_whole_but_for_what_failed_in_it(store: &mut dyn Store) {
    store.begin_group().expect("a group");
    store.create_scan(&example()).expect("a new scan");
    let cohort = cohort_at(0);
    let epoch = store.lease(&order(vec![frontier(shard(cohort, 0, 4))])).expect("a lease")[0];
    let wrong = order(vec![frontier(shard(cohort, 4, 5)), frontier(shard(cohort, 4, 10))]);
    assert!(matches!(store.lease(&wrong), Err(StoreError::Conflict(_))));
    assert_eq!(store.leases(SCAN).expect("leases").len(), 1, "what is done in a group is seen in it");
    assert_eq!(store.commit(&commit(epoch, &[Outcome::CLOSED; 4])).expect("a commit"), Committed::Applied);
    store.commit_group().expect("it is durable");
    assert_eq!(store.cohorts(SCAN).expect("cohorts").0, [CohortRecord { number: cohort, pass: 1, frontier: 4 }]);
    let next = store.lease(&order(vec![frontier(shard(cohort, 4, 10))])).expect("a lease")[0];
    assert!(next > epoch);
    store.audit(SCAN).expect("the invariants hold");
}

fn a_scan_that_is_removed_leaves_nothing_and_others_stay(store: &mut dyn Store) {
    let other = ScanRecord { id: ScanId::from_bytes([8; 16]), ..example() };
    for scan in [&example(), &other] {
        store.create_scan(scan).expect("a new scan");
    }
    let cohort = cohort_at(0);
    let orders = [order(vec![frontier(shard(cohort, 0, 10))]), order(vec![frontier(shard(cohort_at(1), 0, 4))])];
    let [through, held] = orders.map(|order| {
        let theirs = LeaseOrder { scan: other.id, ..order.clone() };
        store.lease(&theirs).expect("a lease");
        store.lease(&order).expect("a lease")[0]
    });
    assert_eq!(store.commit(&commit(through, &[Outcome::CLOSED; 10])).expect("a commit"), Committed::Applied);
    store.close_cohort(SCAN, cohort).expect("through");
    assert!(!store.remove_scan(SCAN, false).expect("an answer"), "somebody holds a part of it");
    assert_eq!(store.leases(SCAN).expect("it is there").len(), 1);
    store.release(SCAN, &[held], false).expect("a release");
    for _ in 0..2 {
        assert!(store.remove_scan(SCAN, false).expect("an answer"));
        assert!(
            store.control(SCAN).is_err() && store.leases(SCAN).is_err() && store.chunks(SCAN, cohort, 0..1).is_err()
        );
        assert!(store.cohorts(SCAN).is_err() && store.agents(SCAN).is_err() && store.is_taken(SCAN, through).is_err());
        assert_eq!(store.scans().expect("scans"), std::slice::from_ref(&other));
    }
    let lots = (0..1_000).take_while(|_| store.clean().expect("a lot")).count();
    assert!(lots < 1_000, "it comes to an end");
    assert!(!store.clean().expect("nothing"), "again");
    let theirs = store.leases(other.id).expect("leases");
    assert_eq!(theirs.len(), 2, "another scan keeps its own");
    let late = store.commit(&Commit { scan: other.id, ..commit(theirs[0].epoch, &[Outcome::CLOSED; 10]) });
    assert_eq!(late.expect("a commit"), Committed::Applied);
    store.audit(other.id).expect("the invariants hold");
    assert!(store.remove_scan(other.id, true).expect("an answer"), "every right has ended");
    store.create_scan(&example()).expect("a new scan");
    let next = store.lease(&order(vec![frontier(shard(cohort, 0, 4))])).expect("a lease")[0];
    assert!(next > theirs[1].epoch, "epochs rise");
    assert!(store.chunks(SCAN, cohort, 0..10).expect("chunks").is_empty(), "nothing of the one before it");
    store.audit(SCAN).expect("the invariants hold");
}

/// The numbers and totals of what is kept.
fn tallies(store: &dyn Store, numbers: std::ops::Range<u64>) -> Vec<(u64, Totals)> {
    let mut kept = Vec::new();
    let told = store.tallies(SCAN, numbers, TallyPart::Totals, &mut |number, bytes| {
        kept.push((number, Totals::read(bytes)?));
        Ok(())
    });
    told.expect("tallies");
    kept
}

fn a_closed_cohort_has_its_tally(store: &mut dyn Store) {
    store.create_scan(&example()).expect("a new scan");
    let cohorts = [cohort_at(0), cohort_at(1)];
    let commits = |store: &mut dyn Store, shard: Shard, outcomes: &[Outcome]| {
        let epoch = store.lease(&order(vec![frontier(shard)])).expect("a lease")[0];
        assert_eq!(store.commit(&commit(epoch, outcomes)).expect("a commit"), Committed::Applied);
    };
    for (cohort, outcome) in cohorts.into_iter().zip([Outcome::CLOSED, Outcome::FILTERED]) {
        commits(store, shard(cohort, 0, 4), &[Outcome::OPEN, outcome, outcome, outcome]);
        assert_eq!(store.reports(SCAN, cohort).expect("a number"), 1);
        commits(store, shard(cohort, 4, 10), &[outcome; 6]);
        assert_eq!(store.reports(SCAN, cohort).expect("a number"), 2);
        assert!(tallies(store, 0..9).iter().all(|(number, _)| *number != cohort), "it is open");
        store.close_cohort(SCAN, cohort).expect("through");
    }
    let all = tallies(store, 0..9);
    assert_eq!(all.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1]);
    assert!(all.iter().all(|(_, totals)| totals.targets.of(State::Open) == 1 && totals.targets.sum() == 10));
    assert_eq!(tallies(store, 1..2), all[1..]);
    store.audit(SCAN).expect("the invariants hold");
    let [first, second] = cohorts;
    store.begin_pass(SCAN, first, 2).expect("opened again");
    assert_eq!(tallies(store, 0..9).iter().map(|(number, _)| *number).collect::<Vec<_>>(), [second]);
    let plan = Plan::try_from(example().plan).expect("a plan");
    let tally = |store: &dyn Store, number| tally::of(store, SCAN, &plan.cohort(number).expect("it")).expect("a tally");
    let (of_first, of_second) = (tally(store, first), tally(store, second));
    let reports = store.reports(SCAN, first).expect("a number");
    store.keep_tally(SCAN, first, reports, &of_first).expect("not of an open one");
    assert_eq!(tallies(store, 0..9).len(), 1);
    commits(store, Shard { pass: 2, ..shard(first, 0, 1) }, &[Outcome::CLOSED]);
    assert_ne!(store.reports(SCAN, first).expect("a number"), reports, "it has a new one");
    store.close_cohort(SCAN, first).expect("through");
    let reports = store.reports(SCAN, first).expect("a number");
    store.keep_tally(SCAN, first, reports, &of_second).expect("it has one");
    let closed = tallies(store, first..first + 1);
    assert_eq!(closed[0].1.targets.of(State::Closed), 10, "what it was before is gone");
    store.audit(SCAN).expect("the invariants hold");
}
