//! A scan as a document: what shapes its plan, and nothing that names a file, an output or a place of the machine it was written on.
//! The API takes it, and the command line writes it for a coordinator. It is read as the flags that it stands for, so that a scan means the
//! same and is refused in the same words however it was asked for.

use super::args::{self, Args};
use super::names::LookUp;
use super::request::Reader;
use super::{CliError, ScanRequest, words};
use crate::config::{Config, Environment};
use protocol::quote::Quoted;
use protocol::range_set::AddressSet;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::{self, Read};
use utoipa::ToSchema;

/// What a scan is to be. Every member but `targets` may be left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScanSpec {
    /// Target specs, as on the command line: addresses, ranges, names. May be empty where `target_lists` is not.
    pub targets: Vec<String>,
    /// Target lists that were uploaded, by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_lists: Vec<String>,
    /// What is never probed, likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Ports as `22,80-90,http`; 1,000 of our selection if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<String>,
    /// Ports that are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_ports: Option<String>,
    /// `ping`, `tcp` or both; both if left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
    /// Ask ports only of addresses that answer ping.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub discover: bool,
    /// Scan every address of a name, not its first alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resolve_all: bool,
    /// Prefer a name's IPv6 addresses.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub prefer_ipv6: bool,
    /// How long a probe waits in milliseconds, 1 to 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u32>,
    /// How often a silent target is tried, 1 to 8; as the measured loss needs if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passes: Option<u8>,
    /// The most probes in flight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u32>,
    /// The most packets per second over all agents; no limit if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// The most packets per second to one host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_host_rate: Option<f64>,
    /// What the order is made from, 0 to 2^53 - 1; random if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Its part of the fleet beside other scans, 1 to 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// How long targets that no present agent may or can reach wait for one that does, in seconds, 1 to 86,400; 60 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_wait_s: Option<u32>,
    /// Vantages that each probe every target, by name, or `each` for all that agents have joined from; every target once, from wherever, if
    /// left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vantages: Vec<String>,
    /// Begin even with over 2^24 addresses or 10^9 targets.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub yes: bool,
    /// The command line that reports show, where one was typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl ScanSpec {
    /// The scan that it asks for. `standing` is excluded beside what it excludes. `lists` are its target lists, if it names any. Looks names
    /// up, and may block on that.
    ///
    /// # Errors
    /// What cannot be meant, in the words of the command line; a size that needs a yes.
    pub fn request(
        &self,
        standing: &AddressSet,
        names: &dyn LookUp,
        lists: &mut dyn Read,
    ) -> Result<ScanRequest, CliError> {
        let command = match &self.command {
            Some(command) => command.clone(),
            None => words::command_line(&self.words()),
        };
        let lists = (!self.target_lists.is_empty()).then_some(lists);
        planned(self.words(), command, standing, names, lists)
    }

    /// The words of the command line that it stands for, as clap knows them.
    fn words(&self) -> Vec<OsString> {
        let mut words = Vec::new();
        let mut flag = |is_set: bool, name: &str| words.extend(is_set.then(|| OsString::from(name)));
        flag(self.discover, "--discover");
        flag(self.resolve_all, "--resolve-all");
        flag(self.prefer_ipv6, "-6");
        flag(self.yes, "--yes");
        let mut value = |name: &str, value: Option<String>| {
            words.extend(value.map(|value| OsString::from(format!("{name}={value}"))));
        };
        let kinds = (!self.kinds.is_empty()).then(|| self.kinds.join(","));
        value("-f", kinds);
        value("-p", self.ports.clone());
        value("--exclude-ports", self.exclude_ports.clone());
        value("--timeout", self.timeout_ms.map(|ms| format!("{ms}ms")));
        value("--passes", self.passes.map(|passes| passes.to_string()));
        value("--window", self.window.map(|window| window.to_string()));
        value("--rate", self.rate.map(|rate| rate.to_string()));
        value("--per-host-rate", self.per_host_rate.map(|rate| rate.to_string()));
        value("--seed", self.seed.map(|seed| seed.to_string()));
        value("--weight", self.weight.map(|weight| weight.to_string()));
        value("--agent-wait", self.agent_wait_s.map(|seconds| seconds.to_string()));
        value("--vantage", (!self.vantages.is_empty()).then(|| self.vantages.join(",")));
        for exclude in &self.exclude {
            value("--exclude", Some(exclude.clone()));
        }
        words.push("--".into());
        words.extend(self.targets.iter().map(OsString::from));
        words
    }
}

