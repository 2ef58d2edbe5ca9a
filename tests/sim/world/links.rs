//! Simulated links: FIFO sessions with latency, that can be cut, held and broken.

use super::*;

impl World {
    pub(super) fn dial(&mut self, agent: usize, life: u64) {
        let up = self.coordinator.is_some() && self.agents[agent].cut_until <= self.now;
        if self.agents[agent].life != life || self.agents[agent].session.is_some() {
            return;
        }
        if !up {
            let again = self.random.millis(50, 1_000);
            return self.after(again, Happening::Dial { agent, life });
        }
        self.last_session += 1;
        let session = SessionId(self.last_session);
        self.links.insert(session, Link { agent, life, to_coordinator_at: self.now, to_agent_at: self.now });
        self.agents[agent].session = Some(session);
        self.coordinator_gets(Input::Opened(session));
        self.agent_gets(agent, AgentInput::Connected);
    }

    /// A FIFO link: nothing overtakes, and a cut holds what is on its way until it mends or the session is given up.
    pub(super) fn arrival(&mut self, agent: usize, last: Time) -> Time {
        let (low, high) = self.faults.latency;
        let travels = self.random.millis(low, high);
        let cut = self.agents[agent].cut_until;
        (self.now + travels).max(last).max(cut)
    }

    pub(super) fn coordinator_sends(&mut self, session: SessionId, message: CoordinatorMessage) {
        if let CoordinatorMessage::Committed { epoch, reply: CommitReply::Applied } = message {
            if !self.is_taken(epoch) {
                self.broke(format!("O3: the reply to lease {epoch} was sent before it was durable"));
            }
            self.announced.insert(epoch);
        }
        if let (Some(Bug::AcknowledgedForTheAgent), CoordinatorMessage::Control(control)) = (self.bug, &message) {
            let acknowledge = AgentMessage::Acknowledge { scan: control.scan, version: control.version };
            self.after(Duration::ZERO, Happening::ToCoordinator { session, message: Some(acknowledge) });
        }
        self.reached.given_back += u64::from(matches!(message, CoordinatorMessage::GiveBack { .. }));
        self.look_at_answer(session, &message);
        let message = match message {
            CoordinatorMessage::Welcome(mut welcome) if self.bug == Some(Bug::RightCountedFromTheAnswer) => {
                // The question and its answer take so long at most, while nothing is cut.
                welcome.ttl_ms += 2 * self.faults.latency.1 as u32;
                CoordinatorMessage::Welcome(welcome)
            }
            CoordinatorMessage::Answered { number } if self.bug == Some(Bug::OldClaimsHonoured) => {
                CoordinatorMessage::Answered { number: number - 1 }
            }
            CoordinatorMessage::GiveBack { epoch } if self.bug == Some(Bug::GivenBackInOneStep) => {
                self.give_back_at_once(session, epoch);
                CoordinatorMessage::GiveBack { epoch }
            }
            CoordinatorMessage::Grant(mut grant) => {
                if let Some(agent) = self.links.get(&session).map(|link| link.agent) {
                    self.look_at_grant(agent);
                }
                grant.options.timeout_ms = 900;
                CoordinatorMessage::Grant(grant)
            }
            message => message,
        };
        let message = through_codec(&message);
        let Some(link) = self.links.get(&session) else {
            return;
        };
        let at = self.arrival(link.agent, link.to_agent_at);
        if let Some(link) = self.links.get_mut(&session) {
            link.to_agent_at = at;
        }
        self.at(at, Happening::ToAgent { session, message: Some(message) });
    }

    pub(super) fn agent_sends(&mut self, agent: usize, message: &AgentMessage) {
        match (message, self.agents[agent].session) {
            (AgentMessage::Hello(hello), _) => self.agents[agent].hello = Some(hello.clone()),
            (AgentMessage::Claim(claim), Some(session)) => self.agents[agent].claim = Some((session, claim.clone())),
            _ => {}
        }
        let message = through_codec(message);
        let Some((session, last)) =
            self.agents[agent].session.and_then(|session| Some((session, self.links.get(&session)?.to_coordinator_at)))
        else {
            return;
        };
        let at = self.arrival(agent, last);
        if let Some(link) = self.links.get_mut(&session) {
            link.to_coordinator_at = at;
        }
        self.at(at, Happening::ToCoordinator { session, message: Some(message) });
    }

