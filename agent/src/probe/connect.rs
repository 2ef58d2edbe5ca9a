//! TCP connects (RFC 9293 section 3.5): one socket a probe, nonblocking, answered through tokio.
//!
//! Local and network errors are told apart by where they come from (see [`errno`](super::errno)). An open connection is
//! ended by RST (SO_LINGER 0), so that a scan leaves no sockets in TIME_WAIT, which would use up local ports.

use super::Found;
use super::errno::{self, Local};
use super::pressure::{self, Pressure, Turned};
use crate::clock::Clock;
use crate::scope::{Admission, Admitted};
use agent_core::attempt::Probe;
use protocol::probe::{Cause, Outcome, Slot};
use protocol::time::Time;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;

/// Asks ports by connecting to them.
#[derive(Debug, Default)]
pub struct ConnectProber {
    pressure: Pressure,
}

impl ConnectProber {
    /// A prober that has sent nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One try at a port. A target without a port is not this prober's: `not-probed: internal-error`.
    pub(super) async fn probe(&self, probe: &Probe, right_ends_at: Time, admission: &Admission) -> Found {
        match probe.target.slot {
            Slot::Tcp(port) => self.ask(probe, port, right_ends_at, admission).await,
            Slot::Ping => Found::not_probed(Cause::InternalError),
        }
    }

    /// One connect to a port: open, closed, filtered, or why it was not made.
    pub(super) async fn ask(&self, probe: &Probe, port: u16, right_ends_at: Time, admission: &Admission) -> Found {
        let (address, timeout) = (probe.target.address, probe.wait.timeout);
        let clock = admission.clock();
        let mut turned = Turned::default();
        loop {
            // The socket first, so that nothing but the connect itself comes between admission and SYN.
            let socket = open_socket(address.to_canonical());
            let admitted = match admission.admit(probe.scan, address, right_ends_at) {
                Ok(admitted) => admitted,
                Err(refusal) => return Found::silent(refusal.outcome()),
            };
            let sent_at = clock.now();
            let refused = match socket.and_then(|socket| connect(socket, &admitted, port)) {
                Ok(Started::Pending(stream)) => {
                    self.pressure.sent();
                    return answer(&stream, clock, sent_at, timeout).await;
                }
                Ok(Started::Refused) => {
                    self.pressure.sent();
                    return Found { outcome: Outcome::CLOSED, rtt: Some(clock.now().since(sent_at)) };
                }
                Err(error) => errno::local(&error),
            };
            match self.pressure.turned_away(clock.now(), refused, &mut turned, &admitted) {
                Ok(wait) => pressure::wait(wait).await,
                Err(cause) => return Found::not_probed(cause),
            }
        }
    }
}

fn open_socket(address: IpAddr) -> io::Result<Socket> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    // One call where the system can do it in one: this is done for every probe.
    #[cfg(target_os = "linux")]
    return Socket::new_raw(domain, Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP));
    #[cfg(not(target_os = "linux"))]
    {
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }
}

/// A connect that was begun.
enum Started {
    /// The answer is on its way or there.
    Pending(TcpStream),
    /// It came at once.
    Refused,
}

/// The only place that opens a connection to a target: it uses up one admission.
fn connect(socket: Socket, admitted: &Admitted, port: u16) -> io::Result<Started> {
    let target = SocketAddr::new(admitted.address(), port);
    if let Err(error) = socket.connect(&target.into()) {
        match errno::local(&error) {
            Local::InProgress => {}
            Local::Refused => return Ok(Started::Refused),
            _ => return Err(error),
        }
    }
    // Registering takes room in epoll: want of it is local as well, and the connect is dropped and made again.
    TcpStream::from_std(socket.into()).map(Started::Pending)
}

async fn answer(stream: &TcpStream, clock: Clock, sent_at: Time, timeout: Duration) -> Found {
    let writable = tokio::time::timeout(pressure::left(clock, sent_at, timeout), stream.writable());
    match writable.await {
        // An ICMP error that comes while `connect` itself still holds the socket wakes nobody (tcp_v6_err: a soft error, met on
        // loopback). It is there to be read, at the end.
        Err(_) => {
            let soft = SockRef::from(stream).take_error().ok().flatten();
            return Found::silent(soft.map_or(Outcome::FILTERED, |error| read(error.raw_os_error().unwrap_or(0))));
        }
        Ok(Err(_)) => return Found::not_probed(Cause::InternalError),
        Ok(Ok(())) => {}
    }
    let rtt = clock.now().since(sent_at);
    let errno = match SockRef::from(stream).take_error() {
        Ok(error) => error.and_then(|error| error.raw_os_error()).unwrap_or(0),
        Err(_) => return Found::not_probed(Cause::InternalError),
    };
    let mut outcome = read(errno);
    if errno == 0 {
        // A port that nobody listens on, and that the kernel happened to choose as our own: the socket connected to itself.
        let to_itself = matches!((stream.local_addr(), stream.peer_addr()), (Ok(local), Ok(peer)) if local == peer);
        if to_itself {
            outcome = Outcome::CLOSED;
        }
        // Best effort: without it the connection ends by FIN.
        let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }
    let answered = outcome.is_probed() && !outcome.is_silence();
    Found { outcome, rtt: answered.then_some(rtt) }
}

/// Reads SO_ERROR.
fn read(errno: i32) -> Outcome {
    errno::late_cause(errno).map_or_else(|| errno::from_network(errno), Outcome::not_probed)
}

#[cfg(test)]
mod tests;
