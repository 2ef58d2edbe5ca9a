//! Runs tools on a network in turn, and puts the medians of what they took and found into a table.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use portsweep_tests::lab::simulated::{Asked, Score, Seen, Simulated, World};
use portsweep_tests::lab::{Finished, Host, Process};

/// Rounds; the tools run in turn in each, so that a disturbance meets all of them.
const ROUNDS: usize = 3;
/// A run that takes longer than this is an error.
const RUN_TIMEOUT: Duration = Duration::from_secs(600);
/// How often a tool's memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A program to be measured.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    /// Exit codes of a run that went well.
    pub(crate) codes: &'static [i32],
    /// Reads what it found, of what it wrote and of the directory that it ran in.
    pub(crate) read: fn(&Finished, &Path) -> anyhow::Result<Seen>,
}

/// What the tools run on.
pub(crate) enum Ground<'a> {
    /// Two real hosts: what arrives is counted, what is found is not judged.
    Real { scanner: &'a Host, target: &'a Host },
    /// A simulated network, set up anew for every run.
    Simulated { world: &'a World, asked: &'a Asked },
}

/// What one run took, and found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Run {
    wall_s: f64,
    cpu_s: f64,
    resident_mib: f64,
    /// Probes that arrived.
    probes: f64,
    /// The share of open ports, or of live hosts, that was found; `None` where nobody judges.
    recall: Option<f64>,
    /// What was found and is not there.
    wrong: f64,
}

/// Runs each of `tools` on `ground`. The first is what the others are compared with.
pub(crate) fn compare(tools: &[Tool], ground: &Ground<'_>) -> anyhow::Result<String> {
    let mut runs = vec![Vec::new(); tools.len()];
    for round in 1..=ROUNDS {
        for (tool, runs) in tools.iter().zip(&mut runs) {
            let run = measure(tool, ground).with_context(|| tool.name)?;
            eprintln!(
                "round {round}: {}: {:.2} s, recall {:?}, wrong {}",
                tool.name, run.wall_s, run.recall, run.wrong
            );
            runs.push(run);
        }
    }
    let medians: Vec<_> = runs.iter().map(|runs| median_run(runs)).collect();
    Ok(table(tools.iter().map(|tool| tool.name).zip(medians)))
}

fn measure(tool: &Tool, ground: &Ground<'_>) -> anyhow::Result<Run> {
    match ground {
        Ground::Real { scanner, target } => {
            let before = target.counted()?.sum();
            let (run, _) = timed(tool, scanner)?;
            let probes = target.counted()?.sum() - before;
            Ok(Run { probes: probes as f64, ..run })
        }
        Ground::Simulated { world, asked } => {
            let scanner = Host::new("scanner")?;
            let network = Simulated::start(&scanner, World::clone(world))?;
            let (run, seen) = timed(tool, &scanner)?;
            let account = network.stop()?;
            account.expect_nothing_missed()?;
            let score = Score::of(world, asked, &seen);
            let found = if asked.ports.is_empty() { score.up } else { score.open };
            let probes = account.total().tcp + account.total().ping;
            Ok(Run { probes: probes as f64, recall: Some(found.recall()), wrong: score.wrong() as f64, ..run })
        }
    }
}

/// Time, processor and memory of one run, and what it found.
fn timed(tool: &Tool, scanner: &Host) -> anyhow::Result<(Run, Seen)> {
    let directory = tempfile::tempdir()?;
    let state = directory.path().join("state");
    let command =
        scanner.command(&tool.program).args(&tool.args).directory(directory.path()).env("PORTSWEEP_STATE", state);
    let started = now();
    let process = command.start()?;
    let (ended, resident_bytes) = watched(process)?;
    let wall = now() - started;
    let good = ended.code.is_some_and(|code| tool.codes.contains(&code));
    ensure!(good, "{}", ended.transcript().chars().take(4_000).collect::<String>());
    let seen = (tool.read)(&ended, directory.path())
        .with_context(|| ended.transcript().chars().take(4_000).collect::<String>())?;
    let run = Run {
        wall_s: wall.as_secs_f64(),
        cpu_s: ended.usage.cpu.as_secs_f64(),
        resident_mib: resident_bytes as f64 / f64::from(1 << 20),
        probes: 0.0,
        recall: None,
        wrong: 0.0,
    };
    Ok((run, seen))
}

