//! What `portsweep serve` was asked for: where it listens, what its own agent may probe, what is never probed.

use super::keeping::Keeping;
use super::names::LookUp;
use super::presets::Presets;
use super::remote::API_PORT;
use super::request::Reader;
use super::{CliError, commands};
use crate::config::{Config, Environment};
use crate::state::State;
use ipnet::IpNet;
use protocol::quote::Quoted;
use protocol::range_set::AddressSet;
use protocol::token::DialAddress;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// The port that agents dial.
const AGENT_PORT: u16 = 7421;

/// The words of `serve`.
#[derive(Debug, clap::Args)]
pub(super) struct Words {
    /// Where page and API listen [default: 127.0.0.1:7420]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen)]
    listen: Option<SocketAddr>,
    /// Where agents of other machines dial [default: 127.0.0.1:7421]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen)]
    agent_listen: Option<SocketAddr>,
    /// Where join tokens say that agents dial; repeat for more [default: where they do]
    #[arg(long, value_name = "HOST:PORT", value_parser = advertised)]
    advertise: Vec<DialAddress>,
    /// What the agent of this process may probe beside loopback; repeat, or use commas [default: nothing]
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = allowed)]
    allow: Vec<IpNet>,
    /// Never probe these, in any scan
    #[arg(long, value_name = "SPEC", allow_hyphen_values = true)]
    exclude: Vec<String>,
    /// Never probe what this file lists, in any scan
    #[arg(long = "excludefile", value_name = "FILE")]
    exclude_lists: Vec<PathBuf>,
    /// Serve others without TLS: behind a TLS proxy, or a port published on loopback [default: with TLS]
    #[arg(long, requires = "allowed_hosts")]
    plain_http: bool,
    /// A name under which page and API are asked for, beside loopback; repeat for more
    #[arg(long = "allowed-host", value_name = "NAME")]
    allowed_hosts: Vec<String>,
    /// Tell more on standard error; twice for still more
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// A coordinator is to be run.
#[derive(Clone, Debug)]
pub struct ServeRequest {
    /// Where page and API listen.
    pub listen: SocketAddr,
    /// Whether they speak TLS: on loopback nobody listens in.
    pub tls: bool,
    /// Names under which they are asked for, beside loopback.
    pub allowed_hosts: Vec<String>,
    /// Where agents of other machines dial.
    pub agent_listen: SocketAddr,
    /// Where join tokens say that they do; empty for the same place.
    pub advertise: Vec<DialAddress>,
    /// What the embedded agent may probe.
    pub allow: Vec<IpNet>,
    /// What no scan probes.
    pub exclude: AddressSet,
    /// Where everything is kept.
    pub state: State,
    /// How much more than warnings is told on stderr.
    pub verbosity: u8,
}

impl ServeRequest {
    pub(super) fn new(
        words: Words,
        place: &commands::Place,
        environment: &Environment,
        stdin: &mut dyn Read,
        names: &dyn LookUp,
    ) -> Result<Self, CliError> {
        let config = Config::load(place.config.as_deref(), environment)?;
        let presets = Presets::new(&config);
        let state = Keeping::new((place.state.as_deref(), None), presets, environment)?.state;
        let listen = words.listen.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, API_PORT)));
        if listen.ip().is_unspecified() && words.allowed_hosts.is_empty() {
            let what = format!("--listen {listen} says no name under which page and API are asked for: ");
            return Err(CliError::Coordinator(what + "add --allowed-host NAME"));
        }
        let agent_listen = words.agent_listen.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, AGENT_PORT)));
        if agent_listen.ip().is_unspecified() && words.advertise.is_empty() {
            let what = format!("--agent-listen {agent_listen} says no address that an agent could dial: ");
            return Err(CliError::Coordinator(what + "add --advertise HOST:PORT"));
        }
        for name in &words.allowed_hosts {
            let is_name = name.parse::<hyper::http::uri::Authority>().is_ok_and(|authority| authority.as_str() == name);
            if !is_name || name.contains(['@', '*']) {
                let shown = Quoted::new(name);
                return Err(CliError::Coordinator(format!("{shown} is no host's name: write NAME or NAME:PORT")));
            }
        }
        let mut reader = Reader::new(stdin, names);
        let mut exclude = reader.excluded(&words.exclude, &words.exclude_lists)?;
        exclude.extend(&reader.standing_exclusions(presets)?.0);
        let loopback = [IpAddr::from([127, 0, 0, 0]), IpAddr::from(std::net::Ipv6Addr::LOCALHOST)];
        let loopback =
            loopback.into_iter().zip([8, 128]).filter_map(|(address, prefix)| IpNet::new(address, prefix).ok());
        Ok(Self {
            listen,
            tls: !listen.ip().is_loopback() && !words.plain_http,
            allowed_hosts: words.allowed_hosts.iter().map(|name| name.to_ascii_lowercase()).collect(),
            agent_listen,
            advertise: words.advertise,
            allow: loopback.chain(words.allow).collect(),
            exclude,
            state,
            verbosity: words.verbose,
        })
    }
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write ADDRESS:PORT, as 127.0.0.1:7420 or [::1]:7420".to_owned())
}

fn advertised(text: &str) -> Result<DialAddress, String> {
    text.parse().map_err(|_| "write HOST:PORT".to_owned())
}

fn allowed(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(address).ok_or_else(|| "write an address or a network, as 192.0.2.0/24".to_owned())
}
