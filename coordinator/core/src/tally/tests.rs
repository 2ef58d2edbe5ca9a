//! Tallies against a naive count of the same targets, over random plans, passes, stages and what is left.

use super::*;
use crate::passes::History;
use crate::rows;
use crate::stages::Ports;
use crate::store::conformance::example;
use crate::store::memory::MemoryStore;
use crate::store::{AgentFacts, Commit, Cut, LeaseOrder, ScanRecord, ScanStatus, Shard, Store};
use proptest::prelude::*;
use protocol::chunk;
use protocol::covers;
use protocol::id::{AgentName, InstanceId};
use protocol::message::{Finding, PingMethod};
use protocol::plan::{Cohort, Plan, PlanParts, Slots};
use protocol::probe::{Cause, Outcome, Reason, Slot, State};
use protocol::range_set::{AddressSet, RankedRanges};
use std::collections::BTreeMap;

/// A scan in a store, to be filled.
pub(crate) struct Scan {
    pub(crate) store: MemoryStore,
    pub(crate) plan: Plan,
    draw: u64,
}

impl Scan {
    /// Of these networks and slots.
    pub(crate) fn new(networks: &[&str], slots: Slots, vantages: &[&str], seed: u64) -> Self {
        let mut addresses = AddressSet::new();
        for network in networks {
            addresses.insert_net(network.parse().expect("a network"));
        }
        let addresses = RankedRanges::new(&addresses).expect("few");
        let vantages = vantages.iter().map(|name| AgentName::try_from((*name).to_owned()).expect("a name")).collect();
        let plan = PlanParts { addresses, slots, seed, vantages };
        let mut store = MemoryStore::new();
        store.create_scan(&ScanRecord { plan: plan.clone(), ..example() }).expect("a new scan");
        Self { store, plan: Plan::try_from(plan).expect("a plan"), draw: seed }
    }

    /// A number below `end` that looks random.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.draw = self.draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.draw >> 33) % end
    }

    /// Leases these targets in a pass and commits what `outcome` says of them.
    pub(crate) fn settle(&mut self, shard: Shard, covers: Vec<u8>, outcome: &mut dyn FnMut(Slot, u64) -> Outcome) {
        let cohort = self.plan.cohort(shard.cohort).expect("a cohort");
        let mut outcomes = Vec::new();
        for index in covers::indices(&covers, shard.lo, shard.hi) {
            let draw = self.below(1 << 30);
            outcomes.push(outcome(cohort.target(index).expect("a target").slot, draw));
        }
        let found = covers::indices(&covers, shard.lo, shard.hi).zip(&outcomes);
        let findings = found.filter(|(_, outcome)| outcome.is_finding());
        let findings = findings.map(|(index, _)| Finding { index, rtt_us: 1 }).collect();
        let agent = AgentFacts {
            name: "a".into(),
            vantage: "here".into(),
            software: "0".into(),
            ping_method: PingMethod::Icmp,
        };
        let cuts = vec![Cut::Frontier { shard, covers }];
        let order = LeaseOrder { scan: example().id, holder: InstanceId::new(1), agent, cuts };
        let epoch = self.store.lease(&order).expect("a lease")[0];
        let commit = Commit { scan: example().id, epoch, chunk: chunk::encode(&outcomes), findings };
        self.store.commit(&commit).expect("a commit");
    }

    /// Goes through some passes of the cohort at a position of the order, and may close it.
    pub(crate) fn work(&mut self, position: u64) {
        let number = self.plan.cohort_at(position).expect("a cohort");
        let cohort = self.plan.cohort(number).expect("a cohort");
        let (first, len) = (cohort.first_pass_len(), cohort.len());
        let mut lo = 0;
        while lo < first {
            let hi = first.min(lo + 1 + self.below(u64::from(first)) as u32);
            self.settle(Shard { cohort: number, pass: 1, lo, hi }, Vec::new(), &mut drawn);
            lo = hi;
            if self.below(12) == 0 {
                return;
            }
        }
        for pass in 2..2 + self.below(3) as u8 {
            self.store.begin_pass(example().id, number, pass).expect("a pass");
            let ports = Ports::of_cohort(&self.store, example().id, &cohort).expect("pings");
            let asked = |index| {
                let Some(ports) = &ports else { return true };
                let is_up = cohort.host_at(index).is_some_and(|rank| ports[rank as usize] == Ports::Asked);
                // A host that was up is not asked again.
                is_up == (index >= first)
            };
            let some = self.below(1 << 30);
            let covers = covers::bitmap(0, len, |index| {
                asked(index) && (index >= first || (u64::from(index) ^ some).is_multiple_of(3))
            });
            if covers.iter().any(|byte| *byte != 0) {
                self.settle(Shard { cohort: number, pass, lo: 0, hi: len }, covers, &mut drawn);
            }
        }
        // In stages, all ports of hosts that are up are leased before it is closed.
        if !cohort.slots().discover() && self.below(4) > 0 {
            self.store.close_cohort(example().id, number).expect("through");
        }
    }
}

