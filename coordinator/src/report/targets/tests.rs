//! What is told of single targets, over a store that is filled by hand.

use super::*;
use coordinator_core::store::conformance::example;
use coordinator_core::store::memory::MemoryStore;
use coordinator_core::store::{AgentFacts, Commit, Cut, LeaseOrder, ScanRecord, Shard};
use protocol::chunk;
use protocol::id::InstanceId;
use protocol::message::{Finding, PingMethod};
use protocol::plan::{PlanParts, Slots};
use protocol::probe::{Outcome, Reason};
use protocol::range_set::RankedRanges;

/// What every target of the scan is: open ports end in 7, the host .3 refuses the rest, nothing else answers.
fn truth(target: Target) -> Outcome {
    match (target.slot, target.address.to_string().as_str()) {
        (Slot::Ping, "192.0.2.3") => Outcome::UP,
        (Slot::Ping, _) => Outcome::DOWN,
        (Slot::Tcp(port), _) if port % 10 == 7 => Outcome::OPEN,
        (Slot::Tcp(_), "192.0.2.3") => Outcome::CLOSED,
        (Slot::Tcp(_), _) => Outcome::FILTERED,
    }
}

/// A scan of 130 addresses in cohorts of two, `ping` and `ports` ports each, of which every cohort but the last in turn is probed.
fn scanned(ports: u16) -> (MemoryStore, ScanId, Plan) {
    scanned_from(ports, &[])
}

/// The same, with everything probed from each of these vantages.
fn scanned_from(ports: u16, vantages: &[&str]) -> (MemoryStore, ScanId, Plan) {
    let mut addresses = AddressSet::new();
    addresses.insert_net("192.0.2.0/25".parse().unwrap());
    addresses.insert_net("2001:db8::/127".parse().unwrap());
    let addresses = RankedRanges::try_from(&addresses).unwrap();
    let vantages = vantages.iter().map(|name| AgentName::try_from((*name).to_owned()).unwrap()).collect();
    let parts = PlanParts { addresses, slots: Slots::new(true, (1..=ports).collect()), seed: 5, vantages };
    let plan = Plan::try_from(parts.clone()).unwrap();
    let mut store = MemoryStore::new();
    let record = ScanRecord { plan: parts, ..example() };
    store.create_scan(&record).unwrap();
    for position in 0..plan.cohorts() - 1 {
        let cohort = plan.cohort(plan.cohort_at(position).unwrap()).unwrap();
        for lo in (0..cohort.len()).step_by(SHARD_TARGETS_MAX as usize) {
            let hi = cohort.len().min(lo + SHARD_TARGETS_MAX);
            let shard = Shard { cohort: cohort.number(), pass: 1, lo, hi };
            let name = if position % 2 == 0 { "even" } else { "odd" };
            let agent = AgentFacts {
                name: name.into(),
                vantage: "here".into(),
                software: "0".into(),
                ping_method: PingMethod::Icmp,
            };
            let order = LeaseOrder {
                scan: record.id,
                holder: InstanceId::new(1),
                agent,
                cuts: vec![Cut::Frontier { shard, covers: Vec::new() }],
            };
            let epoch = store.lease(&order).unwrap()[0];
            let outcomes: Vec<_> = cohort.targets(lo, hi).map(|item| truth(item.target)).collect();
            let findings = (0..).zip(&outcomes).filter(|(_, outcome)| outcome.is_finding());
            let findings = findings.map(|(index, _)| Finding { index: lo + index, rtt_us: 250 }).collect();
            store.commit(&Commit { scan: record.id, epoch, chunk: chunk::encode(&outcomes), findings }).unwrap();
        }
    }
    (store, record.id, plan)
}

type Row = (Target, Outcome, Option<String>);
type Told = Vec<Row>;

