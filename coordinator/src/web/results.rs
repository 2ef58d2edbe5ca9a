//! Results: a table with facets, its filter in the URL. Open ports and live hosts come from what is kept of them ([`found`]); other
//! states are read of the scan, page by page, as the API does.

use super::found::{self, Found, Row};
use super::frame::{Failure, Frame, page};
use super::words::number;
use crate::api::ask::{Query, scan_id};
use crate::api::shape::Scan;
use crate::api::targets::{TargetRow, filter, look_up};
use crate::api::{Serving, scans};
use crate::report::quantity::round_trip;
use crate::report::targets::{Cursor, Filter};
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use coordinator_core::host::OPEN_PORTS_MAX;
use protocol::port::service_name;
use protocol::probe::State;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use url_pairs::Pairs;

mod url_pairs;

/// How many rows a page has.
const ROWS: usize = 200;
/// How many values of a facet are offered.
const VALUES_MAX: usize = 12;
/// The names of what filters.
const FILTERS: [&str; 6] = ["address", "port", "state", "reason", "agent", "cursor"];

#[derive(Template)]
#[template(path = "results.html")]
struct Page {
    frame: Frame,
    id: String,
    status: String,
    title: String,
    /// What filters now: its name, its value, and the page without it.
    active: Vec<(&'static str, String, String)>,
    facets: Vec<Facet>,
    rows: Vec<Line>,
    /// How many fit, where that is known.
    fitting: Option<String>,
    is_cut: bool,
    /// How many targets are open or up, where more are than are stored one by one.
    counted: Option<String>,
    /// How many findings of a host are.
    listed: String,
    has_vantages: bool,
    /// The next page.
    next: Option<String>,
    /// What fits, whole, as CSV and as JSON lines.
    csv: String,
    jsonl: String,
    address: String,
    port: String,
    agent: String,
    state: String,
}

/// A facet: its name, and values with how many rows have them and the page that shows these only.
struct Facet {
    name: &'static str,
    values: Vec<(String, String, String)>,
}

/// A row of the table.
struct Line {
    address: String,
    port: String,
    service: &'static str,
    state: &'static str,
    reason: String,
    rtt: String,
    seen_by: String,
    vantage: String,
    /// Whether other vantages did not find it.
    differs: bool,
}

impl Line {
    fn of_found(row: &Row, found: &Found) -> Self {
        Self {
            address: row.address.to_string(),
            port: shown_port(row.port),
            service: row.port.and_then(service_name).unwrap_or_default(),
            state: row.state().as_str(),
            reason: row.reason().to_owned(),
            rtt: round_trip(row.rtt_us),
            seen_by: found.agent(row).to_owned(),
            vantage: found.vantage(row).to_owned(),
            differs: false,
        }
    }

