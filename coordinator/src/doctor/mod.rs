//! `portsweep doctor`: what bears on scanning from this machine, and the line that mends each.
//!
//! [`Machine::read`] looks, [`examine`] judges and is pure, [`write()`] tells.

mod machine;
mod state;

pub use machine::Machine;
pub use state::state;

use crate::report::quantity::{bytes, grouped};
use portsweep_agent::limits::{DESCRIPTORS_KEPT, Descriptors, WINDOW_MAX};
use portsweep_agent::privilege::Access;
use std::io::{self, Write};

/// With less than so many descriptors not even a probe at a time can be kept up.
const DESCRIPTORS_MIN: u64 = 16;
/// With so many the default window is two thirds of the largest.
const DESCRIPTORS_WANTED: u64 = WINDOW_MAX as u64 + DESCRIPTORS_KEPT;
/// A port of this machine serves any number of hosts at once, but the fewer are free, the longer the kernel looks for one.
const PORTS_WANTED: u32 = WINDOW_MAX;
/// What a burst of some thousand echo replies needs. What is lost here looks like silence of the hosts.
const BUFFER_BYTES_WANTED: u64 = 1 << 20;
/// A probe leaves an entry for a minute or two: some windows full must find room.
const CONNTRACK_FREE_WANTED: u64 = 8 * WINDOW_MAX as u64;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing to do.
    Fine,
    /// Scans are slower, or see less.
    Warn,
    /// There can be no scan.
    Stop,
}

/// What was found of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub verdict: Verdict,
    /// What was looked at.
    pub subject: &'static str,
    /// What is so.
    pub said: String,
    /// The line that mends it; `None` where nothing needs to be mended, or nothing can be.
    pub mend: Option<String>,
}

impl Finding {
    fn fine(subject: &'static str, said: String) -> Self {
        Self { verdict: Verdict::Fine, subject, said, mend: None }
    }

    fn warn(subject: &'static str, said: String, mend: &str) -> Self {
        Self { verdict: Verdict::Warn, subject, said, mend: Some(mend.to_owned()) }
    }
}

/// Judges what this machine gives a scan. Never empty.
#[must_use]
pub fn examine(machine: &Machine) -> Vec<Finding> {
    let mut findings = vec![descriptors(machine.descriptors), connects(machine.connects)];
    let [v4, v6] = machine.pings;
    findings.extend([ping("ping IPv4", v4), ping("ping IPv6", v6)]);
    findings.extend(machine.ports.map(ports));
    findings.extend(machine.buffer_bytes_max.map(buffers));
    findings.extend(machine.conntrack.map(conntrack));
    findings
}

/// Whether something lets no scan be made.
#[must_use]
pub fn stops_scanning(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.verdict == Verdict::Stop)
}

/// Writes a line for each finding and, below it, what mends it.
///
/// # Errors
/// If `out` cannot be written.
pub fn write(out: &mut dyn Write, findings: &[Finding]) -> io::Result<()> {
    const PLAIN: &str = "\x1b[0m";
    let width = findings.iter().map(|finding| finding.subject.len()).max().unwrap_or(0);
    for Finding { verdict, subject, said, mend } in findings {
        let (word, colour) = match verdict {
            Verdict::Fine => ("ok  ", "\x1b[32m"),
            Verdict::Warn => ("warn", "\x1b[33m"),
            Verdict::Stop => ("STOP", "\x1b[31m"),
        };
        writeln!(out, "{colour}{word}{PLAIN}  {subject:width$}  {said}")?;
        if let Some(mend) = mend {
            writeln!(out, "      {:width$}  mend: {mend}", "")?;
        }
    }
    Ok(())
}

fn descriptors(limits: Option<(u64, u64)>) -> Finding {
    const SUBJECT: &str = "descriptors";
    const MEND: &str = "ulimit -Hn 32768  (as root, before the scan)";
    let Some((soft, hard)) = limits else {
        return Finding::warn(SUBJECT, "the limit cannot be read".to_owned(), MEND);
    };
    let number = |count: u64| if count == u64::MAX { "unlimited".to_owned() } else { grouped(u128::from(count)) };
    // The soft limit is raised when a scan starts.
    let window = grouped(u128::from(Descriptors::new(hard).default_window()));
    let said = format!("{} (soft), {} (hard): {window} probes in flight", number(soft), number(hard));
    match hard {
        0..DESCRIPTORS_MIN => Finding { verdict: Verdict::Stop, ..Finding::warn(SUBJECT, said, MEND) },
        DESCRIPTORS_MIN..DESCRIPTORS_WANTED => Finding::warn(SUBJECT, said, MEND),
        DESCRIPTORS_WANTED.. => Finding::fine(SUBJECT, said),
    }
}

fn connects([v4, v6]: [bool; 2]) -> Finding {
    const SUBJECT: &str = "TCP connect";
    match (v4, v6) {
        (true, true) => Finding::fine(SUBJECT, "IPv4 and IPv6".to_owned()),
        (true, false) => Finding::fine(SUBJECT, "IPv4; this machine has no IPv6".to_owned()),
        (false, true) => Finding::fine(SUBJECT, "IPv6; this machine has no IPv4".to_owned()),
        (false, false) => Finding {
            verdict: Verdict::Stop,
            ..Finding::warn(
                SUBJECT,
                "no socket can be opened".to_owned(),
                "run it outside the sandbox that forbids sockets",
            )
        },
    }
}

