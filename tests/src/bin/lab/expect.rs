//! The truth of a lab: `expect.toml`.

use anyhow::Context;
use protocol::address::{TargetItem, parse_targets};
use protocol::port::PortSet;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a scan of a lab must find.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The scan, as words of a command line.
    pub scan: Vec<String>,
    /// The exit code that it ends with.
    #[serde(default)]
    pub exit: u8,
    /// The ports that it asks of every address, as they are typed.
    pub ports: String,
    /// Services of the lab that must have received nothing.
    #[serde(default)]
    pub untouched: Vec<String>,
    /// What each address is.
    pub host: Vec<Host>,
    /// Vantages that each probe every target; none where the scan is spread.
    #[serde(default)]
    pub vantages: Vec<String>,
}

/// One address, or several that are alike.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The addresses, as targets are typed.
    pub addresses: String,
    /// Whether a ping is answered.
    #[serde(default)]
    pub ping: Ping,
    /// Ports that are open.
    #[serde(default)]
    pub open: String,
    /// Ports that do not answer.
    #[serde(default)]
    pub filtered: String,
    /// What the other ports are.
    #[serde(default)]
    pub other: Other,
    /// Why it was not probed, if it is not to be.
    pub not_probed: Option<String>,
    /// Ports that do not answer from one vantage, by its name, while they are open or closed from the others.
    #[serde(default)]
    pub filtered_from: BTreeMap<String, String>,
    /// Vantages from which a ping is not answered that is from the others.
    #[serde(default)]
    pub ping_silent_from: Vec<String>,
}

/// Whether a ping is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ping {
    /// It is.
    #[default]
    Answered,
    /// It is not.
    Silent,
}

/// What a port is that is not named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Other {
    /// Refused.
    #[default]
    Closed,
    /// Silent.
    Filtered,
}

/// What is asked of an address: a ping, or a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// A ping.
    Ping,
    /// A port.
    Port(u16),
}

/// What every target is, in the words of the result; by vantage where each vantage probes all.
pub type Truth = BTreeMap<(IpAddr, Slot), BTreeMap<String, String>>;

/// The vantage of a scan that is spread.
pub const SPREAD: &str = "";

/// Reads `expect.toml`, with the lab's own networks put in.
///
/// # Errors
/// If it does not say what it has to.
pub fn read(text: &str) -> anyhow::Result<Expect> {
    let set = |name, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.to_owned());
    let text = text.replace("NET6", &set("LAB_NET6", "fd00:213")).replace("NET", &set("LAB_NET", "10.213"));
    toml::from_str(&text).context("the truth of the lab cannot be read")
}

impl Expect {
    /// What every target is.
    ///
    /// # Errors
    /// If an address, a port or a vantage makes no sense, or an address stands there twice.
    pub fn truth(&self) -> anyhow::Result<Truth> {
        let vantages = if self.vantages.is_empty() { vec![SPREAD.to_owned()] } else { self.vantages.clone() };
        let ports = set(&self.ports)?;
        let mut truth = Truth::new();
        for host in &self.host {
            let (open, filtered) = (set(&host.open)?, set(&host.filtered)?);
            let of_port = |port, vantage: &str| -> anyhow::Result<String> {
                let hidden = host.filtered_from.get(vantage).map(|ports| set(ports)).transpose()?.unwrap_or_default();
                Ok(match (&host.not_probed, host.other) {
                    (Some(cause), _) => format!("not-probed: {cause}"),
                    _ if hidden.contains(port) => "filtered".to_owned(),
                    _ if open.contains(port) => "open".to_owned(),
                    _ if filtered.contains(port) => "filtered".to_owned(),
                    (None, Other::Closed) => "closed".to_owned(),
                    (None, Other::Filtered) => "filtered".to_owned(),
                })
            };
            let ping = |vantage: &String| match (&host.not_probed, host.ping) {
                (Some(cause), _) => format!("not-probed: {cause}"),
                (None, Ping::Answered) if !host.ping_silent_from.contains(vantage) => "up".to_owned(),
                (None, _) => "down".to_owned(),
            };
            for address in addresses(&host.addresses)? {
                let pinged = vantages.iter().map(|vantage| (vantage.clone(), ping(vantage))).collect();
                let is_new = truth.insert((address, Slot::Ping), pinged).is_none();
                anyhow::ensure!(is_new, "{address} stands in the truth twice");
                for port in ports.iter() {
                    let of_port = vantages.iter().map(|vantage| Ok((vantage.clone(), of_port(port, vantage)?)));
                    truth.insert((address, Slot::Port(port)), of_port.collect::<anyhow::Result<_>>()?);
                }
            }
        }
        Ok(truth)
    }
}

/// The ports of a list as it is typed; none for an empty one.
fn set(list: &str) -> anyhow::Result<PortSet> {
    if list.is_empty() { Ok(PortSet::new()) } else { list.parse().with_context(|| format!("{list}: no ports")) }
}

/// The addresses of a target as it is typed, or of `A-B` as the result writes ranges.
///
/// # Errors
/// If it is a name, or nothing that makes sense.
pub fn addresses(text: &str) -> anyhow::Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for item in parse_targets(text).with_context(|| format!("{text}: no addresses"))? {
        let TargetItem::Addresses(set) = item else { anyhow::bail!("{text}: a name") };
        anyhow::ensure!(set.len() <= 65_536, "{text}: more than a lab has");
        for (low, high) in set.ranges() {
            match (low, high) {
                (IpAddr::V4(low), IpAddr::V4(high)) => {
                    addresses
                        .extend((low.to_bits()..=high.to_bits()).map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits))));
                }
                (IpAddr::V6(low), IpAddr::V6(high)) => {
                    addresses
                        .extend((low.to_bits()..=high.to_bits()).map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits))));
                }
                _ => anyhow::bail!("{text}: a range from one family to the other"),
            }
        }
    }
    Ok(addresses)
}
