//! `lab`: the simulated network itself. Every figure that is measured on it rests on its keeping up.

use std::time::Duration;

use portsweep_tests::lab::simulated::{World, load};

const RATES: [u32; 4] = [100_000, 200_000, 300_000, 400_000];
const TIME: Duration = Duration::from_secs(3);

/// Hosts that answer every SYN, and hosts that answer none.
const WORLDS: [(&str, &str); 2] = [
    (
        "all answer after 10-80 ms",
        "seed = 1\nprefix = \"198.18.0.0/16\"\n[[hosts]]\nshare = 1.0\nrtt_ms = [10, 80]\nloss = [0.01, 0.01]",
    ),
    ("none answers", "seed = 1\nprefix = \"198.18.0.0/16\"\n[[hosts]]\nshare = 0.5\nclosed = \"drop\""),
];

pub(crate) fn run() -> anyhow::Result<String> {
    let mut text = format!(
        "{:<26} {:>9} {:>9} {:>9} {:>8} {:>8} {:>10} {:>8}\n",
        "world", "asked/s", "sent/s", "seen/s", "missed", "unsent", "answered/s", "late ms"
    );
    for (name, world) in WORLDS {
        for rate in RATES {
            let loaded = load(World::parse(world)?, rate, TIME)?;
            let seconds = loaded.took.as_secs_f64();
            let account = &loaded.account;
            text += &format!(
                "{name:<26} {rate:>9} {:>9.0} {:>9.0} {:>8} {:>8} {:>10.0} {:>8.1}\n",
                loaded.sent as f64 / seconds,
                account.total().tcp as f64 / seconds,
                account.missed,
                account.unsent,
                account.answered as f64 / seconds,
                account.latest.as_secs_f64() * 1000.0,
            );
        }
    }
    Ok(text)
}
