//! Settings of the environment and the config file, read as the flags that they stand for.

use super::CliError;
use crate::config::{Config, Setting};
use protocol::quote::Quoted;
use std::path::PathBuf;

/// What was set beside the command line.
#[derive(Clone, Copy)]
pub(super) struct Presets<'a> {
    config: &'a Config,
}

impl<'a> Presets<'a> {
    pub(super) fn new(config: &'a Config) -> Self {
        Self { config }
    }

    /// A setting that has one value, read as its flag's.
    pub(super) fn one<T>(self, key: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, CliError> {
        let Some(Setting { place, values, .. }) = self.config.get(key) else { return Ok(None) };
        let refuse = |value: &str, why| CliError::Setting { value: Quoted::new(value), place: place.clone(), why };
        match values.as_slice() {
            [value] => read(value).map(Some).map_err(|why| refuse(value, why)),
            values => Err(refuse(&values.join(", "), "write one value, no list".to_owned())),
        }
    }

    /// The values of the setting that holds, cut at commas.
    pub(super) fn listed(self, key: &str) -> Vec<String> {
        let values = self.config.get(key).into_iter().flat_map(|setting| &setting.values);
        values.flat_map(|value| value.split(',')).map(|value| value.trim().to_owned()).collect()
    }

    /// The values of the setting that holds, each with its place.
    pub(super) fn placed(self, key: &str) -> Vec<(String, String)> {
        self.config.get(key).into_iter().flat_map(placed).collect()
    }

    /// The values of every setting of a key that is united, each with its place.
    pub(super) fn placed_all(self, key: &str) -> impl Iterator<Item = (String, String)> {
        self.config.all(key).flat_map(placed)
    }

    /// The files that every setting of a key names, each with its place.
    pub(super) fn paths(self, key: &str) -> impl Iterator<Item = (String, PathBuf)> {
        self.config.all(key).flat_map(|setting| {
            let Setting { place, values, base, .. } = setting;
            let from = |value| match base {
                Some(base) => base.join(value),
                None => PathBuf::from(value),
            };
            values.iter().map(move |value| (place.clone(), from(value)))
        })
    }
}

fn placed(setting: &Setting) -> impl Iterator<Item = (String, String)> {
    setting.values.iter().map(|value| (setting.place.clone(), value.clone()))
}
