//! Each letter of the law, and the law against a host with a limit and against a path that loses.

use super::*;

const WAIT: Duration = Duration::from_millis(100);

fn at(millis: u64) -> Time {
    Time::from_nanos(millis * 1_000_000)
}

fn window(begins: u32) -> Window {
    Window::new(at(0), begins)
}

#[test]
fn l1_answers_let_it_grow_to_its_most_unless_too_much_is_silent() {
    let mut grows = window(128);
    for _ in 0..2_000 {
        grows.answered();
    }
    assert_eq!(grows.size(), MOST);
    let mut window = window(128);
    for _ in 0..100 {
        window.silent();
    }
    for _ in 0..20 {
        window.answered();
    }
    assert_eq!(window.size(), 128, "half of it is silent still");
    window.check_answered(at(0));
    assert_eq!(window.size(), 160);
}

#[test]
fn l2_l5_it_is_cut_by_lost_checks_to_its_least_and_then_the_host_is_gone() {
    let mut window = window(128);
    window.check_lost();
    window.check_lost();
    assert_eq!(window.size(), 128);
    window.check_lost();
    assert_eq!(window.size(), 32, "three of three");
    let mut lost = 0;
    for now in (0..10_000).step_by(10) {
        window.now(at(now), WAIT);
        if !window.is_gone() {
            window.check_lost();
            lost += 1;
        }
    }
    assert_eq!(window.size(), LEAST);
    assert!(window.is_gone() && lost > GONE, "{lost}");
    let mut small = Window::new(at(0), 2);
    for now in 0..100 {
        small.now(at(now), WAIT);
        small.check_lost();
    }
    assert_eq!(small.size(), 2, "what was asked for is not cut below");
}

#[test]
fn l4_checks_become_seldom_while_they_are_answered() {
    let (mut window, mut checks) = (window(128), 0);
    // A silent try each millisecond, for a minute.
    for now in 0..60_000 {
        window.silent();
        if window.wants_check(at(now)) {
            checks += 1;
            window.check_answered(at(now));
        }
    }
    assert!((40..120).contains(&checks), "{checks} in a minute");
    for _ in 0..2 {
        window.check_lost();
    }
    let again = (60_000..60_100).filter(|&now| {
        window.silent();
        window.wants_check(at(now))
    });
    assert_eq!(again.count(), 25, "a lost one is looked into");
}

/// Whole windows, a tenth of a second each, against something that answers a share of them: the mean window of the last half.
fn mean_after(rounds: u32, filtered: u32, answers: impl Fn(u32, u32) -> bool) -> f32 {
    let mut window = window(128);
    let mut sum = 0;
    for round in 0..rounds {
        let now = at(u64::from(round) * 100);
        let (size, mut checks) = (window.size(), Vec::new());
        for number in 0..size {
            window.now(now, WAIT);
            if draw(round, number + 4_000) >= filtered && answers(size, draw(round, number)) {
                window.answered();
            } else {
                window.silent();
                if window.wants_check(now) {
                    checks.push(answers(size, draw(round, number + 2_000)));
                }
            }
        }
        for answered in checks {
            match answered {
                true => window.check_answered(now),
                false => window.check_lost(),
            }
        }
        sum += if round >= rounds / 2 { size } else { 0 };
    }
    sum as f32 / (rounds - rounds / 2) as f32
}

/// A number below a thousand that is as good as random.
fn draw(round: u32, number: u32) -> u32 {
    let mixed = (u64::from(round) << 32 | u64::from(number)).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((mixed ^ mixed >> 29) % 1_000) as u32
}

#[test]
fn l2_a_host_with_a_limit_gets_little_more_than_it_answers() {
    // Of a window only ten are answered, whichever they are.
    let mean = mean_after(400, 0, |size, drawn| drawn * size < 10_000);
    assert!((6.0..16.0).contains(&mean), "{mean}");
}

#[test]
fn l3_a_path_that_loses_every_third_is_not_slowed_down_even_if_most_ports_are_filtered() {
    for filtered in [0, 950] {
        for loss in [0, 20, 100, 360] {
            let mean = mean_after(400, filtered, |_, drawn| drawn >= loss);
            assert!(mean > 300.0, "{mean} at a loss of {loss} in a thousand, {filtered} filtered");
        }
    }
}
