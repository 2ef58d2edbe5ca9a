//! The door: with the key of this start, or a token, a browser gets a session; without, it sees a page that asks for one.

use super::ask::form;
use super::frame::{Failure, see};
use crate::api::Serving;
use crate::api::ask::Query;
use crate::api::guard;
use crate::api::problem::Problem;
use crate::serve::access::{Close, Open, SESSION_HOURS};
use actix_web::cookie::{Cookie, SameSite, time::Duration};
use actix_web::http::StatusCode;
use actix_web::http::header::REFERRER_POLICY;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;

/// Where a key or a token is handed in.
pub const SIGN_IN: &str = "/sign-in";

/// What somebody hands in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shown {
    key: String,
}

/// `GET /` is the overview; with `?key=` it opens a session first.
pub async fn door(request: HttpRequest, serving: web::Data<Serving>) -> Result<HttpResponse, Failure> {
    let query = Query::of(&request, &["key"])?;
    match query.text("key") {
        Some(key) => open(&serving, key).await,
        None => super::overview::overview(&request, &serving).await,
    }
}

/// `POST /sign-in`
pub async fn sign_in(
    request: HttpRequest,
    serving: web::Data<Serving>,
    body: Result<Bytes, actix_web::Error>,
) -> Result<HttpResponse, Failure> {
    let Shown { key } = form(&request, body)?;
    open(&serving, key.trim()).await
}

/// `POST /sign-out`
pub async fn sign_out(request: HttpRequest, serving: web::Data<Serving>) -> Result<HttpResponse, Failure> {
    if let Some(cookie) = request.cookie(guard::COOKIE) {
        let closed = serving.access.send(Close(cookie.value().to_owned())).await;
        closed.map_err(|_| ending())?.map_err(|error| Problem::failed(&error))?;
    }
    let mut gone = Cookie::build(guard::COOKIE, "").path("/").finish();
    gone.make_removal();
    let mut answer = see("/");
    answer.add_cookie(&gone).map_err(|error| Problem::failed(&error))?;
    Ok(answer)
}

fn ending() -> Problem {
    Problem::unavailable("the coordinator is about to end")
}

async fn open(serving: &Serving, key: &str) -> Result<HttpResponse, Failure> {
    let opened = serving.access.send(Open(key.to_owned())).await.map_err(|_| ending())?;
    let Some(session) = opened.map_err(|error| Problem::failed(&error))? else {
        let detail =
            "the key is of another start, or the token was taken back: use the address that serve printed last";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, detail).into());
    };
    let cookie = Cookie::build(guard::COOKIE, session)
        .http_only(true)
        .secure(serving.pin.is_some())
        .same_site(SameSite::Strict)
        .path("/")
        .max_age(Duration::hours(SESSION_HOURS))
        .finish();
    // The key goes from the address bar and from what a browser tells others.
    let mut answer = see("/");
    answer.add_cookie(&cookie).map_err(|error| Problem::failed(&error))?;
    answer.headers_mut().insert(REFERRER_POLICY, actix_web::http::header::HeaderValue::from_static("no-referrer"));
    Ok(answer)
}
