//! Scans beside the one that is looked at most: of other addresses, without a budget, each with a weight. Nothing is changed of them, and what
//! the faults do to the one they do to all.

use super::*;

/// Addresses of one such scan begin so far after those of the one before.
const APART: u32 = 0x1000;

pub(super) struct Other {
    record: ScanRecord,
    pub(super) plan: Plan,
    submitted: bool,
    pub(super) finished: Option<ScanStatus>,
}

impl World {
    pub(super) fn populate_others(&mut self) {
        for number in 0..self.faults.others as u32 {
            let (hosts, ports) = (self.random.within(1, 40) as u32, self.random.within(1, 6) as u16);
            let first = 0xc000_0200 + (number + 1) * APART;
            let addresses: AddressSet = (0..hosts).map(|host| IpAddr::V4(Ipv4Addr::from(first + host))).collect();
            let addresses = RankedRanges::try_from(&addresses).expect("some addresses");
            let slots = Slots::new(self.random.chance(50), (1..=ports).collect());
            let plan = Plan::new(addresses, slots, self.random.next()).expect("a plan");
            let id = ScanId::from_bytes([number as u8 + 2; 16]);
            let weight = self.random.within(1, 4) as u32;
            let record = ScanRecord { id, plan: PlanParts::from(&plan), rate: None, weight, ..self.record() };
            let at = self.random.millis(0, 3_000);
            self.after(at, Happening::SubmitOther(number as usize));
            self.others.push(Other { record, plan, submitted: false, finished: None });
        }
    }

    pub(super) fn submit_other(&mut self, which: usize) {
        if self.coordinator.is_none() {
            return self.after(Duration::from_millis(500), Happening::SubmitOther(which));
        }
        let other = &mut self.others[which];
        other.submitted = true;
        let record = other.record.clone();
        self.reached.several_scans += u64::from(self.finished.is_none());
        self.coordinator_gets(Input::Submit(record));
    }

    /// Those that the user submitted and that were not durable when the coordinator crashed: nobody was told of them, so they are submitted
    /// again.
    pub(super) fn submit_again(&mut self) {
        let kept: BTreeSet<_> = self.store.scans().unwrap_or_default().into_iter().map(|record| record.id).collect();
        let lost = |other: &&Other| other.submitted && !kept.contains(&other.record.id);
        let lost: Vec<_> = self.others.iter().filter(lost).map(|other| other.record.clone()).collect();
        lost.into_iter().for_each(|record| self.coordinator_gets(Input::Submit(record)));
    }

    pub(super) fn other_finished(&mut self, scan: ScanId, status: ScanStatus) {
        if let Some(other) = self.others.iter_mut().find(|other| other.record.id == scan) {
            other.finished = Some(status);
        }
    }

    /// The scans that are stored.
    pub(super) fn scans(&self) -> Vec<ScanId> {
        self.store.scans().unwrap_or_default().into_iter().map(|record| record.id).collect()
    }

    /// The leases of all of them.
    pub(super) fn leases(&self) -> Vec<coordinator_core::store::LeaseRecord> {
        self.scans().into_iter().flat_map(|scan| self.store.leases(scan).unwrap_or_default()).collect()
    }

    pub(super) fn is_taken(&self, epoch: Epoch) -> bool {
        self.scans().into_iter().any(|scan| self.store.is_taken(scan, epoch).unwrap_or(false))
    }

    pub(super) fn judge_others(&mut self) -> Result<(), String> {
        for other in std::mem::take(&mut self.others) {
            let (id, plan) = (other.record.id, other.plan);
            if other.finished != Some(ScanStatus::Done) {
                self.broke(format!("O6: scan {id} ended as {:?}", other.finished));
            }
            let sums = self.judge_scan(id, &plan)?;
            let progress = Resumed::load(&*self.store, id).map_err(|error| error.to_string())?.progress;
            self.judge_progress(sums, &progress);
        }
        Ok(())
    }
}
