//! Promise: probes run at least once, their effects count exactly once, whatever crashes, freezes or is cut off. Both real cores with
//! the memory store run in virtual time from one seed; the oracles are in `world.rs`. `PORTSWEEP_SIM_SEED=N` replays one seed.

mod faults;
mod passes;
mod times;
mod world;

use faults::{Bug, Faults};
use world::{Reached, Which, run};

/// Seeds in an ordinary run.
fn seeds() -> std::ops::Range<u64> {
    if let Some(seed) = std::env::var("PORTSWEEP_SIM_SEED").ok().and_then(|text| text.parse().ok()) {
        return seed..seed + 1;
    }
    let count = std::env::var("PORTSWEEP_SIM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    0..count
}

fn replay(seed: u64) -> String {
    format!("replay with PORTSWEEP_SIM_SEED={seed} cargo test -p portsweep-tests --test sim")
}

#[test]
fn crashes_of_either_side_at_any_moment_change_nothing_of_the_result() {
    let mut reached = Reached::default();
    for seed in seeds() {
        match run(seed, Faults::drawn(seed), None) {
            Ok(ran) => reached.add(&ran.reached),
            Err(broken) => panic!("seed {seed}: {broken}\n{}", replay(seed)),
        }
    }
    println!("{} seeds: {reached:?}", seeds().count());
    if seeds().count() > 100 {
        let missing = reached.missing();
        assert!(missing.is_empty(), "this run never reached: {missing:?}");
    }
}

/// A thousand kills of each store, a third each: before a transaction, inside it, and after it with its answer lost. `audit`, and that what
/// was announced is there, is checked after each.
#[test]
fn kills_at_the_stores_writes_change_nothing_of_the_result() {
    for store in [Which::Memory, Which::Sqlite] {
        let mut reached = Reached::default();
        for seed in seeds() {
            match run(seed, Faults::drawn_at_writes(seed, store), None) {
                Ok(ran) => reached.add(&ran.reached),
                Err(broken) => panic!("seed {seed}, {store:?}: {broken}\n{}", replay(seed)),
            }
            let kills =
                [reached.killed_before_a_write, reached.killed_inside_a_write, reached.killed_before_the_answer];
            if kills.iter().all(|&kills| kills >= 334) {
                break;
            }
        }
        println!("{store:?}: {reached:?}");
        if seeds().count() > 100 {
            let kills =
                reached.killed_before_a_write + reached.killed_inside_a_write + reached.killed_before_the_answer;
            assert!(kills >= 1_000, "{store:?}: {kills} kills only: {reached:?}");
        }
    }
}

/// Both stores answer alike, so the world cannot tell them apart.
#[test]
fn a_seed_gives_the_same_log_with_either_store() {
    for seed in seeds().take(30) {
        let log = |store| run(seed, Faults { store, ..Faults::drawn(seed) }, None).map(|ran| ran.log);
        assert_eq!(log(Which::Memory), log(Which::Sqlite), "seed {seed}");
    }
}

#[test]
fn an_undisturbed_run_probes_every_target_once() {
    for seed in seeds().take(50) {
        let ran =
            run(seed, Faults::none(), None).unwrap_or_else(|broken| panic!("seed {seed}: {broken}\n{}", replay(seed)));
        assert_eq!(ran.sent, ran.targets, "seed {seed}: nothing failed, so nothing needed a second try");
    }
}

#[test]
fn an_undisturbed_run_in_stages_probes_the_ports_of_live_hosts_once_and_no_others() {
    let faults = Faults { discover: true, ..Faults::none() };
    for seed in seeds().take(50) {
        let ran =
            run(seed, faults.clone(), None).unwrap_or_else(|broken| panic!("seed {seed}: {broken}\n{}", replay(seed)));
        assert_eq!(ran.sent, ran.targets, "seed {seed}: nothing failed, so nothing needed a second try");
    }
}

#[test]
fn the_same_seed_gives_the_same_log() {
    for seed in seeds().take(20) {
        let logs = [(); 2].map(|()| run(seed, Faults::drawn(seed), None).map(|ran| ran.log));
        assert_eq!(logs[0], logs[1], "seed {seed}");
    }
}

/// The simulation counts only because it fails when the contract is broken on purpose.
#[test]
fn every_deliberate_bug_is_caught() {
    for &bug in Bug::ALL {
        let caught = (0..600)
            .find_map(|seed| run(seed, Faults::drawn_for(bug, seed), Some(bug)).err().map(|broken| (seed, broken)));
        match caught {
            Some((seed, broken)) => println!("{bug:?}: caught by seed {seed}: {broken}"),
            None => panic!("{bug:?} survived 600 seeds: an oracle is missing, or the rule is not needed"),
        }
    }
}
