//! Target syntax: what one word of a target spec means. Names are handed back, never resolved here.
//!
//! nmap's syntax, and `A-B` with two whole addresses as masscan has it:
//!
//! | written | means |
//! |---|---|
//! | `192.0.2.1`, `2001:db8::1` | the address |
//! | `192.0.2.40/24`, `2001:db8::/120` | the network, bits right of the prefix are ignored |
//! | `192.0.2.11-192.0.2.14`, `2001:db8::1-2001:db8::9` | the range |
//! | `192.0.2-5,7.1`, `10.0.0,1,3-7.-`, `192.0.2.*` | each octet one of a list of ranges, open ends are 0 and 255 |
//! | `host.example`, `host.example/24` | a name, and what is around its address |
//! | any of them, with commas between | all of them |
//!
//! A comma is both nmap's in octets and ours between entries: a word that as a whole has the form of one octet
//! expression (four octets) is one, any other word is cut at its commas. A word whose last label begins with a
//! digit is never a name, so a mistyped address is not looked up.

mod class;
mod list;
mod octets;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnet::IpNet;

use crate::quote::Quoted;
use crate::range_set::{AddressSet, RangeError};

pub use class::{AddressClass, class_of};
pub use list::{LIST_NAMES_MAX, LIST_RANGES_MAX, ListError, ListProblem, TargetListParser, parse_target_list};

/// The longest word that is read, in bytes.
pub const WORD_BYTES_MAX: usize = 64 * 1024;

/// The most ranges that the octet expressions of one word may come to. `10.0-255.0-255.1` just fits.
pub const WORD_RANGES_MAX: usize = 65_536;

/// The longest name that DNS can have, in bytes, without the dot at its end.
const NAME_BYTES_MAX: usize = 253;

/// The longest label of a name.
const LABEL_BYTES_MAX: usize = 63;

/// A part of a target spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetItem {
    /// Addresses; never none.
    Addresses(AddressSet),
    /// A name to resolve.
    Name {
        /// The name in lower case, a dot at its end if one was written.
        name: String,
        /// The prefix length (0 to 128) of the network around the name's address that is meant. Whether the
        /// address is long enough for it shows when it is known.
        prefix: Option<u8>,
    },
}

/// A target that cannot be read: the entry and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{entry}: {problem}")]
pub struct AddressError {
    /// The entry, shortened.
    pub entry: Quoted,
    /// What is wrong with it.
    pub problem: AddressProblem,
}

/// What is wrong with an entry of a target spec, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressProblem {
    /// Nothing was given, or nothing between two commas.
    #[error("a target is empty")]
    Empty,
    /// The word is longer than [`WORD_BYTES_MAX`].
    #[error("a word of {0} bytes is longer than {WORD_BYTES_MAX}: cut it, or use a file (-iL)")]
    TooLong(usize),
    /// An IPv6 zone, as in `fe80::1%eth0`.
    #[error("zones (%interface) are not supported yet: link-local addresses cannot be scanned")]
    Zone,
    /// Characters outside of ASCII.
    #[error("only ASCII can be used: write a name in its xn-- form, an address with the digits 0 to 9")]
    NotAscii,
    /// A URL.
    #[error("this is a URL: give its host alone")]
    Url,
    /// Brackets around an IPv6 address.
    #[error("an IPv6 address is written without brackets here, and ports with -p")]
    Brackets,
    /// `host:port`.
    #[error("a target has no port: give ports with -p")]
    Port,
    /// The prefix does not fit the IP version.
    #[error("/{prefix} is longer than an {family} address: use /0 to /{max}")]
    PrefixTooLong {
        /// What was written.
        prefix: u32,
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The longest prefix.
        max: u8,
    },
    /// What follows the slash is no number.
    #[error("what follows the / is not a prefix length: use /0 to /{0}")]
    PrefixMalformed(u8),
    /// A prefix after a range or an octet list.
    #[error("a range takes no /prefix: write the network, or the range alone")]
    PrefixOnRange,
    /// The ends of `A-B` are no range.
    #[error("{0}")]
    Range(RangeError),
    /// A short range of IPv6, as in `2001:db8::1-9`.
    #[error("IPv6 has no octet ranges: write both addresses whole, as in 2001:db8::1-2001:db8::9")]
    ShortRange6,
    /// It has colons and is no IPv6 address.
    #[error("this is not an IPv6 address")]
    NotIpv6,
    /// An octet above 255.
    #[error("an octet is at most 255, not {0}")]
    OctetTooLarge(Quoted),
    /// An octet with a leading zero.
    #[error("{0} has a leading zero, which some programs read as octal: write the octet in decimal without it")]
    OctetLeadingZero(Quoted),
    /// An octet range whose ends are in the wrong order.
    #[error("the octet range {low}-{high} is reversed: write the lower octet first")]
    OctetReversed {
        /// The first octet.
        low: u8,
        /// The last octet.
        high: u8,
    },
    /// An octet that is empty or not made of numbers, ranges and commas.
    #[error("{0} is not an octet: use a number, a range as 1-20, a list as 1,5,9, or - for all")]
    OctetMalformed(Quoted),
    /// The octet expression comes to too many ranges.
    #[error("this comes to more than {WORD_RANGES_MAX} separate ranges: write networks, or scan its parts one by one")]
    TooManyRanges,
    /// Numbers that are no address, and no name as its last label begins with a digit.
    #[error("this is neither an address nor a name: write an IPv4 address as four decimal octets, as in 192.0.2.1")]
    NotAddress,
    /// Not a name that DNS could have.
    #[error("this is neither an address nor a name: names have letters, digits, - and _, at most 63 between dots")]
    NotName,
}

