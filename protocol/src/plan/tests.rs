//! P1 to P3 over odd-sized spaces, with exclusions, and the golden digest and order.

use super::*;
use crate::range_set::AddressSet;
use proptest::prelude::*;
use std::collections::HashSet;
use std::net::Ipv4Addr;

fn v4(n: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(n))
}

/// `count` addresses from 192.0.2.0 on, without every `hole`-th.
fn addresses(count: u32, hole: Option<u32>) -> AddressSet {
    let mut set = AddressSet::new();
    for offset in 0..count {
        if hole.is_none_or(|hole| offset % hole != 1) {
            set.insert(v4(0xc000_0200 + offset));
        }
    }
    set
}

fn ports(list: &[u16]) -> PortSet {
    list.iter().copied().collect()
}

fn plan(count: u32, hole: Option<u32>, slots: Slots, seed: u64) -> Plan {
    Plan::new(RankedRanges::try_from(&addresses(count, hole)).unwrap(), slots, seed).unwrap()
}

#[test]
fn cohort_sizes_follow_the_design() {
    for (addresses, hosts) in [(1, 1), (63, 1), (64, 1), (127, 1), (128, 2), (256, 4), (65_536, 1024), (1 << 24, 4096)]
    {
        assert_eq!(cohort_hosts(addresses), hosts, "{addresses} addresses");
    }
    assert_eq!(cohort_hosts(u64::MAX), COHORT_HOSTS_MAX);
}

#[test]
fn every_target_is_chosen_once_and_no_excluded_one_ever() {
    for (count, hole) in [(1, None), (5, None), (127, None), (129, Some(7)), (300, Some(2)), (1000, Some(3))] {
        let slots = Slots::new(true, ports(&[22, 80, 443, 8080, 9000]));
        let plan = plan(count, hole, slots, u64::from(count));
        let allowed = addresses(count, hole);
        let mut seen = HashSet::new();
        for index in 0..plan.len() {
            let target = plan.target(index).unwrap();
            assert!(allowed.contains(target.address), "P2: {target}");
            assert!(seen.insert(target), "P1: {target} comes twice");
            assert_eq!(plan.index_of(target), Some(index), "P1: {target}");
        }
        assert_eq!(seen.len() as u128, allowed.len() * 6);
        assert_eq!(plan.target(plan.len()), None);
    }
}

#[test]
fn every_vantage_probes_every_target_once() {
    for (count, hole) in [(1, None), (5, None), (129, Some(7)), (300, Some(2))] {
        let slots = Slots::new(true, ports(&[22, 80]));
        let one = plan(count, hole, slots.clone(), 3);
        let names = ["inside", "outside", "far"].map(|name| AgentName::try_from(name.to_owned()).unwrap());
        let each = plan(count, hole, slots, 3).seen_from(names.to_vec()).unwrap();
        assert_eq!((each.len(), each.cohorts()), (3 * one.len(), 3 * one.cohorts()));
        let mut seen = std::collections::HashMap::new();
        for index in 0..each.len() {
            *seen.entry(each.target(index).unwrap()).or_insert(0) += 1;
        }
        assert_eq!((seen.len() as u64, seen.values().all(|&times| times == 3)), (one.len(), true), "P1");
        for number in 0..one.cohorts() {
            let of = |view| each.cohort(view * one.cohorts() + number).unwrap();
            let targets = |cohort: Cohort| cohort.targets(0, cohort.len()).collect::<Vec<_>>();
            assert!((0..3).all(|view| targets(of(view)) == targets(one.cohort(number).unwrap())), "one order for all");
            let travelled = crate::codec::decode::<Cohort>(&crate::codec::encode(&of(1)).unwrap());
            assert_eq!(travelled.unwrap(), of(1));
            assert_eq!(each.vantage_of(2 * one.cohorts() + number), Some(&names[2]));
        }
        assert_eq!(each.target(each.len()), None);
        assert_ne!(each.digest(), one.digest());
        assert_eq!(Plan::try_from(PlanParts::from(&each)).unwrap(), each);
    }
    let twice = vec![AgentName::try_from("a".to_owned()).unwrap(); 2];
    assert_eq!(plan(5, None, Slots::new(true, PortSet::new()), 3).seen_from(twice), Err(PlanError::Vantages));
}

