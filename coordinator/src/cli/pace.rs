//! How fast a scan goes: rates as they are typed, and what `-T0` to `-T5` stand for.
//!
//! | typed | stands for              | that is                                   |
//! |-------|-------------------------|-------------------------------------------|
//! | `-T0` | `--rate 0.003333`       | a probe every 5 minutes: very slow        |
//! | `-T1` | `--rate 0.066666`       | a probe every 15 seconds: very slow       |
//! | `-T2` | `--rate 2.5`            | a probe every 0.4 seconds                 |
//! | `-T3` |                         | as without `-T`                           |
//! | `-T4` | `--timeout 500ms`       | slower answers are not waited for         |
//! | `-T5` | `--timeout 250ms`       | answers from the same continent, at most  |
//!
//! What is typed beside it wins: `-T2 --rate 10` is `--rate 10`. The times are those of nmap's templates: T0 to T2 its delays between
//! probes, T4 and T5 its initial round-trip timeouts (nmap's reference guide, "Timing templates").

use protocol::rate::Rate;
use std::time::Duration;

/// What a template sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Template {
    /// The budget of the scan.
    pub(super) rate: Option<Rate>,
    /// How long a try waits.
    pub(super) timeout: Option<Duration>,
}

impl Template {
    const fn paced(micros: u64) -> Self {
        Self { rate: Some(Rate::from_micros(micros)), timeout: None }
    }

    const fn waiting(millis: u64) -> Self {
        Self { rate: None, timeout: Some(Duration::from_millis(millis)) }
    }
}

/// By what follows `-T`.
const TEMPLATES: [Template; 6] = [
    Template::paced(3_333),
    Template::paced(66_666),
    Template::paced(2_500_000),
    Template { rate: None, timeout: None },
    Template::waiting(500),
    Template::waiting(250),
];

/// Reads what follows `-T`.
pub(super) fn template(text: &str) -> Result<Template, String> {
    let number = text.parse::<usize>().ok().filter(|_| text.len() == 1);
    number
        .and_then(|number| TEMPLATES.get(number).copied())
        .ok_or_else(|| "write a number, 0 (slowest) to 5".to_owned())
}

/// Reads a rate: `500`, `0.5`; packets per second.
pub(super) fn rate(text: &str) -> Result<Rate, String> {
    // Rust would read `inf`, `1e9` and `+1` too.
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number = if plain { text.parse::<f64>().ok() } else { None };
    number
        .and_then(Rate::from_per_second)
        .ok_or_else(|| format!("write probes per second, {} to {}", Rate::LEAST, Rate::MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_what_the_table_says() {
        let table = include_str!("pace.rs");
        for (number, expected) in TEMPLATES.into_iter().enumerate() {
            let row = table.lines().find(|line| line.starts_with(&format!("//! | `-T{number}`"))).unwrap();
            let meaning = row.split('|').nth(2).unwrap().trim().trim_matches('`');
            let said = match meaning.split_once(' ') {
                Some(("--rate", value)) => Template { rate: Some(rate(value).unwrap()), timeout: None },
                Some(("--timeout", value)) => {
                    let millis = value.trim_end_matches("ms").parse().unwrap();
                    Template { rate: None, timeout: Some(Duration::from_millis(millis)) }
                }
                _ => Template::default(),
            };
            assert_eq!((template(&number.to_string()), said), (Ok(expected), expected), "-T{number}");
        }
        for wrong in ["", "6", "00", "-1", "+1", "paranoid", "٣"] {
            assert!(template(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_may_be_below_one() {
        assert_eq!(rate("500"), Ok(Rate::per_second(500)));
        assert_eq!(rate("0.5"), Ok(Rate::from_micros(500_000)));
        assert_eq!(rate("1000000000"), Ok(Rate::MOST));
        for wrong in ["", "0", "0.0000001", "-1", "+1", "1e3", "inf", "NaN", "1000000001", "1.2.3", "fast", "1k", "٣"]
        {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
