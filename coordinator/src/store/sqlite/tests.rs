//! The suite on real files, and what only files can have: locks, versions, damage.

use super::*;
use coordinator_core::store::conformance::{self, example};
use std::fs;

/// A path in a directory that goes with the first of the two.
fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("scan.db");
    (directory, path)
}

/// Opens it, which must fail.
fn refused(opened: Result<SqliteStore, OpenError>) -> OpenError {
    match opened {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

#[test]
fn it_conforms() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut number = 0;
    conformance::check(&mut || {
        number += 1;
        let store = SqliteStore::create(&directory.path().join(format!("{number}.db"))).expect("a store");
        Box::new(store)
    });
}

#[test]
fn one_process_writes_and_others_read() {
    let (_directory, path) = place();
    assert!(matches!(refused(SqliteStore::open(&path)), OpenError::Missing { .. }));
    let mut writer = SqliteStore::create(&path).expect("a store");
    assert!(matches!(refused(SqliteStore::open(&path)), OpenError::Locked { .. }));
    assert!(matches!(refused(SqliteStore::create(&path)), OpenError::Locked { .. }));
    assert!(SqliteStore::is_in_use(&path).expect("a lock"));
    let mut reader = SqliteStore::open_read_only(&path).expect("a reader");
    writer.create_scan(&example()).expect("a scan");
    assert_eq!(reader.scans().expect("scans"), [example()]);
    assert!(matches!(
        reader.create_scan(&ScanRecord { id: ScanId::from_bytes([1; 16]), ..example() }),
        Err(StoreError::Medium { .. })
    ));
    // A group of a reader sees one moment.
    reader.begin_group().expect("a group");
    assert_eq!(reader.scans().expect("scans")[0].status, ScanStatus::Running);
    writer.set_status(example().id, ScanStatus::Done).expect("a status");
    assert_eq!(reader.scans().expect("scans")[0].status, ScanStatus::Running);
    reader.commit_group().expect("its end");
    assert_eq!(reader.scans().expect("scans")[0].status, ScanStatus::Done);
    drop(writer);
    assert!(!SqliteStore::is_in_use(&path).expect("a lock"));
    assert!(matches!(refused(SqliteStore::create(&path)), OpenError::Exists { .. }));
    let again = SqliteStore::open(&path).expect("the former writer is gone");
    assert_eq!(again.scans().expect("scans").len(), 1);
}

#[test]
fn a_group_that_is_not_committed_leaves_nothing() {
    let (_directory, path) = place();
    let mut store = SqliteStore::create(&path).expect("a store");
    store.begin_group().expect("a group");
    store.create_scan(&example()).expect("a scan");
    drop(store);
    let store = SqliteStore::open(&path).expect("a store");
    assert_eq!(store.scans().expect("scans"), []);
}

#[test]
fn a_newer_version_another_program_and_another_kind_of_file_are_told_apart() {
    let (_directory, path) = place();
    drop(SqliteStore::create(&path).expect("a store"));
    let change =
        |sql: &str| Connection::open(&path).and_then(|database| database.execute_batch(sql)).expect("a change");
    change("PRAGMA user_version = 99");
    assert!(matches!(refused(SqliteStore::open(&path)), OpenError::Newer { .. }));
    let newer = refused(SqliteStore::open_read_only(&path)).to_string();
    assert!(newer.ends_with("was made by a newer portsweep: upgrade, or use another --state"), "{newer}");
    change("PRAGMA application_id = 1");
    assert!(matches!(refused(SqliteStore::open(&path)), OpenError::NotOurs { .. }));
    fs::write(&path, "not a database, but long enough to be asked whether it is one").expect("a file");
    assert!(matches!(refused(SqliteStore::open(&path)), OpenError::NotOurs { .. }));
    assert!(!fs::read(&path).expect("a file").is_empty(), "and it stays as it is");
}

#[test]
fn what_a_dead_process_left_of_making_one_is_opened_as_empty() {
    let (_directory, path) = place();
    fs::write(&path, "").expect("a file");
    let reader = SqliteStore::open_read_only(&path).expect("a reader");
    assert_eq!(reader.scans().expect("scans"), []);
}

#[test]
fn a_full_disk_and_damage_are_said_with_what_to_do() {
    let (_directory, path) = place();
    let mut store = SqliteStore::create(&path).expect("a store");
    store.create_scan(&example()).expect("a scan");
    let pages: i64 = store.connection.pragma_query_value(None, "page_count", |row| row.get(0)).expect("a count");
    store.connection.pragma_update(None, "max_page_count", pages).expect("a bound");
    let long = ScanRecord { id: ScanId::from_bytes([1; 16]), request: "x".repeat(1 << 20), ..example() };
    let line = |error: StoreError| {
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        format!("{error}: {source}")
    };
    let full = store.create_scan(&long).expect_err("no room");
    assert_eq!(line(full), "the store failed to keep a scan: the disk is full: make room, then `portsweep resume`");
    // In a group, nothing of it is taken for done.
    store.begin_group().expect("a group");
    store.create_scan(&long).expect_err("no room");
    if store.connection.is_autocommit() {
        assert!(line(store.set_status(example().id, ScanStatus::Done).expect_err("undone")).ends_with("was undone"));
        store.commit_group().expect_err("there is nothing to commit");
    } else {
        store.commit_group().expect("the rest");
    }
    drop(store);
    let mut bytes = fs::read(&path).expect("the file");
    let body = 4096..;
    bytes[body].fill(0xa5);
    fs::write(&path, bytes).expect("the damage");
    let damaged =
        SqliteStore::open(&path).map_err(|error| error.to_string()).and_then(|store| store.scans().map_err(line));
    assert!(damaged.as_ref().is_err_and(|line| line.contains("damaged")), "{damaged:?}");
}

#[test]
fn the_request_of_a_scan_is_replaced_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut store = SqliteStore::create(&directory.path().join("a.db")).expect("a database");
    let record = ScanRecord { plan: protocol::plan::PlanParts { seed: u64::MAX, ..example().plan }, ..example() };
    store.create_scan(&record).expect("a scan");
    store.set_request(record.id, "{\"other\":\"\\u0007\"}").expect("another request");
    let kept = ScanRecord { request: "{\"other\":\"\\u0007\"}".into(), ..record };
    assert_eq!(store.scans().expect("scans"), [kept]);
    let other = ScanId::from_bytes([9; 16]);
    assert!(matches!(store.set_request(other, ""), Err(StoreError::UnknownScan(id)) if id == other));
}

