//! The machine in virtual time, against a coordinator that grants what a test wants and a network that answers as it says.
//! Each test of an invariant carries its number.

use super::*;
use crate::attempt::Probe;
use crate::round_trip::Wait;
use protocol::chunk;
use protocol::message::{CommitReply, Control, Grant, ProbeOptions, Report};
use protocol::plan::{Plan, Slots};
use protocol::probe::Target;
use protocol::range_set::RankedRanges;
use protocol::rate::Rate;
use std::net::{IpAddr, Ipv4Addr};

mod refusals;
mod shares;

const SCAN: ScanId = ScanId::from_bytes([1; 16]);
const OTHER: ScanId = ScanId::from_bytes([2; 16]);
const TTL: Duration = Duration::from_secs(10);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What a target answers, and when; silence otherwise.
type Network = fn(Target) -> Option<(Outcome, Duration)>;

fn silent(_: Target) -> Option<(Outcome, Duration)> {
    None
}

fn quick(_: Target) -> Option<(Outcome, Duration)> {
    Some((Outcome::CLOSED, ms(1)))
}

enum Event {
    Timer,
    Settles(Settled),
    InForce(u64),
    Says(Box<CoordinatorMessage>),
}

struct Lab {
    agent: Agent,
    now: Time,
    events: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    armed: Option<(Time, u64)>,
    network: Network,
    /// How late timers are, at most.
    late: Duration,
    /// Whether the coordinator answers at all.
    answers: bool,
    sent: Vec<(Time, Probe)>,
    flying: BTreeMap<ProbeId, IpAddr>,
    in_flight: BTreeMap<IpAddr, u32>,
    /// The most that were in flight to a host, and when.
    most: BTreeMap<IpAddr, (u32, Time)>,
    reports: Vec<Report>,
    acknowledged: Vec<(ScanId, u64)>,
    claims: Vec<Claim>,
    redials: u32,
    finished: bool,
    /// What everyone who sends was told last.
    ordered: Option<Orders>,
    /// Whether those who send say nothing of their orders.
    orders_wait: bool,
}

fn addresses(count: u32) -> AddressSet {
    (0..count).map(|host| IpAddr::V4(Ipv4Addr::from(0xc000_0200 + host))).collect()
}

fn control(scan: ScanId, version: u64, run: Run, share: Option<Rate>) -> Control {
    Control { scan, version, run, exclude: AddressSet::new(), share, per_host_rate: None }
}

/// Every target of so many hosts and ports, a grant a cohort.
fn grants(scan: ScanId, hosts: u32, ports: u16, options: ProbeOptions) -> Vec<Grant> {
    let plan = RankedRanges::try_from(&addresses(hosts)).unwrap();
    let plan = Plan::new(plan, Slots::new(false, (1..=ports).collect()), 7).unwrap();
    let base = if scan == SCAN { 0 } else { 1_000_000 };
    let grant = |number: u64| {
        let cohort = plan.cohort(number).unwrap();
        let (lo, hi, epoch) = (0, cohort.len(), Epoch::new(base + number));
        Grant { epoch, scan, pass: 1, cohort, lo, hi, covers: Vec::new(), options }
    };
    (0..plan.cohorts()).map(grant).collect()
}

impl Lab {
    /// An agent that said hello and was welcomed with these control states.
    fn new(network: Network, controls: Vec<Control>) -> Self {
        let name = |text: &str| AgentName::try_from(text.to_owned()).unwrap();
        let identity = Identity {
            name: name("lab-1"),
            vantage: name("inside"),
            instance: InstanceId::new(1),
            software: "0".into(),
            ping_method: PingMethod::Icmp,
            allow: addresses(4_096),
            window_max: 8_192,
        };
        let now = Time::from_nanos(5_000_000_000);
        let mut lab = Self {
            agent: Agent::new(now, identity),
            now,
            events: BTreeMap::new(),
            sequence: 0,
            armed: None,
            network,
            late: Duration::ZERO,
            answers: true,
            sent: Vec::new(),
            flying: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            most: BTreeMap::new(),
            reports: Vec::new(),
            acknowledged: Vec::new(),
            claims: Vec::new(),
            redials: 0,
            finished: false,
            ordered: None,
            orders_wait: false,
        };
        lab.session(Vec::new(), controls);
        lab
    }

