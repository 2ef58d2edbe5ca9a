//! What must survive a crash, and the trait of those who keep it.
//!
//! There is no row for a target and none for a shard that was not leased: a cohort has a frontier below which everything was
//! leased once, and what is leased has a row until its report is taken.
//!
//! Invariants, proved by [`Store::audit`] on what is stored:
//! - I1: epochs rise: no two leases of a store ever had the same.
//! - I2: a report is taken at most once, and only while its epoch is live.
//! - I3: chunks and lease rows of one pass of a cohort are disjoint.
//! - I4: those of the first pass tile `0..frontier`, for a closed cohort or in a later pass all that a first pass covers (`0..len`, or in
//!   stages the pings); those of a later pass lie below its frontier.
//! - I5: every finding lies in exactly one chunk, on a target that the chunk says was found open or up, and every such target has one,
//!   unless its host has [`OPEN_PORTS_MAX`](crate::host::OPEN_PORTS_MAX) others.
//! - I6: in stages, chunks and lease rows cover ports only of hosts that a chunk says are up; of a closed cohort all of those.
//! - I7: only closed cohorts have a tally, and it is what their chunks say: its targets by state are those that are stored.

pub mod conformance;
pub mod memory;

use crate::control::ControlState;
use crate::tally::{self, Packed};
use protocol::id::{Epoch, InstanceId, ScanId};
use protocol::message::{Finding, PingMethod, ProbeOptions};
use protocol::plan::PlanParts;
use protocol::probe::{Cause, Outcome};
use protocol::rate::Rate;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// How far a scan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScanStatus {
    /// Its targets are being probed.
    Running,
    /// Finished, but not everywhere: `resume` may complete it.
    Partial,
    /// Stopped before its end; `resume` goes on.
    Interrupted,
    /// Everything was probed.
    Done,
    /// Ended for good by its owner.
    Cancelled,
}

impl ScanStatus {
    /// The name that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Partial => "partial",
            Self::Interrupted => "interrupted",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }

    /// What becomes of an outcome when a scan ends so: what says no more than that nothing was tried, or not here, gets the end's cause.
    /// A partial scan looked wherever an agent may and can, so what it left is `no-agent`. What is stored stays as it is: `resume` goes on
    /// with it.
    #[must_use]
    pub fn at_end(self, outcome: Outcome) -> Outcome {
        let left = matches!(outcome.cause(), Some(Cause::Pending | Cause::Interrupted | Cause::OutOfScope));
        match self {
            Self::Partial if left => Outcome::not_probed(Cause::NoAgent),
            Self::Cancelled if left => Outcome::not_probed(Cause::Cancelled),
            _ => outcome,
        }
    }
}

/// A scan as it is stored: fixed but for its status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScanRecord {
    /// Its id.
    pub id: ScanId,
    /// What it covers.
    pub plan: PlanParts,
    /// How its probes are made.
    pub options: ProbeOptions,
    /// How often a silent target is tried; `None` while the measured loss says.
    pub tries: Option<u8>,
    /// Its budget over all agents, in packets per second; `None` where only windows and caps limit.
    #[serde(default)]
    pub rate: Option<Rate>,
    /// Its part of the fleet beside other scans, at first: 1 to 1,000.
    #[serde(default = "weight_default")]
    pub weight: u32,
    /// How long what no present agent may or can reach is waited for, in seconds; `None` for as long as its coordinator waits.
    #[serde(default)]
    pub agent_wait_s: Option<u32>,
    /// How far it is.
    pub status: ScanStatus,
    /// What the request was, for reports and `resume`; opaque to the core.
    pub request: String,
}

impl ScanRecord {
    /// What holds for it before anything was changed.
    #[must_use]
    pub fn initial_control(&self) -> ControlState {
        ControlState::initial(self.rate, self.options.per_host_rate, self.weight)
    }
}

/// The weight of a scan of which nobody says otherwise.
pub const WEIGHT: u32 = 1;

