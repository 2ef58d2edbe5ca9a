//! Probes per second, as budgets, shares and caps are counted: in millionths, so that a probe every five minutes is a rate too.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A rate, in millionths of a packet per second. A probe that sends several packets counts as several.
/// Zero means that nothing may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(u64);

/// Millionths in one.
const MILLION: u64 = 1_000_000;

impl Rate {
    /// Nothing may be sent.
    pub const ZERO: Self = Self(0);
    /// The least that can be asked for: a probe in eleven and a half days.
    pub const LEAST: Self = Self(1);
    /// The most that can be asked for: more than any link carries.
    pub const MOST: Self = Self(1_000_000_000 * MILLION);

    /// From millionths of a packet per second.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// From whole packets per second; saturates.
    #[must_use]
    pub const fn per_second(packets: u32) -> Self {
        Self(packets as u64 * MILLION)
    }

    /// From packets per second, to the nearest millionth. `None` outside [`LEAST`](Self::LEAST) to [`MOST`](Self::MOST).
    #[must_use]
    pub fn from_per_second(packets: f64) -> Option<Self> {
        let micros = (packets * MILLION as f64).round();
        let rate = (micros >= 0.0 && micros < u64::MAX as f64).then_some(Self(micros as u64))?;
        (Self::LEAST..=Self::MOST).contains(&rate).then_some(rate)
    }

    /// In millionths of a packet per second.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// In packets per second.
    #[must_use]
    pub fn as_per_second(self) -> f64 {
        self.0 as f64 / MILLION as f64
    }
}

/// `500`, `0.5`, `0.003333`: packets per second, and no digit that says nothing.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / MILLION, self.0 % MILLION);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        let rest = format!("{rest:06}");
        write!(f, "{whole}.{}", rest.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_written_as_they_are_typed() {
        for (packets, micros, text) in [
            (500.0, 500_000_000, "500"),
            (0.5, 500_000, "0.5"),
            (1.0 / 300.0, 3_333, "0.003333"),
            (2.5, 2_500_000, "2.5"),
        ] {
            let rate = Rate::from_per_second(packets).unwrap();
            assert_eq!((rate.micros(), rate.to_string().as_str()), (micros, text));
        }
        assert_eq!(Rate::per_second(u32::MAX).as_per_second(), f64::from(u32::MAX));
    }

    #[test]
    fn what_is_no_rate_is_none() {
        for packets in [0.0, -1.0, 1e-7, 1.1e9, f64::NAN, f64::INFINITY] {
            assert_eq!(Rate::from_per_second(packets), None, "{packets}");
        }
        assert_eq!(Rate::from_per_second(1e9), Some(Rate::MOST));
    }
}
