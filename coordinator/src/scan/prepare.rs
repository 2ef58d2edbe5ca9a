//! From what was asked to what is run: plan, options, and the agent for it, by what this machine can and may.

use crate::cli::ScanRequest;
use crate::state::StoredRequest;
use agent_core::agent::Identity;
use anyhow::Context;
use coordinator_core::settings::Settings;
use coordinator_core::store::{ScanRecord, ScanStatus};
use portsweep_agent::actors::agent::Parts;
use portsweep_agent::actors::link::Dial;
use portsweep_agent::clock::Clock;
use portsweep_agent::limits::{Descriptors, Lack};
use portsweep_agent::privilege::PingAccess;
use portsweep_agent::probe::{Prober, TcpPingProber};
use portsweep_agent::scope::Scope;
use protocol::id::{AgentName, InstanceId, ScanId};
use protocol::message::{PingMethod, ProbeOptions};
use protocol::plan::{Plan, PlanParts, Slots};
use protocol::probe::ProbeKind;
use protocol::range_set::{AddressSet, RankedRanges};
use std::sync::Arc;
use std::time::Duration;

/// How long a try waits unless `--timeout` says: enough for all but a few round trips on the Internet, and short of the second at
/// which the kernel would send the SYN again.
const TIMEOUT: Duration = Duration::from_millis(900);

/// The name of the agent of a scan from here, and of its vantage.
const HERE: &str = "local";

/// A scan that can be started.
pub(super) struct Prepared {
    pub(super) plan: Plan,
    pub(super) record: ScanRecord,
    pub(super) settings: Settings,
    pub(super) parts: AgentParts,
}

/// An agent that lacks only its way to the coordinator.
pub(crate) struct AgentParts {
    identity: Identity,
    scope: Arc<Scope>,
    probers: Vec<(ProbeKind, Prober)>,
}

impl AgentParts {
    /// The instance that it will be.
    pub(crate) fn instance(&self) -> InstanceId {
        self.identity.instance
    }

    /// What it is, for whoever shows it.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(crate) fn with(self, dial: Box<dyn Dial>) -> Parts {
        let Self { identity, scope, probers } = self;
        Parts { identity, scope, clock: Clock::Boottime, dial, probers, jitter: random_or_zero }
    }
}

impl Prepared {
    /// Asks this machine what it can, and says on stderr what would make it better.
    pub(super) fn new(request: &ScanRequest, stored: &StoredRequest) -> anyhow::Result<Self> {
        let (plan, record) = record(request, stored)?;
        Self::of(plan, record, &AddressSet::new())
    }

    /// Goes on with a scan as it was asked for. What is excluded by now is not probed, whatever the plan says.
    pub(super) fn resume(record: &ScanRecord, exclude: &AddressSet) -> anyhow::Result<Self> {
        let plan = Plan::try_from(record.plan.clone())?;
        Self::of(plan, record.clone(), exclude)
    }

    fn of(plan: Plan, record: ScanRecord, exclude: &AddressSet) -> anyhow::Result<Self> {
        let timeout = Duration::from_millis(record.options.timeout_ms.into());
        let settings = Settings { dismiss: true, ..Settings::default() }.with_timeout(timeout);
        settings.check(timeout)?;
        let scope = Scope::typed(plan.addresses().to_set()).except(exclude.clone());
        let parts = agent(plan.slots().ping(), scope, record.options.window)?;
        Ok(Self { plan, record, settings, parts })
    }
}

/// The plan of a scan, and the scan as it is stored, with a new id.
pub(crate) fn record(request: &ScanRequest, stored: &StoredRequest) -> anyhow::Result<(Plan, ScanRecord)> {
    let addresses = RankedRanges::try_from(request.targets())?;
    let slots = Slots::new(request.ping(), request.ports().clone());
    let slots = if request.discover() { slots.in_stages() } else { slots };
    let seed = match request.seed() {
        Some(seed) => seed,
        None => random()? & crate::report::facts::SEED_MAX,
    };
    let plan = Plan::new(addresses, slots, seed)?.seen_from(request.vantages().to_vec())?;
    let timeout = request.timeout().unwrap_or(TIMEOUT);
    let window = window(request.window(), descriptors());
    let options = ProbeOptions {
        adaptive: request.timeout().is_none(),
        law: !request.fixed_windows(),
        per_host_rate: request.per_host_rate(),
        ..ProbeOptions::new(u32::try_from(timeout.as_millis())?.max(1), window)
    };
    let record = ScanRecord {
        id: ScanId::from_bytes(*uuid::Uuid::now_v7().as_bytes()),
        plan: PlanParts::from(&plan),
        options,
        rate: request.rate(),
        tries: request.passes(),
        weight: request.weight().unwrap_or(coordinator_core::store::WEIGHT),
        agent_wait_s: request.agent_wait_s(),
        status: ScanStatus::Running,
        request: stored.to_text()?,
    };
    Ok((plan, record))
}

/// What this process may have open.
fn descriptors() -> Descriptors {
    let descriptors = Descriptors::raise().or_else(|error| {
        tracing::warn!(%error, "the limit of open files stays");
        Descriptors::read()
    });
    // Where the limit cannot even be read, the least that POSIX grants.
    descriptors.unwrap_or(Descriptors::new(256))
}

/// What the machine can have in flight, or less if less is asked for.
fn window(asked: Option<u32>, descriptors: Descriptors) -> u32 {
    let possible = descriptors.default_window();
    asked.map_or(possible, |asked| asked.min(possible)).max(1)
}

/// An agent of this process, with at most `window_asked` probes in flight. Says on stderr what would make it better.
pub(crate) fn agent(ping: bool, scope: Scope, window_asked: u32) -> anyhow::Result<AgentParts> {
    let descriptors = descriptors();
    if descriptors.are_few() {
        Lack::Descriptors.tell();
    }
    let window = window(Some(window_asked), descriptors);
    let listening = descriptors.listening(window);
    descriptors.make_room(window.saturating_add(listening));
    let mut probers = vec![(ProbeKind::Tcp, Prober::connects(listening))];
    let mut ping_method = PingMethod::Icmp;
    if ping {
        let access = PingAccess::detect();
        if let Some(advice) = access.advice {
            anstream::eprintln!("portsweep: {advice}");
        }
        ping_method = access.method;
        let prober = match ping_method {
            PingMethod::Icmp => Prober::echoes(random()?),
            PingMethod::Tcp => Prober::TcpPing(TcpPingProber::new()),
        };
        probers.push((ProbeKind::Ping, prober));
    }
    let name = AgentName::try_from(HERE.to_owned())?;
    let scope = Arc::new(scope);
    let identity = Identity {
        name: name.clone(),
        vantage: name,
        instance: InstanceId::new(random()?),
        software: env!("CARGO_PKG_VERSION").to_owned(),
        ping_method,
        allow: scope.allowed().clone(),
        window_max: window,
    };
    Ok(AgentParts { identity, scope, probers })
}

fn random() -> anyhow::Result<u64> {
    getrandom::u64().map_err(|error| anyhow::anyhow!(error.to_string())).context("draw a random number")
}

/// For jitter, where a number that is not random does no harm.
fn random_or_zero() -> u64 {
    random().unwrap_or(0)
}
