//! What vantages see differently, as a table: a line a port (or `ping`), a column a vantage.

use super::Rows;
use super::facts::ScanFacts;
use super::table::{BOLD, PLAIN, colour};
use coordinator_core::host::{DIFFERING_MAX, Host};
use protocol::probe::Slot;
use std::io::{self, Write};

/// What stands where something is no target of a vantage.
const NO_TARGET: &str = "-";

/// Writes the table of a scan that several vantages made; nothing of another.
///
/// # Errors
/// If `out` cannot be written or the rows cannot be read.
pub fn write(out: &mut dyn Write, facts: &ScanFacts, rows: &mut dyn Rows) -> io::Result<()> {
    if facts.vantages.is_empty() {
        return Ok(());
    }
    let (mut address_width, mut any) = ("ADDRESS".len(), false);
    rows.for_each(&mut |host| {
        if host.views.as_ref().is_some_and(|views| views.differ > 0) {
            any = true;
            address_width = address_width.max(host.address.to_string().len());
        }
        Ok(())
    })?;
    let vantages = facts.vantages.join(", ");
    if !any {
        return writeln!(out, "{BOLD}Seen alike{PLAIN} from {vantages}\n");
    }
    // The longest state is `not-probed`, the longest port `65535/tcp`.
    let widths: Vec<_> = facts.vantages.iter().map(|vantage| vantage.chars().count().max("not-probed".len())).collect();
    writeln!(out, "{BOLD}Seen differently{PLAIN} from {vantages}")?;
    write!(out, "{BOLD}{:address_width$} {:9}", "ADDRESS", "PORT")?;
    for (vantage, width) in facts.vantages.iter().zip(&widths) {
        write!(out, " {vantage:width$}")?;
    }
    writeln!(out, "{PLAIN}")?;
    rows.for_each(&mut |host| write_host(out, host, address_width, &widths))?;
    writeln!(out)
}

fn write_host(out: &mut dyn Write, host: &Host, address_width: usize, widths: &[usize]) -> io::Result<()> {
    let Some(views) = &host.views else { return Ok(()) };
    for differing in &views.differing {
        let port = match differing.slot {
            Slot::Ping => "ping".to_owned(),
            Slot::Tcp(port) => format!("{port}/tcp"),
        };
        write!(out, "{:address_width$} {port:9}", host.address.to_string())?;
        for (seen, width) in differing.seen.iter().zip(widths) {
            match seen.map(|answer| answer.outcome.state()) {
                Some(state) => write!(out, " {}{:width$}{PLAIN}", colour(state), state.as_str())?,
                None => write!(out, " {NO_TARGET:width$}")?,
            }
        }
        writeln!(out)?;
    }
    let rest = (views.differ as usize).saturating_sub(DIFFERING_MAX);
    if rest > 0 {
        writeln!(out, "{} and {rest} more", host.address)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use coordinator_core::host::Answer;
    use protocol::probe::{Outcome, ProbeKind};

    fn seen(outcomes: [Outcome; 2]) -> Vec<Option<Answer>> {
        outcomes.map(|outcome| Some(Answer { outcome, rtt_us: None, seen_by: 0 })).to_vec()
    }

    fn shown(rows: &[Host]) -> String {
        let facts = sample::facts(rows, &[ProbeKind::Tcp]);
        let facts = ScanFacts { vantages: vec!["inside".to_owned(), "outside".to_owned()], ..facts };
        let mut out = Vec::new();
        write(&mut out, &facts, &mut &*rows).unwrap();
        anstream::adapter::strip_str(&String::from_utf8(out).unwrap()).to_string()
    }

    #[test]
    fn a_line_for_each_difference_and_none_for_what_is_alike() {
        let mut host = Host::new("192.0.2.11".parse().unwrap());
        host.fold_views(Slot::Tcp(22), &seen([Outcome::OPEN, Outcome::FILTERED]));
        host.fold_views(Slot::Tcp(23), &seen([Outcome::CLOSED, Outcome::CLOSED]));
        host.fold_views(Slot::Tcp(8080), &[seen([Outcome::CLOSED; 2])[0], None]);
        let lines = "Seen differently from inside, outside\nADDRESS    PORT      inside     outside   \n\
                     192.0.2.11 22/tcp    open       filtered  \n192.0.2.11 8080/tcp  closed     -         \n\n";
        assert_eq!(shown(&[host]), lines);
    }

    #[test]
    fn where_nothing_differs_that_is_said() {
        let mut host = Host::new("192.0.2.11".parse().unwrap());
        host.fold_views(Slot::Tcp(22), &seen([Outcome::OPEN; 2]));
        assert_eq!(shown(&[host]), "Seen alike from inside, outside\n\n");
    }
}
