//! Runs tools on a network in turn, and puts the medians of what they took into a table.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use portsweep_tests::lab::Host;

/// Rounds; the tools run in turn in each, so that a disturbance meets all of them.
const ROUNDS: usize = 3;

/// A run that takes longer than this is an error.
const RUN_TIMEOUT: Duration = Duration::from_secs(300);

/// A program to be measured.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
}

/// What one run took.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Run {
    wall_s: f64,
    cpu_s: f64,
    resident_mib: f64,
    /// Connects that arrived at the target.
    connects: f64,
}

/// Runs each of `tools` on `scanner`, and counts at `target`. The first is what the others are
/// compared with.
pub(crate) fn compare(tools: &[Tool], scanner: &Host, target: &Host) -> anyhow::Result<String> {
    let mut runs = vec![Vec::new(); tools.len()];
    for _ in 0..ROUNDS {
        for (tool, runs) in tools.iter().zip(&mut runs) {
            runs.push(measure(tool, scanner, target).with_context(|| tool.name)?);
        }
    }
    let medians: Vec<_> = runs.iter().map(|runs| median_run(runs)).collect();
    Ok(table(tools.iter().map(|tool| tool.name).zip(medians)))
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time as the user feels it")]
fn measure(tool: &Tool, scanner: &Host, target: &Host) -> anyhow::Result<Run> {
    let before = target.counted()?.tcp;
    let directory = tempfile::tempdir()?;
    let started = Instant::now();
    let ended = scanner.command(&tool.program).args(&tool.args).directory(directory.path()).run(RUN_TIMEOUT)?;
    let wall = started.elapsed();
    let ended = ended.expect_code(0)?;
    let connects = u32::try_from(target.counted()?.tcp - before)?;
    Ok(Run {
        wall_s: wall.as_secs_f64(),
        cpu_s: ended.usage.cpu.as_secs_f64(),
        resident_mib: f64::from(u32::try_from(ended.usage.resident_bytes_max >> 10)?) / 1024.0,
        connects: f64::from(connects),
    })
}

/// The median of each quantity on its own.
fn median_run(runs: &[Run]) -> Run {
    let of = |quantity: fn(&Run) -> f64| median(runs.iter().map(quantity).collect());
    Run {
        wall_s: of(|run| run.wall_s),
        cpu_s: of(|run| run.cpu_s),
        resident_mib: of(|run| run.resident_mib),
        connects: of(|run| run.connects),
    }
}

/// The middle of an odd number of values.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn table<'a>(medians: impl Iterator<Item = (&'a str, Run)>) -> String {
    let mut text = format!(
        "median of {ROUNDS} rounds\n{:<12} {:>8} {:>8} {:>9} {:>10} {:>11} {:>7}\n",
        "tool", "wall s", "CPU s", "RSS MiB", "connects", "connects/s", "ratio"
    );
    let mut first_rate = None;
    for (name, run) in medians {
        let rate = run.connects / run.wall_s;
        let ratio = rate / *first_rate.get_or_insert(rate);
        let Run { wall_s, cpu_s, resident_mib, connects } = run;
        text += &format!(
            "{name:<12} {wall_s:>8.2} {cpu_s:>8.2} {resident_mib:>9.1} {connects:>10.0} {rate:>11.0} {ratio:>7.2}\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_taken_of_each_quantity() {
        let run = |wall_s, cpu_s| Run { wall_s, cpu_s, resident_mib: 8.0, connects: 100.0 };
        let runs = [run(3.0, 1.0), run(1.0, 3.0), run(2.0, 9.0)];
        assert_eq!(median_run(&runs), run(2.0, 3.0));
    }

    #[test]
    fn the_table_compares_with_the_first() {
        let run = |wall_s| Run { wall_s, cpu_s: 0.5, resident_mib: 8.0, connects: 100.0 };
        let text = table([("ours", run(2.0)), ("theirs", run(4.0))].into_iter());
        let rows: Vec<_> = text.lines().skip(2).collect();
        assert!(rows[0].starts_with("ours") && rows[0].ends_with("50    1.00"), "{text}");
        assert!(rows[1].starts_with("theirs") && rows[1].ends_with("25    0.50"), "{text}");
    }
}
