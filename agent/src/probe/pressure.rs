//! Sends that this machine would not make: waiting, growing, and giving up. Shared by the probers that open sockets.
//!
//! 1. Want of descriptors, ports, buffers or memory is waited out, 2 ms at first, doubling to 128 ms. Once nothing at all could be
//!    sent for 30 s, whoever is turned away gives up as `not-probed: local-limit`.
//!    What it lacks is told, once ([`Lack`]). A refusal is want of room too while the table of connections is full.
//! 2. Any other refusal (EACCES, EPERM) is tried three times, then it is `not-probed: perm-denied`; unless the address is one that this
//!    machine's routes call broadcast.
//! 3. No route is told at once: `no-route`, or `broadcast`.

use super::errno::Local;
use crate::clock::Clock;
use crate::limits::Lack;
use crate::scope::Admitted;
use protocol::probe::Cause;
use protocol::time::Time;
use socket2::{Domain, Socket, Type};
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// After how long without a single send the rest is given up.
const STUCK_MAX: Duration = Duration::from_secs(30);
/// How often a send that is refused is tried.
const DENIED_TRIES: u32 = 3;
const WAIT_FIRST: Duration = Duration::from_millis(2);
const WAIT_DOUBLINGS_MAX: u32 = 6;

/// A prober's memory of whether anything can be sent at all.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    stuck_since: Cell<Option<Time>>,
}

/// One probe's memory of how often it was turned away.
#[derive(Debug, Default)]
pub(super) struct Turned {
    waits: u32,
    denials: u32,
}

impl Pressure {
    /// Something was sent: whoever waits has hope again.
    pub(super) fn sent(&self) {
        self.stuck_since.set(None);
    }

    /// Decides on a send that was not made: how long to wait before the next try, or the cause to give up with.
    pub(super) fn turned_away(
        &self,
        now: Time,
        why: Local,
        turned: &mut Turned,
        admitted: &Admitted,
    ) -> Result<Duration, Cause> {
        // Where the table of connections is full, what is refused is a drop of that table.
        let full = why == Local::Denied && Lack::conntrack_is_full();
        match if full { Local::Pressure(Some(Lack::Conntrack)) } else { why } {
            Local::PressureOrNoAddress if lacks_address(admitted) => Err(Cause::NoRoute),
            why @ (Local::InProgress | Local::Refused | Local::Pressure(_) | Local::PressureOrNoAddress) => {
                match why {
                    Local::Pressure(Some(lack)) => lack.tell(),
                    Local::PressureOrNoAddress => Lack::LocalPorts.tell(),
                    _ => {}
                }
                let since = self.stuck_since.get().unwrap_or(now);
                self.stuck_since.set(Some(since));
                if now.since(since) >= STUCK_MAX {
                    return Err(Cause::LocalLimit);
                }
                let wait = WAIT_FIRST * (1 << turned.waits.min(WAIT_DOUBLINGS_MAX));
                turned.waits += 1;
                Ok(wait)
            }
            Local::Denied => {
                turned.denials += 1;
                if turned.denials >= DENIED_TRIES {
                    return Err(if is_broadcast(admitted) { Cause::Broadcast } else { Cause::PermDenied });
                }
                Ok(WAIT_FIRST * (1 << turned.denials))
            }
            Local::NoRoute => Err(if is_broadcast(admitted) { Cause::Broadcast } else { Cause::NoRoute }),
        }
    }
}

/// Waits on tokio's timer, in whole milliseconds at least.
pub(super) async fn wait(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// The time that is left of a probe's timeout at `now`.
pub(super) fn left(clock: Clock, sent_at: Time, timeout: Duration) -> Duration {
    clock.until(sent_at + timeout)
}

/// True if this machine's routes call the address broadcast. A UDP socket's `connect` looks the route up and sends nothing; to a
/// broadcast address it fails with EACCES unless SO_BROADCAST is set.
fn is_broadcast(admitted: &Admitted) -> bool {
    admitted.address().is_ipv4()
        && matches!(route(admitted, false), Err(error) if error.raw_os_error() == Some(libc::EACCES))
        && route(admitted, true).is_ok()
}

/// True if this machine has no address of the target's IP version to send from.
fn lacks_address(admitted: &Admitted) -> bool {
    matches!(route(admitted, false), Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL))
}

fn route(admitted: &Admitted, broadcast: bool) -> io::Result<()> {
    // Discard: no port is sent to.
    let address = SocketAddr::new(admitted.address(), 9);
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    socket.set_broadcast(broadcast)?;
    socket.connect(&address.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::{Admission, Scope};
    use protocol::range_set::AddressSet;
    use std::net::IpAddr;
    use std::sync::Arc;

    fn admitted(address: &str) -> Admitted {
        let address: IpAddr = address.parse().unwrap();
        let scope = Arc::new(Scope::typed(AddressSet::from(address)));
        Admission::new(Clock::Monotonic, scope)
            .admit(protocol::id::ScanId::from_bytes([1; 16]), address, Time::NEVER)
            .unwrap()
    }

    #[test]
    fn pressure_is_waited_out_longer_each_time_until_nothing_went_for_thirty_seconds() {
        let (pressure, mut turned) = (Pressure::default(), Turned::default());
        let to = admitted("127.0.0.1");
        let start = Time::ZERO + Duration::from_secs(5);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let wait = pressure.turned_away(start, Local::Pressure(None), &mut turned, &to).unwrap();
            waits.push(wait.as_millis());
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 128]);
        let just_before = start + STUCK_MAX - Duration::from_nanos(1);
        assert!(pressure.turned_away(just_before, Local::Pressure(None), &mut turned, &to).is_ok());
        let at_thirty = start + STUCK_MAX;
        assert_eq!(pressure.turned_away(at_thirty, Local::Pressure(None), &mut turned, &to), Err(Cause::LocalLimit));
        let mut another = Turned::default();
        assert_eq!(pressure.turned_away(at_thirty, Local::Pressure(None), &mut another, &to), Err(Cause::LocalLimit));
        pressure.sent();
        assert!(
            pressure.turned_away(at_thirty, Local::Pressure(None), &mut turned, &to).is_ok(),
            "something went: hope again"
        );
    }

    #[test]
    fn a_refusal_is_tried_three_times_and_no_route_once() {
        let (pressure, mut turned) = (Pressure::default(), Turned::default());
        let to = admitted("127.0.0.1");
        assert!(pressure.turned_away(Time::ZERO, Local::Denied, &mut turned, &to).is_ok());
        assert!(pressure.turned_away(Time::ZERO, Local::Denied, &mut turned, &to).is_ok());
        assert_eq!(pressure.turned_away(Time::ZERO, Local::Denied, &mut turned, &to), Err(Cause::PermDenied));
        let mut turned = Turned::default();
        assert_eq!(pressure.turned_away(Time::ZERO, Local::NoRoute, &mut turned, &to), Err(Cause::NoRoute));
    }

    #[test]
    fn what_the_routes_call_broadcast_is_told_from_what_has_no_route() {
        // Loopback's own broadcast address, on every Linux.
        let (pressure, mut turned) = (Pressure::default(), Turned::default());
        let to = admitted("127.255.255.255");
        assert_eq!(pressure.turned_away(Time::ZERO, Local::NoRoute, &mut turned, &to), Err(Cause::Broadcast));
        assert!(!is_broadcast(&admitted("127.0.0.1")));
        assert!(!lacks_address(&admitted("127.0.0.1")));
    }
}
