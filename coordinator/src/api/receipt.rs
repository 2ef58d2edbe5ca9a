//! The receipt: the account of a scan that ended.

use crate::report::facts::{AgentFacts, PingMethod, STATES, ScanFacts};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// The account of a scan that ended: `targets` is the sum of `states` and `not_probed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Receipt {
    /// The scan.
    pub scan: String,
    /// The command line that asked for it.
    pub command: String,
    /// How it ended: `partial`, `interrupted`, `done`, `cancelled`.
    pub status: String,
    /// When it was submitted.
    #[schema(value_type = String, format = DateTime)]
    pub started: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished: Option<Timestamp>,
    /// How long it ran in seconds.
    pub elapsed_s: f64,
    /// The digest of its plan, in hexadecimal.
    pub plan: String,
    /// What its order was made from.
    pub seed: u64,
    /// How many targets it had.
    pub targets: u64,
    /// How many were probed.
    pub probed: u64,
    /// How many are in each state.
    pub states: BTreeMap<String, u64>,
    /// How many were not probed, by cause.
    pub not_probed: BTreeMap<String, u64>,
    /// How many states rest on a single try.
    pub single_try: u64,
    /// The measured share of tries that was lost, 0 to 1; null where nothing could be measured.
    pub estimated_loss: Option<f64>,
    /// Who looked.
    pub agents: Vec<ReceiptAgent>,
}

/// An agent's part in a scan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReceiptAgent {
    /// Its name.
    pub name: String,
    /// The place in the network that it saw from.
    pub vantage: Option<String>,
    /// The version of its software.
    pub version: String,
    /// How it asked for life: `icmp` or `tcp`; null where nobody asked.
    pub ping_method: Option<String>,
    /// How many targets it probed.
    pub probed: u64,
}

impl Receipt {
    /// Of the facts of a scan.
    #[must_use]
    pub fn new(facts: &ScanFacts) -> Self {
        let counts = &facts.counts;
        Self {
            scan: facts.id.to_string(),
            command: facts.command.clone(),
            status: facts.status.as_str().to_owned(),
            started: facts.started,
            finished: facts.finished,
            elapsed_s: (facts.elapsed.as_secs_f64() * 1_000.0).round() / 1_000.0,
            plan: facts.plan.clone(),
            seed: facts.seed,
            targets: counts.targets(),
            probed: counts.probed(),
            states: STATES.iter().map(|state| (state.as_str().to_owned(), counts.in_state(*state))).collect(),
            not_probed: counts.not_probed().map(|(cause, count)| (cause.as_str().to_owned(), count)).collect(),
            single_try: facts.single_try,
            estimated_loss: facts.estimated_loss,
            agents: facts.agents.iter().map(ReceiptAgent::new).collect(),
        }
    }
}

impl ReceiptAgent {
    fn new(agent: &AgentFacts) -> Self {
        Self {
            name: agent.name.clone(),
            vantage: agent.vantage.clone(),
            version: agent.version.clone(),
            ping_method: agent.ping_method.map(PingMethod::as_str).map(str::to_owned),
            probed: agent.probed,
        }
    }
}
