//! `Coordinator`: the shell of the machine (`coordinator_core::coordinator`). It carries inputs in and outputs out, and arms one timer.
//!
//! - Owner: whoever runs scans; it learns of a store that failed by [`Told::Failure`].
//! - In: [`Submit`], [`Interrupt`], [`Alter`], [`Remove`], [`Clean`], [`Drained`], [`AskFigures`], [`Connect`] from the owner, [`ConnectPeer`] from the listener; [`FromSession`] from sessions;
//!   answers of the store.
//! - Out: [`Tell`] and [`Close`] to sessions, one `send` under way for each; requests to the store, those beyond its queue waiting
//!   here (they are as many as leases and reports under way at most); [`Told`] to the owner's queue, awaited. While more than
//!   `UNTOLD_MAX` wait for the owner no further answer of the store is taken, so that a slow owner slows the scan down.
//! - Death: agents' rights end, and they stop; what was committed is in the store.

use crate::actors::session::{Close, FromSession, Said, Session, Tell};
use crate::fleet::Peer;
use crate::store::thread::{Answer, AskError, StoreHandle};
use actix::prelude::*;
use coordinator_core::control::{Change, ControlState};
use coordinator_core::coordinator::{Coordinator as Machine, Counters, Event, Input, Output, RequestId, SessionId};
use coordinator_core::store::{ScanRecord, StoreRequest};
use portsweep_agent::clock::Clock;
use portsweep_agent::frames::Transport;
use portsweep_agent::queue::{Bounds, Reader, Writer};
use protocol::id::ScanId;
use protocol::message::CoordinatorMessage;
use protocol::time::Time;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;

/// How many events wait for an owner that has not taken those before.
const UNTOLD_MAX: usize = 64;
/// An owner that takes nothing for so long will not: it writes to a disk or a pipe at worst, and stops when those do.
const OWNER_TIMEOUT: Duration = Duration::from_secs(60);

/// The bounds of the queue to the owner: a commit finds 32,768 open ports at most.
pub const TOLD: Bounds = Bounds { of: "events", items: 64, bytes: 8 << 20 };

/// A scan is to be run.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Submit(pub Box<ScanRecord>);

/// A scan is to be stopped.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Interrupt(pub ScanId);

/// What holds for a scan is to be changed: answered by [`Event::Changed`] with the same `ask`.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Alter {
    /// Names the change, for whoever asks.
    pub ask: u64,
    /// The scan.
    pub scan: ScanId,
    /// What is to be changed.
    pub change: Change,
}

/// A scan that ended is to be removed: answered by [`Event::Changed`] with the same `ask`.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Remove {
    /// Names it, for whoever asks.
    pub ask: u64,
    /// The scan.
    pub scan: ScanId,
}

/// These agents get no work, by name, and no others.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Drained(pub BTreeSet<String>);

/// What it has counted, and what waits.
#[derive(Message)]
#[rtype(result = "Figures")]
pub struct AskFigures;

/// What was counted since the start, and what waits now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// What the machine counts.
    pub counters: Counters,
    /// Requests for which the store's queue had no room.
    pub requests: usize,
    /// Events that the owner has not taken.
    pub events: usize,
    /// Messages for agents that their sessions have not taken.
    pub messages: usize,
}

/// What removed scans left is to be deleted.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Clean;

/// An agent connected.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Connect(pub Transport);

/// An agent of another machine connected, and this is who its certificate says it is.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ConnectPeer(pub Transport, pub Peer);

/// What the owner is told.
#[derive(Debug)]
pub enum Told {
    /// Of a scan.
    Event(Event),
    /// The store failed: nothing goes on. One line for a person.
    Failure(String),
}

impl Told {
    /// About how much memory it takes, in bytes.
    fn bytes(&self) -> usize {
        match self {
            Self::Event(Event::Committed { findings, signs, .. }) => {
                size_of::<Self>() + size_of_val(findings.as_slice()) + size_of_val(signs.as_slice())
            }
            Self::Event(Event::Control { state, waits_for, .. }) => {
                let names: usize = waits_for.iter().map(|name| size_of_val(name) + name.len()).sum();
                size_of::<Self>() + size_of::<ControlState>() + state.exclude.range_count() * 32 + names
            }
            Self::Event(Event::Rests { agent, .. } | Event::Drains { agent, .. }) => size_of::<Self>() + agent.len(),
            Self::Event(
                Event::Created { .. } | Event::Finished { .. } | Event::Changed { .. } | Event::Removed { .. },
            ) => size_of::<Self>(),
            Self::Failure(line) => size_of::<Self>() + line.len(),
        }
    }
}

