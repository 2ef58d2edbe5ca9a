//! What agents may probe of what there is to lease.
//!
//! A lease covers what its pass covers, whoever has it; its grant leaves out what the agent does not allow, and that settles as
//! `out-of-scope`, for a later pass elsewhere. An agent's allow-list is fixed for the life of its instance, so what was left out is known
//! again when the report comes.

use super::open::Leased;
use protocol::covers;
use protocol::plan::Cohort;
use protocol::probe::{Cause, Outcome};
use protocol::range_set::AddressSet;

/// Which of a lease's targets an agent may probe.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    All,
    /// Those of this bitmap.
    Some(Vec<u8>),
    None,
}

impl Allowed {
    pub(super) fn of(cohort: &Cohort, addresses: &AddressSet, leased: &Leased, allow: &AddressSet) -> Self {
        if addresses.is_subset(allow) {
            return Self::All;
        }
        let (lo, hi) = (leased.shard.lo, leased.shard.hi);
        let bitmap = covers::bitmap(lo, hi, |index| {
            covers::contains(&leased.covers, lo, hi, index)
                && cohort.target(index).is_some_and(|target| allow.contains(target.address))
        });
        match covers::indices(&bitmap, lo, hi).count() {
            0 => Self::None,
            count if count == leased.covered() as usize => Self::All,
            _ => Self::Some(bitmap),
        }
    }

    /// How many outcomes a report has.
    pub(super) fn reported(&self, leased: &Leased) -> u32 {
        match self {
            Self::All => leased.covered(),
            Self::Some(bitmap) => covers::count(bitmap, leased.shard.lo, leased.shard.hi),
            Self::None => 0,
        }
    }

    /// The outcomes of all that the lease covers, from those that were reported.
    pub(super) fn complete(&self, leased: &Leased, reported: Vec<Outcome>) -> Vec<Outcome> {
        let (lo, hi) = (leased.shard.lo, leased.shard.hi);
        let out_of_scope = Outcome::not_probed(Cause::OutOfScope);
        match self {
            Self::All => reported,
            Self::None => vec![out_of_scope; leased.covered() as usize],
            Self::Some(bitmap) => {
                let mut reported = reported.into_iter();
                covers::indices(&leased.covers, lo, hi)
                    .map(|index| match covers::contains(bitmap, lo, hi, index) {
                        true => reported.next().unwrap_or(out_of_scope),
                        false => out_of_scope,
                    })
                    .collect()
            }
        }
    }
}

/// Who may probe what: a claimant, and all that are connected together.
pub(super) struct Reach<'a> {
    pub(super) claimant: &'a AddressSet,
    pub(super) all: &'a AddressSet,
}

impl Reach<'_> {
    /// Whether a cohort is one for the claimant: it may probe something of it, or nobody may, and somebody must say so.
    pub(super) fn has(&self, addresses: &AddressSet) -> bool {
        !addresses.is_disjoint(self.claimant) || addresses.is_disjoint(self.all)
    }

    /// The same of what a lease covers.
    pub(super) fn has_of(&self, cohort: &Cohort, addresses: &AddressSet, leased: &Leased) -> bool {
        Allowed::of(cohort, addresses, leased, self.claimant) != Allowed::None
            || Allowed::of(cohort, addresses, leased, self.all) == Allowed::None
    }
}
