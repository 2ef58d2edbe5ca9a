//! How fast this agent gets through targets: what its claims are sized by. One that is overdue is through, though it is listened for: that
//! keeps no other waiting.

use protocol::time::Time;
use std::time::Duration;

/// Targets a second, measured over windows of at least half a second, smoothed.
#[derive(Debug)]
pub struct Speed {
    per_second: f64,
    since: Time,
    through: u64,
}

const WINDOW: Duration = Duration::from_millis(500);
/// The weight of the newest window: an agent that slows down is noticed within about a second.
const NEWEST: f64 = 0.5;

impl Speed {
    /// Begins with a guess.
    #[must_use]
    pub fn new(now: Time, per_second: f64) -> Self {
        Self { per_second, since: now, through: 0 }
    }

    /// Counts targets that it is through with.
    pub fn through(&mut self, now: Time, targets: u64) {
        self.through += targets;
        let passed = now.since(self.since);
        if passed >= WINDOW {
            let measured = self.through as f64 / passed.as_secs_f64();
            self.per_second = self.per_second * (1.0 - NEWEST) + measured * NEWEST;
            (self.since, self.through) = (now, 0);
        }
    }

    /// Time passed without work: the next window begins now, so that idleness does not count as slowness.
    pub fn idle(&mut self, now: Time) {
        (self.since, self.through) = (now, 0);
    }

    /// How many targets it gets through in `time`.
    #[must_use]
    pub fn targets_in(&self, time: Duration) -> u64 {
        (self.per_second * time.as_secs_f64()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_what_is_measured_and_forgets_idleness() {
        let at = |millis: u64| Time::from_nanos(millis * 1_000_000);
        let mut speed = Speed::new(at(0), 100.0);
        for half in 1..=20 {
            speed.through(at(half * 500), 5_000);
        }
        assert!((9_900..=10_000).contains(&speed.targets_in(Duration::from_secs(1))));
        speed.idle(at(100_000));
        speed.through(at(100_500), 5_000);
        assert!((9_900..=10_000).contains(&speed.targets_in(Duration::from_secs(1))));
    }
}
