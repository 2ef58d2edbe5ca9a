//! Rows that several methods read or change.

use super::Known;
use super::code::{self, StoredRecord, signed, unsigned};
use super::failure::Failure;
use coordinator_core::store::{AgentFacts, CohortRecord, Cut, ScanRecord, Shard, StoreError};
use protocol::covers;
use protocol::id::ScanId;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// A scan's row.
pub(super) struct ScanRow {
    key: i64,
    stored: StoredRecord,
    status: String,
}

impl ScanRow {
    pub(super) fn record(&self) -> Result<ScanRecord, Failure> {
        code::decode_record(&self.stored, &self.status)
    }
}

pub(super) fn read_scan(row: &Row<'_>) -> rusqlite::Result<ScanRow> {
    let stored = StoredRecord { json: row.get(1)?, ranges: row.get(2)?, ranges_v4: row.get(3)? };
    Ok(ScanRow { key: row.get(0)?, stored, status: row.get(4)? })
}

pub(super) fn scan_of(connection: &Connection, scan: ScanId) -> Result<Option<(i64, ScanRecord)>, Failure> {
    let row = connection
        .prepare_cached("SELECT key, record, ranges, ranges_v4, status FROM scan WHERE id = ?")?
        .query_row([scan.as_bytes()], read_scan)
        .optional()?;
    row.map(|row| Ok((row.key, row.record()?))).transpose()
}

pub(super) fn read_cohort(row: &Row<'_>) -> rusqlite::Result<CohortRecord> {
    Ok(CohortRecord { number: unsigned(row.get(0)?), pass: row.get(1)?, frontier: row.get(2)? })
}

/// The shard that begins at a column.
pub(super) fn read_shard(row: &Row<'_>, at: usize) -> rusqlite::Result<Shard> {
    Ok(Shard { cohort: unsigned(row.get(at)?), pass: row.get(at + 1)?, lo: row.get(at + 2)?, hi: row.get(at + 3)? })
}

pub(super) fn open_cohort(connection: &Connection, key: i64, cohort: u64) -> rusqlite::Result<Option<CohortRecord>> {
    connection
        .prepare_cached("SELECT number, pass, frontier FROM cohort WHERE scan = ? AND number = ?")?
        .query_row([key, signed(cohort)], read_cohort)
        .optional()
}

pub(super) fn opened(connection: &Connection, key: i64) -> rusqlite::Result<u64> {
    let mut select = connection.prepare_cached("SELECT opened FROM scan WHERE key = ?")?;
    select.query_row([key], |row| row.get(0)).map(unsigned)
}

pub(super) fn is_taken(connection: &Connection, key: i64, epoch: i64) -> rusqlite::Result<bool> {
    let mut select = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM chunk WHERE epoch = ? AND scan = ?)")?;
    select.query_row([epoch, key], |row| row.get(0))
}

pub(super) fn agents(connection: &Connection, key: i64) -> Result<Vec<AgentFacts>, Failure> {
    let mut select = connection
        .prepare_cached("SELECT name, vantage, software, ping_method FROM agent WHERE scan = ? ORDER BY number")?;
    let mut rows = select.query([key])?;
    let mut agents = Vec::new();
    while let Some(row) = rows.next()? {
        let ping_method = code::decode_ping_method(row.get_ref(3)?.as_str().unwrap_or_default())?;
        agents.push(AgentFacts { name: row.get(0)?, vantage: row.get(1)?, software: row.get(2)?, ping_method });
    }
    Ok(agents)
}

/// The place of an agent in the scan's list, where it is put if it is not in it.
pub(super) fn agent_number(connection: &Connection, key: i64, facts: &AgentFacts) -> Result<u32, Failure> {
    let known = agents(connection, key)?;
    let number = known.iter().position(|agent| agent == facts).unwrap_or(known.len());
    let number = u32::try_from(number).map_err(|_| Failure::Malformed("agent"))?;
    let AgentFacts { name, vantage, software, ping_method } = facts;
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO agent (scan, number, name, vantage, software, ping_method) VALUES (?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![key, number, name, vantage, software, ping_method.as_str()])?;
    Ok(number)
}

/// What a cut covers, and how many rights ended on it. Takes from the frontier or from the returned lease.
pub(super) fn take(connection: &Connection, known: &Known, cut: &Cut) -> Result<(Shard, Vec<u8>, u8), Failure> {
    let conflict = || StoreError::Conflict(cut.clone());
    match cut {
        Cut::Returned(epoch) => {
            let mut delete = connection.prepare_cached(
                "DELETE FROM lease WHERE epoch = ? AND scan = ? AND holder IS NULL
                 RETURNING cohort, pass, lo, hi, covers, ends",
            )?;
            let mut rows = delete.query([signed(epoch.get()), known.key])?;
            let Some(row) = rows.next()? else { return Err(conflict().into()) };
            let taken = (read_shard(row, 0)?, row.get(4)?, row.get(5)?);
            // The row is deleted once the statement has run to its end.
            while rows.next()?.is_some() {}
            Ok(taken)
        }
        Cut::Frontier { shard, covers } => {
            let open = open_cohort(connection, known.key, shard.cohort)?;
            if open.is_none() {
                if known.plan.cohort_at(opened(connection, known.key)?) != Some(shard.cohort) {
                    return Err(conflict().into());
                }
                connection.prepare_cached("UPDATE scan SET opened = opened + 1 WHERE key = ?")?.execute([known.key])?;
            }
            let record = open.unwrap_or(CohortRecord { number: shard.cohort, pass: 1, frontier: 0 });
            let len = known.plan.cohort_len(shard.cohort).ok_or_else(conflict)?;
            let fits = shard.lo < shard.hi && shard.hi <= len && covers::fits(covers, shard.lo, shard.hi);
            let follows = if record.pass == 1 { shard.lo == record.frontier } else { shard.lo >= record.frontier };
            if !fits || !follows || record.pass != shard.pass {
                return Err(conflict().into());
            }
            connection
                .prepare_cached("INSERT OR REPLACE INTO cohort (scan, number, pass, frontier) VALUES (?, ?, ?, ?)")?
                .execute(params![known.key, signed(shard.cohort), record.pass, shard.hi])?;
            Ok((*shard, covers.clone(), 0))
        }
    }
}

/// That a cohort may go on to its next pass, or be closed.
pub(super) fn check_through(connection: &Connection, known: &Known, cohort: u64) -> Result<(), Failure> {
    let broken = |detail: String| Err(StoreError::Broken { invariant: "I4", detail }.into());
    let number = signed(cohort);
    let exists = |sql: &str| -> rusqlite::Result<bool> {
        connection.prepare_cached(sql)?.query_row([known.key, number], |row| row.get(0))
    };
    if exists("SELECT EXISTS (SELECT 1 FROM lease WHERE scan = ? AND cohort = ?)")? {
        return broken(format!("cohort {cohort} has leases"));
    }
    match open_cohort(connection, known.key, cohort)? {
        Some(record) if record.pass == 1 && Some(record.frontier) != known.plan.cohort_len(cohort) => {
            broken(format!("cohort {cohort} is not through"))
        }
        Some(_) => Ok(()),
        // A closed cohort has chunks, as its first pass covered all of it.
        None if exists("SELECT EXISTS (SELECT 1 FROM chunk WHERE scan = ? AND cohort = ?)")? => Ok(()),
        None => broken(format!("cohort {cohort} was never opened")),
    }
}
