//! The rows of a report, folded from stored chunks: cohort by cohort, which is address order, in bounded memory.

use crate::host::{Answer, Host};
use crate::passes::History;
use crate::stages::Ports;
use crate::store::{Store, StoreError};
use protocol::id::ScanId;
use protocol::plan::{Plan, SHARD_TARGETS_MAX};
use protocol::probe::Slot;

/// The rows of cohort `number`, in address order. In stages, ports of a host that was found down are no targets of it.
///
/// # Errors
/// If the store fails, or a chunk is not what its shard says.
pub fn of_cohort(store: &dyn Store, scan: ScanId, plan: &Plan, number: u64) -> Result<Vec<Host>, StoreError> {
    let Some(cohort) = plan.cohort(number) else { return Ok(Vec::new()) };
    let mut hosts: Vec<_> =
        (0..cohort.addresses().len()).filter_map(|rank| cohort.addresses().nth(rank)).map(Host::new).collect();
    let ports = Ports::of_cohort(store, scan, &cohort)?;
    for lo in (0..cohort.len()).step_by(SHARD_TARGETS_MAX as usize) {
        let indices = lo..cohort.len().min(lo + SHARD_TARGETS_MAX);
        let histories = History::of(store, scan, number, indices.clone())?;
        for (item, history) in cohort.targets(indices.start, indices.end).zip(histories) {
            let known = match (&ports, item.target.slot) {
                (Some(ports), Slot::Tcp(_)) => ports.get(item.host as usize).and_then(|ports| ports.known(history)),
                _ => Some(history),
            };
            let Some(History { outcome, rtt_us, agent, .. }) = known else { continue };
            if let Some(host) = hosts.get_mut(item.host as usize) {
                host.fold(item.target.slot, Answer { outcome, rtt_us, seen_by: agent });
            }
        }
    }
    Ok(hosts)
}
