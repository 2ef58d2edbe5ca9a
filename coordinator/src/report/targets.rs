//! Single targets of a scan and what became of them: filtered, page by page, in memory that does not grow with the scan.
//!
//! Targets are walked cohort by cohort, which is address order, and within a cohort in windows of `WINDOW_TARGETS`; in a window they stand
//! by address, `ping` before ports. So a place in the walk is a cohort, a window and the last target told of: what is committed meanwhile
//! neither shifts nor repeats anything. Where several vantages each probe everything, each is walked after the other. Cohorts and windows that a filter leaves nothing of are passed over unread.

use super::csv::guarded;
use super::milliseconds;
use coordinator_core::passes::History;
use coordinator_core::stages::Ports;
use coordinator_core::store::{Store, StoreError};
use protocol::id::{AgentName, ScanId};
use protocol::plan::{Cohort, Plan, SHARD_TARGETS_MAX};
use protocol::port::PortSet;
use protocol::probe::{Cause, ProbeKind, Slot, State, Target};
use protocol::range_set::AddressSet;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::str::FromStr;

/// How many targets are read at once: those of a shard.
const WINDOW_TARGETS: u32 = SHARD_TARGETS_MAX;

/// Which targets are told of. What is `None` is not asked about.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Their addresses.
    pub addresses: Option<AddressSet>,
    /// Their ports: what has none fits no port.
    pub ports: Option<PortSet>,
    /// Their kind.
    pub kind: Option<ProbeKind>,
    /// What they were found to be; any of these.
    pub states: Option<Vec<State>>,
    /// Why, as [`protocol::probe::Outcome::why`] names it; any of these.
    pub reasons: Option<Vec<String>>,
    /// Who found it, by name. What was not probed was found by nobody.
    pub agent: Option<String>,
}

impl Filter {
    fn fits_slot(&self, slot: Slot) -> bool {
        let port = match slot {
            Slot::Ping => None,
            Slot::Tcp(port) => Some(port),
        };
        self.kind.is_none_or(|kind| kind == slot.kind())
            && self.ports.as_ref().is_none_or(|ports| port.is_some_and(|port| ports.contains(port)))
    }

    fn fits_target(&self, target: Target) -> bool {
        self.fits_slot(target.slot) && self.addresses.as_ref().is_none_or(|set| set.contains(target.address))
    }

    fn fits_known(&self, known: &History, agents: &[String]) -> bool {
        let (outcome, named) = (known.outcome, || agents.get(known.agent as usize));
        self.states.as_ref().is_none_or(|states| states.contains(&outcome.state()))
            && self.reasons.as_ref().is_none_or(|reasons| reasons.iter().any(|reason| reason == outcome.why()))
            && self.agent.as_ref().is_none_or(|agent| outcome.is_probed() && named() == Some(agent))
    }

    /// Whether what was never leased may fit.
    fn fits_pending(&self) -> bool {
        self.fits_known(&History::PENDING, &[])
    }
}

/// A target, and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found<'a> {
    /// Which.
    pub target: Target,
    /// What is known.
    pub known: History,
    /// Who saw it; `None` where it was not probed.
    pub seen_by: Option<&'a str>,
    /// From which vantage it is a target, where each probes everything.
    pub vantage: Option<&'a str>,
}

impl Found<'_> {
    /// Its port; `None` for a ping.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        match self.target.slot {
            Slot::Ping => None,
            Slot::Tcp(port) => Some(port),
        }
    }
}

/// Where a walk goes on: after this target of a cohort's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    cohort: u64,
    window: u32,
    /// The last that was told of in that window.
    after: Option<Target>,
}

/// What is no cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("take it as `next` gives it")]
pub struct CursorError;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.cohort, self.window)?;
        match self.after {
            None => Ok(()),
            Some(Target { address, slot: Slot::Ping }) => write!(f, "_{address}"),
            Some(Target { address, slot: Slot::Tcp(port) }) => write!(f, "_{address}_{port}"),
        }
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let mut parts = text.split('_');
        let (cohort, window) = parts.next().and_then(|place| place.split_once('.')).ok_or(CursorError)?;
        let address = parts.next().map(|text| text.parse::<IpAddr>().map_err(|_| CursorError)).transpose()?;
        let port = parts.next().map(|text| text.parse::<u16>().map_err(|_| CursorError)).transpose()?;
        let after = address.map(|address| Target { address, slot: port.map_or(Slot::Ping, Slot::Tcp) });
        let number = |text: &str| text.parse().map_err(|_| CursorError);
        let cursor = Self { cohort: number(cohort)?, window: window.parse().map_err(|_| CursorError)?, after };
        // Only what we wrote: no sign, no second spelling.
        if parts.next().is_none() && cursor.to_string() == text { Ok(cursor) } else { Err(CursorError) }
    }
}

