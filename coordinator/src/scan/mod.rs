//! A scan from here: coordinator, store and agent in this process, joined by the same link as over a network.

mod follow;
pub(crate) mod prepare;
mod result;

pub use follow::Screen;
pub(crate) use follow::{Behind, Counts, Follower, Interrupted, News, Stdout, Subject, UnderWay};
pub(crate) use result::{Account, wall};

use crate::actors::coordinator::{self, Connect, Coordinator, Submit};
use crate::cli::{ExitCode, Output, ResumeRequest, ScanRequest, Write};
use crate::report::file::ResultFile;
use crate::state::{State, StateError, StoredRequest};
use crate::store::thread;
use actix::prelude::*;
use coordinator_core::coordinator::Coordinator as Machine;
use coordinator_core::resume::Resumed;
use coordinator_core::store::Store;
use coordinator_core::store::memory::MemoryStore;
use follow::Here;
use portsweep_agent::actors::agent::Agent;
use portsweep_agent::actors::link::{Dial, Dialling};
use portsweep_agent::clock::Clock;
use portsweep_agent::frames::Transport;
use portsweep_agent::queue;
use prepare::Prepared;
use protocol::id::ScanId;
use std::io;
use std::time::Duration;

/// How many bytes wait in each direction between coordinator and agent of one process.
const DUPLEX_BYTES: usize = 1 << 18;

/// Runs a scan to its end, with its output, on the screen that log lines go through too; errors are told on stderr in one line.
#[must_use]
pub fn run(request: &ScanRequest, screen: &Screen) -> ExitCode {
    told(try_run(request, screen))
}

/// Goes on with a scan that is kept, likewise.
#[must_use]
pub fn resume(request: &ResumeRequest, screen: &Screen) -> ExitCode {
    told(try_resume(request, screen))
}

/// An error with the exit code that it leads to.
type Failed = (ExitCode, anyhow::Error);

fn told(ended: Result<ExitCode, Failed>) -> ExitCode {
    ended.unwrap_or_else(|(code, error)| {
        anstream::eprintln!("portsweep: {error:#}");
        code
    })
}

fn usage(error: impl Into<anyhow::Error>) -> Failed {
    (ExitCode::Usage, error.into())
}

fn failed(error: impl Into<anyhow::Error>) -> Failed {
    (ExitCode::Failed, error.into())
}

fn in_state(error: StateError) -> Failed {
    (error.exit(), error.into())
}

fn try_run(request: &ScanRequest, screen: &Screen) -> Result<ExitCode, Failed> {
    let file = result_file(request.output())?;
    for notice in request.notices() {
        anstream::eprintln!("portsweep: {notice}");
    }
    let stored = StoredRequest::new(request, result::wall(), file.as_ref().map(ResultFile::path));
    let prepared = Prepared::new(request, &stored).map_err(failed)?;
    let id = prepared.record.id;
    let store: Box<dyn Store> = match request.state() {
        Some(state) => Box::new(state.create(id).map_err(in_state)?),
        None => Box::new(MemoryStore::new()),
    };
    let account = Account::new(&prepared.record, &prepared.plan, &stored, Duration::ZERO);
    let running = Running { prepared, account, output: stored.output(), file, store, resumed: None };
    let ended = System::new().block_on(start(running, screen.clone())).map_err(failed);
    if let Some(state) = request.state() {
        settle(state, id, request.keep(), &ended);
    }
    ended
}

