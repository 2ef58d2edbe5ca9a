//! The simulated world: virtual time, disks, links, agents, and the oracles.
//!
//! Oracles, checked as things happen or at the end:
//! - O1: a probe is sent only under a lease that the store still accounts to the sender's instance.
//! - O2: no target is in flight from two senders at once.
//! - O3: what was announced (an event, a reply) is durable at that instant, and stays through crashes.
//! - O4: every target is probed, and each ends in the state that is the truth; or silent, if tries of it were lost (`missed`).
//! - O5: the store's audit passes at every crash and at the end.
//! - O6: once the faults end, the scan finishes.
//! - O7: nobody asks to be woken in the past.
//! - O8: in stages, no port of a host that is down is probed.
//! - O9: progress, read from the store, is the sum of the rows.
//! - O13: a target is `agent-failed` if it kills who probes it, and no other is.
//! - O10, O11: see `changes.rs`; O14: see `drains.rs`.
//! - O15: nothing is granted in a session that has claimed nothing.
//! - O16: in a session that the coordinator closed nothing is answered any more.
//! - O12: an agent probes nothing that its allow-list does not hold.

mod agents;
mod answers;
mod changes;
mod coordinator;
mod drains;
mod judge;
mod links;
mod others;
mod reached;
mod replaced;
mod script;
mod store;

pub use reached::Reached;
pub use script::{Step, Timeline, run_script};
pub use store::Which;

use crate::faults::{Bug, Faults, Random};
use agent_core::agent::{Agent, Identity, Input as AgentInput, Output as AgentOutput};
use agent_core::attempt::{Probe, Settled};
use agent_core::orders::Orders;
use agent_core::simulated::World as Network;
use changes::User;
use coordinator_core::control::Change;
use coordinator_core::coordinator::{Coordinator, Event, Input, Output, RequestId, SessionId};
use coordinator_core::passes::Loss;
use coordinator_core::resume::Resumed;
use coordinator_core::rows;
use coordinator_core::settings::Settings;
use coordinator_core::store::{Commit, Committed, ScanRecord, ScanStatus, StoreReply, StoreRequest};
use others::Other;
use protocol::codec;
use protocol::id::{AgentName, Epoch, InstanceId, ScanId};
use protocol::message::{AgentMessage, CommitReply, CoordinatorMessage, PingMethod, ProbeOptions, Run};
use protocol::plan::{Plan, PlanParts, Slots};
use protocol::probe::{Cause, Outcome, Slot, State, Target};
use protocol::range_set::{AddressSet, RankedRanges};
use protocol::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use store::SimStore;

const SCAN: ScanId = ScanId::from_bytes([1; 16]);
/// Far beyond what any run takes once it has healed.
const END: Duration = Duration::from_secs(20_000);

/// A run that kept every promise.
#[derive(Debug)]
pub struct Ran {
    pub reached: Reached,
    pub targets: u64,
    /// Of these, so many stay silent whatever is lost.
    pub silent: u64,
    pub sent: u64,
    /// Targets that answer and were found silent: never without loss.
    pub missed: u64,
    /// The loss as the receipt states it.
    pub loss: Loss,
    pub log: u64,
}

enum Happening {
    CoordinatorTimer {
        life: u64,
    },
    AgentTimer {
        agent: usize,
        life: u64,
    },
    ToCoordinator {
        session: SessionId,
        message: Option<AgentMessage>,
    },
    ToAgent {
        session: SessionId,
        message: Option<CoordinatorMessage>,
    },
    Dial {
        agent: usize,
        life: u64,
    },
    StoreCarriesOut {
        life: u64,
        id: RequestId,
        request: StoreRequest,
    },
    StoreAnswers {
        life: u64,
        id: RequestId,
        reply: StoreReply,
    },
    Send {
        agent: usize,
        life: u64,
        probe: Probe,
        right_ends_at: Time,
    },
    /// The answer came, or its time is up: nothing is on the wire any more.
    Landed(Target),
    Answer {
        agent: usize,
        life: u64,
        settled: Settled,
    },
    /// The user wants something else of the scan.
    Ask(Change),
    AskAgain(u64),
    Drain(usize),
    /// The user drains an agent, or gives it work again.
    SetDrained(usize, bool),
    /// One of the other scans is submitted.
    SubmitOther(usize),
    /// It went by itself, and everything that it said was sent.
    Gone {
        agent: usize,
        life: u64,
    },
    /// A deliberate bug: said before it is so.
    InForceTooEarly {
        agent: usize,
        life: u64,
        number: u64,
    },
    Ordered {
        agent: usize,
        life: u64,
        orders: Orders,
    },
    /// A deliberate bug: what an instance holds is taken for let go.
    LetsGo(Box<protocol::message::Hello>),
    Scripted(Step),
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
    /// What it said last.
    hello: Option<protocol::message::Hello>,
    /// What it claimed last, and in which session.
    claim: Option<(SessionId, protocol::message::Claim)>,
    /// What it was told last of each scan.
    told: BTreeMap<ScanId, protocol::message::Control>,
    /// What those who send at it keep to.
    orders: Orders,
    /// This machine's clock is `offset + elapsed × rate`.
    offset: u64,
    rate: f64,
    stopped_for: u64,
    armed: Armed,
    /// Whether no further process of it starts.
    stays_away: bool,
    /// So many times as long its round trips take.
    slowness: u32,
}

