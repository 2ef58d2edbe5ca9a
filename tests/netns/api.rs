//! The API as a user meets it: what became of single targets by filter, page and form; the account of a scan; TLS for others than this machine,
//! and who may do what with the token that he was given.

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use portsweep_tests::lab::{self, Finished, Need, Process};
use serde_json::Value;
use std::collections::BTreeSet;

use crate::fleet_world::{Fleet, end};
use crate::world::{PORTS_TEXT, RUN_TIMEOUT, World};

pub(crate) fn trials() -> Vec<Trial> {
    let hosts = &[Need::Hosts];
    let curl = &[Need::Hosts, Need::Program("curl")];
    vec![
        lab::trial("api_tells_of_targets_by_filter_page_and_form", curl, targets),
        lab::trial("api_over_tls_is_for_those_who_logged_in", hosts, login),
    ]
}

const TARGETS: &str = "192.0.2.11-192.0.2.14";
/// How often something is looked for: each look starts a program, so this is bounded in time too.
const LOOKS_MAX: usize = 20_000;

/// Waits until a coordinator takes scans.
fn until_ready(serving: Process, health: impl Fn() -> anyhow::Result<Finished>) -> anyhow::Result<Process> {
    for _ in 0..LOOKS_MAX {
        if health()?.code == Some(0) {
            return Ok(serving);
        }
    }
    serving.signal(libc::SIGKILL)?;
    anyhow::bail!("serve is not ready: {}", serving.wait(RUN_TIMEOUT)?.transcript())
}

/// Asks the API with curl; the status, the head and what it said.
fn ask(world: &World, path: &str) -> anyhow::Result<(u16, String, String)> {
    let curl = lab::program("curl").context("curl is gone")?;
    let token = std::fs::read_to_string(world.directory.path().join("state/local.token"))?;
    let (bearer, url) = (format!("Authorization: Bearer {token}"), format!("http://127.0.0.1:7420/api/v1/{path}"));
    let words = ["-s", "-m", "20", "-D", "-", "-w", "\n%{http_code}", "-H", &bearer, &url];
    let run = world.scanner.command(&curl).args(words).run(RUN_TIMEOUT)?.expect_code(0)?;
    let (answer, status) = run.stdout.rsplit_once('\n').context("no status")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
    Ok((status.parse()?, head.to_owned(), body.to_owned()))
}

