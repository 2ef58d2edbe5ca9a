//! The form for a new scan: checked as it is typed, with what it would be, before anything is sent. It works without scripts too: its
//! own address, with what was typed in the query, is the check.

use super::ask::{form, query};
use super::frame::{Failure, Frame, page, see, with_status};
use super::words::number;
use crate::api::Serving;
use crate::api::scans::{Wanted, checked, take};
use crate::cli::{ScanRequest, ScanSpec};
use crate::report::quantity::{duration, grouped};
use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use serde::Deserialize;

/// How many ranges of addresses are listed.
const RANGES_MAX: usize = 12;

/// What is typed. Everything is text, as forms have it; boxes are there when ticked.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Form {
    /// Target specs, by spaces, commas or lines.
    pub targets: String,
    /// Likewise, never probed.
    pub exclude: String,
    /// Ports, or nothing for our 1,000.
    pub ports: String,
    ping: Option<String>,
    tcp: Option<String>,
    discover: Option<String>,
    rate: String,
    per_host_rate: String,
    timeout_ms: String,
    passes: String,
    weight: String,
    vantages: String,
    yes: Option<String>,
    /// Sent by the button that checks.
    check: Option<String>,
}

/// The specs in a text: by spaces, commas or lines. A comma within octets (`192.0.2.1,3`) stays where digits follow without a space.
#[must_use]
pub fn specs(text: &str) -> Vec<String> {
    let words = text.split(|c: char| c.is_whitespace() || c == ';');
    words.map(|word| word.trim_matches(',')).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

impl Form {
    /// What one begins with: this machine.
    #[must_use]
    pub fn first() -> Self {
        let on = || Some("on".to_owned());
        Self { targets: "127.0.0.1".to_owned(), ping: on(), tcp: on(), ..Self::default() }
    }

    fn asks_ping(&self) -> bool {
        self.ping.is_some()
    }

    fn asks_tcp(&self) -> bool {
        self.tcp.is_some()
    }

    fn discovers(&self) -> bool {
        self.discover.is_some()
    }

    fn says_yes(&self) -> bool {
        self.yes.is_some()
    }

    /// The scan that it asks for.
    fn spec(&self) -> Result<ScanSpec, String> {
        fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<Option<T>, String> {
            match text.trim() {
                "" => Ok(None),
                text => text.parse().map(Some).map_err(|_| format!("{name}: write a number, or nothing")),
            }
        }
        let kinds = [("ping", self.asks_ping()), ("tcp", self.asks_tcp())];
        let kinds: Vec<_> =
            kinds.into_iter().filter(|(_, is_asked)| *is_asked).map(|(kind, _)| kind.to_owned()).collect();
        if kinds.is_empty() {
            return Err("choose ping, tcp or both".to_owned());
        }
        Ok(ScanSpec {
            targets: specs(&self.targets),
            exclude: specs(&self.exclude),
            ports: Some(self.ports.split_whitespace().collect::<String>()).filter(|ports| !ports.is_empty()),
            kinds: if kinds.len() == 2 { Vec::new() } else { kinds },
            discover: self.discovers(),
            rate: number("rate", &self.rate)?,
            per_host_rate: number("rate per host", &self.per_host_rate)?,
            timeout_ms: number("timeout", &self.timeout_ms)?,
            passes: number("passes", &self.passes)?,
            weight: number("weight", &self.weight)?,
            vantages: specs(&self.vantages.replace(',', " ")),
            yes: self.says_yes(),
            ..ScanSpec::default()
        })
    }
}

/// What the scan would be.
enum Preview {
    /// Nothing was typed yet.
    Nothing,
    /// It cannot be: why.
    Wrong(String),
    /// It can.
    Good(Box<Good>),
}

struct Good {
    addresses: String,
    slots: String,
    targets: String,
    least: String,
    most: String,
    ranges: String,
    excluded: String,
    names: Vec<String>,
    notices: Vec<String>,
    command: String,
}

impl Good {
    fn new(request: &ScanRequest) -> Self {
        let size = request.size();
        let slots = size.targets.checked_div(size.addresses).unwrap_or(0);
        Self {
            addresses: grouped(size.addresses),
            slots: grouped(slots),
            targets: grouped(size.targets),
            least: duration(size.estimate),
            most: duration(size.most),
            ranges: ranges(request.targets()),
            excluded: ranges(request.exclude()),
            names: request
                .names()
                .iter()
                .map(|(address, names)| format!("{} is {address}", names.join(", ")))
                .collect(),
            notices: request.notices().to_vec(),
            command: request.command().to_owned(),
        }
    }
}

fn ranges(set: &protocol::range_set::AddressSet) -> String {
    let shown = set
        .ranges()
        .take(RANGES_MAX)
        .map(|(low, high)| if low == high { low.to_string() } else { format!("{low}-{high}") });
    let mut text = shown.collect::<Vec<_>>().join(", ");
    let more = set.range_count().saturating_sub(RANGES_MAX);
    if more > 0 {
        text.push_str(&format!(" and {} more ranges", number(more as u64)));
    }
    text
}

#[derive(Template)]
#[template(path = "new_scan.html")]
struct Page {
    frame: Frame,
    form: Form,
    preview: Preview,
}

/// `GET /scans/new`: with nothing typed it is filled with this machine.
pub async fn blank(request: HttpRequest, serving: web::Data<Serving>) -> Result<HttpResponse, Failure> {
    let typed = request.query_string();
    let form = if typed.is_empty() { Form::first() } else { query(typed)? };
    let preview = preview(&serving, &form).await;
    page(&Page { frame: Frame::new(&request, "New scan", ""), form, preview })
}

async fn preview(serving: &web::Data<Serving>, form: &Form) -> Preview {
    if form.targets.trim().is_empty() {
        return Preview::Nothing;
    }
    let wanted = match form.spec() {
        Ok(spec) => Wanted::Spec(Box::new(spec)),
        Err(why) => return Preview::Wrong(why),
    };
    match checked(serving, wanted).await {
        Ok(request) => Preview::Good(Box::new(Good::new(&request))),
        Err(problem) => Preview::Wrong(problem.detail),
    }
}

/// `POST /scans`: starts it, or shows the form again with what is wrong.
pub async fn start(
    request: HttpRequest,
    serving: web::Data<Serving>,
    body: Result<Bytes, actix_web::Error>,
) -> Result<HttpResponse, Failure> {
    let typed: Form = form(&request, body)?;
    let wrong = match typed.spec() {
        Ok(spec) => match take(&serving, Wanted::Spec(Box::new(spec))).await {
            Ok(submitted) => return Ok(see(&format!("/scans/{}?did=started", submitted.scan.id))),
            Err(problem) if problem.status == StatusCode::BAD_REQUEST => problem.detail,
            Err(problem) => return Err(problem.into()),
        },
        Err(why) => why,
    };
    let frame = Frame::new(&request, "New scan", "");
    with_status(StatusCode::BAD_REQUEST, &Page { frame, form: typed, preview: Preview::Wrong(wrong) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_split_where_a_person_means_it() {
        assert_eq!(
            specs(" 192.0.2.1, 192.0.2.5\n198.51.100.0/24;example.test "),
            ["192.0.2.1", "192.0.2.5", "198.51.100.0/24", "example.test"]
        );
        assert_eq!(specs("192.0.2.1,3,5"), ["192.0.2.1,3,5"], "nmap's list of octets");
        assert!(specs(" ,, ").is_empty());
    }

    #[test]
    fn a_form_is_the_scan_that_it_shows() {
        let form: Form = query("targets=127.0.0.1&ports=22%2C+80&tcp=on&rate=1000&exclude=").expect("a form");
        let spec = form.spec().expect("a scan");
        assert_eq!(
            (spec.ports.as_deref(), spec.rate, spec.kinds),
            (Some("22,80"), Some(1000.0), vec!["tcp".to_owned()])
        );
        assert_eq!(
            Form { rate: "fast".to_owned(), ..Form::first() }.spec().unwrap_err(),
            "rate: write a number, or nothing"
        );
        assert_eq!(Form { ping: None, tcp: None, ..Form::first() }.spec().unwrap_err(), "choose ping, tcp or both");
        assert!(query::<Form>("targets=127.0.0.1&output=%2Fetc%2Fpasswd").is_err(), "what is unknown is refused");
    }
}
