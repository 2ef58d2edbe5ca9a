//! The comparison of a result with the truth, target by target.

use super::expect::{Expect, Slot};
use super::found;
use std::fmt::Write;

/// The most differences that are told one by one.
const TOLD_MAX: usize = 50;

/// What differs.
#[derive(Debug)]
pub struct Differences {
    /// A line each.
    pub told: Vec<String>,
    targets: usize,
    wrong: usize,
}

impl Differences {
    /// The last line.
    pub fn summary(&self) -> String {
        match (self.wrong, self.told.len()) {
            (0, 0) => format!("{} targets, all as they are", self.targets),
            (wrong, _) => format!("{} targets, {wrong} not as they are", self.targets),
        }
    }
}

/// Compares.
///
/// # Errors
/// If truth or result make no sense.
pub fn differences(expected: &Expect, exit: u8, result: &str) -> anyhow::Result<Differences> {
    let (truth, found) = (expected.truth()?, found::read(result)?);
    let states = found.states()?;
    let mut told = Vec::new();
    if exit != expected.exit {
        told.push(format!("the scan ended with {exit}, and has to end with {}", expected.exit));
    }
    let (targets, parts) = found.sums();
    if targets != parts {
        told.push(format!("the result counts {targets} targets, and its states add up to {parts}"));
    }
    if usize::try_from(targets) != Ok(truth.len() * expected.vantages.len().max(1)) {
        told.push(format!("the result counts {targets} targets, and there are {}", truth.len()));
    }
    let mut wrong = 0;
    let mut differs = |line: String| {
        wrong += 1;
        if wrong <= TOLD_MAX {
            told.push(line);
        }
    };
    for ((address, slot), by_vantage) in &truth {
        let found = states.get(&(*address, *slot));
        for (vantage, is) in by_vantage {
            // Where all vantages saw the same, the result does not tell them apart.
            let seen = found.and_then(|found| found.get(vantage).or_else(|| found.get("")));
            if seen != Some(is) {
                let seen = seen.map_or("nothing", String::as_str);
                differs(format!("{}: is {is}, found {seen}", place(*address, *slot, vantage)));
            }
        }
    }
    for (address, slot) in states.keys().filter(|key| !truth.contains_key(key)) {
        differs(format!("{}: no target of this lab", place(*address, *slot, "")));
    }
    if wrong > TOLD_MAX {
        told.push(format!("... and {} more", wrong - TOLD_MAX));
    }
    Ok(Differences { told, targets: truth.len(), wrong })
}

fn place(address: std::net::IpAddr, slot: Slot, vantage: &str) -> String {
    let mut place = match slot {
        Slot::Ping => format!("{address} ping"),
        Slot::Port(port) => format!("{address} port {port}"),
    };
    if !vantage.is_empty() {
        // Writing to a string does not fail.
        let _ = write!(place, " from {vantage}");
    }
    place
}
