//! Scans in stages: ports follow `ping`, through every pass, restart and resumption.

use super::*;
use crate::host::{Host, Place};
use crate::resume::Resumed;
use crate::rows;
use protocol::probe::{Cause, Slot};

const PORTS: u64 = 3;

/// Two cohorts of one host each.
fn world() -> World {
    World::of(&["192.0.2.1", "192.0.2.2"], Slots::new(true, (1..=PORTS as u16).collect()).in_stages())
}

/// What a grant covers.
fn targets(grant: &Grant) -> Vec<Target> {
    let indices = protocol::covers::indices(&grant.covers, grant.lo, grant.hi);
    indices.filter_map(|index| grant.cohort.target(index)).collect()
}

fn is_ping(grant: &Grant) -> bool {
    targets(grant).iter().all(|target| target.slot == Slot::Ping)
}

impl World {
    fn reports(&mut self, grant: &Grant, outcome: Outcome) {
        let findings = protocol::covers::indices(&grant.covers, grant.lo, grant.hi)
            .filter(|_| outcome.is_finding())
            .map(|index| Finding { index, rtt_us: 9 })
            .collect();
        self.says(1, AgentMessage::Report(Report { findings, ..report(grant, outcome) }));
    }

    /// Lets every cohort rest, and tells what was granted.
    fn rests(&mut self) -> Vec<Grant> {
        let before = self.sent.len();
        self.passes(Settings::default().rest);
        self.grants_since(before)
    }

    fn rows(&self) -> Vec<Host> {
        let plan = Plan::try_from(self.store.scans().unwrap()[0].plan.clone()).unwrap();
        (0..plan.cohorts())
            .flat_map(|number| rows::of_cohort(&self.store, SCAN, &plan, number, ScanStatus::Running).unwrap())
            .collect()
    }

    fn status(&self) -> Option<ScanStatus> {
        match self.events.last() {
            Some(Event::Finished { status, .. }) => Some(*status),
            _ => None,
        }
    }

    /// The coordinator's process ends, and another goes on with what is stored.
    fn restarts(&mut self) {
        let resumed = Resumed::load(&self.store, SCAN).unwrap();
        self.machine = Coordinator::resume(Settings::default(), self.now, &[resumed], true);
        self.drain();
        self.connects(1, 1, vec![]);
    }

    /// What is told of the progress, by restart and by rows.
    fn adds_up(&self) {
        let progress = Resumed::load(&self.store, SCAN).unwrap().progress;
        let rows = self.rows();
        assert_eq!(progress.targets, rows.iter().map(Host::targets).sum::<u64>());
        let not_probed = rows.iter().map(Host::not_probed).sum::<u64>();
        assert_eq!(progress.probed(), progress.targets - not_probed);
        self.store.audit(SCAN).unwrap();
    }
}

#[test]
fn ports_are_asked_of_hosts_that_are_up_and_of_no_others() {
    let mut world = world();
    world.connects(1, 1, vec![]);
    let pings = world.claims(1, 1, 100);
    assert!(pings.len() == 2 && pings.iter().all(is_ping), "{pings:?}");
    let up = targets(&pings[0])[0].address;
    world.reports(&pings[0], Outcome::UP);
    world.reports(&pings[1], Outcome::DOWN);
    world.adds_up();
    let ports = world.rests();
    let asked: Vec<_> = ports.iter().flat_map(targets).collect();
    assert!(asked.len() as u64 == PORTS && asked.iter().all(|target| target.address == up), "{asked:?}");
    assert!(ports.iter().all(Grant::is_sound));
    ports.iter().for_each(|grant| world.reports(grant, Outcome::CLOSED));
    assert_eq!(world.status(), Some(ScanStatus::Done));
    let last = world.events.iter().rev().find_map(|event| match event {
        Event::Committed { progress, .. } => Some(progress.clone()),
        _ => None,
    });
    let last = last.unwrap();
    assert_eq!((last.targets, last.settled(), last.undiscovered), (2 + PORTS, 2 + PORTS, 0));
    let down = world.rows().into_iter().find(|host| host.address != up).unwrap();
    assert_eq!((down.place(), down.targets()), (Place::Silent(Some(Outcome::DOWN)), 1));
    world.adds_up();
}

