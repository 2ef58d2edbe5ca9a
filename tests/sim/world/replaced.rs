//! A deliberate bug: a store in which what a later pass did not probe replaces what was found before.

use coordinator_core::control::ControlState;
use coordinator_core::store::memory::MemoryStore;
use coordinator_core::store::{
    AgentFacts, ChunkRecord, CohortRecord, Commit, Committed, LeaseOrder, LeaseRecord, Part, ScanRecord, ScanStatus,
    Store, StoreError, TellTally,
};
use coordinator_core::tally;
use protocol::id::{Epoch, ScanId};
use protocol::{chunk, covers};
use std::collections::BTreeSet;
use std::ops::Range;

/// Only read.
pub(super) struct Replaced(pub(super) MemoryStore);

/// Without what of a chunk is at these indices.
fn without(mut record: ChunkRecord, gone: &BTreeSet<u32>) -> ChunkRecord {
    let (lo, hi) = (record.shard.lo, record.shard.hi);
    let covered: Vec<u32> = covers::indices(&record.covers, lo, hi).collect();
    let outcomes = chunk::decode(&record.chunk, covered.len() as u32).expect("it was taken");
    let keeps = |index: u32| covered.contains(&index) && !gone.contains(&index);
    let left: Vec<_> =
        covered.iter().zip(outcomes).filter(|(index, _)| keeps(**index)).map(|(_, outcome)| outcome).collect();
    record.covers = covers::bitmap(lo, hi, keeps);
    record.chunk = chunk::encode(&left);
    record.findings.retain(|finding| keeps(finding.index));
    record
}

impl Store for Replaced {
    fn chunks(&self, scan: ScanId, cohort: u64, indices: Range<u32>) -> Result<Vec<ChunkRecord>, StoreError> {
        let mut gone = BTreeSet::new();
        let mut chunks = self.0.chunks(scan, cohort, indices)?;
        chunks.reverse();
        let mut left = Vec::new();
        for record in chunks {
            let (lo, hi) = (record.shard.lo, record.shard.hi);
            let outcomes = chunk::decode(&record.chunk, covers::count(&record.covers, lo, hi)).expect("it was taken");
            let not_probed = covers::indices(&record.covers, lo, hi).zip(outcomes).filter(|(_, it)| !it.is_probed());
            let not_probed: Vec<_> = not_probed.map(|(index, _)| index).collect();
            let record = without(record, &gone);
            if covers::count(&record.covers, lo, hi) > 0 && record.covers.iter().any(|&byte| byte != 0) {
                left.push(record);
            }
            gone.extend(not_probed);
        }
        left.reverse();
        Ok(left)
    }

    fn scans(&self) -> Result<Vec<ScanRecord>, StoreError> {
        self.0.scans()
    }

    fn control(&self, scan: ScanId) -> Result<ControlState, StoreError> {
        self.0.control(scan)
    }

    fn cohorts(&self, scan: ScanId) -> Result<(Vec<CohortRecord>, u64), StoreError> {
        self.0.cohorts(scan)
    }

    fn leases(&self, scan: ScanId) -> Result<Vec<LeaseRecord>, StoreError> {
        self.0.leases(scan)
    }

    fn is_taken(&self, scan: ScanId, epoch: Epoch) -> Result<bool, StoreError> {
        self.0.is_taken(scan, epoch)
    }

    fn agents(&self, scan: ScanId) -> Result<Vec<AgentFacts>, StoreError> {
        self.0.agents(scan)
    }

    fn tallies(
        &self,
        scan: ScanId,
        numbers: Range<u64>,
        part: tally::Part,
        tell: TellTally<'_>,
    ) -> Result<(), StoreError> {
        self.0.tallies(scan, numbers, part, tell)
    }

    fn reports(&self, scan: ScanId, cohort: u64) -> Result<u64, StoreError> {
        self.0.reports(scan, cohort)
    }

    fn keep_tally(&mut self, _: ScanId, _: u64, _: u64, _: &tally::Packed) -> Result<(), StoreError> {
        unreachable!("it is only read")
    }

    fn create_scan(&mut self, _: &ScanRecord) -> Result<(), StoreError> {
        unreachable!("it is only read")
    }

    fn remove_scan(&mut self, _: ScanId, _: bool) -> Result<bool, StoreError> {
        unreachable!("it is only read")
    }

    fn set_status(&mut self, _: ScanId, _: ScanStatus) -> Result<(), StoreError> {
        unreachable!("it is only read")
    }

    fn set_control(&mut self, _: ScanId, _: &ControlState) -> Result<(), StoreError> {
        unreachable!("it is only read")
    }

    fn lease(&mut self, _: &LeaseOrder) -> Result<Vec<Epoch>, StoreError> {
        unreachable!("it is only read")
    }

    fn release(&mut self, _: ScanId, _: &[Epoch], _: bool) -> Result<(), StoreError> {
        unreachable!("it is only read")
    }

    fn split(&mut self, _: ScanId, _: Epoch, _: &[Part]) -> Result<Vec<Epoch>, StoreError> {
        unreachable!("it is only read")
    }

    fn commit(&mut self, _: &Commit) -> Result<Committed, StoreError> {
        unreachable!("it is only read")
    }

    fn begin_pass(&mut self, _: ScanId, _: u64, _: u8) -> Result<(), StoreError> {
        unreachable!("it is only read")
    }

    fn close_cohort(&mut self, _: ScanId, _: u64) -> Result<(), StoreError> {
        unreachable!("it is only read")
    }
}
