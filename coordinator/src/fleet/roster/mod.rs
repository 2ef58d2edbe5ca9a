//! The roster: which agents there are, which tokens may still be used, and the audit. Tables of the coordinator's database, written through
//! with `synchronous=FULL`: who was told that it joined, or that another is revoked, can rely on it.
//!
//! R1: a token is used by one agent at most. R2: no two agents that are not revoked share a name. R3: every change has its audit row, in the
//! same transaction.

mod schema;
#[cfg(test)]
mod tests;

use crate::fleet::refusal::{Kind, Refusal};
use protocol::enrol::{AgentId, Label};
use protocol::id::{AgentName, InstanceId};
use protocol::token::Pin;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use serde::Serialize;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use utoipa::ToSchema;

/// "pswp": the application id of all our databases.
const APPLICATION_ID: i32 = 0x7073_7770;
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How many nonces of an agent's processes are kept: a copied key shows within that many restarts.
const INSTANCES_MAX: usize = 64;
/// How many agents are called like a machine before that is refused.
const NAMESAKES_MAX: u32 = 10_000;
/// The most audit rows that are kept; the oldest go first.
pub const AUDIT_ROWS_MAX: i64 = 200_000;
/// Tokens whose time was over for this long are forgotten, so that "used" and "expired" can be told apart for a while.
const TOKENS_KEPT_S: i64 = 7 * 24 * 3_600;

/// Why the roster cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RosterError {
    /// The file cannot be made.
    #[error("cannot make {}", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// A later version made its tables.
    #[error("the agents in {} were kept by a newer portsweep: upgrade, or use another --state", .0.display())]
    Newer(PathBuf),
    /// The database refuses.
    #[error("use the roster of agents")]
    Sqlite(#[from] rusqlite::Error),
    /// What is stored is not what was written.
    #[error("agent {0} of the roster cannot be read: {1}")]
    Malformed(AgentId, String),
}

/// Whether an agent may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It may.
    Good,
    /// Somebody took that from it.
    Revoked,
    /// Its key was found in two places: it is shut out until it is revoked and joins anew.
    Copied,
}

/// An agent as the roster keeps it. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRow {
    /// Its id.
    pub id: AgentId,
    /// Its name: unique among those that are not revoked.
    pub name: AgentName,
    /// The place in the network it sees from.
    pub vantage: AgentName,
    /// Its labels, by key.
    pub labels: Vec<Label>,
    /// By what its key is known.
    pub public_key: Pin,
    /// The serial number of its newest certificate.
    pub serial: String,
    /// Until when that holds.
    pub certificate_ends_at: i64,
    /// When it joined.
    pub joined_at: i64,
    /// Whether it may connect.
    pub standing: Standing,
    /// Whether it gets no work.
    pub drained: bool,
    /// When it was last heard; `None` if it never connected.
    pub seen_at: Option<i64>,
    /// From where.
    pub peer: Option<String>,
    /// The version of its software.
    pub software: String,
    /// How it asks for life.
    pub ping_method: Option<String>,
    /// What it may probe, as it last said: networks.
    pub allow: Vec<String>,
    /// The nonces of its processes, newest first.
    pub instances: Vec<InstanceId>,
    /// What last went wrong with it, and when.
    pub error: Option<(i64, String)>,
}

/// An agent that asks to join.
#[derive(Clone, Debug)]
pub struct Joining {
    /// The digest of its token's secret.
    pub digest: [u8; 32],
    /// The id that it gets if it is new.
    pub id: AgentId,
    /// By what its key is known.
    pub public_key: Pin,
    /// What it would be called.
    pub name: AgentName,
    /// Whether that name was chosen.
    pub name_chosen: bool,
    /// The place in the network it sees from; its name, where nobody says.
    pub vantage: Option<AgentName>,
    /// Its labels.
    pub labels: Vec<Label>,
    /// The version of its software.
    pub software: String,
    /// From where it asks.
    pub peer: String,
}

