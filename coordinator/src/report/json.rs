//! The result as JSON, `portsweep/1`: streamed, so that its size does not matter, and laid out for people too.
//!
//! The rows are walked once to count them, and once more for each list that is not empty. Memory: one row.

use super::facts::ScanFacts;
use super::ranges::{Joiner, Run};
use super::summary::Summary;
use super::{Places, Rows, milliseconds};
use coordinator_core::host::{Answer, Host, Place};
use jiff::Timestamp;
use protocol::probe::{Cause, Outcome, ProbeKind, Reason, Slot};
use serde::Serialize;
use serde_json::ser::Formatter;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// What `schema` says: the name and the version of this form. Additions do not change it.
pub const SCHEMA: &str = "portsweep/1";

/// Writes the whole result.
///
/// # Errors
/// If `out` cannot be written or the rows cannot be read. What was written by then is no valid JSON.
pub fn write(out: &mut dyn Write, facts: &ScanFacts, rows: &mut dyn Rows) -> io::Result<()> {
    let places = Places::of(rows)?;
    let mut layout = Layout::new(out);
    layout.open('{')?;
    layout.member("schema", SCHEMA)?;
    write_scan(&mut layout, facts)?;
    write_summary(&mut layout, facts, places)?;
    write_agents(&mut layout, facts)?;
    write_hosts(&mut layout, facts, rows, places.hosts)?;
    write_silent(&mut layout, rows, places.silent)?;
    write_not_probed(&mut layout, rows, places.not_probed)?;
    layout.close('}')?;
    layout.end()
}

fn write_scan(layout: &mut Layout<'_>, facts: &ScanFacts) -> io::Result<()> {
    let kinds: Vec<_> = facts.kinds.iter().map(|kind| kind.as_str()).collect();
    layout.open_member("scan", '{')?;
    layout.member("id", &facts.id.to_string())?;
    layout.member("command", &facts.command)?;
    layout.member("version", &facts.version)?;
    layout.member("status", facts.status.as_str())?;
    layout.member("started", &rfc3339(facts.started))?;
    layout.member("updated", &rfc3339(facts.updated))?;
    layout.member("finished", &facts.finished.map(rfc3339))?;
    layout.member("targets", &facts.targets)?;
    layout.member("exclude", &facts.exclude)?;
    layout.member("ports", &facts.ports)?;
    layout.member("kinds", &kinds)?;
    if facts.discover {
        layout.member("discover", &true)?;
    }
    layout.member("rate", &facts.rate)?;
    layout.member("seed", &facts.seed)?;
    layout.member("plan", &facts.plan)?;
    if !facts.vantages.is_empty() {
        layout.member("vantages", &facts.vantages)?;
    }
    layout.close('}')
}

fn write_summary(layout: &mut Layout<'_>, facts: &ScanFacts, places: Places) -> io::Result<()> {
    let summary = Summary::new(facts, places);
    layout.open_member("summary", '{')?;
    layout.member("targets", &summary.targets)?;
    layout.member("probed", &summary.probed)?;
    layout.member("addresses", &summary.addresses)?;
    layout.member("states", &summary.states)?;
    layout.member("not_probed", &summary.not_probed)?;
    layout.member("single_try", &summary.single_try)?;
    layout.member("estimated_loss", &summary.estimated_loss)?;
    layout.member("estimated_loss_interval", &summary.estimated_loss_interval)?;
    layout.member("window", &summary.window)?;
    layout.member("elapsed_s", &summary.elapsed_s)?;
    layout.close('}')
}

fn write_agents(layout: &mut Layout<'_>, facts: &ScanFacts) -> io::Result<()> {
    #[derive(Serialize)]
    struct Agent<'a> {
        name: &'a str,
        vantage: Option<&'a str>,
        version: &'a str,
        ping_method: Option<&'static str>,
        probed: u64,
    }
    layout.open_member("agents", '[')?;
    for agent in &facts.agents {
        layout.item(&Agent {
            name: &agent.name,
            vantage: agent.vantage.as_deref(),
            version: &agent.version,
            ping_method: agent.ping_method.map(super::facts::PingMethod::as_str),
            probed: agent.probed,
        })?;
    }
    layout.close(']')
}

