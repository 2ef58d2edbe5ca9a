//! What can be typed, as clap knows it: pure syntax, with the help that goes with it. Its meaning is in `request.rs`.

use super::CliError;
use super::output::{self, Format, Group};
use super::pace::{self, Template};
use super::words::as_typed;
use clap::builder::styling::Styles;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Parser};
use protocol::id::AgentName;
use protocol::quote::Quoted;
use protocol::rate::Rate;
use std::ffi::OsString;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

const ABOUT: &str = "Scans addresses and ports that you are authorised to scan, and says what it could not see.";

const EXAMPLES: &str = "\
Commands (as the first word):
  scan                Scan from here; the same without this word
  resume [ID]         Go on with a scan that was interrupted
  scans               List the scans that are kept; also scans show ID,
                      scans export ID -o json|jsonl|csv, scans rm ID
  serve               Run a coordinator, with an agent of its own
  agents              List a coordinator's agents; also agents show, label and
                      revoke AGENT
  token agent|api     Make a token: for an agent to join, or for the API
  login LOGIN         Keep what token api printed, for --coordinator
  health [URL]        Ask whether a coordinator takes scans
  doctor              Say what bears on scanning from this machine
  completions SHELL   Print a completion script for a shell
  man                 Print the manual page

Examples:
  portsweep 127.0.0.1                            1,000 ports of this machine
  portsweep -f tcp -f ping -ip 127.0.0.1 -w FILE the same, with a JSON result
  portsweep -p 1433 192.0.2.0/24                 one port of a network
  portsweep -sn 192.0.2.11-192.0.2.40            who is there?
  portsweep --discover -p- 192.0.2.0/24          all ports of who is there
  portsweep -p- -w - 192.0.2.11 | jq .summary    all ports, as JSON in a pipe
  portsweep -iL FILE --exclude 192.0.2.13        targets from a file

Settings: exclude, excludefile, exclude-ports, kinds, ports, timeout, rate,
per-host-rate, window, format, state and keep may stand in the config file
(rate = 500) or in the environment (PORTSWEEP_RATE=500). Options win over the
environment, that over the file; exclusions of all three hold together.
PORTSWEEP_CONFIG names another file.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 finished but could not look
everywhere, 130 interrupted.";

/// The words of a command line, sorted.
#[derive(Debug, Parser)]
#[command(
    name = "portsweep",
    version,
    about = ABOUT,
    override_usage = "portsweep [scan] [OPTIONS] [SPEC]...\n       portsweep COMMAND [--help]",
    after_help = EXAMPLES,
    term_width = 80,
    styles = Styles::plain(),
    disable_help_flag = true,
    disable_version_flag = true,
)]
pub(super) struct Args {
    /// Addresses as 192.0.2.1, 192.0.2.0/24, 192.0.2.1-9, 192.0.2.1-192.0.2.9, 2001:db8::/120, names; more with commas
    #[arg(value_name = "SPEC", help_heading = "Targets", display_order = 0)]
    pub(super) targets: Vec<String>,
    /// The same as SPEC
    #[arg(long = "ip", value_name = "SPEC", help_heading = "Targets", allow_hyphen_values = true, display_order = 1)]
    pub(super) ip: Vec<String>,
    /// Read targets from a file, - is standard input
    #[arg(long = "iL", value_name = "FILE", help_heading = "Targets", display_order = 2)]
    pub(super) lists: Vec<PathBuf>,
    /// Never probe these; wins over every target
    #[arg(long, value_name = "SPEC", help_heading = "Targets", allow_hyphen_values = true, display_order = 3)]
    pub(super) exclude: Vec<String>,
    /// Never probe what this file lists
    #[arg(long = "excludefile", value_name = "FILE", help_heading = "Targets", display_order = 4)]
    pub(super) exclude_lists: Vec<PathBuf>,
    /// Scan every address of a name [default: its first]
    #[arg(long, help_heading = "Targets", display_order = 5)]
    pub(super) resolve_all: bool,
    /// Prefer a name's IPv6 addresses [default: IPv4]
    #[arg(short = '6', help_heading = "Targets", display_order = 6)]
    pub(super) prefer_v6: bool,

