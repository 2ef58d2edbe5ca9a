//! The agents of a coordinator: who may join, who has, who is connected, and the port they dial.
//!
//! [`Fleet`] is the handle that the API and the listener share. Behind it is one thread (`registrar`) that owns the roster, the authority's
//! key and the list of live sessions: it waits for the disk, so that nothing else does. [`listen`] opens the port.

pub mod authority;
mod listener;
mod peer;
pub mod refusal;
mod registrar;
pub mod roster;
#[cfg(test)]
mod tests;

pub use listener::{ListenError, ListenSettings, Listening, listen};
pub use peer::Peer;
pub use registrar::{AgentView, Hearing};

use authority::{AGENT_LIFE, Authority, AuthorityError};
use protocol::enrol::Label;
use protocol::token::{DialAddress, JoinToken, Pin, Secret, TokenError};
use registrar::{Registrar, Request};
use roster::{AuditRow, Deed, Roster, RosterError};
use rustls::ServerConfig;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// How long a join token can be used unless somebody says.
pub const TOKEN_TTL: Duration = Duration::from_secs(15 * 60);
/// The longest that somebody can say.
pub const TOKEN_TTL_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);
/// An answer that takes longer than this will not come: the disk stands still.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the fleet does not answer.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The authority cannot be used.
    #[error("use the authority of the agents")]
    Authority(#[from] AuthorityError),
    /// The roster cannot be used.
    #[error(transparent)]
    Roster(#[from] RosterError),
    /// A thread cannot be started.
    #[error("start the thread of the agents' roster")]
    Thread(#[source] io::Error),
    /// More waits than may.
    #[error("the roster of agents has too much to do: try again")]
    Busy,
    /// It ended, or stands still.
    #[error("the roster of agents does not answer")]
    Closed,
    /// No agent has that name or id.
    #[error("there is no agent {0}")]
    NoAgent(protocol::quote::Quoted),
    /// A token cannot be made of these addresses.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The system gives no random numbers.
    #[error("draw a random number: {0}")]
    Random(getrandom::Error),
}

/// The handle. Clones share the same roster; its thread ends with the last.
#[derive(Clone, Debug)]
pub struct Fleet {
    queue: SyncSender<Request>,
    pin: Pin,
    tls: Arc<ServerConfig>,
    changes: watch::Receiver<u64>,
}

impl Fleet {
    /// Opens the fleet of a coordinator whose keys are in `directory` (made if missing) and whose roster is in `database`.
    ///
    /// # Errors
    /// If either cannot be opened or made.
    pub fn open(directory: &Path, database: &Path) -> Result<Self, FleetError> {
        Self::open_with(directory, database, AGENT_LIFE)
    }

    /// As [`open`](Self::open); certificates that are signed hold for `agent_life`.
    ///
    /// # Errors
    /// Likewise.
    pub fn open_with(directory: &Path, database: &Path, agent_life: Duration) -> Result<Self, FleetError> {
        let authority = Authority::open(directory, agent_life)?;
        let (pin, tls) = (authority.pin(), Arc::new(authority.server_config()?));
        let (changed, changes) = watch::channel(0);
        let queue = registrar::start(Registrar::new(Roster::open(database)?, authority, changed))?;
        Ok(Self { queue, pin, tls, changes })
    }

    /// By what the authority is known.
    #[must_use]
    pub const fn pin(&self) -> Pin {
        self.pin
    }

    /// What page and API speak with others under these names and addresses.
    ///
    /// # Errors
    /// If a certificate cannot be made.
    pub async fn page_tls(&self, names: Vec<String>) -> Result<ServerConfig, FleetError> {
        Ok(self.ask(move |registrar| registrar.page_tls(&names)).await??)
    }

    /// A number that changes with every change of any agent: whoever shows them waits for that.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Makes a token with which one agent can join until `ttl` (at most [`TOKEN_TTL_MAX`]) is over. `who` made it.
    ///
    /// # Errors
    /// If it cannot be kept, or there are no addresses or too many.
    pub async fn make_token(
        &self,
        addresses: Vec<DialAddress>,
        ttl: Duration,
        who: &str,
    ) -> Result<JoinToken, FleetError> {
        let mut secret = [0; protocol::token::SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(FleetError::Random)?;
        let token = JoinToken::new(addresses, self.pin, Secret::from_bytes(secret))?;
        let (digest, who, ttl) = (token.secret().digest(), who.to_owned(), ttl.min(TOKEN_TTL_MAX));
        self.ask(move |registrar| registrar.add_token(&digest, ttl, &who)).await??;
        Ok(token)
    }

    /// All agents, by name; those that are revoked too.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn agents(&self) -> Result<Vec<AgentView>, FleetError> {
        Ok(self.ask(|registrar| registrar.agents()).await??)
    }

    /// The agent with this name or id.
    ///
    /// # Errors
    /// [`FleetError::NoAgent`], or if it cannot be read.
    pub async fn agent(&self, name_or_id: &str) -> Result<AgentView, FleetError> {
        let wanted = name_or_id.to_owned();
        self.ask(move |registrar| registrar.find(&wanted)).await?
    }

    /// Sets and takes labels: one with an empty value is taken away. Returns what it is then.
    ///
    /// # Errors
    /// As [`agent`](Self::agent).
    pub async fn label(&self, name_or_id: &str, labels: Vec<Label>, who: &str) -> Result<AgentView, FleetError> {
        let (wanted, who) = (name_or_id.to_owned(), who.to_owned());
        self.ask(move |registrar| registrar.label(&wanted, labels, &who)).await?
    }

    /// Sets whether an agent gets no work. The coordinator hears of it by [`changes`](Self::changes), and what it means for leases is its own.
    ///
    /// # Errors
    /// As [`agent`](Self::agent).
    pub async fn drain(&self, name_or_id: &str, drained: bool, who: &str) -> Result<AgentView, FleetError> {
        let (wanted, who) = (name_or_id.to_owned(), who.to_owned());
        self.ask(move |registrar| registrar.drain(&wanted, drained, &who)).await?
    }

    /// Takes from an agent that it may connect, for good, and closes its sessions.
    ///
    /// # Errors
    /// As [`agent`](Self::agent).
    pub async fn revoke(&self, name_or_id: &str, who: &str) -> Result<AgentView, FleetError> {
        let (wanted, who) = (name_or_id.to_owned(), who.to_owned());
        self.ask(move |registrar| registrar.revoke(&wanted, &who)).await?
    }

    /// Notes a deed in the audit.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn audit(&self, who: &str, what: &str, detail: &str) -> Result<(), FleetError> {
        let (who, what, detail) = (who.to_owned(), what.to_owned(), detail.to_owned());
        self.ask(move |registrar| registrar.audit(&who, &what, &detail)).await??;
        Ok(())
    }

    /// Counts a refusal, which is audited once per peer, kind and minute. Never waits; what cannot be queued is counted as lost there.
    pub fn refused(&self, who: &str, what: &str, detail: &str) {
        let (who, what, detail) = (who.to_owned(), what.to_owned(), detail.to_owned());
        let request: Request = Box::new(move |registrar| registrar.refused(&who, &what, &detail));
        if self.queue.try_send(request).is_err() {
            tracing::debug!("a refusal was not counted: the roster has too much to do");
        }
    }

    /// Rows of the audit, newest first: those before the row `before`, or the newest.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn audit_rows(&self, before: Option<i64>, limit: u32) -> Result<Vec<AuditRow>, FleetError> {
        Ok(self.ask(move |registrar| registrar.audit_rows(before, limit)).await??)
    }

    /// Has the roster's thread do something, and waits for what comes of it.
    async fn ask<T: Send + 'static>(
        &self,
        doing: impl FnOnce(&mut Registrar) -> T + Send + 'static,
    ) -> Result<T, FleetError> {
        let (answer, answered) = oneshot::channel();
        let request: Request = Box::new(move |registrar| {
            // Whoever asked may have given up.
            let _nobody = answer.send(doing(registrar));
        });
        self.queue.try_send(request).map_err(|error| match error {
            TrySendError::Full(_) => FleetError::Busy,
            TrySendError::Disconnected(_) => FleetError::Closed,
        })?;
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, answered).await;
        answered.map_err(|_| FleetError::Closed)?.map_err(|_| FleetError::Closed)
    }
}

/// A deed of now.
fn deed<'a>(at: i64, who: &'a str, what: &'a str, detail: &'a str) -> Deed<'a> {
    Deed { at, who, what, detail }
}
