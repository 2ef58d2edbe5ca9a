//! TCP connects (RFC 9293 section 3.5) by nonblocking sockets that are used again and again.
//!
//! A socket costs more to open, register and close than the connect itself. Linux lets it be used again:
//! - a refused connect is read by `connect` on the same socket, which returns the error and makes the socket new again (the state
//!   `SS_CONNECTING` of `__inet_stream_connect` in net/ipv4/af_inet.c; it sends nothing);
//! - an open connection is ended, and a silent try given up, by `connect(AF_UNSPEC)`; for an open one the kernel sends RST, so that no
//!   socket stays in TIME_WAIT and takes a local port.
//!
//! C1: what an event means is never taken from the event. The socket itself is asked, and answers for the connect that it makes now: an
//! event that is left from a former one finds EALREADY, or an idle socket, and is dropped.
//!
//! Where that fails ([`Sockets::Fresh`], or a system that refuses AF_UNSPEC) each connect has a socket of its own, closed with
//! SO_LINGER 0, which sends RST as well.

use super::{Answer, Means, Name};
use crate::probe::errno;
use crate::scope::Admitted;
use agent_core::attempt::Probe;
use protocol::probe::{Outcome, Slot};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// What becomes of a socket after its connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sockets {
    /// It is used for the next.
    Reused,
    /// It is closed.
    Fresh,
}

#[derive(Debug)]
struct Socket {
    descriptor: OwnedFd,
    /// What it connects to now.
    flight: Option<(Name, SocketAddr)>,
    v6: bool,
}

/// Sockets, by way.
#[derive(Debug)]
pub(super) struct Connects {
    sockets: Sockets,
    ways: Vec<Option<Socket>>,
    idle_v4: Vec<u32>,
    idle_v6: Vec<u32>,
    vacant: Vec<u32>,
}

impl Connects {
    pub(super) fn new(sockets: Sockets) -> Self {
        Self { sockets, ways: Vec::new(), idle_v4: Vec::new(), idle_v6: Vec::new(), vacant: Vec::new() }
    }

    fn open(&mut self, epoll: &OwnedFd, v6: bool) -> io::Result<u32> {
        let family = if v6 { AddressFamily::INET6 } else { AddressFamily::INET };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let descriptor = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        let way = self.vacant.last().copied().unwrap_or(self.ways.len() as u32);
        let wanted = EventFlags::OUT | EventFlags::ET;
        epoll::add(epoll, &descriptor, EventData::new_u64(u64::from(way)), wanted)?;
        let socket = Some(Socket { descriptor, flight: None, v6 });
        match self.vacant.pop() {
            Some(way) => self.ways[way as usize] = socket,
            None => self.ways.push(socket),
        }
        Ok(way)
    }

    /// Makes a way idle again whose socket is as new, or closes it.
    fn free(&mut self, way: u32, as_new: bool) {
        let Some(place) = self.ways.get_mut(way as usize) else { return };
        let Some(socket) = place.as_mut() else { return };
        socket.flight = None;
        if as_new && self.sockets == Sockets::Reused {
            if socket.v6 { &mut self.idle_v6 } else { &mut self.idle_v4 }.push(way);
            return;
        }
        *place = None;
        self.vacant.push(way);
    }

    /// Ends whatever connection a way has; by RST, if there is one.
    fn end(&mut self, way: u32) {
        let Some(Some(socket)) = self.ways.get(way as usize) else { return };
        let as_new = match self.sockets {
            Sockets::Reused => match rustix::net::connect_unspec(&socket.descriptor) {
                Ok(()) => true,
                Err(error) => {
                    tracing::debug!(%error, "sockets are not used again");
                    self.sockets = Sockets::Fresh;
                    false
                }
            },
            Sockets::Fresh => false,
        };
        if !as_new {
            // Best effort: without it the connection ends by FIN.
            let _ = sockopt::set_socket_linger(&socket.descriptor, Some(Duration::ZERO));
        }
        self.free(way, as_new);
    }

    /// The error that a way's socket keeps: where it goes on connecting, an ICMP error that came while `connect` itself still held it, a
    /// "soft" one (tcp_v4_err, tcp_v6_err; met on loopback).
    fn error(&self, way: u32) -> Option<i32> {
        let socket = self.ways.get(way as usize)?.as_ref()?;
        sockopt::socket_error(&socket.descriptor).ok()?.err().map(Errno::raw_os_error)
    }

