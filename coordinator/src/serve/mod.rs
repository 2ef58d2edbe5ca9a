//! `portsweep serve`: a coordinator for many scans, with an agent of its own, page and API.
//!
//! All scans are in `STATE/coordinator.db`, under its lock. Those that were running go on by themselves when it starts again. Rights of the
//! former process's own agent ended with it, so its leases are taken back at once; those of other agents are waited for.

pub mod access;
pub mod feed;
pub mod lists;
pub mod page;

use crate::actors::coordinator::{self, Coordinator, Told};
use crate::api::agents::OwnAgent;
use crate::api::shape::{Progress, Scan};
use crate::api::{self, Serving};
use crate::cli::{ExitCode, ServeRequest};
use crate::fleet::roster::Standing;
use crate::fleet::{self, AgentView, Fleet, ListenSettings};
use crate::maps::Maps;
use crate::scan::prepare::{self, AgentParts};
use crate::scan::{Embedded, wall};
use crate::state::StoredRequest;
use crate::store::sqlite::SqliteStore;
use crate::store::thread::{self, StoreHandle};
use crate::web::found::Finder;
use access::Access;
use actix::prelude::*;
use agent_core::agent::Identity;
use anyhow::Context as _;
use coordinator_core::coordinator::{Coordinator as Machine, Event};
use coordinator_core::resume::Resumed;
use coordinator_core::settings::Settings;
use coordinator_core::store::{ScanStatus, Store, StoreError};
use feed::Feed;
use hyper::http::uri::Authority;
use portsweep_agent::actors::agent::{Agent, AgentEnd, Drain};
use portsweep_agent::clock::Clock;
use portsweep_agent::queue::{self, Reader};
use portsweep_agent::scope::Scope;
use protocol::id::InstanceId;
use protocol::message::PingMethod;
use protocol::token::DialAddress;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};

/// How long the agent of this process may take to report what it has when the process is told to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// Of how many scans that ended before this process began it is counted what became of their targets.
const COUNTED_MAX: usize = 256;
/// Which instance the agent of the last process was.
const EMBEDDED: &str = "embedded-agent";

/// Runs a coordinator until it is told to end; errors are told on stderr in one line.
#[must_use]
pub fn run(request: &ServeRequest) -> ExitCode {
    match prepare(request) {
        Ok(prepared) => System::new().block_on(serve(request, prepared)).unwrap_or_else(|error| {
            anstream::eprintln!("portsweep: {error:#}");
            ExitCode::Failed
        }),
        Err(error) => {
            anstream::eprintln!("portsweep: {error:#}");
            ExitCode::Failed
        }
    }
}

/// What is there before anything runs.
struct Prepared {
    store: SqliteStore,
    running: Vec<Resumed>,
    scans: Vec<Scan>,
    agent: AgentParts,
    access: Access,
    fleet: Fleet,
    key: String,
}

fn prepare(request: &ServeRequest) -> anyhow::Result<Prepared> {
    let directory = request.state.directory();
    let mut store = request.state.coordinator()?;
    take_back(&mut store, directory)?;
    let key = access::secret()?;
    let access = Access::new(directory, &key, wall)?;
    // A file of its own: a second writer in the scans' database would undo what the first has begun to read for.
    let fleet = Fleet::open(&directory.join(page::AUTHORITY), &directory.join("fleet.db"))?;
    let ended = access.ended()?;
    let (mut running, mut scans) = (Vec::new(), Vec::new());
    for record in store.scans()? {
        let stored = StoredRequest::read(&record)?;
        let Some(mut shown) = Scan::new(&record, &stored, ended.get(&record.id).copied()) else {
            tracing::warn!(id = %record.id, "a stored scan is passed over: its plan cannot be read");
            continue;
        };
        if record.status == ScanStatus::Running {
            let resumed = Resumed::load(&store, record.id)?;
            shown.holds(&resumed.control, &[]);
            shown.progress = Some(Progress::new(&resumed.progress, resumed.loss.estimate()));
            running.push(resumed);
        }
        scans.push(shown);
    }
    let scope = Scope::listed(request.allow.iter().copied(), &[]).except(request.exclude.clone());
    let agent = prepare::agent(true, scope, u32::MAX)?;
    // Before it can have a lease: whoever comes after this process knows whose leases end with it.
    keep_instance(directory, agent.instance())?;
    Ok(Prepared { store, running, scans, agent, access, fleet, key })
}

/// Takes the leases of the former process's own agent back.
fn take_back(store: &mut SqliteStore, directory: &Path) -> anyhow::Result<()> {
    let text = match fs::read_to_string(directory.join(EMBEDDED)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read.context("read which agent the former process had")?,
    };
    // What cannot be read was not written whole, so that instance never had a lease.
    let Ok(former) = u64::from_str_radix(text.trim(), 16).map(InstanceId::new) else { return Ok(()) };
    for record in store.scans()?.into_iter().filter(|record| record.status == ScanStatus::Running) {
        let leases = store.leases(record.id)?;
        let held = leases.iter().filter(|lease| lease.holder == Some(former)).map(|lease| lease.epoch);
        store.release(record.id, &held.collect::<Vec<_>>(), true)?;
    }
    Ok(())
}

