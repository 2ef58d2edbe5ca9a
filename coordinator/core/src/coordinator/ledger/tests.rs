//! Shares over any run of joins, losses, ends, changes and acknowledgements: by the letters at the head of the module.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Joins(u64),
    Loses(u64),
    Returns(u64),
    Ends(u64),
    Acknowledges(u64),
    Budget(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = 0..6_u64;
    let budget = prop_oneof![1..SHARE_MIN, SHARE_MIN..20 * SHARE_MIN, Just(10_000 * SHARE_MIN)];
    let step = prop_oneof![
        who.clone().prop_map(Step::Joins),
        who.clone().prop_map(Step::Loses),
        who.clone().prop_map(Step::Returns),
        who.clone().prop_map(Step::Ends),
        who.clone().prop_map(Step::Acknowledges),
        who.prop_map(Step::Acknowledges),
        budget.prop_map(Step::Budget),
    ];
    prop::collection::vec(step, 1..60)
}

/// The ledger, and beside it what each instance has in force and what is on its way to it.
struct World {
    ledger: Ledger,
    budget: u64,
    number: u64,
    in_force: BTreeMap<u64, u64>,
    coming: BTreeMap<u64, Vec<Told>>,
    connected: BTreeMap<u64, bool>,
}

impl World {
    fn id(who: u64) -> InstanceId {
        InstanceId::new(who)
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Joins(who) if !self.connected.contains_key(&who) => {
                self.connected.insert(who, true);
                self.in_force.insert(who, 0);
                self.ledger.hello(Self::id(who), None, true, true, (1, false));
            }
            Step::Returns(who) if self.connected.get(&who) == Some(&false) => {
                self.connected.insert(who, true);
                self.coming.remove(&who);
                let share = Some(rate(self.in_force[&who]));
                self.ledger.hello(Self::id(who), share, true, true, (1, false));
            }
            Step::Loses(who) if self.connected.get(&who) == Some(&true) => {
                self.connected.insert(who, false);
                self.ledger.lost(Self::id(who));
            }
            Step::Ends(who) => {
                self.connected.remove(&who);
                self.in_force.remove(&who);
                self.coming.remove(&who);
                self.ledger.forget(Self::id(who));
            }
            // The oldest that is on its way arrives, even where the session is believed lost; only then is it acknowledged.
            Step::Acknowledges(who) => {
                let Some(told) =
                    self.coming.get_mut(&who).filter(|coming| !coming.is_empty()).map(|told| told.remove(0))
                else {
                    return;
                };
                self.in_force.insert(who, micros(told.share));
                if self.connected.get(&who) == Some(&true) {
                    self.ledger.acknowledge(Self::id(who), told.number);
                }
            }
            Step::Budget(budget) => self.budget = budget,
            _ => {}
        }
    }

    fn tell(&mut self) {
        for (instance, share) in self.ledger.plan(rate(self.budget), (1, false)) {
            self.number += 1;
            let told = Told { number: self.number, version: (1, false), share };
            self.ledger.tell(instance, told);
            self.coming.entry(instance.get()).or_default().push(told);
        }
    }

    fn settle(&mut self) {
        while self.coming.values().any(|coming| !coming.is_empty()) {
            for who in 0..6 {
                self.step(&Step::Acknowledges(who));
            }
            self.tell();
        }
    }
}

proptest! {
    #[test]
    fn shares_keep_their_properties(steps in steps(), budget in 1..100 * SHARE_MIN) {
        let mut world = World {
            ledger: Ledger::default(),
            budget,
            number: 0,
            in_force: BTreeMap::new(),
            coming: BTreeMap::new(),
            connected: BTreeMap::new(),
        };
        let mut most = budget;
        for step in &steps {
            world.step(step);
            let sum: u64 = world.in_force.values().sum();
            // What was told under a larger budget may still arrive.
            let settled = world.coming.values().all(Vec::is_empty) && sum <= world.budget;
            most = if settled { world.budget } else { most.max(world.budget) };
            prop_assert!(sum <= most, "S1: {sum} of {most}");
            world.tell();
            for told in world.coming.values().flatten() {
                let share = micros(told.share);
                prop_assert!(share == 0 || share >= SHARE_MIN || share == world.budget || world.budget != budget, "S3");
            }
        }
        // Who is lost ends; who is there acknowledges.
        for who in 0..6 {
            if world.connected.get(&who) == Some(&false) {
                world.step(&Step::Ends(who));
            }
        }
        world.tell();
        world.settle();
        let served = (world.budget / SHARE_MIN).clamp(1, world.connected.len().max(1) as u64);
        let part = world.budget / served;
        let mut shares: Vec<_> = world.in_force.values().copied().collect();
        shares.sort_unstable();
        prop_assert!(shares.iter().all(|&share| share == 0 || share == part), "S4: {shares:?} of {}", world.budget);
        prop_assert_eq!(shares.iter().filter(|&&share| share > 0).count(), (served as usize).min(shares.len()), "S4");
        prop_assert!(world.ledger.behind((1, false)).next().is_none());
    }
}

