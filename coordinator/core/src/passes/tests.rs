//! (a) and (b) case by case, and what replaces what.

use super::*;

fn history(outcome: Outcome, tries: u8) -> History {
    History { outcome, tries, agent: 0, rtt_us: None }
}

fn loss(first: u64, second: u64) -> Loss {
    Loss { first, second, ..Loss::default() }
}

fn of(among_first: bool, alive: bool) -> OfHost {
    OfHost { among_first, alive, answers_nearly_all: false }
}

fn policy(tries: Option<u8>, loss: Loss) -> Policy {
    Policy { tries, loss, settled_anything: true }
}

#[test]
fn not_probed_never_replaces_a_state_and_silence_never_an_answer() {
    let not_probed = history(Outcome::not_probed(Cause::LocalLimit), 0);
    let silent = history(Outcome::FILTERED, 1);
    let open = history(Outcome::OPEN, 1);
    assert_eq!(History::PENDING.then(not_probed), not_probed);
    assert_eq!(not_probed.then(silent), silent);
    assert_eq!(silent.then(not_probed), silent);
    assert_eq!(silent.then(silent), history(Outcome::FILTERED, 2));
    assert_eq!(silent.then(open), history(Outcome::OPEN, 2));
    assert_eq!(open.then(silent), history(Outcome::OPEN, 2));
}

#[test]
fn answers_are_never_asked_again_and_final_causes_neither() {
    let lossy = policy(None, loss(100, 50));
    for outcome in [Outcome::OPEN, Outcome::CLOSED, Outcome::UP] {
        assert!(!history(outcome, 1).is_tried_again(of(true, true), &lossy), "{outcome}");
    }
    for cause in [Cause::Excluded, Cause::Broadcast, Cause::AgentFailed, Cause::NoAgent, Cause::NoDiscovery] {
        assert!(!history(Outcome::not_probed(cause), 0).is_tried_again(of(true, true), &lossy), "{cause}");
    }
}

#[test]
fn a_silent_target_is_asked_again_if_its_host_lives_or_it_is_among_the_first() {
    let unmeasured = policy(None, Loss::default());
    let silent = history(Outcome::FILTERED, 1);
    assert!(silent.is_tried_again(of(true, false), &unmeasured));
    assert!(silent.is_tried_again(of(false, true), &unmeasured));
    assert!(!silent.is_tried_again(of(false, false), &unmeasured), "nobody is there");
    assert!(
        !history(Outcome::DOWN, 2).is_tried_again(of(true, false), &unmeasured),
        "two tries told that nothing can be told"
    );
}

/// How many tries a silent target of a live host gets.
fn tries(fixed: Option<u8>, loss: Loss) -> u8 {
    (1..=u8::MAX)
        .find(|&tries| !history(Outcome::FILTERED, tries).is_tried_again(of(false, true), &policy(fixed, loss)))
        .unwrap()
}

#[test]
fn the_number_of_tries_follows_the_loss() {
    assert_eq!(tries(None, loss(1_000_000, 0)), 1, "no loss, on very many answers");
    assert_eq!(tries(None, loss(1_000, 0)), 2);
    assert_eq!(tries(None, loss(100_000, 1_000)), 2, "1 %: 0.0001 after two");
    assert_eq!(tries(None, loss(100_000, 5_000)), 3, "5 %: 0.000125 after three");
    assert_eq!(tries(None, loss(100_000, 20_000)), 6, "20 %: 0.000064 after six");
    assert_eq!(tries(None, loss(100, 90)), TRIES_MAX);
    assert_eq!(tries(None, loss(10, 0)), 3, "ten answers are not enough to say that there is none");
    assert_eq!([1, 2, 5].map(|fixed| tries(Some(fixed), loss(100, 90))), [1, 2, 5]);
}

