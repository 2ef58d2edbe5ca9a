//! What is around every page, and how a page is answered: as HTML that loads nothing but what this coordinator serves.

use crate::api::guard::Asker;
use crate::api::problem::Problem;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use askama::Template;
use std::fmt;

/// What a page may load and do. No inline script or style runs, whatever a name or a label holds.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'";

/// What is around a page.
pub struct Frame {
    /// Its title.
    pub title: String,
    /// Which of [`places`](Self::places) it belongs to; empty for none.
    section: &'static str,
    /// Who looks, as the audit names them.
    pub who: String,
    /// Whether they may change something.
    pub may_change: bool,
    /// Which events change the page: the query of `/api/v1/events`, or `all`; `None` for a page that stays as it is.
    pub follows: Option<String>,
    /// What was just done.
    pub notice: Option<String>,
}

impl Frame {
    /// Around a page of this title, for whoever asks.
    #[must_use]
    pub fn new(request: &HttpRequest, title: impl Into<String>, section: &'static str) -> Self {
        let Asker { who, may_change } = Asker::of(request);
        Self { title: title.into(), section, who, may_change, follows: None, notice: None }
    }

    /// The page changes with these events.
    #[must_use]
    pub fn following(self, events: impl Into<String>) -> Self {
        Self { follows: Some(events.into()), ..self }
    }

    /// Something was just done.
    #[must_use]
    pub fn noting(self, notice: Option<String>) -> Self {
        Self { notice, ..self }
    }

    /// The parts of the page, by name, and where they are.
    #[must_use]
    pub const fn places(&self) -> [(&'static str, &'static str); 4] {
        [("Overview", "/"), ("Scans", "/scans"), ("Agents", "/agents"), ("Audit", "/audit")]
    }

    /// Whether the page belongs to that part.
    #[must_use]
    pub fn is_in(&self, place: &str) -> bool {
        self.section == place
    }

    /// The version of the program.
    #[must_use]
    pub const fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}

/// Answers with a page.
///
/// # Errors
/// If it cannot be written.
pub fn page(template: &impl Template) -> Result<HttpResponse, Failure> {
    with_status(StatusCode::OK, template)
}

/// Answers with a page and a status.
///
/// # Errors
/// If it cannot be written.
pub fn with_status(status: StatusCode, template: &impl Template) -> Result<HttpResponse, Failure> {
    let text = template.render().map_err(|error| Failure(Problem::failed(&error)))?;
    Ok(HttpResponse::build(status)
        .content_type("text/html; charset=utf-8")
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)))
        .body(text))
}

/// Sends a browser elsewhere after a form.
#[must_use]
pub fn see(path: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header(("location", path)).insert_header((CACHE_CONTROL, "no-store")).finish()
}

/// Why a page is not there: the same problems as the API's, as a page.
#[derive(Debug)]
pub struct Failure(pub Problem);

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    title: &'a str,
    detail: String,
    asks_for_key: bool,
}

impl Failure {
    /// As a page of its own, which needs nobody to be known.
    #[must_use]
    pub fn response(&self) -> HttpResponse {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut detail = self.0.detail.clone();
        if let Some(first) = detail.get(..1) {
            detail = format!("{}{}.", first.to_uppercase(), &self.0.detail[1..]);
        }
        let asks_for_key = status == StatusCode::UNAUTHORIZED;
        let page = ProblemPage { title: &self.0.title, detail, asks_for_key };
        with_status(status, &page).unwrap_or_else(|failure| failure.0.response())
    }
}

impl ResponseError for Failure {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        self.response()
    }
}
