//! A scan from here: coordinator, store and agent in this process, joined by the same link as over a network.

mod follow;
mod prepare;
mod result;

pub use follow::Screen;

use crate::actors::coordinator::{self, Connect, Coordinator, Submit};
use crate::cli::{ExitCode, ScanRequest, Write};
use crate::report::file::ResultFile;
use crate::store::thread;
use actix::prelude::*;
use coordinator_core::coordinator::Coordinator as Machine;
use coordinator_core::store::memory::MemoryStore;
use follow::Follower;
use portsweep_agent::actors::agent::Agent;
use portsweep_agent::actors::link::{Dial, Dialling};
use portsweep_agent::clock::Clock;
use portsweep_agent::frames::Transport;
use portsweep_agent::queue;
use prepare::Prepared;
use result::Account;
use std::io;

/// How many bytes wait in each direction between coordinator and agent of one process.
const DUPLEX_BYTES: usize = 1 << 18;

/// Runs a scan to its end, with its output, on the screen that log lines go through too; errors are told on stderr in one line.
#[must_use]
pub fn run(request: &ScanRequest, screen: &Screen) -> ExitCode {
    match try_run(request, screen) {
        Ok(code) => code,
        Err((code, error)) => {
            anstream::eprintln!("portsweep: {error:#}");
            code
        }
    }
}

fn try_run(request: &ScanRequest, screen: &Screen) -> Result<ExitCode, (ExitCode, anyhow::Error)> {
    let usage = |error: anyhow::Error| (ExitCode::Usage, error);
    let failed = |error: anyhow::Error| (ExitCode::Failed, error);
    let file = match request.write() {
        Some(Write::File(path)) => Some(ResultFile::check(path).map_err(|error| usage(error.into()))?),
        Some(Write::Stdout) | None => None,
    };
    for notice in request.notices() {
        anstream::eprintln!("portsweep: {notice}");
    }
    let prepared = Prepared::new(request).map_err(failed)?;
    let account = Account::new(request, &prepared);
    System::new().block_on(start(request, prepared, account, file, screen.clone())).map_err(failed)
}

/// Starts every part, submits the scan and follows it.
async fn start(
    request: &ScanRequest,
    prepared: Prepared,
    account: Account,
    file: Option<ResultFile>,
    screen: Screen,
) -> anyhow::Result<ExitCode> {
    let Prepared { record, settings, parts, .. } = prepared;
    let (store, answers) = thread::start(Box::new(MemoryStore::new()))?;
    let (told, events) = queue::bounded(coordinator::TOLD);
    let machine = Machine::new(settings);
    let coordinator = Coordinator::new(machine, Clock::Monotonic, store.clone(), answers, told).start();
    coordinator.send(Submit(Box::new(record))).await?;
    let (agent, agent_end) = Agent::start_with(parts.with(Box::new(Embedded(coordinator.clone()))));
    let follower = Follower::new(request, account, file, store, coordinator, screen);
    let code = follower.follow(events, agent_end).await;
    drop(agent);
    code
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
