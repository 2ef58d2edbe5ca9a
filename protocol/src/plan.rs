//! The plan of a stage: which targets there are, and in which order they are probed. O(ranges) in memory, whatever its size.
//!
//! The addresses (v4 before v6, ascending) are cut by rank into cohorts of [`cohort_hosts`] addresses; cohorts come in an order
//! of their own. Within a cohort the index is slot position × hosts + host position: `ping` first, then the ports in an order
//! shuffled by (seed, cohort), and for each slot the hosts in an order shuffled anew by (seed, cohort, slot position). One
//! host's probes are thus spaced by the whole cohort.
//!
//! Where several vantages each probe everything, a plan of n cohorts has n for each of them, all in one order: cohort number
//! v × n + c is cohort c as it is seen from vantage v, in the same order.
//!
//! Invariants:
//! - P1: every target of addresses × slots has exactly one index in `0..len`, for each vantage.
//! - P2: an address outside the ranges has none.
//! - P3: the order depends on ranges, slots and seed only, never on how many agents there are.

use crate::id::AgentName;
use crate::order::{Permutation, derive};
use crate::port::PortSet;
use crate::probe::{Slot, Target};
use crate::range_set::RankedRanges;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// The most targets that a shard, and so a lease, a report and a chunk, may have.
pub const SHARD_TARGETS_MAX: u32 = 32_768;

/// The most vantages that each probe everything.
pub const VANTAGES_MAX: usize = 32;

/// The most addresses of a cohort: with 65,537 slots its indices still fit `u32`.
pub const COHORT_HOSTS_MAX: u64 = 4_096;

const _: () = assert!(COHORT_HOSTS_MAX * 65_537 <= u32::MAX as u64);

/// What derived keys are for. The numbers are part of the order: they never change.
mod purpose {
    pub(super) const COHORTS: u64 = 1;
    pub(super) const COHORT: u64 = 2;
    pub(super) const PORTS: u64 = 3;
    pub(super) const HOSTS: u64 = 4;
}

/// The number of addresses of a cohort, for a plan of `addresses`: clamp(2^⌊log2(addresses / 64)⌋, 1, 4096).
#[must_use]
pub const fn cohort_hosts(addresses: u64) -> u64 {
    match addresses / 64 {
        0 => 1,
        quotient => {
            let hosts = 1 << quotient.ilog2();
            if hosts > COHORT_HOSTS_MAX { COHORT_HOSTS_MAX } else { hosts }
        }
    }
}

/// What is asked of every address. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    ping: bool,
    ports: Arc<PortSet>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    discover: bool,
}

impl Slots {
    /// An echo request or none, and these TCP ports.
    #[must_use]
    pub fn new(ping: bool, ports: PortSet) -> Self {
        Self { ping, ports: Arc::new(ports), discover: false }
    }

    /// The same in two stages: first `ping` of every address, then the ports of those that are up. Without `ping` there are none.
    #[must_use]
    pub fn in_stages(self) -> Self {
        Self { discover: true, ..self }
    }

    /// True if ports are targets only on addresses that `ping` found up.
    #[must_use]
    pub fn discover(&self) -> bool {
        self.discover && self.ping
    }

    /// True if `ping` is asked.
    #[must_use]
    pub fn ping(&self) -> bool {
        self.ping
    }

    /// The ports that are asked.
    #[must_use]
    pub fn ports(&self) -> &PortSet {
        &self.ports
    }

    /// How many things are asked of each address: at most 65,537.
    #[must_use]
    pub fn len(&self) -> u32 {
        u32::from(self.ping) + self.ports.len()
    }

    /// True if nothing is asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn at(&self, position: u32, ports: &Permutation) -> Option<Slot> {
        if self.ping && position == 0 {
            return Some(Slot::Ping);
        }
        let rank = ports.at(u64::from(position - u32::from(self.ping)))?;
        self.ports.nth(u32::try_from(rank).ok()?).map(Slot::Tcp)
    }

    fn position(&self, slot: Slot, ports: &Permutation) -> Option<u32> {
        match slot {
            Slot::Ping => self.ping.then_some(0),
            Slot::Tcp(port) => {
                let position = ports.position(u64::from(self.ports.position(port)?))?;
                Some(u32::try_from(position).ok()? + u32::from(self.ping))
            }
        }
    }
}

