//! What is tried again: pure functions of what is stored.
//!
//! A pass covers a target if one holds:
//! (a) it was never tried, and its last cause can pass: a cause of this machine only while the last pass settled anything, one that says
//!     nothing of the target always;
//! (b) it was tried k times and was silent, its host gave a sign of life or it is among the first [`ALWAYS_AGAIN`] of its host in
//!     index order, and either fewer than the fixed number of tries were made or the measured losses of these tries give p1 p2 … pk >
//!     [`RISK`] with k < [`TRIES_MAX`];
//! (c) it was tried once and was silent, on a host of which nearly all that was asked answers: what was lost or late at one moment is no
//!     share of all tries, and asking so few again costs nothing.
//!
//! `not-probed` never replaces a state found earlier, and silence never an answer.

use crate::store::{ChunkRecord, Store, StoreError};
use protocol::id::ScanId;
use protocol::message::Checks;
use protocol::probe::{Cause, Outcome};
use protocol::{chunk, covers};
use std::ops::Range;

/// Of a host without a sign of life only so many targets are tried again: it may be there and have lost what was sent.
pub const ALWAYS_AGAIN: u32 = 32;
/// A silent target is tried again while the chance that it answered and every answer was lost is above this.
pub const RISK: f64 = 0.0002;
/// And no more often than this.
pub const TRIES_MAX: u8 = 8;

/// What is known of a try counts, for the next, as much as if so many had been seen to be lost.
const LIKE_BEFORE: f64 = 2.0;
/// Nineteen of twenty draws of a normal distribution lie within as many standard deviations.
const NORMAL_95: f64 = 1.959_964;

/// What became of a target in all passes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// What is known: the last state found, or why there is none. `Pending` for what was never leased.
    pub outcome: Outcome,
    /// How many passes probed it.
    pub tries: u8,
    /// The place, in the scan's list of agents, of who saw it.
    pub agent: u32,
    /// The round-trip time in microseconds, of a finding.
    pub rtt_us: Option<u32>,
}

impl History {
    /// Of a target that was never leased.
    pub const PENDING: Self = Self { outcome: Outcome::not_probed(Cause::Pending), tries: 0, agent: 0, rtt_us: None };

    /// The histories of a cohort's targets at `indices`, by index.
    ///
    /// # Errors
    /// If the store fails, or a chunk does not hold what its lease covered.
    pub fn of<S: Store + ?Sized>(
        store: &S,
        scan: ScanId,
        cohort: u64,
        indices: Range<u32>,
    ) -> Result<Vec<Self>, StoreError> {
        let mut histories = vec![Self::PENDING; indices.len()];
        walk(store, scan, cohort, indices.clone(), |index, _, after| {
            histories[(index - indices.start) as usize] = after;
        })?;
        Ok(histories)
    }

    /// What is known after a further pass.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        let tries = self.tries.saturating_add(next.tries);
        Self { tries, ..if replaces(self.outcome, next.outcome) { next } else { self } }
    }

    /// True if the next pass covers it.
    #[must_use]
    pub fn is_tried_again(&self, host: OfHost, policy: &Policy) -> bool {
        match self.outcome.cause() {
            Some(Cause::Interrupted | Cause::OutOfScope) => true,
            Some(Cause::Excluded | Cause::Broadcast | Cause::AgentFailed | Cause::NoAgent | Cause::NoDiscovery) => {
                false
            }
            Some(_) => self.tries == 0 && policy.settled_anything,
            None if !self.outcome.is_silence() => false,
            None if (host.alive || host.among_first) && policy.wants_try_after(self.tries) => true,
            None => host.answers_nearly_all && self.tries == 1 && policy.tries.is_none(),
        }
    }
}

/// What is known of the host of a target.
#[derive(Clone, Copy, Debug, Default)]
pub struct OfHost {
    /// The target is among its first [`ALWAYS_AGAIN`].
    pub among_first: bool,
    /// It gave a sign of life.
    pub alive: bool,
    /// See [`answers_nearly_all`].
    pub answers_nearly_all: bool,
}

/// Whether of a host with so many targets that answer, and so many that are silent, nearly all do.
#[must_use]
pub const fn answers_nearly_all(answer: u32, silent: u32) -> bool {
    silent <= answer / 8
}

/// Whether what a further pass says of a target stands in the place of what was known: `not-probed` never replaces a state, and silence
/// never an answer.
#[must_use]
pub const fn replaces(known: Outcome, next: Outcome) -> bool {
    !known.is_probed() || (next.is_probed() && !next.is_silence())
}

