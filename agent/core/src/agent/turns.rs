//! Whose turn it is: in which order leases hand out their probes.
//!
//! - T1: of a scan the leases of an earlier pass come first, and of a pass the older: what began first ends first, while what the next pass
//!   has to wait for is still to come.
//! - T2: of a scan's earliest pass twice as many leases take turns as it is said to be wide, a probe each, the oldest twice as often as
//!   the average and the youngest hardly ever: so they end one after another, and not all at once. Where one of them has none that may go,
//!   the next takes part instead.
//! - T3: scans take turns too.

use protocol::id::{Epoch, ScanId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The leases that hand out probes.
#[derive(Debug, Default)]
pub(super) struct Turns {
    by_scan: BTreeMap<ScanId, BTreeSet<(u8, Epoch)>>,
    /// Turns so far: the next round begins where the last ended.
    taken: u64,
}

/// Turns until no lease has a probe that may go.
#[derive(Debug)]
pub(super) struct Round {
    scans: Vec<Taking>,
    taken: u64,
}

/// A scan in a round.
#[derive(Debug)]
struct Taking {
    /// Oldest first.
    leases: Vec<Epoch>,
    waiting: VecDeque<Epoch>,
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

    /// A round in which each scan is as wide as `wide` makes of its first lease, at least one.
    pub(super) fn round(&self, wide: impl Fn(Epoch) -> usize) -> Round {
        let of_scan = |leases: &BTreeSet<(u8, Epoch)>| {
            let mut waiting: VecDeque<_> = leases.iter().map(|&(_, epoch)| epoch).collect();
            let wide = waiting.front().map_or(1, |&first| wide(first)).max(1);
            let first_pass = leases.first().map(|&(pass, _)| pass);
            // One alone has no other to end before.
            let most = leases.iter().take(wide.saturating_mul(2) - 1);
            let taking = most.take_while(|&&(pass, _)| Some(pass) == first_pass).count();
            let leases = waiting.drain(..taking).collect();
            Taking { leases, waiting }
        };
        Round { scans: self.by_scan.values().map(of_scan).collect(), taken: self.taken }
    }

    /// The round is over.
    pub(super) fn keep(&mut self, round: &Round) {
        self.taken = round.taken;
    }
}

/// Whose turn it is in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    scan: usize,
    lease: usize,
    /// The lease.
    pub(super) epoch: Epoch,
}

impl Round {
    /// Whose turn it is: the same until it was [taken](Self::taken), or that lease is out.
    pub(super) fn next(&self) -> Option<Turn> {
        let scan = self.taken.checked_rem(self.scans.len() as u64)? as usize;
        let leases = &self.scans[scan].leases;
        // Evenly over 0 to 1 (Weyl's sequence), then so that what is less is more likely, linearly.
        let even = (self.taken as f64 * GOLDEN).fract();
        let lease = ((1.0 - (1.0 - even).sqrt()) * leases.len() as f64) as usize;
        leases.get(lease).map(|&epoch| Turn { scan, lease, epoch })
    }

    /// It handed out a probe.
    pub(super) fn taken(&mut self) {
        self.taken = self.taken.wrapping_add(1);
    }

    /// Nothing more of its scan may go.
    pub(super) fn is_through(&mut self, turn: Turn) {
        self.scans.remove(turn.scan);
    }

    /// It had none that may go: it is out, and the next of its scan takes part.
    pub(super) fn has_none(&mut self, turn: Turn) {
        let Taking { leases, waiting, .. } = &mut self.scans[turn.scan];
        leases.remove(turn.lease);
        leases.extend(waiting.pop_front());
        if leases.is_empty() {
            self.is_through(turn);
        }
    }
}

/// The golden ratio's fraction.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

#[cfg(test)]
mod tests {
    use super::*;

    const SCANS: [ScanId; 2] = [ScanId::from_bytes([1; 16]), ScanId::from_bytes([2; 16])];

