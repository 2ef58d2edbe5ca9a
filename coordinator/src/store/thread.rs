//! The store's thread: the one writer. It carries out, in order, what it is asked through a bounded queue.
//!
//! Queues: requests, at most [`REQUESTS_MAX`], `try_send` by the coordinator's actor, which keeps what does not fit; answers, as
//! many, awaited by it. The thread ends when the last [`StoreHandle`] is dropped and the queue is empty.

use coordinator_core::coordinator::RequestId;
use coordinator_core::store::{Store, StoreError, StoreReply, StoreRequest};
use std::io;
use tokio::sync::{mpsc, oneshot};

/// How many requests, and how many answers, may wait.
pub const REQUESTS_MAX: usize = 1_024;

/// What a request came to.
pub type Answer = (RequestId, Result<StoreReply, StoreError>);

type Look = Box<dyn FnOnce(&dyn Store) + Send>;

enum Asked {
    CarryOut(RequestId, StoreRequest),
    Look(Look),
}

/// Why the store could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The queue is full.
    #[error("ask the store: its queue of {REQUESTS_MAX} requests is full")]
    Full(Box<StoreRequest>),
    /// The thread is gone.
    #[error("ask the store: its thread is gone")]
    Closed,
}

/// Asks the store. Cheap to clone.
#[derive(Clone)]
pub struct StoreHandle {
    queue: mpsc::Sender<Asked>,
}

/// Starts the thread. The receiver gets every answer, in order.
///
/// # Errors
/// If no thread can be started.
pub fn start(mut store: Box<dyn Store>) -> io::Result<(StoreHandle, mpsc::Receiver<Answer>)> {
    let (queue, mut asked) = mpsc::channel(REQUESTS_MAX);
    let (answers, answered) = mpsc::channel(REQUESTS_MAX);
    std::thread::Builder::new().name("store".into()).spawn(move || {
        while let Some(asked) = asked.blocking_recv() {
            match asked {
                Asked::CarryOut(id, request) => {
                    let reply = request.carry_out(&mut *store);
                    // Nobody to tell: the coordinator is gone, and what was asked is kept all the same.
                    let _gone = answers.blocking_send((id, reply));
                }
                Asked::Look(look) => look(&*store),
            }
        }
    })?;
    Ok((StoreHandle { queue }, answered))
}

impl StoreHandle {
    /// Queues a request; never waits.
    ///
    /// # Errors
    /// If the queue is full, which gives the request back, or the thread is gone.
    pub fn ask(&self, id: RequestId, request: StoreRequest) -> Result<(), AskError> {
        self.queue.try_send(Asked::CarryOut(id, request)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(Asked::CarryOut(_, request)) => AskError::Full(Box::new(request)),
            _ => AskError::Closed,
        })
    }

    /// Looks at what is stored, after everything that was asked before. Waits for room and for its turn.
    ///
    /// # Errors
    /// If the thread is gone.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&dyn Store) -> T + Send + 'static,
    ) -> Result<T, AskError> {
        let (seen, answer) = oneshot::channel();
        let look = Box::new(move |store: &dyn Store| {
            let _nobody_waits = seen.send(look(store));
        });
        self.queue.send(Asked::Look(look)).await.map_err(|_| AskError::Closed)?;
        answer.await.map_err(|_| AskError::Closed)
    }
}
