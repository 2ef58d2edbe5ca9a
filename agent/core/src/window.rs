//! The law of a window: how many probes are in flight to a host that answers.
//!
//! A window that is halved at each loss (AIMD) ends at nothing where a third is lost at random. So this one does as BBR does (Cardwell et
//! al., ACM Queue 2016) and asks what a change does to the answers: under a limit a smaller window gets a larger share of them, under random
//! loss it does not. And as PCC Allegro (Dong et al., NSDI 2015) it tolerates what is below a threshold. What is lost cannot be told from what a firewall
//! drops: silence says nothing. Loss is measured: while tries stay without answer, something that is known to answer is asked again, a
//! check, and what becomes of that counts.
//!
//! - L1: it grows by answers in time while so few tries are silent that no more than [`LOSS_MAX`] can be lost, else by answered checks;
//!   fast (doubling) until it was cut for the first time, slowly afterwards.
//! - L2: once more than [`LOSS_MAX`] of the checks are lost it is cut to a quarter, to [`LEAST`] and not below, and watched for a while.
//! - L3: if no larger share of the tries is answered by then (where hardly any is: if the share of lost checks is what it was), the loss
//!   is none of its doing: it gets back what it had, and that much loss is tolerated from then on.
//! - L4: checks are few: at most one for [`TRIES_EACH`] silent tries, one for [`TRIES_CALM`] where the last was answered, and the more of them are answered one after the other, the longer
//!   until the next, up to [`PAUSE_MAX`].
//! - L5: a host is gone if [`GONE`] checks one after the other are lost although the window is at its least.

use protocol::time::Time;
use std::time::Duration;

/// The share of lost checks up to which loss does not count as congestion; and by how much more it is tolerated where it is not.
pub const LOSS_MAX: f32 = 0.15;
/// What share of lost checks is taken for random, where nothing but checks tells.
const LOSS_RANDOM: f32 = 0.6;
/// The least window: what keeps a host going that answers few.
pub const LEAST: u32 = 4;
/// The largest.
pub const MOST: u32 = 1_024;
/// So many silent tries for a check, at least.
pub const TRIES_EACH: u32 = 4;
/// And where nothing was lost of late.
pub const TRIES_CALM: u32 = 16;
/// How long after an answered check the next is made, at least; twice that after two, and so on.
const PAUSE: Duration = Duration::from_millis(25);
/// How long at most.
pub const PAUSE_MAX: Duration = Duration::from_secs(1);
/// So many lost checks, one after the other and slowly, say that nobody is there any more.
pub const GONE: u32 = 16;
/// Of how many checks, and of how many tries, something can be said.
const ENOUGH: u32 = 8;
const ENOUGH_TRIES: u32 = 48;
/// A cut is not watched for longer than this, whatever it says by then.
const WATCHED_MAX: Duration = Duration::from_secs(2);
/// By so much a larger share of tries must be answered after a cut to a quarter.
const BETTER: f32 = 1.4;
/// With a smaller share than this it says nothing: most ports are filtered.
const HARDLY_ANY: f32 = 0.1;
/// The weight of the newest check, and of the newest try.
const CHECK_WEIGHT: f32 = 1.0 / 16.0;
const TRY_WEIGHT: f32 = 1.0 / 32.0;

/// The window of a host that answered.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    size: f32,
    least: f32,
    most: f32,
    /// The share of checks that are lost, and of tries that are silent, of late.
    lost: f32,
    silent: f32,
    /// What share of lost checks is none of this window's doing.
    tolerated: f32,
    was_cut: bool,
    cut: Option<Cut>,
    at: Time,
    wait: Duration,
    /// Silent tries since the last check.
    since_check: u32,
    /// Answered checks, one after the other.
    answered: u32,
    /// Lost checks, one after the other, with the window at its least.
    lost_at_least: u32,
    check_at: Time,
}

/// What was before a cut, and what was seen since.
#[derive(Clone, Copy, Debug)]
struct Cut {
    size: f32,
    lost: f32,
    silent: f32,
    /// From when on what comes back was sent after it.
    from: Time,
    tries: u32,
    tries_silent: u32,
    checks: u32,
    checks_lost: u32,
}

impl Window {
    /// Begins with so many.
    #[must_use]
    pub fn new(now: Time, begins: u32) -> Self {
        Self {
            size: begins as f32,
            least: begins.min(LEAST) as f32,
            most: begins.max(MOST) as f32,
            lost: 0.0,
            silent: 0.0,
            tolerated: LOSS_MAX,
            was_cut: false,
            cut: None,
            at: now,
            wait: Duration::ZERO,
            since_check: 0,
            answered: 0,
            lost_at_least: 0,
            check_at: Time::ZERO,
        }
    }