/// Any outcome that a slot may have, mostly silence.
fn drawn(slot: Slot, draw: u64) -> Outcome {
    let unreachable = |state| Outcome::found(state, Reason::NetUnreach).expect("a pair");
    match (slot, draw % 16) {
        (_, 0) => Outcome::not_probed(Cause::LocalLimit),
        (_, 1) => Outcome::not_probed(Cause::Excluded),
        (Slot::Ping, 2..6) => Outcome::UP,
        (Slot::Ping, 6) => unreachable(State::Down),
        (Slot::Ping, _) => Outcome::DOWN,
        (Slot::Tcp(_), 2) => Outcome::OPEN,
        (Slot::Tcp(_), 3) => Outcome::CLOSED,
        (Slot::Tcp(_), 4) => unreachable(State::Filtered),
        (Slot::Tcp(_), _) => Outcome::FILTERED,
    }
}

/// What is known of each target of a cohort, by host and slot, one by one; without what is no target.
pub(crate) fn naive(scan: &Scan, cohort: &Cohort) -> BTreeMap<(u32, Slot), State> {
    let id = example().id;
    let ports = Ports::of_cohort(&scan.store, id, cohort).expect("pings");
    let known = History::of(&scan.store, id, cohort.number(), 0..cohort.len()).expect("histories");
    let targets = cohort.targets(0, cohort.len()).zip(known);
    let known = targets.filter_map(|(item, known)| {
        let known = match (&ports, item.target.slot) {
            (Some(ports), Slot::Tcp(_)) => ports[item.host as usize].known(known)?,
            _ => known,
        };
        Some(((item.host, item.target.slot), known.outcome.state()))
    });
    known.collect()
}

fn counts(states: impl IntoIterator<Item = State>) -> Counts {
    let mut counts = Counts::default();
    states.into_iter().for_each(|state| counts.add(state, 1));
    counts
}

