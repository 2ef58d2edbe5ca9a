//! What is known of the hosts that are being probed: how many probes are in flight to each, and how many there may be.
//!
//! - H1: no more is in flight to a host than its window: at first as many as the scan's options say. A host that never answered
//!   doubles it whenever a whole window timed out, up to [`WINDOW_MAX`]; the first answer takes it back, and from then on it follows the
//!   [law](crate::window), if the scan lets it, until the host is gone.
//! - H2: where the scan has a rate per host, no more is sent to it than that, and one burst.
//! - H3: whoever was put aside for want of room is woken when there may be room again.
//! - H4: it remembers at most [`HOSTS_MAX`] hosts. Where there are many, it forgets those that have nothing in flight or put aside
//!   and whose pacer is full: their window begins anew, their rate is kept.
//! - H5: what is overdue is in flight no longer, and is not counted again when it comes back. How long a try waits follows the round
//!   trips that were measured of its host, else of its neighbours (see [`round_trip`](crate::round_trip)).
//! - H6: of the first tries at a host that answers every [`SAMPLED`]th is in a sample; if it is silent it is repeated at once, to measure the loss.
//!   If its answer comes late after all, it was not lost, whatever the repeat says.
//! - H7: a host that met its limit is paced by the law; checks are not held back by that, but count.

use crate::attempt::Why;
use crate::pacer::Pacer;
use crate::round_trip::{Neighbourhood, RoundTrip, WAIT_MIN, Wait};
use crate::window::Window;
use protocol::message::{Checks, ProbeOptions};
use protocol::probe::{Outcome, Slot, Target};
use protocol::rate::Rate;
use protocol::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// The largest window of a host that never answered: 65,535 silent ports take it a minute, and not eight.
pub const WINDOW_MAX: u32 = 1_024;
/// The most hosts that are remembered: more than can be in flight.
pub const HOSTS_MAX: usize = 65_536;
/// With fewer hosts it is not worth the while to forget some.
const FORGET_FROM: usize = 16_384;
/// How long a full table is left alone before it is looked through again.
const FULL_FOR: Duration = Duration::from_millis(100);
/// Of a host that answers every so many-th first try is in the sample of which the loss is measured: if it is silent it is repeated at once.
pub const SAMPLED: u32 = 64;
/// So often, until it answers: a repeat is lost as often as a try.
const REPEATS_MAX: u8 = 3;
/// The first tries at a host are listened for as long as may be, whoever wants their sockets: it may be farther than its neighbours.
const FIRST: u32 = 2;
/// Once so many tries were listened for in vain, it is not.
const TOLD: u32 = 32;
/// The most neighbourhoods whose round trips are remembered. Then they are measured anew, which takes one answer each.
const NEIGHBOURHOODS_MAX: usize = 4_096;

/// How a scan treats each host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The window at first.
    pub window: u32,
    /// Packets per second.
    pub rate: Option<Rate>,
    /// Whether the window of a host that answers follows the law.
    pub law: bool,
}

impl From<&ProbeOptions> for Limits {
    fn from(options: &ProbeOptions) -> Self {
        Self { window: options.per_host_window, rate: options.per_host_rate, law: options.law }
    }
}

/// A probe that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Back {
    /// What was asked.
    pub target: Target,
    /// What became of it.
    pub outcome: Outcome,
    /// The time between sending and answer, where there was one.
    pub rtt: Option<Duration>,
    /// Whether it was overdue before: then it was counted out of flight already.
    pub overdue: bool,
    /// Why it was asked.
    pub why: Why,
    /// When it was handed out.
    pub sent_at: Time,
}

/// Something to be asked again, to measure the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Again {
    /// What.
    pub target: Target,
    /// A check or a repeat.
    pub why: Why,
}

/// Whether a probe may go to a host now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It may, and is counted as in flight.
    Taken,
    /// Its host has none.
    Wait,
    /// The table has none for another host.
    TableFull,
}

