//! The law of a window: how many probes are in flight to a host that answers, and how many are sent to it in a second.
//!
//! A window that is halved at each loss (AIMD) ends at nothing where a third is lost at random, and one that is not, sends a host that
//! answers 100 packets a second ten times that. What tells the two apart is what a lower rate does to the answers, as BBR (Cardwell et
//! al., ACM Queue 2016) and PCC Vivace (Dong et al., NSDI 2018) ask: under a limit as many come as before, of fewer tries; under random
//! loss the same share. Silence says nothing, as a firewall's drop looks like a loss. So loss is measured: while tries stay without
//! answer, something that is known to answer is asked again, a check, and what becomes of that counts.
//!
//! - L1: it grows by answers in time while so few tries are silent that no more than [`LOSS_MAX`] can be lost, else by answered checks.
//! - L2: once more than [`LOSS_MAX`] of the checks of a span are lost, the host is paced, for a trial, at a half to an eighth of what it was
//!   sent. A span has the time in which something was to be sent: pauses between passes are left out. The same if so many of the tries
//!   that are answered were lost in a pass before: where all that is left of a pass is in flight at once, checks come when the host
//!   has recovered, and are answered.
//! - L3: if a larger share is answered in the trial, by more than chance explains, there is a limit: the host is paced at what it answers,
//!   over the share of tries that have an answer, and from then on a little faster for each span without much loss, until L2.
//! - L4: else the loss is none of our doing: everything is as before, that much loss is tolerated, and the next trial comes later
//!   each time, or when more is lost.
//! - L5: checks are few: at most one for [`TRIES_EACH`] silent tries, one for [`TRIES_CALM`] where the last were answered, and the more of
//!   them are answered one after the other, the longer until the next, up to [`PAUSE_MAX`].
//! - L6: a host is gone if [`GONE`] checks one after the other are lost, and nothing else was answered, for a second.

use crate::pacer::Pacer;
use protocol::rate::Rate;
use protocol::time::Time;
use std::time::Duration;

/// The share of lost checks up to which loss does not count as congestion; and by how much more it is tolerated where it is not.
pub const LOSS_MAX: f32 = 0.15;
/// A host is sent so many in the time of a wait, at least.
pub const LEAST: u32 = 4;
/// The largest window.
pub const MOST: u32 = 1_024;
/// So many silent tries for a check, at least.
pub const TRIES_EACH: u32 = 4;
/// And where nothing was lost of late.
pub const TRIES_CALM: u32 = 16;
/// How long after an answered check the next is made, at least; twice that after two, and so on.
const PAUSE: Duration = Duration::from_millis(25);
/// How long at most.
pub const PAUSE_MAX: Duration = Duration::from_secs(1);
/// So many lost checks, one after the other, say that nobody is there any more.
pub const GONE: u32 = 16;
/// If they are spread over so long.
const GONE_AFTER: Duration = Duration::from_secs(1);
/// Fewer lost checks are chance; and after so many, or so much work, they are counted anew.
const LOST_MIN: u32 = 3;
const CHECKS_ENOUGH: u32 = 16;
const CHECKS_FOR: Duration = Duration::from_secs(3);
/// So many tries and answers say something of the share that is answered, or so much work.
const ENOUGH: u32 = 48;
const ENOUGH_ANSWERED: u32 = 12;
const ENOUGH_WORK: Duration = Duration::from_secs(1);
/// The least that a span is, in waits.
const SPAN_WAITS: u32 = 2;
/// What an answer may take beyond its wait until it is heard of.
const SLACK: Duration = Duration::from_millis(20);
/// By so many standard deviations must the share that is answered be larger: chance does that once in a thousand times.
const BEYOND_CHANCE: f32 = 3.0;
/// Or so many times as large, whatever loss the checks show: where the trial's rate is above the limit still, not all that it could bring.
const BETTER: f32 = 1.5;
/// With so many it may be: the trial goes on, for so many spans at most.
const PERHAPS: f32 = 0.5;
const SPANS_MAX: u32 = 4;
/// By how much a trial is slower at most.
const SLOWER_MAX: f32 = 8.0;
/// The work until loss that was found random is tried again, at first and at most.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(32);
/// By how much a paced host is sent more, for each span without much loss.
const FASTER: f32 = 1.1;
/// The weight of the newest check, and of the newest try.
const CHECK_WEIGHT: f32 = 1.0 / 16.0;
const TRY_WEIGHT: f32 = 1.0 / 32.0;

