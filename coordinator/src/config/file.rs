//! The config file: whether it is to be trusted, and what it says.

use super::{KEYS, Setting};
use protocol::quote::Quoted;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// A config is some lines; long lists of exclusions have a file of their own (`excludefile`).
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The mode bits that let the group and others write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Why a config file cannot be used. The text is one line: what is wrong, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("the config file {} cannot be read: {why}", shown(.path))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// Others may write it.
    #[error("the config file {} can be written by others, who could take exclusions out: chmod go-w it", shown(.0))]
    Writable(PathBuf),
    /// It belongs to somebody else.
    #[error("the config file {} belongs to another user: chown it, or name it with --config", shown(.0))]
    Foreign(PathBuf),
    /// It is too long.
    #[error("the config file {} is longer than {FILE_BYTES_MAX} bytes: put exclusions into a file, excludefile = \"FILE\"", shown(.0))]
    TooLong(PathBuf),
    /// It is no TOML.
    #[error("the config file {}, line {line}: {}", shown(.path), .problem)]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser said.
        problem: String,
    },
    /// It has keys that mean nothing.
    #[error("the config file {} has no use for {keys}: it knows {}", shown(.path), KEYS.join(", "))]
    UnknownKeys {
        /// The file.
        path: PathBuf,
        /// The keys, quoted.
        keys: String,
    },
    /// A value is of no use.
    #[error("the config file {}: {key} is no text, number or list of them", shown(.path))]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
    },
}

fn shown(path: &Path) -> String {
    format!("{path:?}")
}

/// The file's text; `None` where it was not named and does not exist.
pub(super) fn read(path: &Path, is_named: bool) -> Result<Option<String>, ConfigError> {
    let unreadable = |why| ConfigError::Unreadable { path: path.to_owned(), why };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if !is_named && is_absent(&error) => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    trust(path, &file.metadata().map_err(unreadable)?, is_named)?;
    let mut bytes = Vec::new();
    (&mut file).take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(ConfigError::TooLong(path.to_owned()));
    }
    let not_text = |_| unreadable(io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"));
    String::from_utf8(bytes).map(Some).map_err(not_text)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// A file is trusted if all hold: 1. group and others cannot write it; 2. it is ours or root's, or was named. What is no regular file
/// (`/dev/null`, a pipe) was named by whoever typed it.
fn trust(path: &Path, found: &Metadata, is_named: bool) -> Result<(), ConfigError> {
    if !found.is_file() {
        return Ok(());
    }
    if found.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(ConfigError::Writable(path.to_owned()));
    }
    let ours = [0, rustix::process::geteuid().as_raw()].contains(&found.uid());
    if ours || is_named { Ok(()) } else { Err(ConfigError::Foreign(path.to_owned())) }
}

/// What a file says, key by key.
pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Setting>, ConfigError> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
        path: path.to_owned(),
        line: error
            .span()
            .map_or(1, |span| 1 + text.as_bytes().iter().take(span.start).filter(|&&b| b == b'\n').count()),
        problem: error.message().lines().collect::<Vec<_>>().join(", "),
    })?;
    let unknown: Vec<_> =
        table.keys().filter(|key| !KEYS.contains(&key.as_str())).map(|key| Quoted::new(key).to_string()).collect();
    if !unknown.is_empty() {
        return Err(ConfigError::UnknownKeys { path: path.to_owned(), keys: unknown.join(", ") });
    }
    // Relative to the file, wherever portsweep is started. An absolute path, so that it means the same later.
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let base = absolute.parent().map(Path::to_owned);
    let entries = KEYS.into_iter().filter_map(|key| Some((key, table.get(key)?)));
    entries
        .map(|(key, value)| {
            let values = texts(value).ok_or_else(|| ConfigError::Value { path: path.to_owned(), key })?;
            Ok(Setting { key, place: format!("{key} in {}", shown(path)), values, base: base.clone() })
        })
        .filter(|setting| !matches!(setting, Ok(Setting { values, .. }) if values.is_empty()))
        .collect()
}

/// A value as the texts that could be typed instead; `None` for one that nobody could type.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(values) => values.iter().map(scalar).collect(),
        value => scalar(value).map(|text| vec![text]),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}
