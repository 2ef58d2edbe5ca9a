//! What a result says beside its rows: what was asked, how it ended, the counts, and who looked.

use coordinator_core::host::Host;
use jiff::Timestamp;
use protocol::id::ScanId;
use protocol::probe::{Cause, Outcome, ProbeKind, State};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// The largest seed: the largest integer that every reader of JSON takes exactly (RFC 8259 section 6), 2^53 − 1.
pub const SEED_MAX: u64 = (1 << 53) - 1;

/// Where a scan stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It goes on.
    Running,
    /// It was told to wait.
    Paused,
    /// It was stopped and can be resumed.
    Interrupted,
    /// It ended without having looked everywhere.
    Partial,
    /// It ended, and every target was probed.
    Done,
    /// It was ended for good.
    Cancelled,
}

impl Status {
    /// The name that the result shows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Interrupted => "interrupted",
            Self::Partial => "partial",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Everything that a result says, but the rows.
#[derive(Clone, Debug)]
pub struct ScanFacts {
    /// The scan's identity.
    pub id: ScanId,
    /// The command line as it was typed, quoted for a shell.
    pub command: String,
    /// The version of portsweep that made the scan.
    pub version: String,
    /// Where it stands.
    pub status: Status,
    /// When it was started.
    pub started: Timestamp,
    /// When these facts and the rows were true.
    pub updated: Timestamp,
    /// When it ended; `None` while it has not.
    pub finished: Option<Timestamp>,
    /// The target specs, as they were typed.
    pub targets: Vec<String>,
    /// The exclusions, as they were typed.
    pub exclude: Vec<String>,
    /// The ports, as `22,80-90`; empty where none was asked.
    pub ports: String,
    /// The probe kinds.
    pub kinds: Vec<ProbeKind>,
    /// Whether ports were asked only of addresses that `ping` found up.
    pub discover: bool,
    /// The budget in probes per second; `None` where only windows and caps limit.
    pub rate: Option<f64>,
    /// What the order is made from, at most [`SEED_MAX`].
    pub seed: u64,
    /// The digest of the plan, in hexadecimal.
    pub plan: String,
    /// The vantages that each probed everything; empty where it did not matter who probed what.
    pub vantages: Vec<String>,
    /// Names that were typed, by the address that they stood for.
    pub names: BTreeMap<IpAddr, Vec<String>>,
    /// Targets by what became of them. Sums to the number of targets.
    pub counts: Counts,
    /// How many states rest on a single try.
    pub single_try: u64,
    /// The measured share of probes that is lost on the way, 0 to 1; `None` where nothing could be measured.
    pub estimated_loss: Option<f64>,
    /// Between what it lies in 19 of 20 scans.
    pub estimated_loss_interval: Option<(f64, f64)>,
    /// How many probes may be in flight over all hosts, as an agent said last; `None` where that is not known.
    pub window: Option<u32>,
    /// How long the scan has been running, pauses and interruptions not counted.
    pub elapsed: Duration,
    /// Who looked. Rows name them by their place in this list.
    pub agents: Vec<AgentFacts>,
}

/// One agent's part.
#[derive(Clone, Debug)]
pub struct AgentFacts {
    /// Its name.
    pub name: String,
    /// The place in the network that it sees from; `None` where nobody named one.
    pub vantage: Option<String>,
    /// Its version.
    pub version: String,
    /// How it asks for life: `icmp`, or `tcp` where ICMP is not permitted; `None` where nobody asked.
    pub ping_method: Option<PingMethod>,
    /// How many targets it probed.
    pub probed: u64,
}

/// How an agent asks a host for life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PingMethod {
    /// By ICMP echo.
    Icmp,
    /// By connects to ports 80 and 443.
    Tcp,
}

impl PingMethod {
    /// The name that the result shows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Icmp => "icmp",
            Self::Tcp => "tcp",
        }
    }
}

/// The states that a probed target can have, in the order in which results show them.
pub const STATES: [State; 5] = [State::Open, State::Closed, State::Filtered, State::Up, State::Down];

/// Targets by their outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<Outcome, u64>);

impl Counts {
    /// Adds `count` targets with an outcome.
    pub fn add(&mut self, outcome: Outcome, count: u64) {
        if count > 0 {
            *self.0.entry(outcome).or_default() += count;
        }
    }

    /// Adds every target of a row.
    pub fn add_host(&mut self, host: &Host) {
        for (outcome, count) in host.counts() {
            self.add(outcome, count);
        }
    }

    /// All targets.
    #[must_use]
    pub fn targets(&self) -> u64 {
        self.0.values().sum()
    }

    /// Those that were probed.
    #[must_use]
    pub fn probed(&self) -> u64 {
        self.sum(Outcome::is_probed)
    }

    /// Those in a state.
    #[must_use]
    pub fn in_state(&self, state: State) -> u64 {
        self.sum(|outcome| outcome.state() == state)
    }

    /// Causes with how many targets were not probed for each, in the order of the causes; none with 0.
    pub fn not_probed(&self) -> impl Iterator<Item = (Cause, u64)> + '_ {
        self.0.iter().filter_map(|(outcome, &count)| Some((outcome.cause()?, count)))
    }

    fn sum(&self, fits: impl Fn(Outcome) -> bool) -> u64 {
        let fitting = self.0.iter().filter(|(outcome, _)| fits(**outcome));
        fitting.map(|(_, count)| count).sum()
    }
}

impl FromIterator<(Outcome, u64)> for Counts {
    fn from_iter<I: IntoIterator<Item = (Outcome, u64)>>(outcomes: I) -> Self {
        let mut counts = Self::default();
        for (outcome, count) in outcomes {
            counts.add(outcome, count);
        }
        counts
    }
}