/// The actor.
pub struct Coordinator {
    machine: Machine,
    clock: Clock,
    store: StoreHandle,
    answers: Option<Reader<Answer>>,
    beyond_queue: VecDeque<(RequestId, StoreRequest)>,
    sessions: BTreeMap<SessionId, Connected>,
    last_session: u64,
    owner: Writer<Told>,
    /// Events that wait for the owner to take those before.
    untold: VecDeque<Told>,
    telling: bool,
    /// Woken when the owner took something.
    taken: Rc<Notify>,
    armed: Option<(Time, SpawnHandle)>,
}

struct Connected {
    address: Addr<Session>,
    waiting: VecDeque<Outgoing>,
    under_way: bool,
}

enum Outgoing {
    Tell(Box<CoordinatorMessage>),
    Close,
}

impl Coordinator {
    /// A coordinator over a store's thread. `owner` is told what becomes known.
    #[must_use]
    pub fn new(
        machine: Machine,
        clock: Clock,
        store: StoreHandle,
        answers: Reader<Answer>,
        owner: Writer<Told>,
    ) -> Self {
        Self {
            machine,
            clock,
            store,
            answers: Some(answers),
            beyond_queue: VecDeque::new(),
            sessions: BTreeMap::new(),
            last_session: 0,
            owner,
            untold: VecDeque::new(),
            telling: false,
            taken: Rc::default(),
            armed: None,
        }
    }

    fn input(&mut self, input: Input, ctx: &mut Context<Self>) {
        self.machine.handle_input(self.clock.now(), input);
        self.drain_outputs(ctx);
    }

    fn drain_outputs(&mut self, ctx: &mut Context<Self>) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Store(id, request) => self.ask(id, request, ctx),
                Output::Send(session, message) => self.tell(session, Outgoing::Tell(message), ctx),
                Output::Close(session) => self.tell(session, Outgoing::Close, ctx),
                Output::Event(event) => self.untold.push_back(Told::Event(event)),
            }
        }
        self.tell_owner(ctx);
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
            let timer = ctx.run_later(self.clock.until(at), |coordinator, ctx| {
                coordinator.armed = None;
                coordinator.machine.handle_timeout(coordinator.clock.now());
                coordinator.drain_outputs(ctx);
            });
            (at, timer)
        });
    }

    fn ask(&mut self, id: RequestId, request: StoreRequest, ctx: &mut Context<Self>) {
        if !self.beyond_queue.is_empty() {
            return self.beyond_queue.push_back((id, request));
        }
        match self.store.ask(id, request) {
            Ok(()) => {}
            Err(AskError::Full(request)) => self.beyond_queue.push_back((id, *request)),
            Err(error @ AskError::Closed) => self.fail(&error, ctx),
        }
    }

    fn answered(&mut self, (id, reply): Answer, ctx: &mut Context<Self>) {
        for _ in 0..self.beyond_queue.len() {
            let Some((id, request)) = self.beyond_queue.pop_front() else { break };
            if let Err(AskError::Full(request)) = self.store.ask(id, request) {
                self.beyond_queue.push_front((id, *request));
                break;
            }
        }
        match reply {
            Ok(reply) => self.input(Input::Stored(id, reply), ctx),
            Err(error) => self.fail(&error, ctx),
        }
    }

    /// Nothing is announced that is not durable, so nothing goes on.
    fn fail(&mut self, error: &dyn std::error::Error, ctx: &mut Context<Self>) {
        let mut line = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            line = format!("{line}: {error}");
            cause = error.source();
        }
        self.untold.push_back(Told::Failure(line));
        self.tell_owner(ctx);
    }

    fn tell_owner(&mut self, ctx: &mut Context<Self>) {
        if self.telling {
            return;
        }
        let Some(told) = self.untold.pop_front() else { return };
        self.telling = true;
        let (owner, bytes) = (self.owner.clone(), told.bytes());
        let pushed = async move { owner.push(told, bytes, OWNER_TIMEOUT).await };
        ctx.spawn(pushed.into_actor(self).map(|pushed, coordinator, ctx| {
            coordinator.telling = false;
            coordinator.taken.notify_one();
            match pushed {
                Ok(()) => coordinator.tell_owner(ctx),
                Err(error) => {
                    tracing::debug!(%error, "nobody follows the scans any more");
                    ctx.stop();
                }
            }
        }));
    }

    fn tell(&mut self, session: SessionId, outgoing: Outgoing, ctx: &mut Context<Self>) {
        if let Some(connected) = self.sessions.get_mut(&session) {
            connected.waiting.push_back(outgoing);
            self.tell_next(session, ctx);
        }
    }

    fn tell_next(&mut self, session: SessionId, ctx: &mut Context<Self>) {
        let Some(connected) = self.sessions.get_mut(&session).filter(|connected| !connected.under_way) else { return };
        let Some(outgoing) = connected.waiting.pop_front() else { return };
        connected.under_way = true;
        let (address, closes) = (connected.address.clone(), matches!(outgoing, Outgoing::Close));
        let sent = async move {
            match outgoing {
                Outgoing::Tell(message) => address.send(Tell(message)).await,
                Outgoing::Close => address.send(Close).await,
            }
        };
        ctx.spawn(sent.into_actor(self).map(move |sent, coordinator, ctx| {
            if closes {
                coordinator.sessions.remove(&session);
                return;
            }
            if let Some(connected) = coordinator.sessions.get_mut(&session) {
                connected.under_way = false;
            }
            match sent {
                Ok(()) => coordinator.tell_next(session, ctx),
                Err(_) => coordinator.gone(session, ctx),
            }
        }));
    }

    fn connected(&mut self, transport: Transport, peer: Option<Peer>, ctx: &mut Context<Self>) {
        self.last_session += 1;
        let session = SessionId(self.last_session);
        let address = Session::new(session, ctx.address(), transport, peer).start();
        self.sessions.insert(session, Connected { address, waiting: VecDeque::new(), under_way: false });
        self.input(Input::Opened(session), ctx);
    }

    fn gone(&mut self, session: SessionId, ctx: &mut Context<Self>) {
        if self.sessions.remove(&session).is_some() {
            self.input(Input::Closed(session), ctx);
        }
    }
}

