//! How far a scan is: targets by outcome.

use crate::passes::History;
use crate::stages::Ports;
use crate::store::ScanStatus;
use protocol::plan::{Cohort, Plan};
use protocol::probe::{Cause, Outcome, State};

/// Targets of a scan by their outcome. What is not counted is pending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// How many targets the scan has. In stages it has as many at most, until all hosts were asked: ports of a host that is found
    /// down are none.
    pub targets: u64,
    /// How many of them are ports of hosts of which nothing is known yet.
    pub undiscovered: u64,
    /// In order. A dozen at most, and counted for each target: to look through them is faster than any map.
    counts: Vec<(Outcome, u64)>,
    single_try: u64,
}

impl Progress {
    /// Of a scan of which nothing is settled.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let ports = if plan.slots().discover() { plan.len() - plan.addresses().len() } else { 0 };
        Self { undiscovered: ports, ..Self::new(plan.len()) }
    }

    /// Of a scan of `targets`, none settled.
    #[must_use]
    pub fn new(targets: u64) -> Self {
        Self { targets, ..Self::default() }
    }

    /// Counts that the target of a cohort at `index`, of which `before` was known, is now known to be `after`; with a `ping` in stages,
    /// what that makes of its host's ports.
    pub fn count_in(&mut self, cohort: &Cohort, index: u32, before: History, after: History) {
        self.count(before, after);
        if !cohort.slots().discover() || index >= cohort.hosts() {
            return;
        }
        let ports = u64::from(cohort.slots().len() - 1);
        if before == History::PENDING {
            self.undiscovered = self.undiscovered.saturating_sub(ports);
        }
        match Ports::of(before.outcome) {
            Ports::NoTargets => self.targets += ports,
            Ports::NotProbed(outcome) if before != History::PENDING => {
                let count = self.count_of(outcome);
                *count = count.saturating_sub(ports);
            }
            Ports::NotProbed(_) | Ports::Asked => {}
        }
        match Ports::of(after.outcome) {
            Ports::NoTargets => self.targets = self.targets.saturating_sub(ports),
            Ports::NotProbed(outcome) if after != History::PENDING => {
                *self.count_of(outcome) += ports;
            }
            Ports::NotProbed(_) | Ports::Asked => {}
        }
    }

    /// Counts that a target of which `before` was known is now known to be `after`. What was never leased counts as pending.
    pub fn count(&mut self, before: History, after: History) {
        if before != History::PENDING {
            let count = self.count_of(before.outcome);
            debug_assert!(*count > 0, "{:?} was never counted", before.outcome);
            *count = count.saturating_sub(1);
        }
        *self.count_of(after.outcome) += 1;
        let rests_on_one = |history: History| u64::from(history.outcome.is_probed() && history.tries == 1);
        self.single_try = (self.single_try + rests_on_one(after)).saturating_sub(rests_on_one(before));
        debug_assert!(self.settled() <= self.targets, "more outcomes than targets");
    }

    fn count_of(&mut self, outcome: Outcome) -> &mut u64 {
        let at = match self.counts.iter().position(|(known, _)| *known >= outcome) {
            Some(at) if self.counts[at].0 == outcome => at,
            at => {
                let at = at.unwrap_or(self.counts.len());
                self.counts.insert(at, (outcome, 0));
                at
            }
        };
        &mut self.counts[at].1
    }

    /// The same once the scan ended so (see [`ScanStatus::at_end`]).
    #[must_use]
    pub fn at_end(&self, status: ScanStatus) -> Self {
        let pending = Outcome::not_probed(Cause::Pending);
        if status.at_end(pending) == pending {
            return self.clone();
        }
        let left = self.targets.saturating_sub(self.settled());
        let mut ended = Self { undiscovered: 0, counts: Vec::new(), ..*self };
        for (outcome, count) in self.counts().chain([(pending, left)]) {
            *ended.count_of(status.at_end(outcome)) += count;
        }
        ended
    }

    /// How many states rest on a single try.
    #[must_use]
    pub fn single_try(&self) -> u64 {
        self.single_try
    }

    /// How many targets have an outcome, `not-probed` included.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// How many were probed.
    #[must_use]
    pub fn probed(&self) -> u64 {
        self.counts().filter(|(outcome, _)| outcome.is_probed()).map(|(_, count)| count).sum()
    }

    /// How many are in a state.
    #[must_use]
    pub fn in_state(&self, state: State) -> u64 {
        self.counts().filter(|(outcome, _)| outcome.state() == state).map(|(_, count)| count).sum()
    }

    /// Outcomes with how many targets have them.
    pub fn counts(&self) -> impl Iterator<Item = (Outcome, u64)> + '_ {
        self.counts.iter().filter(|(_, count)| *count > 0).copied()
    }

    /// True if a target was not probed, for a cause that leaves the scan incomplete.
    #[must_use]
    pub fn has_gap(&self) -> bool {
        self.settled() < self.targets
            || self.counts().any(|(outcome, _)| outcome.cause().is_some_and(protocol::probe::Cause::is_gap))
    }
}