/// The one timer of a machine: for which moment it was wanted, and where it stands in the queue.
type Armed = Option<(Time, (Time, u64))>;

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
    coordinator_armed: Armed,
    settings: Settings,
    store: SimStore,
    kills_left: u64,
    disk_free_at: Time,
    agents: Vec<SimAgent>,
    links: BTreeMap<SessionId, Link>,
    last_session: u64,
    plan: Plan,
    network: Network,
    window: u32,
    may_miss: bool,
    /// It kills who probes it, from a moment on.
    lethal: Option<Target>,
    timeline: Option<Timeline>,
    sent: BTreeMap<Target, u32>,
    in_flight: BTreeMap<Target, (usize, u64, Epoch)>,
    announced: BTreeSet<Epoch>,
    drained: BTreeSet<usize>,
    /// Scans beside the one that is looked at most.
    others: Vec<Other>,
    /// Sessions that have claimed, and that the coordinator closed.
    claimed: BTreeSet<SessionId>,
    closed: BTreeSet<SessionId>,
    finished: Option<ScanStatus>,
    user: User,
    reached: Reached,
    missed: u64,
    silent: u64,
    log: u64,
    broken: Option<String>,
}

/// What is scanned, and what is there.
pub struct Scene {
    pub hosts: u32,
    pub ports: u16,
    pub ping: bool,
    pub network: Network,
    /// Probes in flight. Few make a scan long enough that rights end within it.
    pub window: u32,
    /// Whether its ports are asked only of those that are up.
    pub discover: bool,
    /// Whether what answers late may be missed: it is the point of the scene.
    pub may_miss: bool,
}

impl Scene {
    /// Six hosts in ten live, their ports are open, silent and closed, round trips take up to 400 ms, and as much is lost as the faults say.
    fn drawn(random: &mut Random, faults: &Faults) -> Self {
        let (hosts, ports) = (random.within(1, 200) as u32, random.within(1, 12) as u16);
        // A minute at the rate, no more.
        let hosts = faults.rate.map_or(hosts, |rate| hosts.min(rate * 60 / u32::from(ports)).max(1));
        let ping = random.chance(50) || faults.discover;
        let network = Network::new(random.next())
            .alive_ppm(600_000)
            .ports_ppm(200_000, 200_000)
            .rtt(Duration::from_millis(1), Duration::from_millis(400))
            .loss_ppm(faults.loss_percent as u32 * 10_000);
        let window = random.within(2, 64) as u32;
        Self { hosts, ports, ping, network, window, discover: faults.discover, may_miss: faults.loss_percent > 0 }
    }

    /// A port of one of its hosts.
    pub fn target(host: u32, port: u16) -> Target {
        Target { address: IpAddr::V4(Ipv4Addr::from(0xc000_0200 + host)), slot: Slot::Tcp(port) }
    }

    fn plan(&self, seed: u64) -> Result<Plan, String> {
        let mut addresses = AddressSet::new();
        for host in 0..self.hosts {
            addresses.insert(Self::target(host, 0).address);
        }
        let addresses = RankedRanges::try_from(&addresses).map_err(|error| error.to_string())?;
        let slots = Slots::new(self.ping, (1..=self.ports).collect());
        let slots = if self.discover { slots.in_stages() } else { slots };
        Plan::new(addresses, slots, seed).map_err(|error| error.to_string())
    }
}

/// Runs one seed to its end, in a scene drawn from it.
pub fn run(seed: u64, faults: Faults, bug: Option<Bug>) -> Result<Ran, String> {
    let mut random = Random::new(seed);
    let scene = Scene::drawn(&mut random, &faults);
    run_in(scene, random, seed, faults, bug)
}

