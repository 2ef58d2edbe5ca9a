//! A lease that is being worked on: which targets wait, which are in flight, what is known of the rest.

use crate::attempt::{Probe, ProbeId, Settled};
use protocol::chunk;
use protocol::message::{Finding, Grant, Report};
use protocol::plan::IndexedTarget;
use protocol::probe::{Cause, Outcome};
use std::collections::VecDeque;
use std::time::Duration;

/// How many targets are worked out at once: the plan's order is not asked for each alone.
const AHEAD: u32 = 256;

/// A grant, and what became of its targets so far.
#[derive(Debug)]
pub struct Lease {
    grant: Grant,
    /// Everything below was put into `ready`.
    next: u32,
    /// The next to be sent.
    ready: VecDeque<IndexedTarget>,
    /// By index less `lo`; `None` while open, and for what the pass does not cover.
    outcomes: Vec<Option<Outcome>>,
    open: u32,
    findings: Vec<Finding>,
}

impl Lease {
    /// Begins work on a sound grant.
    #[must_use]
    pub fn new(grant: Grant) -> Self {
        debug_assert!(grant.is_sound());
        Self {
            next: grant.lo,
            ready: VecDeque::new(),
            outcomes: vec![None; (grant.hi - grant.lo) as usize],
            open: grant.covered(),
            findings: Vec::new(),
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

    /// The next probe, which is in flight from now on; `None` if none waits, or `may` is false.
    pub fn next_probe_if(&mut self, may: bool) -> Option<Probe> {
        if !may {
            return None;
        }
        self.refill();
        let item = self.ready.pop_front()?;
        Some(Probe {
            id: ProbeId { epoch: self.grant.epoch, index: item.index },
            target: item.target,
            timeout: Duration::from_millis(u64::from(self.grant.options.timeout_ms)),
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

    /// Takes what became of a probe. False if the target has an outcome already or is not of this lease.
    pub fn settle(&mut self, settled: &Settled) -> bool {
        let index = settled.id.index;
        let Some(slot @ None) = self.outcomes.get_mut(index.wrapping_sub(self.grant.lo) as usize) else { return false };
        *slot = Some(settled.outcome);
        self.open = self.open.saturating_sub(1);
        if settled.outcome.is_finding() {
            let rtt_us = settled.rtt.map_or(0, |rtt| u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX));
            self.findings.push(Finding { index, rtt_us });
        }
        true
    }

    /// The report of this lease; what is open is `not-probed` with `cause`.
    #[must_use]
    pub fn into_report(mut self, cause: Cause) -> Report {
        let grant = &self.grant;
        let outcomes: Vec<_> = (grant.lo..grant.hi)
            .zip(&self.outcomes)
            .filter(|(index, _)| grant.covers(*index))
            .map(|(_, outcome)| outcome.unwrap_or(Outcome::not_probed(cause)))
            .collect();
        self.findings.sort_unstable_by_key(|finding| finding.index);
        Report { epoch: self.grant.epoch, chunk: chunk::encode(&outcomes), findings: self.findings }
    }
}
