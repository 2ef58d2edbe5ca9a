//! The store's thread: the one writer. It carries out, in order, what it is asked through a bounded queue. What waits together becomes
//! one transaction, a part of it each, and is answered once that is durable: under load a commit of the disk serves many requests.
//!
//! Where the store can be read beside its writer, a second thread does so, so that a long report holds nothing up.
//!
//! Queues ([`portsweep_agent::queue`]): [`REQUESTS`], `try_push` by the coordinator's actor, which keeps what does not fit; [`ANSWERS`],
//! awaited by it; [`LOOKS`], for which whoever looks waits. The threads end when the last [`StoreHandle`] is dropped and their queues are
//! empty, or when nobody took an answer for `ANSWER_TIMEOUT`.

use coordinator_core::coordinator::RequestId;
use coordinator_core::store::{Store, StoreError, StoreReply, StoreRequest};
use coordinator_core::tally::{Packed, Part};
use portsweep_agent::queue::{Bounds, PushError, Reader, Writer, bounded};
use protocol::id::ScanId;
use std::io;
use std::time::Duration;
use tokio::sync::oneshot;

/// How many requests may wait. A report weighs half a byte a target, and its findings.
pub const REQUESTS: Bounds = Bounds { of: "requests to the store", items: 1_024, bytes: 64 << 20 };
/// How many answers may wait.
pub const ANSWERS: Bounds = Bounds { of: "answers of the store", items: 1_024, bytes: 64 << 20 };
/// How many looks may wait for the thread that reads.
pub const LOOKS: Bounds = Bounds { of: "looks at the store", items: 16, bytes: 16 };
/// The coordinator waits for nobody but its owner, and gives that up sooner.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// A look before may be the report of a huge scan.
const LOOK_TIMEOUT: Duration = Duration::from_secs(600);
/// How many requests become one transaction at most: beyond that a commit of the disk costs next to nothing a request.
const GROUP_MAX: usize = 256;

/// What a request came to.
pub type Answer = (RequestId, Result<StoreReply, StoreError>);

/// Looks at a store, or hears why that cannot be.
type Look = Box<dyn FnOnce(Result<&dyn Store, StoreError>) + Send>;

enum Asked {
    CarryOut(RequestId, Box<StoreRequest>),
    Alone(Alone),
}

/// What is not done together with requests, and answered to nobody who waits for these.
enum Alone {
    Look(Look),
    /// [`Store::keep_tally`].
    Tally(Box<(ScanId, u64, u64, Packed)>),
}

impl Alone {
    fn carry_out(self, store: &mut dyn Store) {
        match self {
            Self::Look(look) => look(Ok(&*store)),
            Self::Tally(counted) => {
                let (scan, cohort, reports, tally) = *counted;
                if let Err(error) = store.keep_tally(scan, cohort, reports, &tally) {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a tally is not kept: it is counted again"
                    );
                }
            }
        }
    }
}

/// Why the store could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The queue is full.
    #[error("ask the store: {REQUESTS} is full")]
    Full(Box<StoreRequest>),
    /// The thread is gone.
    #[error("ask the store: its thread is gone")]
    Closed,
}

/// Why the store could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The thread is gone.
    #[error("look at what is stored: the store's thread is gone")]
    Closed,
    /// There was no room in time.
    #[error("look at what is stored: {LOOKS} is full")]
    Full,
    /// What is stored could not be held still.
    #[error("look at what is stored")]
    Store(#[source] StoreError),
}

/// Asks the store. Cheap to clone.
#[derive(Clone)]
pub struct StoreHandle {
    queue: Writer<Asked>,
    /// To the thread that reads, where there is one.
    looks: Option<Writer<Look>>,
}

