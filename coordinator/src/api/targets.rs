//! `GET /scans/{id}/targets`, and results with a filter: single targets and what became of them, page by page.
//!
//! A page of JSON has at most [`LIMIT_MAX`] targets, and reads at most `READ_MAX` of the scan: it may hold fewer than were asked for, or
//! none, and still name the next one. JSON lines and CSV are whole unless `limit` is given. Whatever the form, a `Link` header with
//! `rel="next"` (RFC 8288) says where to go on.

use super::Serving;
use super::ask::{self, Query};
use super::description::parameters;
use super::problem::Problem;
use super::results::{CHUNK_BYTES, plan, send, write_to_file};
use super::scans;
use crate::report::targets::{self, Bounds, COLUMNS, Cursor, Filter, Found, walk};
use actix_web::http::header::LINK;
use actix_web::{HttpRequest, HttpResponse, web};
use coordinator_core::store::Store;
use protocol::address::{TargetItem, parse_targets};
use protocol::id::ScanId;
use protocol::port::parse_ports;
use protocol::probe::{ProbeKind, State};
use protocol::range_set::AddressSet;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::net::IpAddr;
use utoipa::ToSchema;

/// The most targets of one page of JSON.
pub const LIMIT_MAX: u64 = 10_000;
/// How many a page has if nobody says.
const LIMIT_USUAL: u64 = 1_000;
/// How many targets a page reads at most: a second's work, so that whoever filters a huge scan holds up nobody for longer.
const READ_MAX: u64 = 4 << 20;
/// The longest list of addresses in a filter, in ranges.
const RANGES_MAX: usize = 1_000;

/// A target, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TargetRow {
    /// The address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// `ping` or `tcp`.
    pub protocol: String,
    /// The port; absent for `ping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What it is found to be: `open`, `closed`, `filtered`, `up`, `down`, `not-probed`.
    pub state: String,
    /// Why; of what was not probed, the cause.
    pub reason: String,
    /// The round-trip time in milliseconds, of an open port or a live host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// Who saw it; absent for what was not probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_by: Option<String>,
    /// How often it was probed.
    pub tries: u8,
    /// From where it is looked at, where several vantages each probe everything: it comes once for each. Else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vantage: Option<String>,
}

impl TargetRow {
    fn new(found: &Found<'_>) -> Self {
        let outcome = found.known.outcome;
        Self {
            address: found.target.address,
            protocol: found.target.slot.kind().as_str().to_owned(),
            port: found.port(),
            state: outcome.state().as_str().to_owned(),
            reason: outcome.why().to_owned(),
            rtt_ms: found.known.rtt_us.map(crate::report::milliseconds),
            seen_by: found.seen_by.map(str::to_owned),
            tries: found.known.tries,
            vantage: found.vantage.map(str::to_owned),
        }
    }
}

/// A page of targets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TargetPage {
    /// By address, as far as the scan's parts allow; `ping` before ports.
    pub targets: Vec<TargetRow>,
    /// The cursor of the next page; null at the end.
    pub next: Option<String>,
}

/// The form of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Jsonl,
    Csv,
}

/// What is asked for.
#[derive(Debug)]
struct Wanted {
    form: Form,
    filter: Filter,
    cursor: Option<Cursor>,
    limit: Option<u64>,
}

/// `GET /scans/{id}/targets`
pub async fn targets(
    request: HttpRequest,
    serving: web::Data<Serving>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &parameters("scanTargets"))?;
    let id = ask::scan_id(&id)?;
    scans::known(&serving, id)?;
    page(&request, &serving, id, &query).await
}

/// The targets that a query asks for.
pub(super) async fn page(
    request: &HttpRequest,
    serving: &Serving,
    id: ScanId,
    query: &Query,
) -> Result<HttpResponse, Problem> {
    let wanted = wanted(query)?;
    let content_type = match wanted.form {
        Form::Json => "application/json",
        Form::Jsonl => "application/x-ndjson",
        Form::Csv => "text/csv; charset=utf-8",
    };
    let spool = serving.spool.clone();
    let written = serving.store.look(move |store| {
        let mut next = None;
        let file = write_to_file(&spool, |out| {
            next = write(out, store, id, &wanted)?;
            Ok(())
        })?;
        Ok((file, next))
    });
    let (file, next) = match written.await {
        Ok(Ok((file, next))) => (Ok(Ok(file)), next),
        Ok(Err(error)) => (Ok(Err(error)), None),
        Err(error) => (Err(error), None),
    };
    let mut response = send(file, content_type)?;
    if let Some(next) = next {
        let others = request.query_string().split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
        let pairs: Vec<_> = others.map(str::to_owned).chain([format!("cursor={next}")]).collect();
        let link = format!("<{}?{}>; rel=\"next\"", request.path(), pairs.join("&"));
        if let Ok(link) = link.parse() {
            response.headers_mut().insert(LINK, link);
        }
    }
    Ok(response)
}

