//! TCP ports: what `-p` accepts, the set it means, and our own selection of ports with their names.
//!
//! The syntax is nmap's: `22,80,1-1024`, `-`, `-100`, `60000-`, `T:`, service names, `http*`, `[1-1024]`.

mod syntax;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use range_set_blaze::RangeSetBlaze;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::{ByteBuf, Bytes};

pub use syntax::{PORTS_BYTES_MAX, PortError, PortProblem, parse_ports};
pub use table::{DEFAULT_PORTS, FAST_PORTS, TopPortsError, default_ports, fast_ports, service_name, top_ports};

/// The most ranges that a set of ports can have: every second port.
const RANGES_MAX: usize = 32_768;

/// Bytes of one range in messages: first and last port in network byte order.
const RANGE_BYTES: usize = 4;

/// A run of consecutive ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PortRange {
    low: u16,
    high: u16,
    /// How many ports of the set are below `low`.
    first_position: u32,
}

/// A set of ports, ascending. It is immutable, so that the port at a position is found in O(log ranges).
///
/// Port 0 is in it only if it was named.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PortSet {
    ranges: Vec<PortRange>,
    len: u32,
}

impl PortSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every port from 1 to 65535: what `-p-` means.
    pub fn all() -> Self {
        Self::from_ranges(std::iter::once((1, u16::MAX)))
    }

    /// How many ports: 0 to 65,536.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there is no port.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The port at a position, counted from 0 in ascending order; `None` from `len` on. O(log ranges).
    #[inline]
    pub fn nth(&self, position: u32) -> Option<u16> {
        if position >= self.len {
            return None;
        }
        // The first range starts at position 0, so at least one starts at or below.
        let range = self.ranges.partition_point(|range| range.first_position <= position) - 1;
        let range = self.ranges[range];
        // Below 65,536: the position lies in this range.
        Some(range.low + (position - range.first_position) as u16)
    }

    /// The position of a port; `None` for one that is not in the set. O(log ranges).
    pub fn position(&self, port: u16) -> Option<u32> {
        let range = self.ranges.partition_point(|range| range.low <= port).checked_sub(1)?;
        let range = self.ranges[range];
        (port <= range.high).then(|| range.first_position + u32::from(port - range.low))
    }

    /// Whether the set holds `port`.
    pub fn contains(&self, port: u16) -> bool {
        self.position(port).is_some()
    }

    /// The ports of either set.
    pub fn union(&self, other: &PortSet) -> PortSet {
        self.ranges().chain(other.ranges()).collect()
    }

    /// The ports of this set that are not in `other`.
    pub fn subtract(&self, other: &PortSet) -> PortSet {
        Self::from_blaze(&(self.to_blaze() - other.to_blaze()))
    }

    /// The ports that are in both sets.
    pub fn intersect(&self, other: &PortSet) -> PortSet {
        Self::from_blaze(&(self.to_blaze() & other.to_blaze()))
    }

    /// The ports, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.ranges().flat_map(|(low, high)| low..=high)
    }

    /// The ranges `(first, last)`, ascending; no two overlap or touch.
    pub fn ranges(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        self.ranges.iter().map(|range| (range.low, range.high))
    }

    /// A set of ranges that come ascending and apart.
    fn from_ranges(ranges: impl Iterator<Item = (u16, u16)>) -> Self {
        let mut set = Self::default();
        for (low, high) in ranges {
            set.ranges.push(PortRange { low, high, first_position: set.len });
            set.len += u32::from(high - low) + 1;
        }
        set
    }

    fn from_blaze(set: &RangeSetBlaze<u16>) -> Self {
        Self::from_ranges(set.ranges().map(std::ops::RangeInclusive::into_inner))
    }

    fn to_blaze(&self) -> RangeSetBlaze<u16> {
        self.ranges().map(|(low, high)| low..=high).collect()
    }
}

impl FromIterator<u16> for PortSet {
    fn from_iter<I: IntoIterator<Item = u16>>(ports: I) -> Self {
        Self::from_blaze(&ports.into_iter().collect())
    }
}

/// Ranges `(first, last)` in any order, overlapping or not; one that ends below its start holds no port.
impl FromIterator<(u16, u16)> for PortSet {
    fn from_iter<I: IntoIterator<Item = (u16, u16)>>(ranges: I) -> Self {
        let ranges = ranges.into_iter().map(|(low, high)| low..=high);
        Self::from_blaze(&ranges.collect())
    }
}

impl FromStr for PortSet {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        parse_ports(text)
    }
}

/// Writes the set compactly, as `-p` accepts it: `22,80-90`.
impl fmt::Display for PortSet {
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

impl fmt::Debug for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PortSet({self})")
    }
}

/// Why received bytes are not a set of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum WireError {
    #[error("more than {RANGES_MAX} port ranges")]
    TooMany,
    #[error("port ranges end inside a range")]
    Torn,
    #[error("a port range ends below its start")]
    Reversed,
    #[error("port ranges are not ascending and apart")]
    Unsorted,
}

/// One byte string: the ranges, each as first and last port in network byte order.
impl Serialize for PortSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::with_capacity(self.ranges.len() * RANGE_BYTES);
        for (low, high) in self.ranges() {
            bytes.extend_from_slice(&low.to_be_bytes());
            bytes.extend_from_slice(&high.to_be_bytes());
        }
        Bytes::new(&bytes).serialize(serializer)
    }
}

/// Accepts one spelling of a set only: ascending ranges that do not touch.
impl<'de> Deserialize<'de> for PortSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = ByteBuf::deserialize(deserializer)?;
        let (ranges, rest) = bytes.as_chunks::<RANGE_BYTES>();
        if !rest.is_empty() {
            return Err(D::Error::custom(WireError::Torn));
        }
        if ranges.len() > RANGES_MAX {
            return Err(D::Error::custom(WireError::TooMany));
        }
        let mut last_high = None;
        let mut checked = Vec::with_capacity(ranges.len());
        for &[a, b, c, d] in ranges {
            let (low, high) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            if high < low {
                return Err(D::Error::custom(WireError::Reversed));
            }
            if last_high.is_some_and(|last| low <= last || low - last < 2) {
                return Err(D::Error::custom(WireError::Unsorted));
            }
            last_high = Some(high);
            checked.push((low, high));
        }
        Ok(Self::from_ranges(checked.into_iter()))
    }
}
