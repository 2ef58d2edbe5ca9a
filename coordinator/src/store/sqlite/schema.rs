//! The tables, and how a database of an earlier version becomes one of this. Migrations are never changed once released: a new one is
//! added.

use rusqlite_migration::{M, Migrations};

/// Marks a database as ours (`PRAGMA application_id`): "pswp".
pub(super) const APPLICATION_ID: i32 = 0x7073_7770;

/// The version of this program's tables: how many migrations there are.
pub(super) const VERSION: usize = STEPS.len();

/// One database may hold many scans: a scan's rows carry its key. One whose status is `removed` is no scan any more: its rows are being deleted.
const STEPS: &[M<'static>] = &[
    M::up(
    "
    CREATE TABLE epochs (
        only INTEGER PRIMARY KEY CHECK (only = 0),
        last INTEGER NOT NULL
    ) STRICT;
    INSERT INTO epochs (only, last) VALUES (0, 0);

    -- `record` is JSON without the plan's address ranges, which are in `ranges`: pairs of first and last, 4 bytes each for
    -- IPv4, 16 for IPv6, in network byte order, IPv4 first; `ranges_v4` says how many are IPv4.
    CREATE TABLE scan (
        key INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
        record TEXT NOT NULL,
        ranges BLOB NOT NULL,
        ranges_v4 INTEGER NOT NULL,
        status TEXT NOT NULL,
        opened INTEGER NOT NULL DEFAULT 0
    ) STRICT;

    CREATE TABLE agent (
        scan INTEGER NOT NULL REFERENCES scan (key) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        name TEXT NOT NULL,
        vantage TEXT NOT NULL,
        software TEXT NOT NULL,
        ping_method TEXT NOT NULL,
        PRIMARY KEY (scan, number)
    ) STRICT, WITHOUT ROWID;

    -- Open cohorts only.
    CREATE TABLE cohort (
        scan INTEGER NOT NULL REFERENCES scan (key) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        pass INTEGER NOT NULL,
        frontier INTEGER NOT NULL,
        PRIMARY KEY (scan, number)
    ) STRICT, WITHOUT ROWID;

    -- Leases that were not settled: few. An empty `covers` is all of the shard; a null `holder` is a returned one.
    CREATE TABLE lease (
        epoch INTEGER PRIMARY KEY,
        scan INTEGER NOT NULL REFERENCES scan (key) ON DELETE CASCADE,
        cohort INTEGER NOT NULL,
        pass INTEGER NOT NULL,
        lo INTEGER NOT NULL,
        hi INTEGER NOT NULL,
        covers BLOB NOT NULL,
        holder INTEGER,
        agent INTEGER NOT NULL,
        ends INTEGER NOT NULL
    ) STRICT;

    -- Settled leases. `findings` are pairs of index (from the one before, plus one) and round-trip time, as LEB128.
    CREATE TABLE chunk (
        epoch INTEGER PRIMARY KEY,
        scan INTEGER NOT NULL REFERENCES scan (key) ON DELETE CASCADE,
        cohort INTEGER NOT NULL,
        pass INTEGER NOT NULL,
        lo INTEGER NOT NULL,
        hi INTEGER NOT NULL,
        covers BLOB NOT NULL,
        agent INTEGER NOT NULL,
        chunk BLOB NOT NULL,
        findings BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX chunk_by_shard ON chunk (scan, cohort, pass, lo);
    ",
    ),
    M::up(
    "
    -- The chunks of a cohort that was closed, as one (block.rs), and the last of their epochs, which tells two versions apart.
    CREATE TABLE block (
        scan INTEGER NOT NULL REFERENCES scan (key) ON DELETE CASCADE,
        cohort INTEGER NOT NULL,
        last_epoch INTEGER NOT NULL,
        packed BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX block_by_cohort ON block (scan, cohort);

    -- Epochs of chunks that are in a block.
    CREATE TABLE rewritten (
        epoch INTEGER PRIMARY KEY,
        scan INTEGER NOT NULL REFERENCES scan (key) ON DELETE CASCADE
    ) STRICT;
    ",
    ),
    M::up(
    "
    -- What holds for a running scan, as JSON, and its version; null while nothing was changed.
    ALTER TABLE scan ADD COLUMN control TEXT;
    ALTER TABLE scan ADD COLUMN control_version INTEGER NOT NULL DEFAULT 0;
    ",
    ),
    M::up(
    "
    -- The tallies of closed cohorts, part by part (tally.rs). The short parts come first: who reads these does not read the pages of the
    -- others. A cohort that was closed by an earlier version has none.
    CREATE TABLE tally (
        scan INTEGER NOT NULL REFERENCES scan (key) ON DELETE CASCADE,
        cohort INTEGER NOT NULL,
        totals BLOB NOT NULL,
        by_column BLOB NOT NULL,
        by_host BLOB NOT NULL,
        by_cell BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX tally_by_cohort ON tally (scan, cohort);
    ",
    ),
];

/// All of them, in order.
pub(super) const MIGRATIONS: Migrations<'static> = Migrations::from_slice(STEPS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_migrations_run() {
        MIGRATIONS.validate().expect("migrations that apply");
    }
}
