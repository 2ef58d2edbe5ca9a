//! `portsweep serve` is a coordinator that one command starts, and `portsweep scan --coordinator` is the same scan as one from here: its
//! output, its result and its exit codes; whatever becomes of the coordinator meanwhile, and of whoever asks what makes no sense.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use portsweep_tests::lab::{self, Finished, Host, Need, Process};
use serde_json::{Value, json};

use crate::judge::{Asked, judge};
use crate::world::{PORTS, PORTS_TEXT, RUN_TIMEOUT, V4, World};

pub(crate) fn trials() -> Vec<Trial> {
    let hosts = &[Need::Hosts];
    let curl = &[Need::Hosts, Need::Program("curl")];
    vec![
        lab::trial("serve_runs_on_loopback_without_options", hosts, loopback),
        lab::trial("serve_gives_the_output_and_result_of_a_scan_from_here", hosts, same_as_local),
        lab::trial("serve_killed_in_mid_scan_goes_on_by_itself_and_so_does_who_follows", hosts, killed),
        lab::trial("serve_changes_a_scan_while_it_runs", hosts, changed),
        lab::trial("serve_takes_a_list_of_ten_megabytes", hosts, listed),
        lab::trial("serve_has_agents_of_other_machines_scan_what_they_allow", hosts, joined),
        lab::trial("serve_ends_what_no_agent_may_probe_as_no_agent", hosts, no_agent),
        lab::trial("serve_refuses_what_makes_no_sense_and_who_may_not_ask", curl, refusals),
    ]
}

/// Targets that the embedded agent may probe here.
const ALLOW: &str = "192.0.2.0/24";
const TARGETS: &str = "192.0.2.11-192.0.2.14";

/// Starts a coordinator and waits until it takes scans.
fn serve(world: &World, words: &[&str]) -> anyhow::Result<Process> {
    let process = command(world, &[&["serve"], words].concat())?.start()?;
    // Each of them takes some milliseconds at least, so this is bounded in time too.
    for _ in 0..20_000 {
        if command(world, &["health"])?.run(RUN_TIMEOUT)?.code == Some(0) {
            return Ok(process);
        }
    }
    process.signal(libc::SIGKILL)?;
    anyhow::bail!("serve is not ready: {}", process.wait(RUN_TIMEOUT)?.transcript())
}

fn command<'a>(world: &'a World, words: &[&str]) -> anyhow::Result<lab::Command<'a>> {
    let command = world.scanner.command(lab::bin()?).args(words).directory(world.directory.path());
    Ok(command.env("COLUMNS", "80").env("PORTSWEEP_STATE", world.directory.path().join("state")))
}

fn end(serving: Process) -> anyhow::Result<Finished> {
    serving.signal(libc::SIGTERM)?;
    serving.wait(RUN_TIMEOUT)?.expect_code(0)
}

fn loopback() -> anyhow::Result<()> {
    let host = Host::new("alone")?;
    let directory = tempfile::TempDir::new()?;
    let run = |words: &[&str]| -> anyhow::Result<lab::Command<'_>> {
        let command = host.command(lab::bin()?).args(words).directory(directory.path());
        Ok(command.env("PORTSWEEP_STATE", directory.path().join("state")))
    };
    let serving = run(&["serve"])?.start()?;
    let mut scan = run(&["scan", "--coordinator", "-p", "7419-7421", "127.0.0.1"])?.run(RUN_TIMEOUT)?;
    for _ in 0..20_000 {
        if !scan.stderr.contains("no coordinator answers") {
            break;
        }
        scan = run(&["scan", "--coordinator", "-p", "7419-7421", "127.0.0.1"])?.run(RUN_TIMEOUT)?;
    }
    let scan = scan.expect_code(0)?;
    ensure!(scan.lines_sorted() == ["127.0.0.1:7420", "127.0.0.1:7421"], "{}", scan.transcript());
    ensure!(scan.stderr.is_empty(), "{}", scan.transcript());
    let second = run(&["serve"])?.run(RUN_TIMEOUT)?.expect_code(1)?;
    ensure!(
        second.stderr.lines().count() == 1 && second.stderr.contains("another portsweep serve"),
        "{}",
        second.transcript()
    );
    let ended = end(serving)?;
    ensure!(ended.stderr.contains("http://127.0.0.1:7420/?key="), "{}", ended.transcript());
    Ok(())
}