#[derive(Debug)]
struct Host {
    in_flight: u32,
    /// The window at first, as the last scan that asked has it.
    window: u32,
    doublings: u8,
    answered: bool,
    /// Once it answered, if the scan lets it.
    law: Option<Window>,
    /// Whether the scan lets it.
    lawful: bool,
    /// A port that answered of late, one that refused if there is any: what can be asked again.
    known: Option<(Slot, Outcome)>,
    /// Lost checks since it last answered: they count once it answers again.
    lost: u32,
    /// Tries that were heard late while their repeats are under way.
    heard_late: u32,
    /// First tries that came back or did not, of which every [`SAMPLED`]th is in the sample.
    tries: u32,
    /// How many timed out since the last doubling.
    timed_out: u32,
    /// How many tries were sent to it, and how many of those came back that told nothing of it; both as far as that counts.
    sent: u32,
    told_nothing: u32,
    round_trip: Option<RoundTrip>,
    pacer: Option<Pacer>,
    /// How many were put aside because it had no room.
    aside: u32,
    /// Whether it is in `woken`, and where in `due`.
    woken: bool,
    due_at: Option<Time>,
}

impl Host {
    fn new(limits: Limits) -> Self {
        Self {
            in_flight: 0,
            window: limits.window,
            doublings: 0,
            answered: false,
            law: None,
            lawful: limits.law,
            known: None,
            lost: 0,
            heard_late: 0,
            tries: 0,
            timed_out: 0,
            sent: 0,
            told_nothing: 0,
            round_trip: None,
            pacer: None,
            aside: 0,
            woken: false,
            due_at: None,
        }
    }

    fn cap(&self) -> u32 {
        if let Some(law) = &self.law {
            return law.size();
        }
        let most = self.window.max(WINDOW_MAX);
        self.window.checked_shl(u32::from(self.doublings)).map_or(most, |cap| cap.min(most))
    }

    fn keep_limits(&mut self, now: Time, limits: Limits) {
        (self.window, self.lawful) = (limits.window, limits.law);
        match (limits.rate, &mut self.pacer) {
            (Some(rate), None) => self.pacer = Some(Pacer::new(now, rate)),
            // Of two scans the one that is gentler counts, as long as the host is remembered.
            (Some(rate), Some(pacer)) if rate < pacer.rate() => pacer.set_rate(now, rate),
            _ => {}
        }
    }

    /// What holds it back: the scan's rate, and the law.
    fn pacers(&self) -> impl Iterator<Item = &Pacer> {
        self.pacer.iter().chain(self.law.iter().filter_map(Window::pacer))
    }

    fn is_paced(&self) -> bool {
        self.pacers().next().is_some()
    }

    /// When so many packets may be sent to it; `now` if nothing holds it back.
    fn paced_at(&self, now: Time, cost: u32) -> Option<Time> {
        self.pacers().try_fold(now, |latest, pacer| Some(latest.max(pacer.next_at(cost)?)))
    }

    /// Takes so many packets from all its pacers, or from none.
    fn pace(&mut self, now: Time, limits: Limits, cost: u32, check: bool) -> bool {
        let scans = self.pacer.as_mut().filter(|_| limits.rate.is_some());
        if scans.as_ref().is_some_and(|pacer| !pacer.has(now, cost)) {
            return false;
        }
        let taken = self.law.as_mut().is_none_or(|law| law.take(now, cost, check));
        taken && scans.is_none_or(|pacer| pacer.take(now, cost))
    }

    /// Counts a try of the first pass: whether it is in the sample. What is silent in later passes was silent before, so that it
    /// tells little of the loss.
    fn is_sampled(&mut self) -> bool {
        self.tries = self.tries.wrapping_add(1);
        self.tries.is_multiple_of(SAMPLED)
    }

    /// How long a try waits by what is known of this host.
    fn wait(&self) -> Duration {
        self.round_trip.map_or(WAIT_MIN, |known| known.wait().max(WAIT_MIN))
    }

    /// A try timed out, of a later pass or not. Whether something is to be asked again: this one, if it is in the sample, or something known.
    fn timed_out(&mut self, now: Time, target: Target, sent_at: Time, later: bool) -> Option<Again> {
        let wait = self.wait();
        let sampled = self.law.is_some() && !later && self.is_sampled();
        if let Some(law) = &mut self.law {
            law.now(now, wait);
            law.silent(sent_at);
            if sampled {
                return Some(Again { target, why: Why::Repeat(1) });
            }
            let (known, _) = self.known?;
            let target = Target { slot: known, ..target };
            return law.wants_check(now).then_some(Again { target, why: Why::Check });
        }
        if !self.answered {
            self.timed_out += 1;
            if self.timed_out >= self.cap() {
                self.timed_out = 0;
                self.doublings += u8::from(self.cap() < WINDOW_MAX);
            }
        }
        None
    }

