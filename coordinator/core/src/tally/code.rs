//! A tally as bytes. Numbers are LEB128; equal counts that follow each other are written once, with how many there are of them.
//!
//! Totals: targets, then addresses by what says most of them, by the code of the state. The other parts: how many follow, a byte with a bit
//! for each state that is there (the lowest for code 0), and their counts. Columns come with `ping` first; the grid column by column.

use super::counts::{Cell, Counts, Run, SIDE_MAX, Shape};
use crate::store::StoreError;
use protocol::plan::COHORT_HOSTS_MAX;
use protocol::probe::State;

/// One of the parts of a tally.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// [`Totals`].
    Totals,
    /// The counts of each column.
    Columns,
    /// [`Run`]s.
    Hosts,
    /// The counts of each cell, column by column.
    Grid,
}

impl Part {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Totals, Self::Columns, Self::Hosts, Self::Grid];

    /// The most bytes that it has.
    #[must_use]
    pub const fn bytes_max(self) -> usize {
        let columns = 1 + SIDE_MAX as usize;
        match self {
            // Numbers below 2^28 · 65 take at most five bytes.
            Self::Totals => 2 * STATES * 5,
            // Four states of ports, of each of which there are at most 1,024 a host.
            Self::Columns => columns * (2 + 4 * 4),
            Self::Hosts => COHORT_HOSTS_MAX as usize * (2 + 4 * 3 + 1),
            Self::Grid => columns * SIDE_MAX as usize * (2 + 4 * 3),
        }
    }
}

/// How many states there are.
const STATES: usize = State::ALL.len();

/// A cohort in two lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Targets by state.
    pub targets: Counts,
    /// Addresses by what says most of them.
    pub addresses: Counts,
}

/// A tally, packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed([Vec<u8>; 4]);

impl Packed {
    /// Of the hosts, in address order, and the cells, column by column.
    pub(super) fn new(runs: &[Run], grid: &[Cell], shape: Shape) -> Self {
        let mut totals = Totals::default();
        for run in runs {
            totals.targets += run.each.times(run.hosts.into());
            totals.addresses.add(run.each.says(), run.hosts.into());
        }
        let numbers = totals.targets.by_code().iter().chain(totals.addresses.by_code());
        let mut parts: [Vec<u8>; 4] = Default::default();
        numbers.for_each(|number| put(&mut parts[0], *number));
        let columns = grid.chunks(shape.rows().max(1) as usize).map(|cells| {
            let mut counts = Counts::default();
            cells.iter().for_each(|cell| counts += (*cell).into());
            counts
        });
        put_runs(&mut parts[1], columns.map(|counts| (1, counts)));
        put_runs(&mut parts[2], runs.iter().map(|run| (run.hosts.into(), run.each)));
        put_runs(&mut parts[3], grid.iter().map(|cell| (1, (*cell).into())));
        Self(parts)
    }

    /// From its parts, in the order of [`Part::ALL`]. They are believed: the audit proves them.
    #[must_use]
    pub const fn from_parts(parts: [Vec<u8>; 4]) -> Self {
        Self(parts)
    }

    /// One of its parts.
    #[must_use]
    pub fn part(&self, part: Part) -> &[u8] {
        &self.0[part as usize]
    }
}

impl Totals {
    /// From [`Part::Totals`].
    ///
    /// # Errors
    /// [`StoreError::Broken`] if it is none.
    pub fn read(mut bytes: &[u8]) -> Result<Self, StoreError> {
        let mut counts = || -> Option<Counts> {
            let mut by_code = [0; STATES];
            for count in &mut by_code {
                *count = take(&mut bytes)?;
            }
            Some(by_code.into())
        };
        let totals = counts().zip(counts()).map(|(targets, addresses)| Self { targets, addresses });
        totals.filter(|_| bytes.is_empty()).ok_or_else(broken)
    }
}

/// The counts of each column, from [`Part::Columns`].
///
/// # Errors
/// [`StoreError::Broken`] if it is none of a cohort of this shape.
pub fn columns_of(bytes: &[u8], shape: &Shape, tell: &mut dyn FnMut(u32, Counts)) -> Result<(), StoreError> {
    let mut column = 0;
    read_runs(bytes, shape.columns(), &mut |count, counts| {
        (column..column + count).for_each(|column| tell(column, counts));
        column += count;
    })
}

/// The hosts, from [`Part::Hosts`].
///
/// # Errors
/// [`StoreError::Broken`] if it is none of a cohort of so many hosts.
pub fn hosts_of(bytes: &[u8], hosts: u32) -> Result<Vec<Run>, StoreError> {
    let mut runs = Vec::new();
    read_runs(bytes, hosts, &mut |hosts, each| runs.push(Run { hosts, each }))?;
    Ok(runs)
}

/// The column, row and counts of each cell, from [`Part::Grid`].
///
/// # Errors
/// [`StoreError::Broken`] if it is none of a cohort of this shape.
pub fn grid_of(bytes: &[u8], shape: &Shape, tell: &mut dyn FnMut(u32, u32, Counts)) -> Result<(), StoreError> {
    let (rows, mut at) = (shape.rows(), 0);
    read_runs(bytes, shape.columns() * rows, &mut |count, counts| {
        (at..at + count).for_each(|at| tell(at / rows, at % rows, counts));
        at += count;
    })
}

fn broken() -> StoreError {
    StoreError::Broken { invariant: "I7", detail: "a stored tally cannot be read".to_owned() }
}

/// Writes runs, equal ones that follow each other as one.
fn put_runs(bytes: &mut Vec<u8>, runs: impl Iterator<Item = (u64, Counts)>) {
    let mut last: Option<(u64, Counts)> = None;
    for (count, counts) in runs {
        match &mut last {
            Some((times, same)) if *same == counts => *times += count,
            _ => {
                if let Some(run) = last.replace((count, counts)) {
                    put_run(bytes, run);
                }
            }
        }
    }
    if let Some(run) = last {
        put_run(bytes, run);
    }
}

fn put_run(bytes: &mut Vec<u8>, (times, counts): (u64, Counts)) {
    put(bytes, times);
    let there = counts.by_code().iter().zip(0..).filter(|(count, _)| **count > 0);
    bytes.push(there.clone().fold(0, |mask, (_, code)| mask | 1 << code));
    there.for_each(|(count, _)| put(bytes, *count));
}

/// Reads runs that are `expected` together.
fn read_runs(mut bytes: &[u8], expected: u32, tell: &mut dyn FnMut(u32, Counts)) -> Result<(), StoreError> {
    let mut left = expected;
    while !bytes.is_empty() {
        let (times, counts) = take_run(&mut bytes).ok_or_else(broken)?;
        let times = u32::try_from(times).ok().filter(|times| *times <= left).ok_or_else(broken)?;
        left -= times;
        tell(times, counts);
    }
    if left == 0 { Ok(()) } else { Err(broken()) }
}

fn take_run(bytes: &mut &[u8]) -> Option<(u64, Counts)> {
    let times = take(bytes)?;
    let (&mask, rest) = bytes.split_first()?;
    *bytes = rest;
    let mut by_code = [0; STATES];
    for (count, code) in by_code.iter_mut().zip(0..) {
        if mask & (1 << code) != 0 {
            *count = take(bytes)?;
        }
    }
    (mask >> STATES == 0).then(|| (times, by_code.into()))
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}
