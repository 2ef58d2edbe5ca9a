//! How far a scan is: targets by outcome.

use crate::passes::History;
use protocol::probe::{Outcome, State};
use std::collections::BTreeMap;

/// Targets of a scan by their outcome. What is not counted is pending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// How many targets the scan has.
    pub targets: u64,
    counts: BTreeMap<Outcome, u64>,
    single_try: u64,
}

impl Progress {
    /// Of a scan of `targets`, none settled.
    #[must_use]
    pub fn new(targets: u64) -> Self {
        Self { targets, ..Self::default() }
    }

    /// Counts that a target of which `before` was known is now known to be `after`. What was never leased counts as pending.
    pub fn count(&mut self, before: History, after: History) {
        if before != History::PENDING {
            let count = self.counts.entry(before.outcome).or_default();
            debug_assert!(*count > 0, "{:?} was never counted", before.outcome);
            *count = count.saturating_sub(1);
        }
        *self.counts.entry(after.outcome).or_default() += 1;
        let rests_on_one = |history: History| u64::from(history.outcome.is_probed() && history.tries == 1);
        self.single_try = (self.single_try + rests_on_one(after)).saturating_sub(rests_on_one(before));
        debug_assert!(self.settled() <= self.targets, "more outcomes than targets");
    }

    /// How many states rest on a single try.
    #[must_use]
    pub fn single_try(&self) -> u64 {
        self.single_try
    }

    /// How many targets have an outcome, `not-probed` included.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.counts.values().sum()
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
        self.counts.iter().filter(|(_, count)| **count > 0).map(|(&outcome, &count)| (outcome, count))
    }

    /// True if a target was not probed, for a cause that leaves the scan incomplete.
    #[must_use]
    pub fn has_gap(&self) -> bool {
        self.settled() < self.targets
            || self.counts().any(|(outcome, _)| outcome.cause().is_some_and(protocol::probe::Cause::is_gap))
    }
}
