//! Several agents and scans: turns by weight, allow-lists, what is asked back, what is waited for.

use super::*;
use crate::passes::History;
use std::collections::BTreeMap;

pub(super) fn scan(number: u8) -> ScanId {
    ScanId::from_bytes([number; 16])
}

pub(super) fn set(addresses: std::ops::RangeInclusive<u8>) -> AddressSet {
    addresses.map(|host| std::net::IpAddr::from([192, 0, 2, host])).collect()
}

/// So many hosts, ten ports each.
pub(super) fn record_of(number: u8, addresses: &AddressSet) -> ScanRecord {
    let slots = Slots::new(false, (1..=10).collect());
    let plan = Plan::new(RankedRanges::try_from(addresses).unwrap(), slots, 1).unwrap();
    ScanRecord { id: scan(number), ..World::record(&plan) }
}

impl World {
    pub(super) fn joins(&mut self, session: u64, allow: AddressSet) {
        self.input(Input::Opened(SessionId(session)));
        self.says(session, AgentMessage::Hello(Hello { allow, ..hello(session, vec![], SPOKEN) }));
    }

    pub(super) fn settles(&mut self, session: u64, grants: &[Grant]) {
        for grant in grants {
            self.says(session, AgentMessage::Report(report(grant, Outcome::CLOSED)));
        }
    }

    fn asked_back(&self) -> Vec<(u64, Epoch)> {
        let asked = |(session, message): &(SessionId, CoordinatorMessage)| match message {
            CoordinatorMessage::GiveBack { epoch } => Some((session.0, *epoch)),
            _ => None,
        };
        self.sent.iter().filter_map(asked).collect()
    }

    /// Time passes while these agents renew.
    pub(super) fn lives(&mut self, time: Duration, sessions: &[u64], number: &mut u64) {
        for _ in 0..time.as_secs() * 2 {
            *number += 1;
            self.passes(Duration::from_millis(500));
            for &session in sessions {
                self.says(session, AgentMessage::Renew { number: *number, used: Vec::new(), rtt_us: None });
            }
        }
    }
}

#[test]
fn three_scans_of_weights_1_2_4_get_their_parts_of_the_probes() {
    let mut world = World::empty();
    for (number, weight) in [(1, 1), (2, 2), (3, 4)] {
        world.input(Input::Submit(ScanRecord { weight, ..record_of(number, &set(1..=200)) }));
    }
    world.connects(1, 1, vec![]);
    let mut granted: BTreeMap<ScanId, f64> = BTreeMap::new();
    for round in 1..=40 {
        let grants = world.claims(1, round, 60);
        for grant in &grants {
            *granted.entry(grant.scan).or_default() += f64::from(grant.covered());
        }
        world.settles(1, &grants);
    }
    let all: f64 = granted.values().sum();
    for (number, weight) in [(1, 1.0), (2, 2.0), (3, 4.0)] {
        let part = granted[&scan(number)] / all * 7.0 / weight;
        assert!((0.9..=1.1).contains(&part), "scan {number}: {part} of its part");
    }
}

#[test]
fn a_scan_that_had_nothing_to_give_does_not_catch_up() {
    let mut world = World::empty();
    world.input(Input::Submit(record_of(1, &set(1..=200))));
    world.connects(1, 1, vec![]);
    for round in 1..=10 {
        let grants = world.claims(1, round, 60);
        world.settles(1, &grants);
    }
    world.input(Input::Submit(record_of(2, &set(1..=200))));
    let grants = world.claims(1, 11, 80);
    let first = grants.iter().filter(|grant| grant.scan == scan(1)).map(Grant::covered).sum::<u32>();
    assert!((36..=44).contains(&first), "{first} of 80");
}

#[test]
fn each_agent_gets_what_it_may_probe_and_another_the_rest() {
    let mut world = World::empty();
    world.input(Input::Submit(record_of(1, &set(1..=130))));
    let (low, high) = (set(1..=65), set(66..=130));
    world.joins(1, low.clone());
    let mut number = 1;
    let allowed = |grants: &[Grant], allow: &AddressSet| {
        let covered = |grant: &Grant| (grant.lo..grant.hi).filter(|&at| grant.covers(at)).collect::<Vec<_>>();
        let inside = |grant: &Grant, at| allow.contains(grant.cohort.target(at).unwrap().address);
        assert!(grants.iter().all(|grant| covered(grant).into_iter().all(|at| inside(grant, at))));
        grants.iter().map(|grant| u64::from(grant.covered())).sum::<u64>()
    };
    let mut probed = 0;
    loop {
        let grants = world.claims(1, number, 200);
        number += 1;
        probed += allowed(&grants, &low);
        world.settles(1, &grants);
        if grants.is_empty() {
            break;
        }
    }
    assert_eq!(probed, 650, "all of its half");
    world.joins(2, high.clone());
    let mut theirs = 0;
    for round in 1..=60 {
        let before = world.sent.len();
        world.claims(2, round, 200);
        world.passes(Duration::from_millis(100));
        let grants = world.grants_since(before);
        theirs += allowed(&grants, &high);
        world.settles(2, &grants);
    }
    assert_eq!(theirs, 650, "and the other all of its own");
    assert!(matches!(world.events.last(), Some(Event::Finished { status: ScanStatus::Done, .. })));
    world.store.audit(scan(1)).unwrap();
}