    /// Ports as 22,80,8000-8100,http; - is 1-65535 [default: 1,000 of our selection]
    #[arg(short = 'p', value_name = "PORTS", help_heading = "Ports", allow_hyphen_values = true)]
    pub(super) ports: Vec<String>,
    /// The first 100 of our selection
    #[arg(short = 'F', help_heading = "Ports", conflicts_with_all = ["ports", "top_ports"])]
    pub(super) fast: bool,
    /// The first N of our selection, 1 to 1,000
    #[arg(long, value_name = "N", help_heading = "Ports", conflicts_with = "ports", value_parser = top_ports)]
    pub(super) top_ports: Option<usize>,
    /// Leave these out
    #[arg(long, value_name = "PORTS", help_heading = "Ports", allow_hyphen_values = true)]
    pub(super) exclude_ports: Vec<String>,

    /// tcp (connect to each port) or ping (ICMP echo); repeat for both [default: both, answered or not]
    #[arg(short = 'f', value_name = "KIND", help_heading = "Probes", value_delimiter = ',')]
    pub(super) kinds: Vec<String>,
    /// The same as -f ping
    #[arg(long = "sn", help_heading = "Probes")]
    pub(super) ping: bool,
    /// The same as -f tcp
    #[arg(long = "sT", help_heading = "Probes")]
    pub(super) tcp: bool,
    /// Leave ping out
    #[arg(long = "Pn", help_heading = "Probes")]
    pub(super) no_ping: bool,
    /// Ask ports only of addresses that answer ping [default: of every address]
    #[arg(long, help_heading = "Probes")]
    pub(super) discover: bool,