fn weight_default() -> u32 {
    WEIGHT
}

/// A cohort that was opened and is not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CohortRecord {
    /// Its number in the plan.
    pub number: u64,
    /// Its pass, from 1.
    pub pass: u8,
    /// Everything below this index was leased in this pass.
    pub frontier: u32,
}

/// A shard: a run of indices in one cohort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shard {
    /// The cohort's number.
    pub cohort: u64,
    /// The pass in which it is probed.
    pub pass: u8,
    /// Its first index.
    pub lo: u32,
    /// The index after its last.
    pub hi: u32,
}

impl Shard {
    /// Whether another lies in it, in the same pass.
    #[must_use]
    pub const fn has(&self, other: &Self) -> bool {
        let same = self.cohort == other.cohort && self.pass == other.pass;
        same && self.lo <= other.lo && other.lo < other.hi && other.hi <= self.hi
    }

    /// How many indices it has.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.hi - self.lo
    }

    /// Never, for a shard that was cut.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.hi <= self.lo
    }
}

/// A lease that was not settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// Its number.
    pub epoch: Epoch,
    /// Where its targets lie.
    pub shard: Shard,
    /// Which of the shard's targets (see [`protocol::covers`]); empty for all.
    pub covers: Vec<u8>,
    /// Who has it; `None` for a returned one: its epoch stays live until it is leased again.
    pub holder: Option<InstanceId>,
    /// The place of the holder, or of the last one, in the scan's list of agents.
    pub agent: u32,
    /// How many rights ended on it.
    pub ends: u8,
}

/// What a new lease covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// From the frontier of a cohort, which moves to the shard's end. A cohort that has no record is opened by it, and with
    /// it all that come before it in the plan's order. In the first pass
    /// the shard begins at the frontier; in a later one not before it, as nothing of what lies between is covered.
    Frontier {
        /// Where the targets lie.
        shard: Shard,
        /// Which of them; empty for all.
        covers: Vec<u8>,
    },
    /// What a returned lease covers: its row goes, and with it its epoch.
    Returned(Epoch),
}

/// A part of what a returned lease covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where its targets lie.
    pub shard: Shard,
    /// Which of them; empty for all.
    pub covers: Vec<u8>,
    /// How many rights ended on it.
    pub ends: u8,
}

/// Who probes: what the result says of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentFacts {
    /// Its name.
    pub name: String,
    /// Where it sees from.
    pub vantage: String,
    /// The version of its software.
    pub software: String,
    /// How it asks for life.
    pub ping_method: PingMethod,
}

/// Leases to be made, all or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseOrder {
    /// The scan.
    pub scan: ScanId,
    /// Who gets them.
    pub holder: InstanceId,
    /// What the result says of the holder.
    pub agent: AgentFacts,
    /// What they cover.
    pub cuts: Vec<Cut>,
}

/// A report to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The scan.
    pub scan: ScanId,
    /// The lease that it settles.
    pub epoch: Epoch,
    /// Its packed outcomes, checked against the lease's shard already.
    pub chunk: Vec<u8>,
    /// Its findings, likewise.
    pub findings: Vec<Finding>,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It was taken, now.
    Applied,
    /// It, or another of the same epoch, was taken before.
    Duplicate,
    /// Its epoch is not live: the shard was leased again.
    Fenced,
}

/// What is stored of a settled lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkRecord {
    /// Its lease's number.
    pub epoch: Epoch,
    /// Where its targets lie.
    pub shard: Shard,
    /// Which of the shard's targets; empty for all.
    pub covers: Vec<u8>,
    /// The place of who saw it in the scan's list of agents.
    pub agent: u32,
    /// The packed outcomes.
    pub chunk: Vec<u8>,
    /// Round-trip times of what was found, in index order.
    pub findings: Vec<Finding>,
}

