//! The whole of a scan without a network: coordinator, durable store and agent in one process, with a prober whose network is made up
//! and which forgets whom it asked. Run by the benchmark as a program of its own, until it is killed.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use agent_core::agent::Identity;
use anyhow::bail;
use coordinator_core::coordinator::Coordinator as Machine;
use coordinator_core::settings::Settings;
use coordinator_core::store::{ScanRecord, ScanStatus};
use portsweep::actors::coordinator::{self, Connect, Coordinator, Submit, Told};
use portsweep::store::sqlite::SqliteStore;
use portsweep::store::thread;
use portsweep_agent::actors::agent::{Agent, Parts};
use portsweep_agent::actors::link::{Dial, Dialling};
use portsweep_agent::clock::Clock;
use portsweep_agent::frames::Transport;
use portsweep_agent::probe::{Prober, SimulatedProber, World};
use portsweep_agent::queue;
use portsweep_agent::scope::Scope;
use protocol::id::{AgentName, InstanceId, ScanId};
use protocol::message::{PingMethod, ProbeOptions};
use protocol::plan::{PlanParts, Slots};
use protocol::probe::ProbeKind;
use protocol::range_set::{AddressSet, RankedRanges};

pub(crate) const SCAN: ScanId = ScanId::from_bytes([7; 16]);
const WINDOW: u32 = 8_192;
const TIMEOUT: Duration = Duration::from_millis(900);
/// As between coordinator and agent of one process.
const DUPLEX_BYTES: usize = 1 << 18;

/// Scans 10.0.0.0/8 by all ports with its database in `directory`. Nothing leaves this process: there is no socket in it.
pub(crate) fn run(directory: &Path) -> anyhow::Result<()> {
    System::new().block_on(scan(directory))
}

async fn scan(directory: &Path) -> anyhow::Result<()> {
    let addresses = AddressSet::from("10.0.0.0/8".parse::<ipnet::IpNet>()?);
    let record = ScanRecord {
        id: SCAN,
        plan: PlanParts {
            addresses: RankedRanges::try_from(&addresses)?,
            slots: Slots::new(false, (1..=u16::MAX).collect()),
            seed: 1,
            vantages: Vec::new(),
        },
        options: ProbeOptions::new(TIMEOUT.as_millis() as u32, WINDOW),
        rate: None,
        weight: coordinator_core::store::WEIGHT,
        agent_wait_s: None,
        tries: None,
        status: ScanStatus::Running,
        request: String::new(),
    };
    let (store, answers) = thread::start(Box::new(SqliteStore::create(&directory.join("scan.db"))?))?;
    let (told, mut events) = queue::bounded(coordinator::TOLD);
    let machine = Machine::new(Settings { dismiss: true, ..Settings::default() }.with_timeout(TIMEOUT));
    let coordinator = Coordinator::new(machine, Clock::Monotonic, store, answers, told).start();
    coordinator.send(Submit(Box::new(record))).await?;
    let (_agent, _end) = Agent::start_with(agent(addresses, coordinator)?);
    while let Some(told) = events.next().await {
        if let Told::Failure(why) = told {
            bail!("the store failed: {why}");
        }
    }
    bail!("the scan ended")
}

fn agent(addresses: AddressSet, coordinator: Addr<Coordinator>) -> anyhow::Result<Parts> {
    let name = AgentName::try_from("local".to_owned())?;
    let scope = Arc::new(Scope::typed(addresses));
    let identity = Identity {
        name: name.clone(),
        vantage: name,
        instance: InstanceId::new(1),
        software: "bench".to_owned(),
        ping_method: PingMethod::Icmp,
        allow: scope.allowed().clone(),
        window_max: WINDOW,
    };
    // Every port answers, two in a thousand by accepting: nothing is waited for.
    let (least, most) = (Duration::from_millis(1), Duration::from_millis(3));
    let world = World::new(1).alive_ppm(1_000_000).ports_ppm(2_000, 0).rtt(least, most);
    let prober = Prober::Simulated(SimulatedProber::forgetful(Arc::new(world)));
    let (dial, clock) = (Box::new(Embedded(coordinator)), Clock::Boottime);
    Ok(Parts { identity, scope, clock, dial, probers: vec![(ProbeKind::Tcp, prober)], jitter: || 1 })
}

/// Reaches the coordinator of this process.
struct Embedded(Addr<Coordinator>);

impl Dial for Embedded {
    fn dial(&mut self) -> Dialling {
        let coordinator = self.0.clone();
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(DUPLEX_BYTES);
            coordinator.send(Connect(Box::new(theirs))).await.map_err(io::Error::other)?;
            Ok(Box::new(ours) as Transport)
        })
    }
}
