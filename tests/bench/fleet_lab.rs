//! The fleet that the `fleet-…` cases run: a coordinator and agents, each a host of its own, and a target that every agent reaches by a wire
//! of its own and that refuses every port: a probe is a packet, and nothing has to be tried twice.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use portsweep_tests::lab::{self, Finished, Host, Process};
use serde_json::Value;
use tempfile::TempDir;

use crate::measure::now;

/// Addresses of the target: as many times 65,535 ports as a case wants.
pub(crate) const ADDRESSES: [&str; 8] =
    ["192.0.2.11", "192.0.2.12", "192.0.2.13", "192.0.2.14", "192.0.2.15", "192.0.2.16", "192.0.2.17", "192.0.2.18"];
const NETWORK: &str = "192.0.2.0/24";
/// The wire from an agent to the target; the first is its link.
const WIRE: &str = "lab1";
/// Longer than anything here takes.
const TIMEOUT: Duration = Duration::from_secs(300);
/// How often something is looked for that a program has to be started for.
const LOOKS_MAX: usize = 20_000;

pub(crate) struct Fleet {
    pub(crate) target: Host,
    pub(crate) agents: Vec<Host>,
    pub(crate) running: Vec<Process>,
    coordinator: Host,
    serving: Option<Process>,
    directory: TempDir,
}

