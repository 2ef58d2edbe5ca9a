//! The store in memory: the reference model. It keeps nothing after the process, and refuses what would not fit.

use super::{
    AgentFacts, ChunkRecord, CohortRecord, Commit, Committed, Cut, LeaseOrder, LeaseRecord, Part, ScanRecord,
    ScanStatus, Shard, Store, StoreError, TellTally,
};
use crate::control::ControlState;
use crate::tally::{self, CLOSING_TARGETS_MAX, Packed};
use protocol::id::{Epoch, ScanId};
use protocol::plan::Plan;
use std::collections::BTreeMap;
use std::ops::Range;

/// The largest scan it takes: half a byte a target makes 50 MB.
pub const TARGETS_MAX: u64 = 100_000_000;

/// Scans in memory. Cloning copies all: what the simulation does to remember what was durable at a crash.
#[derive(Clone, Default)]
pub struct MemoryStore {
    scans: BTreeMap<ScanId, Stored>,
    last_epoch: u64,
}

#[derive(Clone)]
struct Stored {
    record: ScanRecord,
    control: Option<ControlState>,
    plan: Plan,
    open: BTreeMap<u64, CohortRecord>,
    opened: u64,
    leases: BTreeMap<Epoch, LeaseRecord>,
    chunks: BTreeMap<Shard, ChunkRecord>,
    taken: BTreeMap<Epoch, ()>,
    agents: Vec<AgentFacts>,
    /// Of closed cohorts.
    tallies: BTreeMap<u64, Packed>,
}

impl MemoryStore {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn stored(&self, scan: ScanId) -> Result<&Stored, StoreError> {
        self.scans.get(&scan).ok_or(StoreError::UnknownScan(scan))
    }

    fn stored_mut(&mut self, scan: ScanId) -> Result<&mut Stored, StoreError> {
        self.scans.get_mut(&scan).ok_or(StoreError::UnknownScan(scan))
    }
}

impl Stored {
    /// What a cut covers, and how many rights ended on it. Takes from the frontier or from the returned lease.
    fn take(&mut self, cut: &Cut) -> Result<(Shard, Vec<u8>, u8), StoreError> {
        let conflict = || StoreError::Conflict(cut.clone());
        match cut {
            Cut::Returned(epoch) => match self.leases.get(epoch) {
                Some(lease) if lease.holder.is_none() => {
                    let taken = (lease.shard, lease.covers.clone(), lease.ends);
                    self.leases.remove(epoch);
                    Ok(taken)
                }
                _ => Err(conflict()),
            },
            Cut::Frontier { shard, covers } => {
                let opens = !self.open.contains_key(&shard.cohort);
                if opens {
                    let ahead = self.plan.ahead(self.opened, shard.cohort).ok_or_else(conflict)?;
                    for number in (self.opened..=ahead).filter_map(|position| self.plan.cohort_at(position)) {
                        self.open.insert(number, CohortRecord { number, pass: 1, frontier: 0 });
                    }
                    self.opened = ahead + 1;
                }
                let len = match shard.pass {
                    1 => self.plan.first_pass_len(shard.cohort),
                    _ => self.plan.cohort_len(shard.cohort),
                };
                let len = len.ok_or_else(conflict)?;
                let fits = shard.lo < shard.hi && shard.hi <= len && protocol::covers::fits(covers, shard.lo, shard.hi);
                let new = CohortRecord { number: shard.cohort, pass: 1, frontier: 0 };
                let record = self.open.entry(shard.cohort).or_insert(new);
                let follows = if record.pass == 1 { shard.lo == record.frontier } else { shard.lo >= record.frontier };
                if !fits || !follows || record.pass != shard.pass {
                    return Err(conflict());
                }
                record.frontier = shard.hi;
                Ok((*shard, covers.clone(), 0))
            }
        }
    }

