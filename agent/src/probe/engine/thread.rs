//! The loop of an engine's thread: begin flights, hear answers, give up what is due, tell what is settled.
//!
//! It begins few at a time and listens in between: the answers of a long burst would be lost before they are heard.
//!
//! What is overdue gives its place in the window to another, and is listened for until its time is over, while there are sockets to do so:
//! then those that are overdue longest are given up first, but none before the least that it is listened for.

use super::wheel::Wheel;
use super::{Answer, Means, Name, NewOrders, Up};
use crate::probe::errno;
use crate::probe::pressure::{Pressure, Turned};
use crate::scope::Admission;
use agent_core::attempt::{Batch, Probe, ProbeId, Settled};
use agent_core::round_trip::Wait;
use protocol::probe::{Cause, Outcome};
use protocol::time::Time;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{TryRecvError, TrySendError};

/// What an event of the waking descriptor carries; no way of asking has so many.
const WAKE: u64 = u64::MAX;
/// So many are begun before it listens again.
const BEGUN_AT_ONCE: usize = 32;
/// So many events are taken at once.
const EVENTS_MAX: usize = 256;
/// So many outcomes are worth a message.
const FLUSH_AT: usize = 64;
/// So long an outcome waits for others.
const FLUSH_AFTER: Duration = Duration::from_millis(4);
/// The most outcomes of one message.
const SETTLED_MAX: usize = 1_024;
/// The most outcomes that wait for the supervisor before nothing more is begun.
const HELD_MAX: usize = 16_384;
/// The most probes that wait here for their turn before batches are left in the queue.
const WAITING_MAX: usize = 65_536;
/// How long it sleeps while the supervisor's queue is full.
const FULL_WAIT: Duration = Duration::from_millis(2);
/// How often a probe is begun that panics.
const TRIES: u8 = 2;

/// What a thread takes in.
pub(super) struct Inbox {
    pub(super) batches: mpsc::Receiver<Batch>,
    pub(super) orders: mpsc::Receiver<NewOrders>,
    pub(super) wake: Arc<OwnedFd>,
}

/// A probe that waits for its turn, or its time.
struct Waiting {
    probe: Probe,
    right_ends_at: Time,
    turned: Turned,
    panics: u8,
}

/// A probe in the air, or one that this machine would not send and that is tried again when it is due.
struct Flight {
    waiting: Waiting,
    /// What it was sent by; `None` for one that was turned away.
    way: Option<u32>,
    /// Not after it was sent.
    sent_at: Time,
    /// When to look at it next: it is overdue, or may be given up, or is over.
    due_at: Time,
    /// When its socket may go to another, and when its time is over.
    least_at: Time,
    over_at: Time,
    overdue: bool,
}

/// How many flights a thread has at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    in_flight: usize,
    /// With those that are overdue.
    with_overdue: usize,
}

impl Room {
    /// Room for so many in flight, at least one, and so many more that are overdue.
    pub(super) fn new(in_flight: usize, overdue: usize) -> Self {
        let in_flight = in_flight.max(1);
        Self { in_flight, with_overdue: in_flight + overdue }
    }
}

/// The thread.
pub(super) struct Thread<M> {
    number: usize,
    means: M,
    epoll: OwnedFd,
    inbox: Inbox,
    up: mpsc::Sender<Up>,
    admission: Admission,
    room: Room,
    open: bool,
    waiting: VecDeque<Waiting>,
    flights: Flights,
    wheel: Wheel<Name>,
    /// Whether nothing was left to be heard when it listened last.
    all_heard: bool,
    /// What is overdue and may be given up, longest first, and names that mean nothing any more.
    listened: VecDeque<Name>,
    pressure: Pressure,
    overdue: Vec<ProbeId>,
    held: Vec<Settled>,
    held_since: Option<Time>,
}

/// Says that the thread died, if it did.
struct Obituary(mpsc::Sender<Up>);

impl Drop for Obituary {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // An error means that nobody is there who would miss it.
            let _ = self.0.blocking_send(Up::Died);
        }
    }
}

