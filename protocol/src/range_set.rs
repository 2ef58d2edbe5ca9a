//! Sets of addresses as ranges: what is to be probed, what is excluded, what an agent may probe.
//!
//! [`AddressSet`] is the set one builds and computes with; [`RankedRanges`] is its compiled, immutable form,
//! which finds the n-th address and the rank of an address in O(log ranges).
//!
//! One address has one spelling here: an IPv4-mapped IPv6 address (`::ffff:192.0.2.1`) *is* the IPv4 address, in
//! every method of both types, so that no exclusion and no allow-list can be evaded by writing it the other way.
//! The IPv6 half of a set therefore never contains an address of `::ffff:0:0/96`.

mod ranked;
#[cfg(test)]
mod tests;
mod wire;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::IpNet;
use range_set_blaze::{RangeSetBlaze, UIntPlusOne};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use ranked::{RankedRanges, TooManyAddresses};
pub use wire::MAX_RANGES;

/// First address of `::ffff:0:0/96`, the block of the IPv4-mapped addresses.
const MAPPED_FIRST: u128 = 0xffff_0000_0000;
/// Last address of `::ffff:0:0/96`.
const MAPPED_LAST: u128 = 0xffff_ffff_ffff;

/// Why two addresses are not the ends of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// One end is IPv4 (or IPv4-mapped), the other is IPv6.
    #[error("{low} and {high} are not of the same IP version: a range needs both ends of one")]
    FamiliesDiffer {
        /// The first end as it was given, an IPv4-mapped address as IPv4.
        low: IpAddr,
        /// The second end, likewise.
        high: IpAddr,
    },
    /// The first end is above the second.
    #[error("{low} is above {high}: write the lower address first")]
    Reversed {
        /// The first end.
        low: IpAddr,
        /// The second end.
        high: IpAddr,
    },
}

/// A set of IPv4 and IPv6 addresses, kept as disjoint ranges: its memory grows with the number of ranges, never
/// with the number of addresses.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AddressSet {
    v4: RangeSetBlaze<Ipv4Addr>,
    /// Never contains an address of the IPv4-mapped block.
    v6: RangeSetBlaze<Ipv6Addr>,
}

/// Every IPv4 address.
pub const ANY_V4: IpNet = IpNet::V4(ipnet::Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0));
/// Every IPv6 address.
pub const ANY_V6: IpNet = IpNet::V6(ipnet::Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0));

