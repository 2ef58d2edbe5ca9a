//! The times of the lease contract, and which of them can work together.

use std::time::Duration;

/// The times that a coordinator keeps, and tells its agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a right lasts after the request that was answered was sent.
    pub ttl: Duration,
    /// How much longer the coordinator waits at least: the drift of two clocks over `ttl`, one batch, and the longest try of a scan; more
    /// while there is a scan whose tries are longer.
    pub margin: Duration,
    /// How often agents renew.
    pub renew_every: Duration,
    /// A session that says nothing for so long is given up.
    pub silent_after: Duration,
    /// How long an interrupted scan waits for its agents' last reports.
    pub stop_within: Duration,
    /// How far two tries of a target are apart at least, listening included: what was lost to a burst is not lost to the same burst again.
    /// A cohort rests for what listening leaves of it.
    pub rest: Duration,
    /// How far two pings of a host are apart at least: hosts that limit what ICMP they send do so by the second
    /// (RFC 1812 section 4.3.2.8, `icmp_ratelimit` of Linux), and what was handed out may have waited a moment to be sent.
    pub rest_after_ping: Duration,
    /// How long a scan that says nothing else waits for who may probe what no present agent may, from its start, a start of the
    /// coordinator, or when the last such agent went.
    pub agent_wait: Duration,
    /// In so many parts a shard is cut whose holder's right ended.
    pub parts: usize,
    /// The most leases that an instance has open.
    pub leases_max: usize,
    /// Whether agents are told to go when all scans are finished: those of a scan from here.
    pub dismiss: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(10),
            margin: Duration::from_millis(1_500),
            renew_every: Duration::from_millis(2_500),
            silent_after: Duration::from_secs(6),
            stop_within: Duration::from_millis(1_500),
            rest: Duration::from_millis(500),
            rest_after_ping: Duration::from_millis(1_100),
            agent_wait: Duration::from_secs(60),
            parts: 16,
            leases_max: 256,
            dismiss: false,
        }
    }
}

/// Times that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A right would end between two renewals.
    #[error("a right of {ttl:?} is too short for renewals every {renew_every:?}: it must last three of them")]
    Ttl {
        /// The right's length.
        ttl: Duration,
        /// The time between renewals.
        renew_every: Duration,
    },
    /// Agents would be given up between two renewals.
    #[error(
        "a session is given up after {silent_after:?}, and renews only every {renew_every:?}: it must be given time for two"
    )]
    Silence {
        /// When it is given up.
        silent_after: Duration,
        /// The time between renewals.
        renew_every: Duration,
    },
    /// A probe could be in flight when its shard is another agent's.
    #[error("a margin of {margin:?} is too short for tries of {timeout:?}: it must be longer by half a second")]
    Margin {
        /// The margin.
        margin: Duration,
        /// The longest try's timeout.
        timeout: Duration,
    },
}

/// The margin's part beyond the longest try: clock drift over ttl, and one batch.
pub const MARGIN_BEYOND_TIMEOUT: Duration = Duration::from_millis(500);

impl Settings {
    /// With a margin that suits tries of `timeout`.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { margin: self.margin.max(timeout + MARGIN_BEYOND_TIMEOUT), ..self }
    }

    /// Refuses times that cannot work.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self, timeout: Duration) -> Result<(), SettingsError> {
        let Self { ttl, margin, renew_every, silent_after, .. } = *self;
        if ttl < renew_every * 3 {
            return Err(SettingsError::Ttl { ttl, renew_every });
        }
        if silent_after < renew_every * 2 {
            return Err(SettingsError::Silence { silent_after, renew_every });
        }
        if margin < timeout + MARGIN_BEYOND_TIMEOUT {
            return Err(SettingsError::Margin { margin, timeout });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_cannot_work_are_refused() {
        let second = Duration::from_secs(1);
        let fine = Settings::default();
        assert_eq!(fine.check(second), Ok(()));
        assert!(matches!(Settings { ttl: second, ..fine }.check(second), Err(SettingsError::Ttl { .. })));
        assert!(matches!(Settings { silent_after: second, ..fine }.check(second), Err(SettingsError::Silence { .. })));
        assert!(matches!(fine.check(second * 10), Err(SettingsError::Margin { .. })));
        assert_eq!(fine.with_timeout(second * 10).check(second * 10), Ok(()));
    }
}