fn write_hosts(layout: &mut Layout<'_>, facts: &ScanFacts, rows: &mut dyn Rows, count: u64) -> io::Result<()> {
    layout.open_member("hosts", '[')?;
    if count > 0 {
        rows.for_each(&mut |host| match host.place() {
            Place::Host(reason) => {
                let rtt_ms = first_rtt_us(host).map(milliseconds);
                let by_vantage = by_vantage(host, Slot::Ping, facts);
                let status = Status { state: "up", reason: reason.as_str(), rtt_ms, by_vantage };
                write_host(layout, facts, host, &status)
            }
            Place::Silent(_) | Place::NotProbed(_) => Ok(()),
        })?;
    }
    layout.close(']')
}

/// What an address is found to be.
#[derive(Serialize)]
struct Status<'a> {
    state: &'static str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_ms: Option<f64>,
    #[serde(skip_serializing_if = "ByVantage::is_empty")]
    by_vantage: ByVantage<'a>,
}

/// What each vantage saw, by its name, where they differ; empty where they do not.
type ByVantage<'a> = BTreeMap<&'a str, Seen>;

/// What one vantage saw.
#[derive(Serialize)]
struct Seen {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_ms: Option<f64>,
}

fn by_vantage<'a>(host: &Host, slot: Slot, facts: &'a ScanFacts) -> ByVantage<'a> {
    let differing = host.views.iter().flat_map(|views| &views.differing);
    let seen = differing.filter(|differing| differing.slot == slot).flat_map(|differing| &differing.seen);
    let named = facts.vantages.iter().map(String::as_str).zip(seen);
    let told = named.filter_map(|(vantage, answer)| Some((vantage, (*answer)?)));
    told.map(|(vantage, Answer { outcome, rtt_us, .. })| {
        let (reason, cause) = (outcome.reason().map(Reason::as_str), outcome.cause().map(Cause::as_str));
        (vantage, Seen { state: outcome.state().as_str(), reason, cause, rtt_ms: rtt_us.map(milliseconds) })
    })
    .collect()
}

/// The flag of a host with more open ports than are named: something before it may answer for every one.
pub(super) const ALL_OPEN_SUSPECT: &str = "all-open-suspect";

fn write_host(layout: &mut Layout<'_>, facts: &ScanFacts, host: &Host, status: &Status<'_>) -> io::Result<()> {
    let names = facts.names.get(&host.address).map_or(&[][..], Vec::as_slice);
    layout.open('{')?;
    layout.member("address", &host.address)?;
    layout.member("names", names)?;
    layout.member("status", status)?;
    if host.is_all_open_suspect() {
        layout.member("flags", &[ALL_OPEN_SUSPECT])?;
    }
    layout.open_member("ports", '[')?;
    for port in named_ports(host, facts) {
        layout.item(&port)?;
    }
    layout.close(']')?;
    layout.open_member("not_shown", '[')?;
    for (outcome, count) in not_shown(host) {
        layout.item(&NotShown {
            state: outcome.state().as_str(),
            reason: outcome.reason().map(Reason::as_str),
            cause: outcome.cause().map(Cause::as_str),
            count,
        })?;
    }
    layout.close(']')?;
    layout.close('}')
}

/// A port that is named.
#[derive(Serialize)]
struct Port<'a> {
    port: u16,
    protocol: &'static str,
    state: &'static str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seen_by: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "ByVantage::is_empty")]
    by_vantage: ByVantage<'a>,
}

/// Ports that are only counted.
#[derive(Serialize)]
struct NotShown {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    count: u64,
}

