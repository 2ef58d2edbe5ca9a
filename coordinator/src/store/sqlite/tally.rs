//! Tallies of closed cohorts (`coordinator_core::tally`), a row each. A part that is long is deflated: counts repeat.
//!
//! A part is a byte, 0 for what follows as it is, 1 for what follows deflated.

use super::Known;
use super::code::{signed, unsigned};
use super::failure::Failure;
use coordinator_core::store::TellTally;
use coordinator_core::tally::{Packed, Part};
use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;
use rusqlite::{Connection, params};
use std::borrow::Cow;
use std::ops::Range;

/// What is shorter gains nothing by it.
const DEFLATED_FROM_BYTES: usize = 128;
/// As zlib's default.
const LEVEL: u8 = 6;

const AS_IT_IS: u8 = 0;
const DEFLATED: u8 = 1;

/// Keeps a tally, in the place of another.
pub(super) fn keep(connection: &Connection, known: &Known, cohort: u64, tally: &Packed) -> Result<(), Failure> {
    let [totals, by_column, by_host, by_cell] = Part::ALL.map(|part| deflated(tally.part(part)));
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO tally (scan, cohort, totals, by_column, by_host, by_cell) VALUES (?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![known.key, signed(cohort), totals, by_column, by_host, by_cell])?;
    Ok(())
}

/// Takes it away.
pub(super) fn forget(connection: &Connection, known: &Known, cohort: u64) -> Result<(), Failure> {
    let mut delete = connection.prepare_cached("DELETE FROM tally WHERE scan = ? AND cohort = ?")?;
    delete.execute(params![known.key, signed(cohort)])?;
    Ok(())
}

/// Whether a cohort has one.
pub(super) fn is_kept(connection: &Connection, known: &Known, cohort: u64) -> Result<bool, Failure> {
    let mut select = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM tally WHERE scan = ? AND cohort = ?)")?;
    Ok(select.query_row(params![known.key, signed(cohort)], |row| row.get(0))?)
}

/// Tells a part of those of the cohorts `numbers`, by number.
pub(super) fn tell(
    connection: &Connection,
    known: &Known,
    numbers: Range<u64>,
    part: Part,
    tell: TellTally<'_>,
) -> Result<(), Failure> {
    let select = match part {
        Part::Totals => {
            "SELECT cohort, totals FROM tally WHERE scan = ? AND cohort >= ? AND cohort < ? ORDER BY cohort"
        }
        Part::Columns => {
            "SELECT cohort, by_column FROM tally WHERE scan = ? AND cohort >= ? AND cohort < ? ORDER BY cohort"
        }
        Part::Hosts => {
            "SELECT cohort, by_host FROM tally WHERE scan = ? AND cohort >= ? AND cohort < ? ORDER BY cohort"
        }
        Part::Grid => "SELECT cohort, by_cell FROM tally WHERE scan = ? AND cohort >= ? AND cohort < ? ORDER BY cohort",
    };
    // Numbers of cohorts are below 2^63.
    let end = |number: u64| signed(number.min(i64::MAX as u64));
    let mut select = connection.prepare_cached(select)?;
    let mut rows = select.query(params![known.key, end(numbers.start), end(numbers.end)])?;
    while let Some(row) = rows.next()? {
        let stored = row.get_ref(1)?.as_blob().unwrap_or_default();
        let bytes = inflated(stored, part).ok_or(Failure::Malformed("tally"))?;
        tell(unsigned(row.get(0)?), &bytes)?;
    }
    Ok(())
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut stored = vec![DEFLATED];
    if bytes.len() >= DEFLATED_FROM_BYTES {
        stored.extend(compress_to_vec(bytes, LEVEL));
        if stored.len() <= bytes.len() {
            return stored;
        }
    }
    stored.clear();
    stored.push(AS_IT_IS);
    stored.extend(bytes);
    stored
}

fn inflated(stored: &[u8], part: Part) -> Option<Cow<'_, [u8]>> {
    match stored.split_first()? {
        (&AS_IT_IS, bytes) => Some(bytes.into()),
        (&DEFLATED, bytes) => decompress_to_vec_with_limit(bytes, part.bytes_max()).ok().map(Cow::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_is_deflated_and_comes_back() {
        let long: Vec<u8> = (0..20_000u32).map(|number| (number % 7) as u8).collect();
        let no_order: Vec<u8> = (0..500u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for bytes in [&[][..], &[1, 2, 3], &no_order, &long] {
            let stored = deflated(bytes);
            assert!(stored.len() <= bytes.len() + 1);
            assert_eq!(inflated(&stored, Part::Grid).as_deref(), Some(bytes));
        }
        assert!(deflated(&long).len() < 500);
        let bomb = deflated(&vec![0; Part::Grid.bytes_max() + 1]);
        assert_eq!(inflated(&bomb, Part::Grid), None);
        assert_eq!(inflated(&[2, 0], Part::Grid), None);
    }
}