    /// That a cohort may go on to its next pass, or be closed.
    fn check_through(&self, cohort: u64) -> Result<(), StoreError> {
        let broken = |detail: String| Err(StoreError::Broken { invariant: "I4", detail });
        if self.leases.values().any(|lease| lease.shard.cohort == cohort) {
            return broken(format!("cohort {cohort} has leases"));
        }
        match self.open.get(&cohort) {
            Some(record) if record.pass == 1 && Some(record.frontier) != self.plan.first_pass_len(cohort) => {
                broken(format!("cohort {cohort} is not through"))
            }
            Some(_) => Ok(()),
            None if (0..self.opened).any(|position| self.plan.cohort_at(position) == Some(cohort)) => Ok(()),
            None => broken(format!("cohort {cohort} was never opened")),
        }
    }

    fn agent(&mut self, facts: &AgentFacts) -> u32 {
        let at = self.agents.iter().position(|known| known == facts).unwrap_or_else(|| {
            self.agents.push(facts.clone());
            self.agents.len() - 1
        });
        u32::try_from(at).unwrap_or(u32::MAX)
    }
}

impl Store for MemoryStore {
    fn create_scan(&mut self, scan: &ScanRecord) -> Result<(), StoreError> {
        if let Some(known) = self.scans.get(&scan.id) {
            let same = known.record.plan == scan.plan && known.record.request == scan.request;
            return if same { Ok(()) } else { Err(StoreError::ScanExists(scan.id)) };
        }
        let refuse = |source| StoreError::Medium { action: "keep a scan in memory", source };
        let plan = Plan::try_from(scan.plan.clone()).map_err(|error| refuse(error.into()))?;
        if plan.len() > TARGETS_MAX {
            return Err(refuse(
                format!("{} targets are more than the {TARGETS_MAX} that are kept in memory", plan.len()).into(),
            ));
        }
        let stored = Stored {
            record: scan.clone(),
            control: None,
            plan,
            open: BTreeMap::new(),
            opened: 0,
            leases: BTreeMap::new(),
            chunks: BTreeMap::new(),
            taken: BTreeMap::new(),
            agents: Vec::new(),
            tallies: BTreeMap::new(),
        };
        self.scans.insert(scan.id, stored);
        Ok(())
    }

    fn scans(&self) -> Result<Vec<ScanRecord>, StoreError> {
        Ok(self.scans.values().map(|stored| stored.record.clone()).collect())
    }

    fn remove_scan(&mut self, scan: ScanId, rights_ended: bool) -> Result<bool, StoreError> {
        let held = |stored: &Stored| stored.leases.values().any(|lease| lease.holder.is_some());
        if !rights_ended && self.scans.get(&scan).is_some_and(held) {
            return Ok(false);
        }
        self.scans.remove(&scan);
        Ok(true)
    }

    fn set_status(&mut self, scan: ScanId, status: ScanStatus) -> Result<(), StoreError> {
        self.stored_mut(scan)?.record.status = status;
        Ok(())
    }

    fn set_control(&mut self, scan: ScanId, control: &ControlState) -> Result<(), StoreError> {
        let kept = &mut self.stored_mut(scan)?.control;
        if kept.as_ref().is_none_or(|kept| kept.version < control.version) {
            *kept = Some(control.clone());
        }
        Ok(())
    }

    fn control(&self, scan: ScanId) -> Result<ControlState, StoreError> {
        let stored = self.stored(scan)?;
        Ok(stored.control.clone().unwrap_or_else(|| stored.record.initial_control()))
    }

    fn lease(&mut self, order: &LeaseOrder) -> Result<Vec<Epoch>, StoreError> {
        let first = self.last_epoch + 1;
        // All or none: tried on a copy of what it touches, and kept only if every cut was right.
        let stored = self.stored_mut(order.scan)?;
        let (open, opened, leases) = (stored.open.clone(), stored.opened, stored.leases.clone());
        let agent = stored.agent(&order.agent);
        let mut epochs = Vec::with_capacity(order.cuts.len());
        for (cut, number) in order.cuts.iter().zip(first..) {
            match stored.take(cut) {
                Ok((shard, covers, ends)) => {
                    let epoch = Epoch::new(number);
                    stored
                        .leases
                        .insert(epoch, LeaseRecord { epoch, shard, covers, holder: Some(order.holder), agent, ends });
                    epochs.push(epoch);
                }
                Err(error) => {
                    (stored.open, stored.opened, stored.leases) = (open, opened, leases);
                    return Err(error);
                }
            }
        }
        self.last_epoch += order.cuts.len() as u64;
        Ok(epochs)
    }