    /// What was asked stayed without answer in time. Whether something is to be asked again.
    fn is_silent(&mut self, now: Time, target: Target, why: Why, sent_at: Time) -> Option<Again> {
        match why {
            Why::Try { again } => self.timed_out(now, target, sent_at, again),
            Why::Check => {
                self.check_timed_out(now);
                None
            }
            Why::Repeat(REPEATS_MAX..) => {
                self.heard_late = self.heard_late.saturating_sub(1);
                None
            }
            Why::Repeat(time) => Some(Again { target, why: Why::Repeat(time + 1) }),
        }
    }

    /// A check timed out.
    fn check_timed_out(&mut self, now: Time) {
        let wait = self.wait();
        let Some(law) = &mut self.law else { return };
        law.now(now, wait);
        law.check_lost();
        if law.is_gone() {
            // What nobody answers any more is like what nobody ever did.
            (self.law, self.answered, self.timed_out) = (None, false, 0);
        }
    }

    /// It answered, in time or late.
    fn shows_life(&mut self, now: Time, back: &Back) {
        if self.law.is_none() && self.lawful {
            self.law = Some(Window::new(now, self.window));
        }
        (self.answered, self.doublings) = (true, 0);
        let wait = self.wait();
        if let (Some(law), false) = (&mut self.law, back.overdue) {
            law.now(now, wait);
            match back.why {
                Why::Check => law.check_answered(now, back.sent_at),
                Why::Try { again } => law.answered(back.sent_at, again),
                Why::Repeat(_) => {}
            }
        }
        let refused = |outcome| outcome == Outcome::CLOSED;
        if matches!(back.target.slot, Slot::Tcp(_))
            && self.known.is_none_or(|(_, known)| refused(back.outcome) || !refused(known))
        {
            self.known = Some((back.target.slot, back.outcome));
        }
    }

    /// Whether it may be forgotten: a new entry would send no earlier.
    fn is_idle(&self, now: Time) -> bool {
        let paced = self.pacer.as_ref().is_some_and(|pacer| pacer.full_at().is_none_or(|at| at > now));
        self.in_flight == 0 && self.aside == 0 && !self.woken && self.due_at.is_none() && !paced
    }
}

/// The hosts.
#[derive(Debug)]
pub struct HostTable {
    hosts: BTreeMap<IpAddr, Host>,
    neighbourhoods: BTreeMap<Neighbourhood, RoundTrip>,
    /// Hosts with something put aside whose pacer will have room.
    due: BTreeSet<(Time, IpAddr)>,
    /// Hosts with something put aside that may have room.
    woken: Vec<IpAddr>,
    /// How many were put aside, over all hosts.
    aside: u64,
    checked: Checks,
    /// What is repeated while it is listened for still, and whether the repeat was answered.
    repeated: BTreeMap<Target, bool>,
    forget_from: usize,
    full_until: Option<Time>,
}

impl Default for HostTable {
    fn default() -> Self {
        Self {
            hosts: BTreeMap::new(),
            neighbourhoods: BTreeMap::new(),
            due: BTreeSet::new(),
            woken: Vec::new(),
            aside: 0,
            checked: Checks::default(),
            repeated: BTreeMap::new(),
            forget_from: FORGET_FROM,
            full_until: None,
        }
    }
}

impl HostTable {
    /// Counts a probe of `cost` packets to a host as in flight, if all hold: 1. the table has room for the host; 2. its window has
    /// room; 3. its pacers have.
    pub fn take(&mut self, now: Time, address: IpAddr, limits: Limits, cost: u32) -> Room {
        self.take_one(now, address, limits, cost, false)
    }

    /// As [`take`](Self::take), for something that is asked again to see whether it is answered: the law's own pacer does not hold it
    /// back.
    pub fn take_check(&mut self, now: Time, address: IpAddr, limits: Limits, cost: u32) -> Room {
        self.take_one(now, address, limits, cost, true)
    }

