//! A scan's result, from what is stored: the facts beside the rows, and the rows.

use super::prepare::Prepared;
use crate::cli::ScanRequest;
use crate::report::Rows;
use crate::report::facts::{AgentFacts, Counts, PingMethod, ScanFacts, Status};
use coordinator_core::host::Host;
use coordinator_core::resume::Resumed;
use coordinator_core::rows;
use coordinator_core::store::{ScanStatus, Store};
use jiff::Timestamp;
use portsweep_agent::clock::Clock;
use protocol::id::ScanId;
use protocol::message::PingMethod as Method;
use protocol::plan::Plan;
use protocol::probe::ProbeKind;
use protocol::rate::Rate;
use protocol::{chunk, covers};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// What is known of a scan from its start: what the store need not say.
#[derive(Clone)]
pub(super) struct Account {
    pub(super) id: ScanId,
    pub(super) kinds: Vec<ProbeKind>,
    plan: Plan,
    command: String,
    started: Timestamp,
    targets: Vec<String>,
    exclude: Vec<String>,
    rate: Option<f64>,
    names: BTreeMap<IpAddr, Vec<String>>,
}

impl Account {
    pub(super) fn new(request: &ScanRequest, prepared: &Prepared) -> Self {
        Self {
            id: prepared.record.id,
            kinds: request.kinds(),
            plan: prepared.plan.clone(),
            command: request.command().to_owned(),
            started: wall(),
            targets: request.typed_targets().to_vec(),
            exclude: request.typed_exclude().to_vec(),
            rate: request.rate().map(Rate::as_per_second),
            names: request.names().clone(),
        }
    }

    /// The facts, and the rows that they were counted from.
    pub(super) fn read<'a>(
        &'a self,
        store: &'a dyn Store,
        status: Option<ScanStatus>,
        elapsed: Duration,
    ) -> io::Result<(ScanFacts, StoredRows<'a>)> {
        let mut rows = StoredRows { store, account: self };
        let mut counts = Counts::default();
        rows.for_each(&mut |host| {
            counts.add_host(host);
            Ok(())
        })?;
        let stored = Resumed::load(store, self.id).map_err(io::Error::other)?;
        let now = wall();
        let facts = ScanFacts {
            id: self.id,
            command: self.command.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            status: status.map_or(Status::Running, shown),
            started: self.started,
            updated: now,
            finished: status.map(|_| now),
            targets: self.targets.clone(),
            exclude: self.exclude.clone(),
            ports: self.plan.slots().ports().to_string(),
            kinds: self.kinds.clone(),
            rate: self.rate,
            seed: self.plan.seed(),
            plan: self.plan.digest().to_string(),
            names: self.names.clone(),
            single_try: stored.progress.single_try(),
            counts,
            estimated_loss: stored.loss.estimate(),
            elapsed,
            agents: self.agents(store)?,
        };
        Ok((facts, rows))
    }

    fn agents(&self, store: &dyn Store) -> io::Result<Vec<AgentFacts>> {
        let mut probed = BTreeMap::<u32, u64>::new();
        for number in 0..self.plan.cohorts() {
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
    }
}

fn wall() -> Timestamp {
    Timestamp::try_from(Clock::wall()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Every address of the plan, cohort by cohort.
pub(super) struct StoredRows<'a> {
    store: &'a dyn Store,
    account: &'a Account,
}

impl Rows for StoredRows<'_> {
    fn for_each(&mut self, f: &mut dyn FnMut(&Host) -> io::Result<()>) -> io::Result<()> {
        let Account { id, plan, .. } = self.account;
        for number in 0..plan.cohorts() {
            rows::of_cohort(self.store, *id, plan, number).map_err(io::Error::other)?.iter().try_for_each(&mut *f)?;
        }
        Ok(())
    }
}
