//! A scan in a few words and a bar: what the overview, the list and its own page show of it.

use super::chart::{self, Segment};
use super::words::{loss, moment, number, per_second, percent, rough};
use crate::api::shape::Scan;
use crate::serve::feed::Feed;
use jiff::Timestamp;
use portsweep_agent::clock::Clock;

/// The states in the order in which they are shown, with what a page calls them.
pub const STATES: [(&str, &str); 5] =
    [("open", "open"), ("up", "up"), ("closed", "closed"), ("filtered", "filtered"), ("down", "silent")];

/// A scan, as it is shown.
pub struct Summary {
    /// Its id.
    pub id: String,
    /// The beginning of it: enough to tell scans apart.
    pub short: String,
    /// `running`, `paused`, `done`, …
    pub status: String,
    /// Whether it ended.
    pub is_over: bool,
    /// The command line that makes it.
    pub command: String,
    /// What is scanned, in one line.
    pub targets: String,
    /// How many targets it has.
    pub size: String,
    /// How many have an outcome.
    pub settled: String,
    /// The share of those.
    pub percent: u64,
    /// The bar: states, then what was not probed.
    pub bar: Vec<Segment>,
    /// Counts by state: the state, its name on pages, how many.
    pub states: Vec<(&'static str, &'static str, String)>,
    /// What was not probed, by cause.
    pub not_probed: Vec<(String, String)>,
    /// How many that is in all; `None` for none.
    pub unprobed: Option<String>,
    /// How fast it goes; `None` where it does not.
    pub rate: Option<String>,
    /// How long it will take; said only where that can be said.
    pub remaining: Option<String>,
    /// The measured loss.
    pub loss: Option<String>,
    /// Probes in flight that are allowed.
    pub window: Option<String>,
    /// When it began.
    pub started: String,
    /// When it ended.
    pub finished: Option<String>,
    /// How long it took, or takes.
    pub took: String,
    /// The budget.
    pub budget: Option<String>,
    /// The limit per host.
    pub per_host: Option<String>,
    /// Who may still do as before the last change.
    pub waits_for: Vec<String>,
    /// What was excluded while it ran.
    pub excluded: Vec<String>,
}

impl Summary {
    /// Of a scan, as the feed knows it now.
    #[must_use]
    pub fn new(scan: &Scan, feed: &Feed, now: Timestamp) -> Self {
        let progress = scan.progress.clone().unwrap_or_default();
        let whole = if progress.targets > 0 { progress.targets } else { scan.targets };
        let count = |state: &str| progress.states.get(state).copied().unwrap_or(0);
        let unprobed: u64 = progress.not_probed.values().sum();
        let parts = STATES.iter().map(|(state, _)| (*state, count(state))).chain([("not-probed", unprobed)]);
        let history = feed.history(scan.key()).filter(|_| scan.status == "running");
        let ticking = Clock::Monotonic.now();
        let rest = whole.saturating_sub(progress.settled);
        let remaining = history.map(|history| match history.remaining(ticking, rest) {
            _ if rest == 0 => "asking silent ones again".to_owned(),
            Some(time) if progress.undiscovered > 0 => format!("at most {} left", rough(time)),
            Some(time) => format!("about {} left", rough(time)),
            None => "waiting for answers".to_owned(),
        });
        let end = scan.finished.unwrap_or(now);
        Self {
            id: scan.id.clone(),
            short: scan.id.rsplit('-').next().unwrap_or(&scan.id).to_owned(),
            status: scan.status.clone(),
            is_over: scan.is_over(),
            command: scan.command.clone(),
            targets: listed(&scan.specs),
            size: number(whole),
            settled: number(progress.settled),
            percent: percent(progress.settled, whole),
            bar: chart::bar(parts, whole),
            states: STATES
                .map(|(state, name)| (state, name, count(state)))
                .into_iter()
                .filter(|it| it.2 > 0)
                .map(|(state, name, count)| (state, name, number(count)))
                .collect(),
            not_probed: progress.not_probed.iter().map(|(cause, count)| (cause.clone(), number(*count))).collect(),
            unprobed: (unprobed > 0).then(|| number(unprobed)),
            rate: history.map(|history| per_second(history.rate_per_s(ticking))),
            remaining,
            loss: progress.estimated_loss.map(loss),
            window: history.filter(|history| history.window > 0).map(|history| number(history.window.into())),
            started: moment(scan.started),
            finished: scan.finished.map(moment),
            took: rough(std::time::Duration::from_secs(end.duration_since(scan.started).as_secs().unsigned_abs())),
            budget: scan.rate.map(per_second),
            per_host: scan.per_host_rate.map(per_second),
            waits_for: scan.waits_for.clone(),
            excluded: scan.excluded.clone(),
        }
    }
}

/// A few of a list, and how many more there are.
fn listed(specs: &[String]) -> String {
    const SHOWN: usize = 3;
    let first = specs.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match specs.len().saturating_sub(SHOWN) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
