//! How far a scan is, in numbers and in words: what the bar shows and what a status line says. Pure.

use crate::report::quantity::{duration, grouped};
use protocol::time::Time;
use std::time::Duration;

/// Rates are averaged over about so long, in seconds: long enough for a number that can be read, short enough to see a change.
const AVERAGED_OVER_S: f64 = 5.0;

/// How far a scan is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Counts {
    /// How many targets it has.
    pub(crate) targets: u64,
    /// How many of these are ports of hosts that may turn out to be down: then they are none.
    pub(crate) undiscovered: u64,
    /// How many of them have an outcome, `not-probed` included.
    pub(crate) settled: u64,
    /// Open ports, or live hosts where only `ping` is asked.
    pub(crate) found: u64,
    /// How many were not probed, so far.
    pub(crate) not_probed: u64,
    /// The measured share of tries that is lost, 0 to 1.
    pub(crate) loss: Option<f64>,
    /// How many probes may be in flight; 0 where that is not known.
    pub(crate) window: u32,
}

/// Keeps the counts and how fast they rise.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: Counts,
    begun_at: Option<Time>,
    measured_at: Option<(Time, u64)>,
    rate_per_s: Option<f64>,
}

impl Tally {
    /// Of a scan of `targets` that begins at `now`.
    pub(super) fn new(targets: u64, now: Time) -> Self {
        let counts = Counts { targets, ..Counts::default() };
        Self { counts, begun_at: Some(now), measured_at: Some((now, 0)), rate_per_s: None }
    }

