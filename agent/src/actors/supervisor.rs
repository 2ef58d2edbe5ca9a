//! `ProbeSupervisor`: runs the probes of one kind that it is given, in batches, each with its timeout. It decides nothing.
//!
//! - Owner: the `Agent` actor, which keeps no more probes with it than its windows allow.
//! - In: [`RunBatch`] (`try_send`), [`SetOrders`], [`Shutdown`].
//! - Out: [`SettledBatch`] to the owner, by awaited send: each probe that was handed in is in exactly one, exactly once.
//! - A probe that panics costs itself only: it is tried once more, then it is `not-probed: internal-error`.
//! - Death: when it stops, for whatever reason (`Shutdown`, a panic, its owner gone), its owner gets one [`SupervisorDied`], after
//!   the last `SettledBatch`. What was with it and was not settled then is lost: the owner counts it as `not-probed`.
//!
//! The probes run beside the actor, so that orders are heard while probes run: in one task on its thread (the driver), which polls them
//! as one set, or in an engine's own threads. Each is admitted by itself, just before it is sent.

mod driver;
#[cfg(target_os = "linux")]
mod forward;

use crate::probe::Prober;
#[cfg(target_os = "linux")]
use crate::probe::engine::{Engine, Hands};
use crate::scope::{Admission, Orders};
use actix::prelude::*;
use agent_core::attempt::{Batch, Probe, ProbeId, Settled};
use driver::{Driver, Ended};
use futures_util::FutureExt;
use protocol::probe::{Cause, Outcome, ProbeKind};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::mpsc::{self, error::TrySendError};

/// How many batches may wait. An owner that keeps its windows never has so many here.
const BATCHES_MAX: usize = 1_024;
/// How many messages the mailbox holds.
const MAILBOX_MAX: usize = 64;

/// Probes to run. Nothing is answered: what becomes of them comes as [`SettledBatch`].
#[derive(Clone, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct RunBatch(pub Batch);

/// Orders that replace those before. Once this is answered they are in force: nothing that they forbid is sent from then on.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct SetOrders(pub Arc<Orders>);

/// Lets go: what is not sent settles as `not-probed: interrupted`, what is in flight ends, then the actor stops.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Shutdown;

/// What became of probes, to the owner. About 1,024 of them at most, or one batch that is refused.
#[derive(Clone, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct SettledBatch {
    /// The supervisor's kind.
    pub kind: ProbeKind,
    /// Probes that are overdue, and listened for still. Each is told before it settles, once.
    pub overdue: Vec<ProbeId>,
    /// The probes.
    pub settled: Vec<Settled>,
}

/// The supervisor of this kind is no more, and nothing comes from it after this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct SupervisorDied {
    /// The supervisor's kind.
    pub kind: ProbeKind,
}

/// To whom a supervisor reports.
#[derive(Clone)]
pub struct Owner {
    /// Takes outcomes.
    pub settled: Recipient<SettledBatch>,
    /// Learns of the death.
    pub died: Recipient<SupervisorDied>,
}

/// The actor.
pub struct ProbeSupervisor {
    kind: ProbeKind,
    settled_to: Recipient<SettledBatch>,
    probing: Probing,
}

/// What runs the probes.
enum Probing {
    /// Nothing yet.
    Ready(Box<Ready>),
    /// A task on this thread.
    Driver { batches: mpsc::Sender<Batch>, admission: Rc<Admission> },
    /// Threads of an engine.
    #[cfg(target_os = "linux")]
    Engine(Hands),
    /// Nothing any more.
    LetGo,
}

struct Ready {
    prober: Prober,
    admission: Admission,
    in_flight_max: usize,
    owner: Owner,
}

impl ProbeSupervisor {
    /// A supervisor of `kind` that asks by `prober`, with at most `in_flight_max` probes in flight (or what the prober bears, if that
    /// is less). What is more waits.
    #[must_use]
    pub fn new(kind: ProbeKind, prober: Prober, admission: Admission, in_flight_max: u32, owner: Owner) -> Self {
        let in_flight_max = (in_flight_max as usize).min(prober.in_flight_max().unwrap_or(usize::MAX)).max(1);
        let settled_to = owner.settled.clone();
        let ready = Ready { prober, admission, in_flight_max, owner };
        Self { kind, settled_to, probing: Probing::Ready(Box::new(ready)) }
    }

