//! A scan's result, from what is stored: the facts beside the rows, and the rows.

use crate::report::Rows;
use crate::report::facts::{AgentFacts, Counts, PingMethod, ScanFacts, Status};
use crate::state::StoredRequest;
use coordinator_core::coordinator::{Found, Sign};
use coordinator_core::host::{Answer, Host};
use coordinator_core::passes::History;
use coordinator_core::resume::Resumed;
use coordinator_core::rows;
use coordinator_core::store::{ScanRecord, ScanStatus, Store};
use jiff::Timestamp;
use portsweep_agent::clock::Clock;
use protocol::id::{AgentName, ScanId};
use protocol::message::PingMethod as Method;
use protocol::plan::{Plan, SHARD_TARGETS_MAX};
use protocol::probe::{ProbeKind, Slot};
use protocol::rate::Rate;
use protocol::{chunk, covers};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// What is known of a scan beside what was found: what was asked for.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) id: ScanId,
    pub(crate) kinds: Vec<ProbeKind>,
    pub(crate) plan: Plan,
    request: StoredRequest,
    rate: Option<f64>,
    /// How long it took before this process.
    elapsed_before: Duration,
    /// When what is stored was true; `None` for now.
    updated: Option<Timestamp>,
    /// How many probes may be in flight, as an agent said last; `None` where nobody said it to this process.
    pub(crate) window: Option<u32>,
}

impl Account {
    pub(crate) fn new(record: &ScanRecord, plan: &Plan, request: &StoredRequest, elapsed_before: Duration) -> Self {
        let slots = plan.slots();
        let ping = slots.ping().then_some(ProbeKind::Ping);
        let tcp = (!slots.ports().is_empty()).then_some(ProbeKind::Tcp);
        Self {
            id: record.id,
            kinds: ping.into_iter().chain(tcp).collect(),
            plan: plan.clone(),
            request: request.clone(),
            rate: record.rate.map(Rate::as_per_second),
            elapsed_before,
            updated: None,
            window: None,
        }
    }

    /// Of a scan that nobody may be running: what is stored was true then.
    pub(crate) fn updated(self, at: Timestamp) -> Self {
        Self { updated: Some(at), ..self }
    }

    pub(crate) fn names(&self) -> &BTreeMap<IpAddr, Vec<String>> {
        &self.request.names
    }

    /// The facts, and the rows that they were counted from.
    pub(crate) fn read<'a>(
        &'a self,
        store: &'a dyn Store,
        status: Option<ScanStatus>,
        elapsed: Duration,
    ) -> io::Result<(ScanFacts, StoredRows<'a>)> {
        let opened = self.opened(store)?;
        let status_so_far = status.unwrap_or(ScanStatus::Running);
        let mut rows = StoredRows { store, account: self, opened, status: status_so_far, kept: BTreeMap::new() };
        let mut counts = Counts::default();
        rows.for_each(&mut |host| {
            counts.add_host(host);
            Ok(())
        })?;
        let stored = Resumed::load(store, self.id).map_err(io::Error::other)?;
        let now = self.updated.unwrap_or_else(wall);
        let facts = ScanFacts {
            id: self.id,
            command: self.request.command.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            status: status.map_or(Status::Running, shown),
            started: self.request.started,
            updated: now,
            finished: status.map(|_| now),
            targets: self.request.targets.clone(),
            exclude: self.request.exclude.clone(),
            ports: self.plan.slots().ports().to_string(),
            kinds: self.kinds.clone(),
            discover: self.plan.slots().discover(),
            rate: self.rate,
            seed: self.plan.seed(),
            plan: self.plan.digest().to_string(),
            vantages: self.plan.vantages().iter().map(ToString::to_string).collect(),
            names: self.request.names.clone(),
            single_try: stored.progress.single_try(),
            counts,
            estimated_loss: stored.loss.estimate(),
            estimated_loss_interval: stored.loss.interval(),
            window: self.window,
            elapsed: self.elapsed_before + elapsed,
            agents: self.agents(store)?,
        };
        Ok((facts, rows))
    }

    /// Gives what was found so far to `f`, cohort by cohort: from which vantage, where each probed everything; open
    /// ports and live hosts, and the first answer of hosts that began with another.
    pub(crate) fn for_each_found(&self, store: &dyn Store, f: &mut Show<'_>) -> io::Result<()> {
        for number in self.opened(store)? {
            let Some(cohort) = self.plan.cohort(number) else { continue };
            let vantage = self.plan.vantage_of(number).map(AgentName::as_str);
            let mut alive = vec![false; cohort.hosts() as usize];
            for lo in (0..cohort.len()).step_by(SHARD_TARGETS_MAX as usize) {
                let hi = cohort.len().min(lo + SHARD_TARGETS_MAX);
                let histories = History::of(store, self.id, number, lo..hi).map_err(io::Error::other)?;
                let (mut found, mut signs) = (Vec::new(), Vec::new());
                let known = cohort.targets(lo, hi).zip(histories).filter(|(_, known)| known.outcome.is_sign_of_life());
                for (item, History { outcome, rtt_us, .. }) in known {
                    let first = alive.get_mut(item.host as usize).is_some_and(|alive| !std::mem::replace(alive, true));
                    if outcome.is_finding() {
                        found.push(Found { target: item.target, outcome, rtt_us: rtt_us.unwrap_or(0) });
                    } else if first {
                        signs.push(Sign { address: item.target.address, outcome });
                    }
                }
                f(vantage, &found, &signs)?;
            }
        }
        Ok(())
    }

    /// The cohorts of which something was leased. Of the others there is nothing to be read, however large the plan is.
    fn opened(&self, store: &dyn Store) -> io::Result<BTreeSet<u64>> {
        let (_, opened) = store.cohorts(self.id).map_err(io::Error::other)?;
        Ok((0..opened).filter_map(|position| self.plan.cohort_at(position)).collect())
    }

    fn agents(&self, store: &dyn Store) -> io::Result<Vec<AgentFacts>> {
        let mut probed = BTreeMap::<u32, u64>::new();
        for number in self.opened(store)? {
            for stored in store.chunks(self.id, number, 0..u32::MAX).map_err(io::Error::other)? {
                let outcomes =
                    chunk::decode(&stored.chunk, covers::count(&stored.covers, stored.shard.lo, stored.shard.hi))
                        .map_err(io::Error::other)?;
                *probed.entry(stored.agent).or_default() +=
                    outcomes.iter().filter(|outcome| outcome.is_probed()).count() as u64;
            }
        }
        let pinged = self.kinds.contains(&ProbeKind::Ping);
        let agents = store.agents(self.id).map_err(io::Error::other)?;
        Ok((0..)
            .zip(agents)
            .map(|(number, agent)| AgentFacts {
                name: agent.name,
                vantage: Some(agent.vantage),
                version: agent.software,
                ping_method: pinged.then_some(match agent.ping_method {
                    Method::Icmp => PingMethod::Icmp,
                    Method::Tcp => PingMethod::Tcp,
                }),
                probed: probed.get(&number).copied().unwrap_or(0),
            })
            .collect())
    }
}

