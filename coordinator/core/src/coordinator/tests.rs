//! The machine alone, over a memory store that answers at once: sessions, rights and reports, case by case.

use super::*;
use crate::store::Store;
use crate::store::memory::MemoryStore;
use protocol::chunk;
use protocol::id::AgentName;
use protocol::message::{
    AgentMessage, Checks, Claim, CommitReply, Finding, Grant, Hello, PingMethod, ProbeOptions, Report,
};
use protocol::plan::{Plan, PlanParts, Slots};
use protocol::range_set::{AddressSet, RankedRanges};
use protocol::version::{SPOKEN, VersionRange};
use std::time::Duration;

mod control;
mod deaths;
mod drain;
mod ends;
mod fleet;
mod found;
mod portions;
mod remove;
mod staged;
mod vantages;

const SCAN: ScanId = ScanId::from_bytes([3; 16]);

struct World {
    machine: Coordinator,
    store: MemoryStore,
    now: Time,
    sent: Vec<(SessionId, CoordinatorMessage)>,
    closed: Vec<SessionId>,
    events: Vec<Event>,
}

impl World {
    /// One host, ten ports.
    fn new() -> Self {
        Self::of(&["192.0.2.1"], Slots::new(false, (1..=10).collect()))
    }

    fn of(hosts: &[&str], slots: Slots) -> Self {
        let mut addresses = AddressSet::new();
        for host in hosts {
            addresses.insert(host.parse().unwrap());
        }
        let plan = Plan::new(RankedRanges::try_from(&addresses).unwrap(), slots, 1).unwrap();
        let mut world = Self::empty();
        world.input(Input::Submit(Self::record(&plan)));
        world
    }

    fn record(plan: &Plan) -> ScanRecord {
        ScanRecord {
            id: SCAN,
            plan: PlanParts::from(plan),
            options: ProbeOptions::new(900, 64),
            rate: None,
            tries: Some(1),
            weight: crate::store::WEIGHT,
            agent_wait_s: None,
            status: ScanStatus::Running,
            request: String::new(),
        }
    }

    fn empty() -> Self {
        Self {
            machine: Coordinator::new(Settings::default()),
            store: MemoryStore::new(),
            now: Time::from_nanos(1),
            sent: vec![],
            closed: vec![],
            events: vec![],
        }
    }

