//! The feed: what became known of scans, for whoever follows them. One writer, any number of readers.
//!
//! The newest state of every scan is kept, and a ring of the last events, bounded in number and bytes. A reader asks for what came after
//! the last event that it saw; if the ring no longer holds that, or another process gave it, the reader gets the state of the moment
//! instead: it is skipped ahead, and never holds anybody up.

pub mod history;

use crate::api::shape::{Finding, Progress, Scan};
use crate::fleet::AgentView;
use crate::scan::wall;
use coordinator_core::control::ChangeError;
use coordinator_core::coordinator::Event;
use history::History;
use jiff::Timestamp;
use portsweep_agent::clock::Clock;
use protocol::id::{AgentName, ScanId};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// How many events are kept, and how many bytes of them: some minutes of a fast scan.
const EVENTS_MAX: usize = 4_096;
const BYTES_MAX: usize = 8 << 20;

/// How many answers to changes are kept: whoever asked reads his at once.
const ANSWERS_MAX: usize = 1_024;

/// How many scans are told how they went: more than run at once.
const HISTORIES_MAX: usize = 512;

/// Names an event: which process gave it, and its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    run: u64,
    number: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.run, self.number)
    }
}

impl FromStr for EventId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (run, number) = text.split_once('-').ok_or(())?;
        if run.len() != 16 || number.starts_with('+') {
            return Err(());
        }
        Ok(Self { run: u64::from_str_radix(run, 16).map_err(|_| ())?, number: number.parse().map_err(|_| ())? })
    }
}

/// Something that became known.
#[derive(Debug)]
pub struct Entry {
    number: u64,
    /// The scan that it is of; `None` for an agent's.
    pub scan: Option<ScanId>,
    /// What it is: `progress`, `findings`, `scan`, `removed` or `agent`.
    pub kind: &'static str,
    /// It, as JSON.
    pub data: String,
}

/// What a reader is given.
pub enum Since {
    /// What came after what it saw, oldest first, and the last event's id.
    Events(Vec<Arc<Entry>>, EventId),
    /// What it saw is too long ago, or unknown: the state now, and the last event's id.
    Snapshot(Vec<Scan>, Vec<AgentView>, EventId),
}

/// What became known since the process started, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Outcomes of targets.
    pub settled: u64,
    /// Tries at targets.
    pub probed: u64,
    /// Reports that were committed.
    pub commits: u64,
    /// Open ports and live hosts.
    pub findings: u64,
    /// Changes to running scans.
    pub changes: u64,
}

/// The state of the moment, and what led to it.
#[derive(Debug)]
pub struct Feed {
    run: u64,
    last: u64,
    ring: VecDeque<Arc<Entry>>,
    ring_bytes: usize,
    scans: BTreeMap<ScanId, Scan>,
    /// By id.
    agents: BTreeMap<String, AgentView>,
    /// What became known so far.
    pub totals: Totals,
    /// Submitted, and not known to be stored.
    expected: BTreeMap<ScanId, Scan>,
    /// What became of changes that were asked for, newest last.
    answers: VecDeque<(u64, Result<u64, ChangeError>)>,
    /// How scans went of which something was told, in the order in which they began.
    histories: VecDeque<(ScanId, History)>,
    /// Agents that are drained, and have something in hand still.
    draining: BTreeSet<String>,
    /// Agents that get no work, and until when.
    rests: BTreeMap<String, Timestamp>,
    /// The process ends: streams end too.
    pub closing: bool,
    /// Why nothing goes on any more.
    pub failure: Option<String>,
}

impl Feed {
    /// Of the scans that are stored. `run` tells this process's events from those of others.
    #[must_use]
    pub fn new(run: u64, scans: impl IntoIterator<Item = Scan>) -> Self {
        let scans: BTreeMap<_, _> = scans.into_iter().map(|scan| (scan.key(), scan)).collect();
        let running = scans.values().filter(|scan| !scan.is_over()).map(Scan::key);
        let histories = running.map(|id| (id, History::new(Clock::Monotonic.now()))).collect();
        Self {
            run,
            last: 0,
            ring: VecDeque::new(),
            ring_bytes: 0,
            scans,
            agents: BTreeMap::new(),
            totals: Totals::default(),
            expected: BTreeMap::new(),
            answers: VecDeque::new(),
            histories,
            draining: BTreeSet::new(),
            rests: BTreeMap::new(),
            closing: false,
            failure: None,
        }
    }

