//! The summary of a result, as JSON has it: counts that add up.

use super::Places;
use super::facts::{STATES, ScanFacts};
use serde::Serialize;
use std::collections::BTreeMap;

/// The members of `summary`, in their order.
#[derive(Serialize)]
pub(super) struct Summary {
    pub(super) targets: u64,
    pub(super) probed: u64,
    pub(super) addresses: Addresses,
    pub(super) states: States,
    /// By cause.
    pub(super) not_probed: BTreeMap<&'static str, u64>,
    pub(super) single_try: u64,
    pub(super) estimated_loss: Option<f64>,
    /// Its ends.
    pub(super) estimated_loss_interval: Option<(f64, f64)>,
    /// Probes in flight over all hosts, at most.
    pub(super) window: Option<u32>,
    pub(super) elapsed_s: f64,
}

#[derive(Serialize)]
pub(super) struct Addresses {
    hosts: u64,
    silent: u64,
    not_probed: u64,
}

#[derive(Serialize)]
pub(super) struct States {
    open: u64,
    closed: u64,
    filtered: u64,
    up: u64,
    down: u64,
}

impl Summary {
    pub(super) fn new(facts: &ScanFacts, places: Places) -> Self {
        let counts = &facts.counts;
        let [open, closed, filtered, up, down] = STATES.map(|state| counts.in_state(state));
        let Places { hosts, silent, not_probed } = places;
        Self {
            targets: counts.targets(),
            probed: counts.probed(),
            addresses: Addresses { hosts, silent, not_probed },
            states: States { open, closed, filtered, up, down },
            not_probed: counts.not_probed().map(|(cause, count)| (cause.as_str(), count)).collect(),
            single_try: facts.single_try,
            estimated_loss: facts.estimated_loss,
            estimated_loss_interval: facts.estimated_loss_interval,
            window: facts.window,
            // To the millisecond: the rest is noise.
            elapsed_s: (facts.elapsed.as_secs_f64() * 1_000.0).round() / 1_000.0,
        }
    }
}
