//! A fleet scans a network that nobody has to be for it (`lab::simulated`): whatever becomes of agents, coordinator and links in the middle
//! of it, the result is that of an undisturbed scan from one machine, target by target; nothing that is excluded receives a packet, which
//! the simulated network counts address by address; what is stored passes the audit.
//!
//! Every agent has a wire of its own into the same world: what is true of an address is a function of the world's seed alone.

use std::time::Duration;

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use portsweep_tests::lab::simulated::{Account, Simulated, World};
use portsweep_tests::lab::{self, Host, Need, Process};

use crate::fleet::same;
use crate::fleet_world::{AGENTS, Fleet, beyond_its_right, end};
use crate::resume::essence;
use crate::world::{RUN_TIMEOUT, read_result};

/// No loss: what an undisturbed scan finds is the truth. Hosts that refuse, hosts that drop, and addresses that nobody has.
const WORLD: &str = "
seed = 11
prefix = \"198.51.100.0/26\"

[[hosts]]
share = 0.4
open = \"1-100\"
open_share = 0.05
rtt_ms = [1, 8]

[[hosts]]
share = 0.2
open = \"1-100\"
open_share = 0.05
closed = \"drop\"
echo = false
rtt_ms = [1, 8]
";
const PREFIX: &str = "198.51.100.0/26";
const PORTS: u64 = 100;
/// Some that somebody has, and some that nobody has.
const EXCLUDED: &str = "198.51.100.5,198.51.100.16-198.51.100.23,198.51.100.63";
/// Their places in the prefix.
const EXCLUDED_OFFSETS: [u32; 10] = [5, 16, 17, 18, 19, 20, 21, 22, 23, 63];
/// So slow that there is a middle.
const RATE: &str = "1500";
/// Far longer than a scan takes that waits for the right of a dead agent to end.
const SCAN_TIMEOUT: Duration = Duration::from_secs(180);
/// Packets of each agent after which it is the middle: whichever is disturbed has work.
const MIDDLE: u64 = 300;

pub(crate) fn trials() -> Vec<Trial> {
    let hosts = &[Need::Hosts];
    vec![
        lab::trial("fleet_on_a_simulated_network_undisturbed", hosts, undisturbed),
        lab::trial("fleet_on_a_simulated_network_with_an_agent_killed", hosts, agent_killed),
        lab::trial("fleet_on_a_simulated_network_with_the_coordinator_killed", hosts, coordinator_killed),
        lab::trial("fleet_on_a_simulated_network_with_an_agent_stopped_beyond_its_right", hosts, agent_stopped),
        lab::trial("fleet_on_a_simulated_network_with_a_link_cut_and_mended", hosts, link_cut),
    ]
}

fn words<'a>(file: &'a str, rate: &'a str) -> Vec<&'a str> {
    // A fixed timeout: on a machine that does something else too, no answer is late.
    let words = ["-q", "-p", "1-100", "--timeout", "900ms", "--seed", "7", "--rate", rate, "--exclude", EXCLUDED];
    [&words[..], &["-w", file, PREFIX]].concat()
}

/// The undisturbed scan from one machine.
fn from_here(fleet: &Fleet) -> anyhow::Result<serde_json::Value> {
    let scanner = Host::new("scanner")?;
    let network = Simulated::start(&scanner, World::parse(WORLD)?)?;
    let command = scanner.command(lab::bin()?).args(words("here.json", "20000")).directory(fleet.directory.path());
    command.env("PORTSWEEP_STATE", fleet.directory.path().join("here")).run(RUN_TIMEOUT)?.expect_code(0)?;
    account_is_clean(&network.stop()?)?;
    read_result(&fleet.directory.path().join("here.json"))
}

fn account_is_clean(account: &Account) -> anyhow::Result<()> {
    account.expect_nothing_missed()?;
    for offset in EXCLUDED_OFFSETS {
        let received = account.at(offset);
        ensure!(received == Default::default(), "what is excluded received {received:?} at place {offset}");
    }
    Ok(())
}