    fn session(&mut self, keep: Vec<Epoch>, controls: Vec<Control>) {
        self.input(Input::Connected);
        let ttl_ms = TTL.as_millis() as u32;
        self.says(CoordinatorMessage::Welcome(Welcome { version: 1, ttl_ms, renew_every_ms: 2_500, keep, controls }));
        self.run(Duration::ZERO);
    }

    fn says(&mut self, message: CoordinatorMessage) {
        self.input(Input::Message(Box::new(message)));
    }

    fn grant(&mut self, grants: Vec<Grant>) {
        for grant in grants {
            self.says(CoordinatorMessage::Grant(grant));
        }
    }

    fn input(&mut self, input: Input) {
        self.agent.handle_input(self.now, input);
        self.drain();
    }

    fn at(&mut self, at: Time, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }

    fn drain(&mut self) {
        while let Some(output) = self.agent.poll_output() {
            match output {
                Output::Send(message) => self.hears(*message),
                Output::Probe(batch) => {
                    assert!(self.now < batch.right_ends_at, "A1: a probe after the right's end");
                    for probe in batch.probes {
                        self.probes(probe);
                    }
                }
                Output::Orders(orders) => {
                    if !self.orders_wait {
                        self.at(self.now, Event::InForce(orders.number));
                    }
                    self.ordered = Some(orders);
                }
                Output::Redial => self.redials += 1,
                Output::Finished => self.finished = true,
            }
        }
        if let Some(armed) = self.armed.take() {
            self.events.remove(&armed);
        }
        if let Some(at) = self.agent.poll_timeout() {
            // Late by what the sequence makes of it: the same in every run.
            let late = self.late.mul_f64((self.sequence % 7) as f64 / 6.0);
            self.at(at + late, Event::Timer);
            self.armed = Some((at + late, self.sequence));
        }
    }

    fn hears(&mut self, message: AgentMessage) {
        let answer = match message {
            AgentMessage::Claim(claim) => {
                let number = claim.number;
                self.claims.push(claim);
                CoordinatorMessage::Answered { number }
            }
            AgentMessage::Renew { number, .. } => CoordinatorMessage::Answered { number },
            AgentMessage::Report(report) => {
                let epoch = report.epoch;
                self.reports.push(report);
                CoordinatorMessage::Committed { epoch, reply: CommitReply::Applied }
            }
            AgentMessage::Acknowledge { scan, version } => return self.acknowledged.push((scan, version)),
            AgentMessage::Hello(_) | AgentMessage::Leaving => return,
        };
        if self.answers {
            self.at(self.now, Event::Says(Box::new(answer)));
        }
    }

    fn probes(&mut self, probe: Probe) {
        self.sent.push((self.now, probe));
        let address = probe.target.address;
        assert_eq!(self.flying.insert(probe.id, address), None, "A2: {} is in flight", probe.target);
        let in_flight = self.in_flight.entry(address).or_default();
        *in_flight += 1;
        let most = self.most.entry(address).or_insert((0, self.now));
        if *in_flight > most.0 {
            *most = (*in_flight, self.now);
        }
        let (outcome, after) = match (self.network)(probe.target) {
            Some((outcome, rtt)) => (outcome, rtt),
            None => (Outcome::FILTERED, probe.wait.timeout),
        };
        self.at(self.now + after, Event::Settles(Settled { id: probe.id, outcome, rtt: None }));
    }

