//! The form of address ranges in messages and files: an array of two byte strings, the IPv4 ranges and the IPv6
//! ranges, each a run of pairs `first, last` in network byte order (8 or 32 bytes a pair). A decoder accepts one
//! spelling of a set only: pairs in order, ascending, never touching, no IPv4-mapped address, a bounded number.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Error as _, Serialize, Serializer};
use serde_bytes::{ByteBuf, Bytes};

use super::{MAPPED_FIRST, MAPPED_LAST};

/// The most ranges that one message or file may carry as one set, both families together. A cohort has at most
/// 4,096 addresses, so a grant stays far below; an allow-list or a list of exclusions that is longer is a mistake.
pub const MAX_RANGES: usize = 65_536;

/// Bytes of one IPv4 pair.
const V4_PAIR_BYTES: usize = 8;
/// Bytes of one IPv6 pair.
const V6_PAIR_BYTES: usize = 32;

/// Why received bytes are not a set of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    #[error("more than {MAX_RANGES} address ranges")]
    TooMany,
    #[error("address ranges end inside a pair")]
    Torn,
    #[error("an address range ends below its start")]
    Reversed,
    #[error("address ranges are not ascending and apart")]
    Unsorted,
    #[error("an IPv6 range holds IPv4-mapped addresses")]
    Mapped,
}

/// Ranges that have passed every check of the decoder.
pub(super) struct Checked {
    pub(super) v4: Vec<(Ipv4Addr, Ipv4Addr)>,
    pub(super) v6: Vec<(Ipv6Addr, Ipv6Addr)>,
}

/// Writes `count` ranges that come IPv4 first, ascending, apart.
pub(super) fn serialize<S: Serializer>(
    ranges: impl Iterator<Item = (IpAddr, IpAddr)>,
    count: usize,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if count > MAX_RANGES {
        return Err(S::Error::custom(WireError::TooMany));
    }
    let mut v4 = Vec::new();
    let mut v6 = Vec::new();
    for (low, high) in ranges {
        for end in [low, high] {
            match end {
                IpAddr::V4(address) => v4.extend_from_slice(&address.octets()),
                IpAddr::V6(address) => v6.extend_from_slice(&address.octets()),
            }
        }
    }
    (Bytes::new(&v4), Bytes::new(&v6)).serialize(serializer)
}

/// Reads and checks ranges.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Checked, D::Error> {
    let (v4, v6) = <(ByteBuf, ByteBuf)>::deserialize(deserializer)?;
    check(&v4, &v6).map_err(D::Error::custom)
}

fn check(v4: &[u8], v6: &[u8]) -> Result<Checked, WireError> {
    let (v4, v4_rest) = v4.as_chunks::<V4_PAIR_BYTES>();
    let (v6, v6_rest) = v6.as_chunks::<V6_PAIR_BYTES>();
    if !v4_rest.is_empty() || !v6_rest.is_empty() {
        return Err(WireError::Torn);
    }
    if v4.len() + v6.len() > MAX_RANGES {
        return Err(WireError::TooMany);
    }
    let v4: Vec<(u32, u32)> = v4
        .iter()
        .map(|pair| {
            let both = u64::from_be_bytes(*pair);
            ((both >> 32) as u32, both as u32)
        })
        .collect();
    let v6: Vec<(u128, u128)> = v6.iter().map(|pair| (be_u128(pair, 0), be_u128(pair, 16))).collect();
    check_order(v4.iter().map(|&(low, high)| (low.into(), high.into())))?;
    check_order(v6.iter().copied())?;
    if v6.iter().any(|&(low, high)| low <= MAPPED_LAST && high >= MAPPED_FIRST) {
        return Err(WireError::Mapped);
    }
    Ok(Checked {
        v4: v4.into_iter().map(|(low, high)| (low.into(), high.into())).collect(),
        v6: v6.into_iter().map(|(low, high)| (low.into(), high.into())).collect(),
    })
}

/// Each range: 1. does not end below its start; 2. starts at least two above the end of the one before, as ranges
/// that touch would have been written as one.
fn check_order(ranges: impl Iterator<Item = (u128, u128)>) -> Result<(), WireError> {
    let mut last_end = None;
    for (low, high) in ranges {
        if high < low {
            return Err(WireError::Reversed);
        }
        if let Some(end) = last_end
            && (low <= end || low - end < 2)
        {
            return Err(WireError::Unsorted);
        }
        last_end = Some(high);
    }
    Ok(())
}

fn be_u128(pair: &[u8; V6_PAIR_BYTES], from: usize) -> u128 {
    let mut half = [0; 16];
    half.copy_from_slice(&pair[from..from + 16]);
    u128::from_be_bytes(half)
}