#[test]
fn a_cause_of_this_machine_is_tried_again_while_anything_gets_through() {
    for cause in [Cause::LocalLimit, Cause::NoRoute, Cause::PermDenied] {
        let history = history(Outcome::not_probed(cause), 0);
        let policy = policy(Some(1), Loss::default());
        assert!(history.is_tried_again(of(false, false), &policy), "{cause}");
        assert!(!history.is_tried_again(of(false, false), &Policy { settled_anything: false, ..policy }), "{cause}");
    }
    for cause in [Cause::Interrupted, Cause::OutOfScope] {
        let stuck = Policy { settled_anything: false, ..policy(Some(1), Loss::default()) };
        let history = history(Outcome::not_probed(cause), 0);
        assert!(history.is_tried_again(of(false, false), &stuck), "{cause} says nothing of the target");
    }
}

#[test]
fn the_estimate_is_the_share_that_needed_a_second_try() {
    let mut tries = Tries::default();
    assert_eq!(tries.loss(0, 8).estimate(), None);
    for _ in 0..95 {
        tries.count(History::PENDING, Outcome::CLOSED);
    }
    for _ in 0..5 {
        tries.count(History::PENDING, Outcome::FILTERED);
        tries.count(history(Outcome::FILTERED, 1), Outcome::OPEN);
    }
    tries.count(history(Outcome::FILTERED, 1), Outcome::FILTERED);
    assert_eq!(tries.loss(0, 1).estimate(), None, "the second pass is not through");
    assert_eq!(tries.loss(0, 2).estimate(), Some(5.0 / 95.0));
    assert_eq!(tries.loss(1, 2), tries.loss(0, 2), "a pass says it once");
    assert_eq!(tries.loss(2, 8), Loss::default());
}

/// Of targets that all answer, with a loss of its own for each try, and of as many that never do.
fn pass_by_pass(targets: u32, truth: &[f64]) -> Tries {
    let (mut dice, mut tries) = (Dice(11), Tries::default());
    let mut silent = targets;
    for (before, lost) in truth.iter().enumerate() {
        let known = if before == 0 { History::PENDING } else { history(Outcome::FILTERED, before as u8) };
        let answered = (0..silent).filter(|_| dice.roll() >= *lost).count() as u32;
        (0..answered).for_each(|_| tries.count(known, Outcome::CLOSED));
        (0..targets + silent - answered).for_each(|_| tries.count(known, Outcome::FILTERED));
        silent -= answered;
    }
    tries
}

#[test]
fn each_try_has_a_loss_of_its_own() {
    // A link that drops most of the first pass: what is missing after each try, and what is reckoned with.
    let truth = [0.7, 0.2, 0.05, 0.02, 0.02];
    let mut missing = 1.0;
    for (made, lost) in (1_u8..).zip(truth) {
        missing *= lost;
        let loss = pass_by_pass(40_000, &truth[..usize::from(made)]).loss(0, made);
        assert!(loss.risk(made) > missing / 2.0, "{made}: {} is less than half of {missing}", loss.risk(made));
    }
    let needed = |truth: &[f64]| {
        (1_u8..8).find(|&made| {
            let loss = pass_by_pass(40_000, &truth[..usize::from(made)]).loss(0, made);
            !history(Outcome::FILTERED, made).is_tried_again(of(false, true), &policy(None, loss))
        })
    };
    assert_eq!(
        needed(&truth),
        Some(5),
        "0.7 * 0.2 * 0.05 * 0.02 = 0.00014 after four, of which the fourth is not known yet"
    );
    assert_eq!(needed(&[0.7; 8]), None, "it does not get less");
    let few = Tries { answers: [1_000, 20, 0, 0, 0, 0, 0, 0], made: 3, ..Tries::default() }.loss(0, 3);
    assert!(few.risk(2) > RISK, "none of twenty is no sign that nothing is lost: {}", few.risk(2));
    assert!(loss(100, 3).risk(3) < 0.000_1, "what is not known is as before");
}

/// Numbers from 0 to below 1 (SplitMix64), for scans of which the truth is known.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// What a scan measures of targets that all answer, unless question or answer is lost.
fn measured(targets: u32, truth: f64, dice: &mut Dice) -> Loss {
    let mut tries = Tries::default();
    for _ in 0..targets {
        let mut known = History::PENDING;
        for _ in 0..2 {
            let outcome = if dice.roll() < truth { Outcome::FILTERED } else { Outcome::OPEN };
            if known.outcome != Outcome::OPEN {
                tries.count(known, outcome);
                known = known.then(history(outcome, 1));
            }
        }
    }
    tries.loss(0, 2)
}

