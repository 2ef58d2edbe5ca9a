//! What cannot be meant is refused before anything is sent: exit code 2, one line on stderr,
//! nothing on stdout. The numbers are those of the project's list of bad inputs.

use anyhow::ensure;
use libtest_mimic::Trial;
use portsweep_tests::lab::{self, Need};

use crate::world::World;

pub(crate) fn trials() -> Vec<Trial> {
    let hosts = &[Need::Hosts];
    vec![
        lab::trial("bad_input_74_prefix_lengths", hosts, prefixes),
        lab::trial("bad_input_77_targets_that_are_none", hosts, targets),
        lab::trial("bad_input_78_ports_that_are_none", hosts, ports),
        lab::trial("bad_usage_is_one_line_and_exit_2", hosts, usage),
    ]
}

/// Runs portsweep with each command line, which must be refused; then with one that is accepted,
/// so that it is known to be the command line that is refused.
fn refused(command_lines: &[&[&str]]) -> anyhow::Result<()> {
    let world = World::new()?;
    for words in command_lines {
        // A word of a command line can be long: the message shows that it is not echoed whole.
        let shown: Vec<String> = words.iter().map(|word| word.chars().take(60).collect()).collect();
        let run = world.portsweep(words)?;
        let told = || format!("{shown:?}: {}", run.transcript().chars().take(2000).collect::<String>());
        ensure!(run.code == Some(2), "exit code 2 was expected: {}", told());
        ensure!(run.stdout.is_empty(), "{}", told());
        ensure!(run.stderr.lines().count() == 1, "one line was expected: {}", told());
        ensure!(run.stderr.len() < 600, "a long line: {}", told());
        let control = run.stderr.trim_end_matches('\n').chars().any(char::is_control);
        ensure!(!control, "what was typed reaches the terminal unescaped: {}", told());
        let counted = world.target.counted()?;
        ensure!(counted.sum() == 0, "packets were sent: {counted:?}: {}", told());
    }
    world.portsweep(&["-p", "22", "192.0.2.11"])?.expect_code(0)?;
    ensure!(world.target.counted()?.sum() == 2, "the accepted command line asked nothing");
    Ok(())
}

fn prefixes() -> anyhow::Result<()> {
    refused(&[
        &["-p", "22", "192.0.2.0/33"],
        &["-p", "22", "192.0.2.0/-1"],
        &["-p", "22", "192.0.2.0/"],
        &["-p", "22", "192.0.2.0/x"],
        &["-p", "22", "2001:db8::/129"],
        // The whole of IPv4 needs a `yes` that nobody is there to give.
        &["-p", "22", "192.0.2.0/0"],
    ])
}

fn targets() -> anyhow::Result<()> {
    let (long, many) = ("x".repeat(100_000), "192.0.2.11,".repeat(8_000) + "!");
    refused(&[
        &["-p", "22"],
        &["-p", "22", ""],
        &["-p", "22", "-ip", ""],
        &["-p", "22", "-ip", "-"],
        &["-p", "22", "192.0.2.5-1"],
        &["-p", "22", "192.0.2.14-192.0.2.11"],
        &["-p", "22", "192.0.2.11-2001:db8::1"],
        &["-p", "22", "\u{feff}192.0.2.11"],
        &["-p", "22", "192.0.2.11\u{1b}[2J"],
        &["-p", "22", "192.0.2.256"],
        &["-p", "22", "192.0.2.11,,192.0.2.12/99"],
        &["-p", "22", "192.0.2.11", "192.0.2.12/99"],
        &["-p", "22", &long],
        &["-p", "22", &many],
    ])
}

fn ports() -> anyhow::Result<()> {
    refused(&[
        &["-p", "", "192.0.2.11"],
        &["-p", "65536", "192.0.2.11"],
        &["-p", "99999999999999999999", "192.0.2.11"],
        &["-p", "80-79", "192.0.2.11"],
        &["-p", "22,,80", "192.0.2.11"],
        &["-p", "22;80", "192.0.2.11"],
        &["-p", "-1-5", "192.0.2.11"],
        &["-p", "+22", "192.0.2.11"],
        &["-p", "\u{668}\u{660}", "192.0.2.11"],
    ])
}

fn usage() -> anyhow::Result<()> {
    refused(&[
        &[],
        &["-f", "udp", "192.0.2.11"],
        &["-f", "192.0.2.11"],
        &["--no-such-flag", "192.0.2.11"],
        &["--timeout", "0", "192.0.2.11"],
        &["--timeout", "soon", "192.0.2.11"],
        &["--timeout", "11s", "192.0.2.11"],
        &["-f", "ping", "-p", "22", "192.0.2.11"],
    ])
}