/// The only agent may probe one target of two: the other waits for an agent that may, for as long as was said, and no longer.
fn no_agent() -> anyhow::Result<()> {
    let world = World::new()?;
    let serving = serve(&world, &["--allow", "192.0.2.11"])?;
    let fleet = ["scan", "--coordinator", "--agent-wait", "1", "-f", "tcp", "-p", "20-29"];
    let both =
        world.portsweep(&[&fleet[..], &["-w", "both.json", "192.0.2.11,192.0.2.13"]].concat())?.expect_code(3)?;
    let result = world.result("both.json")?;
    ensure!(result["scan"]["status"] == "partial", "{}", both.transcript());
    ensure!(result["summary"]["not_probed"] == json!({ "no-agent": 10 }), "{result}");
    ensure!(result["summary"]["probed"] == 10, "{result}");
    let rows = json!([{ "addresses": "192.0.2.13", "targets": 10, "cause": "no-agent" }]);
    ensure!(result["not_probed"] == rows, "{result}");

    let none =
        world.portsweep(&[&fleet[..], &["-w", "none.json", "192.0.2.13-192.0.2.14"]].concat())?.expect_code(3)?;
    let result = world.result("none.json")?;
    ensure!(result["summary"]["not_probed"] == json!({ "no-agent": 20 }), "{}", none.transcript());
    let listed = command(&world, &["scans", "--coordinator"])?.run(RUN_TIMEOUT)?.expect_code(0)?;
    ensure!(listed.stdout.matches("partial").count() == 2, "{}", listed.transcript());
    for wrong in ["0", "-1", "soon", "86401"] {
        let wait = format!("--agent-wait={wrong}");
        let refused = world.portsweep(&["scan", "--coordinator", &wait, "192.0.2.11"])?.expect_code(2)?;
        ensure!(refused.stderr.lines().count() == 1 && refused.stderr.contains("86400"), "{}", refused.transcript());
    }
    end(serving)?;
    Ok(())
}

/// A result without what differs between any two runs.
fn comparable(mut result: Value) -> Value {
    for member in ["id", "command", "started", "updated", "finished", "seed", "plan"] {
        result["scan"][member].take();
    }
    result["agents"].take();
    for member in ["elapsed_s", "estimated_loss", "estimated_loss_interval", "single_try", "window"] {
        result["summary"][member].take();
    }
    for host in result["hosts"].as_array_mut().into_iter().flatten() {
        host["status"]["rtt_ms"].take();
        host["status"]["reason"].take();
        for port in host["ports"].as_array_mut().into_iter().flatten() {
            port["rtt_ms"].take();
        }
    }
    // Whether this machine finds in time that nobody has an address of its own link is another matter in each run, and parts the rows.
    let mut silent = Vec::new();
    for row in result["silent"].as_array().into_iter().flatten() {
        let addresses = row["addresses"].as_str().unwrap_or_default();
        let (first, last) = addresses.split_once('-').unwrap_or((addresses, addresses));
        let ends = [first, last].map(|end| end.parse().map_or(0, Ipv4Addr::to_bits));
        silent.extend((ends[0]..=ends[1]).map(|address| json!([address, row["status"]["state"]])));
    }
    result["silent"] = silent.into();
    result
}

