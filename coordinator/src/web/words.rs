//! How pages say numbers, times and states.

use crate::report::quantity::{duration, grouped};
use jiff::Timestamp;
use std::time::Duration;

/// A count, with its thousands apart.
#[must_use]
pub fn number(count: u64) -> String {
    grouped(u128::from(count))
}

/// Targets per second.
#[must_use]
pub fn per_second(rate: f64) -> String {
    match rate {
        rate if rate >= 10.0 => format!("{}/s", grouped(rate.round() as u128)),
        rate if rate > 0.0 => format!("{rate:.1}/s"),
        _ => "0/s".to_owned(),
    }
}

/// A time to come, in units that do not flicker.
#[must_use]
pub fn rough(time: Duration) -> String {
    duration(Duration::from_secs(time.as_secs().max(1))).replace(".0 s", " s")
}

/// How long ago that was: `just now`, `12 s ago`, `3 h 4 min ago`.
#[must_use]
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    match now.duration_since(then).as_secs() {
        ..=1 => "just now".to_owned(),
        seconds => format!("{} ago", rough(Duration::from_secs(seconds.unsigned_abs()))),
    }
}

/// How long ago that many seconds since 1970 were.
#[must_use]
pub fn ago_s(then: i64, now: Timestamp) -> String {
    Timestamp::from_second(then).map_or_else(|_| "long ago".to_owned(), |then| ago(then, now))
}

/// A moment, to the second, as RFC 3339 has it.
#[must_use]
pub fn moment(at: Timestamp) -> String {
    at.round(jiff::Unit::Second).unwrap_or(at).to_string()
}

/// A share, 0 to 1, as a percentage: rounded down, as 100 % is all.
#[must_use]
pub fn percent(part: u64, whole: u64) -> u64 {
    let percent = (u128::from(part) * 100).checked_div(u128::from(whole)).unwrap_or(0);
    u64::try_from(percent.min(100)).unwrap_or(100)
}

/// A measured loss.
#[must_use]
pub fn loss(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_words() {
        let now = Timestamp::from_second(1_000_000).expect("a moment");
        let before = |seconds: i64| ago_s(1_000_000 - seconds, now);
        assert_eq!(
            [before(-5), before(1), before(12), before(125)],
            ["just now", "just now", "12 s ago", "2 min 5 s ago"]
        );
        assert_eq!(moment(now), "1970-01-12T13:46:40Z");
    }

    #[test]
    fn rates_and_shares_are_rounded_honestly() {
        assert_eq!([per_second(0.0), per_second(0.25), per_second(31_204.4)], ["0/s", "0.2/s", "31,204/s"]);
        assert_eq!([percent(999, 1_000), percent(1_000, 1_000), percent(0, 0)], [99, 100, 0]);
        assert_eq!(loss(0.0213), "2.1%");
    }
}