/// The window of a host that answered.
#[derive(Clone, Debug)]
pub struct Window {
    size: f32,
    least: f32,
    most: f32,
    /// Once a limit was met.
    pacer: Option<Pacer>,
    /// The share of checks that are lost, and of tries that are silent, of late.
    lost: f32,
    silent: f32,
    /// What share of lost checks is none of our doing.
    tolerated: f32,
    /// The work until what is tolerated is tried again, and how much it was the last time.
    again: Duration,
    again_after: Duration,
    checks: Checked,
    tried: Tried,
    /// What is sent now, and what was sent before and is not all back.
    open: Span,
    closing: Option<Span>,
    trial: Option<Trial>,
    at: Time,
    wait: Duration,
    sent_at: Option<Time>,
    answered_at: Time,
    /// Silent tries since the last check.
    since_check: u32,
    /// Answered checks, one after the other.
    answered: u32,
    /// Lost checks, one after the other, with nothing answered in between.
    lost_in_row: u32,
    check_at: Time,
}

/// Checks of late.
#[derive(Clone, Copy, Debug, Default)]
struct Checked {
    answered: u32,
    lost: u32,
    work: Duration,
}

impl Checked {
    /// What share was lost, once it is more than chance.
    fn share(self) -> f32 {
        if self.lost < LOST_MIN { 0.0 } else { self.lost as f32 / (self.lost + self.answered) as f32 }
    }
}

/// Tries that were answered, as long as nothing paces the host: what was lost before says nothing of a pace that came later.
#[derive(Clone, Copy, Debug, Default)]
struct Tried {
    first: u32,
    /// In a later pass than the first.
    again: u32,
    /// Tries that were not answered: what was lost is among them. A later pass may also be the first try, or another agent's second.
    silent: u32,
}

impl Tried {
    /// What share of first tries was lost, once it is more than chance: of n, n(1 − p) are answered, and np(1 − p) by the second.
    fn lost(self) -> f32 {
        let lost = self.again.min(self.silent);
        if lost < LOST_MIN { 0.0 } else { (lost as f32 / self.first.max(1) as f32).min(0.99) }
    }
}

/// What was sent in some time of work, and what became of it. What is answered comes back sooner than what is not: nothing can be
/// said of a span before all of it is back.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: Time,
    until: Time,
    work: Duration,
    /// Tries and checks, and the packets that they are.
    sent: u32,
    packets: u32,
    answered: u32,
    silent: u32,
    checks_answered: u32,
}

/// A lower rate, to see what that does.
#[derive(Clone, Copy, Debug)]
struct Trial {
    before: Span,
    /// What share of the checks was lost, and by how much slower it is.
    lost: f32,
    slower: f32,
    /// The rate to go back to.
    rate: Option<Rate>,
    /// What was seen of it so far, in so many spans.
    seen: Span,
    spans: u32,
}

impl Span {
    fn new(from: Time) -> Self {
        Self {
            from,
            until: Time::NEVER,
            work: Duration::ZERO,
            sent: 0,
            packets: 0,
            answered: 0,
            silent: 0,
            checks_answered: 0,
        }
    }

    fn add(&mut self, other: Self) {
        self.work += other.work;
        self.sent += other.sent;
        self.packets += other.packets;
        self.answered += other.answered;
        self.silent += other.silent;
    }

    fn holds(&self, sent_at: Time) -> bool {
        self.from <= sent_at && sent_at < self.until
    }

    fn tries(&self) -> u32 {
        self.answered + self.silent
    }

    fn share(&self) -> f32 {
        self.answered as f32 / self.tries().max(1) as f32
    }

    fn per_second(&self, count: u32, wait: Duration) -> f32 {
        count as f32 / self.work.max(wait).as_secs_f32()
    }

    /// By how many standard deviations the share that is answered is larger than it was before, if both are draws of the same (a pooled
    /// test of two proportions).
    fn better_than(&self, before: &Self) -> f32 {
        let (n, m) = (before.tries().max(1) as f32, self.tries().max(1) as f32);
        let both = (before.answered + self.answered) as f32 / (n + m);
        let deviation = (both * (1.0 - both) * (1.0 / n + 1.0 / m)).sqrt();
        if deviation > 0.0 { (self.share() - before.share()) / deviation } else { 0.0 }
    }
}

