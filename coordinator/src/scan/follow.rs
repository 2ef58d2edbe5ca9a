//! Follows a scan from here: prints what is found as it is committed, keeps the result file, and hears Ctrl-C.

use super::result::Account;
use crate::actors::coordinator::{Coordinator, Interrupt, Told};
use crate::cli::{ExitCode, ScanRequest, Write as Goes};
use crate::report::file::{ResultFile, Schedule};
use crate::report::{json, lines, table};
use crate::store::thread::StoreHandle;
use actix::Addr;
use anyhow::{Context, bail};
use coordinator_core::coordinator::{Event, Found};
use coordinator_core::store::ScanStatus;
use portsweep_agent::actors::agent::AgentEnd;
use portsweep_agent::clock::Clock;
use protocol::time::Time;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// What goes to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stdout {
    /// A report at the end: on a terminal.
    Table,
    /// A line for each finding, as it is committed: in a pipe.
    Lines,
    /// The JSON, at the end.
    Json,
    Nothing,
}

pub(super) struct Follower {
    account: Account,
    store: StoreHandle,
    coordinator: Addr<Coordinator>,
    file: Option<ResultFile>,
    schedule: Schedule,
    stdout: Stdout,
    started_at: Time,
}

impl Follower {
    pub(super) fn new(
        request: &ScanRequest,
        account: Account,
        file: Option<ResultFile>,
        store: StoreHandle,
        coordinator: Addr<Coordinator>,
    ) -> Self {
        let stdout = match (request.write(), request.quiet()) {
            (Some(Goes::Stdout), _) => Stdout::Json,
            (_, true) => Stdout::Nothing,
            _ if io::stdout().is_terminal() => Stdout::Table,
            _ => Stdout::Lines,
        };
        Self { account, store, coordinator, file, schedule: Schedule::new(), stdout, started_at: now() }
    }

    /// Until the scan has ended and everything is written.
    pub(super) async fn follow(mut self, mut events: mpsc::Receiver<Told>, agent_end: AgentEnd) -> anyhow::Result<ExitCode> {
        let mut signals = Signals::new().context("listen for signals")?;
        let mut agent_end = Some(agent_end);
        loop {
            let due = self.file.as_ref().filter(|file| file.is_replaceable()).and_then(|_| self.schedule.due_at());
            let agent_died = async {
                match &mut agent_end {
                    Some(end) => end.await.is_err(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                told = events.recv() => match told.context("the coordinator died")? {
                    Told::Event(Event::Committed { findings, .. }) => self.committed(&findings),
                    Told::Event(Event::Finished { status, .. }) => return self.finished(status).await,
                    Told::Failure(error) => bail!(error),
                },
                died = agent_died => {
                    if died {
                        bail!("the agent in this process died; what it had reported is kept");
                    }
                    agent_end = None;
                }
                () = sleep_until(due) => self.write_file(None).await?,
                again = signals.next() => {
                    if again {
                        return Ok(ExitCode::Interrupted);
                    }
                    self.coordinator.send(Interrupt(self.account.id)).await?;
                }
            }
        }
    }

    fn committed(&mut self, findings: &[Found]) {
        self.schedule.committed(now());
        if self.stdout != Stdout::Lines {
            return;
        }
        let mut out = io::stdout().lock();
        let shown = findings.iter().filter(|found| lines::is_line(&self.account.kinds, found.target.slot, found.outcome));
        for found in shown {
            if writeln!(out, "{}", found.target).is_err() {
                return self.reader_left();
            }
        }
        if out.flush().is_err() {
            self.reader_left();
        }
    }

    /// Whoever read our output left. With a result file the scan goes on; else nobody wants it any more.
    fn reader_left(&mut self) {
        self.stdout = Stdout::Nothing;
        if self.file.is_none() && self.coordinator.try_send(Interrupt(self.account.id)).is_err() {
            tracing::warn!("the scan cannot be interrupted: the coordinator is busy");
        }
    }

    async fn finished(mut self, status: ScanStatus) -> anyhow::Result<ExitCode> {
        self.write_file(Some(status)).await?;
        let (account, stdout, elapsed) = (self.account.clone(), self.stdout, self.elapsed());
        let written = self.store.look(move |store| -> io::Result<()> {
            if !matches!(stdout, Stdout::Table | Stdout::Json) {
                return Ok(());
            }
            let (facts, mut rows) = account.read(store, Some(status), elapsed)?;
            let mut out = anstream::stdout().lock();
            match stdout {
                Stdout::Table => table::write(&mut out, &facts, &mut rows)?,
                _ => json::write(&mut out, &facts, &mut rows)?,
            }
            out.flush()
        });
        match written.await? {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error).context("write to standard output"),
            _ => {}
        }
        Ok(match status {
            ScanStatus::Done => ExitCode::Done,
            ScanStatus::Interrupted => ExitCode::Interrupted,
            ScanStatus::Partial | ScanStatus::Running => ExitCode::Incomplete,
        })
    }

    /// Writes the result file, at the end or in between.
    async fn write_file(&mut self, status: Option<ScanStatus>) -> anyhow::Result<()> {
        let Some(file) = self.file.clone() else { return Ok(()) };
        self.schedule.begun(now());
        let (account, elapsed) = (self.account.clone(), self.elapsed());
        let written = self
            .store
            .look(move |store| -> anyhow::Result<()> {
                let (facts, mut rows) = account.read(store, status, elapsed)?;
                Ok(file.write(|out| json::write(out, &facts, &mut rows))?)
            })
            .await?;
        self.schedule.ended(now(), written.is_ok());
        match (written, status) {
            // In between it is tried again; at the end it must be there.
            (Err(error), None) => tracing::warn!("{error:#}"),
            (written, _) => written?,
        }
        Ok(())
    }

    fn elapsed(&self) -> Duration {
        now().since(self.started_at)
    }
}

fn now() -> Time {
    Clock::Monotonic.now()
}

async fn sleep_until(due: Option<Time>) {
    match due {
        Some(at) => tokio::time::sleep(Clock::Monotonic.until(at)).await,
        None => std::future::pending().await,
    }
}

/// Ctrl-C and a polite kill. The first interrupts the scan, the second ends the process.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    heard: bool,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())?, heard: false })
    }

    /// Waits for one; true if it is not the first.
    async fn next(&mut self) -> bool {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        std::mem::replace(&mut self.heard, true)
    }
}
