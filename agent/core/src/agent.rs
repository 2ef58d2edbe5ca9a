//! The agent's root machine: right, window, leases and unacknowledged reports, for all probe kinds.
//!
//! Invariants:
//! - A1: a probe is handed out only while the right lasts, with the right's end beside it.
//! - A2: a target is in flight at most once per lease, and its first outcome stays.
//! - A3: a lease ends in exactly one report, or is dropped because the right ended or the coordinator said so.
//! - A4: a report is kept until it is answered, and sent again in every session until then.
//! - A5: no more than the window is in flight. What is overdue is not: it is only listened for.
//! - A6: of no scan more packets are handed out than its share × time and one burst, over any interval, whatever its leases do.
//! - A7: no more is in flight to a host than its window, and no more handed out for it than the scan's rate per host.
//! - A8: of a scan whose control state is not known nothing is handed out; nothing to what that excludes.
//! - A10: a control state is acknowledged once it holds here and at everyone who sends.
//! - A9: hello is said only while nothing is in flight of a lease that it does not name.

mod awake;
mod control;
mod fill;
mod grants;
mod turns;

use crate::attempt::{Batch, ProbeId, Settled, Why};
use crate::host_table::{Again, Back, HostTable};
use crate::lease::Lease;
use crate::orders::{Orders, ScanOrders};
use crate::overall::Overall;
use crate::pacer::Pacer;
use crate::right::Right;
use crate::round_trip::WAIT_FIRST;
use crate::speed::Speed;
use crate::unacknowledged::Unacknowledged;
use awake::Awake;
use protocol::id::{AgentName, Epoch, InstanceId, ScanId};
use protocol::message::{
    AgentMessage, Checks, Claim, CoordinatorMessage, HeldShare, Hello, PingMethod, ProbeOptions, RefusedGrant, Run,
    UsedShare, Welcome,
};
use protocol::plan::SHARD_TARGETS_MAX;
use protocol::probe::{Cause, Outcome, ProbeKind, Slot, Target};
use protocol::range_set::AddressSet;
use protocol::rate::Rate;
use protocol::time::Time;
use protocol::version::SPOKEN;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use turns::Turns;

/// How much work an agent has in hand: its link may be slow to bring more, and a lost agent loses no more than this.
const WORK_IN_HAND: Duration = Duration::from_secs(3);
/// How much work a shard is.
const SHARD_WORK: Duration = Duration::from_millis(750);
/// The fewest targets that a shard is asked to have: below, the reports cost more than the probes.
const SHARD_TARGETS_MIN: u64 = 256;
/// And where these would be more than it gets through in the time.
const SLOW_TARGETS_MIN: u64 = 16;
/// How many checks wait at most: they are a sample, and more say nothing more.
const CHECKS_MAX: usize = 1_024;
/// Who this agent is, and what it can.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its name.
    pub name: AgentName,
    /// The place in the network it sees from.
    pub vantage: AgentName,
    /// This process.
    pub instance: InstanceId,
    /// The version of its software.
    pub software: String,
    /// How it asks for life.
    pub ping_method: PingMethod,
    /// What it may probe.
    pub allow: AddressSet,
    /// The most probes that this machine can have in flight.
    pub window_max: u32,
}

/// What happens to the agent.
#[derive(Debug)]
pub enum Input {
    /// A session is there, with nothing said.
    Connected,
    /// It is gone.
    Disconnected,
    /// The coordinator said something.
    Message(Box<CoordinatorMessage>),
    /// Probes have waited as long as their answers should take: they are in flight no longer, and may come back still.
    Overdue(Vec<ProbeId>),
    /// Probes came back.
    Settled(Vec<Settled>),
    /// Orders with this number, and all before, hold at everyone who sends.
    InForce(u64),
    /// This process is to end: report what there is, take no more.
    Drain,
}

/// What the agent wants done, in this order.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Tell the coordinator.
    Send(Box<AgentMessage>),
    /// Have these probes made.
    Probe(Batch),
    /// Tell everyone who sends what holds for each scan, in place of what they were told before; once it holds everywhere, answer by
    /// [`Input::InForce`].
    Orders(Orders),
    /// Close the session and dial again.
    Redial,
    /// There is nothing left to do, and nothing unreported: the process may end.
    Finished,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Session {
    None,
    /// There, and hello is not said yet.
    Silent,
    HelloSent,
    Open,
}

