//! Engines: threads of their own that make probes by the thousand, without a task or a message for each.
//!
//! - In: [`Batch`]es and orders, through [`Hands`], which the supervisor holds. A batch goes to the thread with the least in hand.
//! - Out: settled probes, in batches, through a bounded channel; each probe that was handed in is in exactly one, exactly once.
//! - Between them is one [`thread`] loop for all ways of asking ([`Means`]): connects and echo requests differ in what they send and
//!   in what they hear only.
//! - E1: each send is admitted just before it, by the thread's own [`Admission`].
//! - E2: orders that were answered are in force on every thread.
//! - E3: an answer counts for the flight that it belongs to: what arrives for a former one is told apart.
//! - E4: a probe that panics is begun once more, then it is `not-probed: internal-error`; the others go on.
//! - Death: a thread that dies nevertheless says so ([`Up::Died`]), and the supervisor ends with it.
//!
//! Linux only (epoll); elsewhere [`ConnectProber`](super::ConnectProber) does the same, slower.

mod connects;
mod thread;
mod wheel;

use super::icmp::Echoes;
use crate::scope::{Admission, Orders};
use agent_core::attempt::{Batch, Probe, ProbeId, Settled};
use protocol::probe::Outcome;
use rustix::event::{EventfdFlags, eventfd};
use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::scope::Admitted;
use connects::Connects;
pub use connects::Sockets;

/// How many batches may wait for a thread. An owner that keeps its windows never has so many here.
const BATCHES_MAX: usize = 1_024;
/// How many changes of orders may wait for a thread: the supervisor awaits each.
const ORDERS_MAX: usize = 1;
/// How many messages with settled probes may wait for the supervisor; then they gather in the thread.
const UP_MAX: usize = 256;
/// More threads than this gain nothing: the rest of the agent is one.
const THREADS_MAX: usize = 4;

/// What is asked by, before it runs.
#[derive(Clone, Copy, Debug)]
pub struct Engine {
    asks: Asks,
    threads: usize,
    listening: usize,
}

#[derive(Clone, Copy, Debug)]
enum Asks {
    Connects(Sockets),
    /// With the nonce that tells its requests from others'.
    Echoes(u64),
}

impl Engine {
    /// Asks ports by connecting to them, on as many threads as this machine runs at once, at most four.
    #[must_use]
    pub fn connects(sockets: Sockets) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        Self { asks: Asks::Connects(sockets), threads, listening: 0 }
    }

    /// Asks hosts for life by ICMP echo requests, on one thread. `nonce` is to be drawn at random: it tells its requests from those of
    /// everybody else.
    #[must_use]
    pub const fn echoes(nonce: u64) -> Self {
        Self { asks: Asks::Echoes(nonce), threads: 1, listening: Echoes::LISTENING }
    }

    /// How many probes it can have in flight, whatever its owner would like. `None` for no bound of its own.
    pub(super) fn in_flight_max(&self) -> Option<usize> {
        match self.asks {
            Asks::Connects(_) => None,
            Asks::Echoes(_) => Some(Echoes::in_flight_max()),
        }
    }

    /// On so many threads, at least one.
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        Self { threads: threads.max(1), ..self }
    }

    /// With room for so many beyond those in flight, to listen for what is overdue. Without, overdue probes are listened for while
    /// nothing else wants their sockets.
    #[must_use]
    pub fn listening(self, listening: u32) -> Self {
        Self { listening: listening as usize, ..self }
    }

    /// Starts its threads, with at most `in_flight_max` probes in flight over all of them.
    ///
    /// # Errors
    /// If this machine gives no thread, or no descriptors for what wakes them.
    pub(crate) fn start(self, admission: &Admission, in_flight_max: usize) -> io::Result<(Hands, mpsc::Receiver<Up>)> {
        let threads = self.threads.min(in_flight_max).max(1);
        let room = thread::Room::new(in_flight_max / threads, self.listening / threads);
        let (up, settled) = mpsc::channel(UP_MAX);
        let mut hands = Vec::with_capacity(threads);
        for number in 0..threads {
            let (admission, up) = (admission.for_another_thread(), up.clone());
            hands.push(match self.asks {
                Asks::Connects(sockets) => spawn(number, Connects::new(sockets), admission, room, up)?,
                Asks::Echoes(nonce) => spawn(number, Echoes::new(nonce), admission, room, up)?,
            });
        }
        Ok((Hands(hands), settled))
    }
}

fn spawn<M: Means + Send + 'static>(
    number: usize,
    means: M,
    admission: Admission,
    room: thread::Room,
    up: mpsc::Sender<Up>,
) -> io::Result<Hand> {
    let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let (batches, batches_of_thread) = mpsc::channel(BATCHES_MAX);
    let (orders, orders_of_thread) = mpsc::channel(ORDERS_MAX);
    let inbox = thread::Inbox { batches: batches_of_thread, orders: orders_of_thread, wake: Arc::clone(&wake) };
    let thread = thread::Thread::new(number, means, admission, room, inbox, up)?;
    std::thread::Builder::new().name(format!("probes-{number}")).spawn(move || thread.run())?;
    Ok(Hand { batches, orders, in_hand: Rc::new(Cell::new(0)), wake: Wake(wake) })
}

