//! What an engine's threads settled, to the supervisor's owner: one message at a time; what comes meanwhile goes with the next.

use super::driver::{Ended, OWNER_TIMEOUT, Obituary, SETTLED_MAX};
use super::{Owner, SettledBatch};
use crate::probe::engine::{InHand, Up};
use protocol::probe::ProbeKind;
use tokio::sync::mpsc;

/// Runs until every thread has ended, one has died, or the owner is gone.
pub(super) async fn forward(kind: ProbeKind, mut up: mpsc::Receiver<Up>, in_hand: InHand, owner: Owner) -> Ended {
    let _obituary = Obituary::new(kind, owner.died);
    while let Some(first) = up.recv().await {
        let (mut next, mut overdue, mut settled) = (Some(first), Vec::new(), Vec::new());
        while let Some(message) = next.take() {
            match message {
                Up::Settled { thread, overdue: late, settled: some } => {
                    in_hand.came_back(thread, some.len());
                    overdue.extend(late);
                    settled.extend(some);
                }
                Up::Died => return Ended::Died,
            }
            if settled.len() < SETTLED_MAX {
                next = up.try_recv().ok();
            }
        }
        let sent = owner.settled.send(SettledBatch { kind, overdue, settled });
        if !matches!(tokio::time::timeout(OWNER_TIMEOUT, sent).await, Ok(Ok(()))) {
            return Ended::OwnerGone;
        }
    }
    Ended::LetGo
}
