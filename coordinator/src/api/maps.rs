//! `GET /scans/{id}/maps/ports` and `GET /scans/{id}/maps/addresses`: the two maps of a scan as tiles, which cells lead into.

use super::Serving;
use super::ask::{self, Query};
use super::description::parameters;
use super::problem::Problem;
use super::scans;
use crate::maps::{MapError, Scene};
use actix_web::{HttpRequest, web};
use coordinator_core::maps::Sum;
use coordinator_core::maps::addresses::{self, AddressMap, roots};
use coordinator_core::maps::ports::{self, Column, Extent, PortMap};
use coordinator_core::store::StoreError;
use coordinator_core::tally::Counts;
use ipnet::IpNet;
use protocol::address::{TargetItem, parse_targets};
use protocol::id::ScanId;
use protocol::plan::Plan;
use protocol::port::parse_ports;
use protocol::probe::State;
use protocol::quote::Quoted;
use protocol::range_set::AddressSet;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use utoipa::ToSchema;

/// How deep a map of addresses is if nobody says: 32 × 32 cells.
pub const DEPTH_USUAL: u8 = 5;

/// Targets or addresses by state; what is 0 is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tally {
    /// Open ports, or addresses with one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub open: u64,
    /// Closed ports, or addresses with one and none open.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub closed: u64,
    /// Filtered ports, or addresses of which nothing but ports was asked, all filtered.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub filtered: u64,
    /// Answers to `ping`, or addresses that gave one, and no sign of life by a port.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub up: u64,
    /// No answer to `ping`; addresses that gave no sign of life, wholly probed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub down: u64,
    /// Not probed; addresses that gave no sign of life and were not wholly probed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub not_probed: u64,
    /// Targets, at most, whose reports are not counted yet.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uncounted: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives references")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Tally {
    fn new(counts: &Counts, uncounted: u64) -> Self {
        Self {
            open: counts.of(State::Open),
            closed: counts.of(State::Closed),
            filtered: counts.of(State::Filtered),
            up: counts.of(State::Up),
            down: counts.of(State::Down),
            not_probed: counts.of(State::NotProbed),
            uncounted,
        }
    }
}

/// What a cell of which nothing is counted is shown as.
const UNCOUNTED: &str = "uncounted";

fn says(sum: &Sum) -> String {
    sum.says().map_or(UNCOUNTED, State::as_str).to_owned()
}

/// A map of addresses: a prefix, cut into 4^depth prefixes of one length, along a Hilbert curve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddressTile {
    /// The prefix that it shows: the longest of an even length that holds what the scan has in the one that was asked for.
    pub prefix: String,
    /// It has 2^depth cells a side; 0 for a single address.
    pub depth: u8,
    /// From where the maps of this scan begin: a prefix an IP version.
    pub roots: Vec<String>,
    /// The vantages that each probed everything.
    pub vantages: Vec<String>,
    /// How many parts of the scan have reports that are not counted yet: ask again.
    pub waiting: u64,
    /// The cells in which the scan has an address, along the curve.
    pub cells: Vec<AddressCell>,
}

/// A cell of a map of addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddressCell {
    /// Its column, from 0 at the left.
    pub x: u32,
    /// Its row, from 0 at the top.
    pub y: u32,
    /// What it covers.
    pub prefix: String,
    /// How many addresses the scan has in it.
    pub planned: u64,
    /// What it is shown as: open, closed or up if an address is; else what most are.
    pub says: String,
    /// Its addresses by what says most of them: the first that is there of open, closed, up, not probed, down, filtered.
    pub addresses: Tally,
    /// Its targets by state; with several vantages those of each.
    pub targets: Tally,
}

/// A map of hosts by ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortTile {
    /// Its rows, by address.
    pub rows: Vec<PortRow>,
    /// Its columns: ping first if it was asked, then by port.
    pub columns: Vec<PortColumn>,
    /// Whether its targets were counted one by one. Else rows and columns may be coarser than 64 of what was asked for.
    pub exact: bool,
    /// The vantages that each probed everything.
    pub vantages: Vec<String>,
    /// How many parts of the scan have reports that are not counted yet: ask again.
    pub waiting: u64,
    /// The cells that hold a target, row by row.
    pub cells: Vec<PortCell>,
}

