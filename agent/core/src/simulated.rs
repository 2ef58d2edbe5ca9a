//! A world that is made up: which hosts live, which ports are open, what gets lost. No sockets.
//!
//! [`World`] is a pure function of its seed: the simulation in virtual time and the agent's simulated prober ask the same one.

use protocol::probe::{Outcome, Reason, Slot, Target};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// What is so of a target, whoever looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It answers: an open port, a live host.
    Answers,
    /// It refuses: a closed port. A host cannot: its ping is silent.
    Refuses,
    /// Nothing comes back.
    Silent,
    /// A router says so, with this reason.
    Unreachable(Reason),
    /// The first so many tries at it panic in the prober; then it answers.
    Panics(u32),
    /// The first so many tries at it are lost; then it answers.
    Late(u32),
}

/// A made-up network. The same seed and settings give the same answers.
#[derive(Clone, Debug)]
pub struct World {
    seed: u64,
    alive_ppm: u32,
    open_ppm: u32,
    silent_ppm: u32,
    loss_ppm: u32,
    rtt: (Duration, Duration),
    set: BTreeMap<Target, Truth>,
}

mod purpose {
    pub(super) const ALIVE: u64 = 1;
    pub(super) const PORT: u64 = 2;
    pub(super) const RTT: u64 = 3;
    pub(super) const LOSS: u64 = 4;
}

impl World {
    /// Half of the hosts live; of their ports one in a hundred is open, half are silent, the rest refuse; nothing is lost; a round
    /// trip takes 10–80 ms.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            alive_ppm: 500_000,
            open_ppm: 10_000,
            silent_ppm: 500_000,
            loss_ppm: 0,
            rtt: (Duration::from_millis(10), Duration::from_millis(80)),
            set: BTreeMap::new(),
        }
    }

    /// So many hosts in a million live.
    #[must_use]
    pub fn alive_ppm(mut self, alive: u32) -> Self {
        self.alive_ppm = alive;
        self
    }

    /// Of a live host's ports, so many in a million are open, and so many silent.
    #[must_use]
    pub fn ports_ppm(mut self, open: u32, silent: u32) -> Self {
        (self.open_ppm, self.silent_ppm) = (open, silent);
        self
    }

    /// So many tries in a million stay without the answer that they would have.
    #[must_use]
    pub fn loss_ppm(mut self, loss: u32) -> Self {
        self.loss_ppm = loss;
        self
    }

    /// Round trips take from `least` to `most`, each host its own time.
    #[must_use]
    pub fn rtt(mut self, least: Duration, most: Duration) -> Self {
        self.rtt = (least, most);
        self
    }

    /// One target is as said, whatever the seed says.
    #[must_use]
    pub fn set(mut self, target: Target, truth: Truth) -> Self {
        self.set.insert(target, truth);
        self
    }

    /// What is so of a target.
    #[must_use]
    pub fn truth(&self, target: Target) -> Truth {
        if let Some(&truth) = self.set.get(&target) {
            return truth;
        }
        if !self.chance(purpose::ALIVE, address_key(target.address), self.alive_ppm) {
            return Truth::Silent;
        }
        match target.slot {
            Slot::Ping => Truth::Answers,
            Slot::Tcp(_) => {
                let drawn = self.draw(purpose::PORT, target_key(target)) % 1_000_000;
                if drawn < u64::from(self.open_ppm) {
                    Truth::Answers
                } else if drawn < u64::from(self.open_ppm) + u64::from(self.silent_ppm) {
                    Truth::Silent
                } else {
                    Truth::Refuses
                }
            }
        }
    }

    /// What a try that nothing is lost of finds in the end: the outcome that a scan must come to.
    #[must_use]
    pub fn expected(&self, target: Target) -> Outcome {
        let silence = if target.slot == Slot::Ping { Outcome::DOWN } else { Outcome::FILTERED };
        match (self.truth(target), target.slot) {
            (Truth::Answers | Truth::Panics(_) | Truth::Late(_), Slot::Ping) => Outcome::UP,
            (Truth::Answers | Truth::Panics(_) | Truth::Late(_), Slot::Tcp(_)) => Outcome::OPEN,
            (Truth::Refuses, Slot::Tcp(_)) => Outcome::CLOSED,
            (Truth::Unreachable(reason), _) => Outcome::found(silence.state(), reason).unwrap_or(silence),
            (Truth::Refuses, Slot::Ping) | (Truth::Silent, _) => silence,
        }
    }

    /// What try `try_number` (from 1) at a target finds, and after what time; no time for silence.
    #[must_use]
    pub fn answer(&self, target: Target, try_number: u32) -> (Outcome, Option<Duration>) {
        let expected = self.expected(target);
        if expected.reason() == Some(Reason::NoResponse) {
            return (expected, None);
        }
        let late = matches!(self.truth(target), Truth::Late(tries) if try_number <= tries);
        if late || self.chance(purpose::LOSS, derive(target_key(target), u64::from(try_number)), self.loss_ppm) {
            return (if target.slot == Slot::Ping { Outcome::DOWN } else { Outcome::FILTERED }, None);
        }
        (expected, Some(self.round_trip(target.address)))
    }

    fn round_trip(&self, address: IpAddr) -> Duration {
        let (least, most) = self.rtt;
        let spread = u64::try_from(most.saturating_sub(least).as_nanos()).unwrap_or(u64::MAX);
        let drawn = self.draw(purpose::RTT, address_key(address)) % spread.saturating_add(1).max(1);
        least + Duration::from_nanos(drawn)
    }

    fn draw(&self, purpose: u64, key: u64) -> u64 {
        derive(derive(self.seed, purpose), key)
    }

    fn chance(&self, purpose: u64, key: u64, ppm: u32) -> bool {
        self.draw(purpose, key) % 1_000_000 < u64::from(ppm)
    }
}

