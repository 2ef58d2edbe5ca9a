//! The environment, as far as portsweep asks it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Variables by name. A variable that is empty counts as unset, as XDG has it.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
}

impl Environment {
    /// That of this process.
    #[must_use]
    pub fn read() -> Self {
        std::env::vars_os().collect()
    }

    /// What a variable says.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// Where config files are: `XDG_CONFIG_HOME`, else `~/.config`; `None` where there is no home.
    #[must_use]
    pub fn config_home(&self) -> Option<PathBuf> {
        self.directory("XDG_CONFIG_HOME", ".config")
    }

    /// Where state is kept: `XDG_STATE_HOME`, else `~/.local/state`; `None` where there is no home.
    #[must_use]
    pub fn state_home(&self) -> Option<PathBuf> {
        self.directory("XDG_STATE_HOME", ".local/state")
    }

    /// Paths in these variables must be absolute; others are to be passed over (XDG base directory specification).
    fn directory(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        let absolute = |name| self.get(name).map(Path::new).filter(|path| path.is_absolute());
        match absolute(variable) {
            Some(path) => Some(path.to_owned()),
            None => absolute("HOME").map(|home| home.join(below_home)),
        }
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self { variables: variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect() }
    }
}
