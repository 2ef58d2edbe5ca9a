//! `Link`: keeps the connection to the coordinator. It dials, passes frames in both directions, and dials again with back-off.
//!
//! - Owner: the `Agent` actor.
//! - In: [`Say`], [`Redial`] (`try_send` by the owner, or `send`).
//! - Out: [`Heard`] to the owner, by awaited send, so that a busy agent slows the reading down. A session's last is its end.
//! - Death: it stops with its owner. If it dies, the agent's right ends and nothing more is probed.

use crate::enrol::one_line;
use crate::frames::{FrameWriter, Transport, split};
use actix::prelude::*;
use agent_core::backoff::Backoff;
use protocol::message::{AgentMessage, CoordinatorMessage};
use std::error::Error as _;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;
use tokio::task::JoinHandle;

/// The first wait before dialling again.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// A connection that is being made.
pub type Dialling = Pin<Box<dyn Future<Output = io::Result<Transport>>>>;

/// How the coordinator is reached.
pub trait Dial: 'static {
    /// Connects, once.
    fn dial(&mut self) -> Dialling;
}

/// A message for the coordinator. Dropped if there is no session: the owner says hello anew in the next.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Say(pub Box<AgentMessage>);

/// Close the session and dial again.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Redial;

/// What the link tells its owner.
#[derive(Message)]
#[rtype(result = "()")]
pub enum Heard {
    /// A session is there.
    Connected,
    /// It is gone.
    Disconnected,
    /// The coordinator said something.
    Message(Box<CoordinatorMessage>),
}

/// The actor.
pub struct Link {
    dial: Box<dyn Dial>,
    owner: Recipient<Heard>,
    backoff: Backoff,
    jitter: fn() -> u64,
    session: Option<Open>,
    /// Sessions are counted, so that what comes of an older one is told apart.
    sessions: u64,
    /// Why there is no session, as it was last told: told again only when it changes.
    told: String,
}

struct Open {
    writer: FrameWriter,
    reading: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// What the reading of session `of` came to.
#[derive(Message)]
#[rtype(result = "()")]
struct Ended {
    of: u64,
}

/// How a session began: welcomed, or refused and why.
#[derive(Message)]
#[rtype(result = "()")]
struct Greeted {
    refusal: Option<String>,
}

#[derive(Message)]
#[rtype(result = "()")]
struct DialNow;

impl Link {
    /// A link that begins to dial when it is started. `jitter` gives a random number at each call.
    #[must_use]
    pub fn new(dial: Box<dyn Dial>, owner: Recipient<Heard>, jitter: fn() -> u64) -> Self {
        let backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        Self { dial, owner, backoff, jitter, session: None, sessions: 0, told: String::new() }
    }

    fn dial(&mut self, ctx: &mut Context<Self>) {
        let dialled = self.dial.dial().into_actor(self).map(|result, link, ctx| match result {
            Ok(transport) => link.connected(transport, ctx),
            Err(error) => {
                let mut line = error.to_string();
                let mut cause = error.source();
                while let Some(error) = cause {
                    line = format!("{line}: {error}");
                    cause = error.source();
                }
                link.tell(&line, "the coordinator cannot be reached");
                link.dial_later(ctx);
            }
        });
        // One at a time: nothing else is handled meanwhile, and there is no session for which it could matter.
        ctx.wait(dialled);
    }

    fn tell(&mut self, why: &str, what: &'static str) {
        if self.told == why {
            return tracing::debug!(why, "{what}");
        }
        why.clone_into(&mut self.told);
        tracing::warn!(why, "{what}");
    }

    fn dial_later(&mut self, ctx: &mut Context<Self>) {
        let wait = self.backoff.wait((self.jitter)());
        ctx.notify_later(DialNow, wait);
    }

    fn connected(&mut self, transport: Transport, ctx: &mut Context<Self>) {
        self.sessions += 1;
        let (of, owner, this) = (self.sessions, self.owner.clone(), ctx.address());
        let (mut reader, writer) = split(transport);
        let reading = tokio::task::spawn_local(async move {
            if owner.send(Heard::Connected).await.is_err() {
                return;
            }
            loop {
                match reader.next::<CoordinatorMessage>().await {
                    Ok(Some(message)) => {
                        let heard = match &message {
                            CoordinatorMessage::Welcome(_) => Some(Greeted { refusal: None }),
                            CoordinatorMessage::Refused { reason } => Some(Greeted { refusal: Some(one_line(reason)) }),
                            _ => None,
                        };
                        if let Some(greeted) = heard
                            && this.send(greeted).await.is_err()
                        {
                            return;
                        }
                        if owner.send(Heard::Message(Box::new(message))).await.is_err() {
                            break;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::debug!(%error, "the session failed");
                        break;
                    }
                }
            }
            let _gone = this.send(Ended { of }).await;
        });
        self.session = Some(Open { writer, reading });
    }
}

impl Actor for Link {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(crate::frames::FRAMES_MAX);
        self.dial(ctx);
    }
}

impl Handler<Say> for Link {
    type Result = ();

    fn handle(&mut self, Say(message): Say, ctx: &mut Self::Context) {
        let Some(open) = &self.session else { return };
        if let Err(error) = open.writer.send(&*message) {
            tracing::debug!(%error, "the session is given up");
            let of = self.sessions;
            ctx.notify(Ended { of });
        }
    }
}

impl Handler<Redial> for Link {
    type Result = ();

    fn handle(&mut self, _: Redial, ctx: &mut Self::Context) {
        if self.session.take().is_some() {
            self.dial_later(ctx);
        }
    }
}

impl Handler<Ended> for Link {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, Ended { of }: Ended, _: &mut Self::Context) -> Self::Result {
        if of != self.sessions || self.session.take().is_none() {
            return Box::pin(fut::ready(()));
        }
        let told = self.owner.send(Heard::Disconnected).into_actor(self);
        Box::pin(told.map(|told, link, ctx| match told {
            Ok(()) => link.dial_later(ctx),
            Err(_) => ctx.stop(),
        }))
    }
}

/// The wait grows until a coordinator takes this agent: one that refuses it is not dialled ten times a second.
impl Handler<Greeted> for Link {
    type Result = ();

    fn handle(&mut self, Greeted { refusal }: Greeted, _: &mut Self::Context) {
        match refusal {
            Some(why) => self.tell(&why, "the coordinator refuses this agent"),
            None => {
                self.backoff.reset();
                self.told.clear();
            }
        }
    }
}

impl Handler<DialNow> for Link {
    type Result = ();

    fn handle(&mut self, _: DialNow, ctx: &mut Self::Context) {
        if self.session.is_none() {
            self.dial(ctx);
        }
    }
}
