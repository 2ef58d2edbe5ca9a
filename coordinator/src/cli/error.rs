//! Why a command line is refused.

use super::names::NameError;
use super::size::Size;
use crate::config::ConfigError;
use crate::state::StateError;
use protocol::address::{AddressError, ListError};
use protocol::port::{PortError, TopPortsError};
use protocol::quote::Quoted;
use std::io;

/// A command line that cannot be meant. Its text is one line and the whole message: what is wrong, and what to do. It has no
/// source, so that nothing is said twice.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// It is not made of our words; the text is the whole message.
    #[error("{0}")]
    Syntax(String),
    /// A flag of nmap, or a command, that is not offered.
    #[error("{what} is not available{yet}: {instead}")]
    NotAvailable {
        /// The flag, as it was typed.
        what: Quoted,
        /// ` yet`, where it will be.
        yet: &'static str,
        /// What to do without it.
        instead: &'static str,
    },
    /// A flag that makes sense only where it is typed, in a command line for a coordinator.
    #[error("{0} is for the machine where it is typed: a coordinator takes only what shapes the plan, so leave it out")]
    OfAnotherMachine(&'static str),
    /// A flag that makes sense only without a coordinator, or that needs one.
    #[error("{0}")]
    Coordinator(String),
    /// A vantage that no agent has joined from.
    #[error("no agent has joined from the vantage {0}: there are {1} (see portsweep agents)")]
    Vantage(String, String),
    /// Every vantage is meant, and there is none.
    #[error("no agent has joined, so there is no vantage: see portsweep token agent")]
    NoVantage,
    /// No target.
    #[error("nothing to scan: name addresses, as in `portsweep 127.0.0.1`, or a file of them with -iL (see --help)")]
    NoTarget,
    /// An unknown probe kind.
    #[error("{0} is no probe kind: use -f tcp, -f ping or both")]
    Kind(Quoted),
    /// `-Pn` with what asks for `ping`.
    #[error("-Pn leaves ping out, and {0} asks for it: drop one of them")]
    PingAndNoPing(&'static str),
    /// Port options where no port is asked.
    #[error("{0} is for tcp, and only ping is asked for: add -f tcp, or drop {0}")]
    PortsWithoutTcp(&'static str),
    /// A target spec.
    #[error("target {0}")]
    Target(AddressError),
    /// An exclusion, with where it was written.
    #[error("{0} {1}")]
    Exclude(String, AddressError),
    /// The config file.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// There is no place to keep scans in.
    #[error("{0}")]
    State(#[from] Box<StateError>),
    /// A setting of the environment or the config file.
    #[error("{value} is no value for {place}: {why}")]
    Setting {
        /// What was written.
        value: Quoted,
        /// Where.
        place: String,
        /// What to write.
        why: String,
    },
    /// Two flags that each say what standard output is to be.
    #[error("{0} and {1} ask for different outputs: drop one of them")]
    TwoOutputs(&'static str, &'static str),
    /// Ports, with where they were written.
    #[error("{0} {1}")]
    Ports(String, PortError),
    /// Ports to leave out, likewise.
    #[error("{0} {1}")]
    ExcludePorts(String, PortError),
    /// `--top-ports`.
    #[error("--top-ports: {0}")]
    TopPorts(TopPortsError),
    /// No port is left.
    #[error("every port is excluded (--exclude-ports, or a setting): name another, or drop tcp with -f ping")]
    NoPortLeft,
    /// A file of targets cannot be read.
    #[error("{flag} {file} cannot be read: {why}")]
    Unreadable {
        /// `-iL`, `--excludefile`, or the place of a setting.
        flag: String,
        /// The file.
        file: Quoted,
        /// What the system said.
        why: io::Error,
    },
    /// A file of targets says what cannot be meant.
    #[error("{flag} {file}, {problem}")]
    List {
        /// `-iL`, `--excludefile`, or the place of a setting.
        flag: String,
        /// The file.
        file: Quoted,
        /// Where and why.
        problem: Box<ListError>,
    },
    /// Two lists from one standard input.
    #[error("standard input can be only one list: give -iL or --excludefile a file instead of -")]
    StdinTwice,
    /// A name.
    #[error("{0}")]
    Name(NameError),
    /// Only unspecified or multicast addresses were named.
    #[error("{0} is no host's address (unspecified or multicast): name the hosts themselves")]
    NoHosts(String),
    /// Everything is excluded.
    #[error("nothing is left to scan: the exclusions cover every target")]
    AllExcluded,
    /// A scan that has more targets than can be counted.
    #[error("{size} are more than a scan can have (2^64 - 1): split the addresses or name fewer ports")]
    TooLarge {
        /// How large.
        size: Size,
    },
    /// A large scan that nobody said yes to.
    #[error("{size}: add --yes if that is what you want")]
    Unconfirmed {
        /// How large.
        size: Size,
    },
}

impl CliError {
    /// Its exit code.
    #[must_use]
    pub fn exit(&self) -> super::ExitCode {
        match self {
            Self::State(error) => error.exit(),
            _ => super::ExitCode::Usage,
        }
    }
}
