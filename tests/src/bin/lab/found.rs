//! What a result says of every target: the JSON of `-w`, unfolded.

use super::expect::{SPREAD, Slot, Truth, addresses};
use anyhow::Context;
use protocol::port::PortSet;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// As much of a result as is compared. Members that are not named here are passed over.
#[derive(Debug, Deserialize)]
pub struct Found {
    summary: Summary,
    scan: Scan,
    hosts: Vec<Host>,
    silent: Vec<Silent>,
    not_probed: Vec<NotProbed>,
}

#[derive(Debug, Deserialize)]
struct Scan {
    ports: String,
    kinds: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Summary {
    targets: u64,
    states: BTreeMap<String, u64>,
    not_probed: BTreeMap<String, u64>,
}

#[derive(Debug, Deserialize)]
struct Host {
    address: IpAddr,
    status: Status,
    #[serde(default)]
    ports: Vec<Port>,
    #[serde(default)]
    not_shown: Vec<NotShown>,
}

#[derive(Debug, Deserialize)]
struct Status {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    by_vantage: BTreeMap<String, Seen>,
}

#[derive(Debug, Deserialize)]
struct Port {
    port: u16,
    state: String,
    #[serde(default)]
    by_vantage: BTreeMap<String, Seen>,
}

#[derive(Debug, Deserialize)]
struct Seen {
    state: String,
    #[serde(default)]
    cause: String,
}

#[derive(Debug, Deserialize)]
struct NotShown {
    state: String,
    #[serde(default)]
    cause: String,
    count: u32,
}

#[derive(Debug, Deserialize)]
struct Silent {
    addresses: String,
}

#[derive(Debug, Deserialize)]
struct NotProbed {
    addresses: String,
    cause: String,
}

/// Reads a result.
///
/// # Errors
/// If it is none.
pub fn read(text: &str) -> anyhow::Result<Found> {
    serde_json::from_str(text).context("the result cannot be read")
}

impl Found {
    /// How many targets it accounts for, and how many its states and causes add up to.
    pub fn sums(&self) -> (u64, u64) {
        let parts = self.summary.states.values().chain(self.summary.not_probed.values());
        (self.summary.targets, parts.sum())
    }

    /// What every target was found to be. A target of which nothing is said is not there.
    ///
    /// # Errors
    /// If a range or a port makes no sense.
    pub fn states(&self) -> anyhow::Result<Truth> {
        let ports = if self.scan.ports.is_empty() { PortSet::new() } else { self.scan.ports.parse::<PortSet>()? };
        let is_pinged = self.scan.kinds.iter().any(|kind| kind == "ping");
        let spread = |state: &str| BTreeMap::from([(SPREAD.to_owned(), state.to_owned())]);
        let mut states = Truth::new();
        for host in &self.hosts {
            if is_pinged {
                let is_answered = host.status.reason == "echo-reply";
                let seen = match host.status.by_vantage.is_empty() {
                    true => spread(if is_answered { "up" } else { "down" }),
                    false => by_vantage(&host.status.by_vantage),
                };
                states.insert((host.address, Slot::Ping), seen);
            }
            for port in &host.ports {
                let seen = match port.by_vantage.is_empty() {
                    true => spread(&port.state),
                    false => by_vantage(&port.by_vantage),
                };
                states.insert((host.address, Slot::Port(port.port)), seen);
            }
            // What is not shown one by one is known where all of it is alike.
            let untold = ports.iter().filter(|&port| !states.contains_key(&(host.address, Slot::Port(port))));
            let untold = untold.collect::<Vec<_>>();
            if let [alike] = &host.not_shown[..]
                && usize::try_from(alike.count) == Ok(untold.len())
            {
                let state = spread(&named(&alike.state, &alike.cause));
                states.extend(untold.into_iter().map(|port| ((host.address, Slot::Port(port)), state.clone())));
            }
        }
        let mut rest = Vec::new();
        rest.extend(self.silent.iter().map(|silent| (&silent.addresses, "down".to_owned(), "filtered".to_owned())));
        for not_probed in &self.not_probed {
            let state = named("not-probed", &not_probed.cause);
            rest.push((&not_probed.addresses, state.clone(), state));
        }
        for (range, ping, port) in rest {
            for address in addresses(range)? {
                if is_pinged {
                    states.insert((address, Slot::Ping), spread(&ping));
                }
                states.extend(ports.iter().map(|number| ((address, Slot::Port(number)), spread(&port))));
            }
        }
        Ok(states)
    }
}

fn by_vantage(seen: &BTreeMap<String, Seen>) -> BTreeMap<String, String> {
    seen.iter().map(|(vantage, seen)| (vantage.clone(), named(&seen.state, &seen.cause))).collect()
}

/// A state as the truth words it.
fn named(state: &str, cause: &str) -> String {
    if state == "not-probed" && !cause.is_empty() { format!("{state}: {cause}") } else { state.to_owned() }
}
