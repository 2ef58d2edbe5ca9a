//! The rows of a report, folded from stored chunks: cohort by cohort, which is address order, in bounded memory.

use crate::host::{Answer, Host};
use crate::passes::History;
use crate::stages::Ports;
use crate::store::{ScanStatus, Store, StoreError};
use protocol::id::ScanId;
use protocol::plan::{Cohort, Plan, SHARD_TARGETS_MAX};
use protocol::probe::Slot;

/// The rows of cohort `number`, in address order, of a scan that is so far; where several vantages each probed everything, of the
/// cohorts that are the same for the others too. In stages, ports of a host that was found down are no targets of it.
///
/// # Errors
/// If the store fails, or a chunk is not what its shard says.
pub fn of_cohort(
    store: &dyn Store,
    scan: ScanId,
    plan: &Plan,
    number: u64,
    status: ScanStatus,
) -> Result<Vec<Host>, StoreError> {
    let numbers = (0..plan.views()).map(|view| view * plan.cohorts_of_one() + number);
    let views: Vec<_> = numbers.filter_map(|number| plan.cohort(number)).collect();
    let Some(cohort) = views.first() else { return Ok(Vec::new()) };
    let mut hosts: Vec<_> =
        (0..cohort.addresses().len()).filter_map(|rank| cohort.addresses().nth(rank)).map(Host::new).collect();
    let ports = views.iter().map(|cohort| Ports::of_cohort(store, scan, cohort)).collect::<Result<Vec<_>, _>>()?;
    for lo in (0..cohort.len()).step_by(SHARD_TARGETS_MAX as usize) {
        let indices = lo..cohort.len().min(lo + SHARD_TARGETS_MAX);
        let of_view = |cohort: &Cohort| History::of(store, scan, cohort.number(), indices.clone());
        let histories = views.iter().map(of_view).collect::<Result<Vec<_>, _>>()?;
        // Every vantage's cohort has the same order.
        for (at, item) in cohort.targets(indices.start, indices.end).enumerate() {
            let Some(host) = hosts.get_mut(item.host as usize) else { continue };
            let known = |(history, ports): (&Vec<History>, &Option<Vec<Ports>>)| -> Option<Answer> {
                let history = *history.get(at)?;
                let History { outcome, rtt_us, agent, .. } = match (ports, item.target.slot) {
                    (Some(ports), Slot::Tcp(_)) => ports.get(item.host as usize)?.known(history)?,
                    _ => history,
                };
                Some(Answer { outcome: status.at_end(outcome), rtt_us, seen_by: agent })
            };
            let mut seen = histories.iter().zip(&ports).map(known);
            if plan.vantages().is_empty() {
                if let Some(answer) = seen.next().flatten() {
                    host.fold(item.target.slot, answer);
                }
            } else {
                host.fold_views(item.target.slot, &seen.collect::<Vec<_>>());
            }
        }
    }
    Ok(hosts)
}