/// Consecutive addresses of the scan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortRow {
    /// The first and the last: `A-B`, or `A`.
    pub addresses: String,
    /// How many there are.
    pub hosts: u64,
}

/// Consecutive ones of the scan's ports, or ping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortColumn {
    /// `ping`, or the first and the last port: `1-16`, or `22`.
    pub ports: String,
    /// How many there are of them.
    pub slots: u32,
}

/// A cell of a map of hosts by ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortCell {
    /// The place of its row.
    pub row: u32,
    /// The place of its column.
    pub column: u32,
    /// What it is shown as: open, closed or up if anything in it is; else what most is.
    pub says: String,
    /// Its targets by state; with several vantages those of each.
    pub targets: Tally,
}

/// What of a query may only be understood with the scan's plan at hand.
#[derive(Debug)]
pub enum MapRefusal {
    /// A parameter's value does not fit the scan.
    Parameter(Problem),
    /// The store failed.
    Store(StoreError),
}

impl From<StoreError> for MapRefusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What a map of addresses is asked for.
#[derive(Clone, Debug)]
pub struct AddressQuery {
    prefix: Option<IpNet>,
    depth: u8,
    vantage: Option<String>,
}

/// What a map of hosts by ports is asked for.
#[derive(Clone, Debug)]
pub struct PortQuery {
    addresses: Option<(IpAddr, IpAddr)>,
    ports: Option<(u16, u16)>,
    vantage: Option<String>,
}

/// `GET /scans/{id}/maps/addresses`
pub async fn of_addresses(
    request: HttpRequest,
    serving: web::Data<Serving>,
    id: web::Path<String>,
) -> Result<web::Json<AddressTile>, Problem> {
    let query = AddressQuery::read(&Query::of(&request, &parameters("scanAddressMap"))?)?;
    let id = ask::scan_id(&id)?;
    look(&serving, id, move |scene| query.tile(scene)).await.map(web::Json)
}

/// `GET /scans/{id}/maps/ports`
pub async fn of_ports(
    request: HttpRequest,
    serving: web::Data<Serving>,
    id: web::Path<String>,
) -> Result<web::Json<PortTile>, Problem> {
    let query = PortQuery::read(&Query::of(&request, &parameters("scanPortMap"))?)?;
    let id = ask::scan_id(&id)?;
    look(&serving, id, move |scene| query.tile(scene)).await.map(web::Json)
}

/// Looks at a scan that there is.
pub async fn look<T: Send + 'static>(
    serving: &Serving,
    id: ScanId,
    read: impl FnOnce(&Scene<'_>) -> Result<T, MapRefusal> + Send + 'static,
) -> Result<T, Problem> {
    scans::known(serving, id)?;
    let read = move |scene: &Scene<'_>| match read(scene) {
        Ok(tile) => Ok(Ok(tile)),
        Err(MapRefusal::Parameter(problem)) => Ok(Err(problem)),
        Err(MapRefusal::Store(error)) => Err(error),
    };
    serving.maps.look(id, read).await.map_err(|error| match error {
        MapError::Closed | MapError::Full => Problem::unavailable(error.to_string()),
        error => Problem::failed(&error),
    })?
}

fn refused<T>(name: &str, text: &str, why: &str) -> Result<T, MapRefusal> {
    Err(MapRefusal::Parameter(Problem::bad(format!("{} is no value for {name}: {why}", Quoted::new(text)))))
}

impl AddressQuery {
    /// Reads `prefix`, `depth` and `vantage`.
    ///
    /// # Errors
    /// A 400 that names the parameter.
    pub fn read(query: &Query) -> Result<Self, Problem> {
        Ok(Self {
            prefix: query.read_as("prefix", prefix)?,
            depth: query.whole("depth", 1, addresses::DEPTH_MAX)?.unwrap_or(DEPTH_USUAL),
            vantage: query.text("vantage").map(str::to_owned),
        })
    }

    /// The prefix that is asked for, if one is.
    #[must_use]
    pub const fn prefix(&self) -> Option<IpNet> {
        self.prefix
    }

