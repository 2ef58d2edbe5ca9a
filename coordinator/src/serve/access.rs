//! `Access`: who may ask what of page and API. It keeps tokens and sessions, as hashes alone, in `STATE/serve.db`, and when scans ended.
//!
//! - Owner: `serve`.
//! - In: [`Admit`], [`Open`], [`Close`], [`MakeToken`], [`ListTokens`], [`RevokeToken`] from requests, awaited; [`Ended`] and [`Forget`] from
//!   the feed.
//! - Out: answers alone.
//! - Death: no request is admitted any more.
//!
//! Secrets are 32 random bytes, so that a plain SHA-256 of one keeps it as well as a slow hash would.

use actix::prelude::*;
use jiff::{SignedDuration, Timestamp};
use protocol::id::ScanId;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use utoipa::ToSchema;

/// How long a session lasts.
pub const SESSION_HOURS: i64 = 12;
/// How many sessions there are at most; the oldest goes.
const SESSIONS_MAX: usize = 64;
/// How many tokens there are at most.
const TOKENS_MAX: usize = 256;
/// What a token begins with, so that one who finds it knows what it is.
const TOKEN_PREFIX: &str = "psw_";
/// The file with this machine's token.
pub const LOCAL_TOKEN: &str = "local.token";

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look.
    Viewer,
    /// Look, and change.
    Operator,
}

impl Role {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}

/// The hash of a secret.
type Hash = [u8; 32];

fn hash(secret: &str) -> Hash {
    Sha256::digest(secret.as_bytes()).into()
}

/// A new secret.
///
/// # Errors
/// If the system gives no random numbers.
pub fn secret() -> io::Result<String> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A token as it is shown: never itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Its number.
    pub id: u32,
    /// What it is for.
    pub name: String,
    /// What it may.
    pub role: Role,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub made: Timestamp,
}

