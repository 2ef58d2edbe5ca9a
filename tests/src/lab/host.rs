//! Hosts and the wires between them.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command as Program, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, bail, ensure};

use super::os::{self, Namespace};
use super::packets::{self, Counted};
use super::process::Command;

/// A host: a network namespace with its own addresses, listeners and packet filter. There is no
/// default route, so nothing that it sends leaves the lab.
#[derive(Debug)]
pub struct Host {
    name: String,
    namespace: Namespace,
    links: AtomicU32,
    listeners: Vec<Listener>,
}

impl Host {
    /// A host with nothing but its loopback. The name is for messages.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let namespace = Namespace::new().context("failed to make a network namespace")?;
        let links = AtomicU32::new(0);
        let host = Self { name: name.to_owned(), namespace, links, listeners: Vec::new() };
        // Addresses are usable at once, without the second that IPv6 looks for duplicates.
        host.set("net/ipv6/conf/all/accept_dad", "0")?;
        host.set("net/ipv6/conf/default/accept_dad", "0")?;
        host.ip("link set lo up\n")?;
        host.nft(packets::TABLE)?;
        Ok(host)
    }

    /// What it is called in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets a kernel parameter under `/proc/sys`, such as `net/ipv4/ping_group_range`, for this
    /// host alone.
    pub fn set(&self, parameter: &str, value: &str) -> anyhow::Result<()> {
        ensure!(parameter.starts_with("net/"), "{parameter} is not a parameter of one host");
        self.namespace
            .enter(|| fs::write(Path::new("/proc/sys").join(parameter), value))
            .with_context(|| format!("failed to set {parameter} of host {}", self.name))
    }

    /// Accepts connections on `address` (`192.0.2.11:22`, `[2001:db8::11]:22`), and closes each at
    /// once, until the host goes.
    pub fn listen(&mut self, address: &str) -> anyhow::Result<()> {
        let parsed: SocketAddr = address.parse().with_context(|| address.to_owned())?;
        let socket = (self.namespace.enter(|| TcpListener::bind(parsed)))
            .with_context(|| format!("failed to listen on {address} in host {}", self.name))?;
        self.listeners.push(Listener::start(socket)?);
        Ok(())
    }

    /// Drops without an answer what is sent to `ports` (`80`, `8000-8003`) of `address`.
    pub fn silence_ports(&self, address: &str, ports: &str) -> anyhow::Result<()> {
        self.nft(&packets::silent_ports(parse(address)?, ports))
    }

    /// Drops the first SYN to each port of `address`. For one address of a host.
    pub fn drop_first_syn(&self, address: &str) -> anyhow::Result<()> {
        self.nft(&packets::reluctant_ports(parse(address)?))
    }

    /// Drops without an answer every probe for `address`.
    pub fn silence(&self, address: &str) -> anyhow::Result<()> {
        self.nft(&packets::silent_address(parse(address)?))
    }

    /// Drops echo requests for `address`.
    pub fn silence_ping(&self, address: &str) -> anyhow::Result<()> {
        self.nft(&packets::silent_ping(parse(address)?))
    }

    /// Leads every TCP port of `address` to `port`, as a firewall does that answers for the hosts behind it.
    pub fn lead_all_ports_to(&self, address: &str, port: u16) -> anyhow::Result<()> {
        self.nft(&packets::all_ports_to(parse(address)?, port))
    }

    /// The probes that arrived, for all addresses that this host was wired with.
    pub fn counted(&self) -> anyhow::Result<Counted> {
        packets::read_counted(&self.count_listing()?, None)
    }

    /// The probes that arrived for one of the addresses that this host was wired with.
    pub fn counted_at(&self, address: &str) -> anyhow::Result<Counted> {
        packets::read_counted(&self.count_listing()?, Some(parse(address)?))
    }

    /// Counts the TCP connections to `address` that begin faster than `rate` (`500/second`, `150/minute`) and `burst` at once allow.
    pub fn count_excess(&self, address: &str, rate: &str, burst: u32) -> anyhow::Result<()> {
        self.nft(&packets::counting_excess(parse(address)?, rate, burst))
    }

    /// How many began too fast, of all that [`count_excess`](Self::count_excess) looks at.
    pub fn excess(&self) -> anyhow::Result<u64> {
        let listing = self.admin("nft", &["-j", "list", "chain", "inet", "lab", "pace"], "")?;
        Ok(packets::read_counted(&listing, None)?.tcp)
    }

    /// Has this host keep a table of the connections that it makes.
    pub fn track_connections(&self) -> anyhow::Result<()> {
        self.nft(packets::TRACKING)
    }

    /// Puts a queue before `interface` that sends `rate` (`1mbit`) and holds `bytes`: what finds no room is dropped. By tc(8).
    pub fn narrow(&self, interface: &str, rate: &str, bytes: u32) -> anyhow::Result<()> {
        let line = format!("qdisc add dev {interface} root tbf rate {rate} burst 1600 limit {bytes}\n");
        self.admin("tc", &["-batch", "-"], &line).map(drop)
    }

    /// A program to run in this host.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command<'_> {
        Command::new(self, program)
    }

    /// Runs `action` on a thread of the test that is in this host.
    pub fn enter<T, F>(&self, action: F) -> io::Result<T>
    where
        T: Send,
        F: FnOnce() -> io::Result<T> + Send,
    {
        self.namespace.enter(action)
    }

    pub(super) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    fn count_listing(&self) -> anyhow::Result<String> {
        self.admin("nft", &["-j", "list", "chain", "inet", "lab", "count"], "")
    }

    fn nft(&self, commands: &str) -> anyhow::Result<()> {
        self.admin("nft", &["-f", "-"], commands).map(drop)
    }

    /// A wire without addresses to another host: the names of its two ends, which are up.
    pub(super) fn cable(&self, right: &Host) -> anyhow::Result<[String; 2]> {
        let (left_end, right_end) = (self.next_interface(), right.next_interface());
        let other = right.namespace.path();
        self.ip(&format!("link add name {left_end} type veth peer name {right_end} netns {}\n", other.display()))?;
        // Both ends are up before they get addresses: with the other order the first neighbour
        // solicitation is lost, and whoever probes over IPv6 waits a second for the next.
        self.ip(&format!("link set {left_end} up\n"))?;
        right.ip(&format!("link set {right_end} up\n"))?;
        Ok([left_end, right_end])
    }

    /// Runs commands of ip(8).
    pub(super) fn ip(&self, commands: &str) -> anyhow::Result<()> {
        self.admin("ip", &["-batch", "-"], commands).map(drop)
    }

    /// Runs an administrator's program in the namespace, with `input`, and returns what it wrote.
    fn admin(&self, program: &str, args: &[&str], input: &str) -> anyhow::Result<String> {
        let run = || {
            let mut child = Program::new(program)
                .args(args)
                .env("PATH", "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(input.as_bytes())?;
            }
            child.wait_with_output()
        };
        let output =
            (self.namespace.enter(run)).with_context(|| format!("failed to run {program} in host {}", self.name))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{program} refused in host {}: {}\n{input}", self.name, said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Gives the interface its addresses, and counts what arrives for each.
    fn address(&self, interface: &str, addresses: &[&str]) -> anyhow::Result<()> {
        let (mut commands, mut counting) = (String::new(), String::new());
        for entry in addresses {
            let address = (entry.split_once('/')).map_or(*entry, |(address, _)| address);
            let address = parse(address)?;
            let no_wait = if address.is_ipv6() { " nodad" } else { "" };
            commands += &format!("addr add {entry} dev {interface}{no_wait}\n");
            counting += &packets::counting(address);
        }
        self.ip(&commands)?;
        self.nft(&counting)
    }

    /// Sends what is for `prefix` by way of `via`.
    pub fn route(&self, prefix: &str, via: &str) -> anyhow::Result<()> {
        parse(prefix.split_once('/').map_or(prefix, |(address, _)| address))?;
        self.ip(&format!("route add {prefix} via {via}\n"))
    }

    /// Takes a wire down, or up again: number 0 is this host's first, in the order in which they were joined. Routes by way of it go with
    /// it.
    pub fn set_wire(&self, number: u32, is_up: bool) -> anyhow::Result<()> {
        let state = if is_up { "up" } else { "down" };
        self.ip(&format!("link set lab{number} {state}\n"))
    }

    fn next_interface(&self) -> String {
        format!("lab{}", self.links.fetch_add(1, Ordering::Relaxed))
    }
}

