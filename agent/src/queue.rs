//! A queue with a bound, in items and in bytes: it says `full`, `empty` or `closed`, and nobody waits on it for ever.
//!
//! Many writers, one reader; what was put in first comes out first. Bytes are what the writer says that an item weighs: an estimate
//! is enough, as it bounds memory and nothing else. An item that alone weighs more than the whole queue bears is taken when the queue
//! has no other, so that nothing can wait for room that never comes.
//!
//! The product's queues (`items` and `bytes` bound each; what waits beside them is bounded by what is named last):
//!
//! | queue | owner | writers | when it is full | when nothing comes |
//! |---|---|---|---|---|
//! | frames to a peer | `frames.rs` | `Link`, `Session`: `try_push` | the session is given up, as its peer does not read | writing ends with the session |
//! | batches of a kind | `ProbeSupervisor` | `Agent`, by the mailbox: `try_send` of tokio's channel, as windows bound the bytes | the batch is `not-probed: local-limit` | the prober idles |
//! | requests to the store | `store/thread.rs` | `Coordinator`, maps: `try_push` | kept by the coordinator, at most one a lease and report; a tally is counted again | the thread idles |
//! | answers of the store | `store/thread.rs` | the store's thread: `push` | the thread waits, then gives up and ends | the coordinator idles |
//! | looks at the store | `store/thread.rs` | reports: `push` | whoever looks waits, then is told | the reader idles |
//! | questions about maps | `maps/mod.rs` | pages and API: `push` | whoever asks waits, then is told | the thread counts on, then idles |
//! | events of scans | `actors/coordinator.rs` | `Coordinator`: `push` | no further answer of the store is taken; then the coordinator ends | the follower goes on with its timers |
//! | mailboxes | each actor | actors: awaited `send`, one under way each | the sender waits, as it would for the answer | the actor idles |
//! | batches of an engine's thread | `probe/engine` | its supervisor: `try_send` of tokio's channel, as windows bound the bytes | the batch is `not-probed: local-limit` | the thread waits for its sockets |
//! | orders of an engine's thread | `probe/engine` | its supervisor: awaited, one under way | the supervisor waits, as it would for the answer | likewise |
//! | settled probes of an engine | `probe/engine` | its threads: `try_reserve` | they gather in the thread, as many as are in flight | the supervisor idles |
//!
//! Mailboxes, and what an engine's threads are given, are waited for without a time: sender and receiver are of one process, so what such a
//! time found would be a process that was stopped for a while, and that goes on where it was.
//!
//! Standard output and the result file have no queue: whoever follows a scan writes them itself, and asks to be told no faster.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{self, error::TryRecvError, error::TrySendError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::timeout;

/// How much a queue holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// What is in it, for messages: "frames".
    pub of: &'static str,
    /// The most items, at least 1.
    pub items: usize,
    /// The most bytes of all items together, at least 1.
    pub bytes: u32,
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the queue of {} (at most {}, {} bytes)", self.of, self.items, self.bytes)
    }
}

/// Why an item was not put in. It comes back.
#[derive(thiserror::Error)]
pub enum PushError<T> {
    /// There is no room, or was none in time.
    #[error("{0} is full")]
    Full(Bounds, T),
    /// The reader is gone.
    #[error("{0} is closed")]
    Closed(Bounds, T),
}

impl<T> PushError<T> {
    /// The item.
    pub fn into_item(self) -> T {
        match self {
            Self::Full(_, item) | Self::Closed(_, item) => item,
        }
    }

    /// True if there was no room.
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Full(..))
    }
}

impl<T> fmt::Debug for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why nothing was taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PopError {
    /// There is nothing, or was nothing in time.
    #[error("{0} is empty")]
    Empty(Bounds),
    /// There is nothing, and all writers are gone.
    #[error("{0} is closed")]
    Closed(Bounds),
}

/// Makes a queue.
#[must_use]
pub fn bounded<T>(bounds: Bounds) -> (Writer<T>, Reader<T>) {
    let (items, queue) = mpsc::channel(bounds.items.max(1));
    let room = Arc::new(Semaphore::new(bounds.bytes.max(1) as usize));
    (Writer { items, room: Arc::clone(&room), bounds }, Reader { items: queue, room, bounds })
}