fn shown(status: ScanStatus) -> Status {
    match status {
        ScanStatus::Running => Status::Running,
        ScanStatus::Partial => Status::Partial,
        ScanStatus::Interrupted => Status::Interrupted,
        ScanStatus::Done => Status::Done,
        ScanStatus::Cancelled => Status::Cancelled,
    }
}

/// What time it is, for people.
pub(crate) fn wall() -> Timestamp {
    Timestamp::try_from(Clock::wall()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Takes what was found and who showed life.
pub(crate) type Show<'a> = dyn FnMut(Option<&str>, &[Found], &[Sign]) -> io::Result<()> + 'a;

/// Every address of the plan, cohort by cohort.
pub(crate) struct StoredRows<'a> {
    store: &'a dyn Store,
    account: &'a Account,
    opened: BTreeSet<u64>,
    /// How far the scan is.
    status: ScanStatus,
    /// Rows that were read before, by cohort: of small scans all, so that they are read once.
    kept: BTreeMap<u64, Vec<Host>>,
}

/// How many hosts' rows are kept at most.
const KEPT_HOSTS_MAX: usize = 1_024;

impl Rows for StoredRows<'_> {
    fn for_each(&mut self, f: &mut dyn FnMut(&Host) -> io::Result<()>) -> io::Result<()> {
        let Account { id, plan, .. } = self.account;
        for run in 0..plan.cohorts_of_one() {
            if (0..plan.views()).any(|view| self.opened.contains(&(view * plan.cohorts_of_one() + run))) {
                if let Some(rows) = self.kept.get(&run) {
                    rows.iter().try_for_each(&mut *f)?;
                    continue;
                }
                let rows = rows::of_cohort(self.store, *id, plan, run, self.status).map_err(io::Error::other)?;
                rows.iter().try_for_each(&mut *f)?;
                if self.kept.values().map(Vec::len).sum::<usize>() + rows.len() <= KEPT_HOSTS_MAX {
                    self.kept.insert(run, rows);
                }
            } else {
                untouched(plan, run, self.status, f)?;
            }
        }
        Ok(())
    }
}

/// The rows of a cohort of which nothing was leased: all alike.
fn untouched(
    plan: &Plan,
    number: u64,
    status: ScanStatus,
    f: &mut dyn FnMut(&Host) -> io::Result<()>,
) -> io::Result<()> {
    let Some(cohort) = plan.cohort(number) else { return Ok(()) };
    let pending = Answer { outcome: status.at_end(History::PENDING.outcome), rtt_us: None, seen_by: 0 };
    let row = |address| {
        let mut row = Host::new(address);
        let ping = cohort.slots().ping().then_some(Slot::Ping);
        let slots = ping.into_iter().chain(cohort.slots().ports().iter().map(Slot::Tcp));
        slots.for_each(|slot| match plan.vantages().len() {
            0 => row.fold(slot, pending),
            views => row.fold_views(slot, &vec![Some(pending); views]),
        });
        row
    };
    let mut rows = (0..cohort.addresses().len()).filter_map(|rank| cohort.addresses().nth(rank));
    let Some(first) = rows.next() else { return Ok(()) };
    let mut row = row(first);
    f(&row)?;
    rows.try_for_each(|address| {
        row.address = address;
        f(&row)
    })
}
