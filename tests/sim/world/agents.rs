//! Simulated agents: each its own clock, its probes, crashes and stops. What is true of a target the simulated network says.

use super::*;

impl World {
    pub(super) fn local(&self, agent: usize) -> Time {
        let agent = &self.agents[agent];
        let stopped = if self.bug == Some(Bug::ClockStopsInSuspend) { agent.stopped_for } else { 0 };
        Time::from_nanos(
            agent.offset + ((self.now.as_nanos() - stopped.min(self.now.as_nanos())) as f64 * agent.rate) as u64,
        )
    }

    pub(super) fn agent_gets(&mut self, agent: usize, input: AgentInput) {
        let now = self.local(agent);
        if let Some(machine) = &mut self.agents[agent].machine {
            machine.handle_input(now, input);
        }
        self.drain_agent(agent);
    }

    pub(super) fn agent_timeout(&mut self, agent: usize) {
        self.agents[agent].armed = None;
        let now = self.local(agent);
        if self.bug == Some(Bug::WakeUpLeftInThePast) && self.random.chance(1) {
            // Not acted on.
        } else if let Some(machine) = &mut self.agents[agent].machine {
            machine.handle_timeout(now);
        }
        self.drain_agent(agent);
        if let Some(at) = self.agents[agent].machine.as_ref().and_then(Agent::poll_timeout).filter(|&at| at <= now) {
            self.broke(format!("O7: agent {agent} wants to be woken at {at:?}, which is past"));
        }
    }

    pub(super) fn drain_agent(&mut self, agent: usize) {
        let life = self.agents[agent].life;
        while let Some(output) = self.agents[agent].machine.as_mut().and_then(Agent::poll_output) {
            match output {
                AgentOutput::Send(message) => self.agent_sends(agent, &message),
                AgentOutput::Probe(batch) => {
                    for probe in batch.probes {
                        let delay = self.random.millis(0, 3);
                        self.after(delay, Happening::Send { agent, life, probe, right_ends_at: batch.right_ends_at });
                    }
                }
                AgentOutput::Redial => {
                    if let Some(session) = self.agents[agent].session {
                        self.close(session, false);
                    }
                    self.redial(agent);
                }
                AgentOutput::Orders(orders) => {
                    let delay = self.random.millis(0, 3);
                    if self.bug == Some(Bug::AcknowledgedBeforeInForce) {
                        self.after(Duration::ZERO, Happening::InForceTooEarly { agent, life, number: orders.number });
                    }
                    self.after(delay, Happening::Ordered { agent, life, orders });
                }
                AgentOutput::Finished => {
                    let down = self.random.millis(10, 3_000);
                    self.after(down, Happening::Gone { agent, life });
                }
            }
        }
        let now = self.local(agent);
        let wanted = self.agents[agent].machine.as_ref().and_then(Agent::poll_timeout);
        let wait = |at: Time| at.since(now).div_f64(self.agents[agent].rate) + Duration::from_nanos(2);
        let wanted = wanted.map(|at| (at, wait(at)));
        self.agents[agent].armed = self.arm(self.agents[agent].armed, wanted, Happening::AgentTimer { agent, life });
    }

    pub(super) fn send_probe(&mut self, agent: usize, life: u64, probe: Probe, right_ends_at: Time) {
        if self.agents[agent].life != life {
            return;
        }
        if self.local(agent) >= right_ends_at && self.bug != Some(Bug::BatchWithoutDeadline) {
            self.reached.refused_at_send += 1;
            let settled = Settled { id: probe.id, outcome: Outcome::not_probed(Cause::Interrupted), rtt: None };
            return self.after(Duration::ZERO, Happening::Answer { agent, life, settled });
        }
        if let Some(orders) = self.agents[agent].orders.scans.get(&probe.scan)
            && self.bug != Some(Bug::OrdersIgnoredAtSend)
        {
            let outcome = match orders {
                orders if orders.exclude.contains(probe.target.address) => Some(Cause::Excluded),
                orders if orders.run != Run::Go => Some(Cause::Interrupted),
                _ => None,
            };
            if let Some(cause) = outcome {
                self.reached.halted_at_send += 1;
                let settled = Settled { id: probe.id, outcome: Outcome::not_probed(cause), rtt: None };
                return self.after(Duration::ZERO, Happening::Answer { agent, life, settled });
            }
        }
        let instance = self.agents[agent].instance;
        let leases = self.store.leases(probe.scan).unwrap_or_default();
        let holder = leases.iter().find(|lease| lease.epoch == probe.id.epoch).and_then(|lease| lease.holder);
        if holder != Some(instance) {
            self.broke(format!(
                "O1: agent {agent} probes {} under lease {}, which is not its own",
                probe.target, probe.id.epoch
            ));
        }
        let host = Target { slot: Slot::Ping, ..probe.target };
        let is_main = probe.scan == SCAN;
        if is_main
            && self.plan.slots().discover()
            && probe.target != host
            && !self.network.expected(host).is_sign_of_life()
        {
            self.broke(format!("O8: agent {agent} probes {}, a port of a host that is down", probe.target));
        }
        if is_main {
            self.look_at_send(probe.target);
        }
        if !self.allow(agent).contains(probe.target.address) {
            self.broke(format!("O12: agent {agent} probes {}, which its allow-list does not hold", probe.target));
        }
        if let Some(other) = self.in_flight.insert(probe.target, (agent, life, probe.id.epoch)) {
            let this = (agent, life, probe.id.epoch);
            self.broke(format!("O2: {} is in flight from {this:?} and from {other:?}", probe.target));
        }
        if self.lethal == Some(probe.target) {
            self.reached.killed_by_a_target += 1;
            self.after(Duration::from_millis(1), Happening::CrashAgent(agent));
        }
        let tries = self.sent.entry(probe.target).or_default();
        *tries += 1;
        let (outcome, rtt) = self.network.answer(probe.target, *tries);
        let rtt = rtt.map(|rtt| rtt * self.agents[agent].slowness);
        self.record_send(agent, probe.target);
        self.after(rtt.unwrap_or(probe.wait.timeout), Happening::Landed(probe.target));
        self.after(
            rtt.unwrap_or(probe.wait.timeout),
            Happening::Answer { agent, life, settled: Settled { id: probe.id, outcome, rtt } },
        );
    }

