//! What a coordinator is asked beside a scan: its scans, its agents, its tokens.

use super::commands::Scans;
use super::kept::{Export, ScansAction, ScansRequest};
use super::remote::At;
use super::{CliError, Invocation, args, pace};
use crate::api::change::Setting;
use crate::config::Environment;
use crate::serve::access::Role;
use crate::state::State;
use protocol::enrol::Label;
use protocol::rate::Rate;
use std::path::PathBuf;
use std::time::Duration;

/// Which coordinator.
#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// The coordinator [default: PORTSWEEP_COORDINATOR, else this machine's]
    #[arg(long, value_name = "URL", global = true, require_equals = true)]
    coordinator: Option<String>,
}

/// What can be changed while a scan runs.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
pub(super) struct Pace {
    /// The most probes a second over all agents, or none
    #[arg(long, value_name = "N", value_parser = limit)]
    rate: Option<Limit>,
    /// The most probes a second to each host, or none
    #[arg(long, value_name = "N", value_parser = limit)]
    per_host_rate: Option<Limit>,
    /// Its part of the fleet beside other scans, 1 to 1,000
    #[arg(long, value_name = "N", value_parser = args::weight)]
    weight: Option<u32>,
}

/// A rate, or that there is none.
#[derive(Clone, Copy, Debug)]
struct Limit(Option<Rate>);

fn limit(text: &str) -> Result<Limit, String> {
    if text == "none" { Ok(Limit(None)) } else { pace::rate(text).map(|rate| Limit(Some(rate))) }
}

/// What is done with agents.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Agents {
    /// Show all that is known of one
    Show {
        /// Its name, or its id
        #[arg(value_name = "AGENT")]
        agent: String,
    },
    /// Set labels of one; KEY= takes one away
    Label {
        /// Its name, or its id
        #[arg(value_name = "AGENT")]
        agent: String,
        /// What it is labelled with
        #[arg(value_name = "KEY=VALUE", required = true)]
        labels: Vec<String>,
    },
    /// Give one no more work: it commits what it has, and stays connected
    Drain {
        /// Its name, or its id
        #[arg(value_name = "AGENT")]
        agent: String,
        /// Give it work again
        #[arg(long)]
        undo: bool,
    },
    /// Take from one that it may connect, for good
    Revoke {
        /// Its name, or its id
        #[arg(value_name = "AGENT")]
        agent: String,
    },
}

/// Which token is made.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Token {
    /// One with which an agent can join, once
    Agent {
        /// How long it can be used, as 15m or 2h [default: 15m]
        #[arg(long, value_name = "TIME", value_parser = ttl)]
        ttl: Option<Duration>,
        /// Write it to this file, for its owner alone, instead of standard output; repeat for as many tokens
        #[arg(short = 'w', long = "write", value_name = "FILE")]
        write: Vec<PathBuf>,
    },
    /// One for the API
    Api {
        /// viewer (look) or operator (look, and change)
        #[arg(long, value_name = "ROLE", value_parser = role)]
        role: Role,
        /// What it is for
        #[arg(long, value_name = "TEXT", default_value = "")]
        name: String,
        /// Write it to this file, for its owner alone, instead of standard output
        #[arg(short = 'w', long = "write", value_name = "FILE")]
        write: Option<PathBuf>,
    },
}

fn role(text: &str) -> Result<Role, String> {
    match text {
        "viewer" => Ok(Role::Viewer),
        "operator" => Ok(Role::Operator),
        _ => Err("write viewer or operator".to_owned()),
    }
}

/// A whole number of seconds, minutes, hours or days.
fn ttl(text: &str) -> Result<Duration, String> {
    let wrong = || "write 90s, 15m, 2h or 1d".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let unit_s = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.parse::<u64>().ok().filter(|number| digits && *number > 0).ok_or_else(wrong)?;
    Ok(Duration::from_secs(number.saturating_mul(unit_s)))
}

/// What a coordinator is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum RemoteAction {
    /// To list its scans.
    List,
    /// To show what a scan found.
    Show(String),
    /// For a scan's result.
    Export(String, Export),
    /// To say when a scan has ended, and how.
    Wait(String),
    /// To change rates or weight of a scan.
    Set(String, Setting),
    /// To probe these no more in a scan.
    Exclude(String, Vec<String>),
    /// To let a scan wait.
    Pause(String),
    /// To let it go on.
    Resume(String),
    /// To end it for good.
    Cancel(String),
    /// To remove scans that ended.
    Remove(Vec<String>),
    /// To list its agents.
    Agents,
    /// To show one.
    Agent(String),
    /// To label one, by key; an empty value takes a label away.
    Label(String, Vec<(String, String)>),
    /// To give one no more work; or, if not, some again.
    Drain(String, bool),
    /// To let one connect no more.
    Revoke(String),
    /// For tokens with which an agent each can join.
    JoinToken {
        /// How long they can be used in seconds; `None` for as long as it thinks best.
        ttl_s: Option<u64>,
        /// The files that they are written to, one each; none for one token on standard output.
        write: Vec<PathBuf>,
    },
    /// For a token of its API.
    ApiToken {
        /// What it is for.
        name: String,
        /// What it may.
        role: Role,
        /// The file that it is written to; `None` for standard output.
        write: Option<PathBuf>,
    },
}

