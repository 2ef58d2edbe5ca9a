//! What a host lets in, and what it counts of what arrives: nftables rules inside its namespace.

use std::net::IpAddr;

use anyhow::Context;
use serde_json::Value;

/// Probes that arrived, as a packet filter counted them before any rule could drop them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// First packets of TCP connections (SYN without ACK).
    pub tcp: u64,
    /// Echo requests.
    pub ping: u64,
}

impl Counted {
    /// All of them.
    #[must_use]
    pub fn sum(self) -> u64 {
        self.tcp + self.ping
    }
}

/// The table of a host. The first chain counts, at a priority before everything else; the second
/// drops.
pub(super) const TABLE: &str = "
add table inet lab
add chain inet lab count { type filter hook prerouting priority -300 ; }
add chain inet lab admit { type filter hook input priority 0 ; }
";

/// Commands that keep a table of the connections that leave: the kernel does so where a rule asks for their state.
pub(super) const TRACKING: &str = "
add chain inet lab track { type filter hook output priority 0 ; }
add rule inet lab track ct state new counter
";

/// Commands that count the probes for `address`.
pub(super) fn counting(address: IpAddr) -> String {
    let (to, echo) = (destination(address), echo(address));
    format!(
        "add rule inet lab count {to} tcp flags & (syn | ack) == syn counter comment \"tcp {address}\"\n\
         add rule inet lab count {to} {echo} counter comment \"ping {address}\"\n"
    )
}

/// Commands that count the first packets of TCP connections to `address` that come faster than `rate` (`500/second`,
/// `150/minute`) and `burst` at once allow: a token bucket in the kernel, which sees every interval.
pub(super) fn counting_excess(address: IpAddr, rate: &str, burst: u32) -> String {
    format!(
        "add chain inet lab pace {{ type filter hook prerouting priority -290 ; }}\n\
         add rule inet lab pace {} tcp flags & (syn | ack) == syn limit rate over {rate} burst {burst} packets \
         counter comment \"tcp {address}\"\n",
        destination(address)
    )
}

/// A command that drops what is sent to `ports` (`80`, `8000-8003`) of `address`.
pub(super) fn silent_ports(address: IpAddr, ports: &str) -> String {
    format!("add rule inet lab admit {} tcp dport {ports} drop\n", destination(address))
}

/// Commands that drop the first SYN to each port of `address`, and let later ones through.
pub(super) fn reluctant_ports(address: IpAddr) -> String {
    format!(
        "add set inet lab heard {{ type inet_service ; flags dynamic ; size 65536 ; }}\n\
         add rule inet lab admit {} tcp flags & (syn | ack) == syn tcp dport != @heard add @heard {{ tcp dport }} drop\n",
        destination(address)
    )
}

/// Commands that drop every probe for `address`. Neighbour discovery still works: the host is
/// there, and says nothing.
pub(super) fn silent_address(address: IpAddr) -> String {
    format!(
        "{}add rule inet lab admit {} meta l4proto {{ tcp, udp }} drop\n",
        silent_ping(address),
        destination(address)
    )
}

/// A command that drops echo requests for `address`.
pub(super) fn silent_ping(address: IpAddr) -> String {
    format!("add rule inet lab admit {} {} drop\n", destination(address), echo(address))
}

/// Commands that lead every TCP port of `address` to `port`.
pub(super) fn all_ports_to(address: IpAddr, port: u16) -> String {
    format!(
        "add chain inet lab proxy {{ type nat hook prerouting priority -100 ; }}\n\
         add rule inet lab proxy {} tcp dport 1-65535 redirect to :{port}\n",
        destination(address)
    )
}

/// Reads what `nft -j list chain inet lab count` says: the sum over all addresses, or of one.
pub(super) fn read_counted(listing: &str, address: Option<IpAddr>) -> anyhow::Result<Counted> {
    let listing: Value = serde_json::from_str(listing).context("nft wrote no JSON")?;
    let entries = listing["nftables"].as_array().context("nft listed nothing")?;
    let mut counted = Counted::default();
    let mut found = false;
    for rule in entries.iter().filter_map(|entry| entry.get("rule")) {
        let (what, of) = (rule["comment"].as_str())
            .and_then(|comment| comment.split_once(' '))
            .context("a counting rule has no comment")?;
        if address.is_some_and(|address| of != address.to_string()) {
            continue;
        }
        let packets = (rule["expr"].as_array().into_iter().flatten())
            .find_map(|expr| expr["counter"]["packets"].as_u64())
            .context("a counting rule has no counter")?;
        found = true;
        match what {
            "tcp" => counted.tcp += packets,
            _ => counted.ping += packets,
        }
    }
    anyhow::ensure!(found, "nothing is counted for {address:?}");
    Ok(counted)
}

fn destination(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("ip daddr {address}"),
        IpAddr::V6(address) => format!("ip6 daddr {address}"),
    }
}

fn echo(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "icmp type echo-request",
        IpAddr::V6(_) => "icmpv6 type echo-request",
    }
}
