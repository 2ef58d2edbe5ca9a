//! `--discover` asks ports of those that answer ping, and of nobody else; what it leaves out is no target, and what it could not find out
//! about is said.

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use portsweep_tests::lab::{self, Need};
use serde_json::Value;

use crate::judge;
use crate::world::{PORTS, PORTS_TEXT, V4, V6, World};

pub(crate) fn trials() -> Vec<Trial> {
    let hosts = &[Need::Hosts];
    vec![
        lab::trial("discover_asks_ports_of_those_that_are_up_and_of_nobody_else", hosts, gated),
        lab::trial("discover_says_of_whom_it_could_not_find_out", hosts, no_discovery),
    ]
}

/// `summary.targets` = sum of states + sum of `not_probed`.
fn adds_up(result: &Value) -> anyhow::Result<u64> {
    judge::schema(result)?;
    ensure!(result["scan"]["discover"] == true, "{}", result["scan"]);
    let summary = &result["summary"];
    let sum = |of: &str| -> anyhow::Result<u64> {
        Ok(summary[of].as_object().with_context(|| of.to_owned())?.values().filter_map(Value::as_u64).sum())
    };
    let targets = summary["targets"].as_u64().context("no targets")?;
    ensure!(targets == sum("states")? + sum("not_probed")?, "{summary}");
    Ok(targets)
}

fn gated() -> anyhow::Result<()> {
    let world = World::new()?;
    let range = ["192.0.2.11-192.0.2.14", "2001:db8::11-2001:db8::14"];
    let words = ["--discover", "-p", PORTS_TEXT, "-w", "result.json", range[0], range[1]];
    let run = world.portsweep(&words)?.expect_code(0)?;
    let mut lines: Vec<_> = run.stdout.lines().collect();
    lines.sort_unstable();
    ensure!(lines == ["192.0.2.11:22", "192.0.2.11:80", "[2001:db8::11]:22"], "{}", run.transcript());
    let result = world.result("result.json")?;
    let all = || V4.iter().chain(&V6);
    let up = all().filter(|truth| truth.answers_ping).count();
    ensure!(adds_up(&result)? == (all().count() + up * PORTS.len()) as u64, "{}", result["summary"]);
    let states = &result["summary"]["states"];
    ensure!(states["up"] == up as u64 && states["down"] == (all().count() - up) as u64, "{states}");
    let listed: Vec<_> =
        result["hosts"].as_array().into_iter().flatten().filter_map(|host| host["address"].as_str()).collect();
    ensure!(listed == ["192.0.2.11", "2001:db8::11", "2001:db8::12"], "{listed:?}");
    let silent = result["silent"].as_array().context("no list")?;
    ensure!(silent.iter().all(|run| run["status"]["state"] == "down"), "{silent:?}");
    for truth in all().filter(|truth| !truth.address.ends_with("14")) {
        let counted = world.target.counted_at(truth.address)?;
        ensure!(counted.ping > 0, "{} was not asked: {counted:?}", truth.address);
        ensure!((counted.tcp > 0) == truth.answers_ping, "{}: {counted:?}", truth.address);
    }
    Ok(())
}

/// There is no route to the second address: its ping is a gap, and so are its ports.
fn no_discovery() -> anyhow::Result<()> {
    let world = World::new()?;
    let words = ["--discover", "-p", "22,80", "-w", "result.json", "192.0.2.11", "198.51.100.1"];
    let run = world.portsweep(&words)?.expect_code(3)?;
    ensure!(run.stdout.lines().count() == 2, "{}", run.transcript());
    let result = world.result("result.json")?;
    ensure!(adds_up(&result)? == 6, "{}", result["summary"]);
    let not_probed = serde_json::json!({ "no-route": 1, "no-discovery": 2 });
    ensure!(result["summary"]["not_probed"] == not_probed, "{}", result["summary"]);
    let listed = serde_json::json!([{ "addresses": "198.51.100.1", "targets": 3, "cause": "no-discovery" }]);
    ensure!(result["not_probed"] == listed, "{}", result["not_probed"]);
    Ok(())
}