    /// The epochs in the order in which they hand out what they have.
    fn order(turns: &mut Turns, wide: usize, has: &mut BTreeMap<u64, u32>) -> Vec<u64> {
        let mut round = turns.round(|_| wide);
        let mut order = Vec::new();
        while let Some(turn) = round.next() {
            match has.get_mut(&turn.epoch.get()).filter(|left| **left > 0) {
                Some(left) => {
                    *left -= 1;
                    order.push(turn.epoch.get());
                    round.taken();
                }
                None => round.has_none(turn),
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
    fn t2_of_twice_as_many_as_it_is_wide_the_oldest_has_most_turns_and_they_end_one_after_another() {
        let leases: Vec<_> = (1..=20).map(|epoch| (0, 1, epoch)).collect();
        let mut turns = turns(&leases);
        let mut has: BTreeMap<_, _> = (1..=20).map(|epoch| (epoch, 1_000)).collect();
        let order = order(&mut turns, 4, &mut has);
        let turns_of = |epoch: u64, order: &[u64]| order.iter().filter(|&&other| other == epoch).count();
        // The first of seven has 13 of 49 turns, the last one.
        let first: Vec<_> = (1..=8).map(|epoch| turns_of(epoch, &order[..490])).collect();
        assert!(first.is_sorted_by(|older, younger| older > younger) && first[0] > 120 && first[7] == 0, "{first:?}");
        let end = |epoch: u64| order.iter().rposition(|&other| other == epoch).unwrap();
        let ends: Vec<_> = (1..=20).map(end).collect();
        let apart: Vec<_> = ends.windows(2).map(|two| two[1].saturating_sub(two[0])).collect();
        assert!(apart.iter().all(|&apart| apart > 100), "{apart:?}");
        assert_eq!(order.len(), 20_000);
    }

    #[test]
    fn t2_a_later_pass_has_what_an_earlier_leaves() {
        let mut turns = turns(&[(0, 2, 1), (0, 1, 2), (0, 1, 3), (0, 2, 4)]);
        let mut has = BTreeMap::from([(1, 2), (2, 5), (3, 5), (4, 1)]);
        let order = order(&mut turns, 4, &mut has);
        assert!(order[..5].iter().all(|epoch| [2, 3].contains(epoch)), "{order:?}");
        assert_eq!(order.len(), 13);
    }

    #[test]
    fn t2_one_alone_is_taken_from_until_it_has_none() {
        let mut turns = turns(&[(0, 1, 1), (0, 1, 2), (0, 1, 3)]);
        let mut has = BTreeMap::from([(1, 3), (2, 1), (3, 2)]);
        assert_eq!(order(&mut turns, 1, &mut has), [1, 1, 1, 2, 3, 3]);
    }

    #[test]
    fn t2_the_next_round_goes_on_where_the_last_ended() {
        let mut turns = turns(&[(0, 1, 1), (0, 1, 2), (0, 1, 3)]);
        let mut order = Vec::new();
        for _ in 0..90 {
            let mut round = turns.round(|_| 2);
            order.push(round.next().unwrap().epoch.get());
            round.taken();
            turns.keep(&round);
        }
        let turns_of = |epoch: u64| order.iter().filter(|&&other| other == epoch).count();
        assert_eq!([1, 2, 3].map(turns_of), [51, 30, 9], "50, 30 and 10 in the long run");
    }

    #[test]
    fn t3_scans_take_turns() {
        let mut turns = turns(&[(0, 1, 1), (1, 1, 2), (1, 1, 3)]);
        let mut has = BTreeMap::from([(1, 2), (2, 2), (3, 2)]);
        assert_eq!(order(&mut turns, 1, &mut has), [1, 2, 1, 2, 3, 3]);
    }

    #[test]
    fn a_scan_that_is_through_has_no_further_turn_in_the_round() {
        let mut turns = turns(&[(0, 1, 1), (0, 1, 2), (0, 1, 3), (1, 1, 4)]);
        let mut round = turns.round(|_| 2);
        let first = round.next().unwrap();
        assert_eq!(first.epoch.get(), 1);
        round.is_through(first);
        for _ in 0..3 {
            assert_eq!(round.next().unwrap().epoch.get(), 4);
            round.taken();
        }
        round.has_none(round.next().unwrap());
        assert_eq!(round.next(), None);
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