impl AddressSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds every address from `low` to `high`, both included.
    ///
    /// IPv4-mapped ends are taken as IPv4. A range of IPv6 that runs across the whole IPv4-mapped block adds
    /// no IPv4 address: who writes `::/0` means IPv6.
    pub fn insert_range(&mut self, low: IpAddr, high: IpAddr) -> Result<(), RangeError> {
        let (low, high) = (low.to_canonical(), high.to_canonical());
        match (low, high) {
            _ if low.is_ipv4() != high.is_ipv4() => Err(RangeError::FamiliesDiffer { low, high }),
            _ if low > high => Err(RangeError::Reversed { low, high }),
            (IpAddr::V4(low), IpAddr::V4(high)) => {
                self.v4.ranges_insert(low..=high);
                Ok(())
            }
            (IpAddr::V6(low), IpAddr::V6(high)) => {
                self.insert_v6(low, high);
                Ok(())
            }
            // Covered by the first arm; said again so that the match needs no panic.
            _ => Err(RangeError::FamiliesDiffer { low, high }),
        }
    }

    /// Adds one address.
    pub fn insert(&mut self, address: IpAddr) {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                self.v4.insert(address);
            }
            IpAddr::V6(address) => {
                self.v6.insert(address);
            }
        }
    }

    /// Adds every address of a network, its first and last too. Bits right of the prefix are ignored:
    /// `192.0.2.40/24` is `192.0.2.0/24`.
    pub fn insert_net(&mut self, net: IpNet) {
        match net {
            IpNet::V4(net) => {
                self.v4.ranges_insert(net.network()..=net.broadcast());
            }
            IpNet::V6(net) => {
                let (low, high) = (net.network(), net.broadcast());
                match (low.to_ipv4_mapped(), high.to_ipv4_mapped()) {
                    (Some(low), Some(high)) => {
                        self.v4.ranges_insert(low..=high);
                    }
                    _ => self.insert_v6(low, high),
                }
            }
        }
    }

    /// Adds every address of `other`.
    pub fn extend(&mut self, other: &AddressSet) {
        self.v4 |= &other.v4;
        self.v6 |= &other.v6;
    }

    /// Takes every address of `other` out.
    pub fn subtract(&mut self, other: &AddressSet) {
        if !other.v4.is_empty() {
            self.v4 = &self.v4 - &other.v4;
        }
        if !other.v6.is_empty() {
            self.v6 = &self.v6 - &other.v6;
        }
    }

    /// The addresses that are in both sets.
    pub fn intersect(&self, other: &AddressSet) -> AddressSet {
        AddressSet { v4: &self.v4 & &other.v4, v6: &self.v6 & &other.v6 }
    }

    /// Whether the set holds `address`. O(log ranges).
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.contains(address),
            IpAddr::V6(address) => self.v6.contains(address),
        }
    }

    /// Whether every address of this set is in `other`.
    pub fn is_subset(&self, other: &AddressSet) -> bool {
        self.v4.is_subset(&other.v4) && self.v6.is_subset(&other.v6)
    }

    /// Whether the two sets share no address.
    pub fn is_disjoint(&self, other: &AddressSet) -> bool {
        self.v4.is_disjoint(&other.v4) && self.v6.is_disjoint(&other.v6)
    }

    /// Whether the set holds no address.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// How many addresses the set holds; `u128::MAX` stands for that many or more.
    pub fn len(&self) -> u128 {
        match self.v6.len() {
            UIntPlusOne::UInt(v6) => v6.saturating_add(u128::from(self.v4.len())),
            UIntPlusOne::MaxPlusOne => u128::MAX,
        }
    }

    /// How many ranges the set consists of: its size in memory.
    pub fn range_count(&self) -> usize {
        self.v4.ranges_len() + self.v6.ranges_len()
    }

    /// The ranges `(first, last)`, IPv4 before IPv6, ascending; no two of one family overlap or touch.
    pub fn ranges(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> + '_ {
        let v4 = self.v4.ranges().map(|range| {
            let (low, high) = range.into_inner();
            (IpAddr::V4(low), IpAddr::V4(high))
        });
        let v6 = self.v6.ranges().map(|range| {
            let (low, high) = range.into_inner();
            (IpAddr::V6(low), IpAddr::V6(high))
        });
        v4.chain(v6)
    }

    /// Adds a range of IPv6, without the IPv4-mapped block.
    fn insert_v6(&mut self, low: Ipv6Addr, high: Ipv6Addr) {
        let (low, high) = (low.to_bits(), high.to_bits());
        let below = low..=high.min(MAPPED_FIRST - 1);
        let above = low.max(MAPPED_LAST + 1)..=high;
        for part in [below, above] {
            if !part.is_empty() {
                let (low, high) = part.into_inner();
                self.v6.ranges_insert(Ipv6Addr::from_bits(low)..=Ipv6Addr::from_bits(high));
            }
        }
    }

    /// A set of ranges that are known to keep the invariants: ascending, apart, and none IPv4-mapped.
    fn from_parts(
        v4: impl Iterator<Item = RangeInclusive<Ipv4Addr>>,
        v6: impl Iterator<Item = RangeInclusive<Ipv6Addr>>,
    ) -> Self {
        Self { v4: v4.collect(), v6: v6.collect() }
    }
}

impl From<IpNet> for AddressSet {
    fn from(net: IpNet) -> Self {
        let mut set = Self::new();
        set.insert_net(net);
        set
    }
}

impl From<IpAddr> for AddressSet {
    fn from(address: IpAddr) -> Self {
        let mut set = Self::new();
        set.insert(address);
        set
    }
}

impl FromIterator<IpAddr> for AddressSet {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        let mut set = Self::new();
        for address in addresses {
            set.insert(address);
        }
        set
    }
}

/// Writes the ranges as `A-B` (one address as `A`), separated by commas: the target syntax.
impl fmt::Display for AddressSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (low, high)) in self.ranges().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            if low == high {
                write!(f, "{comma}{low}")?;
            } else {
                write!(f, "{comma}{low}-{high}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for AddressSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Enough ranges to recognise a set in a log or a failed assertion.
        const SHOWN_RANGES: usize = 16;
        let mut list = f.debug_list();
        for (low, high) in self.ranges().take(SHOWN_RANGES) {
            list.entry(&format_args!("{low}-{high}"));
        }
        if self.range_count() > SHOWN_RANGES {
            list.entry(&format_args!("... {} ranges", self.range_count()));
        }
        list.finish()
    }
}

impl Serialize for AddressSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        wire::serialize(self.ranges(), self.range_count(), serializer)
    }
}

impl<'de> Deserialize<'de> for AddressSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ranges = wire::deserialize(deserializer)?;
        Ok(Self::from_parts(
            ranges.v4.into_iter().map(|(low, high)| low..=high),
            ranges.v6.into_iter().map(|(low, high)| low..=high),
        ))
    }
}
