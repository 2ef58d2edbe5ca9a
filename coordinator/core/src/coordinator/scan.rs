//! A running scan in the coordinator's memory: its open cohorts and how far each is.

use crate::cutting::{OpenCohort, Piece, Problem, cut};
use crate::progress::Progress;
use crate::store::{AgentFacts, CohortRecord, Cut, LeaseRecord, ScanRecord, ScanStatus, Shard};
use protocol::id::{Epoch, InstanceId};
use protocol::message::ProbeOptions;
use protocol::plan::{Cohort, Plan};
use protocol::probe::Outcome;
use protocol::rate::Rate;
use protocol::time::Time;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a store holds of a scan that goes on.
#[derive(Debug, Clone)]
pub struct Resumed {
    /// The scan.
    pub record: ScanRecord,
    /// Its open cohorts.
    pub open: Vec<CohortRecord>,
    /// How many cohorts were opened in all.
    pub opened: u64,
    /// Its leases.
    pub leases: Vec<LeaseRecord>,
    /// Every outcome that was committed.
    pub progress: Vec<Outcome>,
    /// Its agents.
    pub agents: Vec<AgentFacts>,
}

pub(super) struct Scan {
    pub(super) plan: Plan,
    pub(super) options: ProbeOptions,
    /// The budget over all agents.
    pub(super) rate: Option<Rate>,
    pub(super) progress: Progress,
    pub(super) finishing: bool,
    open: BTreeMap<u64, Open>,
    opened: u64,
    closed: u64,
    stop_at: Option<Time>,
}

struct Open {
    cohort: Arc<Cohort>,
    pass: u8,
    /// Everything below was leased, or is on its way to the store as a lease.
    frontier: u32,
    /// How many shards were leased, or are on their way to be, and not settled.
    leased: usize,
    owner: Option<InstanceId>,
    closing: bool,
}

impl Scan {
    /// A new scan. `None` if the record's plan is none.
    pub(super) fn new(record: &ScanRecord) -> Option<Self> {
        let plan = Plan::try_from(record.plan.clone()).ok()?;
        let progress = Progress::new(plan.len());
        Some(Self {
            plan,
            options: record.options,
            rate: record.rate,
            progress,
            finishing: false,
            open: BTreeMap::new(),
            opened: 0,
            closed: 0,
            stop_at: None,
        })
    }

    /// A scan that goes on where a store left it. `None` if what is stored does not fit together.
    pub(super) fn resume(resumed: &Resumed) -> Option<Self> {
        let mut scan = Self::new(&resumed.record)?;
        scan.progress.add(&resumed.progress);
        scan.opened = resumed.opened;
        scan.closed = resumed.opened.checked_sub(resumed.open.len() as u64)?;
        for record in &resumed.open {
            let cohort = Arc::new(scan.plan.cohort(record.number)?);
            let leased = resumed.leases.iter().filter(|lease| lease.shard.cohort == record.number).count();
            let open =
                Open { cohort, pass: record.pass, frontier: record.frontier, leased, owner: None, closing: false };
            scan.open.insert(record.number, open);
        }
        Some(scan)
    }

    pub(super) fn is_through(&self) -> bool {
        self.closed == self.plan.cohorts()
    }

    /// When it ends at the latest, once it was stopped.
    pub(super) fn stops_at(&self) -> Option<Time> {
        self.stop_at.filter(|_| !self.finishing)
    }

    /// Stops it; false if it was stopped already.
    pub(super) fn stop(&mut self, at: Time) -> bool {
        let first = self.stop_at.is_none() && !self.finishing;
        if first {
            self.stop_at = Some(at);
        }
        first
    }

    pub(super) fn final_status(&self) -> ScanStatus {
        match (self.is_through(), self.stop_at.is_some(), self.progress.has_gap()) {
            (true, _, false) => ScanStatus::Done,
            (_, true, _) => ScanStatus::Interrupted,
            (_, false, _) => ScanStatus::Partial,
        }
    }

    pub(super) fn cohort(&self, number: u64) -> Option<&Arc<Cohort>> {
        self.open.get(&number).map(|open| &open.cohort)
    }

    /// Cuts work for a claimant, and takes it: what is cut is not cut again.
    pub(super) fn cut(
        &mut self,
        claimant: InstanceId,
        targets: u64,
        each: u32,
        pieces_max: usize,
        returned: &[(Epoch, Shard)],
    ) -> Vec<Piece> {
        if self.stop_at.is_some() {
            return Vec::new();
        }
        let open: Vec<_> = self.open.iter().map(|(&number, open)| open.seen_as(number)).collect();
        let problem = Problem { claimant, targets, each, pieces_max, open: &open, returned };
        let (plan, opened) = (&self.plan, &mut self.opened);
        let mut new = Vec::new();
        let pieces = cut(&problem, || {
            let number = plan.cohort_at(*opened)?;
            let cohort = Arc::new(plan.cohort(number)?);
            *opened += 1;
            let len = cohort.len();
            new.push((number, Open { cohort, pass: 1, frontier: 0, leased: 0, owner: None, closing: false }));
            Some((number, len))
        });
        self.open.extend(new);
        for piece in &pieces {
            if let Some(open) = self.open.get_mut(&piece.shard.cohort) {
                if matches!(piece.cut, Cut::Frontier(_)) {
                    open.frontier = piece.shard.hi;
                    open.leased += 1;
                }
                open.owner.get_or_insert(claimant);
            }
        }
        pieces
    }

    /// A lease of it was settled.
    pub(super) fn unleased(&mut self, shard: Shard) {
        if let Some(open) = self.open.get_mut(&shard.cohort) {
            debug_assert!(open.leased > 0, "a shard of cohort {} was settled twice", shard.cohort);
            open.leased = open.leased.saturating_sub(1);
        }
    }

    /// An agent works on nothing of it any more.
    pub(super) fn disown(&mut self, instance: InstanceId) {
        for open in self.open.values_mut().filter(|open| open.owner == Some(instance)) {
            open.owner = None;
        }
    }

    /// The cohorts that are through and not yet being closed. Marks them.
    pub(super) fn take_through(&mut self) -> Vec<u64> {
        let through = |open: &Open| !open.closing && open.leased == 0 && open.frontier == open.cohort.len();
        let mut numbers = Vec::new();
        for (&number, open) in self.open.iter_mut().filter(|(_, open)| through(open)) {
            open.closing = true;
            numbers.push(number);
        }
        numbers
    }

    pub(super) fn cohort_closed(&mut self, number: u64) {
        if self.open.remove(&number).is_some() {
            self.closed += 1;
        }
    }
}

impl Open {
    fn seen_as(&self, number: u64) -> OpenCohort {
        OpenCohort { number, pass: self.pass, len: self.cohort.len(), frontier: self.frontier, owner: self.owner }
    }
}
