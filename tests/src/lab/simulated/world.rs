//! What a simulated network is like, as TOML says it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, ensure};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use protocol::port::{PortSet, parse_ports};
use serde::Deserialize;

/// The most addresses that a world has, as bits.
const HOST_BITS_MAX: u8 = 24;
/// The longest that anything takes on its way, in milliseconds.
const DELAY_MS_MAX: f64 = 10_000.0;

/// A network: a prefix and the kinds of hosts in it. What no kind's share covers is empty: nothing answers there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct World {
    /// Every draw follows from it.
    pub seed: u64,
    /// The addresses, at most 2^24, of documentation (RFC 5737, RFC 3849) or of benchmarks (198.18.0.0/15, RFC 2544).
    pub prefix: IpNet,
    /// What every probe goes through; nothing if not said.
    pub link: Option<Link>,
    /// The kinds of hosts.
    #[serde(default)]
    pub hosts: Vec<HostKind>,
}

/// A narrow link before all of the network, with a queue that drops what finds no room (drop-tail).
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Packets a second that it passes on.
    pub packets_per_s: f64,
    /// Packets that wait for their turn at most.
    pub queue: u32,
}

/// A kind of host.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostKind {
    /// The share of the addresses that are such hosts, 0 to 1.
    pub share: f64,
    /// Ports that may be open, in nmap's syntax; empty for none.
    #[serde(deserialize_with = "ports")]
    pub open: PortSet,
    /// The share of those that is, drawn for each host and port.
    pub open_share: f64,
    /// What becomes of other ports.
    pub closed: Closed,
    /// Whether it answers echo requests.
    pub echo: bool,
    /// The round-trip time of a host is drawn between these, in milliseconds.
    pub rtt_ms: [f64; 2],
    /// The most that is added to it, drawn for each answer.
    pub jitter_ms: f64,
    /// The share of packets that is lost, on the way to the host and on the way back.
    pub loss: [f64; 2],
    /// Packets a second that the host answers; further ones it drops. Without a bound if not said, as the next two.
    pub answers_per_s: Option<f64>,
    /// RSTs a second that it sends.
    pub rst_per_s: Option<f64>,
    /// ICMP messages a second that it sends, echo replies among them.
    pub icmp_per_s: Option<f64>,
    /// It begins to answer so many seconds after the first probe of the scan,
    pub from_s: f64,
    /// and stops then.
    pub until_s: Option<f64>,
    /// What else it does.
    pub odd: Vec<Odd>,
}

/// What becomes of a SYN for a port that is not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Closed {
    /// RST.
    Refuse,
    /// Nothing.
    Drop,
    /// ICMP destination unreachable, communication administratively prohibited.
    Prohibit,
}

/// What a host does that it should not. Each is a bad input of the project's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Odd {
    /// Open ports accept with a window of zero and never say more (a tarpit).
    ZeroWindow,
    /// A SYN is answered from the next port, never from the one that was asked.
    WrongPort,
    /// A RST follows each SYN-ACK at once.
    ResetAfterAccept,
    /// Every answer comes three times.
    Duplicate,
    /// Every answer comes again 1.5 s later, and RST and SYN-ACK have changed places.
    LateContradiction,
    /// A SYN is answered with an ICMP error that is cut short within the header that it quotes.
    TruncatedError,
    /// A SYN or an echo request is answered with an ICMP error that quotes one to the next address, which was not sent.
    ForeignError,
    /// Each probe sets off `FLOOD` answers from other addresses that nobody asked, to where the probe came from.
    Flood,
}

/// Unasked answers a probe.
pub(super) const FLOOD: u32 = 20;

impl HostKind {
    /// Whether it answers no more than so much in a second.
    pub(super) fn is_limited(&self) -> bool {
        self.answers_per_s.or(self.rst_per_s).or(self.icmp_per_s).is_some()
    }
}

impl Default for HostKind {
    fn default() -> Self {
        Self {
            share: 0.0,
            open: PortSet::new(),
            open_share: 1.0,
            closed: Closed::Refuse,
            echo: true,
            rtt_ms: [0.1, 0.1],
            jitter_ms: 0.0,
            loss: [0.0, 0.0],
            answers_per_s: None,
            rst_per_s: None,
            icmp_per_s: None,
            from_s: 0.0,
            until_s: None,
            odd: Vec::new(),
        }
    }
}

