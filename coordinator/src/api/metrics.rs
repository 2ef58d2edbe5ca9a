//! `GET /metrics`: the coordinator in numbers, in the text form of Prometheus (version 0.0.4). Labels are states and causes, never addresses,
//! scans or agents: how many series there are does not grow with what is scanned.

use super::Serving;
use super::ask::Query;
use super::problem::Problem;
use crate::fleet::AgentView;
use crate::fleet::roster::Standing;
use crate::serve::feed::{Feed, Totals};
use actix_web::{HttpRequest, HttpResponse, web};
use coordinator_core::store::{ScanStatus, Store, StoreError};
use std::collections::BTreeMap;
use std::fmt::{Display, Write};

/// The text form.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Every status that a scan can show.
const STATUSES: [&str; 6] = ["running", "paused", "partial", "interrupted", "done", "cancelled"];

/// Leases of running scans.
#[derive(Clone, Copy, Debug, Default)]
struct Leases {
    held: u64,
    returned: u64,
}

/// `GET /metrics`
pub async fn metrics(request: HttpRequest, serving: web::Data<Serving>) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let looked = serving.store.look(leases).await;
    let leases = looked.map_err(|error| Problem::failed(&error))?.map_err(|error| Problem::failed(&error))?;
    let agents = serving.fleet.agents().await.map_err(|error| Problem::failed(&error))?;
    let readers = serving.feed.receiver_count();
    let text = text(&serving.feed.borrow(), leases, &agents, readers);
    Ok(HttpResponse::Ok().content_type(CONTENT_TYPE).body(text))
}

fn leases(store: &dyn Store) -> Result<Leases, StoreError> {
    let mut leases = Leases::default();
    for record in store.scans()?.into_iter().filter(|record| record.status == ScanStatus::Running) {
        for lease in store.leases(record.id)? {
            let count = if lease.holder.is_some() { &mut leases.held } else { &mut leases.returned };
            *count += 1;
        }
    }
    Ok(leases)
}

/// A family of series as it is written.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, says: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {says}\n# TYPE {name} {kind}");
    }

    fn series(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    /// One series.
    fn one(&mut self, name: &str, kind: &str, says: &str, value: impl Display) {
        self.family(name, kind, says);
        self.series(name, "", value);
    }

    /// A series for each value of a label.
    fn by(&mut self, name: &str, kind: &str, says: &str, label: &str, values: &BTreeMap<&str, u64>) {
        self.family(name, kind, says);
        for (value, count) in values {
            self.series(name, &format!("{{{label}=\"{value}\"}}"), count);
        }
    }
}

fn text(feed: &Feed, leases: Leases, agents: &[AgentView], readers: usize) -> String {
    let mut page = Page(String::new());
    page.family("portsweep_build_info", "gauge", "The version that runs.");
    page.series("portsweep_build_info", &format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1);

    let mut scans: BTreeMap<_, _> = STATUSES.into_iter().map(|status| (status, 0)).collect();
    let (mut states, mut causes) = (BTreeMap::new(), BTreeMap::new());
    let (mut open, mut rate, mut loss) = (0, 0.0, None::<f64>);
    for scan in feed.scans() {
        *scans.entry(&*scan.status).or_default() += 1;
        if scan.is_over() {
            continue;
        }
        rate += scan.rate.unwrap_or(0.0);
        let Some(progress) = &scan.progress else {
            open += scan.targets;
            continue;
        };
        open += progress.targets.saturating_sub(progress.settled);
        progress.states.iter().for_each(|(state, count)| *states.entry(&**state).or_default() += count);
        progress.not_probed.iter().for_each(|(cause, count)| *causes.entry(&**cause).or_default() += count);
        loss = progress.estimated_loss.map(|measured| loss.map_or(measured, |loss| loss.max(measured))).or(loss);
    }
    page.by("portsweep_scans", "gauge", "Scans by status.", "status", &scans);
    page.by("portsweep_targets", "gauge", "Probed targets of running scans by state.", "state", &states);
    page.by(
        "portsweep_targets_not_probed",
        "gauge",
        "Targets of running scans that were not probed, by cause.",
        "cause",
        &causes,
    );
    page.one("portsweep_targets_open", "gauge", "Targets of running scans without an outcome.", open);
    page.one(
        "portsweep_rate_limit",
        "gauge",
        "The sum of the budgets of running scans that have one, in probes per second.",
        rate,
    );
    if let Some(loss) = loss {
        page.one("portsweep_estimated_loss", "gauge", "The largest measured loss of a running scan, 0 to 1.", loss);
    }

    let Totals { settled, commits, findings, changes } = feed.totals;
    page.one("portsweep_settled_total", "counter", "Outcomes of targets that were committed since the start.", settled);
    page.one("portsweep_commits_total", "counter", "Reports that were committed since the start.", commits);
    page.one("portsweep_findings_total", "counter", "Open ports and live hosts since the start.", findings);
    page.one("portsweep_changes_total", "counter", "Changes to running scans since the start.", changes);

    let leases = BTreeMap::from([("held", leases.held), ("returned", leases.returned)]);
    page.by("portsweep_leases", "gauge", "Leases of running scans.", "state", &leases);
    let mut standings: BTreeMap<_, _> =
        ["connected", "away", "drained", "revoked", "copied"].into_iter().map(|state| (state, 0)).collect();
    for agent in agents {
        let state = match (agent.standing, agent.connected) {
            (Standing::Revoked, _) => "revoked",
            (Standing::Copied, _) => "copied",
            (Standing::Good, true) if agent.drained => "drained",
            (Standing::Good, true) => "connected",
            (Standing::Good, false) => "away",
        };
        *standings.entry(state).or_default() += 1;
    }
    page.by("portsweep_agents", "gauge", "Agents of other machines.", "state", &standings);
    page.one("portsweep_events_kept", "gauge", "Events that a stream can go back to.", feed.kept());
    page.one("portsweep_event_readers", "gauge", "Who follows the feed.", readers);
    page.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_series_of_a_family_that_was_told() {
        let text = text(&Feed::new(1, Vec::new()), Leases { held: 3, returned: 1 }, &[], 2);
        let mut family = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(
                    ["gauge", "counter"].contains(&kind) && name.ends_with("_total") == (kind == "counter"),
                    "{line}"
                );
                family = name;
            } else if !line.starts_with("# HELP ") {
                let (series, value) = line.rsplit_once(' ').unwrap();
                assert_eq!(series.split('{').next(), Some(family), "{line}");
                value.parse::<f64>().unwrap();
            }
        }
        assert!(
            text.contains("\nportsweep_leases{state=\"held\"} 3\n") && text.contains("\nportsweep_event_readers 2\n")
        );
        assert!(text.contains("\nportsweep_agents{state=\"away\"} 0\n"), "what is not there yet is 0, not absent");
    }
}