fn same_as_local() -> anyhow::Result<()> {
    let world = World::new()?;
    let serving = serve(&world, &["--allow", ALLOW, "--exclude", "192.0.2.15"])?;
    let words = ["-p", PORTS_TEXT, TARGETS];
    let run = |words: &[&[&str]]| -> anyhow::Result<Finished> { world.portsweep(&words.concat())?.expect_code(0) };
    let fleet: &[&str] = &["scan", "--coordinator"];
    let here = run(&[&words, &["--exclude", "192.0.2.15", "-w", "here.json"]])?;
    let there = run(&[fleet, &words, &["-w", "there.json"]])?;
    ensure!(here.lines_sorted() == there.lines_sorted(), "{}{}", here.transcript(), there.transcript());
    let (result_here, result_there) = (world.result("here.json")?, world.result("there.json")?);
    judge(&result_there, &V4, Asked { ping: true, ports: &PORTS })?;
    let (here, there) = (comparable(result_here), comparable(result_there));
    ensure!(here == there, "the results differ:\n{here}\n{there}");

    // As JSON lines each thing is told once, and as a table in the same words.
    let told = |run: &Finished| -> anyhow::Result<BTreeMap<String, usize>> {
        let mut told = BTreeMap::new();
        for line in run.stdout.lines() {
            let line: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            *told.entry(format!("{} {} {}", line["type"], line["address"], line["port"])).or_default() += 1;
        }
        Ok(told)
    };
    let lines = told(&run(&[fleet, &["-o", "jsonl"], &words])?)?;
    ensure!(lines == told(&run(&[&["-o", "jsonl"], &words])?)?, "{lines:?}");
    ensure!(lines.values().all(|count| *count == 1), "{lines:?}");
    let table = |run: &Finished| {
        let ports = run.stdout.lines().filter(|line| line.contains("/tcp") || line.starts_with("portsweep report"));
        ports.map(str::to_owned).collect::<Vec<_>>()
    };
    let there = run(&[fleet, &["-o", "table"], &words])?;
    let here = run(&[&["-o", "table"], &words])?;
    ensure!(!table(&there).is_empty() && table(&here) == table(&there), "{}", there.transcript());
    let json: Value = serde_json::from_str(&run(&[fleet, &["-w", "-"], &words])?.stdout)?;
    judge(&json, &V4, Asked { ping: true, ports: &PORTS })?;

    // What excludes here, and what its own agent may not probe.
    let run = world.portsweep(&[fleet, &["-f", "tcp", "-p", "22", "192.0.2.15"]].concat())?.expect_code(2)?;
    ensure!(run.stderr.lines().count() == 1 && run.stderr.contains("nothing is left to scan"), "{}", run.transcript());
    ensure!(world.target.counted_at("192.0.2.15")?.sum() == 0, "an excluded address was probed");
    end(serving)?;
    Ok(())
}

fn killed() -> anyhow::Result<()> {
    let world = World::new()?;
    let serving = serve(&world, &["--allow", ALLOW])?;
    let words = [
        "scan",
        "--coordinator",
        "-f",
        "tcp",
        "-p",
        "1-1000",
        "--passes",
        "1",
        "--window",
        "200",
        "-w",
        "result.json",
        "-o",
        "jsonl",
        TARGETS,
    ];
    let following = command(&world, &words)?.start()?;
    let probed = |count: u64| -> anyhow::Result<()> {
        while world.target.counted()?.sum() < count {
            std::thread::yield_now();
        }
        Ok(())
    };
    probed(500)?;
    serving.signal(libc::SIGKILL)?;
    serving.wait(RUN_TIMEOUT)?;
    let serving = serve(&world, &["--allow", ALLOW])?;
    let run = following.wait(Duration::from_secs(180))?.expect_code(0)?;
    let result = world.result("result.json")?;
    ensure!(result["scan"]["status"] == "done", "{}", result["scan"]);
    ensure!(result["summary"]["targets"] == 4_000 && result["summary"]["probed"] == 4_000, "{}", result["summary"]);
    let open: Vec<_> = run.stdout.lines().filter(|line| line.contains("\"type\":\"port\"")).collect();
    ensure!(open.len() == 2, "each open port is told once: {}", run.transcript());
    ensure!(run.stdout.lines().last().is_some_and(|line| line.contains("\"summary\"")), "{}", run.transcript());
    end(serving)?;
    Ok(())
}

/// The only scan that the coordinator has, as its API shows it to the command line.
fn detached(world: &World, words: &[&str]) -> anyhow::Result<String> {
    let run = world.portsweep(&[&["scan", "--coordinator", "--detach"], words].concat())?.expect_code(0)?;
    Ok(run.stdout.trim().to_owned())
}

