//! A scan that a coordinator is to run: what is sent to it, what stays here (the output), and where the coordinator is.

use super::args::Args;
use super::keeping::Keeping;
use super::login::{self, Login};
use super::output::{self, Output};
use super::presets::Presets;
use super::request::{self, Reader};
use super::spec::ScanSpec;
use super::{CliError, NameError, args, pace};
use crate::config::{Config, Environment};
use crate::serve::page;
use crate::state::State;
use protocol::address::{TargetItem, parse_targets};
use protocol::quote::Quoted;
use protocol::token::Pin;
use std::io::Read;
use std::net::IpAddr;

/// The port of page and API.
pub const API_PORT: u16 = 7420;

/// Where a coordinator is, and with what token.
#[derive(Clone, Debug)]
pub struct At {
    /// `http://HOST:PORT` or `https://HOST:PORT`, without a path.
    pub url: String,
    /// The token that was set (`PORTSWEEP_TOKEN`) or logged in with; else that of this machine's coordinator is looked for in `state`.
    pub token: Option<String>,
    /// By what a coordinator that speaks TLS is known; always there for https.
    pub pin: Option<Pin>,
    /// Whether that is what this machine's coordinator is known by: then its token is shown too.
    pub is_own: bool,
    /// Where this machine's coordinator keeps its state.
    pub state: State,
}

impl At {
    /// `typed` is what follows `--coordinator`, if anything does. `PORTSWEEP_TOKEN` is a token, or all that `token api` prints. What was
    /// logged in with is shown to that coordinator alone.
    pub(super) fn new(typed: Option<&str>, state: State, environment: &Environment) -> Result<Self, CliError> {
        let set = |name| environment.get(name).map(|value| value.to_string_lossy().trim().to_owned());
        let token = set("PORTSWEEP_TOKEN").filter(|token| !token.is_empty());
        let whole = token.as_deref().filter(|token| token.contains('#')).map(str::parse::<Login>).transpose();
        let whole = whole.map_err(|error| CliError::Coordinator(format!("PORTSWEEP_TOKEN: {error}")))?;
        let kept = login::kept(&state)?;
        let written = typed.map(str::to_owned).or_else(|| set("PORTSWEEP_COORDINATOR"));
        let url = match written {
            Some(written) => url(&written).ok_or_else(|| {
                let shown = Quoted::new(&written);
                CliError::Coordinator(format!("{shown} is no coordinator: write http://HOST:PORT or https://HOST:PORT"))
            })?,
            None => match whole.as_ref().or(kept.as_ref()) {
                Some(login) => login.url.clone(),
                None => page::kept(&state).unwrap_or_else(|| format!("http://127.0.0.1:{API_PORT}")),
            },
        };
        let kept = kept.filter(|kept| kept.url == url);
        let token = match (&whole, token) {
            (Some(whole), _) => Some(whole.token.clone()),
            (None, Some(token)) => Some(token),
            (None, None) => kept.as_ref().map(|kept| kept.token.clone()),
        };
        let pin = whole.and_then(|whole| whole.pin).or_else(|| kept.and_then(|kept| kept.pin));
        // One that runs on this state is known by the authority that lies there.
        let own_pin = if pin.is_none() && url.starts_with("https:") { page::pin(&state) } else { None };
        let (is_own, pin) = (own_pin.is_some(), pin.or(own_pin));
        if url.starts_with("https:") && pin.is_none() {
            let what = format!("it is not known by what the coordinator at {url} is known: ");
            return Err(CliError::Coordinator(what + "portsweep login with what `portsweep token api` printed there"));
        }
        Ok(Self { url, token, pin, is_own, state })
    }
}

/// A coordinator's URL, with its port and without a path; `None` for what is none.
pub(super) fn url(written: &str) -> Option<String> {
    let (scheme, rest) = match written.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
        Some(_) => return None,
        None => ("http", written),
    };
    let authority: hyper::http::uri::Authority = rest.strip_suffix('/').unwrap_or(rest).parse().ok()?;
    // Whatever is there beside the host is a port.
    let port = match authority.as_str().strip_prefix(authority.host())? {
        "" => API_PORT,
        port => port.strip_prefix(':')?.parse().ok()?,
    };
    if authority.host().is_empty() {
        return None;
    }
    Some(format!("{scheme}://{}:{port}", authority.host()))
}

/// A scan for a coordinator, with what is done here with its result.
#[derive(Clone, Debug)]
pub struct RemoteRequest {
    /// What is to be scanned,
    pub spec: ScanSpec,
    /// beside what files listed, which is uploaded.
    pub listed: Vec<TargetItem>,
    /// What goes to standard output and into the result file here.
    pub output: Output,
    /// Whether only the scan's id is wanted.
    pub detach: bool,
    /// Where.
    pub at: At,
}

