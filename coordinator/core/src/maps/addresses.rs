//! The map of addresses: a prefix, cut into 4^depth prefixes of one length, in the order in which a Hilbert curve passes them, which is
//! address order.

use super::source::{Known, Source, Stretch, Sum};
use crate::store::StoreError;
use crate::tally::{Part, Totals};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use protocol::plan::Plan;
use std::net::IpAddr;
use std::ops::Range;

/// The largest depth: 64 × 64 cells.
pub const DEPTH_MAX: u8 = 6;

/// A map of addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct AddressMap {
    /// What it shows: an even number of bits long, so that each step down halves both sides.
    pub prefix: IpNet,
    /// It has 2^depth cells a side: 0 for a single address.
    pub depth: u8,
    /// Those in which the plan has an address, by place.
    pub cells: Vec<AddressCell>,
}

/// A cell of it.
#[derive(Clone, Debug, PartialEq)]
pub struct AddressCell {
    /// Its place along the curve, `0..4^depth`.
    pub place: u64,
    /// What it covers.
    pub prefix: IpNet,
    /// How many addresses the plan has in it.
    pub planned: u64,
    /// Its counts.
    pub sum: Sum,
}

/// The prefixes from which the maps of a plan begin: one for IPv4, one for IPv6, as far as it has such addresses.
#[must_use]
pub fn roots(plan: &Plan) -> Vec<IpNet> {
    let all = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
    all.into_iter().filter_map(|all| within(plan, all)).collect()
}

/// The longest prefix of an even length that holds what the plan has in `prefix`; `None` if it has nothing there.
#[must_use]
pub fn within(plan: &Plan, prefix: IpNet) -> Option<IpNet> {
    let addresses = plan.addresses();
    let ranks = addresses.ranks_within(prefix.network(), prefix.broadcast());
    let (first, last) = (addresses.nth(ranks.start)?, addresses.nth(ranks.end.checked_sub(1)?)?);
    if ranks.is_empty() {
        return None;
    }
    let common = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => (first.to_bits() ^ last.to_bits()).leading_zeros(),
        (IpAddr::V6(first), IpAddr::V6(last)) => (first.to_bits() ^ last.to_bits()).leading_zeros(),
        _ => return None,
    };
    let bits = u8::try_from(common & !1).ok()?;
    IpNet::new(first, bits).ok().map(|net| net.trunc())
}

/// The prefixes that lead to `prefix` in steps of a depth, as one who follows cells comes through them: from a root to `prefix` itself, which
/// is one that [`within`] gives.
#[must_use]
pub fn steps(plan: &Plan, prefix: IpNet, depth: u8) -> Vec<IpNet> {
    let mut path: Vec<_> = roots(plan).into_iter().filter(|root| root.contains(&prefix)).collect();
    while let Some(last) = path.last() {
        let bits = last.prefix_len() + 2 * depth.clamp(1, DEPTH_MAX);
        let next = IpNet::new(prefix.network(), bits.min(prefix.prefix_len())).ok();
        match next.and_then(|next| within(plan, next.trunc())) {
            Some(next) if (last.prefix_len() + 1..prefix.prefix_len()).contains(&next.prefix_len()) => path.push(next),
            _ => break,
        }
    }
    if path.last() != Some(&prefix) {
        path.push(prefix);
    }
    path
}

/// The map of what the plan has in `prefix`; `None` if it has nothing there.
///
/// # Errors
/// If the store fails or holds what is no tally.
pub fn map(source: &Source<'_>, prefix: IpNet, depth: u8) -> Result<Option<AddressMap>, StoreError> {
    let Some(prefix) = within(source.plan(), prefix) else { return Ok(None) };
    let bits_left = prefix.max_prefix_len() - prefix.prefix_len();
    let depth = depth.min(DEPTH_MAX).min(bits_left / 2);
    let mut cells = Vec::new();
    for place in 0..1u64 << (2 * depth) {
        let Some(covers) = cell(prefix, depth, place) else { continue };
        let ranks = source.plan().addresses().ranks_within(covers.network(), covers.broadcast());
        if !ranks.is_empty() {
            let planned = ranks.end - ranks.start;
            cells.push((ranks, AddressCell { place, prefix: covers, planned, sum: Sum::default() }));
        }
    }
    fill(source, &mut cells)?;
    Ok(Some(AddressMap { prefix, depth, cells: cells.into_iter().map(|(_, cell)| cell).collect() }))
}

/// What the cell at a place covers.
fn cell(prefix: IpNet, depth: u8, place: u64) -> Option<IpNet> {
    let bits = prefix.prefix_len() + 2 * depth;
    let shift = u32::from(prefix.max_prefix_len() - bits);
    let address = match prefix.network() {
        // A cell of all addresses has a shift of all bits, and place 0.
        IpAddr::V4(first) => {
            IpAddr::V4((first.to_bits() | u32::try_from(place).ok()?.checked_shl(shift).unwrap_or(0)).into())
        }
        IpAddr::V6(first) => IpAddr::V6((first.to_bits() | u128::from(place).checked_shl(shift).unwrap_or(0)).into()),
    };
    IpNet::new(address, bits).ok()
}

/// Cells with the ranks that they cover, ascending.
type Ranked = (Range<u64>, AddressCell);

/// Counts what lies in the cells. From one vantage, cohorts that lie in one cell are added whole; of the others the hosts are read.
fn fill(source: &Source<'_>, cells: &mut [Ranked]) -> Result<(), StoreError> {
    let (Some((first, _)), Some((last, _))) = (cells.first(), cells.last()) else { return Ok(()) };
    let hosts = source.cohort_hosts();
    let runs = first.start / hosts..last.end.div_ceil(hosts);
    let views = source.views();
    let mut split = Vec::new();
    if views.end - views.start == 1 {
        source.each(views.start, runs, Part::Totals, &mut |run, known| {
            let ranks = source.ranks_of(run);
            let at = cells.partition_point(|(cell, _)| cell.end <= ranks.start);
            let Some((_, cell)) =
                cells.get_mut(at).filter(|(cell, _)| cell.start <= ranks.start && ranks.end <= cell.end)
            else {
                split.push(run);
                return Ok(());
            };
            let hosts = ranks.end - ranks.start;
            cell.sum += match known {
                Known::Part(bytes) => {
                    let Totals { targets, addresses } = Totals::read(bytes)?;
                    Sum { targets, addresses, uncounted: 0 }
                }
                Known::Untouched => source.untouched(hosts),
                Known::Uncounted => source.uncounted(hosts),
            };
            Ok(())
        })?;
    } else {
        split.extend(runs);
    }
    for runs in split.chunk_by(|run, next| run + 1 == *next) {
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else { continue };
        source.hosts(*first..last + 1, &mut |run, stretches| {
            lay_out(source.ranks_of(run).start, stretches, cells);
            Ok(())
        })?;
    }
    Ok(())
}

/// Adds hosts, from a rank on, to the cells that they lie in.
fn lay_out(mut rank: u64, stretches: &[Stretch], cells: &mut [Ranked]) {
    let mut at = cells.partition_point(|(cell, _)| cell.end <= rank);
    for stretch in stretches {
        let end = rank + stretch.hosts;
        while rank < end {
            let Some((cell, counted)) = cells.get_mut(at) else { return };
            if cell.start > rank {
                // What no cell covers: at the ends of the map.
                rank = cell.start.min(end);
                continue;
            }
            let hosts = cell.end.min(end) - rank;
            counted.sum += stretch.of(hosts);
            rank += hosts;
            if rank == cell.end {
                at += 1;
            }
        }
    }
}
