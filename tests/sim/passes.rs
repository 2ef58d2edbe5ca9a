//! Promise: what a try lost is found by a later pass, up to the risk that DESIGN.md names; no answer is asked for twice, and
//! `--passes` fixes the tries. Both cores run in scenes whose truth and loss are those of the agent's simulated prober.

use crate::faults::{Faults, Random};
use crate::world::{Ran, Scene, run, run_in};
use crate::{replay, seeds};
use agent_core::simulated::{Truth, World as Network};

fn ran(seed: u64, faults: Faults) -> Ran {
    run(seed, faults, None).unwrap_or_else(|broken| panic!("seed {seed}: {broken}\n{}", replay(seed)))
}

fn ran_in(seed: u64, tries: Option<u8>, scene: Scene) -> Ran {
    let faults = Faults { tries, ..Faults::none() };
    run_in(scene, Random::new(seed), seed, faults, None)
        .unwrap_or_else(|broken| panic!("seed {seed}: {broken}\n{}", replay(seed)))
}

fn missed(loss_percent: u64, tries: Option<u8>) -> (u64, u64) {
    let faults = Faults { loss_percent, tries, ..Faults::none() };
    seeds().take(100).fold((0, 0), |(missed, targets), seed| {
        let ran = ran(seed, faults.clone());
        (missed + ran.missed, targets + ran.targets)
    })
}

/// One host that answers on every port, but for the first `late` tries at each of `ports`.
fn late(ports: std::ops::RangeInclusive<u16>, late: u32) -> Scene {
    let network = Network::new(7).alive_ppm(1_000_000).ports_ppm(1_000_000, 0);
    let network = ports.clone().fold(network, |network, port| network.set(Scene::target(0, port), Truth::Late(late)));
    Scene { hosts: 1, ports: *ports.end(), ping: false, network, window: 64, discover: false, may_miss: true }
}

#[test]
fn a_target_that_loses_its_first_packet_is_found_by_the_second_pass_and_not_without() {
    for seed in seeds().take(20) {
        let without = ran_in(seed, Some(1), late(80..=80, 1));
        assert_eq!((without.missed, without.sent), (1, 80), "seed {seed}: one pass");
        for tries in [Some(2), None] {
            let with = ran_in(seed, tries, late(80..=80, 1));
            assert_eq!((with.missed, with.sent), (0, 81), "seed {seed}: with a second pass ({tries:?})");
        }
    }
}

/// Nothing of it answers at first; of a host without a sign of life only the first 32 targets are tried again. These show that it lives,
/// and so the rest has its second try in the third pass.
#[test]
fn a_host_that_shows_life_late_gets_its_silent_targets_tried_again() {
    for seed in seeds().take(20) {
        let ran = ran_in(seed, None, late(1..=100, 1));
        assert_eq!((ran.missed, ran.sent), (0, 200), "seed {seed}");
    }
}

#[test]
fn a_host_that_shows_no_life_gets_its_first_targets_tried_again_and_no_more() {
    for seed in seeds().take(20) {
        let network = Network::new(7).alive_ppm(0);
        let scene = Scene { hosts: 1, ports: 100, ping: false, network, window: 64, discover: false, may_miss: false };
        assert_eq!(ran_in(seed, None, scene).sent, 132, "seed {seed}");
    }
}

#[test]
fn fixed_passes_try_what_is_silent_so_often_and_what_answers_once() {
    for (seed, tries) in seeds().take(40).zip([1, 2, 3, 8].into_iter().cycle()) {
        let ran = ran(seed, Faults { tries: Some(tries), ..Faults::none() });
        let answer = ran.targets - ran.silent;
        assert_eq!(ran.sent, answer + ran.silent * u64::from(tries), "seed {seed}: {tries} tries");
    }
}

#[test]
fn a_second_try_finds_most_of_what_the_first_lost() {
    let (once, targets) = missed(5, Some(1));
    assert!(once * 100 > targets, "{once} of {targets} missed by one try each: the loss is not there");
    let (twice, _) = missed(5, Some(2));
    assert!(twice * 8 < once, "{twice} missed by two tries each, {once} by one");
}

/// What is lost k times in a row is missed: p^k of what answers, k chosen so that it stays below 0.0002. Twice that is allowed
/// for what chance does, and for p being measured.
#[test]
fn the_risk_holds_for_no_little_and_much_loss() {
    for loss_percent in [0, 1, 5, 20] {
        let (missed, targets) = missed(loss_percent, None);
        println!("{loss_percent} % loss: {missed} of {targets} missed");
        assert!(missed as f64 <= 0.0004 * targets as f64, "{loss_percent} % loss: {missed} of {targets} missed");
    }
}

/// Scans for the estimate, each of a network of its own.
const ESTIMATES: usize = 300;
/// What the interval claims.
const CLAIMED: f64 = 0.95;
/// How seldom a true claim may fail here, on either side.
const BY_CHANCE: f64 = 0.0001;

/// Fewest and most of `scans` that a claim holds for, but for a chance of [`BY_CHANCE`] on each side: the binomial distribution, summed.
fn held_by_chance(scans: usize) -> (usize, usize) {
    // Each term follows from the one before it; in logarithms, as the first is too small for a number.
    let odds = (CLAIMED / (1.0 - CLAIMED)).ln();
    let mut term = scans as f64 * (1.0 - CLAIMED).ln();
    let (mut sum, mut fewest, mut most) = (0.0, 0, scans);
    for held in 0..=scans {
        sum += term.exp();
        if sum <= BY_CHANCE {
            fewest = held + 1;
        }
        if sum < 1.0 - BY_CHANCE {
            most = held + 1;
        }
        term += ((scans - held) as f64 / (held + 1) as f64).ln() + odds;
    }
    (fewest, most.min(scans))
}

/// The interval of the loss that the receipt states is computed of whole scans: hosts that live and that do not, ports that answer and that
/// never do, passes as the loss itself asks for them.
#[test]
fn the_stated_loss_holds_the_truth_as_often_as_it_claims() {
    let seeds: Vec<u64> = seeds().take(ESTIMATES).collect();
    for loss_ppm in [10_000, 50_000, 200_000] {
        let truth = f64::from(loss_ppm) / 1e6;
        let held = |&&seed: &&u64| {
            let network = Network::new(seed).alive_ppm(600_000).ports_ppm(100_000, 300_000).loss_ppm(loss_ppm);
            let scene =
                Scene { hosts: 16, ports: 40, ping: true, network, window: 64, discover: false, may_miss: true };
            // Where nothing answered nothing is claimed.
            ran_in(seed, None, scene).loss.interval().is_none_or(|(low, high)| (low..=high).contains(&truth))
        };
        let held = seeds.iter().filter(held).count();
        let (fewest, most) = held_by_chance(seeds.len());
        println!("{truth}: {held} of {} intervals hold it; {fewest} to {most} are expected", seeds.len());
        if seeds.len() == ESTIMATES {
            assert!((fewest..=most).contains(&held), "{held} of {ESTIMATES} hold {truth}, not {fewest} to {most}");
        }
    }
}

#[test]
fn what_chance_allows_is_computed_as_tables_have_it() {
    let (fewest, most) = held_by_chance(300);
    assert!((268..=271).contains(&fewest) && (296..=298).contains(&most), "{fewest} to {most}");
    assert_eq!(held_by_chance(1), (0, 1));
}
