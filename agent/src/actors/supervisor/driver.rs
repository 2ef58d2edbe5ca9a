//! The driver: one task that runs a supervisor's probes as one set, and sends what became of them in batches.
//!
//! - At most `in_flight_max` probes run; the rest wait, in the order in which they came.
//! - Outcomes are sent once there are [`FLUSH_AT`], or the first of them is [`FLUSH_AFTER`] old, or nothing else is to be done; one
//!   message at a time, and while it is on its way the probes go on.
//! - It takes in no more while more than [`HELD_MAX`] outcomes wait for their owner.

use super::{Owner, SettledBatch, SupervisorDied};
use crate::probe::{Found, Prober};
use crate::scope::Admission;
use actix::prelude::*;
use agent_core::attempt::{Batch, Probe, Settled};
use futures_util::future::{BoxFuture, Either, FutureExt, LocalBoxFuture, pending};
use futures_util::stream::{FuturesUnordered, StreamExt};
use protocol::probe::{Cause, Outcome, ProbeKind};
use protocol::time::Time;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc;

/// So many outcomes are worth a message.
const FLUSH_AT: usize = 64;
/// So long an outcome waits for others.
const FLUSH_AFTER: Duration = Duration::from_millis(5);
/// The most outcomes of one message.
pub(super) const SETTLED_MAX: usize = 1_024;
/// The most outcomes that wait for their owner before no more probes are begun.
const HELD_MAX: usize = 16_384;
/// The most probes that wait here for their turn before batches are left in the queue.
const WAITING_MAX: usize = 65_536;
/// After so long without an answer the owner is taken for gone.
pub(super) const OWNER_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a probe is begun that panics.
const TRIES: u32 = 2;

/// How the driver came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Its supervisor let go, and everything is settled and told.
    LetGo,
    /// Nobody takes outcomes any more.
    OwnerGone,
    /// A thread died.
    #[cfg(target_os = "linux")]
    Died,
}

/// Tells the owner of the end, whatever the end is.
pub(super) struct Obituary {
    kind: ProbeKind,
    died: Recipient<SupervisorDied>,
}

impl Obituary {
    pub(super) fn new(kind: ProbeKind, died: Recipient<SupervisorDied>) -> Self {
        Self { kind, died }
    }
}

impl Drop for Obituary {
    fn drop(&mut self) {
        let notice = SupervisorDied { kind: self.kind };
        if let Err(actix::dev::SendError::Full(notice)) = self.died.try_send(notice) {
            // The mailbox is full, so the owner lives: the notice waits for room, if the runtime is not ending as well.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                let sending: BoxFuture<'static, _> = self.died.send(notice).boxed();
                runtime.spawn(sending);
            }
        }
    }
}

/// The driver before it runs.
pub(super) struct Driver {
    kind: ProbeKind,
    prober: Rc<Prober>,
    admission: Rc<Admission>,
    in_flight_max: usize,
    batches: mpsc::Receiver<Batch>,
    settled_to: Recipient<SettledBatch>,
    obituary: Obituary,
}

impl Driver {
    pub(super) fn new(
        kind: ProbeKind,
        prober: Rc<Prober>,
        admission: Rc<Admission>,
        in_flight_max: usize,
        batches: mpsc::Receiver<Batch>,
        owner: Owner,
    ) -> Self {
        let obituary = Obituary::new(kind, owner.died);
        Self { kind, prober, admission, in_flight_max, batches, settled_to: owner.settled, obituary }
    }