/// Joins two hosts by a wire (a veth pair) and gives each end its addresses, with prefix lengths:
/// `192.0.2.11/24`, `2001:db8::11/64`.
///
/// An address outside the documentation ranges is an error.
pub fn wire(
    (left, left_addresses): (&Host, &[&str]),
    (right, right_addresses): (&Host, &[&str]),
) -> anyhow::Result<()> {
    let [left_end, right_end] = left.cable(right)?;
    left.address(&left_end, left_addresses)?;
    right.address(&right_end, right_addresses)
}

/// One listening socket with the thread that accepts on it.
#[derive(Debug)]
struct Listener {
    socket: Arc<TcpListener>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    fn start(socket: TcpListener) -> io::Result<Self> {
        let socket = Arc::new(socket);
        let accepting = Arc::clone(&socket);
        let thread = thread::Builder::new().name("lab listener".to_owned()).spawn(move || {
            loop {
                match accepting.accept() {
                    Ok(accepted) => drop(accepted),
                    // What the scanner gave up before it was accepted is no end of the listener;
                    // the shutdown of the socket is (EINVAL).
                    Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return,
                    Err(_) => {}
                }
            }
        })?;
        Ok(Self { socket, thread: Some(thread) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        os::end_accepting(&self.socket);
        if let Some(thread) = self.thread.take() {
            // The thread cannot panic; a test that fails has a better message than this one.
            let _ = thread.join();
        }
    }
}

/// Reads an address and refuses it unless it is set aside for documentation: the lab must not be
/// able to aim at anything else.
fn parse(address: &str) -> anyhow::Result<IpAddr> {
    let parsed: IpAddr = address.parse().with_context(|| address.to_owned())?;
    let documentation = match parsed {
        IpAddr::V4(v4) => v4.is_documentation(),
        IpAddr::V6(v6) => v6.segments()[..2] == [0x2001, 0xdb8],
    };
    ensure!(documentation, "{address} is not set aside for documentation");
    Ok(parsed)
}