/// Starts the threads. The receiver gets every answer, in order.
///
/// # Errors
/// If no thread can be started, or the store cannot be opened for the one that reads.
pub fn start(mut store: Box<dyn Store>) -> io::Result<(StoreHandle, Reader<Answer>)> {
    let (queue, mut asked) = bounded(REQUESTS);
    let (answers, answered) = bounded(ANSWERS);
    // For the time that an answer may wait; nothing else runs on it.
    let timer = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let looks = match store.reader().map_err(io::Error::other)? {
        Some(reader) => Some(start_reader(reader)?),
        None => None,
    };
    std::thread::Builder::new().name("store".into()).spawn(move || {
        while let Some(first) = asked.next_blocking() {
            let (group, alone) = gather(first, &mut asked);
            for answer in carry_out(&mut *store, group) {
                let bytes = answer_bytes(&answer);
                if let Err(PushError::Full(queue, _)) = timer.block_on(answers.push(answer, bytes, ANSWER_TIMEOUT)) {
                    return tracing::error!("{queue} is full: the coordinator takes no answers");
                }
                // Where it is closed the coordinator is gone, and what was asked is kept all the same.
            }
            if let Some(alone) = alone {
                alone.carry_out(&mut *store);
            }
        }
    })?;
    Ok((StoreHandle { queue, looks }, answered))
}

fn start_reader(mut reader: Box<dyn Store>) -> io::Result<Writer<Look>> {
    let (looks, mut asked) = bounded::<Look>(LOOKS);
    std::thread::Builder::new().name("store-reader".into()).spawn(move || {
        while let Some(look) = asked.next_blocking() {
            match reader.begin_group() {
                Ok(()) => look(Ok(&*reader)),
                Err(error) => look(Err(error)),
            }
            // Nothing was written that could be lost; where the end fails, so does the next beginning, and that is told.
            let _told_next = reader.commit_group();
        }
    })?;
    Ok(looks)
}

/// About how much memory a request takes, in bytes.
fn request_bytes(request: &StoreRequest) -> usize {
    let beside = match request {
        StoreRequest::Commit(commit) => commit.chunk.len() + size_of_val(commit.findings.as_slice()),
        StoreRequest::Lease(order) => size_of_val(order.cuts.as_slice()),
        StoreRequest::Release { epochs, .. } => size_of_val(epochs.as_slice()),
        _ => 0,
    };
    size_of::<StoreRequest>() + beside
}

/// About how much memory an answer takes, in bytes.
fn answer_bytes((_, reply): &Answer) -> usize {
    let beside = match reply {
        Ok(StoreReply::Surveyed(histories)) => size_of_val(histories.as_slice()),
        Ok(StoreReply::Leased(epochs)) => size_of_val(epochs.as_slice()),
        _ => 0,
    };
    size_of::<Answer>() + beside
}

/// What waits and may be one transaction, and what ends it.
fn gather(first: Asked, asked: &mut Reader<Asked>) -> (Vec<(RequestId, StoreRequest)>, Option<Alone>) {
    let mut group = Vec::new();
    let mut next = Some(first);
    while let Some(asked_now) = next {
        match asked_now {
            Asked::CarryOut(id, request) => group.push((id, *request)),
            Asked::Alone(alone) => return (group, Some(alone)),
        }
        next = if group.len() < GROUP_MAX { asked.try_pop().ok() } else { None };
    }
    (group, None)
}

/// Carries requests out as one transaction. What is answered is durable: if it cannot be made so, every answer is an error.
fn carry_out(store: &mut dyn Store, group: Vec<(RequestId, StoreRequest)>) -> Vec<Answer> {
    if let [(id, request)] = group.as_slice() {
        return vec![(*id, request.carry_out(store))];
    }
    let mut answers = Vec::with_capacity(group.len());
    let outcome = store.begin_group().and_then(|()| {
        answers.extend(group.iter().map(|(id, request)| (*id, request.carry_out(store))));
        store.commit_group()
    });
    let Err(error) = outcome else { return answers };
    let undone = error.to_string();
    let mut cause = Some(error);
    group
        .into_iter()
        .map(|(id, _)| {
            let undone =
                || StoreError::Medium { action: "commit what was asked together", source: undone.clone().into() };
            (id, Err(cause.take().unwrap_or_else(undone)))
        })
        .collect()
}

impl StoreHandle {
    /// Queues a request; never waits.
    ///
    /// # Errors
    /// If the queue is full, which gives the request back, or the thread is gone.
    pub fn ask(&self, id: RequestId, request: StoreRequest) -> Result<(), AskError> {
        let bytes = request_bytes(&request);
        self.queue.try_push(Asked::CarryOut(id, Box::new(request)), bytes).map_err(|error| match error {
            PushError::Full(_, Asked::CarryOut(_, request)) => AskError::Full(request),
            _ => AskError::Closed,
        })
    }