/// Reads one word: a target, or several with commas between. The result has at most one `Addresses`, which comes
/// first, and is never empty.
pub fn parse_targets(word: &str) -> Result<Vec<TargetItem>, AddressError> {
    let mut addresses = AddressSet::new();
    let mut names = Vec::new();
    parse_into(word, &mut addresses, |name, prefix| {
        names.push(TargetItem::Name { name, prefix });
    })?;
    let mut items = Vec::with_capacity(names.len() + 1);
    if !addresses.is_empty() {
        items.push(TargetItem::Addresses(addresses));
    }
    items.append(&mut names);
    Ok(items)
}

/// Reads one word: adds its addresses to a set and hands its names out.
fn parse_into(
    word: &str,
    addresses: &mut AddressSet,
    mut name: impl FnMut(String, Option<u8>),
) -> Result<(), AddressError> {
    let fail = |entry: &str, problem| AddressError { entry: Quoted::new(entry), problem };
    if word.len() > WORD_BYTES_MAX {
        return Err(fail(word, AddressProblem::TooLong(word.len())));
    }
    // By far the commonest word of a long list.
    if let Ok(address) = word.parse::<IpAddr>() {
        addresses.insert(address);
        return Ok(());
    }
    let mut ranges_left = WORD_RANGES_MAX;
    if octets::has_form(word) {
        return octets::parse(word, &mut ranges_left, addresses).map_err(|problem| fail(word, problem));
    }
    for entry in word.split(',') {
        match parse_entry(entry, &mut ranges_left, addresses) {
            Ok(None) => {}
            Ok(Some((found, prefix))) => name(found, prefix),
            Err(problem) => return Err(fail(entry, problem)),
        }
    }
    Ok(())
}

/// A name and the prefix behind it.
type Name = (String, Option<u8>);

/// Reads what stands between commas. The first form that fits decides: 1. an address; 2. characters that no form
/// has; 3. a network or a name with a prefix; 4. IPv6; 5. `A-B`; 6. octets; 7. a name.
fn parse_entry(
    entry: &str,
    ranges_left: &mut usize,
    addresses: &mut AddressSet,
) -> Result<Option<Name>, AddressProblem> {
    if let Ok(address) = entry.parse::<IpAddr>() {
        addresses.insert(address);
        return Ok(None);
    }
    refuse_foreign(entry)?;
    if let Some((base, prefix)) = entry.split_once('/') {
        return parse_prefixed(base, prefix, addresses);
    }
    if let Some((low, high)) = entry.split_once('-')
        && let (Ok(low), Ok(high)) = (low.parse(), high.parse())
    {
        return match addresses.insert_range(low, high) {
            Ok(()) => Ok(None),
            Err(error) => Err(AddressProblem::Range(error)),
        };
    }
    if entry.contains(':') {
        return Err(explain_colons(entry));
    }
    if octets::has_form(entry) {
        octets::parse(entry, ranges_left, addresses)?;
        return Ok(None);
    }
    check_name(entry).map(|name| Some((name, None)))
}

