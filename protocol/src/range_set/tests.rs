//! Sets against a naive model: a window of addresses around each place where arithmetic could go wrong, each address
//! kept on its own.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use serde_bytes::ByteBuf;

use super::{AddressSet, MAX_RANGES, RangeError, RankedRanges};
use crate::codec::{decode, encode as try_encode};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn net(text: &str) -> AddressSet {
    text.parse::<ipnet::IpNet>().expect("a network").into()
}

fn range(low: &str, high: &str) -> AddressSet {
    let mut set = AddressSet::new();
    set.insert_range(ip(low), ip(high)).expect("a range");
    set
}

/// Addresses at both ends of both families, and at both ends of the IPv4-mapped block, in the mapped spelling too.
fn address() -> impl Strategy<Value = IpAddr> {
    let v4 = |start: u32| (0..24u32).prop_map(move |i| IpAddr::V4(Ipv4Addr::from_bits(start.saturating_add(i))));
    let v6 = |start: u128| (0..24u128).prop_map(move |i| IpAddr::V6(Ipv6Addr::from_bits(start.saturating_add(i))));
    prop_oneof![
        v4(0),
        v4(u32::MAX - 23),
        v6(0),
        v6(u128::MAX - 23),
        v6(super::MAPPED_FIRST - 12),
        v6(super::MAPPED_LAST - 12),
    ]
}

/// Short ranges within one window.
fn short_range() -> impl Strategy<Value = (IpAddr, u8)> {
    (address(), 0..12u8)
}

/// The addresses of `low` and the `more` above it, in the spelling of `low`, as far as they exist.
fn spelled_out(low: IpAddr, more: u8) -> Vec<IpAddr> {
    (0..=more)
        .filter_map(|i| match low {
            IpAddr::V4(low) => low.to_bits().checked_add(i.into()).map(|a| IpAddr::V4(a.into())),
            IpAddr::V6(low) => low.to_bits().checked_add(i.into()).map(|a| IpAddr::V6(a.into())),
        })
        .collect()
}

fn both(parts: &[(IpAddr, u8)]) -> (AddressSet, BTreeSet<IpAddr>) {
    let mut set = AddressSet::new();
    let mut model = BTreeSet::new();
    for &(low, more) in parts {
        let addresses = spelled_out(low, more);
        let high = *addresses.last().expect("at least the first");
        match set.insert_range(low, high) {
            Ok(()) => model.extend(addresses.iter().map(IpAddr::to_canonical)),
            Err(RangeError::FamiliesDiffer { .. }) => {
                assert_ne!(low.to_canonical().is_ipv4(), high.to_canonical().is_ipv4());
            }
            Err(error) => panic!("{error}"),
        }
    }
    (set, model)
}

fn listed(set: &AddressSet) -> Vec<IpAddr> {
    set.ranges()
        .flat_map(|(low, high)| {
            let mut all = vec![low];
            while all.last() != Some(&high) {
                all.push(spelled_out(all[all.len() - 1], 1)[1]);
            }
            all
        })
        .collect()
}

fn encode<T: serde::Serialize>(value: &T) -> Vec<u8> {
    try_encode(value).expect("encodes")
}

