//! The commands that act on scans that are kept: `resume` and `scans`, with a meaning.

use super::keeping::Keeping;
use super::names::LookUp;
use super::presets::Presets;
use super::request::Reader;
use super::{CliError, commands};
use crate::config::{Config, Environment};
use crate::state::State;
use protocol::range_set::AddressSet;
use std::io::Read;

/// A scan is to be gone on with.
#[derive(Clone, Debug)]
pub struct ResumeRequest {
    id: Option<String>,
    agent_wait_s: Option<u32>,
    keeping: Keeping,
    exclude: AddressSet,
}

impl ResumeRequest {
    pub(super) fn new(
        (id, agent_wait_s): (Option<String>, Option<u32>),
        place: &commands::Place,
        environment: &Environment,
        stdin: &mut dyn Read,
        names: &dyn LookUp,
    ) -> Result<Self, CliError> {
        let config = Config::load(place.config.as_deref(), environment)?;
        let presets = Presets::new(&config);
        let keeping = Keeping::new((place.state.as_deref(), None), presets, environment)?;
        let (exclude, _) = Reader::new(stdin, names).standing_exclusions(presets)?;
        Ok(Self { id, agent_wait_s, keeping, exclude })
    }

    /// The beginning of its id; `None` for the newest that can be gone on with.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// How long what no present agent may or can reach is waited for, in seconds; `None` for as long as when it was started.
    #[must_use]
    pub fn agent_wait_s(&self) -> Option<u32> {
        self.agent_wait_s
    }

    /// Where it is kept.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.keeping.state
    }

    /// How many finished scans stay.
    #[must_use]
    pub fn keep(&self) -> usize {
        self.keeping.keep
    }

    /// What stands excluded today: never probed, whatever the scan was asked for.
    #[must_use]
    pub fn exclude(&self) -> &AddressSet {
        &self.exclude
    }
}

/// What is to be done with scans that are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScansAction {
    /// List them.
    List,
    /// Show what one found.
    Show(String),
    /// Write its result.
    Export(String, Export),
    /// Remove some.
    Remove(Vec<String>),
}

/// The form of an exported result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Export {
    /// As `-w` writes it.
    Json,
    /// As `-o jsonl` writes it.
    Jsonl,
    /// A table for spreadsheets.
    Csv,
}

impl Export {
    /// Its name, as it is typed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
        }
    }
}

/// Reads the value of `scans export -o`.
pub(super) fn export(text: &str) -> Result<Export, String> {
    match text {
        "json" => Ok(Export::Json),
        "jsonl" => Ok(Export::Jsonl),
        "csv" => Ok(Export::Csv),
        _ => Err("write json, jsonl or csv".to_owned()),
    }
}

/// Scans that are kept are to be listed, shown, exported or removed.
#[derive(Clone, Debug)]
pub struct ScansRequest {
    /// Where they are kept.
    pub state: State,
    /// What is to be done.
    pub action: ScansAction,
}

/// The state directory that a command acts on.
pub(super) fn state(place: &commands::Place, environment: &Environment) -> Result<State, CliError> {
    let config = Config::load(place.config.as_deref(), environment)?;
    let presets = Presets::new(&config);
    Ok(Keeping::new((place.state.as_deref(), None), presets, environment)?.state)
}
