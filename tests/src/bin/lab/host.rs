//! A target: a machine whose ports are open, closed or silent, without any capability.
//!
//! A silent port is one that listens with a full queue: the kernel drops further SYNs (listen(2), `backlog`), as a filter would. What
//! nobody listens to is refused by the kernel.
//! What the machine received is asked over an abstract socket of its own network namespace, from `lab received`.

use anyhow::Context;
use protocol::port::PortSet;
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// The abstract socket that tells what was received.
const NAME: &str = "portsweep-lab";
/// How many connections wait for a port to be taken.
const BACKLOG: i32 = 128;
/// The most connections that fill a queue of none.
const QUEUE_MAX: usize = 8;
/// A connection of this machine to itself that takes longer is not taken.
const FULL_AFTER: Duration = Duration::from_millis(300);

/// What a target does.
#[derive(Debug, Default)]
pub struct Behaviour {
    open: PortSet,
    silent: PortSet,
}

impl Behaviour {
    /// Reads the flags.
    ///
    /// # Errors
    /// If one is unknown, or has no sense.
    pub fn parse(flags: &[&str]) -> anyhow::Result<Self> {
        let mut behaviour = Self::default();
        let (pairs, rest) = flags.as_chunks::<2>();
        anyhow::ensure!(rest.is_empty(), "{rest:?}: a flag without its value");
        for [flag, value] in pairs {
            let ports = |text: &str| text.parse::<PortSet>().with_context(|| format!("{text}: no ports"));
            match *flag {
                "--open" => behaviour.open = ports(value)?,
                "--silent" => behaviour.silent = ports(value)?,
                _ => anyhow::bail!("{flag}: no such flag"),
            }
        }
        Ok(behaviour)
    }
}

/// Is a target until it is told to end.
///
/// # Errors
/// If a port cannot be listened to.
pub fn run(behaviour: &Behaviour) -> anyhow::Result<ExitCode> {
    let mut silent = Vec::new();
    for port in behaviour.open.iter() {
        let socket = listener(port, BACKLOG)?;
        thread::spawn(move || take(&socket));
    }
    // Each waits for a connection that is not answered: together, so that many take no longer than one.
    let filling: Vec<_> = behaviour.silent.iter().map(|port| thread::spawn(move || full(port))).collect();
    for filled in filling {
        silent.push(filled.join().map_err(|_| anyhow::anyhow!("a port could not be made silent"))??);
    }
    let before = Received::now()?;
    let told =
        UnixListener::bind_addr(&UnixAddr::from_abstract_name(NAME)?).context("cannot tell what was received")?;
    for asked in told.incoming() {
        let line = Received::now()?.since(&before);
        // Whoever asked may have left: that is nothing to a target.
        let _ = asked.and_then(|mut asked| writeln!(asked, "{line}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes connections and ends them.
fn take(socket: &Socket) {
    loop {
        match socket.accept() {
            Ok((_, _)) => {}
            // Out of descriptors, for a moment: the connections that wait are not lost.
            Err(error) if error.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(_) => {}
        }
    }
}

/// Listens to a port, on both families where there are both.
fn listener(port: u16, backlog: i32) -> anyhow::Result<Socket> {
    let listen = |domain, address: SocketAddr| -> io::Result<Socket> {
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(false)?;
        }
        socket.bind(&address.into())?;
        socket.listen(backlog)?;
        Ok(socket)
    };
    listen(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into())
        .or_else(|_| listen(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into()))
        .with_context(|| format!("cannot listen to port {port}"))
}

/// A port with a full queue: what is connected to it stays there, and is held.
fn full(port: u16) -> anyhow::Result<(Socket, Vec<TcpStream>)> {
    let socket = listener(port, 0)?;
    let mut held = Vec::new();
    // As many as the kernel takes: one more than the backlog, and what it rounds up to.
    for _ in 0..QUEUE_MAX {
        match TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), FULL_AFTER) {
            Ok(stream) => held.push(stream),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok((socket, held)),
            Err(error) => return Err(error).with_context(|| format!("cannot fill the queue of port {port}")),
        }
    }
    anyhow::bail!("the queue of port {port} is not full after {QUEUE_MAX} connections")
}

/// What a machine received.
#[derive(Debug)]
struct Received {
    tcp_segments: u64,
    echo_requests: u64,
}

impl Received {
    /// The counters of this network namespace.
    fn now() -> anyhow::Result<Self> {
        let v4 = std::fs::read_to_string("/proc/net/snmp").context("no counters")?;
        let v6 = std::fs::read_to_string("/proc/net/snmp6").unwrap_or_default();
        let of_v6 = |name: &str| {
            let mut rows = v6.lines().filter_map(|line| line.split_once(char::is_whitespace));
            rows.find(|(row, _)| *row == name).and_then(|(_, count)| count.trim().parse::<u64>().ok())
        };
        Ok(Self {
            // TCP has one count for both families.
            tcp_segments: column(&v4, "Tcp:", "InSegs").context("no count of TCP segments")?,
            echo_requests: column(&v4, "Icmp:", "InEchos").context("no count of echo requests")?
                + of_v6("Icmp6InEchos").unwrap_or(0),
        })
    }

    fn since(&self, before: &Self) -> String {
        let (tcp, echo) = (self.tcp_segments - before.tcp_segments, self.echo_requests - before.echo_requests);
        format!("{} packets of probes: {tcp} tcp, {echo} ping", tcp + echo)
    }
}

/// A number of `/proc/net/snmp`: two lines a protocol, names and numbers.
fn column(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(protocol));
    let position = lines.next()?.split_whitespace().position(|word| word == name)?;
    lines.next()?.split_whitespace().nth(position)?.parse().ok()
}

/// What the target of this network namespace received since it was ready: `SUM packets of probes: SEGMENTS tcp, REQUESTS ping`.
///
/// # Errors
/// If no target is ready here.
pub fn received() -> anyhow::Result<String> {
    let stream = UnixStream::connect_addr(&UnixAddr::from_abstract_name(NAME)?).context("no target is ready here")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    anyhow::ensure!(!line.is_empty(), "the target said nothing");
    Ok(line.trim_end().to_owned())
}
