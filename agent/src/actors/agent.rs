//! `Agent`: the shell of the root machine (`agent_core::agent`). It carries inputs in and outputs out, and arms one timer.
//!
//! - Owner: whoever started the agent; it learns the end by [`AgentEnd`].
//! - In: [`Heard`] from the link, [`SettledBatch`] and [`SupervisorDied`] from the supervisors, [`Drain`] from the owner.
//! - Out: [`Say`] and [`Redial`] to the link, [`RunBatch`] and [`SetOrders`] to the supervisors, one `send` each under way, so that
//!   their mailboxes' bounds hold; what waits here is bounded by the machine's window and its unacknowledged reports.
//! - Death: the owner's [`AgentEnd`] closes; the coordinator sees the right end.

use crate::actors::link::{Dial, Heard, Link, Redial, Say};
use crate::actors::supervisor::{Owner, ProbeSupervisor, RunBatch, SetOrders, SettledBatch, SupervisorDied};
use crate::clock::Clock;
use crate::limits::Lack;
use crate::probe::Prober;
use crate::scope::{Admission, Scope};
use actix::prelude::*;
use agent_core::agent::{Agent as Machine, Identity, Input, Output};
use agent_core::attempt::Batch;
use agent_core::orders::Orders;
use protocol::probe::ProbeKind;
use protocol::time::Time;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How often this machine is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// This process is to end: report what there is, take no more.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Drain;

/// Resolves when the agent has nothing left to do; an error if it died.
pub type AgentEnd = oneshot::Receiver<()>;

/// What an agent is made of.
pub struct Parts {
    /// Who it is.
    pub identity: Identity,
    /// What it may probe.
    pub scope: Arc<Scope>,
    /// What rights are counted on.
    pub clock: Clock,
    /// How the coordinator is reached.
    pub dial: Box<dyn Dial>,
    /// How it probes, by kind.
    pub probers: Vec<(ProbeKind, Prober)>,
    /// Gives a random number at each call.
    pub jitter: fn() -> u64,
}

/// The actor.
pub struct Agent {
    machine: Machine,
    clock: Clock,
    link: Addr<Link>,
    says: Line<LinkMessage>,
    supervisors: BTreeMap<ProbeKind, Supervised>,
    armed: Option<(Time, SpawnHandle)>,
    end: Option<oneshot::Sender<()>>,
}

enum LinkMessage {
    Say(Say),
    Redial,
}

struct Supervised {
    address: Addr<ProbeSupervisor>,
    batches: Line<Batch>,
}

/// What waits for its turn: one message is under way at a time.
struct Line<T> {
    waiting: VecDeque<T>,
    under_way: bool,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), under_way: false }
    }
}

impl<T> Line<T> {
    fn next(&mut self) -> Option<T> {
        if self.under_way {
            return None;
        }
        let next = self.waiting.pop_front();
        self.under_way = next.is_some();
        next
    }
}

impl Agent {
    /// Starts an agent with its link and its supervisors on this thread's actor system.
    #[must_use]
    pub fn start_with(parts: Parts) -> (Addr<Self>, AgentEnd) {
        let (end, ended) = oneshot::channel();
        let Parts { identity, scope, clock, dial, probers, jitter } = parts;
        let address = Self::create(|ctx| {
            let window_max = identity.window_max;
            watch();
            ctx.run_interval(WATCH_EVERY, |_, _| watch());
            let mut supervisors = BTreeMap::new();
            for (kind, prober) in probers {
                let owner = Owner { settled: ctx.address().recipient(), died: ctx.address().recipient() };
                let admission = Admission::new(clock, Arc::clone(&scope));
                let address = ProbeSupervisor::new(kind, prober, admission, window_max, owner).start();
                supervisors.insert(kind, Supervised { address, batches: Line::default() });
            }
            let link = Link::new(dial, ctx.address().recipient(), jitter).start();
            let machine = Machine::new(clock.now(), identity);
            Self { machine, clock, link, says: Line::default(), supervisors, armed: None, end: Some(end) }
        });
        (address, ended)
    }

    fn input(&mut self, input: Input, ctx: &mut Context<Self>) {
        self.machine.handle_input(self.clock.now(), input);
        self.drain_outputs(ctx);
    }

