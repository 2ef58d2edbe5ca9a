//! Who gets which shard: a pure function of what is open and what is wanted.
//!
//! Shards are taken, until enough targets are cut, from where the first of these finds one:
//! 1. returned shards of cohorts that nobody else works on;
//! 2. the frontier of cohorts that the claimant works on;
//! 3. the frontier of open cohorts that nobody works on;
//! 4. the next cohort of the plan's order, which is opened;
//! 5. returned shards and frontiers of cohorts of others, which are then shared, if they may be.
//!
//! Properties:
//! - A: every piece lies at its cohort's frontier, is one that was prepared or is a returned shard, and no two pieces overlap.
//! - B: no piece from a first pass's frontier has more than `each` targets, nor more than [`SHARD_TARGETS_MAX`]; the first of those that were
//!   prepared are no larger either (`open.rs` divides them).
//! - C: nothing is cut beyond what is wanted by more than one piece, and never more than `pieces_max` pieces.
//! - D: a cohort of somebody else is shared only if nothing of 1 to 4 is left.
//! - E: if anything is left, something is cut.

use crate::store::Shard;
use protocol::id::{Epoch, InstanceId};
use protocol::plan::SHARD_TARGETS_MAX;
use std::ops::Range;

/// A cohort as the cutter sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenCohort {
    /// Its number.
    pub number: u64,
    /// Its pass.
    pub pass: u8,
    /// What is left of the pass.
    pub left: Left,
    /// Who works on it.
    pub owner: Option<InstanceId>,
}

/// What of a pass was not leased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// Of the first pass: all of these indices.
    Whole(Range<u32>),
    /// Of a later pass: these pieces, which were prepared, in index order.
    Prepared(Vec<(Shard, u32)>),
}

/// What is wanted, and what there is.
#[derive(Clone, Debug)]
pub struct Problem<'a> {
    /// Who wants shards.
    pub claimant: InstanceId,
    /// How many targets.
    pub targets: u64,
    /// The most targets of one piece.
    pub each: u32,
    /// The most pieces.
    pub pieces_max: usize,
    /// Open cohorts.
    pub open: &'a [OpenCohort],
    /// Whether a cohort of somebody else may be shared: not where its hosts have a cap that would have to be divided.
    pub shares: bool,
    /// Returned shards.
    pub returned: &'a [Returned],
}

/// A shard that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Returned {
    /// The lease that it had.
    pub epoch: Epoch,
    /// Where its targets lie.
    pub shard: Shard,
    /// How many it covers.
    pub covered: u32,
    /// Who works on its cohort.
    pub owner: Option<InstanceId>,
}

/// Where a piece was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The frontier of a first pass.
    Frontier,
    /// The first of a later pass's prepared pieces.
    Prepared,
    /// A returned lease.
    Returned(Epoch),
}

/// A piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it was taken from.
    pub from: From,
    /// Where its targets lie.
    pub shard: Shard,
    /// How many it covers.
    pub covered: u32,
}

/// Cuts pieces. `next` gives the cohorts that were not opened, in the plan's order, with their lengths, and is asked only for those needed.
pub fn cut(problem: &Problem<'_>, next: impl FnMut() -> Option<(u64, u32)>) -> Vec<Piece> {
    let mut cutter = Cutter { problem, left: problem.targets, pieces: Vec::new() };
    let others = |owner: Option<InstanceId>| owner.is_some_and(|owner| owner != problem.claimant);
    cutter.returned(|owner| !others(owner));
    cutter.frontiers(|cohort| cohort.owner == Some(problem.claimant));
    cutter.frontiers(|cohort| cohort.owner.is_none());
    cutter.unopened(next);
    if cutter.pieces.is_empty() && problem.shares {
        cutter.returned(others);
        cutter.frontiers(|cohort| others(cohort.owner));
    }
    cutter.pieces
}

struct Cutter<'a> {
    problem: &'a Problem<'a>,
    left: u64,
    pieces: Vec<Piece>,
}