impl Fleet {
    /// A coordinator that serves, and so many agents that joined it.
    pub(crate) fn new(agents: usize) -> anyhow::Result<Self> {
        let (coordinator, target) = (Host::new("coordinator")?, Host::new("target")?);
        let at = |network: &str, agent: usize, host: usize| format!("{network}.{}/30", 4 * agent + host);
        let mut hosts = Vec::new();
        for number in 0..agents {
            let agent = Host::new(&format!("agent {number}"))?;
            lab::wire((&coordinator, &[&at("203.0.113", number, 1)]), (&agent, &[&at("203.0.113", number, 2)]))?;
            let mut ends = vec![at("198.51.100", number, 2)];
            if number == 0 {
                ends.extend(ADDRESSES.map(|address| format!("{address}/32")));
            }
            let ends: Vec<_> = ends.iter().map(String::as_str).collect();
            lab::wire((&agent, &[&at("198.51.100", number, 1)]), (&target, &ends))?;
            agent.route(NETWORK, at("198.51.100", number, 2).trim_end_matches("/30"))?;
            hosts.push(agent);
        }
        // It refuses as fast as it is asked.
        target.set("net/ipv4/icmp_ratelimit", "0")?;
        let mut fleet =
            Self { target, agents: hosts, running: Vec::new(), coordinator, serving: None, directory: TempDir::new()? };
        fleet.serve()?;
        for number in 0..agents {
            let token = fleet.ask(&["token", "agent"])?.stdout;
            let words = ["join", token.trim(), "--allow", NETWORK, "--name", &format!("a{number}")].map(String::from);
            let command = fleet.agents[number].command(lab::agent_bin()?).args(words);
            let state = fleet.path(&format!("agent-{number}"));
            let agent = command.directory(fleet.directory.path()).env("PORTSWEEP_AGENT_STATE", state).start()?;
            fleet.running.push(agent);
        }
        fleet.until_connected()?;
        Ok(fleet)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts the coordinator, and waits until it takes scans.
    pub(crate) fn serve(&mut self) -> anyhow::Result<()> {
        let reached: Vec<_> =
            (0..self.agents.len()).map(|number| format!("203.0.113.{}:7421", 4 * number + 1)).collect();
        let mut words = vec!["serve", "--agent-listen", "0.0.0.0:7421"];
        reached.iter().for_each(|address| words.extend(["--advertise", address]));
        self.serving = Some(self.portsweep(&words)?.start()?);
        for _ in 0..LOOKS_MAX {
            if self.portsweep(&["health"])?.run(TIMEOUT)?.code == Some(0) {
                return Ok(());
            }
        }
        anyhow::bail!("serve is not ready")
    }

    /// Ends the coordinator as a power cut would.
    pub(crate) fn kill_coordinator(&mut self) -> anyhow::Result<()> {
        let serving = self.serving.take().context("it does not serve")?;
        serving.signal(libc::SIGKILL)?;
        serving.wait(TIMEOUT).map(drop)
    }

    /// Tells the coordinator to end, and waits until it has.
    pub(crate) fn end_coordinator(&mut self) -> anyhow::Result<()> {
        let serving = self.serving.take().context("it does not serve")?;
        serving.signal(libc::SIGTERM)?;
        serving.wait(TIMEOUT)?.expect_code(0).map(drop)
    }

    /// The coordinator's process; 0 if there is none.
    pub(crate) fn coordinator_id(&self) -> u32 {
        self.serving.as_ref().map_or(0, Process::id)
    }

    /// Does something on a thread that is where the coordinator is.
    pub(crate) fn enter_coordinator<T: Send>(
        &self,
        action: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        self.coordinator.enter(|| Ok(action()))?
    }

    /// What opens the coordinator's API.
    pub(crate) fn key(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.path("state").join("local.token"))?.trim().to_owned())
    }

    fn portsweep(&self, words: &[&str]) -> anyhow::Result<lab::Command<'_>> {
        let command = self.coordinator.command(lab::bin()?).args(words).directory(self.directory.path());
        Ok(command.env("PORTSWEEP_STATE", self.path("state")))
    }

    /// Runs portsweep where the coordinator is, to its good end.
    pub(crate) fn ask(&self, words: &[&str]) -> anyhow::Result<Finished> {
        self.portsweep(words)?.run(TIMEOUT)?.expect_code(0)
    }

    /// Starts a scan of all TCP ports of the first `addresses` addresses on the fleet, and follows it.
    pub(crate) fn scan(&self, addresses: usize, words: &[&str]) -> anyhow::Result<Process> {
        let all = [&["scan", "--coordinator", "-q", "-f", "tcp", "-p-"], words, &ADDRESSES[..addresses]].concat();
        self.portsweep(&all)?.start()
    }

    /// How long such a scan takes, from its start to its end.
    pub(crate) fn timed(&self, addresses: usize, words: &[&str]) -> anyhow::Result<Duration> {
        let started = now();
        good_end(self.scan(addresses, words)?)?;
        Ok(started.elapsed())
    }

    /// How long the same scan takes from an agent's host, in one process.
    pub(crate) fn timed_here(&self, addresses: usize, words: &[&str]) -> anyhow::Result<Duration> {
        let state = TempDir::new()?;
        let all = [&["-q", "-f", "tcp", "-p-"], words, &ADDRESSES[..addresses]].concat();
        let command = self.agents[0].command(lab::bin()?).args(all).directory(state.path());
        let started = now();
        command.env("PORTSWEEP_STATE", state.path()).run(TIMEOUT)?.expect_code(0)?;
        Ok(started.elapsed())
    }

    /// The id of the scan that runs.
    pub(crate) fn id(&self) -> anyhow::Result<String> {
        let listed = self.ask(&["scans", "--coordinator"])?.stdout;
        let line = listed.lines().find(|line| line.contains("running")).with_context(|| listed.clone())?;
        Ok(line.split_whitespace().next().context("a scan has an id")?.to_owned())
    }

    /// Changes the scan `id`.
    pub(crate) fn change(&self, action: &str, id: &str, words: &[&str]) -> anyhow::Result<Finished> {
        self.ask(&[&["scans", "--coordinator", action, id], words].concat())
    }

    /// Waits until every agent that still runs is connected.
    pub(crate) fn until_connected(&self) -> anyhow::Result<()> {
        for number in 0..self.running.len() {
            let name = format!("a{number}");
            let connected = (0..LOOKS_MAX).any(|_| {
                let shown = self.ask(&["agents", "show", &name]).ok();
                let shown = shown.and_then(|shown| serde_json::from_str::<Value>(&shown.stdout).ok());
                shown.is_some_and(|shown| shown["connected"] == true)
            });
            ensure!(connected, "agent {number} does not connect");
        }
        Ok(())
    }

    /// How many packets an agent has sent to the target.
    pub(crate) fn sent(&self, agent: usize) -> anyhow::Result<u64> {
        let table = self.agents[agent].enter(|| std::fs::read_to_string(Path::new("/proc/thread-self/net/dev")))?;
        let line = table.lines().find_map(|line| line.trim_start().strip_prefix(WIRE)?.strip_prefix(':'));
        // Eight columns of what came in, then bytes and packets of what went out.
        let packets = line.and_then(|line| line.split_whitespace().nth(9)).context("the wire is not listed")?;
        Ok(packets.parse()?)
    }

    /// How many all have sent.
    pub(crate) fn sent_by_all(&self) -> anyhow::Result<u64> {
        (0..self.agents.len()).map(|agent| self.sent(agent)).sum()
    }

    /// Waits until so many packets more were sent by all.
    pub(crate) fn until_sent(&self, more: u64) -> anyhow::Result<()> {
        let (before, started) = (self.sent_by_all()?, now());
        while self.sent_by_all()? < before + more {
            ensure!(started.elapsed() < TIMEOUT, "{more} packets are not sent");
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// An address that is being probed now.
    pub(crate) fn probed_now(&self) -> anyhow::Result<&'static str> {
        let counted = || ADDRESSES.map(|address| self.target.counted_at(address).map(|counted| counted.sum()));
        let before = counted();
        std::thread::sleep(LOOK * 10);
        for ((address, before), after) in ADDRESSES.into_iter().zip(before).zip(counted()) {
            if after? > before? {
                return Ok(address);
            }
        }
        anyhow::bail!("no address is being probed")
    }

    /// When, after `since`, nothing had been sent (by what `count` counts) for a second, and how long after `since` the last was.
    pub(crate) fn last_change(
        &self,
        since: Instant,
        count: impl Fn() -> anyhow::Result<u64>,
    ) -> anyhow::Result<Duration> {
        // What was sent before the first look came before now: the latest that it can have been.
        let (mut known, mut last) = (count()?, since.elapsed());
        loop {
            let counted = count()?;
            if counted != known {
                (known, last) = (counted, since.elapsed());
            }
            if since.elapsed() > last + Duration::from_secs(2) {
                return Ok(last);
            }
            ensure!(since.elapsed() < TIMEOUT, "it does not end");
            std::thread::sleep(LOOK);
        }
    }

    /// How long after `since` the agents together begin to send at this rate (between the bounds, in packets a second) over a window of half a
    /// second.
    pub(crate) fn rate_is_within(
        &self,
        since: Instant,
        least: f64,
        most: f64,
        agents: &[usize],
    ) -> anyhow::Result<Duration> {
        let count = || agents.iter().map(|&agent| self.sent(agent)).sum::<anyhow::Result<u64>>();
        loop {
            let (begun, before) = (now(), count()?);
            std::thread::sleep(WINDOW);
            let rate = (count()? - before) as f64 / begun.elapsed().as_secs_f64();
            if (least..=most).contains(&rate) {
                return Ok(begun - since);
            }
            ensure!(since.elapsed() < TIMEOUT, "the rate stays {rate:.0} a second");
        }
    }
}

/// How often a counter is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// Over how long a rate is measured.
const WINDOW: Duration = Duration::from_millis(500);

/// A followed scan ends, and well.
pub(crate) fn good_end(scan: Process) -> anyhow::Result<Finished> {
    scan.wait(TIMEOUT)?.expect_code(0)
}
