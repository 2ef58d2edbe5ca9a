//! A running scan in the coordinator's memory: its open cohorts and how far each is.

use super::Sign;
use super::ledger::Ledger;
use super::open::{Leased, Need, Open};
use super::reach::{Reach, is_from};
use super::serve::Turn;
use crate::control::{ControlState, Intent};
use crate::cutting::{self, Problem, Returned, cut};
use crate::passes::{History, Loss, Policy};
use crate::progress::Progress;
use crate::resume::Resumed;
use crate::store::{Cut, ScanRecord, ScanStatus, Shard};
use protocol::id::{Epoch, InstanceId};
use protocol::message::{Checks, ProbeOptions};
use protocol::plan::{Cohort, Plan};
use protocol::probe::Outcome;
use protocol::range_set::AddressSet;
use protocol::time::Time;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

pub(super) struct Scan {
    pub(super) plan: Plan,
    pub(super) options: ProbeOptions,
    /// What holds for it, and is durable; and with the changes that are on their way to the store.
    pub(super) control: ControlState,
    pub(super) wanted: ControlState,
    /// Who was told what of that.
    pub(super) ledger: Ledger,
    /// Whether the store has it: nobody is told of it before.
    pub(super) created: bool,
    /// The version of what was told to those who follow it, and for whom it waited.
    pub(super) announced: (u64, Vec<String>),
    /// Where it stands among the scans.
    pub(super) turn: Turn,
    /// How long what nobody present may probe is waited for, and since when: when this process took it up.
    pub(super) agent_wait: Duration,
    pub(super) started_at: Option<Time>,
    /// Since when there is nobody who may probe anything of it, and whether it was waited long enough for one.
    pub(super) alone_since: Option<Time>,
    pub(super) given_up: bool,
    /// What it covers.
    pub(super) addresses: AddressSet,
    pub(super) progress: Progress,
    pub(super) finishing: bool,
    tries: Option<u8>,
    loss: Loss,
    /// What agents measured beside their tries.
    checks: Checks,
    open: BTreeMap<u64, Open>,
    opened: u64,
    closed: u64,
    stop_at: Option<Time>,
}

/// How many cohorts are opened and left to others at most, before an agent waits for these.
const UNTOUCHED_MAX: usize = 256;

/// What was cut for an agent: how the store is to lease it, and what it covers. A returned lease's cover is known by its epoch.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) cut: Cut,
    pub(super) leased: Option<Leased>,
}

impl Scan {
    /// A new scan, which waits so long for agents unless its record says. `None` if the record's plan is none.
    pub(super) fn new(record: &ScanRecord, agent_wait: Duration) -> Option<Self> {
        let plan = Plan::try_from(record.plan.clone()).ok()?;
        let progress = Progress::of(&plan);
        Some(Self {
            addresses: plan.addresses().to_set(),
            plan,
            options: record.options,
            control: record.initial_control(),
            wanted: record.initial_control(),
            ledger: Ledger::default(),
            created: false,
            announced: (1, Vec::new()),
            turn: Turn::default(),
            agent_wait: record.agent_wait_s.map_or(agent_wait, |seconds| Duration::from_secs(seconds.into())),
            started_at: None,
            alone_since: None,
            given_up: false,
            progress,
            finishing: false,
            tries: record.tries,
            loss: Loss::default(),
            checks: Checks::default(),
            open: BTreeMap::new(),
            opened: 0,
            closed: 0,
            stop_at: None,
        })
    }

    /// A scan that goes on where a store left it. `None` if what is stored does not fit together.
    pub(super) fn resume(resumed: &Resumed, agent_wait: Duration) -> Option<Self> {
        let mut scan = Self::new(&resumed.record, agent_wait)?;
        (scan.control, scan.wanted, scan.created) = (resumed.control.clone(), resumed.control.clone(), true);
        (scan.progress, scan.loss, scan.opened) = (resumed.progress.clone(), resumed.loss, resumed.opened);
        for (record, steps) in &resumed.open {
            let cohort = Arc::new(scan.plan.cohort(record.number)?);
            let leased = resumed.leases.iter().filter(|(lease, _)| lease.shard.cohort == record.number).count();
            let mut open = Open::resumed(cohort, record.pass, record.frontier, leased);
            for &(index, before, after) in steps {
                open.found(index, before, after, after.outcome);
                if after.rtt_us.is_some() {
                    open.keeps(index);
                }
            }
            scan.open.insert(record.number, open);
        }
        for &(number, pass) in &resumed.gaps {
            let cohort = Arc::new(scan.plan.cohort(number)?);
            scan.open.insert(number, Open::reopened(cohort, pass));
        }
        scan.closed = scan.opened.checked_sub(scan.open.len() as u64)?;
        Some(scan)
    }

    /// The version of what agents are told: of its control state, and whether it is being stopped.
    pub(super) fn version(&self) -> (u64, bool) {
        (self.control.version, self.stop_at.is_some())
    }

