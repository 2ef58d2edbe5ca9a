//! `Session`: one connected agent. It decodes frames and passes them on, and writes frames back. It decides nothing.
//!
//! - Owner: the `Coordinator` actor.
//! - In: [`Tell`], [`Close`], awaited by the owner one at a time.
//! - Checks: whether hello is of whom the certificate names ([`Peer`]); counts what breaks the protocol.
//! - Out: [`FromSession`] to the owner, by awaited send: a busy coordinator slows the reading down.
//! - Death: the owner learns of every end by one [`FromSession`] with [`Said::Gone`].

use crate::actors::coordinator::Coordinator;
use crate::fleet::Peer;
use actix::prelude::*;
use coordinator_core::coordinator::SessionId;
use portsweep_agent::frames::{FrameWriter, Transport, split};
use protocol::message::{AgentMessage, CoordinatorMessage};
use std::rc::Rc;
use tokio::task::JoinHandle;

/// How many messages wait at a session: what its writer's queue holds is beside that.
const MAILBOX_MAX: usize = 64;

/// A message for the agent.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Tell(pub Box<CoordinatorMessage>);

/// The session ends.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Close;

/// Hello was not of whom the certificate names: that is said, and counted already.
#[derive(Message)]
#[rtype(result = "()")]
struct TurnAway(String);

/// What came of a session.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FromSession {
    /// Which.
    pub session: SessionId,
    /// What.
    pub said: Said,
}

/// What an agent said.
pub enum Said {
    /// A message.
    Message(Box<AgentMessage>),
    /// Nothing more: the connection is gone, or broke the framing.
    Gone,
}

/// The actor.
pub struct Session {
    id: SessionId,
    owner: Addr<Coordinator>,
    transport: Option<Transport>,
    writer: Option<FrameWriter>,
    reading: Option<JoinHandle<()>>,
    /// Who is at the other end; `None` for the agent of this process.
    peer: Option<Rc<Peer>>,
}

impl Session {
    /// A session over a connection on which nothing was said. What `peer` says in hello is checked; the agent of this process is not.
    #[must_use]
    pub fn new(id: SessionId, owner: Addr<Coordinator>, transport: Transport, peer: Option<Peer>) -> Self {
        Self { id, owner, transport: Some(transport), writer: None, reading: None, peer: peer.map(Rc::new) }
    }
}

impl Actor for Session {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_MAX);
        let Some(transport) = self.transport.take() else { return };
        let (mut reader, writer) = split(transport);
        let (session, owner, peer, this) = (self.id, self.owner.clone(), self.peer.clone(), ctx.address());
        self.writer = Some(writer);
        self.reading = Some(tokio::task::spawn_local(async move {
            loop {
                match reader.next::<AgentMessage>().await {
                    Ok(Some(mut message)) => {
                        if let (Some(peer), AgentMessage::Hello(hello)) = (&peer, &mut message)
                            && let Err(reason) = peer.check(hello).await
                        {
                            let _gone = this.send(TurnAway(reason)).await;
                            break;
                        }
                        if let (Some(peer), AgentMessage::Renew { rtt_us: Some(rtt_us), .. }) = (&peer, &message) {
                            peer.measured(*rtt_us);
                        }
                        let said = Said::Message(Box::new(message));
                        if owner.send(FromSession { session, said }).await.is_err() {
                            return;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::debug!(session = session.0, %error, "the session failed");
                        if let Some(peer) = &peer {
                            peer.failed(&error);
                        }
                        break;
                    }
                }
            }
            let _gone = owner.send(FromSession { session, said: Said::Gone }).await;
        }));
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        if let Some(reading) = self.reading.take() {
            reading.abort();
        }
    }
}

impl Handler<Tell> for Session {
    type Result = ();

    fn handle(&mut self, Tell(message): Tell, ctx: &mut Self::Context) {
        if let (Some(peer), CoordinatorMessage::Refused { reason }) = (&self.peer, &*message) {
            peer.refused(reason);
        }
        let Some(writer) = &self.writer else { return };
        if let Err(error) = writer.send(&*message) {
            tracing::debug!(session = self.id.0, %error, "the session is given up");
            self.writer = None;
            let (session, owner) = (self.id, self.owner.clone());
            let told = async move { owner.send(FromSession { session, said: Said::Gone }).await };
            ctx.spawn(told.into_actor(self).map(|_, _, ctx| ctx.stop()));
        }
    }
}

impl Handler<TurnAway> for Session {
    type Result = ();

    fn handle(&mut self, TurnAway(reason): TurnAway, _: &mut Self::Context) {
        if let Some(writer) = &self.writer
            && let Err(error) = writer.send(&CoordinatorMessage::Refused { reason })
        {
            tracing::debug!(session = self.id.0, %error, "a refusal was not heard");
        }
    }
}

impl Handler<Close> for Session {
    type Result = ();

    fn handle(&mut self, _: Close, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