/// Runs a scene to its end.
pub fn run_in(scene: Scene, random: Random, seed: u64, faults: Faults, bug: Option<Bug>) -> Result<Ran, String> {
    let mut world = World::new(scene, random, seed, faults, bug)?;
    while let Some(((at, _), happening)) = world.queue.pop_first() {
        world.now = at;
        if at > Time::ZERO + END {
            let left = world.leases();
            return Err(format!("O6: the scan did not finish after everything had healed; leased are {left:?}"));
        }
        world.happen(happening);
        if let Some(broken) = world.broken.take() {
            return Err(broken);
        }
        if world.finished.is_some() && world.others.iter().all(|other| other.finished.is_some()) {
            return world.judge();
        }
    }
    Err("O6: nothing more happens, and the scan is not finished".into())
}

impl World {
    fn new(scene: Scene, random: Random, seed: u64, faults: Faults, bug: Option<Bug>) -> Result<Self, String> {
        let plan = scene.plan(seed)?;
        let ttl = faults.ttl;
        let settings = Settings { ttl, renew_every: ttl / 4, silent_after: ttl.mul_f64(0.6), ..Settings::default() };
        // Longer than everything that befalls the one agent that may probe all.
        let settings = Settings { agent_wait: Duration::from_secs(600), ..settings };
        settings.check(Duration::from_millis(900)).map_err(|error| error.to_string())?;
        let settings = match bug {
            Some(Bug::NoMargin) => Settings { margin: Duration::ZERO, ..settings },
            Some(Bug::NoCuttingOnDeaths) => Settings { parts: 1, ..settings },
            _ => settings,
        };
        let mut world = Self {
            now: Time::ZERO,
            queue: BTreeMap::new(),
            sequence: 0,
            network: scene.network,
            may_miss: scene.may_miss,
            lethal: None,
            timeline: None,
            window: scene.window,
            random,
            bug,
            coordinator: Some(Coordinator::new(settings)),
            coordinator_life: 1,
            coordinator_armed: None,
            settings,
            store: SimStore::new(faults.store)?,
            kills_left: faults.kills_at_writes,
            disk_free_at: Time::ZERO,
            agents: Vec::new(),
            links: BTreeMap::new(),
            last_session: 0,
            plan,
            sent: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            announced: BTreeSet::new(),
            drained: BTreeSet::new(),
            others: Vec::new(),
            claimed: BTreeSet::new(),
            closed: BTreeSet::new(),
            finished: None,
            user: User::new(faults.rate),
            reached: Reached::default(),
            missed: 0,
            silent: 0,
            log: 0,
            broken: None,
            faults,
        };
        world.populate();
        Ok(world)
    }

    fn populate(&mut self) {
        let faults = self.faults.clone();
        if faults.lethal {
            let host = self.random.next() as u32 % self.plan.addresses().len().max(1) as u32;
            let port = self.random.within(1, u64::from(self.plan.slots().ports().len().max(1))) as u16;
            self.lethal = Some(Scene::target(host, port));
        }
        self.coordinator_gets(Input::Submit(self.record()));
        for agent in 0..faults.agents + faults.late_joiners {
            let drift = self.random.within(0, 2 * faults.drift_ppm) as f64 - faults.drift_ppm as f64;
            self.agents.push(SimAgent {
                machine: None,
                instance: InstanceId::new(0),
                life: 0,
                session: None,
                cut_until: Time::ZERO,
                frozen_until: Time::ZERO,
                hello: None,
                claim: None,
                told: BTreeMap::new(),
                orders: Orders::default(),
                offset: self.random.within(0, 1_000_000_000_000),
                rate: 1.0 + drift / 1e6,
                stopped_for: 0,
                armed: None,
                stays_away: false,
                slowness: 1,
            });
            let starts = if agent < faults.agents { Duration::ZERO } else { self.random.millis(1, 5_000) };
            self.after(starts, Happening::StartAgent(agent));
        }
        let until = faults.until.as_millis() as u64;
        // Most runs last a few virtual seconds: half of the faults fall into these.
        let moment = |random: &mut Random| {
            if random.chance(70) { random.millis(0, 4_000) } else { random.millis(0, until) }
        };
        for _ in 0..faults.coordinator_crashes {
            let at = moment(&mut self.random);
            self.after(at, Happening::CrashCoordinator);
        }
        for _ in 0..faults.agent_crashes {
            let (at, agent) = (moment(&mut self.random), self.random.next() as usize % self.agents.len());
            self.after(at, Happening::CrashAgent(agent));
        }
        for _ in 0..faults.cuts {
            let (at, agent, length) = (
                moment(&mut self.random),
                self.random.next() as usize % self.agents.len(),
                self.random.millis(50, 30_000),
            );
            self.after(at, Happening::Cut(agent, length));
        }
        for _ in 0..faults.freezes {
            let (at, agent, length) = (
                moment(&mut self.random),
                self.random.next() as usize % self.agents.len(),
                self.random.millis(50, 30_000),
            );
            self.after(at, Happening::Freeze(agent, length));
        }
        for _ in 0..faults.drains {
            let (at, agent) = (moment(&mut self.random), self.random.next() as usize % self.agents.len());
            self.after(at, Happening::Drain(agent));
        }
        self.populate_changes();
        self.populate_drains();
        self.populate_others();
    }