    /// How many requests wait, and how many looks.
    #[must_use]
    pub fn depths(&self) -> (usize, usize) {
        (self.queue.depth().0, self.looks.as_ref().map_or(0, |looks| looks.depth().0))
    }

    /// Has the tally of a closed cohort kept, unless that has other reports by then; never waits. Where there is no room it is not kept:
    /// whoever needs it counts it again.
    pub fn keep_tally(&self, scan: ScanId, cohort: u64, reports: u64, tally: Packed) {
        let bytes = Part::ALL.iter().map(|part| tally.part(*part).len()).sum();
        let _counted_again =
            self.queue.try_push(Asked::Alone(Alone::Tally(Box::new((scan, cohort, reports, tally)))), bytes);
    }

    /// Looks at what is stored: at least all that was answered before. It is one moment's, and stays so while it is looked at. Waits
    /// for room and for its turn.
    ///
    /// # Errors
    /// If there is no room in time, the thread is gone, or the store cannot be read.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&dyn Store) -> T + Send + 'static,
    ) -> Result<T, LookError> {
        let (seen, answer) = oneshot::channel();
        let look: Look = Box::new(move |store| {
            let _nobody_waits = seen.send(store.map(look));
        });
        let is_full = match &self.looks {
            Some(looks) => looks.push(look, 1, LOOK_TIMEOUT).await.map_err(|error| error.is_full()),
            None => {
                self.queue.push(Asked::Alone(Alone::Look(look)), 1, LOOK_TIMEOUT).await.map_err(|error| error.is_full())
            }
        };
        is_full.map_err(|is_full| if is_full { LookError::Full } else { LookError::Closed })?;
        answer.await.map_err(|_| LookError::Closed)?.map_err(LookError::Store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::SqliteStore;
    use coordinator_core::store::ScanRecord;
    use coordinator_core::store::conformance::example;
    use coordinator_core::store::memory::MemoryStore;

    fn requests(scans: &[ScanRecord]) -> Vec<(RequestId, StoreRequest)> {
        (1..).map(RequestId).zip(scans.iter().cloned().map(StoreRequest::CreateScan)).collect()
    }

    fn scan(number: u8, request: &str) -> ScanRecord {
        ScanRecord { id: ScanId::from_bytes([number; 16]), request: request.into(), ..example() }
    }

    #[test]
    fn a_request_that_fails_undoes_no_other_of_its_group() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("scan.db");
        let group = [scan(1, "a"), scan(1, "b"), scan(2, "c")];
        for mut store in
            [Box::new(MemoryStore::new()) as Box<dyn Store>, Box::new(SqliteStore::create(&path).expect("a store"))]
        {
            let answers = carry_out(&mut *store, requests(&group));
            let failed: Vec<_> = answers.iter().map(|(_, reply)| reply.is_err()).collect();
            assert_eq!(failed, [false, true, false]);
            assert_eq!(store.scans().expect("scans"), [scan(1, "a"), scan(2, "c")]);
        }
    }

    #[tokio::test]
    async fn a_look_sees_all_that_was_answered_and_holds_up_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = SqliteStore::create(&directory.path().join("scan.db")).expect("a store");
        let (handle, mut answers) = start(Box::new(store)).expect("threads");
        let ask = |number: u8| {
            let (id, request) = requests(&[scan(number, "")]).remove(0);
            handle.ask(id, request).expect("room");
        };
        ask(1);
        answers.next().await.expect("an answer").1.expect("it is kept");
        let (begun, begins) = oneshot::channel();
        let (go_on, goes_on) = oneshot::channel();
        let looking = handle.look(move |store| {
            let before = store.scans().expect("scans").len();
            begun.send(()).expect("somebody waits");
            goes_on.blocking_recv().expect("somebody sends");
            (before, store.scans().expect("scans").len())
        });
        let meanwhile = async {
            begins.await.expect("a look");
            ask(2);
            answers.next().await.expect("an answer, while somebody looks").1.expect("it is kept");
            go_on.send(()).expect("the look waits");
        };
        let (seen, ()) = tokio::join!(looking, meanwhile);
        assert_eq!(seen.expect("a look"), (1, 1), "a look is one moment's");
        assert_eq!(handle.look(|store| store.scans().expect("scans").len()).await.expect("a look"), 2);
    }
}
