//! The proof of the store's invariants, on what is stored.

use super::{CohortRecord, Shard, Store, StoreError};
use crate::host::OPEN_PORTS_MAX;
use crate::passes::History;
use crate::stages::Ports;
use crate::tally::{self, Packed, Part};
use protocol::id::{Epoch, ScanId};
use protocol::message::Finding;
use protocol::plan::{Cohort, Plan, SHARD_TARGETS_MAX};
use protocol::{chunk, covers};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn prove<S: Store + ?Sized>(store: &S, scan: ScanId) -> Result<(), StoreError> {
    let record = store.scans()?.into_iter().find(|record| record.id == scan).ok_or(StoreError::UnknownScan(scan))?;
    let plan = Plan::try_from(record.plan).map_err(|error| broken("P1", error.to_string()))?;
    let (open, opened) = store.cohorts(scan)?;
    let open: BTreeMap<u64, CohortRecord> = open.into_iter().map(|cohort| (cohort.number, cohort)).collect();
    let mut epochs = BTreeSet::new();
    let mut leased: BTreeMap<u64, Vec<Covered>> = BTreeMap::new();
    for lease in store.leases(scan)? {
        once(&mut epochs, lease.epoch)?;
        leased.entry(lease.shard.cohort).or_default().push((lease.shard, lease.covers));
    }
    for position in 0..opened {
        let number = plan
            .cohort_at(position)
            .ok_or_else(|| broken("I4", format!("{opened} cohorts opened, of {}", plan.cohorts())))?;
        let len = plan.cohort_len(number).unwrap_or(0);
        let mut covered = leased.remove(&number).unwrap_or_default();
        let mut found = Found::default();
        for stored in store.chunks(scan, number, 0..len)? {
            once(&mut epochs, stored.epoch)?;
            let (lo, hi) = (stored.shard.lo, stored.shard.hi);
            let outcomes = chunk::decode(&stored.chunk, covers::count(&stored.covers, lo, hi))
                .map_err(|error| broken("I2", format!("chunk of epoch {}: {error}", stored.epoch)))?;
            let covers = covers::indices(&stored.covers, lo, hi).zip(&outcomes);
            let finds = covers.filter(|(_, outcome)| outcome.is_finding()).map(|(index, _)| index);
            if !found.add(&plan, number, finds, &stored.findings) {
                return Err(broken("I5", format!("findings of epoch {} are not those of its chunk", stored.epoch)));
            }
            covered.push((stored.shard, stored.covers));
        }
        if let Some(index) = found.missing() {
            return Err(broken("I5", format!("cohort {number}, index {index}: found, and there is no finding")));
        }
        if let Some(cohort) = plan.cohort(number).filter(|cohort| cohort.slots().discover()) {
            staged(store, scan, &cohort, &covered, open.contains_key(&number))?;
        }
        tile(number, plan.first_pass_len(number).unwrap_or(0), len, covered, open.get(&number).copied())?;
        if let Some(cohort) = plan.cohort(number) {
            tallied(store, scan, &cohort, open.contains_key(&number))?;
        }
    }
    match leased.keys().next() {
        Some(number) => Err(broken("I4", format!("cohort {number} has leases and was not opened"))),
        None => Ok(()),
    }
}

/// What a lease or a chunk covers.
type Covered = (Shard, Vec<u8>);

fn once(epochs: &mut BTreeSet<Epoch>, epoch: Epoch) -> Result<(), StoreError> {
    if epochs.insert(epoch) { Ok(()) } else { Err(broken("I1", format!("epoch {epoch} was given twice"))) }
}

/// What was found in a cohort, by host. Most cohorts find nothing, and so cost nothing.
#[derive(Default)]
struct Found {
    cohort: Option<Cohort>,
    /// How many findings there are, and an index without one.
    by_host: BTreeMap<u32, (usize, Option<u32>)>,
}

impl Found {
    /// Takes a chunk in: which indices it finds, ascending, and its findings. False if there is a finding of something else.
    fn add(&mut self, plan: &Plan, number: u64, finds: impl Iterator<Item = u32>, findings: &[Finding]) -> bool {
        let mut findings = findings.iter().peekable();
        for index in finds {
            if self.cohort.is_none() {
                self.cohort = plan.cohort(number);
            }
            let Some(host) = self.cohort.as_ref().and_then(|cohort| cohort.host_at(index)) else { return false };
            let (count, missing) = self.by_host.entry(host).or_default();
            match findings.next_if(|finding| finding.index == index) {
                Some(_) => *count += 1,
                None => *missing = Some(index),
            }
        }
        findings.next().is_none()
    }

