//! What each agent instance was told of a scan, what it acknowledged, and the share of the budget that it may be using.
//!
//! An entry lives as long as its instance does: until the right has ended. Properties of [`Ledger::plan`]:
//! - S1: the sum of what may be in use never exceeds the budget by a raise: a share is raised only by what is left of the budget
//!   beside the most that each other instance may be using.
//! - S2: whoever has more than its part is lowered at once.
//! - S3: no share is below one a second, but zero; where there is less for each, some wait; a budget below one a second goes whole
//!   to one.
//! - S4: once all that was told is acknowledged and nobody unreachable holds a share, the shares are the parts.
//! - S5: the parts are equal but for those who are known to use less: these have what they use, some room to show that they can use more,
//!   and a sixteenth of an equal part at least. What nobody is known to use is shared equally.

use protocol::id::InstanceId;
use protocol::rate::Rate;
use protocol::time::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// The smallest share that is not zero.
const SHARE_MIN: u64 = Rate::per_second(1).micros();
/// What an instance may be using that has no limit, or of which nothing is known yet.
const UNLIMITED: u64 = u64::MAX;

/// Over so long it is measured how much of a share is used: longer than one renewal takes, and what is lost to a hiccup of the network.
const MEASURED_OVER: Duration = Duration::from_secs(4);
/// Whoever uses less than this part of its share, in hundredths, gives up what it does not use. Late timers cost no more than that.
const USES_LITTLE: u64 = 60;
/// Whoever uses more than this of it can use more.
const USES_ALL: u64 = 88;
/// How much whoever gives up keeps, in hundredths of what it uses: less than what shows that it uses all, more than what shows that it uses
/// little.
const KEEPS: u64 = 135;
/// The least that it keeps of an equal part: so much it can double again when it has work.
const KEEPS_LEAST: u64 = 16;
const _: () = assert!(100 * 100 / KEEPS > USES_LITTLE && 100 * 100 / KEEPS < USES_ALL);

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
    /// The most that it is known to be able to use, with the room that it keeps; `None` for all that it gets.
    usable: Option<u64>,
    /// Since when it has had its share, and how many packets it had used by then.
    measured: Option<(Time, u64)>,
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
        (entry.reachable, entry.useful, entry.told, entry.measured) = (true, useful, None, None);
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
            if entry.told.is_none_or(|before| before.share != told.share) {
                entry.measured = None;
            }
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

    /// An instance has used so many packets of its share. True if that says something new of how much it can use.
    pub(super) fn used(&mut self, now: Time, instance: InstanceId, packets: u64) -> bool {
        let Some(entry) = self.entries.get_mut(&instance) else { return false };
        let share = entry.present();
        if share == 0 || share == UNLIMITED {
            (entry.measured, entry.usable) = (None, None);
            return false;
        }
        let Some((since, before)) = entry.measured.filter(|(_, before)| *before <= packets) else {
            entry.measured = Some((now, packets));
            return false;
        };
        let time = now.since(since);
        if time < MEASURED_OVER {
            return false;
        }
        entry.measured = Some((now, packets));
        let a_second = u128::from(packets - before) * u128::from(SHARE_MIN) * 1_000_000_000 / time.as_nanos();
        let used = u64::try_from(a_second).unwrap_or(UNLIMITED);
        let known = entry.usable;
        let of_share =
            |hundredths: u64| u64::try_from(u128::from(share) * u128::from(hundredths) / 100).unwrap_or(share);
        if used >= of_share(USES_ALL) {
            entry.usable = known.map(|usable| usable.max(share).saturating_mul(2));
        } else if used < of_share(USES_LITTLE) {
            let keeps = used / 100 * KEEPS;
            // Small differences are not worth a message to everybody.
            entry.usable = Some(known.filter(|usable| keeps >= usable / 4 * 3).unwrap_or(keeps));
        }
        entry.usable != known
    }

    /// Its scan does not go on: what it uses meanwhile says nothing.
    pub(super) fn rests(&mut self, instance: InstanceId) {
        if let Some(entry) = self.entries.get_mut(&instance) {
            entry.measured = None;
        }
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
        let usable = reachable.iter().filter(|(_, entry)| entry.useful).map(|(_, entry)| entry.usable);
        let mut parts =
            parts(budget, &usable.take(usize::try_from(served).unwrap_or(usize::MAX)).collect::<Vec<_>>()).into_iter();
        let in_use = self.entries.values().fold(0_u64, |sum, entry| sum.saturating_add(entry.in_use));
        let mut left = budget.saturating_sub(in_use);
        let mut shares = Vec::with_capacity(reachable.len());
        for (instance, entry) in reachable {
            // Those who have one come first.
            let (wanted, present) = (parts.next().unwrap_or(0), entry.present());
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

/// A budget in parts, for each of these; `None` uses all that it gets.
fn parts(budget: u64, usable: &[Option<u64>]) -> Vec<u64> {
    let count = usable.len() as u64;
    let Some(equal) = budget.checked_div(count) else { return Vec::new() };
    let least = (equal / KEEPS_LEAST).max(SHARE_MIN.min(equal));
    let usable: Vec<_> = usable.iter().map(|usable| usable.map_or(UNLIMITED, |usable| usable.max(least))).collect();
    let mut ascending: Vec<_> = (0..usable.len()).collect();
    ascending.sort_by_key(|&at| usable[at]);
    let (mut parts, mut left) = (vec![0; usable.len()], budget);
    for (&at, to_come) in ascending.iter().zip((1..=count).rev()) {
        let equal = left / to_come;
        if usable[at] >= equal {
            // So do all that come after it.
            parts.iter_mut().filter(|part| **part == 0).for_each(|part| *part = equal);
            return parts;
        }
        parts[at] = usable[at];
        left -= usable[at];
    }
    parts.iter_mut().for_each(|part| *part += left / count);
    parts
}

fn micros(share: Option<Rate>) -> u64 {
    share.map_or(UNLIMITED, Rate::micros)
}

fn rate(micros: u64) -> Option<Rate> {
    (micros != UNLIMITED).then(|| Rate::from_micros(micros))
}

#[cfg(test)]
mod tests;
