//! `Finder`: what scans found, kept in memory for who pages and filters through it, and read anew when a scan went on.
//!
//! - Owner: `serve`.
//! - In: [`Look`] from pages, awaited.
//! - Out: a shared list; reads of the store.
//! - Death: pages of results fail; nothing else does.
//!
//! Bounded: at most `SCANS_MAX` scans, and of each the first [`FOUND_MAX`] findings in address order. A list that took long to read is read
//! again only after a multiple of that time, so that whoever looks at a huge scan does not hold up those who look at others.

use crate::api::Serving;
use crate::api::problem::Problem;
use crate::serve;
use crate::store::thread::StoreHandle;
use actix::prelude::*;
use coordinator_core::store::Store;
use portsweep_agent::clock::Clock;
use protocol::id::ScanId;
use protocol::plan::Plan;
use protocol::probe::{Slot, State};
use protocol::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How many findings of a scan are kept, 32 bytes each.
pub const FOUND_MAX: usize = 250_000;
/// Of how many scans.
const SCANS_MAX: usize = 4;
/// A list is read again only after so many times what it took.
const REST_FACTOR: u32 = 10;
/// And not more often than this.
const REST_LEAST: Duration = Duration::from_millis(500);

/// Something that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// The address.
    pub address: IpAddr,
    /// `None` for a host that answered ping.
    pub port: Option<u16>,
    /// The place of its vantage in the plan's list; 0 where there is none.
    pub vantage: u16,
    /// The place of who saw it in the scan's list of agents.
    pub agent: u16,
    /// The round-trip time in microseconds.
    pub rtt_us: u32,
}

impl Row {
    /// What it is found to be.
    #[must_use]
    pub const fn state(&self) -> State {
        if self.port.is_some() { State::Open } else { State::Up }
    }

    /// Why.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        if self.port.is_some() { "syn-ack" } else { "echo-reply" }
    }
}

/// What a scan found.
#[derive(Debug, Default, PartialEq)]
pub struct Found {
    /// By address; `ping` before ports.
    pub rows: Vec<Row>,
    /// Whether there is more than is kept.
    pub is_cut: bool,
    /// The scan's agents, by their places.
    pub agents: Vec<String>,
    /// Its vantages, by their places; empty where it has none.
    pub vantages: Vec<String>,
}

impl Found {
    /// What is stored of a scan.
    ///
    /// # Errors
    /// If the store fails.
    pub fn read(store: &dyn Store, id: ScanId) -> io::Result<Self> {
        let record = serve::record(store, id).map_err(io::Error::other)?;
        let plan = Plan::try_from(record.plan).map_err(io::Error::other)?;
        let (_, opened) = store.cohorts(id).map_err(io::Error::other)?;
        let opened: BTreeSet<u64> = (0..opened).filter_map(|position| plan.cohort_at(position)).collect();
        let mut found = Self {
            agents: store.agents(id).map_err(io::Error::other)?.into_iter().map(|agent| agent.name).collect(),
            vantages: plan.vantages().iter().map(ToString::to_string).collect(),
            ..Self::default()
        };
        for number in opened {
            let Some(cohort) = plan.cohort(number) else { continue };
            let vantage = u16::try_from(number / plan.cohorts_of_one().max(1)).unwrap_or(u16::MAX);
            for chunk in store.chunks(id, number, 0..cohort.len()).map_err(io::Error::other)? {
                let agent = u16::try_from(chunk.agent).unwrap_or(u16::MAX);
                found.rows.extend(chunk.findings.iter().filter_map(|finding| {
                    let target = cohort.target(finding.index)?;
                    let port = match target.slot {
                        Slot::Ping => None,
                        Slot::Tcp(port) => Some(port),
                    };
                    Some(Row { address: target.address, port, vantage, agent, rtt_us: finding.rtt_us })
                }));
            }
            if found.rows.len() > FOUND_MAX {
                found.is_cut = true;
                break;
            }
        }
        found.rows.sort_unstable();
        found.rows.truncate(FOUND_MAX);
        Ok(found)
    }

    /// The name of an agent; empty where it is not known.
    #[must_use]
    pub fn agent(&self, row: &Row) -> &str {
        self.agents.get(usize::from(row.agent)).map_or("", String::as_str)
    }

    /// The name of a vantage; empty where there is none.
    #[must_use]
    pub fn vantage(&self, row: &Row) -> &str {
        self.vantages.get(usize::from(row.vantage)).map_or("", String::as_str)
    }
}

/// What a scan found, as far as it was when it had settled `settled` targets, or a little before.
#[derive(Message)]
#[rtype(result = "Result<Arc<Found>, Problem>")]
pub struct Look {
    /// The scan.
    pub scan: ScanId,
    /// How many targets of it are settled: with as many as before, nothing is read.
    pub settled: u64,
    /// Whether it ended: what is shown then is all of it.
    pub is_over: bool,
}

struct Kept {
    found: Arc<Found>,
    settled: u64,
    is_over: bool,
    /// When it may be read again.
    rests_until: Time,
    used_at: Time,
}

/// The actor.
pub struct Finder {
    store: StoreHandle,
    kept: BTreeMap<ScanId, Kept>,
}

impl Finder {
    /// Over a store.
    #[must_use]
    pub const fn new(store: StoreHandle) -> Self {
        Self { store, kept: BTreeMap::new() }
    }

    fn keep(&mut self, look: &Look, found: &Arc<Found>, began: Time) {
        let now = Clock::Monotonic.now();
        let rests_until = now + (now.since(began) * REST_FACTOR).max(REST_LEAST);
        let kept =
            Kept { found: Arc::clone(found), settled: look.settled, is_over: look.is_over, rests_until, used_at: now };
        self.kept.insert(look.scan, kept);
        while self.kept.len() > SCANS_MAX {
            let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.used_at).map(|(scan, _)| *scan);
            oldest.map(|scan| self.kept.remove(&scan));
        }
    }
}

impl Actor for Finder {
    type Context = Context<Self>;
}

impl Handler<Look> for Finder {
    type Result = ResponseActFuture<Self, Result<Arc<Found>, Problem>>;

    fn handle(&mut self, look: Look, _: &mut Self::Context) -> Self::Result {
        let now = Clock::Monotonic.now();
        if let Some(kept) = self.kept.get_mut(&look.scan) {
            kept.used_at = now;
            let is_current = (kept.settled, kept.is_over) == (look.settled, look.is_over);
            // The end is always read, so that nothing stays away.
            if is_current || (!look.is_over && now < kept.rests_until) {
                return Box::pin(actix::fut::ready(Ok(Arc::clone(&kept.found))));
            }
        }
        let (store, scan) = (self.store.clone(), look.scan);
        let read = async move { store.look(move |store| Found::read(store, scan)).await };
        Box::pin(read.into_actor(self).map(move |read, finder, _| {
            let found = read.map_err(|error| Problem::failed(&error))?.map_err(|error| Problem::failed(&error))?;
            let found = Arc::new(found);
            finder.keep(&look, &found, now);
            Ok(found)
        }))
    }
}

/// What a scan that there is found so far.
///
/// # Errors
/// If it cannot be read.
pub async fn of_scan(serving: &Serving, scan: &crate::api::shape::Scan) -> Result<Arc<Found>, Problem> {
    let settled = scan.progress.as_ref().map_or(0, |progress| progress.settled);
    let look = Look { scan: scan.key(), settled, is_over: scan.is_over() };
    serving.finder.send(look).await.map_err(|_| Problem::unavailable("the coordinator is about to end"))?
}