/// What holds for a scan. Outlives its leases.
#[derive(Debug)]
struct Scan {
    orders: ScanOrders,
    per_host_rate: Option<Rate>,
    pacer: Option<Pacer>,
    /// Which orders must be in force before it can be acknowledged that the state of this version is.
    waits_for: Option<(u64, u64)>,
    /// When it was stopped.
    stopped_at: Option<Time>,
    awake: Awake,
}

/// A probe that was handed out.
#[derive(Debug)]
struct Out {
    target: Target,
    why: Why,
    sent_at: Time,
    overdue: bool,
}

/// The agent. See the contract at the head of this crate.
pub struct Agent {
    identity: Identity,
    session: Session,
    right: Right,
    renew_every: Duration,
    renewed_at: Time,
    /// Targets of the last claim that were not granted since.
    asked: u64,
    leases: BTreeMap<Epoch, Lease>,
    /// Leases that are to be reported as soon as nothing of them is in flight.
    giving_back: BTreeSet<Epoch>,
    /// Whose turn it is to hand out a probe.
    turns: Turns,
    /// The round trip of the link, as the last answer showed it.
    link_rtt_us: Option<u32>,
    /// What was handed out and has not come back.
    out: BTreeMap<ProbeId, Out>,
    /// How many of them are in flight.
    in_flight: usize,
    hosts: HostTable,
    overall: Overall,
    /// What is to be asked again, and under which lease.
    checks: VecDeque<(Epoch, Again)>,
    checks_made: u32,
    scans: BTreeMap<ScanId, Scan>,
    last_orders: u64,
    /// When time alone lets something be handed out again.
    fill_at: Option<Time>,
    unacknowledged: Unacknowledged,
    speed: Speed,
    /// The grant that the last session ended with, until a hello that says so was answered.
    refused: Option<Box<RefusedGrant>>,
    draining: bool,
    finished: bool,
    outputs: VecDeque<Output>,
}

impl Agent {
    /// An agent without session or work.
    #[must_use]
    pub fn new(now: Time, identity: Identity) -> Self {
        // Until it is measured: a window of targets that are silent for as long as is waited at first.
        let speed = Speed::new(now, f64::from(identity.window_max) / WAIT_FIRST.as_secs_f64());
        Self {
            identity,
            session: Session::None,
            right: Right::default(),
            renew_every: Duration::from_secs(1),
            renewed_at: now,
            asked: 0,
            leases: BTreeMap::new(),
            giving_back: BTreeSet::new(),
            turns: Turns::default(),
            link_rtt_us: None,
            out: BTreeMap::new(),
            in_flight: 0,
            hosts: HostTable::default(),
            overall: Overall::default(),
            checks: VecDeque::new(),
            checks_made: 0,
            scans: BTreeMap::new(),
            last_orders: 0,
            fill_at: None,
            unacknowledged: Unacknowledged::default(),
            speed,
            refused: None,
            draining: false,
            finished: false,
            outputs: VecDeque::new(),
        }
    }

    /// Takes one input in.
    pub fn handle_input(&mut self, now: Time, input: Input) {
        self.end_right(now);
        match input {
            Input::Connected => (self.session, self.asked) = (Session::Silent, 0),
            Input::Disconnected => (self.session, self.asked) = (Session::None, 0),
            Input::Message(message) => self.message(now, *message),
            Input::Overdue(overdue) => self.overdue(now, &overdue),
            Input::Settled(settled) => self.settled(now, &settled),
            Input::InForce(orders) => self.in_force(orders),
            Input::Drain => self.drain(now),
        }
        self.advance(now);
    }

    /// Lets the time act.
    pub fn handle_timeout(&mut self, now: Time) {
        self.end_right(now);
        if self.session == Session::Open && self.renewed_at + self.renew_every <= now {
            let number = self.right.sent(now);
            self.renewed_at = now;
            let used = self.used();
            self.send(AgentMessage::Renew { number, used, rtt_us: self.link_rtt_us });
        }
        self.advance(now);
    }

