//! Who is given work of which scan, and from whom work is asked back.
//!
//! Scans take turns by start-time fair queueing (Goyal, Vin and Cheng, 1996): the next piece is cut from the scan whose targets granted
//! so far, by its weight, are the fewest; one that had nothing to give for a while does not catch up.

use super::instances::Instance;
use super::reach::{Everybody, Reach};
use super::scan::{Scan, Work};
use super::{Coordinator, Lease, Output, Pending};
use crate::store::{Cut, LeaseOrder, StoreRequest};
use protocol::id::{InstanceId, ScanId};
use protocol::message::CoordinatorMessage;
use protocol::range_set::AddressSet;
use protocol::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::open::Leased;

/// How much work an agent has in hand of a scan with a budget, where there are others: more would hold it.
pub(super) const CAPPED_WORK: Duration = Duration::from_secs(3);
/// How much work agents have in hand: a lease that is given is through in about as long.
const EXPECTED: Duration = Duration::from_secs(3);

/// From this pass on nothing is asked back: a scan that is slow everywhere must not run through its passes.
const ASKED_BACK_PASS_MAX: u8 = 32;

/// What was granted of a scan, by its weight: where it stands in the queue.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Turn {
    /// In targets by weight.
    pub(super) next: f64,
}

impl Coordinator {
    /// Gives work to whoever wants some, the one that has the fewest leases first.
    pub(super) fn serve(&mut self, now: Time) {
        self.full = false;
        let mut claimants: Vec<_> = self
            .instances
            .iter()
            .filter(|(_, known)| known.session.is_some() && known.wants > 0 && !self.drained.has(known))
            .filter(|(_, known)| known.facts.as_ref().is_some_and(|facts| !self.rests(&facts.name)))
            .map(|(&id, _)| (self.open_leases(id), id))
            .collect();
        claimants.sort_unstable();
        if claimants.is_empty() {
            return;
        }
        let all = self.scans.iter().map(|(&id, scan)| (id, self.reach(now, scan))).collect();
        for (open, instance) in claimants {
            self.serve_one(now, instance, open, &all);
        }
    }

    /// What of a scan anybody may probe who is connected, or went a short time ago. At its start, and after one of this process, nobody
    /// knows who comes.
    pub(super) fn reach(&self, now: Time, scan: &Scan) -> Everybody {
        if scan.started_at.is_none_or(|at| now < at + scan.agent_wait) {
            return Everybody::unknown();
        }
        let mut all = Everybody::default();
        for known in self.instances.values().filter(|known| known.session.is_some() && !self.drained.has(known)) {
            all.add(known.vantage(), &known.allow);
        }
        for (_, from, allow) in self.departed.iter().filter(|(left_at, ..)| now < *left_at + scan.agent_wait) {
            all.add(from, allow);
        }
        all
    }

    /// An agent went: what it may probe is kept for it for a while.
    pub(super) fn departs(&mut self, now: Time, instance: InstanceId) {
        if let Some(known) = self.instances.get(&instance) {
            let is_same = |from: &str, allow: &AddressSet| from == known.vantage() && *allow == known.allow;
            match self.departed.iter_mut().find(|(_, from, allow)| is_same(from, allow)) {
                Some(departed) => departed.0 = now,
                None => self.departed.push((now, known.vantage().to_owned(), known.allow.clone())),
            }
        }
    }

    /// What was kept for somebody who did not come back is kept no longer; a scan of which nobody may probe anything for so long ends.
    pub(super) fn give_up_waiting(&mut self, now: Time) {
        let last = std::mem::replace(&mut self.waited_until, now);
        let ended = self.waits_end_at().any(|at| last < at && at <= now);
        self.work |= ended;
        let longest = self.scans.values().map(|scan| scan.agent_wait).max().unwrap_or_default();
        self.departed.retain(|(left_at, ..)| now < *left_at + longest);
        let (instances, leases, drained) = (&self.instances, &self.leases, &self.drained);
        for (&id, scan) in self.scans.iter_mut().filter(|(_, scan)| scan.created) {
            scan.started_at.get_or_insert(now);
            let is_there = |known: &&Instance| known.session.is_some() && !drained.has(known);
            let useful = instances.values().filter(is_there).any(|known| scan.is_for(known.vantage(), &known.allow));
            let held = leases.values().any(|lease| lease.scan == id && lease.holder.is_some());
            let alone = scan.goes_on() && !useful && !held;
            scan.alone_since = alone.then(|| scan.alone_since.unwrap_or(now));
            scan.given_up |= scan.alone_since.is_some_and(|since| since + scan.agent_wait <= now);
        }
    }