/// Why a plan cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// There is no address, or nothing is asked.
    #[error("nothing is left to probe: every target is excluded or none was named")]
    Empty,
    /// More than 2^64 − 1 targets.
    #[error(
        "{addresses} addresses × {slots} make more targets than a plan can hold (2^64 − 1): split the range or name fewer ports"
    )]
    TooLarge {
        /// How many addresses.
        addresses: u64,
        /// How many things are asked of each.
        slots: u32,
    },
    /// Vantages that no plan has.
    #[error("a scan is made from at most {VANTAGES_MAX} vantages, each named once")]
    Vantages,
}

/// A plan's SHA-256 over its ranges, slots, seed and cohort size: two scans with the same digest probe the same in the same order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PlanDigest(#[serde(with = "serde_bytes")] [u8; 32]);

impl fmt::Display for PlanDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PlanDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The plan of one stage: fixed once made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    addresses: RankedRanges,
    slots: Slots,
    seed: u64,
    cohort_hosts: u64,
    /// Those that each probe everything; none where it does not matter who probes what.
    vantages: Arc<[AgentName]>,
    order: Permutation,
}

impl Plan {
    /// A plan over `addresses`, from which exclusions are subtracted already.
    ///
    /// # Errors
    /// If it is empty, or its length does not fit in `u64`.
    pub fn new(addresses: RankedRanges, slots: Slots, seed: u64) -> Result<Self, PlanError> {
        if addresses.is_empty() || slots.is_empty() {
            return Err(PlanError::Empty);
        }
        if addresses.len().checked_mul(u64::from(slots.len())).is_none() {
            return Err(PlanError::TooLarge { addresses: addresses.len(), slots: slots.len() });
        }
        let cohort_hosts = cohort_hosts(addresses.len());
        let order = Permutation::new(addresses.len().div_ceil(cohort_hosts), derive(seed, purpose::COHORTS));
        Ok(Self { addresses, slots, seed, cohort_hosts, vantages: Arc::default(), order })
    }

    /// The same, with everything probed from each of these vantages. From none of them: it does not matter who probes what.
    ///
    /// # Errors
    /// If there are more than [`VANTAGES_MAX`], one stands there twice, or the length does not fit in `u64`.
    pub fn seen_from(self, vantages: Vec<AgentName>) -> Result<Self, PlanError> {
        let is_twice =
            vantages.iter().enumerate().any(|(at, vantage)| vantages.iter().skip(at + 1).any(|other| other == vantage));
        if vantages.len() > VANTAGES_MAX || is_twice {
            return Err(PlanError::Vantages);
        }
        let views = vantages.len().max(1) as u64;
        if self.len_of_one().checked_mul(views).is_none() {
            return Err(PlanError::TooLarge { addresses: self.addresses.len(), slots: self.slots.len() });
        }
        let order = Permutation::new(self.cohorts_of_one() * views, derive(self.seed, purpose::COHORTS));
        Ok(Self { vantages: vantages.into(), order, ..self })
    }

    /// The vantages that each probe everything; none where it does not matter who probes what.
    #[must_use]
    pub fn vantages(&self) -> &[AgentName] {
        &self.vantages
    }

    /// The vantage from which cohort `number` is probed; `None` if from any, or unless `number < cohorts`.
    #[must_use]
    pub fn vantage_of(&self, number: u64) -> Option<&AgentName> {
        self.vantages.get(usize::try_from(number / self.cohorts_of_one()).ok()?)
    }

    /// How many cohorts there are for one vantage: cohorts whose numbers differ by it are the same addresses.
    #[must_use]
    pub fn cohorts_of_one(&self) -> u64 {
        self.addresses.len().div_ceil(self.cohort_hosts)
    }