    fn drain_outputs(&mut self, ctx: &mut Context<Self>) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send(message) => self.says.waiting.push_back(LinkMessage::Say(Say(message))),
                Output::Redial => self.says.waiting.push_back(LinkMessage::Redial),
                Output::Probe(batch) => self.hand_out(batch, ctx),
                Output::Orders(orders) => self.order(orders, ctx),
                Output::Finished => {
                    // Nothing is probed any more: their sockets are closed while whoever waits for the end goes on, not after it.
                    self.supervisors.clear();
                    if let Some(end) = self.end.take() {
                        let _nobody_waits = end.send(());
                    }
                }
            }
        }
        self.say(ctx);
        self.arm(ctx);
    }

    fn arm(&mut self, ctx: &mut Context<Self>) {
        let wanted = self.machine.poll_timeout();
        if self.armed.map(|(at, _)| at) == wanted {
            return;
        }
        if let Some((_, timer)) = self.armed.take() {
            ctx.cancel_future(timer);
        }
        self.armed = wanted.map(|at| {
            let timer = ctx.run_later(self.clock.until(at), |agent, ctx| {
                agent.armed = None;
                agent.machine.handle_timeout(agent.clock.now());
                agent.drain_outputs(ctx);
            });
            (at, timer)
        });
    }

    fn say(&mut self, ctx: &mut Context<Self>) {
        let Some(next) = self.says.next() else { return };
        let link = self.link.clone();
        let sent = async move {
            match next {
                LinkMessage::Say(say) => link.send(say).await,
                LinkMessage::Redial => link.send(Redial).await,
            }
        };
        ctx.spawn(sent.into_actor(self).map(|sent, agent, ctx| {
            agent.says.under_way = false;
            match sent {
                Ok(()) => agent.say(ctx),
                Err(error) => agent.die("link", &error, ctx),
            }
        }));
    }

    fn hand_out(&mut self, batch: Batch, ctx: &mut Context<Self>) {
        let kind = batch.kind;
        match self.supervisors.get_mut(&kind) {
            Some(supervised) => supervised.batches.waiting.push_back(batch),
            None => return self.die(kind.as_str(), &MailboxError::Closed, ctx),
        }
        self.run_batches(kind, ctx);
    }

    fn run_batches(&mut self, kind: ProbeKind, ctx: &mut Context<Self>) {
        let Some(supervised) = self.supervisors.get_mut(&kind) else { return };
        let Some(batch) = supervised.batches.next() else { return };
        let sent = supervised.address.send(RunBatch(batch));
        ctx.spawn(sent.into_actor(self).map(move |sent, agent, ctx| {
            if let Some(supervised) = agent.supervisors.get_mut(&kind) {
                supervised.batches.under_way = false;
            }
            match sent {
                Ok(()) => agent.run_batches(kind, ctx),
                Err(error) => agent.die(kind.as_str(), &error, ctx),
            }
        }));
    }

    /// Puts orders in force at every supervisor, and tells the machine when they are.
    fn order(&mut self, orders: Orders, ctx: &mut Context<Self>) {
        let number = orders.number;
        let orders = Arc::new(crate::scope::Orders::of_scans(orders.scans));
        let sent = self.supervisors.values().map(|one| one.address.send(SetOrders(Arc::clone(&orders))));
        // A supervisor that died sends nothing any more, and its death is told elsewhere.
        let in_force = futures_util::future::join_all(sent);
        ctx.spawn(in_force.into_actor(self).map(move |_, agent, ctx| agent.input(Input::InForce(number), ctx)));
    }

    /// A part of it is gone: it stops, so that its owner learns of it and the coordinator gives its leases to others.
    fn die(&mut self, part: &str, error: &dyn std::fmt::Display, ctx: &mut Context<Self>) {
        tracing::error!(part, %error, "a part of the agent died");
        self.end = None;
        ctx.stop();
    }
}

/// Looks at what no call tells: that the table of connections throws something out.
fn watch() {
    if Lack::conntrack_is_full() {
        Lack::Conntrack.tell();
    }
}

impl Actor for Agent {
    type Context = Context<Self>;
}

impl Handler<Heard> for Agent {
    type Result = ();

    fn handle(&mut self, heard: Heard, ctx: &mut Self::Context) {
        let input = match heard {
            Heard::Connected => Input::Connected,
            Heard::Disconnected => Input::Disconnected,
            Heard::Message(message) => Input::Message(message),
        };
        self.input(input, ctx);
    }
}

impl Handler<SettledBatch> for Agent {
    type Result = ();

    fn handle(&mut self, batch: SettledBatch, ctx: &mut Self::Context) {
        // What is overdue first: some of it may be settled by now.
        if !batch.overdue.is_empty() {
            self.input(Input::Overdue(batch.overdue), ctx);
        }
        if !batch.settled.is_empty() {
            self.input(Input::Settled(batch.settled), ctx);
        }
    }
}

impl Handler<SupervisorDied> for Agent {
    type Result = ();

    fn handle(&mut self, died: SupervisorDied, ctx: &mut Self::Context) {
        if self.end.is_some() {
            self.die(died.kind.as_str(), &MailboxError::Closed, ctx);
        }
    }
}

impl Handler<Drain> for Agent {
    type Result = ();

    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) {
        self.input(Input::Drain, ctx);
    }
}