/// Why a store could not do as it was told. The coordinator stops on it: it never announces what is not durable.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such scan.
    #[error("scan {0} is not in the store")]
    UnknownScan(ScanId),
    /// The scan exists, and is another.
    #[error("scan {0} is in the store already, with another plan")]
    ScanExists(ScanId),
    /// What was to be leased is not what the store has: the machine and its store disagree.
    #[error("the shard to be leased is not at the store's frontier: {0:?}")]
    Conflict(Cut),
    /// What was to be cut in parts is not what the store has: the machine and its store disagree.
    #[error("lease {0} is not one that these parts can be cut from")]
    Apart(Epoch),
    /// The store's medium failed.
    #[error("the store failed to {action}")]
    Medium {
        /// What it was doing, after "failed to".
        action: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What is stored breaks an invariant.
    #[error("the stored scan breaks {invariant}: {detail}")]
    Broken {
        /// Which, as numbered at the head of this module.
        invariant: &'static str,
        /// Where.
        detail: String,
    },
}

/// Takes the number of a cohort and a part of its tally.
pub type TellTally<'a> = &'a mut dyn FnMut(u64, &[u8]) -> Result<(), StoreError>;

/// Keeps scans. Every method is one transaction, durable when it returns, and safe to repeat.
pub trait Store: Send {
    /// Begins a group: what is done until [`commit_group`](Self::commit_group) is one transaction. A method that fails in it undoes what it
    /// did itself, and nothing else. In a store that is only read, a group sees one moment. A store that has nothing to gain by it, as it
    /// keeps nothing beyond its process, does nothing.
    ///
    /// # Errors
    /// If the medium fails.
    fn begin_group(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Ends a group: all that was done in it is durable when this returns, or, if it fails, nothing of it.
    ///
    /// # Errors
    /// If the medium fails.
    fn commit_group(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// The same scans for another thread, to be read only, without holding up this one; `None` where that cannot be.
    ///
    /// # Errors
    /// If the medium fails.
    fn reader(&self) -> Result<Option<Box<dyn Store>>, StoreError> {
        Ok(None)
    }

    /// Keeps a new scan. Repeated with the same record it changes nothing.
    ///
    /// # Errors
    /// [`StoreError::ScanExists`] if another record has its id.
    fn create_scan(&mut self, scan: &ScanRecord) -> Result<(), StoreError>;

    /// All scans, by id.
    ///
    /// # Errors
    /// If the medium fails.
    fn scans(&self) -> Result<Vec<ScanRecord>, StoreError>;

    /// Removes a scan that ended: from then on it is not in the store, and what is left of it goes by [`clean`](Self::clean). False, and it
    /// stays, if a lease of it has a holder, unless all rights that were given before have ended. What is not there is removed already.
    ///
    /// # Errors
    /// If the medium fails.
    fn remove_scan(&mut self, scan: ScanId, rights_ended: bool) -> Result<bool, StoreError>;

    /// Deletes a part of what removed scans left that is deleted soon; false if nothing is left.
    ///
    /// # Errors
    /// If the medium fails.
    fn clean(&mut self) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Sets how far a scan is.
    ///
    /// # Errors
    /// [`StoreError::UnknownScan`].
    fn set_status(&mut self, scan: ScanId, status: ScanStatus) -> Result<(), StoreError>;

    /// Keeps what holds for a scan, unless a newer version is kept.
    ///
    /// # Errors
    /// [`StoreError::UnknownScan`].
    fn set_control(&mut self, scan: ScanId, control: &ControlState) -> Result<(), StoreError>;

    /// What was kept last of what holds for a scan; what holds at first if nothing was.
    ///
    /// # Errors
    /// [`StoreError::UnknownScan`].
    fn control(&self, scan: ScanId) -> Result<ControlState, StoreError>;

    /// Makes leases, all or none, and returns their epochs in the order of the cuts.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if a cut does not begin at its cohort's frontier, or names a lease that has a holder or is no more.
    fn lease(&mut self, order: &LeaseOrder) -> Result<Vec<Epoch>, StoreError>;

    /// Takes the holder from leases. `ended` says that its right ended rather than that it let go. Leases that are no more, or have none, are passed over.
    ///
    /// # Errors
    /// [`StoreError::UnknownScan`].
    fn release(&mut self, scan: ScanId, epochs: &[Epoch], ended: bool) -> Result<(), StoreError>;

    /// Puts parts in the place of a returned lease: its row goes, and with it its epoch; each part is a returned lease with a new one. Together
    /// they cover what it covered. Returns their epochs, in the order of the parts.
    ///
    /// # Errors
    /// [`StoreError::Apart`] if the lease has a holder or is no more, or a part does not lie in it.
    fn split(&mut self, scan: ScanId, epoch: Epoch, parts: &[Part]) -> Result<Vec<Epoch>, StoreError>;

    /// Takes a report if its epoch is live.
    ///
    /// # Errors
    /// [`StoreError::UnknownScan`].
    fn commit(&mut self, commit: &Commit) -> Result<Committed, StoreError>;

    /// Begins a pass of a cohort: its frontier is 0. Opens it again if it was closed. A pass that it has, or had, changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Broken`] if it was never opened, has leases, or its first pass is not through.
    fn begin_pass(&mut self, scan: ScanId, cohort: u64, pass: u8) -> Result<(), StoreError>;

    /// Closes a cohort whose last pass is through, and keeps its tally, unless it has more than
    /// [`CLOSING_TARGETS_MAX`](tally::CLOSING_TARGETS_MAX) targets. Its next pass takes the tally away.
    ///
    /// # Errors
    /// [`StoreError::Broken`] if it has leases, or its first pass is not through.
    fn close_cohort(&mut self, scan: ScanId, cohort: u64) -> Result<(), StoreError>;

    /// The open cohorts of a scan, by number, and how many were opened in all.
    ///
    /// # Errors
    /// [`StoreError::UnknownScan`].
    fn cohorts(&self, scan: ScanId) -> Result<(Vec<CohortRecord>, u64), StoreError>;

    /// The leases of a scan, by epoch.
    ///
    /// # Errors
    /// [`StoreError::UnknownScan`].
    fn leases(&self, scan: ScanId) -> Result<Vec<LeaseRecord>, StoreError>;

    /// The chunks of a cohort whose shards meet `indices`, by pass and first index.
    ///
    /// # Errors
    /// [`StoreError::UnknownScan`].
    fn chunks(&self, scan: ScanId, cohort: u64, indices: Range<u32>) -> Result<Vec<ChunkRecord>, StoreError>;

    /// True if a report of this lease was taken.
    ///
    /// # Errors
    /// [`StoreError::UnknownScan`].
    fn is_taken(&self, scan: ScanId, epoch: Epoch) -> Result<bool, StoreError>;

    /// Tells a part of each tally that is kept of the cohorts `numbers`, by number. A closed cohort may have none: it was too large, or
    /// closed by an earlier version.
    ///
    /// # Errors
    /// [`StoreError::UnknownScan`], and what `tell` gives.
    fn tallies(
        &self,
        scan: ScanId,
        numbers: Range<u64>,
        part: tally::Part,
        tell: TellTally<'_>,
    ) -> Result<(), StoreError>;

    /// Keeps the tally of a closed cohort that has none, if it is closed still and has so many reports ([`reports`](Self::reports)).
    ///
    /// # Errors
    /// [`StoreError::UnknownScan`].
    fn keep_tally(&mut self, scan: ScanId, cohort: u64, reports: u64, tally: &Packed) -> Result<(), StoreError>;

    /// How many reports of a cohort are stored as they came: while it is open, another number says that there are new ones.
    ///
    /// # Errors
    /// [`StoreError::UnknownScan`].
    fn reports(&self, scan: ScanId, cohort: u64) -> Result<u64, StoreError>;

    /// The scan's list of agents.
    ///
    /// # Errors
    /// [`StoreError::UnknownScan`].
    fn agents(&self, scan: ScanId) -> Result<Vec<AgentFacts>, StoreError>;

    /// Proves the invariants on what is stored of a scan.
    ///
    /// # Errors
    /// [`StoreError::Broken`] with the first that does not hold.
    fn audit(&self, scan: ScanId) -> Result<(), StoreError> {
        audit::prove(self, scan)
    }
}

mod audit;

/// A store's work as a value, so that a machine that does no I/O can ask for it.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreRequest {
    /// [`Store::create_scan`]
    CreateScan(ScanRecord),
    /// [`Store::remove_scan`]
    RemoveScan {
        /// The scan.
        scan: ScanId,
        /// Whether all rights of before have ended.
        rights_ended: bool,
    },
    /// [`Store::clean`]
    Clean,
    /// [`Store::set_status`]
    SetStatus(ScanId, ScanStatus),
    /// [`Store::set_control`]
    SetControl(ScanId, Box<ControlState>),
    /// [`Store::lease`]
    Lease(LeaseOrder),
    /// [`Store::release`]
    Release {
        /// The scan.
        scan: ScanId,
        /// The leases.
        epochs: Vec<Epoch>,
        /// Whether the holder's right ended.
        ended: bool,
    },
    /// [`Store::split`]
    Split {
        /// The scan.
        scan: ScanId,
        /// The returned lease.
        epoch: Epoch,
        /// Its parts.
        parts: Vec<Part>,
    },
    /// [`Store::commit`]
    Commit(Commit),
    /// [`Store::begin_pass`]
    BeginPass(ScanId, u64, u8),
    /// [`Store::close_cohort`]
    CloseCohort(ScanId, u64),
    /// What became of the targets of a cohort at `lo..hi` so far: [`History::of`](crate::passes::History::of).
    Survey {
        /// The scan.
        scan: ScanId,
        /// The cohort.
        cohort: u64,
        /// Which.
        indices: Range<u32>,
    },
}

/// What a store answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreReply {
    /// It is done.
    Done,
    /// Whether the scan is removed.
    Removed(bool),
    /// Whether there may be more to delete.
    Cleaned(bool),
    /// The leases' epochs, in the order of the cuts.
    Leased(Vec<Epoch>),
    /// What became of the report.
    Committed(Committed),
    /// What became of the targets, by index.
    Surveyed(Vec<crate::passes::History>),
}