/// How much is told at once.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// At most so many targets.
    pub limit: u64,
    /// At most so many are read, to the end of a window.
    pub read: u64,
}

/// Tells of a scan's targets that fit, after `from`; where to go on, or `None` at the end.
///
/// # Errors
/// If the store fails, or `tell` does.
pub fn walk(
    (store, scan, plan): (&dyn Store, ScanId, &Plan),
    filter: &Filter,
    from: Option<Cursor>,
    bounds: Bounds,
    tell: &mut dyn FnMut(&Found<'_>) -> io::Result<()>,
) -> io::Result<Option<Cursor>> {
    let agents: Vec<_> = store.agents(scan).map_err(io::Error::other)?.into_iter().map(|agent| agent.name).collect();
    let (_, opened) = store.cohorts(scan).map_err(io::Error::other)?;
    let opened: BTreeSet<u64> = (0..opened).filter_map(|position| plan.cohort_at(position)).collect();
    let (mut left, mut read) = (bounds.limit, 0);
    let mut next = from.map_or(0, |cursor| cursor.cohort);
    while let Some(number) = coming(plan, filter, &opened, next) {
        next = number + 1;
        let Some(cohort) = plan.cohort(number) else { break };
        let vantage = plan.vantage_of(number).map(AgentName::as_str);
        let ports = Ports::of_cohort(store, scan, &cohort).map_err(io::Error::other)?;
        let begin = from.filter(|cursor| cursor.cohort == number);
        for window in windows(&cohort, filter, begin.map_or(0, |cursor| cursor.window)) {
            if read >= bounds.read {
                return Ok(Some(Cursor { cohort: number, window, after: None }));
            }
            read += u64::from(WINDOW_TARGETS);
            let after = begin.filter(|cursor| cursor.window == window).and_then(|cursor| cursor.after);
            let fitting = fitting((store, scan, &cohort), ports.as_deref(), filter, &agents, window);
            let mut last = after;
            for (target, known) in fitting.map_err(io::Error::other)? {
                if after.is_some_and(|after| target <= after) {
                    continue;
                }
                if left == 0 {
                    return Ok(Some(Cursor { cohort: number, window, after: last }));
                }
                left -= 1;
                last = Some(target);
                let seen_by = agents.get(known.agent as usize).filter(|_| known.outcome.is_probed());
                tell(&Found { target, known, seen_by: seen_by.map(String::as_str), vantage })?;
            }
        }
    }
    Ok(None)
}

/// The first cohort, `from` or later, that may have what fits. Addresses ascend within what one vantage sees.
fn coming(plan: &Plan, filter: &Filter, opened: &BTreeSet<u64>, from: u64) -> Option<u64> {
    let mut number = from;
    loop {
        number = if filter.fits_pending() { number } else { *opened.range(number..).next()? };
        let Some(addresses) = &filter.addresses else { return (number < plan.cohorts()).then_some(number) };
        let cohort = plan.cohort(number)?;
        let (first, last) = (cohort.addresses().nth(0)?, cohort.addresses().nth(cohort.addresses().len() - 1)?);
        // The lowest wanted address that is not before this cohort decides: it is in it, in a gap of the plan, or further on.
        let next_vantage = (number / plan.cohorts_of_one() + 1) * plan.cohorts_of_one();
        let Some(wanted) = addresses.ranges().find(|(_, high)| *high >= first) else {
            number = next_vantage;
            continue;
        };
        if wanted.0 <= last {
            return Some(number);
        }
        number = first_reaching(plan, number + 1..next_vantage, wanted.0);
    }
}

/// The first of these cohorts of one vantage whose last address is not below `address`; the end if there is none.
fn first_reaching(plan: &Plan, among: Range<u64>, address: IpAddr) -> u64 {
    let (mut low, mut high) = (among.start, among.end);
    while low < high {
        let middle = low + (high - low) / 2;
        let last = plan.cohort(middle).and_then(|cohort| cohort.addresses().nth(cohort.addresses().len() - 1));
        if last.is_some_and(|last| last < address) { low = middle + 1 } else { high = middle }
    }
    low
}

/// Where the windows of a cohort begin that may have what fits, from `first` on.
fn windows(cohort: &Cohort, filter: &Filter, first: u32) -> Vec<u32> {
    let all = (0..cohort.len()).step_by(WINDOW_TARGETS as usize);
    let is_narrow = filter.ports.is_some() || filter.kind.is_some();
    let wanted = is_narrow.then(|| {
        let slots = cohort.slots();
        let ping = slots.ping().then_some(Slot::Ping);
        let slots = ping.into_iter().chain(slots.ports().iter().map(Slot::Tcp)).filter(|slot| filter.fits_slot(*slot));
        let address = cohort.addresses().nth(0);
        // All indices of a slot stand together.
        let begins = slots.filter_map(|slot| cohort.index_of(Target { address: address?, slot }));
        begins
            .flat_map(|index| {
                let begin = index / cohort.hosts() * cohort.hosts();
                begin / WINDOW_TARGETS..=(begin + cohort.hosts() - 1) / WINDOW_TARGETS
            })
            .collect::<BTreeSet<_>>()
    });
    all.filter(|lo| *lo >= first && wanted.as_ref().is_none_or(|wanted| wanted.contains(&(lo / WINDOW_TARGETS))))
        .collect()
}

/// What fits of a window, in order.
fn fitting(
    (store, scan, cohort): (&dyn Store, ScanId, &Cohort),
    ports: Option<&[Ports]>,
    filter: &Filter,
    agents: &[String],
    window: u32,
) -> Result<BTreeMap<Target, History>, StoreError> {
    let indices = window..cohort.len().min(window.saturating_add(WINDOW_TARGETS));
    let histories = History::of(store, scan, cohort.number(), indices.clone())?;
    let mut fitting = BTreeMap::new();
    for (item, history) in cohort.targets(indices.start, indices.end).zip(histories) {
        if !filter.fits_target(item.target) {
            continue;
        }
        let known = match (ports, item.target.slot) {
            (Some(ports), Slot::Tcp(_)) => ports.get(item.host as usize).and_then(|ports| ports.known(history)),
            _ => Some(history),
        };
        if let Some(known) = known.filter(|known| filter.fits_known(known, agents)) {
            fitting.insert(item.target, known);
        }
    }
    Ok(fitting)
}

/// The columns of [`write_csv`].
pub const COLUMNS: [&str; 9] =
    ["address", "protocol", "port", "state", "reason", "rtt_ms", "seen_by", "tries", "vantage"];

/// Writes a target as a row of CSV, under [`COLUMNS`].
///
/// # Errors
/// If it cannot be written.
pub fn write_csv<W: io::Write>(table: &mut ::csv::Writer<W>, found: &Found<'_>) -> io::Result<()> {
    let (port, known) = (found.port().map(|port| port.to_string()), &found.known);
    let rtt_ms = known.rtt_us.map(|rtt_us| milliseconds(rtt_us).to_string());
    let cells = [
        &*found.target.address.to_string(),
        found.target.slot.kind().as_str(),
        port.as_deref().unwrap_or_default(),
        known.outcome.state().as_str(),
        known.outcome.why(),
        rtt_ms.as_deref().unwrap_or_default(),
        found.seen_by.unwrap_or_default(),
        &*known.tries.to_string(),
        found.vantage.unwrap_or_default(),
    ];
    Ok(table.write_record(cells.map(|cell| guarded(cell).into_owned()))?)
}

/// The state of that name.
#[must_use]
pub fn state(name: &str) -> Option<State> {
    State::ALL.iter().copied().find(|state| state.as_str() == name)
}

/// The names of all states, and of all reasons and causes, in the order of their codes.
#[must_use]
pub fn names() -> (Vec<&'static str>, Vec<&'static str>) {
    let reasons = protocol::probe::Reason::ALL.iter().map(|reason| reason.as_str());
    let causes = Cause::ALL.iter().map(|cause| cause.as_str());
    (State::ALL.iter().map(|state| state.as_str()).collect(), reasons.chain(causes).collect())
}

#[cfg(test)]
mod tests;