    /// When what a scan waits for is waited for no longer: what may be past.
    fn waits_end_at(&self) -> impl Iterator<Item = Time> + '_ {
        self.scans.values().filter(|scan| !scan.given_up && !scan.finishing).flat_map(|scan| {
            let departed = self.departed.iter().map(|&(left_at, ..)| left_at);
            departed.chain(scan.started_at).chain(scan.alone_since).map(|since| since + scan.agent_wait)
        })
    }

    /// When [`give_up_waiting`](Self::give_up_waiting) has something to do.
    pub(super) fn gives_up_at(&self) -> Option<Time> {
        self.waits_end_at().filter(|&at| at > self.waited_until).min()
    }

    fn serve_one(&mut self, now: Time, instance: InstanceId, open: usize, all: &BTreeMap<ScanId, Everybody>) {
        let Some(known) = self.instances.get(&instance) else { return };
        let (Some(session), Some(agent)) = (known.session, known.facts.clone()) else { return };
        let (mut left, each, allow) = (known.wants, known.each, known.allow.clone());
        let mut room = self.settings.leases_max.saturating_sub(open);
        let mut given: BTreeMap<ScanId, Vec<(Cut, Leased)>> = BTreeMap::new();
        let mut nothing: BTreeSet<ScanId> = BTreeSet::new();
        let alone = self.scans.len() == 1;
        let mut draining = self.is_alone(instance);
        let mut portioned = false;
        while !draining && left > 0 && room > 0 {
            let next = self
                .scans
                .iter()
                .filter(|(id, _)| !nothing.contains(id))
                .map(|(&id, scan)| (scan.turn.next.max(self.served), id))
                .min_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
            let Some((turn, scan)) = next else { break };
            let (mut targets, mut each, mut pieces) = (left, each, room);
            let in_hand = given.get(&scan).map_or(0, |work| covered(work));
            if let Some(portion) = self.portion(scan, instance) {
                portioned = true;
                (targets, each) = (targets.min(portion.targets.saturating_sub(in_hand)), each.min(portion.each));
            }
            if !alone {
                let may = self.may_have(scan, instance).saturating_sub(in_hand);
                targets = targets.min(may).min(u64::from(each.max(1)));
                pieces = room.min(1);
            }
            let reach = all.get(&scan).map(|all| Reach { claimant: &allow, from: &agent.vantage, all });
            let work = match &reach {
                Some(reach) if targets > 0 => {
                    let suspect = given.values().flatten().any(|(_, leased)| leased.is_suspect());
                    self.cut((scan, instance), targets, each, pieces, reach, suspect)
                }
                _ => Vec::new(),
            };
            if work.is_empty() {
                if let Some(lonely) = reach.as_ref().and_then(|reach| self.lonely_for(scan, instance, reach)) {
                    // It waits until the agent has nothing else, which is as long as nothing else is given to it.
                    draining = true;
                    if open == 0 && given.is_empty() {
                        given.entry(scan).or_default().extend(self.take_lonely(lonely));
                    }
                    break;
                }
                nothing.insert(scan);
                continue;
            }
            room -= work.len();
            left = left.saturating_sub(covered(&work));
            if let Some(running) = self.scans.get_mut(&scan) {
                running.turn.next = turn + covered(&work) as f64 / f64::from(running.control.weight);
                self.served = if alone { running.turn.next } else { turn };
            }
            given.entry(scan).or_default().extend(work);
        }
        for (scan, work) in given {
            let (cuts, work) = work.into_iter().unzip();
            let order = LeaseOrder { scan, holder: instance, agent: agent.clone(), cuts };
            self.ask_store(StoreRequest::Lease(order), Pending::Lease { scan, instance, session, work });
        }
        self.full |= left > 0 && (room == 0 || draining || portioned);
        if let Some(known) = self.instances.get_mut(&instance) {
            known.wants = left;
            known.idle_since =
                (left > 0 && room > 0 && !draining && !portioned).then(|| known.idle_since.unwrap_or(now));
        }
    }

    /// How many more targets of a scan an instance may have in hand: what its share makes of a few seconds.
    fn may_have(&self, scan: ScanId, instance: InstanceId) -> u64 {
        let Some(share) = self.scans.get(&scan).and_then(|running| running.ledger.share(instance)) else {
            return u64::MAX;
        };
        ((share * CAPPED_WORK.as_secs_f64()).ceil() as u64).max(1).saturating_sub(self.held(scan, instance))
    }

    fn cut(
        &mut self,
        (scan, instance): (ScanId, InstanceId),
        targets: u64,
        each: u32,
        room: usize,
        reach: &Reach<'_>,
        has_suspect: bool,
    ) -> Vec<(Cut, Leased)> {
        let known = self.scans.get(&scan).filter(|running| running.ledger.has_share(instance) && running.goes_on());
        let Some(running) = known else { return Vec::new() };
        let whole = running.is_whole_for(reach.claimant);
        let returned = self.returned_for(scan, instance, (!whole).then_some(reach), has_suspect);
        let Some(running) = self.scans.get_mut(&scan) else { return Vec::new() };
        let work = running.cut(instance, targets, each, room, returned, (!whole).then_some(reach));
        work.into_iter()
            .filter_map(|Work { cut, leased }| match (&cut, leased) {
                (_, Some(leased)) => Some((cut, leased)),
                // Its epoch dies when the store leases it again; the requests are in one queue, so a report behind this finds it dead.
                (Cut::Returned(epoch), None) => self.leases.remove(epoch).map(|lease| (cut, lease.leased)),
                (Cut::Frontier { .. }, None) => None,
            })
            .collect()
    }

    /// Where somebody finds nothing to do, the lease that is furthest behind is asked back, if it is older than twice what it should
    /// have taken and two timeouts: what is left of it is the next pass's.
    pub(super) fn ask_back(&mut self, now: Time) {
        self.ask_back_at = None;
        let idle: Vec<_> =
            self.instances.iter().filter(|(_, known)| known.idle_since.is_some()).map(|(&id, _)| id).collect();
        if idle.is_empty() {
            return;
        }
        let mut asked = Vec::new();
        for (&scan, running) in self.scans.iter().filter(|(_, running)| running.goes_on()) {
            let others = |holder: InstanceId| idle.iter().any(|&one| one != holder && running.ledger.has_share(one));
            let behind = self
                .leases
                .iter()
                .filter(|(_, lease)| lease.scan == scan && lease.may_be_asked_back())
                .filter_map(|(&epoch, lease)| Some((lease.granted_at, epoch, lease.holder?)))
                .filter(|&(_, _, holder)| others(holder))
                .filter(|(_, _, holder)| self.instances.get(holder).is_some_and(|known| known.session.is_some()))
                .min();
            let Some((granted_at, _, holder)) = behind else { continue };
            let timeout = Duration::from_millis(running.options.timeout_ms.into());
            let due = granted_at + EXPECTED * 2 + timeout * 2;
            if due > now {
                self.ask_back_at = self.ask_back_at.into_iter().chain([due]).min();
                continue;
            }
            // Those of the same age at the same agent are as far behind.
            let old = self.leases.iter().filter(|(_, lease)| {
                lease.scan == scan && lease.holder == Some(holder) && lease.may_be_asked_back() && {
                    lease.granted_at + EXPECTED * 2 + timeout * 2 <= now
                }
            });
            asked.extend(old.map(|(&epoch, _)| (holder, epoch)));
        }
        for (holder, epoch) in asked {
            if let Some(lease) = self.leases.get_mut(&epoch) {
                lease.asked_back = true;
            }
            let Some(known) = self.instances.get_mut(&holder) else { continue };
            // What it asked for says how fast it was; it asks again.
            (known.wants, known.appetite) = (0, 0);
            if let Some(session) = known.session {
                self.outputs.push_back(Output::Send(session, Box::new(CoordinatorMessage::GiveBack { epoch })));
            }
        }
    }
}

impl Lease {
    fn may_be_asked_back(&self) -> bool {
        !self.asked_back && self.leased.shard.pass < ASKED_BACK_PASS_MAX
    }
}

fn covered(work: &[(Cut, Leased)]) -> u64 {
    work.iter().map(|(_, leased)| u64::from(leased.covered())).sum()
}
