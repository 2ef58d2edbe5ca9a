//! What a command line means: a scan whose every part was checked.

use super::args::{self, Args};
use super::keeping::Keeping;
use super::names::{self, LookUp, Role, Rules};
use super::output::{self, Output};
use super::presets::Presets;
use super::size::Pace;
use super::{CliError, Size, pace};
use crate::config::{Config, Environment};
use crate::report::quantity::grouped;
use crate::state::State;
use protocol::address::{AddressClass, ListError, TargetItem, TargetListParser, parse_targets};
use protocol::id::AgentName;
use protocol::port::{PortSet, default_ports, fast_ports, parse_ports, top_ports};
use protocol::probe::ProbeKind;
use protocol::quote::Quoted;
use protocol::range_set::AddressSet;
use protocol::rate::Rate;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What stands for every vantage that agents have joined from.
const EACH_VANTAGE: &str = "each";

/// Where the JSON goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// To standard output, alone.
    Stdout,
    /// To a file, as it was typed: [`crate::report::file::ResultFile::check`] comes next.
    File(PathBuf),
}

/// A scan from here, as it was asked for. At least one address is left after exclusions, and something is asked of each.
#[derive(Clone, Debug)]
pub struct ScanRequest {
    command: String,
    targets: AddressSet,
    exclude: AddressSet,
    typed_targets: Vec<String>,
    typed_exclude: Vec<String>,
    names: BTreeMap<IpAddr, Vec<String>>,
    ping: bool,
    discover: bool,
    ports: PortSet,
    timeout: Option<Duration>,
    passes: Option<u8>,
    window: Option<u32>,
    rate: Option<Rate>,
    per_host_rate: Option<Rate>,
    seed: Option<u64>,
    weight: Option<u32>,
    agent_wait_s: Option<u32>,
    vantages: Vec<AgentName>,
    output: Output,
    keeping: Option<Keeping>,
    dry_run: bool,
    yes: bool,
    fixed_windows: bool,
    size: Size,
    notices: Vec<String>,
}

impl ScanRequest {
    /// Gives what was typed its meaning. Reads the files that are named, `stdin` for `-`, and looks names up.
    pub(super) fn new(
        args: Args,
        command: String,
        (config, environment): (&Config, &Environment),
        stdin: &mut dyn Read,
        names: &dyn LookUp,
    ) -> Result<Self, CliError> {
        let presets = Presets::new(config);
        let (ping, tcp) = kinds(&args, presets)?;
        let output = Output::new(&args, tcp, presets.one("format", output::format)?)?;
        let ports = if tcp { ports(&args, presets)? } else { PortSet::new() };
        let rules = Rules { prefer_v6: args.prefer_v6, all: args.resolve_all };
        let mut reader = Reader { rules, ..Reader::new(stdin, names) };
        let (targets, typed_targets) = reader.targets(&args)?;
        let (exclude, typed_exclude) = reader.exclusions(&args, presets)?;
        let (targets, notices) = without_classes(targets)?;
        let keeping = match args.no_state {
            true => None,
            false => Some(Keeping::new((args.state.as_deref(), args.keep), presets, environment)?),
        };

        let mut left = targets.clone();
        left.subtract(&exclude);
        if left.is_empty() {
            return Err(CliError::AllExcluded);
        }
        let slots = u32::from(ping) + ports.len();
        let template = args.template.unwrap_or_default();
        // What was set is read even where it does not count: a slip in it is found at once.
        let (preset_rate, preset_timeout) = (presets.one("rate", pace::rate)?, presets.one("timeout", args::timeout)?);
        let rate = args.rate.or(template.rate).or(preset_rate);
        let timeout = args.timeout.or(template.timeout).or(preset_timeout);
        let per_host_rate = presets.one("per-host-rate", pace::rate)?;
        let per_host_rate = args.per_host_rate.or(per_host_rate);
        let window = presets.one("window", args::window)?;
        let window = args.window.or(window);
        let size = Size::new(left.len(), slots, Pace { window, timeout, passes: args.passes, rate, per_host_rate });
        if size.targets > u128::from(u64::MAX) {
            return Err(CliError::TooLarge { size });
        }
        Ok(Self {
            command,
            targets: left,
            exclude,
            typed_targets,
            typed_exclude,
            names: reader.found,
            ping,
            discover: args.discover,
            ports,
            timeout,
            passes: args.passes,
            window,
            rate,
            per_host_rate,
            seed: args.seed,
            weight: args.weight,
            agent_wait_s: args.agent_wait,
            vantages: args.vantage.clone(),
            output,
            keeping,
            dry_run: args.dry_run,
            yes: args.yes,
            fixed_windows: args.fixed_windows,
            size,
            notices,
        })
    }

