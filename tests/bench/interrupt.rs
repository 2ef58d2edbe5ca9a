//! `interrupt`: how long a scan takes to end after Ctrl-C, with everything written: of hosts that refuse, and of addresses that are silent,
//! whose tries are in flight then.

use anyhow::Context;
use portsweep_tests::lab::{self, Host};
use std::time::Duration;

use crate::measure::now;

/// How many times, each at another moment.
const ROUNDS: u32 = 9;
/// Far more than two seconds.
const TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn run() -> anyhow::Result<String> {
    let (scanner, target) = (Host::new("scanner")?, Host::new("target")?);
    lab::wire((&scanner, &["192.0.2.1/24"]), (&target, &["192.0.2.11/24", "192.0.2.12/24"]))?;
    target.silence("192.0.2.12")?;
    let mut table = format!("{:<10} {:>10} {:>10}\n", "host", "median s", "longest s");
    for (kind, address) in [("refuses", "192.0.2.11"), ("silent", "192.0.2.12")] {
        let mut took = Vec::new();
        for round in 0..ROUNDS {
            took.push(interrupted(&scanner, &target, address, 1 + u64::from(round) * 500)?);
        }
        took.sort();
        let (median, longest) = (took[took.len() / 2], took[took.len() - 1]);
        table += &format!("{kind:<10} {:>10.3} {:>10.3}\n", median.as_secs_f64(), longest.as_secs_f64());
    }
    Ok(table)
}

/// Starts a scan that would go on, and ends it once so many probes arrived.
fn interrupted(scanner: &Host, target: &Host, address: &str, probes: u64) -> anyhow::Result<Duration> {
    let directory = tempfile::tempdir()?;
    let words = ["-q", "-f", "tcp", "-p-", "--rate", "20000", "-w", "result.json", address];
    let command = scanner.command(lab::bin()?).args(words).directory(directory.path());
    let before = target.counted()?.sum();
    let scan = command.env("PORTSWEEP_STATE", directory.path().join("state")).start()?;
    while target.counted()?.sum() < before + probes {
        std::thread::yield_now();
    }
    scan.signal(libc::SIGINT)?;
    let since = now();
    scan.wait(TIMEOUT)?.expect_code(130)?;
    let took = since.elapsed();
    let result = std::fs::read(directory.path().join("result.json")).context("no result was written")?;
    let result: serde_json::Value = serde_json::from_slice(&result)?;
    anyhow::ensure!(result["scan"]["status"] == "interrupted", "{}", result["scan"]);
    Ok(took)
}