    /// One end is gone: the other learns it later, and what is on its way to the closing end is lost.
    pub(super) fn close(&mut self, session: SessionId, by_coordinator: bool) {
        let Some(link) = self.links.get(&session) else {
            return;
        };
        let agent = link.agent;
        if by_coordinator {
            let at = self.arrival(agent, link.to_agent_at);
            self.at(at, Happening::ToAgent { session, message: None });
        } else {
            let at = self.arrival(agent, link.to_coordinator_at);
            self.agents[agent].session = None;
            self.at(at, Happening::ToCoordinator { session, message: None });
        }
    }

    pub(super) fn arrives_at_coordinator(&mut self, session: SessionId, message: Option<AgentMessage>) {
        if !self.links.contains_key(&session) {
            return;
        }
        match message {
            Some(message) => self.coordinator_hears(session, message),
            None => {
                self.coordinator_gets(Input::Closed(session));
                if self.bug == Some(Bug::LostConnectionFreesLeases) {
                    self.lets_go_for_the_agent(session);
                }
            }
        }
    }

    /// A deliberate bug: what is asked back counts as given back, whatever its holder does with it.
    fn give_back_at_once(&mut self, session: SessionId, epoch: Epoch) {
        let Some(lease) = self.leases().into_iter().find(|lease| lease.epoch == epoch) else { return };
        let covered = protocol::covers::count(&lease.covers, lease.shard.lo, lease.shard.hi) as usize;
        let chunk = protocol::chunk::encode(&vec![Outcome::not_probed(Cause::Interrupted); covered]);
        let report =
            protocol::message::Report { epoch, chunk, findings: Vec::new(), checks: Default::default(), quiet_ms: 0 };
        let message = Some(AgentMessage::Report(report));
        self.after(Duration::ZERO, Happening::ToCoordinator { session, message });
    }

    /// A deliberate bug: what a lost connection's instance holds is taken for let go.
    fn lets_go_for_the_agent(&mut self, lost: SessionId) {
        let Some(hello) = self.links.get(&lost).and_then(|link| self.agents[link.agent].hello.clone()) else { return };
        self.lets_go(hello);
    }

    pub(super) fn lets_go(&mut self, hello: protocol::message::Hello) {
        self.last_session += 1;
        let session = SessionId(self.last_session);
        let message = AgentMessage::Hello(protocol::message::Hello { holds: Vec::new(), ..hello });
        self.coordinator_gets(Input::Opened(session));
        self.coordinator_gets(Input::Message(session, Box::new(message)));
        self.coordinator_gets(Input::Closed(session));
    }

    pub(super) fn arrives_at_agent(&mut self, session: SessionId, message: Option<CoordinatorMessage>) {
        let Some(link) = self.links.get(&session) else {
            return;
        };
        let (agent, life) = (link.agent, link.life);
        if self.agents[agent].life != life || self.agents[agent].session != Some(session) {
            return;
        }
        match message {
            Some(message) => self.agent_gets(agent, AgentInput::Message(Box::new(message))),
            None => {
                self.links.remove(&session);
                self.agents[agent].session = None;
                self.agent_gets(agent, AgentInput::Disconnected);
                self.redial(agent);
            }
        }
    }

    pub(super) fn redial(&mut self, agent: usize) {
        let (delay, life) = (self.random.millis(10, 500), self.agents[agent].life);
        self.after(delay, Happening::Dial { agent, life });
    }

    pub(super) fn cut(&mut self, agent: usize, length: Duration) {
        self.reached.cuts += 1;
        self.agents[agent].cut_until = self.now + length;
        // A long cut breaks the connection at both ends, each in its own time.
        if self.random.chance(50)
            && let Some(session) = self.agents[agent].session
        {
            self.close(session, true);
        }
    }
}

/// Every message goes through the codec, so that what cannot be framed is found here.
fn through_codec<M: serde::Serialize + serde::de::DeserializeOwned>(message: &M) -> M {
    let bytes = codec::encode(message).expect("it fits in a frame");
    codec::decode(&bytes).expect("it is what was encoded")
}