/// The ports that a result names, ascending: the open ones that the row has, others that few ports share, and those that vantages see
/// differently.
fn named_ports<'a>(host: &Host, facts: &'a ScanFacts) -> Vec<Port<'a>> {
    let open = host.open.iter().map(|open| Port {
        port: open.port,
        protocol: ProbeKind::Tcp.as_str(),
        state: Outcome::OPEN.state().as_str(),
        reason: Outcome::OPEN.why(),
        rtt_ms: open.rtt_us.map(milliseconds),
        seen_by: Some(agent_names(facts, open.seen_by)),
        by_vantage: by_vantage(host, Slot::Tcp(open.port), facts),
    });
    let others = host.groups.iter().flat_map(|group| {
        group.ports.iter().map(|&port| Port {
            port,
            protocol: ProbeKind::Tcp.as_str(),
            state: group.outcome.state().as_str(),
            reason: group.outcome.why(),
            rtt_ms: None,
            seen_by: None,
            by_vantage: by_vantage(host, Slot::Tcp(port), facts),
        })
    });
    let differing = host.differing_unnamed().into_iter().map(|(port, outcome)| Port {
        port,
        protocol: ProbeKind::Tcp.as_str(),
        state: outcome.state().as_str(),
        reason: outcome.why(),
        rtt_ms: None,
        seen_by: None,
        by_vantage: by_vantage(host, Slot::Tcp(port), facts),
    });
    let mut ports: Vec<_> = open.chain(others).chain(differing).collect();
    ports.sort_by_key(|port| port.port);
    ports
}

/// Outcomes with how many ports have them and are not named. Those that were not probed come last.
pub(super) fn not_shown(host: &Host) -> impl Iterator<Item = (Outcome, u64)> + '_ {
    let differing = host.differing_unnamed();
    let rest = move |probed: bool| {
        let differing = differing.clone();
        let groups = host.groups.iter();
        let fitting = groups.filter(move |group| group.outcome.is_probed() == probed);
        fitting.filter_map(move |group| {
            let shown = differing.iter().filter(|(_, outcome)| *outcome == group.outcome).count();
            let named = shown
                + match group.outcome {
                    Outcome::OPEN => host.open.len(),
                    _ => group.ports.len(),
                };
            let rest = u64::from(group.count).saturating_sub(named as u64);
            (rest > 0).then_some((group.outcome, rest))
        })
    };
    rest(true).chain(rest(false))
}

/// The round-trip time of the first sign of life that has one: `ping`, then the lowest open port.
pub(super) fn first_rtt_us(host: &Host) -> Option<u32> {
    let ping = host.ping.filter(|ping| ping.outcome.is_sign_of_life());
    match ping {
        Some(ping) => ping.rtt_us,
        None => host.open.first().and_then(|open| open.rtt_us),
    }
}

fn agent_names(facts: &ScanFacts, place: u32) -> Vec<&str> {
    let agent = usize::try_from(place).ok().and_then(|place| facts.agents.get(place));
    agent.map(|agent| agent.name.as_str()).into_iter().collect()
}

fn write_silent(layout: &mut Layout<'_>, rows: &mut dyn Rows, count: u64) -> io::Result<()> {
    #[derive(Serialize)]
    struct Silent {
        addresses: String,
        count: u64,
        status: Status<'static>,
    }
    let place = |host: &Host| match host.place() {
        Place::Silent(ping) => Some((ping, 0)),
        Place::Host(_) | Place::NotProbed(_) => None,
    };
    layout.open_member("silent", '[')?;
    if count > 0 {
        for_each_run(rows, place, |run| {
            layout.item(&Silent {
                addresses: run.to_string(),
                count: run.count,
                status: Status {
                    state: run.key.map_or("unknown", |ping| ping.state().as_str()),
                    // Nothing came that would have been a sign of life.
                    reason: run.key.unwrap_or(Outcome::DOWN).why(),
                    rtt_ms: None,
                    by_vantage: ByVantage::new(),
                },
            })
        })?;
    }
    layout.close(']')
}

