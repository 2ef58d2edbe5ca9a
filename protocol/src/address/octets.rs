//! nmap's octet expressions: four octets, each a list of numbers and ranges, as in `192.0.2-5,7.1`.
//!
//! An expression is not spelled out: how many ranges it comes to is known before the first is made.

use std::net::Ipv4Addr;

use super::AddressProblem;
use crate::quote::Quoted;
use crate::range_set::AddressSet;

/// Whether a text can only be an octet expression: three dots, and nothing else but digits, `-`, `*` and commas.
pub(super) fn has_form(text: &str) -> bool {
    let mut dots = 0;
    for byte in text.bytes() {
        match byte {
            b'.' if dots == 3 => return false,
            b'.' => dots += 1,
            b'0'..=b'9' | b'-' | b'*' | b',' => {}
            _ => return false,
        }
    }
    dots == 3
}

/// Whether each octet of an expression is one.
pub(super) fn check(text: &str) -> Result<(), AddressProblem> {
    parse_octets(text).map(drop)
}

/// Adds what an expression means to a set. `ranges_left` is how many more ranges the word may come to.
pub(super) fn parse(text: &str, ranges_left: &mut usize, addresses: &mut AddressSet) -> Result<(), AddressProblem> {
    let octets = parse_octets(text)?;
    // The octets that are whole at the end make no ranges of their own: only those before the last that is not.
    let last = octets.iter().rposition(|octet| !octet.is_whole());
    let Some(last) = last else {
        take(ranges_left, 1)?;
        return insert(addresses, 0, u32::MAX);
    };
    let outer: usize = octets[..last].iter().map(Octet::count).product();
    let runs = octets[last].runs();
    take(ranges_left, outer * runs.len())?;

    let low_bits = 8 * (3 - last as u32);
    let mut prefixes: Vec<u32> = vec![0];
    for octet in &octets[..last] {
        prefixes = prefixes
            .iter()
            .flat_map(|prefix| octet.values().map(move |value| prefix << 8 | u32::from(value)))
            .collect();
    }
    for prefix in prefixes {
        for &(low, high) in &runs {
            let low = (prefix << 8 | u32::from(low)) << low_bits;
            let high = (prefix << 8 | u32::from(high)) << low_bits;
            insert(addresses, low, high | ((1u32 << low_bits) - 1))?;
        }
    }
    Ok(())
}

fn parse_octets(text: &str) -> Result<[Octet; 4], AddressProblem> {
    let mut octets = [const { Octet::NONE }; 4];
    for (octet, text) in octets.iter_mut().zip(text.split('.')) {
        *octet = Octet::parse(text)?;
    }
    Ok(octets)
}

fn take(ranges_left: &mut usize, count: usize) -> Result<(), AddressProblem> {
    *ranges_left = ranges_left.checked_sub(count).ok_or(AddressProblem::TooManyRanges)?;
    Ok(())
}

fn insert(addresses: &mut AddressSet, low: u32, high: u32) -> Result<(), AddressProblem> {
    addresses
        .insert_range(Ipv4Addr::from_bits(low).into(), Ipv4Addr::from_bits(high).into())
        .map_err(AddressProblem::Range)
}

/// The values that one octet may take.
struct Octet([bool; 256]);

impl Octet {
    const NONE: Self = Self([false; 256]);

    fn parse(text: &str) -> Result<Self, AddressProblem> {
        let mut octet = Self::NONE;
        for item in text.split(',') {
            let (low, high) = if item == "*" {
                (0, u8::MAX)
            } else if let Some((low, high)) = item.split_once('-') {
                let low = if low.is_empty() { 0 } else { number(low)? };
                let high = if high.is_empty() { u8::MAX } else { number(high)? };
                (low, high)
            } else {
                let value = number(item)?;
                (value, value)
            };
            if low > high {
                return Err(AddressProblem::OctetReversed { low, high });
            }
            octet.0[usize::from(low)..=usize::from(high)].fill(true);
        }
        Ok(octet)
    }

    fn is_whole(&self) -> bool {
        self.count() == self.0.len()
    }

    fn count(&self) -> usize {
        self.values().count()
    }

    fn values(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=u8::MAX).filter(|&value| self.0[usize::from(value)])
    }

    /// The values as ranges that do not touch.
    fn runs(&self) -> Vec<(u8, u8)> {
        let mut runs: Vec<(u8, u8)> = Vec::new();
        for value in self.values() {
            match runs.last_mut() {
                Some((_, high)) if value - *high == 1 => *high = value,
                _ => runs.push((value, value)),
            }
        }
        runs
    }
}

/// A number of an octet: decimal, without leading zeros, at most 255.
fn number(digits: &str) -> Result<u8, AddressProblem> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(AddressProblem::OctetMalformed(Quoted::new(digits)));
    }
    if digits.len() > 1 && digits.starts_with('0') {
        return Err(AddressProblem::OctetLeadingZero(Quoted::new(digits)));
    }
    // All digits: what fails now is too large.
    digits.parse().map_err(|_| AddressProblem::OctetTooLarge(Quoted::new(digits)))
}
