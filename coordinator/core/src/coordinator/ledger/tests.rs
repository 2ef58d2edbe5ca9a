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