    /// Lets time pass until nothing but renewals happens any more, or `until`.
    fn run(&mut self, until: Duration) {
        let end = self.now + until;
        while let Some(((at, _), _)) = self.events.first_key_value().filter(|((at, _), _)| *at <= end) {
            self.now = self.now.max(*at);
            let Some((_, event)) = self.events.pop_first() else { break };
            match event {
                Event::Timer => {
                    self.agent.handle_timeout(self.now);
                    self.drain();
                    assert!(self.agent.poll_timeout().is_none_or(|at| at > self.now), "a wake-up in the past");
                }
                Event::InForce(number) => self.input(Input::InForce(number)),
                Event::Settles(settled) => {
                    let address = self.flying.remove(&settled.id).unwrap();
                    *self.in_flight.entry(address).or_default() -= 1;
                    self.input(Input::Settled(vec![settled]));
                }
                Event::Says(message) => self.says(*message),
            }
            let idle = self.agent.leases.is_empty() && self.agent.out.is_empty();
            if idle && self.events.first_key_value().is_none_or(|((at, _), _)| *at > self.now) {
                return;
            }
        }
        self.now = end;
    }

    fn targets_sent(&self) -> std::collections::BTreeSet<Target> {
        self.sent.iter().map(|(_, probe)| probe.target).collect()
    }

    fn last_sent_at(&self, address: IpAddr) -> Time {
        self.sent.iter().filter(|(_, probe)| probe.target.address == address).map(|(at, _)| *at).max().unwrap()
    }

    /// The most packets in any window of this length that begins with a send.
    fn most_within(&self, window: Duration, cost: u64, address: Option<IpAddr>) -> u64 {
        let times: Vec<_> = self
            .sent
            .iter()
            .filter(|(_, probe)| address.is_none_or(|address| probe.target.address == address))
            .map(|(at, _)| *at)
            .collect();
        let ends = times
            .iter()
            .enumerate()
            .map(|(first, &at)| (times.partition_point(|&other| other < at + window) - first) as u64);
        ends.max().unwrap_or(0) * cost
    }
}

#[test]
fn a7_a_silent_host_has_no_more_in_flight_than_its_window_which_doubles() {
    let mut lab = Lab::new(silent, vec![control(SCAN, 1, Run::Go, None)]);
    let grants = grants(SCAN, 1, 3_000, ProbeOptions::new(900, 8_192));
    lab.grant(grants);
    let host = *addresses(1).ranges().map(|(first, _)| first).collect::<Vec<_>>().first().unwrap();
    for (step, window) in [128, 256, 512, 1_024, 1_024].into_iter().enumerate() {
        assert_eq!(lab.in_flight[&host], window, "in step {step}");
        assert!(lab.most[&host].0 <= window);
        lab.run(ms(900));
    }
    lab.run(Duration::from_secs(10));
    assert_eq!((lab.sent.len(), lab.reports.len()), (3_000, 1));
}

#[test]
fn a7_a_host_that_answers_keeps_its_window() {
    let odd_ports_answer: Network =
        |target| (target.slot == protocol::probe::Slot::Tcp(1)).then_some((Outcome::OPEN, ms(20)));
    let mut lab = Lab::new(odd_ports_answer, vec![control(SCAN, 1, Run::Go, None)]);
    let mut grants = grants(SCAN, 1, 2_000, ProbeOptions::new(900, 8_192));
    // The port that answers is asked first, whatever the order is.
    let first = grants[0]
        .cohort
        .index_of(Target { address: "192.0.2.0".parse().unwrap(), slot: protocol::probe::Slot::Tcp(1) });
    let first = first.unwrap();
    let (mut alone, whole) = (grants[0].clone(), grants.remove(0));
    (alone.lo, alone.hi, alone.epoch) = (first, first + 1, Epoch::new(99));
    lab.grant(vec![alone]);
    lab.run(ms(100));
    lab.grant(vec![whole]);
    lab.run(Duration::from_secs(60));
    assert_eq!(lab.most.values().map(|(most, _)| *most).max(), Some(128));
    assert_eq!(lab.targets_sent().len(), 2_000);
}

