//! What the API shows, as JSON. Members are only ever added.

use crate::state::StoredRequest;
use coordinator_core::control::{ControlState, Intent};
use coordinator_core::coordinator::{Found, Sign};
use coordinator_core::progress::Progress as Known;
use coordinator_core::store::ScanRecord;
use jiff::Timestamp;
use protocol::id::ScanId;
use protocol::plan::Plan;
use protocol::probe::{Outcome, Reason, Slot, State, Target};
use protocol::rate::Rate;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use utoipa::ToSchema;

/// A scan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Scan {
    /// Its id.
    pub id: String,
    /// How far it is: `running`, `paused`, `partial`, `interrupted`, `done`, `cancelled`.
    pub status: String,
    /// The command line that asked for it.
    pub command: String,
    /// When it was submitted.
    #[schema(value_type = String, format = DateTime)]
    pub started: Timestamp,
    /// When it ended; null while it has not, or where that is not known.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished: Option<Timestamp>,
    /// Its target specs as they were written.
    pub specs: Vec<String>,
    /// How many targets it has at most.
    pub targets: u64,
    /// `ping`, `tcp` or both.
    pub kinds: Vec<String>,
    /// Names that were written, by the address that they stand for.
    #[schema(value_type = BTreeMap<String, Vec<String>>)]
    pub names: BTreeMap<IpAddr, Vec<String>>,
    /// The budget in packets per second over all agents; null for no limit.
    pub rate: Option<f64>,
    /// The most packets per second to one host; null for no limit.
    pub per_host_rate: Option<f64>,
    /// Its part of the fleet beside other scans.
    pub weight: u32,
    /// What was excluded while it ran.
    pub excluded: Vec<String>,
    /// The version of what holds for it, which rises with every change.
    pub version: u64,
    /// Agents that have not acknowledged that version, and may still do as before until their right ends.
    pub waits_for: Vec<String>,
    /// How far it is in numbers; null where nothing was settled since the coordinator started.
    pub progress: Option<Progress>,
}

impl Scan {
    /// Of what is stored. `None` if the record's plan is none.
    #[must_use]
    pub fn new(record: &ScanRecord, request: &StoredRequest, finished: Option<Timestamp>) -> Option<Self> {
        let plan = Plan::try_from(record.plan.clone()).ok()?;
        let slots = plan.slots();
        let kinds = [("ping", slots.ping()), ("tcp", !slots.ports().is_empty())];
        Some(Self {
            id: record.id.to_string(),
            status: record.status.as_str().to_owned(),
            command: request.command.clone(),
            started: request.started,
            finished,
            specs: request.targets.clone(),
            targets: plan.len(),
            kinds: kinds.into_iter().filter(|(_, is_asked)| *is_asked).map(|(kind, _)| kind.to_owned()).collect(),
            names: request.names.clone(),
            rate: record.rate.map(Rate::as_per_second),
            per_host_rate: record.options.per_host_rate.map(Rate::as_per_second),
            weight: record.weight,
            excluded: Vec::new(),
            version: 1,
            waits_for: Vec::new(),
            progress: None,
        })
    }

    /// Takes in what holds for it, and who has not acknowledged that.
    pub fn holds(&mut self, state: &ControlState, waits_for: &[String]) {
        self.rate = state.rate.map(Rate::as_per_second);
        self.per_host_rate = state.per_host_rate.map(Rate::as_per_second);
        self.weight = state.weight;
        self.version = state.version;
        let range = |(first, last)| if first == last { format!("{first}") } else { format!("{first}-{last}") };
        self.excluded = state.exclude.ranges().map(range).collect();
        waits_for.clone_into(&mut self.waits_for);
        if !self.is_over() {
            let status = if state.intent == Intent::Pause { "paused" } else { "running" };
            status.clone_into(&mut self.status);
        }
    }

    /// Its id, as a key.
    #[must_use]
    pub fn key(&self) -> ScanId {
        self.id.parse().unwrap_or(ScanId::from_bytes([0; 16]))
    }

    /// Whether its end was reached.
    #[must_use]
    pub fn is_over(&self) -> bool {
        !matches!(self.status.as_str(), "running" | "paused")
    }
}

