//! Scans that ended are removed, and those of which somebody may still hold a part are not.

use super::*;
use crate::control::{Change, ChangeError};

impl World {
    fn removes(&mut self) -> Result<u64, ChangeError> {
        self.input(Input::Remove { ask: 9, scan: SCAN });
        let answer = self.events.iter().rev().find_map(|event| match event {
            Event::Changed { ask: 9, outcome, .. } => Some(*outcome),
            _ => None,
        });
        answer.expect("an answer")
    }

    /// An agent has all of the scan in hand when its user cancels it, and does not report in time.
    fn ended_with_leases_in_hand() -> (Self, Vec<Grant>) {
        let mut world = Self::new();
        world.connects(1, 1, vec![]);
        let grants = world.claims(1, 1, 100);
        world.input(Input::Change { ask: 1, scan: SCAN, change: Change::Cancel });
        world.passes(Settings::default().stop_within);
        assert!(matches!(world.events.last(), Some(Event::Finished { status: ScanStatus::Cancelled, .. })));
        assert_eq!(world.store.leases(SCAN).unwrap().len(), grants.len(), "cancel deletes no lease");
        assert_eq!(world.removes(), Err(ChangeError::Held));
        (world, grants)
    }
}

#[test]
fn a_scan_that_ended_is_removed_and_one_that_runs_is_not() {
    let mut world = World::new();
    world.connects(1, 1, vec![]);
    let grants = world.claims(1, 1, 100);
    assert_eq!(world.removes(), Err(ChangeError::Runs));
    for grant in &grants {
        world.says(1, AgentMessage::Report(report(grant, Outcome::CLOSED)));
    }
    assert!(matches!(world.events.last(), Some(Event::Finished { status: ScanStatus::Done, .. })));
    for _ in 0..2 {
        assert_eq!(world.removes(), Ok(0));
        assert!(world.events.contains(&Event::Removed { scan: SCAN }));
        assert_eq!(world.store.scans().unwrap(), []);
    }
}

#[test]
fn what_is_held_beyond_the_end_goes_with_its_holders_report() {
    let (mut world, grants) = World::ended_with_leases_in_hand();
    for grant in &grants {
        assert_eq!(world.removes(), Err(ChangeError::Held));
        world.says(1, AgentMessage::Report(report(grant, Outcome::CLOSED)));
        assert_eq!(world.reply_to(grant.epoch), Some(CommitReply::Gone));
    }
    let counters = world.machine.counters();
    assert_eq!((counters.closed, counters.fenced), (grants.len() as u64, 0), "they are told apart");
    assert_eq!(world.removes(), Ok(0));
}

#[test]
fn what_is_held_beyond_the_end_goes_when_its_holder_says_hello_or_leaves() {
    let (mut world, grants) = World::ended_with_leases_in_hand();
    world.input(Input::Closed(SessionId(1)));
    assert_eq!(world.removes(), Err(ChangeError::Held), "a lost connection is not a lost lease");
    world.connects(2, 1, grants.iter().map(|grant| grant.epoch).collect());
    let welcome = world.sent.iter().rev().find_map(|(_, message)| match message {
        CoordinatorMessage::Welcome(welcome) => Some(welcome.keep.clone()),
        _ => None,
    });
    assert_eq!(welcome, Some(vec![]), "there is nothing to hold");
    assert_eq!(world.removes(), Ok(0));

    let (mut world, _) = World::ended_with_leases_in_hand();
    world.says(1, AgentMessage::Leaving);
    assert_eq!(world.removes(), Ok(0));
}

#[test]
fn what_is_held_beyond_the_end_goes_with_its_holders_right_which_is_no_failure() {
    let settings = Settings::default();
    let (mut world, _) = World::ended_with_leases_in_hand();
    world.passes(settings.ttl + settings.margin - settings.stop_within);
    assert_eq!(world.machine.counters().rights_ended, 1);
    assert!(!world.machine.rests("a") && world.machine.failures.is_empty());
    assert_eq!(world.removes(), Ok(0));
}

#[test]
fn after_a_restart_rights_of_before_are_waited_for() {
    let settings = Settings::default();
    let (mut world, _) = World::ended_with_leases_in_hand();
    world.machine = Coordinator::resume(settings, world.now, &[], false);
    assert_eq!(world.removes(), Err(ChangeError::Held));
    world.passes(settings.ttl + settings.margin);
    assert_eq!(world.removes(), Err(ChangeError::Held), "there may have been a scan with longer tries");
    world.passes(Duration::from_secs(10));
    assert_eq!(world.removes(), Ok(0));
}