/// Puts items in. Cheap to clone.
pub struct Writer<T> {
    items: mpsc::Sender<(T, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    bounds: Bounds,
}

impl<T> Clone for Writer<T> {
    fn clone(&self) -> Self {
        Self { items: self.items.clone(), room: Arc::clone(&self.room), bounds: self.bounds }
    }
}

impl<T> Writer<T> {
    /// Puts an item in that weighs `bytes`, if there is room now.
    ///
    /// # Errors
    /// [`PushError::Full`] or [`PushError::Closed`], with the item.
    pub fn try_push(&self, item: T, bytes: usize) -> Result<(), PushError<T>> {
        let room = match Arc::clone(&self.room).try_acquire_many_owned(self.weight(bytes)) {
            Ok(room) => room,
            Err(TryAcquireError::NoPermits) => return Err(PushError::Full(self.bounds, item)),
            Err(TryAcquireError::Closed) => return Err(PushError::Closed(self.bounds, item)),
        };
        self.items.try_send((item, room)).map_err(|error| match error {
            TrySendError::Full((item, _)) => PushError::Full(self.bounds, item),
            TrySendError::Closed((item, _)) => PushError::Closed(self.bounds, item),
        })
    }

    /// Puts an item in that weighs `bytes`; waits for room at most `within`. Writers get room in the order in which they came.
    ///
    /// # Errors
    /// [`PushError::Full`] if there was no room in time, or [`PushError::Closed`], with the item.
    pub async fn push(&self, item: T, bytes: usize, within: Duration) -> Result<(), PushError<T>> {
        let weight = self.weight(bytes);
        let place = async {
            let room = Arc::clone(&self.room).acquire_many_owned(weight).await.ok()?;
            Some((self.items.reserve().await.ok()?, room))
        };
        match timeout(within, place).await {
            Ok(Some((place, room))) => {
                place.send((item, room));
                Ok(())
            }
            Ok(None) => Err(PushError::Closed(self.bounds, item)),
            Err(_) => Err(PushError::Full(self.bounds, item)),
        }
    }

    /// How many items are in it now, and how many bytes they weigh.
    pub fn depth(&self) -> (usize, usize) {
        let items = self.items.max_capacity() - self.items.capacity();
        (items, (self.bounds.bytes.max(1) as usize).saturating_sub(self.room.available_permits()))
    }

    /// How much the queue holds.
    pub const fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// True once the reader is gone.
    pub fn is_closed(&self) -> bool {
        self.items.is_closed()
    }

    /// At least 1, as every item has some weight, and at most what the queue bears.
    fn weight(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, self.bounds.bytes.max(1))
    }
}

/// Takes items out. When it is dropped, the queue is closed and what is in it is dropped too.
pub struct Reader<T> {
    items: mpsc::Receiver<(T, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    bounds: Bounds,
}

impl<T> Reader<T> {
    /// Takes an item out, if there is one now.
    ///
    /// # Errors
    /// [`PopError::Empty`], or [`PopError::Closed`] once nothing will come.
    pub fn try_pop(&mut self) -> Result<T, PopError> {
        match self.items.try_recv() {
            Ok((item, _room)) => Ok(item),
            Err(TryRecvError::Empty) => Err(PopError::Empty(self.bounds)),
            Err(TryRecvError::Disconnected) => Err(PopError::Closed(self.bounds)),
        }
    }

    /// Takes an item out; waits for one at most `within`. Safe to cancel.
    ///
    /// # Errors
    /// [`PopError::Empty`] if none came in time, or [`PopError::Closed`].
    pub async fn pop(&mut self, within: Duration) -> Result<T, PopError> {
        match timeout(within, self.items.recv()).await {
            Ok(Some((item, _room))) => Ok(item),
            Ok(None) => Err(PopError::Closed(self.bounds)),
            Err(_) => Err(PopError::Empty(self.bounds)),
        }
    }

    /// The next item, or `None` once nothing will come: for whoever has nothing else to do, or a timer of its own beside it. Safe to
    /// cancel.
    pub async fn next(&mut self) -> Option<T> {
        self.items.recv().await.map(|(item, _room)| item)
    }