/// Everything that fits, page by page.
fn paged((store, scan, plan): &(MemoryStore, ScanId, Plan), filter: &Filter, bounds: Bounds) -> (Told, usize) {
    let (mut told, mut cursor, mut pages) = (Vec::new(), None, 0);
    loop {
        let before = told.len();
        cursor = walk((store, *scan, plan), filter, cursor, bounds, &mut |found| {
            told.push((found.target, found.known.outcome, found.seen_by.map(str::to_owned)));
            Ok(())
        })
        .unwrap();
        assert!(told.len() as u64 - before as u64 <= bounds.limit);
        pages += 1;
        let Some(next) = cursor else { return (told, pages) };
        cursor = Some(next.to_string().parse().unwrap());
    }
}

const ALL: Bounds = Bounds { limit: u64::MAX, read: u64::MAX };

fn set(net: &str) -> Option<AddressSet> {
    let mut set = AddressSet::new();
    set.insert_net(net.parse().unwrap());
    Some(set)
}

#[test]
fn pages_of_any_size_tell_each_target_once_and_in_order() {
    let scan = scanned(20);
    let (all, _) = paged(&scan, &Filter::default(), ALL);
    assert_eq!(all.len() as u64, scan.2.len());
    assert!(all.is_sorted_by_key(|(target, ..)| *target), "these cohorts have one window, so they are in order");
    for limit in [1, 7, 21, 1_000] {
        for read in [1, 100_000, u64::MAX] {
            assert_eq!(paged(&scan, &Filter::default(), Bounds { limit, read }).0, all, "{limit} {read}");
        }
    }
    let pending = all.iter().filter(|(_, outcome, _)| !outcome.is_probed()).count();
    assert_eq!(pending, 2 * 21, "one cohort was never leased");
}

#[test]
fn a_filter_tells_what_all_of_it_fits() {
    let scan = scanned(20);
    let (all, _) = paged(&scan, &Filter::default(), ALL);
    let holds = |filter: Filter, fits: &dyn Fn(&Row) -> bool| {
        let expected: Told = all.iter().filter(|row| fits(row)).cloned().collect();
        assert!(!expected.is_empty() && expected.len() < all.len(), "{filter:?} says nothing");
        assert_eq!(paged(&scan, &filter, ALL).0, expected, "{filter:?}");
    };
    let is_port = |target: &Target, wanted: u16| target.slot == Slot::Tcp(wanted);
    holds(Filter { states: Some(vec![State::Open]), ..Filter::default() }, &|row| row.1 == Outcome::OPEN);
    holds(Filter { states: Some(vec![State::NotProbed]), ..Filter::default() }, &|row| !row.1.is_probed());
    holds(Filter { reasons: Some(vec!["pending".into()]), ..Filter::default() }, &|row| !row.1.is_probed());
    holds(Filter { reasons: Some(vec!["no-response".into()]), ..Filter::default() }, &|row| {
        row.1.reason() == Some(Reason::NoResponse)
    });
    holds(Filter { agent: Some("odd".into()), ..Filter::default() }, &|row| row.2.as_deref() == Some("odd"));
    holds(Filter { kind: Some(ProbeKind::Ping), ..Filter::default() }, &|row| row.0.slot == Slot::Ping);
    holds(Filter { ports: Some([7, 9].into_iter().collect()), ..Filter::default() }, &|row| {
        is_port(&row.0, 7) || is_port(&row.0, 9)
    });
    let inside = |row: &Row, net: &str| set(net).unwrap().contains(row.0.address);
    for net in ["192.0.2.3/32", "192.0.2.64/29", "192.0.2.127/32", "2001:db8::1/128", "192.0.0.0/16", "::/0"] {
        holds(Filter { addresses: set(net), ..Filter::default() }, &|row| inside(row, net));
    }
    let both = Filter {
        addresses: set("192.0.2.3/32"),
        ports: Some([17].into_iter().collect()),
        states: Some(vec![State::Open, State::Closed]),
        ..Filter::default()
    };
    holds(both, &|row| row.0.to_string() == "192.0.2.3:17");
    for net in ["198.51.100.0/24", "10.0.0.0/8", "2001:db9::/64"] {
        let nothing = Filter { addresses: set(net), ..Filter::default() };
        assert_eq!(paged(&scan, &nothing, ALL).0, [], "{net} is not in the plan");
    }
}