fn targets() -> anyhow::Result<()> {
    let world = World::new()?;
    let portsweep = |words: &[&str]| -> anyhow::Result<lab::Command<'_>> {
        let command = world.scanner.command(lab::bin()?).args(words).directory(world.directory.path());
        Ok(command.env("PORTSWEEP_STATE", world.directory.path().join("state")))
    };
    let serving = portsweep(&["serve", "--allow", "192.0.2.0/24"])?.start()?;
    let serving = until_ready(serving, || portsweep(&["health"])?.run(RUN_TIMEOUT))?;
    let words = ["scan", "--coordinator", "-p", PORTS_TEXT, "-w", "result.json", TARGETS];
    portsweep(&words)?.run(RUN_TIMEOUT)?.expect_code(0)?;
    let result = world.result("result.json")?;
    let id = result["scan"]["id"].as_str().context("an id")?;
    let good = |query: &str| -> anyhow::Result<(String, String)> {
        let (status, head, body) = ask(&world, &format!("scans/{id}/{query}"))?;
        ensure!(status == 200, "{query}: {status} {body}");
        Ok((head, body))
    };
    let rows = |query: &str| -> anyhow::Result<Vec<Value>> {
        let page: Value = serde_json::from_str(&good(query)?.1)?;
        ensure!(page["next"].is_null(), "{query}: it is not whole");
        Ok(page["targets"].as_array().context("targets")?.clone())
    };

    // Every target once, as the result counts them.
    let summary = &result["summary"];
    let all = rows("targets?limit=10000")?;
    ensure!(Some(all.len() as u64) == summary["targets"].as_u64(), "{} of {summary}", all.len());
    let open = rows("results?state=open")?;
    ensure!(Some(open.len() as u64) == summary["states"]["open"].as_u64() && !open.is_empty(), "{open:?}");
    let mut expected = BTreeSet::new();
    for host in result["hosts"].as_array().into_iter().flatten() {
        for port in host["ports"].as_array().into_iter().flatten().filter(|port| port["state"] == "open") {
            expected.insert(format!("{}:{}", host["address"], port["port"]));
        }
    }
    let told: BTreeSet<_> = open.iter().map(|row| format!("{}:{}", row["address"], row["port"])).collect();
    ensure!(told == expected, "{told:?} is not {expected:?}");
    ensure!(open.iter().all(|row| row["reason"] == "syn-ack" && row["seen_by"] == "local" && row["rtt_ms"].is_f64()));
    // One target; one that nobody asked for.
    let one = rows("targets?address=192.0.2.11&port=22")?;
    ensure!(one.len() == 1 && one[0]["state"] == "open" && one[0]["tries"] == 1, "{one:?}");
    ensure!(rows("targets?address=192.0.2.99")?.is_empty());
    let pings = rows("targets?kind=ping&state=up,down&agent=local")?;
    ensure!(pings.len() == 4 && pings.iter().all(|row| row["port"].is_null()), "{pings:?}");

    // The same by pages of three, by the cursor and by the Link header.
    let (mut paged, mut query) = (Vec::new(), "targets?limit=3".to_owned());
    loop {
        let (head, body) = good(&query)?;
        let page: Value = serde_json::from_str(&body)?;
        paged.extend(page["targets"].as_array().context("targets")?.clone());
        let Some(next) = page["next"].as_str() else {
            ensure!(!head.to_lowercase().contains("\nlink:"), "{head}");
            break;
        };
        query = format!("targets?limit=3&cursor={next}");
        ensure!(head.contains(&format!("</api/v1/scans/{id}/{query}>; rel=\"next\"")), "{head}");
    }
    ensure!(paged == all, "pages tell something else");

    // In other forms, whole.
    let lines: Vec<Value> =
        good("targets?format=jsonl")?.1.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(lines == all, "JSON lines tell something else");
    let table = good("targets?format=csv&state=open")?.1;
    ensure!(
        table.lines().count() == open.len() + 1 && table.starts_with("address,protocol,port,state,reason"),
        "{table}"
    );
    ensure!(table.contains("192.0.2.11,tcp,22,open,syn-ack,"), "{table}");

    let receipt: Value = serde_json::from_str(&good("receipt")?.1)?;
    ensure!(receipt["status"] == "done" && receipt["plan"] == result["scan"]["plan"], "{receipt}");
    ensure!(receipt["targets"] == summary["targets"] && receipt["states"] == summary["states"], "{receipt}");
    for (query, says) in [
        ("targets?prot=22", "prot"),
        ("targets?port=65536", "port"),
        ("targets?address=example.net", "address"),
        ("targets?state=opened", "state"),
        ("targets?cursor=-1", "cursor"),
        ("targets?limit=0", "limit"),
        ("results?format=table&state=open", "format"),
        ("results?open=true&state=open", "open"),
    ] {
        let (status, _, body) = ask(&world, &format!("scans/{id}/{query}"))?;
        ensure!(status == 400 && body.contains(says), "{query}: {status} {body}");
    }
    let words = ["scan", "--coordinator", "--detach", "-p", "1-2000", "--rate", "1", TARGETS];
    let running = portsweep(&words)?.run(RUN_TIMEOUT)?.expect_code(0)?;
    let (status, _, body) = ask(&world, &format!("scans/{}/receipt", running.stdout.trim()))?;
    ensure!(status == 409 && body.contains("is running"), "{status} {body}");
    portsweep(&["scans", "--coordinator", "cancel", running.stdout.trim()])?.run(RUN_TIMEOUT)?.expect_code(0)?;
    end(serving).map(drop)
}

