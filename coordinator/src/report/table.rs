//! The report for people: nmap's table per host (or the same by port, see `by_port.rs`), then what there was in all. At most 80 columns wide, long names excepted.
//!
//! Colours are written always; the caller's `anstream` takes them away where they do not belong: everywhere but
//! on a terminal, and where `NO_COLOR` is set.

use super::facts::{STATES, ScanFacts};
use super::json::first_rtt_us;
use super::quantity::{duration, grouped, round_trip};
use super::{Places, Rows, by_port, differences, json};
use coordinator_core::host::{Host, Place};
use protocol::port::service_name;
use protocol::probe::{Outcome, ProbeKind, Reason, State};
use std::io::{self, Write};
use std::net::IpAddr;

/// What a terminal shows without being widened.
const COLUMNS: usize = 80;

pub(super) const BOLD: &str = "\x1b[1m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
pub(super) const PLAIN: &str = "\x1b[0m";

/// What of a result is shown, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Only open ports, and hosts that have one. The summary counts everything all the same.
    pub open_only: bool,
    /// Grouped by port instead of by host, where ports were asked.
    pub by_port: bool,
}

/// Writes every host that gave a sign of life, then the summary.
///
/// # Errors
/// If `out` cannot be written or the rows cannot be read.
pub fn write(out: &mut dyn Write, facts: &ScanFacts, rows: &mut dyn Rows, view: View) -> io::Result<()> {
    if view.by_port && asks_ports(facts) {
        let places = by_port::write(out, facts, rows, view.open_only)?;
        differences::write(out, facts, rows)?;
        return write_summary(out, facts, places);
    }
    let mut places = Places::default();
    rows.for_each(&mut |host| {
        places.add(host);
        write_host(out, facts, host, view.open_only)
    })?;
    if places.hosts > 0 && !asks_ports(facts) {
        writeln!(out)?;
    }
    differences::write(out, facts, rows)?;
    write_summary(out, facts, places)
}

/// Writes the table of a host; nothing for one that gave no sign of life, or with `open_only` has no open port. Where only `ping` was asked, that is one line.
///
/// # Errors
/// If `out` cannot be written.
pub fn write_host(out: &mut dyn Write, facts: &ScanFacts, host: &Host, open_only: bool) -> io::Result<()> {
    let Place::Host(reason) = host.place() else {
        return Ok(());
    };
    let life = life(host, reason);
    if !asks_ports(facts) {
        return writeln!(out, "{} is {GREEN}up{PLAIN} ({life})", title(facts, host.address));
    }
    if open_only && host.open.is_empty() {
        return Ok(());
    }
    writeln!(out, "{BOLD}portsweep report for {}{PLAIN}", title(facts, host.address))?;
    writeln!(out, "Host is {GREEN}up{PLAIN} ({life})")?;
    if host.is_all_open_suspect() {
        writeln!(out, "{YELLOW}Note{PLAIN}: {}: a firewall may answer for every port", json::ALL_OPEN_SUSPECT)?;
    }
    let counted: Vec<_> = not_shown(host, open_only).into_iter().map(counted).collect();
    if !counted.is_empty() {
        write_list(out, "Not shown: ", &counted)?;
    }
    write_ports(out, host, open_only)?;
    writeln!(out)
}

/// Writes what there was in all.
///
/// # Errors
/// If `out` cannot be written.
pub fn write_summary(out: &mut dyn Write, facts: &ScanFacts, places: Places) -> io::Result<()> {
    let Places { hosts, silent, not_probed } = places;
    let shown = |count: u64| grouped(u128::from(count));
    let mut found = vec![format!("{} up", shown(hosts)), format!("{} silent", shown(silent))];
    if not_probed > 0 {
        found.push(format!("{} not probed", shown(not_probed)));
    }
    let addresses = counted_word(places.total(), "address", "addresses");
    let head = format!("{addresses} in {}: ", duration(facts.elapsed));
    write_list(out, &head, &found)?;

    let counts = &facts.counts;
    let states = STATES.map(|state| (state, counts.in_state(state)));
    let states = states.into_iter().filter(|&(_, count)| count > 0);
    let mut states: Vec<_> = states.map(|(state, count)| format!("{} {state}", shown(count))).collect();
    if states.is_empty() {
        states.push("none probed".to_owned());
    }
    let head = counted_word(counts.targets(), "target", "targets");
    write_list(out, &format!("{head}: "), &states)?;

    let causes: Vec<_> = counts.not_probed().map(|(cause, count)| format!("{} {cause}", shown(count))).collect();
    if !causes.is_empty() {
        let missing = counts.targets() - counts.probed();
        let head = counted_word(missing, "target", "targets");
        write_list(out, &format!("{YELLOW}Not probed{PLAIN}: {head}: "), &causes)?;
    }
    writeln!(out, "Scan {}: {}", facts.id, facts.status.as_str())
}

