//! What becomes of targets that nobody may or can reach, and how such a scan ends.

use super::*;
use crate::resume::Resumed;
use crate::rows;
use fleet::{record_of, scan, set};
use protocol::probe::Cause;

const SECOND: Duration = Duration::from_secs(1);

impl World {
    /// The scan's targets by what the result says of them.
    fn result(&self) -> std::collections::BTreeMap<Outcome, u64> {
        let record = self.store.scans().unwrap().remove(0);
        let plan = Plan::try_from(record.plan).unwrap();
        let mut counts = std::collections::BTreeMap::new();
        for number in 0..plan.cohorts() {
            for host in rows::of_cohort(&self.store, record.id, &plan, number, record.status).unwrap() {
                for (outcome, count) in host.counts() {
                    *counts.entry(outcome).or_default() += count;
                }
            }
        }
        counts
    }

    fn ended(&self) -> Option<ScanStatus> {
        match self.events.last() {
            Some(Event::Finished { status, .. }) => Some(*status),
            _ => None,
        }
    }

    /// What was told last of how far it is.
    fn account(&self) -> Vec<(Outcome, u64)> {
        let told = self.events.iter().rev().find_map(|event| match event {
            Event::Committed { progress, .. } => Some(progress.counts().collect()),
            _ => None,
        });
        told.unwrap_or_default()
    }
}

const NO_AGENT: Outcome = Outcome::not_probed(Cause::NoAgent);

#[test]
fn without_any_agent_a_scan_ends_as_no_agent_after_the_wait() {
    let mut world = World::empty();
    world.input(Input::Submit(ScanRecord { agent_wait_s: Some(5), ..record_of(1, &set(1..=10)) }));
    assert_eq!(world.machine.poll_timeout(), Some(world.now + SECOND * 5));
    world.passes(SECOND * 5 - Duration::from_millis(1));
    assert_eq!(world.ended(), None);
    world.passes(Duration::from_millis(1));
    assert_eq!(world.ended(), Some(ScanStatus::Partial));
    assert_eq!(world.result().into_iter().collect::<Vec<_>>(), [(NO_AGENT, 100)]);
    assert_eq!(world.account(), [(NO_AGENT, 100)], "and who follows it is told so");
    assert_eq!(world.machine.poll_timeout(), None);
}

#[test]
fn an_agent_that_joins_in_time_gets_the_work() {
    let mut world = World::empty();
    world.input(Input::Submit(ScanRecord { agent_wait_s: Some(5), ..record_of(1, &set(1..=10)) }));
    world.passes(Duration::from_millis(4_999));
    world.connects(1, 1, vec![]);
    for round in 1..=4 {
        let grants = world.claims(1, round, 40);
        world.settles(1, &grants);
        world.passes(SECOND);
    }
    assert_eq!(world.ended(), Some(ScanStatus::Done));
    assert_eq!(world.result().into_iter().collect::<Vec<_>>(), [(Outcome::CLOSED, 100)]);
}

/// The coordinator has long been there when the scan is submitted, and so has the one agent that may not probe half of it.
#[test]
fn a_scan_waits_from_its_own_start_for_who_may_probe_its_rest() {
    let mut world = World::empty();
    world.joins(1, set(1..=65));
    let mut number = 0;
    world.lives(SECOND * 100, &[1], &mut number);
    world.input(Input::Submit(ScanRecord { agent_wait_s: Some(20), ..record_of(1, &set(1..=130)) }));
    let began = world.now;
    let mut seen_at_the_end = None;
    while seen_at_the_end.is_none() && world.now < began + SECOND * 60 {
        number += 1;
        let grants = world.claims(1, number, 1_000);
        world.settles(1, &grants);
        world.passes(SECOND / 2);
        seen_at_the_end = world.ended().map(|status| (status, world.now.since(began)));
    }
    let (status, after) = seen_at_the_end.expect("it ends");
    assert_eq!(status, ScanStatus::Partial);
    assert!((SECOND * 20..SECOND * 23).contains(&after), "it ended after {after:?}");
    assert_eq!(world.result().into_iter().collect::<Vec<_>>(), [(NO_AGENT, 650), (Outcome::CLOSED, 650)]);
    assert_eq!(world.account(), [(NO_AGENT, 650), (Outcome::CLOSED, 650)]);
    world.store.audit(scan(1)).unwrap();
}

