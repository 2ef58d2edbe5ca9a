//! The map of hosts by ports: at most 64 rows of consecutive addresses by at most 64 columns of consecutive ports, and `ping`.
//!
//! How fine it is follows from how much is to be read. Where the cohorts that it touches have up to [`EXACT_TARGETS_MAX`] targets, these are
//! counted one by one, down to one address by one port. Of more, rows and columns are those of the tallies' grids ([`Shape`]): rows begin at
//! multiples of a power of two, so that each is made of whole rows of the grids, or of whole cohorts.

use super::source::{Known, Source, Sum};
use crate::stages::Ports;
use crate::store::StoreError;
use crate::tally::{Counting, Counts, Part, Shape, columns_of, grid_of};
use protocol::probe::State;
use std::net::IpAddr;
use std::ops::Range;

/// The most rows.
pub const ROWS_MAX: u64 = 64;

/// So many targets, of all vantages that are shown, are counted one by one: some 50 ms.
pub const EXACT_TARGETS_MAX: u64 = 1 << 20;

/// Which part of a scan is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Its addresses, by rank in the plan.
    pub ranks: Range<u64>,
    /// Its ports, by place among those that are asked.
    pub ports: Range<u32>,
}

/// A map of hosts by ports.
#[derive(Clone, Debug, PartialEq)]
pub struct PortMap {
    /// Its rows, by address.
    pub rows: Vec<Row>,
    /// Its columns, `ping` first if it is asked, then by port.
    pub columns: Vec<Column>,
    /// The counts of each cell, row by row; they count no addresses.
    pub cells: Vec<Sum>,
    /// Whether its targets were counted one by one: then rows and columns are as fine as 64 of them can be.
    pub exact: bool,
}

/// Consecutive addresses of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The first.
    pub first: IpAddr,
    /// The last.
    pub last: IpAddr,
    /// How many of the plan.
    pub hosts: u64,
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// What `ping` found.
    Ping,
    /// Consecutive ones of the ports that are asked.
    Ports {
        /// The first.
        first: u16,
        /// The last.
        last: u16,
        /// How many.
        count: u32,
    },
}

/// How a map is cut.
struct Cut {
    /// The rank at which its first row begins, and the one after its last.
    ranks: Range<u64>,
    /// How many addresses a row has: a power of two.
    row_hosts: u64,
    /// Its columns, as a cohort has them.
    shape: Shape,
    /// Those of them that it shows, ports only.
    columns: Range<u32>,
}

impl Cut {
    /// Cuts so that rows hold at least `least` addresses.
    fn new(source: &Source<'_>, extent: &Extent, least: u64, shape: Shape, columns: Range<u32>) -> Self {
        let (from, to) = (extent.ranks.start, extent.ranks.end);
        let mut row_hosts = (to - from).div_ceil(ROWS_MAX).max(least).next_power_of_two();
        let begin = |row_hosts: u64| from / row_hosts * row_hosts;
        while (to - begin(row_hosts)).div_ceil(row_hosts) > ROWS_MAX {
            row_hosts *= 2;
        }
        let begin = begin(row_hosts);
        let end = begin.saturating_add((to - begin).div_ceil(row_hosts).saturating_mul(row_hosts));
        let ranks = begin..end.min(source.plan().addresses().len());
        Self { ranks, row_hosts, shape, columns }
    }

    fn rows(&self) -> u64 {
        (self.ranks.end - self.ranks.start).div_ceil(self.row_hosts)
    }

    /// How many columns it shows, `ping` among them.
    fn width(&self) -> u64 {
        u64::from(self.shape.ping) + u64::from(self.columns.end - self.columns.start)
    }

    /// The cell for what stands at a rank and in a cohort's column; `None` if it is not shown.
    fn cell(&self, rank: u64, column: u32) -> Option<usize> {
        let ping = u32::from(self.shape.ping);
        let at = match column.checked_sub(ping) {
            None => 0,
            Some(port) if self.columns.contains(&port) => ping + port - self.columns.start,
            Some(_) => return None,
        };
        let row = (self.ranks.contains(&rank)).then(|| (rank - self.ranks.start) / self.row_hosts)?;
        usize::try_from(row * self.width() + u64::from(at)).ok()
    }

    fn row_list(&self, source: &Source<'_>) -> Vec<Row> {
        let rows = (0..self.rows()).map(|row| self.ranks.start + row * self.row_hosts);
        let rows = rows.filter_map(|begin| {
            let end = (begin + self.row_hosts).min(self.ranks.end);
            let addresses = source.plan().addresses();
            Some(Row { first: addresses.nth(begin)?, last: addresses.nth(end - 1)?, hosts: end - begin })
        });
        rows.collect()
    }

    fn column_list(&self, source: &Source<'_>) -> Vec<Column> {
        let asked = source.plan().slots().ports();
        let ports = self.columns.clone().filter_map(|column| {
            let first = self.shape.first_port + column * self.shape.column_ports;
            let count = self.shape.column_ports.min((self.shape.first_port + self.shape.ports).saturating_sub(first));
            Some(Column::Ports { first: asked.nth(first)?, last: asked.nth(first + count - 1)?, count })
        });
        self.shape.ping.then_some(Column::Ping).into_iter().chain(ports).collect()
    }
}

/// The map of a part of a scan, which is widened to whole rows and columns; `None` for no address.
///
/// # Errors
/// If the store fails, or holds what is no tally or no chunk.
pub fn map(source: &Source<'_>, extent: &Extent) -> Result<Option<PortMap>, StoreError> {
    map_reading(source, extent, EXACT_TARGETS_MAX)
}