fn changed() -> anyhow::Result<()> {
    let world = World::new()?;
    let serving = serve(&world, &["--allow", ALLOW])?;
    let of_scans = |words: &[&str]| world.portsweep(&[&["scans", "--coordinator"], words].concat());
    // Slow enough that it does not end by itself.
    let words = ["-f", "tcp", "-p", "1-2000", "--passes", "1", "--rate", "20", TARGETS];
    let id = detached(&world, &words)?;
    let listed = of_scans(&[])?.expect_code(0)?;
    ensure!(listed.stdout.contains(&id) && listed.stdout.contains("running"), "{}", listed.transcript());
    of_scans(&["pause", &id])?.expect_code(0)?;
    let listed = of_scans(&[])?.expect_code(0)?;
    ensure!(listed.stdout.contains("paused"), "{}", listed.transcript());
    let paused = world.target.counted()?.sum();
    of_scans(&["exclude", &id, "192.0.2.11"])?.expect_code(0)?;
    of_scans(&["exclude", &id, "192.0.2.300"])?.expect_code(2)?;
    ensure!(world.target.counted()?.sum() == paused, "it is probed while it is paused");
    let before = world.target.counted_at("192.0.2.11")?.sum();
    of_scans(&["set", &id, "--rate", "none"])?.expect_code(0)?;
    of_scans(&["resume", &id])?.expect_code(0)?;
    // It takes the exit code of the scan; what was excluded leaves no gap.
    of_scans(&["wait", &id])?.expect_code(0)?;
    ensure!(world.target.counted_at("192.0.2.11")?.sum() == before, "an excluded address was probed");
    let result: Value = serde_json::from_str(&of_scans(&["export", &id])?.expect_code(0)?.stdout)?;
    let excluded = result["summary"]["not_probed"]["excluded"].as_u64();
    ensure!(excluded.is_some_and(|count| count > 1_900), "{}", result["summary"]);
    let pause = of_scans(&["pause", &id])?.expect_code(1)?;
    ensure!(pause.stderr.contains("is done already"), "{}", pause.transcript());

    let id = detached(&world, &words)?;
    of_scans(&["cancel", &id])?.expect_code(0)?;
    of_scans(&["wait", &id])?.expect_code(3)?;
    let shown = of_scans(&["show", &id])?.expect_code(0)?;
    ensure!(shown.stdout.contains("cancelled"), "{}", shown.transcript());

    let runs = detached(&world, &words)?;
    let refused = of_scans(&["rm", &runs])?.expect_code(1)?;
    ensure!(refused.stderr.contains("running: cancel it first"), "{}", refused.transcript());
    of_scans(&["rm", &id])?.expect_code(0)?;
    let gone = of_scans(&["rm", &id])?.expect_code(2)?;
    ensure!(gone.stderr.lines().count() == 1, "{}", gone.transcript());
    let listed = of_scans(&[])?.expect_code(0)?;
    ensure!(!listed.stdout.contains(&id) && listed.stdout.contains(&runs), "{}", listed.transcript());
    of_scans(&["cancel", &runs])?.expect_code(0)?;
    end(serving)?;
    Ok(())
}

/// Far more than a request's body may have: the list is uploaded as it is read.
fn listed() -> anyhow::Result<()> {
    let world = World::new()?;
    let serving = serve(&world, &["--allow", ALLOW])?;
    let line = |host: u32| format!("{}  # a host of ours\n", std::net::Ipv4Addr::from(0x0a00_0000 + 2 * host));
    // Line by line: what this process has in memory counts for every program that it starts (getrusage(2), ru_maxrss).
    let mut list = std::io::BufWriter::new(std::fs::File::create(world.directory.path().join("list"))?);
    (0..400_000).map(line).try_for_each(|line| list.write_all(line.as_bytes()))?;
    list.write_all(b"192.0.2.11\n")?;
    let length = list.into_inner()?.metadata()?.len();
    ensure!(length > 10 << 20, "{length}");
    let id = detached(&world, &["-f", "tcp", "-p", "22", "--agent-wait", "600", "-iL", "list"])?;
    let of_scans = |words: &[&str]| world.portsweep(&[&["scans", "--coordinator"], words].concat());
    of_scans(&["cancel", &id])?.expect_code(0)?;
    of_scans(&["wait", &id])?.expect_code(3)?;
    let all = of_scans(&[])?.expect_code(0)?;
    ensure!(all.stdout.lines().any(|line| line.contains(&id) && line.contains("400,001")), "{}", all.transcript());
    std::fs::write(world.directory.path().join("list"), "192.0.2.11\n192.0.2.0/99\n")?;
    let run = world.portsweep(&["scan", "--coordinator", "-iL", "list"])?.expect_code(2)?;
    ensure!(run.stderr.contains("line 2: "), "{}", run.transcript());
    end(serving)?;
    Ok(())
}