impl StoreRequest {
    /// Has a store carry it out.
    ///
    /// # Errors
    /// As the method that it stands for.
    pub fn carry_out(&self, store: &mut dyn Store) -> Result<StoreReply, StoreError> {
        match self {
            Self::CreateScan(record) => store.create_scan(record).map(|()| StoreReply::Done),
            Self::RemoveScan { scan, rights_ended } => store.remove_scan(*scan, *rights_ended).map(StoreReply::Removed),
            Self::Clean => store.clean().map(StoreReply::Cleaned),
            Self::SetStatus(scan, status) => store.set_status(*scan, *status).map(|()| StoreReply::Done),
            Self::SetControl(scan, control) => store.set_control(*scan, control).map(|()| StoreReply::Done),
            Self::Lease(order) => store.lease(order).map(StoreReply::Leased),
            Self::Release { scan, epochs, ended } => store.release(*scan, epochs, *ended).map(|()| StoreReply::Done),
            Self::Split { scan, epoch, parts } => store.split(*scan, *epoch, parts).map(StoreReply::Leased),
            Self::Commit(commit) => store.commit(commit).map(StoreReply::Committed),
            Self::BeginPass(scan, cohort, pass) => store.begin_pass(*scan, *cohort, *pass).map(|()| StoreReply::Done),
            Self::Survey { scan, cohort, indices } => {
                crate::passes::History::of(store, *scan, *cohort, indices.clone()).map(StoreReply::Surveyed)
            }
            Self::CloseCohort(scan, cohort) => store.close_cohort(*scan, *cohort).map(|()| StoreReply::Done),
        }
    }
}
