//! `-o jsonl`: a JSON object a line, as things are committed. `host` once for each host, `port` for each open port, last `summary`.
//!
//! A line is never withdrawn.

use super::facts::ScanFacts;
use super::summary::Summary;
use super::{Places, Rows, milliseconds};
use coordinator_core::coordinator::Sign;
use protocol::probe::{Outcome, ProbeKind, Slot, State, Target};
use protocol::range_set::AddressSet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::net::IpAddr;

/// What was told so far. Its size grows with the hosts that were found, in runs of neighbours.
#[derive(Debug, Default)]
pub struct Jsonl {
    told: AddressSet,
    open_only: bool,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line<'a> {
    Host {
        address: IpAddr,
        names: &'a [String],
        state: &'static str,
        reason: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        rtt_ms: Option<f64>,
    },
    Port {
        address: IpAddr,
        port: u16,
        protocol: &'static str,
        state: &'static str,
        reason: &'static str,
        rtt_ms: f64,
    },
    Summary {
        id: String,
        status: &'static str,
        #[serde(flatten)]
        summary: Summary,
    },
}

/// Names that were typed, by the address that they stand for.
type Names = BTreeMap<IpAddr, Vec<String>>;

impl Jsonl {
    /// With `open_only`, a host is told of when its first open port is, and otherwise not.
    #[must_use]
    pub fn new(open_only: bool) -> Self {
        Self { told: AddressSet::new(), open_only }
    }

    /// Whether only open ports are told of, and their hosts.
    #[must_use]
    pub const fn open_only(&self) -> bool {
        self.open_only
    }

    /// As [`finish`](Self::finish), from the lines of the whole scan: those are written that were not told before. Every open port was.
    ///
    /// # Errors
    /// If `out` cannot be written, or `lines` cannot be read.
    pub fn finish_from(&mut self, out: &mut dyn Write, lines: &mut dyn BufRead) -> io::Result<()> {
        #[derive(Deserialize)]
        struct Told {
            r#type: String,
            address: Option<IpAddr>,
        }
        for line in lines.lines() {
            let line = line?;
            let told: Told = serde_json::from_str(&line)?;
            let is_new = match (&*told.r#type, told.address) {
                ("host", Some(address)) => !self.told.contains(address),
                ("port", _) => false,
                _ => true,
            };
            if is_new {
                writeln!(out, "{line}")?;
            }
        }
        Ok(())
    }

    /// Writes what a committed finding (an open port or a live host) shows that was not told before.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn found(
        &mut self,
        out: &mut dyn Write,
        names: &Names,
        target: Target,
        outcome: Outcome,
        rtt_us: u32,
    ) -> io::Result<()> {
        let open = outcome.state() == State::Open;
        if self.open_only && !open {
            return Ok(());
        }
        let rtt_ms = milliseconds(rtt_us);
        self.host(out, names, target.address, outcome.why(), Some(rtt_ms))?;
        match target.slot {
            Slot::Tcp(port) if open => line(
                out,
                &Line::Port {
                    address: target.address,
                    port,
                    protocol: ProbeKind::Tcp.as_str(),
                    state: State::Open.as_str(),
                    reason: outcome.why(),
                    rtt_ms,
                },
            ),
            Slot::Tcp(_) | Slot::Ping => Ok(()),
        }
    }

    /// Writes a host that shows itself by something else than a finding.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn sign(&mut self, out: &mut dyn Write, names: &Names, sign: &Sign) -> io::Result<()> {
        if self.open_only {
            return Ok(());
        }
        self.host(out, names, sign.address, sign.outcome.why(), None)
    }

    /// Writes the summary, which counts over all rows.
    ///
    /// # Errors
    /// If `out` cannot be written or the rows cannot be read.
    pub fn finish(&mut self, out: &mut dyn Write, facts: &ScanFacts, rows: &mut dyn Rows) -> io::Result<()> {
        let mut places = Places::default();
        rows.for_each(&mut |host| {
            places.add(host);
            Ok(())
        })?;
        let summary = Summary::new(facts, places);
        line(out, &Line::Summary { id: facts.id.to_string(), status: facts.status.as_str(), summary })
    }

    fn host(
        &mut self,
        out: &mut dyn Write,
        names: &Names,
        address: IpAddr,
        reason: &'static str,
        rtt_ms: Option<f64>,
    ) -> io::Result<()> {
        if self.told.contains(address) {
            return Ok(());
        }
        self.told.insert(address);
        let names = names.get(&address).map_or(&[][..], Vec::as_slice);
        line(out, &Line::Host { address, names, state: State::Up.as_str(), reason, rtt_ms })
    }
}

fn line(out: &mut dyn Write, line: &Line<'_>) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn told(open_only: bool) -> String {
        let (facts, rows) = sample::mixed();
        let mut jsonl = Jsonl::new(open_only);
        let mut text = Vec::new();
        let address = "192.0.2.11".parse().unwrap();
        for (slot, outcome) in
            [(Slot::Tcp(22), Outcome::OPEN), (Slot::Ping, Outcome::UP), (Slot::Tcp(61_234), Outcome::OPEN)]
        {
            jsonl.found(&mut text, &facts.names, Target { address, slot }, outcome, 418).unwrap();
        }
        for address in ["192.0.2.11", "2001:db8::1", "2001:db8::1"] {
            let sign = Sign { address: address.parse().unwrap(), outcome: Outcome::CLOSED };
            jsonl.sign(&mut text, &facts.names, &sign).unwrap();
        }
        jsonl.finish(&mut text, &facts, &mut &rows[..]).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_host_is_told_of_once_and_the_summary_is_last() {
        assert_eq!(
            told(false),
            r#"{"type":"host","address":"192.0.2.11","names":["www.example"],"state":"up","reason":"syn-ack","rtt_ms":0.418}
{"type":"port","address":"192.0.2.11","port":22,"protocol":"tcp","state":"open","reason":"syn-ack","rtt_ms":0.418}
{"type":"port","address":"192.0.2.11","port":61234,"protocol":"tcp","state":"open","reason":"syn-ack","rtt_ms":0.418}
{"type":"host","address":"2001:db8::1","names":[],"state":"up","reason":"conn-refused"}
{"type":"summary","id":"01934567-89ab-7cde-8f01-23456789abcd","status":"partial","targets":618,"probed":412,"addresses":{"hosts":2,"silent":2,"not_probed":2},"states":{"open":3,"closed":98,"filtered":306,"up":1,"down":4},"not_probed":{"local-limit":1,"no-route":205},"single_try":412,"estimated_loss":null,"estimated_loss_interval":null,"window":8192,"elapsed_s":3.222}
"#
        );
    }

    #[test]
    fn with_open_only_a_host_that_only_lives_is_not_told_of() {
        let (facts, rows) = sample::pinged(1);
        let (mut jsonl, mut text) = (Jsonl::new(true), Vec::new());
        let target = Target { address: rows[0].address, slot: Slot::Ping };
        jsonl.found(&mut text, &facts.names, target, Outcome::UP, 1).unwrap();
        jsonl.finish(&mut text, &facts, &mut &rows[..]).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with(r#"{"type":"summary""#) && text.lines().count() == 1, "{text}");
        assert_eq!(told(true).lines().count(), 4, "of the last host no open port was told");
    }
}
