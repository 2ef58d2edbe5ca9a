//! The durable store: SQLite, in WAL mode with `synchronous=FULL`, one writer. What a method returned survives `kill -9` and a power cut.
//!
//! A database may hold one scan (`STATE/scans/ID.db`) or many. One without scans was left by a process that died while it made it.

mod block;
mod code;
mod failure;
mod open;
mod remove;
mod rows;
mod schema;
mod tally;

pub use failure::MediumError;
pub use open::OpenError;

use code::{StoredRecord, signed, unsigned};
use coordinator_core::control::ControlState;
use coordinator_core::store::{
    AgentFacts, ChunkRecord, CohortRecord, Commit, Committed, LeaseOrder, LeaseRecord, Part, ScanRecord, ScanStatus,
    Shard, Store, StoreError, TellTally,
};
use coordinator_core::tally::{self as counted, CLOSING_TARGETS_MAX, Packed, Part as TallyPart};
use failure::Failure;
use protocol::id::{Epoch, InstanceId, ScanId};
use protocol::plan::Plan;
use rows::{
    agent_number, agents, check_through, is_taken, open_cohort, opened, read_cohort, read_scan, read_shard, rewrite,
    scan_of, take,
};
use rusqlite::{Connection, params};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Scans in a database file. A writer holds its lock until it is dropped.
pub struct SqliteStore {
    connection: Connection,
    path: PathBuf,
    /// What was read of scans: their keys and plans never change.
    known: RefCell<BTreeMap<ScanId, Arc<Known>>>,
    /// The chunks of the block that was read last: who reads a cohort reads it run by run.
    unpacked: RefCell<Option<Unpacked>>,
    in_group: bool,
    /// Held by a writer. Declared last: the connection is closed before the lock goes.
    _lock: Option<File>,
}

struct Unpacked {
    key: i64,
    cohort: u64,
    last_epoch: i64,
    chunks: Vec<ChunkRecord>,
}

struct Known {
    key: i64,
    plan: Plan,
}

impl SqliteStore {
    /// Makes a database where there is none, and becomes its writer. The directory must exist.
    ///
    /// # Errors
    /// [`OpenError::Exists`], [`OpenError::Locked`], or if the file cannot be made.
    pub fn create(path: &Path) -> Result<Self, OpenError> {
        let lock = open::lock(path)?;
        open::make(path)?;
        Ok(Self::new(open::writer(path)?, path, Some(lock)))
    }

