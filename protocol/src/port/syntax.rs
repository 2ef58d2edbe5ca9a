//! Reads a port list as nmap does: <https://nmap.org/book/man-port-specification.html>.
//!
//! A list is entries separated by commas; `T:` in front of one holds until the next qualifier and means TCP, the
//! only protocol there is yet. An entry is a port, a range with open ends, a service name with `*` and `?`, or, in
//! brackets, a list of these of which only the ports of our own table count.

use range_set_blaze::RangeSetBlaze;

use super::{PortSet, table};
use crate::quote::Quoted;

/// The longest port list that is read, in bytes: as much as Linux lets one argument have (128 KiB).
pub const PORTS_BYTES_MAX: usize = 128 * 1024;

/// The most names and brackets in one list. Each is held against the whole table, so a list of nothing else would
/// take seconds; nobody writes more names than the table has rows.
const LOOKUPS_MAX: usize = 1_000;

/// A port list that cannot be read: the entry and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{entry}: {problem}")]
pub struct PortError {
    /// The entry of the list, shortened.
    pub entry: Quoted,
    /// What is wrong with it.
    pub problem: PortProblem,
}

/// What is wrong with an entry of a port list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortProblem {
    /// Nothing was given.
    #[error("no ports are given: write for example 22,80,8000-8100, or - for all")]
    Empty,
    /// The list is longer than [`PORTS_BYTES_MAX`].
    #[error("a port list of {0} bytes is longer than {PORTS_BYTES_MAX}: write ranges")]
    TooLong(usize),
    /// Two commas in a row, or one at an end.
    #[error("an entry between commas is empty")]
    EmptyEntry,
    /// Something other than ASCII, such as the digits of another script.
    #[error("only the digits 0 to 9 and ASCII names can be used")]
    NotAscii,
    /// A number above 65535.
    #[error("{0} is above the highest port, 65535")]
    TooLarge(Quoted),
    /// A range whose first port is above its last.
    #[error("{low} is above {high}: write the lower port first")]
    Reversed {
        /// The first port.
        low: u16,
        /// The last port.
        high: u16,
    },
    /// Digits and dashes that are no range.
    #[error("this is no port range: write it as 8000-8100")]
    Malformed,
    /// A qualifier of a protocol that portsweep cannot probe yet.
    #[error("{0} ports are not available yet: only tcp ports (T:, or no qualifier) can be probed")]
    Unavailable(&'static str),
    /// A qualifier that does not exist.
    #[error("there is no such qualifier: T: stands for tcp")]
    UnknownQualifier,
    /// A bracket that is not closed or not opened, or one in another.
    #[error("the brackets do not match: write for example [1-1024]")]
    Brackets,
    /// More than a thousand names and brackets.
    #[error("more than {LOOKUPS_MAX} service names and brackets are given: write numbers")]
    TooManyNames,
    /// No service of our table has this name.
    #[error("no tcp service of our list has this name: give its number")]
    NoSuchService,
    /// A bracket in which no port of our table lies.
    #[error("no port of our list lies in these brackets: leave them out to probe all of it")]
    NoneListed,
}

/// Reads a port list. The set is never empty.
pub fn parse_ports(text: &str) -> Result<PortSet, PortError> {
    let fail = |entry: &str, problem| PortError { entry: Quoted::new(entry), problem };
    if text.trim_ascii().is_empty() {
        return Err(fail(text, PortProblem::Empty));
    }
    if text.len() > PORTS_BYTES_MAX {
        return Err(fail(text, PortProblem::TooLong(text.len())));
    }
    let mut ports = RangeSetBlaze::new();
    let mut lookups_left = LOOKUPS_MAX;
    for entry in entries(text).map_err(|problem| fail(text, problem))? {
        let read = match &entry {
            Entry::Plain(entry) => without_qualifier(entry).and_then(|entry| read_entry(entry, &mut lookups_left)),
            Entry::Bracketed(list) => read_bracketed(list, &mut lookups_left),
        };
        ports |= read.map_err(|problem| fail(entry.text(), problem))?;
    }
    Ok(PortSet::from_blaze(&ports))
}

/// One piece of the list between commas outside of brackets.
enum Entry<'a> {
    Plain(&'a str),
    /// What stands between the brackets.
    Bracketed(&'a str),
}

impl<'a> Entry<'a> {
    fn text(&self) -> &'a str {
        match self {
            Self::Plain(text) | Self::Bracketed(text) => text,
        }
    }
}

