//! A scan that goes on: what is stored of it, read and folded once.

use crate::control::ControlState;
use crate::passes::{History, Loss, Tries, walk};
use crate::progress::Progress;
use crate::stages::Ports;
use crate::store::{CohortRecord, LeaseRecord, ScanRecord, Store, StoreError};
use protocol::covers;
use protocol::id::ScanId;
use protocol::plan::{Plan, SHARD_TARGETS_MAX};
use protocol::probe::{Cause, Outcome};

/// A step in the life of a target of an open cohort: its index, what was known before and after.
pub type Step = (u32, History, History);

/// What a store holds of a scan that goes on.
#[derive(Debug, Clone)]
pub struct Resumed {
    /// The scan.
    pub record: ScanRecord,
    /// What holds for it.
    pub control: ControlState,
    /// Its open cohorts, each with what was found in it.
    pub open: Vec<(CohortRecord, Vec<Step>)>,
    /// How many cohorts were opened in all.
    pub opened: u64,
    /// Closed cohorts with a target that was not probed and may be now, with their last pass.
    pub gaps: Vec<(u64, u8)>,
    /// Its leases, each with what was known before of what it covers.
    pub leases: Vec<(LeaseRecord, Vec<History>)>,
    /// Targets by outcome.
    pub progress: Progress,
    /// The loss that was measured in closed cohorts.
    pub loss: Loss,
}

impl Resumed {
    /// Reads a scan. Takes time with the number of targets that were leased.
    ///
    /// # Errors
    /// If the scan is unknown, the store fails, or what is stored is broken.
    pub fn load<S: Store + ?Sized>(store: &S, scan: ScanId) -> Result<Self, StoreError> {
        let record =
            store.scans()?.into_iter().find(|record| record.id == scan).ok_or(StoreError::UnknownScan(scan))?;
        let plan = Plan::try_from(record.plan.clone())
            .map_err(|error| StoreError::Broken { invariant: "P1", detail: error.to_string() })?;
        let (open, opened) = store.cohorts(scan)?;
        let mut resumed = Self {
            control: store.control(scan)?,
            record,
            open: Vec::new(),
            opened,
            gaps: Vec::new(),
            leases: Vec::new(),
            progress: Progress::of(&plan),
            loss: Loss::default(),
        };
        for number in (0..opened).filter_map(|position| plan.cohort_at(position)) {
            let open = open.iter().find(|record| record.number == number);
            resumed.read_cohort(store, &plan, number, open.copied())?;
        }
        for lease in store.leases(scan)? {
            let known = History::of(store, scan, lease.shard.cohort, lease.shard.lo..lease.shard.hi)?;
            let before = covers::indices(&lease.covers, lease.shard.lo, lease.shard.hi)
                .map(|index| known[(index - lease.shard.lo) as usize])
                .collect();
            resumed.leases.push((lease, before));
        }
        Ok(resumed)
    }

    fn read_cohort<S: Store + ?Sized>(
        &mut self,
        store: &S,
        plan: &Plan,
        number: u64,
        open: Option<CohortRecord>,
    ) -> Result<(), StoreError> {
        let Some(cohort) = plan.cohort(number) else { return Ok(()) };
        let (len, staged) = (cohort.len(), cohort.slots().discover());
        let ports = if open.is_none() { Ports::of_cohort(store, self.record.id, &cohort)? } else { None };
        // In stages, ports of hosts that are not up are nothing that a pass could fill.
        let asked = |index: u32| match &ports {
            Some(ports) if index >= cohort.hosts() => {
                cohort.host_at(index).is_some_and(|rank| ports.get(rank as usize) == Some(&Ports::Asked))
            }
            _ => true,
        };
        let (mut steps, mut gap, mut last_pass, mut tries) = (Vec::new(), false, 1, Tries::default());
        for lo in (0..len).step_by(SHARD_TARGETS_MAX as usize) {
            let indices = lo..len.min(lo + SHARD_TARGETS_MAX);
            let mut known = vec![History::PENDING; indices.len()];
            walk(store, self.record.id, number, indices.clone(), |index, before, after| {
                known[(index - lo) as usize] = after;
                self.progress.count_in(&cohort, index, before, after);
                if after.tries > before.tries {
                    tries.count(before, after.outcome);
                }
                if open.is_some() && (staged || matters(before, after)) {
                    steps.push((index, before, after));
                }
            })?;
            if open.is_none() {
                gap |= indices.zip(known).any(|(index, history)| is_gap(history.outcome) && asked(index));
            }
        }
        if open.is_none() {
            self.loss.add(tries.loss(0, u8::MAX));
        }
        match open {
            Some(record) => self.open.push((record, steps)),
            None if gap => {
                let chunks = store.chunks(self.record.id, number, 0..len)?;
                last_pass = chunks.iter().map(|chunk| chunk.shard.pass).max().unwrap_or(last_pass);
                self.gaps.push((number, last_pass));
            }
            None => {}
        }
        Ok(())
    }
}

/// True for a step that an open cohort must know of: it decides whether the cohort has another pass, and which hosts are alive.
fn matters(before: History, after: History) -> bool {
    before != History::PENDING
        || after.outcome.is_sign_of_life()
        || after.outcome.is_silence()
        || !after.outcome.is_probed()
}

fn is_gap(outcome: Outcome) -> bool {
    outcome.cause().is_some_and(|cause| cause.is_gap() && !matches!(cause, Cause::AgentFailed | Cause::NoDiscovery))
}
