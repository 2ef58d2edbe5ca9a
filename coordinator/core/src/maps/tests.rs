//! Both maps against a naive count of every target, at every zoom, from one vantage and from several.

use super::addresses::{self, AddressMap, within};
use super::ports::{self, Column, Extent};
use super::*;
use crate::store::Store;
use crate::store::conformance::example;
use crate::tally::tests::{Scan, naive};
use crate::tally::{self, Counts};
use ipnet::IpNet;
use proptest::prelude::*;
use protocol::plan::Slots;
use protocol::probe::{Slot, State};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What each vantage says of each slot of each address.
type Truth = Vec<BTreeMap<(IpAddr, Slot), State>>;

fn truth(scan: &Scan) -> Truth {
    let of_view = |view: u64| {
        let numbers = (0..scan.plan.cohorts_of_one()).map(|run| view * scan.plan.cohorts_of_one() + run);
        let cohorts = numbers.filter_map(|number| scan.plan.cohort(number));
        let known = cohorts.flat_map(|cohort| {
            let known = naive(scan, &cohort);
            known
                .into_iter()
                .map(move |((host, slot), state)| ((cohort.addresses().nth(host.into()).expect("a host"), slot), state))
        });
        known.collect()
    };
    (0..scan.plan.views()).map(of_view).collect()
}

/// Tallies of the open cohorts.
fn counted(scan: &Scan) -> Counted {
    let (open, _) = scan.store.cohorts(example().id).expect("cohorts");
    let cohorts = open.iter().filter_map(|record| scan.plan.cohort(record.number));
    cohorts.map(|cohort| (cohort.number(), tally::of(&scan.store, example().id, &cohort).expect("a tally"))).collect()
}

fn source<'a>(scan: &'a Scan, counted: &'a Counted, vantage: Option<u64>) -> Source<'a> {
    Source::new((&scan.store, example().id, &scan.plan), counted, vantage).expect("a source")
}

/// What an address is shown as, by what each vantage has of it.
fn shown(truth: &Truth, address: IpAddr) -> State {
    let each = truth.iter().map(|known| {
        let mut counts = Counts::default();
        known
            .range((address, Slot::Ping)..=(address, Slot::Tcp(u16::MAX)))
            .for_each(|(_, state)| counts.add(*state, 1));
        counts.says()
    });
    let each: Vec<_> = each.collect();
    let order = [State::Open, State::Closed, State::Up, State::Down, State::Filtered, State::NotProbed];
    order.into_iter().find(|state| each.contains(state)).expect("a state")
}

fn compare_addresses(scan: &Scan, truth: &Truth, map: &AddressMap) {
    let mut planned = 0;
    for cell in &map.cells {
        let mut sum = Sum::default();
        let within = (cell.prefix.network(), Slot::Ping)..=(cell.prefix.broadcast(), Slot::Tcp(u16::MAX));
        for known in truth {
            known.range(within.clone()).for_each(|(_, state)| sum.targets.add(*state, 1));
        }
        let ranks = scan.plan.addresses().ranks_within(cell.prefix.network(), cell.prefix.broadcast());
        for address in ranks.clone().filter_map(|rank| scan.plan.addresses().nth(rank)) {
            sum.addresses.add(shown(truth, address), 1);
        }
        assert_eq!(cell.sum, sum, "{}", cell.prefix);
        assert_eq!(cell.planned, ranks.count() as u64);
        assert!(map.prefix.contains(&cell.prefix));
        planned += cell.planned;
    }
    let ranks = scan.plan.addresses().ranks_within(map.prefix.network(), map.prefix.broadcast());
    assert_eq!(planned, ranks.count() as u64, "every address lies in one cell");
    assert!(map.cells.windows(2).all(|pair| pair[0].place < pair[1].place && pair[0].prefix < pair[1].prefix));
}

