//! The two maps of a scan, made of tallies: what each cell covers, and its counts. Nothing here draws.
//!
//! - [`ports`]: at most 64 rows of consecutive addresses by at most 64 columns of consecutive ports, `ping` apart.
//! - [`addresses`]: the prefixes of one length within a prefix, at most 64 × 64, which a Hilbert curve lays out. IPv6 is no case of its own:
//!   where the plan has nothing in most of a prefix, the map begins at the longest one that holds all it has there, so that a sparse plan
//!   takes few steps down to single addresses.
//!
//! With several vantages each slot of an address is as many targets as there are vantages, as in the summary of a scan; an address
//! is what any of them says most of it. What was not counted yet is told apart ([`Sum::uncounted`]), never as `not-probed`.

pub mod addresses;
pub mod ports;
mod source;
#[cfg(test)]
mod tests;

pub use source::{Counted, Source, Sum};
