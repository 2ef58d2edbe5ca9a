//! Sessions, instances and their rights: who may probe, and who gets what.

use super::change::Hailed;
use super::open::{Leased, Need};
use super::reach::Allowed;
use super::scan::Scan;
use super::{Coordinator, Event, Lease, Output, Pending, SessionId};
use crate::passes::History;
use crate::resume::Resumed;
use crate::settings::Settings;
use crate::store::{AgentFacts, Shard, StoreRequest};
use protocol::id::{Epoch, InstanceId, ScanId};
use protocol::message::{AgentMessage, Claim, CoordinatorMessage, Grant, Hello, ProbeOptions, Welcome};
use protocol::range_set::AddressSet;
use protocol::time::Time;
use protocol::version::SPOKEN;
use std::time::Duration;

pub(super) struct Session {
    /// Who said hello on it.
    pub(super) instance: Option<InstanceId>,
    pub(super) heard_at: Time,
    /// The number of its last claim or renewal.
    pub(super) last_number: u64,
}

#[derive(Default)]
pub(super) struct Instance {
    pub(super) facts: Option<AgentFacts>,
    /// What it may probe.
    pub(super) allow: AddressSet,
    pub(super) session: Option<SessionId>,
    /// When its right is over by its own account: the coordinator waits for the margin beyond. `None` while it was never given one.
    pub(super) right: Option<Time>,
    /// How many targets it wants that it was not given.
    pub(super) wants: u64,
    pub(super) each: u32,
    /// How many it wanted in hand when it claimed last: what it settles in a few seconds.
    pub(super) appetite: u64,
    /// Since when it has been wanting more and there was nothing.
    pub(super) idle_since: Option<Time>,
}

impl Instance {
    /// Where it sees from; empty while it never said hello.
    pub(super) fn vantage(&self) -> &str {
        self.facts.as_ref().map_or("", |facts| &facts.vantage)
    }
}

impl Coordinator {
    /// A coordinator that goes on with what a store holds. Instances that hold leases are waited for as long as their rights may
    /// last, unless `rights_ended`: those of a process that is known to be dead.
    pub fn resume(settings: Settings, now: Time, scans: &[Resumed], rights_ended: bool) -> Self {
        let mut coordinator = Self::new(settings);
        coordinator.resumed_at = Some(now);
        for resumed in scans {
            let Some(scan) = Scan::resume(resumed, settings.agent_wait) else {
                debug_assert!(false, "scan {} does not fit together", resumed.record.id);
                continue;
            };
            let id = resumed.record.id;
            coordinator.go_on_with(now, id, scan, resumed.record.status);
            coordinator.work = true;
            for (lease, before) in &resumed.leases {
                let (epoch, holder) = (lease.epoch, lease.holder);
                let before = if before.iter().all(|history| *history == History::PENDING) { &[][..] } else { before };
                let (covers, ends) = (lease.covers.as_slice().into(), lease.ends);
                let leased = Leased { shard: lease.shard, covers, before: before.into(), ends };
                let to_be_cut = ends > 0 && lease.holder.is_none();
                let lease = Lease { to_be_cut, ..Lease::new(now, id, leased, lease.holder) };
                coordinator.leases.insert(epoch, lease);
                if let Some(holder) = holder {
                    let instance = Instance { right: Some(now + settings.ttl), ..Instance::default() };
                    coordinator.instances.insert(holder, instance);
                }
            }
        }
        for scan in coordinator.scans.values_mut() {
            for &instance in coordinator.instances.keys() {
                scan.ledger.remember(instance);
            }
        }
        if rights_ended {
            let all: Vec<_> = coordinator.instances.keys().copied().collect();
            all.into_iter().for_each(|instance| coordinator.end_right(now, instance, false));
        }
        coordinator.give_up_targets();
        coordinator.advance(now);
        coordinator
    }

    /// How long the coordinator waits beyond a right: what was sent under it is in flight no longer than the longest try of a scan takes. It
    /// follows the scans that there are, for those rights too that were given before one of them came.
    pub(super) fn margin(&self) -> Duration {
        let timeout = self.scans.values().map(|scan| scan.options.timeout_ms).max().unwrap_or(0);
        self.settings.with_timeout(Duration::from_millis(timeout.into())).margin
    }

    /// Ends every right whose time is up.
    pub(super) fn end_rights(&mut self, now: Time) {
        let margin = self.margin();
        let is_over = |known: &Instance| known.right.is_some_and(|at| at + margin <= now);
        let ended: Vec<_> = self.instances.iter().filter(|(_, known)| is_over(known)).map(|(&id, _)| id).collect();
        for id in ended {
            self.end_right(now, id, true);
        }
    }