impl Cutter<'_> {
    fn enough(&self) -> bool {
        self.left == 0 || self.pieces.len() >= self.problem.pieces_max
    }

    fn push(&mut self, from: From, shard: Shard, covered: u32) {
        self.left = self.left.saturating_sub(u64::from(covered));
        self.pieces.push(Piece { from, shard, covered });
    }

    fn returned(&mut self, fits: impl Fn(Option<InstanceId>) -> bool) {
        for returned in self.problem.returned.iter().filter(|returned| fits(returned.owner)) {
            if self.enough() {
                return;
            }
            self.push(From::Returned(returned.epoch), returned.shard, returned.covered);
        }
    }

    fn frontiers(&mut self, fits: impl Fn(&OpenCohort) -> bool) {
        for cohort in self.problem.open.iter().filter(|cohort| fits(cohort)) {
            self.take(cohort);
        }
    }

    fn unopened(&mut self, mut next: impl FnMut() -> Option<(u64, u32)>) {
        while !self.enough() {
            let Some((number, len)) = next() else { return };
            self.take(&OpenCohort { number, pass: 1, left: Left::Whole(0..len), owner: None });
        }
    }

    fn take(&mut self, cohort: &OpenCohort) {
        match &cohort.left {
            Left::Whole(indices) => {
                let mut lo = indices.start;
                while lo < indices.end && !self.enough() {
                    let hi = lo + self.problem.each.clamp(1, SHARD_TARGETS_MAX).min(indices.end - lo);
                    let shard = Shard { cohort: cohort.number, pass: cohort.pass, lo, hi };
                    self.push(From::Frontier, shard, shard.len());
                    lo = hi;
                }
            }
            Left::Prepared(pieces) => {
                for &(shard, covered) in pieces {
                    if self.enough() {
                        return;
                    }
                    self.push(From::Prepared, shard, covered);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const ME: InstanceId = InstanceId::new(1);
    const OTHER: InstanceId = InstanceId::new(2);

    #[derive(Debug, Clone)]
    struct World {
        open: Vec<OpenCohort>,
        returned: Vec<Returned>,
        unopened: Vec<(u64, u32)>,
        targets: u64,
        each: u32,
        pieces_max: usize,
    }

    impl World {
        fn cut(&self) -> Vec<Piece> {
            let mut next = self.unopened.iter().copied();
            let problem = Problem {
                claimant: ME,
                targets: self.targets,
                each: self.each,
                pieces_max: self.pieces_max,
                shares: true,
                open: &self.open,
                returned: &self.returned,
            };
            cut(&problem, || next.next())
        }
    }

    fn worlds() -> impl Strategy<Value = World> {
        let owner = prop_oneof![Just(None), Just(Some(ME)), Just(Some(OTHER))];
        let cohorts = prop::collection::vec((1u32..100_000, 0u32..100_000, owner, 0u32..3), 0..6);
        (cohorts, prop::collection::vec(1u32..100_000, 0..4), 1u64..300_000, 0u32..50_000, 1usize..50).prop_map(
            |(cohorts, unopened, targets, each, pieces_max)| {
                let mut world = World { open: vec![], returned: vec![], unopened: vec![], targets, each, pieces_max };
                for (number, (len, frontier, owner, returned)) in (0u64..).zip(cohorts) {
                    let frontier = frontier.min(len);
                    let shard = |lo: u32, hi: u32, pass: u8| Shard { cohort: number, pass, lo, hi };
                    // Every third cohort is in a later pass: pieces of at most a hundred targets, a few of each covered.
                    let later = number % 3 == 2;
                    let prepared =
                        (frontier..len).step_by(100).take(5).map(|lo| (shard(lo, len.min(lo + 100), 2), 1 + lo % 3));
                    let left = if later { Left::Prepared(prepared.collect()) } else { Left::Whole(frontier..len) };
                    world.open.push(OpenCohort { number, pass: 1 + u8::from(later), left, owner });
                    for part in 0..returned.min(frontier / 10) {
                        let epoch = Epoch::new(world.returned.len() as u64 + 1);
                        let shard = shard(part * 10, part * 10 + 10, 1);
                        world.returned.push(Returned { epoch, shard, covered: 10, owner });
                    }
                }
                world.unopened = (100..).zip(unopened).collect();
                world
            },
        )
    }

    proptest! {
        #[test]
        fn properties_a_to_e(world in worlds()) {
            let pieces = world.cut();
            let mut left: BTreeMap<u64, Left> = world.open.iter().map(|c| (c.number, c.left.clone())).collect();
            left.extend(world.unopened.iter().map(|&(number, len)| (number, Left::Whole(0..len))));
            let mut returned: BTreeMap<Epoch, Shard> = world.returned.iter().map(|returned| (returned.epoch, returned.shard)).collect();
            let mut sum = 0;
            for piece in &pieces {
                prop_assert!(sum < world.targets, "C: enough was cut");
                sum += u64::from(piece.covered);
                match (piece.from, left.get_mut(&piece.shard.cohort).unwrap()) {
                    (From::Returned(epoch), _) => prop_assert_eq!(returned.remove(&epoch), Some(piece.shard), "A"),
                    (From::Frontier, Left::Whole(indices)) => {
                        let shard = piece.shard;
                        prop_assert!(shard.lo == indices.start && shard.hi <= indices.end && shard.lo < shard.hi, "A");
                        prop_assert!(shard.len() <= world.each.max(1) && shard.len() <= SHARD_TARGETS_MAX, "B");
                        indices.start = shard.hi;
                    }
                    (From::Prepared, Left::Prepared(pieces)) => {
                        prop_assert_eq!(pieces.remove(0), (piece.shard, piece.covered), "A");
                    }
                    other => prop_assert!(false, "A: {:?}", other),
                }
            }
            prop_assert!(pieces.len() <= world.pieces_max, "C");
            let is_left = |left: &Left| match left {
                Left::Whole(indices) => !indices.is_empty(),
                Left::Prepared(pieces) => !pieces.is_empty(),
            };
            let others = |number: u64| world.open.iter().any(|c| c.number == number && c.owner == Some(OTHER));
            if pieces.iter().any(|piece| others(piece.shard.cohort)) {
                prop_assert!(pieces.iter().all(|piece| others(piece.shard.cohort)), "D");
                prop_assert!(world.unopened.is_empty(), "D");
                prop_assert!(world.open.iter().all(|c| others(c.number) || !is_left(&c.left)), "D");
                prop_assert!(world.returned.iter().all(|returned| returned.owner == Some(OTHER)), "D");
            }
            let anything = !world.returned.is_empty() || left.values().any(is_left);
            prop_assert!(!anything || !pieces.is_empty(), "E");
        }
    }
}