fn try_resume(request: &ResumeRequest, screen: &Screen) -> Result<ExitCode, Failed> {
    let state = request.state();
    let kept = match request.id() {
        Some(prefix) => state.find(prefix),
        None => state.newest_resumable(),
    };
    let kept = kept.map_err(in_state)?;
    let (mut store, seen) = kept.take().map_err(in_state)?;
    let (id, stored) = (kept.id(), &seen.request);
    let file = result_file(&stored.output())?;
    anstream::eprintln!("portsweep: going on with scan {id}: {}", stored.command);
    let prepared = Prepared::resume(&seen.record, request.exclude()).map_err(failed)?;
    let mut resumed = Resumed::load(&store, id).map_err(failed)?;
    resumed.record.agent_wait_s = request.agent_wait_s().or(resumed.record.agent_wait_s);
    let account = Account::new(&prepared.record, &prepared.plan, stored, seen.elapsed());
    let going_on = stored.clone().resumed(result::wall(), seen.elapsed());
    let kept_as = going_on.to_text().map_err(failed)?;
    store.set_request(id, &kept_as).map_err(failed)?;
    let store: Box<dyn Store> = Box::new(store);
    let running = Running { prepared, account, output: stored.output(), file, store, resumed: Some(resumed) };
    let ended = System::new().block_on(start(running, screen.clone())).map_err(failed);
    settle(state, id, request.keep(), &ended);
    ended
}

fn result_file(output: &Output) -> Result<Option<ResultFile>, Failed> {
    match &output.write {
        Some(Write::File(path)) => ResultFile::check(path).map(Some).map_err(usage),
        Some(Write::Stdout) | None => Ok(None),
    }
}

/// After a scan: says how to go on with it, and removes what is too old to be kept, or never began.
fn settle(state: &State, id: ScanId, keep: usize, ended: &Result<ExitCode, Failed>) {
    let line = state.resume_line(id);
    match ended {
        Ok(ExitCode::Interrupted) => anstream::eprintln!("portsweep: interrupted; go on with: {line}"),
        Ok(ExitCode::Incomplete) => anstream::eprintln!("portsweep: to try again what was not probed: {line}"),
        Ok(ExitCode::Done | ExitCode::Failed | ExitCode::Usage) | Err(_) => {}
    }
    if let Err(error) = tidy_up(state, id, keep) {
        tracing::info!(%error, "older scans stay");
    }
}

fn tidy_up(state: &State, id: ScanId, keep: usize) -> Result<(), StateError> {
    let kept = state.find(&id.to_string())?;
    // The store's thread ends by itself once nobody asks it any more.
    kept.wait_for_writer()?;
    if kept.look()?.is_none() {
        kept.remove()?;
    }
    state.trim(keep)
}

/// A scan that only has to be started.
struct Running {
    prepared: Prepared,
    account: Account,
    output: Output,
    file: Option<ResultFile>,
    store: Box<dyn Store>,
    /// What was known of it before; `None` for a new one.
    resumed: Option<Resumed>,
}

/// Starts every part, submits the scan or goes on with it, and follows it.
async fn start(running: Running, screen: Screen) -> anyhow::Result<ExitCode> {
    let Running { prepared, account, output, file, store, resumed } = running;
    let Prepared { record, settings, parts, .. } = prepared;
    let (store, answers) = thread::start(store)?;
    let (told, events) = queue::bounded(coordinator::TOLD);
    // Whoever has the lock of a scan's database knows the process before dead, and its rights with it.
    let machine = match &resumed {
        Some(resumed) => Machine::resume(settings, Clock::Monotonic.now(), std::slice::from_ref(resumed), true),
        None => Machine::new(settings),
    };
    let coordinator = Coordinator::new(machine, Clock::Monotonic, store.clone(), answers, told).start();
    let subject = Subject {
        id: account.id.to_string(),
        targets: account.plan.len(),
        kinds: account.kinds.clone(),
        names: account.names().clone(),
    };
    let mut follower = Follower::new(subject, output, file, screen);
    match resumed {
        Some(resumed) => follower.show_found(account.clone(), &store, &resumed.progress).await?,
        None => coordinator.send(Submit(Box::new(record))).await?,
    }
    let (agent, agent_end) = Agent::start_with(parts.with(Box::new(Embedded(coordinator.clone()))));
    let mut here = Here { account, store, coordinator, events, agent_end: Some(agent_end) };
    let code = follower.follow(&mut here).await;
    drop(agent);
    code
}

/// Reaches the coordinator of this process.
pub(crate) struct Embedded(pub(crate) Addr<Coordinator>);

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