#[test]
fn a_cohorts_iterator_says_what_its_look_up_says() {
    let plan = plan(300, Some(7), Slots::new(true, ports(&[1, 2, 3])), 9);
    for number in 0..plan.cohorts() {
        let cohort = plan.cohort(number).unwrap();
        let walked: Vec<_> = cohort.targets(0, u32::MAX).collect();
        assert_eq!(walked.len(), cohort.len() as usize);
        for item in walked {
            assert_eq!(cohort.target(item.index), Some(item.target));
            assert_eq!(cohort.index_of(item.target), Some(item.index));
            assert_eq!(cohort.addresses().nth(u64::from(item.host)), Some(item.target.address));
        }
    }
    assert_eq!(plan.cohort(plan.cohorts()), None);
}

#[test]
fn ping_comes_first_and_hosts_are_shuffled_anew_for_each_slot() {
    let plan = plan(1 << 14, None, Slots::new(true, ports(&[22, 80])), 3);
    let cohort = plan.cohort(0).unwrap();
    let hosts: Vec<Vec<u32>> = (0..3)
        .map(|slot| cohort.targets(slot * cohort.hosts(), (slot + 1) * cohort.hosts()).map(|t| t.host).collect())
        .collect();
    assert!(cohort.targets(0, cohort.hosts()).all(|t| t.target.slot == Slot::Ping));
    assert_ne!(hosts[0], hosts[1]);
    assert_ne!(hosts[1], hosts[2]);
    assert!(!hosts[0].is_sorted());
}

#[test]
fn huge_plans_are_cheap_and_their_samples_invert() {
    let mut set = AddressSet::new();
    set.insert_range("10.0.0.0".parse().unwrap(), "10.255.255.255".parse().unwrap()).unwrap();
    set.insert_range("2001:db8::".parse().unwrap(), "2001:db8::ffff:ffff".parse().unwrap()).unwrap();
    let all: PortSet = (1..=u16::MAX).collect();
    let plan = Plan::new(RankedRanges::try_from(&set).unwrap(), Slots::new(true, all), 1).unwrap();
    for sample in 0..20_000u64 {
        let index = crate::order::mix(sample) % plan.len();
        assert_eq!(plan.index_of(plan.target(index).unwrap()), Some(index));
    }
}

#[test]
fn bad_input_79_a_product_that_overflows_is_refused_and_says_so() {
    let mut set = AddressSet::new();
    set.insert_range("2001:db8::".parse().unwrap(), "2001:db8::ffff:ffff:ffff".parse().unwrap()).unwrap();
    let all: PortSet = (1..=u16::MAX).collect();
    let error = Plan::new(RankedRanges::try_from(&set).unwrap(), Slots::new(true, all), 1).unwrap_err();
    assert!(matches!(error, PlanError::TooLarge { slots: 65_536, .. }), "{error}");
    set.insert_range("::".parse().unwrap(), "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap()).unwrap();
    assert!(RankedRanges::try_from(&set).is_err(), "::/0 has more addresses than u64 counts");
}

#[test]
fn an_empty_plan_is_refused() {
    let empty = RankedRanges::try_from(&AddressSet::new()).unwrap();
    assert_eq!(Plan::new(empty, Slots::new(true, ports(&[])), 0), Err(PlanError::Empty));
    let one = RankedRanges::try_from(&addresses(1, None)).unwrap();
    assert_eq!(Plan::new(one, Slots::new(false, ports(&[])), 0), Err(PlanError::Empty));
}

/// Golden: a stored plan must mean the same targets for ever.
#[test]
fn golden_order_and_digest() {
    let plan = plan(200, Some(9), Slots::new(true, ports(&[22, 80, 443])), 42);
    assert_eq!(plan.digest().to_string(), "cb234cd8866215573be4411fc832374b598168dcab8d2f6380c149d5a0789a33");
    let first: Vec<_> = (0..8).map(|index| plan.target(index).unwrap().to_string()).collect();
    assert_eq!(
        first,
        [
            "192.0.2.193",
            "192.0.2.192",
            "192.0.2.193:22",
            "192.0.2.192:22",
            "192.0.2.192:443",
            "192.0.2.193:443",
            "192.0.2.193:80",
            "192.0.2.192:80"
        ]
    );
}

proptest! {
    #[test]
    fn odd_spaces_are_covered_once(count in 1u32..400, hole in 2u32..9, seed: u64, list in prop::collection::vec(1u16.., 0..6)) {
        let plan = plan(count.max(3), Some(hole), Slots::new(true, ports(&list)), seed);
        let targets: HashSet<_> = (0..plan.len()).map(|index| plan.target(index).unwrap()).collect();
        prop_assert_eq!(targets.len() as u64, plan.len());
        for target in targets {
            let IpAddr::V4(address) = target.address else { unreachable!() };
            prop_assert!((u32::from(address) - 0xc000_0200) % hole != 1, "P2");
        }
    }
}