/// Every step of a cohort's targets at `indices`, pass by pass: the index, what was known before and what after. Memory grows with
/// `indices`.
///
/// # Errors
/// As [`History::of`].
pub fn walk<S: Store + ?Sized>(
    store: &S,
    scan: ScanId,
    cohort: u64,
    indices: Range<u32>,
    mut step: impl FnMut(u32, History, History),
) -> Result<(), StoreError> {
    let mut known = vec![History::PENDING; indices.len()];
    for stored in store.chunks(scan, cohort, indices.clone())? {
        for (index, now) in outcomes_of(&stored)? {
            if indices.contains(&index) {
                let before = &mut known[(index - indices.start) as usize];
                let after = before.then(now);
                step(index, *before, after);
                *before = after;
            }
        }
    }
    Ok(())
}

/// A chunk's outcomes as histories of one pass, with their indices.
fn outcomes_of(stored: &ChunkRecord) -> Result<impl Iterator<Item = (u32, History)> + '_, StoreError> {
    let (lo, hi) = (stored.shard.lo, stored.shard.hi);
    let outcomes = chunk::decode(&stored.chunk, covers::count(&stored.covers, lo, hi)).map_err(|error| {
        StoreError::Broken { invariant: "I2", detail: format!("chunk of epoch {}: {error}", stored.epoch) }
    })?;
    let mut findings = stored.findings.iter().peekable();
    Ok(covers::indices(&stored.covers, lo, hi).zip(outcomes).map(move |(index, outcome)| {
        let rtt_us = findings.next_if(|finding| finding.index == index).map(|finding| finding.rtt_us);
        (index, History { outcome, tries: u8::from(outcome.is_probed()), agent: stored.agent, rtt_us })
    }))
}

/// What decides beside the target's own history.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The number of tries, where the user fixed it.
    pub tries: Option<u8>,
    /// What was measured of the loss.
    pub loss: Loss,
    /// Whether the last pass settled anything.
    pub settled_anything: bool,
}

impl Policy {
    fn wants_try_after(&self, tries: u8) -> bool {
        match self.tries {
            Some(fixed) => tries < fixed,
            None => tries < TRIES_MAX && self.loss.risk(tries) > RISK,
        }
    }
}

/// What the tries at the targets of a cohort found, try by try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    answers: [u64; TRIES_MAX as usize],
    /// Of these, open ports and live hosts.
    found: [u64; TRIES_MAX as usize],
    /// The most that any target had.
    made: u8,
}

impl Tries {
    /// Counts what a pass found of a target of which `before` was known.
    pub fn count(&mut self, before: History, outcome: Outcome) {
        let place = usize::from(before.tries);
        if let (Some(answers), Some(found)) = (self.answers.get_mut(place), self.found.get_mut(place)) {
            *answers += u64::from(outcome.is_sign_of_life());
            *found += u64::from(outcome.is_finding());
            self.made = self.made.max(before.tries + u8::from(outcome.is_probed()));
        }
    }

    /// What the tries up to the `until`th, which are through, say of the loss that those up to the `since`th did not.
    #[must_use]
    pub fn loss(&self, since: u8, until: u8) -> Loss {
        let mut loss = Loss::default();
        if since < 2 && until >= 2 {
            ([loss.first, loss.second], [loss.found_first, loss.found_second]) =
                ([self.answers[0], self.answers[1]], [self.found[0], self.found[1]]);
        }
        // Of a try after which there was none nothing can be said.
        for next in since.max(2)..until.min(self.made) {
            let next = usize::from(next);
            loss.later[next - 2] = (self.answers[next - 1], self.answers[next]);
        }
        loss
    }
}

/// The measured round-trip loss: answers by the try that got them, over targets that had their second try if they needed it. Only
/// targets that answer say anything of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    first: u64,
    second: u64,
    /// Of these, open ports and live hosts.
    found_first: u64,
    found_second: u64,
    /// From the second try on: how often it was answered, and how often the next was, where there was a next.
    later: [(u64, u64); TRIES_MAX as usize - 2],
}

impl Loss {
    /// Adds what was measured elsewhere.
    pub fn add(&mut self, other: Self) {
        self.first += other.first;
        self.second += other.second;
        self.found_first += other.found_first;
        self.found_second += other.found_second;
        for (ours, theirs) in self.later.iter_mut().zip(other.later) {
            *ours = (ours.0 + theirs.0, ours.1 + theirs.1);
        }
    }

