//! The maps of scans, read and counted beside everything else: a thread of its own with the store opened for reading, so that a map waits
//! neither for the writer nor for a long report, and holds up neither.
//!
//! Who looks at a scan is answered from what is there: tallies that are kept, and those of open cohorts as they were counted last. What is not
//! counted, or has new reports since, is counted anew: up to [`AT_ONCE_TARGETS`] before the answer, the rest after it, a window at a time,
//! with questions answered in between. Nothing is counted of scans that nobody looks at, and nothing twice for two that look at once.
//! Tallies of closed cohorts that had none are given to the store's writer to be kept.
//!
//! Queue ([`portsweep_agent::queue`]): [`QUESTIONS`], for which whoever looks waits. The thread ends when the last [`Maps`] is dropped.

mod counter;

use crate::store::thread::{LookError, StoreHandle};
use coordinator_core::maps::{Counted, Source};
use coordinator_core::store::{Store, StoreError};
use counter::{Counter, Question};
use portsweep_agent::queue::{Bounds, Writer, bounded};
use protocol::id::ScanId;
use protocol::plan::Plan;
use std::io;
use std::time::Duration;
use tokio::sync::oneshot;

/// How many questions may wait for the thread.
pub const QUESTIONS: Bounds = Bounds { of: "questions about maps", items: 64, bytes: 64 };
/// A question takes a fraction of a second.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(30);
/// So many targets are counted before an answer: some 15 ms. A scan of a few hundred hosts is thus always told as it is now.
pub const AT_ONCE_TARGETS: u64 = 1 << 20;

/// Answers what maps ask. Cheap to clone.
#[derive(Clone)]
pub struct Maps(Ask);

#[derive(Clone)]
enum Ask {
    /// The thread.
    Beside(Writer<Question>),
    /// The writer's own thread, of a store that nobody else can read.
    Within(StoreHandle),
}

/// Why a map cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The thread is gone.
    #[error("make a map: its thread is gone")]
    Closed,
    /// There was no room in time.
    #[error("make a map: {QUESTIONS} is full")]
    Full,
    /// The store could not be looked at.
    #[error("make a map")]
    Look(#[source] LookError),
    /// What is stored could not be read.
    #[error("make a map")]
    Store(#[source] StoreError),
}

/// A scan at one moment, as far as it is counted.
pub struct Scene<'a> {
    store: &'a dyn Store,
    scan: ScanId,
    plan: &'a Plan,
    counted: &'a Counted,
    waiting: u64,
}

impl<'a> Scene<'a> {
    /// What the scan covers.
    #[must_use]
    pub const fn plan(&self) -> &'a Plan {
        self.plan
    }

    /// How many cohorts have reports that are not counted yet.
    #[must_use]
    pub const fn waiting(&self) -> u64 {
        self.waiting
    }

    /// What maps are made of: all vantages together, or one of them by its place in the plan.
    ///
    /// # Errors
    /// If the store fails.
    pub fn source(&self, vantage: Option<u64>) -> Result<Source<'a>, StoreError> {
        Source::new((self.store, self.scan, self.plan), self.counted, vantage)
    }
}

impl Maps {
    /// Starts the thread over a store that is opened for reading; without one, what is asked is answered by the writer's thread.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(reader: Option<Box<dyn Store>>, writer: StoreHandle) -> io::Result<Self> {
        let Some(reader) = reader else { return Ok(Self(Ask::Within(writer))) };
        let (asked, questions) = bounded(QUESTIONS);
        std::thread::Builder::new().name("maps".into()).spawn(move || counter::run(reader, questions, writer))?;
        Ok(Self(Ask::Beside(asked)))
    }

    /// Looks at a scan.
    ///
    /// # Errors
    /// If there is no room in time, the thread is gone, or the store fails.
    pub async fn look<T: Send + 'static>(
        &self,
        scan: ScanId,
        read: impl FnOnce(&Scene<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, MapError> {
        match &self.0 {
            Ask::Within(store) => {
                let look = move |store: &dyn Store| Counter::default().look(store, scan, AT_ONCE_TARGETS, read);
                store.look(look).await.map_err(MapError::Look)?.map_err(MapError::Store)
            }
            Ask::Beside(asked) => {
                let (answer, answered) = oneshot::channel();
                let question: Question = Box::new(move |store, counter| {
                    let _nobody_waits = answer.send(match store {
                        Ok(store) => counter.look(store, scan, AT_ONCE_TARGETS, read),
                        Err(error) => Err(error),
                    });
                });
                let pushed = asked.push(question, 1, QUESTION_TIMEOUT).await;
                pushed.map_err(|error| if error.is_full() { MapError::Full } else { MapError::Closed })?;
                answered.await.map_err(|_| MapError::Closed)?.map_err(MapError::Store)
            }
        }
    }
}

#[cfg(test)]
mod tests;
