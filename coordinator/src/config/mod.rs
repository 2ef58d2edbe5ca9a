//! What stands beside the command line: the environment (`PORTSWEEP_*`) and a config file in TOML.
//!
//! Flags win over the environment, that over the file, that over what is built in. What is never to be probed (`exclude`,
//! `excludefile`, `exclude-ports`) is united instead: nothing takes an exclusion away. A setting is kept as the text that was
//! written, with its place, so that it is read and refused like the flag that it stands for.
//!
//! The file is `--config FILE`, else `PORTSWEEP_CONFIG`, else `$XDG_CONFIG_HOME/portsweep/config.toml` (or `~/.config/…`), which need
//! not exist. One that cannot be read, parsed or trusted ends the program before anything is sent: a scan without the exclusions
//! that were meant to stand is worse than none. Not trusted is a file that its group or others may write (they could take the
//! exclusions out), or that was found, not named, and belongs to somebody else.

mod environment;
mod file;
#[cfg(test)]
mod tests;

pub use environment::Environment;
pub use file::ConfigError;

use std::path::{Path, PathBuf};

/// The keys of the file. A variable is the key in capitals, after `PORTSWEEP_`.
pub const KEYS: [&str; 12] = [
    "exclude",
    "excludefile",
    "exclude-ports",
    "kinds",
    "ports",
    "timeout",
    "rate",
    "per-host-rate",
    "window",
    "format",
    "state",
    "keep",
];

/// A setting as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// One of [`KEYS`].
    pub key: &'static str,
    /// Where it was written, for a person: `PORTSWEEP_RATE`, or `rate in "/home/a/.config/portsweep/config.toml"`.
    pub place: String,
    /// Its values, at least one.
    pub values: Vec<String>,
    /// What a relative path in it is relative to; `None` for the current directory.
    pub base: Option<PathBuf>,
}

/// What was found beside the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    file: Option<PathBuf>,
    /// The environment's before the file's.
    settings: Vec<Setting>,
}

impl Config {
    /// Reads the environment's settings and the file. `named` is what `--config` says.
    ///
    /// # Errors
    /// If the file cannot be used. Whether values make sense is for whoever takes them.
    pub fn load(named: Option<&Path>, environment: &Environment) -> Result<Self, ConfigError> {
        let mut settings: Vec<_> = KEYS.into_iter().filter_map(|key| from_variable(key, environment)).collect();
        let named = named.map(Path::to_owned).or_else(|| environment.get("PORTSWEEP_CONFIG").map(PathBuf::from));
        let (path, is_named) = match (named, environment.config_home()) {
            (Some(path), _) => (path, true),
            (None, Some(home)) => (home.join("portsweep/config.toml"), false),
            (None, None) => return Ok(Self { file: None, settings }),
        };
        let Some(text) = file::read(&path, is_named)? else { return Ok(Self { file: None, settings }) };
        settings.extend(file::parse(&path, &text)?);
        Ok(Self { file: Some(path), settings })
    }

    /// The file that was read.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The setting of a key that holds: the environment's, else the file's.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.all(key).next()
    }

    /// Every setting of a key, for those that are united.
    pub fn all(&self, key: &str) -> impl Iterator<Item = &Setting> {
        debug_assert!(KEYS.contains(&key), "{key} is no key");
        self.settings.iter().filter(move |setting| setting.key == key)
    }
}

fn from_variable(key: &'static str, environment: &Environment) -> Option<Setting> {
    let variable = format!("PORTSWEEP_{}", key.to_ascii_uppercase().replace('-', "_"));
    let value = environment.get(&variable)?.to_string_lossy().into_owned();
    Some(Setting { key, place: variable, values: vec![value], base: None })
}
