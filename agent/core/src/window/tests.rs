//! Each letter of the law, and the law against hosts with a limit and paths that lose, simulated in virtual time.

use super::*;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const WAIT: Duration = Duration::from_millis(100);
const RTT: u64 = 10;

fn at(millis: u64) -> Time {
    Time::from_nanos(millis * 1_000_000)
}

fn window(begins: u32) -> Window {
    Window::new(at(0), begins)
}

/// What is at the other end.
#[derive(Clone, Copy, Debug)]
struct Path {
    /// Of a thousand tries, so many have no answer whatever happens: ports that are filtered.
    filtered: u64,
    /// Of a thousand round trips, so many are lost at random.
    loss: u64,
    /// Answers in a second, a tenth of them at once.
    limit: Option<f64>,
    /// Every so many milliseconds there is nothing to be sent for as long.
    pauses: Option<u64>,
}

const CLEAR: Path = Path { filtered: 0, loss: 0, limit: None, pauses: None };

/// What came of a run.
#[derive(Debug, Default)]
struct Ran {
    /// Tries of its last half that were sent, that were answered, and that had an answer.
    sent: u32,
    answered: u32,
    answerable: u32,
    checks: u32,
    seconds: f64,
}

impl Ran {
    fn sent_per_second(&self) -> f64 {
        f64::from(self.sent) / self.seconds
    }

    fn answered_per_second(&self) -> f64 {
        f64::from(self.answered) / self.seconds
    }

    fn found(&self) -> f64 {
        f64::from(self.answered) / f64::from(self.answerable.max(1))
    }
}

/// What comes back: a try or a check, answered or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Comes {
    sent: u64,
    check: bool,
    answered: bool,
}

/// Lets the law meet a path for so many milliseconds; a millisecond is a step.
fn run(path: Path, millis: u64, seed: u64) -> Ran {
    let (mut window, mut ran) = (window(128), Ran { seconds: millis as f64 / 2_000.0, ..Ran::default() });
    let mut flying = BinaryHeap::new();
    let (mut in_flight, mut number, mut level, mut wants) = (0, seed << 32, 0.0, 0);
    for now in 0..millis {
        while let Some(&Reverse((due, Comes { sent, check, answered }))) = flying.peek()
            && due <= now
        {
            flying.pop();
            in_flight -= 1;
            window.now(at(now), WAIT);
            match (check, answered) {
                (true, true) => window.check_answered(at(now), at(sent)),
                (true, false) => window.check_lost(),
                (false, true) => window.answered(at(sent), false),
                (false, false) => {
                    window.silent(at(sent));
                    wants += u32::from(window.wants_check(at(now)));
                }
            }
        }
        level = path.limit.map_or(0.0, |limit| f64::min(level + limit / 1_000.0, (limit / 10.0).max(1.0)));
        if path.pauses.is_some_and(|each| now / each % 2 == 1) {
            continue;
        }
        while in_flight < window.size() {
            let check = wants > 0 && (draw(number, 3) < 100 || in_flight == 0);
            if !window.take(at(now), 1, check) {
                number += 1;
                break;
            }
            wants -= u32::from(check);
            number += 1;
            let answerable = check || draw(number, 1) >= path.filtered;
            let mut answered = answerable && draw(number, 2) >= path.loss;
            if answered && path.limit.is_some() {
                answered = level >= 1.0;
                level -= f64::from(u32::from(answered));
            }
            in_flight += 1;
            let takes = if answered { RTT } else { WAIT.as_millis() as u64 };
            flying.push(Reverse((now + takes, Comes { sent: now, check, answered })));
            if now >= millis / 2 && !check {
                ran.sent += 1;
                ran.answered += u32::from(answered);
                ran.answerable += u32::from(answerable);
            }
            ran.checks += u32::from(check);
        }
    }
    ran
}

/// Asks so many targets that would all be answered, pass by pass, as often as a scan does at most: the share that was found.
fn passes(path: Path, targets: u32, seed: u64) -> f64 {
    const TRIES: u32 = 8;
    const BETWEEN: u64 = 400;
    let mut window = window(128);
    let (mut left, mut now, mut number, mut level, mut wants) = (targets, 0, seed << 32, 0.0, 0);
    for pass in 1..=TRIES {
        let (mut open, mut found) = (left, 0);
        let (mut flying, mut in_flight) = (BinaryHeap::new(), 0);
        while open > 0 || in_flight > 0 {
            while let Some(&Reverse((due, Comes { sent, check, answered }))) = flying.peek()
                && due <= now
            {
                flying.pop();
                in_flight -= 1;
                window.now(at(now), WAIT);
                match (check, answered) {
                    (true, true) => window.check_answered(at(now), at(sent)),
                    (true, false) => window.check_lost(),
                    (false, true) => {
                        window.answered(at(sent), pass > 1);
                        found += 1;
                    }
                    (false, false) => {
                        window.silent(at(sent));
                        wants += u32::from(window.wants_check(at(now)));
                    }
                }
            }
            level = path.limit.map_or(0.0, |limit| f64::min(level + limit / 1_000.0, (limit / 10.0).max(1.0)));
            while (open > 0 || wants > 0) && in_flight < window.size() {
                let check = wants > 0;
                if !window.take(at(now), 1, check) {
                    break;
                }
                number += 1;
                wants -= u32::from(check);
                open -= u32::from(!check);
                let mut answered = draw(number, 2) >= path.loss;
                if answered && path.limit.is_some() {
                    answered = level >= 1.0;
                    level -= f64::from(u32::from(answered));
                }
                in_flight += 1;
                let takes = if answered { RTT } else { WAIT.as_millis() as u64 };
                flying.push(Reverse((now + takes, Comes { sent: now, check, answered })));
            }
            now += 1;
        }
        left -= found;
        wants = 0;
        let rested = now + BETWEEN;
        while now < rested {
            level = path.limit.map_or(0.0, |limit| f64::min(level + limit / 1_000.0, (limit / 10.0).max(1.0)));
            now += 1;
        }
    }
    f64::from(targets - left) / f64::from(targets)
}

