//! The user who changes what holds for the scan while it runs, and what must hold from then on.
//!
//! - O10: once a state is said to be in force, nothing that it excludes is probed, by anybody, and nothing at all while it pauses.
//! - O11: in no second more probes than the budget and one burst of each share, over all agents; in no ten seconds ten times as many and
//!   one burst of each, and of each process that started.

use super::*;
use coordinator_core::control::{Change, ControlState, Intent};
use protocol::rate::Rate;
use std::collections::VecDeque;

/// A question of the user's that may have been answered.
struct Ask {
    number: u64,
    rate: Option<f64>,
    /// The version that it made; a later one stands for those whose answers were lost.
    version: Option<u64>,
}

/// What the user asked for, and what it was told.
pub(super) struct User {
    last_ask: u64,
    rates: Vec<Ask>,
    unanswered_resume: Option<u64>,
    paused: bool,
    /// What was asked to be excluded, and what was said to be.
    pub(super) excluded: AddressSet,
    in_force: AddressSet,
    rate: f64,
    /// From when on the fleet may send so much a second at most.
    bounds: VecDeque<(Time, f64)>,
    sends: VecDeque<Time>,
}

impl User {
    pub(super) fn new(rate: Option<u32>) -> Self {
        let rate = rate.map_or(f64::INFINITY, f64::from);
        Self {
            last_ask: 0,
            rates: Vec::new(),
            unanswered_resume: None,
            paused: false,
            excluded: AddressSet::new(),
            in_force: AddressSet::new(),
            rate,
            bounds: VecDeque::from([(Time::ZERO, rate)]),
            sends: VecDeque::new(),
        }
    }

    /// The most that the fleet might send a second within such a time. A bound ends where the next begins, and counts for the time after.
    fn most(&self, now: Time, time: Duration) -> f64 {
        let late = Duration::from_millis(10);
        let over = |at: usize| self.bounds.get(at + 1).is_some_and(|&(from, _)| from + time + late <= now);
        let bounds = self.bounds.iter().enumerate().filter(|(at, _)| !over(*at));
        bounds.map(|(_, &(_, bound))| bound).fold(0.0, f64::max)
    }

    fn bound(&mut self, now: Time) {
        let most = self.rates.iter().filter_map(|ask| ask.rate).fold(self.rate, f64::max);
        self.bounds.push_back((now, most));
    }
}

impl World {
    /// Changes that are drawn, at moments that are drawn; in the end the scan goes on.
    pub(super) fn populate_changes(&mut self) {
        let until = self.faults.until.as_millis() as u64;
        for _ in 0..self.faults.changes {
            let at =
                if self.random.chance(70) { self.random.millis(0, 8_000) } else { self.random.millis(0, until.max(1)) };
            let kind = self.random.within(0, 9);
            let change = match kind {
                0..=3 if self.faults.rate.is_some() => {
                    Change::Rate(Some(Rate::per_second(self.random.within(2, 80) as u32)))
                }
                0..=6 => {
                    let host = self.random.next() as u32 % self.plan.addresses().len().max(1) as u32;
                    Change::Exclude(AddressSet::from(Scene::target(host, 1).address))
                }
                _ => Change::Pause,
            };
            if change == Change::Pause {
                let pause = self.random.millis(10, 20_000);
                self.after(at + pause, Happening::Ask(Change::Resume));
            }
            self.after(at, Happening::Ask(change));
        }
        if self.faults.cancel {
            let at = self.random.millis(0, 8_000);
            self.after(at, Happening::Ask(Change::Cancel));
        }
    }

    pub(super) fn ask(&mut self, change: Change) {
        if self.coordinator.is_none() && change == Change::Pause {
            // Later it might come after what takes it back.
            return;
        }
        if self.coordinator.is_none() {
            return self.after(Duration::from_millis(500), Happening::Ask(change));
        }
        let now = self.now;
        self.user.last_ask += 1;
        let ask = self.user.last_ask;
        match &change {
            Change::Rate(rate) => {
                let rate = Some(rate.map_or(f64::INFINITY, Rate::as_per_second));
                self.user.rates.push(Ask { number: ask, rate, version: None });
                self.user.bound(now);
            }
            Change::Exclude(more) => self.user.excluded.extend(more),
            Change::Pause => {}
            Change::Cancel => {
                self.reached.cancels += u64::from(self.finished.is_none());
                if self.bug == Some(Bug::CancelDeletesLeases) {
                    self.delete_leases();
                }
            }
            _ => {
                self.user.unanswered_resume = Some(ask);
                self.after(Duration::from_secs(5), Happening::AskAgain(ask));
            }
        }
        self.coordinator_gets(Input::Change { ask, scan: SCAN, change });
    }

    /// Without an answer the scan may still pause: a pause that is not taken back would never end.
    pub(super) fn ask_again(&mut self, ask: u64) {
        if self.user.unanswered_resume == Some(ask) {
            self.ask(Change::Resume);
        }
    }

    pub(super) fn answered_change(&mut self, ask: u64, version: Option<u64>) {
        if self.user.unanswered_resume == Some(ask) {
            self.user.unanswered_resume = None;
        }
        for asked in self.user.rates.iter_mut().filter(|asked| asked.number <= ask) {
            asked.version = asked.version.or(version);
        }
    }

    pub(super) fn hears_control(&mut self, state: &ControlState, waits_for: &[String]) {
        let kept = self.store.control(SCAN).map(|kept| kept.version).unwrap_or(0);
        if kept < state.version {
            self.broke(format!("O3: a state of version {} was told, and {kept} is kept", state.version));
        }
        self.user.paused = waits_for.is_empty() && state.intent == Intent::Pause;
        if !waits_for.is_empty() {
            self.reached.changes_waited += 1;
            return;
        }
        self.reached.changes_in_force += 1;
        self.user.in_force.extend(&state.exclude);
        self.user.rates.retain(|ask| ask.version.is_none_or(|version| version > state.version));
        self.user.rate = state.rate.map_or(f64::INFINITY, Rate::as_per_second);
        let now = self.now;
        self.user.bound(now);
    }

    /// A probe leaves an agent.
    pub(super) fn look_at_send(&mut self, target: Target) {
        if self.user.in_force.contains(target.address) {
            self.broke(format!("O10: {target} is probed, and its exclusion is said to be in force"));
        }
        if self.user.paused {
            self.broke(format!("O10: {target} is probed, and the pause is said to be in force"));
        }
        let (now, second) = (self.now, Duration::from_secs(1));
        let user = &mut self.user;
        user.sends.push_back(now);
        while user.sends.front().is_some_and(|&at| at + second * 10 <= now) {
            user.sends.pop_front();
        }
        while user.bounds.get(1).is_some_and(|&(from, _)| from + second * 11 <= now) {
            user.bounds.pop_front();
        }
        let (most, ever) = (user.most(now, second), user.most(now, second * 10));
        let sent = user.sends.iter().rev().take_while(|&&at| at + second > now).count() as f64;
        let (in_ten, agents) = (user.sends.len() as f64, self.agents.len() as f64);
        let begun = (self.reached.agent_crashes + self.reached.drains) as f64;
        if in_ten > ever * 10.0 * 1.02 + 2.0 * agents + begun {
            self.broke(format!("O11: {in_ten} probes in ten seconds, of {ever} a second"));
        }
        // A burst of each, once more for what waited with those who send; and clocks that are fast.
        let allowed = most * 1.02 + 2.0 * agents;
        if sent > allowed {
            self.broke(format!("O11: {sent} probes in a second, of {most}"));
        }
        self.reached.sends_at_the_budget += u64::from(sent >= most * 0.95);
    }
}