/// Waits for a program, and looks at its memory meanwhile: what the kernel tells at the end is never less than what *we* have.
fn watched(process: Process) -> anyhow::Result<(Finished, u64)> {
    let (id, ended) = (process.id(), AtomicBool::new(false));
    thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut most = 0;
            while !ended.load(Ordering::Relaxed) {
                most = most.max(resident_bytes_max(id).unwrap_or(0));
                thread::sleep(LOOK_EVERY);
            }
            most
        });
        let finished = process.wait(RUN_TIMEOUT);
        ended.store(true, Ordering::Relaxed);
        let most = looking.join().map_err(|_| anyhow::anyhow!("the watching thread panicked"))?;
        Ok((finished?, most))
    })
}

/// The largest resident set that a process had so far, in bytes.
pub(crate) fn resident_bytes_max(process: u32) -> Option<u64> {
    status_bytes(process, "VmHWM:")
}

/// A quantity of `/proc/PID/status`, in bytes.
pub(crate) fn status_bytes(process: u32, key: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// The median of each quantity on its own.
fn median_run(runs: &[Run]) -> Run {
    let of = |quantity: fn(&Run) -> f64| median(runs.iter().map(quantity).collect());
    Run {
        wall_s: of(|run| run.wall_s),
        cpu_s: of(|run| run.cpu_s),
        resident_mib: of(|run| run.resident_mib),
        probes: of(|run| run.probes),
        recall: runs.iter().all(|run| run.recall.is_some()).then(|| of(|run| run.recall.unwrap_or(0.0))),
        wrong: of(|run| run.wrong),
    }
}

/// The middle of an odd number of values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn table<'a>(medians: impl Iterator<Item = (&'a str, Run)>) -> String {
    let mut text = format!(
        "median of {ROUNDS} rounds\n{:<12} {:>8} {:>8} {:>9} {:>10} {:>10} {:>9} {:>7} {:>7}\n",
        "tool", "wall s", "CPU s", "RSS MiB", "probes", "probes/s", "recall %", "wrong", "ratio"
    );
    let mut first = None;
    for (name, run) in medians {
        let Run { wall_s, cpu_s, resident_mib, probes, recall, wrong } = run;
        // How many times as long as the first.
        let ratio = wall_s / *first.get_or_insert(wall_s);
        let recall = recall.map_or("-".to_owned(), |recall| format!("{:.3}", recall * 100.0));
        let per_s = probes / wall_s;
        text += &format!(
            "{name:<12} {wall_s:>8.2} {cpu_s:>8.2} {resident_mib:>9.1} {probes:>10.0} {per_s:>10.0} {recall:>9} {wrong:>7.0} {ratio:>7.2}\n"
        );
    }
    text
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time as the user feels it")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(wall_s: f64, cpu_s: f64, recall: Option<f64>) -> Run {
        Run { wall_s, cpu_s, resident_mib: 8.0, probes: 100.0, recall, wrong: 0.0 }
    }

    #[test]
    fn the_median_is_taken_of_each_quantity() {
        let runs = [run(3.0, 1.0, Some(0.5)), run(1.0, 3.0, Some(0.9)), run(2.0, 9.0, Some(1.0))];
        assert_eq!(median_run(&runs), run(2.0, 3.0, Some(0.9)));
        assert_eq!(median_run(&[run(1.0, 1.0, None); 3]).recall, None);
    }

    #[test]
    fn the_table_compares_with_the_first() {
        let text = table([("ours", run(2.0, 0.5, Some(0.9995))), ("theirs", run(4.0, 0.5, None))].into_iter());
        let rows: Vec<_> = text.lines().skip(2).collect();
        assert!(rows[0].starts_with("ours") && rows[0].ends_with("50    99.950       0    1.00"), "{text}");
        assert!(rows[1].starts_with("theirs") && rows[1].ends_with("25         -       0    2.00"), "{text}");
    }

    #[test]
    fn the_memory_of_a_process_is_read() {
        assert!(resident_bytes_max(std::process::id()).is_some_and(|bytes| bytes > 1 << 20));
        assert_eq!(status_bytes(std::process::id(), "VmNothing:"), None);
    }
}
