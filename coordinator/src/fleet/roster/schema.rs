//! The roster's tables, and how those of an earlier version become those of this. They stand beside the scans' in one file, with a version
//! of their own (`fleet_version`). Steps are never changed once released: a new one is added.

use rusqlite::{Connection, TransactionBehavior};

/// The steps, in order.
const STEPS: &[&str] = &["
    -- Digests of the secrets of join tokens (SHA-256). `used_by` is the agent that joined with it.
    CREATE TABLE join_token (
        digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
        made_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        used_by INTEGER
    ) STRICT, WITHOUT ROWID;

    -- Times are seconds since 1970. `labels`, `allow` and `instances` are JSON lists of texts: the last are the nonces of its processes,
    -- newest first, those before the newest superseded.
    CREATE TABLE fleet_agent (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        vantage TEXT NOT NULL,
        labels TEXT NOT NULL,
        public_key BLOB NOT NULL CHECK (length(public_key) = 32),
        serial TEXT NOT NULL,
        certificate_ends_at INTEGER NOT NULL,
        joined_at INTEGER NOT NULL,
        revoked_at INTEGER,
        copied_at INTEGER,
        drained INTEGER NOT NULL DEFAULT 0,
        seen_at INTEGER,
        peer TEXT,
        software TEXT NOT NULL,
        ping_method TEXT,
        allow TEXT NOT NULL DEFAULT '[]',
        instances TEXT NOT NULL DEFAULT '[]',
        error_at INTEGER,
        error TEXT
    ) STRICT;
    CREATE UNIQUE INDEX fleet_agent_by_name ON fleet_agent (name) WHERE revoked_at IS NULL;

    CREATE TABLE audit (
        key INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL,
        who TEXT NOT NULL,
        what TEXT NOT NULL,
        detail TEXT NOT NULL,
        count INTEGER NOT NULL
    ) STRICT;
    "];

/// Brings the tables to this version. False if they are of a later one.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<bool> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS fleet_version (
            only INTEGER PRIMARY KEY CHECK (only = 0),
            version INTEGER NOT NULL
        ) STRICT;
        INSERT OR IGNORE INTO fleet_version (only, version) VALUES (0, 0);",
    )?;
    let version: i64 = transaction.query_row("SELECT version FROM fleet_version", [], |row| row.get(0))?;
    let Some(missing) = usize::try_from(version).ok().and_then(|version| STEPS.get(version..)) else {
        return Ok(false);
    };
    missing.iter().try_for_each(|step| transaction.execute_batch(step))?;
    transaction.execute("UPDATE fleet_version SET version = ?1", [STEPS.len() as i64])?;
    transaction.commit()?;
    Ok(true)
}
