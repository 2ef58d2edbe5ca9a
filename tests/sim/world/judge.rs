//! The end of a run: the result against the truth.

use super::*;

impl World {
    pub(super) fn judge(mut self) -> Result<Ran, String> {
        self.audit();
        if self.finished != Some(ScanStatus::Done) {
            self.broke(format!("O6: the scan ended as {:?}", self.finished));
        }
        let mut judged = 0;
        for number in 0..self.plan.cohorts() {
            let hosts = rows::of_cohort(&*self.store, SCAN, &self.plan, number).map_err(|error| error.to_string())?;
            for host in hosts {
                judged += host.targets();
                self.judge_host(&host);
            }
        }
        if judged != self.plan.len() {
            self.broke(format!("O4: {judged} targets in the result, {} in the plan", self.plan.len()));
        }
        if let Some(counters) = self.coordinator.as_ref().map(Coordinator::counters) {
            self.reached.fenced_or_duplicate += counters.fenced + counters.duplicate;
        }
        self.reached.virtual_seconds = self.now.since(Time::ZERO).as_secs();
        let (sent, log) = (self.sent.values().sum(), self.log);
        match self.broken {
            Some(broken) => Err(broken),
            None => Ok(Ran { reached: self.reached, targets: self.plan.len(), sent, missed: self.missed, log }),
        }
    }

    pub(super) fn judge_host(&mut self, host: &coordinator_core::host::Host) {
        let slots: Vec<_> = self
            .plan
            .slots()
            .ports()
            .iter()
            .map(Slot::Tcp)
            .chain(self.plan.slots().ping().then_some(Slot::Ping))
            .collect();
        let mut expected: BTreeMap<Outcome, i64> = BTreeMap::new();
        let mut open = Vec::new();
        for slot in slots {
            let target = Target { address: host.address, slot };
            let (outcome, _) = self.truth(target);
            *expected.entry(outcome).or_default() += 1;
            if let (State::Open, Slot::Tcp(port)) = (outcome.state(), slot) {
                open.push(port);
            }
            if !self.sent.contains_key(&target) {
                self.broke(format!("O4: {target} was never probed"));
            }
        }
        // What is found beside the truth must be silence, and as much as is missing of what answers.
        for (outcome, count) in host.counts() {
            *expected.entry(outcome).or_default() -= count as i64;
        }
        let missing: i64 = expected.values().filter(|count| **count > 0).sum();
        let only_silence = expected.iter().all(|(outcome, count)| *count >= 0 || outcome.is_silence());
        let is_open = host.open.iter().all(|found| open.contains(&found.port));
        if !only_silence || !is_open || host.targets() != u64::from(self.plan.slots().len()) {
            self.broke(format!("O4: {host:?} differs from the truth by {expected:?}"));
        }
        if missing > 0 && self.faults.loss_percent == 0 {
            self.broke(format!("O4: without loss, {} is found silent where it answers: {expected:?}", host.address));
        }
        self.missed += missing as u64;
    }
}