#[test]
fn a7_a_host_without_room_holds_up_no_other_of_its_cohort() {
    // Two hosts a cohort: one is silent, the other answers at once.
    let one_answers: Network = |target| match target.address {
        IpAddr::V4(address) if address.octets()[3] % 2 == 0 => Some((Outcome::CLOSED, ms(1))),
        _ => None,
    };
    let mut lab = Lab::new(one_answers, vec![control(SCAN, 1, Run::Go, None)]);
    let grant = grants(SCAN, 128, 1_500, ProbeOptions::new(900, 8_192)).remove(0);
    let hosts: Vec<_> = grant.cohort.addresses().ranges().flat_map(|(first, last)| [first, last]).collect();
    assert_eq!(grant.cohort.hosts(), 2);
    let began = lab.now;
    lab.grant(vec![grant]);
    lab.run(Duration::from_secs(30));
    assert_eq!(lab.targets_sent().len(), 3_000);
    let mut last: Vec<_> = hosts.iter().map(|&host| lab.last_sent_at(host).since(began)).collect();
    last.sort();
    assert!(last[0] < ms(100), "the host that answers was held up: {last:?}");
    assert!(last[1] > ms(1_800), "the other had its window: {last:?}");
}

#[test]
fn a7_a_rate_per_host_is_kept_and_reached() {
    let options = ProbeOptions { per_host_rate: Some(Rate::per_second(20)), ..ProbeOptions::new(900, 8_192) };
    let mut lab = Lab::new(quick, vec![control(SCAN, 1, Run::Go, None)]);
    let began = lab.now;
    lab.grant(grants(SCAN, 128, 40, options));
    lab.run(Duration::from_secs(10));
    assert_eq!(lab.targets_sent().len(), 128 * 40);
    for host in lab.most.keys().take(8) {
        assert!(lab.most_within(ms(1_000), 1, Some(*host)) <= 20 + 1, "{host}");
        let took = lab.last_sent_at(*host).since(began);
        assert!(took <= ms(39 * 50 + 20), "{host} took {took:?}");
    }
}

#[test]
fn a7_what_waits_goes_on_when_the_lease_that_was_first_is_gone() {
    let options = ProbeOptions { per_host_window: 4, ..ProbeOptions::new(900, 8_192) };
    let mut lab = Lab::new(silent, vec![control(SCAN, 1, Run::Go, None), control(OTHER, 1, Run::Go, None)]);
    lab.grant(grants(SCAN, 1, 50, options));
    lab.grant(grants(OTHER, 1, 50, options));
    lab.run(ms(100));
    assert_eq!(lab.sent.len(), 4);
    lab.says(CoordinatorMessage::Control(control(SCAN, 2, Run::Stop, None)));
    assert_eq!(lab.reports.len(), 1);
    lab.run(Duration::from_secs(60));
    assert_eq!(lab.reports.len(), 2, "the other scan's lease was forgotten");
}

#[test]
fn a8_what_is_excluded_while_a_scan_runs_is_not_probed_and_costs_no_rate() {
    let exclude = addresses(2);
    let mut lab = Lab::new(quick, vec![Control { exclude, ..control(SCAN, 1, Run::Go, Some(Rate::per_second(10))) }]);
    lab.grant(grants(SCAN, 4, 50, ProbeOptions::new(900, 100)));
    lab.run(Duration::from_secs(11));
    assert!(lab.sent.iter().all(|(_, probe)| !addresses(2).contains(probe.target.address)));
    assert!(lab.sent.len() >= 99, "{} of 100", lab.sent.len());
    let excluded = Outcome::not_probed(Cause::Excluded);
    let whole = lab.reports.iter().map(|report| chunk::decode(&report.chunk, 50).unwrap());
    assert_eq!(whole.filter(|outcomes| outcomes.iter().all(|outcome| *outcome == excluded)).count(), 2);
}

#[test]
fn a10_a_state_is_acknowledged_once_it_holds_at_everyone_who_sends() {
    let mut lab = Lab::new(silent, vec![control(SCAN, 1, Run::Go, None)]);
    lab.orders_wait = true;
    let paused = |version, share| CoordinatorMessage::Control(control(SCAN, version, Run::Pause, share));
    lab.says(paused(2, None));
    let orders = lab.ordered.clone().unwrap();
    assert_eq!(orders.scans[&SCAN].run, Run::Pause);
    // Another share changes nothing for those who send, but the newest state is not in force before theirs is.
    lab.says(paused(3, Some(Rate::per_second(5))));
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.acknowledged, [(SCAN, 1)]);
    lab.input(Input::InForce(orders.number));
    assert_eq!(lab.acknowledged, [(SCAN, 1), (SCAN, 3)]);
    lab.says(paused(4, Some(Rate::per_second(6))));
    assert_eq!(lab.acknowledged.last(), Some(&(SCAN, 4)), "they have the same orders");
}

