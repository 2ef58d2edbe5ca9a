//! What the thread of the maps knows and counts.

use super::Scene;
use crate::store::thread::StoreHandle;
use coordinator_core::maps::Counted;
use coordinator_core::stages::Ports;
use coordinator_core::store::{CohortRecord, Store, StoreError};
use coordinator_core::tally::{self, Counting, Packed, Part, Shape};
use portsweep_agent::queue::{PopError, Reader};
use protocol::id::ScanId;
use protocol::plan::{Cohort, Plan, SHARD_TARGETS_MAX};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Of so many scans it is remembered what was counted; of one more, that of the one that nobody looked at for longest is forgotten.
const SCANS_MAX: usize = 8;
/// So many cohorts of a scan are counted and not kept in the store: as many as may be open, and at most 120 KB each.
const COUNTED_MAX: usize = 1_024;

/// Is carried out on the thread, with the store as it is at one moment.
pub(super) type Question = Box<dyn FnOnce(Result<&dyn Store, StoreError>, &mut Counter) + Send>;

/// What tells one state of a cohort from another: its pass, 0 for a closed one, and how many reports are stored as they came.
type Version = (u8, u64);

/// What is known of the scans that somebody looked at.
#[derive(Default)]
pub(super) struct Counter {
    scans: BTreeMap<ScanId, OfScan>,
    /// How often somebody looked.
    looks: u64,
    /// What is to be counted after answers, each once.
    backlog: VecDeque<(ScanId, u64)>,
    /// Keeps the tallies of closed cohorts.
    writer: Option<StoreHandle>,
}

struct OfScan {
    plan: Plan,
    counted: Counted,
    /// The state of a cohort that was counted.
    versions: BTreeMap<u64, Version>,
    /// What the cohorts were when it was last asked which tallies are kept: how many were opened, and the open ones.
    asked: Option<(u64, Vec<u64>)>,
    /// Closed cohorts that the store has no tally of.
    unkept: BTreeSet<u64>,
    last_look: u64,
}

/// Runs until nobody can ask any more.
pub(super) fn run(mut store: Box<dyn Store>, mut questions: Reader<Question>, writer: StoreHandle) {
    let mut counter = Counter { writer: Some(writer), ..Counter::default() };
    loop {
        let question = match counter.backlog.is_empty() {
            true => questions.next_blocking(),
            false => match questions.try_pop() {
                Ok(question) => Some(question),
                Err(PopError::Empty(_)) => {
                    if let Err(error) = counter.count_next(&mut *store, &mut questions) {
                        tracing::warn!(error = &error as &dyn std::error::Error, "a part of a scan cannot be counted");
                    }
                    continue;
                }
                Err(_) => None,
            },
        };
        let Some(question) = question else { return };
        counter.answer(&mut *store, question);
    }
}

impl Counter {
    fn answer(&mut self, store: &mut dyn Store, question: Question) {
        match store.begin_group() {
            Ok(()) => question(Ok(&*store), self),
            Err(error) => question(Err(error), self),
        }
        // Nothing was written that could be lost.
        let _told_next = store.commit_group();
    }

    /// Looks at a scan, after counting at most so many targets of it.
    pub(super) fn look<T>(
        &mut self,
        store: &dyn Store,
        scan: ScanId,
        at_once_targets: u64,
        read: impl FnOnce(&Scene<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.looks += 1;
        let looks = self.looks;
        self.know(store, scan)?;
        let of_scan = self.scans.get_mut(&scan).ok_or(StoreError::UnknownScan(scan))?;
        of_scan.last_look = looks;
        let (mut left, mut late) = (at_once_targets, Vec::new());
        for (number, version) in of_scan.stale(store, scan)? {
            let (Some(cohort), Some(rest)) =
                (of_scan.plan.cohort(number), left.checked_sub(of_scan.targets(number, version)))
            else {
                late.push(number);
                continue;
            };
            left = rest;
            let tally = tally::of(store, scan, &cohort)?;
            of_scan.keep((scan, number), version, tally, self.writer.as_ref());
        }
        let OfScan { plan, counted, .. } = &*of_scan;
        let answer = read(&Scene { store, scan, plan, counted, waiting: late.len() as u64 });
        let waits: BTreeSet<_> = self.backlog.iter().copied().collect();
        self.backlog.extend(late.into_iter().map(|number| (scan, number)).filter(|next| !waits.contains(next)));
        answer
    }

    /// Reads a scan's plan, unless it is known.
    fn know(&mut self, store: &dyn Store, scan: ScanId) -> Result<(), StoreError> {
        if self.scans.contains_key(&scan) {
            return Ok(());
        }
        let record = crate::serve::record(store, scan)?;
        let plan = Plan::try_from(record.plan)
            .map_err(|error| StoreError::Broken { invariant: "P1", detail: error.to_string() })?;
        if self.scans.len() >= SCANS_MAX
            && let Some(oldest) = self.scans.iter().min_by_key(|(_, known)| known.last_look).map(|(scan, _)| *scan)
        {
            self.scans.remove(&oldest);
            self.backlog.retain(|(scan, _)| *scan != oldest);
        }
        self.scans.insert(scan, OfScan::new(plan));
        Ok(())
    }

    /// Counts one cohort that waits. Between its windows, who asks is answered.
    pub(super) fn count_next(
        &mut self,
        store: &mut dyn Store,
        questions: &mut Reader<Question>,
    ) -> Result<(), StoreError> {
        let Some((scan, number)) = self.backlog.pop_front() else { return Ok(()) };
        let Some(cohort) = self.scans.get(&scan).and_then(|known| known.plan.cohort(number)) else { return Ok(()) };
        let version = version(store, scan, number)?;
        let mut counting = begin(store, scan, &cohort)?;
        while let Some(indices) = counting.window() {
            counting.take(&store.chunks(scan, number, indices)?)?;
            while let Ok(question) = questions.try_pop() {
                self.answer(store, question);
            }
        }
        let tally = counting.finish();
        if let Some(of_scan) = self.scans.get_mut(&scan) {
            of_scan.keep((scan, number), version, tally, self.writer.as_ref());
        }
        Ok(())
    }
}

fn begin<'a>(store: &dyn Store, scan: ScanId, cohort: &'a Cohort) -> Result<Counting<'a>, StoreError> {
    let ports = Ports::of_cohort(store, scan, cohort)?;
    Ok(Counting::new(cohort, Shape::of(cohort.hosts(), cohort.slots()), ports))
}

