//! What rights that ended say of shards and of agents.

use super::*;
use fleet::{record_of, scan, set};
use protocol::probe::{Cause, Slot};

const SECOND: Duration = Duration::from_secs(1);

fn right() -> Duration {
    Settings::default().ttl + Settings::default().margin
}

impl World {
    /// An agent comes as a new process, and asks for so many targets in pieces of so many.
    fn comes(&mut self, name: &str, instance: u64, targets: u32, each: u32) -> Vec<Grant> {
        let before = self.sent.len();
        self.input(Input::Opened(SessionId(instance)));
        let hello = hello(instance, vec![], SPOKEN);
        self.says(
            instance,
            AgentMessage::Hello(Hello { agent: AgentName::try_from(name.to_owned()).unwrap(), ..hello }),
        );
        let claim = Claim { number: 1, targets, targets_each: each, used: Vec::new() };
        self.says(instance, AgentMessage::Claim(claim));
        self.grants_since(before)
    }

    /// It dies, and is waited for.
    fn dies(&mut self, instance: u64) {
        self.input(Input::Closed(SessionId(instance)));
        self.passes(right());
    }

    fn outcome_of(&self, grant: &Grant, lethal: Target) -> Option<Outcome> {
        let kills = (grant.lo..grant.hi).any(|at| grant.covers(at) && grant.cohort.target(at) == Some(lethal));
        (!kills).then_some(Outcome::CLOSED)
    }
}

fn one_cohort() -> ScanRecord {
    let slots = Slots::new(false, (1..=200).collect());
    let plan = Plan::new(RankedRanges::try_from(&set(1..=1)).unwrap(), slots, 1).unwrap();
    ScanRecord { id: scan(1), ..World::record(&plan) }
}

#[test]
fn a_shard_whose_holder_died_is_cut_in_sixteen_when_it_is_leased_again() {
    let mut world = World::empty();
    world.input(Input::Submit(one_cohort()));
    assert_eq!(world.comes("a", 1, 200, 200).len(), 1);
    world.dies(1);
    let held = world.store.leases(scan(1)).unwrap();
    assert_eq!((held.len(), held[0].ends), (1, 1), "its late report would still count");
    let again = world.comes("b", 2, 130, 160);
    assert_eq!(again.iter().map(Grant::covered).collect::<Vec<_>>(), [13; 10], "as many of them as are wanted");
    assert_eq!(world.store.leases(scan(1)).unwrap().len(), 16);
    assert!(world.store.leases(scan(1)).unwrap().iter().all(|lease| lease.ends == 1), "and the parts carry the count");
    world.settles(2, &again);
    assert_eq!(world.claims(2, 2, 200).iter().map(Grant::covered).sum::<u32>(), 70);
    world.store.audit(scan(1)).unwrap();
}

#[test]
fn from_the_second_end_on_an_agent_has_one_suspect_at_a_time() {
    let mut world = World::empty();
    let slots = Slots::new(false, (1..=1_000).collect());
    let plan = Plan::new(RankedRanges::try_from(&set(1..=1)).unwrap(), slots, 1).unwrap();
    world.input(Input::Submit(ScanRecord { id: scan(2), ..World::record(&plan) }));
    world.comes("a", 1, 1_200, 500);
    world.dies(1);
    let again = world.comes("b", 2, 1_200, 1_200);
    assert_eq!(again.len(), 32, "after the first end all of them are leased at once");
    world.dies(2);
    let third = world.comes("c", 3, 1_200, 1_200);
    assert_eq!(third.iter().map(|grant| (grant.scan, grant.covered())).collect::<Vec<_>>(), [(scan(2), 2)]);
    world.settles(3, &third);
    assert_eq!(world.claims(3, 2, 1_200).len(), 1, "one after the other");
    world.store.audit(scan(2)).unwrap();
}

/// One target kills every agent that probes it; the others are probed, all of them, and it is settled in the end.
#[test]
fn a_target_that_kills_three_agents_alone_is_settled_as_agent_failed_and_the_rest_is_probed() {
    let lethal = Target { address: "192.0.2.1".parse().unwrap(), slot: Slot::Tcp(77) };
    let mut world = World::empty();
    world.input(Input::Submit(one_cohort()));
    let (mut deaths, mut alone) = (0, 0);
    for instance in 1..200 {
        // Each has a name of its own, so that none of them rests.
        let mut seen = world.sent.len();
        world.comes(&format!("agent-{instance}"), instance, 200, 200);
        let (mut number, mut grants) = (1, Vec::new());
        let died = loop {
            grants.extend(world.grants_since(std::mem::replace(&mut seen, world.sent.len())));
            let Some(grant) = grants.pop() else {
                number += 1;
                world.passes(SECOND);
                world.claims(instance, number, 200);
                if world.grants_since(seen).is_empty() {
                    break false;
                }
                continue;
            };
            match world.outcome_of(&grant, lethal) {
                Some(outcome) => world.says(instance, AgentMessage::Report(report(&grant, outcome))),
                None => {
                    alone += u32::from(grant.covered() == 1 && grants.is_empty());
                    break true;
                }
            }
        };
        if !died {
            break;
        }
        deaths += 1;
        world.dies(instance);
    }
    assert!(matches!(world.events.last(), Some(Event::Finished { status: ScanStatus::Partial, .. })), "{deaths}");
    assert!(alone >= 3 && deaths <= 8, "{alone} of {deaths} died of it alone");
    let plan = Plan::try_from(world.store.scans().unwrap()[0].plan.clone()).unwrap();
    let hosts = crate::rows::of_cohort(&world.store, scan(1), &plan, 0, ScanStatus::Partial).unwrap();
    let counts: Vec<_> = hosts[0].counts().collect();
    assert_eq!(counts, [(Outcome::not_probed(Cause::AgentFailed), 1), (Outcome::CLOSED, 199)]);
    world.store.audit(scan(1)).unwrap();
}

#[test]
fn an_agent_that_fails_three_times_in_a_row_gets_none_for_a_minute() {
    let mut world = World::empty();
    world.input(Input::Submit(record_of(1, &set(1..=200))));
    let rests = |world: &World| world.events.iter().filter(|event| matches!(event, Event::Rests { .. })).count();
    for instance in 1..=2 {
        assert!(!world.comes("frail", instance, 40, 4).is_empty());
        world.dies(instance);
    }
    // One report between is enough.
    let grants = world.comes("frail", 3, 40, 4);
    world.settles(3, &grants[..1]);
    world.dies(3);
    for instance in 4..=5 {
        assert!(!world.comes("frail", instance, 40, 4).is_empty());
        assert_eq!(rests(&world), 0);
        world.dies(instance);
    }
    assert_eq!(rests(&world), 1);
    let time = world.now;
    assert_eq!(world.comes("frail", 6, 40, 4), []);
    assert!(!world.comes("sound", 7, 40, 4).is_empty(), "another does");
    let (mut number, mut granted) = (1, None);
    while granted.is_none() && world.now < time + SECOND * 100 {
        let before = world.sent.len();
        world.lives(SECOND, &[6, 7], &mut number);
        let to_it = |(session, message): &(SessionId, CoordinatorMessage)| {
            *session == SessionId(6) && matches!(message, CoordinatorMessage::Grant(_))
        };
        granted = world.sent[before..].iter().any(to_it).then_some(world.now);
    }
    let rested = granted.expect("it gets work again").since(time);
    assert!((SECOND * 60..=SECOND * 61).contains(&rested), "{rested:?}");
}