    /// The orders reach those who send, and hold from now on.
    pub(super) fn ordered(&mut self, agent: usize, life: u64, orders: Orders) {
        if self.agents[agent].life != life {
            return;
        }
        let number = orders.number;
        if number > self.agents[agent].orders.number {
            self.agents[agent].orders = orders;
        }
        self.agent_gets(agent, AgentInput::InForce(number));
    }

    pub(super) fn answer(&mut self, agent: usize, life: u64, settled: Settled) {
        if self.agents[agent].life == life {
            self.agent_gets(agent, AgentInput::Settled(vec![settled]));
        }
    }

    pub(super) fn start_agent(&mut self, agent: usize) {
        let now = self.local(agent);
        let instance = InstanceId::new(self.random.next());
        let allow = self.told_allow(agent);
        let started = (self.since_start(), agent);
        if let Some(timeline) = &mut self.timeline {
            timeline.started.push(started);
        }
        let sim = &mut self.agents[agent];
        sim.life += 1;
        sim.instance = instance;
        sim.orders = Orders::default();
        let name = |text: String| AgentName::try_from(text).expect("a plain name");
        let identity = Identity {
            name: name(format!("agent-{agent}")),
            vantage: name("here".into()),
            instance,
            software: "0".into(),
            ping_method: PingMethod::Icmp,
            allow,
            window_max: self.window,
        };
        sim.machine = Some(Agent::new(now, identity));
        let life = sim.life;
        self.after(Duration::ZERO, Happening::Dial { agent, life });
    }

    /// The allow-list of an agent. The first may probe everything; the others, where they are narrow, one half each.
    pub(super) fn allow(&self, agent: usize) -> AddressSet {
        let mut allow = AddressSet::new();
        if agent == 0 || !self.faults.narrow {
            allow.insert_net("192.0.0.0/16".parse().expect("a network"));
            return allow;
        }
        let hosts = self.plan.addresses().len() as u32;
        let half = (0..hosts).filter(|host| (*host < hosts / 2) == agent.is_multiple_of(2));
        half.map(|host| Scene::target(host, 1).address).collect()
    }

    fn told_allow(&self, agent: usize) -> AddressSet {
        if self.bug == Some(Bug::AllowListIgnored) { self.allow(0) } else { self.allow(agent) }
    }

    /// SIGTERM: it reports what there is and goes; another process of it comes.
    pub(super) fn drain_out(&mut self, agent: usize) {
        if self.agents[agent].machine.is_some() {
            self.reached.drains += 1;
            self.agent_gets(agent, AgentInput::Drain);
        }
    }

    pub(super) fn crash_agent(&mut self, agent: usize) {
        if self.agents[agent].machine.take().is_none() {
            return;
        }
        self.reached.agent_crashes += 1;
        self.note(2);
        if let Some(session) = self.agents[agent].session {
            self.close(session, false);
        }
        // What it sent is on its way to the targets, and the answers find nobody.
        self.agents[agent].life += 1;
        self.agents[agent].frozen_until = self.now;
        let old = self.agents[agent].instance;
        let held = self.leases().iter().any(|lease| lease.holder == Some(old));
        self.reached.two_live_instances += u64::from(held);
        if self.agents[agent].stays_away {
            return;
        }
        let down = self.random.millis(10, 8_000);
        self.after(down, Happening::StartAgent(agent));
        if self.bug == Some(Bug::NewInstanceFreesLeases)
            && let Some(hello) = self.agents[agent].hello.clone()
        {
            self.after(down + Duration::from_millis(1), Happening::LetsGo(Box::new(hello)));
        }
    }

    pub(super) fn freeze(&mut self, agent: usize, length: Duration) {
        if self.agents[agent].machine.is_none() || self.agents[agent].frozen_until > self.now {
            return;
        }
        self.reached.freezes_past_a_right += u64::from(length > self.settings.ttl);
        self.agents[agent].frozen_until = self.now + length;
        self.agents[agent].stopped_for += length.as_nanos() as u64;
    }
}
