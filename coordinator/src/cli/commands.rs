//! The commands beside a scan: `resume`, `scans`, `serve`, `agents`, `token`, `login`, `health`, `doctor`, `agent`, `completions`, `man`. Only the first word of a command line can be one.

use super::args::{self, Args};
use super::kept::{self, Export, ResumeRequest};
use super::login::LoginRequest;
use super::names::LookUp;
use super::remote::At;
use super::remote_command;
use super::serving::{self, ServeRequest};
use super::{CliError, Invocation};
use crate::config::Environment;
use clap::builder::styling::Styles;
use clap::{ArgAction, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::PathBuf;

/// The words of a command that is no scan, sorted.
#[derive(Debug, Parser)]
#[command(
    name = "portsweep",
    term_width = 80,
    styles = Styles::plain(),
    disable_help_flag = true,
    disable_version_flag = true,
    disable_help_subcommand = true
)]
enum Command {
    /// Go on with a scan that was interrupted, or look again where it could not look
    Resume {
        /// The scan, or the beginning of its id [default: the newest that was interrupted or could not look everywhere]
        #[arg(value_name = "ID")]
        id: Option<String>,
        /// How long targets that no agent may or can reach wait for one, 1 to 86,400 seconds [default: as it was started]
        #[arg(long, value_name = "SECONDS", value_parser = args::agent_wait)]
        agent_wait: Option<u32>,
        #[command(flatten)]
        place: Place,
    },
    /// Run a coordinator, with an agent of its own
    Serve {
        #[command(flatten)]
        words: serving::Words,
        #[command(flatten)]
        place: Place,
    },
    /// List the scans that are kept here, newest first
    Scans {
        #[command(subcommand)]
        command: Option<Scans>,
        /// Act on the scans of a coordinator [default URL: PORTSWEEP_COORDINATOR, else this machine's]
        #[arg(long, value_name = "URL", num_args = 0..=1, require_equals = true, global = true)]
        coordinator: Option<Option<String>>,
        #[command(flatten)]
        place: Place,
    },
    /// List the agents of a coordinator
    Agents {
        #[command(subcommand)]
        command: Option<remote_command::Agents>,
        #[command(flatten)]
        which: remote_command::Which,
        #[command(flatten)]
        place: Place,
    },
    /// Make a token of a coordinator: for an agent to join, or for its API
    Token {
        #[command(subcommand)]
        command: remote_command::Token,
        #[command(flatten)]
        which: remote_command::Which,
        #[command(flatten)]
        place: Place,
    },
    /// Keep where a coordinator is and the token to ask it, for every --coordinator that names no other
    Login {
        /// What `portsweep token api` printed there
        #[arg(value_name = "LOGIN")]
        login: String,
        #[command(flatten)]
        place: Place,
    },
    /// Ask whether a coordinator takes scans: exit code 0 if it does
    Health {
        /// Which [default: PORTSWEEP_COORDINATOR, else this machine's]
        #[arg(value_name = "URL")]
        url: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Say what bears on scanning from this machine, with the line that mends it
    Doctor {
        #[command(flatten)]
        place: Place,
    },
    /// Be an agent of a coordinator on another machine
    Agent {
        /// What it is to do.
        #[command(subcommand)]
        command: portsweep_agent::cli::Command,
        /// Print this help
        #[arg(short, long, action = ArgAction::Help)]
        help: Option<bool>,
    },
    /// Print a script with which a shell completes command lines
    Completions {
        /// bash, zsh, fish, elvish or powershell
        #[arg(value_name = "SHELL", value_parser = shell)]
        shell: Shell,
        /// Print this help
        #[arg(short, long, action = ArgAction::Help)]
        help: Option<bool>,
    },
    /// Print the manual page, for `man -l -`
    Man {
        /// Print this help
        #[arg(short, long, action = ArgAction::Help)]
        help: Option<bool>,
    },
}

/// What is done with scans that are kept.
#[derive(Debug, Subcommand)]
pub(super) enum Scans {
    /// Show what a scan found
    Show {
        /// The scan, or the beginning of its id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Write a scan's result to standard output
    Export {
        /// The scan, or the beginning of its id
        #[arg(value_name = "ID")]
        id: String,
        /// json, jsonl or csv
        #[arg(short = 'o', value_name = "FORM", value_parser = kept::export, default_value = "json")]
        format: Export,
    },
    /// Wait for the end of a coordinator's scan; the exit code is the scan's
    Wait {
        /// The scan, or the beginning of its id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Change rates or weight of a coordinator's scan while it runs
    Set {
        /// The scan, or the beginning of its id
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        pace: remote_command::Pace,
    },
    /// Never probe these any more in a coordinator's scan that runs
    Exclude {
        /// The scan, or the beginning of its id
        #[arg(value_name = "ID")]
        id: String,
        /// Addresses, as for targets
        #[arg(value_name = "SPEC", required = true)]
        specs: Vec<String>,
    },
    /// Let a coordinator's scan wait
    Pause {
        /// The scan, or the beginning of its id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Let a coordinator's scan go on after a pause
    Resume {
        /// The scan, or the beginning of its id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// End a coordinator's scan for good
    Cancel {
        /// The scan, or the beginning of its id
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Remove scans; refused for one that runs
    Rm {
        /// The scans, or the beginnings of their ids
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
    },
}

/// Where a command finds what it acts on.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// Where scans are kept [default: ~/.local/state/portsweep, for root /var/lib/portsweep]
    #[arg(long, value_name = "DIR", global = true)]
    pub(super) state: Option<PathBuf>,
    /// Read settings and standing exclusions from here [default: ~/.config/portsweep/config.toml]
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) config: Option<PathBuf>,
    /// Print this help
    #[arg(short, long, action = ArgAction::Help, global = true)]
    help: Option<bool>,
}

/// Whether a first word is one of these commands.
pub(super) fn is_command(word: &OsString) -> bool {
    ["resume", "scans", "serve", "agents", "token", "login", "health", "doctor", "agent", "completions", "man"]
        .iter()
        .any(|name| word == name)
}

/// Finds out what a command line that begins with a command asks for.
pub(super) fn parse(
    words: Vec<OsString>,
    environment: &Environment,
    stdin: &mut dyn Read,
    names: &dyn LookUp,
) -> Result<Invocation, CliError> {
    let words = std::iter::once("portsweep".into()).chain(words);
    let command = match Command::try_parse_from(words) {
        Ok(command) => command,
        Err(error) => return args::refused(&error).map(Invocation::Print),
    };
    match command {
        Command::Resume { id, agent_wait, place } => {
            let which = (id, agent_wait);
            ResumeRequest::new(which, &place, environment, stdin, names).map(Box::new).map(Invocation::Resume)
        }
        Command::Scans { command, coordinator, place } => {
            let state = kept::state(&place, environment)?;
            remote_command::scans(command, coordinator.as_ref(), state, environment)
        }
        Command::Agents { command, which, place } => {
            let action = remote_command::agents(command)?;
            remote_command::of(action, which, kept::state(&place, environment)?, environment)
        }
        Command::Token { command, which, place } => {
            let action = remote_command::token(command);
            remote_command::of(action, which, kept::state(&place, environment)?, environment)
        }
        Command::Serve { words, place } => {
            ServeRequest::new(words, &place, environment, stdin, names).map(Box::new).map(Invocation::Serve)
        }
        Command::Login { login, place } => {
            let request = LoginRequest::new(&login, kept::state(&place, environment)?)?;
            Ok(Invocation::Login(Box::new(request)))
        }
        Command::Health { url, place } => {
            At::new(url.as_deref(), kept::state(&place, environment)?, environment).map(Invocation::Health)
        }
        Command::Doctor { place } => kept::state(&place, environment).map(Invocation::Doctor),
        Command::Agent { command, .. } => Ok(Invocation::Agent(Box::new(command))),
        Command::Completions { shell, .. } => Ok(Invocation::Print(completions(shell))),
        Command::Man { .. } => manual().map(Invocation::Print).map_err(|error| CliError::Syntax(error.to_string())),
    }
}

/// Everything that can be typed, as one command of clap's.
fn whole() -> clap::Command {
    let scan = Args::command().name("scan").about("Scan from here; the same without this word");
    Args::command().subcommand(scan).subcommands(Command::command().get_subcommands().cloned())
}

fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut whole(), "portsweep", &mut script);
    super::words::single_dashes(&String::from_utf8_lossy(&script))
}

fn manual() -> io::Result<String> {
    let mut page = Vec::new();
    let command = whole().disable_help_subcommand(true);
    clap_mangen::Man::new(command).render(&mut page)?;
    // In troff a dash that is to be copied is written with a backslash.
    let page = String::from_utf8_lossy(&page).replace("\\-", "-");
    Ok(super::words::single_dashes(&page).replace('-', "\\-"))
}

fn shell(text: &str) -> Result<Shell, String> {
    text.parse().map_err(|_| "write bash, zsh, fish, elvish or powershell".to_owned())
}
