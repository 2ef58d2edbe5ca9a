//! One request, one connection: small, and nothing to go stale.

use crate::api::problem::Problem;
use crate::cli::{At, ExitCode};
use crate::serve::access::{LOCAL_TOKEN, read_local_token};
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use portsweep_agent::dial::{self, TlsError};
use protocol::token::Pin;
use serde::de::DeserializeOwned;
use std::convert::Infallible;
use std::io::{self, Seek, Write};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// A coordinator that does not take a connection within this is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The head of an answer may wait for a name server, or for a large result to be written.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);
/// Between two parts of a body; twice the heartbeat of a stream.
pub(super) const PART_TIMEOUT: Duration = Duration::from_secs(40);
/// What is read of an answer that is one JSON document.
const DOCUMENT_BYTES_MAX: usize = 64 << 20;

/// Why a coordinator could not be asked, or said no.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It is not there.
    #[error("no coordinator answers at {url}: start one with portsweep serve, or name another with --coordinator=URL")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Who answers there is another.
    #[error("at {url} is not the coordinator that was logged in to")]
    Stranger {
        /// Where.
        url: String,
        /// Why.
        #[source]
        source: TlsError,
    },
    /// It went away, or speaks something else.
    #[error("the coordinator at {url} answers no more")]
    Broken {
        /// Where.
        url: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It said no; the text is its own.
    #[error("{0}")]
    Refused(Said, StatusCode),
}

/// What a coordinator says, on one line and harmless to a terminal.
#[derive(Debug)]
pub struct Said(String);

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl ClientError {
    /// The exit code that it leads to.
    #[must_use]
    pub fn exit(&self) -> ExitCode {
        match self {
            Self::Refused(_, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::PAYLOAD_TOO_LARGE) => {
                ExitCode::Usage
            }
            _ => ExitCode::Failed,
        }
    }

    /// Whether it may be there again later.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } => true,
            Self::Stranger { .. } => false,
            Self::Refused(_, status) => status.is_server_error(),
        }
    }
}

/// A connection, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Asks one coordinator.
#[derive(Clone, Debug)]
pub struct Client {
    url: String,
    authority: String,
    token: Option<String>,
    pin: Option<Pin>,
    local_token: Option<PathBuf>,
}

