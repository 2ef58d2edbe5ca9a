//! What goes to standard output, in which form, and how much is told beside it: the flags under "Output", with a meaning.

use super::CliError;
use super::args::Args;
use super::request::Write;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The form of what goes to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Tables at the end, for people.
    Table,
    /// A line for each finding, as it is committed.
    Lines,
    /// A JSON object for each finding, as it is committed, and the summary at the end.
    Jsonl,
}

/// The output of a scan, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The form of standard output that was asked for; `None` where it follows what standard output is.
    pub format: Option<Format>,
    /// Tables and lists show what is open, and nothing else.
    pub open_only: bool,
    /// The table is grouped by port instead of by host.
    pub by_port: bool,
    /// Where the JSON goes, if anywhere.
    pub write: Option<Write>,
    /// Standard output stays silent, and there is no bar. (`-w -` puts the JSON there nevertheless.)
    pub quiet: bool,
    /// How much more than warnings is told on stderr: 0 nothing, 1 what is done, 2 and more for those who mend portsweep.
    pub verbosity: u8,
}

impl Output {
    /// Nothing: a scan is only waited for.
    #[must_use]
    pub fn silent() -> Self {
        Self { format: None, open_only: false, by_port: false, write: None, quiet: true, verbosity: 0 }
    }

    /// Gives the flags their meaning; `tcp` says whether ports are asked. `preset` is the form where nothing that was typed says it.
    pub(super) fn new(args: &Args, tcp: bool, preset: Option<Format>) -> Result<Self, CliError> {
        let write = args.write.clone().map(|path| match path {
            path if path == Path::new("-") => Write::Stdout,
            path => Write::File(path),
        });
        let by_port = args.by == Some(Group::Port);
        let only_table = by_port.then_some(Format::Table);
        for (flag, is_typed) in [("--open", args.open), ("--by port", by_port)] {
            if is_typed && !tcp {
                return Err(CliError::PortsWithoutTcp(flag));
            }
        }
        if let Some(format) = args.format {
            if write == Some(Write::Stdout) {
                return Err(CliError::TwoOutputs("-w -", "-o"));
            }
            if args.quiet {
                return Err(CliError::TwoOutputs("--quiet", "-o"));
            }
            if by_port && format != Format::Table {
                return Err(CliError::TwoOutputs("--by port", "-o lines or jsonl"));
            }
        }
        Ok(Self {
            format: args.format.or(only_table).or(preset),
            open_only: args.open,
            by_port,
            write,
            quiet: args.quiet,
            verbosity: args.verbose,
        })
    }
}

/// How a table is grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Host,
    Port,
}

/// Reads the value of `-o`.
pub(super) fn format(text: &str) -> Result<Format, String> {
    match text {
        "table" => Ok(Format::Table),
        "lines" => Ok(Format::Lines),
        "jsonl" => Ok(Format::Jsonl),
        _ => Err("write table, lines or jsonl; the result as one JSON is -w FILE".to_owned()),
    }
}

/// Reads the value of `--by`.
pub(super) fn group(text: &str) -> Result<Group, String> {
    match text {
        "host" => Ok(Group::Host),
        "port" => Ok(Group::Port),
        _ => Err("write host or port".to_owned()),
    }
}
