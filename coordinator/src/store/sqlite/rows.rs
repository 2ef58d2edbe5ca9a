//! Rows that several methods read or change.

use super::Known;
use super::block;
use super::code::{self, StoredRecord, signed, unsigned};
use super::failure::Failure;
use coordinator_core::store::{AgentFacts, ChunkRecord, CohortRecord, Cut, ScanRecord, Shard, StoreError};
use protocol::covers;
use protocol::id::{Epoch, ScanId};
use protocol::plan::Cohort;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::ops::Range;

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
        .prepare_cached("SELECT key, record, ranges, ranges_v4, status FROM scan WHERE id = ? AND status <> 'removed'")?
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
    let mut select = connection.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM chunk WHERE epoch = ?1 AND scan = ?2
                        UNION ALL SELECT 1 FROM rewritten WHERE epoch = ?1 AND scan = ?2)",
    )?;
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
                let from = opened(connection, known.key)?;
                let ahead = known.plan.ahead(from, shard.cohort).ok_or_else(conflict)?;
                for number in (from..ahead).filter_map(|position| known.plan.cohort_at(position)) {
                    connection
                        .prepare_cached("INSERT INTO cohort (scan, number, pass, frontier) VALUES (?, ?, 1, 0)")?
                        .execute(params![known.key, signed(number)])?;
                }
                connection
                    .prepare_cached("UPDATE scan SET opened = ? WHERE key = ?")?
                    .execute([signed(ahead + 1), known.key])?;
            }
            let record = open.unwrap_or(CohortRecord { number: shard.cohort, pass: 1, frontier: 0 });
            let len = match shard.pass {
                1 => known.plan.first_pass_len(shard.cohort),
                _ => known.plan.cohort_len(shard.cohort),
            };
            let len = len.ok_or_else(conflict)?;
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
        Some(record) if record.pass == 1 && Some(record.frontier) != known.plan.first_pass_len(cohort) => {
            broken(format!("cohort {cohort} is not through"))
        }
        Some(_) => Ok(()),
        // A closed cohort has chunks, as its first pass covered all of it.
        None if exists("SELECT EXISTS (SELECT 1 FROM chunk WHERE scan = ? AND cohort = ?)")?
            || block_epoch(connection, known.key, cohort)?.is_some() =>
        {
            Ok(())
        }
        None => broken(format!("cohort {cohort} was never opened")),
    }
}

/// The chunks of a cohort that are in no block and meet `indices`, by pass and first index.
pub(super) fn chunks(
    connection: &Connection,
    known: &Known,
    cohort: u64,
    indices: Range<u32>,
) -> Result<Vec<ChunkRecord>, Failure> {
    let mut select = connection.prepare_cached(
        "SELECT epoch, cohort, pass, lo, hi, covers, agent, chunk, findings FROM chunk
         WHERE scan = ? AND cohort = ? AND lo < ? AND hi > ? ORDER BY pass, lo",
    )?;
    let mut rows = select.query(params![known.key, signed(cohort), indices.end, indices.start])?;
    let mut chunks = Vec::new();
    while let Some(row) = rows.next()? {
        chunks.push(ChunkRecord {
            epoch: Epoch::new(unsigned(row.get(0)?)),
            shard: read_shard(row, 1)?,
            covers: row.get(5)?,
            agent: row.get(6)?,
            chunk: row.get(7)?,
            findings: code::decode_findings(row.get_ref(8)?.as_blob().unwrap_or_default())?,
        });
    }
    Ok(chunks)
}

/// How many chunks of a cohort are in no block.
pub(super) fn reports(connection: &Connection, key: i64, cohort: u64) -> rusqlite::Result<u64> {
    let mut select = connection.prepare_cached("SELECT count(*) FROM chunk WHERE scan = ? AND cohort = ?")?;
    select.query_row([key, signed(cohort)], |row| row.get(0)).map(unsigned)
}

/// The last epoch in a cohort's block, if it has one.
pub(super) fn block_epoch(connection: &Connection, key: i64, cohort: u64) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT last_epoch FROM block WHERE scan = ? AND cohort = ?")?
        .query_row([key, signed(cohort)], |row| row.get(0))
        .optional()
}

/// The chunks in a cohort's block, by pass and first index.
pub(super) fn block_chunks(connection: &Connection, known: &Known, cohort: u64) -> Result<Vec<ChunkRecord>, Failure> {
    let packed: Option<Vec<u8>> = connection
        .prepare_cached("SELECT packed FROM block WHERE scan = ? AND cohort = ?")?
        .query_row([known.key, signed(cohort)], |row| row.get(0))
        .optional()?;
    packed.map_or(Ok(Vec::new()), |packed| block::unpack(&cohort_of(known, cohort)?, &packed))
}

fn cohort_of(known: &Known, cohort: u64) -> Result<Cohort, Failure> {
    known.plan.cohort(cohort).ok_or(Failure::Malformed("cohort"))
}

/// What a row takes beside its bytes, about: its key, its numbers and its place in the index.
const ROW_BYTES: usize = 32;
/// What is kept of a chunk that is in a block: its epoch.
const EPOCH_BYTES: usize = 8;

/// Puts all chunks of a closed cohort into its block, where that takes less room than they do.
pub(super) fn rewrite(connection: &Connection, known: &Known, cohort: u64) -> Result<(), Failure> {
    let new = chunks(connection, known, cohort, 0..u32::MAX)?;
    let Some(last_epoch) = new.iter().map(|chunk| chunk.epoch.get()).max() else { return Ok(()) };
    let mut all = block_chunks(connection, known, cohort)?;
    let is_second = !all.is_empty();
    all.extend(new.iter().cloned());
    let Some(packed) = block::pack(&cohort_of(known, cohort)?, &all) else { return Ok(()) };
    let taken = |chunk: &ChunkRecord| chunk.chunk.len() + chunk.covers.len() + 5 * chunk.findings.len() + ROW_BYTES;
    if !is_second && packed.len() + ROW_BYTES + EPOCH_BYTES * new.len() >= new.iter().map(taken).sum::<usize>() {
        return Ok(());
    }
    let cohort = signed(cohort);
    connection
        .prepare_cached("INSERT OR REPLACE INTO block (scan, cohort, last_epoch, packed) VALUES (?, ?, ?, ?)")?
        .execute(params![known.key, cohort, signed(last_epoch), packed])?;
    connection
        .prepare_cached(
            "INSERT INTO rewritten (epoch, scan) SELECT epoch, scan FROM chunk WHERE scan = ? AND cohort = ? ORDER BY epoch",
        )?
        .execute([known.key, cohort])?;
    connection.prepare_cached("DELETE FROM chunk WHERE scan = ? AND cohort = ?")?.execute([known.key, cohort])?;
    Ok(())
}