/// What an agent says of itself in hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The version of its software.
    pub software: String,
    /// How it asks for life.
    pub ping_method: &'static str,
    /// What it may probe: networks.
    pub allow: Vec<String>,
    /// The nonce of its process.
    pub instance: InstanceId,
}

/// A row of the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditRow {
    /// Its number, rising.
    pub key: i64,
    /// When, in seconds since 1970; for refusals the first of their minute.
    pub at: i64,
    /// Who did it: an address, an agent, or what the API calls its user.
    pub who: String,
    /// What was done, or which kind of refusal.
    pub what: String,
    /// To whom or what, and why.
    pub detail: String,
    /// How often.
    pub count: i64,
}

/// What somebody did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed<'a> {
    /// When, in seconds since 1970.
    pub at: i64,
    /// Who did it.
    pub who: &'a str,
    /// What.
    pub what: &'a str,
    /// To whom or what.
    pub detail: &'a str,
}

/// The roster.
#[derive(Debug)]
pub struct Roster {
    connection: Connection,
}

const COLUMNS: &str = "id, name, vantage, labels, public_key, serial, certificate_ends_at, joined_at, revoked_at, copied_at, \
                       drained, seen_at, peer, software, ping_method, allow, instances, error_at, error";

impl Roster {
    /// Opens the roster in a coordinator's database; makes file and tables if they are missing.
    ///
    /// # Errors
    /// If that cannot be done.
    pub fn open(path: &Path) -> Result<Self, RosterError> {
        let failed = |error| RosterError::File(path.to_owned(), error);
        OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(failed)?;
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
        if !schema::migrate(&mut connection)? {
            return Err(RosterError::Newer(path.to_owned()));
        }
        Ok(Self { connection })
    }

