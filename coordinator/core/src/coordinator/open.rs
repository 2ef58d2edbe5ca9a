//! A cohort that is worked on: its pass, what of it was leased, and what the next pass covers.
//!
//! first pass → begin → later pass → begin → … → closing. A later pass is prepared in steps, the first of them while the cohort rests: a
//! survey tells what became of a run of targets, the policy of [`passes`](crate::passes) which of them are tried again, and these become pieces to be leased. In stages
//! (see [`stages`](crate::stages)) the first pass ends with the pings, and ports of live hosts are what later passes find never tried.

use super::reach::Reach;
use crate::cutting::{Left, OpenCohort};
use crate::host::OPEN_PORTS_MAX;
use crate::passes::{ALWAYS_AGAIN, History, Loss, OfHost, Policy, Tries, answers_nearly_all};
use crate::store::Shard;
use protocol::covers;
use protocol::id::{AgentName, InstanceId};
use protocol::plan::{Cohort, SHARD_TARGETS_MAX};
use protocol::probe::{Cause, Outcome};
use protocol::range_set::AddressSet;
use protocol::time::Time;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// How many pieces of a later pass are prepared ahead.
const PREPARED_MAX: usize = 16;
/// How many targets such a piece covers at most.
const PIECE_COVERS_MAX: usize = 4_096;

/// What a lease covers and what was known of it before.
#[derive(Clone, Debug)]
pub(super) struct Leased {
    pub(super) shard: Shard,
    /// Which of the shard's targets; empty for all.
    pub(super) covers: Arc<[u8]>,
    /// By covered target; empty where nothing was known of any.
    pub(super) before: Arc<[History]>,
    /// How many rights ended on it.
    pub(super) ends: u8,
}

impl Leased {
    /// How many targets it covers.
    pub(super) fn covered(&self) -> u32 {
        covers::count(&self.covers, self.shard.lo, self.shard.hi)
    }

    /// The covered indices, each with what was known before.
    pub(super) fn targets(&self) -> impl Iterator<Item = (u32, History)> + '_ {
        let before = |at: usize| self.before.get(at).copied().unwrap_or(History::PENDING);
        covers::indices(&self.covers, self.shard.lo, self.shard.hi)
            .enumerate()
            .map(move |(at, index)| (index, before(at)))
    }

    /// What it covers in so many parts at most, none of which covers much more than another.
    pub(super) fn parts(&self, most: usize) -> Vec<Self> {
        let targets: Vec<(u32, History)> = self.targets().collect();
        let Shard { lo, hi, .. } = self.shard;
        let all = self.covers.is_empty();
        let parts = targets.chunks(targets.len().div_ceil(most).max(1)).map(|part| {
            let (lo, hi) = match part {
                [(first, _), .., (last, _)] => (*first, last + 1),
                [(only, _)] => (*only, only + 1),
                [] => (lo, hi),
            };
            let covers = match all {
                true => Vec::new(),
                false => covers::bitmap(lo, hi, |index| part.binary_search_by_key(&index, |(at, _)| *at).is_ok()),
            };
            let before = match self.before.is_empty() {
                true => Arc::default(),
                false => part.iter().map(|(_, history)| *history).collect(),
            };
            Self { shard: Shard { lo, hi, ..self.shard }, covers: covers.into(), before, ends: self.ends }
        });
        parts.collect()
    }
}

#[derive(Debug)]
enum Phase {
    First { frontier: u32 },
    Through,
    Beginning,
    Later { surveyed: u32, surveying: bool, prepared: VecDeque<Leased>, anything: bool },
    Closing,
}

/// What an open cohort needs from the store next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Need {
    Survey(Range<u32>),
    BeginPass(u8),
    Close,
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) cohort: Arc<Cohort>,
    pub(super) addresses: AddressSet,
    pub(super) owner: Option<InstanceId>,
    pass: u8,
    phase: Phase,
    /// Nothing of it is leased before: what was lost to a burst is not to be lost to the same burst again.
    rests_until: Option<Time>,
    /// Until when it will rest once this pass is through, as far as reports say.
    will_rest_until: Option<Time>,
    /// How many shards were leased, or are on their way to be, and not settled.
    leased: usize,
    /// By host: whether it gave a sign of life.
    alive: Vec<bool>,
    /// By host: how many of its findings are stored.
    kept: Vec<u16>,
    /// How many of its targets a later pass might cover.
    unsettled: u64,
    /// What tries found here, and through how many passes the scan was told of the loss that they show.
    tries: Tries,
    told: u8,
    /// The same of ports in stages, whose tries are a pass later each.
    port_tries: Tries,
    /// Whether this pass settled anything, and whether the last did.
    settles: bool,
    settled: bool,
}

