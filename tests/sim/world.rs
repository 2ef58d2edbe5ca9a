//! The simulated world: virtual time, disks, links, agents, and the oracles.
//!
//! Oracles, checked as things happen or at the end:
//! - O1: a probe is sent only under a lease that the store still accounts to the sender's instance.
//! - O2: no target is in flight from two senders at once.
//! - O3: what was announced (an event, a reply) is durable at that instant, and stays through crashes.
//! - O4: every target is probed, and each ends in the state that is the truth.
//! - O5: the store's audit passes at every crash and at the end.
//! - O6: once the faults end, the scan finishes.
//! - O7: nobody asks to be woken in the past.

use crate::faults::{Bug, Faults, Random};
use agent_core::agent::{Agent, Identity, Input as AgentInput, Output as AgentOutput};
use agent_core::attempt::{Probe, Settled};
use coordinator_core::coordinator::{Coordinator, Event, Input, Output, RequestId, Resumed, SessionId};
use coordinator_core::rows;
use coordinator_core::settings::Settings;
use coordinator_core::store::memory::MemoryStore;
use coordinator_core::store::{Commit, Committed, ScanRecord, ScanStatus, Store, StoreReply, StoreRequest};
use protocol::codec;
use protocol::id::{AgentName, Epoch, InstanceId, ScanId};
use protocol::message::{AgentMessage, CommitReply, CoordinatorMessage, PingMethod, ProbeOptions};
use protocol::plan::{Plan, PlanParts, Slots};
use protocol::probe::{Cause, Outcome, Slot, State, Target};
use protocol::range_set::{AddressSet, RankedRanges};
use protocol::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

const SCAN: ScanId = ScanId::from_bytes([1; 16]);
/// Far beyond what any run takes once it has healed.
const END: Duration = Duration::from_secs(1_200);

/// What a run came by. A run of many seeds that missed one of these proves less than it seems to.
#[derive(Debug, Default, Clone)]
pub struct Reached {
    coordinator_crashes: u64,
    agent_crashes: u64,
    cuts: u64,
    freezes_past_a_right: u64,
    refused_at_send: u64,
    fenced_or_duplicate: u64,
    late_reports_of_returned_leases: u64,
    two_live_instances: u64,
    leases_made_for_nobody: u64,
    virtual_seconds: u64,
}

impl Reached {
    fn fields(&self) -> [(&'static str, u64); 9] {
        [
            ("coordinator_crashes", self.coordinator_crashes),
            ("agent_crashes", self.agent_crashes),
            ("cuts", self.cuts),
            ("freezes_past_a_right", self.freezes_past_a_right),
            ("refused_at_send", self.refused_at_send),
            ("fenced_or_duplicate", self.fenced_or_duplicate),
            ("late_reports_of_returned_leases", self.late_reports_of_returned_leases),
            ("two_live_instances", self.two_live_instances),
            ("leases_made_for_nobody", self.leases_made_for_nobody),
        ]
    }

    pub fn missing(&self) -> Vec<&'static str> {
        self.fields().into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
    }

    pub fn add(&mut self, other: &Self) {
        self.coordinator_crashes += other.coordinator_crashes;
        self.agent_crashes += other.agent_crashes;
        self.cuts += other.cuts;
        self.freezes_past_a_right += other.freezes_past_a_right;
        self.refused_at_send += other.refused_at_send;
        self.fenced_or_duplicate += other.fenced_or_duplicate;
        self.late_reports_of_returned_leases += other.late_reports_of_returned_leases;
        self.two_live_instances += other.two_live_instances;
        self.leases_made_for_nobody += other.leases_made_for_nobody;
        self.virtual_seconds += other.virtual_seconds;
    }
}

/// A run that kept every promise.
#[derive(Debug)]
pub struct Ran {
    pub reached: Reached,
    pub targets: u64,
    pub sent: u64,
    pub log: u64,
}