#[test]
fn the_true_loss_lies_within_the_interval_as_often_as_it_claims() {
    let mut dice = Dice(7);
    for (targets, truth) in [(300, 0.02), (300, 0.36), (3_000, 0.001), (3_000, 0.0199), (3_000, 0.0975), (3_000, 0.36)]
    {
        let scans = 1_000;
        let within = (0..scans)
            .filter(|_| {
                let loss = measured(targets, truth, &mut dice);
                let (low, high) = loss.interval().unwrap();
                assert!(low <= loss.estimate().unwrap() && loss.estimate().unwrap() <= high, "{loss:?}");
                (low..=high).contains(&truth)
            })
            .count();
        // 950 of 1,000, give or take four standard deviations of so many draws; a little more is what Wilson gives for few losses.
        assert!((922..=990).contains(&within), "{within} of {scans} for {truth} of {targets}");
    }
}

#[test]
fn the_interval_of_no_loss_begins_at_none_and_narrows() {
    assert_eq!(Loss::default().interval(), None);
    let (low, high) = loss(100, 0).interval().unwrap();
    assert!(low == 0.0 && (0.03..0.05).contains(&high), "{high}");
    let (low, high) = loss(100_000, 0).interval().unwrap();
    assert!(low == 0.0 && high < 0.0001, "{high}");
    let (low, high) = loss(1, 50).interval().unwrap();
    assert!(low > 0.5 && high <= 1.0, "{low} to {high}");
}

#[test]
fn where_the_second_try_found_more_the_first_lost_that_share_at_least() {
    // A host that answered a tenth at first, and three tenths once it was asked more slowly.
    let limited = loss(100, 300);
    assert_eq!(limited.estimate(), Some(0.75));
    let (low, high) = limited.interval().unwrap();
    assert!((0.70..0.75).contains(&low) && high == 1.0, "{low} to {high}: 0.9 were lost");
}

#[test]
fn refusals_that_hosts_limit_do_not_count_as_loss_of_the_network() {
    let mut tries = Tries::default();
    let mut answers = |outcome, first: u64, second: u64| {
        for (made, count) in [(0, first), (1, second)] {
            let before = History { tries: made, ..History::PENDING };
            (0..count).for_each(|_| tries.count(before, outcome));
        }
        tries.loss(0, 2)
    };
    assert_eq!(answers(Outcome::OPEN, 990, 10).estimate(), Some(10.0 / 990.0));
    let as_much = answers(Outcome::CLOSED, 990, 15);
    assert_eq!(as_much.estimate(), Some(25.0 / 1_980.0), "as far as chance goes they are the same");
    let limited = answers(Outcome::CLOSED, 1_000, 2_000);
    assert_eq!(limited.estimate(), Some(10.0 / 990.0));
    assert!(limited.interval().is_some_and(|(low, high)| low < 0.01 && high < 0.02), "{:?}", limited.interval());
    assert!(limited.risk(1) > 0.6, "but they are asked again as if it were lost");
}

#[test]
fn c_few_that_are_silent_on_a_host_that_answers_are_asked_once_more() {
    let answers = OfHost { among_first: false, alive: true, answers_nearly_all: answers_nearly_all(160, 20) };
    let lossless = policy(None, loss(1_000_000, 0));
    assert!(history(Outcome::FILTERED, 1).is_tried_again(answers, &lossless), "what was lost at one moment");
    assert!(!history(Outcome::FILTERED, 2).is_tried_again(answers, &lossless), "but once");
    assert!(!history(Outcome::CLOSED, 1).is_tried_again(answers, &lossless));
    assert!(!history(Outcome::FILTERED, 1).is_tried_again(answers, &policy(Some(1), loss(1_000_000, 0))), "fixed");
    assert!(!answers_nearly_all(160, 21) && !answers_nearly_all(0, 1));
}