proptest! {
    #[test]
    fn a_set_is_its_model(parts in prop::collection::vec(short_range(), 0..12), probe in address()) {
        let (set, model) = both(&parts);
        prop_assert_eq!(listed(&set), model.iter().copied().collect::<Vec<_>>());
        prop_assert_eq!(set.len(), model.len() as u128);
        prop_assert_eq!(set.is_empty(), model.is_empty());
        prop_assert_eq!(set.contains(probe), model.contains(&probe.to_canonical()));
        prop_assert_eq!(set.range_count(), set.ranges().count());
    }

    #[test]
    fn set_operations_are_those_of_the_model(
        left in prop::collection::vec(short_range(), 0..8),
        right in prop::collection::vec(short_range(), 0..8),
    ) {
        let (left, left_model) = both(&left);
        let (right, right_model) = both(&right);
        let mut union = left.clone();
        union.extend(&right);
        prop_assert_eq!(listed(&union), left_model.union(&right_model).copied().collect::<Vec<_>>());
        let mut rest = left.clone();
        rest.subtract(&right);
        prop_assert_eq!(listed(&rest), left_model.difference(&right_model).copied().collect::<Vec<_>>());
        let shared = left.intersect(&right);
        prop_assert_eq!(listed(&shared), left_model.intersection(&right_model).copied().collect::<Vec<_>>());
        prop_assert_eq!(left.is_subset(&right), left_model.is_subset(&right_model));
        prop_assert_eq!(left.is_disjoint(&right), left_model.is_disjoint(&right_model));
        prop_assert!(shared.is_subset(&left) && rest.is_subset(&left) && left.is_subset(&union));
    }

    #[test]
    fn ranks_count_the_addresses_in_order(
        parts in prop::collection::vec(short_range(), 0..12),
        probe in address(),
        cut in (0..200u64, 0..200u64),
    ) {
        let (set, model) = both(&parts);
        let all: Vec<IpAddr> = model.into_iter().collect();
        let ranked = RankedRanges::new(&set).expect("few addresses");
        prop_assert_eq!(ranked.len(), all.len() as u64);
        prop_assert_eq!(ranked.to_set(), set.clone());
        prop_assert!(ranked.ranges().eq(set.ranges()));
        for (rank, &address) in all.iter().enumerate() {
            prop_assert_eq!(ranked.nth(rank as u64), Some(address));
            prop_assert_eq!(ranked.rank_of(address), Some(rank as u64));
        }
        prop_assert_eq!(ranked.nth(all.len() as u64), None);
        prop_assert_eq!(ranked.nth(u64::MAX), None);
        prop_assert_eq!(ranked.rank_of(probe).is_some(), set.contains(probe));

        let slice = ranked.slice(cut.0, cut.1);
        let (low, high) = (all.len().min(cut.0 as usize), all.len().min(cut.1 as usize));
        let expected = all.get(low..high).unwrap_or_default();
        prop_assert_eq!(slice.len(), expected.len() as u64);
        prop_assert!((0..slice.len()).map(|rank| slice.nth(rank)).eq(expected.iter().map(|&a| Some(a))));
        prop_assert_eq!(RankedRanges::new(&slice.to_set()).expect("fewer"), slice);
    }

    #[test]
    fn what_lies_between_two_addresses_stands_together(
        parts in prop::collection::vec(short_range(), 0..12),
        low in address(),
        more in any::<u128>(),
    ) {
        let (set, model) = both(&parts);
        let ranked = RankedRanges::new(&set).expect("few addresses");
        let high = match low {
            IpAddr::V4(low) => IpAddr::V4(low.to_bits().saturating_add((more % 40) as u32).into()),
            IpAddr::V6(low) => IpAddr::V6(low.to_bits().saturating_add(if more.is_multiple_of(3) { more } else { more % 40 }).into()),
        };
        let ranks = ranked.ranks_within(low, high);
        let within = |address: &&IpAddr| address.is_ipv4() == low.is_ipv4() && (low..=high).contains(*address);
        prop_assert_eq!(ranks.clone().count(), model.iter().filter(within).count());
        let named = ranks.filter_map(|rank| ranked.nth(rank));
        prop_assert!(named.eq(model.iter().filter(within).copied()));
    }

    #[test]
    fn what_is_encoded_is_decoded_and_nothing_else(parts in prop::collection::vec(short_range(), 0..12), flip in any::<prop::sample::Index>()) {
        let (set, _) = both(&parts);
        let mut bytes = encode(&set);
        prop_assert_eq!(&decode::<AddressSet>(&bytes).expect("decodes"), &set);
        let ranked = RankedRanges::new(&set).expect("few addresses");
        prop_assert_eq!(&encode(&ranked), &bytes);
        prop_assert_eq!(decode::<RankedRanges>(&bytes).expect("decodes"), ranked);
        // A flipped bit is refused, or is another set in its one spelling.
        let bit = flip.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(other) = decode::<AddressSet>(&bytes) {
            prop_assert_ne!(&other, &set);
            prop_assert_eq!(decode::<AddressSet>(&encode(&other)).expect("decodes"), other);
        }
    }
}

#[test]
fn a_mapped_address_is_the_ipv4_address() {
    let excluded = AddressSet::from(ip("::ffff:192.0.2.1"));
    assert_eq!(excluded, AddressSet::from(ip("192.0.2.1")));
    assert!(excluded.contains(ip("192.0.2.1")) && excluded.contains(ip("::ffff:192.0.2.1")));
    assert_eq!(net("::ffff:192.0.2.0/120"), net("192.0.2.0/24"));
    assert_eq!(net("::ffff:0:0/96"), net("0.0.0.0/0"));
    assert_eq!(range("::ffff:192.0.2.1", "192.0.2.9"), range("192.0.2.1", "192.0.2.9"));
    let ranked = RankedRanges::new(&net("192.0.2.0/24")).expect("few");
    assert_eq!(ranked.rank_of(ip("::ffff:192.0.2.7")), Some(7));
}

#[test]
fn a_range_of_ipv6_never_takes_ipv4_along() {
    for wide in ["::/0", "::/64", "::/80", "::fffe:0:0/95"] {
        let set = net(wide);
        assert!(!set.contains(ip("192.0.2.1")), "{wide}");
        assert!(set.ranges().all(|(low, _)| low.is_ipv6()), "{wide}");
        assert!(set.contains(ip("::fffe:0:1")), "{wide}");
    }
    assert_eq!(net("::fffe:0:0/95"), net("::fffe:0:0/96"));
    assert_eq!(range("::", "::1:0:0:0").len(), (1 << 48) + 1 - (1 << 32));
}