fn keep_instance(directory: &Path, instance: InstanceId) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    io::Write::write_all(&mut file, instance.to_string().as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(directory.join(EMBEDDED))?;
    fs::File::open(directory)?.sync_all()
}

async fn serve(request: &ServeRequest, prepared: Prepared) -> anyhow::Result<ExitCode> {
    let Prepared { store, running, scans, agent, access, fleet, key } = prepared;
    let reader = store.reader()?;
    let (store, answers) = thread::start(Box::new(store))?;
    let maps = Maps::start(reader, store.clone())?;
    let (told, events) = queue::bounded(coordinator::TOLD);
    let settings = Settings::default();
    settings.check(Duration::ZERO)?;
    let machine = Machine::resume(settings, Clock::Monotonic.now(), &running, false);
    let coordinator = Coordinator::new(machine, Clock::Monotonic, store.clone(), answers, told).start();
    // The process before this one may have been killed while it deleted what removed scans left.
    coordinator.send(coordinator::Clean).await.context("start the coordinator")?;
    let access = access.start();
    let (feed, mut state) = watch::channel(Feed::new(random()?, scans));
    let feed = Arc::new(feed);
    // Before anybody can be given work.
    coordinator.send(coordinator::Drained(drained(&fleet.agents().await?))).await.context("start the coordinator")?;
    let listening = fleet::listen(ListenSettings::at(request.agent_listen), coordinator.clone(), fleet.clone()).await?;
    let tls = match request.tls {
        true => Some(fleet.page_tls(api::names(request)).await?),
        false => None,
    };
    let (bound, listener) = bind(request)?;
    let page = shown(request, bound);
    page::keep(request.state.directory(), request, bound)?;
    let own = own(request, agent.identity());
    let watching = tokio::task::spawn_local(watch_agents(fleet.clone(), Arc::clone(&feed), coordinator.clone()));
    let ended_store = store.clone();
    let serving = Serving {
        spool: request.state.directory().into(),
        own,
        page: page.as_str().into(),
        pin: request.tls.then(|| fleet.pin()),
        fleet,
        advertise: advertised(request, listening.address())?,
        coordinator: coordinator.clone(),
        finder: Finder::new(store.clone()).start(),
        store,
        maps,
        feed: Arc::clone(&feed),
        access: access.clone(),
        exclude: Arc::new(request.exclude.clone()),
        hosts: Arc::new(api::hosts(request)),
        lists: lists::Lists::default().start(),
        uploads: Arc::new(Semaphore::new(api::lists::UPLOADS_MAX)),
        asks: Arc::default(),
    };
    let server = api::start(listener, tls, serving)?;
    let handle = server.handle();
    let mut server = tokio::task::spawn_local(server);
    let feeding = tokio::task::spawn_local(drain(events, Arc::clone(&feed), access));
    let counting = tokio::task::spawn_local(count_ended(ended_store, Arc::clone(&feed)));
    let (agent, mut agent_end) = Agent::start_with(agent.with(Box::new(Embedded(coordinator))));
    anstream::eprintln!("portsweep: serving on {page}/?key={key}");
    let ended = until_told(&mut state, &mut server, &mut agent_end).await;
    feed.send_modify(|feed| feed.closing = true);
    page::forget(request.state.directory());
    listening.stop().await;
    if ended.is_ok() {
        // What it has in flight is reported, so that nothing of it is probed again.
        let drained = async {
            agent.send(Drain).await.ok()?;
            agent_end.await.ok()
        };
        let _gone = tokio::time::timeout(DRAIN_TIMEOUT, drained).await;
    }
    handle.stop(true).await;
    feeding.abort();
    watching.abort();
    counting.abort();
    ended.map(|()| ExitCode::Done)
}

/// Until the process is told to end, or something that it cannot be without is gone.
async fn until_told(
    state: &mut watch::Receiver<Feed>,
    server: &mut tokio::task::JoinHandle<io::Result<()>>,
    agent_end: &mut AgentEnd,
) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        ended = server => Err(match ended {
            Ok(Err(error)) => anyhow::Error::from(error).context("page and API failed"),
            _ => anyhow::anyhow!("page and API ended"),
        }),
        _ = agent_end => anyhow::bail!("the agent in this process died; what it had reported is kept"),
        failed = state.wait_for(|feed| feed.failure.is_some()) => {
            let line = failed.ok().and_then(|feed| feed.failure.clone());
            anyhow::bail!(line.unwrap_or_else(|| "the coordinator died".to_owned()))
        }
    }
}