/// Refuses what no form of a target has, with what it probably is.
fn refuse_foreign(entry: &str) -> Result<(), AddressProblem> {
    if entry.is_empty() {
        Err(AddressProblem::Empty)
    } else if !entry.is_ascii() {
        Err(AddressProblem::NotAscii)
    } else if entry.contains("://") {
        Err(AddressProblem::Url)
    } else if entry.contains('%') {
        Err(AddressProblem::Zone)
    } else if entry.contains(['[', ']']) {
        Err(AddressProblem::Brackets)
    } else {
        Ok(())
    }
}

/// `address/prefix` or `name/prefix`.
fn parse_prefixed(base: &str, prefix: &str, addresses: &mut AddressSet) -> Result<Option<Name>, AddressProblem> {
    match base.parse::<IpAddr>() {
        Ok(address) => {
            let (family, max) = match address {
                IpAddr::V4(_) => ("IPv4", 32),
                IpAddr::V6(_) => ("IPv6", 128),
            };
            let prefix = parse_prefix(prefix, family, max)?;
            let net = IpNet::new(address, prefix).map_err(|_| AddressProblem::PrefixMalformed(max))?;
            addresses.insert_net(net);
            Ok(None)
        }
        Err(_) if is_range(base) => Err(AddressProblem::PrefixOnRange),
        Err(_) if base.contains(':') => Err(explain_colons(base)),
        Err(_) if octets::has_form(base) => {
            // Four octets and no address: one of them is wrong by itself, or it is a list of them.
            octets::check(base)?;
            Err(AddressProblem::PrefixOnRange)
        }
        Err(_) => {
            let name = check_name(base)?;
            Ok(Some((name, Some(parse_prefix(prefix, "IPv6", 128)?))))
        }
    }
}

/// Whether a text is two addresses with a dash between.
fn is_range(text: &str) -> bool {
    text.split_once('-').is_some_and(|(low, high)| low.parse::<IpAddr>().is_ok() && high.parse::<IpAddr>().is_ok())
}

/// A prefix length, in digits alone and without leading zeros.
fn parse_prefix(text: &str, family: &'static str, max: u8) -> Result<u8, AddressProblem> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if !plain {
        return Err(AddressProblem::PrefixMalformed(max));
    }
    let prefix: u32 = text.parse().map_err(|_| AddressProblem::PrefixMalformed(max))?;
    match u8::try_from(prefix) {
        Ok(prefix) if prefix <= max => Ok(prefix),
        _ => Err(AddressProblem::PrefixTooLong { prefix, family, max }),
    }
}

/// What is wrong with an entry that has colons and is not an address.
fn explain_colons(entry: &str) -> AddressProblem {
    if let Some((left, _)) = entry.split_once('-')
        && left.parse::<IpAddr>().is_ok()
    {
        return AddressProblem::ShortRange6;
    }
    match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            AddressProblem::Port
        }
        _ => AddressProblem::NotIpv6,
    }
}

/// A name as DNS could have it, in lower case. Its last label does not begin with a digit, so it is nothing that
/// some resolver would take for an address (`0x7f.1`, `2130706433`).
fn check_name(text: &str) -> Result<String, AddressProblem> {
    let absolute = text.strip_suffix('.').unwrap_or(text);
    let last = absolute.rsplit('.').next().unwrap_or_default();
    let numeric = absolute.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'*'));
    if numeric || last.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(AddressProblem::NotAddress);
    }
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if absolute.len() > NAME_BYTES_MAX || !absolute.split('.').all(is_label) {
        return Err(AddressProblem::NotName);
    }
    Ok(text.to_ascii_lowercase())
}
