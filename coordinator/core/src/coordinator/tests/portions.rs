//! The end of a scan is divided among those who work on it.

use super::*;

/// One host with so many ports.
fn world(ports: u16) -> World {
    let slots = Slots::new(false, (1..=ports).collect());
    let mut world = World::of(&["192.0.2.1"], slots);
    world.connects(1, 1, vec![]);
    world
}

impl World {
    /// Grants of a claim that asks for so many targets, in leases as large as may be.
    fn claims_all(&mut self, session: u64, number: u64, targets: u32) -> Vec<(u64, Grant)> {
        let before = self.sent.len();
        let claim = Claim { number, targets, targets_each: targets, used: Vec::new() };
        self.says(session, AgentMessage::Claim(claim));
        self.granted_since(before)
    }

    fn granted_since(&self, before: usize) -> Vec<(u64, Grant)> {
        let grant = |(session, message): &(SessionId, CoordinatorMessage)| match message {
            CoordinatorMessage::Grant(grant) => Some((session.0, grant.clone())),
            _ => None,
        };
        self.sent[before..].iter().filter_map(grant).collect()
    }
}

/// A budget of so many packets a second.
fn paced(ports: u16, rate: u32) -> World {
    let mut addresses = AddressSet::new();
    addresses.insert("192.0.2.1".parse().unwrap());
    let slots = Slots::new(false, (1..=ports).collect());
    let plan = Plan::new(RankedRanges::try_from(&addresses).unwrap(), slots, 1).unwrap();
    let mut world = World::empty();
    let rate = Some(protocol::rate::Rate::per_second(rate));
    world.input(Input::Submit(ScanRecord { rate, ..World::record(&plan) }));
    world
}

fn covered(grants: &[(u64, Grant)], session: u64) -> u32 {
    grants.iter().filter(|(to, _)| *to == session).map(|(_, grant)| grant.covered()).sum()
}

#[test]
fn who_works_alone_has_all_that_it_wants() {
    let mut world = world(1_000);
    let grants = world.claims_all(1, 1, 900);
    assert_eq!((grants.len(), covered(&grants, 1)), (1, 900));
}

#[test]
fn while_more_is_left_than_all_want_nobody_has_less() {
    let mut world = world(10_000);
    world.connects(2, 2, vec![]);
    for session in [1, 2] {
        let grants = world.claims_all(session, 1, 900);
        assert_eq!((grants.len(), covered(&grants, session)), (1, 900));
    }
}

#[test]
fn of_little_everybody_has_half_of_its_proportion() {
    let mut world = world(2_900);
    world.connects(2, 2, vec![]);
    // Whoever is the first knows of nobody else.
    let first = world.claims_all(1, 1, 600);
    assert_eq!(covered(&first, 1), 600);
    // It settles three times as much as the first. Three quarters of 2,300 are 1,725, and half of that 862, in quarters.
    let second = world.claims_all(2, 1, 1_800);
    assert_eq!(second.iter().map(|(_, grant)| grant.covered()).collect::<Vec<_>>(), [215; 5]);
    // A quarter of the 1,225 that are left then, and half of that, is 153.
    world.says(1, AgentMessage::Report(report(&first[0].1, Outcome::CLOSED)));
    let third = world.claims_all(1, 2, 600);
    assert_eq!(third.iter().map(|(_, grant)| grant.covered()).collect::<Vec<_>>(), [38; 5]);
    // With that in hand it gets no more, whatever it asks for, until it has settled some of it.
    assert_eq!(world.claims_all(1, 3, 410), []);
    let before = world.sent.len();
    world.says(1, AgentMessage::Report(report(&third[0].1, Outcome::CLOSED)));
    world.says(1, AgentMessage::Report(report(&third[1].1, Outcome::CLOSED)));
    assert_eq!(world.granted_since(before).iter().map(|(_, grant)| grant.covered()).collect::<Vec<_>>(), [32]);
}

#[test]
fn who_is_alone_with_what_is_left_has_it_to_the_end() {
    let mut world = world(2_900);
    world.connects(2, 2, vec![]);
    let mut hands = world.claims_all(1, 1, 600);
    // The second takes what it can, and is not heard of again.
    let taken = covered(&world.claims_all(2, 1, 1_800), 2);
    let mut settled = 0;
    while let Some((_, grant)) = hands.pop() {
        settled += grant.covered();
        let before = world.sent.len();
        world.says(1, AgentMessage::Report(report(&grant, Outcome::CLOSED)));
        let more = world.granted_since(before);
        assert!(more.iter().all(|(to, _)| *to == 1), "the other wants no more");
        hands.extend(more);
        if hands.is_empty() {
            hands.extend(world.claims_all(1, 1 + u64::from(settled), 600));
        }
    }
    assert_eq!(settled + taken, 2_900);
}

#[test]
fn whoever_guesses_has_what_its_share_settles_and_the_others_the_same() {
    let mut world = paced(30_000, 200);
    for session in 1..=2 {
        world.connects(session, session, vec![]);
    }
    // The second has a share once the first knows that its own is smaller.
    let (_, CoordinatorMessage::Control(control)) = world.sent.last().expect("the first is told") else { panic!() };
    let acknowledged = AgentMessage::Acknowledge { scan: control.scan, version: control.version };
    world.says(1, acknowledged);
    let granted = [1, 2].map(|session| covered(&world.claims_all(session, 1, 20_000), session));
    // 100 a second for 3 s.
    assert_eq!(granted, [300, 300]);
}

#[test]
fn the_end_does_not_wait_for_who_is_slow() {
    let mut world = world(2_900);
    world.connects(2, 2, vec![]);
    world.claims_all(1, 1, 2_800);
    // It settles 40 in three seconds: a quarter of that is less than a second's work.
    let slow = world.claims_all(2, 1, 40);
    assert_eq!(slow.iter().map(|(_, grant)| grant.covered()).collect::<Vec<_>>(), [2; 5]);
}
