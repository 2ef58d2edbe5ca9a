//! What is true of an address: a pure function of the world, so that nothing has to be stored for it.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::draw::{self, For};
use super::world::{Closed, HostKind, Odd, World};

/// A host of a simulated network.
#[derive(Debug, Clone, Copy)]
pub struct HostTruth<'world> {
    /// Where it is.
    pub address: IpAddr,
    /// What it is like.
    pub kind: &'world HostKind,
    /// How long an answer takes, without jitter.
    pub round_trip: Duration,
    seed: u64,
    offset: u64,
}

/// What becomes of a probe for a port, if nothing is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortTruth {
    /// It accepts.
    Open,
    /// It refuses.
    Closed,
    /// Nothing is heard, or an ICMP error.
    Filtered,
}

impl World {
    /// What is at an address; `None` where it is empty, or no part of the prefix.
    #[must_use]
    pub fn host(&self, address: IpAddr) -> Option<HostTruth<'_>> {
        self.offset(address).and_then(|offset| self.host_at(offset))
    }

    /// The host at a place in the prefix.
    pub(super) fn host_at(&self, offset: u32) -> Option<HostTruth<'_>> {
        let place = u64::from(offset);
        let mut drawn = draw::share(self.seed, For::Kind, place, 0);
        let kind = self.hosts.iter().find(|kind| {
            drawn -= kind.share;
            drawn < 0.0
        })?;
        let [least, most] = kind.rtt_ms;
        let rtt_ms = least + (most - least) * draw::share(self.seed, For::RoundTrip, place, 0);
        let round_trip = Duration::from_secs_f64(rtt_ms / 1000.0);
        Some(HostTruth { address: self.address(offset), kind, round_trip, seed: self.seed, offset: place })
    }

    /// Every host, in the order of their addresses.
    pub fn all_hosts(&self) -> impl Iterator<Item = HostTruth<'_>> {
        (0..self.len()).filter_map(|offset| self.host_at(offset))
    }
}

impl HostTruth<'_> {
    /// What becomes of a SYN for a port.
    #[must_use]
    pub fn port(&self, port: u16) -> PortTruth {
        let kind = self.kind;
        if kind.odd.contains(&Odd::WrongPort)
            || kind.odd.contains(&Odd::TruncatedError)
            || kind.odd.contains(&Odd::ForeignError)
        {
            return PortTruth::Filtered;
        }
        let open =
            kind.open.contains(port) && draw::share(self.seed, For::Port, self.offset, port.into()) < kind.open_share;
        match (open, kind.closed) {
            (true, _) => PortTruth::Open,
            (false, Closed::Refuse) => PortTruth::Closed,
            (false, Closed::Drop | Closed::Prohibit) => PortTruth::Filtered,
        }
    }

    /// Whether it answers an echo request.
    #[must_use]
    pub fn answers_ping(&self) -> bool {
        self.kind.echo && !self.kind.odd.contains(&Odd::ForeignError)
    }

    /// The share of tries whose question or answer is lost.
    #[must_use]
    pub fn round_trip_loss(&self) -> f64 {
        let [out, back] = self.kind.loss;
        1.0 - (1.0 - out) * (1.0 - back)
    }
}

/// A line of the truth, for a person and for programs that split at white space.
impl fmt::Display for HostTruth<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, kind, round_trip, .. } = self;
        let closed = match kind.closed {
            Closed::Refuse => "refuse",
            Closed::Drop => "drop",
            Closed::Prohibit => "prohibit",
        };
        let echo = if self.answers_ping() { "echo" } else { "no-echo" };
        write!(
            f,
            "{address} rtt_ms={:.3} loss={:.4} {echo} closed={closed} open=",
            round_trip.as_secs_f64() * 1000.0,
            self.round_trip_loss()
        )?;
        let open = kind.open.iter().filter(|port| self.port(*port) == PortTruth::Open);
        for (place, port) in open.enumerate() {
            write!(f, "{}{port}", if place > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}