    fn take_one(&mut self, now: Time, address: IpAddr, limits: Limits, cost: u32, check: bool) -> Room {
        if !self.hosts.contains_key(&address) && !self.make_room(now) {
            return Room::TableFull;
        }
        let host = self.hosts.entry(address).or_insert_with(|| Host::new(limits));
        host.keep_limits(now, limits);
        if host.in_flight >= host.cap() || !host.pace(now, limits, cost, check) {
            return Room::Wait;
        }
        host.in_flight += 1;
        host.sent = host.sent.saturating_add(1);
        // The rest of what waits for this host goes on as soon as its pacers let it; else when something settles.
        if host.aside > 0 && host.is_paced() {
            self.wake_when_paced(now, address, cost);
        }
        Room::Taken
    }

    /// A probe to a host that had no room was put aside: it is woken.
    pub fn put_aside(&mut self, now: Time, address: IpAddr, cost: u32) {
        if let Some(host) = self.hosts.get_mut(&address) {
            host.aside += 1;
            self.aside += 1;
            if host.in_flight < host.cap() {
                self.wake_when_paced(now, address, cost);
            }
        }
    }

    /// So many that were put aside wait no longer: they are to be sent, or their lease is gone.
    pub fn take_back(&mut self, address: IpAddr, count: u32) {
        if let Some(host) = self.hosts.get_mut(&address) {
            debug_assert!(host.aside >= count, "more is taken back than was put aside");
            host.aside = host.aside.saturating_sub(count);
            self.aside = self.aside.saturating_sub(u64::from(count));
        }
    }

    /// A probe has waited as long as an answer should take: it is in flight no longer. What is to be asked again because of it, if
    /// anything: something of the same host that is known to answer.
    pub fn overdue(&mut self, now: Time, target: Target, why: Why, sent_at: Time) -> Option<Again> {
        let host = self.hosts.get_mut(&target.address)?;
        host.in_flight = host.in_flight.saturating_sub(1);
        let again = host.is_silent(now, target, why, sent_at);
        if let Some(Again { why: Why::Repeat(1), .. }) = again {
            self.repeated.insert(target, false);
        }
        self.wake(target.address);
        again
    }

    /// A probe came back. What is to be asked again because of it, as with [`overdue`](Self::overdue).
    pub fn settled(&mut self, now: Time, back: Back) -> Option<Again> {
        let address = back.target.address;
        // First: the host may be forgotten by now.
        let repeated = if back.why.is_try() { self.repeated.remove(&back.target) } else { None };
        let host = self.hosts.get_mut(&address)?;
        host.in_flight -= u32::from(!back.overdue && host.in_flight > 0);
        let mut again = None;
        if back.outcome.is_sign_of_life() {
            host.shows_life(now, &back);
            self.checked.lost += std::mem::take(&mut host.lost);
            match back.why {
                Why::Check => self.checked.answered += 1,
                // It answers now: the try before was lost, unless that is listened for still.
                Why::Repeat(_) => match self.repeated.get_mut(&back.target) {
                    Some(answered) => *answered = true,
                    None if host.heard_late > 0 => host.heard_late -= 1,
                    None => self.checked.lost += 1,
                },
                Why::Try { again: false } if !back.overdue => {
                    self.checked.answered += u32::from(host.is_sampled() && host.law.is_some());
                }
                Why::Try { .. } => {
                    self.checked.answered += u32::from(repeated.is_some());
                    host.heard_late += u32::from(repeated == Some(false));
                }
            }
            if let Some(rtt) = back.rtt {
                host.round_trip = Some(host.round_trip.map_or_else(|| RoundTrip::first(rtt), |known| known.then(rtt)));
                self.measured(address.into(), rtt);
            }
        } else if back.outcome.is_silence() {
            host.told_nothing = host.told_nothing.saturating_add(1);
            host.lost += u32::from(back.why == Why::Check);
            self.checked.lost += u32::from(repeated == Some(true));
            if !back.overdue {
                again = host.is_silent(now, back.target, back.why, back.sent_at);
            }
        }
        self.wake(address);
        again
    }

    /// What became of checks since this was last asked.
    pub fn take_checked(&mut self) -> Checks {
        std::mem::take(&mut self.checked)
    }

    /// Whatever was found is another's from now on: nothing is known to answer any more.
    pub fn forget_known(&mut self) {
        for host in self.hosts.values_mut() {
            host.known = None;
        }
    }

