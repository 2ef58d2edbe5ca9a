//! What a scan found, as people and programs read it: every writer of results, on the rows of [`coordinator_core::host`].
//!
//! [`facts`] is what is said beside the rows. [`json`] writes the result file, [`table`] the report on a terminal,
//! [`mod@csv`] what spreadsheets read, [`targets`] single targets by a filter, [`lines`] what a pipe gets, [`jsonl`] the same as JSON. [`mod@file`] keeps the result file whole and decides when it is written again.
//! Where this lies: DESIGN.md "The result"; the schema of the JSON is `coordinator/schema/result-1.json`.

mod by_port;
pub mod csv;
mod differences;
pub mod dry_run;
pub mod facts;
pub mod file;
pub mod json;
pub mod jsonl;
pub mod lines;
pub mod quantity;
mod ranges;
mod summary;
pub mod table;
pub mod targets;

#[cfg(test)]
mod sample;
#[cfg(test)]
mod schema_tests;

use coordinator_core::host::{Host, Place};
use std::io;

pub use facts::{AgentFacts, Counts, ScanFacts, Status};

/// The rows of a result: every address of the plan once, in address order (IPv4 before IPv6, ascending).
pub trait Rows {
    /// Gives every row to `f`, from the first. Can be called several times; each call sees the same addresses, and the
    /// same outcomes as the calls before it wherever the counts beside the rows are to agree with them.
    ///
    /// # Errors
    /// The first error of `f`, which ends the walk, or what kept the rows from being read.
    fn for_each(&mut self, f: &mut dyn FnMut(&Host) -> io::Result<()>) -> io::Result<()>;
}

/// Rows that are in memory already.
impl Rows for &[Host] {
    fn for_each(&mut self, f: &mut dyn FnMut(&Host) -> io::Result<()>) -> io::Result<()> {
        self.iter().try_for_each(f)
    }
}

/// How many addresses stand in each of the result's three lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Gave a sign of life.
    pub hosts: u64,
    /// Were probed whole and gave none.
    pub silent: u64,
    /// Gave none, and were not probed whole.
    pub not_probed: u64,
}

impl Places {
    /// Counts all rows.
    ///
    /// # Errors
    /// If the rows cannot be read.
    pub fn of(rows: &mut dyn Rows) -> io::Result<Self> {
        let mut places = Self::default();
        rows.for_each(&mut |host| {
            places.add(host);
            Ok(())
        })?;
        Ok(places)
    }

    /// Counts one row.
    pub fn add(&mut self, host: &Host) {
        match host.place() {
            Place::Host(_) => self.hosts += 1,
            Place::Silent(_) => self.silent += 1,
            Place::NotProbed(_) => self.not_probed += 1,
        }
    }

    /// All addresses.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.hosts + self.silent + self.not_probed
    }
}

/// Milliseconds, to the microsecond that was measured.
pub(crate) fn milliseconds(rtt_us: u32) -> f64 {
    f64::from(rtt_us) / 1_000.0
}
