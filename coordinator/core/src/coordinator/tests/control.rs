//! What holds for a scan while it runs: durable, told, acknowledged, and shares that never sum to more than the budget.

use super::*;
use crate::control::{Change, ChangeError, Intent};
use crate::resume::Resumed;
use protocol::message::{Control, HeldShare, Run};
use protocol::rate::Rate;

const OTHER: ScanId = ScanId::from_bytes([4; 16]);

fn with_rate(rate: Rate) -> World {
    let addresses: AddressSet = (1..=64).map(|host| std::net::IpAddr::from([192, 0, 2, host])).collect();
    let slots = Slots::new(false, (1..=10).collect());
    let plan = Plan::new(RankedRanges::try_from(&addresses).unwrap(), slots, 1).unwrap();
    let mut world = World::empty();
    world.input(Input::Submit(ScanRecord { rate: Some(rate), ..World::record(&plan) }));
    world
}

impl World {
    /// The last control state that a session was told.
    fn told(&self, session: u64) -> Control {
        let of = |(to, message): &(SessionId, CoordinatorMessage)| match message {
            CoordinatorMessage::Control(control) if *to == SessionId(session) => Some(control.clone()),
            CoordinatorMessage::Welcome(welcome) if *to == SessionId(session) => welcome.controls.first().cloned(),
            _ => None,
        };
        self.sent.iter().rev().find_map(of).expect("it was told something")
    }

    fn share(&self, session: u64) -> u64 {
        self.told(session).share.map_or(u64::MAX, |share| share.micros() / 1_000_000)
    }

    fn acknowledges(&mut self, session: u64) {
        let control = self.told(session);
        self.says(session, AgentMessage::Acknowledge { scan: control.scan, version: control.version });
    }

    fn changes(&mut self, change: Change) -> Result<u64, ChangeError> {
        self.input(Input::Change { ask: 7, scan: SCAN, change });
        let changed = self.events.iter().rev().find_map(|event| match event {
            Event::Changed { ask: 7, scan: SCAN, outcome } => Some(*outcome),
            _ => None,
        });
        changed.expect("an answer")
    }

    /// For whom the newest state waits.
    fn waits_for(&self) -> Option<Vec<String>> {
        self.events.iter().rev().find_map(|event| match event {
            Event::Control { waits_for, .. } => Some(waits_for.clone()),
            _ => None,
        })
    }

    fn crashes(&mut self) {
        let resumed = Resumed::load(&self.store, SCAN).unwrap();
        self.machine = Coordinator::resume(Settings::default(), self.now, &[resumed], false);
        self.drain();
    }
}

#[test]
fn a_share_is_raised_only_once_another_was_lowered() {
    let mut world = with_rate(Rate::per_second(10));
    world.connects(1, 1, vec![]);
    assert_eq!(world.share(1), 10);
    world.acknowledges(1);
    world.connects(2, 2, vec![]);
    assert_eq!((world.share(1), world.share(2)), (5, 0));
    assert_eq!(world.claims(2, 1, 100), [], "without a share there is nothing to work on");
    let before = world.sent.len();
    world.acknowledges(1);
    assert_eq!((world.share(1), world.share(2)), (5, 5));
    assert!(!world.grants_since(before).is_empty(), "what was wanted is remembered");
}

#[test]
fn the_share_of_one_that_is_gone_is_free_when_its_right_ends() {
    let mut world = with_rate(Rate::per_second(10));
    let settings = Settings::default();
    world.connects(1, 1, vec![]);
    world.acknowledges(1);
    world.claims(1, 1, 100);
    world.input(Input::Closed(SessionId(1)));
    world.connects(2, 2, vec![]);
    assert_eq!(world.share(2), 0);
    for number in 1..=4 {
        world.passes((settings.ttl + settings.margin) / 4);
        world.says(2, AgentMessage::Renew { number, used: Vec::new(), rtt_us: None });
    }
    assert_eq!(world.share(2), 10);
}

#[test]
fn fewer_than_one_a_second_each_let_some_wait_and_less_than_one_goes_whole_to_one() {
    for (rate, shares) in [(Rate::per_second(2), [1, 1, 0]), (Rate::from_micros(300_000), [0, 0, 0])] {
        let mut world = with_rate(rate);
        for agent in 1..=3 {
            world.connects(agent, agent, vec![]);
        }
        for _ in 0..3 {
            (1..=3).for_each(|agent| world.acknowledges(agent));
        }
        assert_eq!([1, 2, 3].map(|agent| world.share(agent)), shares);
        let all: u64 = (1..=3).filter_map(|agent| world.told(agent).share).map(Rate::micros).sum();
        assert_eq!(all, rate.micros());
    }
}

#[test]
fn a_restarted_coordinator_raises_no_share_before_each_holder_said_hello() {
    let mut world = with_rate(Rate::per_second(10));
    let settings = Settings::default();
    world.connects(1, 1, vec![]);
    world.acknowledges(1);
    let held: Vec<_> = world.claims(1, 1, 100).iter().map(|grant| grant.epoch).collect();
    world.crashes();
    world.connects(2, 2, vec![]);
    assert_eq!(world.share(2), 0, "nobody knows what the holder of the leases uses");
    world.input(Input::Opened(SessionId(3)));
    let shares = vec![HeldShare { scan: SCAN, share: Some(Rate::per_second(8)) }];
    world.says(3, AgentMessage::Hello(Hello { shares, ..hello(1, held, SPOKEN) }));
    assert_eq!((world.share(3), world.share(2)), (5, 2));
    world.acknowledges(3);
    assert_eq!((world.share(3), world.share(2)), (5, 5));

    world.crashes();
    world.connects(4, 2, vec![]);
    world.passes(settings.ttl + settings.margin);
    world.connects(5, 2, vec![]);
    assert_eq!(world.share(5), 10, "the holder's right has ended");
}

