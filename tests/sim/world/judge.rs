//! The end of a run: the result against the truth.

use super::*;

impl World {
    pub(super) fn judge(mut self) -> Result<Ran, String> {
        self.audit();
        let killer =
            self.lethal.filter(|lethal| self.is_asked(*lethal) && !self.user.excluded.contains(lethal.address));
        let whole = if killer.is_some() { ScanStatus::Partial } else { ScanStatus::Done };
        // What was excluded in time kills nobody.
        if self.finished != Some(whole) && !(self.lethal.is_some() && killer.is_none()) {
            self.broke(format!("O6: the scan ended as {:?}", self.finished));
        }
        let (mut judged, mut expected, mut not_probed) = (0, 0, 0);
        for number in 0..self.plan.cohorts() {
            let hosts = rows::of_cohort(&*self.store, SCAN, &self.plan, number, ScanStatus::Running)
                .map_err(|error| error.to_string())?;
            for host in hosts {
                judged += host.targets();
                not_probed += host.not_probed();
                expected += self.judge_host(&host);
            }
        }
        if judged != expected {
            self.broke(format!("O4: {judged} targets in the result, {expected} in the plan"));
        }
        let Resumed { progress, loss, .. } = Resumed::load(&*self.store, SCAN).map_err(|error| error.to_string())?;
        if (progress.targets, progress.probed()) != (judged, judged - not_probed) {
            self.broke(format!("O9: {judged} targets in the rows, {not_probed} not probed, and {progress:?}"));
        }
        if let Some(counters) = self.coordinator.as_ref().map(Coordinator::counters) {
            self.reached.fenced_or_duplicate += counters.fenced + counters.duplicate;
        }
        self.reached.virtual_seconds = self.now.since(Time::ZERO).as_secs();
        let (sent, log) = (self.sent.values().map(|&tries| u64::from(tries)).sum(), self.log);
        match self.broken {
            Some(broken) => Err(broken),
            None => Ok(Ran {
                reached: self.reached,
                targets: expected,
                silent: self.silent,
                sent,
                missed: self.missed,
                loss,
                log,
            }),
        }
    }

    /// Whether a target is asked at all: in stages only where its host is up.
    fn is_asked(&self, target: Target) -> bool {
        let ping = Target { slot: Slot::Ping, ..target };
        !self.plan.slots().discover() || self.network.expected(ping).is_sign_of_life()
    }

    /// How many targets the host has. In stages, one that was found down has no other than its ping.
    pub(super) fn judge_host(&mut self, host: &coordinator_core::host::Host) -> u64 {
        let asked = self.plan.slots();
        let is_up = host.ping.is_some_and(|ping| ping.outcome.is_sign_of_life());
        let ports = asked.ports().iter().map(Slot::Tcp).filter(|_| is_up || !asked.discover());
        let slots: Vec<_> = ports.chain(asked.ping().then_some(Slot::Ping)).collect();
        if self.user.excluded.contains(host.address) {
            // When it was excluded is a matter of moments: what it shows may be the truth, or nothing.
            let lethal = self.lethal.is_some_and(|lethal| lethal.address == host.address);
            let may_be = |cause| cause == Cause::Excluded || (cause == Cause::AgentFailed && lethal);
            let only_excluded = host.counts().all(|(outcome, _)| outcome.cause().is_none_or(may_be));
            if !only_excluded {
                self.broke(format!("O4: {host:?} was excluded, and is not probed for another cause"));
            }
            return host.targets();
        }
        let targets = slots.len() as u64;
        let mut expected: BTreeMap<Outcome, i64> = BTreeMap::new();
        let mut open = Vec::new();
        for slot in slots {
            let target = Target { address: host.address, slot };
            let outcome = match self.lethal == Some(target) {
                true => Outcome::not_probed(Cause::AgentFailed),
                false => self.network.expected(target),
            };
            self.silent += u64::from(outcome.is_silence());
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
        if !only_silence || !is_open || host.targets() != targets {
            self.broke(format!("O4: {host:?} differs from the truth by {expected:?}"));
        }
        if missing > 0 && !self.may_miss {
            self.broke(format!("O4: {} is found silent where it answers: {expected:?}", host.address));
        }
        self.missed += missing as u64;
        targets
    }
}