impl Open {
    pub(super) fn new(cohort: Arc<Cohort>) -> Self {
        let (alive, kept) = (vec![false; cohort.hosts() as usize], vec![0; cohort.hosts() as usize]);
        Self {
            addresses: cohort.addresses().to_set(),
            cohort,
            owner: None,
            pass: 1,
            phase: Phase::First { frontier: 0 },
            rests_until: None,
            will_rest_until: None,
            leased: 0,
            alive,
            kept,
            unsettled: 0,
            tries: Tries::default(),
            told: 0,
            port_tries: Tries::default(),
            settles: false,
            settled: true,
        }
    }

    /// One that a store knows: in `pass`, leased up to `frontier`, with `leased` leases. What it found is told by [`found`](Self::found).
    pub(super) fn resumed(cohort: Arc<Cohort>, pass: u8, frontier: u32, leased: usize) -> Self {
        let phase = match pass {
            1 => Phase::First { frontier },
            _ => Phase::Later { surveyed: frontier, surveying: false, prepared: VecDeque::new(), anything: true },
        };
        Self { pass, phase, leased, ..Self::new(cohort) }
    }

    /// One that was closed and is opened again, for the pass after `pass`.
    pub(super) fn reopened(cohort: Arc<Cohort>, pass: u8) -> Self {
        // How many targets are unsettled was not counted: a pass that covers none ends it.
        let unsettled = u64::from(u32::MAX);
        Self { pass, phase: Phase::Through, unsettled, told: u8::MAX, ..Self::new(cohort) }
    }

    fn is_staged(&self) -> bool {
        self.cohort.slots().discover()
    }

    /// True for a port in stages.
    fn is_staged_port(&self, index: u32) -> bool {
        self.is_staged() && index >= self.cohort.hosts()
    }

    /// The index after the last that can be a target by now.
    fn end(&self) -> u32 {
        if self.is_staged() && !self.alive.contains(&true) { self.cohort.hosts() } else { self.cohort.len() }
    }

    /// As the cutter sees it; `None` while it has nothing to be cut.
    pub(super) fn seen_as(
        &self,
        number: u64,
        vantage: Option<&AgentName>,
        reach: Option<&Reach<'_>>,
    ) -> Option<OpenCohort> {
        let left = match &self.phase {
            Phase::First { .. } if reach.is_some_and(|reach| !reach.has(vantage, &self.addresses)) => return None,
            Phase::First { frontier } if *frontier < self.cohort.first_pass_len() => {
                Left::Whole(*frontier..self.cohort.first_pass_len())
            }
            Phase::Later { prepared, .. } if !prepared.is_empty() && self.rests_until.is_none() => {
                // They are leased in their order: behind one that is for others nothing is.
                let fits = |piece: &&Leased| {
                    reach.is_none_or(|reach| reach.has_of(vantage, &self.cohort, &self.addresses, piece))
                };
                Left::Prepared(prepared.iter().take_while(fits).map(|piece| (piece.shard, piece.covered())).collect())
            }
            _ => return None,
        };
        Some(OpenCohort { number, pass: self.pass, left, owner: self.owner })
    }

    /// How many targets of this pass are ready to be leased.
    pub(super) fn unleased_targets(&self) -> u64 {
        match &self.phase {
            Phase::First { frontier } => u64::from(self.cohort.first_pass_len().saturating_sub(*frontier)),
            Phase::Later { .. } if self.rests_until.is_some() => 0,
            Phase::Later { prepared, .. } => prepared.iter().map(|piece| u64::from(piece.covered())).sum(),
            Phase::Through | Phase::Beginning | Phase::Closing => 0,
        }
    }

    /// True if nothing of it was leased yet.
    pub(super) fn is_untouched(&self) -> bool {
        matches!(self.phase, Phase::First { frontier: 0 })
    }

    /// Takes what was cut from the frontier of its first pass.
    pub(super) fn take_frontier(&mut self, shard: Shard) -> Leased {
        if let Phase::First { frontier } = &mut self.phase {
            debug_assert_eq!(*frontier, shard.lo);
            *frontier = shard.hi;
        }
        self.leased += 1;
        Leased { shard, covers: Arc::default(), before: Arc::default(), ends: 0 }
    }

