//! The proof of the store's invariants, on what is stored.

use super::{CohortRecord, Shard, Store, StoreError};
use protocol::chunk;
use protocol::id::{Epoch, ScanId};
use protocol::plan::Plan;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn prove<S: Store + ?Sized>(store: &S, scan: ScanId) -> Result<(), StoreError> {
    let record = store.scans()?.into_iter().find(|record| record.id == scan).ok_or(StoreError::UnknownScan(scan))?;
    let plan = Plan::try_from(record.plan).map_err(|error| broken("P1", error.to_string()))?;
    let (open, opened) = store.cohorts(scan)?;
    let open: BTreeMap<u64, CohortRecord> = open.into_iter().map(|cohort| (cohort.number, cohort)).collect();
    let mut epochs = BTreeSet::new();
    let mut leased: BTreeMap<u64, Vec<Shard>> = BTreeMap::new();
    for lease in store.leases(scan)? {
        once(&mut epochs, lease.epoch)?;
        leased.entry(lease.shard.cohort).or_default().push(lease.shard);
    }
    for position in 0..opened {
        let number = plan
            .cohort_at(position)
            .ok_or_else(|| broken("I4", format!("{opened} cohorts opened, of {}", plan.cohorts())))?;
        let cohort = plan.cohort(number).ok_or_else(|| broken("I4", format!("cohort {number} is not in the plan")))?;
        let mut shards = leased.remove(&number).unwrap_or_default();
        for stored in store.chunks(scan, number)? {
            once(&mut epochs, stored.epoch)?;
            shards.push(stored.shard);
            let outcomes = chunk::decode(&stored.chunk, stored.shard.len())
                .map_err(|error| broken("I2", format!("chunk of epoch {}: {error}", stored.epoch)))?;
            let found =
                (stored.shard.lo..).zip(&outcomes).filter(|(_, outcome)| outcome.is_finding()).map(|(index, _)| index);
            if !found.eq(stored.findings.iter().map(|finding| finding.index)) {
                return Err(broken("I5", format!("findings of epoch {} are not those of its chunk", stored.epoch)));
            }
        }
        let frontier = open.get(&number).map_or(cohort.len(), |record| record.frontier);
        tile(number, shards, frontier)?;
    }
    match leased.keys().next() {
        Some(number) => Err(broken("I4", format!("cohort {number} has leases and was not opened"))),
        None => Ok(()),
    }
}

fn once(epochs: &mut BTreeSet<Epoch>, epoch: Epoch) -> Result<(), StoreError> {
    if epochs.insert(epoch) { Ok(()) } else { Err(broken("I1", format!("epoch {epoch} was given twice"))) }
}

fn tile(number: u64, mut shards: Vec<Shard>, frontier: u32) -> Result<(), StoreError> {
    shards.sort();
    let mut end = 0;
    for shard in shards {
        if shard.lo != end || shard.is_empty() {
            let invariant = if shard.lo < end { "I3" } else { "I4" };
            return Err(broken(invariant, format!("cohort {number}: {}..{} after {end}", shard.lo, shard.hi)));
        }
        end = shard.hi;
    }
    if end == frontier { Ok(()) } else { Err(broken("I4", format!("cohort {number} ends at {end}, not {frontier}"))) }
}

fn broken(invariant: &'static str, detail: String) -> StoreError {
    StoreError::Broken { invariant, detail }
}