#[test]
fn what_is_asked_back_is_reported_once_what_is_in_flight_has_ended() {
    let mut lab = Lab::new(silent, vec![control(SCAN, 1, Run::Go, None)]);
    let grant = grants(SCAN, 1, 100, ProbeOptions::new(900, 40)).remove(0);
    lab.grant(vec![grant.clone()]);
    lab.run(ms(100));
    lab.says(CoordinatorMessage::GiveBack { epoch: grant.epoch });
    lab.run(ms(500));
    assert_eq!((lab.sent.len(), lab.reports.len()), (40, 0), "what is in flight may still be answered");
    lab.run(Duration::from_secs(2));
    assert_eq!((lab.sent.len(), lab.reports.len(), lab.reports[0].quiet_ms), (40, 1, 900), "nothing more is sent");
    let outcomes = chunk::decode(&lab.reports[0].chunk, 100).unwrap();
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::FILTERED).count(), 40);
    let left = Outcome::not_probed(Cause::Interrupted);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == left).count(), 60);
}

#[test]
fn a_grant_may_hold_what_is_not_allowed_only_where_its_pass_does_not_cover_it() {
    // Cohorts of two, and the allow-list ends within one of them.
    let hosts = (4_033..4_161).map(|host| IpAddr::V4(Ipv4Addr::from(0xc000_0200 + host)));
    let plan = RankedRanges::try_from(&hosts.collect::<AddressSet>()).unwrap();
    let plan = Plan::new(plan, Slots::new(false, (1..=20).collect()), 7).unwrap();
    let is_allowed =
        |cohort: &protocol::plan::Cohort, index| addresses(4_096).contains(cohort.target(index).unwrap().address);
    let half = |cohort: &protocol::plan::Cohort| (0..40).filter(|&index| is_allowed(cohort, index)).count() == 20;
    let cohort = (0..plan.cohorts()).filter_map(|number| plan.cohort(number)).find(half).unwrap();
    let covers = protocol::covers::bitmap(0, 40, |index| is_allowed(&cohort, index));
    let options = ProbeOptions::new(900, 100);
    for (covers, redials, sent) in [(Vec::new(), 1, 0), (covers, 0, 20)] {
        let mut lab = Lab::new(quick, vec![control(SCAN, 1, Run::Go, None)]);
        let (epoch, scan, cohort) = (Epoch::new(1), SCAN, cohort.clone());
        lab.grant(vec![Grant { epoch, scan, pass: 1, cohort, lo: 0, hi: 40, covers, options }]);
        lab.run(Duration::from_secs(1));
        assert_eq!((lab.redials, lab.sent.len()), (redials, sent));
        assert!(lab.sent.iter().all(|(_, probe)| addresses(4_096).contains(probe.target.address)));
    }
}

#[test]
fn a_paused_scan_keeps_its_leases_and_keeps_nobody_from_others() {
    let mut lab = Lab::new(quick, vec![control(SCAN, 1, Run::Pause, None), control(OTHER, 1, Run::Go, None)]);
    let claimed = lab.claims.len();
    lab.grant(grants(SCAN, 64, 400, ProbeOptions::new(900, 8_192)));
    lab.grant(grants(OTHER, 64, 400, ProbeOptions::new(900, 8_192)));
    lab.run(Duration::from_secs(5));
    assert_eq!((lab.reports.len(), lab.agent.leases().count()), (64, 64));
    assert!(lab.claims.len() > claimed, "it asks for more");
}

#[test]
fn a8_nothing_is_sent_of_a_scan_whose_control_is_not_known_or_that_pauses() {
    let mut lab = Lab::new(quick, Vec::new());
    lab.grant(grants(SCAN, 4, 4, ProbeOptions::new(900, 100)));
    lab.run(Duration::from_secs(2));
    assert!(lab.sent.is_empty());
    lab.says(CoordinatorMessage::Control(control(SCAN, 1, Run::Pause, None)));
    assert!(lab.sent.is_empty());
    lab.says(CoordinatorMessage::Control(control(SCAN, 2, Run::Go, None)));
    lab.run(Duration::from_secs(2));
    assert_eq!((lab.sent.len(), lab.reports.len()), (16, 4));
}