#[test]
fn each_vantage_tells_of_each_target_that_fits() {
    let (store, scan, plan) = scanned_from(20, &["inside", "outside"]);
    let told = |filter: &Filter| {
        let mut told = Vec::new();
        let next = walk((&store, scan, &plan), filter, None, ALL, &mut |found| {
            told.push((found.vantage.map(str::to_owned), found.target));
            Ok(())
        });
        assert_eq!(next.unwrap(), None);
        told
    };
    let all = told(&Filter::default());
    assert_eq!((all.len() as u64, plan.len()), (130 * 21 * 2, 130 * 21 * 2));
    for net in ["192.0.2.3/32", "192.0.2.64/29", "2001:db8::1/128", "0.0.0.0/0"] {
        let addresses = set(net).unwrap();
        let expected: Vec<_> = all.iter().filter(|(_, target)| addresses.contains(target.address)).cloned().collect();
        assert_eq!(told(&Filter { addresses: Some(addresses), ..Filter::default() }), expected, "{net}");
        for vantage in ["inside", "outside"] {
            assert!(expected.iter().any(|(from, _)| from.as_deref() == Some(vantage)), "{net} {vantage}");
        }
    }
}

#[test]
fn a_port_is_found_in_a_cohort_of_several_windows() {
    // 60,001 slots of two hosts: four windows.
    let scan = scanned(60_000);
    let filter =
        Filter { ports: Some([59_997].into_iter().collect()), addresses: set("192.0.2.3/32"), ..Filter::default() };
    let (told, pages) = paged(&scan, &filter, Bounds { limit: 1, read: u64::from(WINDOW_TARGETS) });
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].0.to_string().as_str(), told[0].1), ("192.0.2.3:59997", Outcome::OPEN));
    assert!(pages <= 2, "only the window with the port is read: {pages}");
    let open = Filter { states: Some(vec![State::Open]), addresses: set("192.0.2.3/32"), ..Filter::default() };
    let (told, _) = paged(&scan, &open, Bounds { limit: 100, read: u64::MAX });
    assert_eq!(told.len(), 6_000, "each once, across windows and pages");
    assert_eq!(told.iter().map(|row| row.0).collect::<BTreeSet<_>>().len(), 6_000);
}

#[test]
fn bad_input_94_a_cursor_is_what_was_given_or_none() {
    for good in ["0.0", "5.32768_192.0.2.1", "5.32768_192.0.2.1_80", "7.0_2001:db8::1_65535"] {
        assert_eq!(good.parse::<Cursor>().map(|cursor| cursor.to_string()).as_deref(), Ok(good));
    }
    let wrong = [
        "",
        "-1",
        "0",
        "18446744073709551615",
        "0.-1",
        "0.4294967296",
        "18446744073709551616.0",
        "+0.0",
        "00.0",
        "0.0_",
        "0.0_192.0.2.1_",
        "0.0_192.0.2.1_080",
        "0.0_192.0.2.1_65536",
        "0.0_192.0.2.1_80_1",
        "0.0_1'; DROP TABLE scan",
        "٠.0",
    ];
    for wrong in wrong {
        assert_eq!(wrong.parse::<Cursor>(), Err(CursorError), "{wrong}");
    }
    // Ours in form, and beyond the plan: there is nothing after it.
    let scan = scanned(20);
    let beyond = Some("18446744073709551615.4294967295".parse().unwrap());
    let next = walk((&scan.0, scan.1, &scan.2), &Filter::default(), beyond, ALL, &mut |_| panic!("nothing is there"));
    assert_eq!(next.unwrap(), None);
}
