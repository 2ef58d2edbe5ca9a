//! Reaching a coordinator on another machine: TCP, directly or through a proxy, then TLS with the authority that is known.

mod proxy;
mod tls;

pub use proxy::{Proxies, ProxyError};
pub use tls::{TlsError, coordinator_name, joining, known, pinned};

use crate::actors::link::{Dial, Dialling};
use crate::frames::Transport;
use crate::identity::StateDirectory;
use protocol::enrol::LINK;
use protocol::token::DialAddress;
use rustls::ClientConfig;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long one step of a connection may take: looking up, connecting, the proxy's answer, the handshake.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a coordinator was not reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Its name could not be looked up.
    #[error("look up {0}")]
    LookUp(DialAddress, #[source] io::Error),
    /// Its name has no address.
    #[error("look up {0}: it has no address")]
    NoAddress(DialAddress),
    /// It has an address that it had not when this agent started, and from which its scope does not guard it.
    #[error("dial {0}: its name now means {1}; restart the agent to take that")]
    Moved(DialAddress, IpAddr),
    /// The connection failed.
    #[error("connect to {0}")]
    Connect(DialAddress, #[source] io::Error),
    /// The proxy did not connect us.
    #[error("reach {0} through the proxy")]
    Proxy(DialAddress, #[source] ProxyError),
    /// It is not the coordinator that is known, or does not take this agent.
    #[error("TLS with {0}")]
    Tls(DialAddress, #[source] TlsError),
    /// A step took too long.
    #[error("{1} {0}: no answer in time")]
    TooSlow(DialAddress, &'static str),
}

/// A route to a coordinator.
#[derive(Debug, Clone)]
pub struct Route {
    addresses: Vec<DialAddress>,
    proxies: Proxies,
    /// What the coordinator's names meant when the agent started. `None` while that does not matter: nothing is probed yet.
    guarded: Option<Vec<IpAddr>>,
}

impl Route {
    /// To the first of `addresses` that can be reached, through the proxies of `proxies`.
    #[must_use]
    pub fn new(addresses: Vec<DialAddress>, proxies: Proxies) -> Self {
        Self { addresses, proxies, guarded: None }
    }

    /// Every address that is dialled: the coordinator's, and those of proxies in between. What cannot be looked up is left out:
    /// it will not be dialled either.
    pub async fn guard(&mut self) -> Vec<IpAddr> {
        let mut guarded = Vec::new();
        for address in &self.addresses {
            let hop = self.proxies.hop(address);
            for dialled in [Some(address), hop.as_ref().map(|hop| hop.address())].into_iter().flatten() {
                if let Ok(sockets) = look_up(dialled).await {
                    guarded.extend(sockets.iter().map(|socket| socket.ip().to_canonical()));
                }
            }
        }
        guarded.sort_unstable();
        guarded.dedup();
        self.guarded = Some(guarded.clone());
        guarded
    }

    /// Connects to the first address that can be reached, with TLS.
    ///
    /// # Errors
    /// Why the last of them could not be.
    pub async fn connect(&self, config: &Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, DialError> {
        let mut last = None;
        for address in &self.addresses {
            match self.connect_to(address, config).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| unreachable!("a route has an address: tokens and state are checked for it")))
    }

    async fn connect_to(
        &self,
        address: &DialAddress,
        config: &Arc<ClientConfig>,
    ) -> Result<TlsStream<TcpStream>, DialError> {
        let stream = match self.proxies.hop(address) {
            None => self.tcp(address).await?,
            Some(hop) => {
                let mut stream = self.tcp(hop.address()).await?;
                let asked = hop.ask(&mut stream, address);
                within(address, "proxy for", asked).await?.map_err(|why| DialError::Proxy(address.clone(), why))?;
                stream
            }
        };
        let connector = TlsConnector::from(Arc::clone(config));
        let shaken = within(address, "TLS with", connector.connect(tls::coordinator_name(), stream)).await?;
        shaken.map_err(|error| DialError::Tls(address.clone(), TlsError::from(error)))
    }

    async fn tcp(&self, address: &DialAddress) -> Result<TcpStream, DialError> {
        let sockets = within(address, "look up", look_up(address)).await??;
        let mut last = DialError::NoAddress(address.clone());
        for socket in sockets {
            let ip = socket.ip().to_canonical();
            if self.guarded.as_ref().is_some_and(|guarded| !guarded.contains(&ip)) {
                last = DialError::Moved(address.clone(), ip);
                continue;
            }
            match within(address, "connect to", TcpStream::connect(socket)).await {
                Ok(Ok(stream)) => {
                    // Small frames go out at once: renewals are worth more than full segments.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "small frames may wait");
                    }
                    return Ok(stream);
                }
                Ok(Err(error)) => last = DialError::Connect(address.clone(), error),
                Err(slow) => last = slow,
            }
        }
        Err(last)
    }
}

async fn look_up(address: &DialAddress) -> Result<Vec<SocketAddr>, DialError> {
    if let Some(ip) = address.ip() {
        return Ok(vec![SocketAddr::new(ip, address.port())]);
    }
    let found = tokio::net::lookup_host((address.host(), address.port())).await;
    // The first few: a name with more addresses than that is not tried through.
    found.map(|sockets| sockets.take(8).collect()).map_err(|why| DialError::LookUp(address.clone(), why))
}

async fn within<T>(address: &DialAddress, step: &'static str, doing: impl Future<Output = T>) -> Result<T, DialError> {
    let done = tokio::time::timeout(STEP_TIMEOUT, doing).await;
    done.map_err(|_| DialError::TooSlow(address.clone(), step))
}

/// Dials the link of an agent that has joined. The certificate is read anew each time: it is renewed while the agent runs.
#[derive(Debug, Clone)]
pub struct LinkDial {
    route: Route,
    state: StateDirectory,
    open: watch::Sender<usize>,
}

impl LinkDial {
    /// A dialler with what `state` holds, and how many of its connections are open.
    #[must_use]
    pub fn new(route: Route, state: StateDirectory) -> (Self, watch::Receiver<usize>) {
        let (open, count) = watch::channel(0);
        (Self { route, state, open }, count)
    }
}

impl Dial for LinkDial {
    fn dial(&mut self) -> Dialling {
        let Self { route, state, open } = self.clone();
        Box::pin(async move {
            let credentials = state.credentials().map_err(io::Error::other)?;
            let config = known(&credentials, LINK).map_err(io::Error::other)?;
            let stream = route.connect(&config).await.map_err(io::Error::other)?;
            open.send_modify(|open| *open += 1);
            Ok(Box::new(Counted { stream, open }) as Transport)
        })
    }
}

/// A connection that is counted as long as it is there.
struct Counted {
    stream: TlsStream<TcpStream>,
    open: watch::Sender<usize>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.open.send_modify(|open| *open -= 1);
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