/// A coordinator is to be asked something.
#[derive(Clone, Debug)]
pub struct RemoteCommand {
    /// Which.
    pub at: At,
    /// What.
    pub action: RemoteAction,
}

pub(super) fn of(
    action: RemoteAction,
    which: Which,
    state: State,
    environment: &Environment,
) -> Result<Invocation, CliError> {
    let at = At::new(which.coordinator.as_deref(), state, environment)?;
    Ok(Invocation::Command(Box::new(RemoteCommand { at, action })))
}

/// Scans that are kept here, or with `coordinator` those of one.
pub(super) fn scans(
    command: Option<Scans>,
    coordinator: Option<&Option<String>>,
    state: State,
    environment: &Environment,
) -> Result<Invocation, CliError> {
    let Some(typed) = coordinator else {
        let action = match command {
            None => ScansAction::List,
            Some(Scans::Show { id }) => ScansAction::Show(id),
            Some(Scans::Export { id, format }) => ScansAction::Export(id, format),
            Some(Scans::Rm { ids }) => ScansAction::Remove(ids),
            Some(_) => {
                let line =
                    "this is for a coordinator's scans: add --coordinator (a scan from here is stopped with Ctrl-C)";
                return Err(CliError::Coordinator(line.to_owned()));
            }
        };
        return Ok(Invocation::Scans(ScansRequest { state, action }));
    };
    let action = match command {
        None => RemoteAction::List,
        Some(Scans::Show { id }) => RemoteAction::Show(id),
        Some(Scans::Export { id, format }) => RemoteAction::Export(id, format),
        Some(Scans::Wait { id }) => RemoteAction::Wait(id),
        Some(Scans::Set { id, pace }) => RemoteAction::Set(id, setting(&pace)),
        Some(Scans::Exclude { id, specs }) => RemoteAction::Exclude(id, specs),
        Some(Scans::Pause { id }) => RemoteAction::Pause(id),
        Some(Scans::Resume { id }) => RemoteAction::Resume(id),
        Some(Scans::Cancel { id }) => RemoteAction::Cancel(id),
        Some(Scans::Rm { ids }) => RemoteAction::Remove(ids),
    };
    let at = At::new(typed.as_deref(), state, environment)?;
    Ok(Invocation::Command(Box::new(RemoteCommand { at, action })))
}

fn setting(pace: &Pace) -> Setting {
    let limit = |limit: Limit| limit.0.map(Rate::as_per_second);
    Setting { rate: pace.rate.map(limit), per_host_rate: pace.per_host_rate.map(limit), weight: pace.weight }
}

pub(super) fn agents(command: Option<Agents>) -> Result<RemoteAction, CliError> {
    Ok(match command {
        None => RemoteAction::Agents,
        Some(Agents::Show { agent }) => RemoteAction::Agent(agent),
        Some(Agents::Drain { agent, undo }) => RemoteAction::Drain(agent, !undo),
        Some(Agents::Revoke { agent }) => RemoteAction::Revoke(agent),
        Some(Agents::Label { agent, labels }) => {
            let read = |text: String| {
                let shown = protocol::quote::Quoted::new(&text);
                let label =
                    Label::try_from(text).map_err(|error| CliError::Coordinator(format!("{shown}: {error}")))?;
                Ok((label.key().to_owned(), label.value().to_owned()))
            };
            RemoteAction::Label(agent, labels.into_iter().map(read).collect::<Result<_, CliError>>()?)
        }
    })
}

pub(super) fn token(command: Token) -> RemoteAction {
    match command {
        Token::Agent { ttl, write } => RemoteAction::JoinToken { ttl_s: ttl.map(|ttl| ttl.as_secs()), write },
        Token::Api { role, name, write } => RemoteAction::ApiToken { name, role, write },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_live_has_one_unit() {
        assert_eq!(ttl("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(ttl("1d"), Ok(Duration::from_secs(86_400)));
        for wrong in ["", "m", "15", "0s", "-1m", "1.5h", "é"] {
            assert!(ttl(wrong).is_err(), "{wrong}");
        }
    }
}
