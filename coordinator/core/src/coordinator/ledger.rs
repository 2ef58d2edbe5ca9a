//! What each agent instance was told of a scan, what it acknowledged, and the share of the budget that it may be using.
//!
//! An entry lives as long as its instance does: until the right has ended. Properties of [`Ledger::plan`]:
//! - S1: the sum of what may be in use never exceeds the budget by a raise: a share is raised only by what is left of the budget
//!   beside the most that each other instance may be using.
//! - S2: whoever has more than its part is lowered at once.
//! - S3: no share is below one a second, but zero; where there is less for each, some wait; a budget below one a second goes whole
//!   to one.
//! - S4: once all that was told is acknowledged and nobody unreachable holds a share, the shares are the parts.

use protocol::id::InstanceId;
use protocol::rate::Rate;
use std::collections::BTreeMap;

/// The smallest share that is not zero.
const SHARE_MIN: u64 = Rate::per_second(1).micros();
/// What an instance may be using that has no limit, or of which nothing is known yet.
const UNLIMITED: u64 = u64::MAX;

/// What one control message said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// The number of the message: rising over all that this process sends.
    pub(super) number: u64,
    /// The version of the control state in it, and whether it was being stopped.
    pub(super) version: (u64, bool),
    pub(super) share: Option<Rate>,
}

#[derive(Debug, Default)]
struct Entry {
    /// Whether it has a session.
    reachable: bool,
    /// Whether it may probe anything of the scan.
    useful: bool,
    told: Option<Told>,
    /// The newest version that it acknowledged, or has known from its beginning.
    acknowledged: (u64, bool),
    /// The most that it may be using: what it acknowledged, or more where a lowering is on its way.
    in_use: u64,
}

impl Entry {
    fn present(&self) -> u64 {
        self.told.map_or(self.in_use, |told| micros(told.share))
    }
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: BTreeMap<InstanceId, Entry>,
}

impl Ledger {
    /// The holder of a lease that another process of the coordinator gave: what it may use is not known until it says hello.
    pub(super) fn remember(&mut self, instance: InstanceId) {
        self.entries.insert(instance, Entry { in_use: UNLIMITED, ..Entry::default() });
    }

    /// An instance said hello, and what share it has, if any. `useful`: it may probe something of the scan. `fresh`: it holds nothing, so it
    /// learns what holds before it is granted anything.
    pub(super) fn hello(
        &mut self,
        instance: InstanceId,
        share: Option<Option<Rate>>,
        useful: bool,
        fresh: bool,
        version: (u64, bool),
    ) {
        let known = self.entries.contains_key(&instance);
        let entry = self.entries.entry(instance).or_default();
        (entry.reachable, entry.useful, entry.told) = (true, useful, None);
        entry.in_use = share.map_or(0, micros);
        if fresh && !known {
            entry.acknowledged = version;
        }
    }

    /// Whether it may probe something of the scan is something else now.
    pub(super) fn set_useful(&mut self, instance: InstanceId, useful: bool) {
        if let Some(entry) = self.entries.get_mut(&instance) {
            entry.useful = useful;
        }
    }

    /// Its connection is gone. It stays, with what it may use, until its right ends.
    pub(super) fn lost(&mut self, instance: InstanceId) {
        if let Some(entry) = self.entries.get_mut(&instance) {
            entry.reachable = false;
        }
    }

    /// Its right has ended, and with it all that it may use. True if it was there.
    pub(super) fn forget(&mut self, instance: InstanceId) -> bool {
        self.entries.remove(&instance).is_some()
    }

    /// It was told something.
    pub(super) fn tell(&mut self, instance: InstanceId, told: Told) {
        if let Some(entry) = self.entries.get_mut(&instance) {
            entry.told = Some(told);
            entry.in_use = entry.in_use.max(micros(told.share));
        }
    }

    /// It acknowledged a message. True if that was the last that it was told: all before are void.
    pub(super) fn acknowledge(&mut self, instance: InstanceId, number: u64) -> bool {
        let Some(entry) = self.entries.get_mut(&instance) else { return false };
        let Some(told) = entry.told.filter(|told| told.number == number) else { return false };
        (entry.acknowledged, entry.in_use) = (told.version, micros(told.share));
        true
    }

    /// Those that have not acknowledged `version`.
    pub(super) fn behind(&self, version: (u64, bool)) -> impl Iterator<Item = InstanceId> + '_ {
        self.entries.iter().filter(move |(_, entry)| entry.acknowledged < version).map(|(&instance, _)| instance)
    }

    /// Whether it may be granted anything: it has a share, or there is no budget.
    pub(super) fn has_share(&self, instance: InstanceId) -> bool {
        self.entries.get(&instance).is_some_and(|entry| entry.present() > 0)
    }

    /// Its share as it was told last, in packets per second; `None` without a limit.
    pub(super) fn share(&self, instance: InstanceId) -> Option<f64> {
        let present = self.entries.get(&instance)?.present();
        (present != UNLIMITED).then(|| Rate::from_micros(present).as_per_second())
    }

    /// Who of those that can be told is to be told something else than it was told last: its share.
    pub(super) fn plan(&self, budget: Option<Rate>, version: (u64, bool)) -> Vec<(InstanceId, Option<Rate>)> {
        let shares = match budget {
            Some(budget) => self.shares(budget.micros()),
            None => self.reachable().map(|(instance, _)| (instance, UNLIMITED)).collect(),
        };
        let differs = |&(instance, share): &(InstanceId, u64)| {
            self.entries
                .get(&instance)
                .and_then(|entry| entry.told)
                .is_none_or(|told| (told.version, micros(told.share)) != (version, share))
        };
        shares.into_iter().filter(differs).map(|(instance, share)| (instance, rate(share))).collect()
    }

    fn reachable(&self) -> impl Iterator<Item = (InstanceId, &Entry)> + '_ {
        self.entries.iter().filter(|(_, entry)| entry.reachable).map(|(&instance, entry)| (instance, entry))
    }

    /// The next shares of all that can be told.
    fn shares(&self, budget: u64) -> Vec<(InstanceId, u64)> {
        let mut reachable: Vec<_> = self.reachable().collect();
        // Whoever has a share keeps one: that costs nobody a round trip.
        reachable.sort_by_key(|(instance, entry)| (!entry.useful, entry.in_use == 0, *instance));
        let useful = reachable.iter().filter(|(_, entry)| entry.useful).count() as u64;
        let served = (budget / SHARE_MIN).clamp(1, useful.max(1));
        let part = budget / served;
        let in_use = self.entries.values().fold(0_u64, |sum, entry| sum.saturating_add(entry.in_use));
        let mut left = budget.saturating_sub(in_use);
        let mut shares = Vec::with_capacity(reachable.len());
        for (place, (instance, entry)) in (0..).zip(reachable) {
            let (wanted, present) = (if place < served && entry.useful { part } else { 0 }, entry.present());
            // What it may be using already, be a lowering on its way or not, costs nothing.
            let reach = entry.in_use.saturating_add(left).min(wanted);
            let share = if wanted <= present {
                wanted
            } else if reach == wanted || reach >= present.saturating_add(SHARE_MIN) {
                left -= reach.saturating_sub(entry.in_use);
                reach
            } else {
                present
            };
            shares.push((instance, share));
        }
        shares
    }
}

fn micros(share: Option<Rate>) -> u64 {
    share.map_or(UNLIMITED, Rate::micros)
}

fn rate(micros: u64) -> Option<Rate> {
    (micros != UNLIMITED).then(|| Rate::from_micros(micros))
}

#[cfg(test)]
mod tests;