    fn after(&mut self, delay: Duration, happening: Happening) {
        self.at(self.now + delay, happening);
    }

    fn at(&mut self, at: Time, happening: Happening) -> (Time, u64) {
        self.sequence += 1;
        let key = (at.max(self.now), self.sequence);
        self.queue.insert(key, happening);
        key
    }

    /// Arms a timer in place of the one before.
    fn arm(&mut self, armed: Armed, wanted: Option<(Time, Duration)>, timer: Happening) -> Armed {
        if armed.map(|(at, _)| at) == wanted.map(|(at, _)| at) {
            return armed;
        }
        if let Some((_, key)) = armed {
            self.queue.remove(&key);
        }
        let (at, wait) = wanted?;
        let late = self.random.millis(0, self.faults.late_ms);
        Some((at, self.at(self.now + wait + late, timer)))
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
            self.at(until, happening);
            return;
        }
        match happening {
            Happening::CoordinatorTimer { life } if life == self.coordinator_life => self.coordinator_timeout(),
            Happening::CoordinatorTimer { .. } => {}
            Happening::AgentTimer { agent, life } if self.agents[agent].life == life => self.agent_timeout(agent),
            Happening::AgentTimer { .. } => {}
            Happening::ToCoordinator { session, message } => self.arrives_at_coordinator(session, message),
            Happening::ToAgent { session, message } => self.arrives_at_agent(session, message),
            Happening::Dial { agent, life } => self.dial(agent, life),
            Happening::StoreCarriesOut { life, id, request } if life == self.coordinator_life => {
                self.store_carries_out(id, request)
            }
            Happening::StoreCarriesOut { .. } => {}
            Happening::StoreAnswers { life, id, reply } if life == self.coordinator_life => {
                self.coordinator_gets(Input::Stored(id, reply))
            }
            Happening::StoreAnswers { .. } => {}
            Happening::Send { agent, life, probe, right_ends_at } => self.send_probe(agent, life, probe, right_ends_at),
            Happening::Landed(target) => {
                self.in_flight.remove(&target);
            }
            Happening::Answer { agent, life, settled } => self.answer(agent, life, settled),
            Happening::Ask(change) => self.ask(change),
            Happening::AskAgain(ask) => self.ask_again(ask),
            Happening::InForceTooEarly { agent, life, number } if self.agents[agent].life == life => {
                self.agent_gets(agent, AgentInput::InForce(number));
            }
            Happening::InForceTooEarly { .. } => {}
            Happening::Drain(agent) => self.drain_out(agent),
            Happening::SetDrained(agent, drained) => self.set_drained(agent, drained),
            Happening::SubmitOther(which) => self.submit_other(which),
            Happening::Gone { agent, life } if self.agents[agent].life == life => self.crash_agent(agent),
            Happening::Gone { .. } => {}
            Happening::Ordered { agent, life, orders } => self.ordered(agent, life, orders),
            Happening::LetsGo(hello) => self.lets_go(*hello),
            Happening::Scripted(step) => self.scripted(step),
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
            Happening::AgentTimer { agent, .. }
            | Happening::Dial { agent, .. }
            | Happening::Send { agent, .. }
            | Happening::Ordered { agent, .. }
            | Happening::Answer { agent, .. } => *agent,
            Happening::ToAgent { session, .. } => self.links.get(session)?.agent,
            _ => return None,
        };
        (self.agents[agent].frozen_until > self.now).then_some((agent, self.agents[agent].frozen_until))
    }
}
