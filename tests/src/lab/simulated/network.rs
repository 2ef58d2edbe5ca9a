//! The network itself, without socket and clock: frames go in, frames with the time to send them come out.
//!
//! A question is answered if all hold: 1. the link's queue had room for it; 2. a host is there; 3. it is between its begin and its end;
//! 4. the question was not lost on its way; 5. the host's rates have room (what is beyond them is dropped, as a real limit does); 6. the
//! answer was not lost on its way back. Loss is drawn for each try at a target: of how many tries at which target nothing comes back is settled by the seed, however
//! fast they come.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::account::Account;
use super::draw::{self, For};
use super::frame::{self, Answer, Asks, Frame, Heard, Question};
use super::hash::ByNumber;
use super::queue::Queue;
use super::truth::{HostTruth, PortTruth};
use super::world::{Closed, FLOOD, HostKind, Odd, World};

/// Targets whose tries are counted; of further ones every try counts as the first.
const TARGETS_MAX: usize = 1 << 22;
/// How long after an answer its contradiction comes: when every scan has given the probe up.
const LATE: Duration = Duration::from_millis(1_500);
/// An ordinary window.
const WINDOW: u16 = 64_240;
/// A place among a host's ports that is none: echo.
const ECHO: u32 = 1 << 16;

/// A network at work.
#[derive(Debug)]
pub struct Network {
    world: Arc<World>,
    queue: Queue,
    /// Tries so far, by place of the host and port.
    tries: ByNumber<u64, u8>,
    limits: ByNumber<u32, Limits>,
    /// When the link has passed on all that waits before it.
    link_free_at: Duration,
    account: Account,
}

/// What a host has left of its rates.
#[derive(Debug, Default)]
pub struct Limits {
    answers: Bucket,
    rst: Bucket,
    icmp: Bucket,
}

/// A token bucket that begins full and holds a tenth of a second of its rate, at least one.
#[derive(Debug, Default)]
struct Bucket {
    used: f64,
    at: Duration,
}

impl Bucket {
    fn take(&mut self, now: Duration, rate: Option<f64>) -> bool {
        let Some(rate) = rate else { return true };
        self.used = (self.used - now.saturating_sub(self.at).as_secs_f64() * rate).max(0.0);
        self.at = now;
        let has = self.used + 1.0 <= (rate / 10.0).max(1.0);
        self.used += if has { 1.0 } else { 0.0 };
        has
    }
}

impl Limits {
    /// Whether the host may send the answer now.
    fn take(&mut self, now: Duration, kind: &HostKind, answer: Answer) -> bool {
        if !self.answers.take(now, kind.answers_per_s) {
            return false;
        }
        match answer {
            Answer::Accept { .. } => true,
            Answer::Refuse | Answer::Reset { .. } => self.rst.take(now, kind.rst_per_s),
            Answer::Echo | Answer::Prohibited { .. } => self.icmp.take(now, kind.icmp_per_s),
        }
    }
}

impl Network {
    /// A network to which nothing was sent yet.
    #[must_use]
    pub fn new(world: Arc<World>) -> Self {
        Self {
            world,
            queue: Queue::default(),
            tries: ByNumber::default(),
            limits: ByNumber::default(),
            link_free_at: Duration::ZERO,
            account: Account::default(),
        }
    }

    /// A frame arrived at `now`, on a clock that begins with the network and does not go back.
    pub fn receive(&mut self, now: Duration, frame: &[u8]) {
        match frame::read(frame) {
            Heard::Question(question) => self.asked(now, &question),
            Heard::Neighbour(answer) => {
                if let Some(answer) = answer {
                    self.send(now, answer);
                }
            }
            Heard::Other => self.account.other += 1,
        }
    }

    /// When the next answer is to be sent.
    #[must_use]
    pub fn next_at(&self) -> Option<Duration> {
        self.queue.next_at()
    }

    /// Moves answers that are to be sent by `now` into `batch`, up to its capacity.
    pub(super) fn pop_due(&mut self, now: Duration, batch: &mut Vec<Frame>) {
        let late = self.queue.pop_due(now, batch);
        self.account.latest = self.account.latest.max(late);
        self.account.answered += batch.len() as u64;
    }

    /// What it received.
    pub fn account(&mut self) -> &mut Account {
        &mut self.account
    }

    /// Its account, at its end.
    #[must_use]
    pub fn into_account(self) -> Account {
        self.account
    }

    fn asked(&mut self, now: Duration, question: &Question<'_>) {
        let Some(offset) = self.world.offset(question.target) else {
            self.account.other += 1;
            return;
        };
        let since_first = now.saturating_sub(*self.account.first_at.get_or_insert(now));
        match question.asks {
            Asks::Port { .. } => self.account.count_tcp(offset, since_first),
            Asks::Echo { .. } => self.account.count_ping(offset, since_first),
        }
        let world = Arc::clone(&self.world);
        let Some(now) = self.through_link(now) else { return };
        let Some(host) = world.host_at(offset) else { return };
        let kind = host.kind;
        let begun = since_first.as_secs_f64() >= kind.from_s;
        let ended = kind.until_s.is_some_and(|until| since_first.as_secs_f64() >= until);
        if !begun || ended {
            return;
        }
        let port = match question.asks {
            Asks::Port { to, .. } => u32::from(to),
            Asks::Echo { .. } => ECHO,
        };
        let attempt = self.attempt(offset, port);
        // Which try at which target: what a draw about a packet is about.
        let about = u64::from(offset) << 32 | u64::from(port);
        let draw = |purpose| draw::share(world.seed, purpose, about, attempt.into());
        if draw(For::LossOut) < kind.loss[0] {
            return;
        }
        let Some(answer) = answer(&world, &host, question, about) else { return };
        if kind.is_limited() && !self.limits.entry(offset).or_default().take(now, kind, answer) {
            return;
        }
        if kind.odd.contains(&Odd::Flood) {
            self.flood(now, question, offset);
        }
        if draw(For::LossBack) < kind.loss[1] {
            return;
        }
        let delay = host.round_trip + Duration::from_secs_f64(kind.jitter_ms * draw(For::Jitter) / 1000.0);
        self.respond(now + delay, question, &host, answer);
    }

