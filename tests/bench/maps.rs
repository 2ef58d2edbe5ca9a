//! `maps`: how long the maps of a scan of 10^9 targets take, at every zoom. The scan is committed and closed by the durable store as a real one
//! would be, so that its tallies are; the last cohorts stay open. No packets.
//!
//! 10.0.0.0/8 without one address, so that no prefix begins where a cohort does: the worst case, as every cell cuts two. One address in 40
//! lives, in clusters as networks have them, with a few open ports and refusals elsewhere.

use super::store::{SCAN, commit_all, hash, size};
use anyhow::Context;
use coordinator_core::maps::addresses::{self, DEPTH_MAX, roots};
use coordinator_core::maps::ports::{self, Extent};
use coordinator_core::store::{ScanRecord, ScanStatus, Store, StoreError};
use portsweep::maps::{Maps, Scene};
use portsweep::store::sqlite::SqliteStore;
use portsweep::store::thread;
use protocol::chunk;
use protocol::message::{Finding, ProbeOptions};
use protocol::plan::{Cohort, Plan, PlanParts, Slots};
use protocol::probe::Outcome;
use protocol::range_set::{AddressSet, RankedRanges};
use std::net::IpAddr;
use std::time::{Duration, Instant};

const PORTS: u16 = 59;
/// So many cohorts at the end of the order are not closed.
const OPEN: u64 = 16;
/// How often each map is made.
const TIMES: usize = 21;

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time as the user feels it")]
pub(crate) fn run() -> anyhow::Result<String> {
    let mut addresses = AddressSet::new();
    addresses.insert_net("10.0.0.0/8".parse()?);
    addresses.subtract(&AddressSet::from("10.0.0.0".parse::<IpAddr>()?));
    let addresses = RankedRanges::try_from(&addresses)?;
    let parts = PlanParts { addresses, slots: Slots::new(true, (1..=PORTS).collect()), seed: 1, vantages: Vec::new() };
    let plan = Plan::try_from(parts.clone())?;
    let directory = tempfile::tempdir()?;
    let mut store = SqliteStore::create(&directory.path().join("coordinator.db"))?;
    store.create_scan(&ScanRecord {
        id: SCAN,
        plan: parts,
        options: ProbeOptions::new(900, 1024),
        rate: None,
        tries: None,
        weight: coordinator_core::store::WEIGHT,
        agent_wait_s: None,
        status: ScanStatus::Running,
        request: String::new(),
    })?;
    let started = Instant::now();
    for position in 0..plan.cohorts() {
        let cohort = plan.cohort_at(position).and_then(|number| plan.cohort(number)).context("a cohort")?;
        let outcomes = outcomes(&cohort);
        commit_all(&mut store, &cohort, |shard| {
            let of_shard = &outcomes[shard.lo as usize..shard.hi as usize];
            let found = (shard.lo..shard.hi).zip(of_shard).filter(|(_, outcome)| outcome.is_finding());
            let findings = found.map(|(index, _)| Finding { index, rtt_us: 200 + index % 5_000 }).collect();
            (chunk::encode(of_shard), findings)
        })?;
        if position < plan.cohorts() - OPEN {
            store.close_cohort(SCAN, cohort.number())?;
        }
    }
    let mut table = format!(
        "{} targets, {} cohorts, committed and closed in {:.0} s; {:.2} GB on disk\n{:<44} {:>7} {:>10} {:>10}\n",
        plan.len(),
        plan.cohorts(),
        started.elapsed().as_secs_f64(),
        size(directory.path())? as f64 / 1e9,
        "map",
        "cells",
        "median ms",
        "worst ms"
    );
    let reader = store.reader()?;
    let (handle, _answers) = thread::start(Box::new(store))?;
    let maps = Maps::start(reader, handle)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let mut time = |name: &str, times: usize, map: fn(&Scene<'_>, u64) -> Result<usize, StoreError>| {
        let mut took = Vec::new();
        let mut cells = 0;
        for draw in 0..times as u64 {
            let begun = Instant::now();
            cells = runtime.block_on(maps.look(SCAN, move |scene| map(scene, draw)))?;
            took.push(begun.elapsed());
        }
        took.sort();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        table += &format!("{name:<44} {cells:>7} {:>10.1} {:>10.1}\n", ms(took[times / 2]), ms(took[times - 1]));
        anyhow::Ok(())
    };
    time("addresses, all, 64 × 64, the first look", 1, |scene, _| prefix(scene, 8, 0, DEPTH_MAX))?;
    time("addresses, all, 64 × 64", TIMES, |scene, _| prefix(scene, 8, 0, DEPTH_MAX))?;
    time("addresses, all, 32 × 32", TIMES, |scene, _| prefix(scene, 8, 0, 5))?;
    time("addresses, a /12, 64 × 64", TIMES, |scene, draw| prefix(scene, 12, draw, DEPTH_MAX))?;
    time("addresses, a /18, 64 × 64", TIMES, |scene, draw| prefix(scene, 18, draw, DEPTH_MAX))?;
    time("addresses, a /24 to single addresses", TIMES, |scene, draw| prefix(scene, 24, draw, 4))?;
    time("ports, all", TIMES, |scene, _| extent(scene, 1, 0))?;
    time("ports, a 64th of the addresses", TIMES, |scene, draw| extent(scene, 64, draw))?;
    time("ports, a 4,096th of the addresses", TIMES, |scene, draw| extent(scene, 4_096, draw))?;
    time("ports, 64 addresses, one by one", TIMES, |scene, draw| extent(scene, 262_144, draw))?;
    Ok(table)
}

