//! Whoever starts a scan can follow it, read it as they like, and lose nothing by what becomes of a disk or of a reader:
//! progress on request, JSON lines, tables by port, dry runs; full disks, readers that left, results in pipes.

use std::os::unix::fs::MetadataExt;

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use portsweep_tests::lab::{self, Finished, Need};
use serde_json::Value;

use crate::judge::{Asked, judge};
use crate::world::{PORTS, PORTS_TEXT, RUN_TIMEOUT, V4, World};

pub(crate) fn trials() -> Vec<Trial> {
    let hosts = &[Need::Hosts];
    let bash = &[Need::Hosts, Need::Program("bash")];
    vec![
        lab::trial("following_a_scan_tells_its_status_when_asked_and_stops_when_told", hosts, status),
        lab::trial("following_as_json_lines_tells_of_each_host_once", hosts, json_lines),
        lab::trial("following_in_tables_by_port_and_of_open_ports", hosts, tables),
        lab::trial("dry_run_sends_nothing", hosts, dry_run),
        lab::trial("doctor_looks_and_its_exit_code_says_whether_scans_can_be_made", hosts, doctor),
        lab::trial("completions_are_taken_by_bash", bash, completions),
        lab::trial("bad_output_a_reader_that_left_ends_the_scan_unless_there_is_a_file", hosts, reader_left),
        lab::trial("bad_output_a_full_disk_is_one_line_and_costs_nothing_else", hosts, full_disk),
        lab::trial("bad_output_dev_null_and_a_fifo_get_the_result_once", hosts, streams),
        lab::trial("bad_output_a_reader_of_the_fifo_that_left_is_one_line", hosts, fifo_reader_left),
    ]
}

/// Runs a shell script in the scanner; `$P` is portsweep, and the working directory is the world's.
fn shell(world: &World, shell: &str, script: &str) -> anyhow::Result<Finished> {
    world
        .scanner
        .command(std::path::Path::new(shell))
        .args(["-c", script])
        .directory(world.directory.path())
        .env("P", lab::bin()?)
        .env("PORTSWEEP_STATE", world.directory.path().join("state"))
        .run(RUN_TIMEOUT)
}

fn file(world: &World, name: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(world.directory.path().join(name)).with_context(|| name.to_owned())
}

fn status() -> anyhow::Result<()> {
    let world = World::new()?;
    // Some minutes of silence, at fifty probes in flight.
    let scan = world
        .scanner
        .command(lab::bin()?)
        .args(["-f", "tcp", "-p", "1-9000", "--window", "50", "-w", "result.json", "192.0.2.13"])
        .directory(world.directory.path())
        .env("PORTSWEEP_STATE", world.directory.path().join("state"))
        .start()?;
    // Signals are listened for before the first probe is sent.
    while world.target.counted()?.sum() == 0 {
        std::thread::yield_now();
    }
    scan.signal(libc::SIGUSR1)?;
    let told = world.target.counted()?.sum();
    while world.target.counted()?.sum() < told + 100 {
        std::thread::yield_now();
    }
    scan.signal(libc::SIGINT)?;
    let run = scan.wait(RUN_TIMEOUT)?.expect_code(130)?;
    let status = run.stderr.lines().next().unwrap_or_default();
    ensure!(status.contains(" of 9,000 targets ("), "{}", run.transcript());
    ensure!(run.stdout.is_empty(), "{}", run.transcript());
    let result = world.result("result.json")?;
    ensure!(result["scan"]["status"] == "interrupted", "{}", result["scan"]);
    ensure!(result["summary"]["targets"] == 9_000, "{}", result["summary"]);
    Ok(())
}

fn json_lines() -> anyhow::Result<()> {
    let world = World::new()?;
    let words = ["-o", "jsonl", "-p", PORTS_TEXT, "-w", "result.json", "192.0.2.11-192.0.2.14"];
    let run = world.portsweep(&words)?.expect_code(0)?;
    let mut lines = Vec::new();
    for line in run.stdout.lines() {
        lines.push(serde_json::from_str::<Value>(line).with_context(|| line.to_owned())?);
    }
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).collect::<Vec<_>>();
    let mut hosts: Vec<_> = of("host").iter().map(|host| host["address"].clone()).collect();
    hosts.sort_by_key(ToString::to_string);
    ensure!(hosts == ["192.0.2.11", "192.0.2.12"], "each host once: {}", run.transcript());
    let mut ports: Vec<_> = of("port").iter().map(|port| format!("{}:{}", port["address"], port["port"])).collect();
    ports.sort();
    ensure!(ports == ["\"192.0.2.11\":22", "\"192.0.2.11\":80", "\"192.0.2.12\":8080"], "{}", run.transcript());
    for port in of("port") {
        let host = lines.iter().position(|line| line["type"] == "host" && line["address"] == port["address"]);
        let here = lines.iter().position(|line| line == port);
        ensure!(host < here, "a port is told of before its host: {}", run.transcript());
    }
    let last = lines.last().context("nothing was written")?;
    ensure!(last["type"] == "summary" && of("summary").len() == 1, "{}", run.transcript());
    let result = world.result("result.json")?;
    for member in ["targets", "probed", "addresses", "states", "not_probed", "single_try"] {
        ensure!(last[member] == result["summary"][member], "{member}: {last}");
    }
    Ok(())
}