    /// The command line as it was typed, quoted for a shell.
    #[must_use]
    pub fn command(&self) -> &str {
        &self.command
    }

    /// What is to be probed: the targets without the exclusions and without unspecified and multicast addresses. Never
    /// empty. It is also what the agent embedded in this scan allows.
    #[must_use]
    pub fn targets(&self) -> &AddressSet {
        &self.targets
    }

    /// What is never probed; may hold addresses that are no targets.
    #[must_use]
    pub fn exclude(&self) -> &AddressSet {
        &self.exclude
    }

    /// The target specs as they were typed; a file as `-iL FILE`.
    #[must_use]
    pub fn typed_targets(&self) -> &[String] {
        &self.typed_targets
    }

    /// The exclusions as they were typed; a file as `--excludefile FILE`.
    #[must_use]
    pub fn typed_exclude(&self) -> &[String] {
        &self.typed_exclude
    }

    /// Names that were typed as targets, by the address that they stand for.
    #[must_use]
    pub fn names(&self) -> &BTreeMap<IpAddr, Vec<String>> {
        &self.names
    }

    /// Whether `ping` is asked of every address.
    #[must_use]
    pub fn ping(&self) -> bool {
        self.ping
    }

    /// Whether ports are asked only of addresses that answer `ping`. Then `ping` and ports are asked.
    #[must_use]
    pub fn discover(&self) -> bool {
        self.discover
    }

    /// The TCP ports that are asked of every address, or of those that are up; empty if only `ping` is asked.
    #[must_use]
    pub fn ports(&self) -> &PortSet {
        &self.ports
    }

    /// The probe kinds, `ping` first. Never empty.
    #[must_use]
    pub fn kinds(&self) -> Vec<ProbeKind> {
        let ping = self.ping.then_some(ProbeKind::Ping);
        let tcp = (!self.ports.is_empty()).then_some(ProbeKind::Tcp);
        ping.into_iter().chain(tcp).collect()
    }

    /// How long a try waits, 1 ms to 10 s; `None` where it follows what is measured.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// How often a silent target is tried, 1 to 8; `None` where the measured loss says.
    #[must_use]
    pub fn passes(&self) -> Option<u8> {
        self.passes
    }

    /// The most probes in flight, at least 1; `None` where the machine's limits say.
    #[must_use]
    pub fn window(&self) -> Option<u32> {
        self.window
    }

    /// The budget in packets per second; `None` for no limit.
    #[must_use]
    pub fn rate(&self) -> Option<Rate> {
        self.rate
    }

    /// The most packets per second to one host; `None` for no limit.
    #[must_use]
    pub fn per_host_rate(&self) -> Option<Rate> {
        self.per_host_rate
    }

    /// What the order is made from, at most [`crate::report::facts::SEED_MAX`]; `None` for a random one.
    #[must_use]
    pub fn seed(&self) -> Option<u64> {
        self.seed
    }

    /// Its part of a fleet beside other scans, from 1; `None` where nobody said.
    #[must_use]
    pub fn weight(&self) -> Option<u32> {
        self.weight
    }

