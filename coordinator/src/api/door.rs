//! What is open to all: whether the coordinator is alive and ready, and the door through which a browser comes in.

use super::ask::Query;
use super::problem::Problem;
use super::{Serving, guard};
use crate::serve::access::{Open, SESSION_HOURS};
use actix_web::cookie::{Cookie, SameSite, time::Duration};
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, LOCATION, REFERRER_POLICY};
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

/// With the key of this start it opens a session; without one it says what is here.
pub async fn door(request: HttpRequest, serving: web::Data<Serving>) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &["key"])?;
    let Some(key) = query.text("key") else {
        let text =
            "This is a portsweep coordinator. Its API is under /api/v1; its description is /api/v1/openapi.json.\n";
        return Ok(HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(text));
    };
    let opened = serving.access.send(Open(key.to_owned())).await;
    let opened = opened.map_err(|_| Problem::unavailable("the coordinator is about to end"))?;
    let Some(session) = opened.map_err(|error| Problem::failed(&error))? else {
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "the key is of another start: use the address that serve printed last",
        ));
    };
    let cookie = Cookie::build(guard::COOKIE, session)
        .http_only(true)
        .secure(serving.pin.is_some())
        .same_site(SameSite::Strict)
        .path("/")
        .max_age(Duration::hours(SESSION_HOURS))
        .finish();
    // The key goes from the address bar and from what a browser tells others.
    Ok(HttpResponse::SeeOther()
        .cookie(cookie)
        .insert_header((LOCATION, "/"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .finish())
}