    /// Runs until the supervisor lets go (its end of the queue is dropped) or the owner is gone.
    pub(super) async fn run(self) -> Ended {
        // First in, so last to be dropped: after the probes and the last outcomes.
        let _obituary = self.obituary;
        let mut batches = self.batches;
        let mut open = true;
        let mut waiting: VecDeque<(Probe, Time)> = VecDeque::new();
        let mut in_flight = FuturesUnordered::new();
        let mut settled = Outbox { kind: self.kind, to: self.settled_to, held: Vec::new(), due: None, sending: None };
        loop {
            if !open {
                // Nothing is admitted any more, so nobody need wait for a turn to hear it.
                let refused = |(probe, right_ends_at): (Probe, Time)| Settled {
                    id: probe.id,
                    outcome: match self.admission.admit(probe.scan, probe.target.address, right_ends_at) {
                        Err(refusal) => refusal.outcome(),
                        Ok(_) => Outcome::not_probed(Cause::Interrupted),
                    },
                    rtt: None,
                };
                settled.held.extend(waiting.drain(..).map(refused));
            }
            while in_flight.len() < self.in_flight_max && settled.held.len() < HELD_MAX {
                let Some((probe, right_ends_at)) = waiting.pop_front() else { break };
                in_flight.push(settle(Rc::clone(&self.prober), Rc::clone(&self.admission), probe, right_ends_at));
            }
            let idle = in_flight.is_empty() && waiting.is_empty();
            if !open && idle && settled.is_empty() {
                return Ended::LetGo;
            }
            settled.flush(idle);
            tokio::select! {
                biased;
                sent = settled.progress() => match sent {
                    Progress::Sent | Progress::Due => {}
                    Progress::OwnerGone => return Ended::OwnerGone,
                },
                batch = batches.recv(), if open && waiting.len() < WAITING_MAX => match batch {
                    Some(batch) => {
                        waiting.extend(batch.probes.into_iter().map(|probe| (probe, batch.right_ends_at)));
                    }
                    None => {
                        self.admission.stop();
                        open = false;
                    }
                },
                Some(first) = in_flight.next(), if !in_flight.is_empty() => {
                    settled.held.push(first);
                    // What else is ready is taken at once: a round of this loop costs more than a probe's end.
                    for _ in 1..FLUSH_AT {
                        let Some(Some(next)) = in_flight.next().now_or_never() else { break };
                        settled.held.push(next);
                    }
                },
            }
        }
    }
}

/// Runs one probe, and once more if it panics.
async fn settle(prober: Rc<Prober>, admission: Rc<Admission>, probe: Probe, right_ends_at: Time) -> Settled {
    for _ in 0..TRIES {
        let probing = AssertUnwindSafe(prober.probe(&probe, right_ends_at, &admission));
        if let Ok(Found { outcome, rtt }) = probing.catch_unwind().await {
            return Settled { id: probe.id, outcome, rtt };
        }
        tracing::error!(target = %probe.target, "a probe panicked");
        prober.restart();
    }
    Settled { id: probe.id, outcome: Outcome::not_probed(Cause::InternalError), rtt: None }
}

/// What is settled and not yet with the owner.
struct Outbox {
    kind: ProbeKind,
    to: Recipient<SettledBatch>,
    held: Vec<Settled>,
    /// Runs out when the oldest of `held` has waited long enough.
    due: Option<std::pin::Pin<Box<tokio::time::Sleep>>>,
    /// The message on its way.
    sending: Option<LocalBoxFuture<'static, bool>>,
}

/// What [`Outbox::progress`] came to.
enum Progress {
    /// The owner took a message.
    Sent,
    /// The oldest outcome has waited long enough.
    Due,
    /// The owner takes nothing any more.
    OwnerGone,
}

impl Outbox {
    fn is_empty(&self) -> bool {
        self.held.is_empty() && self.sending.is_none()
    }

    /// Sends what is held if it is worth a message, or `now`; unless one is on its way still. Else sees to it that it is not forgotten.
    fn flush(&mut self, now: bool) {
        if self.sending.is_some() || self.held.is_empty() {
            return;
        }
        if !now && self.held.len() < FLUSH_AT {
            self.due.get_or_insert_with(|| Box::pin(tokio::time::sleep(FLUSH_AFTER)));
            return;
        }
        self.due = None;
        let settled = self.held.drain(..self.held.len().min(SETTLED_MAX)).collect();
        let request = self.to.send(SettledBatch { kind: self.kind, overdue: Vec::new(), settled });
        let taken = tokio::time::timeout(OWNER_TIMEOUT, request).map(|answer| matches!(answer, Ok(Ok(()))));
        self.sending = Some(taken.boxed_local());
    }

    /// Ends when there is something to do again; never, if nothing is held. Dropped and called again, it loses nothing.
    async fn progress(&mut self) -> Progress {
        if let Some(sending) = &mut self.sending {
            let taken = sending.await;
            self.sending = None;
            return if taken { Progress::Sent } else { Progress::OwnerGone };
        }
        let due = match &mut self.due {
            Some(due) => Either::Left(due),
            None => Either::Right(pending()),
        };
        due.await;
        self.flush(true);
        Progress::Due
    }
}