impl World {
    /// Reads and checks a world.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let world: Self = toml::from_str(text)?;
        world.check()?;
        Ok(world)
    }

    /// Objects to what cannot be simulated.
    pub fn check(&self) -> anyhow::Result<()> {
        let prefix = self.prefix;
        ensure!(prefix.trunc() == prefix, "{prefix} is not the first address of its prefix");
        // The size of the whole of a /8 is tried as well: with nobody in it.
        let empty_eight =
            self.hosts.is_empty() && prefix == IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8));
        ensure!(is_ours(prefix) || empty_eight, "{prefix} is set aside neither for documentation nor for benchmarks");
        let host_bits = prefix.max_prefix_len() - prefix.prefix_len();
        ensure!(host_bits <= HOST_BITS_MAX, "{prefix} has more than 2^{HOST_BITS_MAX} addresses");
        if let Some(link) = self.link {
            let longest_ms = 1_000.0 * f64::from(link.queue) / link.packets_per_s;
            ensure!(link.packets_per_s >= 1.0 && link.queue > 0, "a link of {link:?} passes nothing on");
            ensure!(longest_ms <= DELAY_MS_MAX, "nothing waits {longest_ms} ms before a link");
        }
        for (place, kind) in self.hosts.iter().enumerate() {
            kind.check().with_context(|| format!("kind of host {place}"))?;
        }
        let shares: f64 = self.hosts.iter().map(|kind| kind.share).sum();
        // As much above one as adding up rounds.
        ensure!(shares <= 1.0 + 1e-9, "the shares sum to {shares}");
        Ok(())
    }

    /// How many addresses there are.
    #[must_use]
    pub fn len(&self) -> u32 {
        1 << (self.prefix.max_prefix_len() - self.prefix.prefix_len())
    }

    /// Never: a prefix has at least one address.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Every address, ascending.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        (0..self.len()).map(|offset| self.address(offset))
    }

    /// The address at a place in the prefix.
    #[must_use]
    pub fn address(&self, offset: u32) -> IpAddr {
        match self.prefix.network() {
            IpAddr::V4(first) => IpAddr::V4(Ipv4Addr::from(u32::from(first).wrapping_add(offset))),
            IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from(u128::from(first).wrapping_add(offset.into()))),
        }
    }

    /// The place of an address in the prefix.
    #[must_use]
    pub fn offset(&self, address: IpAddr) -> Option<u32> {
        if !self.prefix.contains(&address) {
            return None;
        }
        match (self.prefix.network(), address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => Some(u32::from(address) - u32::from(first)),
            (IpAddr::V6(first), IpAddr::V6(address)) => u32::try_from(u128::from(address) - u128::from(first)).ok(),
            _ => None,
        }
    }
}

impl HostKind {
    fn check(&self) -> anyhow::Result<()> {
        for share in [self.share, self.open_share, self.loss[0], self.loss[1]] {
            ensure!((0.0..=1.0).contains(&share), "{share} is no share");
        }
        let [least, most] = self.rtt_ms;
        ensure!(0.0 <= least && least <= most, "{least} to {most} ms is no range");
        ensure!(
            self.jitter_ms >= 0.0 && most + self.jitter_ms <= DELAY_MS_MAX,
            "an answer takes {DELAY_MS_MAX} ms at most"
        );
        for rate in [self.answers_per_s, self.rst_per_s, self.icmp_per_s].into_iter().flatten() {
            ensure!(rate >= 1.0 && rate.is_finite(), "{rate} packets a second");
        }
        ensure!(self.from_s >= 0.0 && self.until_s.is_none_or(|until| until > self.from_s), "it never answers");
        Ok(())
    }
}

/// What would escape from a lab must have nowhere to go.
fn is_ours(prefix: IpNet) -> bool {
    match prefix {
        IpNet::V4(net) => {
            let benchmarks = Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 15);
            (net.network().is_documentation() && net.prefix_len() >= 24) || benchmarks.contains(&net)
        }
        IpNet::V6(net) => Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32).contains(&net),
    }
}

fn ports<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<PortSet, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(PortSet::new());
    }
    parse_ports(&text).map_err(serde::de::Error::custom)
}