    /// Divides the first of the prepared pieces if it is more than so many targets: a slow agent would have it for long.
    pub(super) fn prepare_for(&mut self, each: u32) {
        let Phase::Later { prepared, .. } = &mut self.phase else { return };
        let Some(large) = prepared.pop_front_if(|piece| piece.covered() > each.max(1)) else { return };
        let parts = large.parts(large.covered().div_ceil(each.max(1)) as usize);
        for part in parts.into_iter().rev() {
            prepared.push_front(part);
        }
    }

    /// Takes the first of the prepared pieces.
    pub(super) fn take_prepared(&mut self) -> Option<Leased> {
        let Phase::Later { prepared, .. } = &mut self.phase else { return None };
        let piece = prepared.pop_front()?;
        self.leased += 1;
        Some(piece)
    }

    /// What was one lease of it is now so many.
    pub(super) fn split(&mut self, parts: usize) {
        self.leased += parts.saturating_sub(1);
    }

    /// A lease of it was settled.
    pub(super) fn unleased(&mut self) {
        debug_assert!(self.leased > 0, "a shard of cohort {} was settled twice", self.cohort.number());
        self.leased = self.leased.saturating_sub(1);
    }

    /// Whether what was found at `index` is stored with its time; if so it is counted.
    pub(super) fn keeps(&mut self, index: u32) -> bool {
        let host = self.cohort.host_at(index).and_then(|host| self.kept.get_mut(host as usize));
        host.is_some_and(|kept| {
            let keeps = usize::from(*kept) < OPEN_PORTS_MAX;
            *kept += u16::from(keeps);
            keeps
        })
    }

    /// A target was found to be something, in this pass. True if that is the first sign of life of its host.
    pub(super) fn found(&mut self, index: u32, before: History, after: History, now: Outcome) -> bool {
        // In stages a port is leased only once its host is up, and was counted when that was found.
        let unsettled = |history: History| match history {
            History::PENDING => self.is_staged_port(index),
            known => may_be_tried_again(known.outcome),
        };
        self.unsettled = (self.unsettled + u64::from(unsettled(after))).saturating_sub(u64::from(unsettled(before)));
        self.settles |= now.is_probed();
        let tries = if self.is_staged_port(index) { &mut self.port_tries } else { &mut self.tries };
        tries.count(before, now);
        let first = now.is_sign_of_life() && self.lives(index);
        if first && self.is_staged() {
            self.unsettled += u64::from(self.cohort.slots().len() - 1);
        }
        first
    }

    /// The host at `index` gave a sign of life. True if it is the first.
    fn lives(&mut self, index: u32) -> bool {
        let host = self.cohort.host_at(index).and_then(|host| self.alive.get_mut(host as usize));
        host.is_some_and(|alive| !std::mem::replace(alive, true))
    }

    /// What was measured of the loss here since this was last asked: by each pass that is through, from the second on; or that there is
    /// none.
    pub(super) fn take_loss(&mut self) -> Option<Loss> {
        let through = match self.phase {
            Phase::Closing => u8::MAX,
            Phase::Through | Phase::Beginning => self.pass,
            Phase::First { .. } | Phase::Later { .. } => self.pass - 1,
        };
        let since = self.told;
        if through <= since {
            return None;
        }
        self.told = through;
        let mut measured = self.tries.loss(since, through);
        measured.add(self.port_tries.loss(since.saturating_sub(1), through.saturating_sub(1)));
        Some(measured)
    }

    /// A report came of whose tries none may be made again before.
    pub(super) fn will_rest(&mut self, until: Time) {
        self.will_rest_until = self.will_rest_until.max(Some(until));
    }

    /// When it goes on by itself.
    pub(super) fn rests_until(&self) -> Option<Time> {
        self.rests_until
    }

    /// Whether it has rested enough since this was last asked.
    pub(super) fn has_rested(&mut self, now: Time) -> bool {
        self.rests_until.take_if(|until| *until <= now).is_some()
    }

