//! Running an agent that has joined: its actors over the link, its certificate renewed in time, and its end.
//!
//! It ends when it is told to (SIGTERM, SIGINT): what it knows is reported and taken, then it says that it leaves. What waits for the
//! coordinator longer than [`DRAIN_TIMEOUT`] is given up: its leases return when its right ends, and are probed again.

use crate::actors::agent::{Agent, Drain, Parts};
use crate::certificate::Certificate;
use crate::clock::Clock;
use crate::dial::{LinkDial, Route};
use crate::enrol::{self, EnrolError};
use crate::health;
use crate::identity::{self, IdentityError, Joined, StateDirectory};
use crate::limits::Descriptors;
use crate::privilege::PingAccess;
use crate::probe::{Prober, TcpPingProber};
use crate::scope::Scope;
use agent_core::agent::Identity;
use agent_core::backoff::Backoff;
use protocol::id::InstanceId;
use protocol::message::PingMethod;
use protocol::probe::ProbeKind;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long reporting what is known may take at the end.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the last frame may take on its way.
const LEAVING_TIMEOUT: Duration = Duration::from_secs(2);
/// A certificate is renewed when so much of its life is over: before two thirds, with time for some tries.
const RENEW_AT: f64 = 0.5;
/// How often the time is asked: a machine that was suspended renews soon after it wakes.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Where the limit cannot even be read, the least that POSIX grants.
const DESCRIPTORS_LEAST: u64 = 256;

/// Why an agent cannot run, or ended otherwise than it was told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its state cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The system gives no random numbers.
    #[error("draw a random number: {0}")]
    Random(getrandom::Error),
    /// A part of it died.
    #[error("a part of the agent died; its leases return to the coordinator")]
    Died,
    /// The coordinator did not take its last reports.
    #[error("the coordinator did not take the last reports within {} s; others will probe that again", DRAIN_TIMEOUT.as_secs())]
    NotDrained,
}

/// Runs an agent until `told_to_end` resolves. Within an actor system.
///
/// # Errors
/// If it cannot run, or could not end in order.
pub async fn run(
    state: StateDirectory,
    joined: Joined,
    mut route: Route,
    told_to_end: impl Future<Output = ()>,
) -> Result<(), RunError> {
    tokio::pin!(told_to_end);
    // Read once now, so that what is damaged is told at once.
    state.credentials()?;
    let guarded = tokio::select! {
        guarded = guard(&mut route) => guarded,
        () = &mut told_to_end => return Ok(()),
    };
    let scope = Arc::new(Scope::listed(joined.allow.iter().copied(), &guarded));
    let (dial, mut open) = LinkDial::new(route.clone(), state.clone());
    let parts = parts(joined, scope, dial)?;
    let (agent, mut ended) = Agent::start_with(parts);
    let answering = tokio::task::spawn_local(health::answer(state.clone(), open.clone()));
    let renewing = tokio::task::spawn_local(renew_in_time(state, route));
    let result = tokio::select! {
        ended = &mut ended => ended.map_err(|_| RunError::Died),
        () = told_to_end => {
            let _gone = agent.send(Drain).await;
            match tokio::time::timeout(DRAIN_TIMEOUT, ended).await {
                Ok(ended) => ended.map_err(|_| RunError::Died),
                Err(_) => Err(RunError::NotDrained),
            }
        }
    };
    renewing.abort();
    answering.abort();
    if result.is_ok() {
        // The coordinator closes when it was told; whoever does not hear it waits no longer than this.
        let _left = tokio::time::timeout(LEAVING_TIMEOUT, open.wait_for(|&open| open == 0)).await;
    }
    result
}

/// Waits until it is known what to guard: a name that cannot be looked up yet (a machine that starts) is asked for again.
async fn guard(route: &mut Route) -> Vec<IpAddr> {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    let mut told = false;
    loop {
        let guarded = route.guard().await;
        if !guarded.is_empty() {
            return guarded;
        }
        if !std::mem::replace(&mut told, true) {
            tracing::warn!("the coordinator's name cannot be looked up; it is tried again");
        }
        tokio::time::sleep(backoff.wait(random_or_zero())).await;
    }
}

fn parts(joined: Joined, scope: Arc<Scope>, dial: LinkDial) -> Result<Parts, RunError> {
    let random = || getrandom::u64().map_err(RunError::Random);
    let access = PingAccess::detect();
    if let Some(advice) = access.advice {
        tracing::warn!("{advice}");
    }
    let ping = match access.method {
        PingMethod::Icmp => Prober::echoes(random()?),
        PingMethod::Tcp => Prober::TcpPing(TcpPingProber::new()),
    };
    let descriptors = Descriptors::raise().or_else(|error| {
        tracing::warn!(%error, "the limit of open files stays");
        Descriptors::read()
    });
    let descriptors = descriptors.unwrap_or(Descriptors::new(DESCRIPTORS_LEAST));
    let window = descriptors.default_window().max(1);
    let listening = descriptors.listening(window);
    descriptors.make_room(window.saturating_add(listening));
    let identity = Identity {
        name: joined.name,
        vantage: joined.vantage,
        instance: InstanceId::new(random()?),
        software: env!("CARGO_PKG_VERSION").to_owned(),
        ping_method: access.method,
        allow: scope.allowed().clone(),
        window_max: window,
    };
    Ok(Parts {
        identity,
        scope,
        clock: Clock::Boottime,
        dial: Box::new(dial),
        probers: vec![(ProbeKind::Tcp, Prober::connects(listening)), (ProbeKind::Ping, ping)],
        jitter: random_or_zero,
    })
}

/// Gets the next certificate before two thirds of the present one's life are over, as long as the agent runs.
async fn renew_in_time(state: StateDirectory, route: Route) {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    loop {
        let wait = match until_renewal(&state) {
            Ok(wait) if wait > Duration::ZERO => wait.min(LOOK_EVERY),
            Ok(_) => match renew(&state, &route).await {
                Ok(()) => {
                    tracing::info!("the certificate is renewed");
                    backoff.reset();
                    continue;
                }
                Err(error) => {
                    tracing::warn!(error = %anyhow::Error::from(error), "the certificate is not renewed yet");
                    backoff.wait(random_or_zero())
                }
            },
            Err(error) => {
                tracing::warn!(error = %anyhow::Error::from(error), "the certificate cannot be read");
                LOOK_EVERY
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// How long there is until the certificate is to be renewed.
fn until_renewal(state: &StateDirectory) -> Result<Duration, IdentityError> {
    let credentials = state.credentials()?;
    let Ok(certificate) = Certificate::read(&credentials.certificate) else { return Ok(Duration::ZERO) };
    Ok(certificate.renew_at(RENEW_AT).duration_since(Clock::wall()).unwrap_or(Duration::ZERO))
}

/// Why a certificate was not renewed.
#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Enrol(#[from] EnrolError),
}

async fn renew(state: &StateDirectory, route: &Route) -> Result<(), RenewError> {
    let credentials = state.credentials()?;
    let request = identity::request(&credentials.key)?;
    let enrolled = enrol::renew(route, &credentials, request).await?;
    Ok(state.renew(&enrolled)?)
}

/// For jitter, where a number that is not random does no harm.
fn random_or_zero() -> u64 {
    getrandom::u64().unwrap_or(0)
}
