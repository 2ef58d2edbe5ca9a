//! `store`: what the durable store takes for a scan's commits: processor time at a million targets a second, and bytes a target on disk, as
//! committed and rewritten; and how long it takes to read all of it: to go on with the scan, and to prove it. No packets.

use anyhow::Context;
use coordinator_core::resume::Resumed;
use coordinator_core::store::{AgentFacts, Commit, Cut, LeaseOrder, ScanRecord, ScanStatus, Shard, Store};
use portsweep::store::sqlite::SqliteStore;
use protocol::chunk;
use protocol::id::{InstanceId, ScanId};
use protocol::message::{Finding, PingMethod, ProbeOptions};
use protocol::plan::{Cohort, Plan, PlanParts, SHARD_TARGETS_MAX, Slots};
use protocol::probe::{Outcome, Slot, Target};
use protocol::range_set::{AddressSet, RankedRanges};
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) const SCAN: ScanId = ScanId::from_bytes([5; 16]);

/// Where the 90 % silent, 9.8 % closed and 0.2 % open targets are.
#[derive(Clone, Copy)]
enum Mix {
    /// On a tenth of the hosts, as in a network.
    ByHost,
    /// Anywhere: no order packs it better than another.
    Scattered,
}

pub(crate) fn run() -> anyhow::Result<String> {
    let mut table = format!(
        "{:<10} {:<10} {:>10} {:>10} {:>12} {:>16} {:>14} {:>9} {:>8}\n",
        "mix", "chunks", "targets", "commits/s", "targets/s", "cores at 10^6/s", "bytes/target", "resume s", "audit s"
    );
    for (mix, mix_name) in [(Mix::ByHost, "by host"), (Mix::Scattered, "scattered")] {
        for (rewrites, chunks_name) in [(false, "as sent"), (true, "rewritten")] {
            let took = measure(mix, rewrites)?;
            let (targets, wall, cpu) = (took.targets as f64, took.wall.as_secs_f64(), took.cpu.as_secs_f64());
            table += &format!(
                "{mix_name:<10} {chunks_name:<10} {targets:>10} {:>10.0} {:>12.0} {:>16.3} {:>14.4} {:>9.2} {:>8.2}\n",
                took.commits as f64 / wall,
                targets / wall,
                cpu / targets * 1e6,
                took.bytes as f64 / targets,
                took.resume.as_secs_f64(),
                took.audit.as_secs_f64(),
            );
        }
    }
    Ok(table)
}

struct Took {
    targets: u64,
    commits: u64,
    wall: Duration,
    cpu: Duration,
    bytes: u64,
    resume: Duration,
    audit: Duration,
}

/// 16,384 hosts by 1,000 ports: 64 cohorts, each leased at once and committed as one group of eight.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time as the user feels it")]
fn measure(mix: Mix, rewrites: bool) -> anyhow::Result<Took> {
    let mut addresses = AddressSet::new();
    addresses.insert_net("10.0.0.0/18".parse()?);
    let addresses = RankedRanges::try_from(&addresses)?;
    let parts = PlanParts { addresses, slots: Slots::new(false, (1..=1_000).collect()), seed: 1, vantages: Vec::new() };
    let plan = Plan::try_from(parts.clone())?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("scan.db");
    let mut store = SqliteStore::create(&path)?;
    let options = ProbeOptions::new(900, 1024);
    let status = ScanStatus::Running;
    store.create_scan(&ScanRecord {
        id: SCAN,
        plan: parts,
        options,
        rate: None,
        tries: None,
        weight: coordinator_core::store::WEIGHT,
        agent_wait_s: None,
        status,
        request: String::new(),
    })?;
    let mut took = Took {
        targets: plan.len(),
        commits: 0,
        wall: Duration::ZERO,
        cpu: Duration::ZERO,
        bytes: 0,
        resume: Duration::ZERO,
        audit: Duration::ZERO,
    };
    for position in 0..plan.cohorts() {
        let cohort = plan.cohort_at(position).and_then(|number| plan.cohort(number)).context("a cohort")?;
        let shards: Vec<_> = shards(&cohort).collect();
        let reports: Vec<_> = shards.iter().map(|shard| report(&cohort, *shard, mix)).collect();
        let (started, cpu) = (Instant::now(), thread_cpu()?);
        took.commits += commit(&mut store, &shards, reports)?;
        if rewrites {
            store.close_cohort(SCAN, cohort.number())?;
        }
        took.wall += started.elapsed();
        took.cpu += thread_cpu()?.saturating_sub(cpu);
    }
    let started = Instant::now();
    let resumed = Resumed::load(&store, SCAN)?;
    took.resume = started.elapsed();
    anyhow::ensure!(resumed.progress.settled() == took.targets, "{:?}", resumed.progress);
    let started = Instant::now();
    store.audit(SCAN)?;
    took.audit = started.elapsed();
    drop(store);
    took.bytes = size(directory.path())?;
    Ok(took)
}