impl Client {
    /// For a coordinator.
    #[must_use]
    pub fn new(at: &At) -> Self {
        let authority = at.url.split_once("://").map_or(&*at.url, |(_, authority)| authority).to_owned();
        // This machine's token is for this machine's coordinator alone.
        let host = authority.rsplit_once(':').map_or(&*authority, |(host, _)| host);
        let is_here = host == "localhost"
            || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        let local_token = (is_here || at.is_own).then(|| at.state.directory().join(LOCAL_TOKEN));
        let pin = at.pin.filter(|_| at.url.starts_with("https:"));
        Self { url: at.url.clone(), authority, token: at.token.clone(), pin, local_token }
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The token that is shown: the one that was set, else this machine's.
    fn token(&self) -> Option<String> {
        let local = || read_local_token(self.local_token.as_deref()?).ok().flatten();
        self.token.clone().or_else(local)
    }

    fn broken(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Broken { url: self.url.clone(), source: source.into() }
    }

    /// Asks, and gives the answer as soon as its head is there, if it is a yes.
    ///
    /// # Errors
    /// If it does not answer, or says no.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, String)],
        body: Option<Vec<u8>>,
    ) -> Result<Response<Incoming>, ClientError> {
        let kind = body.is_some().then_some("application/json");
        let body = Full::new(Bytes::from(body.unwrap_or_default())).boxed_unsync();
        self.send(method, path, headers, kind, body).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, String)],
        kind: Option<&str>,
        body: UnsyncBoxBody<Bytes, Infallible>,
    ) -> Result<Response<Incoming>, ClientError> {
        let unreachable = |source| ClientError::Unreachable { url: self.url.clone(), source };
        let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.authority)).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(unreachable)?;
        connected.set_nodelay(true).map_err(unreachable)?;
        let stream = self.secured(connected).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(error))?;
        tokio::task::spawn_local(async move {
            // How it ends is seen by whoever reads the answer.
            let _ended = connection.await;
        });
        let mut request = Request::builder().method(method).uri(path).header(HOST, &self.authority);
        if let Some(token) = self.token() {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(kind) = kind {
            request = request.header(CONTENT_TYPE, kind);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(body).map_err(|error| self.broken(error))?;
        let answer = timeout(ANSWER_TIMEOUT, sender.send_request(request)).await;
        let answer = answer.map_err(|error| self.broken(error))?.map_err(|error| self.broken(error))?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.refused(answer).await) }
    }

    /// The connection as it is spoken over: through TLS where a pin says by what the coordinator is known.
    async fn secured(&self, connected: TcpStream) -> Result<Box<dyn Stream>, ClientError> {
        let Some(pin) = self.pin else { return Ok(Box::new(connected)) };
        let stranger = |source| ClientError::Stranger { url: self.url.clone(), source };
        let config = dial::pinned(pin, b"http/1.1").map_err(stranger)?;
        let shaken = timeout(CONNECT_TIMEOUT, TlsConnector::from(config).connect(dial::coordinator_name(), connected));
        let shaken = shaken.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match shaken.map_err(TlsError::from) {
            Ok(stream) => Ok(Box::new(stream)),
            Err(TlsError::Handshake(source)) => Err(ClientError::Unreachable { url: self.url.clone(), source }),
            Err(source) => Err(stranger(source)),
        }
    }

    /// What a no says.
    async fn refused(&self, answer: Response<Incoming>) -> ClientError {
        let status = answer.status();
        let said = self.document(answer).await.ok().and_then(|body| serde_json::from_slice::<Problem>(&body).ok());
        let said = said.map_or_else(|| format!("the coordinator at {} said {status}", self.url), |said| said.detail);
        let line: String = said.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
        let hint = match status {
            StatusCode::UNAUTHORIZED if self.token().is_none() => {
                ": set PORTSWEEP_TOKEN, or run portsweep where serve runs"
            }
            StatusCode::UNAUTHORIZED => ": the token that was shown is not one of its own",
            _ => "",
        };
        ClientError::Refused(Said(line + hint), status)
    }

    async fn document(&self, answer: Response<Incoming>) -> Result<Vec<u8>, ClientError> {
        let mut document = Vec::new();
        let mut parts = self.parts(answer);
        while let Some(part) = parts.next().await? {
            if document.len() + part.len() > DOCUMENT_BYTES_MAX {
                return Err(self.broken("its answer is too long"));
            }
            document.extend_from_slice(&part);
        }
        Ok(document)
    }

    /// Asks for a JSON document.
    ///
    /// # Errors
    /// If it does not answer, says no, or says what cannot be read.
    pub async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<T, ClientError> {
        let answer = self.ask(method, path, &[], body).await?;
        serde_json::from_slice(&self.document(answer).await?).map_err(|error| self.broken(error))
    }

    /// Sends text piece by piece, and reads what is answered.
    ///
    /// # Errors
    /// As [`json`](Self::json).
    pub async fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        pieces: impl Iterator<Item = Bytes> + Send + 'static,
    ) -> Result<T, ClientError> {
        let frames = stream::iter(pieces.map(|piece| Ok::<_, Infallible>(Frame::data(piece))));
        let body = StreamBody::new(frames).boxed_unsync();
        let answer = self.send(Method::POST, path, &[], Some("text/plain"), body).await?;
        serde_json::from_slice(&self.document(answer).await?).map_err(|error| self.broken(error))
    }

    /// Asks for what may be large, and gives it as a file without a name, at its beginning.
    ///
    /// # Errors
    /// If it does not answer, says no, does not come whole, or has no room here.
    pub async fn file(&self, path: &str) -> Result<std::fs::File, ClientError> {
        let answer = self.ask(Method::GET, path, &[], None).await?;
        let mut parts = self.parts(answer);
        let mut file = tempfile::tempfile().map_err(|error| self.broken(error))?;
        while let Some(part) = parts.next().await? {
            file.write_all(&part).map_err(|error| self.broken(error))?;
        }
        file.rewind().map_err(|error| self.broken(error))?;
        Ok(file)
    }

    /// The body of an answer, part by part.
    pub(super) fn parts(&self, answer: Response<Incoming>) -> Parts {
        Parts { client: self.clone(), body: answer.into_body() }
    }
}

/// A body that comes.
pub(super) struct Parts {
    client: Client,
    body: Incoming,
}

impl Parts {
    /// The next part; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            let frame = timeout(PART_TIMEOUT, self.body.frame()).await.map_err(|error| self.client.broken(error))?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(self.client.broken(error)),
                Some(Ok(frame)) => {
                    if let Ok(part) = frame.into_data() {
                        return Ok(Some(part));
                    }
                }
            }
        }
    }
}