fn asks_ports(facts: &ScanFacts) -> bool {
    facts.kinds.contains(&ProbeKind::Tcp)
}

/// The address, with the names that were typed for it before it.
pub(super) fn title(facts: &ScanFacts, address: IpAddr) -> String {
    match facts.names.get(&address).map(Vec::as_slice) {
        None | Some([]) => address.to_string(),
        Some(names) => format!("{} ({address})", names.join(", ").escape_default()),
    }
}

fn life(host: &Host, reason: Reason) -> String {
    match first_rtt_us(host) {
        Some(rtt_us) => format!("{reason}, {}", round_trip(rtt_us)),
        None => reason.to_string(),
    }
}

/// Outcomes with how many ports have them and have no line of their own.
pub(super) fn not_shown(host: &Host, open_only: bool) -> Vec<(Outcome, u64)> {
    if !open_only {
        return json::not_shown(host).collect();
    }
    let mut rest: Vec<_> = host
        .groups
        .iter()
        .map(|group| match group.outcome {
            Outcome::OPEN => (Outcome::OPEN, u64::from(group.count).saturating_sub(host.open.len() as u64)),
            outcome => (outcome, u64::from(group.count)),
        })
        .filter(|&(_, count)| count > 0)
        .collect();
    rest.sort_by_key(|(outcome, _)| !outcome.is_probed());
    rest
}

/// `998 closed (conn-refused)`.
pub(super) fn counted((outcome, count): (Outcome, u64)) -> String {
    let state = match outcome.state() {
        State::NotProbed => "not probed",
        state => state.as_str(),
    };
    format!("{} {state} ({})", grouped(u128::from(count)), outcome.why())
}

fn counted_word(count: u64, one: &str, many: &str) -> String {
    let word = if count == 1 { one } else { many };
    format!("{} {word}", grouped(u128::from(count)))
}

/// nmap's columns, as wide as what stands in them.
fn write_ports(out: &mut dyn Write, host: &Host, open_only: bool) -> io::Result<()> {
    let open = host.open.iter().map(|open| (open.port, Outcome::OPEN));
    let others = host
        .groups
        .iter()
        .filter(|_| !open_only)
        .flat_map(|group| group.ports.iter().map(|&port| (port, group.outcome)));
    let differing = host.differing_unnamed().into_iter().filter(|_| !open_only);
    let mut ports: Vec<_> = open.chain(others).chain(differing).collect();
    if ports.is_empty() {
        return Ok(());
    }
    ports.sort_unstable();
    let rows: Vec<_> = ports
        .into_iter()
        .map(|(port, outcome)| {
            let service = service_name(port).unwrap_or("unknown");
            (format!("{port}/{}", ProbeKind::Tcp), outcome, service)
        })
        .collect();
    let width = |head: &str, of: &dyn Fn(&(String, Outcome, &str)) -> usize| {
        rows.iter().map(of).max().unwrap_or(0).max(head.len())
    };
    let port_width = width("PORT", &|row| row.0.len());
    let state_width = width("STATE", &|row| row.1.state().as_str().len());
    let service_width = width("SERVICE", &|row| row.2.len());
    writeln!(out, "{BOLD}{:port_width$} {:state_width$} {:service_width$} REASON{PLAIN}", "PORT", "STATE", "SERVICE")?;
    for (port, outcome, service) in &rows {
        let state = outcome.state();
        let colour = colour(state);
        let why = outcome.why();
        writeln!(out, "{port:port_width$} {colour}{state:state_width$}{PLAIN} {service:service_width$} {why}")?;
    }
    Ok(())
}

