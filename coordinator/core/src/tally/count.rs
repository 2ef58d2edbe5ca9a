//! Counts a cohort from its chunks, slot by slot: what most hosts have in common is counted once, so that silence costs no more than to
//! be read.

use super::code::Packed;
use super::counts::{Cell, Counts, Run, Shape};
use crate::passes::replaces;
use crate::stages::Ports;
use crate::store::{ChunkRecord, Store, StoreError};
use protocol::id::ScanId;
use protocol::plan::Cohort;
use protocol::probe::{Cause, Outcome, State};
use protocol::{chunk, covers};
use std::ops::Range;

/// How many targets are read at once, a byte each: a few reads of the store, even for the largest cohort.
pub const WINDOW_TARGETS: u32 = 1 << 22;

const PENDING: Outcome = Outcome::not_probed(Cause::Pending);

/// A cohort being counted. It asks for one [`window`](Self::window) after the other.
pub struct Counting<'a> {
    cohort: &'a Cohort,
    shape: Shape,
    /// In stages: what the ports of each host are.
    ports: Option<Vec<Ports>>,
    /// Slots by the state of most of their hosts: what every host has, but for what `hosts` says.
    common: Cell,
    /// Of each host, modulo 2^32, what it has more or less than `common`.
    hosts: Vec<Cell>,
    /// As `common`, of each column.
    columns: Vec<Cell>,
    /// Of each cell, column by column, what it has more or less than its part of `columns`.
    grid: Vec<Cell>,
    /// The slot that comes next.
    position: u32,
}

/// The tally of a cohort, from what is stored. In stages, ports of hosts that were found down are no targets.
///
/// # Errors
/// If the store fails, or a chunk is not what its lease covered.
pub fn of<S: Store + ?Sized>(store: &S, scan: ScanId, cohort: &Cohort) -> Result<Packed, StoreError> {
    let ports = Ports::of_cohort(store, scan, cohort)?;
    let mut counting = Counting::new(cohort, Shape::of(cohort.hosts(), cohort.slots()), ports);
    while let Some(indices) = counting.window() {
        counting.take(&store.chunks(scan, cohort.number(), indices)?)?;
    }
    Ok(counting.finish())
}

impl<'a> Counting<'a> {
    /// Of a cohort, in this shape; in stages with what the ports of each host are.
    #[must_use]
    pub fn new(cohort: &'a Cohort, shape: Shape, ports: Option<Vec<Ports>>) -> Self {
        let (columns, rows) = (shape.columns() as usize, shape.rows() as usize);
        Self {
            cohort,
            shape,
            ports,
            common: Cell::default(),
            hosts: vec![Cell::default(); cohort.hosts() as usize],
            columns: vec![Cell::default(); columns],
            grid: vec![Cell::default(); columns * rows],
            position: 0,
        }
    }

    /// The indices whose chunks it needs next; `None` once it has all.
    #[must_use]
    pub fn window(&self) -> Option<Range<u32>> {
        let hosts = self.cohort.hosts();
        let end = self.cohort.slots().len().min(self.position + (WINDOW_TARGETS / hosts).max(1));
        (self.position < end).then(|| self.position * hosts..end * hosts)
    }

    /// Takes the chunks that meet its window, by pass and first index.
    ///
    /// # Errors
    /// [`StoreError::Broken`] if a chunk does not hold what its lease covered.
    pub fn take(&mut self, chunks: &[ChunkRecord]) -> Result<(), StoreError> {
        let Some(window) = self.window() else { return Ok(()) };
        let mut known = vec![PENDING; window.len()];
        for stored in chunks {
            fold(stored, &window, &mut known)?;
        }
        for outcomes in known.chunks(self.cohort.hosts() as usize) {
            self.count(outcomes);
            self.position += 1;
        }
        Ok(())
    }