impl RemoteRequest {
    pub(super) fn new(
        args: &Args,
        command: String,
        (config, environment): (&Config, &Environment),
        stdin: &mut dyn Read,
    ) -> Result<Self, CliError> {
        let presets = Presets::new(config);
        for (flag, is_typed) in
            [("--dry-run", args.dry_run), ("--no-state", args.no_state), ("--keep", args.keep.is_some())]
        {
            if is_typed {
                return Err(CliError::Coordinator(format!("{flag} is for scans from here: drop it, or --coordinator")));
            }
        }
        let (ping, tcp) = request::kinds(args, presets)?;
        let output = Output::new(args, tcp, presets.one("format", output::format)?)?;
        let ports = if tcp { Some(request::ports(args, presets)?.to_string()) } else { None };
        let mut reader = Reader::new(stdin, &Nobody);
        let (targets, listed) = targets(args, &mut reader)?;
        let exclude = exclusions(args, presets, &mut reader)?;
        let template = args.template.unwrap_or_default();
        let (preset_rate, preset_timeout) = (presets.one("rate", pace::rate)?, presets.one("timeout", args::timeout)?);
        let timeout = args.timeout.or(template.timeout).or(preset_timeout);
        let per_host_rate = presets.one("per-host-rate", pace::rate)?;
        let window = presets.one("window", args::window)?;
        let kinds = [("ping", ping), ("tcp", tcp)];
        let spec = ScanSpec {
            targets,
            target_lists: Vec::new(),
            exclude,
            ports,
            exclude_ports: None,
            kinds: kinds.into_iter().filter(|(_, is_asked)| *is_asked).map(|(kind, _)| kind.to_owned()).collect(),
            discover: args.discover,
            resolve_all: args.resolve_all,
            prefer_ipv6: args.prefer_v6,
            timeout_ms: timeout.map(|timeout| u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).max(1)),
            passes: args.passes,
            window: args.window.or(window),
            rate: args.rate.or(template.rate).or(preset_rate).map(protocol::rate::Rate::as_per_second),
            per_host_rate: args.per_host_rate.or(per_host_rate).map(protocol::rate::Rate::as_per_second),
            seed: args.seed,
            weight: args.weight,
            agent_wait_s: args.agent_wait,
            vantages: args.vantage.iter().map(ToString::to_string).collect(),
            yes: args.yes,
            command: Some(command),
        };
        let state = Keeping::new((args.state.as_deref(), None), presets, environment)?.state;
        let at = At::new(args.coordinator.as_ref().and_then(Option::as_deref), state, environment)?;
        Ok(Self { spec, listed, output, detach: args.detach, at })
    }
}

/// The targets as they were typed, each known to make sense, and what the files list.
fn targets(args: &Args, reader: &mut Reader<'_>) -> Result<(Vec<String>, Vec<TargetItem>), CliError> {
    let (mut listed, mut targets) = (Vec::new(), Vec::new());
    for word in args.ip.iter().chain(&args.targets) {
        parse_targets(word).map_err(CliError::Target)?;
        targets.push(word.clone());
    }
    for path in &args.lists {
        listed.extend(reader.list("-iL", path)?);
    }
    if targets.is_empty() && listed.is_empty() { Err(CliError::NoTarget) } else { Ok((targets, listed)) }
}

/// What is excluded here, standing exclusions of this machine included.
fn exclusions(args: &Args, presets: Presets<'_>, reader: &mut Reader<'_>) -> Result<Vec<String>, CliError> {
    let typed = args.exclude.iter().map(|word| ("--exclude".to_owned(), word.clone()));
    let mut exclude = Vec::new();
    for (place, word) in typed.chain(presets.placed_all("exclude")) {
        parse_targets(&word).map_err(|error| CliError::Exclude(place, error))?;
        exclude.push(word);
    }
    let typed = args.exclude_lists.iter().map(|path| ("--excludefile".to_owned(), path.clone()));
    for (place, path) in typed.chain(presets.paths("excludefile")) {
        exclude.extend(reader.list(&place, &path)?.iter().flat_map(texts));
    }
    Ok(exclude)
}

fn texts(item: &TargetItem) -> Vec<String> {
    match item {
        TargetItem::Addresses(addresses) => addresses
            .ranges()
            .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
            .collect(),
        TargetItem::Name { name, prefix: None } => vec![name.clone()],
        TargetItem::Name { name, prefix: Some(prefix) } => vec![format!("{name}/{prefix}")],
    }
}

/// Looks no name up: the coordinator does, once, for all agents.
struct Nobody;

impl super::LookUp for Nobody {
    fn look_up(&self, _: &str) -> Result<Vec<IpAddr>, NameError> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinators_url_has_a_port_and_no_path() {
        for (written, meant) in [
            ("http://127.0.0.1:7420/", "http://127.0.0.1:7420"),
            ("http://[::1]:9", "http://[::1]:9"),
            ("coordinator.example", "http://coordinator.example:7420"),
            ("https://coordinator.example:443", "https://coordinator.example:443"),
        ] {
            assert_eq!(url(written).as_deref(), Some(meant));
        }
        for wrong in ["", "http://", "ftp://a", "http://a/b", "http://me@a", "http://a b", "http://a:99999"] {
            assert_eq!(url(wrong), None, "{wrong}");
        }
    }
}