impl<M: Means> Thread<M> {
    pub(super) fn new(
        number: usize,
        means: M,
        admission: Admission,
        room: Room,
        inbox: Inbox,
        up: mpsc::Sender<Up>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &inbox.wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        let wheel = Wheel::new(admission.clock().now());
        Ok(Self {
            number,
            means,
            epoll,
            inbox,
            up,
            admission,
            room,
            open: true,
            waiting: VecDeque::new(),
            flights: Flights::default(),
            wheel,
            all_heard: false,
            listened: VecDeque::new(),
            pressure: Pressure::default(),
            overdue: Vec::new(),
            held: Vec::new(),
            held_since: None,
        })
    }

    /// Runs until the supervisor lets go and everything is settled and told, or nobody is there to be told.
    pub(super) fn run(mut self) {
        let _obituary = Obituary(self.up.clone());
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let (mut answers, mut due) = (Vec::new(), Vec::new());
        loop {
            self.take_in();
            for _ in 0..BEGUN_AT_ONCE {
                if !self.can_begin() {
                    break;
                }
                let Some(next) = self.waiting.pop_front() else { break };
                self.begin(next);
            }
            if !self.flush() || (!self.open && self.is_done()) {
                return;
            }
            events.clear();
            let listened_at = self.admission.clock().now();
            // An error: interrupted by a signal. Nothing came.
            let waited = epoll::wait(&self.epoll, spare_capacity(&mut events), self.sleep().as_ref());
            self.all_heard = waited.is_ok() && events.len() < EVENTS_MAX;
            for event in &events {
                self.hear(event.data.u64(), &mut answers);
            }
            // By the time when it began to listen: whoever stood still since then has not heard what came meanwhile.
            self.wheel.expire(listened_at, &mut due);
            for name in due.drain(..) {
                self.is_due(name, listened_at);
            }
        }
    }

    fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.flights.is_empty() && self.held.is_empty()
    }

    fn can_begin(&self) -> bool {
        let has_room = self.flights.len() < self.room.with_overdue || !self.listened.is_empty();
        let may_fly = has_room && self.flights.in_flight() < self.room.in_flight;
        !self.waiting.is_empty() && may_fly && self.held.len() < HELD_MAX
    }

    /// How long there is nothing to do: not at all, or until the next turn of the wheel, or for ever.
    fn sleep(&self) -> Option<Timespec> {
        let wait = if self.can_begin() {
            Duration::ZERO
        } else if !self.held.is_empty() || !self.overdue.is_empty() {
            FULL_WAIT
        } else if !self.wheel.is_empty() {
            super::wheel::TICK
        } else {
            return None;
        };
        Some(Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) })
    }

    /// Takes in orders first, so that they hold for every batch that comes after them.
    fn take_in(&mut self) {
        while let Ok((orders, acknowledge)) = self.inbox.orders.try_recv() {
            if self.open {
                self.admission.set_orders(orders);
            }
            let _nobody_waits = acknowledge.send(());
        }
        while self.open && self.waiting.len() < WAITING_MAX {
            match self.inbox.batches.try_recv() {
                Ok(Batch { right_ends_at, probes, .. }) => {
                    let waiting = |probe| Waiting { probe, right_ends_at, turned: Turned::default(), panics: 0 };
                    self.waiting.extend(probes.into_iter().map(waiting));
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => self.let_go(),
            }
        }
    }

    /// Nothing is sent any more: what waits hears it at once.
    fn let_go(&mut self) {
        self.open = false;
        self.admission.stop();
        let mut waiting: Vec<_> = self.waiting.drain(..).collect();
        waiting.extend(self.flights.take_turned_away());
        for waiting in waiting {
            let outcome =
                match self.admission.admit(waiting.probe.scan, waiting.probe.target.address, waiting.right_ends_at) {
                    Err(refusal) => refusal.outcome(),
                    Ok(_) => Outcome::not_probed(Cause::Interrupted),
                };
            self.settle(&waiting.probe, outcome, None);
        }
    }

    /// Begins a flight, if this machine lets it.
    fn begin(&mut self, waiting: Waiting) {
        let probe = waiting.probe;
        let now = self.admission.clock().now();
        if self.flights.len() >= self.room.with_overdue && !self.give_up_oldest() {
            return self.waiting.push_front(waiting);
        }
        let ready = loop {
            match catch_unwind(AssertUnwindSafe(|| self.means.ready(&self.epoll, &probe))) {
                // What lacks a descriptor takes one from what is only listened for.
                Ok(Err(error)) if errno::is_want_of_descriptors(&error) && self.give_up_oldest() => {}
                Ok(ready) => break ready,
                Err(_) => return self.panicked(waiting),
            }
        };
        let admitted = match self.admission.admit(probe.scan, probe.target.address, waiting.right_ends_at) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                if let Ok(way) = ready {
                    self.means.release(way);
                }
                return self.settle(&probe, refusal.outcome(), None);
            }
        };
        let name = self.flights.next_name();
        let sent = ready.and_then(|way| {
            let sent = catch_unwind(AssertUnwindSafe(|| self.means.send(way, name, &probe, &admitted)));
            match sent {
                Ok(sent) => sent.map(|()| Some(way)),
                Err(_) => {
                    self.means.mend(Some(way), None);
                    Ok(None)
                }
            }
        });
        match sent {
            Ok(Some(way)) => {
                self.pressure.sent();
                // The clock again: between the first look at it and the send this process may have stood still.
                let sent_by = self.admission.clock().now();
                let Wait { overdue, least, timeout } = probe.wait;
                let (due_at, over_at) = (sent_by + overdue.min(timeout), sent_by + timeout);
                let least_at = sent_by + least.min(timeout);
                let way = Some(way);
                self.flights.put(Flight { waiting, way, sent_at: now, due_at, least_at, over_at, overdue: false });
                self.wheel.insert(due_at, name);
            }
            Ok(None) => self.panicked(waiting),
            Err(error) => {
                let Waiting { mut turned, .. } = waiting;
                let why = errno::local(&error);
                match self.pressure.turned_away(now, why, &mut turned, &admitted) {
                    Ok(wait) => {
                        let (waiting, at) = (Waiting { turned, ..waiting }, now + wait);
                        self.flights.put(Flight {
                            waiting,
                            way: None,
                            sent_at: now,
                            due_at: at,
                            least_at: at,
                            over_at: at,
                            overdue: false,
                        });
                        self.wheel.insert(at, name);
                    }
                    Err(cause) => self.settle(&probe, Outcome::not_probed(cause), None),
                }
            }
        }
    }

    fn hear(&mut self, token: u64, answers: &mut Vec<Answer>) {
        if token == WAKE {
            let _ = rustix::io::read(&self.inbox.wake, &mut [0_u8; 8]);
            return;
        }
        if catch_unwind(AssertUnwindSafe(|| self.means.hear(token, answers))).is_err()
            && let Some(flight) = self.means.mend(None, Some(token)).and_then(|name| self.flights.take(name))
        {
            self.panicked(flight.waiting);
        }
        let now = self.admission.clock().now();
        for Answer { name, outcome } in answers.drain(..) {
            // E3: an answer to a flight that is no more names nobody.
            let Some(flight) = self.flights.take(name) else { continue };
            let answered = outcome.is_probed() && !outcome.is_silence();
            let rtt = answered.then(|| now.since(flight.sent_at));
            self.settle(&flight.waiting.probe, outcome, rtt);
        }
    }

    /// The wheel names a flight: by `now` it is over, or overdue, or not yet, or was answered long ago.
    fn is_due(&mut self, name: Name, now: Time) {
        let Some(flight) = self.flights.get(name) else { return };
        let (due_at, least_at, over_at) = (flight.due_at, flight.least_at, flight.over_at);
        if due_at > now {
            return self.wheel.insert(due_at, name);
        }
        if over_at <= now {
            return self.give_up(name);
        }
        let may_be_given_up = least_at <= now;
        let next_at = if may_be_given_up { over_at } else { least_at };
        self.overdue.extend(self.flights.overdue(name, next_at));
        if may_be_given_up {
            self.listened.push_back(name);
        }
        self.wheel.insert(next_at, name);
    }

    /// Gives up what may be given up longest. False if nothing may.
    fn give_up_oldest(&mut self) -> bool {
        while let Some(name) = self.listened.pop_front() {
            if self.flights.get(name).is_some() {
                self.give_up(name);
                return true;
            }
        }
        false
    }

    fn give_up(&mut self, name: Name) {
        let Some(flight) = self.flights.take(name) else { return };
        while self.listened.front().is_some_and(|&name| self.flights.get(name).is_none()) {
            self.listened.pop_front();
        }
        let Some(way) = flight.way else { return self.waiting.push_front(flight.waiting) };
        let probe = flight.waiting.probe;
        match catch_unwind(AssertUnwindSafe(|| self.means.give_up(way, name, &probe, self.all_heard))) {
            Ok(outcome) => self.settle(&probe, outcome, None),
            Err(_) => {
                self.means.mend(Some(way), None);
                self.panicked(flight.waiting);
            }
        }
    }

    /// E4: once more, or never again.
    fn panicked(&mut self, waiting: Waiting) {
        tracing::error!(target = %waiting.probe.target, "a probe panicked");
        let panics = waiting.panics + 1;
        if panics < TRIES && self.open {
            self.waiting.push_front(Waiting { panics, ..waiting });
        } else {
            self.settle(&waiting.probe, Outcome::not_probed(Cause::InternalError), None);
        }
    }

    fn settle(&mut self, probe: &Probe, outcome: Outcome, rtt: Option<Duration>) {
        self.held.push(Settled { id: probe.id, outcome, rtt });
    }

    /// Tells what is settled if it is worth a message, or old, or nothing else is to be done. False if nobody listens.
    fn flush(&mut self) -> bool {
        if self.held.is_empty() && self.overdue.is_empty() {
            return !self.up.is_closed();
        }
        let now = self.admission.clock().now();
        let since = *self.held_since.get_or_insert(now);
        if self.held.len() + self.overdue.len() < FLUSH_AT && self.can_begin() && now.since(since) < FLUSH_AFTER {
            return true;
        }
        while !self.held.is_empty() || !self.overdue.is_empty() {
            match self.up.try_reserve() {
                Ok(room) => {
                    let settled = self.held.drain(..self.held.len().min(SETTLED_MAX)).collect();
                    let overdue = std::mem::take(&mut self.overdue);
                    room.send(Up::Settled { thread: self.number, overdue, settled });
                    self.held_since = None;
                }
                Err(TrySendError::Full(())) => return true,
                Err(TrySendError::Closed(())) => return false,
            }
        }
        true
    }
}