fn tables() -> anyhow::Result<()> {
    let world = World::new()?;
    let run = world.portsweep(&["--by", "port", "-p", "22,80,8080", "192.0.2.11-192.0.2.14"])?.expect_code(0)?;
    let open = |port: &str, address: &str| {
        let section = run.stdout.split("\n\n").find(|section| section.starts_with(port)).unwrap_or_default();
        section.lines().any(|line| line.starts_with(address) && line.contains(" open "))
    };
    let found = open("22/tcp ssh", "192.0.2.11") && open("8080/tcp", "192.0.2.12") && !open("22/tcp ssh", "192.0.2.12");
    ensure!(found && !run.stdout.contains('\x1b'), "{}", run.transcript());
    let words = ["--open", "-o", "table", "-p", "22,80,443", "192.0.2.11-192.0.2.14"];
    let run = world.portsweep(&words)?.expect_code(0)?;
    ensure!(run.stdout.contains("22/tcp open  ssh"), "{}", run.transcript());
    ensure!(!run.stdout.contains("443/tcp"), "{}", run.transcript());
    ensure!(!run.stdout.contains("report for 192.0.2.12"), "it has no open port: {}", run.transcript());
    Ok(())
}

fn dry_run() -> anyhow::Result<()> {
    let world = World::new()?;
    for flag in ["--dry-run", "-sL"] {
        let run = world.portsweep(&[flag, "-p", "1-1000", "-w", "result.json", "192.0.2.11-192.0.2.14"])?;
        let run = run.expect_code(0)?;
        ensure!(run.stdout.contains("4 addresses, 1,001 things asked of each: 4,004 targets"), "{}", run.transcript());
        ensure!(run.stdout.contains("42 KB of state"), "{}", run.transcript());
        ensure!(run.stderr.is_empty(), "{}", run.transcript());
    }
    // It needs no yes for what it does not do.
    world.portsweep(&["--dry-run", "-p-", "10.0.0.0/7"])?.expect_code(0)?;
    world.portsweep(&["--dry-run", "-p", "65536", "192.0.2.11"])?.expect_code(2)?;
    let counted = world.target.counted()?;
    ensure!(counted.sum() == 0, "packets were sent: {counted:?}");
    ensure!(!world.directory.path().join("result.json").exists(), "a result was written");
    Ok(())
}

fn doctor() -> anyhow::Result<()> {
    let world = World::new()?;
    world.scanner.set("net/ipv4/ping_group_range", "1 0")?;
    let run = world.portsweep(&["doctor"])?.expect_code(0)?;
    ensure!(run.stdout.contains("descriptors") && run.stdout.contains("local ports"), "{}", run.transcript());
    // As root a raw socket does.
    let line = run.stdout.lines().find(|line| line.contains("ping IPv4")).unwrap_or_default();
    ensure!(line.starts_with("ok"), "{}", run.transcript());
    let few = shell(&world, "/bin/sh", "ulimit -n 1000 && \"$P\" doctor")?.expect_code(0)?;
    ensure!(
        few.stdout.contains("warn  descriptors") && few.stdout.contains("mend: ulimit -Hn"),
        "{}",
        few.transcript()
    );
    let none = shell(&world, "/bin/sh", "ulimit -n 12 && \"$P\" doctor")?.expect_code(1)?;
    ensure!(none.stdout.contains("STOP  descriptors"), "{}", none.transcript());
    Ok(())
}

fn completions() -> anyhow::Result<()> {
    let world = World::new()?;
    let script = r#"
        "$P" completions bash > completions && . ./completions
        try() { COMP_WORDS=(portsweep "$1"); COMP_CWORD=1; COMPREPLY=(); _portsweep portsweep "$1" portsweep; echo "${COMPREPLY[*]}"; }
        try --timeo; try -iL; try doc"#;
    let run = shell(&world, "/bin/bash", script)?.expect_code(0)?;
    ensure!(run.stdout == "--timeout\n-iL\ndoctor\n", "{}", run.transcript());
    Ok(())
}