    /// What it needs now, which is then on its way.
    pub(super) fn need(&mut self, now: Time, rest: std::time::Duration, anybody: bool) -> Option<Need> {
        let (first, end) = (self.cohort.first_pass_len(), self.end());
        let through = self.leased == 0
            && match &self.phase {
                Phase::First { frontier } => *frontier == first,
                Phase::Later { surveyed, surveying, prepared, .. } => {
                    *surveyed >= end && !surveying && prepared.is_empty()
                }
                Phase::Through | Phase::Beginning | Phase::Closing => false,
            };
        if through {
            let covered = !matches!(self.phase, Phase::Later { anything: false, .. });
            if !covered || self.unsettled == 0 || self.pass == u8::MAX {
                self.phase = Phase::Closing;
                return Some(Need::Close);
            }
            (self.settled, self.settles) = (self.settles, false);
            let rests_until = self.will_rest_until.take().unwrap_or(now + rest);
            (self.phase, self.rests_until) = (Phase::Through, Some(rests_until).filter(|&until| until > now));
        }
        match &mut self.phase {
            Phase::Through => {
                self.phase = Phase::Beginning;
                Some(Need::BeginPass(self.pass + 1))
            }
            Phase::Later { surveyed, surveying, prepared, .. }
                // What is tried again depends on who there is to try.
                if anybody && !*surveying && *surveyed < end && prepared.len() < PREPARED_MAX =>
            {
                *surveying = true;
                Some(Need::Survey(*surveyed..end.min(surveyed.saturating_add(SHARD_TARGETS_MAX))))
            }
            _ => None,
        }
    }

    /// The store began the pass.
    pub(super) fn began(&mut self, pass: u8) {
        // Between passes nothing of it is known to anybody that another could not learn.
        (self.pass, self.owner) = (pass, None);
        self.phase = Phase::Later { surveyed: 0, surveying: false, prepared: VecDeque::new(), anything: false };
    }

    /// The store told what became of `indices`: what is tried again becomes pieces.
    /// What only agents may probe that are not there is left.
    pub(super) fn surveyed(&mut self, indices: Range<u32>, histories: &[History], policy: Policy, reach: &AddressSet) {
        let policy = Policy { settled_anything: self.settled, ..policy };
        let hosts = self.cohort.hosts();
        if self.is_staged() {
            // Of a cohort that was opened again nothing else tells who is up.
            for (index, _) in indices.clone().zip(histories).filter(|(_, history)| history.outcome.is_sign_of_life()) {
                self.lives(index);
            }
        }
        // Of each host how many targets answer, and how many are silent.
        let mut of_hosts = vec![(0_u32, 0_u32); self.alive.len()];
        for (index, history) in indices.clone().zip(histories) {
            if let Some(of_host) = self.cohort.host_at(index).and_then(|host| of_hosts.get_mut(host as usize)) {
                of_host.0 += u32::from(history.outcome.is_sign_of_life());
                of_host.1 += u32::from(history.outcome.is_silence());
            }
        }
        let again: Vec<(u32, History)> = indices
            .clone()
            .zip(histories.iter().copied())
            .filter(|(index, history)| {
                let host = self.cohort.host_at(*index).map_or(usize::MAX, |host| host as usize);
                let alive = self.alive.get(host) == Some(&true);
                if self.is_staged_port(*index) && (!alive || *history == History::PENDING) {
                    return alive;
                }
                let out_of_scope = history.outcome.cause() == Some(Cause::OutOfScope);
                let reached = || self.cohort.target(*index).is_some_and(|target| reach.contains(target.address));
                may_be_tried_again(history.outcome)
                    && (!out_of_scope || reached())
                    && history.is_tried_again(
                        OfHost {
                            among_first: index / hosts < ALWAYS_AGAIN,
                            alive,
                            answers_nearly_all: of_hosts
                                .get(host)
                                .is_some_and(|&(answer, silent)| answers_nearly_all(answer, silent)),
                        },
                        &policy,
                    )
            })
            .collect();
        let (number, pass) = (self.cohort.number(), self.pass);
        let Phase::Later { surveyed, surveying, prepared, anything } = &mut self.phase else { return };
        (*surveyed, *surveying) = (indices.end, false);
        for piece in again.chunks(PIECE_COVERS_MAX) {
            let ([(lo, _), ..], [.., (last, _)]) = (piece, piece) else { continue };
            let (lo, hi) = (*lo, last + 1);
            let covers =
                covers::bitmap(lo, hi, |index| piece.binary_search_by_key(&index, |(index, _)| *index).is_ok());
            let before = piece.iter().map(|(_, history)| *history).collect();
            *anything = true;
            let shard = Shard { cohort: number, pass, lo, hi };
            prepared.push_back(Leased { shard, covers: covers.into(), before, ends: 0 });
        }
    }
}

/// True for what a later pass could cover at all: silence, and causes that can pass.
fn may_be_tried_again(outcome: Outcome) -> bool {
    outcome.is_silence() || outcome.cause().is_some_and(protocol::probe::Cause::is_gap)
}
