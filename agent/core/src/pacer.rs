//! The pacer: a token bucket that is told the time. It belongs to an agent and a scan (or to a host), and outlives leases.
//!
//! - P1: over any interval, no more is taken than rate × time and one burst. A burst is 10 ms of the rate, at least one probe.
//!   (Where probes cost several packets and the rate is lowered below what one costs, the rest of one probe may be beyond that.)
//! - P2: asked often enough, it gives at least 99 % of the rate. Up to 100 probes a second a burst is a single one, so that each
//!   moment by which a timer is late is lost: 1 ms costs 1 % at 10 a second and 10 % at 100. That is the price of P1.
//! - P3: a new rate brings no burst; neither does a timer that is late more than one.
//!
//! Counts exactly, in integers: a packet is `PACKET` units, and a rate of one millionth gives one unit in a nanosecond.

use protocol::rate::Rate;
use protocol::time::Time;
use std::time::Duration;

/// A packet, in millionths of it × nanoseconds in a second.
const PACKET: i128 = 1_000_000 * 1_000_000_000;
/// How much of the rate may be sent at once: a timer may be late by so much without cost.
const BURST: Duration = Duration::from_millis(10);

/// What enforces a rate.
#[derive(Debug, Clone)]
pub struct Pacer {
    rate: Rate,
    /// What may be taken at `at`; less than nothing after a probe that costs more than a burst.
    level: i128,
    at: Time,
    /// How many packets were taken.
    taken: u64,
}

impl Pacer {
    /// A pacer from which one packet can be taken at once.
    #[must_use]
    pub fn new(now: Time, rate: Rate) -> Self {
        Self { rate, level: PACKET, at: now, taken: 0 }
    }

    /// The present rate.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// How many packets were taken so far.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Another rate from now on. What was saved up stays, up to the new burst.
    pub fn set_rate(&mut self, now: Time, rate: Rate) {
        self.advance(now);
        self.rate = rate;
        self.level = self.level.min(self.burst());
    }

    /// Takes `cost` packets if that may be now. One that costs more than a burst is taken from a full one, and is waited for
    /// afterwards.
    pub fn take(&mut self, now: Time, cost: u32) -> bool {
        self.advance(now);
        let may = self.rate != Rate::ZERO && self.level >= self.wanted(cost);
        if may {
            self.level -= i128::from(cost) * PACKET;
            self.taken += u64::from(cost);
        }
        may
    }

    /// Takes `cost` packets whether there is room or not: what comes next waits the longer. P1 does not hold across it.
    pub fn charge(&mut self, now: Time, cost: u32) {
        self.advance(now);
        self.level -= i128::from(cost) * PACKET;
        self.taken += u64::from(cost);
    }

    /// Whether `cost` packets can be taken now.
    #[must_use]
    pub fn has(&self, now: Time, cost: u32) -> bool {
        self.next_at(cost).is_some_and(|at| at <= now)
    }

    /// When `cost` packets can be taken; `None` if never, at this rate. Later than the last moment at which they could not.
    #[must_use]
    pub fn next_at(&self, cost: u32) -> Option<Time> {
        self.reaches(self.wanted(cost))
    }

    /// From when on nothing is known by this pacer that a new one would not know.
    #[must_use]
    pub fn full_at(&self) -> Option<Time> {
        self.reaches(self.burst())
    }

