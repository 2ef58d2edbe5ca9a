//! Agents that are drained: they stay connected and get no work, and what they have in hand is asked back.
//!
//! Nothing is lost by it: what such an agent found is committed, and the rest of its leases is a later pass's, elsewhere. It counts as one that
//! went: its share goes to others, and what it alone may probe is waited for as long as for any agent.

use super::instances::Instance;
use super::{Coordinator, Event, Output};
use protocol::id::InstanceId;
use protocol::message::CoordinatorMessage;
use protocol::time::Time;
use std::collections::{BTreeMap, BTreeSet};

/// Who is drained, by name.
#[derive(Debug, Default)]
pub(super) struct Drained {
    /// With whether it has something in hand, as it was told last.
    names: BTreeMap<String, Option<bool>>,
}

impl Drained {
    /// Whether this one is.
    pub(super) fn has(&self, known: &Instance) -> bool {
        known.facts.as_ref().is_some_and(|facts| self.names.contains_key(&facts.name))
    }
}

impl Coordinator {
    /// From now on these agents are drained, and no others.
    pub(super) fn drain(&mut self, now: Time, names: BTreeSet<String>) {
        let before = std::mem::take(&mut self.drained.names);
        self.drained.names = names.into_iter().map(|name| (name, None)).collect();
        let instances: Vec<_> = self.instances.iter().filter(|(_, known)| known.session.is_some()).collect();
        let is_in = |names: &BTreeMap<String, Option<bool>>, known: &Instance| {
            known.facts.as_ref().is_some_and(|facts| names.contains_key(&facts.name))
        };
        let changed = |(_, known): &(&InstanceId, &Instance)| is_in(&before, known) != self.drained.has(known);
        let changed: Vec<_> = instances.into_iter().filter(changed).map(|(&instance, _)| instance).collect();
        for (name, told) in before {
            if let Some(kept) = self.drained.names.get_mut(&name) {
                *kept = told;
            }
        }
        for instance in changed {
            let Some(known) = self.instances.get_mut(&instance) else { continue };
            let is_drained = self.drained.has(known);
            for scan in self.scans.values_mut() {
                scan.ledger.set_useful(instance, !is_drained && scan.is_for(known.vantage(), &known.allow));
            }
            if is_drained {
                // Others' leases are not asked back for it.
                known.idle_since = None;
                self.departs(now, instance);
                self.ask_all_back(instance);
            }
        }
        (self.work, self.retell) = (true, true);
    }

    /// Asks an instance for all that it has.
    pub(super) fn ask_all_back(&mut self, instance: InstanceId) {
        let Some(session) = self.instances.get(&instance).and_then(|known| known.session) else { return };
        for (&epoch, lease) in self.leases.iter_mut().filter(|(_, lease)| lease.holder == Some(instance)) {
            lease.asked_back = true;
            self.outputs.push_back(Output::Send(session, Box::new(CoordinatorMessage::GiveBack { epoch })));
        }
    }

    /// Tells which drained agents have something in hand, where that is news.
    pub(super) fn tell_drained(&mut self) {
        let mut drained = std::mem::take(&mut self.drained);
        for (name, told) in &mut drained.names {
            let of_it = |known: &Instance| known.facts.as_ref().is_some_and(|facts| facts.name == *name);
            let mut its = self.instances.iter().filter(|(_, known)| of_it(known));
            let in_hand = its.any(|(&instance, _)| self.open_leases(instance) > 0);
            if told.replace(in_hand) != Some(in_hand) {
                self.outputs.push_back(Output::Event(Event::Drains { agent: name.clone(), in_hand }));
            }
        }
        self.drained = drained;
    }
}