#[test]
fn a_change_is_in_force_once_all_who_may_probe_acknowledged_it() {
    let mut world = with_rate(Rate::per_second(10));
    let settings = Settings::default();
    world.connects(1, 1, vec![]);
    world.acknowledges(1);
    world.claims(1, 1, 100);
    let excluded = AddressSet::from(std::net::IpAddr::from([192, 0, 2, 1]));
    assert_eq!(world.changes(Change::Exclude(excluded.clone())), Ok(2));
    assert_eq!(world.told(1).exclude, excluded);
    assert_eq!(world.waits_for(), Some(vec!["a".to_owned()]));
    world.acknowledges(1);
    assert_eq!(world.waits_for(), Some(vec![]));
    assert_eq!(world.changes(Change::Pause), Ok(3));
    assert_eq!((world.told(1).run, &world.told(1).exclude), (Run::Pause, &excluded), "one state, sent whole");
    world.input(Input::Closed(SessionId(1)));
    world.connects(2, 2, vec![]);
    assert_eq!((world.told(2).run, world.told(2).exclude.clone()), (Run::Pause, excluded.clone()));
    assert_eq!(
        world.waits_for(),
        Some(vec!["a".to_owned()]),
        "it does not wait for one that knew it from the beginning"
    );
    world.passes(settings.ttl + settings.margin);
    assert_eq!(world.waits_for(), Some(vec![]), "its right has ended");
    world.crashes();
    world.connects(3, 3, vec![]);
    assert_eq!((world.told(3).run, world.told(3).exclude.clone()), (Run::Pause, excluded), "it survives a restart");
    assert_eq!(world.claims(3, 1, 100), [], "a paused scan leases nothing");
    assert_eq!(world.changes(Change::Resume), Ok(4));
    assert_eq!(world.told(3).run, Run::Go);
    assert!(world.sent.iter().any(|(to, said)| *to == SessionId(3) && matches!(said, CoordinatorMessage::Grant(_))));
}

#[test]
fn a_rate_can_be_changed_and_is_in_force_when_every_share_fits() {
    let mut world = with_rate(Rate::per_second(10));
    world.connects(1, 1, vec![]);
    world.acknowledges(1);
    world.connects(2, 2, vec![]);
    world.acknowledges(1);
    world.acknowledges(2);
    assert_eq!(world.changes(Change::Rate(Some(Rate::per_second(4)))), Ok(2));
    assert_eq!((world.share(1), world.share(2)), (2, 2));
    world.acknowledges(1);
    world.acknowledges(2);
    assert_eq!(world.changes(Change::Rate(None)), Ok(3));
    assert_eq!((world.told(1).share, world.told(2).share), (None, None));
    assert_eq!(world.changes(Change::Rate(Some(Rate::per_second(6)))), Ok(4));
    assert_eq!((world.share(1), world.share(2)), (3, 3), "a lowering waits for nobody");
}

#[test]
fn a_cancelled_scan_ends_and_stays_so_through_a_restart() {
    let mut world = with_rate(Rate::per_second(10));
    let settings = Settings::default();
    world.connects(1, 1, vec![]);
    world.acknowledges(1);
    let granted = world.claims(1, 1, 4).len();
    assert_eq!(world.changes(Change::Cancel), Ok(2));
    assert_eq!(world.told(1).run, Run::Stop);
    assert_eq!(world.changes(Change::Resume), Err(ChangeError::Stopping));
    world.crashes();
    world.passes(settings.stop_within);
    assert!(matches!(world.events.last(), Some(Event::Finished { status: ScanStatus::Cancelled, .. })));
    assert_eq!(world.store.leases(SCAN).unwrap().len(), granted, "cancel takes no lease away");
    assert_eq!(world.store.control(SCAN).unwrap().intent, Intent::Cancel);
    assert_eq!(world.changes(Change::Pause), Err(ChangeError::NotRunning));
    world.input(Input::Change { ask: 8, scan: OTHER, change: Change::Pause });
    assert!(matches!(world.events.last(), Some(Event::Changed { ask: 8, outcome: Err(ChangeError::NotRunning), .. })));
    world.crashes();
    assert_eq!(world.store.control(SCAN).unwrap().intent, Intent::Go, "who goes on with it wants it to go on");
}

#[test]
fn who_left_while_the_store_made_leases_for_it_keeps_no_share() {
    let mut world = with_rate(Rate::per_second(10));
    world.connects(1, 1, vec![]);
    world.acknowledges(1);
    let claim = AgentMessage::Claim(Claim { number: 1, targets: 40, targets_each: 4, used: Vec::new() });
    world.machine.handle_input(world.now, Input::Message(SessionId(1), Box::new(claim)));
    world.machine.handle_input(world.now, Input::Message(SessionId(1), Box::new(AgentMessage::Leaving)));
    // It dials once more, and dies.
    world.machine.handle_input(world.now, Input::Opened(SessionId(2)));
    let held = HeldShare { scan: SCAN, share: Some(Rate::per_second(10)) };
    let hello = AgentMessage::Hello(Hello { shares: vec![held], ..hello(1, vec![], SPOKEN) });
    world.machine.handle_input(world.now, Input::Message(SessionId(2), Box::new(hello)));
    world.machine.handle_input(world.now, Input::Closed(SessionId(2)));
    world.drain();
    world.connects(3, 3, vec![]);
    assert_eq!(world.share(3), 10, "nobody else uses any");
}
