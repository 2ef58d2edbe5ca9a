//! Follows a scan: prints what is found as it is committed, keeps the result file, shows how far it is, and hears Ctrl-C. [`Behind`] is
//! what is followed: a scan of this process, or one that a coordinator runs.

mod behind;
mod heard;
mod screen;
mod stdout;
mod tally;

pub(super) use behind::Here;
pub(crate) use behind::{Behind, Interrupted, News, UnderWay};
pub use screen::Screen;
pub(crate) use stdout::Stdout;
pub(crate) use tally::Counts;

use super::result::Account;
use crate::cli::{ExitCode, Output};
use crate::report::file::{ResultFile, Schedule};
use crate::report::quantity::grouped;
use crate::store::thread::StoreHandle;
use anyhow::Context;
use coordinator_core::coordinator::{Found, Sign};
use coordinator_core::progress::Progress;
use coordinator_core::store::ScanStatus;
use heard::{Ears, Wish};
use portsweep_agent::clock::Clock;
use protocol::probe::ProbeKind;
use protocol::time::Time;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::time::Duration;
use tally::Tally;

/// How often the bar is drawn: as often as a number that changes can be read.
const DRAW_EVERY: Duration = Duration::from_millis(250);

/// How many descriptors the end of a scan needs: the result file, its directory, and what SQLite opens to sort.
const SPARE: usize = 4;

/// What a follower must know of a scan.
pub(crate) struct Subject {
    /// Its id.
    pub(crate) id: String,
    /// How many targets it has.
    pub(crate) targets: u64,
    /// What is asked.
    pub(crate) kinds: Vec<ProbeKind>,
    /// Names that were typed, by the address that they stand for.
    pub(crate) names: BTreeMap<IpAddr, Vec<String>>,
}

pub(crate) struct Follower {
    file: Option<ResultFile>,
    schedule: Schedule,
    /// The last writing of the file failed, and that was said.
    is_file_failing: bool,
    stdout: Stdout,
    /// Why nothing is written to standard output any more.
    lost: Option<io::Error>,
    /// Nobody wants the scan any more who would see it, and what is behind does not know that yet.
    abandons: bool,
    screen: Screen,
    shows_bar: bool,
    verbosity: u8,
    tally: Tally,
    started_at: Time,
    /// Closed for the end: what it writes then finds descriptors, however many sockets the probes took.
    spare: Vec<File>,
}

impl Follower {
    pub(crate) fn new(subject: Subject, output: Output, file: Option<ResultFile>, screen: Screen) -> Self {
        let started_at = now();
        let Subject { id, targets, kinds, names } = subject;
        let shows_bar = screen.begin(!output.quiet);
        if output.verbosity > 0 {
            screen.say(&format!("scan {id}: {} targets", grouped(targets.into())));
        }
        let stdout = Stdout::new(&output, kinds, names);
        Self {
            file,
            schedule: Schedule::new(),
            is_file_failing: false,
            stdout,
            lost: None,
            abandons: false,
            screen,
            shows_bar,
            verbosity: output.verbosity,
            tally: Tally::new(targets, started_at),
            started_at,
            spare: (0..SPARE).map_while(|_| File::open("/dev/null").ok()).collect(),
        }
    }

    /// Whether what is found is written as it is committed.
    pub(crate) fn is_live(&self) -> bool {
        self.stdout.is_live()
    }

