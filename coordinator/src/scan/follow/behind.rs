//! What a follower follows: a scan of this process, or one that a coordinator runs elsewhere.

use super::super::result::Account;
use super::stdout::Stdout;
use super::tally::Counts;
use crate::actors::coordinator::{Coordinator, Interrupt, Told};
use crate::report::file::ResultFile;
use crate::report::json;
use crate::store::thread::StoreHandle;
use actix::Addr;
use anyhow::{Context, bail};
use coordinator_core::coordinator::{Event, Found, Sign};
use coordinator_core::progress::Progress;
use coordinator_core::store::{ScanStatus, Store};
use portsweep_agent::actors::agent::AgentEnd;
use portsweep_agent::queue::Reader;
use protocol::probe::{ProbeKind, State};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

/// A thing that is under way.
pub(crate) type UnderWay<'a, T> = Pin<Box<dyn Future<Output = anyhow::Result<T>> + 'a>>;

/// What a follower learns.
pub(crate) enum News {
    /// Something was committed.
    Committed {
        /// Open ports and live hosts in it.
        findings: Vec<Found>,
        /// Who showed life by something else.
        signs: Vec<Sign>,
        /// From where it was seen, where several vantages each probe everything.
        vantage: Option<String>,
        /// How far the scan is with it.
        counts: Counts,
    },
    /// The scan ended.
    Finished(ScanStatus),
    /// A line for a person.
    Note(String),
}

/// What becomes of a scan that its follower was told to interrupt.
pub(crate) enum Interrupted {
    /// It stops, and its end will be told.
    Stops,
    /// It goes on without its follower.
    GoesOn,
}

/// A scan that is followed.
pub(crate) trait Behind {
    /// The next that becomes known. Safe to cancel.
    fn next(&mut self) -> UnderWay<'_, News>;

    /// The person who follows it wants no more of it.
    fn interrupt(&mut self) -> UnderWay<'_, Interrupted>;

    /// Standard output is lost: likewise, without waiting.
    fn abandon(&mut self) -> Interrupted;

    /// Writes the result into a file, after an end or (`None`) in between.
    fn write(&self, file: ResultFile, status: Option<ScanStatus>, elapsed: Duration) -> UnderWay<'static, ()>;

    /// Writes what comes to standard output at the end, and gives that back. The inner error is standard output's.
    fn report(&self, stdout: Stdout, status: ScanStatus, elapsed: Duration) -> UnderWay<'static, io::Result<()>>;
}

/// A scan of this process.
pub(in super::super) struct Here {
    pub(in super::super) account: Account,
    pub(in super::super) store: StoreHandle,
    pub(in super::super) coordinator: Addr<Coordinator>,
    pub(in super::super) events: Reader<Told>,
    /// Until it ended as it should.
    pub(in super::super) agent_end: Option<AgentEnd>,
}

impl Here {
    /// How far the scan is, for a person.
    pub(in super::super) fn counts(account: &Account, progress: &Progress) -> Counts {
        let finding = if account.kinds.contains(&ProbeKind::Tcp) { State::Open } else { State::Up };
        Counts {
            targets: progress.targets,
            undiscovered: progress.undiscovered,
            settled: progress.settled(),
            found: progress.in_state(finding),
            not_probed: progress.in_state(State::NotProbed),
            ..Counts::default()
        }
    }
}

impl Behind for Here {
    fn next(&mut self) -> UnderWay<'_, News> {
        Box::pin(async {
            loop {
                let agent_died = async {
                    match &mut self.agent_end {
                        Some(end) => end.await.is_err(),
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    told = self.events.next() => match told.context("the coordinator died")? {
                        // Nobody changes what holds for a scan from here.
                        Told::Event(
                            Event::Created { .. }
                            | Event::Changed { .. }
                            | Event::Control { .. }
                            | Event::Removed { .. }
                            | Event::Drains { .. }
                            | Event::Rests { .. },
                        ) => {}
                        Told::Event(Event::Committed { findings, signs, progress, loss, window, vantage, .. }) => {
                            if window > 0 {
                                self.account.window = Some(window);
                            }
                            let counts = Counts { loss, window, ..Self::counts(&self.account, &progress) };
                            let vantage = vantage.map(|vantage| vantage.to_string());
                            return Ok(News::Committed { findings, signs, vantage, counts });
                        }
                        Told::Event(Event::Finished { status, .. }) => return Ok(News::Finished(status)),
                        Told::Failure(error) => bail!(error),
                    },
                    died = agent_died => {
                        if died {
                            bail!("the agent in this process died; what it had reported is kept");
                        }
                        self.agent_end = None;
                    }
                }
            }
        })
    }

    fn interrupt(&mut self) -> UnderWay<'_, Interrupted> {
        Box::pin(async {
            self.coordinator.send(Interrupt(self.account.id)).await?;
            Ok(Interrupted::Stops)
        })
    }

    fn abandon(&mut self) -> Interrupted {
        if self.coordinator.try_send(Interrupt(self.account.id)).is_err() {
            tracing::warn!("the scan cannot be interrupted: the coordinator is busy");
        }
        Interrupted::Stops
    }

    fn write(&self, file: ResultFile, status: Option<ScanStatus>, elapsed: Duration) -> UnderWay<'static, ()> {
        let (account, store) = (self.account.clone(), self.store.clone());
        Box::pin(async move {
            let write = move |store: &dyn Store| -> anyhow::Result<()> {
                let (facts, mut rows) = account.read(store, status, elapsed)?;
                Ok(file.write(|out| json::write(out, &facts, &mut rows))?)
            };
            store.look(write).await?
        })
    }

    fn report(&self, mut stdout: Stdout, status: ScanStatus, elapsed: Duration) -> UnderWay<'static, io::Result<()>> {
        let (account, store) = (self.account.clone(), self.store.clone());
        Box::pin(async move {
            let written = store.look(move |store| -> anyhow::Result<io::Result<()>> {
                let (facts, mut rows) = account.read(store, Some(status), elapsed)?;
                Ok(stdout.finish(&facts, &mut rows))
            });
            written.await?
        })
    }
}