    /// The number of targets, for each vantage.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len_of_one() * self.views()
    }

    /// How often everything is probed: by each vantage, or once.
    #[must_use]
    pub fn views(&self) -> u64 {
        self.vantages.len().max(1) as u64
    }

    fn len_of_one(&self) -> u64 {
        self.addresses.len() * u64::from(self.slots.len())
    }

    /// Never: an empty plan cannot be made.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The addresses, v4 before v6, ascending.
    #[must_use]
    pub fn addresses(&self) -> &RankedRanges {
        &self.addresses
    }

    /// What is asked of each.
    #[must_use]
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// What the order is made from.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How many cohorts there are.
    #[must_use]
    pub fn cohorts(&self) -> u64 {
        self.order.len()
    }

    /// The position of a cohort that is at most 1,024 positions beyond `from` in the plan's order.
    #[must_use]
    pub fn ahead(&self, from: u64, cohort: u64) -> Option<u64> {
        (from..from.saturating_add(1_024))
            .map_while(|at| Some((at, self.cohort_at(at)?)))
            .find_map(|(at, number)| (number == cohort).then_some(at))
    }

    /// The number of the cohort that comes at `position` of the order. `None` unless `position < cohorts`.
    #[must_use]
    pub fn cohort_at(&self, position: u64) -> Option<u64> {
        self.order.at(position)
    }

    /// At which position of the order cohort `number` comes. `None` unless `number < cohorts`.
    #[must_use]
    pub fn position_of(&self, number: u64) -> Option<u64> {
        self.order.position(number)
    }

    /// Cohort `number`: the addresses of ranks `c × H .. (c + 1) × H`, where c is `number`, for each vantage anew. `None` unless
    /// `number < cohorts`.
    #[must_use]
    pub fn cohort(&self, number: u64) -> Option<Cohort> {
        let addresses = self.addresses.slice(self.cohort_start(number)?, self.cohort_end(number)?);
        let cohort = Cohort::new(number % self.cohorts_of_one(), addresses, self.slots.clone(), self.seed);
        Some(Cohort { number, ..cohort })
    }

    /// How many targets cohort `number` has. `None` unless `number < cohorts`.
    #[must_use]
    pub fn cohort_len(&self, number: u64) -> Option<u32> {
        let hosts = self.cohort_end(number)? - self.cohort_start(number)?;
        u32::try_from(hosts * u64::from(self.slots.len())).ok()
    }

    /// How many indices of cohort `number` its first pass covers: all, or in stages those of `ping`. `None` unless `number < cohorts`.
    #[must_use]
    pub fn first_pass_len(&self, number: u64) -> Option<u32> {
        let len = self.cohort_len(number)?;
        Some(if self.slots.discover() { len / self.slots.len() } else { len })
    }

    /// The number of the cohort that holds an address, from the first vantage; `None` for an address outside the plan.
    #[must_use]
    pub fn cohort_of(&self, address: IpAddr) -> Option<u64> {
        self.addresses.rank_of(address).map(|rank| rank / self.cohort_hosts)
    }

    /// The target at `index`. `None` unless `index < len`.
    #[must_use]
    pub fn target(&self, index: u64) -> Option<Target> {
        let at_least = index / (self.cohort_hosts * u64::from(self.slots.len()));
        // Each short cohort lets those that come after it begin earlier: by less than a whole one.
        let positions = at_least..=at_least + self.views();
        let starts = positions.map_while(|position| Some((position, self.start(position)?)));
        let (position, start) = starts.take_while(|(_, start)| *start <= index).last()?;
        self.cohort(self.cohort_at(position)?)?.target(u32::try_from(index - start).ok()?)
    }

    /// The index of a target, as the first vantage sees it; `None` if the plan does not cover it.
    #[must_use]
    pub fn index_of(&self, target: Target) -> Option<u64> {
        let number = self.cohort_of(target.address)?;
        let within = self.cohort(number)?.index_of(target)?;
        Some(self.start(self.order.position(number)?)? + u64::from(within))
    }

    /// The index at which the cohort at a position of the order begins. `None` unless `position < cohorts`.
    fn start(&self, position: u64) -> Option<u64> {
        let whole = self.cohort_hosts * u64::from(self.slots.len());
        let last = self.cohorts_of_one() - 1;
        let missing = whole - u64::from(self.cohort_len(last)?);
        let shorts = (0..self.views()).filter_map(|view| self.order.position(view * self.cohorts_of_one() + last));
        let before = shorts.filter(|&short| short < position).count() as u64;
        (position < self.cohorts()).then_some(position * whole - before * missing)
    }

    /// The plan's digest.
    #[must_use]
    pub fn digest(&self) -> PlanDigest {
        let mut hash = Sha256::new();
        hash.update(b"portsweep plan 1\0");
        for (first, last) in self.addresses.ranges() {
            for address in [first, last] {
                match address {
                    IpAddr::V4(v4) => hash.update([&[4], &v4.octets()[..]].concat()),
                    IpAddr::V6(v6) => hash.update([&[6], &v6.octets()[..]].concat()),
                }
            }
        }
        hash.update([u8::from(self.slots.ping)]);
        for (first, last) in self.slots.ports.ranges() {
            hash.update(first.to_be_bytes());
            hash.update(last.to_be_bytes());
        }
        hash.update(self.seed.to_be_bytes());
        hash.update(self.cohort_hosts.to_be_bytes());
        if self.slots.discover() {
            hash.update(b"discover");
        }
        for vantage in self.vantages.iter() {
            hash.update(b"\0from ");
            hash.update(vantage.as_str());
        }
        PlanDigest(hash.finalize().into())
    }

    fn cohort_start(&self, number: u64) -> Option<u64> {
        (number < self.cohorts()).then(|| number % self.cohorts_of_one() * self.cohort_hosts)
    }

    fn cohort_end(&self, number: u64) -> Option<u64> {
        let start = self.cohort_start(number)?;
        Some(start.saturating_add(self.cohort_hosts).min(self.addresses.len()))
    }
}

