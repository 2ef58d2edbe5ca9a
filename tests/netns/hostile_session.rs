//! The coordinator's side of a connection as a test speaks it: real TLS with an authority of its own, one frame after the other.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use portsweep::fleet::authority::{Authority, Requested};
use protocol::codec;
use protocol::enrol::{AgentId, ENROL, EnrolReply, EnrolRequest, Enrolled, LINK};
use protocol::message::{AgentMessage, Hello, Report};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustls::{ServerConnection, StreamOwned};
use serde::Serialize;

use crate::hostile_coordinator::HEAR_TIMEOUT;

/// A connection of an agent.
pub(crate) struct Session(StreamOwned<ServerConnection, TcpStream>);

/// What an agent said.
#[derive(Debug)]
pub(crate) enum Said {
    /// A claim or a renewal.
    Asked {
        number: u64,
        claims: bool,
    },
    Report(Report),
    Acknowledged,
    /// Something that none of these trials asked for.
    Other,
    /// It closed.
    Gone,
}

impl Session {
    fn accept(listener: &TcpListener, authority: &Authority, protocol: &[u8]) -> anyhow::Result<Self> {
        set_socket_timeout(listener, Timeout::Recv, Some(HEAR_TIMEOUT))?;
        let (stream, _) = listener.accept().context("the agent did not dial")?;
        stream.set_read_timeout(Some(HEAR_TIMEOUT))?;
        stream.set_nodelay(true)?;
        let connection = ServerConnection::new(Arc::new(authority.server_config()?))?;
        let mut session = Self(StreamOwned::new(connection, stream));
        session.0.conn.complete_io(&mut session.0.sock).context("the handshake failed")?;
        ensure!(session.0.conn.alpn_protocol() == Some(protocol), "the agent wants something else");
        Ok(session)
    }

    /// Lets the agent that dials next join.
    pub(crate) fn enrol(listener: &TcpListener, authority: &Authority) -> anyhow::Result<()> {
        let mut session = Self::accept(listener, authority, ENROL)?;
        let frame = session.read()?.context("the agent went")?;
        let EnrolRequest::Join(join) = codec::decode(&frame)? else { bail!("it joins") };
        let agent = AgentId::new(1);
        let requested = Requested::read(&join.request).map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
        let certificate = authority.sign(agent, &requested)?.der;
        let authority = authority.certificate().to_vec();
        let enrolled = Enrolled { agent, vantage: join.name.clone(), name: join.name, certificate, authority };
        session.tell(&EnrolReply::Enrolled(enrolled))?;
        session.0.conn.send_close_notify();
        session.0.flush()?;
        Ok(())
    }

    /// The next link of the agent, and its hello.
    pub(crate) fn link(listener: &TcpListener, authority: &Authority) -> anyhow::Result<(Self, Hello)> {
        let mut session = Self::accept(listener, authority, LINK)?;
        let frame = session.read()?.context("the agent went")?;
        match codec::decode(&frame)? {
            AgentMessage::Hello(hello) => Ok((session, hello)),
            first => bail!("the first frame is {first:?}"),
        }
    }

    /// Says a message.
    pub(crate) fn tell<M: Serialize>(&mut self, message: &M) -> anyhow::Result<()> {
        self.write(&codec::encode(message)?)
    }

    /// Says what is perhaps no message. An agent that has gone does not hear it.
    pub(crate) fn write(&mut self, body: &[u8]) -> anyhow::Result<()> {
        let frame = [&u32::try_from(body.len())?.to_be_bytes()[..], body].concat();
        match self.0.write_all(&frame).and_then(|()| self.0.flush()) {
            Err(error) if !is_gone(&error) => Err(error).context("failed to write to the agent"),
            _ => Ok(()),
        }
    }

    /// What the agent says next.
    pub(crate) fn hear(&mut self) -> anyhow::Result<Said> {
        let Some(frame) = self.read()? else { return Ok(Said::Gone) };
        Ok(match codec::decode(&frame)? {
            AgentMessage::Claim(claim) => Said::Asked { number: claim.number, claims: true },
            AgentMessage::Renew { number, .. } => Said::Asked { number, claims: false },
            AgentMessage::Report(report) => Said::Report(report),
            AgentMessage::Acknowledge { .. } => Said::Acknowledged,
            _ => Said::Other,
        })
    }

    fn read(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        let mut length = [0; 4];
        let read = self.0.read_exact(&mut length).and_then(|()| {
            let mut frame = vec![0; (u32::from_be_bytes(length) as usize).min(codec::FRAME_BYTES_MAX)];
            self.0.read_exact(&mut frame).map(|()| frame)
        });
        match read {
            Ok(frame) => Ok(Some(frame)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error).context("failed to hear the agent"),
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
}