/// Leases shards and commits their reports as one group; how many.
fn commit(
    store: &mut SqliteStore,
    shards: &[Shard],
    reports: impl IntoIterator<Item = (Vec<u8>, Vec<Finding>)>,
) -> anyhow::Result<u64> {
    let epochs = store.lease(&order(shards))?;
    store.begin_group()?;
    for (epoch, (chunk, findings)) in epochs.into_iter().zip(reports) {
        store.commit(&Commit { scan: SCAN, epoch, chunk, findings })?;
    }
    store.commit_group()?;
    Ok(shards.len() as u64)
}

/// Leases and commits all of a cohort.
pub(crate) fn commit_all(
    store: &mut SqliteStore,
    cohort: &Cohort,
    report: impl Fn(Shard) -> (Vec<u8>, Vec<Finding>),
) -> anyhow::Result<u64> {
    let shards: Vec<_> = shards(cohort).collect();
    commit(store, &shards, shards.iter().map(|shard| report(*shard)))
}

fn shards(cohort: &Cohort) -> impl Iterator<Item = Shard> + '_ {
    let len = cohort.len();
    let cohort = cohort.number();
    (0..len).step_by(SHARD_TARGETS_MAX as usize).map(move |lo| Shard {
        cohort,
        pass: 1,
        lo,
        hi: len.min(lo + SHARD_TARGETS_MAX),
    })
}

fn order(shards: &[Shard]) -> LeaseOrder {
    let agent =
        AgentFacts { name: "a".into(), vantage: "here".into(), software: "0".into(), ping_method: PingMethod::Icmp };
    let cuts = shards.iter().map(|&shard| Cut::Frontier { shard, covers: Vec::new() }).collect();
    LeaseOrder { scan: SCAN, holder: InstanceId::new(1), agent, cuts }
}

fn report(cohort: &Cohort, shard: Shard, mix: Mix) -> (Vec<u8>, Vec<Finding>) {
    let outcomes: Vec<_> = cohort.targets(shard.lo, shard.hi).map(|item| outcome(item.target, mix)).collect();
    let found = (shard.lo..shard.hi).zip(&outcomes).filter(|(_, outcome)| outcome.is_finding());
    let findings = found.map(|(index, _)| Finding { index, rtt_us: 200 + index % 5_000 }).collect();
    (chunk::encode(&outcomes), findings)
}

fn outcome(target: Target, mix: Mix) -> Outcome {
    let (IpAddr::V4(address), Slot::Tcp(port)) = (target.address, target.slot) else { return Outcome::FILTERED };
    let (host, any) = (hash(u32::from(address).into()), hash(u64::from(u32::from(address)) << 16 | u64::from(port)));
    match mix {
        Mix::ByHost if host % 10 != 0 => Outcome::FILTERED,
        Mix::ByHost if any % 50 == 0 => Outcome::OPEN,
        Mix::ByHost => Outcome::CLOSED,
        Mix::Scattered => match any % 1_000 {
            0..2 => Outcome::OPEN,
            2..100 => Outcome::CLOSED,
            _ => Outcome::FILTERED,
        },
    }
}

/// The finisher of SplitMix64.
pub(crate) fn hash(number: u64) -> u64 {
    let x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The processor time of this thread, the kernel's part for it included.
fn thread_cpu() -> anyhow::Result<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split(' ').next().context("no processor time")?.parse()?;
    Ok(Duration::from_nanos(nanos))
}

pub(crate) fn size(directory: &Path) -> anyhow::Result<u64> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}
