//! Rights that ended: what that says of the shards that were held, and of the agents that held them.
//!
//! A target can kill whoever probes it, and an agent can die of itself. A shard whose holder's right ended is cut in sixteen before it is
//! leased again, and the parts carry the count. The first end says little, as most have nothing to do with what was probed: its parts are
//! leased like everything else. From the second on an agent has one such part at a time; and one target alone is leased alone. Three ends
//! of that settle it as `agent-failed`.
//!
//! An agent whose right ended three times in a row with leases in hand, without a report taken in between, gets none for a minute. A right
//! that ends is one failure, however many leases it held: they were lost together.

use super::{Coordinator, Event, Lease, Output, Pending, SessionId};
use crate::store::{Commit, Cut, Part, StoreRequest};
use protocol::chunk;
use protocol::id::{Epoch, InstanceId, ScanId};
use protocol::probe::{Cause, Outcome};
use protocol::time::Time;
use std::time::Duration;

use super::open::Leased;
use super::reach::Reach;

/// From so many ends on a shard is suspect: an agent has one of more than one target at a time, and one target is leased alone.
const SUSPECT: u8 = 2;
/// So many ends of one target that was leased alone are its own fault.
const ALONE_ENDS: u8 = 3;
/// So many rights in a row an agent may lose,
const FAILURES_MAX: u8 = 3;
/// before it gets nothing for so long.
const REST: Duration = Duration::from_secs(60);

/// How an agent did lately, whatever instances it had.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Failures {
    /// In a row.
    count: u8,
    /// Until when it gets nothing.
    rests_until: Option<Time>,
}

impl Leased {
    fn is_one(&self) -> bool {
        self.shard.len() == 1 || self.covered() == 1
    }

    /// Whether an agent that has it may have nothing else.
    pub(super) fn goes_alone(&self) -> bool {
        self.ends >= SUSPECT && self.is_one()
    }

    /// Whether it is leased beside others, but one such at a time.
    pub(super) fn is_suspect(&self) -> bool {
        self.ends >= SUSPECT && !self.is_one()
    }

    fn is_given_up(&self) -> bool {
        self.ends >= SUSPECT + ALONE_ENDS && self.is_one()
    }
}

impl Lease {
    /// A right ended on it.
    pub(super) fn right_ended(&mut self) {
        self.leased.ends = self.leased.ends.saturating_add(1);
        self.to_be_cut = true;
    }

    /// Whether it is cut before it is leased again.
    fn is_to_be_cut(&self) -> bool {
        self.to_be_cut && self.holder.is_none() && !self.leased.is_one()
    }
}

impl Coordinator {
    /// What an instance has in hand, or is about to have.
    pub(super) fn in_hand(&self, instance: InstanceId) -> impl Iterator<Item = &Leased> {
        let held = self.leases.values().filter(move |lease| lease.holder == Some(instance)).map(|lease| &lease.leased);
        let coming = self.pending.values().filter_map(move |pending| match pending {
            Pending::Lease { instance: holder, work, .. } if *holder == instance => Some(work.iter()),
            _ => None,
        });
        held.chain(coming.flatten())
    }

    /// Whether an instance has one target that is leased alone.
    pub(super) fn is_alone(&self, instance: InstanceId) -> bool {
        self.in_hand(instance).any(Leased::goes_alone)
    }

    /// The returned leases of a scan that an instance may have beside others, `has_suspect` if it is about to get a suspect one. What is first to be cut in parts is, and comes later.
    pub(super) fn returned_for(
        &mut self,
        scan: ScanId,
        instance: InstanceId,
        reach: Option<&Reach<'_>>,
        has_suspect: bool,
    ) -> Vec<(Epoch, crate::store::Shard, u32)> {
        let Some(running) = self.scans.get(&scan) else { return Vec::new() };
        let takes = |lease: &Lease| reach.is_none_or(|reach| running.may_take(&lease.leased, reach));
        let mut one_suspect = !has_suspect && !self.in_hand(instance).any(Leased::is_suspect);
        let (mut returned, mut whole) = (Vec::new(), Vec::new());
        for (&epoch, lease) in self.returned(scan).filter(|(_, lease)| takes(lease)) {
            if lease.is_to_be_cut() {
                whole.push(epoch);
            } else if !lease.leased.goes_alone()
                && (!lease.leased.is_suspect() || std::mem::replace(&mut one_suspect, false))
            {
                returned.push((epoch, lease.leased.shard, lease.leased.covered()));
            }
        }
        for epoch in whole {
            self.split(epoch);
        }
        returned
    }

    /// One target of a scan that is to be leased alone, and may be to this instance.
    pub(super) fn lonely_for(&self, scan: ScanId, instance: InstanceId, reach: &Reach<'_>) -> Option<Epoch> {
        let running =
            self.scans.get(&scan).filter(|running| running.goes_on() && running.ledger.has_share(instance))?;
        let mut lonely = self.returned(scan).filter(|(_, lease)| lease.leased.goes_alone());
        lonely.find(|(_, lease)| running.may_take(&lease.leased, reach)).map(|(&epoch, _)| epoch)
    }

