//! The request of a scan as it is stored with it: what a report says of it, and how its output goes. What is probed, and how, is in the
//! store's own record.

use super::StateError;
use crate::cli::{Format, Output, ScanRequest, Write};
use coordinator_core::store::ScanRecord;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A request. New members have a default, so that older ones can be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRequest {
    /// The command line as it was typed, quoted for a shell.
    pub command: String,
    /// When the scan was started.
    pub started: Timestamp,
    /// The target specs as they were typed.
    pub targets: Vec<String>,
    /// The exclusions as they were typed, standing ones included.
    pub exclude: Vec<String>,
    /// Names that were typed, by the address that they stand for.
    pub names: BTreeMap<IpAddr, Vec<String>>,
    /// How its output goes.
    pub ask: Ask,
    /// When it was last gone on with, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed: Option<Timestamp>,
    /// How long it ran before that, in milliseconds; what passed while it was interrupted is no part of it.
    #[serde(default)]
    pub ran_before_ms: u64,
}

/// How the output of a scan was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    format: Option<Format>,
    open_only: bool,
    by_port: bool,
    quiet: bool,
    verbosity: u8,
    json_to_stdout: bool,
    /// The result file's absolute path: bytes, as a path need not be text.
    file: Option<Vec<u8>>,
}

impl StoredRequest {
    /// Of a scan that starts. `file` is the result file's absolute path.
    #[must_use]
    pub fn new(request: &ScanRequest, started: Timestamp, file: Option<&Path>) -> Self {
        let Output { format, open_only, by_port, ref write, quiet, verbosity } = *request.output();
        Self {
            command: request.command().to_owned(),
            started,
            targets: request.typed_targets().to_vec(),
            exclude: request.typed_exclude().to_vec(),
            names: request.names().clone(),
            ask: Ask {
                format,
                open_only,
                by_port,
                quiet,
                verbosity,
                json_to_stdout: *write == Some(Write::Stdout),
                file: file.map(|path| path.as_os_str().as_bytes().to_vec()),
            },
            resumed: None,
            ran_before_ms: 0,
        }
    }

    /// The same of a scan that is gone on with at `now`, after it ran for `ran`.
    #[must_use]
    pub fn resumed(self, now: Timestamp, ran: Duration) -> Self {
        Self { resumed: Some(now), ran_before_ms: u64::try_from(ran.as_millis()).unwrap_or(u64::MAX), ..self }
    }

    /// How long it ran up to `until`, if it ran to then since it was last started or gone on with.
    #[must_use]
    pub fn ran(&self, until: Timestamp) -> Duration {
        let since = self.resumed.unwrap_or(self.started);
        let last = Duration::try_from(until.duration_since(since)).unwrap_or_default();
        Duration::from_millis(self.ran_before_ms) + last
    }

    /// As it is stored.
    ///
    /// # Errors
    /// Never, for what [`new`](Self::new) made.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Reads what [`to_text`](Self::to_text) made.
    ///
    /// # Errors
    /// If it is something else.
    pub fn read(record: &ScanRecord) -> Result<Self, StateError> {
        serde_json::from_str(&record.request).map_err(|why| StateError::Request { id: record.id, why })
    }

    /// The output, as it was asked for.
    #[must_use]
    pub fn output(&self) -> Output {
        let Ask { format, open_only, by_port, quiet, verbosity, json_to_stdout, ref file } = self.ask;
        let file = file.as_ref().map(|bytes| Write::File(PathBuf::from(OsString::from_vec(bytes.clone()))));
        let write = if json_to_stdout { Some(Write::Stdout) } else { file };
        Output { format, open_only, by_port, write, quiet, verbosity }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_while_a_scan_is_interrupted_is_not_counted() {
        let at = |second: i64| Timestamp::from_second(1_000 + second).expect("a time");
        let request = StoredRequest {
            command: String::new(),
            started: at(0),
            targets: vec![],
            exclude: vec![],
            names: BTreeMap::new(),
            ask: Ask::default(),
            resumed: None,
            ran_before_ms: 0,
        };
        let first = request.ran(at(10));
        let second = request.resumed(at(500), first);
        assert_eq!(second.ran(at(505)), Duration::from_secs(15));
        let ran = second.ran(at(505));
        assert_eq!(second.resumed(at(9_000), ran).ran(at(9_001)), Duration::from_secs(16));
    }
}
