//! Tallies: the targets of a cohort counted by state, so that a map of a scan need not read it.
//!
//! A tally has four parts, each packed apart ([`Part`]), as a map reads one of them of many cohorts:
//! - the totals: targets by state, and addresses by what says most of them ([`Counts::says`]);
//! - the columns: targets by state of `ping`, and of each of at most 64 runs of ports ([`Shape`]);
//! - the hosts, in address order: runs of such that have equal counts, so that silent space is one run;
//! - the grid: the columns, for each of at most 64 runs of hosts.
//!
//! Bounds, for the largest cohort (4,096 hosts by 65,535 ports and `ping`): 0.1, 1.2, 62 and 59 KB ([`Part::bytes_max`]). A cohort in which
//! nobody answers takes less than 100 bytes in all.
//!
//! The store keeps the tally of a closed cohort, made when it was closed; with several vantages that of each, as each has cohorts of its own.

mod code;
mod count;
mod counts;
#[cfg(test)]
pub(crate) mod tests;

pub use code::{Packed, Part, Totals, columns_of, grid_of, hosts_of};
pub use count::{Counting, WINDOW_TARGETS, of};
pub use counts::{Cell, Counts, Run, SIDE_MAX, Shape};

/// A cohort of more targets is closed without its tally, which is counted later, beside the store's writer: closing holds that up for the time
/// that counting takes.
pub const CLOSING_TARGETS_MAX: u32 = 1 << 24;
