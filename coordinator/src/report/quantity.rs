//! Numbers as people read them: grouped digits, round-trip times, durations.

use std::time::Duration;

/// Groups digits by thousands: `1,234,567`.
#[must_use]
pub fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A round-trip time in milliseconds, with about three digits: `0.42 ms`, `12.3 ms`, `250 ms`.
#[must_use]
pub fn round_trip(rtt_us: u32) -> String {
    let ms = f64::from(rtt_us) / 1_000.0;
    let decimals = match rtt_us {
        0..10_000 => 2,
        10_000..100_000 => 1,
        _ => 0,
    };
    format!("{ms:.decimals$} ms")
}

/// A duration in its two largest units: `3.2 s`, `2 min 5 s`, `3 h 4 min`, `12 days 3 h`, `40 years`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    const YEAR: u64 = 365 * DAY;
    // 59.95 s would be rounded to 60.0 s.
    if duration < Duration::from_millis(59_950) {
        return format!("{:.1} s", duration.as_secs_f64());
    }
    let seconds = duration.as_secs().saturating_add(u64::from(duration.subsec_millis() >= 500));
    let (large, small) = match seconds {
        0..HOUR => ((seconds / MINUTE, "min"), (seconds % MINUTE, "s")),
        HOUR..DAY => ((seconds / HOUR, "h"), (seconds % HOUR / MINUTE, "min")),
        DAY..YEAR => ((seconds / DAY, "day"), (seconds % DAY / HOUR, "h")),
        YEAR.. => ((seconds / YEAR, "year"), (0, "")),
    };
    let plural = if large.0 > 1 && seconds >= DAY { "s" } else { "" };
    let (count, unit) = (grouped(u128::from(large.0)), large.1);
    match small {
        (0, _) => format!("{count} {unit}{plural}"),
        (rest, small_unit) => format!("{count} {unit}{plural} {rest} {small_unit}"),
    }
}

/// An amount of bytes, in powers of a thousand: `512 bytes`, `1.3 KB`, `128 MB`.
#[must_use]
pub fn bytes(count: u128) -> String {
    const UNITS: [(&str, u128); 5] = [
        ("PB", 1_000_000_000_000_000),
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("KB", 1_000),
    ];
    match UNITS.iter().find(|(_, size)| count >= *size) {
        None => format!("{count} bytes"),
        Some((unit, size)) if count < size * 10 => format!("{:.1} {unit}", count as f64 / *size as f64),
        Some((unit, size)) => format!("{} {unit}", grouped((count + size / 2) / size)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(16_777_216), "16,777,216");
    }

    #[test]
    fn round_trips_have_about_three_digits() {
        assert_eq!(round_trip(0), "0.00 ms");
        assert_eq!(round_trip(418), "0.42 ms");
        assert_eq!(round_trip(12_345), "12.3 ms");
        assert_eq!(round_trip(250_400), "250 ms");
    }

    #[test]
    fn bytes_have_two_digits_or_more() {
        assert_eq!(bytes(0), "0 bytes");
        assert_eq!(bytes(999), "999 bytes");
        assert_eq!(bytes(1_250), "1.2 KB");
        assert_eq!(bytes(128_000_000), "128 MB");
        assert_eq!(bytes(u128::from(u64::MAX)), "18,447 PB");
    }

    #[test]
    fn durations_have_their_two_largest_units() {
        let shown = |ms| duration(Duration::from_millis(ms));
        assert_eq!(shown(0), "0.0 s");
        assert_eq!(shown(59_949), "59.9 s");
        assert_eq!(shown(59_950), "1 min");
        assert_eq!(shown(125_000), "2 min 5 s");
        assert_eq!(shown(3 * 3_600_000 + 240_000), "3 h 4 min");
        assert_eq!(shown(86_400_000), "1 day");
        assert_eq!(shown(27 * 3_600_000), "1 day 3 h");
        assert_eq!(duration(Duration::MAX), "584,942,417,355 years");
    }
}