    fn release(&mut self, scan: ScanId, epochs: &[Epoch], ended: bool) -> Result<(), StoreError> {
        let stored = self.stored_mut(scan)?;
        for epoch in epochs {
            if let Some(lease) = stored.leases.get_mut(epoch).filter(|lease| lease.holder.is_some()) {
                lease.holder = None;
                lease.ends = lease.ends.saturating_add(u8::from(ended));
            }
        }
        Ok(())
    }

    fn split(&mut self, scan: ScanId, epoch: Epoch, parts: &[Part]) -> Result<Vec<Epoch>, StoreError> {
        let first = self.last_epoch + 1;
        let stored = self.stored_mut(scan)?;
        let whole = stored.leases.get(&epoch).filter(|lease| lease.holder.is_none());
        let whole = whole.filter(|lease| parts.iter().all(|part| lease.shard.has(&part.shard)));
        let Some(agent) = whole.map(|lease| lease.agent) else { return Err(StoreError::Apart(epoch)) };
        stored.leases.remove(&epoch);
        let mut epochs = Vec::with_capacity(parts.len());
        for (part, number) in parts.iter().zip(first..) {
            let Part { shard, covers, ends } = part.clone();
            let epoch = Epoch::new(number);
            stored.leases.insert(epoch, LeaseRecord { epoch, shard, covers, holder: None, agent, ends });
            epochs.push(epoch);
        }
        self.last_epoch += parts.len() as u64;
        Ok(epochs)
    }

    fn commit(&mut self, commit: &Commit) -> Result<Committed, StoreError> {
        let stored = self.stored_mut(commit.scan)?;
        let Some(lease) = stored.leases.remove(&commit.epoch) else {
            let known = stored.taken.contains_key(&commit.epoch);
            return Ok(if known { Committed::Duplicate } else { Committed::Fenced });
        };
        stored.taken.insert(commit.epoch, ());
        let record = ChunkRecord {
            epoch: commit.epoch,
            shard: lease.shard,
            covers: lease.covers,
            agent: lease.agent,
            chunk: commit.chunk.clone(),
            findings: commit.findings.clone(),
        };
        stored.chunks.insert(lease.shard, record);
        Ok(Committed::Applied)
    }

    fn begin_pass(&mut self, scan: ScanId, cohort: u64, pass: u8) -> Result<(), StoreError> {
        let stored = self.stored_mut(scan)?;
        if stored.open.get(&cohort).is_some_and(|record| record.pass >= pass) {
            return Ok(());
        }
        stored.check_through(cohort)?;
        stored.tallies.remove(&cohort);
        stored.open.insert(cohort, CohortRecord { number: cohort, pass, frontier: 0 });
        Ok(())
    }

    fn close_cohort(&mut self, scan: ScanId, cohort: u64) -> Result<(), StoreError> {
        let stored = self.stored(scan)?;
        stored.check_through(cohort)?;
        let shape = stored.plan.cohort(cohort).filter(|cohort| cohort.len() <= CLOSING_TARGETS_MAX);
        // Without one where a chunk is not what its lease covered: the audit is to see it.
        let tally = shape.and_then(|cohort| tally::of(self, scan, &cohort).ok());
        let stored = self.stored_mut(scan)?;
        stored.open.remove(&cohort);
        stored.tallies.extend(tally.map(|tally| (cohort, tally)));
        Ok(())
    }

    fn cohorts(&self, scan: ScanId) -> Result<(Vec<CohortRecord>, u64), StoreError> {
        let stored = self.stored(scan)?;
        Ok((stored.open.values().copied().collect(), stored.opened))
    }

