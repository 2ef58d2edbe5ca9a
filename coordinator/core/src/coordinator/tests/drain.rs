//! Drained agents: they get nothing, give back what they have, and nothing is lost by it.

use super::fleet::{record_of, set};
use super::*;
use crate::control::Change;
use protocol::message::Run;
use protocol::probe::Cause;
use protocol::rate::Rate;

const FIRST: ScanId = ScanId::from_bytes([1; 16]);

impl World {
    /// These are drained, and no others.
    fn drains(&mut self, names: &[&str]) {
        self.input(Input::Drained(names.iter().map(|name| (*name).to_owned()).collect()));
    }

    fn joins_as(&mut self, session: u64, name: &str, holds: Vec<Epoch>) {
        let agent = AgentName::try_from(name.to_owned()).unwrap();
        self.input(Input::Opened(SessionId(session)));
        self.says(session, AgentMessage::Hello(Hello { agent, ..hello(session, holds, SPOKEN) }));
    }

    fn asked_of(&self, session: u64, before: usize) -> Vec<Epoch> {
        let asked = |(to, message): &(SessionId, CoordinatorMessage)| match message {
            CoordinatorMessage::GiveBack { epoch } if to.0 == session => Some(*epoch),
            _ => None,
        };
        self.sent[before..].iter().filter_map(asked).collect()
    }

    /// What was told last of an agent that is drained: whether it has something in hand.
    fn in_hand(&self, name: &str) -> Option<bool> {
        self.events.iter().rev().find_map(|event| match event {
            Event::Drains { agent, in_hand } if agent == name => Some(*in_hand),
            _ => None,
        })
    }
}

#[test]
fn a_drained_agent_gives_back_what_it_has_and_another_probes_the_rest() {
    let mut world = World::empty();
    world.input(Input::Submit(record_of(1, &set(1..=20))));
    world.joins_as(1, "a", vec![]);
    world.joins_as(2, "b", vec![]);
    let held = world.claims(1, 1, 40);
    let before = world.sent.len();
    world.drains(&["a"]);
    assert_eq!(world.asked_of(1, before), held.iter().map(|grant| grant.epoch).collect::<Vec<_>>());
    assert_eq!(world.in_hand("a"), Some(true));
    let before = world.sent.len();
    world.drains(&["a"]);
    assert_eq!(world.asked_of(1, before), [], "it was asked");
    assert_eq!(world.claims(1, 2, 40), [], "it gets nothing more");
    // It found out a part of each.
    let mut probed = 0;
    for grant in &held {
        let mut outcomes = vec![Outcome::CLOSED; grant.covered() as usize];
        let left = outcomes.len() / 2;
        outcomes[left..].fill(Outcome::not_probed(Cause::Interrupted));
        probed += left;
        let report = Report { chunk: chunk::encode(&outcomes), ..report(grant, Outcome::CLOSED) };
        world.says(1, AgentMessage::Report(report));
        assert_eq!(world.reply_to(grant.epoch), Some(CommitReply::Applied));
    }
    assert_eq!(world.in_hand("a"), Some(false));
    for round in 1..=60 {
        for grant in world.claims(2, round, 40) {
            probed += grant.covered() as usize;
            world.says(2, AgentMessage::Report(report(&grant, Outcome::CLOSED)));
        }
        world.passes(Duration::from_millis(500));
        world.says(1, AgentMessage::Renew { number: 10 + round, used: Vec::new(), rtt_us: None });
    }
    assert!(matches!(world.events.last(), Some(Event::Finished { status: ScanStatus::Done, .. })));
    assert_eq!(probed, 200, "each target once");
    assert!(!world.closed.contains(&SessionId(1)), "it stays connected");
    world.store.audit(FIRST).unwrap();

    world.input(Input::Submit(record_of(2, &set(1..=20))));
    assert_eq!(world.claims(1, 100, 40), []);
    let before = world.sent.len();
    world.drains(&[]);
    assert!(!world.grants_since(before).is_empty(), "it is at work again, with what it had claimed");
}

