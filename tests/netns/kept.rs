//! What is kept can be looked at: scans are listed, shown, exported and removed, and of the finished ones only the newest stay.

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use portsweep_tests::lab::{self, Need};
use serde_json::Value;

use crate::judge::{Asked, judge, schema};
use crate::world::{PORTS, PORTS_TEXT, V4, World};

pub(crate) fn trials() -> Vec<Trial> {
    let hosts = &[Need::Hosts];
    vec![
        lab::trial("kept_scans_are_listed_shown_exported_and_removed", hosts, looked_at),
        lab::trial("kept_are_the_newest_finished_scans_and_nothing_without_state", hosts, trimmed),
    ]
}

fn looked_at() -> anyhow::Result<()> {
    let world = World::new()?;
    let words = ["-q", "-p", PORTS_TEXT, "-w", "result.json", "192.0.2.11-192.0.2.14"];
    world.portsweep(&words)?.expect_code(0)?;
    let result = world.result("result.json")?;
    let id = result["scan"]["id"].as_str().context("no id")?;

    let listed = world.portsweep(&["scans"])?.expect_code(0)?;
    let line = listed.stdout.lines().nth(1).unwrap_or_default();
    ensure!(line.starts_with(id) && line.contains(" done "), "{}", listed.transcript());
    ensure!(line.contains("  28  portsweep -q -p 22,80"), "{}", listed.transcript());

    let shown = world.portsweep(&["scans", "show", &id[..13]])?.expect_code(0)?;
    for part in
        ["Command: portsweep -q -p 22,80", "portsweep report for 192.0.2.11", "22/tcp", &format!("Scan {id}: done")]
    {
        ensure!(shown.stdout.contains(part), "{part}: {}", shown.transcript());
    }
    let exported = world.portsweep(&["scans", "export", id])?.expect_code(0)?;
    let exported: Value = serde_json::from_str(&exported.stdout)?;
    judge(&exported, &V4, Asked { ping: true, ports: &PORTS })?;
    for member in ["hosts", "silent", "not_probed", "agents"] {
        ensure!(exported[member] == result[member], "{member}: {}", exported[member]);
    }
    let csv = world.portsweep(&["scans", "export", id, "-o", "csv"])?.expect_code(0)?;
    ensure!(csv.stdout.starts_with("addresses,names,protocol,port,state,reason,rtt_ms,seen_by,count,by_vantage\n"));
    ensure!(csv.stdout.contains("\n192.0.2.12,,tcp,9000,filtered,no-response,,,1,\n"), "{}", csv.transcript());
    ensure!(csv.stdout.contains("\n192.0.2.13-192.0.2.14,,,,down,no-response,,,2,\n"), "{}", csv.transcript());
    let jsonl = world.portsweep(&["scans", "export", id, "-o", "jsonl"])?.expect_code(0)?;
    let last: Value = serde_json::from_str(jsonl.stdout.lines().last().unwrap_or_default())?;
    ensure!(last["type"] == "summary" && last["states"] == result["summary"]["states"], "{}", jsonl.transcript());

    let unknown = world.portsweep(&["scans", "rm", id, "ffff"])?.expect_code(2)?;
    ensure!(unknown.stderr.lines().count() == 1 && unknown.stderr.contains("ffff"), "{}", unknown.transcript());
    world.portsweep(&["scans", "show", id])?.expect_code(0)?;
    world.portsweep(&["scans", "rm", id])?.expect_code(0)?;
    let left = std::fs::read_dir(world.directory.path().join("state/scans"))?.count();
    ensure!(left == 0, "{left} files are left");
    Ok(())
}

fn trimmed() -> anyhow::Result<()> {
    let world = World::new()?;
    let scan = |more: &[&str]| {
        let words: Vec<_> = ["-w", "result.json", "-p", "22", "192.0.2.11"].iter().chain(more).copied().collect();
        world.portsweep(&words)?.expect_code(0)?;
        let result = world.result("result.json")?;
        schema(&result)?;
        Ok::<_, anyhow::Error>(result["scan"]["id"].as_str().context("no id")?.to_owned())
    };
    let ids = [scan(&[])?, scan(&[])?, scan(&["--keep", "2"])?];
    let listed = world.portsweep(&["scans"])?.expect_code(0)?.stdout;
    let expected: Vec<_> = ids.iter().rev().take(2).map(String::as_str).collect();
    let found: Vec<_> = listed.lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
    ensure!(found == expected, "newest first, and two of them: {listed}");
    scan(&["--no-state"])?;
    ensure!(world.portsweep(&["scans"])?.expect_code(0)?.stdout == listed, "a scan without state is kept");
    Ok(())
}
