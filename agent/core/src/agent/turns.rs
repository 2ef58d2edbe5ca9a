//! Whose turn it is: in which order leases hand out their probes.
//!
//! - T1: of a scan the leases of an earlier pass come first, and of a pass the older: what began first ends first, while what the next pass
//!   has to wait for is still to come.
//! - T2: so many of a scan's leases at once as it is said to be wide take turns, a probe each; where one of them has none that may go, the
//!   next takes part instead.
//! - T3: scans take turns too.

use protocol::id::{Epoch, ScanId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The leases that hand out probes.
#[derive(Debug, Default)]
pub(super) struct Turns {
    by_scan: BTreeMap<ScanId, BTreeSet<(u8, Epoch)>>,
    /// Turns so far: the next round begins where the last ended.
    taken: usize,
}

/// Turns until no lease has a probe that may go.
#[derive(Debug)]
pub(super) struct Round {
    taking: VecDeque<(ScanId, Epoch)>,
    waiting: BTreeMap<ScanId, VecDeque<Epoch>>,
    taken: usize,
}

impl Turns {
    pub(super) fn add(&mut self, scan: ScanId, pass: u8, epoch: Epoch) {
        self.by_scan.entry(scan).or_default().insert((pass, epoch));
    }

    pub(super) fn retain(&mut self, keep: impl Fn(Epoch) -> bool) {
        self.by_scan.retain(|_, leases| {
            leases.retain(|&(_, epoch)| keep(epoch));
            !leases.is_empty()
        });
    }

    /// All leases, those whose turn is sooner first.
    pub(super) fn all(&self) -> impl Iterator<Item = Epoch> + '_ {
        self.by_scan.values().flatten().map(|&(_, epoch)| epoch)
    }

    /// A round in which so many leases of each scan take turns at once, at least one, as `wide` makes of its first lease.
    pub(super) fn round(&self, wide: impl Fn(Epoch) -> usize) -> Round {
        let (mut taking, mut waiting) = (VecDeque::new(), BTreeMap::new());
        for (&scan, leases) in &self.by_scan {
            let mut leases = leases.iter().map(|&(_, epoch)| epoch);
            let Some(first) = leases.next() else { continue };
            taking.push_back((scan, first));
            taking.extend(leases.by_ref().take(wide(first).saturating_sub(1)).map(|epoch| (scan, epoch)));
            waiting.insert(scan, leases.collect());
        }
        let begins = self.taken % taking.len().max(1);
        taking.rotate_left(begins);
        Round { taking, waiting, taken: self.taken }
    }

    /// The round is over.
    pub(super) fn keep(&mut self, round: &Round) {
        self.taken = round.taken;
    }
}

impl Round {
    /// Whose turn it is; it is out unless it is [put back](Self::goes_on).
    pub(super) fn next(&mut self) -> Option<(ScanId, Epoch)> {
        self.taking.pop_front()
    }

    /// It handed out a probe, and may have another.
    pub(super) fn goes_on(&mut self, scan: ScanId, epoch: Epoch) {
        self.taken = self.taken.wrapping_add(1);
        self.taking.push_back((scan, epoch));
    }

    /// Nothing more of its scan may go.
    pub(super) fn is_through(&mut self, scan: ScanId) {
        self.taking.retain(|&(other, _)| other != scan);
        self.waiting.remove(&scan);
    }

    /// It had none that may go: the next of its scan takes its place.
    pub(super) fn has_none(&mut self, scan: ScanId) {
        if let Some(next) = self.waiting.get_mut(&scan).and_then(VecDeque::pop_front) {
            self.taking.push_back((scan, next));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCANS: [ScanId; 2] = [ScanId::from_bytes([1; 16]), ScanId::from_bytes([2; 16])];

    /// The epochs in the order in which they hand out what they have.
    fn order(turns: &mut Turns, wide: usize, has: &mut BTreeMap<u64, u32>) -> Vec<u64> {
        let mut round = turns.round(|_| wide);
        let mut order = Vec::new();
        while let Some((scan, epoch)) = round.next() {
            match has.get_mut(&epoch.get()).filter(|left| **left > 0) {
                Some(left) => {
                    *left -= 1;
                    order.push(epoch.get());
                    round.goes_on(scan, epoch);
                }
                None => round.has_none(scan),
            }
        }
        turns.keep(&round);
        order
    }

    fn turns(leases: &[(usize, u8, u64)]) -> Turns {
        let mut turns = Turns::default();
        for &(scan, pass, epoch) in leases {
            turns.add(SCANS[scan], pass, Epoch::new(epoch));
        }
        turns
    }

    #[test]
    fn t1_earlier_passes_come_first_and_of_a_pass_what_is_older() {
        let mut turns = turns(&[(0, 2, 1), (0, 1, 3), (0, 1, 2)]);
        let all: Vec<_> = turns.all().map(Epoch::get).collect();
        assert_eq!(all, [2, 3, 1]);
        let mut has = BTreeMap::from([(1, 1), (2, 2), (3, 1)]);
        assert_eq!(order(&mut turns, 1, &mut has), [2, 2, 3, 1]);
    }

    #[test]
    fn t2_so_many_take_turns_and_the_next_takes_the_place_of_one_that_has_none() {
        let mut turns = turns(&[(0, 1, 1), (0, 1, 2), (0, 1, 3)]);
        let mut has = BTreeMap::from([(1, 3), (2, 1), (3, 2)]);
        assert_eq!(order(&mut turns, 2, &mut has), [1, 2, 1, 1, 3, 3]);
    }

    #[test]
    fn t2_the_next_round_begins_where_the_last_ended() {
        let mut turns = turns(&[(0, 1, 1), (0, 1, 2), (0, 1, 3)]);
        let mut round = turns.round(|_| 3);
        let (scan, first) = round.next().unwrap();
        round.goes_on(scan, first);
        turns.keep(&round);
        assert_eq!((first.get(), turns.round(|_| 3).next().unwrap().1.get()), (1, 2));
    }

    #[test]
    fn t3_scans_take_turns_each_as_wide_as_it_is() {
        let mut turns = turns(&[(0, 1, 1), (1, 1, 2), (1, 1, 3)]);
        let mut has = BTreeMap::from([(1, 2), (2, 2), (3, 2)]);
        assert_eq!(order(&mut turns, 1, &mut has), [1, 2, 1, 2, 3, 3]);
    }

    #[test]
    fn a_scan_that_is_through_has_no_further_turn_in_the_round() {
        let mut turns = turns(&[(0, 1, 1), (0, 1, 2), (0, 1, 3), (1, 1, 4)]);
        let mut round = turns.round(|_| 2);
        assert_eq!(round.next().map(|(_, epoch)| epoch.get()), Some(1));
        round.is_through(SCANS[0]);
        let mut rest = std::iter::from_fn(|| round.next()).map(|(_, epoch)| epoch.get());
        assert_eq!((rest.next(), rest.next()), (Some(4), None));
        turns.retain(|_| true);
        assert_eq!(turns.all().count(), 4);
    }

    #[test]
    fn what_is_not_kept_has_no_turn() {
        let mut turns = turns(&[(0, 1, 1), (1, 1, 2)]);
        turns.retain(|epoch| epoch.get() == 2);
        assert_eq!(turns.all().map(Epoch::get).collect::<Vec<_>>(), [2]);
        assert_eq!(Turns::default().round(|_| 1).next(), None);
    }
}