    /// The map.
    ///
    /// # Errors
    /// If the scan has no such prefix or vantage, or the store fails.
    pub fn map(&self, scene: &Scene<'_>) -> Result<AddressMap, MapRefusal> {
        let source = scene.source(place(scene.plan(), self.vantage.as_deref())?)?;
        let prefix = self.prefix.or(roots(scene.plan()).first().copied());
        let map = match prefix {
            Some(prefix) => addresses::map(&source, prefix, self.depth)?,
            None => None,
        };
        let text = || self.prefix.map(|prefix| prefix.to_string()).unwrap_or_default();
        map.map_or_else(|| refused("prefix", &text(), "the scan has no address in it"), Ok)
    }

    /// The map, as it is shown.
    ///
    /// # Errors
    /// As [`map`](Self::map).
    pub fn tile(&self, scene: &Scene<'_>) -> Result<AddressTile, MapRefusal> {
        let map = self.map(scene)?;
        Ok(AddressTile {
            prefix: map.prefix.to_string(),
            depth: map.depth,
            roots: roots(scene.plan()).iter().map(ToString::to_string).collect(),
            vantages: vantages(scene.plan()),
            waiting: scene.waiting(),
            cells: cells(&map),
        })
    }
}

fn cells(map: &AddressMap) -> Vec<AddressCell> {
    let shown = map.cells.iter().map(|cell| {
        let (x, y) = fast_hilbert::h2xy::<u32>(cell.place, map.depth);
        AddressCell {
            x,
            y,
            prefix: cell.prefix.to_string(),
            planned: cell.planned,
            says: says(&cell.sum),
            addresses: Tally::new(&cell.sum.addresses, 0),
            targets: Tally::new(&cell.sum.targets, cell.sum.uncounted),
        }
    });
    shown.collect()
}

impl PortQuery {
    /// Reads `address`, `port` and `vantage`.
    ///
    /// # Errors
    /// A 400 that names the parameter.
    pub fn read(query: &Query) -> Result<Self, Problem> {
        Ok(Self {
            addresses: query.read_as("address", range)?,
            ports: query.read_as("port", |text| {
                let ports = parse_ports(text).map_err(|error| error.to_string())?;
                let ends = ports.nth(0).zip(ports.len().checked_sub(1).and_then(|last| ports.nth(last)));
                ends.ok_or_else(|| "write a port, or a first and a last one".to_owned())
            })?,
            vantage: query.text("vantage").map(str::to_owned),
        })
    }

    /// The same; where no addresses are asked for, of those in this prefix.
    #[must_use]
    pub fn within(self, prefix: Option<IpNet>) -> Self {
        let ends = prefix.map(|prefix| (prefix.network(), prefix.broadcast()));
        Self { addresses: self.addresses.or(ends), ..self }
    }

    /// The map.
    ///
    /// # Errors
    /// If the scan has no such address, port or vantage, or the store fails.
    pub fn map(&self, scene: &Scene<'_>) -> Result<PortMap, MapRefusal> {
        let plan = scene.plan();
        let source = scene.source(place(plan, self.vantage.as_deref())?)?;
        let extent = Extent { ranks: self.ranks(plan), ports: self.places(plan) };
        if extent.ports.is_empty()
            && let Some((first, last)) = self.ports
        {
            return refused("port", &format!("{first}-{last}"), "the scan asks for no port of these");
        }
        let text = || self.addresses.map(|ends| run(&ends.0, &ends.1)).unwrap_or_default();
        let map = ports::map(&source, &extent)?;
        map.map_or_else(|| refused("address", &text(), "the scan has no address in it"), Ok)
    }

    /// The map, as it is shown.
    ///
    /// # Errors
    /// As [`map`](Self::map).
    pub fn tile(&self, scene: &Scene<'_>) -> Result<PortTile, MapRefusal> {
        Ok(tile(&self.map(scene)?, scene))
    }

    /// The ranks of the addresses that are asked for.
    fn ranks(&self, plan: &Plan) -> std::ops::Range<u64> {
        match self.addresses {
            Some((first, last)) => plan.addresses().ranks_within(first, last),
            None => 0..plan.addresses().len(),
        }
    }