    /// The scans, by id.
    pub fn scans(&self) -> impl DoubleEndedIterator<Item = &Scan> {
        self.scans.values()
    }

    /// A scan.
    #[must_use]
    pub fn scan(&self, id: ScanId) -> Option<&Scan> {
        self.scans.get(&id)
    }

    /// What became of a change that was asked for: the version from which on it holds, or why it is refused.
    #[must_use]
    pub fn answer(&self, ask: u64) -> Option<Result<u64, ChangeError>> {
        self.answers.iter().rev().find(|(asked, _)| *asked == ask).map(|(_, outcome)| *outcome)
    }

    /// Until when an agent gets no work, in seconds since 1970; `None` where it gets some.
    #[must_use]
    pub fn rests_until(&self, agent: &str) -> Option<i64> {
        self.rests.get(agent).filter(|until| **until > wall()).map(|until| until.as_second())
    }

    /// Whether an agent that is drained has something in hand still.
    #[must_use]
    pub fn is_draining(&self, agent: &AgentView) -> bool {
        agent.drained && self.draining.contains(&agent.name)
    }

    /// The newest event.
    #[must_use]
    pub const fn last(&self) -> EventId {
        EventId { run: self.run, number: self.last }
    }

    /// What came after `seen`; of one scan, or of all.
    #[must_use]
    pub fn since(&self, seen: Option<EventId>, of: Option<ScanId>) -> Since {
        let fits = |id: Option<ScanId>| of.is_none_or(|of| id == Some(of));
        let first = self.ring.front().map_or(self.last + 1, |entry| entry.number);
        match seen {
            Some(seen) if seen.run == self.run && seen.number <= self.last && seen.number + 1 >= first => {
                let after = self
                    .ring
                    .range(usize::try_from(seen.number + 1 - first).unwrap_or(usize::MAX).min(self.ring.len())..);
                Since::Events(after.filter(|entry| fits(entry.scan)).cloned().collect(), self.last())
            }
            _ => {
                let scans = self.scans().filter(|scan| fits(Some(scan.key()))).cloned().collect();
                let agents = self.agents.values().filter(|_| fits(None)).cloned().collect();
                Since::Snapshot(scans, agents, self.last())
            }
        }
    }

