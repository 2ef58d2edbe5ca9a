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
fn little_is_divided_by_what_each_settles_and_ever_smaller() {
    let mut world = world(2_900);
    world.connects(2, 2, vec![]);
    // Whoever is the first knows of nobody else.
    let first = world.claims_all(1, 1, 600);
    let second = world.claims_all(2, 1, 1_800);
    assert_eq!(covered(&first, 1), 600);
    // It settles three times as much as the first: 2,175 of the 2,900 are its, in quarters.
    assert_eq!(second.iter().map(|(_, grant)| grant.covered()).collect::<Vec<_>>(), [543; 4]);
    // Who comes to its end has a quarter of what is left and of what is in hand.
    let before = world.sent.len();
    world.says(1, AgentMessage::Report(report(&first[0].1, Outcome::CLOSED)));
    world.says(2, AgentMessage::Report(report(&second[0].1, Outcome::CLOSED)));
    assert_eq!(world.granted_since(before).len(), 0, "it has not asked for more");
    let third = world.claims_all(1, 2, 600);
    assert_eq!(third.iter().map(|(_, grant)| grant.covered()).collect::<Vec<_>>(), [109, 19]);
}

#[test]
fn nobody_waits_while_anything_is_left() {
    let mut world = world(2_900);
    world.connects(2, 2, vec![]);
    // The second takes what it can, and is not heard of again.
    let mut hands = world.claims_all(1, 1, 600);
    world.claims_all(2, 1, 1_800);
    let mut settled = 0;
    while let Some((_, grant)) = hands.pop() {
        settled += grant.covered();
        let before = world.sent.len();
        world.says(1, AgentMessage::Report(report(&grant, Outcome::CLOSED)));
        let more = world.granted_since(before);
        assert!(more.iter().all(|(to, _)| *to == 1), "what the other has is what it can use");
        hands.extend(more);
        if hands.is_empty() {
            hands.extend(world.claims_all(1, u64::from(settled), 600));
        }
    }
    assert_eq!(settled, 2_900 - 4 * 543);
}