fn compare_ports(scan: &Scan, truth: &Truth, extent: &Extent, map: &ports::PortMap) {
    assert!(map.rows.len() as u64 <= ports::ROWS_MAX && map.columns.len() <= 65);
    assert_eq!(map.cells.len(), map.rows.len() * map.columns.len());
    let mut cells = vec![Counts::default(); map.cells.len()];
    for ((address, slot), state) in truth.iter().flatten() {
        let row = map.rows.iter().position(|row| (row.first..=row.last).contains(address));
        let column = map.columns.iter().position(|column| match (column, slot) {
            (Column::Ping, Slot::Ping) => true,
            (Column::Ports { first, last, .. }, Slot::Tcp(port)) => (first..=last).contains(&port),
            _ => false,
        });
        if let (Some(row), Some(column)) = (row, column) {
            cells[row * map.columns.len() + column].add(*state, 1);
        }
    }
    for (at, (cell, counts)) in map.cells.iter().zip(cells).enumerate() {
        assert_eq!(*cell, Sum { targets: counts, ..Sum::default() }, "cell {at} of {map:?}");
    }
    let addresses = scan.plan.addresses();
    let asked: Vec<_> = extent.ranks.clone().filter_map(|rank| addresses.nth(rank)).collect();
    let is_shown = |address: &IpAddr| map.rows.iter().any(|row| (row.first..=row.last).contains(address));
    assert!(asked.iter().all(is_shown), "what is asked for is shown");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn both_maps_are_a_naive_count(
        seed: u64,
        bits in 0u8..3,
        ping: bool,
        ports in prop::collection::btree_set(1u16.., 0..90),
        discover: bool,
        views in 1usize..4,
        cohorts in 0u64..70,
        cut in (0u64..600, 1u64..600, 0u32..90, 1u32..90),
        depth in 0u8..5,
    ) {
        prop_assume!(ping || !ports.is_empty());
        let slots = Slots::new(ping, ports.into_iter().collect());
        let slots = if discover { slots.in_stages() } else { slots };
        let networks = [format!("10.0.0.0/{}", 25 - bits), "10.9.0.8/29".to_owned(), "2001:db8::/126".to_owned()];
        let vantages = if views == 1 { &[][..] } else { &["a", "b", "c"][..views] };
        let mut scan = Scan::new(&networks.each_ref().map(String::as_str), slots, vantages, seed);
        for position in 0..cohorts.min(scan.plan.cohorts()) {
            scan.work(position);
        }
        let (truth, counted) = (truth(&scan), counted(&scan));
        let all = source(&scan, &counted, None);
        let roots = addresses::roots(&scan.plan);
        prop_assert_eq!(roots.len(), 2);
        for root in roots {
            // Down to single addresses.
            let mut at = root;
            loop {
                let map = addresses::map(&all, at, depth).expect("a map").expect("it has addresses");
                compare_addresses(&scan, &truth, &map);
                match map.cells.get(seed as usize % map.cells.len()) {
                    Some(cell) if map.depth > 0 => at = cell.prefix,
                    _ => break,
                }
            }
        }
        let extent = Extent { ranks: cut.0..cut.0 + cut.1, ports: cut.2..cut.2 + cut.3 };
        for exact_targets_max in [0, u64::MAX] {
            let map = ports::map_reading(&all, &extent, exact_targets_max).expect("a map");
            prop_assert_eq!(map.is_some(), cut.0 < scan.plan.addresses().len());
            if let Some(map) = map {
                let shown = Extent { ranks: cut.0..(cut.0 + cut.1).min(scan.plan.addresses().len()), ..extent.clone() };
                compare_ports(&scan, &truth, &shown, &map);
            }
        }
        let last = views as u64 - 1;
        let one = vec![truth[last as usize].clone()];
        let seen = source(&scan, &counted, Some(last));
        let map = addresses::map(&seen, "10.0.0.0/8".parse().expect("a net"), depth).expect("a map").expect("one");
        compare_addresses(&scan, &one, &map);
        let map = ports::map_reading(&seen, &Extent { ranks: 0..9, ports: 0..90 }, 0).expect("a map").expect("one");
        compare_ports(&scan, &one, &Extent { ranks: 0..9, ports: 0..90 }, &map);
    }
}

#[test]
fn what_is_not_counted_yet_is_told_apart() {
    let mut scan = Scan::new(&["192.0.2.0/24"], Slots::new(true, (1..=9).collect()), &[], 4);
    (0..20).for_each(|position| scan.work(position));
    let (open, opened) = scan.store.cohorts(example().id).expect("cohorts");
    assert!(!open.is_empty() && opened > open.len() as u64);
    let nothing = Counted::new();
    let source = source(&scan, &nothing, None);
    let map = addresses::map(&source, "0.0.0.0/0".parse().expect("a net"), 4).expect("a map").expect("one");
    let mut sum = Sum::default();
    map.cells.iter().for_each(|cell| sum += cell.sum);
    assert_eq!(sum.uncounted, open.len() as u64 * 4 * 10);
    assert_eq!(sum.targets.sum() + sum.uncounted, 2_560);
    assert_eq!(sum.addresses.sum(), 256 - open.len() as u64 * 4);
    let extent = Extent { ranks: 0..256, ports: 0..9 };
    let map = ports::map_reading(&source, &extent, 0).expect("a map").expect("one");
    assert_eq!(map.cells.iter().map(|cell| cell.uncounted).sum::<u64>(), sum.uncounted);
    let map = ports::map(&source, &extent).expect("a map").expect("one");
    assert_eq!(map.cells.iter().map(|cell| cell.uncounted).sum::<u64>(), 0, "so few are counted at once");
}