/// Compares every part of a cohort's tally with the naive count.
fn compare(scan: &Scan, number: u64) {
    let cohort = scan.plan.cohort(number).expect("a cohort");
    let (known, shape) = (naive(scan, &cohort), Shape::of(cohort.hosts(), cohort.slots()));
    let tally = of(&scan.store, example().id, &cohort).expect("a tally");
    let totals = Totals::read(tally.part(Part::Totals)).expect("totals");
    assert_eq!(totals.targets, counts(known.values().copied()));
    let runs = hosts_of(tally.part(Part::Hosts), cohort.hosts()).expect("hosts");
    assert!(runs.windows(2).all(|pair| pair[0].each != pair[1].each), "runs are as long as they can be");
    let hosts: Vec<_> = runs.iter().flat_map(|run| vec![run.each; run.hosts as usize]).collect();
    let of_host = |host: u32| known.range((host, Slot::Ping)..(host + 1, Slot::Ping)).map(|(_, state)| *state);
    assert!((0..cohort.hosts()).map(|host| counts(of_host(host))).eq(hosts.iter().copied()));
    assert_eq!(totals.addresses, counts(hosts.iter().map(Counts::says)));
    let mut cells = BTreeMap::<(u32, u32), Counts>::new();
    for ((host, slot), state) in &known {
        let column = shape.column_of(*slot, cohort.slots()).expect("a column");
        cells.entry((column, host / shape.row_hosts)).or_default().add(*state, 1);
    }
    let mut columns = vec![Counts::default(); shape.columns() as usize];
    let tell = &mut |column: u32, row: u32, counts: Counts| {
        assert_eq!(counts, cells.remove(&(column, row)).unwrap_or_default(), "column {column}, row {row}");
        columns[column as usize] += counts;
    };
    grid_of(tally.part(Part::Grid), &shape, tell).expect("a grid");
    assert!(cells.is_empty(), "{cells:?}");
    let tell = &mut |column: u32, counts| assert_eq!(counts, columns[column as usize]);
    columns_of(tally.part(Part::Columns), &shape, tell).expect("columns");
    for part in Part::ALL {
        assert!(tally.part(part).len() <= part.bytes_max());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_tally_is_a_naive_count_of_its_cohort(
        seed: u64,
        bits in 0u8..6,
        ping: bool,
        ports in prop::collection::btree_set(1u16.., 0..150),
        discover: bool,
        cohorts in 1u64..6,
    ) {
        prop_assume!(ping || !ports.is_empty());
        let slots = Slots::new(ping, ports.into_iter().collect());
        let slots = if discover { slots.in_stages() } else { slots };
        // Several hosts a cohort, and a last one that is short.
        let networks = [format!("10.0.0.0/{}", 24 - bits), "192.0.2.0/29".to_owned(), "2001:db8::/127".to_owned()];
        let mut scan = Scan::new(&networks.each_ref().map(String::as_str), slots, &[], seed);
        for position in 0..cohorts.min(scan.plan.cohorts()) {
            scan.work(position);
        }
        for position in 0..=cohorts.min(scan.plan.cohorts() - 1) {
            compare(&scan, scan.plan.cohort_at(position).expect("a cohort"));
        }
        compare(&scan, scan.plan.cohorts() - 1);
        scan.store.audit(example().id).expect("the invariants hold");
    }
}

#[test]
fn rows_of_many_hosts_are_counted_too() {
    // 256 hosts a cohort: rows of four.
    let mut scan = Scan::new(&["10.0.0.0/18", "10.0.64.0/29"], Slots::new(true, (1..=5).collect()), &[], 3);
    for position in 0..3 {
        scan.work(position);
    }
    let last = scan.plan.cohorts() - 1;
    let position = scan.plan.position_of(last).expect("a position");
    for position in 3..=position {
        scan.work(position);
    }
    for number in [scan.plan.cohort_at(0).expect("a cohort"), last] {
        let cohort = scan.plan.cohort(number).expect("a cohort");
        assert_eq!(Shape::of(cohort.hosts(), cohort.slots()).row_hosts, if number == last { 1 } else { 4 });
        compare(&scan, number);
    }
}

#[test]
fn hosts_are_those_of_the_rows() {
    let mut scan = Scan::new(&["10.0.0.0/24"], Slots::new(true, (1..=9).collect()).in_stages(), &[], 11);
    (0..9).for_each(|position| scan.work(position));
    for number in 0..scan.plan.cohorts() {
        let cohort = scan.plan.cohort(number).expect("a cohort");
        let tally = of(&scan.store, example().id, &cohort).expect("a tally");
        let runs = hosts_of(tally.part(Part::Hosts), cohort.hosts()).expect("hosts");
        let hosts = runs.iter().flat_map(|run| vec![run.each; run.hosts as usize]);
        let rows = rows::of_cohort(&scan.store, example().id, &scan.plan, number, ScanStatus::Running).expect("rows");
        for (row, each) in rows.iter().zip(hosts) {
            let mut counts = Counts::default();
            row.counts().for_each(|(outcome, count)| counts.add(outcome.state(), count));
            assert_eq!(counts, each, "{}", row.address);
        }
    }
}

#[test]
fn silence_takes_next_to_nothing_and_the_worst_is_bounded() {
    // The first cohort of the largest kind, as if nobody answered, and as if every state came up at random.
    let networks = ["10.0.0.0/14"];
    let scan = Scan::new(&networks, Slots::new(true, (1..=60).collect()), &[], 1);
    let cohort = scan.plan.cohort(0).expect("a cohort");
    assert_eq!(cohort.hosts(), 4_096);
    let counted = |outcome: &dyn Fn(u32) -> Outcome| {
        let mut counting = Counting::new(&cohort, Shape::of(cohort.hosts(), cohort.slots()), None);
        let chunks: Vec<_> = (0..cohort.len())
            .step_by(32_768)
            .map(|lo| {
                let hi = cohort.len().min(lo + 32_768);
                let outcomes: Vec<_> = (lo..hi).map(outcome).collect();
                crate::store::ChunkRecord {
                    epoch: protocol::id::Epoch::new(u64::from(lo) + 1),
                    shard: Shard { cohort: 0, pass: 1, lo, hi },
                    covers: Vec::new(),
                    agent: 0,
                    chunk: chunk::encode(&outcomes),
                    findings: Vec::new(),
                }
            })
            .collect();
        counting.take(&chunks).expect("chunks");
        assert_eq!(counting.window(), None, "it is counted in one window");
        let tally = counting.finish();
        assert_eq!(Totals::read(tally.part(Part::Totals)).expect("totals").targets.sum(), u64::from(cohort.len()));
        Part::ALL.map(|part| tally.part(part).len())
    };
    let silent = counted(&|index| if index < 4_096 { Outcome::DOWN } else { Outcome::FILTERED });
    assert!(silent.iter().sum::<usize>() < 100, "{silent:?}");
    let scattered = counted(&|index| {
        let pair = [[Outcome::UP, Outcome::DOWN], [Outcome::OPEN, Outcome::CLOSED]][usize::from(index >= 4_096)];
        pair[(index.wrapping_mul(2_654_435_761) >> 31) as usize]
    });
    for (bytes, part) in scattered.iter().zip(Part::ALL) {
        assert!(*bytes <= part.bytes_max(), "{part:?}: {bytes}");
    }
}

#[test]
fn bytes_that_are_no_tally_are_refused() {
    let scan = Scan::new(&["192.0.2.0/24"], Slots::new(true, (1..=80).collect()), &[], 1);
    let cohort = scan.plan.cohort(0).expect("a cohort");
    let shape = Shape::of(cohort.hosts(), cohort.slots());
    let tally = of(&scan.store, example().id, &cohort).expect("a tally");
    let read = |part: Part, bytes: &[u8]| match part {
        Part::Totals => Totals::read(bytes).is_ok(),
        Part::Columns => columns_of(bytes, &shape, &mut |_, _| ()).is_ok(),
        Part::Hosts => hosts_of(bytes, cohort.hosts()).is_ok(),
        Part::Grid => grid_of(bytes, &shape, &mut |_, _, _| ()).is_ok(),
    };
    for part in Part::ALL {
        let whole = tally.part(part);
        assert!(read(part, whole));
        assert!((0..whole.len()).all(|cut| !read(part, &whole[..cut])), "{part:?}");
        assert!(!read(part, &[whole, &[1, 0]].concat()), "{part:?}");
        assert!(!read(part, &[0xff; 40]), "{part:?}");
    }
}
