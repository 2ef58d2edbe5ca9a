//! The report for people, grouped by port: which addresses have it open, closed or filtered.
//!
//! It shows what the table per host shows, turned round: open ports, and other outcomes that few addresses of a port share. The rows are walked once to count what stands under each port, then
//! once for each batch of ports whose lines fit in memory together; a port that alone is too much for that is written as it
//! is walked.

use super::Rows;
use super::facts::ScanFacts;
use super::quantity::round_trip;
use super::table::{self, BOLD, PLAIN};
use super::{Places, quantity::grouped};
use coordinator_core::host::{Host, PORTS_NAMED_MAX, Place};
use protocol::port::service_name;
use protocol::probe::{Outcome, ProbeKind};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::IpAddr;

/// The most lines that are kept at a time: some ten megabytes.
const BATCH_LINES_MAX: u64 = 1 << 18;

/// What stands under one port.
#[derive(Debug, Default)]
struct Heading {
    counts: BTreeMap<Outcome, u64>,
    /// The widest address, names included.
    width: usize,
}

/// One address under a port.
#[derive(Clone, Copy)]
struct Line {
    port: u16,
    address: IpAddr,
    outcome: Outcome,
    rtt_us: Option<u32>,
}

/// Writes every port that a host has named, and the hosts under it; returns in which lists the addresses stand.
pub(super) fn write(
    out: &mut dyn Write,
    facts: &ScanFacts,
    rows: &mut dyn Rows,
    open_only: bool,
) -> io::Result<Places> {
    write_batches(out, facts, rows, open_only, BATCH_LINES_MAX)
}

fn write_batches(
    out: &mut dyn Write,
    facts: &ScanFacts,
    rows: &mut dyn Rows,
    open_only: bool,
    lines_max: u64,
) -> io::Result<Places> {
    let (mut places, mut headings, mut rest) = (Places::default(), BTreeMap::new(), BTreeMap::new());
    rows.for_each(&mut |host| {
        places.add(host);
        for line in lines(host, open_only) {
            let heading: &mut Heading = headings.entry(line.port).or_default();
            *heading.counts.entry(line.outcome).or_default() += 1;
            heading.width = heading.width.max(table::title(facts, line.address).len());
        }
        if matches!(host.place(), Place::Host(_)) {
            for (outcome, count) in table::not_shown(host, open_only) {
                *rest.entry((!outcome.is_probed(), outcome)).or_default() += count;
            }
        }
        Ok(())
    })?;
    let mut ports = headings.iter().peekable();
    while ports.peek().is_some() {
        let mut batch = BTreeMap::new();
        let mut size = 0;
        while let Some((port, heading)) =
            ports.next_if(|(_, heading)| batch.is_empty() || size + heading.lines() <= lines_max)
        {
            size += heading.lines();
            batch.insert(*port, heading);
        }
        write_batch(out, facts, rows, open_only, &batch)?;
    }
    let rest: Vec<_> = rest.into_iter().map(|((_, outcome), count)| table::counted((outcome, count))).collect();
    if !rest.is_empty() {
        table::write_list(out, "Not shown: ", &rest)?;
        writeln!(out)?;
    }
    Ok(places)
}

