//! What was typed, and what it means.
//!
//! [`parse`] takes a command line through four steps, each of which can refuse it with one clear line and exit code 2:
//! `words` splits nmap's single-dash words, `args` is clap's part (pure syntax), `request` gives it a meaning,
//! `names` looks names up. What comes out is checked: nothing later has to ask whether it makes sense.

mod args;
mod commands;
mod error;
mod exit;
mod keeping;
mod kept;
mod lines;
mod login;
mod names;
mod output;
mod pace;
mod presets;
mod remote;
mod remote_command;
mod request;
mod serving;
mod size;
pub mod spec;
mod words;

#[cfg(test)]
mod tests;

use crate::config::{Config, Environment};
use crate::state::State;
use std::ffi::OsString;
use std::io::Read;

pub use error::CliError;
pub use exit::ExitCode;
pub use keeping::Keeping;
pub use kept::{Export, ResumeRequest, ScansAction, ScansRequest};
pub use lines::Lines;
pub use login::{Login, LoginError, LoginRequest};
pub use names::{LookUp, NameError, SystemNames};
pub use output::{Format, Output};
pub use remote::{API_PORT, At, RemoteRequest};
pub use remote_command::{RemoteAction, RemoteCommand};
pub use request::{ScanRequest, Write};
pub use serving::ServeRequest;
pub use size::{Size, confirm};
pub use spec::ScanSpec;
pub use words::quoted;

/// What a command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// A text for standard output, and nothing else: `--help`, `--version`. Has colours, which `anstream` takes away
    /// where they do not belong; ends with a line end.
    Print(String),
    /// A scan from here.
    Scan(Box<ScanRequest>),
    /// A scan that a coordinator runs.
    Remote(Box<RemoteRequest>),
    /// A coordinator.
    Serve(Box<ServeRequest>),
    /// Something else that a coordinator is asked.
    Command(Box<RemoteCommand>),
    /// To keep where a coordinator is, and with what token it is asked.
    Login(Box<LoginRequest>),
    /// Whether a coordinator takes scans.
    Health(At),
    /// To go on with a scan that is kept.
    Resume(Box<ResumeRequest>),
    /// Something with scans that are kept.
    Scans(ScansRequest),
    /// To be an agent of a coordinator on another machine.
    Agent(Box<portsweep_agent::cli::Command>),
    /// What bears on scanning from this machine, and on keeping scans there.
    Doctor(State),
}

/// Finds out what a command line asks for. `words` are what came after the program's name. `stdin` is read for
/// `-iL -` and `--excludefile -` only; files that are named are read, and the config file; names are looked up with `names`.
///
/// # Errors
/// What cannot be meant. Nothing was sent or written.
pub fn parse(
    words: impl IntoIterator<Item = OsString>,
    environment: &Environment,
    stdin: &mut dyn Read,
    names: &dyn LookUp,
) -> Result<Invocation, CliError> {
    let typed: Vec<_> = words.into_iter().collect();
    if typed.first().is_some_and(commands::is_command) {
        return commands::parse(typed, environment, stdin, names);
    }
    let command = words::command_line(&typed);
    let args = match args::parse(words::split(typed)?)? {
        args::Parsed::Args(args) => args,
        args::Parsed::Print(text) => return Ok(Invocation::Print(text)),
    };
    let config = Config::load(args.config.as_deref(), environment)?;
    if args.coordinator.is_some() {
        let request = RemoteRequest::new(&args, command, (&config, environment), stdin)?;
        return Ok(Invocation::Remote(Box::new(request)));
    }
    if args.weight.is_some() {
        return Err(CliError::Coordinator(
            "--weight is for scans of a coordinator: drop it, or add --coordinator".to_owned(),
        ));
    }
    if !args.vantage.is_empty() {
        return Err(CliError::Coordinator("--vantage is for the agents of a fleet: add --coordinator".to_owned()));
    }
    let request = ScanRequest::new(*args, command, (&config, environment), stdin, names)?;
    Ok(Invocation::Scan(Box::new(request)))
}