    /// The places, among those of the plan, of the ports that are asked for.
    fn places(&self, plan: &Plan) -> std::ops::Range<u32> {
        let asked = plan.slots().ports();
        let Some((first, last)) = self.ports else { return 0..asked.len() };
        let before = |port: u16| {
            let ranges = asked.ranges().take_while(|(low, _)| *low < port);
            ranges.map(|(low, high)| u32::from(high.min(port - 1) - low) + 1).sum::<u32>()
        };
        before(first)..before(last) + u32::from(asked.contains(last))
    }
}

fn tile(map: &PortMap, scene: &Scene<'_>) -> PortTile {
    let rows = map.rows.iter().map(|row| PortRow { addresses: run(&row.first, &row.last), hosts: row.hosts });
    let columns = map.columns.iter().map(|column| match column {
        Column::Ping => PortColumn { ports: "ping".to_owned(), slots: 1 },
        Column::Ports { first, last, count } => PortColumn { ports: run(first, last), slots: *count },
    });
    let width = map.columns.len().max(1);
    let cells = map.cells.iter().enumerate().filter(|(_, sum)| sum.targets.sum() + sum.uncounted > 0);
    let cells = cells.map(|(at, sum)| PortCell {
        row: u32::try_from(at / width).unwrap_or(u32::MAX),
        column: u32::try_from(at % width).unwrap_or(u32::MAX),
        says: says(sum),
        targets: Tally::new(&sum.targets, sum.uncounted),
    });
    PortTile {
        rows: rows.collect(),
        columns: columns.collect(),
        exact: map.exact,
        vantages: vantages(scene.plan()),
        waiting: scene.waiting(),
        cells: cells.collect(),
    }
}

/// `A-B`, or `A`.
#[must_use]
pub fn run<T: PartialEq + ToString>(first: &T, last: &T) -> String {
    if first == last { first.to_string() } else { format!("{}-{}", first.to_string(), last.to_string()) }
}

/// The vantages that each probed everything, by name.
#[must_use]
pub fn vantages(plan: &Plan) -> Vec<String> {
    plan.vantages().iter().map(|vantage| vantage.as_str().to_owned()).collect()
}

/// The place of a vantage in the plan.
fn place(plan: &Plan, vantage: Option<&str>) -> Result<Option<u64>, MapRefusal> {
    let Some(name) = vantage else { return Ok(None) };
    match plan.vantages().iter().position(|vantage| vantage.as_str() == name) {
        Some(place) => Ok(Some(place as u64)),
        None => refused("vantage", name, "the scan has no such vantage that probes everything"),
    }
}

fn prefix(text: &str) -> Result<IpNet, &'static str> {
    let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.map(|net| net.trunc()).map_err(|_| "write an address, or a network as 192.0.2.0/24")
}

/// The first and the last address of a network, of a range, or of an address.
fn range(text: &str) -> Result<(IpAddr, IpAddr), String> {
    let mut all = AddressSet::new();
    for item in parse_targets(text).map_err(|error| error.to_string())? {
        match item {
            TargetItem::Addresses(addresses) => all.extend(&addresses),
            TargetItem::Name { .. } => return Err("write a network or a range: no names".to_owned()),
        }
    }
    let mut ranges = all.ranges();
    match (ranges.next(), ranges.next()) {
        (Some(ends), None) => Ok(ends),
        _ => Err("write one network or one range".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_input_94_what_is_no_part_of_a_scan_is_no_value() {
        for wrong in ["", "-1", "192.0.2.0/33", "host", "::/129", "1;DROP", "\u{661}", "192.0.2.1-192.0.2.9", "/8"] {
            assert!(prefix(wrong).is_err(), "{wrong}");
        }
        assert_eq!(prefix("192.0.2.7/24").map(|net| net.to_string()).as_deref(), Ok("192.0.2.0/24"));
        assert_eq!(prefix("2001:db8::1").map(|net| net.to_string()).as_deref(), Ok("2001:db8::1/128"));
        for wrong in ["", "localhost", "192.0.2.1,192.0.2.9", "192.0.2.9-192.0.2.1", "192.0.2.1-2001:db8::1", "-1"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
        let ends = |text: &str| range(text).map(|(first, last)| run(&first, &last));
        assert_eq!(ends("192.0.2.0/30").as_deref(), Ok("192.0.2.0-192.0.2.3"));
        assert_eq!(ends("192.0.2.7").as_deref(), Ok("192.0.2.7"));
    }
}