/// Acknowledges at once whatever is told; what each has then, in packets a second.
fn told(ledger: &mut Ledger, number: &mut u64, budget: u32) -> Vec<f64> {
    loop {
        let planned = ledger.plan(Some(Rate::per_second(budget)), (1, false));
        if planned.is_empty() {
            return ledger.entries.values().map(|entry| Rate::from_micros(entry.in_use).as_per_second()).collect();
        }
        for (instance, share) in planned {
            *number += 1;
            ledger.tell(instance, Told { number: *number, version: (1, false), share });
            ledger.acknowledge(instance, *number);
        }
    }
}

/// Agents that can use so much each, for so many rounds of five seconds; the shares after each.
fn rounds(ledger: &mut Ledger, number: &mut u64, now: &mut Time, able: &[f64], count: u64) -> Vec<Vec<f64>> {
    let mut shares = told(ledger, number, 100);
    let mut used = vec![0.0; able.len()];
    (0..count)
        .map(|_| {
            for half in 0..3 {
                for (who, able) in (1..).zip(able) {
                    let at = who as usize - 1;
                    used[at] += if half == 0 { 0.0 } else { able.min(shares[at]) * 2.5 };
                    ledger.used(*now, InstanceId::new(who), used[at] as u64);
                }
                if half < 2 {
                    *now = *now + Duration::from_millis(2_500);
                }
            }
            shares = told(ledger, number, 100);
            shares.clone()
        })
        .collect()
}

fn joined(count: u64) -> Ledger {
    let mut ledger = Ledger::default();
    for who in 1..=count {
        ledger.hello(InstanceId::new(who), None, true, true, (1, false));
    }
    ledger
}

#[test]
fn s5_what_one_does_not_use_goes_to_the_other_and_comes_back_when_it_does() {
    let (mut ledger, mut number, mut now) = (joined(2), 0, Time::from_nanos(1));
    assert_eq!(told(&mut ledger, &mut number, 100), [50.0, 50.0]);
    let shares = rounds(&mut ledger, &mut number, &mut now, &[1_000.0, 5.0], 3);
    let [fast, slow] = shares[1][..] else { panic!("{shares:?}") };
    assert!(slow >= 5.0 && fast + 5.0 >= 95.0 && fast + slow <= 100.0, "{shares:?}");
    assert_eq!(shares[1], shares[2], "it stays so");
    let shares = rounds(&mut ledger, &mut number, &mut now, &[1_000.0, 1_000.0], 6);
    assert_eq!(shares.last().map(Vec::as_slice), Some(&[50.0, 50.0][..]), "{shares:?}");
}

#[test]
fn s5_agents_that_all_use_little_keep_equal_parts_and_so_does_one_alone() {
    for count in [1, 4] {
        let (mut ledger, mut number, mut now) = (joined(count), 0, Time::from_nanos(1));
        let able = vec![2.0; count as usize];
        let shares = rounds(&mut ledger, &mut number, &mut now, &able, 4);
        let equal = 100.0 / count as f64;
        assert!(shares.iter().flatten().all(|share| (share - equal).abs() < 0.01), "{shares:?}");
    }
}

proptest! {
    #[test]
    fn s5_parts_are_equal_but_for_those_who_use_less(
        budget in 1..100_000 * SHARE_MIN,
        usable in prop::collection::vec(prop::option::of(0..20_000 * SHARE_MIN), 1..9),
    ) {
        let served = (budget / SHARE_MIN).clamp(1, usable.len() as u64) as usize;
        let usable = &usable[..served];
        let shared = parts(budget, usable);
        let (sum, count) = (shared.iter().sum::<u64>(), served as u64);
        prop_assert!(sum <= budget && budget - sum < count, "nothing is left over, nothing is made: {sum}");
        let equal = budget / count;
        prop_assert!(shared.iter().all(|&part| part >= SHARE_MIN.min(equal)), "S3");
        prop_assert!(shared.iter().all(|&part| part >= equal / KEEPS_LEAST));
        let most = shared.iter().max();
        for (part, usable) in shared.iter().zip(usable) {
            let has_enough = usable.is_some_and(|usable| *part >= usable);
            prop_assert!(has_enough || Some(part) == most, "{part} of {shared:?}");
        }
    }
}