    /// How long a probe waits, 1ms to 10s [default: 900ms]
    #[arg(long, value_name = "TIME", help_heading = "Pace", value_parser = timeout)]
    pub(super) timeout: Option<Duration>,
    /// How often a target that stays silent is tried, 1 to 8 [default: as the measured loss needs]
    #[arg(long, value_name = "N", help_heading = "Pace", value_parser = passes)]
    pub(super) passes: Option<u8>,
    /// The most probes a second, over all hosts; may be below 1 [default: no limit]
    #[arg(long, value_name = "N", help_heading = "Pace", value_parser = pace::rate)]
    pub(super) rate: Option<Rate>,
    /// The most probes a second to each host [default: no limit]
    #[arg(long, value_name = "N", help_heading = "Pace", value_parser = pace::rate)]
    pub(super) per_host_rate: Option<Rate>,
    /// 0: a probe every 5 min, 1: every 15 s, 2: every 400ms, 4: --timeout 500ms, 5: --timeout 250ms [default: 3]
    #[arg(short = 'T', value_name = "N", help_heading = "Pace", value_parser = pace::template)]
    pub(super) template: Option<Template>,
    /// The most probes in flight [default: as descriptors allow, at most 16384]
    #[arg(long, value_name = "N", help_heading = "Pace", value_parser = window)]
    pub(super) window: Option<u32>,
    /// The same N, the same order of probes [default: random]
    #[arg(long, value_name = "N", help_heading = "Pace",
        value_parser = seed)]
    pub(super) seed: Option<u64>,
    /// Begin even with over 2^24 addresses or 10^9 targets [default: ask]
    #[arg(long, help_heading = "Pace")]
    pub(super) yes: bool,

    /// Write the result as JSON, - is standard output [default: none]
    #[arg(short = 'w', value_name = "FILE", help_heading = "Output")]
    pub(super) write: Option<PathBuf>,
    /// What to print: table, lines (192.0.2.1:22) or jsonl [default: table on a terminal, lines in a pipe]
    #[arg(short = 'o', value_name = "FORM", help_heading = "Output", value_parser = output::format)]
    pub(super) format: Option<Format>,
    /// Group the table by host or port [default: host]
    #[arg(long, value_name = "GROUP", help_heading = "Output", value_parser = output::group)]
    pub(super) by: Option<Group>,
    /// Show only open ports [default: also what few ports share]
    #[arg(long, help_heading = "Output")]
    pub(super) open: bool,
    /// Say what would be scanned, and send nothing; also -sL
    #[arg(long, help_heading = "Output")]
    pub(super) dry_run: bool,
    /// Print no results and no progress [default: both]
    #[arg(short, long, help_heading = "Output")]
    pub(super) quiet: bool,
    /// Tell more on standard error; twice for still more [default: warnings]
    #[arg(short, long, action = ArgAction::Count, help_heading = "Output")]
    pub(super) verbose: u8,
    /// Where the scan is kept, to be resumed and looked at [default: ~/.local/state/portsweep, for root /var/lib/portsweep]
    #[arg(long, value_name = "DIR", help_heading = "State and settings")]
    pub(super) state: Option<PathBuf>,
    /// Keep nothing: an interrupted scan cannot be resumed [default: keep]
    #[arg(long, help_heading = "State and settings", conflicts_with = "state")]
    pub(super) no_state: bool,
    /// How many finished scans stay; what was interrupted always does [default: 20]
    #[arg(long, value_name = "N", help_heading = "State and settings", value_parser = keep)]
    pub(super) keep: Option<usize>,
    /// Read settings and standing exclusions from here [default: ~/.config/portsweep/config.toml]
    #[arg(long, value_name = "FILE", help_heading = "State and settings")]
    pub(super) config: Option<PathBuf>,
    /// Scan on a coordinator's fleet, followed live [default URL: PORTSWEEP_COORDINATOR, else that of portsweep login, else this machine's]
    #[arg(long, value_name = "URL", help_heading = "Coordinator", num_args = 0..=1, require_equals = true)]
    pub(super) coordinator: Option<Option<String>>,
    /// The scan's part of the fleet beside other scans, 1 to 1,000, with --coordinator [default: 1]
    #[arg(long, value_name = "N", help_heading = "Coordinator", value_parser = weight)]
    pub(super) weight: Option<u32>,
    /// Let each of these vantages probe every target, and compare what they see, with --coordinator; each for all that agents have joined from
    /// [default: every target once, from wherever]
    #[arg(long, value_name = "each|NAME", help_heading = "Coordinator", value_delimiter = ',', value_parser = vantage)]
    pub(super) vantage: Vec<AgentName>,
    /// How long targets that no agent may or can reach wait for one that does, 1 to 86,400 seconds; then they are no-agent [default: 60]
    #[arg(long, value_name = "SECONDS", help_heading = "Coordinator", value_parser = agent_wait)]
    pub(super) agent_wait: Option<u32>,
    /// Print the scan's id and return, with --coordinator [default: follow it]
    #[arg(long, help_heading = "Coordinator", requires = "coordinator")]
    pub(super) detach: bool,
    /// Print this help
    #[arg(short, long, action = ArgAction::Help, help_heading = "Output")]
    help: Option<bool>,
    /// Print the version
    #[arg(short = 'V', long, action = ArgAction::Version, help_heading = "Output")]
    version: Option<bool>,

    /// nmap's "look no address up", which we never do.
    /// Windows of hosts do not follow what is measured: to see what that law does, in tests
    #[arg(long, hide = true)]
    pub(super) fixed_windows: bool,
    #[arg(short = 'n', hide = true)]
    _no_reverse: bool,
}

/// A command line that clap understood.
pub(super) enum Parsed {
    /// A scan.
    Args(Box<Args>),
    /// A text to print.
    Print(String),
}

/// Lets clap sort the words. They are what [`super::words::split`] makes.
pub(super) fn parse(words: Vec<OsString>) -> Result<Parsed, CliError> {
    let words = std::iter::once("portsweep".into()).chain(words);
    match Args::try_parse_from(words) {
        Ok(args) => Ok(Parsed::Args(Box::new(args))),
        Err(error) => refused(&error).map(Parsed::Print),
    }
}

/// What clap has to say instead of what was asked for: a text to print, or one line of why not.
pub(super) fn refused(error: &clap::Error) -> Result<String, CliError> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(as_typed(&error.render().to_string())),
        _ => Err(CliError::Syntax(one_line(error))),
    }
}