    fn of_target(row: TargetRow) -> Self {
        let state = State::ALL.iter().find(|state| state.as_str() == row.state).map_or("", |state| state.as_str());
        Self {
            address: row.address.to_string(),
            port: shown_port(row.port),
            service: row.port.and_then(service_name).unwrap_or_default(),
            state,
            reason: row.reason,
            rtt: row.rtt_ms.map(|ms| format!("{ms} ms")).unwrap_or_default(),
            seen_by: row.seen_by.unwrap_or_default(),
            vantage: String::new(),
            differs: false,
        }
    }
}

fn shown_port(port: Option<u16>) -> String {
    port.map_or_else(|| "ping".to_owned(), |port| format!("{port}/tcp"))
}

/// `GET /scans/{id}/results`
pub async fn results(
    request: HttpRequest,
    serving: web::Data<Serving>,
    id: web::Path<String>,
) -> Result<HttpResponse, Failure> {
    let id = scan_id(&id)?;
    let scan = scans::known(&serving, id)?;
    // What a form leaves empty filters nothing.
    let pairs = Pairs::of(request.query_string());
    let query = Query::read(&pairs.text(), &FILTERS)?;
    let wanted = filter(&query)?;
    let base = format!("/scans/{id}/results");
    let title = scan.specs.join(", ");
    let frame = Frame::new(&request, format!("Results of {title}"), "Scans");
    let is_live = query.text("cursor").is_none() && !scan.is_over();
    let text = |name: &str| query.text(name).unwrap_or_default().to_owned();
    let active = FILTERS[..5].iter().filter_map(|name| {
        let value = query.text(name)?;
        Some((*name, value.to_owned(), pairs.without(&[name, "cursor"]).at(&base)))
    });
    let whole = |format| pairs.without(&["cursor"]).with("format", format).at(&format!("/api/v1/scans/{id}/targets"));
    let mut page_of = Page {
        frame: if is_live { frame.following(format!("scan={id}")) } else { frame },
        id: id.to_string(),
        status: scan.status.clone(),
        title,
        active: active.collect(),
        facets: Vec::new(),
        rows: Vec::new(),
        fitting: None,
        is_cut: false,
        counted: None,
        listed: number(OPEN_PORTS_MAX as u64),
        has_vantages: false,
        next: None,
        csv: whole("csv"),
        jsonl: whole("jsonl"),
        address: text("address"),
        port: text("port"),
        agent: text("agent"),
        state: text("state"),
    };
    let is_of_found = |states: &Vec<State>| states.iter().all(|state| matches!(state, State::Open | State::Up));
    if wanted.states.as_ref().is_none_or(is_of_found) {
        let after = query.read_as("cursor", read_after)?;
        let found = found::of_scan(&serving, &scan).await?;
        fill(&mut page_of, &found, &wanted, after, &pairs, &base);
        page_of.counted = counted(&scan, &found).map(number);
    } else {
        let cursor = query.read_as("cursor", str::parse::<Cursor>)?;
        let (rows, next) = look_up(&serving, id, wanted, cursor, ROWS as u64).await?;
        page_of.rows = rows.into_iter().map(Line::of_target).collect();
        page_of.next = next.map(|next| pairs.with("cursor", &next).at(&base));
    }
    page_of.facets.insert(0, states(&scan, &pairs, &base));
    page(&page_of)
}

/// How many targets of a scan were found open or up, if it has a host on which more are than are listed.
fn counted(scan: &Scan, found: &Found) -> Option<u64> {
    let is_full = found.rows.chunk_by(|one, other| one.address == other.address).any(|of| of.len() >= OPEN_PORTS_MAX);
    let states = &scan.progress.as_ref()?.states;
    let counted: u64 = [State::Open, State::Up].iter().filter_map(|state| states.get(state.as_str())).sum();
    Some(counted).filter(|&counted| is_full && counted > found.rows.len() as u64)
}

/// Where a page of findings goes on: after this address and port.
fn read_after(text: &str) -> Result<(IpAddr, Option<u16>), String> {
    let wrong = || "take it as the page gives it".to_owned();
    let (address, port) = text.rsplit_once('_').ok_or_else(wrong)?;
    let address = address.parse().map_err(|_| wrong())?;
    let port = if port == "ping" { None } else { Some(port.parse().map_err(|_| wrong())?) };
    Ok((address, port))
}

/// Fills a page with what was found and fits.
fn fill(
    page: &mut Page,
    found: &Found,
    filter: &Filter,
    after: Option<(IpAddr, Option<u16>)>,
    pairs: &Pairs,
    base: &str,
) {
    let fits = |row: &&Row| {
        filter.addresses.as_ref().is_none_or(|set| set.contains(row.address))
            && filter.ports.as_ref().is_none_or(|ports| row.port.is_some_and(|port| ports.contains(port)))
            && filter.states.as_ref().is_none_or(|states| states.contains(&row.state()))
            && filter.reasons.as_ref().is_none_or(|reasons| reasons.iter().any(|reason| reason == row.reason()))
            && filter.agent.as_ref().is_none_or(|agent| found.agent(row) == agent)
    };
    let fitting: Vec<&Row> = found.rows.iter().filter(fits).collect();
    page.fitting = Some(number(fitting.len() as u64));
    page.is_cut = found.is_cut;
    page.has_vantages = !found.vantages.is_empty();
    let (mut ports, mut agents, mut prefixes) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for row in &fitting {
        if let Some(port) = row.port {
            *ports.entry(port.to_string()).or_default() += 1;
        }
        *agents.entry(found.agent(row).to_owned()).or_default() += 1;
        *prefixes.entry(prefix(row.address)).or_default() += 1;
    }
    let facet = |name, parameter, counts| Facet { name, values: values(counts, parameter, pairs, base) };
    page.facets.push(facet("Port", "port", ports));
    page.facets.push(facet("Prefix", "address", prefixes));
    page.facets.push(facet("Seen by", "agent", agents));
    let first = after.map_or(0, |after| fitting.partition_point(|row| (row.address, row.port) <= after));
    let mut end = (first + ROWS).min(fitting.len());
    // Several vantages' rows of one target stay together, as a page goes on after a target.
    while end > 0
        && end < fitting.len()
        && (fitting[end - 1].address, fitting[end - 1].port) == (fitting[end].address, fitting[end].port)
    {
        end += 1;
    }
    page.rows = fitting[first..end]
        .chunk_by(|one, other| (one.address, one.port) == (other.address, other.port))
        .flat_map(|seen| {
            let differs = seen.len() < found.vantages.len();
            seen.iter().map(move |row| Line { differs, ..Line::of_found(row, found) })
        })
        .collect();
    page.next = fitting.get(end).and_then(|_| fitting.get(end - 1)).map(|last| {
        let port = last.port.map_or_else(|| "ping".to_owned(), |port| port.to_string());
        pairs.with("cursor", &format!("{}_{port}", last.address)).at(base)
    });
}

/// The commonest values, each with its count and its page.
fn values(
    counts: BTreeMap<String, u64>,
    parameter: &'static str,
    pairs: &Pairs,
    base: &str,
) -> Vec<(String, String, String)> {
    let mut counts: Vec<_> = counts.into_iter().filter(|(value, _)| !value.is_empty()).collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let shown = counts.into_iter().take(VALUES_MAX);
    shown
        .map(|(value, count)| {
            let at = pairs.without(&["cursor"]).with(parameter, &value).at(base);
            (value, number(count), at)
        })
        .collect()
}

/// The states that the scan's targets are in, whatever else filters.
fn states(scan: &Scan, pairs: &Pairs, base: &str) -> Facet {
    let progress = scan.progress.clone().unwrap_or_default();
    let unprobed: u64 = progress.not_probed.values().sum();
    let counts = progress.states.into_iter().chain((unprobed > 0).then(|| ("not-probed".to_owned(), unprobed)));
    Facet {
        name: "State",
        values: values(counts.filter(|(_, count)| *count > 0).collect(), "state", &pairs.without(&["reason"]), base),
    }
}

/// The network that an address is counted with: its /24 or /64.
fn prefix(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(v6) => format!("{}/64", Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_goes_on_after_its_last_row() {
        let at = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(read_after("192.0.2.1_22"), Ok((at("192.0.2.1"), Some(22))));
        assert_eq!(read_after("2001:db8::1_ping"), Ok((at("2001:db8::1"), None)));
        for wrong in ["", "_", "192.0.2.1", "192.0.2.1_", "192.0.2.1_65536", "x_22", "192.0.2.1_-1", "' OR 1=1_22"] {
            assert!(read_after(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_are_counted_by_their_network() {
        assert_eq!(prefix("192.0.2.77".parse().expect("an address")), "192.0.2.0/24");
        assert_eq!(prefix("2001:db8::1:2:3".parse().expect("an address")), "2001:db8::/64");
    }
}
