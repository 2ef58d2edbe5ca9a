//! What a form asks: read strictly, as queries and JSON are.

use crate::api::ask::BODY_BYTES_MAX;
use crate::api::problem::Problem;
use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{Bytes, Query};
use serde::de::DeserializeOwned;

/// A body that is a form, `application/x-www-form-urlencoded`. What comes twice, or is unknown to a strict `T`, is refused.
///
/// # Errors
/// 415 for another kind, 413 for one that is too long, 400 that says what is wrong with it.
pub fn form<T: DeserializeOwned>(request: &HttpRequest, body: Result<Bytes, actix_web::Error>) -> Result<T, Problem> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send it as a form of a page does"));
    }
    let body = body.map_err(|error| match error.as_response_error().status_code() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a body has at most {BODY_BYTES_MAX} bytes"))
        }
        _ => Problem::bad("the body does not come whole"),
    })?;
    let text = std::str::from_utf8(&body).map_err(|_| Problem::bad("the form is no text"))?;
    query(text)
}

/// What stands in a query or a form.
///
/// # Errors
/// A 400 that says what is wrong.
pub fn query<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let read = Query::<T>::from_query(text).map(Query::into_inner);
    read.map_err(|error| Problem::bad(format!("the form cannot be read: {error}")))
}
