//! A result as CSV, for spreadsheets: a row for each thing that was found, one for each lot of ports that is only counted, and one for
//! each run of neighbours that gave no sign of life (`count` is then that of addresses, or of unprobed targets).
//!
//! Spreadsheets take a cell that begins with `=`, `+`, `-`, `@`, a tab or a carriage return for a formula. Names come from whoever was
//! scanned, so such a cell begins with an apostrophe here (OWASP, "CSV Injection").

use super::facts::ScanFacts;
use super::{Rows, json, milliseconds};
use coordinator_core::host::{Host, Place};
use protocol::probe::{Outcome, ProbeKind, Slot};
use std::borrow::Cow;
use std::io::{self, Write};

/// The columns.
const HEAD: [&str; 10] =
    ["addresses", "names", "protocol", "port", "state", "reason", "rtt_ms", "seen_by", "count", "by_vantage"];

/// Writes a result.
///
/// # Errors
/// If `out` cannot be written, or the rows cannot be read.
pub fn write(out: &mut dyn Write, facts: &ScanFacts, rows: &mut dyn Rows) -> io::Result<()> {
    let mut table = ::csv::Writer::from_writer(out);
    table.write_record(HEAD)?;
    rows.for_each(&mut |host| write_host(&mut table, facts, host))?;
    write_runs(&mut table, rows)?;
    table.flush()
}

type Table<'a> = ::csv::Writer<&'a mut dyn Write>;

/// What a row says of ports or a ping.
#[derive(Default)]
struct Row<'a> {
    addresses: String,
    names: String,
    protocol: &'a str,
    port: String,
    state: &'a str,
    reason: &'a str,
    rtt_ms: String,
    seen_by: String,
    count: u64,
    by_vantage: String,
}

impl Row<'_> {
    fn write(&self, table: &mut Table<'_>) -> io::Result<()> {
        let count = self.count.to_string();
        let cells = [
            &*self.addresses,
            &*self.names,
            self.protocol,
            &*self.port,
            self.state,
            self.reason,
            &*self.rtt_ms,
            &*self.seen_by,
            &*count,
            &*self.by_vantage,
        ];
        Ok(table.write_record(cells.map(|cell| guarded(cell).into_owned()))?)
    }
}

/// A cell that no spreadsheet takes for a formula.
pub(super) fn guarded(cell: &str) -> Cow<'_, str> {
    match cell.bytes().next() {
        Some(b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r') => Cow::Owned(format!("'{cell}")),
        _ => Cow::Borrowed(cell),
    }
}

fn write_host(table: &mut Table<'_>, facts: &ScanFacts, host: &Host) -> io::Result<()> {
    if !matches!(host.place(), Place::Host(_)) {
        return Ok(());
    }
    let names = facts.names.get(&host.address).map(|names| names.join(" ")).unwrap_or_default();
    let (ping, tcp) = (ProbeKind::Ping.as_str(), ProbeKind::Tcp.as_str());
    let row = |protocol, port: Option<u16>, outcome: Outcome, rtt_us: Option<u32>, seen_by: Option<u32>, count| Row {
        addresses: host.address.to_string(),
        names: names.clone(),
        protocol,
        port: port.map(|port| port.to_string()).unwrap_or_default(),
        state: outcome.state().as_str(),
        reason: outcome.why(),
        rtt_ms: rtt_us.map(|rtt_us| milliseconds(rtt_us).to_string()).unwrap_or_default(),
        seen_by: seen_by.map(|place| agent(facts, place)).unwrap_or_default(),
        count,
        by_vantage: match (protocol, port) {
            (protocol, Some(port)) if protocol == tcp => by_vantage(facts, host, Slot::Tcp(port)),
            (protocol, None) if protocol == ping => by_vantage(facts, host, Slot::Ping),
            _ => String::new(),
        },
    };
    if let Some(answer) = host.ping {
        let seen_by = answer.outcome.is_probed().then_some(answer.seen_by);
        row(ping, None, answer.outcome, answer.rtt_us, seen_by, 1).write(table)?;
    }
    for open in &host.open {
        row(tcp, Some(open.port), Outcome::OPEN, open.rtt_us, Some(open.seen_by), 1).write(table)?;
    }
    for group in &host.groups {
        for &port in &group.ports {
            row(tcp, Some(port), group.outcome, None, None, 1).write(table)?;
        }
    }
    for (port, outcome) in host.differing_unnamed() {
        row(tcp, Some(port), outcome, None, None, 1).write(table)?;
    }
    for (outcome, count) in json::not_shown(host) {
        row(tcp, None, outcome, None, None, count).write(table)?;
    }
    Ok(())
}