    /// An index that should have a finding and has none.
    fn missing(&self) -> Option<u32> {
        self.by_host.values().find_map(|(count, missing)| missing.filter(|_| *count < OPEN_PORTS_MAX))
    }
}

/// I6.
fn staged<S: Store + ?Sized>(
    store: &S,
    scan: ScanId,
    cohort: &Cohort,
    covered: &[Covered],
    is_open: bool,
) -> Result<(), StoreError> {
    let ports = Ports::of_cohort(store, scan, cohort)?.unwrap_or_default();
    let is_up = |index| cohort.host_at(index).and_then(|rank| ports.get(rank as usize)) == Some(&Ports::Asked);
    let wrong = |index: u32, what: &str| {
        Err(broken("I6", format!("cohort {}, index {index}: a port of a host that is {what}", cohort.number())))
    };
    for (shard, covers) in covered {
        let mut leased = covers::indices(covers, shard.lo, shard.hi).filter(|&index| index >= cohort.hosts());
        if let Some(index) = leased.find(|&index| !is_up(index)) {
            return wrong(index, "not known to be up was leased");
        }
    }
    for lo in (cohort.hosts()..cohort.len()).step_by(SHARD_TARGETS_MAX as usize).filter(|_| !is_open) {
        let indices = lo..cohort.len().min(lo + SHARD_TARGETS_MAX);
        let known = History::of(store, scan, cohort.number(), indices.clone())?;
        let mut left = indices.zip(known).filter(|(_, history)| *history == History::PENDING);
        if let Some((index, _)) = left.find(|&(index, _)| is_up(index)) {
            return wrong(index, "up was never leased");
        }
    }
    Ok(())
}

/// I7.
fn tallied<S: Store + ?Sized>(store: &S, scan: ScanId, cohort: &Cohort, is_open: bool) -> Result<(), StoreError> {
    let number = cohort.number();
    let mut parts: [Vec<u8>; 4] = Default::default();
    let mut kept = 0;
    for (bytes, part) in parts.iter_mut().zip(Part::ALL) {
        store.tallies(scan, number..number + 1, part, &mut |_, stored| {
            kept += 1;
            bytes.extend(stored);
            Ok(())
        })?;
    }
    let wrong = |what: &str| Err(broken("I7", format!("cohort {number} {what}")));
    match kept {
        0 => Ok(()),
        _ if is_open => wrong("is open and has a tally"),
        4 if Packed::from_parts(parts) == tally::of(store, scan, cohort)? => Ok(()),
        _ => wrong("has a tally that is not what its chunks say"),
    }
}

/// `first_len` is what the first pass covers.
fn tile(
    number: u64,
    first_len: u32,
    len: u32,
    mut covered: Vec<Covered>,
    open: Option<CohortRecord>,
) -> Result<(), StoreError> {
    covered.sort();
    let (pass, frontier) = open.map_or((u8::MAX, len), |record| (record.pass, record.frontier));
    let (mut at, mut end) = (1, 0);
    for (shard, covers) in &covered {
        if shard.pass != at {
            if at == 1 && end != first_len {
                return Err(broken(
                    "I4",
                    format!("cohort {number}: pass {} began at {end} of {first_len}", shard.pass),
                ));
            }
            (at, end) = (shard.pass, 0);
        }
        let follows = if at == 1 { shard.lo == end && covers.is_empty() } else { shard.lo >= end };
        if !follows || shard.is_empty() || !covers::fits(covers, shard.lo, shard.hi) {
            let invariant = if shard.lo < end { "I3" } else { "I4" };
            return Err(broken(
                invariant,
                format!("cohort {number}, pass {at}: {}..{} after {end}", shard.lo, shard.hi),
            ));
        }
        end = shard.hi;
    }
    let expected = if pass == 1 { frontier } else { first_len };
    let first = covered.iter().rev().find(|(shard, _)| shard.pass == 1).map_or(0, |(shard, _)| shard.hi);
    if first != expected {
        return Err(broken("I4", format!("cohort {number}: the first pass ends at {first}, not {expected}")));
    }
    if at > pass || (at == pass && end > frontier) {
        return Err(broken("I4", format!("cohort {number} is leased up to {end} of pass {at}, beyond its frontier")));
    }
    Ok(())
}

fn broken(invariant: &'static str, detail: String) -> StoreError {
    StoreError::Broken { invariant, detail }
}