    fn drive(&mut self, ready: Ready, ctx: &mut Context<Self>) {
        let Ready { prober, admission, in_flight_max, owner } = ready;
        #[cfg(target_os = "linux")]
        if let Prober::Engine(engine) = prober {
            return self.start_engine(engine, &admission, in_flight_max, owner, ctx);
        }
        let admission = Rc::new(admission);
        let (batches, taken) = mpsc::channel(BATCHES_MAX);
        let driver = Driver::new(self.kind, Rc::new(prober), Rc::clone(&admission), in_flight_max, taken, owner);
        self.probing = Probing::Driver { batches, admission };
        self.until_ended(driver.run(), ctx);
    }

    #[cfg(target_os = "linux")]
    fn start_engine(
        &mut self,
        engine: Engine,
        admission: &Admission,
        in_flight_max: usize,
        owner: Owner,
        ctx: &mut Context<Self>,
    ) {
        let kind = self.kind;
        match engine.start(admission, in_flight_max) {
            Ok((hands, up)) => {
                let forwarding = forward::forward(kind, up, hands.in_hand(), owner);
                self.probing = Probing::Engine(hands);
                self.until_ended(forwarding, ctx);
            }
            Err(error) => {
                tracing::error!(%kind, %error, "the threads of the probes could not be started");
                drop(driver::Obituary::new(kind, owner.died));
                ctx.stop();
            }
        }
    }

    fn until_ended(&self, running: impl Future<Output = Ended> + 'static, ctx: &mut Context<Self>) {
        let kind = self.kind;
        let running = tokio::task::spawn_local(running);
        ctx.spawn(running.into_actor(self).map(move |ended, _, ctx| {
            match ended {
                Ok(Ended::LetGo) => {}
                Ok(Ended::OwnerGone) => tracing::debug!(%kind, "the owner of the probes is gone"),
                #[cfg(target_os = "linux")]
                Ok(Ended::Died) => tracing::error!(%kind, "a thread of the probes died"),
                Err(error) => tracing::error!(%kind, %error, "the driver of the probes died"),
            }
            ctx.stop();
        }));
    }

    /// Settles a batch that is not run. Until the owner has taken it, no further message is read: its `try_send` then says "full".
    fn refuse(&self, batch: Batch, cause: Cause, ctx: &mut Context<Self>) {
        let refused = |probe: &Probe| Settled { id: probe.id, outcome: Outcome::not_probed(cause), rtt: None };
        let settled = batch.probes.iter().map(refused).collect();
        let told = self.settled_to.send(SettledBatch { kind: self.kind, overdue: Vec::new(), settled });
        ctx.wait(tokio::time::timeout(driver::OWNER_TIMEOUT, told).map(drop).into_actor(self));
    }
}

impl Actor for ProbeSupervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_MAX);
        if let Probing::Ready(ready) = std::mem::replace(&mut self.probing, Probing::LetGo) {
            self.drive(*ready, ctx);
        }
    }
}

impl Handler<RunBatch> for ProbeSupervisor {
    type Result = ();

    fn handle(&mut self, RunBatch(batch): RunBatch, ctx: &mut Self::Context) {
        let taken = match &self.probing {
            Probing::Driver { batches, .. } => batches.try_send(batch),
            #[cfg(target_os = "linux")]
            Probing::Engine(hands) => hands.run(batch),
            Probing::Ready(_) | Probing::LetGo => Err(TrySendError::Closed(batch)),
        };
        match taken {
            Ok(()) => {}
            Err(TrySendError::Full(batch)) => {
                tracing::error!(kind = %self.kind, "more batches than an owner may keep here");
                self.refuse(batch, Cause::LocalLimit, ctx);
            }
            Err(TrySendError::Closed(batch)) => self.refuse(batch, Cause::Interrupted, ctx),
        }
    }
}

impl Handler<SetOrders> for ProbeSupervisor {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, SetOrders(orders): SetOrders, _: &mut Self::Context) -> Self::Result {
        let in_force = match &self.probing {
            Probing::Driver { admission, .. } => {
                admission.set_orders(orders);
                futures_util::future::ready(()).left_future()
            }
            #[cfg(target_os = "linux")]
            Probing::Engine(hands) => hands.set_orders(&orders).right_future(),
            Probing::Ready(_) | Probing::LetGo => futures_util::future::ready(()).left_future(),
        };
        AtomicResponse::new(Box::pin(in_force.into_actor(self)))
    }
}

impl Handler<Shutdown> for ProbeSupervisor {
    type Result = ();

    fn handle(&mut self, _: Shutdown, _: &mut Self::Context) {
        if let Probing::Driver { admission, .. } = &self.probing {
            admission.stop();
        }
        self.probing = Probing::LetGo;
    }
}

#[cfg(test)]
mod tests;
