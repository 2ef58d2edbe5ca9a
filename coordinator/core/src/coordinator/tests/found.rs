//! What a commit shows: hosts that only refuse, and hosts that are open everywhere.

use super::*;
use crate::host::OPEN_PORTS_MAX;
use crate::passes::History;
use crate::resume::Resumed;

fn reported(grant: &Grant, outcome: impl Fn(u32) -> Outcome) -> AgentMessage {
    let outcomes: Vec<_> = (grant.lo..grant.hi).map(outcome).collect();
    let found = (grant.lo..grant.hi).zip(&outcomes).filter(|(_, outcome)| outcome.is_finding());
    let findings = found.map(|(index, _)| Finding { index, rtt_us: 7 }).collect();
    AgentMessage::Report(Report {
        epoch: grant.epoch,
        chunk: chunk::encode(&outcomes),
        findings,
        checks: Checks::default(),
        quiet_ms: 0,
    })
}

fn signs(event: &Event) -> Vec<Sign> {
    match event {
        Event::Committed { signs, .. } => signs.clone(),
        _ => vec![],
    }
}

#[test]
fn the_commit_that_first_shows_a_host_tells_of_it_once() {
    let mut world = World::new();
    world.connects(1, 1, vec![]);
    for grant in world.claims(1, 1, 100) {
        let silent = grant.lo == 0;
        world.says(1, reported(&grant, |_| if silent { Outcome::FILTERED } else { Outcome::CLOSED }));
    }
    let told: Vec<_> = world.events.iter().map(signs).collect();
    let first = vec![Sign { address: "192.0.2.1".parse().unwrap(), outcome: Outcome::CLOSED }];
    assert_eq!(told[..3], [vec![], first, vec![]]);
}

#[test]
fn a_host_that_is_first_seen_by_an_open_port_is_told_of_as_a_finding_only() {
    let mut world = World::new();
    world.connects(1, 1, vec![]);
    for grant in world.claims(1, 1, 100) {
        world.says(1, reported(&grant, |index| if index == 0 { Outcome::OPEN } else { Outcome::CLOSED }));
    }
    assert!(world.events.iter().all(|event| signs(event).is_empty()), "{:?}", world.events);
}

/// Ports of which only the state is stored: those that are open beyond the first 1,024 of a host, after a restart too.
#[test]
fn of_a_host_that_is_open_everywhere_so_many_findings_are_stored() {
    let ports = 1_500u32;
    let mut world = World::of(&["192.0.2.1"], Slots::new(false, (1..=1_500).collect()));
    world.connects(1, 1, vec![]);
    let claim = |number| AgentMessage::Claim(Claim { number, targets: 10_000, targets_each: 600, used: Vec::new() });
    world.says(1, claim(1));
    let mut grants = world.grants_since(0).into_iter();
    for grant in grants.by_ref().take(1) {
        world.says(1, reported(&grant, |_| Outcome::OPEN));
    }
    let resumed = Resumed::load(&world.store, SCAN).unwrap();
    world.machine = Coordinator::resume(Settings::default(), world.now, &[resumed], true);
    world.drain();
    world.connects(2, 2, vec![]);
    let before = world.sent.len();
    world.says(2, claim(1));
    for grant in world.grants_since(before) {
        world.says(2, reported(&grant, |_| Outcome::OPEN));
    }
    world.store.audit(SCAN).unwrap();
    let known = History::of(&world.store, SCAN, 0, 0..ports).unwrap();
    assert!(known.iter().all(|history| history.outcome == Outcome::OPEN));
    assert_eq!(known.iter().filter(|history| history.rtt_us.is_some()).count(), OPEN_PORTS_MAX);
}