/// clap's error as one line, with the way to the help.
fn one_line(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        Some(ContextValue::Strings(texts)) => texts.first().map(String::as_str),
        _ => None,
    };
    let name = |text: &str| as_typed(&format!("'{text}'")).trim_matches('\'').to_owned();
    let option = context(ContextKind::InvalidArg).unwrap_or_default();
    let value = context(ContextKind::InvalidValue).unwrap_or_default();
    let (shown, option) = (Quoted::new(&name(option)), name(option));
    match error.kind() {
        ErrorKind::UnknownArgument => match context(ContextKind::SuggestedArg) {
            Some(suggested) => format!("there is no option {shown}: do you mean {}? (see --help)", name(suggested)),
            None => format!("there is no option {shown} (see --help)"),
        },
        ErrorKind::InvalidValue if value.is_empty() => format!("{option} needs a value (see --help)"),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let why = std::error::Error::source(error).map(|why| format!(": {why}")).unwrap_or_default();
            format!("{} is no value for {option}{why} (see --help)", Quoted::new(value))
        }
        ErrorKind::ArgumentConflict => match context(ContextKind::PriorArg).map(name) {
            Some(prior) if prior != option => format!("{option} and {prior} say different things: drop one of them"),
            _ => format!("{option} can be given once only"),
        },
        ErrorKind::TooManyValues => format!("{option} takes no value (see --help)"),
        _ => {
            let text = error.render().to_string();
            let line = text.lines().next().unwrap_or_default();
            format!("{} (see --help)", Quoted::new(line.strip_prefix("error: ").unwrap_or(line)))
        }
    }
}

pub(super) fn window(text: &str) -> Result<u32, String> {
    whole(text, 1, u32::MAX)
}

pub(super) fn keep(text: &str) -> Result<usize, String> {
    whole(text, 0, 1_000_000)
}

pub(super) fn weight(text: &str) -> Result<u32, String> {
    whole(text, 1, coordinator_core::control::WEIGHT_MAX)
}

/// The name of a vantage.
fn vantage(text: &str) -> Result<AgentName, String> {
    AgentName::try_from(text.to_owned())
        .map_err(|_| "write each, or vantages by name as `portsweep agents` lists them".to_owned())
}

pub(super) fn agent_wait(text: &str) -> Result<u32, String> {
    whole(text, 1, 86_400)
}

fn passes(text: &str) -> Result<u8, String> {
    whole(text, 1, coordinator_core::passes::TRIES_MAX)
}

fn seed(text: &str) -> Result<u64, String> {
    whole(text, 0, crate::report::facts::SEED_MAX)
}

fn top_ports(text: &str) -> Result<usize, String> {
    whole(text, 1, protocol::port::DEFAULT_PORTS)
}

/// A whole number, `least` to `most`, in digits alone.
fn whole<T: FromStr + PartialOrd + Display>(text: &str, least: T, most: T) -> Result<T, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if digits && (&least..=&most).contains(&&number) => Ok(number),
        _ => Err(format!("write a whole number, {least} to {most}")),
    }
}

/// `100ms`, `1s`, `2m`, `1.5`; a plain number is seconds, as nmap has it. 1 ms to 10 s.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, f64); 4] = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3_600.0)];
    let (number, unit_s) =
        UNITS.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, *seconds))).unwrap_or((text, 1.0));
    // Rust would read `inf`, `1e9` and `+1` too.
    let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number = if plain { number.parse::<f64>().ok() } else { None };
    let Some(number) = number else {
        return Err("write 100ms, 1s, or a number of seconds".to_owned());
    };
    let seconds = number * unit_s;
    if !(0.001..=10.0).contains(&seconds) {
        return Err("a probe waits 1ms to 10s".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_nmaps_units() {
        assert_eq!(timeout("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(timeout("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(timeout("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(timeout("10"), Ok(Duration::from_secs(10)));
        assert_eq!(timeout("1ms"), Ok(Duration::from_millis(1)));
        for wrong in
            ["", "0", "0.5ms", "11s", "2m", "-1s", "+1s", "1e0", "inf", "NaN", "s", "soon", "1 s", "١s", "1.2.3"]
        {
            assert!(timeout(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn clap_accepts_how_the_options_are_made() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}
