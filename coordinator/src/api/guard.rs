//! Who may ask: looked at before any request is carried out.
//!
//! A request is admitted if all hold; the first that does not is the answer:
//! 1. it has one `Host`, and that names this coordinator (a page of another name that resolves to here is no page of ours);
//! 2. its `Origin`, if it has one, is this coordinator's page, and `Sec-Fetch-Site`, if it is there, says so too;
//! 3. it is for what is open to all, or shows a token or a session;
//! 4. whoever only may look asks for nothing that changes something.

use super::Serving;
use super::problem::Problem;
use crate::serve::access::{Admit, Role, Secret};
use crate::web;
use crate::web::frame::Failure;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpMessage, HttpRequest};

/// The session's cookie.
pub const COOKIE: &str = "portsweep";
/// What needs no token: whether it is alive, what it is, the door, and what the door's page looks like.
const OPEN: [&str; 4] = ["/healthz", "/readyz", "/api/v1/openapi.json", web::door::SIGN_IN];

/// Who asks, as the audit names them.
#[derive(Clone, Debug)]
pub struct Who(pub String);

/// Who looks at a page, and what they may.
#[derive(Clone, Debug)]
pub struct Asker {
    /// As the audit names them.
    pub who: String,
    /// Whether they may change something.
    pub may_change: bool,
}

impl Asker {
    /// Of a request that was admitted.
    #[must_use]
    pub fn of(request: &HttpRequest) -> Self {
        let asker = request.extensions().get::<Self>().cloned();
        asker.unwrap_or_else(|| Self { who: "anybody".to_owned(), may_change: false })
    }
}

/// The middleware. What was changed, and who was refused, is audited.
///
/// # Errors
/// Never: what is refused is answered.
pub async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let fleet = request.app_data::<Data<Serving>>().map(|serving| serving.fleet.clone());
    let what = format!("{} {}", request.method(), request.path().chars().take(128).collect::<String>());
    match admit(&request).await {
        Ok((role, who)) => {
            let is_audited = !request.method().is_safe() && !has_own_row(request.path());
            request.extensions_mut().insert(Who(who.clone()));
            request.extensions_mut().insert(Asker { who: who.clone(), may_change: role == Some(Role::Operator) });
            let response = next.call(request).await?.map_into_boxed_body();
            if let (Some(fleet), true, true) =
                (fleet, is_audited, response.status().is_success() || response.status().is_redirection())
                && let Err(error) = fleet.audit(&who, "api", &what).await
            {
                tracing::warn!(%error, who, what, "a change is not in the audit");
            }
            Ok(response)
        }
        Err(problem) => {
            let from = request.peer_addr().map_or_else(|| "unknown".to_owned(), |address| address.ip().to_string());
            if let Some(fleet) = fleet {
                fleet.refused(&from, "api", &problem.detail);
            }
            let response =
                if is_for_people(request.request()) { Failure(problem).response() } else { problem.response() };
            Ok(request.into_response(response))
        }
    }
}

/// Whether a browser asks for a page.
#[must_use]
pub fn is_for_people(request: &HttpRequest) -> bool {
    let accepts = request.headers().get(ACCEPT).and_then(|accepts| accepts.to_str().ok()).unwrap_or_default();
    !request.path().starts_with("/api/") && accepts.contains("text/html")
}

/// Whether a path is open to all.
fn is_open(request: &ServiceRequest) -> bool {
    let path = request.path();
    let is_door = path == "/" && request.query_string().split('&').any(|pair| pair.starts_with("key="));
    is_door || OPEN.contains(&path) || path.starts_with("/assets/")
}

/// Whether what is changed there leaves a row of its own.
fn has_own_row(path: &str) -> bool {
    ["/api/v1/agents", "/api/v1/join-tokens", "/agents", web::door::SIGN_IN].iter().any(|own| path.starts_with(own))
}

/// Who asks, if they may.
async fn admit(request: &ServiceRequest) -> Result<(Option<Role>, String), Problem> {
    let Some(serving) = request.app_data::<Data<Serving>>() else {
        return Err(Problem::unavailable("it is not ready yet"));
    };
    let headers = request.headers();
    let host = one(headers, &HOST)?.ok_or_else(|| Problem::bad("a request has one Host"))?.to_ascii_lowercase();
    if !serving.hosts.contains(&host) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "the Host is not this coordinator's: use --allowed-host for another",
        ));
    }
    same_origin(headers, &host)?;
    if is_open(request) {
        return Ok((None, "anybody".to_owned()));
    }
    let admitted = match secret(request, headers)? {
        Some(secret) => {
            let asked = serving.access.send(Admit(secret)).await;
            asked.map_err(|_| Problem::unavailable("the coordinator is about to end"))?
        }
        None => None,
    };
    let changes = !request.method().is_safe();
    match admitted {
        None if is_for_people(request.request()) => Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "open the address that portsweep serve printed, or sign in with its key or a token",
        )),
        None => Err(Problem::new(StatusCode::UNAUTHORIZED, "show a token: Authorization: Bearer TOKEN")),
        Some((Role::Viewer, _)) if changes => {
            Err(Problem::new(StatusCode::FORBIDDEN, "this token may look, and change nothing"))
        }
        Some((role, who)) => Ok((Some(role), who)),
    }
}

/// The one value of a header; `None` if there is none.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let text = value.to_str().ok();
            text.map(Some).ok_or_else(|| Problem::bad(format!("the header {name} is no text")))
        }
        (Some(_), Some(_)) => Err(Problem::bad(format!("a request has one {name}"))),
    }
}

fn same_origin(headers: &HeaderMap, host: &str) -> Result<(), Problem> {
    let foreign = || Problem::new(StatusCode::FORBIDDEN, "another site's page may not ask this coordinator");
    if let Some(origin) = one(headers, &ORIGIN)? {
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if !authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host)) {
            return Err(foreign());
        }
    }
    match one(headers, &HeaderName::from_static("sec-fetch-site"))? {
        None | Some("same-origin" | "none") => Ok(()),
        Some(_) => Err(foreign()),
    }
}

fn secret(request: &ServiceRequest, headers: &HeaderMap) -> Result<Option<Secret>, Problem> {
    if let Some(shown) = one(headers, &AUTHORIZATION)? {
        let token = shown.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        return Ok(token.map(|(_, token)| Secret::Bearer(token.trim().to_owned())));
    }
    Ok(request.cookie(COOKIE).map(|cookie| Secret::Session(cookie.value().to_owned())))
}
