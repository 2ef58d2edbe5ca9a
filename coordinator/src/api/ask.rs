//! What a request asks: its query and its body, read strictly. What is unknown, comes twice or is too long is refused by name.

use super::problem::Problem;
use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::Bytes;
use protocol::id::ScanId;
use protocol::quote::Quoted;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

/// The longest body that is JSON.
pub const BODY_BYTES_MAX: usize = 256 << 10;
/// The longest query.
const QUERY_BYTES_MAX: usize = 4 << 10;

/// The parameters of a query, each of them known, none twice.
#[derive(Debug)]
pub struct Query(BTreeMap<&'static str, String>);

impl Query {
    /// Reads the query of a request that may have these parameters.
    ///
    /// # Errors
    /// A 400 that names the parameter.
    pub fn of(request: &HttpRequest, known: &[&'static str]) -> Result<Self, Problem> {
        Self::read(request.query_string(), known)
    }

    /// Reads a query that may have these parameters.
    ///
    /// # Errors
    /// A 400 that names the parameter.
    pub fn read(text: &str, known: &[&'static str]) -> Result<Self, Problem> {
        if text.len() > QUERY_BYTES_MAX {
            return Err(Problem::bad(format!("the query is longer than {QUERY_BYTES_MAX} bytes")));
        }
        let pairs: Vec<(String, String)> = actix_web::web::Query::from_query(text)
            .map(actix_web::web::Query::into_inner)
            .map_err(|_| Problem::bad("the query cannot be read: write name=value, joined by &"))?;
        let mut parameters = BTreeMap::new();
        for (name, value) in pairs {
            let Some(known) = known.iter().find(|known| **known == name) else {
                let shown = Quoted::new(&name);
                let names = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(Problem::bad(format!("there is no parameter {shown} here: there are {names}")));
            };
            if parameters.insert(*known, value).is_some() {
                return Err(Problem::bad(format!("the parameter {known} stands there twice")));
            }
        }
        Ok(Self(parameters))
    }

    /// The text of a parameter, if it is there.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A parameter's value, read by `read`.
    ///
    /// # Errors
    /// A 400 that names it.
    pub fn read_as<T, E: Display>(
        &self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        read(text).map(Some).map_err(|why| Problem::bad(format!("{} is no value for {name}: {why}", Quoted::new(text))))
    }

    /// A whole number, `least` to `most`.
    ///
    /// # Errors
    /// A 400 that names it.
    pub fn whole<T: FromStr + PartialOrd + Display + Copy>(
        &self,
        name: &str,
        least: T,
        most: T,
    ) -> Result<Option<T>, Problem> {
        self.read_as(name, |text| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse()
                .ok()
                .filter(|number| digits && (least..=most).contains(number))
                .ok_or_else(|| format!("write a whole number, {least} to {most}"))
        })
    }

    /// One of these words.
    ///
    /// # Errors
    /// A 400 that names it.
    pub fn one_of<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, Problem> {
        self.read_as(name, |text| {
            let found = words.iter().find(|(word, _)| *word == text).map(|(_, meant)| *meant);
            found.ok_or_else(|| {
                let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                format!("write {}", words.join(", "))
            })
        })
    }
}

/// The scan that a path names.
///
/// # Errors
/// A 404: what is no id names no scan.
pub fn scan_id(text: &str) -> Result<ScanId, Problem> {
    let is_written_as_shown = |id: &ScanId| id.to_string() == text.to_ascii_lowercase();
    text.parse().ok().filter(is_written_as_shown).ok_or_else(|| no_scan(text))
}

/// There is no scan of that name.
#[must_use]
pub fn no_scan(name: &str) -> Problem {
    Problem::missing(format!("there is no scan {}: GET /api/v1/scans lists them", Quoted::new(name)))
}

/// What a body is said to be, without its parameters; empty if nothing is said.
#[must_use]
pub fn content_type(request: &HttpRequest) -> &str {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim()
}

/// A body that is JSON.
///
/// # Errors
/// 415 for another kind, 413 for one that is too long, 400 that says what is wrong with it.
pub fn json<T: DeserializeOwned>(request: &HttpRequest, body: Result<Bytes, actix_web::Error>) -> Result<T, Problem> {
    if !content_type(request).eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send it with Content-Type: application/json"));
    }
    let body = body.map_err(|error| match error.as_response_error().status_code() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a body has at most {BODY_BYTES_MAX} bytes"))
        }
        _ => Problem::bad("the body does not come whole"),
    })?;
    serde_json::from_slice(&body).map_err(|error| Problem::bad(format!("the body cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Query::read(text, &["cursor", "limit"]).expect_err("a refusal").detail
    }

    #[test]
    fn a_query_is_read_strictly() {
        let query = Query::read("limit=5&cursor=a%2Fb", &["cursor", "limit"]).expect("a query");
        assert_eq!((query.text("cursor"), query.whole("limit", 1, 10).expect("a number")), (Some("a/b"), Some(5)));
        assert_eq!(refused("limits=5"), "there is no parameter \"limits\" here: there are cursor, limit");
        assert_eq!(refused("limit=5&limit=6"), "the parameter limit stands there twice");
        assert!(refused(&format!("cursor={}", "a".repeat(5_000))).contains("longer than"));
    }

    #[test]
    fn bad_input_94_numbers_are_whole_and_in_their_range() {
        for wrong in
            ["-1", "0", "11", "18446744073709551615", "99999999999999999999", "1e1", "%2B1", "", "1;DROP", "%D9%A1"]
        {
            let query = Query::read(&format!("limit={wrong}"), &["limit"]).expect("a query");
            let problem = query.whole::<u64>("limit", 1, 10).expect_err("a refusal");
            assert!(
                problem.status == 400 && problem.detail.contains("limit: write a whole number, 1 to 10"),
                "{wrong}"
            );
        }
    }
}
