//! What a pipe gets: one line for each finding, `192.0.2.11:22`, `[2001:db8::1]:22`; bare addresses where only `ping` was asked.

use super::Rows;
use coordinator_core::host::{Host, Place};
use protocol::probe::{Outcome, ProbeKind, Slot, State, Target};
use std::io::{self, Write};

/// Whether a target that was found so is a line: every open port, and a live host where only `ping` was asked.
#[must_use]
pub fn is_line(kinds: &[ProbeKind], slot: Slot, outcome: Outcome) -> bool {
    match slot {
        Slot::Tcp(_) => outcome.state() == State::Open,
        Slot::Ping => outcome.state() == State::Up && !kinds.contains(&ProbeKind::Tcp),
    }
}

/// Writes the lines of one host.
///
/// # Errors
/// If `out` cannot be written.
pub fn write_host(out: &mut dyn Write, kinds: &[ProbeKind], host: &Host) -> io::Result<()> {
    let address = host.address;
    if !kinds.contains(&ProbeKind::Tcp) {
        return match host.place() {
            Place::Host(_) => writeln!(out, "{address}"),
            Place::Silent(_) | Place::NotProbed(_) => Ok(()),
        };
    }
    for open in &host.open {
        let slot = Slot::Tcp(open.port);
        writeln!(out, "{}", Target { address, slot })?;
    }
    Ok(())
}

/// Writes the lines of all hosts, in address order.
///
/// # Errors
/// If `out` cannot be written or the rows cannot be read.
pub fn write(out: &mut dyn Write, kinds: &[ProbeKind], rows: &mut dyn Rows) -> io::Result<()> {
    rows.for_each(&mut |host| write_host(out, kinds, host))
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn each_open_port_is_a_line() {
        let (facts, rows) = sample::mixed();
        let mut text = Vec::new();
        write(&mut text, &facts.kinds, &mut &rows[..]).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text, "192.0.2.11:22\n192.0.2.11:61234\n[2001:db8::1]:443\n");
    }

    #[test]
    fn a_live_host_is_a_line_where_only_ping_was_asked() {
        let (facts, rows) = sample::pinged(2);
        let mut text = Vec::new();
        write(&mut text, &facts.kinds, &mut &rows[..]).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "192.0.2.1\n192.0.2.2\n");
        assert!(is_line(&facts.kinds, Slot::Ping, Outcome::UP));
        assert!(!is_line(&ProbeKind::ALL, Slot::Ping, Outcome::UP));
        assert!(!is_line(&ProbeKind::ALL, Slot::Tcp(22), Outcome::CLOSED));
        assert!(is_line(&ProbeKind::ALL, Slot::Tcp(22), Outcome::OPEN));
    }
}