/// Reads a query. What filters is a list with commas, any of which fits.
fn wanted(query: &Query) -> Result<Wanted, Problem> {
    let form = query.one_of("format", &[("json", Form::Json), ("jsonl", Form::Jsonl), ("csv", Form::Csv)])?;
    let form = form.unwrap_or(Form::Json);
    let most = if form == Form::Json { LIMIT_MAX } else { u64::MAX };
    let limit = query.whole("limit", 1, most)?;
    let filter = filter(query)?;
    let cursor = query.read_as("cursor", str::parse)?;
    Ok(Wanted { form, filter, cursor, limit })
}

/// What of a query filters.
///
/// # Errors
/// A 400 that names the parameter.
pub fn filter(query: &Query) -> Result<Filter, Problem> {
    let kinds = [("ping", ProbeKind::Ping), ("tcp", ProbeKind::Tcp)];
    Ok(Filter {
        addresses: query.read_as("address", addresses)?,
        ports: query.read_as("port", |text| parse_ports(text).map_err(|error| error.to_string()))?,
        kind: query.one_of("kind", &kinds)?,
        states: query.read_as("state", states)?,
        reasons: query.read_as("reason", reasons)?,
        agent: query.text("agent").map(str::to_owned),
    })
}

/// At most `limit` targets that fit, and where to go on.
///
/// # Errors
/// If they cannot be read.
pub async fn look_up(
    serving: &Serving,
    id: ScanId,
    filter: Filter,
    from: Option<Cursor>,
    limit: u64,
) -> Result<(Vec<TargetRow>, Option<String>), Problem> {
    let bounds = Bounds { limit, read: READ_MAX };
    let read = serving.store.look(move |store| {
        let plan = plan(store, id)?;
        let mut rows = Vec::new();
        let next = walk((store, id, &plan), &filter, from, bounds, &mut |found| {
            rows.push(TargetRow::new(found));
            Ok(())
        })?;
        Ok::<_, io::Error>((rows, next.map(|next| next.to_string())))
    });
    read.await.map_err(|error| Problem::failed(&error))?.map_err(|error| Problem::failed(&error))
}

fn addresses(text: &str) -> Result<AddressSet, String> {
    let mut set = AddressSet::new();
    for item in parse_targets(text).map_err(|error| error.to_string())? {
        match item {
            TargetItem::Addresses(addresses) => set.extend(&addresses),
            TargetItem::Name { .. } => return Err("write addresses, networks or ranges: no names".to_owned()),
        }
    }
    if set.range_count() > RANGES_MAX {
        return Err(format!("write at most {RANGES_MAX} ranges"));
    }
    Ok(set)
}

fn states(text: &str) -> Result<Vec<State>, String> {
    let read = |name| targets::state(name).ok_or_else(|| format!("write {}", targets::names().0.join(", ")));
    text.split(',').map(read).collect()
}

fn reasons(text: &str) -> Result<Vec<String>, String> {
    let known = targets::names().1;
    let read = |name: &str| {
        let is_known = known.contains(&name);
        if is_known { Ok(name.to_owned()) } else { Err(format!("write {}", known.join(", "))) }
    };
    text.split(',').map(read).collect()
}

/// Writes what is wanted; where to go on.
fn write(out: &mut dyn Write, store: &dyn Store, id: ScanId, wanted: &Wanted) -> io::Result<Option<Cursor>> {
    let plan = plan(store, id)?;
    let bounds = match wanted.form {
        Form::Json => Bounds { limit: wanted.limit.unwrap_or(LIMIT_USUAL), read: READ_MAX },
        Form::Jsonl | Form::Csv => Bounds { limit: wanted.limit.unwrap_or(u64::MAX), read: u64::MAX },
    };
    let walk = |tell: &mut dyn FnMut(&Found<'_>) -> io::Result<()>| {
        walk((store, id, &plan), &wanted.filter, wanted.cursor, bounds, tell)
    };
    match wanted.form {
        Form::Json => {
            // As `TargetPage`, row by row.
            out.write_all(b"{\"targets\":[")?;
            let mut is_first = true;
            let next = walk(&mut |found| {
                if !std::mem::take(&mut is_first) {
                    out.write_all(b",")?;
                }
                Ok(serde_json::to_writer(&mut *out, &TargetRow::new(found))?)
            })?;
            out.write_all(b"],\"next\":")?;
            serde_json::to_writer(&mut *out, &next.map(|next| next.to_string()))?;
            out.write_all(b"}")?;
            Ok(next)
        }
        Form::Jsonl => walk(&mut |found| {
            serde_json::to_writer(&mut *out, &TargetRow::new(found))?;
            out.write_all(b"\n")
        }),
        Form::Csv => {
            let mut table = ::csv::WriterBuilder::new().buffer_capacity(CHUNK_BYTES).from_writer(out);
            table.write_record(COLUMNS)?;
            let next = walk(&mut |found| targets::write_csv(&mut table, found))?;
            table.flush()?;
            Ok(next)
        }
    }
}
