//! stdout is for data and stderr for the rest; `-q` silences, `-w -` writes the JSON alone, and a
//! path that cannot be written is found before the first packet.

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use portsweep_tests::lab::{self, Need};
use serde_json::Value;

use crate::judge::{Asked, judge};
use crate::world::{PORTS, PORTS_TEXT, V4, World};

pub(crate) fn trials() -> Vec<Trial> {
    let hosts = &[Need::Hosts];
    vec![
        lab::trial("output_in_a_pipe_is_a_line_for_each_open_port", hosts, port_lines),
        lab::trial("output_of_pings_alone_is_bare_addresses", hosts, ping_lines),
        lab::trial("output_is_silenced_by_q", hosts, quiet),
        lab::trial("output_with_w_dash_is_json_alone", hosts, json_alone),
        lab::trial("output_path_that_cannot_be_written_ends_it_before_a_packet", hosts, unwritable),
        lab::trial("output_file_is_whole_or_untouched", hosts, replaced),
        lab::trial("output_help_and_version_go_to_stdout", hosts, help),
    ]
}

fn port_lines() -> anyhow::Result<()> {
    let world = World::new()?;
    let words = ["-p", PORTS_TEXT, "-ip", "192.0.2.11-192.0.2.14,2001:db8::11", "2001:db8::13"];
    let run = world.portsweep(&words)?.expect_code(0)?;
    let expected = ["192.0.2.11:22", "192.0.2.11:80", "192.0.2.12:8080", "[2001:db8::11]:22"];
    ensure!(run.lines_sorted() == expected, "{}", run.transcript());
    Ok(())
}

fn ping_lines() -> anyhow::Result<()> {
    let world = World::new()?;
    let run = world.portsweep(&["-f", "ping", "192.0.2.11-192.0.2.14", "2001:db8::11"])?;
    let run = run.expect_code(0)?;
    ensure!(run.lines_sorted() == ["192.0.2.11", "2001:db8::11"], "{}", run.transcript());
    Ok(())
}

fn quiet() -> anyhow::Result<()> {
    let world = World::new()?;
    let words = ["-q", "-p", PORTS_TEXT, "-w", "result.json", "192.0.2.11-192.0.2.14"];
    let run = world.portsweep(&words)?.expect_code(0)?;
    ensure!(run.stdout.is_empty(), "{}", run.transcript());
    judge(&world.result("result.json")?, &V4, Asked { ping: true, ports: &PORTS })
}

fn json_alone() -> anyhow::Result<()> {
    let world = World::new()?;
    let run = world.portsweep(&["-p", PORTS_TEXT, "-w", "-", "192.0.2.11-192.0.2.14"])?;
    let run = run.expect_code(0)?;
    let result: Value = serde_json::from_str(&run.stdout).with_context(|| run.transcript())?;
    judge(&result, &V4, Asked { ping: true, ports: &PORTS })
}

fn unwritable() -> anyhow::Result<()> {
    let world = World::new()?;
    for path in ["/nonexistent/result.json", ".", "/proc/result.json"] {
        let run = world.portsweep(&["-p", "22", "-w", path, "192.0.2.11"])?;
        ensure!(matches!(run.code, Some(1 | 2)), "{path}: {}", run.transcript());
        ensure!(run.stderr.lines().count() == 1, "{path}: {}", run.transcript());
        ensure!(run.stderr.contains(path) || path == ".", "{path}: {}", run.transcript());
        ensure!(run.stdout.is_empty(), "{path}: {}", run.transcript());
        let counted = world.target.counted()?;
        ensure!(counted.sum() == 0, "{path}: packets were sent first: {counted:?}");
    }
    // What was counted as nothing is something with a path that can be written.
    world.portsweep(&["-p", "22", "-w", "result.json", "192.0.2.11"])?.expect_code(0)?;
    ensure!(world.target.counted()?.sum() == 2);
    Ok(())
}

fn replaced() -> anyhow::Result<()> {
    let world = World::new()?;
    let path = world.directory.path().join("result.json");
    std::fs::write(&path, "yesterday's")?;
    world.portsweep(&["-p", "65536", "-w", "result.json", "192.0.2.11"])?.expect_code(2)?;
    ensure!(std::fs::read_to_string(&path)? == "yesterday's", "a mistaken start destroyed it");
    world.portsweep(&["-p", "22", "-w", "result.json", "192.0.2.11"])?.expect_code(0)?;
    judge(&world.result("result.json")?, &V4[..1], Asked { ping: true, ports: &[22] })?;
    let left: Vec<_> = std::fs::read_dir(world.directory.path())?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .filter(|name| name != "result.json" && name != "state")
        .collect();
    ensure!(left.is_empty(), "left beside the result: {left:?}");
    Ok(())
}

fn help() -> anyhow::Result<()> {
    let world = World::new()?;
    let run = world.portsweep(&["--help"])?.expect_code(0)?;
    ensure!(run.stderr.is_empty(), "{}", run.transcript());
    for flag in ["-f", "-ip", "-p", "-w", "--timeout", "-q"] {
        ensure!(run.stdout.contains(flag), "--help does not tell of {flag}: {}", run.stdout);
    }
    let wide = run.stdout.lines().find(|line| line.chars().count() > 80);
    ensure!(wide.is_none(), "wider than 80 columns: {wide:?}");
    let run = world.portsweep(&["--version"])?.expect_code(0)?;
    ensure!(run.stdout.starts_with("portsweep ") && run.stdout.lines().count() == 1);
    Ok(())
}