/// The same, counting at most so many targets one by one.
pub(super) fn map_reading(
    source: &Source<'_>,
    extent: &Extent,
    exact_targets_max: u64,
) -> Result<Option<PortMap>, StoreError> {
    let end = source.plan().addresses().len();
    let ranks = extent.ranks.start..extent.ranks.end.min(end);
    if ranks.is_empty() {
        return Ok(None);
    }
    let hosts = source.cohort_hosts();
    let runs = ranks.start / hosts..ranks.end.div_ceil(hosts);
    let read = (runs.end - runs.start).saturating_mul(hosts).saturating_mul(source.slots());
    let views = source.views();
    let exact = read.saturating_mul(views.end - views.start) <= exact_targets_max;
    let extent = Extent { ranks, ports: extent.ports.clone() };
    let (cut, cells) = if exact { count(source, &extent)? } else { add_up(source, &extent)? };
    Ok(Some(PortMap { rows: cut.row_list(source), columns: cut.column_list(source), cells, exact }))
}

/// Counts the targets one by one.
fn count(source: &Source<'_>, extent: &Extent) -> Result<(Cut, Vec<Sum>), StoreError> {
    let (slots, hosts) = (source.plan().slots(), source.cohort_hosts());
    let ports = extent.ports.start..extent.ports.end.min(slots.ports().len()).max(extent.ports.start);
    let shape = Shape {
        hosts: u32::try_from(hosts).unwrap_or(u32::MAX),
        row_hosts: 1,
        ping: slots.ping(),
        first_port: ports.start,
        ports: ports.end - ports.start,
        column_ports: (ports.end - ports.start).div_ceil(crate::tally::SIDE_MAX).max(1),
    };
    let columns = 0..shape.ports.div_ceil(shape.column_ports);
    let mut cut = Cut::new(source, extent, 1, shape, columns);
    cut.shape.row_hosts = u32::try_from(cut.row_hosts.min(hosts)).unwrap_or(u32::MAX);
    let mut cells = vec![Sum::default(); usize::try_from(cut.rows() * cut.width()).unwrap_or(0)];
    let (store, scan) = source.store();
    for run in cut.ranks.start / hosts..cut.ranks.end.div_ceil(hosts) {
        let first = source.ranks_of(run).start;
        for view in source.views() {
            let number = view * source.plan().cohorts_of_one() + run;
            let Some(cohort) = source.plan().cohort(number) else { continue };
            let shape = Shape { hosts: cohort.hosts(), ..cut.shape };
            let mut counting = Counting::new(&cohort, shape, Ports::of_cohort(store, scan, &cohort)?);
            while let Some(indices) = counting.window() {
                counting.take(&store.chunks(scan, number, indices)?)?;
            }
            let (_, grid) = counting.counted();
            for (counts, at) in grid.into_iter().zip(0u32..) {
                let (column, row) = (at / shape.rows(), at % shape.rows());
                let rank = first + u64::from(row) * u64::from(shape.row_hosts);
                if let Some(cell) = cut.cell(rank, column).and_then(|at| cells.get_mut(at)) {
                    cell.targets += counts.into();
                }
            }
        }
    }
    Ok((cut, cells))
}

/// Adds tallies up: of whole cohorts their columns, else their grids.
fn add_up(source: &Source<'_>, extent: &Extent) -> Result<(Cut, Vec<Sum>), StoreError> {
    let (slots, hosts) = (source.plan().slots(), source.cohort_hosts());
    let shape = Shape::of(u32::try_from(hosts).unwrap_or(u32::MAX), slots);
    let last = shape.ports.div_ceil(shape.column_ports);
    let from = (extent.ports.start / shape.column_ports).min(last);
    let columns = from..extent.ports.end.div_ceil(shape.column_ports).clamp(from, last);
    let cut = Cut::new(source, extent, shape.row_hosts.into(), shape, columns);
    let mut cells = vec![Sum::default(); usize::try_from(cut.rows() * cut.width()).unwrap_or(0)];
    let runs = cut.ranks.start / hosts..cut.ranks.end.div_ceil(hosts);
    let part = if cut.row_hosts < hosts { Part::Grid } else { Part::Columns };
    for view in source.views() {
        source.each(view, runs.clone(), part, &mut |run, known| {
            let ranks = source.ranks_of(run);
            let shape = Shape::of(u32::try_from(ranks.end - ranks.start).unwrap_or(u32::MAX), slots);
            let mut add = |row: u32, column: u32, sum: Sum| {
                let rank = ranks.start + u64::from(row) * u64::from(shape.row_hosts);
                if let Some(cell) = cut.cell(rank, column).and_then(|at| cells.get_mut(at)) {
                    *cell += sum;
                }
            };
            let targets = |targets: Counts| Sum { targets, ..Sum::default() };
            match (known, part) {
                (Known::Part(bytes), Part::Grid) => {
                    grid_of(bytes, &shape, &mut |column, row, counts| add(row, column, targets(counts)))
                }
                (Known::Part(bytes), _) => {
                    columns_of(bytes, &shape, &mut |column, counts| add(0, column, targets(counts)))
                }
                (unknown, _) => {
                    // A whole cohort lies in one row.
                    let shape =
                        if part == Part::Grid { shape } else { Shape { row_hosts: shape.hosts.max(1), ..shape } };
                    for (row, column) in (0..shape.rows()).flat_map(|row| (0..shape.columns()).map(move |of| (row, of)))
                    {
                        let count = u64::from(shape.hosts_in(row)) * u64::from(shape.slots_in(column));
                        let mut sum = Sum::default();
                        match unknown {
                            Known::Uncounted => sum.uncounted = count,
                            _ => sum.targets.add(State::NotProbed, count),
                        }
                        add(row, column, sum);
                    }
                    Ok(())
                }
            }
        })?;
    }
    Ok((cut, cells))
}
