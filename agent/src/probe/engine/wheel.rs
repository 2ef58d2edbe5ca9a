//! A timer wheel: when to look at a flight again. Coarse, and O(1) for each entry.
//!
//! - W1: a name comes out at its due moment or later, by one turn of [`TICK`] at most (if it is asked so often); never earlier, unless
//!   its due moment is beyond the horizon of [`SLOTS`] turns.
//! - W2: nothing is taken out before its time: most flights are answered, and taking each out would cost as much as the wheel. Whoever
//!   gets a name looks whether it still means something, and puts it in again if it is not due yet.

use protocol::time::Time;
use std::time::Duration;

/// How coarse it is. A timeout is late by so much at most; 4 ms of 100 are nothing, and 250 turns a second cost nothing.
pub(super) const TICK: Duration = Duration::from_millis(4);
/// 63 turns ahead, a quarter of a second: what is due later comes out by then, to be put in again.
const SLOTS: usize = 64;

/// The wheel. `N` names what is to be looked at.
#[derive(Debug)]
pub(super) struct Wheel<N> {
    slots: Vec<Vec<N>>,
    /// Every slot before this tick is empty.
    tick: u64,
    len: usize,
}

impl<N> Wheel<N> {
    /// An empty one.
    pub(super) fn new(now: Time) -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), tick: tick_of(now), len: 0 }
    }

    /// Puts a name in, to come out at `due`, or at the horizon.
    pub(super) fn insert(&mut self, due: Time, name: N) {
        // The tick after the one that holds the moment, so that it is never early.
        let tick = (tick_of(due) + 1).clamp(self.tick, self.tick + SLOTS as u64 - 1);
        self.slots[tick as usize % SLOTS].push(name);
        self.len += 1;
    }

    /// Takes out what is due, into `out`.
    pub(super) fn expire(&mut self, now: Time, out: &mut Vec<N>) {
        let until = tick_of(now);
        // After a long sleep each slot once is all of them.
        let from = self.tick.max((until + 1).saturating_sub(SLOTS as u64));
        for tick in from..=until {
            let slot = &mut self.slots[tick as usize % SLOTS];
            self.len -= slot.len();
            out.append(slot);
        }
        self.tick = self.tick.max(until + 1);
    }

    /// True if nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

fn tick_of(at: Time) -> u64 {
    at.as_nanos() / TICK.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn w1_nothing_comes_early_or_more_than_a_tick_late() {
        let start = 7_777_001;
        let mut wheel = Wheel::new(at(start));
        let due: Vec<u64> = (0..200).map(|n| start + n * 37 % 240).collect();
        for &due in &due {
            wheel.insert(at(due), due);
        }
        let mut came = Vec::new();
        for now in start..start + 300 {
            let mut out = Vec::new();
            wheel.expire(at(now), &mut out);
            for due in out {
                assert!(due <= now && now <= due + 4, "due at {due}, came at {now}");
                came.push(due);
            }
        }
        came.sort_unstable();
        let mut due = due;
        due.sort_unstable();
        assert_eq!(came, due);
        assert!(wheel.is_empty());
    }

    #[test]
    fn w1_what_is_far_off_comes_at_the_horizon_and_a_long_sleep_loses_nothing() {
        let mut wheel = Wheel::new(at(1_000));
        wheel.insert(at(9_000), "far");
        wheel.insert(at(1_010), "near");
        let mut out = Vec::new();
        wheel.expire(at(1_247), &mut out);
        assert_eq!(out, ["near"]);
        wheel.expire(at(60_000), &mut out);
        assert_eq!(out, ["near", "far"]);
        wheel.insert(at(60_000), "past");
        out.clear();
        wheel.expire(at(60_004), &mut out);
        assert_eq!((out.as_slice(), wheel.is_empty()), (["past"].as_slice(), true));
    }
}