    /// Counts the slot that comes next.
    fn count(&mut self, outcomes: &[Outcome]) {
        let slots = self.cohort.slots();
        let slot = self.cohort.slot_at(self.position);
        let Some(column) = slot.and_then(|slot| self.shape.column_of(slot, slots)) else { return };
        let alike = outcomes.first().filter(|first| outcomes.iter().all(|outcome| outcome == *first));
        let common = alike.map_or_else(|| commonest(outcomes), |alike| alike.state());
        self.common[common as usize] += 1;
        self.columns[column as usize][common as usize] += 1;
        if alike.is_some() {
            return;
        }
        let (order, rows) = (self.cohort.host_order(self.position), self.shape.rows());
        for (place, state) in (0..).zip(outcomes.iter().map(|outcome| outcome.state())) {
            if state == common {
                continue;
            }
            let Some(rank) = order.at(place).and_then(|rank| u32::try_from(rank).ok()) else { continue };
            let cell = column * rows + rank / self.shape.row_hosts;
            for counts in [&mut self.hosts[rank as usize], &mut self.grid[cell as usize]] {
                counts[state as usize] = counts[state as usize].wrapping_add(1);
                counts[common as usize] = counts[common as usize].wrapping_sub(1);
            }
        }
    }

    /// What the hosts have, and the cells, column by column.
    #[must_use]
    pub fn counted(mut self) -> (Vec<Cell>, Vec<Cell>) {
        for host in &mut self.hosts {
            *host = add(*host, self.common);
        }
        let rows = self.shape.rows();
        for (cell, at) in self.grid.iter_mut().zip(0u32..) {
            let (column, row) = (at / rows, at % rows);
            let hosts = self.shape.hosts_in(row);
            *cell = add(*cell, self.columns[column as usize].map(|count| count.wrapping_mul(hosts)));
        }
        self.leave_out();
        (self.hosts, self.grid)
    }

    /// In stages, takes out the ports of hosts that are down: nobody ever leased them, so they count as not probed.
    fn leave_out(&mut self) {
        let not_probed = State::NotProbed as usize;
        let first = u32::from(self.shape.ping);
        let down = self.ports.iter().flatten().zip(0u32..).filter(|(ports, _)| **ports == Ports::NoTargets);
        for (_, rank) in down {
            for column in first..self.shape.columns() {
                let count = self.shape.slots_in(column);
                let cell = column * self.shape.rows() + rank / self.shape.row_hosts;
                for counts in [&mut self.hosts[rank as usize], &mut self.grid[cell as usize]] {
                    counts[not_probed] = counts[not_probed].saturating_sub(count);
                }
            }
        }
    }

    /// The tally.
    #[must_use]
    pub fn finish(self) -> Packed {
        let shape = self.shape;
        let (hosts, grid) = self.counted();
        let mut runs: Vec<Run> = Vec::new();
        for each in hosts.into_iter().map(Counts::from) {
            match runs.last_mut() {
                Some(run) if run.each == each => run.hosts += 1,
                _ => runs.push(Run { hosts: 1, each }),
            }
        }
        Packed::new(&runs, &grid, shape)
    }
}

/// Takes a chunk into what is known of a window.
fn fold(stored: &ChunkRecord, window: &Range<u32>, known: &mut [Outcome]) -> Result<(), StoreError> {
    let (lo, hi) = (stored.shard.lo, stored.shard.hi);
    let broken = |detail: String| StoreError::Broken { invariant: "I2", detail };
    let outcomes = chunk::decode(&stored.chunk, covers::count(&stored.covers, lo, hi))
        .map_err(|error| broken(format!("chunk of epoch {}: {error}", stored.epoch)))?;
    if stored.shard.pass == 1 && stored.covers.is_empty() {
        // Nothing is known before the first pass.
        let (from, to) = (lo.max(window.start), hi.min(window.end));
        if from < to {
            let known = &mut known[(from - window.start) as usize..(to - window.start) as usize];
            known.copy_from_slice(&outcomes[(from - lo) as usize..(to - lo) as usize]);
        }
        return Ok(());
    }
    for (index, outcome) in covers::indices(&stored.covers, lo, hi).zip(outcomes) {
        if window.contains(&index) {
            let known = &mut known[(index - window.start) as usize];
            if replaces(*known, outcome) {
                *known = outcome;
            }
        }
    }
    Ok(())
}

fn commonest(outcomes: &[Outcome]) -> State {
    let mut counts = Cell::default();
    for outcome in outcomes {
        counts[outcome.state() as usize] += 1;
    }
    State::ALL.iter().copied().max_by_key(|state| counts[*state as usize]).unwrap_or(State::NotProbed)
}

fn add(left: Cell, right: Cell) -> Cell {
    std::array::from_fn(|at| left[at].wrapping_add(right[at]))
}