#[test]
fn a5_no_more_than_the_window_is_in_flight() {
    let mut lab = Lab::new(silent, vec![control(SCAN, 1, Run::Go, None)]);
    lab.grant(grants(SCAN, 64, 10, ProbeOptions::new(900, 50)));
    assert_eq!(lab.agent.in_flight, 50);
    // What comes back twice, or was never sent, makes no room.
    let stranger = ProbeId { epoch: Epoch::new(77), index: 0 };
    lab.input(Input::Settled(vec![Settled { id: stranger, outcome: Outcome::FILTERED, rtt: None }]));
    assert_eq!(lab.sent.len(), 50);
}

#[test]
fn a5_what_is_overdue_makes_room_once_and_its_late_answer_counts() {
    let mut lab = Lab::new(silent, vec![control(SCAN, 1, Run::Go, None)]);
    lab.grant(grants(SCAN, 1, 60, ProbeOptions::new(900, 50)));
    let late: Vec<_> = lab.sent.iter().take(5).map(|(_, probe)| probe.id).collect();
    let stranger = ProbeId { epoch: Epoch::new(77), index: 0 };
    lab.input(Input::Overdue([late.clone(), vec![stranger]].concat()));
    lab.input(Input::Overdue(late));
    assert_eq!((lab.sent.len(), lab.agent.in_flight, lab.agent.out.len()), (55, 50, 55));
    let answered = lab.sent[0].1;
    lab.input(Input::Settled(vec![Settled { id: answered.id, outcome: Outcome::OPEN, rtt: Some(ms(700)) }]));
    assert_eq!((lab.sent.len(), lab.agent.in_flight), (55, 50), "it made room before");
    lab.flying.remove(&answered.id);
    lab.events.retain(|_, event| !matches!(event, Event::Settles(settled) if settled.id == answered.id));
    lab.run(Duration::from_secs(5));
    assert_eq!(lab.reports[0].findings.len(), 1);
}

#[test]
fn tries_wait_as_the_round_trips_say_if_the_scan_lets_them() {
    for (adaptive, before, after) in [(false, ms(900), ms(900)), (true, ms(300), ms(100))] {
        let mut lab = Lab::new(silent, vec![control(SCAN, 1, Run::Go, None)]);
        let options = ProbeOptions { adaptive, ..ProbeOptions::new(900, 1) };
        lab.grant(grants(SCAN, 1, 60, options));
        for _ in 0..30 {
            let id = lab.sent.last().unwrap().1.id;
            lab.input(Input::Settled(vec![Settled { id, outcome: Outcome::CLOSED, rtt: Some(ms(1)) }]));
        }
        let (first, last) = (lab.sent[0].1, lab.sent.last().unwrap().1);
        assert_eq!(first.wait, Wait { overdue: before, least: ms(900), timeout: ms(900) }, "nothing was measured");
        assert_eq!(last.wait.overdue, after);
    }
}

#[test]
fn a1_a3_when_the_right_ends_leases_are_dropped_and_reports_kept() {
    let mut lab = Lab::new(silent, vec![control(SCAN, 1, Run::Go, Some(Rate::per_second(10)))]);
    lab.run(ms(10));
    lab.answers = false;
    let answered = lab.now;
    lab.grant(grants(SCAN, 64, 500, ProbeOptions::new(900, 8_192)));
    lab.run(Duration::from_secs(30));
    let last = lab.sent.last().unwrap().0;
    assert!(last < answered + TTL && last > answered + TTL / 2, "{:?}", last.since(answered));
    assert_eq!((lab.agent.leases().count(), lab.redials), (0, 1));
    // It says hello again, and the coordinator gives it nothing to keep.
    lab.answers = true;
    let reported = lab.reports.len();
    lab.session(Vec::new(), vec![control(SCAN, 1, Run::Go, Some(Rate::per_second(10)))]);
    lab.run(Duration::from_secs(5));
    assert_eq!(lab.reports.len(), reported, "what was dropped is not reported");
}