/// How far a scan is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// How many targets it has; at most, while `undiscovered` is not 0.
    pub targets: u64,
    /// How many of these are ports of hosts of which nothing is known yet: they are none if the hosts are down.
    pub undiscovered: u64,
    /// How many have an outcome, `not-probed` included.
    pub settled: u64,
    /// How many are in each state.
    pub states: BTreeMap<String, u64>,
    /// How many were not probed, by cause.
    pub not_probed: BTreeMap<String, u64>,
    /// How many states rest on a single try.
    pub single_try: u64,
    /// The measured share of tries that is lost, 0 to 1; null where nothing could be measured.
    pub estimated_loss: Option<f64>,
}

impl Progress {
    /// Of what is known.
    #[must_use]
    pub fn new(known: &Known, estimated_loss: Option<f64>) -> Self {
        let (mut states, mut not_probed) = (BTreeMap::new(), BTreeMap::new());
        for (outcome, count) in known.counts() {
            let (counts, name) = match outcome.cause() {
                Some(cause) => (&mut not_probed, cause.as_str()),
                None => (&mut states, outcome.state().as_str()),
            };
            *counts.entry(name.to_owned()).or_default() += count;
        }
        Self {
            targets: known.targets,
            undiscovered: known.undiscovered,
            settled: known.settled(),
            states,
            not_probed,
            single_try: known.single_try(),
            estimated_loss,
        }
    }
}

/// An open port or a live host, or what shows that a host is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// The address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// The TCP port; absent for a host that answered ping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `open` or `up`.
    pub state: String,
    /// Why.
    pub reason: String,
    /// The round-trip time in microseconds; 0 for a sign of life.
    pub rtt_us: u32,
    /// True where nothing was found but that the host is there: by a refused port, say.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sign: bool,
    /// From where it was seen, where several vantages each probe everything; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vantage: Option<String>,
}

impl Finding {
    /// Of what was found, from which vantage.
    #[must_use]
    pub fn new(found: &Found, vantage: Option<&str>) -> Self {
        let port = match found.target.slot {
            Slot::Ping => None,
            Slot::Tcp(port) => Some(port),
        };
        Self {
            address: found.target.address,
            port,
            state: found.outcome.state().as_str().to_owned(),
            reason: found.outcome.why().to_owned(),
            rtt_us: found.rtt_us,
            sign: false,
            vantage: vantage.map(str::to_owned),
        }
    }

    /// Of a host that showed life by something else than a finding.
    #[must_use]
    pub fn of_sign(sign: &Sign, vantage: Option<&str>) -> Self {
        let (state, reason) = (State::Up.as_str().to_owned(), sign.outcome.why().to_owned());
        let vantage = vantage.map(str::to_owned);
        Self { address: sign.address, port: None, state, reason, rtt_us: 0, sign: true, vantage }
    }

    /// The sign of life that it is; `None` where it is none, or says what cannot be.
    #[must_use]
    pub fn sign(&self) -> Option<Sign> {
        let outcome = [Outcome::CLOSED, Outcome::UP, Outcome::OPEN].into_iter().find(|it| it.why() == self.reason);
        outcome.filter(|_| self.sign).map(|outcome| Sign { address: self.address, outcome })
    }

    /// What was found; `None` where this says what cannot be.
    #[must_use]
    pub fn found(&self) -> Option<Found> {
        if self.sign {
            return None;
        }
        let reasons = [Reason::SynAck, Reason::EchoReply, Reason::ConnRefused];
        let reason = reasons.into_iter().find(|reason| reason.as_str() == self.reason)?;
        let (slot, state) = match self.port {
            Some(port) => (Slot::Tcp(port), State::Open),
            None => (Slot::Ping, State::Up),
        };
        let outcome = Outcome::found(state, reason).filter(|_| state.as_str() == self.state)?;
        Some(Found { target: Target { address: self.address, slot }, outcome, rtt_us: self.rtt_us })
    }
}

/// A scan that was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Submitted {
    /// The scan.
    pub scan: Scan,
    /// Lines for a person: what was left out of the targets.
    pub notices: Vec<String>,
    /// The last event before it: a stream that goes on from there misses nothing of the scan.
    pub event: String,
}

/// A change that was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Changed {
    /// Whether every agent that may probe does as it says.
    pub in_force: bool,
    /// Those that may still do as before: until they acknowledge it, or their right ends.
    pub waits_for: Vec<String>,
    /// The scan after it.
    pub scan: Scan,
}

/// The scans that a coordinator has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Scans {
    /// Newest first.
    pub scans: Vec<Scan>,
}