impl Window {
    /// Begins with so many.
    #[must_use]
    pub fn new(now: Time, begins: u32) -> Self {
        Self {
            size: begins as f32,
            least: begins.min(LEAST) as f32,
            most: begins.max(MOST) as f32,
            pacer: None,
            lost: 0.0,
            silent: 0.0,
            tolerated: LOSS_MAX,
            again: Duration::ZERO,
            again_after: AGAIN,
            checks: Checked::default(),
            tried: Tried::default(),
            open: Span::new(now),
            closing: None,
            trial: None,
            at: now,
            wait: Duration::ZERO,
            sent_at: None,
            answered_at: now,
            since_check: 0,
            answered: 0,
            lost_in_row: 0,
            check_at: Time::ZERO,
        }
    }

    /// How many may be in flight; at least one.
    #[must_use]
    pub fn size(&self) -> u32 {
        (self.size as u32).max(1)
    }

    /// What paces it, if anything does.
    #[must_use]
    pub fn pacer(&self) -> Option<&Pacer> {
        self.pacer.as_ref()
    }

    /// So many packets are sent now, if the pacer has them. False if not. A check does not wait for it: its turn would never come.
    pub fn take(&mut self, now: Time, cost: u32, check: bool) -> bool {
        let paced = match &mut self.pacer {
            Some(pacer) if check => {
                pacer.charge(now, cost);
                true
            }
            Some(pacer) => pacer.take(now, cost),
            None => true,
        };
        if paced {
            let gap = self.sent_at.map_or(Duration::ZERO, |before| now.since(before));
            self.open.sent += 1;
            self.open.packets += cost;
            self.open.work += gap.min(self.wait);
            self.sent_at = Some(now);
        }
        paced
    }

    /// Time passes; a try waits for `wait` now. To be said before anything else is.
    pub fn now(&mut self, now: Time, wait: Duration) {
        (self.at, self.wait) = (now, wait);
        if self.closing.is_none() && self.is_long() {
            self.open.until = now;
            self.closing = Some(std::mem::replace(&mut self.open, Span::new(now)));
            self.sent_at = None;
        }
        if let Some(span) = self.closing
            && now >= span.until + wait + SLACK
        {
            self.closing = None;
            match self.trial {
                Some(trial) => self.judge(trial, span),
                None => self.look(span),
            }
        }
    }

    /// Whether the present span is long enough to say something.
    fn is_long(&self) -> bool {
        let span = &self.open;
        let enough = match self.trial {
            Some(_) => span.sent >= ENOUGH && span.answered >= ENOUGH_ANSWERED,
            None => span.sent >= ENOUGH * 2,
        };
        span.work >= self.wait * SPAN_WAITS && span.sent > 0 && (enough || span.work >= ENOUGH_WORK)
    }

    /// L2, and L3 where a limit was met before.
    fn look(&mut self, span: Span) {
        let before = if self.pacer.is_none() { self.tried.lost() } else { 0.0 };
        let lost = self.checks.share().max(before);
        self.again = self.again.saturating_sub(span.work);
        self.checks.work += span.work;
        if lost > self.tolerated || (lost > LOSS_MAX && self.again.is_zero()) {
            // Under a limit every try of the trial is answered, but for a large loss: then as many times more.
            let slower = (1.5 / (1.0 - lost).max(0.01)).clamp(2.0, SLOWER_MAX);
            let rate = self.pacer.as_ref().map(Pacer::rate);
            self.trial = Some(Trial { before: span, lost, slower, rate, seen: Span::new(self.at), spans: 0 });
            self.pace(span.per_second(span.packets, self.wait) / slower);
            self.open = Span::new(self.at);
            self.checks = Checked::default();
            return;
        }
        let well = span.share() > 1.0 - LOSS_MAX || span.checks_answered > 1;
        if let Some(rate) = self.pacer.as_ref().map(|pacer| pacer.rate().as_per_second() as f32)
            && well
            && span.per_second(span.packets, self.wait) > rate * 0.8
        {
            self.pace(rate * FASTER);
        }
        if self.checks.lost + self.checks.answered >= CHECKS_ENOUGH || self.checks.work >= CHECKS_FOR {
            self.checks = Checked::default();
        }
    }

