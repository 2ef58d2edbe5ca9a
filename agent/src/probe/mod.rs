//! The probers: each makes one try at a time at one target, in its own way, and none can send without the token of
//! [`Admission::admit`](crate::scope::Admission::admit).

mod connect;
#[cfg(target_os = "linux")]
pub(crate) mod engine;
mod errno;
mod icmp;
mod pressure;
mod simulated;
mod tcp_ping;

pub use connect::ConnectProber;
#[cfg(target_os = "linux")]
pub use engine::{Engine, Sockets};
pub use icmp::IcmpProber;
pub use simulated::{SimulatedProber, Truth, World};
pub use tcp_ping::{TCP_PING_PORTS, TcpPingProber};

use crate::scope::Admission;
use agent_core::attempt::Probe;
use protocol::probe::{Cause, Outcome};
use protocol::time::Time;
use std::time::Duration;

/// What one try found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The outcome, or why nothing was asked.
    pub outcome: Outcome,
    /// The time between sending and answer, where there was one.
    pub rtt: Option<Duration>,
}

impl Found {
    const fn silent(outcome: Outcome) -> Self {
        Self { outcome, rtt: None }
    }

    const fn not_probed(cause: Cause) -> Self {
        Self::silent(Outcome::not_probed(cause))
    }
}

/// A way of asking. One belongs to one supervisor, and lives on its thread.
#[derive(Debug)]
pub enum Prober {
    /// Threads of their own, for what is asked by the thousand.
    #[cfg(target_os = "linux")]
    Engine(Engine),
    /// TCP connects, by the runtime's own sockets.
    Connect(ConnectProber),
    /// ICMP echo requests.
    Icmp(IcmpProber),
    /// TCP connects to 443 and 80, where ICMP is not permitted.
    TcpPing(TcpPingProber),
    /// A world that is made up.
    Simulated(SimulatedProber),
}

impl Prober {
    /// TCP connects, in the fastest way that this system has. Where it can, it has as many sockets as `listening` says beyond those in
    /// flight, to listen for late answers.
    #[must_use]
    pub fn connects(listening: u32) -> Self {
        #[cfg(target_os = "linux")]
        return Self::Engine(Engine::connects(Sockets::Reused).listening(listening));
        #[cfg(not(target_os = "linux"))]
        {
            let _ = listening;
            Self::Connect(ConnectProber::new())
        }
    }

    /// ICMP echo requests, in the fastest way that this system has. `nonce` is to be drawn at random: it tells its requests from those of
    /// everybody else.
    #[must_use]
    pub fn echoes(nonce: u64) -> Self {
        #[cfg(target_os = "linux")]
        return Self::Engine(Engine::echoes(nonce));
        #[cfg(not(target_os = "linux"))]
        Self::Icmp(IcmpProber::new(nonce as u32))
    }

    /// How many probes it can have in flight, whatever its owner would like. `None` for no bound of its own.
    #[must_use]
    pub fn in_flight_max(&self) -> Option<usize> {
        match self {
            Self::Icmp(prober) => Some(prober.in_flight_max()),
            #[cfg(target_os = "linux")]
            Self::Engine(engine) => engine.in_flight_max(),
            Self::Connect(_) | Self::TcpPing(_) | Self::Simulated(_) => None,
        }
    }

    /// Makes one try, and takes at most the probe's timeout for it once it is sent. What cannot be sent for want of descriptors,
    /// ports or buffers waits, at most until the right ends.
    pub async fn probe(&self, probe: &Probe, right_ends_at: Time, admission: &Admission) -> Found {
        match self {
            // It is started as a whole, and takes batches: a probe alone is not its.
            #[cfg(target_os = "linux")]
            Self::Engine(_) => Found::not_probed(Cause::InternalError),
            Self::Connect(prober) => prober.probe(probe, right_ends_at, admission).await,
            // Boxed, so that the rarer ways do not make the future of a connect larger.
            Self::Icmp(prober) => Box::pin(prober.probe(probe, right_ends_at, admission)).await,
            Self::TcpPing(prober) => Box::pin(prober.probe(probe, right_ends_at, admission)).await,
            Self::Simulated(prober) => Box::pin(prober.probe(probe, right_ends_at, admission)).await,
        }
    }

    /// Begins anew after a probe that panicked: what it held open is opened again.
    pub fn restart(&self) {
        match self {
            Self::Icmp(prober) => prober.restart(),
            #[cfg(target_os = "linux")]
            Self::Engine(_) => {}
            Self::Connect(_) | Self::TcpPing(_) | Self::Simulated(_) => {}
        }
    }
}
