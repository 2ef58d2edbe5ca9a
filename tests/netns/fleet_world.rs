//! A fleet: a coordinator and three agents, each a host of its own. The coordinator reaches no target, and agents do not reach each other.
//! Usually there is one target, which every agent reaches by a wire of its own.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use coordinator_core::store::Store;
use portsweep::store::sqlite::SqliteStore;
use portsweep_tests::lab::{self, Finished, Host, Process};
use serde_json::Value;
use tempfile::TempDir;

use crate::world::{self, RUN_TIMEOUT, V4};

/// How many agents there are.
pub(crate) const AGENTS: usize = 3;
/// What is swept, with an address beside it that is excluded.
pub(crate) const TARGETS: &str = "192.0.2.11-192.0.2.13,192.0.2.15";
pub(crate) const EXCLUDED: &str = "192.0.2.15";
/// What every agent may probe.
const ALLOW: &str = "192.0.2.0/24";
/// How often something is looked for: each look starts a program, so this is bounded in time too.
const LOOKS_MAX: usize = 20_000;

pub(crate) struct Fleet {
    pub(crate) coordinator: Host,
    target: Option<Host>,
    pub(crate) agents: Vec<Host>,
    pub(crate) directory: TempDir,
    /// What every agent may probe.
    allow: &'static str,
}

impl Fleet {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let (mut fleet, mut target) = (Self::without_target(ALLOW)?, Host::new("target")?);
        for (number, agent) in fleet.agents.iter().enumerate() {
            let (near, far) = (at("198.51.100", number, 1), at("198.51.100", number, 2));
            let mut ends = vec![far.as_str()];
            if number == 0 {
                ends.extend(["192.0.2.11/32", "192.0.2.12/32", "192.0.2.13/32", "192.0.2.15/32"]);
            }
            lab::wire((agent, &[&near]), (&target, &ends))?;
            agent.route(ALLOW, far.trim_end_matches("/30"))?;
        }
        for truth in V4.iter().filter(|truth| !truth.address.ends_with("14")) {
            world::apply(truth, &mut target)?;
        }
        fleet.target = Some(target);
        Ok(fleet)
    }

    /// Agents that may probe `allow`, and reach nothing yet but their coordinator.
    pub(crate) fn without_target(allow: &'static str) -> anyhow::Result<Self> {
        let coordinator = Host::new("coordinator")?;
        let mut agents = Vec::new();
        for number in 0..AGENTS {
            let agent = Host::new(&format!("agent {number}"))?;
            // The link is an agent's first wire.
            let (near, far) = (at("203.0.113", number, 1), at("203.0.113", number, 2));
            lab::wire((&coordinator, &[&near]), (&agent, &[&far]))?;
            agents.push(agent);
        }
        Ok(Self { coordinator, target: None, agents, directory: TempDir::new()?, allow })
    }

    /// The target of a fleet that has one.
    pub(crate) fn target(&self) -> anyhow::Result<&Host> {
        self.target.as_ref().context("this fleet has no target")
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// portsweep where the coordinator is.
    pub(crate) fn portsweep(&self, words: &[&str]) -> anyhow::Result<lab::Command<'_>> {
        let command = self.coordinator.command(lab::bin()?).args(words).directory(self.directory.path());
        Ok(command.env("COLUMNS", "80").env("PORTSWEEP_STATE", self.state()))
    }

    /// Runs it to its end, which must be a good one.
    pub(crate) fn ask(&self, words: &[&str]) -> anyhow::Result<Finished> {
        self.portsweep(words)?.run(RUN_TIMEOUT)?.expect_code(0)
    }

    /// Starts the coordinator, and waits until it takes scans.
    pub(crate) fn serve(&self) -> anyhow::Result<Process> {
        let reached: Vec<_> = (0..AGENTS).map(|number| format!("203.0.113.{}:7421", 4 * number + 1)).collect();
        let mut words = vec!["serve", "--agent-listen", "0.0.0.0:7421"];
        reached.iter().for_each(|address| words.extend(["--advertise", address]));
        let serving = self.portsweep(&words)?.start()?;
        for _ in 0..LOOKS_MAX {
            if self.portsweep(&["health"])?.run(RUN_TIMEOUT)?.code == Some(0) {
                return Ok(serving);
            }
        }
        serving.signal(libc::SIGKILL)?;
        anyhow::bail!("serve is not ready: {}", serving.wait(RUN_TIMEOUT)?.transcript())
    }

    /// The program of an agent, with its own state.
    pub(crate) fn agent(&self, number: usize, words: &[&str]) -> anyhow::Result<lab::Command<'_>> {
        let command = self.agents[number].command(lab::agent_bin()?).args(words).directory(self.directory.path());
        Ok(command.env("PORTSWEEP_AGENT_STATE", self.directory.path().join(format!("agent-{number}"))))
    }

    /// Joins an agent with a new token, and lets it run.
    pub(crate) fn join(&self, number: usize) -> anyhow::Result<Process> {
        let token = self.ask(&["token", "agent"])?.stdout;
        let name = format!("a{number}");
        self.agent(number, &["join", token.trim(), "--allow", self.allow, "--name", &name])?.start()
    }

    /// Joins all of them, and waits until they are there.
    pub(crate) fn join_all(&self) -> anyhow::Result<Vec<Process>> {
        let agents = (0..AGENTS).map(|number| self.join(number)).collect::<anyhow::Result<Vec<_>>>()?;
        for number in 0..AGENTS {
            self.until(number, |shown| shown["connected"] == true)?;
        }
        Ok(agents)
    }

    /// What the coordinator shows of an agent; null while it knows none of that name.
    pub(crate) fn shown(&self, number: usize) -> anyhow::Result<Value> {
        let shown = self.portsweep(&["agents", "show", &format!("a{number}")])?.run(RUN_TIMEOUT)?;
        if shown.code == Some(2) && shown.stderr.contains("there is no agent") {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_str(&shown.expect_code(0)?.stdout)?)
    }

    /// Waits until the coordinator shows an agent so.
    pub(crate) fn until(&self, number: usize, holds: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
        for _ in 0..LOOKS_MAX {
            if holds(&self.shown(number)?) {
                return Ok(());
            }
        }
        anyhow::bail!("agent {number} stays so: {}", self.shown(number)?)
    }

    /// Waits until so many probes more have arrived; fails if the scan ends before.
    pub(crate) fn until_probed(&self, scan: &Process, more: u64) -> anyhow::Result<()> {
        let target = self.target()?;
        let before = target.counted()?.sum();
        while target.counted()?.sum() < before + more {
            still_runs(scan)?;
        }
        Ok(())
    }

    /// Waits until every agent has sent so many packets by that interface; fails if the scan ends before.
    pub(crate) fn until_each_sent(&self, scan: &Process, interface: &str, packets: u64) -> anyhow::Result<()> {
        for agent in &self.agents {
            while sent_by(agent, interface)? < packets {
                still_runs(scan)?;
            }
        }
        Ok(())
    }

    /// Proves what is stored, once nobody writes it any more.
    pub(crate) fn audit(&self) -> anyhow::Result<()> {
        let store = SqliteStore::open_read_only(&self.state().join("coordinator.db"))?;
        let scans = store.scans()?;
        ensure!(!scans.is_empty(), "no scan is stored");
        scans.iter().try_for_each(|record| {
            store.audit(record.id).map(drop).with_context(|| format!("the audit of {}", record.id))
        })
    }
}

