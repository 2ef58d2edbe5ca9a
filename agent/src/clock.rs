//! The only reader of clocks: moments for the machines, and the wall-clock time for what people read.
//!
//! A right is counted on a clock that goes on while the machine is suspended ([`Clock::Boottime`]): an agent that wakes from
//! suspend must not go on probing with a right that ended meanwhile. The coordinator counts on [`Clock::Monotonic`].

use protocol::time::Time;
use std::time::{Duration, SystemTime};

/// A source of moments. Moments of two different sources do not compare.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// CLOCK_BOOTTIME: counts suspend. An agent's.
    Boottime,
    /// CLOCK_MONOTONIC: stands still in suspend. A coordinator's.
    Monotonic,
    /// The clock of the tokio runtime, counted from [`Clock::tokio`]: stands still while a test has paused it.
    Tokio(tokio::time::Instant),
}

impl Clock {
    /// A clock that follows tokio's own, so that a test with paused time has virtual time everywhere. It begins at one hour,
    /// so that moments before "now" exist.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of clocks")]
    pub fn tokio() -> Self {
        Self::Tokio(tokio::time::Instant::now())
    }

    /// The present moment.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of clocks")]
    pub fn now(self) -> Time {
        match self {
            #[cfg(target_os = "linux")]
            Self::Boottime => system_time(libc::CLOCK_BOOTTIME),
            // Elsewhere the monotonic clock counts suspend too (macOS), or nothing better is known.
            #[cfg(not(target_os = "linux"))]
            Self::Boottime => system_time(libc::CLOCK_MONOTONIC),
            Self::Monotonic => system_time(libc::CLOCK_MONOTONIC),
            Self::Tokio(start) => {
                Time::ZERO + Duration::from_secs(3_600) + tokio::time::Instant::now().saturating_duration_since(start)
            }
        }
    }

    /// The moment at which a tokio timer must be set to fire at `at`; for a moment in the past, now. A timer may then be late
    /// (it stands still in suspend): whoever wakes asks [`now`](Self::now) again.
    #[must_use]
    pub fn until(self, at: Time) -> Duration {
        at.since(self.now())
    }

    /// The wall-clock time, for timestamps that people read. Nothing is decided by it: it may jump.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of clocks")]
    pub fn wall() -> SystemTime {
        SystemTime::now()
    }
}

fn system_time(clock: libc::clockid_t) -> Time {
    let mut read = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `read` is a valid, writable timespec for the length of the call, and is kept by nobody.
    let failed = unsafe { libc::clock_gettime(clock, &raw mut read) } != 0;
    // Both clocks are there on every Linux since 2.6.39. A clock that says nothing must not look like a right that goes on:
    // the end of time ends every right.
    if failed {
        return Time::NEVER;
    }
    let seconds = u64::try_from(read.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(read.tv_nsec).unwrap_or(0);
    Time::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clocks_go_forward_and_boottime_is_not_behind_monotonic() {
        for clock in [Clock::Boottime, Clock::Monotonic] {
            let earlier = clock.now();
            let later = clock.now();
            assert!(earlier > Time::ZERO && later >= earlier && later < Time::NEVER, "{clock:?}");
        }
        let monotonic = Clock::Monotonic.now();
        assert!(Clock::Boottime.now() >= monotonic);
    }

    #[tokio::test(start_paused = true)]
    async fn tokios_clock_moves_only_as_the_test_moves_it() {
        let clock = Clock::tokio();
        let start = clock.now();
        assert_eq!(clock.now(), start);
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(clock.now().since(start), Duration::from_secs(7));
        assert_eq!(clock.until(start), Duration::ZERO);
        assert_eq!(clock.until(start + Duration::from_secs(9)), Duration::from_secs(2));
    }
}