/// What a plan is made of again: ranges, slots, seed and vantages. What is stored, so that a resumed scan has the same order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanParts {
    /// The addresses, exclusions subtracted.
    pub addresses: RankedRanges,
    /// What is asked of each.
    pub slots: Slots,
    /// What the order is made from.
    pub seed: u64,
    /// Those that each probe everything; none where it does not matter who probes what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vantages: Vec<AgentName>,
}

impl From<&Plan> for PlanParts {
    fn from(plan: &Plan) -> Self {
        let (addresses, slots) = (plan.addresses.clone(), plan.slots.clone());
        Self { addresses, slots, seed: plan.seed, vantages: plan.vantages.to_vec() }
    }
}

impl TryFrom<PlanParts> for Plan {
    type Error = PlanError;

    fn try_from(parts: PlanParts) -> Result<Self, Self::Error> {
        Self::new(parts.addresses, parts.slots, parts.seed)?.seen_from(parts.vantages)
    }
}

/// A run of consecutive addresses of the plan that are worked on together. It travels in grants: with it an agent knows
/// every target of a shard and nothing of the rest of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "CohortWire", into = "CohortWire")]
pub struct Cohort {
    number: u64,
    /// Which run of the plan's addresses it is, whoever sees it: with the seed it makes the order.
    run: u64,
    addresses: RankedRanges,
    slots: Slots,
    seed: u64,
    key: u64,
    ports: Permutation,
}

/// A cohort as it travels. Only what cannot be derived.
#[derive(Clone, Serialize, Deserialize)]
struct CohortWire {
    number: u64,
    addresses: RankedRanges,
    slots: Slots,
    seed: u64,
    /// Which run of the plan's addresses it is, where that is not its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<u64>,
}

/// A cohort that no plan has.
#[derive(Debug, thiserror::Error)]
#[error("a cohort has 1 to {COHORT_HOSTS_MAX} addresses and at least one slot")]
struct CohortError;

impl TryFrom<CohortWire> for Cohort {
    type Error = CohortError;

    fn try_from(wire: CohortWire) -> Result<Self, Self::Error> {
        if !(1..=COHORT_HOSTS_MAX).contains(&wire.addresses.len()) || wire.slots.is_empty() {
            return Err(CohortError);
        }
        let run = wire.run.unwrap_or(wire.number);
        Ok(Self { number: wire.number, ..Self::new(run, wire.addresses, wire.slots, wire.seed) })
    }
}

impl From<Cohort> for CohortWire {
    fn from(cohort: Cohort) -> Self {
        let run = (cohort.run != cohort.number).then_some(cohort.run);
        Self { number: cohort.number, addresses: cohort.addresses, slots: cohort.slots, seed: cohort.seed, run }
    }
}