    fn leases(&self, scan: ScanId) -> Result<Vec<LeaseRecord>, StoreError> {
        Ok(self.stored(scan)?.leases.values().cloned().collect())
    }

    fn chunks(&self, scan: ScanId, cohort: u64, indices: Range<u32>) -> Result<Vec<ChunkRecord>, StoreError> {
        let from = Shard { cohort, pass: 0, lo: 0, hi: 0 };
        let to = Shard { cohort: cohort.saturating_add(1), ..from };
        let meets = |shard: &Shard| shard.lo < indices.end && indices.start < shard.hi;
        let chunks = self.stored(scan)?.chunks.range(from..to).filter(|(shard, _)| meets(shard));
        Ok(chunks.map(|(_, chunk)| chunk.clone()).collect())
    }

    fn is_taken(&self, scan: ScanId, epoch: Epoch) -> Result<bool, StoreError> {
        Ok(self.stored(scan)?.taken.contains_key(&epoch))
    }

    fn tallies(
        &self,
        scan: ScanId,
        numbers: Range<u64>,
        part: tally::Part,
        tell: TellTally<'_>,
    ) -> Result<(), StoreError> {
        let kept = &self.stored(scan)?.tallies;
        let of = numbers.start..numbers.end.max(numbers.start);
        kept.range(of).try_for_each(|(number, tally)| tell(*number, tally.part(part)))
    }

    fn keep_tally(&mut self, scan: ScanId, cohort: u64, reports: u64, tally: &Packed) -> Result<(), StoreError> {
        let is_so = self.reports(scan, cohort)? == reports;
        let stored = self.stored_mut(scan)?;
        if is_so && stored.check_through(cohort).is_ok() && !stored.open.contains_key(&cohort) {
            stored.tallies.entry(cohort).or_insert_with(|| tally.clone());
        }
        Ok(())
    }

    fn reports(&self, scan: ScanId, cohort: u64) -> Result<u64, StoreError> {
        let from = Shard { cohort, pass: 0, lo: 0, hi: 0 };
        let to = Shard { cohort: cohort.saturating_add(1), ..from };
        Ok(self.stored(scan)?.chunks.range(from..to).count() as u64)
    }

    fn agents(&self, scan: ScanId) -> Result<Vec<AgentFacts>, StoreError> {
        Ok(self.stored(scan)?.agents.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use super::super::conformance::{self, example};
    use protocol::probe::Outcome;

    #[test]
    fn it_conforms() {
        conformance::check(&mut || Box::new(MemoryStore::new()));
    }

    #[test]
    fn the_audit_finds_a_tally_that_is_not_of_its_cohort() {
        let mut store = MemoryStore::new();
        store.create_scan(&example()).unwrap();
        let scan = example().id;
        let other = tally::of(&store, scan, &store.scans[&scan].plan.cohort(0).unwrap()).unwrap();
        let broken = |store: &MemoryStore| match store.audit(scan) {
            Err(StoreError::Broken { invariant, .. }) => Some(invariant),
            _ => None,
        };
        conformance::settle(&mut store, 0, &[Outcome::FILTERED; 10]);
        store.audit(scan).unwrap();
        let right = store.stored_mut(scan).unwrap().tallies.remove(&0).unwrap();
        store.audit(scan).expect("a database of before has none");
        store.keep_tally(scan, 0, 2, &other).unwrap();
        store.audit(scan).expect("it was of other reports, so none is kept");
        store.keep_tally(scan, 0, 1, &other).unwrap();
        assert_eq!(broken(&store), Some("I7"));
        store.stored_mut(scan).unwrap().tallies.clear();
        store.keep_tally(scan, 0, 1, &right).unwrap();
        store.audit(scan).unwrap();
        store.stored_mut(scan).unwrap().open.insert(0, CohortRecord { number: 0, pass: 2, frontier: 0 });
        assert_eq!(broken(&store), Some("I7"), "it is open");
    }
}
