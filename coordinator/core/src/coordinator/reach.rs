//! What agents may probe of what there is to lease.
//!
//! A lease covers what its pass covers, whoever has it; its grant leaves out what the agent does not allow, and that settles as
//! `out-of-scope`, for a later pass elsewhere. An agent's allow-list is fixed for the life of its instance, so what was left out is known
//! again when the report comes.

use super::open::Leased;
use protocol::covers;
use protocol::id::AgentName;
use protocol::plan::Cohort;
use protocol::probe::{Cause, Outcome};
use protocol::range_set::AddressSet;
use std::collections::BTreeMap;

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
    /// The vantage of the claimant.
    pub(super) from: &'a str,
    pub(super) all: &'a Everybody,
}

impl Reach<'_> {
    /// What the claimant may probe of a cohort that is seen from `vantage`, or from any.
    fn claimants(&self, vantage: Option<&AgentName>) -> &AddressSet {
        if is_from(self.from, vantage) { self.claimant } else { &self.all.nothing }
    }

    /// Whether a cohort is one for the claimant: it may probe something of it, or nobody may, and somebody must say so.
    pub(super) fn has(&self, vantage: Option<&AgentName>, addresses: &AddressSet) -> bool {
        !addresses.is_disjoint(self.claimants(vantage)) || addresses.is_disjoint(self.all.of(vantage))
    }

    /// The same of what a lease covers.
    pub(super) fn has_of(
        &self,
        vantage: Option<&AgentName>,
        cohort: &Cohort,
        addresses: &AddressSet,
        leased: &Leased,
    ) -> bool {
        Allowed::of(cohort, addresses, leased, self.claimants(vantage)) != Allowed::None
            || Allowed::of(cohort, addresses, leased, self.all.of(vantage)) == Allowed::None
    }
}

/// Whether an agent of this vantage is one for what is seen from `vantage`, or from any.
pub(super) fn is_from(agent: &str, vantage: Option<&AgentName>) -> bool {
    vantage.is_none_or(|vantage| vantage.as_str() == agent)
}

/// What all together may probe, from each vantage.
#[derive(Debug, Default)]
pub(super) struct Everybody {
    from: BTreeMap<String, AddressSet>,
    together: AddressSet,
    nothing: AddressSet,
    /// Nobody knows who comes.
    unknown: bool,
}

impl Everybody {
    /// Somebody may come who may probe anything, from anywhere.
    pub(super) fn unknown() -> Self {
        let mut together = AddressSet::new();
        together.insert_net(protocol::range_set::ANY_V4);
        together.insert_net(protocol::range_set::ANY_V6);
        Self { together, unknown: true, ..Self::default() }
    }

    /// One more, with its vantage.
    pub(super) fn add(&mut self, from: &str, allow: &AddressSet) {
        self.together.extend(allow);
        self.from.entry(from.to_owned()).or_default().extend(allow);
    }

    /// What may be probed from a vantage, or from any.
    pub(super) fn of(&self, vantage: Option<&AgentName>) -> &AddressSet {
        match vantage {
            Some(vantage) if !self.unknown => self.from.get(vantage.as_str()).unwrap_or(&self.nothing),
            _ => &self.together,
        }
    }
}