fn joined() -> anyhow::Result<()> {
    let world = World::new()?;
    let serving = serve(&world, &[])?;
    // The coordinator's own agent allows loopback alone.
    let words = ["-p", PORTS_TEXT, TARGETS, "-w", "result.json"];
    let token = world.portsweep(&["token", "agent"])?.expect_code(0)?;
    let file = world.directory.path().join("allow");
    std::fs::write(&file, format!("# what is ours\n{ALLOW}\n"))?;
    let agent = || -> anyhow::Result<lab::Command<'_>> {
        let command = world.scanner.command(lab::agent_bin()?).directory(world.directory.path());
        let words = ["join", token.stdout.trim(), "--name", "probe", "--allow-file", "allow", "--state", "agent"];
        Ok(command.args(words))
    };
    // Bad input 81: whoever may write the file says what is probed.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666))?;
    let refused = agent()?.run(RUN_TIMEOUT)?.expect_code(2)?;
    ensure!(refused.stderr.lines().count() == 1 && refused.stderr.contains("chmod go-w"), "{}", refused.transcript());
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644))?;
    let agent = agent()?.start()?;
    let agents = || Ok::<_, anyhow::Error>(world.portsweep(&["agents"])?.expect_code(0)?.stdout);
    for _ in 0..20_000 {
        if agents()?.contains("connected") {
            break;
        }
    }
    ensure!(agents()?.contains("probe  connected"), "{}", agents()?);
    world.portsweep(&[&["scan", "--coordinator"], &words[..]].concat())?.expect_code(0)?;
    let result = world.result("result.json")?;
    judge(&result, &V4, Asked { ping: true, ports: &PORTS })?;
    let probed = |name: &str| {
        let mut agents = result["agents"].as_array().into_iter().flatten();
        agents.find(|agent| agent["name"] == name).and_then(|agent| agent["probed"].as_u64())
    };
    // Silent targets are tried more than once.
    let alone = result["agents"].as_array().is_some_and(|agents| agents.len() == 1);
    ensure!(alone && probed("probe") >= result["summary"]["targets"].as_u64(), "{}", result["agents"]);
    world.portsweep(&["agents", "label", "probe", "site=b"])?.expect_code(0)?;
    ensure!(agents()?.contains("site=b"), "{}", agents()?);
    drained(&world, &agents)?;
    world.portsweep(&["agents", "revoke", "probe"])?.expect_code(0)?;
    ensure!(agents()?.contains("revoked"), "{}", agents()?);
    world.portsweep(&["agents", "show", "nobody"])?.expect_code(2)?;
    agent.signal(libc::SIGTERM)?;
    agent.wait(RUN_TIMEOUT)?;
    end(serving)?;
    Ok(())
}