    fn begin(&mut self) -> rusqlite::Result<Transaction<'_>> {
        // Whoever writes takes its turn at once: a transaction that began by reading could not be made to write later.
        self.connection.transaction_with_behavior(TransactionBehavior::Immediate)
    }

    /// Keeps a token that may be used once until `expires_at`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add_token(&mut self, digest: &[u8; 32], expires_at: i64, deed: &Deed<'_>) -> Result<(), RosterError> {
        let transaction = self.begin()?;
        transaction.execute("DELETE FROM join_token WHERE expires_at < ?1", [deed.at - TOKENS_KEPT_S])?;
        transaction.execute(
            "INSERT INTO join_token (digest, made_at, expires_at) VALUES (?1, ?2, ?3)",
            params![digest, deed.at, expires_at],
        )?;
        audit(&transaction, deed)?;
        Ok(transaction.commit()?)
    }

    /// Lets an agent join if all hold: 1. the token is ours; 2. nobody used it, or this very key did (its answer was lost); 3. its time is
    /// not over; 4. the name is free, or another like it was found where nobody chose it. An agent that joins again with the key of one
    /// that is in good standing is that one.
    ///
    /// # Errors
    /// If it cannot be written. A refusal is a value.
    pub fn join(&mut self, joining: &Joining, now: i64) -> Result<Result<AgentRow, Refusal>, RosterError> {
        let transaction = self.begin()?;
        let token = transaction
            .query_row("SELECT expires_at, used_by FROM join_token WHERE digest = ?1", [joining.digest], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?))
            })
            .optional()?;
        let known = one(
            &transaction,
            "public_key = ?1 AND revoked_at IS NULL AND copied_at IS NULL",
            &[&joining.public_key.as_bytes()],
        )?;
        let mend = "make another with `portsweep token agent`";
        let refusal = match token {
            None => Some(Refusal::new(Kind::Token, format!("the token is not one of this coordinator's: {mend}"))),
            Some((_, Some(used_by))) if known.as_ref().is_none_or(|known| id_of(used_by) != known.id) => {
                Some(Refusal::new(Kind::TokenUsed, format!("the token was used before: {mend}")))
            }
            Some((expires_at, _)) if expires_at <= now => {
                Some(Refusal::new(Kind::TokenExpired, format!("the token's time is over: {mend}")))
            }
            Some(_) => None,
        };
        if let Some(refusal) = refusal {
            return Ok(Err(refusal));
        }
        let row = match known {
            Some(known) => known,
            None => {
                let Some(name) = free_name(&transaction, &joining.name, joining.name_chosen)? else {
                    let reason = format!("another agent is called {}: choose another --name", joining.name);
                    return Ok(Err(Refusal::new(Kind::NameTaken, reason)));
                };
                insert(&transaction, joining, &name, now)?;
                one(&transaction, "id = ?1", &[&number_of(joining.id)])?.ok_or(rusqlite::Error::QueryReturnedNoRows)?
            }
        };
        transaction.execute(
            "UPDATE join_token SET used_by = ?2 WHERE digest = ?1",
            params![joining.digest, number_of(row.id)],
        )?;
        audit(&transaction, &Deed { at: now, who: &joining.peer, what: "join", detail: row.name.as_str() })?;
        transaction.commit()?;
        Ok(Ok(row))
    }

    /// Notes the newest certificate of an agent.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn certified(&mut self, id: AgentId, serial: &str, ends_at: i64, deed: &Deed<'_>) -> Result<(), RosterError> {
        let transaction = self.begin()?;
        transaction.execute(
            "UPDATE fleet_agent SET serial = ?2, certificate_ends_at = ?3 WHERE id = ?1",
            params![number_of(id), serial, ends_at],
        )?;
        audit(&transaction, deed)?;
        Ok(transaction.commit()?)
    }

    /// All agents, by name; those that are revoked too.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn agents(&self) -> Result<Vec<AgentRow>, RosterError> {
        let mut statement =
            self.connection.prepare(&format!("SELECT {COLUMNS} FROM fleet_agent ORDER BY name, joined_at"))?;
        let rows = statement.query_map([], |row| Ok(read(row)))?;
        rows.map(|row| row?).collect()
    }

    /// One agent.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn agent(&self, id: AgentId) -> Result<Option<AgentRow>, RosterError> {
        one(&self.connection, "id = ?1", &[&number_of(id)])
    }

    /// The agent that has this name and is not revoked, or else this id.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn find(&self, name_or_id: &str) -> Result<Option<AgentRow>, RosterError> {
        let named = one(&self.connection, "name = ?1 AND revoked_at IS NULL", &[&name_or_id])?;
        match (named, name_or_id.parse()) {
            (Some(named), _) => Ok(Some(named)),
            (None, Ok(id)) => self.agent(id),
            (None, Err(_)) => Ok(None),
        }
    }

    /// Sets an agent's labels.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn label(&mut self, id: AgentId, labels: &[Label], deed: &Deed<'_>) -> Result<(), RosterError> {
        self.change("labels = ?2", id, &texts(labels), deed)
    }

    /// Sets whether an agent gets no work.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn drain(&mut self, id: AgentId, drained: bool, deed: &Deed<'_>) -> Result<(), RosterError> {
        self.change("drained = ?2", id, &drained, deed)
    }

    /// Takes from an agent that it may connect, for good.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn revoke(&mut self, id: AgentId, deed: &Deed<'_>) -> Result<(), RosterError> {
        self.change("revoked_at = coalesce(revoked_at, ?2)", id, &deed.at, deed)
    }

    /// Its key was found in two places.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn copied(&mut self, id: AgentId, deed: &Deed<'_>) -> Result<(), RosterError> {
        self.change("copied_at = coalesce(copied_at, ?2)", id, &deed.at, deed)
    }

    fn change(
        &mut self,
        what: &str,
        id: AgentId,
        value: &dyn rusqlite::ToSql,
        deed: &Deed<'_>,
    ) -> Result<(), RosterError> {
        let transaction = self.begin()?;
        let changes = format!("UPDATE fleet_agent SET {what} WHERE id = ?1");
        transaction.execute(&changes, params![number_of(id), value])?;
        audit(&transaction, deed)?;
        Ok(transaction.commit()?)
    }

    /// Notes what an agent said in hello, and the nonce of its process as the newest.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn hello(&mut self, row: &AgentRow, facts: &Facts, peer: &str, now: i64) -> Result<(), RosterError> {
        let mut instances = row.instances.clone();
        instances.retain(|&instance| instance != facts.instance);
        instances.insert(0, facts.instance);
        instances.truncate(INSTANCES_MAX);
        self.connection.execute(
            "UPDATE fleet_agent SET seen_at = ?2, peer = ?3, software = ?4, ping_method = ?5, allow = ?6, instances = ?7
             WHERE id = ?1",
            params![
                number_of(row.id),
                now,
                peer,
                facts.software,
                facts.ping_method,
                texts(&facts.allow),
                texts(&instances)
            ],
        )?;
        Ok(())
    }

    /// Notes when an agent was last heard.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn seen(&mut self, id: AgentId, now: i64) -> Result<(), RosterError> {
        self.connection.execute("UPDATE fleet_agent SET seen_at = ?2 WHERE id = ?1", params![number_of(id), now])?;
        Ok(())
    }

    /// Notes what went wrong with an agent.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn failed(&mut self, id: AgentId, error: &str, now: i64) -> Result<(), RosterError> {
        self.connection.execute(
            "UPDATE fleet_agent SET error_at = ?2, error = ?3 WHERE id = ?1",
            params![number_of(id), now, error],
        )?;
        Ok(())
    }

    /// Notes a deed; returns the row's number, with which [`count`](Self::count) adds to it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn audit(&mut self, deed: &Deed<'_>, count: i64) -> Result<i64, RosterError> {
        let transaction = self.begin()?;
        audit(&transaction, deed)?;
        let key = transaction.last_insert_rowid();
        transaction.execute("UPDATE audit SET count = ?2 WHERE key = ?1", params![key, count])?;
        transaction.execute("DELETE FROM audit WHERE key <= ?1", [key - AUDIT_ROWS_MAX])?;
        transaction.commit()?;
        Ok(key)
    }

    /// Sets how often the refusal of a row happened.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn count(&mut self, key: i64, count: i64) -> Result<(), RosterError> {
        self.connection.execute("UPDATE audit SET count = ?2 WHERE key = ?1", params![key, count])?;
        Ok(())
    }

    /// Audit rows, newest first: those before the row `before`, or the newest; at most `limit`.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn audit_rows(&self, before: Option<i64>, limit: u32) -> Result<Vec<AuditRow>, RosterError> {
        let mut statement = self
            .connection
            .prepare("SELECT key, at, who, what, detail, count FROM audit WHERE key < ?1 ORDER BY key DESC LIMIT ?2")?;
        let rows = statement.query_map(params![before.unwrap_or(i64::MAX), limit], |row| {
            Ok(AuditRow {
                key: row.get(0)?,
                at: row.get(1)?,
                who: row.get(2)?,
                what: row.get(3)?,
                detail: row.get(4)?,
                count: row.get(5)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn audit(connection: &Connection, deed: &Deed<'_>) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare_cached("INSERT INTO audit (at, who, what, detail, count) VALUES (?1, ?2, ?3, ?4, 1)")?;
    statement.execute(params![deed.at, deed.who, deed.what, deed.detail])?;
    Ok(())
}

/// The name that an agent gets: the one it asks for, or, where nobody chose it, the first of `name-2`, `name-3` … that is free.
fn free_name(connection: &Connection, asked: &AgentName, chosen: bool) -> Result<Option<AgentName>, RosterError> {
    let mut statement =
        connection.prepare("SELECT count(*) FROM fleet_agent WHERE name = ?1 AND revoked_at IS NULL")?;
    let mut is_free = |name: &AgentName| statement.query_row([name.as_str()], |row| Ok(row.get::<_, i64>(0)? == 0));
    if is_free(asked)? {
        return Ok(Some(asked.clone()));
    }
    if chosen {
        return Ok(None);
    }
    for number in 2..NAMESAKES_MAX {
        let stem: String = asked.as_str().chars().take(58).collect();
        let Ok(name) = AgentName::try_from(format!("{stem}-{number}")) else { return Ok(None) };
        if is_free(&name)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn insert(connection: &Connection, joining: &Joining, name: &AgentName, now: i64) -> Result<(), RosterError> {
    connection.execute(
        "INSERT INTO fleet_agent
            (id, name, vantage, labels, public_key, serial, certificate_ends_at, joined_at, software)
         VALUES (?1, ?2, ?3, ?4, ?5, '', 0, ?6, ?7)",
        params![
            number_of(joining.id),
            name.as_str(),
            joining.vantage.as_ref().unwrap_or(name).as_str(),
            texts(&joining.labels),
            joining.public_key.as_bytes(),
            now,
            joining.software
        ],
    )?;
    Ok(())
}

fn one(
    connection: &Connection,
    condition: &str,
    values: &[&dyn rusqlite::ToSql],
) -> Result<Option<AgentRow>, RosterError> {
    let query = format!("SELECT {COLUMNS} FROM fleet_agent WHERE {condition} ORDER BY joined_at DESC LIMIT 1");
    connection.query_row(&query, values, |row| Ok(read(row))).optional()?.transpose()
}

fn read(row: &Row<'_>) -> Result<AgentRow, RosterError> {
    let id = id_of(row.get("id")?);
    let malformed = |what: &dyn std::fmt::Display| RosterError::Malformed(id, what.to_string());
    let name = |column| AgentName::try_from(row.get::<_, String>(column)?).map_err(|error| malformed(&error));
    let list = |column| -> Result<Vec<String>, RosterError> {
        serde_json::from_str(&row.get::<_, String>(column)?).map_err(|error| malformed(&error))
    };
    let labels = list("labels")?.into_iter().map(|label| Label::try_from(label).map_err(|error| malformed(&error)));
    let instances = list("instances")?;
    let instances = instances
        .iter()
        .map(|nonce| u64::from_str_radix(nonce, 16).map(InstanceId::new).map_err(|error| malformed(&error)));
    let (revoked, copied): (Option<i64>, Option<i64>) = (row.get("revoked_at")?, row.get("copied_at")?);
    let error: (Option<i64>, Option<String>) = (row.get("error_at")?, row.get("error")?);
    Ok(AgentRow {
        id,
        name: name("name")?,
        vantage: name("vantage")?,
        labels: labels.collect::<Result<_, _>>()?,
        public_key: Pin::from_bytes(row.get("public_key")?),
        serial: row.get("serial")?,
        certificate_ends_at: row.get("certificate_ends_at")?,
        joined_at: row.get("joined_at")?,
        standing: match (revoked, copied) {
            (Some(_), _) => Standing::Revoked,
            (None, Some(_)) => Standing::Copied,
            (None, None) => Standing::Good,
        },
        drained: row.get("drained")?,
        seen_at: row.get("seen_at")?,
        peer: row.get("peer")?,
        software: row.get("software")?,
        ping_method: row.get("ping_method")?,
        allow: list("allow")?,
        instances: instances.collect::<Result<_, _>>()?,
        error: error.0.zip(error.1),
    })
}

/// SQLite's integers are signed: the same 64 bits.
fn number_of(id: AgentId) -> i64 {
    id.get().cast_signed()
}

fn id_of(number: i64) -> AgentId {
    AgentId::new(number.cast_unsigned())
}

fn texts<T: ToString>(values: &[T]) -> String {
    let texts: Vec<_> = values.iter().map(ToString::to_string).collect();
    serde_json::Value::from(texts).to_string()
}
