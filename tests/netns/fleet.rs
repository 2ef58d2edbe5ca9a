//! A scan on a fleet finds what an undisturbed scan from one machine finds, target by target, whatever becomes of agents, coordinator and
//! links in the middle of it; what is excluded receives nothing; what is stored passes the audit.

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use portsweep_tests::lab::{self, Need, Process};
use serde_json::Value;

use crate::fleet_world::{EXCLUDED, Fleet, TARGETS, beyond_its_right, end};
use crate::resume::essence;
use crate::world::{RUN_TIMEOUT, read_result};

/// Ports of every target: most refuse or are silent.
const PORTS: &str = "1-1500,8080,9000-9001";
/// So slow that there is a middle.
const RATE: &str = "1500";
/// Probes after which it is the middle.
const MIDDLE: u64 = 1_500;

pub(crate) fn trials() -> Vec<Trial> {
    let hosts = &[Need::Hosts];
    vec![
        lab::trial("fleet_undisturbed_finds_what_one_machine_finds", hosts, undisturbed),
        lab::trial("fleet_with_an_agent_killed_finds_the_same", hosts, agent_killed),
        lab::trial("fleet_with_the_coordinator_killed_finds_the_same", hosts, coordinator_killed),
        lab::trial("fleet_with_an_agent_stopped_beyond_its_right_finds_the_same", hosts, agent_stopped),
        lab::trial("fleet_with_a_link_cut_and_mended_finds_the_same", hosts, link_cut),
        lab::trial("fleet_agent_that_is_drained_by_sigterm_loses_nothing", hosts, drained),
        lab::trial("fleet_agent_joins_by_a_file_and_restarts_with_its_state", hosts, token_file),
        lab::trial("fleet_agent_that_is_revoked_is_shut_out_and_told", hosts, revoked),
    ]
}

fn words<'a>(file: &'a str, rate: &'a str) -> Vec<&'a str> {
    vec![
        "-q",
        "-p",
        PORTS,
        "--timeout",
        "200ms",
        "--seed",
        "7",
        "--rate",
        rate,
        "--exclude",
        EXCLUDED,
        "-w",
        file,
        TARGETS,
    ]
}

/// Runs a scan on a fleet of three, disturbs it in its middle, and holds its result against that of a scan from one of them.
fn disturbed(
    disturb: impl FnOnce(&Fleet, &Process, Process, Vec<Process>) -> anyhow::Result<(Process, Vec<Process>)>,
) -> anyhow::Result<()> {
    let fleet = Fleet::new()?;
    let here =
        fleet.agents[0].command(lab::bin()?).args(words("here.json", "100000")).directory(fleet.directory.path());
    here.env("PORTSWEEP_STATE", fleet.directory.path().join("here")).run(RUN_TIMEOUT)?.expect_code(0)?;
    let serving = fleet.serve()?;
    let agents = fleet.join_all()?;
    let excluded = fleet.target()?.counted_at(EXCLUDED)?;
    let scan = fleet.portsweep(&[&["scan", "--coordinator"], &words("fleet.json", RATE)[..]].concat())?.start()?;
    fleet.until_probed(&scan, MIDDLE)?;
    let (serving, agents) = disturb(&fleet, &scan, serving, agents)?;
    scan.wait(RUN_TIMEOUT)?.expect_code(0)?;
    let read = |file: &str| read_result(&fleet.directory.path().join(file));
    let result = read("fleet.json")?;
    ensure!(result["scan"]["status"] == "done", "it is {}", result["scan"]["status"]);
    same(essence(read("here.json")?), essence(result))?;
    ensure!(fleet.target()?.counted_at(EXCLUDED)? == excluded, "what is excluded was probed");
    agents.into_iter().try_for_each(|agent| end(agent).map(drop)).context("an agent did not end in order")?;
    end(serving).context("the coordinator did not end in order")?;
    fleet.audit()
}

/// An error unless the results are the same but for who saw it.
pub(crate) fn same(mut here: Value, mut fleet: Value) -> anyhow::Result<()> {
    // Who saw it is different by nature.
    for result in [&mut here, &mut fleet] {
        result["summary"]["estimated_loss_interval"] = Value::Null;
        result["summary"]["window"] = Value::Null;
        for host in result["hosts"].as_array_mut().into_iter().flatten() {
            host["status"]["reason"] = Value::Null;
            for port in host["ports"].as_array_mut().into_iter().flatten() {
                port["seen_by"] = Value::Null;
            }
        }
    }
    ensure!(here == fleet, "the results differ:\n{here:#}\n{fleet:#}");
    Ok(())
}

fn undisturbed() -> anyhow::Result<()> {
    disturbed(|_, _, serving, agents| Ok((serving, agents)))
}