/// Why access could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The database.
    #[error("tokens and sessions cannot be kept")]
    Database(#[from] rusqlite::Error),
    /// A file, or the system's random numbers.
    #[error("tokens and sessions cannot be kept")]
    Io(#[from] io::Error),
    /// There are too many tokens.
    #[error("there are {TOKENS_MAX} tokens already: revoke one first")]
    TooMany,
}

/// A browser that came in.
struct Session {
    ends: Timestamp,
    /// By which token it came in, and so what it may; `None` for the key of a start, which may all.
    token: Option<u32>,
}

/// The actor.
pub struct Access {
    database: Connection,
    local: Hash,
    key: Hash,
    tokens: BTreeMap<Hash, Token>,
    sessions: BTreeMap<Hash, Session>,
    clock: fn() -> Timestamp,
}

impl Access {
    /// Over the file in `directory`, which is made where it is missing. `key` opens a session.
    ///
    /// # Errors
    /// If the file, or that of this machine's token, cannot be made or read.
    pub fn new(directory: &Path, key: &str, clock: fn() -> Timestamp) -> Result<Self, AccessError> {
        let path = directory.join("serve.db");
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
        let database = Connection::open(&path)?;
        database.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE IF NOT EXISTS token (id INTEGER PRIMARY KEY AUTOINCREMENT, hash BLOB NOT NULL UNIQUE, name TEXT NOT NULL,
                 role TEXT NOT NULL, made TEXT NOT NULL) STRICT;
             CREATE TABLE IF NOT EXISTS session (hash BLOB PRIMARY KEY, ends TEXT NOT NULL) STRICT;
             CREATE TABLE IF NOT EXISTS ended (scan BLOB PRIMARY KEY, at TEXT NOT NULL) STRICT;",
        )?;
        // Before, all sessions came by a key.
        if database.prepare("SELECT token FROM session").is_err() {
            database.execute_batch("ALTER TABLE session ADD COLUMN token INTEGER")?;
        }
        let mut access = Self {
            local: hash(&local_token(directory)?),
            key: hash(key),
            tokens: BTreeMap::new(),
            sessions: BTreeMap::new(),
            database,
            clock,
        };
        access.load()?;
        Ok(access)
    }

    fn load(&mut self) -> Result<(), rusqlite::Error> {
        let mut select = self.database.prepare("SELECT id, hash, name, role, made FROM token")?;
        let tokens = select.query_map([], |row| {
            let role = if row.get::<_, String>(3)? == Role::Operator.as_str() { Role::Operator } else { Role::Viewer };
            let made = row.get::<_, String>(4)?.parse().unwrap_or(Timestamp::UNIX_EPOCH);
            Ok((row.get::<_, Hash>(1)?, Token { id: row.get(0)?, name: row.get(2)?, role, made }))
        })?;
        self.tokens = tokens.collect::<Result<_, _>>()?;
        let mut select = self.database.prepare("SELECT hash, ends, token FROM session")?;
        let sessions = select.query_map([], |row| {
            let ends = row.get::<_, String>(1)?.parse().unwrap_or(Timestamp::UNIX_EPOCH);
            Ok((row.get::<_, Hash>(0)?, Session { ends, token: row.get(2)? }))
        })?;
        self.sessions = sessions.collect::<Result<_, _>>()?;
        Ok(())
    }

    /// When scans ended.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn ended(&self) -> Result<super::feed::Ended, AccessError> {
        let mut select = self.database.prepare("SELECT scan, at FROM ended")?;
        let rows = select.query_map([], |row| {
            Ok((ScanId::from_bytes(row.get(0)?), row.get::<_, String>(1)?.parse().unwrap_or(Timestamp::UNIX_EPOCH)))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn admit(&self, secret: &Secret) -> Option<(Role, String)> {
        let of = |token: &Token| (token.role, format!("token {} {}", token.id, token.name).trim_end().to_owned());
        match secret {
            Secret::Bearer(token) => {
                let hash = hash(token);
                let is_local = (hash == self.local).then(|| (Role::Operator, "this machine".to_owned()));
                is_local.or_else(|| self.tokens.get(&hash).map(of))
            }
            Secret::Session(session) => {
                let session = self.sessions.get(&hash(session)).filter(|session| session.ends > (self.clock)())?;
                match session.token {
                    None => Some((Role::Operator, "page".to_owned())),
                    // A token that was taken back takes its sessions with it.
                    Some(id) => {
                        let (role, who) = self.tokens.values().find(|token| token.id == id).map(of)?;
                        Some((role, format!("page, {who}")))
                    }
                }
            }
        }
    }

    fn open(&mut self, shown: &str) -> Result<Option<String>, AccessError> {
        let token = match hash(shown) {
            key if key == self.key || key == self.local => None,
            other => match self.tokens.get(&other) {
                Some(token) => Some(token.id),
                None => return Ok(None),
            },
        };
        let (session, now) = (secret()?, (self.clock)());
        let ends = now.checked_add(SignedDuration::from_hours(SESSION_HOURS)).unwrap_or(now);
        self.sessions.retain(|_, session| session.ends > now);
        while self.sessions.len() >= SESSIONS_MAX {
            let oldest = self.sessions.iter().min_by_key(|(_, session)| session.ends).map(|(hash, _)| *hash);
            oldest.map(|hash| self.sessions.remove(&hash));
        }
        self.sessions.insert(hash(&session), Session { ends, token });
        self.keep_sessions()?;
        Ok(Some(session))
    }

    fn close(&mut self, session: &str) -> Result<(), AccessError> {
        self.sessions.remove(&hash(session));
        self.keep_sessions()
    }

    fn keep_sessions(&mut self) -> Result<(), AccessError> {
        let change = self.database.transaction()?;
        change.execute("DELETE FROM session", [])?;
        for (hash, Session { ends, token }) in &self.sessions {
            let row = params![hash, ends.to_string(), token];
            change.execute("INSERT INTO session (hash, ends, token) VALUES (?, ?, ?)", row)?;
        }
        Ok(change.commit()?)
    }

    fn make(&mut self, name: String, role: Role) -> Result<(Token, String), AccessError> {
        if self.tokens.len() >= TOKENS_MAX {
            return Err(AccessError::TooMany);
        }
        let (secret, made) = (format!("{TOKEN_PREFIX}{}", secret()?), (self.clock)());
        let row = params![hash(&secret), name, role.as_str(), made.to_string()];
        self.database.execute("INSERT INTO token (hash, name, role, made) VALUES (?, ?, ?, ?)", row)?;
        let id = u32::try_from(self.database.last_insert_rowid()).unwrap_or(u32::MAX);
        let token = Token { id, name, role, made };
        self.tokens.insert(hash(&secret), token.clone());
        Ok((token, secret))
    }

    fn revoke(&mut self, id: u32) -> Result<bool, AccessError> {
        let removed = self.database.execute("DELETE FROM token WHERE id = ?", [id])?;
        self.tokens.retain(|_, token| token.id != id);
        Ok(removed > 0)
    }
}

/// This machine's token: made once, for whoever may read the state directory.
fn local_token(directory: &Path) -> io::Result<String> {
    let path = directory.join(LOCAL_TOKEN);
    match read_local_token(&path)? {
        Some(token) => Ok(token),
        None => {
            let token = format!("{TOKEN_PREFIX}{}", secret()?);
            let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
            file.write_all(token.as_bytes())?;
            file.sync_all()?;
            Ok(token)
        }
    }
}

/// The token in a file; `None` where there is none.
///
/// # Errors
/// If the file cannot be read.
pub fn read_local_token(path: &Path) -> io::Result<Option<String>> {
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut token = String::new();
    file.take(256).read_to_string(&mut token)?;
    let token = token.trim();
    let is_whole = token.len() == TOKEN_PREFIX.len() + 64 && token.bytes().all(|byte| byte.is_ascii_graphic());
    Ok(is_whole.then(|| token.to_owned()))
}

impl Actor for Access {
    type Context = Context<Self>;
}

/// What somebody shows.
#[derive(Debug)]
pub enum Secret {
    /// A token.
    Bearer(String),
    /// A session's cookie.
    Session(String),
}

/// May whoever shows this ask? What they may, and how the audit names them; `None` for nothing.
#[derive(Message)]
#[rtype(result = "Option<(Role, String)>")]
pub struct Admit(pub Secret);

/// Opens a session with the key of this start, or with a token, this machine's too; its cookie, or `None` for what is neither.
#[derive(Message)]
#[rtype(result = "Result<Option<String>, AccessError>")]
pub struct Open(pub String);

/// Ends a session, by its cookie.
#[derive(Message)]
#[rtype(result = "Result<(), AccessError>")]
pub struct Close(pub String);

/// Makes a token. It is shown this once.
#[derive(Message)]
#[rtype(result = "Result<(Token, String), AccessError>")]
pub struct MakeToken {
    /// What it is for.
    pub name: String,
    /// What it may.
    pub role: Role,
}

/// The tokens, by number.
#[derive(Message)]
#[rtype(result = "Vec<Token>")]
pub struct ListTokens;

/// Takes a token back; false where there is none of this number.
#[derive(Message)]
#[rtype(result = "Result<bool, AccessError>")]
pub struct RevokeToken(pub u32);

/// A scan ended.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Ended {
    /// Which.
    pub scan: ScanId,
    /// When.
    pub at: Timestamp,
}

/// A scan was removed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Forget(pub ScanId);

impl Handler<Admit> for Access {
    type Result = Option<(Role, String)>;

    fn handle(&mut self, Admit(secret): Admit, _: &mut Self::Context) -> Self::Result {
        self.admit(&secret)
    }
}

impl Handler<Open> for Access {
    type Result = Result<Option<String>, AccessError>;

    fn handle(&mut self, Open(key): Open, _: &mut Self::Context) -> Self::Result {
        self.open(&key)
    }
}

impl Handler<Close> for Access {
    type Result = Result<(), AccessError>;

    fn handle(&mut self, Close(session): Close, _: &mut Self::Context) -> Self::Result {
        self.close(&session)
    }
}

impl Handler<MakeToken> for Access {
    type Result = Result<(Token, String), AccessError>;

    fn handle(&mut self, MakeToken { name, role }: MakeToken, _: &mut Self::Context) -> Self::Result {
        self.make(name, role)
    }
}

impl Handler<ListTokens> for Access {
    type Result = MessageResult<ListTokens>;

    fn handle(&mut self, _: ListTokens, _: &mut Self::Context) -> Self::Result {
        let mut tokens: Vec<_> = self.tokens.values().cloned().collect();
        tokens.sort_by_key(|token| token.id);
        MessageResult(tokens)
    }
}

impl Handler<RevokeToken> for Access {
    type Result = Result<bool, AccessError>;

    fn handle(&mut self, RevokeToken(id): RevokeToken, _: &mut Self::Context) -> Self::Result {
        self.revoke(id)
    }
}

impl Handler<Ended> for Access {
    type Result = ();

    fn handle(&mut self, Ended { scan, at }: Ended, _: &mut Self::Context) {
        let row = params![scan.as_bytes(), at.to_string()];
        if let Err(error) = self.database.execute("INSERT OR REPLACE INTO ended (scan, at) VALUES (?, ?)", row) {
            tracing::warn!(%scan, %error, "when the scan ended is not kept");
        }
    }
}

impl Handler<Forget> for Access {
    type Result = ();

    fn handle(&mut self, Forget(scan): Forget, _: &mut Self::Context) {
        if let Err(error) = self.database.execute("DELETE FROM ended WHERE scan = ?", [scan.as_bytes()]) {
            tracing::warn!(%scan, %error, "when a scan ended that is no more is kept");
        }
    }
}