/// Cuts the list at the commas that are not in brackets.
fn entries(text: &str) -> Result<Vec<Entry<'_>>, PortProblem> {
    let mut entries = Vec::new();
    let mut rest = Some(text);
    while let Some(list) = rest {
        let (entry, after) = match split_bracket(list)? {
            Some((inside, after)) => (Entry::Bracketed(inside), after),
            None => match list.split_once(',') {
                Some((entry, after)) => (Entry::Plain(entry.trim_ascii()), Some(after)),
                None => (Entry::Plain(list.trim_ascii()), None),
            },
        };
        entries.push(entry);
        rest = after;
    }
    Ok(entries)
}

/// If a list begins with a bracket, with or without a qualifier: what is in it, and the list after the comma that
/// follows, if one does.
fn split_bracket(list: &str) -> Result<Option<(&str, Option<&str>)>, PortProblem> {
    let Some((before, inside)) =
        list.find([',', '[']).and_then(|end| Some((&list[..end], list[end..].strip_prefix('[')?)))
    else {
        return Ok(None);
    };
    if !without_qualifier(before)?.is_empty() {
        return Ok(None);
    }
    let (inside, after) = inside.split_once(']').ok_or(PortProblem::Brackets)?;
    let after = after.trim_ascii_start();
    if after.is_empty() {
        return Ok(Some((inside, None)));
    }
    let after = after.strip_prefix(',').ok_or(PortProblem::Brackets)?;
    Ok(Some((inside, Some(after))))
}

/// Takes `T:` off. As TCP is all there is, a qualifier need not be remembered for the entries after it.
fn without_qualifier(entry: &str) -> Result<&str, PortProblem> {
    let mut rest = entry;
    while let Some((qualifier, after)) = rest.split_once(':') {
        match qualifier.trim_ascii() {
            "T" | "t" => rest = after,
            "U" | "u" => return Err(PortProblem::Unavailable("udp")),
            "S" | "s" | "Y" | "y" => return Err(PortProblem::Unavailable("sctp")),
            "O" | "o" | "P" | "p" => return Err(PortProblem::Unavailable("ip protocol")),
            "I" | "i" => return Err(PortProblem::Unavailable("icmp")),
            _ => return Err(PortProblem::UnknownQualifier),
        }
    }
    Ok(rest.trim_ascii_start())
}

/// The ports of our table among those of a bracket's list.
fn read_bracketed(list: &str, lookups_left: &mut usize) -> Result<RangeSetBlaze<u16>, PortProblem> {
    take_lookup(lookups_left)?;
    let mut ports = RangeSetBlaze::new();
    for entry in list.split(',') {
        ports |= read_entry(entry.trim_ascii(), lookups_left)?;
    }
    ports = &ports & table::listed();
    if ports.is_empty() {
        return Err(PortProblem::NoneListed);
    }
    Ok(ports)
}

fn take_lookup(lookups_left: &mut usize) -> Result<(), PortProblem> {
    *lookups_left = lookups_left.checked_sub(1).ok_or(PortProblem::TooManyNames)?;
    Ok(())
}

/// A port, a range or a service name.
fn read_entry(entry: &str, lookups_left: &mut usize) -> Result<RangeSetBlaze<u16>, PortProblem> {
    if entry.is_empty() {
        return Err(PortProblem::EmptyEntry);
    }
    if !entry.is_ascii() {
        return Err(PortProblem::NotAscii);
    }
    if entry.contains(['[', ']']) {
        return Err(PortProblem::Brackets);
    }
    if entry.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
        return read_range(entry);
    }
    take_lookup(lookups_left)?;
    let ports = table::named(entry);
    if ports.is_empty() {
        return Err(PortProblem::NoSuchService);
    }
    Ok(ports)
}

/// `80`, `80-90`, `-100` (from 1), `60000-` or `-` (1-65535).
fn read_range(entry: &str) -> Result<RangeSetBlaze<u16>, PortProblem> {
    let (low, high) = match entry.split_once('-') {
        None => {
            let port = read_port(entry)?;
            (port, port)
        }
        Some((low, high)) => {
            let low = if low.is_empty() { 1 } else { read_port(low)? };
            let high = if high.is_empty() { u16::MAX } else { read_port(high)? };
            (low, high)
        }
    };
    if low > high {
        return Err(PortProblem::Reversed { low, high });
    }
    Ok(RangeSetBlaze::from_iter([low..=high]))
}

fn read_port(digits: &str) -> Result<u16, PortProblem> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(PortProblem::Malformed);
    }
    // All digits: what fails now is too large.
    digits.parse().map_err(|_| PortProblem::TooLarge(Quoted::new(digits)))
}
