//! A scan survives its process: after Ctrl-C and after any number of `kill -9`s, `portsweep resume` goes on with it, and its result is that
//! of an undisturbed run, target by target. The result file is valid JSON at every moment, what is stored passes the audit after each
//! death, and exclusions hold.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, bail, ensure};
use coordinator_core::store::Store;
use libtest_mimic::Trial;
use portsweep::state::State;
use portsweep_tests::lab::{self, Finished, Need, Process};
use serde_json::Value;

use crate::judge::{Asked, judge};
use crate::world::{PORTS, PORTS_TEXT, RUN_TIMEOUT, V4, World};

pub(crate) fn trials() -> Vec<Trial> {
    let hosts = &[Need::Hosts];
    vec![
        lab::trial("resume_after_twenty_kills_finds_what_an_undisturbed_scan_finds", hosts, killed),
        lab::trial("resume_in_stages_asks_ports_of_those_that_are_up", hosts, killed_in_stages),
        lab::trial("resume_after_ctrl_c_goes_on_with_all_options", hosts, interrupted),
        lab::trial("resume_as_json_lines_starts_again_from_the_first", hosts, json_lines),
        lab::trial("resume_holds_exclusions_that_were_set_since", hosts, excluded_since),
        lab::trial("resume_of_what_cannot_be_gone_on_with_is_one_line", hosts, nothing_to_resume),
        lab::trial("scans_run_side_by_side", hosts, side_by_side),
    ]
}

/// How often the process is killed.
const KILLS: u32 = 20;
/// Which moments it is killed at.
const SEED: u64 = 0x5eed_0f20_dead_5ca9;

/// Starts portsweep in the scanner, with the world's own state directory.
fn start(world: &World, words: &[&str]) -> anyhow::Result<Process> {
    let command = world.scanner.command(lab::bin()?).args(words).directory(world.directory.path());
    command.env("PORTSWEEP_STATE", state(world)).start()
}

fn state(world: &World) -> std::path::PathBuf {
    world.directory.path().join("state")
}

/// Waits until `more` further probes arrived, or the process ended; says whether it still runs.
fn until_probed(world: &World, process: &Process, more: u64) -> anyhow::Result<bool> {
    let before = world.target.counted()?.sum();
    loop {
        if has_ended(process) {
            return Ok(false);
        }
        if world.target.counted()?.sum() >= before + more {
            return Ok(true);
        }
        std::thread::yield_now();
    }
}

/// Whether a process has ended and only waits to be taken off the table.
fn has_ended(process: &Process) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

/// Steele and Vigna, SplitMix64.
fn draw(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Proves the store's invariants on every scan that is kept.
fn audit(world: &World) -> anyhow::Result<()> {
    for kept in State::named(&state(world), false)?.kept()? {
        let store = kept.read()?;
        for record in store.scans()? {
            store.audit(record.id).with_context(|| format!("the audit of {}", record.id))?;
        }
    }
    Ok(())
}

/// What must be the same in two results: all but times, identities, the pace, and who saw what when.
pub(crate) fn essence(mut result: Value) -> Value {
    for member in ["id", "command", "rate", "started", "updated", "finished"] {
        result["scan"][member] = Value::Null;
    }
    for member in ["elapsed_s", "estimated_loss", "single_try", "window"] {
        result["summary"][member] = Value::Null;
    }
    result["agents"] = Value::Null;
    forget_times(&mut result);
    result
}

fn forget_times(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.remove("rtt_ms");
            // Silence, whoever says so.
            if members.get("reason").is_some_and(|reason| reason == "host-unreach") {
                members.insert("reason".to_owned(), "no-response".into());
            }
            members.values_mut().for_each(forget_times);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_times),
        _ => {}
    }
}