    /// With what was measured by asking again what answers: each is a target that answers, and one that was lost would have done so at
    /// the second try with the chance that a check is answered.
    #[must_use]
    pub fn with_checks(self, checks: Checks) -> Self {
        let (answered, lost) = (u64::from(checks.answered), u64::from(checks.lost));
        if answered + lost == 0 {
            return self;
        }
        let found_later = (lost * answered).div_ceil(answered + lost);
        Self { first: self.first + answered, second: self.second + found_later, ..self }
    }

    /// The share of tries, 0 to 1, whose question or answer was lost; `None` while nothing answered.
    ///
    /// Of n targets that answer, n(1 − p) do at the first try and np(1 − p) at the second, so second / first = p. Where the second found
    /// more than the first no p explains that: hosts that limit their answers were asked more slowly. Then it is the share of first tries
    /// that are known to be lost.
    #[must_use]
    pub fn estimate(&self) -> Option<f64> {
        let (first, second) = self.of_network();
        let of = if second > first { first + second } else { first };
        (first > 0).then(|| second as f64 / of as f64)
    }

    /// The answers by which the network is judged: all, unless refusals are lost more often than chance explains. Then hosts limit
    /// these (as many do), which says nothing of the network: only what was found counts.
    fn of_network(&self) -> (u64, u64) {
        let found = (self.found_first, self.found_second);
        let refused = (self.first - self.found_first, self.second - self.found_second);
        match (interval(found), interval(refused)) {
            (Some((_, most)), Some((least, _))) if least > most => found,
            _ => (self.first, self.second),
        }
    }

    /// Between what the true loss lies in 19 of 20 scans; `None` while nothing answered.
    ///
    /// Of the targets that answered the first or the second try, each did so at the second with the chance q = p / (1 + p), whatever
    /// became of the others: a binomial draw. The interval is Wilson's for q (1927; it holds near 0 too, where the loss usually is),
    /// told as p. It counts what chance does. It does not count a loss that differs between hosts that answer often and seldom.
    #[must_use]
    pub fn interval(&self) -> Option<(f64, f64)> {
        interval(self.of_network())
    }

    /// The chance that a target which answers was tried so often, and each time lost: p1 p2 … Each is the share that the next try found of
    /// what this one did (see [`estimate`](Self::estimate)), for loss is not the same at each try: a narrow link drops most of a first
    /// pass and little of a third, hosts with a limit lose much whenever others lose nothing.
    ///
    /// p1 is pulled up by half a count (Jeffreys' prior), so that a few answers without loss do not pass for none; each later one is taken
    /// for what the one before was, as a prior of [`LIKE_BEFORE`] lost ones, so that few say little, and none nothing. While nothing answered
    /// at all, nothing is known, and only the second try can tell.
    fn risk(&self, tries: u8) -> f64 {
        if self.first + self.second == 0 {
            return if tries < 2 { 1.0 } else { 0.0 };
        }
        let mut lost = ((self.second as f64 + 0.5) / (self.first as f64 + 1.0)).min(1.0);
        let mut risk = lost;
        for (this, next) in
            self.later.iter().copied().chain(std::iter::repeat((0, 0))).take(usize::from(tries.max(1)) - 1)
        {
            lost = ((next as f64 + LIKE_BEFORE) / (this as f64 + LIKE_BEFORE / lost)).min(1.0);
            risk *= lost;
        }
        risk
    }
}

/// See [`Loss::interval`].
fn interval((first, second): (u64, u64)) -> Option<(f64, f64)> {
    if first == 0 {
        return None;
    }
    let answers = (first + second) as f64;
    let share = second as f64 / answers;
    let z2 = NORMAL_95 * NORMAL_95;
    let centre = share + z2 / (2.0 * answers);
    let spread = NORMAL_95 * (share * (1.0 - share) / answers + z2 / (4.0 * answers * answers)).sqrt();
    let scale = 1.0 + z2 / answers;
    if second > first {
        return Some(((centre - spread) / scale, 1.0));
    }
    let of_share = |share: f64| if share < 0.5 { (share / (1.0 - share)).clamp(0.0, 1.0) } else { 1.0 };
    // With no second answer the lower end is 0, which rounding may miss.
    let low = if second == 0 { 0.0 } else { of_share((centre - spread) / scale) };
    Some((low, of_share((centre + spread) / scale)))
}

#[cfg(test)]
mod tests;