fn agent_killed() -> anyhow::Result<()> {
    disturbed(|_, _, serving, mut agents| {
        let killed = agents.remove(0);
        killed.signal(libc::SIGKILL)?;
        killed.wait(RUN_TIMEOUT)?;
        Ok((serving, agents))
    })
}

fn coordinator_killed() -> anyhow::Result<()> {
    disturbed(|fleet, _, serving, agents| {
        serving.signal(libc::SIGKILL)?;
        serving.wait(RUN_TIMEOUT)?;
        Ok((fleet.serve()?, agents))
    })
}

fn agent_stopped() -> anyhow::Result<()> {
    disturbed(|fleet, _, serving, agents| {
        beyond_its_right(fleet, &agents[1], 1)?;
        Ok((serving, agents))
    })
}

fn link_cut() -> anyhow::Result<()> {
    disturbed(|fleet, _, serving, agents| {
        fleet.agents[2].set_wire(0, false)?;
        fleet.until(2, |shown| shown["connected"] == false)?;
        fleet.agents[2].set_wire(0, true)?;
        fleet.until(2, |shown| shown["connected"] == true)?;
        Ok((serving, agents))
    })
}

fn drained() -> anyhow::Result<()> {
    disturbed(|_, _, serving, mut agents| {
        end(agents.remove(0))?;
        Ok((serving, agents))
    })
}

fn token_file() -> anyhow::Result<()> {
    let fleet = Fleet::new()?;
    let serving = fleet.serve()?;
    let file = fleet.directory.path().join("token");
    let words = ["join", "--token-file", "token", "--allow", "192.0.2.0/24", "--name", "a0", "--label", "site=lab"];
    // It waits for the file.
    let agent = fleet.agent(0, &words)?.start()?;
    let token = fleet.ask(&["token", "agent"])?.stdout;
    std::fs::write(&file, token)?;
    for _ in 0..20_000 {
        if fleet.ask(&["agents"])?.stdout.contains("connected") {
            break;
        }
    }
    ensure!(!file.exists(), "the token is still there");
    let shown = fleet.shown(0)?;
    ensure!(shown["labels"]["site"] == "lab" && shown["allow"][0] == "192.0.2.0/24", "{shown}");
    let ended = end(agent)?;
    ensure!(ended.stderr.contains("joined as a0"), "{}", ended.transcript());
    fleet.until(0, |shown| shown["connected"] == false)?;
    // The same line again: it is who it was, and waits for no file.
    let again = fleet.agent(0, &words)?.start()?;
    fleet.until(0, |shown| shown["connected"] == true)?;
    ensure!(fleet.shown(0)?["id"] == shown["id"]);
    // Two of the same state would look like a copied key.
    let second = fleet.agent(0, &["run"])?.run(RUN_TIMEOUT)?.expect_code(1)?;
    ensure!(second.stderr.contains("is in use by another portsweep-agent"), "{}", second.transcript());
    end(again)?;
    let run = fleet.agent(0, &["run"])?.start()?;
    fleet.until(0, |shown| shown["connected"] == true)?;
    end(run)?;
    end(serving).map(drop)
}

fn revoked() -> anyhow::Result<()> {
    let fleet = Fleet::new()?;
    let serving = fleet.serve()?;
    let agent = fleet.join(0)?;
    fleet.until(0, |shown| shown["connected"] == true)?;
    let id = fleet.shown(0)?["id"].as_str().context("an agent has an id")?.to_owned();
    fleet.ask(&["agents", "revoke", "a0"])?;
    for _ in 0..20_000 {
        let shown: Value = serde_json::from_str(&fleet.ask(&["agents", "show", &id])?.stdout)?;
        if shown["connected"] == false && shown["error"].as_str().is_some_and(|error| error.contains("was revoked")) {
            break;
        }
    }
    let ended = end(agent)?;
    ensure!(ended.stderr.contains("the coordinator refuses this agent"), "{}", ended.transcript());
    // The name is free, and the token of another is of no use twice.
    let token = fleet.ask(&["token", "agent"])?.stdout;
    let words = |state: &'static str| ["join", token.trim(), "--name", "a0", "--state", state];
    let new = fleet.agent(0, &words("new"))?.start()?;
    fleet.until(0, |shown| shown["connected"] == true)?;
    let twice = fleet.agent(1, &words("other"))?.run(RUN_TIMEOUT)?.expect_code(1)?;
    ensure!(twice.stderr.contains("the token was used before"), "{}", twice.transcript());
    let nonsense = fleet.agent(1, &["join", "psj_nonsense"])?.run(RUN_TIMEOUT)?.expect_code(2)?;
    ensure!(nonsense.stderr.lines().count() == 1, "{}", nonsense.transcript());
    end(new)?;
    end(serving).map(drop)
}