fn killed() -> anyhow::Result<()> {
    let world = World::new()?;
    let scan = |file: &'static str, rate: &'static str| {
        let words =
            ["-q", "-p", "1-1500,8080,9000-9001", "--timeout", "200ms", "--seed", "7", "-w", file, "--rate", rate];
        words.into_iter().chain(["192.0.2.11-192.0.2.13", "2001:db8::11", "2001:db8::12"]).collect::<Vec<_>>()
    };
    world.portsweep(&scan("undisturbed.json", "1000000"))?.expect_code(0)?;

    let path = world.directory.path().join("result.json");
    let (is_over, looks) = (AtomicBool::new(false), AtomicU64::new(0));
    let kills = std::thread::scope(|scope| {
        let looking = scope.spawn(|| look_until(&is_over, &looks, &path));
        let kills = kill_again_and_again(&world, &scan("result.json", "2500"), KILLS, 500);
        is_over.store(true, Ordering::Relaxed);
        match looking.join() {
            Ok(looked) => looked.and(kills),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    ensure!(kills == KILLS, "it was over after {kills} of {KILLS} kills");
    ensure!(looks.load(Ordering::Relaxed) > 0, "the result file was never seen");
    let (disturbed, undisturbed) = (essence(world.result("result.json")?), essence(world.result("undisturbed.json")?));
    ensure!(disturbed == undisturbed, "the results differ:\n{disturbed}\n{undisturbed}");
    ensure!(undisturbed["scan"]["status"] == "done", "{}", undisturbed["scan"]);
    let left: Vec<_> = std::fs::read_dir(world.directory.path())?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    ensure!(!left.iter().any(|name| name.ends_with(".tmp")), "a kill left a file behind: {left:?}");
    Ok(())
}

/// With `--discover`, killed while it finds out who is up and while it asks their ports.
fn killed_in_stages() -> anyhow::Result<()> {
    let world = World::new()?;
    let scan = |file: &'static str, rate: &'static str| {
        let words = ["-q", "--discover", "-p", "1-300,8080", "--timeout", "200ms", "--seed", "7", "-w", file];
        words.into_iter().chain(["--rate", rate, "192.0.2.11-192.0.2.13", "2001:db8::11", "2001:db8::12"])
    };
    world.portsweep(&scan("undisturbed.json", "1000000").collect::<Vec<_>>())?.expect_code(0)?;
    // At first a kill each few probes: the pings are six.
    kill_again_and_again(&world, &scan("result.json", "200").collect::<Vec<_>>(), 8, 40)?;
    let (disturbed, undisturbed) = (essence(world.result("result.json")?), essence(world.result("undisturbed.json")?));
    ensure!(disturbed == undisturbed, "the results differ:\n{disturbed}\n{undisturbed}");
    ensure!(undisturbed["summary"]["states"]["up"].as_u64() > Some(1), "{}", undisturbed["summary"]);
    Ok(())
}

/// Reads the result file over and over: whenever it is there, it is whole.
fn look_until(is_over: &AtomicBool, looks: &AtomicU64, path: &Path) -> anyhow::Result<()> {
    while !is_over.load(Ordering::Relaxed) {
        match std::fs::read(path) {
            Ok(bytes) => {
                let result: Value = serde_json::from_slice(&bytes).context("the result file is not whole")?;
                ensure!(result["schema"] == "portsweep/1", "{}", result["schema"]);
                looks.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => bail!(error),
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// Starts the scan, kills it after at most so many further probes, goes on with it, kills it, and lets it end at last. Says how often it
/// was killed.
fn kill_again_and_again(world: &World, words: &[&str], times: u32, probes_max: u64) -> anyhow::Result<u32> {
    let (mut seed, mut kills) = (SEED, 0);
    let mut process = start(world, words)?;
    while kills < times {
        // From the first probes after a start to a good part of the scan.
        let more = 1 + draw(&mut seed) % probes_max;
        if !until_probed(world, &process, more)? {
            bail!("it ended by itself after {kills} kills: {}", process.wait(RUN_TIMEOUT)?.transcript());
        }
        process.signal(libc::SIGKILL)?;
        let ended = process.wait(RUN_TIMEOUT)?;
        ensure!(ended.signal == Some(libc::SIGKILL), "{}", ended.transcript());
        kills += 1;
        audit(world).with_context(|| format!("after {kills} kills, seed {SEED:#x}"))?;
        process = start(world, &["resume"])?;
    }
    process.wait(RUN_TIMEOUT * 2)?.expect_code(0)?;
    audit(world)?;
    Ok(kills)
}

fn interrupted() -> anyhow::Result<()> {
    let world = World::new()?;
    // At two probes a second it would take many seconds.
    let words = ["-p", PORTS_TEXT, "--rate", "5", "-w", "result.json", "192.0.2.11-192.0.2.14"];
    let scan = start(&world, &words)?;
    ensure!(until_probed(&world, &scan, 3)?, "it ended by itself");
    scan.signal(libc::SIGINT)?;
    let run = scan.wait(RUN_TIMEOUT)?.expect_code(130)?;
    let result = world.result("result.json")?;
    ensure!(result["scan"]["status"] == "interrupted", "{}", result["scan"]);
    let id = result["scan"]["id"].as_str().context("no id")?.to_owned();
    ensure!(run.stderr.ends_with(&format!("go on with: portsweep resume {id}\n")), "{}", run.transcript());
    // From another directory: the result file is where it was.
    let command = world.scanner.command(lab::bin()?).args(["resume"]).directory(Path::new("/"));
    let run = command.env("PORTSWEEP_STATE", state(&world)).run(RUN_TIMEOUT)?.expect_code(0)?;
    let first = run.stderr.lines().next().unwrap_or_default();
    ensure!(first.contains(&id) && first.contains("portsweep -p 22,80"), "{}", run.transcript());
    ensure!(run.lines_sorted() == ["192.0.2.11:22", "192.0.2.11:80", "192.0.2.12:8080"], "{}", run.transcript());
    let result = world.result("result.json")?;
    judge(&result, &V4, Asked { ping: true, ports: &PORTS })?;
    ensure!(result["scan"]["id"] == *id && result["scan"]["rate"] == 5.0, "{}", result["scan"]);
    audit(&world)
}

fn json_lines() -> anyhow::Result<()> {
    let world = World::new()?;
    let scan = start(&world, &["-o", "jsonl", "-p", PORTS_TEXT, "--rate", "5", "192.0.2.11-192.0.2.14"])?;
    ensure!(until_probed(&world, &scan, 12)?, "it ended by itself");
    scan.signal(libc::SIGINT)?;
    let first = scan.wait(RUN_TIMEOUT)?.expect_code(130)?;
    let run = resume(&world, &[])?.expect_code(0)?;
    let of = |run: &Finished, kind: &str| -> anyhow::Result<Vec<String>> {
        let lines = run.stdout.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
        let mut told: Vec<_> = lines
            .iter()
            .filter(|line| line["type"] == kind)
            .map(|line| format!("{}:{}", line["address"], line["port"]))
            .collect();
        told.sort();
        Ok(told)
    };
    let ports = ["\"192.0.2.11\":22", "\"192.0.2.11\":80", "\"192.0.2.12\":8080"];
    ensure!(of(&run, "port")? == ports, "{}", run.transcript());
    let first_port = run.stdout.lines().position(|line| line.contains("\"port\"")).unwrap_or(0);
    ensure!(first_port > 0, "a host is told of before its ports: {}", run.transcript());
    ensure!(of(&run, "host")?.len() == 2 && of(&run, "summary")?.len() == 1, "{}", run.transcript());
    ensure!(of(&first, "port")?.iter().all(|port| ports.contains(&port.as_str())), "{}", first.transcript());
    Ok(())
}

fn resume(world: &World, words: &[&str]) -> anyhow::Result<Finished> {
    let words: Vec<_> = ["resume"].iter().chain(words).copied().collect();
    start(world, &words)?.wait(RUN_TIMEOUT)
}

fn excluded_since() -> anyhow::Result<()> {
    let world = World::new()?;
    let scan =
        start(&world, &["-f", "tcp", "-p", "1-400", "--rate", "50", "-w", "result.json", "192.0.2.11-192.0.2.12"])?;
    ensure!(until_probed(&world, &scan, 20)?, "it ended by itself");
    scan.signal(libc::SIGKILL)?;
    scan.wait(RUN_TIMEOUT)?;
    let before = world.target.counted_at("192.0.2.12")?;
    let command = world.scanner.command(lab::bin()?).args(["resume"]).directory(world.directory.path());
    let command = command.env("PORTSWEEP_STATE", state(&world)).env("PORTSWEEP_EXCLUDE", "192.0.2.12");
    // What is excluded is no gap.
    command.run(RUN_TIMEOUT)?.expect_code(0)?;
    ensure!(world.target.counted_at("192.0.2.12")? == before, "an excluded address was probed");
    let result = world.result("result.json")?;
    ensure!(result["scan"]["status"] == "done", "{}", result["scan"]);
    let excluded = result["summary"]["not_probed"]["excluded"].as_u64().unwrap_or(0);
    ensure!(excluded > 300, "{}", result["summary"]);
    ensure!(result["summary"]["targets"] == 800, "the plan stays: {}", result["summary"]);
    audit(&world)
}

fn nothing_to_resume() -> anyhow::Result<()> {
    let world = World::new()?;
    let refused = |words: &[&str], says: &str| -> anyhow::Result<()> {
        let run = resume(&world, words)?.expect_code(2)?;
        ensure!(run.stdout.is_empty() && run.stderr.lines().count() == 1, "{}", run.transcript());
        ensure!(run.stderr.contains(says), "{}", run.transcript());
        Ok(())
    };
    refused(&[], "nothing to go on with")?;
    refused(&["0192"], "`portsweep scans` lists them")?;
    let result = world.portsweep(&["-w", "-", "-p", "22", "192.0.2.11"])?.expect_code(0)?;
    let result: Value = serde_json::from_str(&result.stdout)?;
    let id = result["scan"]["id"].as_str().context("no id")?;
    refused(&[], "nothing to go on with")?;
    refused(&[id], "is done")?;
    // One that runs is not gone on with by another.
    let scan = start(&world, &["-f", "tcp", "-p", "1-400", "--rate", "5", "192.0.2.11"])?;
    ensure!(until_probed(&world, &scan, 1)?, "it ended by itself");
    refused(&[], "nothing to go on with")?;
    scan.signal(libc::SIGINT)?;
    scan.wait(RUN_TIMEOUT)?.expect_code(130)?;
    Ok(())
}

fn side_by_side() -> anyhow::Result<()> {
    let world = World::new()?;
    let words = |file| ["-q", "-p", PORTS_TEXT, "--rate", "20", "-w", file, "192.0.2.11-192.0.2.14"];
    let (one, other) = (start(&world, &words("one.json"))?, start(&world, &words("other.json"))?);
    one.wait(RUN_TIMEOUT)?.expect_code(0)?;
    other.wait(RUN_TIMEOUT)?.expect_code(0)?;
    for file in ["one.json", "other.json"] {
        judge(&world.result(file)?, &V4, Asked { ping: true, ports: &PORTS })?;
    }
    let listed = world.portsweep(&["scans"])?.expect_code(0)?;
    ensure!(listed.stdout.matches(" done ").count() == 2, "{}", listed.transcript());
    audit(&world)
}
