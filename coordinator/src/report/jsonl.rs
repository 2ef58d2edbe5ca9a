//! `-o jsonl`: a JSON object a line, as things are committed. `host` once for each host, `port` for each open port, last `summary`. Where
//! several vantages each probe everything, both come once for each vantage that saw it, which `vantage` names.
//!
//! A line is never withdrawn.

use super::facts::ScanFacts;
use super::summary::Summary;
use super::{Places, Rows, milliseconds};
use coordinator_core::coordinator::{Found, Sign};
use protocol::probe::{ProbeKind, Slot, State};
use protocol::range_set::AddressSet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::net::IpAddr;

/// What was told so far. Its size grows with the hosts that were found, in runs of neighbours.
#[derive(Debug, Default)]
pub struct Jsonl {
    /// By vantage; without one where it does not matter who probes what.
    told: BTreeMap<Option<String>, AddressSet>,
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
        #[serde(skip_serializing_if = "Option::is_none")]
        vantage: Option<&'a str>,
    },
    Port {
        address: IpAddr,
        port: u16,
        protocol: &'static str,
        state: &'static str,
        reason: &'static str,
        rtt_ms: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        vantage: Option<&'a str>,
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
        Self { told: BTreeMap::new(), open_only }
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
            vantage: Option<String>,
        }
        for line in lines.lines() {
            let line = line?;
            let told: Told = serde_json::from_str(&line)?;
            let is_new = match (&*told.r#type, told.address) {
                ("host", Some(address)) => !self.told.get(&told.vantage).is_some_and(|told| told.contains(address)),
                ("port", _) => false,
                _ => true,
            };
            if is_new {
                writeln!(out, "{line}")?;
            }
        }
        Ok(())
    }

    /// Writes what a commit of what a vantage saw shows: findings, and hosts that show themselves by something else.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn committed(
        &mut self,
        out: &mut dyn Write,
        names: &Names,
        vantage: Option<&str>,
        findings: &[Found],
        signs: &[Sign],
    ) -> io::Result<()> {
        findings.iter().try_for_each(|found| self.found(out, names, vantage, found))?;
        signs.iter().try_for_each(|sign| self.sign(out, names, vantage, sign))
    }

    /// Writes what a committed finding (an open port or a live host) shows that was not told before.
    fn found(&mut self, out: &mut dyn Write, names: &Names, vantage: Option<&str>, found: &Found) -> io::Result<()> {
        let &Found { target, outcome, rtt_us } = found;
        let open = outcome.state() == State::Open;
        if self.open_only && !open {
            return Ok(());
        }
        let rtt_ms = milliseconds(rtt_us);
        self.host(out, names, vantage, target.address, outcome.why(), Some(rtt_ms))?;
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
                    vantage,
                },
            ),
            Slot::Tcp(_) | Slot::Ping => Ok(()),
        }
    }

    /// Writes a host that shows itself by something else than a finding.
    fn sign(&mut self, out: &mut dyn Write, names: &Names, vantage: Option<&str>, sign: &Sign) -> io::Result<()> {
        if self.open_only {
            return Ok(());
        }
        self.host(out, names, vantage, sign.address, sign.outcome.why(), None)
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
        vantage: Option<&str>,
        address: IpAddr,
        reason: &'static str,
        rtt_ms: Option<f64>,
    ) -> io::Result<()> {
        let told = self.told.entry(vantage.map(str::to_owned)).or_default();
        if told.contains(address) {
            return Ok(());
        }
        told.insert(address);
        let names = names.get(&address).map_or(&[][..], Vec::as_slice);
        line(out, &Line::Host { address, names, state: State::Up.as_str(), reason, rtt_ms, vantage })
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
    use protocol::probe::{Outcome, Target};

    fn told(open_only: bool) -> String {
        let (facts, rows) = sample::mixed();
        let mut jsonl = Jsonl::new(open_only);
        let mut text = Vec::new();
        let address = "192.0.2.11".parse().unwrap();
        for (slot, outcome) in
            [(Slot::Tcp(22), Outcome::OPEN), (Slot::Ping, Outcome::UP), (Slot::Tcp(61_234), Outcome::OPEN)]
        {
            let found = Found { target: Target { address, slot }, outcome, rtt_us: 418 };
            jsonl.committed(&mut text, &facts.names, None, &[found], &[]).unwrap();
        }
        for address in ["192.0.2.11", "2001:db8::1", "2001:db8::1"] {
            let sign = Sign { address: address.parse().unwrap(), outcome: Outcome::CLOSED };
            jsonl.committed(&mut text, &facts.names, None, &[], &[sign]).unwrap();
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
    fn each_vantage_that_saw_it_is_named_and_tells_of_a_host_once() {
        let (facts, _) = sample::mixed();
        let (mut jsonl, mut text) = (Jsonl::new(false), Vec::new());
        let target = Target { address: "192.0.2.11".parse().unwrap(), slot: Slot::Tcp(22) };
        let found = [Found { target, outcome: Outcome::OPEN, rtt_us: 418 }];
        let sign = [Sign { address: target.address, outcome: Outcome::CLOSED }];
        jsonl.committed(&mut text, &facts.names, Some("inside"), &found, &sign).unwrap();
        jsonl.committed(&mut text, &facts.names, Some("outside"), &[], &sign).unwrap();
        let expected = r#"{"type":"host","address":"192.0.2.11","names":["www.example"],"state":"up","reason":"syn-ack","rtt_ms":0.418,"vantage":"inside"}
{"type":"port","address":"192.0.2.11","port":22,"protocol":"tcp","state":"open","reason":"syn-ack","rtt_ms":0.418,"vantage":"inside"}
{"type":"host","address":"192.0.2.11","names":["www.example"],"state":"up","reason":"conn-refused","vantage":"outside"}
"#;
        assert_eq!(String::from_utf8(text.clone()).unwrap(), expected);
        // A third vantage's host was told by nobody yet.
        let mut whole = text.clone();
        let third = expected.lines().last().unwrap().replace("outside", "beyond") + "\n";
        whole.extend_from_slice(third.as_bytes());
        let mut rest = Vec::new();
        jsonl.finish_from(&mut rest, &mut &whole[..]).unwrap();
        assert_eq!(String::from_utf8(rest).unwrap(), third);
    }

    #[test]
    fn with_open_only_a_host_that_only_lives_is_not_told_of() {
        let (facts, rows) = sample::pinged(1);
        let (mut jsonl, mut text) = (Jsonl::new(true), Vec::new());
        let target = Target { address: rows[0].address, slot: Slot::Ping };
        let found = Found { target, outcome: Outcome::UP, rtt_us: 1 };
        jsonl.committed(&mut text, &facts.names, None, &[found], &[]).unwrap();
        jsonl.finish(&mut text, &facts, &mut &rows[..]).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with(r#"{"type":"summary""#) && text.lines().count() == 1, "{text}");
        assert_eq!(told(true).lines().count(), 4, "of the last host no open port was told");
    }
}
