//! Scans that several vantages make: each probes everything, and what nobody sees from there is told.

use super::*;
use crate::rows;
use fleet::{record_of, scan, set};
use protocol::id::AgentName;
use protocol::probe::{Cause, Slot};

fn name(vantage: &str) -> AgentName {
    vantage.to_owned().try_into().unwrap()
}

/// Twenty hosts, ten ports each, from `inside` and from `outside`.
fn record() -> ScanRecord {
    let record = record_of(1, &set(1..=20));
    let vantages = vec![name("inside"), name("outside")];
    let plan = protocol::plan::PlanParts { vantages, ..record.plan.clone() };
    ScanRecord { plan, agent_wait_s: Some(5), ..record }
}

impl World {
    fn joins_from(&mut self, session: u64, vantage: &str) {
        let allow = set(1..=20);
        self.input(Input::Opened(SessionId(session)));
        let hello = Hello { allow, vantage: name(vantage), ..hello(session, vec![], SPOKEN) };
        self.says(session, AgentMessage::Hello(hello));
    }

    /// Works until there is nothing more, each agent finding one outcome everywhere. Gives how many targets each was granted.
    fn works(&mut self, finds: &[(u64, Outcome)]) -> Vec<u64> {
        let mut granted = vec![0; finds.len()];
        for round in 1..=60 {
            for (of, &(session, outcome)) in granted.iter_mut().zip(finds) {
                for grant in self.claims(session, round, 40) {
                    *of += u64::from(grant.covered());
                    self.says(session, AgentMessage::Report(report(&grant, outcome)));
                }
            }
            self.passes(Duration::from_millis(500));
        }
        granted
    }

    fn joined_rows(&self) -> Vec<crate::host::Host> {
        let record = self.store.scans().unwrap().remove(0);
        let plan = Plan::try_from(record.plan).unwrap();
        let runs = 0..plan.cohorts_of_one();
        runs.flat_map(|run| rows::of_cohort(&self.store, record.id, &plan, run, record.status).unwrap()).collect()
    }
}

#[test]
fn each_vantage_probes_everything_and_nothing_of_the_other() {
    let mut world = World::empty();
    world.input(Input::Submit(record()));
    world.joins_from(1, "inside");
    world.joins_from(2, "outside");
    let granted = world.works(&[(1, Outcome::CLOSED), (2, Outcome::FILTERED)]);
    assert_eq!(granted, [200, 200]);
    assert!(matches!(world.events.last(), Some(Event::Finished { status: ScanStatus::Done, .. })));
    let rows = world.joined_rows();
    assert_eq!(rows.len(), 20);
    for host in rows {
        let views = host.views.as_ref().expect("two vantages");
        assert_eq!(views.differ, 10);
        let seen = |of: usize| views.differing[0].seen[of].map(|answer| answer.outcome);
        assert_eq!((seen(0), seen(1)), (Some(Outcome::CLOSED), Some(Outcome::FILTERED)), "in the plan's order");
        assert_eq!(host.targets(), 20);
    }
    world.store.audit(scan(1)).unwrap();
}

#[test]
fn what_is_to_be_seen_from_where_nobody_is_becomes_no_agent() {
    let mut world = World::empty();
    world.input(Input::Submit(record()));
    world.joins_from(2, "outside");
    let granted = world.works(&[(2, Outcome::CLOSED)]);
    assert_eq!(granted, [200], "what is for the other vantage is not granted");
    assert!(matches!(world.events.last(), Some(Event::Finished { status: ScanStatus::Partial, .. })));
    for host in world.joined_rows() {
        let counts: std::collections::BTreeMap<_, _> = host.counts().collect();
        assert_eq!(counts, [(Outcome::CLOSED, 10), (Outcome::not_probed(Cause::NoAgent), 10)].into());
        let seen = &host.views.as_ref().expect("two vantages").differing[0];
        assert_eq!(seen.slot, Slot::Tcp(1));
        assert_eq!(seen.seen[0].map(|answer| answer.outcome), Some(Outcome::not_probed(Cause::NoAgent)));
    }
    world.store.audit(scan(1)).unwrap();
}