#[test]
fn a_sparse_plan_takes_few_steps_down() {
    let scattered = ["2001:db8:1::7/128", "2001:db8:1::8/128", "2001:db8:ffff:3::1/128", "192.0.2.1/32", "10.0.0.0/30"];
    let scan = Scan::new(&scattered, Slots::new(true, [1].into_iter().collect()), &[], 1);
    let net = |text: &str| text.parse::<IpNet>().expect("a net");
    assert_eq!(addresses::roots(&scan.plan), [net("0.0.0.0/0"), net("2001:db8::/32")]);
    assert_eq!(within(&scan.plan, net("10.0.0.0/7")), Some(net("10.0.0.0/30")));
    assert_eq!(within(&scan.plan, net("2001:db8:1::/48")), Some(net("2001:db8:1::/124")));
    assert_eq!(within(&scan.plan, net("192.0.2.1/32")), Some(net("192.0.2.1/32")));
    assert_eq!(within(&scan.plan, net("192.0.2.2/32")), None);
    let nothing = Counted::new();
    let source = source(&scan, &nothing, None);
    let map = addresses::map(&source, net("2001:db8::/32"), 5).expect("a map").expect("one");
    let cells: Vec<_> = map.cells.iter().map(|cell| (cell.prefix, cell.planned)).collect();
    assert_eq!(cells, [(net("2001:db8::/42"), 2), (net("2001:db8:ffc0::/42"), 1)]);
    assert_eq!(
        addresses::steps(&scan.plan, net("2001:db8:1::/124"), 5),
        [net("2001:db8::/32"), net("2001:db8:1::/124")]
    );
    let map = addresses::map(&source, cells[0].0, 5).expect("a map").expect("one");
    let cells: Vec<_> = map.cells.iter().map(|cell| cell.prefix).collect();
    assert_eq!((map.prefix, map.depth), (net("2001:db8:1::/124"), 2));
    assert_eq!(cells, [net("2001:db8:1::7/128"), net("2001:db8:1::8/128")]);
}

#[test]
fn the_way_down_is_told() {
    let scan = Scan::new(&["10.0.0.0/9"], Slots::new(true, [1].into_iter().collect()), &[], 1);
    let steps = |prefix: &str, depth| {
        let steps = addresses::steps(&scan.plan, prefix.parse().expect("a net"), depth);
        steps.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(steps("10.3.4.5/32", 5), "10.0.0.0/8 10.3.0.0/18 10.3.4.0/28 10.3.4.5/32");
    assert_eq!(steps("10.3.0.0/18", 5), "10.0.0.0/8 10.3.0.0/18");
    assert_eq!(steps("10.0.0.0/8", 5), "10.0.0.0/8");
    assert_eq!(steps("10.4.0.0/14", 1), "10.0.0.0/8 10.0.0.0/10 10.0.0.0/12 10.4.0.0/14");
}

#[test]
fn a_cell_is_shown_as_what_says_most() {
    let sum = |counts: &[(State, u64)], addresses: &[(State, u64)]| {
        let mut sum = Sum::default();
        counts.iter().for_each(|(state, count)| sum.targets.add(*state, *count));
        addresses.iter().for_each(|(state, count)| sum.addresses.add(*state, *count));
        sum.says()
    };
    assert_eq!(sum(&[], &[]), None);
    assert_eq!(sum(&[(State::Open, 1), (State::Filtered, 900)], &[]), Some(State::Open));
    assert_eq!(sum(&[(State::NotProbed, 3), (State::Filtered, 900)], &[]), Some(State::Filtered));
    assert_eq!(sum(&[(State::NotProbed, 3), (State::Up, 1)], &[]), Some(State::Up));
    assert_eq!(sum(&[(State::Filtered, 900), (State::Down, 1)], &[(State::Down, 1)]), Some(State::Down));
}