enum Happening {
    CoordinatorTimer { life: u64 },
    AgentTimer { agent: usize, life: u64 },
    ToCoordinator { session: SessionId, message: Option<AgentMessage> },
    ToAgent { session: SessionId, message: Option<CoordinatorMessage> },
    Dial { agent: usize, life: u64 },
    StoreCarriesOut { life: u64, id: RequestId, request: StoreRequest },
    StoreAnswers { life: u64, id: RequestId, reply: StoreReply },
    Send { agent: usize, life: u64, probe: Probe, right_ends_at: Time },
    /// The answer came, or its time is up: nothing is on the wire any more.
    Landed(Target),
    Answer { agent: usize, life: u64, settled: Settled },
    CrashCoordinator,
    StartCoordinator,
    CrashAgent(usize),
    StartAgent(usize),
    Cut(usize, Duration),
    Freeze(usize, Duration),
}

struct SimAgent {
    machine: Option<Agent>,
    instance: InstanceId,
    life: u64,
    session: Option<SessionId>,
    cut_until: Time,
    frozen_until: Time,
    /// This machine's clock is `offset + elapsed × rate`.
    offset: u64,
    rate: f64,
    stopped_for: u64,
}

struct Link {
    agent: usize,
    life: u64,
    to_coordinator_at: Time,
    to_agent_at: Time,
}

pub struct World {
    now: Time,
    queue: BTreeMap<(Time, u64), Happening>,
    sequence: u64,
    random: Random,
    faults: Faults,
    bug: Option<Bug>,
    coordinator: Option<Coordinator>,
    coordinator_life: u64,
    settings: Settings,
    store: MemoryStore,
    disk_free_at: Time,
    agents: Vec<SimAgent>,
    links: BTreeMap<SessionId, Link>,
    last_session: u64,
    plan: Plan,
    truth_seed: u64,
    sent: BTreeMap<Target, u64>,
    in_flight: BTreeMap<Target, (usize, u64)>,
    announced: BTreeSet<Epoch>,
    finished: Option<ScanStatus>,
    reached: Reached,
    log: u64,
    broken: Option<String>,
}

/// Runs one seed to its end.
pub fn run(seed: u64, faults: Faults, bug: Option<Bug>) -> Result<Ran, String> {
    let mut world = World::new(seed, faults, bug)?;
    while let Some(((at, _), happening)) = world.queue.pop_first() {
        world.now = at;
        if at > Time::ZERO + END {
            return Err("O6: the scan did not finish after everything had healed".into());
        }
        world.happen(happening);
        if let Some(broken) = world.broken.take() {
            return Err(broken);
        }
        if world.finished.is_some() {
            return world.judge();
        }
    }
    Err("O6: nothing more happens, and the scan is not finished".into())
}

impl World {
    fn new(seed: u64, faults: Faults, bug: Option<Bug>) -> Result<Self, String> {
        let mut random = Random::new(seed);
        let hosts = random.within(1, 200) as u32;
        let ports = random.within(1, 12) as u16;
        let mut addresses = AddressSet::new();
        for host in 0..hosts {
            addresses.insert(IpAddr::V4(Ipv4Addr::from(0xc000_0200 + host)));
        }
        let addresses = RankedRanges::try_from(&addresses).map_err(|error| error.to_string())?;
        let plan = Plan::new(addresses, Slots::new(random.chance(50), (1..=ports).collect()), seed).map_err(|error| error.to_string())?;
        let settings = Settings::default();
        settings.check(Duration::from_millis(900)).map_err(|error| error.to_string())?;
        let settings = if bug == Some(Bug::NoMargin) { Settings { margin: Duration::ZERO, ..settings } } else { settings };
        let mut world = Self {
            now: Time::ZERO,
            queue: BTreeMap::new(),
            sequence: 0,
            truth_seed: random.next(),
            random,
            bug,
            coordinator: Some(Coordinator::new(settings)),
            coordinator_life: 1,
            settings,
            store: MemoryStore::new(),
            disk_free_at: Time::ZERO,
            agents: Vec::new(),
            links: BTreeMap::new(),
            last_session: 0,
            plan,
            sent: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            announced: BTreeSet::new(),
            finished: None,
            reached: Reached::default(),
            log: 0,
            broken: None,
            faults,
        };
        world.populate();
        Ok(world)
    }

