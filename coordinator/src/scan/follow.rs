//! Follows a scan from here: prints what is found as it is committed, keeps the result file, shows how far it is, and hears Ctrl-C.

mod heard;
mod screen;
mod stdout;
mod tally;

pub use screen::Screen;

use super::result::Account;
use crate::actors::coordinator::{Coordinator, Interrupt, Told};
use crate::cli::{ExitCode, Output};
use crate::report::file::{ResultFile, Schedule};
use crate::report::json;
use crate::report::quantity::grouped;
use crate::store::thread::StoreHandle;
use actix::Addr;
use anyhow::{Context, bail};
use coordinator_core::coordinator::{Event, Found, Sign};
use coordinator_core::progress::Progress;
use coordinator_core::store::ScanStatus;
use heard::{Ears, Wish};
use portsweep_agent::actors::agent::AgentEnd;
use portsweep_agent::clock::Clock;
use portsweep_agent::queue::Reader;
use protocol::probe::{ProbeKind, State};
use protocol::time::Time;
use std::fs::File;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;
use stdout::Stdout;
use tally::{Counts, Tally};

/// How often the bar is drawn: as often as a number that changes can be read.
const DRAW_EVERY: Duration = Duration::from_millis(250);

/// How many descriptors the end of a scan needs: the result file, its directory, and what SQLite opens to sort.
const SPARE: usize = 4;

/// A writing of the result file that is under way.
type Writing = Pin<Box<dyn Future<Output = anyhow::Result<()>>>>;

pub(super) struct Follower {
    account: Account,
    store: StoreHandle,
    coordinator: Addr<Coordinator>,
    file: Option<ResultFile>,
    schedule: Schedule,
    /// The last writing of the file failed, and that was said.
    is_file_failing: bool,
    stdout: Stdout,
    /// Why nothing is written to standard output any more.
    lost: Option<io::Error>,
    screen: Screen,
    shows_bar: bool,
    verbosity: u8,
    tally: Tally,
    started_at: Time,
    /// Closed for the end: what it writes then finds descriptors, however many sockets the probes took.
    spare: Vec<File>,
}

impl Follower {
    pub(super) fn new(
        account: Account,
        output: Output,
        file: Option<ResultFile>,
        store: StoreHandle,
        coordinator: Addr<Coordinator>,
        screen: Screen,
    ) -> Self {
        let started_at = now();
        let targets = account.plan.len();
        let shows_bar = screen.begin(!output.quiet);
        if output.verbosity > 0 {
            screen.say(&format!("scan {}: {} targets", account.id, grouped(targets.into())));
        }
        let stdout = Stdout::new(&output, account.kinds.clone(), account.names().clone());
        Self {
            account,
            store,
            coordinator,
            file,
            schedule: Schedule::new(),
            is_file_failing: false,
            stdout,
            lost: None,
            screen,
            shows_bar,
            verbosity: output.verbosity,
            tally: Tally::new(targets, started_at),
            started_at,
            spare: (0..SPARE).map_while(|_| File::open("/dev/null").ok()).collect(),
        }
    }

    /// Of a scan that goes on: begins with how far it is, and writes what was found before to standard output, which so begins with the
    /// first line.
    pub(super) async fn show_found(&mut self, progress: &Progress) -> anyhow::Result<()> {
        self.tally.set(self.counts(progress));
        if !self.stdout.is_live() {
            return Ok(());
        }
        let (account, screen, mut stdout) =
            (self.account.clone(), self.screen.clone(), std::mem::take(&mut self.stdout));
        let shown = self.store.look(move |store| {
            let shown = account.for_each_found(store, &mut |found, signs| stdout.committed(&screen, found, signs));
            (stdout, shown)
        });
        let (stdout, shown) = shown.await?;
        self.stdout = stdout;
        if let Err(error) = shown {
            self.stdout_lost(error);
        }
        Ok(())
    }

    /// Until the scan has ended and everything is written.
    pub(super) async fn follow(mut self, events: Reader<Told>, agent_end: AgentEnd) -> anyhow::Result<ExitCode> {
        let mut ears = Ears::new(true).context("listen for signals")?;
        let ended = self.until_finished(&mut ears, events, agent_end).await;
        self.screen.end();
        match ended? {
            None => Ok(ExitCode::Interrupted),
            Some(status) => tokio::select! {
                finished = self.finished(status) => finished,
                // Whoever reads a pipe or a FIFO may never come.
                () = ears.end() => Ok(ExitCode::Interrupted),
            },
        }
    }