    /// How long a try at a host waits, and `longest` at most.
    #[must_use]
    pub fn wait(&self, address: IpAddr, longest: Duration) -> Wait {
        let host = self.hosts.get(&address);
        if let Some(own) = host.and_then(|host| host.round_trip) {
            return Wait::of_host(own, longest);
        }
        let Some(&known) = self.neighbourhoods.get(&address.into()) else { return Wait::unmeasured(longest) };
        let (sent, told_nothing) = host.map_or((0, 0), |host| (host.sent, host.told_nothing));
        match Wait::of_neighbours(known, longest) {
            wait if sent <= FIRST => Wait { least: longest, ..wait },
            _ if told_nothing >= TOLD => Wait::of_host(known, longest),
            wait => wait,
        }
    }

    /// A host with something put aside for which there may be room now; each once. Ask until `None`.
    pub fn next_woken(&mut self, now: Time) -> Option<IpAddr> {
        self.full_until = self.full_until.filter(|&until| until > now);
        while let Some(&(at, address)) = self.due.first().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, address));
            if let Some(host) = self.hosts.get_mut(&address) {
                host.due_at = None;
            }
            self.wake(address);
        }
        let address = self.woken.pop()?;
        if let Some(host) = self.hosts.get_mut(&address) {
            host.woken = false;
        }
        Some(address)
    }

    /// How many probes of `cost` packets a woken host takes, by its window; one if a pacer says. If it takes none yet, it is woken again.
    pub fn room(&mut self, now: Time, address: IpAddr, cost: u32) -> u32 {
        let Some(host) = self.hosts.get_mut(&address) else { return 0 };
        let room = host.cap().saturating_sub(host.in_flight);
        if room == 0 || !host.is_paced() {
            return room;
        }
        if host.paced_at(now, cost).is_some_and(|at| at <= now) {
            return 1;
        }
        self.wake_when_paced(now, address, cost);
        0
    }

    /// True if something is put aside whose host may have room now.
    #[must_use]
    pub fn has_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    /// Wakes every host with something put aside: what had its turn may be gone.
    pub fn wake_all(&mut self) {
        if self.aside == 0 {
            return;
        }
        let (hosts, woken) = (&mut self.hosts, &mut self.woken);
        for (&address, host) in hosts.iter_mut().filter(|(_, host)| host.aside > 0 && !host.woken) {
            host.woken = true;
            woken.push(address);
        }
    }

    /// When something may have room by the passing of time alone.
    #[must_use]
    pub fn next_at(&self) -> Option<Time> {
        self.due.first().map(|&(at, _)| at).into_iter().chain(self.full_until).min()
    }

    /// How many probes are in flight to a host.
    #[must_use]
    pub fn in_flight(&self, address: IpAddr) -> u32 {
        self.hosts.get(&address).map_or(0, |host| host.in_flight)
    }

    /// How many hosts are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// True if none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    fn measured(&mut self, neighbourhood: Neighbourhood, rtt: Duration) {
        if let Some(known) = self.neighbourhoods.get_mut(&neighbourhood) {
            *known = known.then(rtt);
            return;
        }
        if self.neighbourhoods.len() >= NEIGHBOURHOODS_MAX {
            self.neighbourhoods.clear();
        }
        self.neighbourhoods.insert(neighbourhood, RoundTrip::first(rtt));
    }

    fn wake(&mut self, address: IpAddr) {
        if let Some(host) = self.hosts.get_mut(&address).filter(|host| host.aside > 0 && !host.woken) {
            host.woken = true;
            self.woken.push(address);
        }
    }

    fn wake_when_paced(&mut self, now: Time, address: IpAddr, cost: u32) {
        let Some(host) = self.hosts.get_mut(&address) else { return };
        match host.paced_at(now, cost) {
            Some(at) if at <= now => self.wake(address),
            Some(at) if host.due_at.is_none() => {
                host.due_at = Some(at);
                self.due.insert((at, address));
            }
            _ => {}
        }
    }

    /// Forgets what can be, where there are many. False if there is no room for another.
    fn make_room(&mut self, now: Time) -> bool {
        if self.hosts.len() < self.forget_from {
            return true;
        }
        if self.full_until.is_some_and(|until| now < until) {
            return false;
        }
        self.hosts.retain(|_, host| !host.is_idle(now));
        // Looking through it costs as much as it has hosts: not before as many again have come.
        self.forget_from = (self.hosts.len() * 2).clamp(FORGET_FROM, HOSTS_MAX);
        let full = self.hosts.len() >= HOSTS_MAX;
        self.full_until = full.then(|| now + FULL_FOR);
        !full
    }
}

#[cfg(test)]
mod tests;
