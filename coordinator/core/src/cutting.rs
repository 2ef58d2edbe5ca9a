//! Who gets which shard: a pure function of what is open and what is wanted.
//!
//! Shards are taken, until enough targets are cut, from where the first of these finds one:
//! 1. returned shards of cohorts that nobody else works on;
//! 2. the frontier of cohorts that the claimant works on;
//! 3. the frontier of open cohorts that nobody works on;
//! 4. the next cohort of the plan's order, which is opened;
//! 5. returned shards and frontiers of cohorts of others, which are then shared.
//!
//! Properties:
//! - A: every piece lies at its cohort's frontier or is a returned shard, and no two pieces overlap.
//! - B: no piece from a frontier has more than `each` targets, nor more than [`SHARD_TARGETS_MAX`].
//! - C: nothing is cut beyond what is wanted by more than one piece, and never more than `pieces_max` pieces.
//! - D: a cohort of somebody else is shared only if nothing of 1 to 4 is left.
//! - E: if anything is left, something is cut.

use crate::store::{Cut, Shard};
use protocol::id::{Epoch, InstanceId};
use protocol::plan::SHARD_TARGETS_MAX;

/// A cohort as the cutter sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenCohort {
    /// Its number.
    pub number: u64,
    /// Its pass.
    pub pass: u8,
    /// How many targets it has.
    pub len: u32,
    /// Everything below was leased.
    pub frontier: u32,
    /// Who works on it.
    pub owner: Option<InstanceId>,
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
    /// Returned shards by epoch.
    pub returned: &'a [(Epoch, Shard)],
}

/// A piece of work: how the store is to lease it, and what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// For the store.
    pub cut: Cut,
    /// What it covers.
    pub shard: Shard,
}

/// Cuts pieces. `next` gives the cohorts that were not opened, in the plan's order, with their lengths, and is asked only for those needed.
pub fn cut(problem: &Problem<'_>, next: impl FnMut() -> Option<(u64, u32)>) -> Vec<Piece> {
    let mut cutter = Cutter { problem, left: problem.targets, pieces: Vec::new() };
    let owner = |cohort: u64| problem.open.iter().find(|open| open.number == cohort).and_then(|open| open.owner);
    let others = |cohort: u64| owner(cohort).is_some_and(|owner| owner != problem.claimant);
    cutter.returned(|shard| !others(shard.cohort));
    cutter.frontiers(|cohort| cohort.owner == Some(problem.claimant));
    cutter.frontiers(|cohort| cohort.owner.is_none());
    cutter.unopened(next);
    if cutter.pieces.is_empty() {
        cutter.returned(|shard| others(shard.cohort));
        cutter.frontiers(|cohort| others(cohort.number));
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

    fn push(&mut self, cut: Cut, shard: Shard) {
        self.left = self.left.saturating_sub(u64::from(shard.len()));
        self.pieces.push(Piece { cut, shard });
    }

    fn returned(&mut self, fits: impl Fn(&Shard) -> bool) {
        for &(epoch, shard) in self.problem.returned.iter().filter(|(_, shard)| fits(shard)) {
            if self.enough() {
                return;
            }
            self.push(Cut::Returned(epoch), shard);
        }
    }

    fn frontiers(&mut self, fits: impl Fn(&OpenCohort) -> bool) {
        for &cohort in self.problem.open.iter().filter(|cohort| fits(cohort)) {
            self.frontier(cohort);
        }
    }

    fn unopened(&mut self, mut next: impl FnMut() -> Option<(u64, u32)>) {
        while !self.enough() {
            let Some((number, len)) = next() else { return };
            self.frontier(OpenCohort { number, pass: 1, len, frontier: 0, owner: None });
        }
    }

    fn frontier(&mut self, cohort: OpenCohort) {
        let mut lo = cohort.frontier;
        while lo < cohort.len && !self.enough() {
            let hi = lo + self.problem.each.clamp(1, SHARD_TARGETS_MAX).min(cohort.len - lo);
            let shard = Shard { cohort: cohort.number, pass: cohort.pass, lo, hi };
            self.push(Cut::Frontier(shard), shard);
            lo = hi;
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
        returned: Vec<(Epoch, Shard)>,
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
                    world.open.push(OpenCohort { number, pass: 1, len, frontier, owner });
                    for part in 0..returned.min(frontier / 10) {
                        let epoch = Epoch::new(world.returned.len() as u64 + 1);
                        world
                            .returned
                            .push((epoch, Shard { cohort: number, pass: 1, lo: part * 10, hi: part * 10 + 10 }));
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
            let mut frontier: BTreeMap<u64, (u32, u32)> = world.open.iter().map(|c| (c.number, (c.frontier, c.len))).collect();
            frontier.extend(world.unopened.iter().map(|&(number, len)| (number, (0, len))));
            let mut returned: BTreeMap<Epoch, Shard> = world.returned.iter().copied().collect();
            let mut sum = 0;
            for piece in &pieces {
                prop_assert!(sum < world.targets, "C: enough was cut");
                sum += u64::from(piece.shard.len());
                match piece.cut {
                    Cut::Returned(epoch) => prop_assert_eq!(returned.remove(&epoch), Some(piece.shard), "A"),
                    Cut::Frontier(shard) => {
                        let (at, len) = frontier.get_mut(&shard.cohort).unwrap();
                        prop_assert!(shard.lo == *at && shard.hi <= *len && shard.lo < shard.hi, "A");
                        prop_assert!(shard.len() <= world.each.max(1) && shard.len() <= SHARD_TARGETS_MAX, "B");
                        *at = shard.hi;
                    }
                }
            }
            prop_assert!(pieces.len() <= world.pieces_max, "C");
            let others = |number: u64| world.open.iter().any(|c| c.number == number && c.owner == Some(OTHER));
            if pieces.iter().any(|piece| others(piece.shard.cohort)) {
                prop_assert!(pieces.iter().all(|piece| others(piece.shard.cohort)), "D");
                prop_assert!(world.unopened.is_empty(), "D");
                prop_assert!(world.open.iter().all(|c| others(c.number) || c.frontier == c.len), "D");
                prop_assert!(world.returned.iter().all(|(_, shard)| others(shard.cohort)), "D");
            }
            let left = !world.returned.is_empty() || frontier.values().any(|(at, len)| at < len);
            prop_assert!(!left || !pieces.is_empty(), "E");
        }
    }
}
