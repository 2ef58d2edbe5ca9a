//! What a scan from here writes to standard output: findings as they are committed, and the report at the end.

use super::screen::Screen;
use crate::cli::{Format, Output, Write as Goes};
use crate::report::jsonl::Jsonl;
use crate::report::quantity::round_trip;
use crate::report::table::{self, View};
use crate::report::{Rows, ScanFacts, json, lines};
use coordinator_core::coordinator::{Found, Sign};
use protocol::port::service_name;
use protocol::probe::{ProbeKind, Slot, Target};
use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufRead, BufWriter, IsTerminal, Write};
use std::net::IpAddr;

/// Rows are some hundred bytes: a system call for hundreds of them.
const BUFFER_BYTES: usize = 1 << 16;

/// The form of what is written.
#[derive(Debug, Default)]
enum Form {
    /// A report at the end; `live` shows findings before it too.
    Table { view: View, live: bool },
    /// A line for each finding; of what several vantages see, once: a line has no room for who.
    Lines { told: HashSet<Target> },
    /// A JSON object for each finding, and a summary.
    Jsonl(Jsonl),
    /// The JSON, at the end.
    Json,
    #[default]
    Nothing,
}

/// Standard output, as long as somebody reads it.
#[derive(Debug, Default)]
pub(crate) struct Stdout {
    form: Form,
    kinds: Vec<ProbeKind>,
    names: BTreeMap<IpAddr, Vec<String>>,
}

impl Stdout {
    pub(super) fn new(output: &Output, kinds: Vec<ProbeKind>, names: BTreeMap<IpAddr, Vec<String>>) -> Self {
        Self { form: form(output, io::stdout().is_terminal()), kinds, names }
    }