#[test]
fn while_no_host_is_known_there_are_targets_at_most() {
    let mut world = world();
    let progress = Resumed::load(&world.store, SCAN).unwrap().progress;
    assert_eq!((progress.targets, progress.undiscovered), (2 + 2 * PORTS, 2 * PORTS));
    world.connects(1, 1, vec![]);
    let pings = world.claims(1, 1, 100);
    world.reports(&pings[0], Outcome::DOWN);
    let progress = Resumed::load(&world.store, SCAN).unwrap().progress;
    assert_eq!((progress.targets, progress.undiscovered, progress.settled()), (2 + PORTS, PORTS, 1));
    assert!(progress.has_gap());
}

#[test]
fn a_host_that_was_not_probed_has_its_ports_after_resume() {
    let mut world = world();
    world.connects(1, 1, vec![]);
    let pings = world.claims(1, 1, 100);
    world.reports(&pings[0], Outcome::DOWN);
    world.reports(&pings[1], Outcome::not_probed(Cause::NoRoute));
    for _ in 0..4 {
        let again = world.rests();
        assert!(again.iter().all(is_ping), "{again:?}");
    }
    assert_eq!(world.status(), Some(ScanStatus::Partial));
    let lost = targets(&pings[1])[0].address;
    let row = world.rows().into_iter().find(|host| host.address == lost).unwrap();
    assert_eq!(row.place(), Place::NotProbed(Outcome::not_probed(Cause::NoDiscovery)));
    assert_eq!((row.targets(), row.not_probed()), (1 + PORTS, 1 + PORTS));
    world.adds_up();

    world.restarts();
    let again = world.claims(1, 1, 100);
    assert!(again.len() == 1 && is_ping(&again[0]) && targets(&again[0])[0].address == lost, "{again:?}");
    let before = world.sent.len();
    world.reports(&again[0], Outcome::UP);
    let mut ports = world.grants_since(before);
    ports.extend(world.rests());
    let asked: Vec<_> = ports.iter().flat_map(targets).collect();
    assert!(asked.len() as u64 == PORTS && asked.iter().all(|target| target.address == lost), "{asked:?}");
    ports.iter().for_each(|grant| world.reports(grant, Outcome::CLOSED));
    for _ in 0..4 {
        assert_eq!(world.rests(), []);
    }
    assert_eq!(world.status(), Some(ScanStatus::Done));
    world.adds_up();
}

#[test]
fn a_restart_between_the_stages_goes_on_with_the_ports() {
    let mut world = world();
    world.connects(1, 1, vec![]);
    let pings = world.claims(1, 1, 100);
    pings.iter().for_each(|grant| world.reports(grant, Outcome::UP));
    world.restarts();
    let mut ports = world.claims(1, 1, 100);
    ports.extend(world.rests());
    assert_eq!(ports.iter().map(|grant| u64::from(grant.covered())).sum::<u64>(), 2 * PORTS);
    world.reports(&ports[0], Outcome::CLOSED);
    world.restarts();
    let mut left = world.claims(1, 1, 100);
    left.extend(world.rests());
    assert!(left.iter().all(|grant| !is_ping(grant)), "{left:?}");
    left.iter().for_each(|grant| world.reports(grant, Outcome::CLOSED));
    for _ in 0..4 {
        world.rests();
    }
    assert_eq!(world.status(), Some(ScanStatus::Done));
    world.adds_up();
}

#[test]
fn a_broadcast_address_leaves_no_gap() {
    let mut world = world();
    world.connects(1, 1, vec![]);
    let pings = world.claims(1, 1, 100);
    pings.iter().for_each(|grant| world.reports(grant, Outcome::not_probed(Cause::Broadcast)));
    assert_eq!(world.status(), Some(ScanStatus::Done));
    assert!(world.rows().iter().all(|host| host.not_probed() == 1 + PORTS));
    world.adds_up();
}