/// What each vantage saw, where they differ: `inside=open outside=filtered`.
fn by_vantage(facts: &ScanFacts, host: &Host, slot: Slot) -> String {
    let differing = host.views.iter().flat_map(|views| &views.differing);
    let seen = differing.filter(|differing| differing.slot == slot).flat_map(|differing| &differing.seen);
    let states = facts.vantages.iter().zip(seen).filter_map(|(vantage, seen)| {
        let state = seen.as_ref()?.outcome.state().as_str();
        Some(format!("{vantage}={state}"))
    });
    states.collect::<Vec<_>>().join(" ")
}

fn agent(facts: &ScanFacts, place: u32) -> String {
    let agent = usize::try_from(place).ok().and_then(|place| facts.agents.get(place));
    agent.map(|agent| agent.name.clone()).unwrap_or_default()
}

/// Addresses without a sign of life, in runs of neighbours that share what became of them.
fn write_runs(table: &mut Table<'_>, rows: &mut dyn Rows) -> io::Result<()> {
    let place = |host: &Host| match host.place() {
        Place::Host(_) => None,
        Place::Silent(ping) => {
            Some(((ping.map_or("unknown", |ping| ping.state().as_str()), ping.unwrap_or(Outcome::DOWN).why()), 0))
        }
        Place::NotProbed(outcome) => Some(((outcome.state().as_str(), outcome.why()), host.not_probed())),
    };
    json::for_each_run(rows, place, |run| {
        let (state, reason) = run.key;
        let count = if run.weight > 0 { run.weight } else { run.count };
        Row { addresses: run.to_string(), state, reason, count, ..Row::default() }.write(table)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use coordinator_core::host::Answer;
    use std::net::IpAddr;

    fn text(facts: &ScanFacts, mut rows: &[Host]) -> String {
        let mut text = Vec::new();
        write(&mut text, facts, &mut rows).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn every_finding_has_a_row_and_the_rest_is_counted() {
        let (facts, rows) = sample::mixed();
        let text = text(&facts, &rows);
        assert_eq!(text, include_str!("testdata/mixed.csv"));
    }

    #[test]
    fn what_vantages_see_differently_has_a_row_that_says_what_each_saw() {
        let (mut facts, mut rows) = sample::mixed();
        facts.vantages = vec!["inside".to_owned(), "outside".to_owned()];
        let answer = |outcome| Some(Answer { outcome, rtt_us: None, seen_by: 0 });
        let mut host = Host::new(rows[0].address);
        host.fold_views(Slot::Tcp(22), &[answer(Outcome::OPEN), answer(Outcome::FILTERED)]);
        for port in 1_000..1_030 {
            host.fold_views(Slot::Tcp(port), &[answer(Outcome::FILTERED), answer(Outcome::FILTERED)]);
        }
        host.fold_views(Slot::Tcp(1_030), &[answer(Outcome::FILTERED), None]);
        rows[0] = host;
        let text = text(&facts, &rows[..1]);
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].contains(",22,open,") && lines[0].ends_with(",1,inside=open outside=filtered"), "{text}");
        assert!(lines[1].contains(",1030,filtered,") && lines[1].ends_with(",1,inside=filtered"), "{text}");
        assert!(lines[2].contains(",,filtered,") && lines[2].ends_with(",30,"), "{text}");
    }

    #[test]
    fn no_cell_is_a_formula() {
        for cell in ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"] {
            assert_eq!(guarded(cell), format!("'{cell}"));
        }
        for cell in ["", "192.0.2.1", "www.example", "a=b"] {
            assert_eq!(guarded(cell), cell);
        }
    }

    #[test]
    fn bad_input_84_names_that_are_formulas_are_text() {
        let (mut facts, rows) = sample::mixed();
        let address: IpAddr = rows[0].address;
        facts.names.insert(address, vec!["=HYPERLINK(\"http://x\")".to_owned(), "b\nc".to_owned()]);
        let text = text(&facts, &rows);
        assert!(text.contains(",\"'=HYPERLINK(\"\"http://x\"\") b\nc\","), "{text}");
    }
}
