//! How the maps of a scan are drawn: squares and labels with their places, what each says and where it leads. No markup stands here.

mod addresses;
mod ports;

pub use addresses::AddressDrawing;
pub use ports::PortDrawing;

use super::words::number;
use coordinator_core::maps::Sum;
use coordinator_core::tally::Counts;
use protocol::id::ScanId;
use protocol::probe::State;

/// The states in the order in which maps tell of them, with what pages call them.
const STATES: [(State, &str); 6] = [
    (State::Open, "open"),
    (State::Closed, "closed"),
    (State::Up, "up"),
    (State::Filtered, "filtered"),
    (State::Down, "silent"),
    (State::NotProbed, "not probed"),
];
/// How many rows a table beside a map has.
const LINES_MAX: usize = 12;

/// Where links lead: the page, with what stands in its URL.
pub struct Links {
    id: ScanId,
    prefix: Option<String>,
    address: Option<String>,
    port: Option<String>,
    vantage: Option<String>,
}

impl Links {
    /// From a scan's page with this prefix, address, port and vantage.
    #[must_use]
    pub fn new(id: ScanId, [prefix, address, port, vantage]: [Option<String>; 4]) -> Self {
        Self { id, prefix, address, port, vantage }
    }

    fn to(&self, prefix: Option<&str>, address: Option<&str>, port: Option<&str>, vantage: Option<&str>) -> String {
        let pairs = [("prefix", prefix), ("address", address), ("port", port), ("vantage", vantage)];
        let pairs: Vec<_> = pairs.iter().filter_map(|(name, value)| Some(format!("{name}={}", (*value)?))).collect();
        if pairs.is_empty() { format!("/scans/{}/maps", self.id) } else { format!("?{}", pairs.join("&")) }
    }

    /// Both maps of a prefix.
    fn both(&self, prefix: Option<&str>) -> String {
        self.to(prefix, None, self.port.as_deref(), self.vantage.as_deref())
    }

    /// The map of ports for a part of it.
    fn part(&self, address: Option<&str>, port: Option<&str>) -> String {
        self.to(self.prefix.as_deref(), address, port, self.vantage.as_deref())
    }

    fn host(&self, address: &str) -> String {
        format!("/scans/{}/hosts/{address}", self.id)
    }

    fn results(&self, address: &str, port: Option<&str>, states: &str) -> String {
        let port = port.map(|port| format!("&port={port}")).unwrap_or_default();
        let states = if states.is_empty() { String::new() } else { format!("&state={states}") };
        format!("/scans/{}/results?address={address}{port}{states}", self.id)
    }

    /// The views of each vantage, and of all: a name, where it is, and whether it is shown.
    #[must_use]
    pub fn views(&self, vantages: &[String]) -> Vec<(String, String, bool)> {
        let view = |name: &str, vantage: Option<&str>| {
            let link = self.to(self.prefix.as_deref(), self.address.as_deref(), self.port.as_deref(), vantage);
            (name.to_owned(), link, self.vantage.as_deref() == vantage)
        };
        let each = vantages.iter().map(|vantage| view(vantage, Some(vantage)));
        let all = (!vantages.is_empty()).then(|| view("all vantages", None));
        all.into_iter().chain(each).collect()
    }
}

/// A cell, as it is drawn.
pub struct Square {
    /// Its left end.
    pub x: u32,
    /// Its upper end.
    pub y: u32,
    /// Its width.
    pub width: u32,
    /// Its height.
    pub height: u32,
    /// What it is shown as.
    pub state: &'static str,
    /// How much of it is so: 1 to 4.
    pub level: u8,
    /// What it says, in words.
    pub says: String,
    /// Where it leads.
    pub link: String,
    /// What is written on it.
    pub label: Option<String>,
}

/// A line of the table beside a map.
pub struct Line {
    /// Which part.
    pub name: String,
    /// Where it leads.
    pub link: String,
    /// Of a map of ports: which ports.
    pub ports: String,
    /// What it is shown as.
    pub state: &'static str,
    /// How many are in each state, in the order of the legend.
    pub counts: Vec<String>,
}

/// A label beside a map.
pub struct Label {
    /// Where it stands.
    pub at: u32,
    /// What it says.
    pub text: String,
    /// The same, whole.
    pub says: String,
    /// Where it leads.
    pub link: String,
}

/// What a map shows in all: a state, its name, and how many.
pub type Legend = Vec<(&'static str, &'static str, String)>;
/// How a cell is shown: as which state, and how much of it is so, 1 to 4.
fn shade(sum: &Sum, whole: u64) -> (&'static str, u8) {
    let Some(state) = sum.says() else { return ("uncounted", 1) };
    let counts = if sum.addresses.sum() > 0 { &sum.addresses } else { &sum.targets };
    let level = match (counts.of(state), whole) {
        (part, whole) if part.saturating_mul(2) >= whole => 4,
        (part, whole) if part.saturating_mul(8) >= whole => 3,
        (part, whole) if part.saturating_mul(64) >= whole => 2,
        _ => 1,
    };
    (state.as_str(), level)
}

/// What goes first in a table: most open, then most closed, then most up.
fn interest(counts: &Counts) -> (u64, u64, u64, u64) {
    let of = |state| counts.of(state);
    (of(State::Open), of(State::Closed), of(State::Up), of(State::NotProbed))
}

fn legend(counts: &Counts) -> Legend {
    let there = STATES.iter().filter(|(state, _)| counts.of(*state) > 0);
    there.map(|(state, name)| (state.as_str(), *name, number(counts.of(*state)))).collect()
}

/// Counts in words: `3 open, 250 silent`.
fn told(counts: &Counts, uncounted: u64) -> String {
    let there = STATES.iter().filter(|(state, _)| counts.of(*state) > 0);
    let said = there.map(|(state, name)| format!("{} {name}", number(counts.of(*state))));
    let waits = (uncounted > 0).then(|| "not all counted yet".to_owned());
    said.chain(waits).collect::<Vec<_>>().join(", ")
}
