//! What is open to all: whether the coordinator is alive and ready, and what the API is.

use super::Serving;
use super::ask::Query;
use super::problem::Problem;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

/// How the coordinator is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`, or `ready`.
    pub status: &'static str,
    /// Its version.
    pub version: &'static str,
}

/// The process answers.
///
/// # Errors
/// A parameter that is unknown.
pub async fn healthz(request: HttpRequest) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    Ok(HttpResponse::Ok().json(Health { status: "ok", version: env!("CARGO_PKG_VERSION") }))
}

/// What the API is, as OpenAPI.
///
/// # Errors
/// A parameter that is unknown.
pub async fn description(request: HttpRequest) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    Ok(HttpResponse::Ok().content_type("application/json").body(super::openapi::text()))
}

/// Scans are taken and carried out.
pub async fn readyz(request: HttpRequest, serving: web::Data<Serving>) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let feed = serving.feed.borrow();
    match (&feed.failure, feed.closing) {
        (Some(failure), _) => Err(Problem::unavailable(failure.clone())),
        (None, true) => Err(Problem::unavailable("the coordinator is about to end")),
        (None, false) => Ok(HttpResponse::Ok().json(Health { status: "ready", version: env!("CARGO_PKG_VERSION") })),
    }
}