/// What became of a cohort's targets, by index.
fn outcomes(cohort: &Cohort) -> Vec<Outcome> {
    let hosts = cohort.hosts();
    let mut outcomes = vec![Outcome::FILTERED; cohort.len() as usize];
    outcomes[..hosts as usize].fill(Outcome::DOWN);
    let alive = (0..hosts).filter_map(|rank| match cohort.addresses().nth(rank.into()) {
        // One /24 in eight has hosts, one in five of its addresses.
        Some(IpAddr::V4(address)) if hash(u64::from(address.to_bits() >> 8)).is_multiple_of(8) => {
            let draw = hash(address.to_bits().into());
            draw.is_multiple_of(5).then_some((rank, draw))
        }
        _ => None,
    });
    let alive: Vec<_> = alive.collect();
    for slot in 0..cohort.slots().len() {
        let order = cohort.host_order(slot);
        for &(rank, draw) in &alive {
            let Some(place) = order.position(rank.into()) else { continue };
            let of_slot = hash(draw ^ u64::from(slot));
            outcomes[slot as usize * hosts as usize + place as usize] = match (slot, of_slot % 20) {
                (0, _) => Outcome::UP,
                (_, 0) => Outcome::OPEN,
                (_, 1..10) => Outcome::CLOSED,
                _ => Outcome::FILTERED,
            };
        }
    }
    outcomes
}

/// The map of one of the prefixes of a length; how many cells it has.
fn prefix(scene: &Scene<'_>, bits: u8, draw: u64, depth: u8) -> Result<usize, StoreError> {
    let root = roots(scene.plan()).first().copied().unwrap_or_default();
    let place = hash(draw) as u32 & ((1 << (bits - 8)) - 1);
    let within = match root.network() {
        IpAddr::V4(first) => ipnet::Ipv4Net::new((first.to_bits() | place << (32 - bits)).into(), bits).ok(),
        IpAddr::V6(_) => None,
    };
    let Some(within) = within else { return Ok(0) };
    Ok(addresses::map(&scene.source(None)?, within.into(), depth)?.map_or(0, |map| map.cells.len()))
}

/// The map of one of so many parts of the addresses, by all ports; how many cells it has.
fn extent(scene: &Scene<'_>, parts: u64, draw: u64) -> Result<usize, StoreError> {
    let len = scene.plan().addresses().len() / parts;
    let first = hash(draw) % parts * len;
    let extent = Extent { ranks: first..first + len, ports: 0..u32::from(PORTS) };
    Ok(ports::map(&scene.source(None)?, &extent)?.map_or(0, |map| map.cells.len()))
}