    /// Until the scan has ended, or (`None`) the process is to end before it.
    async fn until_finished(
        &mut self,
        ears: &mut Ears,
        mut events: Reader<Told>,
        agent_end: AgentEnd,
    ) -> anyhow::Result<Option<ScanStatus>> {
        let mut agent_end = Some(agent_end);
        let mut writing: Option<Writing> = None;
        let mut draw_at = self.shows_bar.then(now);
        loop {
            let due = self.file.as_ref().filter(|file| file.is_replaceable()).and_then(|_| self.schedule.due_at());
            let agent_died = async {
                match &mut agent_end {
                    Some(end) => end.await.is_err(),
                    None => std::future::pending().await,
                }
            };
            let written = async {
                match &mut writing {
                    Some(writing) => writing.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                told = events.next() => match told.context("the coordinator died")? {
                    Told::Event(Event::Committed { findings, signs, progress, .. }) => {
                        self.committed(&findings, &signs, &progress);
                    }
                    Told::Event(Event::Finished { status, .. }) => return Ok(Some(status)),
                    // Nobody changes what holds for a scan from here.
                    Told::Event(Event::Changed { .. } | Event::Control { .. }) => {}
                    Told::Failure(error) => bail!(error),
                },
                died = agent_died => {
                    if died {
                        bail!("the agent in this process died; what it had reported is kept");
                    }
                    agent_end = None;
                }
                written = written => {
                    writing = None;
                    self.file_written(&written);
                }
                () = sleep_until(due) => writing = self.begin_writing(None),
                () = sleep_until(draw_at) => {
                    self.tally.measure(now());
                    self.screen.show(&self.tally);
                    draw_at = Some(now() + DRAW_EVERY);
                }
                wish = ears.next() => match wish {
                    Wish::Status => self.say_status(),
                    Wish::Interrupt => self.coordinator.send(Interrupt(self.account.id)).await?,
                    Wish::End => return Ok(None),
                },
            }
        }
    }

    fn committed(&mut self, findings: &[Found], signs: &[Sign], progress: &Progress) {
        self.schedule.committed(now());
        self.tally.set(self.counts(progress));
        if let Err(error) = self.stdout.committed(&self.screen, findings, signs) {
            self.stdout_lost(error);
        }
    }

    fn counts(&self, progress: &Progress) -> Counts {
        let finding = if self.account.kinds.contains(&ProbeKind::Tcp) { State::Open } else { State::Up };
        Counts {
            targets: progress.targets,
            undiscovered: progress.undiscovered,
            settled: progress.settled(),
            found: progress.in_state(finding),
            not_probed: progress.in_state(State::NotProbed),
        }
    }

    /// Standard output is no more. With a result file the scan goes on; else nobody wants it any more.
    fn stdout_lost(&mut self, error: io::Error) {
        self.lost = Some(error);
        if self.file.is_none() && self.coordinator.try_send(Interrupt(self.account.id)).is_err() {
            tracing::warn!("the scan cannot be interrupted: the coordinator is busy");
        }
    }

    fn say_status(&mut self) {
        if !self.shows_bar {
            self.tally.measure(now());
        }
        self.screen.say(&self.tally.status());
    }

    async fn finished(&mut self, status: ScanStatus) -> anyhow::Result<ExitCode> {
        self.spare.clear();
        // First what may wait for a reader least: a file that cannot be written must not cost the report.
        let file_written = match self.begin_writing(Some(status)) {
            Some(writing) => writing.await,
            None => Ok(()),
        };
        if let Err(error) = self.write_report(status).await? {
            self.lost = Some(error);
        }
        file_written?;
        if let (Some(file), true) = (&self.file, self.verbosity > 0) {
            self.screen.say(&format!("the result is in {:?}", file.path()));
        }
        match self.lost.take() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                return Err(error).context("standard output was not written to its end");
            }
            Some(_) if self.file.is_none() => return Ok(ExitCode::Interrupted),
            _ => {}
        }
        Ok(match status {
            ScanStatus::Done => ExitCode::Done,
            ScanStatus::Interrupted => ExitCode::Interrupted,
            ScanStatus::Partial | ScanStatus::Running | ScanStatus::Cancelled => ExitCode::Incomplete,
        })
    }

    /// Writes what comes to standard output at the end. The inner error is standard output's.
    async fn write_report(&mut self, status: ScanStatus) -> anyhow::Result<io::Result<()>> {
        if !self.stdout.has_report() {
            return Ok(Ok(()));
        }
        let (account, elapsed) = (self.account.clone(), self.elapsed());
        let mut stdout = std::mem::take(&mut self.stdout);
        let written = self.store.look(move |store| -> anyhow::Result<io::Result<()>> {
            let (facts, mut rows) = account.read(store, Some(status), elapsed)?;
            Ok(stdout.finish(&facts, &mut rows))
        });
        written.await?
    }

    /// Begins to write the result file, at the end or in between.
    fn begin_writing(&mut self, status: Option<ScanStatus>) -> Option<Writing> {
        let file = self.file.clone()?;
        self.schedule.begun(now());
        let (account, elapsed, store) = (self.account.clone(), self.elapsed(), self.store.clone());
        Some(Box::pin(async move {
            let write = move |store: &dyn coordinator_core::store::Store| -> anyhow::Result<()> {
                let (facts, mut rows) = account.read(store, status, elapsed)?;
                Ok(file.write(|out| json::write(out, &facts, &mut rows))?)
            };
            store.look(write).await?
        }))
    }

    /// In between, a writing that failed is said once and tried again; at the end the file must be there.
    fn file_written(&mut self, written: &anyhow::Result<()>) {
        self.schedule.ended(now(), written.is_ok());
        match written {
            Err(error) if !self.is_file_failing => {
                self.screen.say(&format!("{error:#}; this is tried again while the scan goes on"));
            }
            _ => {}
        }
        self.is_file_failing = written.is_err();
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