    /// How many events can be gone back to.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.ring.len()
    }

    /// The agents as they are now; true if that is news. When one was last heard is none.
    pub fn agents_are(&mut self, agents: Vec<AgentView>) -> bool {
        let mut is_news = false;
        for mut agent in agents {
            agent.draining = self.is_draining(&agent);
            let timeless = |agent: &AgentView| AgentView { seen_at: None, rtt_us: None, ..agent.clone() };
            let known = self.agents.get(&agent.id);
            if known.is_none_or(|known| timeless(known) != timeless(&agent)) {
                self.push(None, "agent", &agent);
                is_news = true;
            }
            self.agents.insert(agent.id.clone(), agent);
        }
        is_news
    }

    /// A scan is about to be submitted: it is shown once it is stored.
    pub fn expect(&mut self, scan: Scan) {
        self.expected.insert(scan.key(), scan);
    }

    /// Takes in what the coordinator told.
    pub fn told(&mut self, event: &Event) {
        match event {
            Event::Created { scan } => {
                if let Some(shown) = self.expected.remove(scan) {
                    self.push(Some(*scan), "scan", &shown);
                    self.scans.insert(*scan, shown);
                    self.history_begins(*scan);
                }
            }
            Event::Committed { scan, findings, signs, progress, loss, window, agent, vantage, probed } => {
                self.totals.probed += probed;
                self.totals.commits += 1;
                self.totals.findings += findings.len() as u64;
                let vantage = vantage.as_ref().map(AgentName::as_str);
                let signs = signs.iter().map(|sign| Finding::of_sign(sign, vantage));
                let findings: Vec<_> = findings.iter().map(|found| Finding::new(found, vantage)).chain(signs).collect();
                let progress = Progress::new(progress, *loss);
                self.went(*scan, (agent.as_deref(), *window), &progress, &findings);
                if !findings.is_empty() {
                    self.push(Some(*scan), "findings", &Findings { scan: scan.to_string(), findings });
                }
                self.push(Some(*scan), "progress", &Progressed { scan: scan.to_string(), progress: &progress });
                if let Some(shown) = self.scans.get_mut(scan) {
                    shown.progress = Some(progress);
                }
            }
            Event::Removed { scan } => {
                self.histories.retain(|(of, _)| of != scan);
                if self.scans.remove(scan).is_some() {
                    self.push(Some(*scan), "removed", &Removed { scan: scan.to_string() });
                }
            }
            Event::Changed { ask, outcome, .. } => {
                self.totals.changes += u64::from(outcome.is_ok());
                self.answers.push_back((*ask, *outcome));
                if self.answers.len() > ANSWERS_MAX {
                    self.answers.pop_front();
                }
            }
            Event::Rests { agent, time } => {
                self.rests.retain(|_, until| *until > wall());
                self.rests.insert(agent.clone(), wall() + *time);
            }
            Event::Drains { agent, in_hand } => {
                if *in_hand {
                    self.draining.insert(agent.clone());
                } else {
                    self.draining.remove(agent);
                }
                let its = self.agents.values().filter(|known| known.name == *agent).cloned().collect();
                self.agents_are(its);
            }
            Event::Control { scan, state, waits_for } => self.changed(*scan, |shown| shown.holds(state, waits_for)),
            Event::Finished { scan, status } => self.changed(*scan, |shown| {
                shown.status = status.as_str().to_owned();
                shown.finished = Some(wall());
            }),
        }
    }

    /// Takes in how far a scan got with a report.
    fn went(&mut self, id: ScanId, (agent, window): (Option<&str>, u32), progress: &Progress, findings: &[Finding]) {
        let before = self.scans.get(&id).and_then(|shown| shown.progress.as_ref()).map_or(0, |before| before.settled);
        let settled = progress.settled.saturating_sub(before);
        self.totals.settled += settled;
        if self.history(id).is_none() {
            self.history_begins(id);
        }
        let now = Clock::Monotonic.now();
        if let Some((_, history)) = self.histories.iter_mut().rev().find(|(of, _)| *of == id) {
            history.add(now, agent, settled, findings);
            history.window = if window > 0 { window } else { history.window };
        }
    }

    /// What became of the targets of a scan that ended before this process began.
    pub fn counted(&mut self, id: ScanId, progress: Progress) {
        if let Some(shown) = self.scans.get_mut(&id).filter(|shown| shown.progress.is_none()) {
            shown.progress = Some(progress);
        }
    }

    fn history_begins(&mut self, id: ScanId) {
        self.histories.push_back((id, History::new(Clock::Monotonic.now())));
        self.histories.drain(..self.histories.len().saturating_sub(HISTORIES_MAX));
    }

    /// How a scan went since this process began; `None` where nothing was told of it.
    #[must_use]
    pub fn history(&self, id: ScanId) -> Option<&History> {
        self.histories.iter().rev().find(|(of, _)| *of == id).map(|(_, history)| history)
    }

    fn changed(&mut self, id: ScanId, change: impl FnOnce(&mut Scan)) {
        let Some(shown) = self.scans.get_mut(&id) else { return };
        change(shown);
        let shown = shown.clone();
        self.push(Some(id), "scan", &shown);
    }

    fn push(&mut self, scan: Option<ScanId>, kind: &'static str, data: &impl Serialize) {
        // What is told is made of strings and numbers: it can be written.
        let Ok(data) = serde_json::to_string(data) else { return };
        self.last += 1;
        self.ring_bytes += data.len();
        self.ring.push_back(Arc::new(Entry { number: self.last, scan, kind, data }));
        while self.ring.len() > EVENTS_MAX || (self.ring_bytes > BYTES_MAX && self.ring.len() > 1) {
            let oldest = self.ring.pop_front();
            self.ring_bytes -= oldest.map_or(0, |entry| entry.data.len());
        }
    }
}

#[derive(Serialize)]
struct Findings {
    scan: String,
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Removed {
    scan: String,
}

#[derive(Serialize)]
struct Progressed<'a> {
    scan: String,
    #[serde(flatten)]
    progress: &'a Progress,
}

impl Entry {
    /// Its id.
    #[must_use]
    pub const fn id(&self, feed_run: EventId) -> EventId {
        EventId { run: feed_run.run, number: self.number }
    }
}

/// When a scan that is stored as finished ended, as far as it is known.
pub type Ended = BTreeMap<ScanId, Timestamp>;

#[cfg(test)]
mod tests;
