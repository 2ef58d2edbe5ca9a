//! The process that is recorded: this test's own binary, which runs a scan's writes through the real store, and announces on standard
//! output what it was told is durable.

use crate::disk::Random;
use coordinator_core::store::{AgentFacts, Commit, Cut, LeaseOrder, ScanRecord, ScanStatus, Shard, Store};
use portsweep::store::sqlite::SqliteStore;
use protocol::chunk;
use protocol::id::{Epoch, InstanceId, ScanId};
use protocol::message::{Finding, PingMethod, ProbeOptions};
use protocol::plan::{Plan, PlanParts, Slots};
use protocol::probe::{Cause, Outcome};
use protocol::range_set::{AddressSet, RankedRanges};
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;

/// In the environment: where it writes. Whoever has it is the writer.
pub const DIRECTORY: &str = "PORTSWEEP_POWER_CUT_DIRECTORY";
/// In the environment: it announces before it commits.
pub const EARLY: &str = "PORTSWEEP_POWER_CUT_EARLY";
/// The database's name in the directory.
pub const FILE: &str = "scan.db";
pub const SCAN: ScanId = ScanId::from_bytes([3; 16]);

/// When the writer announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announces {
    AfterCommit,
    /// The deliberate bug.
    BeforeCommit,
}

/// 64 cohorts of two hosts: 65,536 targets each.
pub fn record() -> ScanRecord {
    let mut addresses = AddressSet::new();
    for host in 0..128 {
        addresses.insert(Ipv4Addr::from(0xc000_0200 + host).into());
    }
    let plan = PlanParts {
        addresses: RankedRanges::try_from(&addresses).expect("128 addresses"),
        slots: Slots::new(false, (1..=32_768).collect()),
        seed: 11,
        vantages: Vec::new(),
    };
    ScanRecord {
        id: SCAN,
        plan,
        options: ProbeOptions::new(900, 64),
        rate: None,
        tries: None,
        weight: coordinator_core::store::WEIGHT,
        agent_wait_s: None,
        status: ScanStatus::Running,
        request: String::new(),
    }
}

/// Writes a scan: some cohorts at once, shard by shard, in groups.
pub fn run(directory: &Path) {
    let early = std::env::var_os(EARLY).is_some();
    let mut store = SqliteStore::create(&directory.join(FILE)).expect("a store");
    store.create_scan(&record()).expect("a scan");
    announce("created scan");
    let plan = Plan::try_from(record().plan).expect("a plan");
    let mut lives = Vec::new();
    for position in 0..plan.cohorts().min(40) {
        let cohort = plan.cohort_at(position).expect("a cohort");
        let len = plan.cohort_len(cohort).expect("its length");
        for lo in (0..len).step_by(8_192) {
            let shard = Shard { cohort, pass: 1, lo, hi: (lo + 8_192).min(len) };
            lives.push((lease(&mut store, shard), shard));
            if lives.len() == 4 {
                commit(&mut store, &mut lives, early);
            }
        }
        // The last leases of a cohort may be open still: then it stays open, as it would in a run that goes on.
        if store.leases(SCAN).expect("leases").iter().all(|lease| lease.shard.cohort != cohort) {
            store.close_cohort(SCAN, cohort).expect("a cohort that is through");
        }
    }
}

fn lease(store: &mut SqliteStore, shard: Shard) -> Epoch {
    let agent =
        AgentFacts { name: "a".into(), vantage: "here".into(), software: "0".into(), ping_method: PingMethod::Icmp };
    let cuts = vec![Cut::Frontier { shard, covers: Vec::new() }];
    store.lease(&LeaseOrder { scan: SCAN, holder: InstanceId::new(1), agent, cuts }).expect("a lease")[0]
}

/// Commits all but the last of the leases as one group.
fn commit(store: &mut SqliteStore, lives: &mut Vec<(Epoch, Shard)>, early: bool) {
    let settled: Vec<_> = lives.drain(..3).collect();
    store.begin_group().expect("a group");
    for &(epoch, shard) in &settled {
        let outcomes: Vec<_> = (shard.lo..shard.hi).map(|index| outcome(shard.cohort, index)).collect();
        let found = (shard.lo..shard.hi).zip(&outcomes).filter(|(_, outcome)| outcome.is_finding());
        let findings = found.map(|(index, _)| Finding { index, rtt_us: index }).collect();
        let commit = Commit { scan: SCAN, epoch, chunk: chunk::encode(&outcomes), findings };
        store.commit(&commit).expect("a commit");
    }
    let tell = || settled.iter().for_each(|(epoch, _)| announce(&format!("taken {epoch}")));
    if early {
        tell();
    }
    store.commit_group().expect("it is durable");
    if !early {
        tell();
    }
}

/// Something that packs badly, so that much is written.
fn outcome(cohort: u64, index: u32) -> Outcome {
    match Random::new(cohort << 32 | u64::from(index)).below(100) {
        0 => Outcome::OPEN,
        1..30 => Outcome::CLOSED,
        30..40 => Outcome::not_probed(Cause::LocalLimit),
        _ => Outcome::FILTERED,
    }
}

fn announce(line: &str) {
    // One write, so that it is one event of the recording.
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdout.flush()).expect("somebody records it");
}