    /// How long what no present agent may or can reach is waited for, in seconds; `None` where nobody said.
    #[must_use]
    pub fn agent_wait_s(&self) -> Option<u32> {
        self.agent_wait_s
    }

    /// The vantages that each probe every target; empty where it does not matter who probes what.
    #[must_use]
    pub fn vantages(&self) -> &[AgentName] {
        &self.vantages
    }

    /// The same with what was asked for, `each` or some by name, looked up among the vantages that there are.
    ///
    /// # Errors
    /// If there is none, or one that was named is not there.
    pub fn from_vantages(self, present: &BTreeSet<AgentName>) -> Result<Self, CliError> {
        let is_each = |name: &AgentName| name.as_str() == EACH_VANTAGE;
        if let Some(unknown) = self.vantages.iter().find(|name| !is_each(name) && !present.contains(name)) {
            let present = present.iter().map(AgentName::as_str).collect::<Vec<_>>().join(", ");
            return Err(CliError::Vantage(
                unknown.to_string(),
                if present.is_empty() { "none".to_owned() } else { present },
            ));
        }
        match self.vantages.iter().any(is_each) {
            true if present.is_empty() => Err(CliError::NoVantage),
            true => Ok(Self { vantages: present.iter().cloned().collect(), ..self }),
            false => Ok(self),
        }
    }

    /// Where the JSON goes, if anywhere.
    #[must_use]
    pub fn write(&self) -> Option<&Write> {
        self.output.write.as_ref()
    }

    /// What goes to standard output, and how much is told beside it.
    #[must_use]
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// Where it is kept; `None` for nowhere.
    #[must_use]
    pub fn state(&self) -> Option<&State> {
        self.keeping.as_ref().map(|keeping| &keeping.state)
    }

    /// How many finished scans stay.
    #[must_use]
    pub fn keep(&self) -> usize {
        self.keeping.as_ref().map_or(0, |keeping| keeping.keep)
    }

    /// Whether it is only to be said what would be scanned: nothing may be sent.
    #[must_use]
    pub fn dry_run(&self) -> bool {
        self.dry_run
    }

    /// Whether windows keep to what was said, whatever is measured (`--fixed-windows`).
    #[must_use]
    pub fn fixed_windows(&self) -> bool {
        self.fixed_windows
    }

    /// Whether `--yes` was typed.
    #[must_use]
    pub fn yes(&self) -> bool {
        self.yes
    }

    /// How large the scan is.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// Lines for standard error: what was left out of the targets.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }
}

/// Whether `ping` and `tcp` are asked. Both if nothing says so; `-f`, `-sn` and `-sT` add, `-Pn` removes `ping`, `--discover` needs it.
pub(super) fn kinds(args: &Args, presets: Presets<'_>) -> Result<(bool, bool), CliError> {
    let (mut ping, mut tcp) = (args.ping, args.tcp);
    let preset = presets.listed("kinds");
    let is_typed = ping || tcp || args.no_ping || !args.kinds.is_empty();
    for kind in if is_typed { &args.kinds } else { &preset } {
        match kind.as_str() {
            "ping" => ping = true,
            "tcp" => tcp = true,
            _ => return Err(CliError::Kind(Quoted::new(kind))),
        }
    }
    if args.no_ping && ping {
        return Err(CliError::PingAndNoPing(if args.ping { "-sn" } else { "-f ping" }));
    }
    if args.no_ping && args.discover {
        return Err(CliError::PingAndNoPing("--discover"));
    }
    if !ping && !tcp {
        (ping, tcp) = (!args.no_ping, true);
    }
    if !tcp {
        let port_options = [
            ("-p", !args.ports.is_empty()),
            ("-F", args.fast),
            ("--top-ports", args.top_ports.is_some()),
            ("--exclude-ports", !args.exclude_ports.is_empty()),
            ("--discover", args.discover),
        ];
        if let Some((option, _)) = port_options.into_iter().find(|(_, is_typed)| *is_typed) {
            return Err(CliError::PortsWithoutTcp(option));
        }
    }
    Ok((ping || args.discover, tcp))
}