/// Runs a scan on a fleet of three, disturbs it in its middle, and holds its result against that of a scan from one machine. Gives what each
/// of the agents sent.
fn disturbed(
    disturb: impl FnOnce(&Fleet, Process, Vec<Process>) -> anyhow::Result<(Process, Vec<Process>)>,
) -> anyhow::Result<Vec<Account>> {
    let fleet = Fleet::without_target(PREFIX)?;
    let here = from_here(&fleet)?;
    let networks: Vec<_> = fleet
        .agents
        .iter()
        .map(|agent| Simulated::start(agent, World::parse(WORLD)?))
        .collect::<anyhow::Result<_>>()?;
    let serving = fleet.serve()?;
    let agents = fleet.join_all()?;
    let scan = fleet.portsweep(&[&["scan", "--coordinator"], &words("fleet.json", RATE)[..]].concat())?.start()?;
    let interface = networks[0].scanner_interface();
    fleet.until_each_sent(&scan, interface, MIDDLE)?;
    let (serving, agents) = disturb(&fleet, serving, agents)?;
    scan.wait(SCAN_TIMEOUT)?.expect_code(0)?;
    let result = read_result(&fleet.directory.path().join("fleet.json"))?;
    ensure!(result["scan"]["status"] == "done", "it is {}", result["scan"]["status"]);
    same(essence(here), essence(result))?;
    agents.into_iter().try_for_each(|agent| end(agent).map(drop)).context("an agent did not end in order")?;
    end(serving).context("the coordinator did not end in order")?;
    let accounts: Vec<_> = networks.into_iter().map(Simulated::stop).collect::<anyhow::Result<_>>()?;
    accounts.iter().try_for_each(account_is_clean)?;
    fleet.audit()?;
    Ok(accounts)
}

/// What answers is probed once: over all agents together each port of it, and a ping.
fn undisturbed() -> anyhow::Result<()> {
    let accounts = disturbed(|_, serving, agents| Ok((serving, agents)))?;
    ensure!(accounts.iter().all(|account| account.total().tcp > 0), "an agent probed nothing");
    let world = World::parse(WORLD)?;
    let refuses = world.all_hosts().filter(|host| host.answers_ping());
    let offsets = refuses.filter_map(|host| world.addresses().position(|address| address == host.address));
    let mut looked_at = 0;
    for offset in offsets.map(|offset| offset as u32).filter(|offset| !EXCLUDED_OFFSETS.contains(offset)) {
        let received: Vec<_> = accounts.iter().map(|account| account.at(offset)).collect();
        let (tcp, ping) = received.iter().fold((0, 0), |(tcp, ping), of| (tcp + of.tcp, ping + of.ping));
        ensure!((tcp, ping) == (PORTS, 1), "place {offset} received {tcp} SYNs and {ping} pings: {received:?}");
        looked_at += 1;
    }
    ensure!(looked_at > 10, "{looked_at} hosts answer");
    Ok(())
}

fn agent_killed() -> anyhow::Result<()> {
    let accounts = disturbed(|_, serving, mut agents| {
        let killed = agents.remove(0);
        killed.signal(libc::SIGKILL)?;
        killed.wait(RUN_TIMEOUT)?;
        Ok((serving, agents))
    })?;
    ensure!(accounts.iter().all(|account| account.total().tcp > 0), "an agent probed nothing");
    Ok(())
}

fn coordinator_killed() -> anyhow::Result<()> {
    disturbed(|fleet, serving, agents| {
        serving.signal(libc::SIGKILL)?;
        serving.wait(RUN_TIMEOUT)?;
        Ok((fleet.serve()?, agents))
    })
    .map(drop)
}

fn agent_stopped() -> anyhow::Result<()> {
    disturbed(|fleet, serving, agents| {
        beyond_its_right(fleet, &agents[1], 1)?;
        Ok((serving, agents))
    })
    .map(drop)
}

fn link_cut() -> anyhow::Result<()> {
    disturbed(|fleet, serving, agents| {
        fleet.agents[AGENTS - 1].set_wire(0, false)?;
        fleet.until(AGENTS - 1, |shown| shown["connected"] == false)?;
        fleet.agents[AGENTS - 1].set_wire(0, true)?;
        fleet.until(AGENTS - 1, |shown| shown["connected"] == true)?;
        Ok((serving, agents))
    })
    .map(drop)
}