    /// Ends a right: closes the session, takes the leases back. It is never answered again. That it ended says something of the agent and of
    /// what it held if it `counts`: not where its process was this one, and somebody ended that.
    fn end_right(&mut self, now: Time, id: InstanceId, counts: bool) {
        self.counters.rights_ended += 1;
        if let Some(session) = self.instances.get(&id).and_then(|instance| instance.session) {
            self.close(now, session);
        }
        let held: Vec<_> =
            self.leases.iter().filter(|(_, lease)| lease.holder == Some(id)).map(|(&epoch, _)| epoch).collect();
        let is_running = |epoch: &Epoch| self.leases.get(epoch).is_some_and(|it| self.scans.contains_key(&it.scan));
        if counts && held.iter().any(is_running) {
            self.failed(now, id);
        }
        self.instances.remove(&id);
        for epoch in held.iter().filter(|_| counts) {
            if let Some(lease) = self.leases.get_mut(epoch) {
                lease.right_ended();
            }
        }
        self.release(held, counts);
        self.give_up_targets();
        for scan in self.scans.values_mut() {
            scan.disown(id);
            self.retell |= scan.ledger.forget(id);
            self.work = true;
        }
    }

    pub(super) fn message(&mut self, now: Time, id: SessionId, message: AgentMessage) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.heard_at = now;
        match (session.instance, message) {
            (None, AgentMessage::Hello(hello)) => self.hello(now, id, hello),
            (None, _) => self.refuse(now, id, "the first frame of a session is hello"),
            (Some(_), AgentMessage::Hello(_)) => self.refuse(now, id, "a session has one hello"),
            (Some(instance), AgentMessage::Claim(claim)) => self.claim(now, id, instance, claim),
            (Some(instance), AgentMessage::Renew { number, used, .. }) => {
                if self.renew(now, id, instance, number) {
                    self.uses(now, instance, &used);
                }
            }
            (Some(instance), AgentMessage::Report(report)) => self.report(now, id, instance, report),
            (Some(instance), AgentMessage::Acknowledge { scan, version }) => self.acknowledged(instance, scan, version),
            (Some(instance), AgentMessage::Leaving) => self.leave(now, id, instance),
        }
    }

    /// An instance has reported everything, has nothing in flight and will probe no more: its right is over at once.
    fn leave(&mut self, now: Time, id: SessionId, instance: InstanceId) {
        self.close(now, id);
        let held: Vec<_> =
            self.leases.iter().filter(|(_, lease)| lease.holder == Some(instance)).map(|(&epoch, _)| epoch).collect();
        self.release(held, false);
        self.instances.remove(&instance);
        for scan in self.scans.values_mut() {
            scan.disown(instance);
            scan.ledger.forget(instance);
        }
        (self.work, self.retell) = (true, true);
    }

    /// Hello is level-triggered: what the instance does not say it holds, it let go; what it should not hold, it is told to drop.
    fn hello(&mut self, now: Time, id: SessionId, hello: Hello) {
        let Some(version) = SPOKEN.meet(hello.versions) else {
            let older = if hello.versions.newest < SPOKEN.oldest { "agent" } else { "coordinator" };
            let reason = format!(
                "the agent speaks protocol version {}, the coordinator {SPOKEN}: upgrade the {older}",
                hello.versions
            );
            return self.refuse(now, id, &reason);
        };
        let known = self.instances.entry(hello.instance).or_default();
        known.allow = hello.allow.clone();
        known.facts = Some(AgentFacts {
            name: hello.agent.to_string(),
            vantage: hello.vantage.to_string(),
            software: hello.software,
            ping_method: hello.ping_method,
        });
        if let Some(older) = known.session.replace(id).filter(|&older| older != id) {
            self.sessions.remove(&older);
            self.outputs.push_back(Output::Close(older));
        }
        if let Some(known) = self.instances.get_mut(&hello.instance) {
            (known.wants, known.each, known.idle_since) = (0, 0, None);
        }
        if let Some(session) = self.sessions.get_mut(&id) {
            (session.instance, session.last_number, session.heard_at) = (Some(hello.instance), 0, now);
        }
        let ours: Vec<_> = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.holder == Some(hello.instance))
            .map(|(&epoch, _)| epoch)
            .collect();
        // Of a scan that ended there is nothing to hold.
        let goes_on = |epoch: &Epoch| self.leases.get(epoch).is_some_and(|it| self.scans.contains_key(&it.scan));
        let (keep, let_go): (Vec<_>, Vec<_>) =
            ours.into_iter().partition(|epoch| hello.holds.contains(epoch) && goes_on(epoch));
        self.release(let_go, false);
        let told = Hailed {
            instance: hello.instance,
            vantage: hello.vantage.to_string(),
            allow: hello.allow,
            shares: hello.shares,
            fresh: hello.holds.is_empty(),
            is_drained: self.instances.get(&hello.instance).is_some_and(|known| self.drained.has(known)),
        };
        let millis = |duration: std::time::Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        let welcome = Welcome {
            version,
            ttl_ms: millis(self.settings.ttl),
            renew_every_ms: millis(self.settings.renew_every),
            keep,
            controls: self.controls_for(&told),
        };
        self.send(id, CoordinatorMessage::Welcome(welcome));
        if told.is_drained {
            self.ask_all_back(told.instance);
        }
    }

    /// Renews a right if both hold: 1. the number rises within the session; 2. the right has not ended (see `end_rights`, which
    /// ran before). True if renewed. Answered at once, never behind the store.
    fn renew(&mut self, now: Time, id: SessionId, instance: InstanceId, number: u64) -> bool {
        let rises = self.sessions.get_mut(&id).is_some_and(|session| {
            let rises = number > session.last_number;
            session.last_number = session.last_number.max(number);
            rises
        });
        let Some(known) = self.instances.get_mut(&instance).filter(|known| rises && known.session == Some(id)) else {
            self.refuse(now, id, "the numbers of claims and renewals rise");
            return false;
        };
        known.right = Some(now + self.settings.ttl);
        self.send(id, CoordinatorMessage::Answered { number });
        true
    }

    fn claim(&mut self, now: Time, id: SessionId, instance: InstanceId, claim: Claim) {
        let in_hand: u64 = self.in_hand(instance).map(|leased| u64::from(leased.covered())).sum();
        // What it has been asked back for it does not count any more.
        let going = self.leases.values().filter(|lease| lease.holder == Some(instance) && lease.asked_back);
        let in_hand = in_hand - going.map(|lease| u64::from(lease.leased.covered())).sum::<u64>();
        if self.renew(now, id, instance, claim.number)
            && let Some(known) = self.instances.get_mut(&instance)
        {
            (known.wants, known.each) = (u64::from(claim.targets), claim.targets_each);
            known.appetite = in_hand + known.wants;
            self.work = true;
            self.uses(now, instance, &claim.used);
        }
    }

    /// How many leases an instance has, those on their way from the store included.
    pub(super) fn open_leases(&self, instance: InstanceId) -> usize {
        let held = self.leases.values().filter(|lease| lease.holder == Some(instance)).count();
        let coming: usize = self
            .pending
            .values()
            .map(|pending| match pending {
                Pending::Lease { instance: holder, work, .. } if *holder == instance => work.len(),
                _ => 0,
            })
            .sum();
        held + coming
    }

    /// The store made leases. They are granted if all hold: 1. the instance's right lasts (see `end_rights`); 2. the session that claimed is
    /// its session still; 3. it was not drained meanwhile. Else they are taken back: nobody was told.
    pub(super) fn leased(
        &mut self,
        now: Time,
        scan: ScanId,
        instance: InstanceId,
        session: SessionId,
        work: Vec<Leased>,
        epochs: &[Epoch],
    ) {
        let known = self.instances.get(&instance);
        let known = known.filter(|known| known.session == Some(session) && !self.drained.has(known));
        let (current, allow) = (known.is_some(), known.map(|known| known.allow.clone()).unwrap_or_default());
        let from = known.map(|known| known.vantage().to_owned()).unwrap_or_default();
        let covered: u64 = work.iter().map(|leased| u64::from(leased.covered())).sum();
        let mut nothing = Vec::new();
        let mut grants = Vec::with_capacity(epochs.len());
        for (&epoch, leased) in epochs.iter().zip(work) {
            if let Some(running) = self.scans.get(&scan).filter(|_| current)
                && let Some((cohort, addresses)) = running.cohort_with_addresses(leased.shard.cohort)
            {
                let Shard { pass, lo, hi, .. } = leased.shard;
                let covers =
                    match Allowed::of(cohort, addresses, &leased, &running.allowed(cohort.number(), &from, &allow)) {
                        Allowed::All => leased.covers.to_vec(),
                        Allowed::Some(bitmap) => bitmap,
                        Allowed::None => {
                            nothing.push(epoch);
                            Vec::new()
                        }
                    };
                let cohort = cohort.as_ref().clone();
                let options = ProbeOptions { per_host_rate: running.control.per_host_rate, ..running.options };
                grants.push(Grant { epoch, scan, pass, cohort, lo, hi, covers, options });
            }
            self.leases.insert(epoch, Lease::new(now, scan, leased, Some(instance)));
        }
        if !current {
            // One that was drained claims nothing again: it waits for what it has claimed.
            if let Some(known) = self.instances.get_mut(&instance).filter(|known| known.session == Some(session)) {
                known.wants += covered;
            }
            self.release(epochs.to_vec(), false);
            return self.forget_who_had_nothing(instance);
        }
        for grant in grants.into_iter().filter(|grant| !nothing.contains(&grant.epoch)) {
            self.send(session, CoordinatorMessage::Grant(grant));
        }
        for epoch in nothing {
            self.settle_out_of_scope(epoch);
        }
    }

    /// Takes leases back: their epochs stay live until they are leased again.
    pub(super) fn release(&mut self, epochs: Vec<Epoch>, ended: bool) {
        let mut by_scan: std::collections::BTreeMap<ScanId, Vec<Epoch>> = std::collections::BTreeMap::new();
        for epoch in epochs {
            if let Some(lease) = self.leases.get_mut(&epoch) {
                lease.holder = None;
                self.work = true;
                by_scan.entry(lease.scan).or_default().push(epoch);
            }
        }
        for (scan, epochs) in by_scan {
            if !self.scans.contains_key(&scan) {
                self.forget_leases_of(scan);
            }
            self.ask_store(StoreRequest::Release { scan, epochs, ended }, Pending::Nothing);
        }
    }

    /// Ends a session for a frame that broke the protocol.
    pub(super) fn refuse(&mut self, now: Time, session: SessionId, reason: &str) {
        self.counters.refused += 1;
        self.send(session, CoordinatorMessage::Refused { reason: reason.to_owned() });
        self.close(now, session);
    }

    pub(super) fn close(&mut self, now: Time, session: SessionId) {
        if self.sessions.contains_key(&session) {
            self.outputs.push_back(Output::Close(session));
            self.forget_session(now, session);
        }
    }

    /// A lost connection is not a lost lease: the instance stays, with what it holds, until its right ends.
    pub(super) fn forget_session(&mut self, now: Time, id: SessionId) {
        let Some(instance) = self.sessions.remove(&id).and_then(|session| session.instance) else { return };
        if self.instances.get(&instance).is_some_and(|known| known.session == Some(id)) {
            self.departs(now, instance);
        }
        if let Some(known) = self.instances.get_mut(&instance).filter(|known| known.session == Some(id)) {
            (known.session, known.wants, known.idle_since) = (None, 0, None);
            for scan in self.scans.values_mut() {
                scan.ledger.lost(instance);
            }
            self.retell = true;
            self.forget_who_had_nothing(instance);
        }
    }

    /// Forgets an instance that has no session, was given no right, and holds nothing: no end of a right would come.
    fn forget_who_had_nothing(&mut self, instance: InstanceId) {
        let has_nothing = |known: &Instance| known.session.is_none() && known.right.is_none();
        if self.instances.get(&instance).is_some_and(has_nothing) && self.open_leases(instance) == 0 {
            self.instances.remove(&instance);
            for scan in self.scans.values_mut() {
                self.retell |= scan.ledger.forget(instance);
            }
        }
    }

    /// Asks the store for what open cohorts need to go on: surveys, passes, their end.
    pub(super) fn go_on(&mut self, now: Time) {
        let rest = self.settings.rest;
        let anybody = self.instances.values().any(|known| known.session.is_some() && !self.drained.has(known));
        let mut needs = Vec::new();
        for (&scan, running) in &mut self.scans {
            let (of_cohorts, rested) = running.needs(now, rest, anybody);
            needs.extend(of_cohorts.into_iter().map(|(cohort, need)| (scan, cohort, need)));
            self.work |= rested;
        }
        for (scan, cohort, need) in needs {
            let (request, pending) = match need {
                Need::Survey(indices) => {
                    let request = StoreRequest::Survey { scan, cohort, indices: indices.clone() };
                    (request, Pending::Survey { scan, cohort, indices })
                }
                Need::BeginPass(pass) => {
                    (StoreRequest::BeginPass(scan, cohort, pass), Pending::BeginPass { scan, cohort, pass })
                }
                Need::Close => (StoreRequest::CloseCohort(scan, cohort), Pending::CloseCohort { scan, cohort }),
            };
            self.ask_store(request, pending);
        }
    }

    /// Tells agents that they may go: once no scan is left, where the settings say so.
    pub(super) fn dismiss(&mut self) {
        let finished = self.outputs.iter().any(|output| matches!(output, Output::Event(Event::Finished { .. })));
        if self.settings.dismiss && finished && self.scans.is_empty() {
            let sessions: Vec<_> = self.instances.values().filter_map(|known| known.session).collect();
            for session in sessions {
                self.send(session, CoordinatorMessage::Finished);
            }
        }
    }
}