impl Actor for Coordinator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(mut answers) = self.answers.take() else { return };
        let this = ctx.address();
        tokio::task::spawn_local(async move {
            while let Some(answer) = answers.next().await {
                if this.send(Stored(answer)).await.is_err() {
                    return;
                }
            }
        });
        self.drain_outputs(ctx);
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Stored(Answer);

impl Handler<Stored> for Coordinator {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Stored(answer): Stored, ctx: &mut Self::Context) -> Self::Result {
        self.answered(answer, ctx);
        if self.untold.len() < UNTOLD_MAX {
            return Box::pin(std::future::ready(()));
        }
        let taken = Rc::clone(&self.taken);
        Box::pin(async move {
            // An owner that takes nothing for longer ends the coordinator.
            let _too_late = tokio::time::timeout(OWNER_TIMEOUT, taken.notified()).await;
        })
    }
}

impl Handler<Submit> for Coordinator {
    type Result = ();

    fn handle(&mut self, Submit(record): Submit, ctx: &mut Self::Context) {
        self.input(Input::Submit(*record), ctx);
    }
}

impl Handler<Interrupt> for Coordinator {
    type Result = ();

    fn handle(&mut self, Interrupt(scan): Interrupt, ctx: &mut Self::Context) {
        self.input(Input::Interrupt(scan), ctx);
    }
}

impl Handler<Alter> for Coordinator {
    type Result = ();

    fn handle(&mut self, Alter { ask, scan, change }: Alter, ctx: &mut Self::Context) {
        self.input(Input::Change { ask, scan, change }, ctx);
    }
}

impl Handler<Remove> for Coordinator {
    type Result = ();

    fn handle(&mut self, Remove { ask, scan }: Remove, ctx: &mut Self::Context) {
        self.input(Input::Remove { ask, scan }, ctx);
    }
}

impl Handler<AskFigures> for Coordinator {
    type Result = MessageResult<AskFigures>;

    fn handle(&mut self, AskFigures: AskFigures, _: &mut Self::Context) -> Self::Result {
        MessageResult(Figures {
            counters: self.machine.counters(),
            requests: self.beyond_queue.len(),
            events: self.untold.len() + self.owner.depth().0,
            messages: self.sessions.values().map(|connected| connected.waiting.len()).sum(),
        })
    }
}

impl Handler<Drained> for Coordinator {
    type Result = ();

    fn handle(&mut self, Drained(names): Drained, ctx: &mut Self::Context) {
        self.input(Input::Drained(names), ctx);
    }
}

impl Handler<Clean> for Coordinator {
    type Result = ();

    fn handle(&mut self, Clean: Clean, ctx: &mut Self::Context) {
        self.input(Input::Clean, ctx);
    }
}

impl Handler<Connect> for Coordinator {
    type Result = ();

    fn handle(&mut self, Connect(transport): Connect, ctx: &mut Self::Context) {
        self.connected(transport, None, ctx);
    }
}

impl Handler<ConnectPeer> for Coordinator {
    type Result = ();

    fn handle(&mut self, ConnectPeer(transport, peer): ConnectPeer, ctx: &mut Self::Context) {
        self.connected(transport, Some(peer), ctx);
    }
}

impl Handler<FromSession> for Coordinator {
    type Result = ();

    fn handle(&mut self, FromSession { session, said }: FromSession, ctx: &mut Self::Context) {
        match said {
            Said::Message(message) => self.input(Input::Message(session, message), ctx),
            Said::Gone => self.gone(session, ctx),
        }
    }
}