#[test]
fn what_is_left_of_a_removed_scan_is_deleted_in_lots_by_whoever_opens_it_next() {
    use coordinator_core::store::{Cut, LeaseOrder};
    let (_directory, path) = place();
    let mut store = SqliteStore::create(&path).expect("a store");
    let record = example();
    store.create_scan(&record).expect("a scan");
    let plan = Plan::try_from(record.plan.clone()).expect("a plan");
    let cohort = plan.cohort_at(0).expect("a cohort");
    let agent = AgentFacts {
        name: "a".into(),
        vantage: "here".into(),
        software: "0".into(),
        ping_method: protocol::message::PingMethod::Icmp,
    };
    let cut = Cut::Frontier { shard: Shard { cohort, pass: 1, lo: 0, hi: 10 }, covers: Vec::new() };
    store.lease(&LeaseOrder { scan: record.id, holder: InstanceId::new(1), agent, cuts: vec![cut] }).expect("a lease");
    // As many chunks as two lots and a bit have, of which each third is large.
    let insert = "INSERT INTO chunk (epoch, scan, cohort, pass, lo, hi, covers, agent, chunk, findings)
                  SELECT value + 1000, 1, value, 1, 0, 1, x'', 0, zeroblob(iif(value % 3 = 0, 65536, 9)), x'' FROM generate";
    let numbers = "WITH RECURSIVE generate (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM generate LIMIT 600) ";
    store.connection.execute_batch(&(numbers.to_owned() + insert)).expect("chunks");
    store.connection.execute_batch("INSERT INTO rewritten (epoch, scan) VALUES (1, 1)").expect("a row");
    assert!(store.remove_scan(record.id, true).expect("an answer"));
    assert!(store.clean().expect("a lot"));
    drop(store);
    let mut store = SqliteStore::open(&path).expect("a store");
    assert_eq!(store.scans().expect("scans"), [], "nobody sees the rest");
    let left = |store: &SqliteStore, table: &str| -> i64 {
        let count = format!("SELECT count(*) FROM {table}");
        store.connection.query_row(&count, [], |row| row.get(0)).expect("a count")
    };
    let (mut lots, mut chunks) = (1, left(&store, "chunk"));
    assert!((300..600).contains(&chunks), "{chunks}");
    while store.clean().expect("a lot") {
        let now = left(&store, "chunk");
        // A large one in three: a lot is full of bytes before it is full of rows.
        assert!(chunks - now <= 64, "{chunks} {now}");
        (lots, chunks) = (lots + 1, now);
    }
    assert!(lots > 10, "{lots}");
    for table in ["scan", "agent", "cohort", "lease", "chunk", "block", "rewritten", "tally"] {
        assert_eq!(left(&store, table), 0, "{table}");
    }
}

#[test]
fn a_database_of_before_has_no_tallies_and_is_whole() {
    let (_directory, path) = place();
    let mut store = SqliteStore::create(&path).expect("a store");
    store.create_scan(&example()).expect("a scan");
    for cohort in [0, 1].map(|position| Plan::try_from(example().plan).expect("a plan").cohort_at(position)) {
        conformance::settle(&mut store, cohort.expect("a cohort"), &[protocol::probe::Outcome::CLOSED; 10]);
    }
    // As the version before left it.
    store.connection.execute_batch("DROP TABLE tally; PRAGMA user_version = 3").expect("its tables");
    drop(store);
    let mut store = SqliteStore::open(&path).expect("it is brought to this version");
    let kept = |store: &SqliteStore| {
        let mut numbers = Vec::new();
        let told = store.tallies(example().id, 0..u64::MAX, TallyPart::Hosts, &mut |number, _| {
            numbers.push(number);
            Ok(())
        });
        told.expect("tallies");
        numbers
    };
    assert!(kept(&store).is_empty());
    store.audit(example().id).expect("the invariants hold");
    let cohort = Plan::try_from(example().plan).expect("a plan").cohort(1).expect("a cohort");
    let tally = counted::of(&store, example().id, &cohort).expect("what is missing is counted");
    let reports = store.reports(example().id, 1).expect("a number");
    store.keep_tally(example().id, 1, reports + 1, &tally).expect("not of other reports");
    assert!(kept(&store).is_empty());
    store.keep_tally(example().id, 1, reports, &tally).expect("it is kept");
    assert_eq!(kept(&store), [1]);
    store.audit(example().id).expect("the invariants hold");
    store.connection.execute_batch("UPDATE tally SET by_host = x'00'").expect("damage");
    assert!(matches!(store.audit(example().id), Err(StoreError::Broken { invariant: "I7", .. })));
}
