//! A fleet: a coordinator and three agents, each a host of its own, and one target that every agent reaches by a wire of its own. The
//! coordinator reaches no target, and agents do not reach each other.

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
    pub(crate) target: Host,
    pub(crate) agents: Vec<Host>,
    pub(crate) directory: TempDir,
}

impl Fleet {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let (coordinator, mut target) = (Host::new("coordinator")?, Host::new("target")?);
        let mut agents = Vec::new();
        for number in 0..AGENTS {
            let agent = Host::new(&format!("agent {number}"))?;
            let at = |network: &str, host: usize| format!("{network}.{}/30", 4 * number + host);
            // The link is an agent's first wire.
            lab::wire((&coordinator, &[&at("203.0.113", 1)]), (&agent, &[&at("203.0.113", 2)]))?;
            let (near, far) = (at("198.51.100", 1), at("198.51.100", 2));
            let mut ends = vec![far.as_str()];
            if number == 0 {
                ends.extend(["192.0.2.11/32", "192.0.2.12/32", "192.0.2.13/32", "192.0.2.15/32"]);
            }
            lab::wire((&agent, &[&near]), (&target, &ends))?;
            agent.route(ALLOW, far.trim_end_matches("/30"))?;
            agents.push(agent);
        }
        for truth in V4.iter().filter(|truth| !truth.address.ends_with("14")) {
            world::apply(truth, &mut target)?;
        }
        Ok(Self { coordinator, target, agents, directory: TempDir::new()? })
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
        self.agent(number, &["join", token.trim(), "--allow", ALLOW, "--name", &name])?.start()
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
        let before = self.target.counted()?.sum();
        while self.target.counted()?.sum() < before + more {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", scan.id())).unwrap_or_default();
            let runs = stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'));
            ensure!(runs, "the scan ended before there was anything to disturb");
            std::thread::yield_now();
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

/// Ends a program as an administrator would, and expects that it ends well.
pub(crate) fn end(process: Process) -> anyhow::Result<Finished> {
    process.signal(libc::SIGTERM)?;
    process.wait(RUN_TIMEOUT)?.expect_code(0)
}