    /// What to do next; until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is wanted.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let renewal = (self.session == Session::Open).then(|| self.renewed_at + self.renew_every);
        renewal.into_iter().chain(self.right.ends_at()).chain(self.fill_at).min()
    }

    /// The epochs of the leases that it works on.
    pub fn leases(&self) -> impl Iterator<Item = Epoch> + '_ {
        self.leases.keys().copied()
    }

    fn send(&mut self, message: AgentMessage) {
        if self.session != Session::None {
            self.outputs.push_back(Output::Send(Box::new(message)));
        }
    }

    /// The right ended: drop the leases, keep the unacknowledged reports, dial and say hello.
    fn end_right(&mut self, now: Time) {
        if self.right.ends_at().is_some_and(|ends_at| ends_at <= now) {
            self.right.end();
            self.keep_leases(&[]);
            if self.session != Session::None {
                (self.session, self.asked) = (Session::None, 0);
                self.outputs.push_back(Output::Redial);
            }
        }
    }

    /// Says hello on a new session once nothing of a dropped lease is in flight: hello lets go of what it does not name, and the
    /// coordinator may give that to others at once.
    fn hello(&mut self) {
        if self.session != Session::Silent || !self.out.keys().all(|id| self.leases.contains_key(&id.epoch)) {
            return;
        }
        self.session = Session::HelloSent;
        let holds = self.leases.keys().copied().chain(self.unacknowledged.iter().map(|report| report.epoch)).collect();
        self.send(AgentMessage::Hello(Hello {
            versions: SPOKEN,
            agent: self.identity.name.clone(),
            instance: self.identity.instance,
            vantage: self.identity.vantage.clone(),
            software: self.identity.software.clone(),
            kinds: ProbeKind::ALL.to_vec(),
            ping_method: self.identity.ping_method,
            allow: self.identity.allow.clone(),
            holds,
            shares: self
                .scans
                .iter()
                .map(|(&scan, state)| HeldShare { scan, share: state.pacer.as_ref().map(Pacer::rate) })
                .collect(),
            refused: self.refused.clone(),
        }));
    }

    fn message(&mut self, now: Time, message: CoordinatorMessage) {
        match (self.session, message) {
            (Session::HelloSent, CoordinatorMessage::Welcome(welcome)) => self.welcome(now, welcome),
            (Session::Open, CoordinatorMessage::Grant(grant)) => self.granted(now, grant),
            (Session::Open, CoordinatorMessage::Answered { number }) => {
                let rtt = self.right.sent_at(number).map(|sent_at| now.since(sent_at));
                // A time that is too long is none of a link.
                self.link_rtt_us = rtt.and_then(|rtt| u32::try_from(rtt.as_micros()).ok());
                self.right.answered(number);
            }
            (Session::Open, CoordinatorMessage::Committed { epoch, .. }) => {
                self.unacknowledged.settle(epoch);
            }
            (Session::Open, CoordinatorMessage::Control(control)) => self.control(now, control),
            (Session::Open, CoordinatorMessage::GiveBack { epoch }) => {
                // What it asked for is forgotten where it is asked something back: it may be slower now.
                self.asked = 0;
                self.give_back(now, epoch);
            }
            (Session::Open, CoordinatorMessage::Finished) => self.draining = true,
            (_, CoordinatorMessage::Refused { .. }) => self.redial(),
            (Session::None | Session::Silent, _) => {}
            (Session::HelloSent | Session::Open, _) => self.redial(),
        }
    }

    fn redial(&mut self) {
        (self.session, self.asked) = (Session::None, 0);
        self.outputs.push_back(Output::Redial);
    }

    fn welcome(&mut self, now: Time, welcome: Welcome) {
        self.session = Session::Open;
        self.refused = None;
        self.right.session_began(Duration::from_millis(u64::from(welcome.ttl_ms)));
        self.renew_every = Duration::from_millis(u64::from(welcome.renew_every_ms.max(1)));
        self.renewed_at = now;
        self.keep_leases(&welcome.keep);
        self.scans.retain(|scan, _| welcome.controls.iter().any(|control| control.scan == *scan));
        for control in welcome.controls {
            self.control(now, control);
        }
        let again: Vec<_> = self.unacknowledged.iter().cloned().collect();
        for report in again {
            self.send(AgentMessage::Report(report));
        }
        let number = self.right.sent(now);
        let used = self.used();
        self.send(AgentMessage::Renew { number, used, rtt_us: self.link_rtt_us });
    }

    fn drain(&mut self, now: Time) {
        self.draining = true;
        let all: Vec<_> = self.leases.keys().copied().collect();
        for epoch in all {
            self.give_back(now, epoch);
        }
    }

    /// Sends no more of a lease, lets end what is in flight, then reports it: the rest is the next pass's. In one step another agent
    /// could probe what is still in flight here.
    fn give_back(&mut self, now: Time, epoch: Epoch) {
        if self.leases.contains_key(&epoch) {
            self.turns.retain(|turn| turn != epoch);
            self.giving_back.insert(epoch);
            self.report_given_back(now, epoch);
        }
    }

    fn report_given_back(&mut self, now: Time, epoch: Epoch) {
        // What is asked again to measure the loss is nothing that the lease waits for.
        let tries = ProbeId { epoch, index: 0 }..ProbeId::check(epoch, 0);
        if self.giving_back.contains(&epoch) && self.out.range(tries).next().is_none() {
            self.report(now, epoch, Cause::Interrupted);
        }
    }

    /// Ends a lease: what is known is reported, the rest is `not-probed`.
    fn report(&mut self, now: Time, epoch: Epoch, cause: Cause) {
        let Some(lease) = self.leases.remove(&epoch) else { return };
        self.giving_back.remove(&epoch);
        self.turns.retain(|turn| turn != epoch);
        self.forget_aside(&lease);
        let window = self.window(&lease.grant().options);
        let report = lease.into_report(now, cause, Checks { window, ..self.hosts.take_checked() });
        self.unacknowledged.keep(report.clone());
        if self.session == Session::Open {
            self.send(AgentMessage::Report(report));
        }
    }

    fn overdue(&mut self, now: Time, overdue: &[ProbeId]) {
        self.overall.begins();
        let mut counted = 0;
        for &id in overdue {
            let Some(out) = self.out.get_mut(&id).filter(|out| !out.overdue) else { continue };
            out.overdue = true;
            self.in_flight -= 1;
            let (target, why, sent_at) = (out.target, out.why, out.sent_at);
            counted += u64::from(why.is_try());
            if why == Why::Check {
                self.overall.checked(now, target, sent_at, false);
            }
            let again = self.hosts.overdue(now, target, why, sent_at);
            self.ask_again(id.epoch, again);
            if why.is_try() {
                self.pinged(now, id.epoch, target, None);
            }
        }
        self.speed.through(now, counted);
    }

    /// Something is to be asked again, under the lease whose silent try was the reason.
    fn ask_again(&mut self, epoch: Epoch, again: Option<Again>) {
        if let Some(again) = again.filter(|_| self.checks.len() < CHECKS_MAX) {
            self.checks.push_back((epoch, again));
        }
    }

    /// A ping was answered in time, one that was sent then, or was not.
    fn pinged(&mut self, now: Time, epoch: Epoch, target: Target, answered: Option<Time>) {
        let Some(grant) = self.leases.get(&epoch).map(Lease::grant) else { return };
        let lawful = target.slot == Slot::Ping && grant.options.law;
        let Some(scan) = self.scans.get_mut(&grant.scan).filter(|_| lawful) else { return };
        if let Some(sent_at) = answered {
            return scan.awake.answered(target.address, sent_at);
        }
        let again = scan.awake.silent(now);
        self.ask_again(epoch, again.map(|address| Again { target: Target { address, ..target }, why: Why::Check }));
    }

    /// How much may be in flight of what a scan and this machine allow.
    fn window(&self, options: &ProbeOptions) -> u32 {
        let most = options.window.min(self.identity.window_max);
        let allowed = if options.law { self.overall.of(most) } else { most };
        if options.adaptive { self.overall.at_first(allowed) } else { allowed }
    }

    /// What a probe that came back says of the window over all.
    fn heard(&mut self, now: Time, back: &Back) {
        let silent = back.outcome.is_silence();
        match back.why {
            // What was overdue before counted as lost then.
            Why::Check if !back.overdue && (silent || back.outcome.is_sign_of_life()) => {
                self.overall.checked(now, back.target, back.sent_at, !silent);
            }
            Why::Try { .. } if back.outcome == Outcome::not_probed(Cause::LocalLimit) => self.overall.pressed(now),
            Why::Try { .. } if !back.overdue && back.outcome.is_sign_of_life() => {
                self.overall.answered(self.identity.window_max);
            }
            _ => {}
        }
    }

    fn settled(&mut self, now: Time, settled: &[Settled]) {
        self.overall.begins();
        let mut counted = 0;
        for one in settled {
            let Some(Out { target, why, sent_at, overdue }) = self.out.remove(&one.id) else { continue };
            self.in_flight -= usize::from(!overdue);
            let back = Back { target, outcome: one.outcome, rtt: one.rtt, overdue, why, sent_at };
            self.heard(now, &back);
            let again = self.hosts.settled(now, back);
            self.ask_again(one.id.epoch, again);
            if !why.is_try() {
                continue;
            }
            if !overdue && (one.outcome.is_silence() || one.outcome.is_sign_of_life()) {
                self.pinged(now, one.id.epoch, target, one.outcome.is_sign_of_life().then_some(sent_at));
            }
            let Some(lease) = self.leases.get_mut(&one.id.epoch) else { continue };
            // Refused before the send because the batch was old; the right may have been renewed since.
            if one.outcome == Outcome::not_probed(Cause::Interrupted) {
                lease.put_back(one.id);
                self.report_given_back(now, one.id.epoch);
                continue;
            }
            counted += u64::from(lease.settle(one, sent_at) && !overdue);
            if lease.open() == 0 {
                self.report(now, one.id.epoch, Cause::InternalError);
            }
            self.report_given_back(now, one.id.epoch);
        }
        self.speed.through(now, counted);
    }

    fn advance(&mut self, now: Time) {
        self.hello();
        self.fill(now);
        self.claim(now);
        let through = self.draining && self.leases.is_empty() && self.unacknowledged.is_empty();
        // Checks tell nobody anything any more.
        if through && !self.finished && !self.out.values().any(|out| out.why.is_try()) {
            self.finished = true;
            self.send(AgentMessage::Leaving);
            self.outputs.push_back(Output::Finished);
        }
    }

    /// How many targets it settles in `time`, and how many are asked for at least: by its speed, and by its shares where every scan
    /// that it knows has one, so that a slow scan does not lie for hours in the hands of one agent.
    fn worth_claiming(&self, time: Duration) -> (u64, u64) {
        let by_speed = self.speed.targets_in(time);
        let least = by_speed.clamp(SLOW_TARGETS_MIN, SHARD_TARGETS_MIN);
        let mut shares =
            self.scans.values().filter(|scan| scan.orders.run == Run::Go).map(|scan| Some(scan.pacer.as_ref()?.rate()));
        let share =
            shares.try_fold(None, |sum: Option<f64>, share| Some(Some(sum.unwrap_or(0.0) + share?.as_per_second())));
        match share.flatten() {
            Some(share) => {
                let by_share = (share * time.as_secs_f64()).ceil() as u64;
                (by_speed.min(by_share), least.min(by_share))
            }
            None => (by_speed, least),
        }
    }

    /// Drops all leases but these.
    fn keep_leases(&mut self, keep: &[Epoch]) {
        let (kept, dropped) = std::mem::take(&mut self.leases).into_iter().partition(|(epoch, _)| keep.contains(epoch));
        self.leases = kept;
        self.turns.retain(|epoch| keep.contains(&epoch));
        self.giving_back.retain(|epoch| keep.contains(epoch));
        let dropped: BTreeMap<Epoch, Lease> = dropped;
        for lease in dropped.values() {
            self.forget_aside(lease);
        }
        if !dropped.is_empty() {
            self.hosts.forget_known();
            self.scans.values_mut().for_each(|scan| scan.awake = Awake::default());
        }
    }

    /// A lease is gone, and with it what it had put aside. What it was about to send is no reason any more for others to wait.
    fn forget_aside(&mut self, lease: &Lease) {
        for (address, count) in lease.aside() {
            self.hosts.take_back(address, count);
        }
        self.hosts.wake_all();
    }

    /// Claims if all hold: 1. the session is open; 2. it is not to end; 3. what it has in hand and asked for already is less than two thirds
    /// of what it settles in [`WORK_IN_HAND`]. A claim replaces the one before.
    fn claim(&mut self, now: Time) {
        if self.session != Session::Open || self.draining {
            return;
        }
        let (in_hand, least) = self.worth_claiming(WORK_IN_HAND);
        let want = in_hand.max(least);
        // What waits for a paused scan keeps nobody from other work.
        let goes_on =
            |lease: &&Lease| self.scans.get(&lease.grant().scan).is_none_or(|scan| scan.orders.run == Run::Go);
        let held: u64 = self.leases.values().filter(goes_on).map(|lease| u64::from(lease.open())).sum();
        if (held + self.asked) * 3 >= want * 2 {
            return;
        }
        let targets = u32::try_from(want - held).unwrap_or(u32::MAX);
        let (each, least) = self.worth_claiming(SHARD_WORK);
        let each = each.clamp(least, u64::from(SHARD_TARGETS_MAX));
        self.asked = u64::from(targets);
        self.renewed_at = now;
        let number = self.right.sent(now);
        let (targets_each, used) = (u32::try_from(each).unwrap_or(SHARD_TARGETS_MAX), self.used());
        self.send(AgentMessage::Claim(Claim { number, targets, targets_each, used }));
    }

    /// What it has used of its shares.
    fn used(&self) -> Vec<UsedShare> {
        let paced = self.scans.iter().filter_map(|(&scan, state)| Some((scan, state.pacer.as_ref()?)));
        paced.map(|(scan, pacer)| UsedShare { scan, packets: pacer.taken() }).collect()
    }
}

#[cfg(test)]
mod tests;
