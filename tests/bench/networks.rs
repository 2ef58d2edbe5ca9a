//! The cases on simulated networks: `hard`, `wide`, `ping`, `ping-hard`.
//!
//! Hard: half of the addresses are empty, half of the hosts say nothing on closed ports, answers take 10 to 80 ms, 1 % is lost each
//! way.

use anyhow::Context;
use portsweep_tests::lab::simulated::{Asked, Simulated, World};
use protocol::port::{PortSet, parse_ports};

use crate::measure::{Ground, compare};
use crate::tools::{Other, fping, installed, masscan, nmap, portsweep, rustscan, zmap};

/// Hosts that answer, and hosts that drop instead of refusing, a quarter of the addresses each.
const HARD: &str = "
[[hosts]]
share = 0.25
open = \"1-1000\"
open_share = 0.02
rtt_ms = [10, 80]
loss = [0.01, 0.01]

[[hosts]]
share = 0.25
open = \"1-1000\"
open_share = 0.02
closed = \"drop\"
rtt_ms = [10, 80]
loss = [0.01, 0.01]
";

const WIDE: &str = "198.18.0.0/16";

pub(crate) fn hard() -> anyhow::Result<String> {
    let world = world("198.51.100.0/24", HARD)?;
    let others = [rustscan("-a 198.51.100.0/24 -r 1-1000 -b 10000 -t 1000")];
    ports(&world, "1-1000", others)
}

pub(crate) fn wide() -> anyhow::Result<String> {
    // More ports of ten are open than of a thousand, so that there is something to be found.
    let world = world(WIDE, &HARD.replace("1-1000", "1-10").replace("0.02", "0.1"))?;
    let mac = Simulated::gateway_mac();
    let others = [masscan(&format!("{WIDE} -p 1-10 --rate 100000 --wait 2 -e lab0 --router-mac {mac}"))];
    ports(&world, "1-10", others)
}

pub(crate) fn ping() -> anyhow::Result<String> {
    let world = world(WIDE, "[[hosts]]\nshare = 1.0\nrtt_ms = [1, 2]")?;
    pings(&world, [fping(&format!("-i 0.01 -g {}", ends(&world)?)), zmap_ping()])
}

pub(crate) fn ping_hard() -> anyhow::Result<String> {
    let world = world(WIDE, "[[hosts]]\nshare = 0.5\nrtt_ms = [10, 80]\nloss = [0.01, 0.01]")?;
    let nmap = nmap("nmap -sn", &format!("-sn -PE -T5 --min-rate 50000 {WIDE}"));
    pings(&world, [nmap, fping(&format!("-i 0.01 -g {}", ends(&world)?)), zmap_ping()])
}

fn zmap_ping() -> Other {
    zmap(&format!("-M icmp_echoscan -r 100000 -c 2 -i lab0 -G {} {WIDE}", Simulated::gateway_mac()))
}

fn world(prefix: &str, hosts: &str) -> anyhow::Result<World> {
    World::parse(&format!("seed = 1\nprefix = \"{prefix}\"\n{hosts}"))
}

/// The first and the last address: a tool that is given a prefix may leave these two out.
fn ends(world: &World) -> anyhow::Result<String> {
    let first = world.addresses().next().context("no address")?;
    Ok(format!("{first} {}", world.address(world.len() - 1)))
}

fn ports(world: &World, ports: &str, others: impl IntoIterator<Item = Other>) -> anyhow::Result<String> {
    let asked = Asked { ping: false, ports: parse_ports(ports)? };
    against(world, &asked, &format!("-f tcp -p {ports} {}", world.prefix), others)
}

fn pings(world: &World, others: impl IntoIterator<Item = Other>) -> anyhow::Result<String> {
    let asked = Asked { ping: true, ports: PortSet::new() };
    against(world, &asked, &format!("-f ping {}", world.prefix), others)
}

fn against(
    world: &World,
    asked: &Asked,
    line: &str,
    others: impl IntoIterator<Item = Other>,
) -> anyhow::Result<String> {
    let mut tools = vec![portsweep(line)?];
    let (others, left_out) = installed(others);
    tools.extend(others);
    Ok(compare(&tools, &Ground::Simulated { world, asked })? + &left_out)
}