    /// Whether anything of it may be leased.
    pub(super) fn goes_on(&self) -> bool {
        self.stop_at.is_none() && !self.given_up && self.control.intent == Intent::Go
    }

    pub(super) fn is_through(&self) -> bool {
        self.closed == self.plan.cohorts()
    }

    /// When it ends at the latest, once it was stopped.
    pub(super) fn stops_at(&self) -> Option<Time> {
        self.stop_at.filter(|_| !self.finishing)
    }

    /// When it is to be looked at again. Once its time to stop is up it waits for the store alone, whose answer is looked at anyway.
    pub(super) fn wakes_at(&self, looked_at: Time) -> Option<Time> {
        let rests = self.open.values().filter_map(Open::rests_until).min().filter(|_| self.stop_at.is_none());
        rests.into_iter().chain(self.stops_at().filter(|&at| at > looked_at)).min()
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
            _ if self.control.intent == Intent::Cancel => ScanStatus::Cancelled,
            (true, _, false) => ScanStatus::Done,
            (_, true, _) => ScanStatus::Interrupted,
            (_, false, _) => ScanStatus::Partial,
        }
    }

    /// The measured loss, 0 to 1.
    pub(super) fn loss(&self) -> Option<f64> {
        // Before a second pass is through, what agents measure beside their tries.
        self.loss.estimate().or_else(|| Loss::default().with_checks(self.checks).estimate())
    }

    /// How many probes the agent that reported last may have in flight.
    pub(super) fn window(&self) -> u32 {
        self.checks.window
    }

    pub(super) fn cohort_with_addresses(&self, number: u64) -> Option<(&Arc<Cohort>, &AddressSet)> {
        self.open.get(&number).map(|open| (&open.cohort, &open.addresses))
    }

    /// What of a cohort an agent of this vantage may probe that allows so much: that, or nothing if it is to be seen from another.
    pub(super) fn allowed<'a>(&self, number: u64, from: &str, allow: &'a AddressSet) -> Cow<'a, AddressSet> {
        if is_from(from, self.plan.vantage_of(number)) { Cow::Borrowed(allow) } else { Cow::Owned(AddressSet::new()) }
    }

    /// Whether an agent of this vantage may probe anything of it that allows so much.
    pub(super) fn is_for(&self, from: &str, allow: &AddressSet) -> bool {
        let vantages = self.plan.vantages();
        let is_seen_from = vantages.is_empty() || vantages.iter().any(|vantage| vantage.as_str() == from);
        is_seen_from && !allow.is_disjoint(&self.addresses)
    }

    /// Whether an agent that allows so much may probe all of it, and nobody has to be of some vantage for that.
    pub(super) fn is_whole_for(&self, allow: &AddressSet) -> bool {
        self.plan.vantages().is_empty() && self.addresses.is_subset(allow)
    }

    /// Whether what a lease covers is for a claimant.
    pub(super) fn may_take(&self, leased: &Leased, reach: &Reach<'_>) -> bool {
        let open = self.open.get(&leased.shard.cohort);
        let vantage = self.plan.vantage_of(leased.shard.cohort);
        open.is_some_and(|open| reach.has_of(vantage, &open.cohort, &open.addresses, leased))
    }

    /// How many targets of this pass of what is open, and of what is not opened yet, were not leased: cohorts that are not open count as
    /// much as one has on the average.
    pub(super) fn unleased(&self) -> u64 {
        let cohorts = self.plan.cohorts();
        let average = self.plan.len().div_ceil(cohorts.max(1));
        let open: u64 = self.open.values().map(Open::unleased_targets).sum();
        open.saturating_add(cohorts.saturating_sub(self.opened).saturating_mul(average))
    }

    /// Cuts work for a claimant, and takes it: what is cut is not cut again.
    pub(super) fn cut(
        &mut self,
        claimant: InstanceId,
        targets: u64,
        each: u32,
        pieces_max: usize,
        returned: Vec<(Epoch, Shard, u32)>,
        reach: Option<&Reach<'_>>,
    ) -> Vec<Work> {
        if !self.goes_on() {
            return Vec::new();
        }
        self.open.values_mut().for_each(|open| open.prepare_for(each));
        let open: Vec<_> = self
            .open
            .iter()
            .filter_map(|(&number, open)| open.seen_as(number, self.plan.vantage_of(number), reach))
            .collect();
        let returned: Vec<_> = returned
            .into_iter()
            .map(|(epoch, shard, covered)| {
                let owner = self.open.get(&shard.cohort).and_then(|open| open.owner);
                Returned { epoch, shard, covered, owner }
            })
            .collect();
        let shares = self.control.per_host_rate.is_none();
        let problem = Problem { claimant, targets, each, pieces_max, open: &open, shares, returned: &returned };
        let (plan, opened) = (&self.plan, &mut self.opened);
        let mut new = Vec::new();
        let mut idle = if reach.is_some() { self.open.values().filter(|open| open.is_untouched()).count() } else { 0 };
        let pieces = cut(&problem, || {
            loop {
                let number = plan.cohort_at(*opened).filter(|_| idle < UNTOUCHED_MAX)?;
                let cohort = Arc::new(plan.cohort(number)?);
                *opened += 1;
                let len = cohort.first_pass_len();
                let open = Open::new(cohort);
                // What is for others stays open for them.
                let fits = reach.is_none_or(|reach| reach.has(plan.vantage_of(number), &open.addresses));
                new.push((number, open));
                if fits {
                    return Some((number, len));
                }
                idle += 1;
            }
        });
        self.open.extend(new);
        let mut work = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let Some(open) = self.open.get_mut(&piece.shard.cohort) else { continue };
            open.owner.get_or_insert(claimant);
            let leased = match piece.from {
                cutting::From::Frontier => Some(open.take_frontier(piece.shard)),
                cutting::From::Prepared => open.take_prepared(),
                cutting::From::Returned(epoch) => {
                    work.push(Work { cut: Cut::Returned(epoch), leased: None });
                    continue;
                }
            };
            if let Some(leased) = leased {
                let cut = Cut::Frontier { shard: leased.shard, covers: leased.covers.to_vec() };
                work.push(Work { cut, leased: Some(leased) });
            }
        }
        work
    }

    /// Whether the time and the agent of what was found at an index are stored: of a host that is open everywhere, only the states are
    /// beyond the first [`OPEN_PORTS_MAX`](crate::host::OPEN_PORTS_MAX).
    pub(super) fn keeps(&mut self, cohort: u64, index: u32) -> bool {
        self.open.get_mut(&cohort).is_none_or(|open| open.keeps(index))
    }

    /// A lease of it was settled, with these outcomes of what it covers. Gives what in it is the first sign of life of its host and no
    /// finding.
    pub(super) fn settled(&mut self, leased: &Leased, outcomes: &[Outcome]) -> Vec<Sign> {
        let mut signs = Vec::new();
        let Some(open) = self.open.get_mut(&leased.shard.cohort) else { return signs };
        open.unleased();
        for ((index, before), &outcome) in leased.targets().zip(outcomes) {
            let now = History { outcome, tries: u8::from(outcome.is_probed()), agent: 0, rtt_us: None };
            let after = before.then(now);
            self.progress.count_in(&open.cohort, index, before, after);
            if open.found(index, before, after, outcome)
                && !outcome.is_finding()
                && let Some(target) = open.cohort.target(index)
            {
                signs.push(Sign { address: target.address, outcome });
            }
        }
        signs
    }

    /// What was one lease of a cohort is now so many.
    pub(super) fn split(&mut self, cohort: u64, parts: usize) {
        if let Some(open) = self.open.get_mut(&cohort) {
            open.split(parts);
        }
    }

    /// An agent works on nothing of it any more.
    pub(super) fn disown(&mut self, instance: InstanceId) {
        for open in self.open.values_mut().filter(|open| open.owner == Some(instance)) {
            open.owner = None;
        }
    }

    /// A report of a cohort came of whose tries none may be made again before.
    pub(super) fn will_rest(&mut self, cohort: u64, until: Time) {
        if let Some(open) = self.open.get_mut(&cohort) {
            open.will_rest(until);
        }
    }

    /// What its cohorts need from the store now, which is then on its way.
    pub(super) fn needs(&mut self, now: Time, rest: Duration, anybody: bool) -> (Vec<(u64, Need)>, bool) {
        if self.stop_at.is_some() {
            return (Vec::new(), false);
        }
        let (open, loss) = (&mut self.open, &mut self.loss);
        let (mut needs, mut rested) = (Vec::new(), false);
        for (&number, open) in open {
            rested |= open.has_rested(now);
            needs.extend(open.need(now, rest, anybody).map(|need| (number, need)));
            if let Some(measured) = open.take_loss() {
                loss.add(measured);
            }
        }
        (needs, rested)
    }

    pub(super) fn pass_began(&mut self, number: u64, pass: u8) {
        if let Some(open) = self.open.get_mut(&number) {
            open.began(pass);
        }
    }

    pub(super) fn surveyed(&mut self, number: u64, indices: Range<u32>, histories: &[History], reach: &AddressSet) {
        let policy = Policy { tries: self.tries, loss: self.loss.with_checks(self.checks), settled_anything: true };
        if let Some(open) = self.open.get_mut(&number) {
            open.surveyed(indices, histories, policy, reach);
        }
    }

    /// Adds what an agent measured. A report that is sent again adds it again: it is a measurement, no count of targets.
    pub(super) fn checked(&mut self, checks: Checks) {
        self.checks.answered = self.checks.answered.saturating_add(checks.answered);
        self.checks.lost = self.checks.lost.saturating_add(checks.lost);
        self.checks.window = checks.window;
    }

    pub(super) fn cohort_closed(&mut self, number: u64) {
        if self.open.remove(&number).is_some() {
            self.closed += 1;
        }
    }
}
