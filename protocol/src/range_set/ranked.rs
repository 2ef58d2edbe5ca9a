//! The compiled form of a set: sorted ranges, each with the rank of its first address.
//!
//! `nth` is called for every probe of a sweep, so the ranks lie together in one array that the binary search walks,
//! and the starts are read once, at the end.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{AddressSet, wire};

/// A set has more addresses than `u64` can count, so they cannot be ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{count} addresses are more than can be numbered (2^64 - 1)")]
pub struct TooManyAddresses {
    /// How many addresses the set has; `u128::MAX` stands for that many or more.
    pub count: u128,
}

/// An immutable set of addresses in which each has a rank, `0..len`: IPv4 before IPv6, ascending.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RankedRanges {
    /// For each range, the rank of its first address: ascending, starting at 0.
    first_ranks: Vec<u64>,
    /// First address of each IPv4 range; these are the first `v4_starts.len()` ranges.
    v4_starts: Vec<u32>,
    /// First address of each IPv6 range; these are the rest.
    v6_starts: Vec<u128>,
    /// How many addresses there are.
    len: u64,
}

impl RankedRanges {
    /// Compiles a set.
    pub fn new(set: &AddressSet) -> Result<Self, TooManyAddresses> {
        Self::from_ranges(set.ranges(), set.range_count())
    }

    /// How many addresses there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no address.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many ranges there are: the size in memory.
    pub fn range_count(&self) -> usize {
        self.first_ranks.len()
    }

    /// The address of a rank; `None` from `len` on. O(log ranges).
    #[inline]
    pub fn nth(&self, rank: u64) -> Option<IpAddr> {
        if rank >= self.len {
            return None;
        }
        // One range is the commonest plan by far: no search.
        let range = if self.first_ranks.len() == 1 {
            0
        } else {
            // The first range starts at rank 0, so at least one starts at or below.
            self.first_ranks.partition_point(|&first| first <= rank) - 1
        };
        Some(self.address(range, rank - self.first_ranks[range]))
    }

    /// The rank of an address; `None` for one that is not in the set. O(log ranges).
    pub fn rank_of(&self, address: IpAddr) -> Option<u64> {
        let (range, offset) = match address.to_canonical() {
            IpAddr::V4(address) => {
                let address = address.to_bits();
                let range = self.v4_starts.partition_point(|&start| start <= address).checked_sub(1)?;
                (range, u64::from(address - self.v4_starts[range]))
            }
            IpAddr::V6(address) => {
                let address = address.to_bits();
                let range = self.v6_starts.partition_point(|&start| start <= address).checked_sub(1)?;
                let offset = u64::try_from(address - self.v6_starts[range]).ok()?;
                (self.v4_starts.len() + range, offset)
            }
        };
        (offset < self.range_len(range)).then(|| self.first_ranks[range] + offset)
    }

    /// The ranks of the addresses from `low` to `high`, both included, that are in the set: they stand together. Both ends are of one IP
    /// version. O(log ranges).
    pub fn ranks_within(&self, low: IpAddr, high: IpAddr) -> Range<u64> {
        let below = |address: u128, is_v4: bool| {
            let (first, end) =
                if is_v4 { (0, self.v4_starts.len()) } else { (self.v4_starts.len(), self.range_count()) };
            let starts_below = if is_v4 {
                self.v4_starts.partition_point(|&start| u128::from(start) < address)
            } else {
                self.v6_starts.partition_point(|&start| start < address)
            };
            // The last range that starts below it may reach beyond it; without one, all of its IP version are above.
            let Some(range) = (first + starts_below).checked_sub(1).filter(|range| (first..end).contains(range)) else {
                return self.first_ranks.get(first).copied().unwrap_or(self.len);
            };
            let start = if is_v4 { self.v4_starts[range].into() } else { self.v6_starts[range - first] };
            let offset = u64::try_from(address - start).unwrap_or(u64::MAX);
            self.first_ranks[range] + offset.min(self.range_len(range))
        };
        // Taken as they are written: the IPv4-mapped block holds nothing, and one end in it may be the end of a wider range.
        let bits = |address: IpAddr| match address {
            IpAddr::V4(address) => (u128::from(address.to_bits()), true),
            IpAddr::V6(address) => (address.to_bits(), false),
        };
        let ((low, is_v4), (high, _)) = (bits(low), bits(high));
        let from = below(low, is_v4);
        let to = match high.checked_add(1) {
            Some(next) => below(next, is_v4),
            None => self.len,
        };
        from..to.max(from)
    }

