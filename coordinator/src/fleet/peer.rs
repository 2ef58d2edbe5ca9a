//! The agent at the other end of a session, as its certificate names it: what it says in hello is checked against that, and its
//! connection can be cut.

use super::Fleet;
use super::refusal::{Kind, Refusal};
use super::registrar::Hearing;
use super::roster::Facts;
use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use portsweep_agent::frames::{ReadError, Stream};
use protocol::enrol::AgentId;
use protocol::message::{Hello, RefusedGrant};
use protocol::quote::Quoted;
use protocol::range_set::AddressSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;

/// How many networks of an allow-list are shown.
const ALLOW_SHOWN_MAX: usize = 256;

/// An agent that connected. Lives as long as its session.
#[derive(Debug)]
pub struct Peer {
    fleet: Fleet,
    agent: AgentId,
    session: u64,
    address: SocketAddr,
}

impl Peer {
    pub(super) const fn new(fleet: Fleet, agent: AgentId, session: u64, address: SocketAddr) -> Self {
        Self { fleet, agent, session, address }
    }

    /// Checks what an agent says in hello against what is known of it. The vantage becomes the roster's.
    ///
    /// # Errors
    /// The line with which it is refused.
    pub async fn check(&self, hello: &mut Hello) -> Result<(), String> {
        let facts = Facts {
            // It comes from another machine, and is shown on terminals.
            software: Quoted::new(&hello.software).to_string().trim_matches('"').to_owned(),
            ping_method: hello.ping_method.as_str(),
            allow: networks(&hello.allow),
            instance: hello.instance,
        };
        let heard = self.fleet.hello((self.agent, self.session), hello.agent.clone(), facts, self.address).await;
        match heard {
            Ok(Ok(vantage)) => {
                hello.vantage = vantage;
                if let Some(refused) = &hello.refused {
                    self.refused_grant(refused);
                }
                Ok(())
            }
            Ok(Err(refusal)) => Err(refusal.reason),
            Err(error) => {
                tracing::warn!(error = %anyhow::Error::from(error), "hello was not checked");
                Err("the coordinator cannot look the agent up now: it is to try again".to_owned())
            }
        }
    }

    /// The agent refused a grant of its session before this one: somebody should look which of the two is wrong.
    fn refused_grant(&self, RefusedGrant { scan, epoch, reason }: &RefusedGrant) {
        // It comes from another machine, and is shown on terminals.
        let reason = format!("it refused lease {epoch} of scan {scan}: {}", reason.escape_debug());
        tracing::warn!(agent = %self.agent, reason, "an agent refused what it was granted");
        self.fleet.refused_agent(self.agent, self.address, Refusal::new(Kind::Grant, reason));
    }

    /// The agent measured the round trip of its link.
    pub fn measured(&self, rtt_us: u32) {
        self.fleet.measured(self.agent, self.session, rtt_us);
    }

    /// The session was refused by the coordinator.
    pub fn refused(&self, reason: &str) {
        let kind = if reason.contains("protocol version") { Kind::Versions } else { Kind::Protocol };
        self.fleet.refused_agent(self.agent, self.address, Refusal::new(kind, reason));
    }

    /// The session ended with what is no frame, or no message. A connection that broke is no refusal.
    pub fn failed(&self, error: &ReadError) {
        let is_broken = matches!(error, ReadError::Io(error) if error.kind() != io::ErrorKind::InvalidData);
        if !is_broken {
            let reason = format!("{:#}", anyhow::anyhow!(error.to_string()));
            self.fleet.refused_agent(self.agent, self.address, Refusal::new(Kind::Frame, reason));
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.fleet.ended(self.agent, self.session);
    }
}

/// The networks that cover a set exactly, the first of them.
fn networks(set: &AddressSet) -> Vec<String> {
    let nets = set.ranges().flat_map(|range| -> Box<dyn Iterator<Item = IpNet>> {
        match range {
            (IpAddr::V4(first), IpAddr::V4(last)) => Box::new(Ipv4Subnets::new(first, last, 0).map(IpNet::V4)),
            (IpAddr::V6(first), IpAddr::V6(last)) => Box::new(Ipv6Subnets::new(first, last, 0).map(IpNet::V6)),
            _ => Box::new(std::iter::empty()),
        }
    });
    let mut shown: Vec<_> = nets.take(ALLOW_SHOWN_MAX + 1).map(|net| net.to_string()).collect();
    if shown.len() > ALLOW_SHOWN_MAX {
        shown.pop();
        shown.push("...".to_owned());
    }
    shown
}

/// A connection that ends when it is to be cut: for who reads it, the peer closed.
pub(super) struct Cuttable<S> {
    stream: S,
    cut: mpsc::Receiver<()>,
    is_cut: bool,
}

impl<S> Cuttable<S> {
    pub(super) fn new(stream: S, hearing: Hearing) -> Self {
        Self { stream, cut: hearing.cut, is_cut: false }
    }

    fn is_cut(&mut self, cx: &mut Context<'_>) -> bool {
        // `None`: who could cut it dropped it from its list, which is the same.
        self.is_cut = self.is_cut || self.cut.poll_recv(cx).is_ready();
        self.is_cut
    }
}

impl<S: Stream> AsyncRead for Cuttable<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_cut(cx) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: Stream> AsyncWrite for Cuttable<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_cut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allow_list_is_shown_as_networks_and_not_without_end() {
        let mut set = AddressSet::from("192.0.2.0/25".parse::<IpNet>().unwrap());
        set.insert("192.0.2.128".parse().unwrap());
        set.insert_net("2001:db8::/64".parse().unwrap());
        assert_eq!(networks(&set), ["192.0.2.0/25", "192.0.2.128/32", "2001:db8::/64"]);
        for odd in 0..1_000_u32 {
            set.insert(IpAddr::V4((0xc633_6400 + odd * 2).into()));
        }
        assert_eq!(networks(&set).len(), ALLOW_SHOWN_MAX + 1);
        assert_eq!(networks(&AddressSet::new()), [""; 0]);
    }
}