fn ping(subject: &'static str, access: Access) -> Finding {
    match access {
        Access::Permitted => Finding::fine(subject, "ICMP echo is permitted".to_owned()),
        Access::Absent => Finding::fine(subject, "this machine does not have it".to_owned()),
        Access::Refused => Finding::warn(
            subject,
            "ICMP is refused: TCP 443 and 80 are asked".to_owned(),
            "sysctl -w net.ipv4.ping_group_range=\"0 2147483647\"",
        ),
    }
}

fn ports((low, high): (u16, u16)) -> Finding {
    const SUBJECT: &str = "local ports";
    let count = (u32::from(high) + 1).saturating_sub(u32::from(low));
    let said = format!("{low}-{high}: {}", grouped(u128::from(count)));
    if count >= PORTS_WANTED {
        return Finding::fine(SUBJECT, said);
    }
    Finding::warn(SUBJECT, said, "sysctl -w net.ipv4.ip_local_port_range=\"32768 60999\"")
}

fn buffers(max: u64) -> Finding {
    const SUBJECT: &str = "receive buffer";
    let said = format!("{} at most", bytes(u128::from(max)));
    if max >= BUFFER_BYTES_WANTED {
        return Finding::fine(SUBJECT, said);
    }
    Finding::warn(SUBJECT, format!("{said}: pings go slower"), "sysctl -w net.core.rmem_max=4194304")
}

fn conntrack((count, max): (u64, u64)) -> Finding {
    const SUBJECT: &str = "conntrack";
    let said = format!("{} of {} entries used", grouped(u128::from(count)), grouped(u128::from(max)));
    if max.saturating_sub(count) >= CONNTRACK_FREE_WANTED {
        return Finding::fine(SUBJECT, said);
    }
    Finding::warn(SUBJECT, format!("{said}: few are free"), "sysctl -w net.netfilter.nf_conntrack_max=262144")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Machine {
        Machine {
            descriptors: Some((1_024, 20_000)),
            connects: [true, true],
            pings: [Access::Permitted, Access::Permitted],
            ports: Some((32_768, 60_999)),
            buffer_bytes_max: Some(4_194_304),
            conntrack: Some((120, 262_144)),
        }
    }

    fn told(machine: &Machine) -> (String, bool) {
        let findings = examine(machine);
        let mut text = Vec::new();
        write(&mut text, &findings).unwrap();
        let text = String::from_utf8(anstream::adapter::strip_bytes(&text).into_vec()).unwrap();
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        (text, stops_scanning(&findings))
    }

    #[test]
    fn a_good_machine_needs_nothing() {
        let expected = "\
ok    descriptors     1,024 (soft), 20,000 (hard): 13,290 probes in flight
ok    TCP connect     IPv4 and IPv6
ok    ping IPv4       ICMP echo is permitted
ok    ping IPv6       ICMP echo is permitted
ok    local ports     32768-60999: 28,232
ok    receive buffer  4.2 MB at most
ok    conntrack       120 of 262,144 entries used
";
        assert_eq!(told(&good()), (expected.to_owned(), false));
    }

    #[test]
    fn each_lack_has_the_line_that_mends_it() {
        let lacking: [(Machine, &str); 6] = [
            (Machine { descriptors: Some((256, 1_024)), ..good() }, "mend: ulimit -Hn 32768"),
            (Machine { descriptors: None, ..good() }, "mend: ulimit -Hn 32768"),
            (
                Machine { pings: [Access::Refused, Access::Absent], ..good() },
                "mend: sysctl -w net.ipv4.ping_group_range=",
            ),
            (Machine { ports: Some((60_000, 60_999)), ..good() }, "mend: sysctl -w net.ipv4.ip_local_port_range="),
            (Machine { buffer_bytes_max: Some(212_992), ..good() }, "mend: sysctl -w net.core.rmem_max="),
            (
                Machine { conntrack: Some((60_000, 65_536)), ..good() },
                "mend: sysctl -w net.netfilter.nf_conntrack_max=",
            ),
        ];
        for (machine, mend) in lacking {
            let (text, stops) = told(&machine);
            assert_eq!(text.matches("warn  ").count(), 1, "{text}");
            assert!(text.contains(mend) && !stops, "{text}");
        }
    }

    #[test]
    fn what_lets_no_scan_be_made_stops() {
        for machine in [Machine { descriptors: Some((8, 8)), ..good() }, Machine { connects: [false, false], ..good() }]
        {
            let (text, stops) = told(&machine);
            assert!(text.contains("STOP  ") && stops, "{text}");
        }
        let (text, stops) =
            told(&Machine { connects: [true, false], pings: [Access::Permitted, Access::Absent], ..good() });
        assert!(!text.contains("warn") && !stops, "a machine without IPv6 is a good one: {text}");
    }

    #[test]
    fn what_the_system_does_not_tell_is_left_out() {
        let (text, _) = told(&Machine { ports: None, buffer_bytes_max: None, conntrack: None, ..good() });
        assert_eq!(text.lines().count(), 4, "{text}");
    }
}