    fn input(&mut self, input: Input) {
        self.machine.handle_input(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Store(id, request) => {
                    let reply = request.carry_out(&mut self.store).unwrap();
                    self.machine.handle_input(self.now, Input::Stored(id, reply));
                }
                Output::Send(session, message) => self.sent.push((session, *message)),
                Output::Close(session) => self.closed.push(session),
                // That it is stored is no news to these tests.
                Output::Event(Event::Created { .. }) => {}
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    fn says(&mut self, session: u64, message: AgentMessage) {
        self.input(Input::Message(SessionId(session), Box::new(message)));
    }

    fn passes(&mut self, time: Duration) {
        self.now = self.now + time;
        self.machine.handle_timeout(self.now);
        self.drain();
    }

    fn connects(&mut self, session: u64, instance: u64, holds: Vec<Epoch>) {
        self.input(Input::Opened(SessionId(session)));
        self.says(session, AgentMessage::Hello(hello(instance, holds, SPOKEN)));
    }

    fn claims(&mut self, session: u64, number: u64, targets: u32) -> Vec<Grant> {
        let before = self.sent.len();
        self.says(session, AgentMessage::Claim(Claim { number, targets, targets_each: 4, used: Vec::new() }));
        self.grants_since(before)
    }

    fn grants_since(&self, before: usize) -> Vec<Grant> {
        let grant = |(_, message): &(SessionId, CoordinatorMessage)| match message {
            CoordinatorMessage::Grant(grant) => Some(grant.clone()),
            _ => None,
        };
        self.sent[before..].iter().filter_map(grant).collect()
    }

    fn reply_to(&self, epoch: Epoch) -> Option<CommitReply> {
        self.sent.iter().rev().find_map(|(_, message)| match message {
            CoordinatorMessage::Committed { epoch: of, reply } if *of == epoch => Some(*reply),
            _ => None,
        })
    }
}

fn hello(instance: u64, holds: Vec<Epoch>, versions: VersionRange) -> Hello {
    let name = |text: &str| AgentName::try_from(text.to_owned()).unwrap();
    Hello {
        versions,
        agent: name("a"),
        instance: InstanceId::new(instance),
        vantage: name("here"),
        software: "0".into(),
        kinds: vec![],
        ping_method: PingMethod::Icmp,
        allow: {
            let mut allow = AddressSet::new();
            allow.insert_net("192.0.2.0/24".parse().unwrap());
            allow
        },
        holds,
        shares: vec![],
        refused: None,
    }
}

fn report(grant: &Grant, outcome: Outcome) -> Report {
    Report {
        epoch: grant.epoch,
        chunk: chunk::encode(&vec![outcome; grant.covered() as usize]),
        findings: vec![],
        checks: Checks::default(),
        quiet_ms: 0,
    }
}

#[test]
fn a_scan_is_granted_reported_and_finished() {
    let mut world = World::new();
    world.connects(1, 1, vec![]);
    let grants = world.claims(1, 1, 100);
    assert_eq!(grants.iter().map(|grant| (grant.lo, grant.hi)).collect::<Vec<_>>(), [(0, 4), (4, 8), (8, 10)]);
    assert!(grants.iter().all(Grant::is_sound));
    for grant in &grants {
        world.says(1, AgentMessage::Report(report(grant, Outcome::CLOSED)));
        assert_eq!(world.reply_to(grant.epoch), Some(CommitReply::Applied));
    }
    assert!(matches!(world.events.last(), Some(Event::Finished { status: ScanStatus::Done, .. })));
    world.store.audit(SCAN).unwrap();
}

#[test]
fn a_pass_begins_half_a_second_after_the_last_try_that_was_not_answered() {
    let addresses: AddressSet = ["192.0.2.1".parse().unwrap()].into_iter().collect();
    let slots = Slots::new(false, (1..=10).collect());
    let plan = Plan::new(RankedRanges::try_from(&addresses).unwrap(), slots, 1).unwrap();
    let mut world = World::empty();
    world.now = Time::from_nanos(10_000_000_000);
    world.input(Input::Submit(ScanRecord { tries: Some(3), ..World::record(&plan) }));
    world.connects(1, 1, vec![]);
    let grants = world.claims(1, 1, 100);
    for (grant, quiet_ms) in grants.iter().zip([450, 300, 1_000]) {
        world.says(1, AgentMessage::Report(Report { quiet_ms, ..report(grant, Outcome::FILTERED) }));
    }
    let before = world.sent.len();
    world.passes(Duration::from_millis(199));
    assert_eq!(world.grants_since(before), []);
    world.passes(Duration::from_millis(1));
    let again = world.grants_since(before);
    assert!(!again.is_empty() && again.iter().all(|grant| grant.pass == 2), "{again:?}");
    // Nothing is said, as by an agent of before: it rests for the whole time.
    let before = world.sent.len();
    for grant in &again {
        world.says(1, AgentMessage::Report(report(grant, Outcome::FILTERED)));
    }
    world.passes(Duration::from_millis(499));
    assert_eq!(world.grants_since(before), []);
}

#[test]
fn what_cannot_be_granted_at_once_is_granted_when_it_comes_back() {
    let mut world = World::new();
    world.connects(1, 1, vec![]);
    let grants = world.claims(1, 1, 100);
    world.connects(2, 2, vec![]);
    assert_eq!(world.claims(2, 1, 100), []);
    let before = world.sent.len();
    // It connects again and holds two of three: hello is what counts.
    world.connects(3, 1, vec![grants[0].epoch, grants[1].epoch]);
    let again = world.grants_since(before);
    assert_eq!(again.iter().map(|grant| (grant.lo, grant.hi)).collect::<Vec<_>>(), [(8, 10)]);
    assert!(again[0].epoch > grants[2].epoch);
    world.says(3, AgentMessage::Report(report(&grants[2], Outcome::CLOSED)));
    assert_eq!(world.reply_to(grants[2].epoch), Some(CommitReply::Gone), "bad input 54: an epoch that is dead");
}

/// A dead agent is waited for no longer than tries of the scans that there are take, and as long as they do: also under a right that was
/// given before the scan with long tries came.
#[test]
fn the_margin_follows_the_longest_try_of_the_scans_that_there_are() {
    let settings = Settings::default();
    assert!(settings.margin <= Duration::from_secs(5), "going on elsewhere within ttl and five seconds");
    let mut world = World::new();
    world.connects(1, 1, vec![]);
    assert!(!world.claims(1, 1, 4).is_empty());
    let plan = Plan::try_from(world.store.scans().unwrap()[0].plan.clone()).unwrap();
    let (id, options) = (ScanId::from_bytes([9; 16]), ProbeOptions::new(10_000, 64));
    let long = ScanRecord { id, options, ..World::record(&plan) };
    world.input(Input::Submit(long));
    world.passes(settings.ttl + Duration::from_millis(10_499));
    assert_eq!(world.machine.counters().rights_ended, 0);
    world.passes(Duration::from_millis(1));
    assert_eq!(world.machine.counters().rights_ended, 1);

    world.connects(2, 2, vec![]);
    assert!(!world.claims(2, 1, 4).is_empty());
    world.input(Input::Change { ask: 1, scan: id, change: Change::Cancel });
    world.passes(settings.stop_within);
    let ended = |event: &Event| matches!(event, Event::Finished { scan, .. } if *scan == id);
    assert!(world.events.iter().any(ended));
    world.passes(settings.ttl + settings.margin - settings.stop_within);
    assert_eq!(world.machine.counters().rights_ended, 2, "what is over is reckoned with no longer");
}

#[test]
fn a_right_that_ended_is_not_answered_and_its_shards_go_to_others() {
    let mut world = World::new();
    let settings = Settings::default();
    world.connects(1, 1, vec![]);
    let grants = world.claims(1, 1, 100);
    world.passes(settings.ttl);
    world.connects(2, 2, vec![]);
    assert_eq!(world.claims(2, 1, 100), [], "ttl is over, the margin is not");
    let before = world.sent.len();
    world.passes(settings.margin);
    assert_eq!(world.grants_since(before).iter().map(Grant::covered).sum::<u32>(), 10);
    let before = world.sent.len();
    world.says(1, AgentMessage::Renew { number: 2, used: Vec::new(), rtt_us: None });
    assert_eq!(world.sent.len(), before, "bad input 66: a right that ended is never answered");
    world.says(2, AgentMessage::Report(report(&grants[0], Outcome::CLOSED)));
    assert_eq!(world.reply_to(grants[0].epoch), Some(CommitReply::Gone));
    assert_eq!(world.machine.counters().rights_ended, 1);
}

#[test]
fn a_late_report_of_a_returned_shard_still_counts() {
    let mut world = World::new();
    let settings = Settings::default();
    world.connects(1, 1, vec![]);
    let grants = world.claims(1, 1, 4);
    world.passes(settings.ttl + settings.margin);
    world.connects(2, 1, vec![grants[0].epoch]);
    world.says(2, AgentMessage::Report(report(&grants[0], Outcome::CLOSED)));
    assert_eq!(world.reply_to(grants[0].epoch), Some(CommitReply::Applied));
    world.says(2, AgentMessage::Report(report(&grants[0], Outcome::CLOSED)));
    assert_eq!(world.reply_to(grants[0].epoch), Some(CommitReply::Gone), "bad input 60: the same report twice");
    assert_eq!(world.events.len(), 1, "counted once");
}

#[test]
fn what_breaks_the_protocol_costs_the_session_and_nothing_else() {
    type Said = fn(&Grant) -> AgentMessage;
    let cases: [(&str, Said); 7] = [
        ("a second hello", |_| AgentMessage::Hello(hello(1, vec![], SPOKEN))),
        ("a number that does not rise", |_| AgentMessage::Renew { number: 1, used: Vec::new(), rtt_us: None }),
        ("too few outcomes", |grant| {
            AgentMessage::Report(Report { chunk: chunk::encode(&[Outcome::CLOSED]), ..report(grant, Outcome::CLOSED) })
        }),
        ("bytes that are no chunk", |grant| {
            AgentMessage::Report(Report { chunk: vec![1, 2, 3], ..report(grant, Outcome::CLOSED) })
        }),
        ("a finding without outcome", |grant| {
            AgentMessage::Report(Report {
                findings: vec![Finding { index: 0, rtt_us: 1 }],
                ..report(grant, Outcome::CLOSED)
            })
        }),
        ("an outcome without finding", |grant| AgentMessage::Report(report(grant, Outcome::OPEN))),
        ("findings outside the shard", |grant| {
            let findings = (100..100 + grant.covered()).map(|index| Finding { index, rtt_us: 1 }).collect();
            AgentMessage::Report(Report { findings, ..report(grant, Outcome::OPEN) })
        }),
    ];
    for (what, said) in cases {
        let mut world = World::new();
        world.connects(1, 1, vec![]);
        let grants = world.claims(1, 1, 4);
        world.says(1, said(&grants[0]));
        assert_eq!(world.closed, [SessionId(1)], "{what}");
        assert_eq!(world.machine.counters().refused, 1, "{what}");
        assert_eq!(world.store.leases(SCAN).unwrap().len(), 1, "{what}: the lease stays");
        assert!(world.events.is_empty(), "{what}");
    }
}

#[test]
fn bad_input_50_whatever_comes_before_hello_is_refused() {
    for message in [AgentMessage::Renew { number: 1, used: Vec::new(), rtt_us: None }, AgentMessage::Leaving] {
        let mut world = World::new();
        world.input(Input::Opened(SessionId(1)));
        world.says(1, message);
        assert_eq!(world.closed, [SessionId(1)]);
    }
}

#[test]
fn versions_that_do_not_meet_are_refused_with_what_to_upgrade() {
    for (versions, upgrade) in
        [(VersionRange { oldest: 2, newest: 3 }, "coordinator"), (VersionRange { oldest: 0, newest: 0 }, "agent")]
    {
        let mut world = World::new();
        world.input(Input::Opened(SessionId(1)));
        world.says(1, AgentMessage::Hello(hello(1, vec![], versions)));
        let Some((_, CoordinatorMessage::Refused { reason })) = world.sent.first() else { panic!("{:?}", world.sent) };
        assert!(reason.ends_with(&format!("upgrade the {upgrade}")), "{reason}");
        assert_eq!(world.closed, [SessionId(1)]);
    }
}

#[test]
fn a_session_that_says_nothing_is_given_up_and_its_leases_are_not() {
    let mut world = World::new();
    world.connects(1, 1, vec![]);
    let grants = world.claims(1, 1, 4);
    world.passes(Settings::default().silent_after);
    assert_eq!(world.closed, [SessionId(1)], "bad input 2: silence");
    world.connects(2, 1, vec![grants[0].epoch]);
    let Some(CoordinatorMessage::Welcome(welcome)) = world.sent.iter().rev().find_map(|(session, message)| {
        (*session == SessionId(2) && matches!(message, CoordinatorMessage::Welcome(_))).then_some(message)
    }) else {
        panic!("no welcome")
    };
    assert_eq!(welcome.keep, [grants[0].epoch]);
}

#[test]
fn an_interrupted_scan_ends_with_its_last_report_or_when_its_time_is_up() {
    for reports in [true, false] {
        let mut world = World::new();
        world.connects(1, 1, vec![]);
        let grants = world.claims(1, 1, 4);
        world.input(Input::Interrupt(SCAN));
        assert!(
            matches!(world.sent.last(), Some((_, CoordinatorMessage::Control(control))) if control.run == protocol::message::Run::Stop)
        );
        assert!(world.events.is_empty());
        if reports {
            world.says(
                1,
                AgentMessage::Report(report(&grants[0], Outcome::not_probed(protocol::probe::Cause::Interrupted))),
            );
        } else {
            world.passes(Settings::default().stop_within);
        }
        assert!(matches!(world.events.last(), Some(Event::Finished { status: ScanStatus::Interrupted, .. })));
        assert_eq!(world.store.scans().unwrap()[0].status, ScanStatus::Interrupted);
    }
}