/// The scan that a command line asks for which came over the API: it may hold only what shapes the plan. `standing` as for
/// [`ScanSpec::request`].
///
/// # Errors
/// What cannot be meant, and every flag that is for the machine where it is typed.
pub fn of_command(line: &str, standing: &AddressSet, names: &dyn LookUp) -> Result<ScanRequest, CliError> {
    let mut typed = words::unquoted(line).map_err(|why| CliError::Syntax(why.to_owned()))?;
    if typed.first().is_some_and(|first| first == "portsweep") {
        typed.remove(0);
    }
    if let Some(command) = typed.first().filter(|first| super::commands::is_command(first)) {
        let command = Quoted::new(&command.to_string_lossy());
        return Err(CliError::Syntax(format!("{command} is no scan: write what follows portsweep scan")));
    }
    let command = words::command_line(&typed);
    planned(words::split(typed)?, command, standing, names, None)
}

/// The addresses of specs that are excluded. Looks names up, and may block on that.
///
/// # Errors
/// What cannot be meant.
pub fn excluded(specs: &[String], names: &dyn LookUp) -> Result<AddressSet, CliError> {
    Reader::new(&mut io::empty(), names).excluded(specs, &[])
}

fn planned(
    words: Vec<OsString>,
    command: String,
    standing: &AddressSet,
    names: &dyn LookUp,
    lists: Option<&mut dyn Read>,
) -> Result<ScanRequest, CliError> {
    let mut args = match args::parse(words)? {
        args::Parsed::Args(args) => args,
        args::Parsed::Print(_) => return Err(CliError::Syntax("this is no scan: leave the help out".to_owned())),
    };
    if let Some(flag) = of_this_machine(&args) {
        return Err(CliError::OfAnotherMachine(flag));
    }
    // Nothing is kept beside the coordinator's own store.
    args.no_state = true;
    let ranges = standing.ranges();
    args.exclude
        .extend(ranges.map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") }));
    let mut nothing = io::empty();
    let lists: &mut dyn Read = match lists {
        Some(lists) => {
            args.lists.push("-".into());
            lists
        }
        None => &mut nothing,
    };
    let request = ScanRequest::new(*args, command, (&Config::default(), &Environment::default()), lists, names)?;
    match request.size() {
        size if size.needs_yes() && !request.yes() => Err(CliError::Unconfirmed { size }),
        _ => Ok(request),
    }
}

/// The first flag that says something of the machine where it is typed: its files, its output, its state.
fn of_this_machine(args: &Args) -> Option<&'static str> {
    let flags = [
        ("-iL", !args.lists.is_empty()),
        ("--excludefile", !args.exclude_lists.is_empty()),
        ("-w", args.write.is_some()),
        ("-o", args.format.is_some()),
        ("--by", args.by.is_some()),
        ("--open", args.open),
        ("--dry-run", args.dry_run),
        ("--quiet", args.quiet),
        ("--verbose", args.verbose > 0),
        ("--state", args.state.is_some()),
        ("--no-state", args.no_state),
        ("--keep", args.keep.is_some()),
        ("--config", args.config.is_some()),
        ("--coordinator", args.coordinator.is_some()),
        ("--detach", args.detach),
    ];
    flags.into_iter().find_map(|(flag, is_typed)| is_typed.then_some(flag))
}