fn write_not_probed(layout: &mut Layout<'_>, rows: &mut dyn Rows, count: u64) -> io::Result<()> {
    #[derive(Serialize)]
    struct NotProbed {
        addresses: String,
        targets: u64,
        cause: &'static str,
    }
    let place = |host: &Host| match host.place() {
        Place::NotProbed(commonest) => Some((commonest, host.not_probed())),
        Place::Host(_) | Place::Silent(_) => None,
    };
    layout.open_member("not_probed", '[')?;
    if count > 0 {
        for_each_run(rows, place, |run| {
            layout.item(&NotProbed { addresses: run.to_string(), targets: run.weight, cause: run.key.why() })
        })?;
    }
    layout.close(']')
}

/// Gives each run of rows that `place` puts into the list, with the key and the weight that it says.
pub(super) fn for_each_run<K: Copy + PartialEq>(
    rows: &mut dyn Rows,
    place: impl Fn(&Host) -> Option<(K, u64)>,
    mut write: impl FnMut(Run<K>) -> io::Result<()>,
) -> io::Result<()> {
    let mut joiner = Joiner::new();
    rows.for_each(&mut |host| {
        let run = place(host).and_then(|(key, weight)| joiner.push(host.address, key, weight));
        run.map_or(Ok(()), &mut write)
    })?;
    joiner.finish().map_or(Ok(()), write)
}

/// RFC 3339 with milliseconds, in UTC.
fn rfc3339(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// Lays out objects and lists with two spaces of indentation; what is written whole stands on one line.
struct Layout<'a> {
    out: &'a mut dyn Write,
    depth: usize,
    /// Nothing stands yet in the innermost object or list.
    empty: bool,
}

impl<'a> Layout<'a> {
    fn new(out: &'a mut dyn Write) -> Self {
        Self { out, depth: 0, empty: true }
    }

    /// Begins an object or a list, as an item.
    fn open(&mut self, bracket: char) -> io::Result<()> {
        if self.depth > 0 {
            self.next()?;
        }
        self.begin(bracket)
    }

    /// Begins an object or a list, as a member.
    fn open_member(&mut self, key: &str, bracket: char) -> io::Result<()> {
        self.key(key)?;
        self.begin(bracket)
    }

    fn begin(&mut self, bracket: char) -> io::Result<()> {
        write!(self.out, "{bracket}")?;
        self.depth += 1;
        self.empty = true;
        Ok(())
    }

    /// Ends the innermost object or list.
    fn close(&mut self, bracket: char) -> io::Result<()> {
        self.depth -= 1;
        if !self.empty {
            self.new_line()?;
        }
        self.empty = false;
        write!(self.out, "{bracket}")
    }

    fn member<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> io::Result<()> {
        self.key(key)?;
        self.value(value)
    }

    fn item<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        self.next()?;
        self.value(value)
    }

    fn end(self) -> io::Result<()> {
        self.out.write_all(b"\n")
    }

    fn key(&mut self, key: &str) -> io::Result<()> {
        self.next()?;
        write!(self.out, "\"{key}\": ")
    }

    fn next(&mut self) -> io::Result<()> {
        if !self.empty {
            self.out.write_all(b",")?;
        }
        self.empty = false;
        self.new_line()
    }

    fn new_line(&mut self) -> io::Result<()> {
        write!(self.out, "\n{:indent$}", "", indent = 2 * self.depth)
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> io::Result<()> {
        let mut serializer = serde_json::Serializer::with_formatter(&mut *self.out, Airy);
        value.serialize(&mut serializer).map_err(io::Error::from)
    }
}

/// One line, with a space after each comma and colon.
struct Airy;

impl Formatter for Airy {
    fn begin_array_value<W: Write + ?Sized>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}
