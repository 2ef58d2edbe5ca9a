//! What a scanner found, held against what is true of a simulated network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::Context;
use protocol::port::PortSet;
use serde_json::Value;

use super::truth::PortTruth;
use super::world::World;

/// What was asked of every address.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Whether it was pinged.
    pub ping: bool,
    /// The ports that were tried.
    pub ports: PortSet,
}

/// What a scanner says.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Ports that it calls open.
    pub open: BTreeSet<(IpAddr, u16)>,
    /// Addresses that it calls alive; looked at only where nothing but pings was asked.
    pub up: BTreeSet<IpAddr>,
    /// How many ports it calls closed, by address. `None` if it does not say.
    pub closed: Option<BTreeMap<IpAddr, u64>>,
}

/// One kind of finding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many there are.
    pub there: u64,
    /// How many of them were found.
    pub found: u64,
    /// How many were found that are not there.
    pub wrong: u64,
}

/// How right a scanner is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Score {
    /// Open ports.
    pub open: Tally,
    /// Closed ports; empty if the scanner does not tell them.
    pub closed: Tally,
    /// Live hosts; empty if ports were asked.
    pub up: Tally,
}

impl Tally {
    /// The share of what is there that was found; 1 if nothing is there.
    #[must_use]
    pub fn recall(self) -> f64 {
        if self.there == 0 { 1.0 } else { self.found as f64 / self.there as f64 }
    }
}

impl Score {
    /// Holds `seen` against the truth.
    #[must_use]
    pub fn of(world: &World, asked: &Asked, seen: &Seen) -> Self {
        let mut score = Self::default();
        for host in world.all_hosts() {
            let (mut open, mut closed) = (0, 0);
            for port in asked.ports.iter() {
                match host.port(port) {
                    PortTruth::Open => {
                        open += 1;
                        score.open.found += u64::from(seen.open.contains(&(host.address, port)));
                    }
                    PortTruth::Closed => closed += 1,
                    PortTruth::Filtered => {}
                }
            }
            score.open.there += open;
            if let Some(by_address) = &seen.closed {
                // Which ports a scanner calls closed it may count without naming them.
                let said = by_address.get(&host.address).copied().unwrap_or(0);
                score.closed.there += closed;
                score.closed.found += said.min(closed);
            }
            if asked.ports.is_empty() && host.answers_ping() {
                score.up.there += 1;
                score.up.found += u64::from(seen.up.contains(&host.address));
            }
        }
        score.open.wrong = seen.open.len() as u64 - score.open.found;
        score.closed.wrong = seen.closed.iter().flat_map(BTreeMap::values).sum::<u64>() - score.closed.found;
        if asked.ports.is_empty() {
            score.up.wrong = seen.up.len() as u64 - score.up.found;
        }
        score
    }

    /// Findings that are not true, of whatever kind.
    #[must_use]
    pub fn wrong(&self) -> u64 {
        self.open.wrong + self.closed.wrong + self.up.wrong
    }
}

impl Seen {
    /// What a result of portsweep says (`-w FILE`).
    pub fn in_result(result: &Value) -> anyhow::Result<Self> {
        let mut seen = Self { closed: Some(BTreeMap::new()), ..Self::default() };
        for host in result["hosts"].as_array().context("no hosts")? {
            let address: IpAddr = host["address"].as_str().context("a host has no address")?.parse()?;
            if host["status"]["state"] == "up" {
                seen.up.insert(address);
            }
            let mut closed = 0;
            for entry in host["ports"].as_array().into_iter().flatten() {
                let port = entry["port"].as_u64().and_then(|port| u16::try_from(port).ok()).context("no port")?;
                match entry["state"].as_str() {
                    Some("open") => drop(seen.open.insert((address, port))),
                    Some("closed") => closed += 1,
                    _ => {}
                }
            }
            for entry in host["not_shown"].as_array().into_iter().flatten().filter(|entry| entry["state"] == "closed") {
                closed += entry["count"].as_u64().context("no count")?;
            }
            if let Some(by_address) = seen.closed.as_mut().filter(|_| closed > 0) {
                by_address.insert(address, closed);
            }
        }
        Ok(seen)
    }
}
