//! The port that agents dial: TLS, then by the protocol name of the handshake a link or an enrolment.
//!
//! Who is not known yet gets little: a bounded number of them at once, over all and from one address; 10 s for handshake and request
//! together; 16 KiB. A link is handed to the coordinator once its certificate's agent may connect; from there on its session bounds it
//! (frames of 1 MiB, 6 s of silence).

use super::peer::{Cuttable, Peer};
use super::refusal::{Kind, Refusal};
use super::{Fleet, FleetError};
use crate::actors::coordinator::{ConnectPeer, Coordinator};
use actix::Addr;
use bytes::Bytes;
use futures_util::SinkExt;
use portsweep_agent::certificate::Certificate;
use portsweep_agent::frames::{Stream, framed, hear};
use protocol::codec;
use protocol::enrol::{AgentId, ENROL, ENROL_BYTES_MAX, EnrolReply, EnrolRequest, LINK};
use protocol::message::CoordinatorMessage;
use serde::Serialize;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// After an accept that failed for want of descriptors: until some are free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the last words to somebody who is refused may take.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(2);

/// How the port is opened, and its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenSettings {
    /// Where.
    pub address: SocketAddr,
    /// How long handshake and first request may take together.
    pub stranger_timeout: Duration,
    /// How many that are not known yet may be there at once.
    pub strangers_max: usize,
    /// How many of them from one address (IPv6: one /64).
    pub strangers_max_each: usize,
}

impl ListenSettings {
    /// At `address`, with the usual bounds.
    #[must_use]
    pub const fn at(address: SocketAddr) -> Self {
        let stranger_timeout = Duration::from_secs(10);
        Self { address, stranger_timeout, strangers_max: 256, strangers_max_each: 64 }
    }
}

/// Why the port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("listen for agents at {address}")]
pub struct ListenError {
    /// Where.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// The open port. Dropping it closes it.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    accepting: Option<JoinHandle<()>>,
}

impl Listening {
    /// Where it is; with the port that the system chose, where 0 was asked for.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the port, and ends the connections of those who are not known yet. Sessions go on: they end with the coordinator.
    pub async fn stop(mut self) {
        let _nobody = self.stop.send(true);
        if let Some(accepting) = self.accepting.take() {
            // It cannot have panicked, and it ends at once.
            let _ended = accepting.await;
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _nobody = self.stop.send(true);
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

/// Opens the port, within an actor system: connections become sessions of `coordinator`.
///
/// # Errors
/// If it cannot be opened.
pub async fn listen(
    settings: ListenSettings,
    coordinator: Addr<Coordinator>,
    fleet: Fleet,
) -> Result<Listening, ListenError> {
    let failed = |source| ListenError { address: settings.address, source };
    let listener = TcpListener::bind(settings.address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let (stop, stopped) = watch::channel(false);
    let door = Rc::new(Door {
        acceptor: TlsAcceptor::from(fleet.tls.clone()),
        settings,
        coordinator,
        fleet,
        strangers: RefCell::default(),
        stopped: stopped.clone(),
    });
    let accepting = Some(tokio::task::spawn_local(door.accept(listener, stopped)));
    Ok(Listening { address, stop, accepting })
}

/// What all connections share, on one thread.
struct Door {
    acceptor: TlsAcceptor,
    settings: ListenSettings,
    coordinator: Addr<Coordinator>,
    fleet: Fleet,
    /// How many that are not known are there, by address.
    strangers: RefCell<BTreeMap<IpAddr, usize>>,
    stopped: watch::Receiver<bool>,
}

/// A place among those who are not known yet, while it is held.
struct Place {
    door: Rc<Door>,
    from: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut strangers = self.door.strangers.borrow_mut();
        if let Some(count) = strangers.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                strangers.remove(&self.from);
            }
        }
    }
}

impl Door {
    async fn accept(self: Rc<Self>, listener: TcpListener, mut stopped: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stopped.changed() => return,
            };
            match accepted {
                Ok((stream, peer)) => self.let_in(stream, peer),
                // Gone before it was accepted, or no descriptor is free: neither is an end.
                Err(error) => {
                    tracing::debug!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn let_in(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        let Some(place) = self.place(peer.ip()) else {
            let reason = "too many connections that are not known yet";
            return self.fleet.refused(&who(peer), Kind::TooMany.as_str(), reason);
        };
        let door = Rc::clone(self);
        // Ends by the timeout inside, or with the listener.
        tokio::task::spawn_local(async move {
            let mut stopped = door.stopped.clone();
            let received = tokio::time::timeout(door.settings.stranger_timeout, door.receive(stream, peer));
            let received = tokio::select! {
                received = received => received,
                _ = stopped.changed() => return,
            };
            let refused = match received {
                Ok(Ok(())) => return,
                Ok(Err(refusal)) => refusal,
                Err(_) => Refusal::new(Kind::TooSlow, "handshake and request took too long"),
            };
            tracing::debug!(%peer, kind = refused.kind.as_str(), reason = %refused, "a connection was refused");
            door.fleet.refused(&who(peer), refused.kind.as_str(), &refused.reason);
            drop(place);
        });
    }

    fn place(self: &Rc<Self>, from: IpAddr) -> Option<Place> {
        let from = source(from);
        let mut strangers = self.strangers.borrow_mut();
        let all: usize = strangers.values().sum();
        let of_this = strangers.get(&from).copied().unwrap_or(0);
        if all >= self.settings.strangers_max || of_this >= self.settings.strangers_max_each {
            return None;
        }
        strangers.insert(from, of_this + 1);
        Some(Place { door: Rc::clone(self), from })
    }

    /// Sees a connection to its session, or to the end of its enrolment. A refusal that is returned is not counted yet.
    async fn receive(&self, stream: TcpStream, peer: SocketAddr) -> Result<(), Refusal> {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "small frames may wait");
        }
        let stream = self.acceptor.accept(stream).await.map_err(|error| of_handshake(&error))?;
        let (_, tls) = stream.get_ref();
        let shown = tls.peer_certificates().and_then(|chain| chain.first());
        let agent = match shown {
            None => None,
            Some(der) => {
                let agent = Certificate::read(der).ok().and_then(|read| read.agent);
                let reason = "the certificate names no agent";
                Some(agent.ok_or_else(|| Refusal::new(Kind::Certificate, reason))?)
            }
        };
        match (tls.alpn_protocol(), agent) {
            (Some(LINK), Some(agent)) => self.link(stream, peer, agent).await,
            (Some(LINK), None) => {
                let refusal = Refusal::new(Kind::NoCertificate, "a link needs the certificate that joining gives");
                last_words(stream, &CoordinatorMessage::Refused { reason: refusal.reason.clone() }).await;
                Err(refusal)
            }
            (Some(ENROL), agent) => self.enrol(stream, peer, agent).await,
            _ => Err(Refusal::new(Kind::Handshake, "the handshake names no protocol of ours")),
        }
    }

