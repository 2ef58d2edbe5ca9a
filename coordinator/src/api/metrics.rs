//! `GET /metrics`: the coordinator in numbers, in the text form of Prometheus (version 0.0.4). Labels are states and causes, never addresses,
//! scans or agents: how many series there are does not grow with what is scanned.

use super::Serving;
use super::ask::Query;
use super::problem::Problem;
use crate::actors::coordinator::AskFigures;
use crate::fleet::AgentView;
use crate::fleet::roster::Standing;
use crate::serve::feed::{Feed, Totals};
use actix_web::{HttpRequest, HttpResponse, web};
use coordinator_core::coordinator::Counters;
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

/// What waits in the process's queues.
#[derive(Clone, Copy, Debug, Default)]
struct Waiting {
    requests: usize,
    looks: usize,
    events: usize,
    messages: usize,
}

/// `GET /metrics`
pub async fn metrics(request: HttpRequest, serving: web::Data<Serving>) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let looked = serving.store.look(leases).await;
    let leases = looked.map_err(|error| Problem::failed(&error))?.map_err(|error| Problem::failed(&error))?;
    let agents = serving.fleet.agents().await.map_err(|error| Problem::failed(&error))?;
    let figures = serving.coordinator.send(AskFigures).await;
    let figures = figures.map_err(|_| Problem::unavailable("the coordinator is about to end"))?;
    let (requests, looks) = serving.store.depths();
    let waiting =
        Waiting { requests: requests + figures.requests, looks, events: figures.events, messages: figures.messages };
    let readers = serving.feed.receiver_count();
    let text = text(&serving.feed.borrow(), leases, &agents, figures.counters, waiting, readers);
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

fn text(
    feed: &Feed,
    leases: Leases,
    agents: &[AgentView],
    counters: Counters,
    waiting: Waiting,
    readers: usize,
) -> String {
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

    let Totals { settled, probed, commits, findings, changes } = feed.totals;
    page.one("portsweep_probes_total", "counter", "Tries at targets that were committed since the start.", probed);
    page.one("portsweep_settled_total", "counter", "Outcomes of targets that were committed since the start.", settled);
    page.one("portsweep_commits_total", "counter", "Reports that were committed since the start.", commits);
    page.one("portsweep_findings_total", "counter", "Open ports and live hosts since the start.", findings);
    page.one("portsweep_changes_total", "counter", "Changes to running scans since the start.", changes);

    coordinator(&mut page, counters, waiting);
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

/// What the coordinator counts, and what waits.
fn coordinator(page: &mut Page, counters: Counters, waiting: Waiting) {
    let Counters { applied, duplicate, fenced, closed, refused, rights_ended } = counters;
    let reports = [("applied", applied), ("duplicate", duplicate), ("fenced", fenced), ("closed", closed)];
    let says = "Reports since the start: taken, taken before, of a lease that was another's by then, of a scan that had ended.";
    page.by("portsweep_reports_total", "counter", says, "outcome", &BTreeMap::from(reports));
    page.one("portsweep_frames_refused_total", "counter", "Frames that broke the protocol.", refused);
    page.one("portsweep_rights_ended_total", "counter", "Agents that were silent for too long.", rights_ended);
    let Waiting { requests, looks, events, messages } = waiting;
    let queues = [("store-requests", requests), ("store-looks", looks), ("events", events), ("messages", messages)];
    let queues = queues.map(|(queue, depth)| (queue, depth as u64));
    page.by("portsweep_queue_depth", "gauge", "What waits in a queue.", "queue", &BTreeMap::from(queues));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_series_of_a_family_that_was_told() {
        let counters = Counters { fenced: 7, ..Counters::default() };
        let waiting = Waiting { looks: 5, ..Waiting::default() };
        let text = text(&Feed::new(1, Vec::new()), Leases { held: 3, returned: 1 }, &[], counters, waiting, 2);
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
        assert!(text.contains("\nportsweep_reports_total{outcome=\"fenced\"} 7\n"));
        assert!(text.contains("\nportsweep_queue_depth{queue=\"store-looks\"} 5\n"));
        assert!(text.contains("\nportsweep_agents{state=\"away\"} 0\n"), "what is not there yet is 0, not absent");
    }

    /// What Prometheus reads of a coordinator that has scans: every series that is promised, as many whatever is scanned.
    #[test]
    fn a_scrape_has_all_that_is_promised_and_no_more_series_with_more_scans() {
        use super::super::contract_tests::{Ask, story};
        story(|world| async move {
            let scrape = async || {
                let ask = Ask {
                    method: "GET".into(),
                    path: "/metrics".into(),
                    token: Some(world.local_token()),
                    ..Ask::default()
                };
                let answer = world.ask(&ask).await;
                assert_eq!(answer.status, 200);
                let text = String::from_utf8(answer.body).unwrap();
                let series =
                    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
                series.map(|(name, value)| (name.to_owned(), value.parse::<f64>().unwrap())).collect::<BTreeMap<_, _>>()
            };
            world.submit().await;
            let one = scrape().await;
            for promised in [
                "portsweep_scans{status=\"running\"}",
                "portsweep_targets_open",
                "portsweep_rate_limit",
                "portsweep_probes_total",
                "portsweep_settled_total",
                "portsweep_commits_total",
                "portsweep_reports_total{outcome=\"applied\"}",
                "portsweep_reports_total{outcome=\"duplicate\"}",
                "portsweep_reports_total{outcome=\"fenced\"}",
                "portsweep_reports_total{outcome=\"closed\"}",
                "portsweep_rights_ended_total",
                "portsweep_leases{state=\"held\"}",
                "portsweep_agents{state=\"connected\"}",
                "portsweep_queue_depth{queue=\"store-requests\"}",
                "portsweep_queue_depth{queue=\"store-looks\"}",
                "portsweep_queue_depth{queue=\"events\"}",
                "portsweep_queue_depth{queue=\"messages\"}",
            ] {
                assert!(one.contains_key(promised), "{promised}: {one:?}");
            }
            assert_eq!((one["portsweep_scans{status=\"running\"}"], one["portsweep_rate_limit"]), (1.0, 1.0));
            assert_eq!(one["portsweep_targets_open"], 9.0 * 41.0, "ping and forty ports of nine hosts");
            for _ in 0..5 {
                world.submit().await;
            }
            let more = scrape().await;
            assert_eq!(more["portsweep_scans{status=\"running\"}"], 6.0);
            assert!(more.keys().eq(one.keys()), "{more:?}");
        });
    }
}