    fn populate(&mut self) {
        let options = ProbeOptions { timeout_ms: 900, window: 64 };
        let record = ScanRecord { id: SCAN, plan: PlanParts::from(&self.plan), options, status: ScanStatus::Running, request: String::new() };
        let faults = self.faults.clone();
        self.to_coordinator(Input::Submit(record));
        for agent in 0..faults.agents + faults.late_joiners {
            let drift = self.random.within(0, 2 * faults.drift_ppm) as f64 - faults.drift_ppm as f64;
            self.agents.push(SimAgent {
                machine: None,
                instance: InstanceId::new(0),
                life: 0,
                session: None,
                cut_until: Time::ZERO,
                frozen_until: Time::ZERO,
                offset: self.random.within(0, 1_000_000_000_000),
                rate: 1.0 + drift / 1e6,
                stopped_for: 0,
            });
            let starts = if agent < faults.agents { Duration::ZERO } else { self.random.millis(1, 5_000) };
            self.after(starts, Happening::StartAgent(agent));
        }
        let until = faults.until.as_millis() as u64;
        // Most runs last a few virtual seconds: half of the faults fall into these.
        let moment = |random: &mut Random| if random.chance(70) { random.millis(0, 4_000) } else { random.millis(0, until) };
        for _ in 0..faults.coordinator_crashes {
            let at = moment(&mut self.random);
            self.after(at, Happening::CrashCoordinator);
        }
        for _ in 0..faults.agent_crashes {
            let (at, agent) = (moment(&mut self.random), self.random.next() as usize % self.agents.len());
            self.after(at, Happening::CrashAgent(agent));
        }
        for _ in 0..faults.cuts {
            let (at, agent, length) = (moment(&mut self.random), self.random.next() as usize % self.agents.len(), self.random.millis(50, 30_000));
            self.after(at, Happening::Cut(agent, length));
        }
        for _ in 0..faults.freezes {
            let (at, agent, length) = (moment(&mut self.random), self.random.next() as usize % self.agents.len(), self.random.millis(50, 30_000));
            self.after(at, Happening::Freeze(agent, length));
        }
    }

    fn after(&mut self, delay: Duration, happening: Happening) {
        self.at(self.now + delay, happening);
    }