    /// When a packet that arrives at the link now is behind it; `None` if its queue has no room.
    fn through_link(&mut self, now: Duration) -> Option<Duration> {
        let Some(link) = self.world.link else { return Some(now) };
        let waits = self.link_free_at.saturating_sub(now);
        if waits.as_secs_f64() * link.packets_per_s >= f64::from(link.queue) {
            return None;
        }
        self.link_free_at = now + waits + Duration::from_secs_f64(1.0 / link.packets_per_s);
        Some(self.link_free_at)
    }

    fn attempt(&mut self, offset: u32, port: u32) -> u8 {
        let target = u64::from(offset) << 32 | u64::from(port);
        if self.tries.len() >= TARGETS_MAX && !self.tries.contains_key(&target) {
            return 0;
        }
        let tries = self.tries.entry(target).or_default();
        *tries = tries.saturating_add(1);
        *tries
    }

    /// Sends an answer, and whatever an odd host sends with it.
    fn respond(&mut self, at: Duration, question: &Question<'_>, host: &HostTruth<'_>, answer: Answer) {
        let source = host.address;
        let mut send = |at, answer| match question.answer(source, answer) {
            Some(frame) => self.send(at, frame),
            None => self.account.unsent += 1,
        };
        send(at, answer);
        for odd in &host.kind.odd {
            match (odd, answer) {
                (Odd::ResetAfterAccept, Answer::Accept { sequence, .. }) => send(at, Answer::Reset { sequence }),
                (Odd::Duplicate, _) => {
                    send(at, answer);
                    send(at + Duration::from_millis(5), answer);
                }
                (Odd::LateContradiction, _) => {
                    send(at + LATE, answer);
                    let contrary = match (answer, question.asks) {
                        (Answer::Accept { .. }, _) => Answer::Refuse,
                        (Answer::Refuse, Asks::Port { to, .. }) => {
                            Answer::Accept { from: to, sequence: 1, window: WINDOW }
                        }
                        _ => answer,
                    };
                    send(at + LATE, contrary);
                }
                _ => {}
            }
        }
    }

    /// Answers from the addresses after the one that was asked, which were not asked themselves.
    fn flood(&mut self, now: Duration, question: &Question<'_>, offset: u32) {
        let len = self.world.len();
        for step in 1..=FLOOD {
            let source = self.world.address(offset.wrapping_add(step) % len);
            if source == question.target {
                continue;
            }
            let answers = match question.asks {
                Asks::Port { to, .. } => [Answer::Accept { from: to, sequence: step, window: WINDOW }, Answer::Refuse],
                Asks::Echo { .. } => {
                    [Answer::Echo, Answer::Prohibited { quoted: source, bytes: question.quoted_bytes() }]
                }
            };
            for frame in answers.into_iter().filter_map(|answer| question.answer(source, answer)) {
                self.send(now, frame);
            }
        }
    }

    fn send(&mut self, at: Duration, frame: Frame) {
        if !self.queue.push(at, frame) {
            self.account.unsent += 1;
        }
    }
}

/// What a host answers, if nothing is lost; `None` for silence.
fn answer(world: &World, host: &HostTruth<'_>, question: &Question<'_>, about: u64) -> Option<Answer> {
    let odd = |odd| host.kind.odd.contains(&odd);
    if odd(Odd::TruncatedError) && matches!(question.asks, Asks::Port { .. }) {
        return Some(Answer::Prohibited { quoted: host.address, bytes: question.header_bytes() });
    }
    if odd(Odd::ForeignError) {
        return Some(Answer::Prohibited { quoted: next_address(host.address), bytes: question.quoted_bytes() });
    }
    let Asks::Port { to, .. } = question.asks else {
        return host.answers_ping().then_some(Answer::Echo);
    };
    let sequence = draw::number(world.seed, For::Sequence, about, 0) as u32;
    if odd(Odd::WrongPort) {
        return Some(Answer::Accept { from: to.wrapping_add(1), sequence, window: WINDOW });
    }
    match host.port(to) {
        PortTruth::Open => {
            let window = if odd(Odd::ZeroWindow) { 0 } else { WINDOW };
            Some(Answer::Accept { from: to, sequence, window })
        }
        PortTruth::Closed => Some(Answer::Refuse),
        PortTruth::Filtered if host.kind.closed == Closed::Prohibit => {
            Some(Answer::Prohibited { quoted: host.address, bytes: question.quoted_bytes() })
        }
        PortTruth::Filtered => None,
    }
}

fn next_address(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4(u32::from(v4).wrapping_add(1).into()),
        IpAddr::V6(v6) => IpAddr::V6(u128::from(v6).wrapping_add(1).into()),
    }
}
