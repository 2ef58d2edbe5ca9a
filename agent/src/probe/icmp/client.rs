//! Echo requests through surge-ping: one client per IP version, opened when first needed.
//!
//! That surge-ping answers `Ok` does not mean that the host is up: ICMP errors come back as `Ok` too.
//!
//! No more requests are in flight than the buffer holds answers twice over (a raw socket on loopback sees requests as well).

use super::{buffer, judge};
use crate::probe::Found;
use crate::probe::errno;
use crate::probe::pressure::{self, Pressure, Turned};
use crate::scope::{Admission, Admitted};
use agent_core::attempt::Probe;
use protocol::probe::{Cause, Outcome};
use protocol::time::Time;
use socket2::{SockRef, Type};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;
use surge_ping::{Client, Config, ICMP, IcmpPacket, PingIdentifier, PingSequence, SurgeError};

const IN_FLIGHT_MAX: usize = 1_024;
const PAYLOAD: [u8; 8] = *b"portswee";

/// Asks hosts for life by echo requests.
#[derive(Debug)]
pub struct IcmpProber {
    v4: RefCell<Option<Opened>>,
    v6: RefCell<Option<Opened>>,
    in_flight_max: usize,
    first: u32,
    sent: Cell<u32>,
    pressure: Pressure,
}

/// A client, which has no debug form of its own.
#[derive(Clone)]
struct Opened(Client);

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl IcmpProber {
    /// A prober that has sent nothing yet. `nonce` tells its requests from those of another process.
    #[must_use]
    pub fn new(nonce: u32) -> Self {
        Self {
            v4: RefCell::new(None),
            v6: RefCell::new(None),
            in_flight_max: (buffer::answers() / 2).clamp(64, IN_FLIGHT_MAX),
            first: nonce,
            sent: Cell::new(0),
            pressure: Pressure::default(),
        }
    }

    /// How many requests may be in flight without losing answers.
    #[must_use]
    pub(in crate::probe) fn in_flight_max(&self) -> usize {
        self.in_flight_max
    }

    /// Opens the sockets anew with the next probe.
    pub(in crate::probe) fn restart(&self) {
        self.v4.take();
        self.v6.take();
    }

    pub(in crate::probe) async fn probe(&self, probe: &Probe, right_ends_at: Time, admission: &Admission) -> Found {
        let clock = admission.clock();
        let mut turned = Turned::default();
        loop {
            let client = self.client(probe.target.address.to_canonical());
            let admitted = match admission.admit(probe.scan, probe.target.address, right_ends_at) {
                Ok(admitted) => admitted,
                Err(refusal) => return Found::silent(refusal.outcome()),
            };
            let error = match client {
                Ok(client) => match self.ask(&client.0, &admitted, probe.wait.timeout).await {
                    Ok(found) => return found,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            let why = errno::local(&error);
            match self.pressure.turned_away(clock.now(), why, &mut turned, &admitted) {
                Ok(wait) => pressure::wait(wait).await,
                Err(cause) => return Found::not_probed(cause),
            }
        }
    }

    /// The only place that sends an echo request: it uses up one admission.
    async fn ask(&self, client: &Client, admitted: &Admitted, timeout: Duration) -> io::Result<Found> {
        let (identifier, sequence) = self.next_name();
        let mut pinger = client.pinger(admitted.address(), PingIdentifier(identifier)).await;
        pinger.timeout(timeout);
        match pinger.ping(PingSequence(sequence), &PAYLOAD).await {
            Ok((packet, rtt)) => {
                self.pressure.sent();
                let outcome = judge(&packet);
                Ok(Found { outcome, rtt: (!outcome.is_silence()).then_some(rtt) })
            }
            Err(SurgeError::Timeout { .. }) => {
                self.pressure.sent();
                Ok(Found::silent(Outcome::DOWN))
            }
            Err(SurgeError::IOError(error)) => Err(error),
            // The client was closed under the request (a restart), or something is wrong with us.
            Err(error) => {
                tracing::warn!(%error, "an echo request failed in this program");
                Ok(Found::not_probed(Cause::InternalError))
            }
        }
    }

    /// Identifier and sequence of the next request: together no two in 2^32 are the same.
    fn next_name(&self) -> (u16, u16) {
        let number = self.first.wrapping_add(self.sent.get());
        self.sent.set(self.sent.get().wrapping_add(1));
        ((number >> 16) as u16, number as u16)
    }

    fn client(&self, address: IpAddr) -> io::Result<Opened> {
        let (slot, kind) = if address.is_ipv4() { (&self.v4, ICMP::V4) } else { (&self.v6, ICMP::V6) };
        if let Some(open) = slot.borrow().as_ref() {
            return Ok(open.clone());
        }
        // A raw socket first: a ping socket is not told of ICMP errors. Where raw is not permitted, a ping socket.
        let client = Client::new(&Config::builder().kind(kind).sock_type_hint(Type::RAW).build())?;
        raise_buffer(&client);
        let opened = Opened(client);
        *slot.borrow_mut() = Some(opened.clone());
        Ok(opened)
    }
}

/// Makes a client's buffer as large as this process may.
fn raise_buffer(client: &Client) {
    let socket = client.get_socket();
    // SAFETY: `socket` keeps the descriptor open for longer than the borrow.
    let descriptor = unsafe { BorrowedFd::borrow_raw(socket.get_native_sock()) };
    buffer::raise(&SockRef::from(&descriptor));
}

/// What an answer says of the host.
fn judge(packet: &IcmpPacket) -> Outcome {
    match packet {
        IcmpPacket::V4(packet) => judge::v4(packet.get_icmp_type().0, packet.get_icmp_code().0),
        IcmpPacket::V6(packet) => judge::v6(packet.get_icmpv6_type().0, packet.get_icmpv6_code().0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_requests_have_the_same_name() {
        let prober = IcmpProber::new(u32::MAX - 70_000);
        let names: std::collections::HashSet<_> = (0..140_000).map(|_| prober.next_name()).collect();
        assert_eq!(names.len(), 140_000);
    }

    #[test]
    fn no_more_is_in_flight_than_the_buffer_holds() {
        let held = buffer::answers();
        let in_flight_max = IcmpProber::new(0).in_flight_max();
        assert!((64..=IN_FLIGHT_MAX).contains(&in_flight_max));
        assert!(in_flight_max == 64 || in_flight_max * 2 <= held, "{in_flight_max} in flight, room for {held}");
    }
}
