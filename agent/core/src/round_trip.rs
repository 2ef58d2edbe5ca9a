//! How long an answer takes, measured, and how long it is worth waiting for one.
//!
//! The estimator is that of RFC 6298 (Jacobson and Karels 1988): a smoothed round trip, and how much it varies. Each try is a
//! connection or an echo request of its own, and given up before the kernel sends it again, so that no answer is ambiguous.

use std::net::IpAddr;
use std::time::Duration;

/// The least that a try waits: a host's own pauses are longer than a near network's round trip.
pub const WAIT_MIN: Duration = Duration::from_millis(100);
/// When a try is overdue while nothing is measured. It is listened for as long as any may be: that others go out meanwhile costs nobody
/// an answer.
pub const WAIT_FIRST: Duration = Duration::from_millis(300);
/// The least that a try is listened for, unless its timeout is shorter.
const LISTENED_MIN: Duration = Duration::from_millis(200);
/// A host whose round trips are known is listened for so many times as long as its answers should take, and [`LISTENED_MIN`] at least.
const LISTENED_TIMES: u32 = 2;

/// A measured round trip, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundTrip {
    smoothed_us: u32,
    varies_us: u32,
}

impl RoundTrip {
    /// RFC 6298, rule 2.2: the first measurement.
    #[must_use]
    pub fn first(measured: Duration) -> Self {
        let measured = micros(measured);
        Self { smoothed_us: measured, varies_us: measured / 2 }
    }

    /// RFC 6298, rule 2.3: a further one.
    #[must_use]
    pub fn then(self, measured: Duration) -> Self {
        let measured = micros(measured);
        let off = self.smoothed_us.abs_diff(measured);
        Self {
            smoothed_us: self.smoothed_us - self.smoothed_us / 8 + measured / 8,
            varies_us: self.varies_us - self.varies_us / 4 + off / 4,
        }
    }

    /// After how long an answer is overdue: srtt + 4 rttvar.
    #[must_use]
    pub fn wait(self) -> Duration {
        Duration::from_micros(u64::from(self.smoothed_us) + 4 * u64::from(self.varies_us))
    }

    /// The smoothed round trip.
    #[must_use]
    pub fn smoothed(self) -> Duration {
        Duration::from_micros(self.smoothed_us.into())
    }
}

/// An hour at most, so that sums of several fit.
fn micros(measured: Duration) -> u32 {
    u32::try_from(measured.as_micros()).unwrap_or(u32::MAX).min(3_600_000_000)
}

/// How long a try waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// After so long without an answer it counts as in flight no longer: another may be sent.
    pub overdue: Duration,
    /// For so long it is listened for at least, whoever wants its socket; never less than `overdue`.
    pub least: Duration,
    /// For so long it is listened for while nobody wants its socket; never less than `least`.
    pub timeout: Duration,
}

impl Wait {
    /// A wait of one length, whatever is measured.
    #[must_use]
    pub const fn fixed(timeout: Duration) -> Self {
        Self { overdue: timeout, least: timeout, timeout }
    }

    /// Where nothing was measured: overdue after [`WAIT_FIRST`], and listened for as long as may be.
    #[must_use]
    pub fn unmeasured(longest: Duration) -> Self {
        Self { overdue: WAIT_FIRST.min(longest), least: longest, timeout: longest }
    }

    /// Where a round trip was measured of its neighbours: overdue after [`RoundTrip::wait`] within [`WAIT_MIN`] and `longest`, and
    /// listened for as long as ever. Listening keeps nobody waiting, and a host may be farther than its neighbours. It is listened for half as
    /// long again at least: answers that become later would not be heard, and waits never be longer for them.
    #[must_use]
    pub fn of_neighbours(round_trip: RoundTrip, longest: Duration) -> Self {
        let overdue = round_trip.wait().max(WAIT_MIN).min(longest);
        Self { overdue, least: (overdue * 3 / 2).min(longest), timeout: longest }
    }

    /// Where a round trip was measured of the host itself: it is known how long its answers take, so listening ends sooner. An answer that
    /// comes late, from a busy host or through a full queue, is an answer still.
    #[must_use]
    pub fn of_host(round_trip: RoundTrip, longest: Duration) -> Self {
        let Self { overdue, least, .. } = Self::of_neighbours(round_trip, longest);
        Self { overdue, least, timeout: (overdue * LISTENED_TIMES).max(LISTENED_MIN).min(longest) }
    }
}

/// The network that a host is in, as far as round trips go: its /24, or its /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbourhood(bool, u64);

impl From<IpAddr> for Neighbourhood {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(false, u64::from(v4.to_bits() >> 8)),
            IpAddr::V6(v6) => Self(true, (v6.to_bits() >> 64) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn after(measured: impl IntoIterator<Item = u64>) -> RoundTrip {
        let mut measured = measured.into_iter().map(ms);
        let first = RoundTrip::first(measured.next().unwrap());
        measured.fold(first, RoundTrip::then)
    }

    #[test]
    fn it_follows_rfc_6298() {
        assert_eq!(after([100]).wait(), ms(300), "srtt 100, rttvar 50");
        assert_eq!(after([100, 100]).wait(), Duration::from_micros(250_000), "rttvar 37.5");
        assert_eq!(after([100, 180]).smoothed(), ms(110));
    }

    #[test]
    fn waits_keep_their_bounds_in_worlds_of_1_and_400_ms_and_in_a_mixed_one() {
        let longest = ms(900);
        let near = after(std::iter::repeat_n(1, 50));
        assert_eq!(Wait::of_host(near, longest), Wait { overdue: WAIT_MIN, least: ms(150), timeout: ms(200) });
        assert_eq!(Wait::of_neighbours(near, longest), Wait { overdue: WAIT_MIN, least: ms(150), timeout: longest });
        let far = Wait::of_host(after([380, 400].repeat(50)), longest);
        assert!(far.overdue > ms(400) && far.overdue < ms(500) && far.timeout > ms(800), "{far:?}");
        assert_eq!(Wait::of_host(after([400]), longest).overdue, longest, "one measurement says little");
        let mixed = Wait::of_host(after([1, 1, 400].repeat(50)), longest);
        assert!(mixed.overdue > ms(400) && mixed.timeout > ms(800), "{mixed:?}");
        assert_eq!(Wait::of_host(after([1]), ms(50)), Wait::fixed(ms(50)), "the scan's own bound wins");
    }

    #[test]
    fn it_bears_any_measurement() {
        let wild = RoundTrip::first(Duration::MAX).then(Duration::ZERO).then(Duration::MAX);
        assert!(wild.wait() > Duration::ZERO);
        assert_eq!(after(std::iter::repeat_n(0, 100)).wait(), Duration::ZERO);
    }

    #[test]
    fn neighbours_share_a_24_or_a_64() {
        let of = |text: &str| Neighbourhood::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(of("192.0.2.1"), of("192.0.2.254"));
        assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("0.0.2.1"), of("::2:0:0:0:1"));
    }
}
