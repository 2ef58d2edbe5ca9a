//! The commands of an agent: `join`, `run` and `health`. `portsweep-agent` has them, and `portsweep agent` too.
//!
//! `join` goes on to run, and does not join again where it has: the same line may start an agent each time.

use crate::allow_file::{self, AllowFileError, network};
use crate::dial::{DialError, Proxies, ProxyError, Route};
use crate::enrol::{self, EnrolError};
use crate::health::{self, HealthError};
use crate::identity::{self, IdentityError, Joined, StateDirectory};
use crate::run::{self, RunError};
use agent_core::backoff::Backoff;
use clap::{ArgAction, Args, Parser, Subcommand};
use ipnet::IpNet;
use protocol::enrol::{Join, LABELS_MAX, Label};
use protocol::id::AgentName;
use protocol::quote::Quoted;
use protocol::token::{JoinToken, TokenError};
use protocol::version::SPOKEN;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Sets what is logged; wins over what is usual.
const LOG_VARIABLE: &str = "PORTSWEEP_LOG";
/// How often a file with a token is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often a file that holds no token is read again: it may just be written.
const DAMAGED_READS_MAX: u32 = 10;
/// How often a coordinator that cannot be reached is dialled to join, where nobody sits in front of it.
const JOIN_TRIES_MAX: u32 = 8;
/// The longest file that is read for a token, in bytes.
const TOKEN_FILE_BYTES_MAX: u64 = 64 << 10;
/// The most entries of an allow-list.
const ALLOW_MAX: usize = 4_096;

/// The agent's command line.
#[derive(Debug, Parser)]
#[command(
    name = "portsweep-agent",
    version,
    about = "Probes for a portsweep coordinator what its owner allows",
    term_width = 80
)]
#[command(disable_help_flag = true, disable_help_subcommand = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
    /// Print this help
    #[arg(short, long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// What an agent is told to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Join a coordinator (once), then run
    Join(JoinArgs),
    /// Run the agent that joined here
    Run {
        /// Read what this agent may probe from here, in place of what was said when it joined
        #[arg(long, value_name = "PATH")]
        allow_file: Option<PathBuf>,
        /// Where its state is.
        #[command(flatten)]
        place: Place,
    },
    /// Ask whether the agent that runs here is connected: exit code 0 if it is
    Health {
        /// Where its state is.
        #[command(flatten)]
        place: Place,
    },
}

/// How to join.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// What `portsweep token agent` printed on the coordinator's machine
    #[arg(value_name = "TOKEN", conflicts_with = "token_file")]
    token: Option<String>,
    /// Read the token from here: waits for the file, and deletes it after use
    #[arg(long, value_name = "PATH")]
    token_file: Option<PathBuf>,
    /// What this agent may probe; repeat, or separate by commas. Nothing else opens it [default: nothing]
    #[arg(long, value_name = "CIDR", value_delimiter = ',', num_args = 1.., value_parser = network)]
    allow: Vec<IpNet>,
    /// Read what this agent may probe from here too: a network a line, # begins a comment
    #[arg(long, value_name = "PATH")]
    allow_file: Option<PathBuf>,
    /// What it is called [default: the name of this machine]
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: Option<AgentName>,
    /// The place in the network that it sees from [default: its name]
    #[arg(long, value_name = "NAME", value_parser = name)]
    vantage: Option<AgentName>,
    /// What is to be known about it; repeat for more
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<Label>,
    #[command(flatten)]
    place: Place,
}