/// From an engine's thread to its supervisor.
#[derive(Debug)]
pub(crate) enum Up {
    /// What became of probes.
    Settled {
        /// Which thread had them.
        thread: usize,
        /// Which are overdue, and listened for still: told before they settle.
        overdue: Vec<ProbeId>,
        /// The probes.
        settled: Vec<Settled>,
    },
    /// A thread is no more. What it had in hand is lost.
    Died,
}

/// New orders, and where to say that they are in force.
type NewOrders = (Arc<Orders>, oneshot::Sender<()>);

/// The supervisor's end of its engine. Dropping it lets the threads end: what is not sent settles as interrupted, what is in flight
/// ends first.
#[derive(Debug)]
pub(crate) struct Hands(Vec<Hand>);

#[derive(Debug)]
struct Hand {
    batches: mpsc::Sender<Batch>,
    orders: mpsc::Sender<NewOrders>,
    in_hand: Rc<Cell<usize>>,
    // Last: the thread is woken when the channels are closed.
    wake: Wake,
}

/// What wakes a thread; once more when it is dropped.
#[derive(Debug)]
struct Wake(Arc<OwnedFd>);

impl Wake {
    fn wake(&self) {
        // Fails only if it is full, and then the thread wakes anyway.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        self.wake();
    }
}

impl Hands {
    /// Hands a batch to the thread with the least in hand.
    pub(crate) fn run(&self, batch: Batch) -> Result<(), TrySendError<Batch>> {
        let Some(hand) = self.0.iter().min_by_key(|hand| hand.in_hand.get()) else {
            return Err(TrySendError::Closed(batch));
        };
        let probes = batch.probes.len();
        hand.batches.try_send(batch)?;
        hand.in_hand.set(hand.in_hand.get() + probes);
        hand.wake.wake();
        Ok(())
    }

    /// What counts off what comes back.
    pub(crate) fn in_hand(&self) -> InHand {
        InHand(self.0.iter().map(|hand| Rc::clone(&hand.in_hand)).collect())
    }

    /// Sends orders to every thread. What comes out resolves once they are in force on all that live. One at a time, so that newer ones
    /// do not overtake.
    pub(crate) fn set_orders(&self, orders: &Arc<Orders>) -> impl Future<Output = ()> + use<> {
        let orders = Arc::clone(orders);
        let lines: Vec<_> = self.0.iter().map(|hand| (hand.orders.clone(), Arc::clone(&hand.wake.0))).collect();
        async move {
            let mut acknowledged = Vec::with_capacity(lines.len());
            for (line, wake) in lines {
                let (acknowledge, in_force) = oneshot::channel();
                let _ = line.send((Arc::clone(&orders), acknowledge)).await;
                let _ = rustix::io::write(&wake, &1_u64.to_ne_bytes());
                acknowledged.push(in_force);
            }
            for in_force in acknowledged {
                // An error means that the thread is gone: it sends nothing any more.
                let _ = in_force.await;
            }
        }
    }
}

/// How much is with which thread.
pub(crate) struct InHand(Vec<Rc<Cell<usize>>>);

impl InHand {
    /// So many came back from a thread.
    pub(crate) fn came_back(&self, thread: usize, probes: usize) {
        if let Some(in_hand) = self.0.get(thread) {
            in_hand.set(in_hand.get().saturating_sub(probes));
        }
    }
}

/// A flight's name: a place, and how often it was used before. No two flights of a thread share one within 2^32 uses of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) place: u32,
    pub(super) generation: u32,
}

/// What a flight was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) name: Name,
    pub(super) outcome: Outcome,
}

/// A way of asking, on one thread. It decides nothing: it sends, hears, and reads what came.
pub(super) trait Means {
    /// Gets ready to send to a target, so that nothing but the send itself follows the admission: what it is sent by.
    fn ready(&mut self, epoll: &OwnedFd, probe: &Probe) -> io::Result<u32>;

    /// Sends. The only place that does: it uses up one admission. On an error nothing was sent, and `way` is free again.
    fn send(&mut self, way: u32, name: Name, probe: &Probe, admitted: &Admitted) -> io::Result<()>;

    /// Reads what `token` says is there.
    fn hear(&mut self, token: u64, answers: &mut Vec<Answer>);

    /// The flight's time is over: `way` is free again. If not `all_heard`, an answer may be there that was not heard: it is looked for.
    fn give_up(&mut self, way: u32, name: Name, probe: &Probe, all_heard: bool) -> Outcome;

    /// `way` is not used after all.
    fn release(&mut self, way: u32);

    /// A call panicked over this flight, or over this event: what may be broken is closed. Whose flight it was, if that is known.
    fn mend(&mut self, way: Option<u32>, token: Option<u64>) -> Option<Name>;
}

#[cfg(test)]
mod tests;