    /// The addresses of the ranks `low_rank..high_rank`, which get the ranks from 0 on. Ranks beyond `len` are
    /// left out, and `low_rank >= high_rank` gives the empty set.
    pub fn slice(&self, low_rank: u64, high_rank: u64) -> RankedRanges {
        let high_rank = high_rank.min(self.len);
        if low_rank >= high_rank {
            return Self::default();
        }
        let first = self.first_ranks.partition_point(|&rank| rank <= low_rank) - 1;
        let end = self.first_ranks.partition_point(|&rank| rank < high_rank);
        let mut slice = Self::default();
        for range in first..end {
            let rank = self.first_ranks[range].max(low_rank);
            slice.first_ranks.push(rank - low_rank);
            match self.address(range, rank - self.first_ranks[range]) {
                IpAddr::V4(address) => slice.v4_starts.push(address.to_bits()),
                IpAddr::V6(address) => slice.v6_starts.push(address.to_bits()),
            }
        }
        slice.len = high_rank - low_rank;
        slice
    }

    /// The ranges `(first, last)`, IPv4 before IPv6, ascending; no two overlap or touch.
    pub fn ranges(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> + '_ {
        (0..self.range_count()).map(|range| {
            let last = self.range_len(range) - 1;
            (self.address(range, 0), self.address(range, last))
        })
    }

    /// The same addresses as a set to compute with.
    pub fn to_set(&self) -> AddressSet {
        let v4 = (0..self.v4_starts.len()).map(|range| {
            let start = self.v4_starts[range];
            // The range was made of IPv4 addresses, so its last one is one too.
            let last = start + (self.range_len(range) - 1) as u32;
            Ipv4Addr::from_bits(start)..=Ipv4Addr::from_bits(last)
        });
        let v6 = (0..self.v6_starts.len()).map(|place| {
            let start = self.v6_starts[place];
            let last = start + u128::from(self.range_len(self.v4_starts.len() + place) - 1);
            Ipv6Addr::from_bits(start)..=Ipv6Addr::from_bits(last)
        });
        AddressSet::from_parts(v4, v6)
    }

    /// Ranks ranges that come IPv4 first, ascending, apart.
    fn from_ranges(
        ranges: impl Iterator<Item = (IpAddr, IpAddr)>,
        range_count: usize,
    ) -> Result<Self, TooManyAddresses> {
        let mut ranked = Self { first_ranks: Vec::with_capacity(range_count), ..Self::default() };
        let mut count: u128 = 0;
        for (low, high) in ranges {
            // What does not fit is only counted on, for the error.
            if let Ok(first_rank) = u64::try_from(count) {
                ranked.first_ranks.push(first_rank);
            }
            let above_first = match (low, high) {
                (IpAddr::V4(low), IpAddr::V4(high)) => {
                    ranked.v4_starts.push(low.to_bits());
                    u128::from(high.to_bits() - low.to_bits())
                }
                (IpAddr::V6(low), IpAddr::V6(high)) => {
                    ranked.v6_starts.push(low.to_bits());
                    high.to_bits() - low.to_bits()
                }
                _ => unreachable!("both ends of a range are of one family"),
            };
            count = count.saturating_add(above_first).saturating_add(1);
        }
        ranked.len = u64::try_from(count).map_err(|_| TooManyAddresses { count })?;
        Ok(ranked)
    }

    /// The address `offset` above the start of a range.
    #[inline]
    fn address(&self, range: usize, offset: u64) -> IpAddr {
        match self.v4_starts.get(range) {
            Some(&start) => IpAddr::V4(Ipv4Addr::from_bits(start + offset as u32)),
            None => {
                let start = self.v6_starts[range - self.v4_starts.len()];
                IpAddr::V6(Ipv6Addr::from_bits(start + u128::from(offset)))
            }
        }
    }

    /// How many addresses a range has: at least one.
    fn range_len(&self, range: usize) -> u64 {
        let end = self.first_ranks.get(range + 1).copied();
        end.unwrap_or(self.len) - self.first_ranks[range]
    }
}

impl TryFrom<&AddressSet> for RankedRanges {
    type Error = TooManyAddresses;

    fn try_from(set: &AddressSet) -> Result<Self, TooManyAddresses> {
        Self::new(set)
    }
}

impl fmt::Debug for RankedRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RankedRanges").field("len", &self.len).field("ranges", &self.to_set()).finish()
    }
}

impl Serialize for RankedRanges {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        wire::serialize(self.ranges(), self.range_count(), serializer)
    }
}

impl<'de> Deserialize<'de> for RankedRanges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let checked = wire::deserialize(deserializer)?;
        let range_count = checked.v4.len() + checked.v6.len();
        let v4 = checked.v4.into_iter();
        let v6 = checked.v6.into_iter();
        let ranges =
            v4.map(|(low, high)| (low.into(), high.into())).chain(v6.map(|(low, high)| (low.into(), high.into())));
        Self::from_ranges(ranges, range_count).map_err(D::Error::custom)
    }
}
