//! A simulated network at the end of a wire: set up, run on a thread of its own, ended.

use std::io::{self, Write};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use super::account::Account;
use super::frame::{Frame, GATEWAY};
use super::network::Network;
use super::socket::{self, BATCH, PacketSocket};
use super::world::World;
use crate::lab::{Host, os};

/// How long packets are left to gather: no round trip is longer for it by more than this.
const NAP: Duration = Duration::from_micros(200);
/// Batches that are taken in before answers that are due are sent.
const BATCHES: usize = 4;
/// The scanner's address and the gateway's, on the wire between them.
const ENDS_V4: (&str, &str) = ("192.0.2.1/30", "192.0.2.2");
const ENDS_V6: (&str, &str) = ("2001:db8:ffff::1/126", "2001:db8:ffff::2");

/// A simulated network that runs. It ends when this goes.
#[derive(Debug)]
pub struct Simulated {
    world: Arc<World>,
    stop: UnixStream,
    thread: Option<JoinHandle<io::Result<Account>>>,
    scanner_interface: String,
    started: Instant,
    /// Its namespace goes with it.
    _far_end: Host,
}

impl Simulated {
    /// Puts a network at the end of a wire to `scanner`, which reaches it through a gateway whose hardware address it knows: no
    /// neighbour has to be found before the first probe. One network a scanner.
    pub fn start(scanner: &Host, world: World) -> anyhow::Result<Self> {
        world.check()?;
        let far_end = Host::new("simulated network")?;
        let [scanner_end, network_end] = scanner.cable(&far_end)?;
        // Nobody but us says anything at the far end.
        far_end.set(&format!("net/ipv6/conf/{network_end}/disable_ipv6"), "1")?;
        let (mine, gateway) = if world.prefix.network().is_ipv4() { ENDS_V4 } else { ENDS_V6 };
        let mac = GATEWAY.map(|byte| format!("{byte:02x}")).join(":");
        let prefix = world.prefix;
        let no_wait = if prefix.network().is_ipv6() { " nodad" } else { "" };
        scanner.ip(&format!(
            "addr add {mine} dev {scanner_end}{no_wait}\n\
             neigh replace {gateway} lladdr {mac} dev {scanner_end} nud permanent\n\
             route add {prefix} via {gateway} dev {scanner_end}\n"
        ))?;
        let socket = (far_end.enter(|| PacketSocket::open(&network_end))).context("failed to open a packet socket")?;
        let world = Arc::new(world);
        let (stop, stopped) = UnixStream::pair()?;
        let network = Network::new(Arc::clone(&world));
        let started = now();
        let thread = thread::Builder::new()
            .name("simulated network".to_owned())
            .spawn(move || run(network, socket, started, &stopped))?;
        Ok(Self { world, stop, thread: Some(thread), scanner_interface: scanner_end, started, _far_end: far_end })
    }

    /// What is true of it.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The scanner's end of the wire.
    #[must_use]
    pub fn scanner_interface(&self) -> &str {
        &self.scanner_interface
    }

    /// The hardware address of the gateway, as other scanners want to be told it.
    #[must_use]
    pub fn gateway_mac() -> String {
        GATEWAY.map(|byte| format!("{byte:02x}")).join(":")
    }

    /// The address of the scanner that `world` is seen from.
    #[must_use]
    pub fn scanner_address(world: &World) -> IpAddr {
        let (mine, _) = if world.prefix.network().is_ipv4() { ENDS_V4 } else { ENDS_V6 };
        let address = mine.split_once('/').map_or(mine, |(address, _)| address);
        // A constant that a test reads too.
        address.parse().unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
    }

    /// How long ago it was started: the clock of [`Account::first_at`].
    #[must_use]
    pub fn age(&self) -> Duration {
        now() - self.started
    }

    /// Ends it, and tells what it received.
    pub fn stop(mut self) -> anyhow::Result<Account> {
        // An error says that the thread has ended already, which the join explains.
        let _ = self.stop.write_all(b".");
        let thread = self.thread.take().context("it was stopped before")?;
        let account = thread.join().map_err(|_| anyhow!("the simulated network panicked"))?;
        account.context("the simulated network failed")
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        let _ = self.stop.write_all(b".");
        if let Some(thread) = self.thread.take() {
            // Whoever wanted to know how it ended has called `stop`.
            let _ = thread.join();
        }
    }
}

fn run(mut network: Network, mut socket: PacketSocket, started: Instant, stopped: &UnixStream) -> io::Result<Account> {
    // Best effort: where it is not permitted, how late answers were is in the account.
    let _ = os::goes_before_others();
    stopped.set_nonblocking(true)?;
    let mut batch = Vec::with_capacity(BATCH);
    let mut arrived_at = Duration::ZERO;
    loop {
        let mut received = 0;
        for _ in 0..BATCHES {
            let read_at = now() - started;
            // A wire has no queue: what waited to be read is answered as if it had not, and is late only if it waited longer than that takes.
            let count = socket.receive(|age, frame| {
                // Two processors may note their frames a moment out of order.
                arrived_at = arrived_at.max(read_at.saturating_sub(age));
                network.receive(arrived_at, frame);
            })?;
            received += count;
            if count < BATCH {
                break;
            }
        }
        send_due(&mut network, &socket, now() - started, &mut batch)?;
        if received > BATCH {
            continue;
        }
        if received > 0 {
            // Not woken by each packet of a scan: that would be at the cost of the scanner, which shares the processor with us.
            socket::wait(stopped.as_fd(), stopped.as_fd(), Some(NAP))?;
            continue;
        }
        if ended(stopped)? {
            network.account().missed += socket.missed()?;
            return Ok(network.into_account());
        }
        let timeout = network.next_at().map(|at| at.saturating_sub(now() - started));
        socket::wait(socket.as_fd(), stopped.as_fd(), timeout)?;
    }
}

/// Sends what is to be sent by `now`; what finds no room is an answer that nobody gets, and is counted.
fn send_due(network: &mut Network, socket: &PacketSocket, now: Duration, batch: &mut Vec<Frame>) -> io::Result<()> {
    loop {
        batch.clear();
        network.pop_due(now, batch);
        if batch.is_empty() {
            return Ok(());
        }
        let mut rest = batch.as_slice();
        while !rest.is_empty() {
            let sent = socket.send(rest)?;
            if sent == 0 {
                network.account().unsent += rest.len() as u64;
                break;
            }
            rest = &rest[sent..];
        }
    }
}

/// Whether somebody wrote to the other end, or closed it.
fn ended(mut stopped: &UnixStream) -> io::Result<bool> {
    let mut byte = [0];
    match io::Read::read(&mut stopped, &mut byte) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the far end of a wire lives in real time, as the system under test does"
)]
fn now() -> Instant {
    Instant::now()
}