/// Where the agent's state is.
#[derive(Debug, Args)]
pub struct Place {
    /// Where key, certificate and allow-list are kept [default: ~/.local/state/portsweep-agent, for root
    /// /var/lib/portsweep-agent]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Tell more on standard error; twice for still more [default: warnings]
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
    /// Print this help
    #[arg(short, long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// Why an agent does not run.
#[derive(Debug, thiserror::Error)]
enum AgentError {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("cannot read the token in {}", .0.display())]
    TokenFile(PathBuf, #[source] io::Error),
    #[error("cannot delete {}, which holds a token that was used", .0.display())]
    Delete(PathBuf, #[source] io::Error),
    #[error(transparent)]
    AllowFile(#[from] AllowFileError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("cannot join")]
    Enrol(#[source] EnrolError),
    #[error("{0} belongs to another coordinator: give this agent a --state of its own, or remove that one")]
    OtherCoordinator(String),
    #[error(transparent)]
    Health(#[from] HealthError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("hear signals")]
    Signals(#[source] io::Error),
}

impl AgentError {
    /// 2 for what was typed, 1 for the rest.
    fn exit(&self) -> ExitCode {
        match self {
            Self::Usage(_) | Self::Proxy(ProxyError::Setting(_)) | Self::Token(_) | Self::AllowFile(_) => {
                ExitCode::from(2)
            }
            _ => ExitCode::FAILURE,
        }
    }
}

/// The program: reads `words` (what came after its name), does what they say, and tells errors in one line.
#[must_use]
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words = std::iter::once("portsweep-agent".into()).chain(words);
    match CommandLine::try_parse_from(words) {
        Ok(line) => carry_out(line.command, "portsweep-agent"),
        Err(error) if !error.use_stderr() => {
            anstream::print!("{}", error.render().ansi());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let text = error.render().to_string();
            let line = text.lines().next().unwrap_or_default();
            let line = line.strip_prefix("error: ").unwrap_or(line);
            anstream::eprintln!("portsweep-agent: {line} (see --help)");
            ExitCode::from(2)
        }
    }
}

/// Does what a command says, under the name of the `program` that took it. Log lines go to standard error.
#[must_use]
pub fn carry_out(command: Command, program: &str) -> ExitCode {
    let place = match &command {
        Command::Join(args) => &args.place,
        Command::Run { place, .. } | Command::Health { place } => place,
    };
    let level = ["warn", "info", "debug"][usize::from(place.verbose).min(2)];
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(level));
    // A second one of the process would panic: the first stays.
    let _set = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).try_init();
    let done = actix::System::new().block_on(async {
        match command {
            Command::Join(args) => join(args, program).await,
            Command::Run { place, allow_file } => run_joined(&place, allow_file.as_deref(), program).await,
            Command::Health { place } => {
                let said = health::ask(&StateDirectory::find(place.state.as_deref())?).await?;
                anstream::println!("{program}: {said}");
                Ok(())
            }
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let exit = error.exit();
            anstream::eprintln!("{program}: {:#}", anyhow::Error::from(error));
            exit
        }
    }
}

async fn run_joined(place: &Place, allow_file: Option<&Path>, program: &str) -> Result<(), AgentError> {
    let allow = allow_file.map(allowed_in).transpose()?;
    let state = StateDirectory::find(place.state.as_deref())?;
    let mut joined = state.joined()?.ok_or_else(|| IdentityError::NotJoined(state.path().to_owned()))?;
    if let Some(allow) = allow {
        joined.allow = allow;
    }
    let lock = state.lock()?;
    let ended = go_on(state, joined, program).await;
    drop(lock);
    ended
}

/// What a file allows.
fn allowed_in(path: &Path) -> Result<Vec<IpNet>, AgentError> {
    let allow = allow_file::read(path)?;
    bounded(&allow)?;
    Ok(allow)
}

fn bounded(allow: &[IpNet]) -> Result<(), AgentError> {
    if allow.len() > ALLOW_MAX {
        return Err(AgentError::Usage(format!("an allow-list has at most {ALLOW_MAX} entries: write wider ones")));
    }
    Ok(())
}

async fn join(mut args: JoinArgs, program: &str) -> Result<(), AgentError> {
    if let Some(path) = &args.allow_file {
        args.allow.extend(allowed_in(path)?);
    }
    check(&args)?;
    // What was typed wrong is told before anything is made.
    let typed: Option<JoinToken> = args.token.as_deref().map(str::parse).transpose()?;
    let proxies = Proxies::from_environment()?;
    let state = StateDirectory::find(args.place.state.as_deref())?;
    let lock = state.lock()?;
    let joined = match state.joined()? {
        Some(joined) => again(&state, joined, &args, typed.as_ref(), program)?,
        None => {
            let token = match (typed, &args.token_file) {
                (Some(token), _) => token,
                (None, Some(path)) => token_in(path, program).await?,
                (None, None) => return Err(no_token()),
            };
            let joined = enrol(&state, &args, &token, proxies).await?;
            if let Some(path) = &args.token_file {
                std::fs::remove_file(path).map_err(|why| AgentError::Delete(path.clone(), why))?;
            }
            anstream::eprintln!("{program}: joined as {}", joined.name);
            joined
        }
    };
    let ended = go_on(state, joined, program).await;
    drop(lock);
    ended
}

fn check(args: &JoinArgs) -> Result<(), AgentError> {
    if args.labels.len() > LABELS_MAX {
        return Err(AgentError::Usage(format!("an agent has at most {LABELS_MAX} labels")));
    }
    bounded(&args.allow)
}

/// It has joined before: what is typed about its scope holds from now on; the rest the coordinator keeps.
fn again(
    state: &StateDirectory,
    mut joined: Joined,
    args: &JoinArgs,
    token: Option<&JoinToken>,
    program: &str,
) -> Result<Joined, AgentError> {
    if let Some(token) = token {
        let authority = crate::certificate::Certificate::read(&state.credentials()?.authority);
        if authority.is_ok_and(|authority| authority.pin != token.pin()) {
            return Err(AgentError::OtherCoordinator(state.path().display().to_string()));
        }
    }
    if !args.allow.is_empty() && joined.allow != args.allow {
        joined.allow.clone_from(&args.allow);
        state.set(&joined)?;
    }
    anstream::eprintln!("{program}: this is {}, which joined before", joined.name);
    Ok(joined)
}

fn no_token() -> AgentError {
    let mend = "`portsweep token agent` on the coordinator's machine prints one";
    AgentError::Usage(format!("join needs a TOKEN, or --token-file PATH: {mend}"))
}

async fn enrol(
    state: &StateDirectory,
    args: &JoinArgs,
    token: &JoinToken,
    proxies: Proxies,
) -> Result<Joined, AgentError> {
    let request = identity::request(&state.key()?)?;
    let join = Join {
        versions: SPOKEN,
        secret: *token.secret().as_bytes(),
        name: args.name.clone().unwrap_or_else(name_of_machine),
        name_chosen: args.name.is_some(),
        vantage: args.vantage.clone(),
        labels: args.labels.clone(),
        software: env!("CARGO_PKG_VERSION").to_owned(),
        request,
    };
    let route = Route::new(token.addresses().to_vec(), proxies);
    let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
    let mut tries = 1;
    let enrolled = loop {
        match enrol::join(&route, token.pin(), join.clone()).await {
            Ok(enrolled) => break enrolled,
            Err(EnrolError::Dial(DialError::Connect(..) | DialError::TooSlow(..) | DialError::LookUp(..)))
                if args.token_file.is_some() && tries < JOIN_TRIES_MAX =>
            {
                tries += 1;
                tokio::time::sleep(backoff.wait(getrandom::u64().unwrap_or(0))).await;
            }
            Err(error) => return Err(AgentError::Enrol(error)),
        }
    };
    let joined = Joined {
        agent: enrolled.agent,
        name: enrolled.name.clone(),
        vantage: enrolled.vantage.clone(),
        coordinator: token.addresses().to_vec(),
        allow: args.allow.clone(),
    };
    state.keep(&enrolled, &joined)?;
    Ok(joined)
}

/// Runs until a signal says to end. A second signal ends at once.
async fn go_on(state: StateDirectory, joined: Joined, program: &str) -> Result<(), AgentError> {
    if joined.allow.is_empty() {
        anstream::eprintln!(
            "{program}: the allow-list is empty, so nothing is probed: join with --allow CIDR, or --allow-file"
        );
    }
    let route = Route::new(joined.coordinator.clone(), Proxies::from_environment()?);
    let listen = |kind| signal(kind).map_err(AgentError::Signals);
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let told = async {
        either(&mut terminate, &mut interrupt).await;
        anstream::eprintln!("{program}: reporting what is known, then leaving; once more to end at once");
        tokio::task::spawn_local(async move {
            either(&mut terminate, &mut interrupt).await;
            std::process::exit(130);
        });
    };
    Ok(run::run(state, joined, route, told).await?)
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

/// Waits for a file with a token. One that was just begun to be written is read again.
async fn token_in(path: &Path, program: &str) -> Result<JoinToken, AgentError> {
    let failed = |why| AgentError::TokenFile(path.to_owned(), why);
    let (mut told, mut damaged) = (false, 0);
    loop {
        match std::fs::metadata(path) {
            Ok(file) if file.len() > TOKEN_FILE_BYTES_MAX || file.is_dir() => return Err(TokenError::Alien.into()),
            Ok(_) => match std::fs::read_to_string(path).map_err(failed)?.parse() {
                Ok(token) => return Ok(token),
                Err(error) if damaged == DAMAGED_READS_MAX => return Err(error.into()),
                Err(_) => damaged += 1,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !std::mem::replace(&mut told, true) {
                    anstream::eprintln!("{program}: waiting for {}", path.display());
                }
            }
            Err(error) => return Err(failed(error)),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The name of this machine, as far as an agent can be called so.
fn name_of_machine() -> AgentName {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain = |char: char| if char.is_ascii_alphanumeric() || ".-_".contains(char) { char } else { '-' };
    let host: String = host.trim().chars().map(plain).take(48).collect();
    let usual = || AgentName::try_from("agent".to_owned());
    AgentName::try_from(host).or_else(|_| usual()).unwrap_or_else(|_| unreachable!("a constant that is a name"))
}

fn name(text: &str) -> Result<AgentName, String> {
    AgentName::try_from(text.to_owned()).map_err(|error| error.to_string())
}

fn label(text: &str) -> Result<Label, String> {
    text.parse().map_err(|error| format!("{}: {error}", Quoted::new(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_accepts_how_the_commands_are_made() {
        use clap::CommandFactory;
        CommandLine::command().debug_assert();
        assert!(AgentName::try_from(name_of_machine().to_string()).is_ok());
    }

    #[test]
    fn join_needs_one_token_and_takes_several_networks() {
        let parse = |words: &[&str]| CommandLine::try_parse_from(["portsweep-agent"].iter().chain(words));
        assert!(parse(&["join", "psj_x", "--token-file", "f"]).is_err());
        let line = parse(&["join", "psj_x", "--allow", "192.0.2.0/24,198.51.100.0/24", "--allow", "2001:db8::/64"]);
        let Command::Join(args) = line.unwrap().command else { panic!("it is join") };
        assert_eq!(args.allow.len(), 3);
    }
}
