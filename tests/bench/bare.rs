//! A bare loop of connects with reused sockets, and nothing else: what one program can make of `connect` on this machine. It
//! knows no scopes, rates, timeouts, leases or reports, keeps nothing that it finds, and is run by the benchmark as a program of its own.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::thread;

use anyhow::{Context, anyhow, bail, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};

/// Connects in flight, a thread: enough to have something to do until it is woken on a machine that does something else too.
const WINDOW: u64 = 1_024;
const PORTS: u32 = 65_535;
/// Longer than any answer over a wire of the lab takes.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Connects to every port of `target`, which must refuse on all of them, on as many threads as this machine runs at once.
pub(crate) fn run(target: &str) -> anyhow::Result<()> {
    let target: IpAddr = target.parse()?;
    ensure!(matches!(target, IpAddr::V4(v4) if v4.is_documentation()), "{target} is not set aside for documentation");
    let threads = thread::available_parallelism().map_or(1, usize::from) as u32;
    let refused = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|first| scope.spawn(move || some(target, first + 1, threads))).collect();
        let refused = threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?);
        refused.sum::<anyhow::Result<u32>>()
    })?;
    ensure!(refused == PORTS, "{refused} of {PORTS} ports refused");
    Ok(writeln!(io::stdout(), "{refused} refused")?)
}

/// The ports `first`, `first + step`, ...: how many refused.
fn some(target: IpAddr, first: u32, step: u32) -> anyhow::Result<u32> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut ports = (first..=PORTS).step_by(step as usize).map(|port| SocketAddr::new(target, port as u16));
    let mut flights: Vec<(OwnedFd, Option<SocketAddr>)> = Vec::new();
    for (way, port) in (0..WINDOW).zip(ports.by_ref()) {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        epoll::add(&epoll, &socket, EventData::new_u64(way), EventFlags::OUT | EventFlags::ET)?;
        begin(&socket, port)?;
        flights.push((socket, Some(port)));
    }
    let (mut in_flight, mut refused) = (flights.len(), 0);
    let mut events = Vec::with_capacity(WINDOW as usize);
    while in_flight > 0 {
        events.clear();
        let count = epoll::wait(&epoll, spare_capacity(&mut events), Some(&PATIENCE))?;
        ensure!(count > 0, "{in_flight} connects were not answered");
        for event in &events {
            let (socket, flight) = flights.get_mut(event.data.u64() as usize).context("no such socket")?;
            // An event that is left from a former connect finds an idle socket, or EALREADY.
            let Some(port) = *flight else { continue };
            // The refusal is read by a call that leaves the socket as new.
            match rustix::net::connect(&*socket, &port) {
                Err(Errno::CONNREFUSED) => refused += 1,
                Err(Errno::ALREADY) => continue,
                other => bail!("{port} answered {other:?}"),
            }
            *flight = ports.next();
            match *flight {
                Some(next) => begin(socket, next)?,
                None => in_flight -= 1,
            }
        }
    }
    Ok(refused)
}

fn begin(socket: &OwnedFd, port: SocketAddr) -> anyhow::Result<()> {
    match rustix::net::connect(socket, &port) {
        Err(Errno::INPROGRESS) => Ok(()),
        other => bail!("the connect to {port} began with {other:?}"),
    }
}
