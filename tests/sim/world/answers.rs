//! What is said in which session, and the deliberate bugs about that.

use super::*;
use protocol::message::{Claim, Control};
use protocol::rate::Rate;

impl World {
    pub(super) fn coordinator_hears(&mut self, session: SessionId, message: AgentMessage) {
        let number = match &message {
            AgentMessage::Claim(Claim { number, .. }) | AgentMessage::Renew { number, .. } => Some(*number),
            _ => None,
        };
        if let Some(number) = number.filter(|_| self.closed.contains(&session)) {
            self.reached.renewals_after_a_right += 1;
            if self.bug == Some(Bug::EndedRightRevived) {
                return self.coordinator_sends(session, CoordinatorMessage::Answered { number });
            }
        }
        if let AgentMessage::Claim(_) = &message {
            self.claimed.insert(session);
        }
        let said_hello = matches!(message, AgentMessage::Hello(_));
        let message = if self.bug == Some(Bug::OldClaimsHonoured) { later(message) } else { message };
        self.coordinator_gets(Input::Message(session, Box::new(message)));
        if said_hello && self.bug == Some(Bug::OldClaimsHonoured) {
            let of = self.links.get(&session).and_then(|link| self.agents[link.agent].claim.clone());
            if let Some((_, claim)) = of.filter(|(of, _)| *of != session) {
                let claim = AgentMessage::Claim(Claim { number: 1, ..claim });
                self.coordinator_gets(Input::Message(session, Box::new(claim)));
            }
        }
    }

    /// What the coordinator says, before it is on its way.
    pub(super) fn look_at_answer(&mut self, session: SessionId, message: &CoordinatorMessage) {
        let agent = self.links.get(&session).map(|link| link.agent);
        match message {
            CoordinatorMessage::Answered { .. } if self.closed.contains(&session) => {
                self.broke("O16: a right that ended is answered".into());
            }
            CoordinatorMessage::Grant(grant) => {
                if !self.claimed.contains(&session) {
                    self.broke("O15: work is granted in a session that claimed none".into());
                }
                if let Some(agent) = agent.filter(|_| self.bug == Some(Bug::PacerRestartsWithALease)) {
                    self.restart_pacer(agent, session, grant.scan);
                }
            }
            CoordinatorMessage::Control(control) => self.was_told(agent, control),
            CoordinatorMessage::Welcome(welcome) => welcome.controls.iter().for_each(|it| self.was_told(agent, it)),
            _ => {}
        }
    }

    fn was_told(&mut self, agent: Option<usize>, control: &Control) {
        if let Some(agent) = agent {
            self.agents[agent].told.insert(control.scan, control.clone());
        }
    }

    /// A deliberate bug: a share that is taken away and given again begins with what a new one has.
    fn restart_pacer(&mut self, agent: usize, session: SessionId, scan: ScanId) {
        let Some(told) = self.agents[agent].told.get(&scan).cloned() else { return };
        if told.share.is_none_or(|share| share == Rate::ZERO) {
            return;
        }
        for control in [Control { share: None, ..told.clone() }, told] {
            let at = self.links.get(&session).map_or(self.now, |link| link.to_agent_at);
            let message = Some(CoordinatorMessage::Control(control));
            self.at(at, Happening::ToAgent { session, message });
        }
    }

    /// A deliberate bug: what agents still hold of a scan that is cancelled counts as given back.
    pub(super) fn delete_leases(&mut self) {
        for lease in self.store.leases(SCAN).unwrap_or_default() {
            let covered = protocol::covers::count(&lease.covers, lease.shard.lo, lease.shard.hi) as usize;
            let chunk = protocol::chunk::encode(&vec![Outcome::not_probed(Cause::Interrupted); covered]);
            let commit = Commit { scan: SCAN, epoch: lease.epoch, chunk, findings: Vec::new() };
            let _gone = self.store.commit(&commit);
        }
    }
}

/// The same, to a coordinator that heard one claim more in this session.
fn later(message: AgentMessage) -> AgentMessage {
    match message {
        AgentMessage::Claim(claim) => AgentMessage::Claim(Claim { number: claim.number + 1, ..claim }),
        AgentMessage::Renew { number, used, rtt_us } => AgentMessage::Renew { number: number + 1, used, rtt_us },
        message => message,
    }
}