    /// L3 and L4.
    fn judge(&mut self, mut trial: Trial, span: Span) {
        trial.seen.add(span);
        trial.spans += 1;
        let (before, span) = (trial.before, trial.seen);
        let better = span.better_than(&before);
        let expected = trial.slower.min(1.0 / (1.0 - trial.lost).max(0.01));
        let is_limited =
            better > BEYOND_CHANCE && span.share() > before.share() * f32::min((1.0 + expected) / 2.0, BETTER);
        if !is_limited && better > PERHAPS && trial.spans < SPANS_MAX {
            self.trial = Some(trial);
            return;
        }
        self.trial = None;
        if is_limited {
            let answers = before.per_second(before.answered, self.wait).max(span.per_second(span.answered, self.wait));
            let packets = span.packets as f32 / span.sent.max(1) as f32;
            let most = before.per_second(before.packets, self.wait);
            self.pace((answers / span.share().max(0.01) * packets).min(most));
            (self.tolerated, self.again, self.again_after, self.lost) = (LOSS_MAX, Duration::ZERO, AGAIN, 0.0);
            self.tried = Tried::default();
        } else {
            match trial.rate {
                Some(rate) => self.pace(rate.as_per_second() as f32),
                None => self.pacer = None,
            }
            self.tolerated = (trial.lost.max(self.checks.share()) + LOSS_MAX).min(0.95);
            self.again = self.again_after;
            self.again_after = (self.again_after * 2).min(AGAIN_MAX);
        }
        self.open = Span::new(self.at);
        self.checks = Checked::default();
    }

    fn pace(&mut self, per_second: f32) {
        let least = self.least / self.wait.max(Duration::from_millis(1)).as_secs_f32();
        let Some(rate) = Rate::from_per_second(per_second.max(least).into()) else { return };
        match &mut self.pacer {
            Some(pacer) => pacer.set_rate(self.at, rate),
            None => self.pacer = Some(Pacer::new(self.at, rate)),
        }
    }

    /// The span in which something was sent.
    fn span(&mut self, sent_at: Time) -> Option<&mut Span> {
        [Some(&mut self.open), self.closing.as_mut()].into_iter().flatten().find(|span| span.holds(sent_at))
    }

    /// A try was answered in time; in a later pass than the first if `again`.
    pub fn answered(&mut self, sent_at: Time, again: bool) {
        let tried = if again { &mut self.tried.again } else { &mut self.tried.first };
        *tried = tried.saturating_add(1);
        if let Some(span) = self.span(sent_at) {
            span.answered += 1;
        }
        self.heard();
        self.silent -= self.silent * TRY_WEIGHT;
        if self.silent < LOSS_MAX {
            self.grow(0.5);
        }
    }

    /// A try was not answered in time.
    pub fn silent(&mut self, sent_at: Time) {
        if let Some(span) = self.span(sent_at) {
            span.silent += 1;
        }
        self.silent += (1.0 - self.silent) * TRY_WEIGHT;
        self.tried.silent = self.tried.silent.saturating_add(1);
        self.since_check = self.since_check.saturating_add(1);
    }

    /// Whether something that is known to answer is to be asked again now (L5). If so, that is taken for done.
    pub fn wants_check(&mut self, now: Time) -> bool {
        let each = if self.lost < LOSS_MAX / 2.0 { TRIES_CALM } else { TRIES_EACH };
        let wants = self.since_check >= each && now >= self.check_at;
        if wants {
            self.since_check = 0;
        }
        wants
    }

    /// A check was answered in time.
    pub fn check_answered(&mut self, now: Time, sent_at: Time) {
        if let Some(span) = self.span(sent_at) {
            span.checks_answered += 1;
        }
        self.heard();
        self.checks.answered += 1;
        self.lost -= self.lost * CHECK_WEIGHT;
        self.answered = self.answered.saturating_add(1);
        self.check_at = now + (PAUSE * self.answered).min(PAUSE_MAX);
        self.grow(self.size / 4.0);
    }

    /// A check was not answered in time.
    pub fn check_lost(&mut self) {
        self.checks.lost += 1;
        self.lost += (1.0 - self.lost) * CHECK_WEIGHT;
        (self.answered, self.check_at) = (0, Time::ZERO);
        self.lost_in_row += 1;
    }

    /// Whether the host is gone (L6).
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.lost_in_row >= GONE && self.at >= self.answered_at + GONE_AFTER
    }

    fn heard(&mut self) {
        (self.lost_in_row, self.answered_at) = (0, self.at);
    }

    /// What is paced needs no larger window.
    fn grow(&mut self, by: f32) {
        if self.pacer.is_none() && self.lost <= self.tolerated {
            self.size = (self.size + by).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests;