    /// Whether what is found is written as it is committed.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.form, Form::Lines { .. } | Form::Jsonl(_) | Form::Table { live: true, .. })
    }

    /// Writes what a commit found or showed to live, past the screen's bar.
    ///
    /// # Errors
    /// If it cannot be written; then nothing more is.
    pub(super) fn committed(
        &mut self,
        screen: &Screen,
        vantage: Option<&str>,
        findings: &[Found],
        signs: &[Sign],
    ) -> io::Result<()> {
        if findings.is_empty() && signs.is_empty() || !self.is_live() {
            return Ok(());
        }
        let written = screen.past(|| {
            let mut out = BufWriter::with_capacity(BUFFER_BYTES, anstream::stdout().lock());
            self.told(&mut out, vantage, findings, signs)?;
            out.flush()
        });
        self.ended_by(written)
    }

    fn told(
        &mut self,
        out: &mut dyn Write,
        vantage: Option<&str>,
        findings: &[Found],
        signs: &[Sign],
    ) -> io::Result<()> {
        if let Form::Jsonl(jsonl) = &mut self.form {
            return jsonl.committed(out, &self.names, vantage, findings, signs);
        }
        let is_line = |found: &&Found| lines::is_line(&self.kinds, found.target.slot, found.outcome);
        for &Found { target, outcome, rtt_us } in findings.iter().filter(is_line) {
            match &mut self.form {
                Form::Lines { told } => {
                    let another_told = vantage.is_some() && !told.insert(target);
                    if !another_told {
                        writeln!(out, "{target}")?;
                    }
                }
                Form::Table { .. } => {
                    let (state, time) = (outcome.state(), round_trip(rtt_us));
                    match target.slot {
                        Slot::Tcp(port) => {
                            let service = service_name(port).unwrap_or("unknown");
                            write!(out, "{target} {state} {service} ({time})")?;
                        }
                        Slot::Ping => write!(out, "{target} {state} ({time})")?,
                    }
                    match vantage {
                        Some(vantage) => writeln!(out, " from {vantage}")?,
                        None => writeln!(out)?,
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether there is something to write at the end.
    pub(super) fn has_report(&self) -> bool {
        !matches!(self.form, Form::Nothing | Form::Lines { .. })
    }

    /// Writes what comes at the end.
    ///
    /// # Errors
    /// If it cannot be written, or the rows cannot be read.
    pub(super) fn finish(&mut self, facts: &ScanFacts, rows: &mut dyn Rows) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, anstream::stdout().lock());
        let written = match &mut self.form {
            Form::Table { view, live } => {
                let spaced = if *live && facts.counts.targets() > 0 { writeln!(out) } else { Ok(()) };
                spaced.and_then(|()| table::write(&mut out, facts, rows, *view))
            }
            Form::Jsonl(jsonl) => jsonl.finish(&mut out, facts, rows),
            Form::Json => json::write(&mut out, facts, rows),
            Form::Lines { .. } | Form::Nothing => Ok(()),
        };
        let written = written.and_then(|()| out.flush());
        // What is left in the buffer cannot be written either.
        drop(out.into_parts());
        self.ended_by(written)
    }

    /// What is asked of a coordinator for the end: the query of its results. `None` where nothing comes at the end.
    pub(crate) fn wanted(&self) -> Option<String> {
        match &self.form {
            Form::Table { view: View { open_only, by_port }, .. } => {
                let by = if *by_port { "port" } else { "host" };
                Some(format!("format=table&open={open_only}&by={by}"))
            }
            Form::Jsonl(jsonl) => Some(format!("format=jsonl&open={}", jsonl.open_only())),
            Form::Json => Some("format=json".to_owned()),
            Form::Lines { .. } | Form::Nothing => None,
        }
    }

    /// As [`finish`](Self::finish), from what a coordinator sent that was asked for what is [`wanted`](Self::wanted).
    ///
    /// # Errors
    /// If it cannot be written or read.
    pub(crate) fn finish_from(&mut self, sent: &mut dyn BufRead) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, anstream::stdout().lock());
        let written = match &mut self.form {
            Form::Table { live, .. } => {
                let spaced = if *live { writeln!(out) } else { Ok(()) };
                spaced.and_then(|()| io::copy(sent, &mut out).map(|_| ()))
            }
            Form::Json => io::copy(sent, &mut out).map(|_| ()),
            Form::Jsonl(jsonl) => jsonl.finish_from(&mut out, sent),
            Form::Lines { .. } | Form::Nothing => Ok(()),
        };
        let written = written.and_then(|()| out.flush());
        drop(out.into_parts());
        self.ended_by(written)
    }

    fn ended_by(&mut self, written: io::Result<()>) -> io::Result<()> {
        if written.is_err() {
            self.form = Form::Nothing;
        }
        written
    }
}

fn form(output: &Output, is_terminal: bool) -> Form {
    let format = match (&output.write, output.quiet, output.format) {
        (Some(Goes::Stdout), _, _) => return Form::Json,
        (_, true, _) => return Form::Nothing,
        (_, _, Some(format)) => format,
        _ if is_terminal => Format::Table,
        _ => Format::Lines,
    };
    match format {
        Format::Table => {
            Form::Table { view: View { open_only: output.open_only, by_port: output.by_port }, live: is_terminal }
        }
        Format::Lines => Form::Lines { told: HashSet::new() },
        Format::Jsonl => Form::Jsonl(Jsonl::new(output.open_only)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::probe::Outcome;

    /// What two vantages that see one open port make of it.
    fn seen_twice(form: Form) -> String {
        let mut stdout = Stdout { form, kinds: ProbeKind::ALL.to_vec(), names: BTreeMap::new() };
        let target = Target { address: "192.0.2.11".parse().unwrap(), slot: Slot::Tcp(22) };
        let found = [Found { target, outcome: Outcome::OPEN, rtt_us: 418 }];
        let mut text = Vec::new();
        for vantage in ["inside", "outside"] {
            stdout.told(&mut text, Some(vantage), &found, &[]).unwrap();
        }
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn what_two_vantages_see_is_one_line_in_a_pipe_and_two_with_their_names_on_a_terminal() {
        assert_eq!(seen_twice(Form::Lines { told: HashSet::new() }), "192.0.2.11:22\n");
        let view = View { open_only: false, by_port: false };
        let text = seen_twice(Form::Table { view, live: true });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].ends_with(" from inside") && lines[1].ends_with(" from outside"), "{text}");
    }
}