#[test]
fn its_share_goes_to_the_others_once_it_uses_it_no_more() {
    let mut world = World::empty();
    let rate = Some(Rate::per_second(100));
    world.input(Input::Submit(ScanRecord { rate, ..record_of(1, &set(1..=20)) }));
    world.joins_as(1, "a", vec![]);
    world.joins_as(2, "b", vec![]);
    let control = |world: &World, session: u64| {
        let of = |(to, message): &(SessionId, CoordinatorMessage)| match message {
            CoordinatorMessage::Control(control) if to.0 == session => Some(control.clone()),
            CoordinatorMessage::Welcome(welcome) if to.0 == session => welcome.controls.first().cloned(),
            _ => None,
        };
        world.sent.iter().rev().find_map(of).unwrap()
    };
    let acknowledges = |world: &mut World, session: u64| {
        let told = control(world, session);
        world.says(session, AgentMessage::Acknowledge { scan: told.scan, version: told.version });
    };
    for session in [1, 2, 1, 2] {
        acknowledges(&mut world, session);
    }
    let share = |world: &World, session| control(world, session).share.map(Rate::as_per_second);
    assert_eq!((share(&world, 1), share(&world, 2)), (Some(50.0), Some(50.0)));
    world.drains(&["a"]);
    assert_eq!((share(&world, 1), share(&world, 2)), (Some(0.0), Some(50.0)), "first the lowering");
    acknowledges(&mut world, 1);
    assert_eq!((share(&world, 1), share(&world, 2)), (Some(0.0), Some(100.0)));
    assert_eq!(control(&world, 1).run, Run::Go);
    world.drains(&[]);
    acknowledges(&mut world, 2);
    assert_eq!((share(&world, 1), share(&world, 2)), (Some(50.0), Some(50.0)));
}

#[test]
fn what_only_a_drained_agent_may_probe_is_waited_for_no_longer_than_for_any() {
    let mut world = World::empty();
    world.input(Input::Submit(ScanRecord { agent_wait_s: Some(5), ..record_of(1, &set(1..=20)) }));
    world.joins_as(1, "a", vec![]);
    world.drains(&["a"]);
    for number in 1..=20 {
        assert_eq!(world.claims(1, number, 40), []);
        world.passes(Duration::from_millis(500));
    }
    assert!(matches!(world.events.last(), Some(Event::Finished { status: ScanStatus::Partial, .. })));
}

#[test]
fn what_was_about_to_be_granted_when_an_agent_was_drained_is_granted_when_it_is_not_any_more() {
    let mut world = World::empty();
    world.input(Input::Submit(record_of(1, &set(1..=20))));
    world.joins_as(1, "a", vec![]);
    // The store has not made the leases when it is drained.
    let claim = AgentMessage::Claim(Claim { number: 1, targets: 40, targets_each: 4, used: Vec::new() });
    world.machine.handle_input(world.now, Input::Message(SessionId(1), Box::new(claim)));
    world.machine.handle_input(world.now, Input::Drained(["a".to_owned()].into()));
    let before = world.sent.len();
    world.drain();
    assert_eq!(world.grants_since(before), []);
    world.drains(&[]);
    assert_eq!(world.grants_since(before).iter().map(Grant::covered).sum::<u32>(), 40, "it claims nothing again");
}

#[test]
fn an_agent_that_comes_back_drained_is_asked_for_what_it_holds() {
    let mut world = World::empty();
    world.input(Input::Submit(record_of(1, &set(1..=20))));
    world.joins_as(1, "a", vec![]);
    let held: Vec<_> = world.claims(1, 1, 8).iter().map(|grant| grant.epoch).collect();
    world.input(Input::Closed(SessionId(1)));
    world.drains(&["a"]);
    let before = world.sent.len();
    world.input(Input::Opened(SessionId(2)));
    let hello = Hello { instance: InstanceId::new(1), ..hello(1, held.clone(), SPOKEN) };
    world.says(2, AgentMessage::Hello(hello));
    assert_eq!(world.asked_of(2, before), held);
    assert_eq!(world.in_hand("a"), Some(true));
    world.input(Input::Change { ask: 1, scan: FIRST, change: Change::Cancel });
    world.drains(&[]);
    assert_eq!(world.in_hand("a"), Some(true), "nothing is told of one that is not drained");
}
