//! Results: as JSON, JSON lines, CSV or the table for people, whole and at one moment; and what was found so far.
//!
//! With a filter, a cursor or a limit it is a page of single targets ([`targets`]). A result is first written to a file without a name and then sent: a reader that is slow holds up neither the store nor its log.

use super::ask::{self, Query};
use super::description::parameters;
use super::problem::Problem;
use super::receipt::Receipt;
use super::shape::Finding;
use super::{Serving, scans, targets};
use crate::report::jsonl::Jsonl;
use crate::report::table::{self, View};
use crate::report::{csv, json};
use crate::scan::{Account, wall};
use crate::serve;
use crate::state::StoredRequest;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use coordinator_core::store::{ScanStatus, Store};
use futures_util::stream;
use jiff::Timestamp;
use protocol::id::ScanId;
use protocol::plan::Plan;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

/// How much of a result is sent at once.
pub(super) const CHUNK_BYTES: usize = 64 << 10;

/// What makes a result a page of single targets.
const FILTERS: [&str; 8] = ["address", "port", "kind", "state", "reason", "agent", "cursor", "limit"];

/// The form of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Jsonl,
    Csv,
    Table,
}

impl Form {
    const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Jsonl => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Table => "text/plain; charset=utf-8",
        }
    }
}

/// `GET /scans/{id}/results`
pub async fn results(
    request: HttpRequest,
    serving: web::Data<Serving>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &parameters("scanResults"))?;
    if let Some(filter) = FILTERS.iter().find(|name| query.text(name).is_some()) {
        if let Some(other) = ["open", "by"].iter().find(|name| query.text(name).is_some()) {
            return Err(Problem::bad(format!("{other} is for whole results: drop it, or {filter}")));
        }
        let id = ask::scan_id(&id)?;
        scans::known(&serving, id)?;
        return targets::page(&request, &serving, id, &query).await;
    }
    let forms = [("json", Form::Json), ("jsonl", Form::Jsonl), ("csv", Form::Csv), ("table", Form::Table)];
    let form = query.one_of("format", &forms)?.unwrap_or(Form::Json);
    let open_only = query.one_of("open", &[("true", true), ("false", false)])?.unwrap_or(false);
    let by_port = query.one_of("by", &[("host", false), ("port", true)])?.unwrap_or(false);
    let view = View { open_only, by_port };
    let id = ask::scan_id(&id)?;
    let finished = scans::known(&serving, id)?.finished;
    let spool = serving.spool.clone();
    let look = move |store: &dyn Store| write_to_file(&spool, |out| result(out, store, id, finished, form, view));
    let written = serving.store.look(look);
    send(written.await, form.content_type())
}

/// `GET /scans/{id}/findings`
pub async fn findings(
    request: HttpRequest,
    serving: web::Data<Serving>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let id = ask::scan_id(&id)?;
    scans::known(&serving, id)?;
    let spool = serving.spool.clone();
    let written = serving.store.look(move |store| {
        write_to_file(&spool, |out| {
            let (account, _) = account(store, id, None)?;
            account.for_each_found(store, &mut |vantage, found, signs| {
                let signs = signs.iter().map(|sign| Finding::of_sign(sign, vantage));
                found.iter().map(|found| Finding::new(found, vantage)).chain(signs).try_for_each(|finding| {
                    serde_json::to_writer(&mut *out, &finding)?;
                    out.write_all(b"\n")
                })
            })
        })
    });
    send(written.await, "application/x-ndjson")
}

/// `GET /scans/{id}/receipt`
pub async fn receipt(
    request: HttpRequest,
    serving: web::Data<Serving>,
    id: web::Path<String>,
) -> Result<web::Json<Receipt>, Problem> {
    Query::of(&request, &[])?;
    let id = ask::scan_id(&id)?;
    let scan = scans::known(&serving, id)?;
    if !scan.is_over() {
        return Err(Problem::conflict(format!("scan {id} is {}: its receipt comes with its end", scan.status)));
    }
    let read = serving.store.look(move |store| {
        let (account, status) = account(store, id, scan.finished)?;
        let (facts, _) = account.read(store, Some(status), Duration::ZERO)?;
        Ok(Receipt::new(&facts))
    });
    let read: Result<io::Result<Receipt>, _> = read.await;
    let receipt = read.map_err(|error| Problem::failed(&error))?.map_err(|error| Problem::failed(&error))?;
    Ok(web::Json(receipt))
}

/// The plan of a scan.
pub(super) fn plan(store: &dyn Store, id: ScanId) -> io::Result<Plan> {
    let record = serve::record(store, id).map_err(io::Error::other)?;
    Plan::try_from(record.plan).map_err(io::Error::other)
}

fn account(store: &dyn Store, id: ScanId, finished: Option<Timestamp>) -> io::Result<(Account, ScanStatus)> {
    let record = serve::record(store, id).map_err(io::Error::other)?;
    let request = StoredRequest::read(&record).map_err(io::Error::other)?;
    let plan = Plan::try_from(record.plan.clone()).map_err(io::Error::other)?;
    let now = finished.unwrap_or_else(wall);
    let elapsed = request.ran(now);
    Ok((Account::new(&record, &plan, &request, elapsed).updated(now), record.status))
}

fn result(
    out: &mut dyn Write,
    store: &dyn Store,
    id: ScanId,
    finished: Option<Timestamp>,
    form: Form,
    view: View,
) -> io::Result<()> {
    let (account, status) = account(store, id, finished)?;
    let status = Some(status).filter(|status| *status != ScanStatus::Running);
    let (facts, mut rows) = account.read(store, status, Duration::ZERO)?;
    match form {
        Form::Json => json::write(out, &facts, &mut rows),
        Form::Csv => csv::write(out, &facts, &mut rows),
        Form::Table => table::write(out, &facts, &mut rows, view),
        Form::Jsonl => {
            let mut jsonl = Jsonl::new(view.open_only);
            account.for_each_found(store, &mut |vantage, found, signs| {
                jsonl.committed(out, account.names(), vantage, found, signs)
            })?;
            jsonl.finish(out, &facts, &mut rows)
        }
    }
}

pub(super) fn write_to_file(spool: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<File> {
    let mut out = BufWriter::with_capacity(CHUNK_BYTES, tempfile::tempfile_in(spool)?);
    fill(&mut out)?;
    let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.rewind()?;
    Ok(file)
}

pub(super) fn send(
    written: Result<io::Result<File>, crate::store::thread::LookError>,
    content_type: &'static str,
) -> Result<HttpResponse, Problem> {
    let file = written.map_err(|error| Problem::failed(&error))?.map_err(|error| Problem::failed(&error))?;
    let body = stream::unfold(Some(file), |file| async {
        let mut file = file?;
        let read = web::block(move || {
            let mut chunk = vec![0; CHUNK_BYTES];
            let count = file.read(&mut chunk)?;
            chunk.truncate(count);
            Ok::<_, io::Error>((chunk, file))
        });
        match read.await.map_err(io::Error::other).and_then(|read| read) {
            Ok((chunk, _)) if chunk.is_empty() => None,
            Ok((chunk, file)) => Some((Ok(Bytes::from(chunk)), Some(file))),
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok(HttpResponse::Ok().content_type(content_type).insert_header(("cache-control", "no-store")).streaming(body))
}