pub(super) fn ports(args: &Args, presets: Presets<'_>) -> Result<PortSet, CliError> {
    let is_typed = args.fast || args.top_ports.is_some() || !args.ports.is_empty();
    let typed = || args.ports.iter().map(|text| ("-p".to_owned(), text.clone()));
    let asked: Vec<_> = if is_typed { typed().collect() } else { presets.placed("ports") };
    let mut ports = match (args.fast, args.top_ports) {
        (true, _) => fast_ports(),
        (false, Some(count)) => top_ports(count).map_err(CliError::TopPorts)?,
        (false, None) if asked.is_empty() => default_ports(),
        (false, None) => PortSet::new(),
    };
    for (place, text) in asked {
        ports = ports.union(&parse_ports(&text).map_err(|error| CliError::Ports(place, error))?);
    }
    let typed = args.exclude_ports.iter().map(|text| ("--exclude-ports".to_owned(), text.clone()));
    for (place, text) in typed.chain(presets.placed_all("exclude-ports")) {
        ports = ports.subtract(&parse_ports(&text).map_err(|error| CliError::ExcludePorts(place, error))?);
    }
    if ports.is_empty() { Err(CliError::NoPortLeft) } else { Ok(ports) }
}

/// Takes out what is no host's address; says so in a line.
fn without_classes(targets: AddressSet) -> Result<(AddressSet, Vec<String>), CliError> {
    let mut hosts = targets.clone();
    let mut counts = Vec::new();
    for (class, name) in [(AddressClass::Unspecified, "unspecified"), (AddressClass::Multicast, "multicast")] {
        let count = targets.intersect(class.addresses()).len();
        if count > 0 {
            hosts.subtract(class.addresses());
            counts.push(format!("{} {name}", grouped(count)));
        }
    }
    if counts.is_empty() {
        return Ok((targets, Vec::new()));
    }
    if hosts.is_empty() {
        return Err(CliError::NoHosts(first_range(&targets)));
    }
    let one = targets.len() - hosts.len() == 1;
    let (noun, verb) = if one { ("address", "it is no host's") } else { ("addresses", "they are no hosts'") };
    Ok((hosts, vec![format!("left out {} {noun}: {verb}", counts.join(" and "))]))
}

fn first_range(set: &AddressSet) -> String {
    match set.ranges().next() {
        Some((first, last)) if first != last => format!("{first}-{last}"),
        Some((first, _)) => first.to_string(),
        None => String::new(),
    }
}