fn login() -> anyhow::Result<()> {
    let fleet = Fleet::new()?;
    let serving = fleet.portsweep(&["serve", "--listen", "203.0.113.1:7420"])?.start()?;
    // Where it runs nothing has to be named.
    let serving = until_ready(serving, || fleet.portsweep(&["health"])?.run(RUN_TIMEOUT))?;
    let token =
        |role: &str| Ok::<_, anyhow::Error>(fleet.ask(&["token", "api", "--role", role])?.stdout.trim().to_owned());
    let (viewer, operator) = (token("viewer")?, token("operator")?);
    ensure!(viewer.starts_with("https://203.0.113.1:7420#"), "it says neither where nor with what: {}", viewer.len());
    let elsewhere = |words: &[&str]| -> anyhow::Result<Finished> {
        let command = fleet.agents[0].command(lab::bin()?).args(words).directory(fleet.directory.path());
        command.env("PORTSWEEP_STATE", fleet.directory.path().join("elsewhere")).run(RUN_TIMEOUT)
    };
    let fails = |code: i32, says: &str, words: &[&str]| -> anyhow::Result<()> {
        let run = elsewhere(words)?.expect_code(code)?;
        ensure!(run.stderr.lines().count() == 1 && run.stderr.contains(says), "{}", run.transcript());
        ensure!(!run.stderr.contains("psw_"), "a token is shown: {}", run.transcript());
        Ok(())
    };
    fails(2, "portsweep login", &["scans", "--coordinator=https://203.0.113.1:7420"])?;
    fails(2, "this is no login", &["login", &viewer[..viewer.len() - 70]])?;
    // Bad input 14 for the API: who speaks no TLS gets none of it.
    fails(1, "answers no more", &["scans", "--coordinator=http://203.0.113.1:7420"])?;
    let (place, secrets) = viewer.split_once('#').context("a login")?;
    let (pin, secret) = secrets.split_once('.').context("a pin")?;
    let other_pin: String = pin.chars().map(|digit| if digit == '0' { '1' } else { '0' }).collect();
    fails(1, "is not the coordinator", &["login", &format!("{place}#{other_pin}.{secret}")])?;
    fails(1, "the token that was shown", &["login", &format!("{place}#{pin}.psw_{}", "0".repeat(64))])?;

    elsewhere(&["login", &viewer])?.expect_code(0)?;
    let submit = ["scan", "--coordinator", "--detach", "-p", "1-2000", "--rate", "1", "127.0.0.1"];
    elsewhere(&["scans", "--coordinator"])?.expect_code(0)?;
    elsewhere(&["agents"])?.expect_code(0)?;
    fails(1, "may look, and change nothing", &submit)?;
    fails(1, "may look, and change nothing", &["token", "agent"])?;
    // The newest login holds.
    elsewhere(&["login", &operator])?.expect_code(0)?;
    let id = elsewhere(&submit)?.expect_code(0)?.stdout.trim().to_owned();
    elsewhere(&["scans", "--coordinator", "set", &id, "--rate", "2", "--weight", "3"])?.expect_code(0)?;
    elsewhere(&["scans", "--coordinator", "cancel", &id])?.expect_code(0)?;
    elsewhere(&["scans", "--coordinator", "wait", &id])?.expect_code(3)?;
    // What is set in the environment wins over what was logged in with.
    let words = ["scans", "--coordinator", "pause", &id];
    let command = fleet.agents[0].command(lab::bin()?).args(words).env("PORTSWEEP_TOKEN", &viewer);
    let refused = command.env("PORTSWEEP_STATE", fleet.directory.path().join("elsewhere")).run(RUN_TIMEOUT)?;
    ensure!(refused.code == Some(1) && refused.stderr.contains("may look"), "{}", refused.transcript());

    let ended = end(serving)?;
    ensure!(ended.stderr.contains("https://203.0.113.1:7420/?key="), "{}", ended.transcript());
    Ok(())
}