    fn at(&mut self, at: Time, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), happening);
    }

    fn broke(&mut self, what: String) {
        self.broken.get_or_insert_with(|| format!("{what} (at {:?})", self.now.since(Time::ZERO)));
    }

    fn note(&mut self, what: u64) {
        self.log = (self.log ^ what ^ self.now.as_nanos()).wrapping_mul(0x100_0000_01b3).rotate_left(17);
    }

    fn happen(&mut self, happening: Happening) {
        if let Some((agent, until)) = self.frozen(&happening) {
            self.note(agent as u64);
            return self.at(until, happening);
        }
        match happening {
            Happening::CoordinatorTimer { life } if life == self.coordinator_life => self.coordinator_timeout(),
            Happening::CoordinatorTimer { .. } => {}
            Happening::AgentTimer { agent, life } if self.agents[agent].life == life => self.agent_timeout(agent),
            Happening::AgentTimer { .. } => {}
            Happening::ToCoordinator { session, message } => self.arrives_at_coordinator(session, message),
            Happening::ToAgent { session, message } => self.arrives_at_agent(session, message),
            Happening::Dial { agent, life } => self.dial(agent, life),
            Happening::StoreCarriesOut { life, id, request } if life == self.coordinator_life => self.store_carries_out(id, &request),
            Happening::StoreCarriesOut { .. } => {}
            Happening::StoreAnswers { life, id, reply } if life == self.coordinator_life => self.to_coordinator(Input::Stored(id, reply)),
            Happening::StoreAnswers { .. } => {}
            Happening::Send { agent, life, probe, right_ends_at } => self.send_probe(agent, life, probe, right_ends_at),
            Happening::Landed(target) => {
                self.in_flight.remove(&target);
            }
            Happening::Answer { agent, life, settled } => self.answer(agent, life, settled),
            Happening::CrashCoordinator => self.crash_coordinator(),
            Happening::StartCoordinator => self.start_coordinator(),
            Happening::CrashAgent(agent) => self.crash_agent(agent),
            Happening::StartAgent(agent) => self.start_agent(agent),
            Happening::Cut(agent, length) => self.cut(agent, length),
            Happening::Freeze(agent, length) => self.freeze(agent, length),
        }
    }

    /// What a stopped process would do waits until it goes on; what it sent before is on its way.
    fn frozen(&self, happening: &Happening) -> Option<(usize, Time)> {
        let agent = match happening {
            Happening::AgentTimer { agent, .. } | Happening::Dial { agent, .. } | Happening::Send { agent, .. } | Happening::Answer { agent, .. } => *agent,
            Happening::ToAgent { session, .. } => self.links.get(session)?.agent,
            _ => return None,
        };
        (self.agents[agent].frozen_until > self.now).then_some((agent, self.agents[agent].frozen_until))
    }

    // The coordinator and its disk.

    fn to_coordinator(&mut self, input: Input) {
        let now = self.now;
        if let Some(coordinator) = &mut self.coordinator {
            coordinator.handle_input(now, input);
        }
        self.drain_coordinator();
    }

    fn coordinator_timeout(&mut self) {
        let now = self.now;
        if let Some(coordinator) = &mut self.coordinator {
            coordinator.handle_timeout(now);
        }
        self.drain_coordinator();
        if let Some(at) = self.coordinator.as_ref().and_then(Coordinator::poll_timeout).filter(|&at| at <= now) {
            self.broke(format!("O7: the coordinator wants to be woken at {at:?}, which is past"));
        }
    }

    fn drain_coordinator(&mut self) {
        while let Some(output) = self.coordinator.as_mut().and_then(Coordinator::poll_output) {
            match output {
                Output::Store(id, request) => self.ask_disk(id, request),
                Output::Send(session, message) => self.coordinator_sends(session, *message),
                Output::Close(session) => self.close(session, true),
                Output::Event(Event::Committed { outcomes, .. }) => self.note(outcomes.len() as u64),
                Output::Event(Event::Finished { status, .. }) => {
                    if self.store.scans().map(|scans| scans[0].status).ok() != Some(status) {
                        self.broke("O3: the end was announced before it was durable".into());
                    }
                    self.finished = Some(status);
                }
            }
        }
        if let Some(at) = self.coordinator.as_ref().and_then(Coordinator::poll_timeout) {
            let late = self.random.millis(0, 20);
            self.at(at + late, Happening::CoordinatorTimer { life: self.coordinator_life });
        }
    }

    fn ask_disk(&mut self, id: RequestId, request: StoreRequest) {
        let (low, high) = self.faults.disk;
        let takes = self.random.millis(low, high);
        self.disk_free_at = self.disk_free_at.max(self.now) + takes;
        let life = self.coordinator_life;
        if self.bug == Some(Bug::ReplyBeforeDurable) && let StoreRequest::Commit(_) = request {
            self.after(Duration::ZERO, Happening::StoreAnswers { life, id, reply: StoreReply::Committed(Committed::Applied) });
        }
        self.at(self.disk_free_at, Happening::StoreCarriesOut { life, id, request });
    }

    fn store_carries_out(&mut self, id: RequestId, request: &StoreRequest) {
        if let StoreRequest::Commit(commit) = request {
            self.look_at_commit(commit);
        }
        if self.bug == Some(Bug::StaleEpochAccepted) && let StoreRequest::Commit(commit) = request {
            self.force(commit);
        }
        match request.carry_out(&mut self.store) {
            Ok(_) if self.bug == Some(Bug::ReplyBeforeDurable) && matches!(request, StoreRequest::Commit(_)) => {}
            Ok(reply) => {
                let delay = self.random.millis(0, 5);
                self.after(delay, Happening::StoreAnswers { life: self.coordinator_life, id, reply });
            }
            Err(error) => self.broke(format!("the store refused what the machine asked: {error}")),
        }
    }

    fn look_at_commit(&mut self, commit: &Commit) {
        let leases = self.store.leases(SCAN).unwrap_or_default();
        match leases.iter().find(|lease| lease.epoch == commit.epoch) {
            Some(lease) => self.reached.late_reports_of_returned_leases += u64::from(lease.holder.is_none()),
            None => self.reached.fenced_or_duplicate += 1,
        }
    }

    /// The deliberate bug: whatever lease now covers the targets of a dead epoch, the report settles it.
    fn force(&mut self, commit: &Commit) {
        let leases = self.store.leases(SCAN).unwrap_or_default();
        if leases.iter().any(|lease| lease.epoch == commit.epoch) {
            return;
        }
        let count = leases.iter().find(|lease| protocol::chunk::decode(&commit.chunk, lease.shard.len()).is_ok()).map(|lease| lease.epoch);
        if let Some(epoch) = count {
            let _ = self.store.commit(&Commit { epoch, ..commit.clone() });
        }
    }

    fn crash_coordinator(&mut self) {
        if self.coordinator.take().is_none() {
            return;
        }
        self.reached.coordinator_crashes += 1;
        self.note(1);
        // The life ends: what waits for the disk is lost, timers and answers are void.
        self.coordinator_life += 1;
        self.disk_free_at = self.now;
        self.audit();
        let sessions: Vec<_> = self.links.keys().copied().collect();
        for session in sessions {
            self.close(session, true);
        }
        let down = self.random.millis(10, 15_000);
        self.after(down, Happening::StartCoordinator);
    }

    fn start_coordinator(&mut self) {
        let resumed = (|| -> Result<_, coordinator_core::store::StoreError> {
            let record = self.store.scans()?.remove(0);
            let (open, opened) = self.store.cohorts(SCAN)?;
            let mut progress = Vec::new();
            for number in 0..self.plan.cohorts() {
                for chunk in self.store.chunks(SCAN, number)? {
                    progress.extend(protocol::chunk::decode(&chunk.chunk, chunk.shard.len()).unwrap_or_default());
                }
            }
            Ok(Resumed { record, open, opened, leases: self.store.leases(SCAN)?, progress, agents: self.store.agents(SCAN)? })
        })();
        let settings = self.settings;
        match resumed {
            Ok(resumed) => {
                let no_wait = self.bug == Some(Bug::NoWaitAfterRestart);
                self.coordinator = Some(Coordinator::resume(settings, self.now, &[resumed], no_wait));
            }
            // It crashed before the scan was durable: nobody was told of it, so the user submits it again.
            Err(_) | Ok(_) if self.store.scans().is_ok_and(|scans| scans.is_empty()) => {}
            Err(error) => self.broke(format!("what is stored cannot be read: {error}")),
        }
        self.drain_coordinator();
    }

    fn audit(&mut self) {
        if self.store.scans().is_ok_and(|scans| scans.is_empty()) {
            return;
        }
        if let Err(error) = self.store.audit(SCAN) {
            self.broke(format!("O5: {error}"));
        }
        let mut stored = BTreeSet::new();
        for number in 0..self.plan.cohorts() {
            stored.extend(self.store.chunks(SCAN, number).unwrap_or_default().into_iter().map(|chunk| chunk.epoch));
        }
        if let Some(lost) = self.announced.difference(&stored).next() {
            self.broke(format!("O3: lease {lost} was announced as taken and is not stored"));
        }
    }

    // Links.

    fn dial(&mut self, agent: usize, life: u64) {
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
        self.to_coordinator(Input::Opened(session));
        self.to_agent(agent, AgentInput::Connected);
    }

    /// A FIFO link: nothing overtakes, and a cut holds what is on its way until it mends or the session is given up.
    fn arrival(&mut self, agent: usize, last: Time) -> Time {
        let (low, high) = self.faults.latency;
        let travels = self.random.millis(low, high);
        let cut = self.agents[agent].cut_until;
        (self.now + travels).max(last).max(cut)
    }

    fn coordinator_sends(&mut self, session: SessionId, message: CoordinatorMessage) {
        if let CoordinatorMessage::Committed { epoch, reply: CommitReply::Applied } = message {
            let stored = (0..self.plan.cohorts()).any(|number| self.store.chunks(SCAN, number).unwrap_or_default().iter().any(|chunk| chunk.epoch == epoch));
            if !stored {
                self.broke(format!("O3: the reply to lease {epoch} was sent before it was durable"));
            }
            self.announced.insert(epoch);
        }
        let message = through_codec(&message);
        let Some(link) = self.links.get(&session) else { return };
        let at = self.arrival(link.agent, link.to_agent_at);
        if let Some(link) = self.links.get_mut(&session) {
            link.to_agent_at = at;
        }
        self.at(at, Happening::ToAgent { session, message: Some(message) });
    }

    fn agent_sends(&mut self, agent: usize, message: &AgentMessage) {
        let message = through_codec(message);
        let Some((session, last)) = self.agents[agent].session.and_then(|session| Some((session, self.links.get(&session)?.to_coordinator_at))) else { return };
        let at = self.arrival(agent, last);
        if let Some(link) = self.links.get_mut(&session) {
            link.to_coordinator_at = at;
        }
        self.at(at, Happening::ToCoordinator { session, message: Some(message) });
    }

    /// One end is gone: the other learns it later, and what is on its way to the closing end is lost.
    fn close(&mut self, session: SessionId, by_coordinator: bool) {
        let Some(link) = self.links.get(&session) else { return };
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

    fn arrives_at_coordinator(&mut self, session: SessionId, message: Option<AgentMessage>) {
        if !self.links.contains_key(&session) {
            return;
        }
        match message {
            Some(message) => self.to_coordinator(Input::Message(session, Box::new(message))),
            None => self.to_coordinator(Input::Closed(session)),
        }
    }

    fn arrives_at_agent(&mut self, session: SessionId, message: Option<CoordinatorMessage>) {
        let Some(link) = self.links.get(&session) else { return };
        let (agent, life) = (link.agent, link.life);
        if self.agents[agent].life != life || self.agents[agent].session != Some(session) {
            return;
        }
        match message {
            Some(message) => self.to_agent(agent, AgentInput::Message(Box::new(message))),
            None => {
                self.links.remove(&session);
                self.agents[agent].session = None;
                self.to_agent(agent, AgentInput::Disconnected);
                self.redial(agent);
            }
        }
    }

    fn redial(&mut self, agent: usize) {
        let (delay, life) = (self.random.millis(10, 500), self.agents[agent].life);
        self.after(delay, Happening::Dial { agent, life });
    }

    fn cut(&mut self, agent: usize, length: Duration) {
        self.reached.cuts += 1;
        self.agents[agent].cut_until = self.now + length;
        // A long cut breaks the connection at both ends, each in its own time.
        if self.random.chance(50) && let Some(session) = self.agents[agent].session {
            self.close(session, true);
        }
    }

    // Agents and their probes.

    fn local(&self, agent: usize) -> Time {
        let agent = &self.agents[agent];
        let stopped = if self.bug == Some(Bug::ClockStopsInSuspend) { agent.stopped_for } else { 0 };
        Time::from_nanos(agent.offset + ((self.now.as_nanos() - stopped.min(self.now.as_nanos())) as f64 * agent.rate) as u64)
    }

    fn to_agent(&mut self, agent: usize, input: AgentInput) {
        let now = self.local(agent);
        if let Some(machine) = &mut self.agents[agent].machine {
            machine.handle_input(now, input);
        }
        self.drain_agent(agent);
    }

    fn agent_timeout(&mut self, agent: usize) {
        let now = self.local(agent);
        if let Some(machine) = &mut self.agents[agent].machine {
            machine.handle_timeout(now);
        }
        self.drain_agent(agent);
        if let Some(at) = self.agents[agent].machine.as_ref().and_then(Agent::poll_timeout).filter(|&at| at <= now) {
            self.broke(format!("O7: agent {agent} wants to be woken at {at:?}, which is past"));
        }
    }

    fn drain_agent(&mut self, agent: usize) {
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
                AgentOutput::Control(_) | AgentOutput::Finished => {}
            }
        }
        if let Some(at) = self.agents[agent].machine.as_ref().and_then(Agent::poll_timeout) {
            let wait = at.since(self.local(agent)).div_f64(self.agents[agent].rate) + Duration::from_nanos(2);
            let late = self.random.millis(0, 20);
            self.after(wait + late, Happening::AgentTimer { agent, life });
        }
    }

    fn send_probe(&mut self, agent: usize, life: u64, probe: Probe, right_ends_at: Time) {
        if self.agents[agent].life != life {
            return;
        }
        if self.local(agent) >= right_ends_at && self.bug != Some(Bug::BatchWithoutDeadline) {
            self.reached.refused_at_send += 1;
            let settled = Settled { id: probe.id, outcome: Outcome::not_probed(Cause::Interrupted), rtt: None };
            return self.after(Duration::ZERO, Happening::Answer { agent, life, settled });
        }
        let instance = self.agents[agent].instance;
        let leases = self.store.leases(SCAN).unwrap_or_default();
        if !leases.iter().any(|lease| lease.epoch == probe.id.epoch && lease.holder == Some(instance)) {
            self.broke(format!("O1: agent {agent} probes {} under lease {}, which is not its own", probe.target, probe.id.epoch));
        }
        if let Some(other) = self.in_flight.insert(probe.target, (agent, life)) {
            self.broke(format!("O2: {} is in flight from agent {agent} and from {other:?}", probe.target));
        }
        *self.sent.entry(probe.target).or_default() += 1;
        let (outcome, rtt) = self.truth(probe.target);
        self.after(rtt.unwrap_or(probe.timeout), Happening::Landed(probe.target));
        self.after(rtt.unwrap_or(probe.timeout), Happening::Answer { agent, life, settled: Settled { id: probe.id, outcome, rtt } });
    }

    fn answer(&mut self, agent: usize, life: u64, settled: Settled) {
        if self.agents[agent].life == life {
            self.to_agent(agent, AgentInput::Settled(vec![settled]));
        }
    }

    /// What is true of a target, for ever: some hosts are silent, some answer, with a round-trip time each.
    fn truth(&self, target: Target) -> (Outcome, Option<Duration>) {
        let IpAddr::V4(address) = target.address else { return (Outcome::FILTERED, None) };
        let mut host = Random::new(self.truth_seed ^ u64::from(u32::from(address)));
        let alive = host.chance(60);
        let rtt = Some(host.millis(1, 400));
        match target.slot {
            Slot::Ping if alive => (Outcome::UP, rtt),
            Slot::Ping => (Outcome::DOWN, None),
            Slot::Tcp(port) => {
                let mut port = Random::new(self.truth_seed ^ u64::from(u32::from(address)) << 16 ^ u64::from(port));
                match (alive, port.within(0, 9)) {
                    (true, 0..2) => (Outcome::OPEN, rtt),
                    (true, 2..8) => (Outcome::CLOSED, rtt),
                    _ => (Outcome::FILTERED, None),
                }
            }
        }
    }

    fn start_agent(&mut self, agent: usize) {
        let now = self.local(agent);
        let instance = InstanceId::new(self.random.next());
        let sim = &mut self.agents[agent];
        sim.life += 1;
        sim.instance = instance;
        let name = |text: String| AgentName::try_from(text).expect("a plain name");
        let identity = Identity {
            name: name(format!("agent-{agent}")),
            vantage: name("here".into()),
            instance,
            software: "0".into(),
            ping_method: PingMethod::Icmp,
            allow: {
                let mut allow = AddressSet::new();
                allow.insert_net("192.0.0.0/16".parse().expect("a network"));
                allow
            },
            window_max: 64,
        };
        sim.machine = Some(Agent::new(now, identity));
        let life = sim.life;
        self.after(Duration::ZERO, Happening::Dial { agent, life });
    }

    fn crash_agent(&mut self, agent: usize) {
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
        let held = self.store.leases(SCAN).unwrap_or_default().iter().any(|lease| lease.holder == Some(old));
        self.reached.two_live_instances += u64::from(held);
        let down = self.random.millis(10, 8_000);
        self.after(down, Happening::StartAgent(agent));
    }

    fn freeze(&mut self, agent: usize, length: Duration) {
        if self.agents[agent].machine.is_none() || self.agents[agent].frozen_until > self.now {
            return;
        }
        self.reached.freezes_past_a_right += u64::from(length > self.settings.ttl);
        self.agents[agent].frozen_until = self.now + length;
        self.agents[agent].stopped_for += length.as_nanos() as u64;
    }

    // The end.

    fn judge(mut self) -> Result<Ran, String> {
        self.audit();
        if self.finished != Some(ScanStatus::Done) {
            self.broke(format!("O6: the scan ended as {:?}", self.finished));
        }
        let mut judged = 0;
        for number in 0..self.plan.cohorts() {
            let hosts = rows::of_cohort(&self.store, SCAN, &self.plan, number).map_err(|error| error.to_string())?;
            for host in hosts {
                judged += host.targets();
                self.judge_host(&host);
            }
        }
        if judged != self.plan.len() {
            self.broke(format!("O4: {judged} targets in the result, {} in the plan", self.plan.len()));
        }
        if let Some(counters) = self.coordinator.as_ref().map(Coordinator::counters) {
            self.reached.fenced_or_duplicate += counters.fenced + counters.duplicate;
        }
        self.reached.virtual_seconds = self.now.since(Time::ZERO).as_secs();
        let (sent, log) = (self.sent.values().sum(), self.log);
        match self.broken {
            Some(broken) => Err(broken),
            None => Ok(Ran { reached: self.reached, targets: self.plan.len(), sent, log }),
        }
    }

    fn judge_host(&mut self, host: &coordinator_core::host::Host) {
        let slots: Vec<_> = self.plan.slots().ports().iter().map(Slot::Tcp).chain(self.plan.slots().ping().then_some(Slot::Ping)).collect();
        let mut expected: BTreeMap<Outcome, u64> = BTreeMap::new();
        let mut open = Vec::new();
        for slot in slots {
            let target = Target { address: host.address, slot };
            let (outcome, _) = self.truth(target);
            *expected.entry(outcome).or_default() += 1;
            if let (State::Open, Slot::Tcp(port)) = (outcome.state(), slot) {
                open.push(port);
            }
            if !self.sent.contains_key(&target) {
                self.broke(format!("O4: {target} was never probed"));
            }
        }
        open.sort_unstable();
        let mut found: BTreeMap<Outcome, u64> = BTreeMap::new();
        for (outcome, count) in host.counts() {
            *found.entry(outcome).or_default() += count;
        }
        if found != expected || host.open.iter().map(|open| open.port).collect::<Vec<_>>() != open {
            self.broke(format!("O4: {} is found {found:?}, and is {expected:?}", host.address));
        }
    }
}

/// Every message goes through the codec, so that what cannot be framed is found here.
fn through_codec<M: serde::Serialize + serde::de::DeserializeOwned>(message: &M) -> M {
    let bytes = codec::encode(message).expect("it fits in a frame");
    codec::decode(&bytes).expect("it is what was encoded")
}