fn write_batch(
    out: &mut dyn Write,
    facts: &ScanFacts,
    rows: &mut dyn Rows,
    open_only: bool,
    batch: &BTreeMap<u16, &Heading>,
) -> io::Result<()> {
    if let (1, Some((&port, heading))) = (batch.len(), batch.first_key_value()) {
        heading.write(out, port)?;
        rows.for_each(&mut |host| {
            let fitting =
                lines(host, open_only).into_iter().filter(|line| line.port == port && heading.shows(line.outcome));
            fitting.into_iter().try_for_each(|line| line.write(out, facts, heading))
        })?;
        return writeln!(out);
    }
    let mut kept = Vec::new();
    rows.for_each(&mut |host| {
        let shown = |line: &Line| batch.get(&line.port).is_some_and(|heading| heading.shows(line.outcome));
        kept.extend(lines(host, open_only).into_iter().filter(shown));
        Ok(())
    })?;
    // Stable: under each port the addresses stay in their order.
    kept.sort_by_key(|line| line.port);
    let mut kept = kept.into_iter().peekable();
    for (&port, heading) in batch {
        heading.write(out, port)?;
        while let Some(line) = kept.next_if(|line| line.port == port) {
            line.write(out, facts, heading)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// The named ports of a host that gave a sign of life.
fn lines(host: &Host, open_only: bool) -> Vec<Line> {
    let address = host.address;
    if !matches!(host.place(), Place::Host(_)) {
        return Vec::new();
    }
    let open =
        host.open.iter().map(|open| Line { port: open.port, address, outcome: Outcome::OPEN, rtt_us: open.rtt_us });
    let others = host.groups.iter().filter(|_| !open_only).flat_map(|group| {
        group.ports.iter().map(move |&port| Line { port, address, outcome: group.outcome, rtt_us: None })
    });
    open.chain(others).collect()
}

impl Heading {
    const ADDRESS: &str = "ADDRESS";

    /// Whether the addresses with an outcome have lines, rather than being counted alone.
    fn shows(&self, outcome: Outcome) -> bool {
        let few = |count: &u64| *count <= PORTS_NAMED_MAX as u64;
        outcome == Outcome::OPEN || self.counts.get(&outcome).is_some_and(few)
    }

    fn lines(&self) -> u64 {
        self.counts.iter().filter(|(outcome, _)| self.shows(**outcome)).map(|(_, count)| count).sum()
    }

    fn width(&self) -> usize {
        self.width.max(Self::ADDRESS.len())
    }

    fn write(&self, out: &mut dyn Write, port: u16) -> io::Result<()> {
        let mut states = BTreeMap::<_, u64>::new();
        for (outcome, count) in &self.counts {
            *states.entry(outcome.state()).or_default() += count;
        }
        let states: Vec<_> =
            states.into_iter().map(|(state, count)| format!("{} {state}", grouped(u128::from(count)))).collect();
        let service = service_name(port).unwrap_or("unknown");
        writeln!(out, "{BOLD}{port}/{} {service}{PLAIN}: {}", ProbeKind::Tcp, states.join(", "))?;
        if self.lines() == 0 {
            return Ok(());
        }
        writeln!(out, "{BOLD}{:width$} STATE    REASON           TIME{PLAIN}", Self::ADDRESS, width = self.width())
    }
}

impl Line {
    fn write(&self, out: &mut dyn Write, facts: &ScanFacts, heading: &Heading) -> io::Result<()> {
        let (title, width) = (table::title(facts, self.address), heading.width());
        let (state, why) = (self.outcome.state(), self.outcome.why());
        let colour = table::colour(state);
        match self.rtt_us.map(round_trip) {
            Some(time) => writeln!(out, "{title:width$} {colour}{state:8}{PLAIN} {why:16} {time}"),
            None => writeln!(out, "{title:width$} {colour}{state:8}{PLAIN} {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use protocol::probe::Slot;

    fn plain(facts: &ScanFacts, mut rows: &[Host], open_only: bool, lines_max: u64) -> String {
        let mut text = Vec::new();
        write_batches(&mut text, facts, &mut rows, open_only, lines_max).unwrap();
        String::from_utf8(anstream::adapter::strip_bytes(&text).into_vec()).unwrap()
    }

    #[test]
    fn the_sample_looks_as_it_did() {
        let (facts, rows) = sample::mixed();
        let expected = include_str!("testdata/mixed-by-port.txt");
        assert_eq!(plain(&facts, &rows, false, BATCH_LINES_MAX), expected);
    }

    #[test]
    fn batches_change_nothing() {
        let (facts, rows) = sample::mixed();
        let whole = plain(&facts, &rows, false, BATCH_LINES_MAX);
        for lines_max in 0..5 {
            assert_eq!(plain(&facts, &rows, false, lines_max), whole, "{lines_max} lines at a time");
        }
    }

    #[test]
    fn open_only_leaves_out_every_other_state() {
        let (facts, rows) = sample::mixed();
        let text = plain(&facts, &rows, true, BATCH_LINES_MAX);
        assert!(!text.contains(" filtered admin-prohibited"), "{text}");
        assert_eq!(text.matches(" open ").count(), 3, "{text}");
        assert!(text.contains("Not shown: 98 closed (conn-refused), "), "{text}");
    }

    #[test]
    fn what_many_addresses_share_is_counted() {
        let refused = |last: u32| -> Vec<_> {
            let address = |number| std::net::Ipv4Addr::from_bits(0xc000_0200 + number).to_string();
            (1..=last).map(|number| sample::row(&address(number), &[(Slot::Tcp(22), Outcome::CLOSED)])).collect()
        };
        let (few, many) = (refused(25), refused(26));
        let facts = sample::facts(&few, &[ProbeKind::Tcp]);
        assert_eq!(plain(&facts, &few, false, BATCH_LINES_MAX).lines().count(), 2 + 25 + 1);
        for lines_max in [0, BATCH_LINES_MAX] {
            assert_eq!(plain(&facts, &many, false, lines_max), "22/tcp ssh: 26 closed\n\n");
        }
    }

    #[test]
    fn nobody_leaves_nothing() {
        let (facts, rows) = sample::pinged(0);
        assert_eq!(plain(&facts, &rows, false, 1), "");
    }
}
