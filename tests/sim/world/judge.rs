//! The end of a run: the result against the truth.

use super::replaced::Replaced;
use super::*;
use coordinator_core::progress::Progress;
use coordinator_core::store::Store;

/// What rows come to.
#[derive(Clone, Copy, Default)]
pub(super) struct Sums {
    judged: u64,
    not_probed: u64,
    pub(super) expected: u64,
}

impl World {
    pub(super) fn judge(mut self) -> Result<Ran, String> {
        self.audit();
        let killer =
            self.lethal.filter(|lethal| self.is_asked(*lethal) && !self.user.excluded.contains(lethal.address));
        let whole = if killer.is_some() { ScanStatus::Partial } else { ScanStatus::Done };
        // What was excluded in time kills nobody.
        let cancelled = self.finished == Some(ScanStatus::Cancelled) && self.faults.cancel;
        if self.finished != Some(whole) && !(self.lethal.is_some() && killer.is_none()) && !cancelled {
            self.broke(format!("O6: the scan ended as {:?}", self.finished));
        }
        let plan = self.plan.clone();
        let sums = self.judge_scan(SCAN, &plan)?;
        let expected = sums.expected;
        let Resumed { progress, loss, .. } = Resumed::load(&*self.store, SCAN).map_err(|error| error.to_string())?;
        self.judge_progress(sums, &progress);
        self.judge_others()?;
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

    /// The rows of a scan against the truth.
    pub(super) fn judge_scan(&mut self, scan: ScanId, plan: &Plan) -> Result<Sums, String> {
        let mut sums = Sums::default();
        let is_broken = self.bug == Some(Bug::NotProbedReplacesAState);
        let replaced = self.store.copy().filter(|_| is_broken).map(Replaced);
        for number in 0..plan.cohorts() {
            let store: &dyn Store = match &replaced {
                Some(replaced) => replaced,
                None => &*self.store,
            };
            let hosts = rows::of_cohort(store, scan, plan, number, ScanStatus::Running);
            for host in hosts.map_err(|error| error.to_string())? {
                sums.judged += host.targets();
                sums.not_probed += host.not_probed();
                sums.expected += self.judge_host(&host, plan.slots());
            }
        }
        if sums.judged != sums.expected {
            self.broke(format!("O4: {} targets in the result, {} in the plan", sums.judged, sums.expected));
        }
        Ok(sums)
    }

    pub(super) fn judge_progress(&mut self, sums: Sums, progress: &Progress) {
        let Sums { judged, not_probed, .. } = sums;
        if (progress.targets, progress.probed()) != (judged, judged - not_probed) {
            self.broke(format!("O9: {judged} targets in the rows, {not_probed} not probed, and {progress:?}"));
        }
    }

    /// Whether a target is asked at all: in stages only where its host is up.
    fn is_asked(&self, target: Target) -> bool {
        let ping = Target { slot: Slot::Ping, ..target };
        !self.plan.slots().discover() || self.network.expected(ping).is_sign_of_life()
    }

    /// How many targets the host has. In stages, one that was found down has no other than its ping.
    fn judge_host(&mut self, host: &coordinator_core::host::Host, asked: &Slots) -> u64 {
        let is_up = host.ping.is_some_and(|ping| ping.outcome.is_sign_of_life());
        let ports = asked.ports().iter().map(Slot::Tcp).filter(|_| is_up || !asked.discover());
        let slots: Vec<_> = ports.chain(asked.ping().then_some(Slot::Ping)).collect();
        if self.user.excluded.contains(host.address) {
            // When it was excluded is a matter of moments: what it shows may be the truth, or nothing.
            let lethal = self.lethal.is_some_and(|lethal| lethal.address == host.address);
            let cancelled = self.finished == Some(ScanStatus::Cancelled);
            let may_be = |cause| cause == Cause::Excluded || (cause == Cause::AgentFailed && lethal) || cancelled;
            let only_excluded = host.counts().all(|(outcome, _)| outcome.cause().is_none_or(may_be));
            if !only_excluded {
                self.broke(format!("O4: {host:?} was excluded, and is not probed for another cause"));
            }
            return host.targets();
        }
        let targets = slots.len() as u64;
        if self.finished == Some(ScanStatus::Cancelled) && asked == self.plan.slots() {
            // How far it came is a matter of moments: what it found is the truth.
            let mut open = host.open.iter().map(|open| Target { address: host.address, slot: Slot::Tcp(open.port) });
            if open.any(|target| self.network.expected(target).state() != State::Open) {
                self.broke(format!("O4: {host:?} differs from the truth"));
            }
            return host.targets();
        }
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