#[test]
fn what_an_agent_that_went_was_to_probe_is_kept_for_it_for_as_long() {
    let mut world = World::empty();
    world.input(Input::Submit(ScanRecord { agent_wait_s: Some(30), ..record_of(1, &set(1..=10)) }));
    world.connects(1, 1, vec![]);
    let held = world.claims(1, 1, 40);
    world.settles(1, &held);
    assert!(!world.claims(1, 2, 40).is_empty());
    world.input(Input::Closed(SessionId(1)));
    let right = Settings::default().ttl + Settings::default().margin;
    // Its leases are its own until its right has ended; from then on nobody may probe anything of it.
    world.passes(right);
    world.passes(SECOND * 29);
    assert_eq!(world.ended(), None);
    world.passes(SECOND);
    assert_eq!(world.ended(), Some(ScanStatus::Partial));
    assert_eq!(world.result().into_iter().collect::<Vec<_>>(), [(NO_AGENT, 60), (Outcome::CLOSED, 40)]);
}

#[test]
fn a_restart_begins_the_wait_anew_and_resume_looks_again() {
    let mut world = World::empty();
    world.input(Input::Submit(ScanRecord { agent_wait_s: Some(5), ..record_of(1, &set(1..=10)) }));
    world.passes(SECOND * 4);
    let resumed = |world: &World| Resumed::load(&world.store, scan(1)).unwrap();
    world.machine = Coordinator::resume(Settings::default(), world.now, &[resumed(&world)], false);
    world.drain();
    world.passes(SECOND * 4);
    assert_eq!(world.ended(), None);
    world.passes(SECOND);
    assert_eq!(world.ended(), Some(ScanStatus::Partial));

    world.machine = Coordinator::resume(Settings::default(), world.now, &[resumed(&world)], true);
    world.drain();
    world.connects(1, 1, vec![]);
    for round in 1..=4 {
        let grants = world.claims(1, round, 40);
        world.settles(1, &grants);
        world.passes(SECOND);
    }
    assert_eq!(world.ended(), Some(ScanStatus::Done));
    assert_eq!(world.result().into_iter().collect::<Vec<_>>(), [(Outcome::CLOSED, 100)]);
}

#[test]
fn a_paused_scan_waits_for_nobody() {
    let mut world = World::empty();
    world.input(Input::Submit(ScanRecord { agent_wait_s: Some(5), ..record_of(1, &set(1..=10)) }));
    world.input(Input::Change { ask: 1, scan: scan(1), change: Change::Pause });
    world.passes(SECOND * 50);
    assert_eq!(world.ended(), None);
    world.input(Input::Change { ask: 2, scan: scan(1), change: Change::Resume });
    world.passes(SECOND * 5);
    assert_eq!(world.ended(), Some(ScanStatus::Partial));
}

#[test]
fn what_a_cancelled_scan_did_not_probe_is_cancelled() {
    let mut world = World::empty();
    world.input(Input::Submit(record_of(1, &set(1..=10))));
    world.connects(1, 1, vec![]);
    let held = world.claims(1, 1, 40);
    let (probed, given_back) = held.split_at(held.len() / 2);
    world.settles(1, probed);
    world.input(Input::Change { ask: 1, scan: scan(1), change: Change::Cancel });
    for grant in given_back {
        world.says(1, AgentMessage::Report(report(grant, Outcome::not_probed(Cause::Interrupted))));
    }
    world.passes(SECOND * 2);
    assert_eq!(world.ended(), Some(ScanStatus::Cancelled));
    let cancelled = Outcome::not_probed(Cause::Cancelled);
    assert_eq!(world.result().into_iter().collect::<Vec<_>>(), [(cancelled, 80), (Outcome::CLOSED, 20)]);
    assert_eq!(world.account(), [(cancelled, 80), (Outcome::CLOSED, 20)]);
}

/// In stages the ports of a host of which nothing was found out share its cause, or have no discovery.
#[test]
fn in_stages_what_nobody_could_reach_has_its_cause_too() {
    let addresses = set(1..=10);
    let slots = Slots::new(true, (1..=3).collect()).in_stages();
    let plan = Plan::new(RankedRanges::try_from(&addresses).unwrap(), slots, 1).unwrap();
    let mut world = World::empty();
    world.input(Input::Submit(ScanRecord { id: scan(1), agent_wait_s: Some(5), ..World::record(&plan) }));
    world.passes(SECOND * 5);
    assert_eq!(world.result().into_iter().collect::<Vec<_>>(), [(NO_AGENT, 40)]);
    assert_eq!(world.account(), [(NO_AGENT, 40)]);
}