/// Flights by name.
#[derive(Default)]
struct Flights {
    places: Vec<(u32, Option<Flight>)>,
    free: Vec<u32>,
    len: usize,
    overdue: usize,
}

impl Flights {
    fn len(&self) -> usize {
        self.len
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many are not overdue.
    fn in_flight(&self) -> usize {
        self.len - self.overdue
    }

    /// A flight is overdue, and to be looked at next at `next_at`: whose it is, if it was not before.
    fn overdue(&mut self, name: Name, next_at: Time) -> Option<ProbeId> {
        let (_, flight) =
            self.places.get_mut(name.place as usize).filter(|(generation, _)| *generation == name.generation)?;
        let flight = flight.as_mut()?;
        flight.due_at = next_at;
        let before = std::mem::replace(&mut flight.overdue, true);
        self.overdue += usize::from(!before);
        (!before).then_some(flight.waiting.probe.id)
    }

    /// The name of the flight that is put next.
    fn next_name(&mut self) -> Name {
        if self.free.is_empty() {
            self.free.push(self.places.len() as u32);
            self.places.push((0, None));
        }
        let place = self.free[self.free.len() - 1];
        Name { place, generation: self.places[place as usize].0 }
    }

    fn put(&mut self, flight: Flight) {
        let name = self.next_name();
        self.free.pop();
        self.places[name.place as usize].1 = Some(flight);
        self.len += 1;
    }

    fn get(&self, name: Name) -> Option<&Flight> {
        self.places.get(name.place as usize).filter(|(generation, _)| *generation == name.generation)?.1.as_ref()
    }

    fn take(&mut self, name: Name) -> Option<Flight> {
        let (generation, flight) =
            self.places.get_mut(name.place as usize).filter(|(generation, _)| *generation == name.generation)?;
        let flight = flight.take()?;
        *generation = generation.wrapping_add(1);
        self.free.push(name.place);
        self.len -= 1;
        self.overdue -= usize::from(flight.overdue);
        Some(flight)
    }

    /// Takes out those that this machine would not send.
    fn take_turned_away(&mut self) -> Vec<Waiting> {
        let turned_away = |(place, (generation, flight)): (usize, &(u32, Option<Flight>))| {
            let name = Name { place: place as u32, generation: *generation };
            flight.as_ref().is_some_and(|flight| flight.way.is_none()).then_some(name)
        };
        let names: Vec<_> = self.places.iter().enumerate().filter_map(turned_away).collect();
        names.into_iter().filter_map(|name| self.take(name)).map(|flight| flight.waiting).collect()
    }
}
