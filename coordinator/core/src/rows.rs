//! The rows of a report, folded from stored chunks: cohort by cohort, which is address order, in bounded memory.

use crate::host::{Answer, Host};
use crate::store::{Store, StoreError};
use protocol::chunk;
use protocol::id::ScanId;
use protocol::plan::{Cohort, Plan, SHARD_TARGETS_MAX};
use protocol::probe::{Cause, Outcome};

/// The rows of cohort `number`, in address order.
///
/// # Errors
/// If the store fails, or a chunk is not what its shard says.
pub fn of_cohort(store: &dyn Store, scan: ScanId, plan: &Plan, number: u64) -> Result<Vec<Host>, StoreError> {
    let Some(cohort) = plan.cohort(number) else { return Ok(Vec::new()) };
    let mut hosts: Vec<_> =
        (0..cohort.addresses().len()).filter_map(|rank| cohort.addresses().nth(rank)).map(Host::new).collect();
    let mut unknown = 0;
    // Chunks come by pass, then index. One pass exists, so they are disjoint and ascending: what lies between is pending.
    for stored in store.chunks(scan, number)? {
        fold_pending(&mut hosts, &cohort, unknown, stored.shard.lo);
        let outcomes = chunk::decode(&stored.chunk, stored.shard.len()).map_err(|error| StoreError::Broken {
            invariant: "I2",
            detail: format!("chunk of epoch {}: {error}", stored.epoch),
        })?;
        let mut findings = stored.findings.iter().peekable();
        for (item, outcome) in cohort.targets(stored.shard.lo, stored.shard.hi).zip(outcomes) {
            let rtt_us = findings.next_if(|finding| finding.index == item.index).map(|finding| finding.rtt_us);
            if let Some(host) = hosts.get_mut(item.host as usize) {
                host.fold(item.target.slot, Answer { outcome, rtt_us, seen_by: stored.agent });
            }
        }
        unknown = stored.shard.hi;
    }
    fold_pending(&mut hosts, &cohort, unknown, cohort.len());
    Ok(hosts)
}

fn fold_pending(hosts: &mut [Host], cohort: &Cohort, lo: u32, hi: u32) {
    let pending = Answer { outcome: Outcome::not_probed(Cause::Pending), rtt_us: None, seen_by: 0 };
    for start in (lo..hi).step_by(SHARD_TARGETS_MAX as usize) {
        for item in cohort.targets(start, hi.min(start + SHARD_TARGETS_MAX)) {
            if let Some(host) = hosts.get_mut(item.host as usize) {
                host.fold(item.target.slot, pending);
            }
        }
    }
}