    /// Takes it, to be leased.
    pub(super) fn take_lonely(&mut self, epoch: Epoch) -> Option<(Cut, Leased)> {
        self.leases.remove(&epoch).map(|lease| (Cut::Returned(epoch), lease.leased))
    }

    /// The leases of a scan without a holder. One whose late report waits for the store is about to be settled: it is not leased again.
    fn returned(&self, scan: ScanId) -> impl Iterator<Item = (&Epoch, &Lease)> {
        let reported = |epoch: Epoch| {
            self.pending
                .values()
                .any(|pending| matches!(pending, Pending::Commit { epoch: pending, .. } if *pending == epoch))
        };
        self.leases
            .iter()
            .filter(move |(epoch, lease)| lease.scan == scan && lease.holder.is_none() && !reported(**epoch))
    }

    fn split(&mut self, epoch: Epoch) {
        // Its epoch dies when the store has the parts; requests are in one queue, so a report behind this finds it dead.
        let Some(Lease { scan, leased, .. }) = self.leases.remove(&epoch) else { return };
        let mut work = leased.parts(self.settings.parts);
        for part in work.iter_mut().filter(|part| part.is_one()) {
            // What comes alone has its own ends counted.
            part.ends = part.ends.min(SUSPECT);
        }
        let part = |part: &Leased| Part { shard: part.shard, covers: part.covers.to_vec(), ends: part.ends };
        let parts = work.iter().map(part).collect();
        self.ask_store(StoreRequest::Split { scan, epoch, parts }, Pending::Split { scan, work });
    }

    /// The store has the parts.
    pub(super) fn was_split(&mut self, now: Time, scan: ScanId, work: Vec<Leased>, epochs: &[Epoch]) {
        if let (Some(running), Some(first)) = (self.scans.get_mut(&scan), work.first()) {
            running.split(first.shard.cohort, work.len());
        }
        for (&epoch, leased) in epochs.iter().zip(work) {
            self.leases.insert(epoch, Lease::new(now, scan, leased, None));
        }
        self.work = true;
    }

    /// Settles what killed one agent after another.
    pub(super) fn give_up_targets(&mut self) {
        let given_up: Vec<_> = self.scans.keys().flat_map(|&scan| self.returned(scan)).collect();
        let given_up = given_up.into_iter().filter(|(_, lease)| lease.leased.is_given_up());
        let given_up: Vec<(Epoch, ScanId)> = given_up.map(|(&epoch, lease)| (epoch, lease.scan)).collect();
        for (epoch, scan) in given_up {
            let outcomes = vec![Outcome::not_probed(Cause::AgentFailed)];
            let commit = Commit { scan, epoch, chunk: chunk::encode(&outcomes), findings: Vec::new() };
            let pending = Pending::Commit { scan, epoch, session: None, outcomes, findings: Vec::new() };
            self.ask_store(StoreRequest::Commit(commit), pending);
        }
    }

    /// An instance's right ended with leases in hand.
    pub(super) fn failed(&mut self, now: Time, instance: InstanceId) {
        let facts = self.instances.get(&instance).and_then(|known| known.facts.as_ref());
        let Some(name) = facts.map(|facts| facts.name.clone()) else { return };
        let failures = self.failures.entry(name.clone()).or_default();
        failures.count = failures.count.saturating_add(1);
        if failures.count >= FAILURES_MAX {
            failures.rests_until = Some(now + REST);
            self.outputs.push_back(Output::Event(Event::Rests { agent: name, time: REST }));
        }
    }

    /// A report of an agent was taken.
    pub(super) fn succeeded(&mut self, session: Option<SessionId>) {
        let name = self.name_of(session).map(str::to_owned);
        if let Some(failures) = name.and_then(|name| self.failures.get_mut(&name)) {
            failures.count = 0;
        }
    }

    /// The name of the agent whose session that is.
    pub(super) fn name_of(&self, session: Option<SessionId>) -> Option<&str> {
        let instance = self.sessions.get(&session?)?.instance?;
        self.instances.get(&instance)?.facts.as_ref().map(|facts| facts.name.as_str())
    }

    /// Whether an agent gets nothing for now.
    pub(super) fn rests(&self, name: &str) -> bool {
        self.failures.get(name).is_some_and(|failures| failures.rests_until.is_some())
    }

    /// Agents that rested long enough get work again.
    pub(super) fn end_rests(&mut self, now: Time) {
        for failures in self.failures.values_mut().filter(|it| it.rests_until.is_some_and(|until| until <= now)) {
            failures.rests_until = None;
            self.work = true;
        }
        self.failures.retain(|_, failures| failures.count > 0 || failures.rests_until.is_some());
    }

    /// When the next has.
    pub(super) fn rests_until(&self) -> Option<Time> {
        self.failures.values().filter_map(|failures| failures.rests_until).min()
    }
}