    /// Becomes the writer of a database: the former one is dead, so its leases can be taken from it at once.
    ///
    /// # Errors
    /// [`OpenError::Locked`] while another process writes to it, [`OpenError::Missing`], [`OpenError::Newer`], [`OpenError::NotOurs`],
    /// or if the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let lock = open::lock(path)?;
        Ok(Self::new(open::writer(path)?, path, Some(lock)))
    }

    /// Reads a database, whether or not another process writes to it. Every writing method fails.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`OpenError::Locked`] only if it is of an earlier version, and in use by that.
    pub fn open_read_only(path: &Path) -> Result<Self, OpenError> {
        Ok(Self::new(open::reader(path)?, path, None))
    }

    /// True if a live process writes to the database.
    ///
    /// # Errors
    /// If its lock cannot be looked at.
    pub fn is_in_use(path: &Path) -> Result<bool, OpenError> {
        match open::lock(path) {
            Ok(_free) => Ok(false),
            Err(OpenError::Locked { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Replaces the request that a scan is stored with (`ScanRecord::request`).
    ///
    /// # Errors
    /// If it cannot be written, or there is no such scan.
    pub fn set_request(&mut self, scan: ScanId, request: &str) -> Result<(), StoreError> {
        let changed = self.write("store the request", |connection| {
            let update = "UPDATE scan SET record = json_set(record, '$.request', ?1) WHERE id = ?2";
            Ok(connection.execute(update, params![request, scan.as_bytes()])?)
        })?;
        if changed == 1 { Ok(()) } else { Err(StoreError::UnknownScan(scan)) }
    }

    /// Leaves the database as a version of before left it, which kept no tallies.
    #[cfg(test)]
    pub(crate) fn forget_tallies(&mut self) -> Result<(), StoreError> {
        self.write("forget tallies", |connection| Ok(connection.execute_batch("DELETE FROM tally")?))
    }

    /// All that is read from here on is of one moment, that of the first of it, whatever is written meanwhile.
    #[cfg(test)]
    pub(crate) fn stand_still(&self) -> Result<(), StoreError> {
        self.read("begin to read", |connection| Ok(connection.execute_batch("BEGIN DEFERRED")?))
    }

    fn new(connection: Connection, path: &Path, lock: Option<File>) -> Self {
        // Every statement of a method stays prepared.
        connection.set_prepared_statement_cache_capacity(64);
        Self {
            connection,
            path: path.to_owned(),
            known: RefCell::default(),
            unpacked: RefCell::default(),
            in_group: false,
            _lock: lock,
        }
    }

    /// One transaction, or, in a group, a part of it that fails alone.
    fn write<T>(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        if self.in_group && self.connection.is_autocommit() {
            // SQLite rolls the whole transaction back where a part of it cannot be (a full disk, say).
            return Err(StoreError::Medium { action, source: Box::new(MediumError::Undone) });
        }
        let attempt = || {
            let part = self.connection.savepoint()?;
            let done = work(&part)?;
            part.commit()?;
            Ok(done)
        };
        attempt().map_err(|failure: Failure| failure.doing(action))
    }

    fn read<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        work(&self.connection).map_err(|failure| failure.doing(action))
    }

    /// The chunks in a cohort's block that meet `indices`.
    fn of_block(&self, known: &Known, cohort: u64, indices: &Range<u32>) -> Result<Vec<ChunkRecord>, Failure> {
        let Some(last_epoch) = rows::block_epoch(&self.connection, known.key, cohort)? else { return Ok(Vec::new()) };
        let mut unpacked = self.unpacked.borrow_mut();
        let is_it = |at: &Unpacked| (at.key, at.cohort, at.last_epoch) == (known.key, cohort, last_epoch);
        if !unpacked.as_ref().is_some_and(is_it) {
            let chunks = rows::block_chunks(&self.connection, known, cohort)?;
            *unpacked = Some(Unpacked { key: known.key, cohort, last_epoch, chunks });
        }
        let meets = |chunk: &&ChunkRecord| chunk.shard.lo < indices.end && indices.start < chunk.shard.hi;
        Ok(unpacked.iter().flat_map(|at| &at.chunks).filter(meets).cloned().collect())
    }

    /// The tally of a cohort that is about to be closed; `None` if that would take too long, or a chunk is not what its lease covered,
    /// which the audit is to see.
    fn tally(&self, scan: ScanId, known: &Known, cohort: u64) -> Result<Option<Packed>, StoreError> {
        let Some(cohort) = known.plan.cohort(cohort).filter(|cohort| cohort.len() <= CLOSING_TARGETS_MAX) else {
            return Ok(None);
        };
        match counted::of(self, scan, &cohort) {
            Ok(tally) => Ok(Some(tally)),
            Err(StoreError::Broken { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn known(&self, scan: ScanId) -> Result<Arc<Known>, StoreError> {
        if let Some(known) = self.known.borrow().get(&scan) {
            return Ok(Arc::clone(known));
        }
        let (key, record) =
            self.read("read a scan", |connection| scan_of(connection, scan))?.ok_or(StoreError::UnknownScan(scan))?;
        let plan = Plan::try_from(record.plan)
            .map_err(|error| StoreError::Broken { invariant: "P1", detail: error.to_string() })?;
        let known = Arc::new(Known { key, plan });
        self.known.borrow_mut().insert(scan, Arc::clone(&known));
        Ok(known)
    }
}

impl Store for SqliteStore {
    fn begin_group(&mut self) -> Result<(), StoreError> {
        self.read("begin a transaction", |connection| Ok(connection.execute_batch("BEGIN IMMEDIATE")?))?;
        self.in_group = true;
        Ok(())
    }

    fn commit_group(&mut self) -> Result<(), StoreError> {
        self.in_group = false;
        let committed = self.read("commit a transaction", |connection| Ok(connection.execute_batch("COMMIT")?));
        if committed.is_err() {
            self.known.borrow_mut().clear();
            if !self.connection.is_autocommit() {
                self.read("undo a transaction", |connection| Ok(connection.execute_batch("ROLLBACK")?))?;
            }
        }
        committed
    }

    fn reader(&self) -> Result<Option<Box<dyn Store>>, StoreError> {
        let reader = Self::open_read_only(&self.path)
            .map_err(|error| StoreError::Medium { action: "open the database to read it", source: Box::new(error) })?;
        Ok(Some(Box::new(reader)))
    }

    fn create_scan(&mut self, scan: &ScanRecord) -> Result<(), StoreError> {
        self.write("keep a scan", |connection| {
            if let Some((_, known)) = scan_of(connection, scan.id)? {
                let same = known.plan == scan.plan && known.request == scan.request;
                return if same { Ok(()) } else { Err(StoreError::ScanExists(scan.id).into()) };
            }
            let StoredRecord { json, ranges, ranges_v4 } = code::encode_record(scan)?;
            connection
                .prepare_cached("INSERT INTO scan (id, record, ranges, ranges_v4, status) VALUES (?, ?, ?, ?, ?)")?
                .execute(params![scan.id.as_bytes(), json, ranges, ranges_v4, scan.status.as_str()])?;
            Ok(())
        })
    }

    fn scans(&self) -> Result<Vec<ScanRecord>, StoreError> {
        self.read("read scans", |connection| {
            let mut select = connection.prepare_cached(
                "SELECT key, record, ranges, ranges_v4, status FROM scan WHERE status <> 'removed' ORDER BY id",
            )?;
            let rows = select.query_map([], |row| Ok(read_scan(row)))?;
            rows.map(|row| row??.record()).collect()
        })
    }

    fn remove_scan(&mut self, scan: ScanId, rights_ended: bool) -> Result<bool, StoreError> {
        self.known.borrow_mut().remove(&scan);
        self.write("remove a scan", |connection| remove::hide(connection, scan, rights_ended))
    }

    fn clean(&mut self) -> Result<bool, StoreError> {
        self.write("delete what is left of removed scans", remove::delete_lot)
    }

    fn set_status(&mut self, scan: ScanId, status: ScanStatus) -> Result<(), StoreError> {
        let known = self.known(scan)?;
        self.write("set a scan's status", |connection| {
            connection
                .prepare_cached("UPDATE scan SET status = ? WHERE key = ?")?
                .execute(params![status.as_str(), known.key])?;
            Ok(())
        })
    }

    fn set_control(&mut self, scan: ScanId, control: &ControlState) -> Result<(), StoreError> {
        let known = self.known(scan)?;
        self.write("keep what holds for a scan", |connection| {
            let json = serde_json::to_string(control).map_err(|_| Failure::Malformed("control state"))?;
            connection
                .prepare_cached(
                    "UPDATE scan SET control = ?1, control_version = ?2 WHERE key = ?3 AND control_version < ?2",
                )?
                .execute(params![json, signed(control.version), known.key])?;
            Ok(())
        })
    }

    fn control(&self, scan: ScanId) -> Result<ControlState, StoreError> {
        self.read("read what holds for a scan", |connection| {
            let (key, record) = scan_of(connection, scan)?.ok_or(StoreError::UnknownScan(scan))?;
            let json: Option<String> = connection
                .prepare_cached("SELECT control FROM scan WHERE key = ?")?
                .query_row([key], |row| row.get(0))?;
            match json {
                Some(json) => serde_json::from_str(&json).map_err(|_| Failure::Malformed("control state")),
                None => Ok(record.initial_control()),
            }
        })
    }

    fn lease(&mut self, order: &LeaseOrder) -> Result<Vec<Epoch>, StoreError> {
        let known = self.known(order.scan)?;
        self.write("make leases", |connection| {
            let agent = agent_number(connection, known.key, &order.agent)?;
            let first: i64 = connection
                .prepare_cached("UPDATE epochs SET last = last + ? RETURNING last")?
                .query_row([order.cuts.len() as i64], |row| row.get(0))?;
            let first = first - order.cuts.len() as i64 + 1;
            let mut insert = connection.prepare_cached(
                "INSERT INTO lease (epoch, scan, cohort, pass, lo, hi, covers, holder, agent, ends)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?;
            let mut epochs = Vec::with_capacity(order.cuts.len());
            for (cut, epoch) in order.cuts.iter().zip(first..) {
                let (shard, covers, ends) = take(connection, &known, cut)?;
                let Shard { cohort, pass, lo, hi } = shard;
                let (cohort, holder) = (signed(cohort), signed(order.holder.get()));
                insert.execute(params![epoch, known.key, cohort, pass, lo, hi, covers, holder, agent, ends])?;
                epochs.push(Epoch::new(unsigned(epoch)));
            }
            Ok(epochs)
        })
    }

    fn release(&mut self, scan: ScanId, epochs: &[Epoch], ended: bool) -> Result<(), StoreError> {
        let known = self.known(scan)?;
        self.write("take leases back", |connection| {
            let mut update = connection.prepare_cached(
                "UPDATE lease SET holder = NULL, ends = min(ends + ?, 255)
                 WHERE epoch = ? AND scan = ? AND holder IS NOT NULL",
            )?;
            for epoch in epochs {
                update.execute(params![ended, signed(epoch.get()), known.key])?;
            }
            Ok(())
        })
    }

    fn split(&mut self, scan: ScanId, epoch: Epoch, parts: &[Part]) -> Result<Vec<Epoch>, StoreError> {
        let known = self.known(scan)?;
        self.write("cut a lease in parts", |connection| {
            let apart = || StoreError::Apart(epoch);
            let mut delete = connection.prepare_cached(
                "DELETE FROM lease WHERE epoch = ? AND scan = ? AND holder IS NULL
                 RETURNING cohort, pass, lo, hi, agent",
            )?;
            let taken = delete
                .query_map(params![signed(epoch.get()), known.key], |row| {
                    Ok((read_shard(row, 0)?, row.get::<_, u32>(4)?))
                })?
                .collect::<Result<Vec<_>, _>>()?;
            let [(whole, agent)] = taken.as_slice() else { return Err(apart().into()) };
            if !parts.iter().all(|part| whole.has(&part.shard)) {
                return Err(apart().into());
            }
            let count = parts.len() as i64;
            let last: i64 = connection
                .prepare_cached("UPDATE epochs SET last = last + ? RETURNING last")?
                .query_row([count], |row| row.get(0))?;
            let mut insert = connection.prepare_cached(
                "INSERT INTO lease (epoch, scan, cohort, pass, lo, hi, covers, holder, agent, ends)
                 VALUES (?, ?, ?, ?, ?, ?, ?, NULL, ?, ?)",
            )?;
            let mut epochs = Vec::with_capacity(parts.len());
            for (Part { shard, covers, ends }, epoch) in parts.iter().zip(last - count + 1..) {
                let Shard { cohort, pass, lo, hi } = *shard;
                insert.execute(params![epoch, known.key, signed(cohort), pass, lo, hi, covers, agent, ends])?;
                epochs.push(Epoch::new(unsigned(epoch)));
            }
            Ok(epochs)
        })
    }

    fn commit(&mut self, commit: &Commit) -> Result<Committed, StoreError> {
        let known = self.known(commit.scan)?;
        let epoch = signed(commit.epoch.get());
        self.write("take a report", |connection| {
            let findings = code::encode_findings(&commit.findings);
            let taken = connection
                .prepare_cached(
                    "INSERT INTO chunk (epoch, scan, cohort, pass, lo, hi, covers, agent, chunk, findings)
                     SELECT epoch, scan, cohort, pass, lo, hi, covers, agent, ?, ? FROM lease WHERE epoch = ? AND scan = ?",
                )?
                .execute(params![commit.chunk, findings, epoch, known.key])?;
            if taken == 1 {
                connection.prepare_cached("DELETE FROM lease WHERE epoch = ?")?.execute([epoch])?;
                return Ok(Committed::Applied);
            }
            Ok(if is_taken(connection, known.key, epoch)? { Committed::Duplicate } else { Committed::Fenced })
        })
    }

    fn begin_pass(&mut self, scan: ScanId, cohort: u64, pass: u8) -> Result<(), StoreError> {
        let known = self.known(scan)?;
        self.write("begin a pass", |connection| {
            if open_cohort(connection, known.key, cohort)?.is_some_and(|record| record.pass >= pass) {
                return Ok(());
            }
            check_through(connection, &known, cohort)?;
            connection
                .prepare_cached("INSERT OR REPLACE INTO cohort (scan, number, pass, frontier) VALUES (?, ?, ?, 0)")?
                .execute(params![known.key, signed(cohort), pass])?;
            tally::forget(connection, &known, cohort)
        })
    }

    fn close_cohort(&mut self, scan: ScanId, cohort: u64) -> Result<(), StoreError> {
        let known = self.known(scan)?;
        // There is one writer, so nothing comes between.
        let tally = self.tally(scan, &known, cohort)?;
        self.write("close a cohort", |connection| {
            check_through(connection, &known, cohort)?;
            connection
                .prepare_cached("DELETE FROM cohort WHERE scan = ? AND number = ?")?
                .execute([known.key, signed(cohort)])?;
            if let Some(tally) = &tally {
                tally::keep(connection, &known, cohort, tally)?;
            }
            rewrite(connection, &known, cohort)
        })
    }

    fn cohorts(&self, scan: ScanId) -> Result<(Vec<CohortRecord>, u64), StoreError> {
        let known = self.known(scan)?;
        self.read("read cohorts", |connection| {
            let mut select = connection
                .prepare_cached("SELECT number, pass, frontier FROM cohort WHERE scan = ? ORDER BY number")?;
            let open = select.query_map([known.key], read_cohort)?.collect::<Result<_, _>>()?;
            Ok((open, opened(connection, known.key)?))
        })
    }

    fn leases(&self, scan: ScanId) -> Result<Vec<LeaseRecord>, StoreError> {
        let known = self.known(scan)?;
        self.read("read leases", |connection| {
            let mut select = connection.prepare_cached(
                "SELECT epoch, cohort, pass, lo, hi, covers, holder, agent, ends FROM lease WHERE scan = ? ORDER BY epoch",
            )?;
            let leases = select.query_map([known.key], |row| {
                Ok(LeaseRecord {
                    epoch: Epoch::new(unsigned(row.get(0)?)),
                    shard: read_shard(row, 1)?,
                    covers: row.get(5)?,
                    holder: row.get::<_, Option<i64>>(6)?.map(|nonce| InstanceId::new(unsigned(nonce))),
                    agent: row.get(7)?,
                    ends: row.get(8)?,
                })
            })?;
            Ok(leases.collect::<Result<_, _>>()?)
        })
    }

    fn chunks(&self, scan: ScanId, cohort: u64, indices: Range<u32>) -> Result<Vec<ChunkRecord>, StoreError> {
        let known = self.known(scan)?;
        self.read("read chunks", |connection| {
            let mut chunks = self.of_block(&known, cohort, &indices)?;
            // Those that came after the block was made are of later passes.
            chunks.extend(rows::chunks(connection, &known, cohort, indices)?);
            Ok(chunks)
        })
    }

    fn tallies(
        &self,
        scan: ScanId,
        numbers: Range<u64>,
        part: TallyPart,
        tell: TellTally<'_>,
    ) -> Result<(), StoreError> {
        let known = self.known(scan)?;
        self.read("read tallies", |connection| tally::tell(connection, &known, numbers, part, tell))
    }

    fn keep_tally(&mut self, scan: ScanId, cohort: u64, reports: u64, tally: &Packed) -> Result<(), StoreError> {
        let known = self.known(scan)?;
        self.write("keep a tally", |connection| {
            let is_so = rows::reports(connection, known.key, cohort)? == reports
                && open_cohort(connection, known.key, cohort)?.is_none()
                && !tally::is_kept(connection, &known, cohort)?
                && check_through(connection, &known, cohort).is_ok();
            if is_so { tally::keep(connection, &known, cohort, tally) } else { Ok(()) }
        })
    }

    fn reports(&self, scan: ScanId, cohort: u64) -> Result<u64, StoreError> {
        let known = self.known(scan)?;
        self.read("count reports", |connection| Ok(rows::reports(connection, known.key, cohort)?))
    }

    fn is_taken(&self, scan: ScanId, epoch: Epoch) -> Result<bool, StoreError> {
        let known = self.known(scan)?;
        self.read("look for a report", |connection| Ok(is_taken(connection, known.key, signed(epoch.get()))?))
    }

    fn agents(&self, scan: ScanId) -> Result<Vec<AgentFacts>, StoreError> {
        let known = self.known(scan)?;
        self.read("read agents", |connection| agents(connection, known.key))
    }
}

#[cfg(test)]
mod tests;
