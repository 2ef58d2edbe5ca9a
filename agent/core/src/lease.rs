//! A lease that is being worked on: which targets wait, which are in flight, what is known of the rest.

use crate::attempt::{Probe, ProbeId, Settled};
use crate::round_trip::Wait;
use protocol::chunk;
use protocol::message::{Checks, Finding, Grant, Report};
use protocol::plan::IndexedTarget;
use protocol::probe::{Cause, Outcome, Target};
use protocol::time::Time;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

/// How many targets are worked out at once: the plan's order is not asked for each alone.
const AHEAD: u32 = 256;
/// How many targets are put aside at most, because their host has no room, before the lease waits: one of each host of a cohort.
const ASIDE_MAX: usize = 4_096;

/// A grant, and what became of its targets so far.
#[derive(Debug)]
pub struct Lease {
    grant: Grant,
    /// Everything below was put into `ready`.
    next: u32,
    /// The next to be sent.
    ready: VecDeque<IndexedTarget>,
    /// Those whose host had no room when it was their turn.
    aside: BTreeMap<IpAddr, VecDeque<IndexedTarget>>,
    aside_len: usize,
    /// By index less `lo`; `None` while open, and for what the pass does not cover.
    outcomes: Vec<Option<Outcome>>,
    open: u32,
    findings: Vec<Finding>,
    /// When the last try was sent that was not answered; before there was one, when it was granted.
    unanswered_at: Time,
}

impl Lease {
    /// Begins work on a sound grant.
    #[must_use]
    pub fn new(now: Time, grant: Grant) -> Self {
        debug_assert!(grant.is_sound());
        Self {
            next: grant.lo,
            ready: VecDeque::new(),
            aside: BTreeMap::new(),
            aside_len: 0,
            outcomes: vec![None; (grant.hi - grant.lo) as usize],
            open: grant.covered(),
            findings: Vec::new(),
            unanswered_at: now,
            grant,
        }
    }

    /// The grant.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// How many of its targets have no outcome.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.open
    }

    /// Whose turn it is; `None` if none waits, or all that do are put aside.
    pub fn next_target(&mut self) -> Option<Target> {
        self.refill();
        self.ready.front().map(|item| item.target)
    }

    /// Puts the next aside, until its host is woken. False if there are too many already: the lease waits.
    pub fn put_aside(&mut self) -> bool {
        if self.aside_len >= ASIDE_MAX {
            return false;
        }
        let Some(item) = self.ready.pop_front() else { return false };
        self.aside.entry(item.target.address).or_default().push_back(item);
        self.aside_len += 1;
        true
    }

    /// Makes up to `room` of what was put aside for a host the next again; how many.
    pub fn wake(&mut self, address: IpAddr, room: u32) -> u32 {
        let Some(waiting) = self.aside.get_mut(&address) else { return 0 };
        let count = waiting.len().min(room as usize);
        for item in waiting.drain(..count).rev() {
            self.ready.push_front(item);
        }
        if waiting.is_empty() {
            self.aside.remove(&address);
        }
        self.aside_len -= count;
        count as u32
    }

    /// What was put aside for a host first, if anything.
    #[must_use]
    pub fn first_aside(&self, address: IpAddr) -> Option<Target> {
        self.aside.get(&address).and_then(VecDeque::front).map(|item| item.target)
    }

    /// For which hosts how many are put aside.
    pub fn aside(&self) -> impl Iterator<Item = (IpAddr, u32)> + '_ {
        self.aside.iter().map(|(&address, waiting)| (address, waiting.len() as u32))
    }

    /// The next probe, which is in flight from now on and waits so long; `None` if none waits.
    pub fn next_probe(&mut self, wait: Wait) -> Option<Probe> {
        self.refill();
        let item = self.ready.pop_front()?;
        Some(Probe {
            id: ProbeId { epoch: self.grant.epoch, index: item.index },
            scan: self.grant.scan,
            target: item.target,
            wait,
        })
    }

    fn refill(&mut self) {
        while self.ready.is_empty() && self.next < self.grant.hi {
            let hi = self.grant.hi.min(self.next.saturating_add(AHEAD));
            let (grant, ready) = (&self.grant, &mut self.ready);
            ready.extend(grant.cohort.targets(self.next, hi).filter(|item| grant.covers(item.index)));
            self.next = hi;
        }
    }

    /// A probe came back that was not sent, and may be sent still: it waits again.
    pub fn put_back(&mut self, id: ProbeId) {
        if self.outcomes.get((id.index.wrapping_sub(self.grant.lo)) as usize) != Some(&None) {
            return;
        }
        if let Some(item) = self.grant.cohort.targets(id.index, id.index + 1).next() {
            self.ready.push_back(item);
        }
    }

    /// Takes what became of a probe that was sent at `sent_at`. False if the target has an outcome already or is not of this lease.
    pub fn settle(&mut self, settled: &Settled, sent_at: Time) -> bool {
        let index = settled.id.index;
        let Some(slot @ None) = self.outcomes.get_mut(index.wrapping_sub(self.grant.lo) as usize) else { return false };
        *slot = Some(settled.outcome);
        self.open = self.open.saturating_sub(1);
        if settled.outcome.is_silence() || !settled.outcome.is_probed() {
            self.unanswered_at = self.unanswered_at.max(sent_at);
        }
        if settled.outcome.is_finding() {
            let rtt_us = settled.rtt.map_or(0, |rtt| u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX));
            self.findings.push(Finding { index, rtt_us });
        }
        true
    }

    /// The report of this lease, with what was measured meanwhile; what is open is `not-probed` with `cause`.
    #[must_use]
    pub fn into_report(mut self, now: Time, cause: Cause, checks: Checks) -> Report {
        let grant = &self.grant;
        let outcomes: Vec<_> = (grant.lo..grant.hi)
            .zip(&self.outcomes)
            .filter(|(index, _)| grant.covers(*index))
            .map(|(_, outcome)| outcome.unwrap_or(Outcome::not_probed(cause)))
            .collect();
        self.findings.sort_unstable_by_key(|finding| finding.index);
        let quiet_ms = u32::try_from(now.since(self.unanswered_at).as_millis()).unwrap_or(u32::MAX);
        Report { epoch: self.grant.epoch, chunk: chunk::encode(&outcomes), findings: self.findings, checks, quiet_ms }
    }
}