/// Takes what the coordinator tells, at once, so that nobody who follows scans slows them down.
pub(crate) async fn drain(mut events: Reader<Told>, feed: Arc<watch::Sender<Feed>>, access: Addr<Access>) {
    while let Some(told) = events.next().await {
        match told {
            Told::Event(event) => {
                if let Event::Finished { scan, .. } = &event {
                    let _at_the_next_start = access.send(access::Ended { scan: *scan, at: wall() }).await;
                }
                if let Event::Removed { scan } = &event {
                    let _a_row_that_nobody_reads = access.send(access::Forget(*scan)).await;
                }
                feed.send_modify(|feed| feed.told(&event));
            }
            Told::Failure(line) => feed.send_modify(|feed| feed.failure = Some(line)),
        }
    }
    feed.send_modify(|feed| {
        feed.failure.get_or_insert_with(|| "the coordinator died".to_owned());
    });
}

fn bind(request: &ServeRequest) -> anyhow::Result<(SocketAddr, TcpListener)> {
    let bound = TcpListener::bind(request.listen).and_then(|listener| Ok((listener.local_addr()?, listener)));
    bound.with_context(|| format!("cannot listen on {}: stop what does, or use --listen", request.listen))
}

/// Where a person reaches the page: nobody opens an unspecified address, so there it is the first name that was allowed.
fn shown(request: &ServeRequest, bound: SocketAddr) -> String {
    let scheme = if request.tls { "https" } else { "http" };
    match request.allowed_hosts.first().filter(|_| bound.ip().is_unspecified()) {
        Some(name) if name.parse::<Authority>().is_ok_and(|name| name.port().is_none()) => {
            format!("{scheme}://{name}:{}", bound.port())
        }
        Some(name) => format!("{scheme}://{name}"),
        None => format!("{scheme}://{bound}"),
    }
}

/// The agent of this process, as it is shown.
fn own(request: &ServeRequest, identity: &Identity) -> OwnAgent {
    let ping_method = match identity.ping_method {
        PingMethod::Icmp => "icmp",
        PingMethod::Tcp => "tcp",
    };
    OwnAgent {
        name: identity.name.to_string(),
        vantage: identity.vantage.to_string(),
        software: identity.software.clone(),
        ping_method: ping_method.to_owned(),
        allow: request.allow.iter().map(ToString::to_string).collect(),
        instance: identity.instance.to_string(),
    }
}

/// Counts what became of the targets of scans that ended before this process began, newest first: one at a time, as each takes a look at
/// the store that others wait for.
async fn count_ended(store: StoreHandle, feed: Arc<watch::Sender<Feed>>) {
    let ended: Vec<_> = {
        let feed = feed.borrow();
        let uncounted = feed.scans().rev().filter(|scan| scan.is_over() && scan.progress.is_none());
        uncounted.take(COUNTED_MAX).map(Scan::key).collect()
    };
    for id in ended {
        let counted = store.look(move |store| {
            let status = record(store, id)?.status;
            let Resumed { progress, loss, .. } = Resumed::load(store, id)?;
            Ok::<_, StoreError>(Progress::new(&progress.at_end(status), loss.estimate()))
        });
        match counted.await {
            Ok(Ok(progress)) => feed.send_modify(|feed| feed.counted(id, progress)),
            Ok(Err(error)) => tracing::warn!(%id, %error, "how far an ended scan came is not shown"),
            Err(_) => return,
        }
    }
}

/// The names of those that are drained.
fn drained(agents: &[AgentView]) -> BTreeSet<String> {
    let drained = agents.iter().filter(|agent| agent.drained && agent.standing == Standing::Good);
    drained.map(|agent| agent.name.clone()).collect()
}

/// Tells of what changes with agents of other machines: whoever follows, and the coordinator who is drained.
async fn watch_agents(fleet: Fleet, feed: Arc<watch::Sender<Feed>>, coordinator: Addr<Coordinator>) {
    let mut changes = fleet.changes();
    loop {
        changes.borrow_and_update();
        match fleet.agents().await {
            Ok(agents) => {
                // It ends before this future does.
                let _gone = coordinator.send(coordinator::Drained(drained(&agents))).await;
                feed.send_if_modified(|feed| feed.agents_are(agents));
            }
            // They are asked for again with the next change.
            Err(error) => tracing::warn!(%error, "who follows the events is not told of the agents"),
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Where agents dial: what was said, else where this process listens for them.
fn advertised(request: &ServeRequest, bound: SocketAddr) -> anyhow::Result<Arc<[DialAddress]>> {
    let said = request.advertise.iter().cloned();
    let bound = (!bound.ip().is_unspecified()).then(|| bound.to_string().parse());
    let bound = if request.advertise.is_empty() { bound.transpose()? } else { None };
    Ok(said.chain(bound).collect())
}

fn random() -> anyhow::Result<u64> {
    getrandom::u64().map_err(|error| anyhow::anyhow!(error.to_string())).context("draw a random number")
}

/// Reads one scan of a store.
///
/// # Errors
/// If it is not there, or cannot be read.
pub fn record(store: &dyn Store, id: protocol::id::ScanId) -> Result<coordinator_core::store::ScanRecord, StoreError> {
    store.scans()?.into_iter().find(|record| record.id == id).ok_or(StoreError::UnknownScan(id))
}
