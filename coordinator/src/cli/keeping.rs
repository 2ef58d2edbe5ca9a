//! Where scans are kept, and how many: the flags and settings about state.

use super::presets::Presets;
use super::{CliError, args};
use crate::config::Environment;
use crate::state::{KEEP_DEFAULT, State};
use std::path::Path;

/// Where scans are kept, and how many finished ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// The state directory.
    pub state: State,
    /// How many finished scans stay.
    pub keep: usize,
}

impl Keeping {
    /// `typed` is what `--state` and `--keep` say.
    pub(super) fn new(
        typed: (Option<&Path>, Option<usize>),
        presets: Presets<'_>,
        environment: &Environment,
    ) -> Result<Self, CliError> {
        let preset = presets.paths("state").next().map(|(_, path)| path);
        let state = match (typed.0, preset) {
            (Some(path), _) => State::named(path, true),
            (None, Some(path)) => State::named(&path, false),
            (None, None) => State::usual(environment.state_home(), rustix::process::geteuid().is_root()),
        };
        let keep = presets.one("keep", args::keep)?;
        let keep = typed.1.or(keep).unwrap_or(KEEP_DEFAULT);
        Ok(Self { state: state.map_err(Box::new)?, keep })
    }
}