fn version(store: &dyn Store, scan: ScanId, number: u64) -> Result<Version, StoreError> {
    let (open, _) = store.cohorts(scan)?;
    let pass = open.iter().find(|record| record.number == number).map_or(0, |record| record.pass);
    Ok((pass, store.reports(scan, number)?))
}

impl OfScan {
    fn new(plan: Plan) -> Self {
        Self {
            plan,
            counted: Counted::new(),
            versions: BTreeMap::new(),
            asked: None,
            unkept: BTreeSet::new(),
            last_look: 0,
        }
    }

    /// About how many targets are read to count a cohort.
    fn targets(&self, number: u64, (pass, reports): Version) -> u64 {
        let all = self.plan.cohort_len(number).map_or(0, u64::from);
        if pass == 1 { all.min(reports * u64::from(SHARD_TARGETS_MAX)) } else { all }
    }

    /// Takes in what was counted; of a closed cohort the store is to keep it.
    fn keep(&mut self, (scan, number): (ScanId, u64), version: Version, tally: Packed, writer: Option<&StoreHandle>) {
        if let Some(writer) = writer.filter(|_| version.0 == 0) {
            writer.keep_tally(scan, number, version.1, tally.clone());
        }
        if self.counted.len() < COUNTED_MAX || self.counted.contains_key(&number) {
            self.counted.insert(number, tally);
            self.versions.insert(number, version);
        }
    }

    /// What is to be counted, by number, each with the state that it is in: open cohorts with new reports, closed ones without a tally.
    fn stale(&mut self, store: &dyn Store, scan: ScanId) -> Result<Vec<(u64, Version)>, StoreError> {
        let (open, opened) = store.cohorts(scan)?;
        self.look_for_unkept(store, scan, &open, opened)?;
        let passes: BTreeMap<u64, u8> = open.iter().map(|record| (record.number, record.pass)).collect();
        self.counted.retain(|number, _| passes.contains_key(number) || self.unkept.contains(number));
        self.versions.retain(|number, _| self.counted.contains_key(number));
        let mut stale = Vec::new();
        for (&number, &pass) in &passes {
            let version = (pass, store.reports(scan, number)?);
            if self.versions.get(&number) != Some(&version) {
                stale.push((number, version));
            }
        }
        for &number in self.unkept.iter().filter(|number| !self.counted.contains_key(number)) {
            stale.push((number, (0, store.reports(scan, number)?)));
        }
        stale.truncate(COUNTED_MAX);
        Ok(stale)
    }

    /// Finds out which closed cohorts the store has no tally of, if that may have changed.
    fn look_for_unkept(
        &mut self,
        store: &dyn Store,
        scan: ScanId,
        open: &[CohortRecord],
        opened: u64,
    ) -> Result<(), StoreError> {
        let numbers: Vec<_> = open.iter().map(|record| record.number).collect();
        let now = (opened, numbers);
        if self.unkept.is_empty() && self.asked.as_ref() == Some(&now) {
            return Ok(());
        }
        let mut unkept: BTreeSet<u64> = (0..opened).filter_map(|position| self.plan.cohort_at(position)).collect();
        now.1.iter().for_each(|number| {
            unkept.remove(number);
        });
        store.tallies(scan, 0..self.plan.cohorts(), Part::Totals, &mut |number, _| {
            unkept.remove(&number);
            Ok(())
        })?;
        (self.unkept, self.asked) = (unkept, Some(now));
        Ok(())
    }
}