impl Cohort {
    fn new(run: u64, addresses: RankedRanges, slots: Slots, seed: u64) -> Self {
        let key = derive(derive(seed, purpose::COHORT), run);
        let ports = Permutation::new(u64::from(slots.ports.len()), derive(key, purpose::PORTS));
        Self { number: run, run, addresses, slots, seed, key, ports }
    }

    /// Its number: which run of the plan's addresses it is, and from where it is seen.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its addresses, ascending: 1 to 4,096.
    #[must_use]
    pub fn addresses(&self) -> &RankedRanges {
        &self.addresses
    }

    /// How many addresses it has.
    #[must_use]
    pub fn hosts(&self) -> u32 {
        // Made with at most COHORT_HOSTS_MAX.
        self.addresses.len() as u32
    }

    /// What is asked of each address.
    #[must_use]
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// How many targets it has: its indices are `0..len`.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.hosts() * self.slots.len()
    }

    /// How many indices its first pass covers: all, or in stages those of `ping`, which come first.
    #[must_use]
    pub fn first_pass_len(&self) -> u32 {
        if self.slots.discover() { self.hosts() } else { self.len() }
    }

    /// Never: an empty cohort cannot be made.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The target at `index`. `None` unless `index < len`. For a run of indices, [`targets`](Self::targets) is faster.
    #[must_use]
    pub fn target(&self, index: u32) -> Option<Target> {
        if index >= self.len() {
            return None;
        }
        let (slot, host) = (index / self.hosts(), index % self.hosts());
        Some(Target {
            address: self.addresses.nth(self.host_order(slot).at(u64::from(host))?)?,
            slot: self.slots.at(slot, &self.ports)?,
        })
    }

    /// The rank, among the cohort's addresses, of the host at `index`. `None` unless `index < len`.
    #[must_use]
    pub fn host_at(&self, index: u32) -> Option<u32> {
        let rank = self.host_order(index / self.hosts()).at(u64::from(index % self.hosts()))?;
        (index < self.len()).then_some(rank as u32)
    }

    /// The index of a target; `None` if the cohort does not hold it.
    #[must_use]
    pub fn index_of(&self, target: Target) -> Option<u32> {
        let slot = self.slots.position(target.slot, &self.ports)?;
        let host = self.host_order(slot).position(self.addresses.rank_of(target.address)?)?;
        Some(slot * self.hosts() + u32::try_from(host).ok()?)
    }

    /// The targets of `lo..hi`, in order, each with its index and its host's rank in the cohort. Ends at `len`.
    pub fn targets(&self, lo: u32, hi: u32) -> impl Iterator<Item = IndexedTarget> + '_ {
        let mut cached: Option<(u32, Permutation, Slot)> = None;
        (lo..hi.min(self.len())).filter_map(move |index| {
            let (position, host) = (index / self.hosts(), index % self.hosts());
            let (order, slot) = match cached {
                Some((cached_position, order, slot)) if cached_position == position => (order, slot),
                _ => {
                    let (order, slot) = (self.host_order(position), self.slots.at(position, &self.ports)?);
                    cached = Some((position, order, slot));
                    (order, slot)
                }
            };
            let rank = order.at(u64::from(host))?;
            let target = Target { address: self.addresses.nth(rank)?, slot };
            Some(IndexedTarget { index, host: u32::try_from(rank).ok()?, target })
        })
    }

    /// The slot at a position, `0..slots().len()`: the targets of `position * hosts()..(position + 1) * hosts()` ask for it.
    #[must_use]
    pub fn slot_at(&self, position: u32) -> Option<Slot> {
        if position < self.slots.len() { self.slots.at(position, &self.ports) } else { None }
    }

    /// The order in which the slot at a position is asked of the hosts: of places, their ranks.
    #[must_use]
    pub fn host_order(&self, slot: u32) -> Permutation {
        Permutation::new(u64::from(self.hosts()), derive(self.key ^ purpose::HOSTS.rotate_right(8), u64::from(slot)))
    }
}

/// A target with where it stands in its cohort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexedTarget {
    /// Its index in the cohort's order.
    pub index: u32,
    /// Its host's rank among the cohort's addresses.
    pub host: u32,
    /// The target.
    pub target: Target,
}

#[cfg(test)]
mod tests;