/// A well-mixed number from two (the finaliser of SplitMix64, Steele et al. 2014). Not for secrets.
fn derive(key: u64, value: u64) -> u64 {
    let mut mixed = key ^ value.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn address_key(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(v4) => derive(4, u64::from(v4.to_bits())),
        IpAddr::V6(v6) => derive(derive(6, (v6.to_bits() >> 64) as u64), v6.to_bits() as u64),
    }
}

fn target_key(target: Target) -> u64 {
    let slot = match target.slot {
        Slot::Ping => 0,
        Slot::Tcp(port) => 1 + u64::from(port),
    };
    derive(address_key(target.address), slot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::probe::State;

    fn targets() -> impl Iterator<Item = Target> {
        (0..4_000_u32).flat_map(|n| {
            let address = IpAddr::V4((0xc000_0200 + n).into());
            [Slot::Ping, Slot::Tcp(80)].map(|slot| Target { address, slot })
        })
    }

    #[test]
    fn a_world_is_the_same_for_the_same_seed_and_another_for_another() {
        let (first, again, other) = (World::new(7), World::new(7), World::new(8));
        assert!(targets().all(|target| first.answer(target, 1) == again.answer(target, 1)));
        let differ = targets().filter(|&target| first.answer(target, 1) != other.answer(target, 1)).count();
        assert!(differ > 1_000, "{differ}");
    }

    #[test]
    fn shares_and_loss_are_about_what_was_asked_for() {
        let world = World::new(3).alive_ppm(250_000).loss_ppm(200_000);
        let pings: Vec<_> = targets().filter(|target| target.slot == Slot::Ping).collect();
        let alive: Vec<_> = pings.iter().filter(|&&target| world.expected(target) == Outcome::UP).collect();
        assert!((900..1_100).contains(&alive.len()), "{} of 4000 live", alive.len());
        let heard = alive.iter().filter(|&&&target| world.answer(target, 1).0 == Outcome::UP).count();
        let share = heard * 100 / alive.len();
        assert!((74..=86).contains(&share), "{share} % heard of 80");
        let in_two = alive.iter().filter(|&&&target| (1..=2).any(|n| world.answer(target, n).0 == Outcome::UP)).count();
        assert!(in_two > heard, "a second try finds more: loss is drawn per try");
    }

    #[test]
    fn a_target_that_is_set_is_as_set() {
        let target = Target { address: "192.0.2.1".parse().unwrap(), slot: Slot::Tcp(1) };
        let prohibited = Truth::Unreachable(Reason::AdminProhibited);
        let world = World::new(1).set(target, prohibited);
        assert_eq!(world.truth(target), prohibited);
        assert_eq!(world.answer(target, 1).0, Outcome::found(State::Filtered, Reason::AdminProhibited).unwrap());
    }
    #[test]
    fn a_late_target_answers_after_so_many_tries() {
        let target = Target { address: "192.0.2.1".parse().unwrap(), slot: Slot::Tcp(1) };
        let world = World::new(1).set(target, Truth::Late(2));
        let answers = [1, 2, 3].map(|try_number| world.answer(target, try_number).0);
        assert_eq!(answers, [Outcome::FILTERED, Outcome::FILTERED, Outcome::OPEN]);
        assert_eq!(world.expected(target), Outcome::OPEN);
    }
}
