//! Scans that were removed. They are hidden in one transaction; what is left of them is deleted in lots, so that no report waits long for that.

use super::failure::Failure;
use protocol::id::ScanId;
use rusqlite::{Connection, OptionalExtension, params};

/// How many rows a lot has at most,
const ROWS_MAX: u32 = 256;
/// and how many bytes before its last row.
const BYTES_MAX: u32 = 1 << 20;

/// A lot of what may be large, in the order of an index.
macro_rules! large {
    ($table:literal, $key:literal, $order:literal, $bytes:literal) => {
        concat!(
            "DELETE FROM ", $table, " WHERE ", $key, " IN (
                SELECT id FROM (SELECT id, sum(bytes) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) - bytes AS before FROM
                    (SELECT ", $key, " AS id, ", $bytes, " AS bytes FROM ", $table, " WHERE scan = ?1 ORDER BY ", $order, " LIMIT ?2))
                WHERE before < ?3)"
        )
    };
}

/// What is deleted of a scan, in this order.
const LARGE: [&str; 3] = [
    large!("tally", "rowid", "cohort", "length(by_column) + length(by_host) + length(by_cell)"),
    large!("block", "rowid", "cohort", "length(packed)"),
    large!("chunk", "epoch", "cohort, pass, lo", "length(chunk) + length(findings) + length(covers)"),
];
const SMALL: [&str; 4] = [
    "DELETE FROM rewritten WHERE epoch IN (SELECT epoch FROM rewritten WHERE scan = ?1 LIMIT ?2)",
    "DELETE FROM lease WHERE epoch IN (SELECT epoch FROM lease WHERE scan = ?1 LIMIT ?2)",
    "DELETE FROM cohort WHERE scan = ?1 AND number IN (SELECT number FROM cohort WHERE scan = ?1 LIMIT ?2)",
    "DELETE FROM agent WHERE scan = ?1 AND number IN (SELECT number FROM agent WHERE scan = ?1 LIMIT ?2)",
];

/// Hides a scan; false, and it stays, if a lease of it has a holder whose right may not have ended.
pub(super) fn hide(connection: &Connection, scan: ScanId, rights_ended: bool) -> Result<bool, Failure> {
    let is_held: bool = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM lease JOIN scan ON lease.scan = scan.key
                            WHERE scan.id = ? AND scan.status <> 'removed' AND lease.holder IS NOT NULL)",
        )?
        .query_row([scan.as_bytes()], |row| row.get(0))?;
    if is_held && !rights_ended {
        return Ok(false);
    }
    connection.prepare_cached("UPDATE scan SET status = 'removed' WHERE id = ?")?.execute([scan.as_bytes()])?;
    Ok(true)
}

/// Deletes a lot of what removed scans left; false if nothing was.
pub(super) fn delete_lot(connection: &Connection) -> Result<bool, Failure> {
    let key: Option<i64> = connection
        .prepare_cached("SELECT key FROM scan WHERE status = 'removed' ORDER BY key LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let Some(key) = key else { return Ok(false) };
    for sql in LARGE {
        if connection.prepare_cached(sql)?.execute(params![key, ROWS_MAX, BYTES_MAX])? > 0 {
            return Ok(true);
        }
    }
    for sql in SMALL {
        if connection.prepare_cached(sql)?.execute(params![key, ROWS_MAX])? > 0 {
            return Ok(true);
        }
    }
    connection.prepare_cached("DELETE FROM scan WHERE key = ?")?.execute([key])?;
    Ok(true)
}