    /// How many may be in flight; at least one.
    #[must_use]
    pub fn size(&self) -> u32 {
        (self.size as u32).max(1)
    }

    /// Time passes; a try waits for `wait` now. To be said before anything else is.
    pub fn now(&mut self, now: Time, wait: Duration) {
        (self.at, self.wait) = (now, wait);
        let Some(cut) = self.cut else { return };
        let answered = 1.0 - cut.silent;
        let enough = if answered < HARDLY_ANY { cut.checks >= ENOUGH } else { cut.tries >= ENOUGH_TRIES };
        if enough {
            self.judge(cut);
        } else if now >= cut.from + WATCHED_MAX {
            self.cut = None;
        }
    }

    /// L3.
    fn judge(&mut self, cut: Cut) {
        self.cut = None;
        let (answered, lost) = (1.0 - cut.silent, cut.checks_lost as f32 / cut.checks.max(1) as f32);
        let answered_since = 1.0 - cut.tries_silent as f32 / cut.tries.max(1) as f32;
        let as_before = if answered < HARDLY_ANY {
            lost > cut.lost * 0.75 && lost < LOSS_RANDOM
        } else {
            answered_since < answered * BETTER
        };
        // Where nothing comes at all, there may be nobody: that is found out slowly.
        if as_before && (cut.tries_silent < cut.tries || cut.checks_lost < cut.checks) {
            self.size = cut.size;
            self.tolerated = (cut.lost.max(lost) + LOSS_MAX).min(0.9);
        }
    }

    fn watched(&mut self) -> Option<&mut Cut> {
        let at = self.at;
        self.cut.as_mut().filter(|cut| at >= cut.from)
    }

    /// A try was answered in time.
    pub fn answered(&mut self) {
        if let Some(cut) = self.watched() {
            cut.tries += 1;
        }
        self.lost_at_least = 0;
        self.silent -= self.silent * TRY_WEIGHT;
        if self.silent < LOSS_MAX {
            self.grow(if self.was_cut { 1.0 / self.size } else { 0.5 });
        }
    }

    /// A try was not answered in time.
    pub fn silent(&mut self) {
        if let Some(cut) = self.watched() {
            cut.tries += 1;
            cut.tries_silent += 1;
        }
        self.silent += (1.0 - self.silent) * TRY_WEIGHT;
        self.since_check = self.since_check.saturating_add(1);
    }

    /// Whether something that is known to answer is to be asked again now (L4). If so, that is taken for done.
    pub fn wants_check(&mut self, now: Time) -> bool {
        let each = if self.lost < LOSS_MAX / 2.0 { TRIES_CALM } else { TRIES_EACH };
        let wants = self.since_check >= each && now >= self.check_at;
        if wants {
            self.since_check = 0;
        }
        wants
    }

    /// A check was answered in time.
    pub fn check_answered(&mut self, now: Time) {
        self.lost -= self.lost * CHECK_WEIGHT;
        (self.answered, self.lost_at_least) = (self.answered.saturating_add(1), 0);
        self.check_at = now + (PAUSE * self.answered).min(PAUSE_MAX);
        if let Some(cut) = self.watched() {
            cut.checks += 1;
        }
        self.grow(if self.was_cut { self.size / 16.0 } else { self.size / 4.0 });
    }

    /// A check was not answered in time.
    pub fn check_lost(&mut self) {
        self.lost += (1.0 - self.lost) * CHECK_WEIGHT;
        (self.answered, self.check_at) = (0, Time::ZERO);
        self.lost_at_least += u32::from(self.size <= self.least);
        if let Some(cut) = self.watched() {
            cut.checks += 1;
            cut.checks_lost += 1;
        } else if self.cut.is_none() && self.lost > self.tolerated && self.size > self.least {
            // L2.
            let (size, lost, silent, from) = (self.size, self.lost, self.silent, self.at + self.wait * 2);
            self.cut = Some(Cut { size, lost, silent, from, tries: 0, tries_silent: 0, checks: 0, checks_lost: 0 });
            (self.size, self.was_cut) = ((self.size / 4.0).max(self.least), true);
        }
    }

    /// Whether the host is gone (L5).
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.lost_at_least >= GONE
    }

    fn grow(&mut self, by: f32) {
        if self.cut.is_none() && self.lost <= self.tolerated {
            self.size = (self.size + by).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests;
