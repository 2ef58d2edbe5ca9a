//! The window over all: how many probes are in flight to all hosts together, as a share of what the scan and the machine allow.
//!
//! It begins with all of that: most of what a scan asks says nothing, and a window that grew by answers alone would wait for ever. From
//! there it follows additive increase and multiplicative decrease (Chiu and Jain 1989), with the question of the
//! [window of a host](crate::window) in between: did the smaller window lose less?
//!
//! - O1: it grows by answers in time, by a window for about `GROWS_IN` windows of them.
//! - O2: what this machine could not send (descriptors, ports, buffers) cuts it to three quarters, at most once in `PRESSURE_PAUSE`.
//! - O3: once more than `LOSS_MAX` of the checks are lost, at `HOSTS_MIN` hosts at least, it is cut to a half. What one host loses is
//!   for the window of that host.
//! - O4: if of the next checks about as many are lost, the loss is none of its doing: the cut is taken back, and that much is tolerated.
//! - O5: it is never less than `LEAST`.
//! - O6: where waits follow the round trips it is `FIRST` at most until the first probe is back, or overdue: how long others wait is to be
//!   known before they go.

use crate::window::LOSS_MAX;
use protocol::probe::{Slot, Target};
use protocol::time::Time;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// The most in flight before anything is back.
const FIRST: u32 = 2_048;
/// The least window over all, where more is allowed.
pub const LEAST: u32 = 64;
/// So many windows of answers make it grow by one.
const GROWS_IN: f32 = 8.0;
/// How often what this machine lacks counts.
const PRESSURE_PAUSE: Duration = Duration::from_secs(1);
/// So many checks say something.
const CHECKS_MIN: u32 = 16;
/// At so many hosts checks must be lost.
const HOSTS_MIN: usize = 4;
/// What is lost after a cut must be at most this share of what was before, or the cut did nothing.
const LESS_LOST: f32 = 0.75;
/// Of pings, which nothing else slows down, it did something as well if so many times as many are answered: a half of ten times what a link
/// bears loses nearly as much as the whole, but twice as much of it comes through.
const MORE_ANSWERED: f32 = 1.5;
/// What is measured counts for so long.
const SPAN: Duration = Duration::from_secs(3);

/// The window over all.
#[derive(Debug)]
pub struct Overall {
    share: f32,
    tolerated: f32,
    checks: u32,
    /// Of these, pings.
    pings: u32,
    lost: u32,
    lost_at: BTreeSet<IpAddr>,
    /// Since when checks are counted. What was sent before is not.
    since: Time,
    /// The share before a cut, and what was lost then.
    before: Option<(f32, f32)>,
    pressed_at: Option<Time>,
    /// Whether anything was back yet.
    begun: bool,
}

impl Default for Overall {
    fn default() -> Self {
        Self {
            share: 1.0,
            tolerated: LOSS_MAX,
            checks: 0,
            pings: 0,
            lost: 0,
            lost_at: BTreeSet::new(),
            since: Time::ZERO,
            before: None,
            pressed_at: None,
            begun: false,
        }
    }
}

impl Overall {
    /// How many probes may be in flight of `most` that are allowed.
    #[must_use]
    pub fn of(&self, most: u32) -> u32 {
        ((most as f32 * self.share) as u32).max(LEAST).min(most)
    }

    /// How many of so many may be in flight where tries wait as what comes back says (O6).
    #[must_use]
    pub fn at_first(&self, allowed: u32) -> u32 {
        if self.begun { allowed } else { allowed.min(FIRST) }
    }

    /// A probe is back, or overdue (O6).
    pub fn begins(&mut self) {
        self.begun = true;
    }

    /// A try was answered in time, with so many allowed (O1).
    pub fn answered(&mut self, most: u32) {
        if self.before.is_none() {
            let grown = self.share + 1.0 / (most.max(1) as f32 * GROWS_IN);
            self.share = grown.min(1.0);
        }
    }

    /// This machine could not send something (O2).
    pub fn pressed(&mut self, now: Time) {
        if self.pressed_at.is_none_or(|at| now >= at + PRESSURE_PAUSE) {
            self.pressed_at = Some(now);
            self.share *= 0.75;
        }
    }

    /// What was asked again, when it was sent, and whether it was answered in time (O3, O4).
    pub fn checked(&mut self, now: Time, target: Target, sent_at: Time, answered: bool) {
        if sent_at < self.since {
            return;
        }
        self.checks += 1;
        self.pings += u32::from(target.slot == Slot::Ping);
        if !answered {
            self.lost += 1;
            if self.lost_at.len() < HOSTS_MIN {
                self.lost_at.insert(target.address);
            }
        }
        if self.checks >= CHECKS_MIN {
            self.judge(now);
        } else if now >= self.since + SPAN {
            self.count_anew(now);
        }
    }