#[test]
fn a4_a_report_without_reply_is_sent_again_in_each_session() {
    let mut lab = Lab::new(quick, vec![control(SCAN, 1, Run::Go, None)]);
    lab.run(ms(10));
    lab.answers = false;
    lab.grant(grants(SCAN, 3, 5, ProbeOptions::new(900, 8_192)));
    lab.run(ms(500));
    assert_eq!(lab.reports.len(), 3);
    for session in 2..=3 {
        lab.input(Input::Disconnected);
        lab.session(Vec::new(), vec![control(SCAN, 1, Run::Go, None)]);
        assert_eq!(lab.reports.len(), 3 * session);
        assert_eq!(lab.reports[..3], lab.reports[3 * (session - 1)..], "they are sent again as they are");
    }
    for epoch in 0..3 {
        lab.says(CoordinatorMessage::Committed { epoch: Epoch::new(epoch), reply: CommitReply::Gone });
    }
    lab.input(Input::Disconnected);
    lab.session(Vec::new(), Vec::new());
    assert_eq!(lab.reports.len(), 9, "a report that was answered is done with");
}

#[test]
fn a3_drain_reports_what_is_known_and_ends_once_it_is_answered() {
    let mut lab = Lab::new(quick, vec![control(SCAN, 1, Run::Go, Some(Rate::per_second(100)))]);
    lab.grant(grants(SCAN, 1, 100, ProbeOptions::new(900, 8_192)));
    lab.run(ms(295));
    lab.answers = false;
    lab.input(Input::Drain);
    let report = lab.reports.last().unwrap().clone();
    let outcomes = chunk::decode(&report.chunk, 100).unwrap();
    let known = outcomes.iter().filter(|outcome| outcome.is_probed()).count();
    assert!((25..=31).contains(&known), "{known}");
    assert!(outcomes.iter().all(|outcome| outcome.is_probed() || outcome.cause() == Some(Cause::Interrupted)));
    lab.run(Duration::from_secs(1));
    assert!(!lab.finished, "its report is not answered");
    let sent = lab.sent.len();
    lab.says(CoordinatorMessage::Committed { epoch: report.epoch, reply: CommitReply::Applied });
    assert!(lab.finished);
    assert_eq!(lab.sent.len(), sent, "it sends nothing more");
}

/// Prints what a probe costs the machine, window and host table full; asserts nothing about it.
#[test]
fn what_a_probe_costs_is_printed() {
    let mut lab = Lab::new(silent, vec![control(SCAN, 1, Run::Go, Some(Rate::per_second(10_000_000)))]);
    let options = ProbeOptions { per_host_rate: Some(Rate::per_second(1_000_000)), ..ProbeOptions::new(900, 8_192) };
    #[expect(clippy::disallowed_methods, reason = "a measurement that is printed, outside the machine")]
    let began = std::time::Instant::now();
    let mut probes = 0;
    for round in 0..20 {
        let grants = grants(SCAN, 4_096, 8, options);
        lab.now = lab.now + ms(10);
        for mut grant in grants {
            grant.epoch = Epoch::new(grant.epoch.get() + round * 1_000);
            lab.agent.handle_input(lab.now, Input::Message(Box::new(CoordinatorMessage::Grant(grant))));
        }
        let mut settled = Vec::new();
        for _ in 0..20 {
            lab.now = lab.now + ms(10);
            while let Some(output) = lab.agent.poll_output() {
                let Output::Probe(batch) = output else { continue };
                settled.extend(batch.probes.iter().map(|probe| Settled {
                    id: probe.id,
                    outcome: Outcome::FILTERED,
                    rtt: None,
                }));
            }
            for some in settled.chunks(64) {
                probes += some.len();
                lab.agent.handle_input(lab.now, Input::Settled(some.to_vec()));
            }
            settled.clear();
        }
    }
    println!("{probes} probes, {:?} each", began.elapsed() / probes as u32);
    assert!(probes > 100_000);
}
