//! A prober in a world that is made up: it waits as the world's network would, and uses no sockets.

use super::Found;
use crate::scope::{Admission, Admitted};
use agent_core::attempt::Probe;
pub use agent_core::simulated::{Truth, World};
use protocol::probe::{Outcome, Slot, Target};
use protocol::time::Time;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// Asks a [`World`], and remembers whom it asked.
#[derive(Debug)]
pub struct SimulatedProber {
    world: Arc<World>,
    sends: RefCell<HashMap<Target, u32>>,
    forgets: bool,
}

impl SimulatedProber {
    /// A prober in `world` that has sent nothing yet.
    #[must_use]
    pub fn new(world: Arc<World>) -> Self {
        Self { world, sends: RefCell::new(HashMap::new()), forgets: false }
    }

    /// One that takes every try for the first, and needs no memory for whom it asked.
    #[must_use]
    pub fn forgetful(world: Arc<World>) -> Self {
        Self { forgets: true, ..Self::new(world) }
    }

    /// How many times a target was sent to.
    #[must_use]
    pub fn sends(&self, target: Target) -> u32 {
        self.sends.borrow().get(&target).copied().unwrap_or(0)
    }

    pub(super) async fn probe(&self, probe: &Probe, right_ends_at: Time, admission: &Admission) -> Found {
        let admitted = match admission.admit(probe.scan, probe.target.address, right_ends_at) {
            Ok(admitted) => admitted,
            Err(refusal) => return Found::silent(refusal.outcome()),
        };
        let try_number = self.send(&admitted, probe.target);
        if matches!(self.world.truth(probe.target), Truth::Panics(tries) if try_number <= tries) {
            std::panic::panic_any("a simulated prober panics where it is told to");
        }
        let (outcome, rtt) = self.world.answer(probe.target, try_number);
        match rtt {
            Some(rtt) if rtt < probe.wait.timeout => {
                tokio::time::sleep(rtt).await;
                Found { outcome, rtt: Some(rtt) }
            }
            _ => {
                tokio::time::sleep(probe.wait.timeout).await;
                Found::silent(if probe.target.slot == Slot::Ping { Outcome::DOWN } else { Outcome::FILTERED })
            }
        }
    }

    fn send(&self, admitted: &Admitted, target: Target) -> u32 {
        debug_assert_eq!(admitted.address(), target.address.to_canonical());
        if self.forgets {
            return 1;
        }
        let mut sends = self.sends.borrow_mut();
        let count = sends.entry(target).or_insert(0);
        *count += 1;
        *count
    }
}