pub(super) const fn colour(state: State) -> &'static str {
    match state {
        State::Open | State::Up => GREEN,
        State::Closed | State::Down => RED,
        State::Filtered | State::NotProbed => YELLOW,
    }
}

/// Writes `head` and the items with commas, over as many lines as they need.
pub(super) fn write_list(out: &mut dyn Write, head: &str, items: &[String]) -> io::Result<()> {
    let escapes: usize = [YELLOW, PLAIN].iter().map(|code| head.matches(code).count() * code.len()).sum();
    let mut column = head.len() - escapes;
    write!(out, "{head}")?;
    for (place, item) in items.iter().enumerate() {
        let comma = if place + 1 < items.len() { "," } else { "" };
        let width = item.len() + comma.len();
        if place > 0 {
            if column + 1 + width > COLUMNS {
                write!(out, "\n  ")?;
                column = 2;
            } else {
                write!(out, " ")?;
                column += 1;
            }
        }
        write!(out, "{item}{comma}")?;
        column += width;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use coordinator_core::host::Host;

    fn plain(facts: &ScanFacts, mut rows: &[Host]) -> String {
        let mut text = Vec::new();
        write(&mut text, facts, &mut rows, View::default()).unwrap();
        String::from_utf8(anstream::adapter::strip_bytes(&text).into_vec()).unwrap()
    }

    #[test]
    fn the_sample_looks_as_it_did() {
        let (facts, rows) = sample::mixed();
        let expected = include_str!("testdata/mixed.txt");
        assert_eq!(plain(&facts, &rows), expected);
    }

    #[test]
    fn open_only_leaves_out_other_ports_and_hosts_without_an_open_one() {
        let (facts, rows) = sample::mixed();
        let mut text = Vec::new();
        write(&mut text, &facts, &mut &rows[..], View { open_only: true, by_port: false }).unwrap();
        let text = String::from_utf8(anstream::adapter::strip_bytes(&text).into_vec()).unwrap();
        assert!(!text.contains("443/tcp   filtered"), "{text}");
        let rest =
            "Not shown: 98 closed (conn-refused), 1 filtered (admin-prohibited),\n  1 not probed (local-limit)\n";
        assert!(text.contains(rest), "{text}");
        assert!(text.contains("618 targets: 3 open, 98 closed,"), "the summary counts everything: {text}");

        let (facts, rows) = sample::every_cause();
        let mut text = Vec::new();
        write(&mut text, &facts, &mut &rows[..], View { open_only: true, by_port: false }).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(!text.contains("report for"), "{text}");
    }

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        for (facts, rows) in [sample::mixed(), sample::every_cause(), sample::pinged(300)] {
            for line in plain(&facts, &rows).lines() {
                assert!(line.chars().count() <= COLUMNS, "{line}");
            }
        }
    }

    #[test]
    fn no_host_leaves_a_summary() {
        let (facts, rows) = sample::pinged(0);
        assert_eq!(
            plain(&facts, &rows),
            "2 addresses in 3.2 s: 0 up, 2 silent\n2 targets: 2 down\n\
             Scan 01934567-89ab-7cde-8f01-23456789abcd: done\n"
        );
    }

    #[test]
    fn where_only_ping_was_asked_a_host_is_one_line() {
        let (facts, rows) = sample::pinged(300);
        let text = plain(&facts, &rows);
        assert_eq!(text.lines().filter(|line| line.contains(" is up (")).count(), 300);
        assert_eq!(text.lines().count(), 300 + 1 + 3);
        assert!(text.starts_with("192.0.2.1 is up (echo-reply, 0.42 ms)\n"), "{text}");
    }

    #[test]
    fn colours_frame_states_and_never_shift_columns() {
        let (facts, rows) = sample::mixed();
        let mut text = Vec::new();
        write(&mut text, &facts, &mut &rows[..], View::default()).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("22/tcp    \x1b[32mopen    \x1b[0m ssh"), "{text}");
    }
}