/// Runs portsweep with a standard output whose reader has left before it starts; returns its exit code and stderr.
fn without_reader(world: &World, words: &str) -> anyhow::Result<(String, String)> {
    let script = format!(
        "rm -f go && mkfifo go && {{ read started; \"$P\" {words} 2>errors; echo $? >code; }} <go | {{ exec <&-; echo go >go; }}; \
         wait; until [ -s code ]; do :; done"
    );
    shell(world, "/bin/sh", &script)?.expect_code(0)?;
    let outcome = (file(world, "code")?.trim().to_owned(), file(world, "errors")?);
    std::fs::remove_file(world.directory.path().join("code"))?;
    Ok(outcome)
}

fn reader_left() -> anyhow::Result<()> {
    let world = World::new()?;
    for words in ["", "-o jsonl", "-o table", "-w -"] {
        let (code, errors) = without_reader(&world, &format!("{words} -p 22,80 192.0.2.11-192.0.2.14"))?;
        ensure!(code == "130", "{words}: exit code {code}: {errors}");
        let hint = errors.lines().count() == 1 && errors.contains("go on with: portsweep resume ");
        ensure!(hint, "{words}: {errors}");
    }
    let words = format!("-w result.json -p {PORTS_TEXT} 192.0.2.11-192.0.2.14");
    let (code, errors) = without_reader(&world, &words)?;
    ensure!(code == "0" && errors.is_empty(), "exit code {code}: {errors}");
    judge(&world.result("result.json")?, &V4, Asked { ping: true, ports: &PORTS })
}

fn full_disk() -> anyhow::Result<()> {
    let world = World::new()?;
    // A disk that is full but for some blocks, in a mount namespace of its own.
    let script = "mkdir -p disk && exec unshare -m /bin/sh -c '
        mount -t tmpfs -o size=64k none disk && echo old >disk/result.json && head -c 60000 /dev/zero >disk/ballast || exit 99
        \"$P\" -f tcp -p 1-25 -w disk/result.json 192.0.2.11 127.0.0.0/24; code=$?
        cat disk/result.json >kept; ls -A disk >left; exit $code'";
    let run = shell(&world, "/bin/sh", script)?.expect_code(1)?;
    ensure!(run.stderr.lines().count() == 1 && run.stderr.contains("No space left"), "{}", run.transcript());
    ensure!(run.stderr.contains("disk/result.json"), "{}", run.transcript());
    ensure!(run.lines_sorted() == ["192.0.2.11:22"], "the lines are lost: {}", run.transcript());
    ensure!(file(&world, "kept")? == "old\n", "yesterday's result is gone");
    ensure!(file(&world, "left")? == "ballast\nresult.json\n", "{}", file(&world, "left")?);

    let script = "mkdir -p disk && exec unshare -m /bin/sh -c '
        mount -t tmpfs -o size=4k none disk && head -c 4096 /dev/zero >disk/ballast || exit 99
        \"$P\" -p 22 192.0.2.11 >disk/ballast2'";
    let run = shell(&world, "/bin/sh", script)?.expect_code(1)?;
    ensure!(run.stderr.lines().count() == 1 && run.stderr.contains("standard output"), "{}", run.transcript());
    Ok(())
}

fn streams() -> anyhow::Result<()> {
    let world = World::new()?;
    let null = || -> anyhow::Result<u64> { Ok(std::fs::metadata("/dev/null")?.rdev()) };
    let before = null()?;
    world.portsweep(&["-q", "-p", "22", "-w", "/dev/null", "192.0.2.11"])?.expect_code(0)?;
    ensure!(null()? == before, "/dev/null was replaced");
    let script = format!(
        "mkfifo result && {{ cat result >read & }} && \"$P\" -q -p {PORTS_TEXT} -w result 192.0.2.11-14; code=$?; wait; exit $code"
    );
    let run = shell(&world, "/bin/sh", &script)?.expect_code(0)?;
    ensure!(run.stderr.is_empty(), "{}", run.transcript());
    judge(&world.result("read")?, &V4, Asked { ping: true, ports: &PORTS })
}

fn fifo_reader_left() -> anyhow::Result<()> {
    let world = World::new()?;
    // The reader takes a byte and leaves; the result is larger than the 64 KiB that a pipe holds.
    let script = "mkfifo result && { head -c 1 result >read & } && \"$P\" -q -f tcp -p 1-25 -w result 127.0.0.0/24; \
                  code=$?; wait; exit $code";
    let run = shell(&world, "/bin/sh", script)?.expect_code(1)?;
    ensure!(run.stderr.lines().count() == 1 && run.stderr.contains("Broken pipe"), "{}", run.transcript());
    ensure!(run.stderr.contains("/result"), "{}", run.transcript());
    Ok(())
}