/// Reads target specs from words, files and names.
pub(super) struct Reader<'a> {
    /// Until it is read.
    stdin: Option<&'a mut dyn Read>,
    names: &'a dyn LookUp,
    rules: Rules,
    /// Names of targets by their address.
    found: BTreeMap<IpAddr, Vec<String>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(stdin: &'a mut dyn Read, names: &'a dyn LookUp) -> Self {
        let rules = Rules { prefer_v6: false, all: false };
        Self { stdin: Some(stdin), names, rules, found: BTreeMap::new() }
    }

    fn targets(&mut self, args: &Args) -> Result<(AddressSet, Vec<String>), CliError> {
        let (mut set, mut typed) = (AddressSet::new(), Vec::new());
        for word in args.ip.iter().chain(&args.targets) {
            let items = parse_targets(word).map_err(CliError::Target)?;
            self.add(items, Role::Target, &mut set)?;
            typed.push(word.clone());
        }
        for path in &args.lists {
            let items = self.list("-iL", path)?;
            self.add(items, Role::Target, &mut set)?;
            typed.push(format!("-iL {}", path.to_string_lossy()));
        }
        if set.is_empty() { Err(CliError::NoTarget) } else { Ok((set, typed)) }
    }

    fn exclusions(&mut self, args: &Args, presets: Presets<'_>) -> Result<(AddressSet, Vec<String>), CliError> {
        let (mut set, mut typed) = (AddressSet::new(), Vec::new());
        let words = args.exclude.iter().map(|word| ("--exclude".to_owned(), word.clone()));
        let files = args.exclude_lists.iter().map(|path| ("--excludefile".to_owned(), path.clone()));
        self.exclude(words, files, &mut set, &mut typed)?;
        let (standing, standing_typed) = self.standing_exclusions(presets)?;
        set.extend(&standing);
        typed.extend(standing_typed);
        Ok((set, typed))
    }

    /// What words and files exclude.
    pub(super) fn excluded(&mut self, words: &[String], files: &[PathBuf]) -> Result<AddressSet, CliError> {
        let (mut set, mut typed) = (AddressSet::new(), Vec::new());
        let words = words.iter().map(|word| ("--exclude".to_owned(), word.clone()));
        let files = files.iter().map(|path| ("--excludefile".to_owned(), path.clone()));
        self.exclude(words, files, &mut set, &mut typed)?;
        Ok(set)
    }

    /// What the environment and the config file exclude from every scan, and as it was written.
    pub(super) fn standing_exclusions(&mut self, presets: Presets<'_>) -> Result<(AddressSet, Vec<String>), CliError> {
        let (mut set, mut typed) = (AddressSet::new(), Vec::new());
        self.exclude(presets.placed_all("exclude"), presets.paths("excludefile"), &mut set, &mut typed)?;
        Ok((set, typed))
    }

    /// Reads exclusions, words and files each with its place.
    fn exclude(
        &mut self,
        words: impl Iterator<Item = (String, String)>,
        files: impl Iterator<Item = (String, PathBuf)>,
        set: &mut AddressSet,
        typed: &mut Vec<String>,
    ) -> Result<(), CliError> {
        for (place, word) in words {
            let items = parse_targets(&word).map_err(|error| CliError::Exclude(place, error))?;
            self.add(items, Role::Exclusion, set)?;
            typed.push(word);
        }
        for (place, path) in files {
            let items = self.list(&place, &path)?;
            self.add(items, Role::Exclusion, set)?;
            typed.push(format!("--excludefile {}", path.to_string_lossy()));
        }
        Ok(())
    }

    fn add(&mut self, items: Vec<TargetItem>, role: Role, set: &mut AddressSet) -> Result<(), CliError> {
        for item in items {
            match item {
                TargetItem::Addresses(addresses) => set.extend(&addresses),
                TargetItem::Name { name, prefix } => {
                    let nets = names::resolve(&name, prefix, role, self.rules, self.names).map_err(CliError::Name)?;
                    for net in nets {
                        set.insert_net(net);
                        if role == Role::Target {
                            let names = self.found.entry(net.addr().to_canonical()).or_default();
                            if !names.contains(&name) {
                                names.push(name.clone());
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn list(&mut self, flag: &str, path: &Path) -> Result<Vec<TargetItem>, CliError> {
        let file = || Quoted::new(&path.to_string_lossy());
        let read = if path == Path::new("-") {
            read_list(self.stdin.take().ok_or(CliError::StdinTwice)?)
        } else {
            File::open(path).map_err(ListReadError::Io).and_then(|mut file| read_list(&mut file))
        };
        read.map_err(|error| match error {
            ListReadError::Io(why) => CliError::Unreadable { flag: flag.to_owned(), file: file(), why },
            ListReadError::List(problem) => {
                CliError::List { flag: flag.to_owned(), file: file(), problem: Box::new(problem) }
            }
        })
    }
}

enum ListReadError {
    Io(io::Error),
    List(ListError),
}

fn read_list(file: &mut dyn Read) -> Result<Vec<TargetItem>, ListReadError> {
    const BUFFER_BYTES: usize = 1 << 16;
    let mut parser = TargetListParser::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return parser.finish().map_err(ListReadError::List),
            Ok(count) => parser.feed(&buffer[..count]).map_err(ListReadError::List)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ListReadError::Io(error)),
        }
    }
}