    /// As [`next`](Self::next), on a thread of its own.
    ///
    /// # Panics
    /// In an asynchronous context.
    pub fn next_blocking(&mut self) -> Option<T> {
        self.items.blocking_recv().map(|(item, _room)| item)
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        // Whoever waits for room learns that there will be none.
        self.room.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { of: "numbers", items: 3, bytes: 100 };
    const SECOND: Duration = Duration::from_secs(1);

    /// A queue that holds three items.
    fn full() -> (Writer<u32>, Reader<u32>) {
        let (writer, reader) = bounded(BOUNDS);
        for number in 1..=3 {
            writer.try_push(number, 1).unwrap();
        }
        (writer, reader)
    }

    #[tokio::test(start_paused = true)]
    async fn full_and_try_is_told_and_the_item_comes_back() {
        let (writer, mut reader) = full();
        assert_eq!(writer.depth(), (3, 3));
        let refused = writer.try_push(4, 1).unwrap_err();
        assert_eq!(refused.to_string(), "the queue of numbers (at most 3, 100 bytes) is full");
        assert_eq!((refused.is_full(), refused.into_item()), (true, 4));
        assert_eq!(reader.try_pop(), Ok(1));
        writer.try_push(4, 1).unwrap();
        for number in 2..=4 {
            assert_eq!(reader.try_pop(), Ok(number), "in order, and nothing is lost");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn full_and_wait_goes_on_as_soon_as_there_is_room() {
        let (writer, mut reader) = full();
        let reading = async {
            tokio::time::sleep(SECOND).await;
            reader.try_pop()
        };
        let waiting = timeout(SECOND * 2, writer.push(4, 1, SECOND * 60));
        let (pushed, popped) = tokio::join!(waiting, reading);
        pushed.expect("as soon as there is room").unwrap();
        assert_eq!(popped, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn full_with_a_timeout_is_told_in_time_and_takes_nothing() {
        let (writer, mut reader) = full();
        let waiting = tokio::spawn({
            let writer = writer.clone();
            async move { writer.push(4, 1, SECOND).await.map_err(PushError::into_item) }
        });
        tokio::time::sleep(SECOND - Duration::from_millis(1)).await;
        assert!(!waiting.is_finished(), "not before its time");
        assert_eq!(waiting.await.unwrap(), Err(4));
        for number in 1..=3 {
            assert_eq!(reader.try_pop(), Ok(number));
        }
        assert_eq!(reader.try_pop(), Err(PopError::Empty(BOUNDS)), "what was given up is not in it");
        writer.try_push(5, 100).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn empty_with_a_timeout_is_told_and_differs_from_closed() {
        let (writer, mut reader) = bounded::<u32>(BOUNDS);
        assert_eq!(reader.pop(SECOND).await, Err(PopError::Empty(BOUNDS)));
        assert_eq!(reader.try_pop().unwrap_err().to_string(), "the queue of numbers (at most 3, 100 bytes) is empty");
        writer.try_push(1, 1).unwrap();
        drop(writer);
        assert_eq!(reader.pop(SECOND).await, Ok(1), "what was put in comes out after the writers are gone");
        assert_eq!(reader.pop(SECOND).await, Err(PopError::Closed(BOUNDS)));
        assert_eq!(reader.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_goes_wakes_whoever_waits_and_says_closed() {
        for bytes in [1, 100] {
            let (writer, reader) = full();
            let waiting = writer.push(4, bytes, SECOND * 60);
            let leaving = async {
                tokio::task::yield_now().await;
                drop(reader);
            };
            let (pushed, ()) = tokio::join!(waiting, leaving);
            assert!(matches!(pushed, Err(PushError::Closed(_, 4))), "{pushed:?}");
            assert!(writer.is_closed() && matches!(writer.try_push(5, 1), Err(PushError::Closed(_, 5))));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_writers_lose_nothing_and_each_keeps_its_order() {
        const WRITERS: u32 = 50;
        const EACH: u32 = 40;
        let (writer, mut reader) = bounded(Bounds { of: "numbers", items: 7, bytes: 64 });
        for name in 0..WRITERS {
            let writer = writer.clone();
            tokio::spawn(async move {
                for number in 0..EACH {
                    writer.push((name, number), 1 + number as usize % 30, SECOND * 3_600).await.unwrap();
                }
            });
        }
        drop(writer);
        let mut next = [0; WRITERS as usize];
        while let Some((name, number)) = reader.next().await {
            assert_eq!(number, next[name as usize]);
            next[name as usize] += 1;
        }
        assert_eq!(next, [EACH; WRITERS as usize]);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_bound_it_too_and_what_is_too_large_is_taken_alone() {
        let (writer, mut reader) = bounded(BOUNDS);
        writer.try_push(1, 60).unwrap();
        assert!(writer.try_push(2, 60).unwrap_err().is_full(), "two fit by number and not by bytes");
        writer.try_push(3, 40).unwrap();
        assert!(writer.push(4, usize::MAX, SECOND).await.unwrap_err().is_full());
        assert_eq!((reader.try_pop(), reader.try_pop()), (Ok(1), Ok(3)));
        writer.try_push(4, usize::MAX).unwrap();
        assert!(writer.try_push(5, 0).unwrap_err().is_full());
        assert_eq!(reader.try_pop(), Ok(4));
    }
}