/// A number below a thousand that is as good as random.
fn draw(number: u64, purpose: u64) -> u64 {
    let mixed = (number * 4 + purpose).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ mixed >> 29) % 1_000
}

/// The mean of something over some runs.
fn mean(path: Path, millis: u64, of: impl Fn(&Ran) -> f64) -> f64 {
    const RUNS: u64 = 6;
    (1..=RUNS).map(|seed| of(&run(path, millis, seed))).sum::<f64>() / RUNS as f64
}

#[test]
fn l1_answers_let_it_grow_to_its_most_unless_too_much_is_silent() {
    let mut grows = window(128);
    for _ in 0..2_000 {
        grows.answered(at(0), false);
    }
    assert_eq!(grows.size(), MOST);
    let mut window = window(128);
    for _ in 0..100 {
        window.silent(at(0));
    }
    for _ in 0..20 {
        window.answered(at(0), false);
    }
    assert_eq!(window.size(), 128, "half of it is silent still");
    window.check_answered(at(0), at(0));
    assert_eq!(window.size(), 160);
}

#[test]
fn l2_l3_a_host_with_a_limit_gets_little_more_than_it_answers_and_loses_little() {
    for pauses in [None, Some(400)] {
        for filtered in [0, 500] {
            for loss in [0, 50] {
                for limit in [100.0, 1_000.0] {
                    let path = Path { filtered, loss, limit: Some(limit), pauses };
                    let found = mean(path, 20_000, Ran::found);
                    assert!(found > 0.55, "{found} of what is there, {path:?}");
                    let answered = mean(path, 20_000, Ran::answered_per_second);
                    let answers = if pauses.is_some() { limit / 2.0 } else { limit };
                    assert!(answered > answers * 0.6, "{answered} answers a second, {path:?}");
                    let without = answers / (1_024.0 / 0.1);
                    assert!(without < found / 2.0, "a full window finds {without}");
                }
            }
        }
    }
}

#[test]
fn l2_l3_of_hosts_with_a_limit_everything_is_found_within_the_passes_of_a_scan() {
    for limit in [30.0, 100.0, 300.0, 1_000.0] {
        for loss in [0, 20, 200] {
            let path = Path { limit: Some(limit), loss, ..CLEAR };
            let found: Vec<_> = (1..=40).map(|seed| passes(path, 400, seed)).collect();
            let mean = found.iter().sum::<f64>() / found.len() as f64;
            assert!(mean >= 0.9995, "{mean} of what is there, {path:?}");
        }
    }
}

#[test]
fn l2_what_a_later_pass_tries_first_was_not_lost() {
    let mut window = window(128);
    for now in 0..2_000 {
        window.now(at(now), WAIT);
        assert!(window.take(at(now), 1, false));
        window.answered(at(now), true);
    }
    assert!(window.pacer().is_none(), "nothing was silent");
}

#[test]
fn l2_a_host_is_never_paced_below_four_in_the_time_of_a_wait() {
    let path = Path { limit: Some(5.0), ..CLEAR };
    let sent = mean(path, 30_000, Ran::sent_per_second);
    assert!((30.0..100.0).contains(&sent), "{sent} a second");
    let mut small = Window::new(at(0), 2);
    small.now(at(0), WAIT);
    small.pace(0.1);
    assert_eq!(small.pacer().map(Pacer::rate), Some(Rate::per_second(20)), "what was asked for is not cut below");
}

#[test]
fn l4_a_path_that_loses_at_random_is_not_slowed_down_even_if_most_ports_are_filtered() {
    for filtered in [0, 500, 950] {
        for loss in [0, 20, 100, 200, 360] {
            let path = Path { filtered, loss, ..CLEAR };
            let answered = (1_000 - filtered) as f64 * (1_000 - loss) as f64 / 1e6;
            let full = f64::from(MOST) / (answered * 0.010 + (1.0 - answered) * 0.1);
            let sent = mean(path, 20_000, Ran::sent_per_second);
            assert!(sent > full * 0.8, "{sent} of {full} a second, {path:?}");
        }
    }
}

#[test]
fn l5_checks_become_seldom_while_they_are_answered() {
    let (mut window, mut checks) = (window(128), 0);
    // A silent try each millisecond, for a minute.
    for now in 0..60_000 {
        window.silent(at(now));
        if window.wants_check(at(now)) {
            checks += 1;
            window.check_answered(at(now), at(now));
        }
    }
    assert!((40..120).contains(&checks), "{checks} in a minute");
    for _ in 0..2 {
        window.check_lost();
    }
    let again = (60_000..60_100).filter(|&now| {
        window.silent(at(now));
        window.wants_check(at(now))
    });
    assert_eq!(again.count(), 25, "a lost one is looked into");
    let calm = run(Path { filtered: 500, ..CLEAR }, 20_000, 1);
    assert!(calm.checks < 2_000, "{} checks for {} tries a second", calm.checks, calm.sent_per_second());
}

#[test]
fn l6_a_host_is_gone_once_nothing_was_answered_for_a_second_and_not_before() {
    let mut window = window(128);
    window.now(at(0), WAIT);
    window.answered(at(0), false);
    for now in (10..1_000).step_by(10) {
        window.now(at(now), WAIT);
        window.check_lost();
        assert!(!window.is_gone());
    }
    window.now(at(1_000), WAIT);
    assert!(window.is_gone());
    window.answered(at(990), false);
    assert!(!window.is_gone(), "it was there after all");
}