    /// Takes newer counts.
    pub(super) fn set(&mut self, counts: Counts) {
        self.counts = counts;
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Measures the rate since it was last called. Called at any intervals; shorter ones weigh less.
    pub(super) fn measure(&mut self, now: Time) {
        let settled = self.counts.settled;
        let Some((before, settled_before)) = self.measured_at.replace((now, settled)) else { return };
        let seconds = now.since(before).as_secs_f64();
        if seconds <= 0.0 {
            self.measured_at = Some((before, settled_before));
            return;
        }
        let rate = settled.saturating_sub(settled_before) as f64 / seconds;
        // At first there is no past to average with but the scan's own.
        let age = self.begun_at.map_or(0.0, |begun| now.since(begun).as_secs_f64()).min(AVERAGED_OVER_S);
        let weight = 1.0 - (-seconds / age.max(seconds)).exp();
        self.rate_per_s = Some(self.rate_per_s.map_or(rate, |average| average + weight * (rate - average)));
    }

    /// How long the rest takes at this rate; `None` where that cannot be said.
    pub(super) fn remaining(&self) -> Option<Duration> {
        let rest = self.counts.targets.saturating_sub(self.counts.settled);
        let rate = self.rate_per_s.filter(|&rate| rest > 0 && rate >= 0.01)?;
        Duration::try_from_secs_f64(rest as f64 / rate).ok()
    }

    /// What stands beside the bar: `42%  31,204/s  12 found  3 not probed  2.1% lost  window 8,192  2 min 5 s left`.
    pub(super) fn beside_bar(&self) -> String {
        let mut parts = vec![self.percent(), self.rate(), format!("{} found", number(self.counts.found))];
        if self.counts.not_probed > 0 {
            parts.push(format!("{} not probed", number(self.counts.not_probed)));
        }
        parts.extend(self.network());
        parts.push(self.left());
        parts.retain(|part| !part.is_empty());
        parts.join("  ")
    }

    /// One line for whoever asks: `12,600 of 30,000 targets (42%), 31,204/s, 12 found, 3 not probed, 2.1% lost, window 8,192, 2 min
    /// 5 s left`.
    pub(super) fn status(&self) -> String {
        let Counts { targets, undiscovered, settled, found, not_probed, .. } = self.counts;
        let most = if undiscovered > 0 { "at most " } else { "" };
        let mut parts = vec![format!("{} of {most}{} targets ({})", number(settled), number(targets), self.percent())];
        parts.push(self.rate());
        parts.push(format!("{} found", number(found)));
        if not_probed > 0 {
            parts.push(format!("{} not probed", number(not_probed)));
        }
        parts.extend(self.network());
        parts.push(self.left());
        parts.retain(|part| !part.is_empty());
        parts.join(", ")
    }

    /// What is lost, and how much is in flight because of it: as far as that is known.
    fn network(&self) -> [String; 2] {
        let Counts { loss, window, .. } = self.counts;
        let loss = loss.map(|loss| format!("{:.1}% lost", loss * 100.0));
        let window = (window > 0).then(|| format!("window {}", number(window.into())));
        [loss, window].map(Option::unwrap_or_default)
    }

    /// Rounded down: 100% is all.
    fn percent(&self) -> String {
        let Counts { targets, settled, .. } = self.counts;
        let percent = (u128::from(settled) * 100).checked_div(u128::from(targets)).unwrap_or(0);
        format!("{}%", percent.min(100))
    }

    /// Nothing while nothing is settled: a rate of 0 would say that nothing is sent.
    fn rate(&self) -> String {
        self.rate_per_s
            .filter(|_| self.counts.settled > 0)
            .map(|rate| format!("{}/s", number(rate.round() as u64)))
            .unwrap_or_default()
    }

    fn left(&self) -> String {
        if self.counts.settled >= self.counts.targets {
            return "asking silent ones again".to_owned();
        }
        match self.remaining() {
            // Tenths of a second would only flicker.
            Some(left) => {
                let most = if self.counts.undiscovered > 0 { "at most " } else { "" };
                format!("{most}{} left", duration(Duration::from_secs(left.as_secs().max(1))).replace(".0 s", " s"))
            }
            None => String::new(),
        }
    }
}

fn number(count: u64) -> String {
    grouped(u128::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::default() + Duration::from_millis(ms)
    }

    fn counts(settled: u64) -> Counts {
        Counts { targets: 30_000, settled, found: 12, not_probed: 3, ..Counts::default() }
    }

    #[test]
    fn a_scan_that_has_just_begun_promises_nothing() {
        let tally = Tally::new(30_000, at(0));
        assert_eq!(tally.beside_bar(), "0%  0 found");
        assert_eq!(tally.status(), "0 of 30,000 targets (0%), 0 found");
    }

    #[test]
    fn an_even_pace_is_measured_exactly_and_the_rest_follows() {
        let mut tally = Tally::new(30_000, at(0));
        for second in 1..=10 {
            tally.set(counts(second * 100));
            tally.measure(at(second * 1_000));
        }
        assert_eq!(tally.beside_bar(), "3%  100/s  12 found  3 not probed  4 min 50 s left");
        assert_eq!(tally.status(), "1,000 of 30,000 targets (3%), 100/s, 12 found, 3 not probed, 4 min 50 s left");
    }

    #[test]
    fn what_is_lost_and_what_is_in_flight_is_shown_once_it_is_known() {
        let mut tally = Tally::new(30_000, at(0));
        tally.set(Counts { loss: Some(0.0213), window: 8_192, ..counts(100) });
        tally.measure(at(1_000));
        let line =
            "100 of 30,000 targets (0%), 100/s, 12 found, 3 not probed, 2.1% lost, window 8,192, 4 min 59 s left";
        assert_eq!(tally.status(), line);
        assert_eq!(tally.beside_bar(), "0%  100/s  12 found  3 not probed  2.1% lost  window 8,192  4 min 59 s left");
    }

    #[test]
    fn while_hosts_may_turn_out_to_be_down_it_says_at_most() {
        let mut tally = Tally::new(30_000, at(0));
        tally.set(Counts { undiscovered: 20_000, ..counts(100) });
        tally.measure(at(1_000));
        assert_eq!(
            tally.status(),
            "100 of at most 30,000 targets (0%), 100/s, 12 found, 3 not probed, at most 4 min 59 s left"
        );
    }

    #[test]
    fn a_scan_that_stalls_slows_down_and_promises_nothing_for_ever() {
        let mut tally = Tally::new(30_000, at(0));
        tally.set(counts(1_000));
        tally.measure(at(1_000));
        let first = tally.remaining().unwrap();
        tally.measure(at(6_000));
        assert!(tally.remaining().unwrap() > first * 2);
        for second in 7..120 {
            tally.measure(at(second * 1_000));
        }
        assert_eq!(tally.remaining(), None);
        assert_eq!(tally.beside_bar(), "3%  0/s  12 found  3 not probed");
    }

    #[test]
    fn measuring_twice_at_one_moment_changes_nothing() {
        let mut tally = Tally::new(30_000, at(0));
        tally.set(counts(500));
        tally.measure(at(0));
        assert_eq!(tally.rate_per_s, None);
        tally.measure(at(1_000));
        assert_eq!(tally.rate_per_s, Some(500.0));
    }

    #[test]
    fn the_percentage_is_rounded_down_and_the_end_is_no_time_left() {
        let mut tally = Tally::new(30_000, at(0));
        tally.set(counts(29_999));
        assert!(tally.beside_bar().starts_with("99%"));
        tally.set(counts(30_000));
        tally.measure(at(1_000));
        assert!(tally.beside_bar().starts_with("100%") && tally.beside_bar().ends_with("asking silent ones again"));
    }
}