#[test]
fn ranges_that_are_none_are_refused_by_name() {
    let mut set = AddressSet::new();
    let error = set.insert_range(ip("192.0.2.1"), ip("2001:db8::1")).unwrap_err();
    assert!(matches!(error, RangeError::FamiliesDiffer { .. }));
    let error = set.insert_range(ip("192.0.2.9"), ip("192.0.2.1")).unwrap_err();
    assert_eq!(error.to_string(), "192.0.2.9 is above 192.0.2.1: write the lower address first");
    let error = set.insert_range(ip("::1"), ip("::ffff:192.0.2.1")).unwrap_err();
    assert!(matches!(error, RangeError::FamiliesDiffer { .. }));
    assert!(set.is_empty());
}

#[test]
fn counts_are_right_at_the_ends_of_both_families() {
    let mut all = net("::/0");
    assert_eq!(all.len(), u128::MAX - (1 << 32) + 1);
    all.extend(&net("0.0.0.0/0"));
    assert_eq!(all.len(), u128::MAX, "2^128 saturates");
    assert_eq!(net("192.0.2.40/24").len(), 256, "host bits are ignored");
    let error = RankedRanges::new(&all).unwrap_err();
    assert_eq!(error.count, u128::MAX);
    // 2^64 is one too many, 2^64 - 1 is not.
    let mut block = net("2001:db8::/64");
    assert!(RankedRanges::new(&block).is_err());
    block.subtract(&AddressSet::from(ip("2001:db8::")));
    let ranked = RankedRanges::new(&block).expect("fits");
    assert_eq!(ranked.len(), u64::MAX);
    assert_eq!(ranked.nth(u64::MAX - 1), Some(ip("2001:db8::ffff:ffff:ffff:ffff")));
    assert_eq!(ranked.nth(u64::MAX), None);
    // An address 2^64 and more above the last start has no rank.
    assert_eq!(ranked.rank_of(ip("2001:db9::1")), None);
    let v4 = RankedRanges::new(&net("0.0.0.0/0")).expect("fits");
    assert_eq!(v4.nth((1 << 32) - 1), Some(ip("255.255.255.255")));
    assert_eq!(v4.slice(5, 6).nth(0), Some(ip("0.0.0.5")));
}

#[test]
fn text_is_the_target_syntax() {
    let mut set = range("192.0.2.1", "192.0.2.9");
    set.insert(ip("2001:db8::1"));
    assert_eq!(set.to_string(), "192.0.2.1-192.0.2.9,2001:db8::1");
    assert_eq!(AddressSet::new().to_string(), "");
}

#[test]
fn hostile_bytes_are_refused_with_what_is_wrong() {
    let pair4 = |low: u32, high: u32| [low.to_be_bytes(), high.to_be_bytes()].concat();
    let pair6 = |low: u128, high: u128| [low.to_be_bytes(), high.to_be_bytes()].concat();
    let many: Vec<u8> = (0..=MAX_RANGES as u32).flat_map(|i| pair4(i * 2, i * 2)).collect();
    let cases: [(&str, Vec<u8>, Vec<u8>); 8] = [
        ("below its start", pair4(9, 1), vec![]),
        ("below its start", vec![], pair6(9, 1)),
        ("not ascending", [pair4(9, 9), pair4(1, 1)].concat(), vec![]),
        ("not ascending", [pair4(1, 5), pair4(6, 7)].concat(), vec![]),
        ("not ascending", vec![], [pair6(0, u128::MAX), pair6(0, 0)].concat()),
        ("IPv4-mapped", vec![], pair6(0, u128::MAX)),
        ("inside a pair", vec![0; 7], vec![]),
        ("more than 65536", many.clone(), vec![]),
    ];
    for (says, v4, v6) in cases {
        let bytes = encode(&(ByteBuf::from(v4), ByteBuf::from(v6)));
        let error = decode::<AddressSet>(&bytes).unwrap_err();
        let error = format!("{error:?}");
        assert!(error.contains(says), "{error}");
        let error = decode::<RankedRanges>(&bytes).unwrap_err();
        let error = format!("{error:?}");
        assert!(error.contains(says), "{error}");
    }
    let allowed = encode(&(ByteBuf::from(&many[8..]), ByteBuf::new()));
    let set: AddressSet = decode(&allowed).expect("at the bound");
    assert_eq!(set.range_count(), MAX_RANGES);
    let mut longer = set;
    longer.insert(ip("2001:db8::1"));
    assert!(try_encode(&longer).is_err(), "what nobody could decode is not sent");
    // A RankedRanges that could not be numbered.
    let wide = encode(&(ByteBuf::new(), ByteBuf::from(pair6(1 << 64, 1 << 65))));
    assert!(decode::<RankedRanges>(&wide).is_err());
}