    fn judge(&mut self, now: Time) {
        let lost = self.lost as f32 / self.checks as f32;
        if let Some((share, before)) = self.before.take() {
            let more = self.pings == self.checks && 1.0 - lost >= (1.0 - before) * MORE_ANSWERED;
            if lost > before * LESS_LOST && !more {
                self.share = share;
                self.tolerated = (lost.max(before) + LOSS_MAX).min(1.0);
            }
        } else if lost > self.tolerated && self.lost_at.len() >= HOSTS_MIN {
            self.before = Some((self.share, lost));
            self.share /= 2.0;
        }
        self.count_anew(now);
    }

    fn count_anew(&mut self, now: Time) {
        (self.checks, self.pings, self.lost, self.since) = (0, 0, 0, now);
        self.lost_at.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u32 = 8_192;

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    fn target(number: u32, slot: Slot) -> Target {
        Target { address: IpAddr::V4((0xc000_0200 + number).into()), slot }
    }

    /// Sixteen checks at as many hosts, of which so many are lost.
    fn checks(overall: &mut Overall, now: u64, lost: u32, hosts: u32) {
        checks_by(overall, now, lost, hosts, Slot::Tcp(80));
    }

    fn checks_by(overall: &mut Overall, now: u64, lost: u32, hosts: u32, slot: Slot) {
        for number in 0..CHECKS_MIN {
            overall.checked(at(now), target(number % hosts, slot), at(now), number >= lost);
        }
    }

    #[test]
    fn it_begins_with_all_that_is_allowed_and_is_never_less_than_the_least() {
        let mut overall = Overall::default();
        assert_eq!((overall.of(MOST), overall.of(3)), (MOST, 3));
        for second in 0..100 {
            overall.pressed(at(second * 1_000));
        }
        assert_eq!((overall.of(MOST), overall.of(3)), (LEAST, 3));
    }

    #[test]
    fn o6_little_goes_before_the_first_is_back() {
        let mut overall = Overall::default();
        assert_eq!((overall.at_first(MOST), overall.at_first(100)), (FIRST, 100));
        overall.begins();
        assert_eq!(overall.at_first(MOST), MOST);
    }

    #[test]
    fn o1_o2_want_of_something_cuts_it_once_a_second_and_answers_bring_it_back() {
        let mut overall = Overall::default();
        for millis in 0..900 {
            overall.pressed(at(millis));
        }
        assert_eq!(overall.of(MOST), MOST / 4 * 3);
        for _ in 0..MOST {
            overall.answered(MOST);
        }
        assert!((6_900..7_400).contains(&overall.of(MOST)), "{}", overall.of(MOST));
        for _ in 0..MOST * 2 {
            overall.answered(MOST);
        }
        assert_eq!(overall.of(MOST), MOST);
    }

    #[test]
    fn o3_loss_at_many_hosts_cuts_it_as_long_as_that_helps() {
        let mut overall = Overall::default();
        checks(&mut overall, 0, 12, 16);
        assert_eq!(overall.of(MOST), MOST / 2);
        overall.answered(MOST);
        assert_eq!(overall.of(MOST), MOST / 2, "while it is not known what it does, it stays");
        checks(&mut overall, 100, 6, 16);
        assert_eq!(overall.of(MOST), MOST / 2, "that helped");
        checks(&mut overall, 200, 6, 16);
        assert_eq!(overall.of(MOST), MOST / 4, "and there is more to gain");
        let mut overall = Overall::default();
        checks(&mut overall, 0, 16, 3);
        assert_eq!(overall.of(MOST), MOST, "what few hosts lose is their own");
    }

    #[test]
    fn o4_pings_that_come_through_twice_as_often_say_that_a_cut_helped() {
        for (slot, then) in [(Slot::Ping, MOST / 4), (Slot::Tcp(80), MOST)] {
            let mut overall = Overall::default();
            checks_by(&mut overall, 0, 15, 16, slot);
            checks_by(&mut overall, 100, 13, 16, slot);
            checks_by(&mut overall, 200, 10, 16, slot);
            assert_eq!(overall.of(MOST), then, "{slot:?}");
        }
    }

    #[test]
    fn o4_loss_that_stays_is_tolerated_and_more_is_not() {
        let mut overall = Overall::default();
        checks(&mut overall, 0, 6, 16);
        assert_eq!(overall.of(MOST), MOST / 2);
        checks(&mut overall, 100, 6, 16);
        assert_eq!(overall.of(MOST), MOST);
        checks(&mut overall, 200, 7, 16);
        assert_eq!(overall.of(MOST), MOST, "as much is no news");
        checks(&mut overall, 300, 10, 16);
        assert_eq!(overall.of(MOST), MOST / 2);
    }

    #[test]
    fn what_was_sent_before_a_cut_says_nothing_of_it() {
        let mut overall = Overall::default();
        checks(&mut overall, 50, 6, 16);
        for number in 0..100_u32 {
            overall.checked(at(60), target(number, Slot::Ping), at(49), false);
        }
        assert_eq!(overall.of(MOST), MOST / 2, "not judged yet");
    }
}