    fn reaches(&self, level: i128) -> Option<Time> {
        let rate = i128::from(self.rate.micros());
        if rate == 0 {
            return None;
        }
        let missing = (level - self.level).max(0);
        let nanos = (missing + rate - 1) / rate;
        Some(self.at + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    fn wanted(&self, cost: u32) -> i128 {
        (i128::from(cost) * PACKET).min(self.burst())
    }

    fn burst(&self) -> i128 {
        (i128::from(self.rate.micros()) * BURST.as_nanos() as i128).max(PACKET)
    }

    fn advance(&mut self, now: Time) {
        let nanos = i128::from(now.since(self.at).as_nanos() as u64);
        self.level = (self.level + i128::from(self.rate.micros()) * nanos).min(self.burst());
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    fn rates() -> impl Strategy<Value = Rate> {
        prop_oneof![
            (3_000_u64..1_000_000).prop_map(Rate::from_micros),
            (1_u32..1_000).prop_map(Rate::per_second),
            (1_000_u32..200_000).prop_map(Rate::per_second),
            Just(Rate::ZERO),
        ]
    }

    fn packets_per_burst(rate: Rate) -> f64 {
        (rate.as_per_second() / 100.0).max(1.0)
    }

    proptest! {
        /// P1 and P3: every interval between two takes is looked at, with changes of rate and timers that are late.
        #[test]
        fn no_interval_has_more_than_its_rate_and_a_burst(
            steps in prop::collection::vec((rates(), 1_u64..50, prop::collection::vec(0_u64..30_000_000, 1..8)), 1..8),
            cost in 1_u32..4,
        ) {
            let mut pacer = Pacer::new(at(0), steps[0].0);
            let (mut now, mut allowed) = (0_u64, 0.0);
            // For each take: what the rates had given until then, and how much was taken before and with it.
            let mut takes: Vec<(f64, f64, f64)> = Vec::new();
            let mut taken = 0.0;
            for (rate, _, waits) in &steps {
                pacer.set_rate(at(now), *rate);
                for wait in waits {
                    now += wait;
                    allowed += rate.as_per_second() * (*wait as f64) / 1e9;
                    while pacer.take(at(now), cost) {
                        takes.push((allowed, taken, taken + f64::from(cost)));
                        taken += f64::from(cost);
                    }
                }
            }
            let burst = steps.iter().map(|(rate, ..)| packets_per_burst(*rate)).fold(f64::from(cost), f64::max);
            for (first, &(from, before, _)) in takes.iter().enumerate() {
                for &(until, _, after) in &takes[first..] {
                    let allowed = until - from + burst + f64::from(cost - 1) + 1e-6;
                    prop_assert!(after - before <= allowed, "{} in {}", after - before, until - from);
                }
            }
        }

        /// P2: whoever asks at the moment that it names, or a little later, gets the rate.
        #[test]
        fn asked_often_enough_it_gives_the_rate(rate in rates(), late in 0_u64..2_000_000) {
            prop_assume!(rate != Rate::ZERO);
            // No later than a burst bears.
            let slack_s = (packets_per_burst(rate) - 1.0) / rate.as_per_second();
            let late = late.min(Duration::from_secs_f64(slack_s).as_nanos() as u64);
            let mut pacer = Pacer::new(at(0), rate);
            let (mut now, mut taken) = (0, 0_u64);
            let until = Duration::from_secs_f64(2_000.0 / rate.as_per_second()).as_nanos() as u64;
            loop {
                while pacer.take(at(now), 1) {
                    taken += 1;
                }
                if now >= until {
                    break;
                }
                let next = pacer.next_at(1).unwrap();
                prop_assert!(next > at(now), "a wake-up in the past");
                now = next.as_nanos() + late;
            }
            let expected = rate.as_per_second() * now as f64 / 1e9;
            prop_assert!(taken as f64 >= expected * 0.99, "{taken} of {expected}");
        }
    }

    #[test]
    fn a_burst_is_ten_milliseconds_and_at_least_one_probe() {
        for (rate, burst) in [(Rate::per_second(500), 5), (Rate::per_second(20), 1), (Rate::from_micros(3_333), 1)] {
            let mut pacer = Pacer::new(at(0), rate);
            assert!(pacer.take(at(0), 1) && !pacer.take(at(0), 1), "one at once, no burst at the beginning");
            let later = at(400_000_000_000_000);
            assert_eq!((0..1_000).filter(|_| pacer.take(later, 1)).count(), burst, "{rate}");
        }
    }

    #[test]
    fn a_probe_every_five_minutes_is_a_rate() {
        let mut pacer = Pacer::new(at(0), Rate::from_per_second(1.0 / 300.0).unwrap());
        assert!(pacer.take(at(0), 1));
        let next = pacer.next_at(1).unwrap();
        assert!((300..=301).contains(&next.since(at(0)).as_secs()));
        assert!(!pacer.take(at(next.as_nanos() - 1), 1) && pacer.take(next, 1));
    }

    #[test]
    fn what_costs_more_than_a_burst_is_paid_for_afterwards() {
        let mut pacer = Pacer::new(at(0), Rate::per_second(1));
        assert!(pacer.take(at(0), 2));
        assert_eq!(pacer.next_at(2), Some(at(2_000_000_000)));
    }

    #[test]
    fn a_rate_of_zero_waits_and_changing_it_gives_nothing_away() {
        let mut pacer = Pacer::new(at(0), Rate::per_second(1));
        assert!(pacer.take(at(0), 1));
        for _ in 0..100 {
            pacer.set_rate(at(1), Rate::ZERO);
            assert!(!pacer.take(at(1), 1));
            assert_eq!(pacer.next_at(1), None);
            pacer.set_rate(at(1), Rate::per_second(100_000));
            assert!(!pacer.take(at(1), 1));
        }
    }
}