    /// Of a scan of this process that goes on: begins with how far it is, and writes what was found before to standard output, which so
    /// begins with the first line.
    pub(super) async fn show_found(
        &mut self,
        account: Account,
        store: &StoreHandle,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        self.tally.set(Here::counts(&account, progress));
        if !self.stdout.is_live() {
            return Ok(());
        }
        let (screen, mut stdout) = (self.screen.clone(), std::mem::take(&mut self.stdout));
        let shown = store.look(move |store| {
            let shown = account
                .for_each_found(store, &mut |vantage, found, signs| stdout.committed(&screen, vantage, found, signs));
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
    pub(crate) async fn follow(mut self, behind: &mut dyn Behind) -> anyhow::Result<ExitCode> {
        let mut ears = Ears::new(true).context("listen for signals")?;
        let ended = self.until_finished(&mut ears, behind).await;
        self.screen.end();
        match ended? {
            None => Ok(ExitCode::Interrupted),
            Some(status) => tokio::select! {
                finished = self.finished(status, behind) => finished,
                // Whoever reads a pipe or a FIFO may never come.
                () = ears.end() => Ok(ExitCode::Interrupted),
            },
        }
    }

    /// Until the scan has ended, or (`None`) the process is to end before it.
    async fn until_finished(&mut self, ears: &mut Ears, behind: &mut dyn Behind) -> anyhow::Result<Option<ScanStatus>> {
        let mut writing: Option<UnderWay<'static, ()>> = None;
        let mut draw_at = self.shows_bar.then(now);
        loop {
            if std::mem::take(&mut self.abandons) && matches!(behind.abandon(), Interrupted::GoesOn) {
                return Ok(None);
            }
            let due = self.file.as_ref().filter(|file| file.is_replaceable()).and_then(|_| self.schedule.due_at());
            let written = async {
                match &mut writing {
                    Some(writing) => writing.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                news = behind.next() => match news? {
                    News::Committed { findings, signs, vantage, counts } => {
                        self.committed(vantage.as_deref(), &findings, &signs, counts);
                    }
                    News::Finished(status) => return Ok(Some(status)),
                    News::Note(line) => self.screen.say(&line),
                },
                written = written => {
                    writing = None;
                    self.file_written(&written);
                }
                () = sleep_until(due) => writing = self.begin_writing(None, behind),
                () = sleep_until(draw_at) => {
                    self.tally.measure(now());
                    self.screen.show(&self.tally);
                    draw_at = Some(now() + DRAW_EVERY);
                }
                wish = ears.next() => match wish {
                    Wish::Status => self.say_status(),
                    Wish::Interrupt => match behind.interrupt().await? {
                        Interrupted::Stops => {}
                        Interrupted::GoesOn => return Ok(None),
                    },
                    Wish::End => return Ok(None),
                },
            }
        }
    }

    fn committed(&mut self, vantage: Option<&str>, findings: &[Found], signs: &[Sign], counts: Counts) {
        self.schedule.committed(now());
        self.tally.set(counts);
        if let Err(error) = self.stdout.committed(&self.screen, vantage, findings, signs) {
            self.stdout_lost(error);
        }
    }

    /// Standard output is no more. With a result file the scan goes on; else nobody wants it any more.
    fn stdout_lost(&mut self, error: io::Error) {
        self.lost = Some(error);
        self.abandons = self.file.is_none();
    }

    fn say_status(&mut self) {
        if !self.shows_bar {
            self.tally.measure(now());
        }
        self.screen.say(&self.tally.status());
    }

    async fn finished(&mut self, status: ScanStatus, behind: &dyn Behind) -> anyhow::Result<ExitCode> {
        self.spare.clear();
        // First what may wait for a reader least: a file that cannot be written must not cost the report.
        let file_written = match self.begin_writing(Some(status), behind) {
            Some(writing) => writing.await,
            None => Ok(()),
        };
        if let Err(error) = self.write_report(status, behind).await? {
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
    async fn write_report(&mut self, status: ScanStatus, behind: &dyn Behind) -> anyhow::Result<io::Result<()>> {
        if !self.stdout.has_report() {
            return Ok(Ok(()));
        }
        behind.report(std::mem::take(&mut self.stdout), status, self.elapsed()).await
    }

    /// Begins to write the result file, at the end or in between.
    fn begin_writing(&mut self, status: Option<ScanStatus>, behind: &dyn Behind) -> Option<UnderWay<'static, ()>> {
        let file = self.file.clone()?;
        self.schedule.begun(now());
        Some(behind.write(file, status, self.elapsed()))
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