#[test]
fn what_nobody_may_probe_is_out_of_scope_once_it_was_waited_for() {
    let mut world = World::empty();
    world.input(Input::Submit(record_of(1, &set(1..=130))));
    world.joins(1, set(1..=65));
    let mut number = 0;
    let mut at = |world: &mut World, times: u64| {
        for _ in 0..times {
            number += 1;
            let grants = world.claims(1, number, 1_000);
            world.settles(1, &grants);
            world.passes(Duration::from_millis(500));
        }
    };
    at(&mut world, 40);
    let not_probed = |world: &World| {
        let plan = Plan::try_from(world.store.scans().unwrap()[0].plan.clone()).unwrap();
        let cohorts = (0..plan.cohorts()).map(|number| (number, plan.cohort(number).unwrap().len()));
        let known = cohorts.flat_map(|(number, len)| History::of(&world.store, scan(1), number, 0..len).unwrap());
        known.filter(|known| known.outcome == Outcome::not_probed(protocol::probe::Cause::OutOfScope)).count()
    };
    assert!(not_probed(&world) < 100 && world.events.iter().all(|event| !matches!(event, Event::Finished { .. })));
    at(&mut world, 120);
    assert!(matches!(world.events.last(), Some(Event::Finished { status: ScanStatus::Partial, .. })));
    assert_eq!(not_probed(&world), 650);
}

#[test]
fn a_scan_of_which_nobody_may_probe_anything_ends_after_a_wait() {
    let mut world = World::empty();
    world.input(Input::Submit(record_of(1, &set(1..=10))));
    world.joins(1, set(100..=110));
    let mut number = 0;
    world.lives(Duration::from_secs(58), &[1], &mut number);
    assert!(world.events.is_empty());
    world.lives(Duration::from_secs(4), &[1], &mut number);
    assert!(matches!(world.events.last(), Some(Event::Finished { status: ScanStatus::Partial, .. })));
}

#[test]
fn what_is_furthest_behind_is_asked_back_once_somebody_is_idle() {
    let mut world = World::empty();
    world.input(Input::Submit(record_of(1, &set(1..=10))));
    world.connects(1, 1, vec![]);
    let held = world.claims(1, 1, 1_000);
    let mut number = 1;
    world.lives(Duration::from_secs(10), &[1], &mut number);
    assert_eq!(world.asked_back(), [], "nobody else wants it");
    world.connects(2, 2, vec![]);
    assert_eq!(world.claims(2, number + 1, 100), []);
    number += 1;
    assert_eq!(world.asked_back().len(), held.len());
    assert!(world.asked_back().iter().all(|(session, _)| *session == 1));
    let interrupted = Outcome::not_probed(protocol::probe::Cause::Interrupted);
    for grant in &held {
        world.says(1, AgentMessage::Report(report(grant, interrupted)));
    }
    let before = world.sent.len();
    world.lives(Duration::from_secs(1), &[1, 2], &mut number);
    let next = world.grants_since(before);
    assert!(next.iter().all(|grant| grant.pass == 2), "the rest is the next pass's: {next:?}");
    assert!(next.iter().all(|grant| grant.covered() <= 4), "in pieces as small as who takes them asks for: {next:?}");
    // The first gets none of it until it asks again: what it asked for before says how fast it was.
    let to_second = world.sent[before..].iter().all(|(session, message)| match message {
        CoordinatorMessage::Grant(_) => session.0 == 2,
        _ => true,
    });
    assert!(to_second && next.iter().map(Grant::covered).sum::<u32>() == 100, "{next:?}");
}

#[test]
fn an_agent_that_leaves_is_waited_for_by_nobody() {
    let mut world = World::empty();
    world.input(Input::Submit(ScanRecord {
        rate: Some(protocol::rate::Rate::per_second(10)),
        ..record_of(1, &set(1..=10))
    }));
    world.connects(1, 1, vec![]);
    let held = world.claims(1, 1, 40);
    world.settles(1, &held);
    world.connects(2, 2, vec![]);
    assert_eq!(world.claims(2, 1, 40), [], "the share is the other's");
    let before = world.sent.len();
    world.says(1, AgentMessage::Leaving);
    assert!(!world.grants_since(before).is_empty());
}