/// The only agent that may probe the targets is drained in mid-scan, and gets work again: nothing is lost, and nothing probed meanwhile.
fn drained(world: &World, agents: &dyn Fn() -> anyhow::Result<String>) -> anyhow::Result<()> {
    let words = ["-f", "tcp", "-p", "1-2000", "--passes", "1", "--rate", "400", "--agent-wait", "600", TARGETS];
    let id = detached(world, &words)?;
    let before = world.target.counted()?.sum();
    while world.target.counted()?.sum() < before + 300 {
        std::thread::yield_now();
    }
    world.portsweep(&["agents", "drain", "probe"])?.expect_code(0)?;
    for _ in 0..20_000 {
        if agents()?.contains("probe  drained") {
            break;
        }
    }
    ensure!(agents()?.contains("probe  drained"), "{}", agents()?);
    let drained = world.target.counted()?.sum();
    let of_scans = |words: &[&str]| world.portsweep(&[&["scans", "--coordinator"], words].concat());
    for _ in 0..20 {
        let listed = of_scans(&[])?.expect_code(0)?;
        ensure!(listed.stdout.contains("running"), "{}", listed.transcript());
    }
    ensure!(world.target.counted()?.sum() == drained, "a drained agent probes");
    of_scans(&["set", &id, "--rate", "none"])?.expect_code(0)?;
    world.portsweep(&["agents", "drain", "probe", "--undo"])?.expect_code(0)?;
    of_scans(&["wait", &id])?.expect_code(0)?;
    let result: Value = serde_json::from_str(&of_scans(&["export", &id])?.expect_code(0)?.stdout)?;
    ensure!(result["summary"]["targets"] == 8_000 && result["summary"]["probed"] == 8_000, "{}", result["summary"]);
    world.portsweep(&["agents", "drain", "nobody"])?.expect_code(2)?;
    Ok(())
}

/// Asks the API with curl; the status, and what it said.
fn ask(world: &World, words: &[&str]) -> anyhow::Result<(u16, String)> {
    let curl = lab::program("curl").context("curl is gone")?;
    let url = "http://127.0.0.1:7420";
    let words: Vec<_> = words.iter().map(|word| word.replace("URL", url)).collect();
    let run =
        world.scanner.command(&curl).args(["-s", "-m", "20", "-w", "\n%{http_code}"]).args(&words).run(RUN_TIMEOUT)?;
    let run = run.expect_code(0)?;
    let (body, status) = run.stdout.rsplit_once('\n').context("no status")?;
    Ok((status.parse()?, body.to_owned()))
}

fn refusals() -> anyhow::Result<()> {
    let world = World::new()?;
    let serving = serve(&world, &["--allow", ALLOW])?;
    let token = std::fs::read_to_string(world.directory.path().join("state/local.token"))?;
    let bearer = format!("Authorization: Bearer {token}");
    let refused = |status: u16, says: &str, words: &[&str]| -> anyhow::Result<()> {
        let (code, body) = ask(&world, words)?;
        ensure!(code == status && body.contains(says), "{words:?}: {code} {body}");
        let problem: Value = serde_json::from_str(&body).with_context(|| body.clone())?;
        ensure!(problem["status"] == status && problem["detail"].is_string(), "{words:?}: {body}");
        Ok(())
    };
    let (scans, with) = ("URL/api/v1/scans", ["-H", bearer.as_str()]);
    let json = [with.as_slice(), &["-H", "Content-Type: application/json", scans, "-d"]].concat();
    refused(401, "show a token", &[scans])?;
    refused(401, "show a token", &["-H", "Authorization: Bearer psw_00", scans])?;
    refused(403, "Host", &[&with[..], &["-H", "Host: evil.com", scans]].concat())?;
    refused(403, "another site", &[&with[..], &["-H", "Origin: null", scans]].concat())?;
    refused(400, "statuss", &[&with[..], &["URL/api/v1/scans?statuss=done"]].concat())?;
    refused(400, "prots", &[&json[..], &[r#"{"targets": ["127.0.0.1"], "prots": "22"}"#]].concat())?;
    refused(400, "-iL", &[&json[..], &[r#"{"command": "portsweep -iL /etc/hosts"}"#]].concat())?;
    refused(400, "65536", &[&json[..], &[r#"{"targets": ["127.0.0.1"], "ports": "65536"}"#]].concat())?;
    refused(404, "no scan", &[&with[..], &["URL/api/v1/scans/1"]].concat())?;
    refused(404, "nothing here", &[&with[..], &["URL/api/v2"]].concat())?;
    refused(405, "method", &[&with[..], &["-X", "PUT", scans]].concat())?;
    let (code, body) = ask(&world, &[&with[..], &[scans]].concat())?;
    ensure!(code == 200 && body == r#"{"scans":[]}"#, "nothing was taken: {code} {body}");
    end(serving)?;
    Ok(())
}