    /// Asks a way's socket what became of its connect; `None` while there is nothing. The way is free again once there is something.
    fn look(&mut self, way: u32) -> Option<Answer> {
        let socket = self.ways.get(way as usize)?.as_ref()?;
        let (name, address) = socket.flight?;
        // C1. In the state that it is in, the socket ignores the address.
        let outcome = match rustix::net::connect(&socket.descriptor, &address) {
            Ok(()) | Err(Errno::ISCONN) => {
                let outcome = if is_to_itself(socket) { Outcome::CLOSED } else { Outcome::OPEN };
                self.end(way);
                outcome
            }
            Err(Errno::ALREADY | Errno::INTR | Errno::AGAIN) => {
                let soft = self.error(way)?;
                self.end(way);
                read(soft)
            }
            Err(error) => {
                self.free(way, true);
                read(error.raw_os_error())
            }
        };
        Some(Answer { name, outcome })
    }
}

impl Means for Connects {
    fn ready(&mut self, epoll: &OwnedFd, probe: &Probe) -> io::Result<u32> {
        let v6 = probe.target.address.to_canonical().is_ipv6();
        let idle = if v6 { &mut self.idle_v6 } else { &mut self.idle_v4 };
        if let Some(way) = idle.pop() {
            return Ok(way);
        }
        let opened = self.open(epoll, v6);
        // Descriptors may all be with idle sockets of the other IP version.
        let other = if v6 { &mut self.idle_v4 } else { &mut self.idle_v6 };
        match opened {
            Err(error) if errno::is_want_of_descriptors(&error) => match other.pop() {
                Some(way) => {
                    self.free(way, false);
                    self.open(epoll, v6)
                }
                None => Err(error),
            },
            opened => opened,
        }
    }

    fn send(&mut self, way: u32, name: Name, probe: &Probe, admitted: &Admitted) -> io::Result<()> {
        let Slot::Tcp(port) = probe.target.slot else {
            self.release(way);
            return Err(Errno::INVAL.into());
        };
        let address = SocketAddr::new(admitted.address(), port);
        let Some(Some(socket)) = self.ways.get_mut(way as usize) else { return Err(Errno::BADF.into()) };
        match rustix::net::connect(&socket.descriptor, &address) {
            // An answer that is there already is asked for like any other, by the event that it made.
            Ok(()) | Err(Errno::INPROGRESS) => {
                socket.flight = Some((name, address));
                Ok(())
            }
            Err(error) => {
                // What a connect leaves behind that was not made (a bound port, an error) goes with the socket.
                self.free(way, false);
                Err(error.into())
            }
        }
    }

    fn hear(&mut self, token: u64, answers: &mut Vec<Answer>) {
        answers.extend(u32::try_from(token).ok().and_then(|way| self.look(way)));
    }

    /// To look costs a connect, and most tries end here: it is saved where the events say that nothing came. What came in the last
    /// moment is not seen then, but for an error: as if the time had been over a moment sooner.
    fn give_up(&mut self, way: u32, _: Name, _: &Probe, all_heard: bool) -> Outcome {
        if !all_heard && let Some(Answer { outcome, .. }) = self.look(way) {
            return outcome;
        }
        let error = self.error(way);
        self.end(way);
        error.map_or(Outcome::FILTERED, read)
    }

    fn release(&mut self, way: u32) {
        self.free(way, true);
    }

    fn mend(&mut self, way: Option<u32>, token: Option<u64>) -> Option<Name> {
        let way = way.or_else(|| u32::try_from(token?).ok())?;
        let flight = self.ways.get(way as usize)?.as_ref()?.flight;
        self.free(way, false);
        flight.map(|(name, _)| name)
    }
}

/// A port that nobody listens on, and that the kernel happened to choose as our own: the socket connected to itself.
fn is_to_itself(socket: &Socket) -> bool {
    let ours = rustix::net::getsockname(&socket.descriptor).ok().and_then(|name| SocketAddr::try_from(name).ok());
    match (ours, socket.flight) {
        (Some(ours), Some((_, theirs))) => ours == theirs,
        _ => false,
    }
}

/// Reads what the network said, or, where it was this machine after all, why there is nothing.
fn read(errno: i32) -> Outcome {
    errno::late_cause(errno).map_or_else(|| errno::from_network(errno), Outcome::not_probed)
}