    async fn link(&self, stream: TlsStream<TcpStream>, peer: SocketAddr, agent: AgentId) -> Result<(), Refusal> {
        let hearing = match self.fleet.admit(agent, peer).await {
            Ok(Ok(hearing)) => hearing,
            // Counted where it was decided.
            Ok(Err(Refusal { reason, .. })) => {
                last_words(stream, &CoordinatorMessage::Refused { reason }).await;
                return Ok(());
            }
            Err(error) => return failed(error),
        };
        let known = Peer::new(self.fleet.clone(), agent, hearing.number, peer);
        let transport = Box::new(Cuttable::new(stream, hearing));
        if self.coordinator.send(ConnectPeer(transport, known)).await.is_err() {
            tracing::debug!("the coordinator is gone");
        }
        Ok(())
    }

    async fn enrol(
        &self,
        stream: TlsStream<TcpStream>,
        peer: SocketAddr,
        agent: Option<AgentId>,
    ) -> Result<(), Refusal> {
        let mut framed = framed(stream, ENROL_BYTES_MAX);
        let request = hear::<_, EnrolRequest>(&mut framed).await;
        let request = request.map_err(|error| Refusal::new(Kind::Frame, error.to_string()))?;
        let answered = match (request, agent) {
            // It went without a word.
            (None, _) => return Ok(()),
            (Some(EnrolRequest::Join(join)), None) => self.fleet.join(join, peer).await,
            (Some(EnrolRequest::Renew { request }), Some(agent)) => self.fleet.renew(agent, request, peer).await,
            (Some(_), _) => {
                return Err(Refusal::new(Kind::Protocol, "an agent joins without a certificate, and renews with one"));
            }
        };
        match answered {
            Ok(reply) => {
                last_words(framed.into_inner(), &reply).await;
                Ok(())
            }
            Err(error) => {
                let reason = "the coordinator cannot do that now: see its log, and try again".to_owned();
                last_words(framed.into_inner(), &EnrolReply::Refused { reason }).await;
                failed(error)
            }
        }
    }
}

/// Our own failure is nobody's refusal.
fn failed(error: FleetError) -> Result<(), Refusal> {
    tracing::warn!(error = %anyhow::Error::from(error), "an agent was turned away");
    Ok(())
}

/// Says one thing and closes. Whoever does not read it does without.
async fn last_words<M: Serialize>(stream: impl Stream, message: &M) {
    let Ok(frame) = codec::encode(message) else { return };
    let mut framed = framed(stream, codec::FRAME_BYTES_MAX);
    let said = async {
        framed.send(Bytes::from(frame)).await?;
        SinkExt::<Bytes>::close(&mut framed).await
    };
    let _unheard: Result<io::Result<()>, _> = tokio::time::timeout(LAST_WORDS_TIMEOUT, said).await;
}

fn of_handshake(error: &io::Error) -> Refusal {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let kind = match inner {
        Some(rustls::Error::InvalidMessage(_)) => Kind::NoTls,
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => Kind::Certificate,
        _ => Kind::Handshake,
    };
    Refusal::new(kind, error.to_string())
}

fn who(peer: SocketAddr) -> String {
    peer.ip().to_canonical().to_string()
}

/// Whom an address stands for: an IPv6 host has a /64 to itself.
fn source(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(v6) => {
            let s = v6.segments();
            IpAddr::V6([s[0], s[1], s[2], s[3], 0, 0, 0, 0].into())
        }
        v4 => v4,
    }
}