fn at(network: &str, agent: usize, host: usize) -> String {
    format!("{network}.{}/30", 4 * agent + host)
}

/// An error if a program has ended.
fn still_runs(program: &Process) -> anyhow::Result<()> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", program.id())).unwrap_or_default();
    let runs = stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'));
    ensure!(runs, "the scan ended before there was anything to disturb");
    std::thread::yield_now();
    Ok(())
}

/// How many packets left a host by an interface.
fn sent_by(host: &Host, interface: &str) -> anyhow::Result<u64> {
    let table = host.enter(|| std::fs::read_to_string("/proc/thread-self/net/dev"))?;
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'));
    // Eight columns of what came in, then bytes and packets of what went out.
    let packets = line.and_then(|line| line.split_whitespace().nth(9)).context("the interface is not listed")?;
    Ok(packets.parse()?)
}

/// Stops an agent until its right is over, for the coordinator too, and lets it go on.
pub(crate) fn beyond_its_right(fleet: &Fleet, agent: &Process, number: usize) -> anyhow::Result<()> {
    agent.signal(libc::SIGSTOP)?;
    // Its session is given up, and then its right ends: 10 s after its last renewal, and the margin.
    fleet.until(number, |shown| shown["connected"] == false)?;
    std::thread::sleep(std::time::Duration::from_secs(14));
    agent.signal(libc::SIGCONT)?;
    fleet.until(number, |shown| shown["connected"] == true)
}

/// Ends a program as an administrator would, and expects that it ends well.
pub(crate) fn end(process: Process) -> anyhow::Result<Finished> {
    process.signal(libc::SIGTERM)?;
    process.wait(RUN_TIMEOUT)?.expect_code(0)
}
