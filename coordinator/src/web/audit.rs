//! The audit: who did what, and who was refused, newest first.

use super::frame::{Failure, Frame, page};
use super::words::moment;
use crate::api::Serving;
use crate::api::agents::refused;
use crate::api::ask::Query;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use jiff::Timestamp;

/// How many rows a page has.
const ROWS: u32 = 100;

/// A row, as it is shown.
struct Row {
    at: String,
    who: String,
    what: String,
    detail: String,
    count: i64,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct Page {
    frame: Frame,
    rows: Vec<Row>,
    /// The key of the last row, if there may be more.
    older: Option<i64>,
}

/// `GET /audit`
pub async fn audit(request: HttpRequest, serving: web::Data<Serving>) -> Result<HttpResponse, Failure> {
    let before = Query::of(&request, &["before"])?.whole("before", 1, i64::MAX)?;
    let rows = serving.fleet.audit_rows(before, ROWS).await.map_err(refused)?;
    let older = rows.last().filter(|_| rows.len() == ROWS as usize).map(|row| row.key);
    let rows = rows.into_iter().map(|row| Row {
        at: Timestamp::from_second(row.at).map(moment).unwrap_or_default(),
        who: row.who,
        what: row.what,
        detail: row.detail,
        count: row.count,
    });
    page(&Page { frame: Frame::new(&request, "Audit", "Audit"), rows: rows.collect(), older })
}
