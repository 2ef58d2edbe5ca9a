//! The user who drains agents and gives them work again.
//!
//! - O14: an agent that is drained is granted nothing.

use super::*;

/// How long one is drained: the scan must not give up what it alone may probe.
const DRAINED_MS: (u64, u64) = (100, 20_000);

impl World {
    pub(super) fn populate_drains(&mut self) {
        for _ in 0..self.faults.user_drains {
            let (at, agent) = (self.random.millis(0, 8_000), self.random.next() as usize % self.agents.len());
            let length = self.random.millis(DRAINED_MS.0, DRAINED_MS.1);
            self.after(at, Happening::SetDrained(agent, true));
            self.after(at + length, Happening::SetDrained(agent, false));
        }
    }

    pub(super) fn set_drained(&mut self, agent: usize, drained: bool) {
        if drained {
            self.drained.insert(agent);
            let instance = self.agents[agent].instance;
            let at_work = self.leases().iter().any(|lease| lease.holder == Some(instance));
            self.reached.drained_at_work += u64::from(at_work && self.agents[agent].machine.is_some());
        } else {
            self.drained.remove(&agent);
        }
        self.tell_drained();
    }

    /// As is done after each change of the roster, and at a coordinator's start.
    pub(super) fn tell_drained(&mut self) {
        let names = self.drained.iter().map(|agent| format!("agent-{agent}")).collect();
        self.coordinator_gets(Input::Drained(names));
    }

    pub(super) fn look_at_grant(&mut self, agent: usize) {
        if self.drained.contains(&agent) {
            self.broke(format!("O14: agent {agent} is drained, and is granted work"));
        }
    }
}
