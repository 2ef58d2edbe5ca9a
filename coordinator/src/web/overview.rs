//! The overview: what runs, how far, how fast, what was found last, and which agents are there. Empty, it is where one begins.

use super::agents::Shown;
use super::frame::{Failure, Frame, page};
use super::new_scan::Form;
use super::summary::Summary;
use crate::api::Serving;
use crate::api::shape::Finding;
use crate::scan::wall;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

/// How many scans that ended are shown.
const ENDED_MAX: usize = 8;
/// How many findings are shown of all running scans together.
const RECENT_MAX: usize = 20;

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    frame: Frame,
    running: Vec<Summary>,
    ended: Vec<Summary>,
    recent: Vec<Recent>,
    agents: Vec<Shown>,
    form: Form,
}

/// Something that was found, and by which scan.
pub struct Recent {
    /// The scan.
    pub scan: String,
    /// The address.
    pub address: String,
    /// `22/tcp`, or `ping`.
    pub port: String,
    /// `open` or `up`.
    pub state: String,
    /// Why.
    pub reason: String,
    /// The round-trip time.
    pub rtt: String,
}

impl Recent {
    /// Of a finding.
    #[must_use]
    pub fn new(scan: &str, finding: &Finding) -> Self {
        Self {
            scan: scan.to_owned(),
            address: finding.address.to_string(),
            port: finding.port.map_or_else(|| "ping".to_owned(), |port| format!("{port}/tcp")),
            state: finding.state.clone(),
            reason: finding.reason.clone(),
            rtt: crate::report::quantity::round_trip(finding.rtt_us),
        }
    }
}

/// The overview.
///
/// # Errors
/// If the agents cannot be read.
pub async fn overview(request: &HttpRequest, serving: &Serving) -> Result<HttpResponse, Failure> {
    let agents = Shown::all(serving).await?;
    let template = {
        let feed = serving.feed.borrow();
        let now = wall();
        let summary = |scan| Summary::new(scan, &feed, now);
        let of_running = feed.scans().rev().filter(|scan| !scan.is_over());
        let recent = of_running.flat_map(|scan| {
            let history = feed.history(scan.key());
            history.into_iter().flat_map(|history| history.recent().map(|finding| Recent::new(&scan.id, finding)))
        });
        Overview {
            frame: Frame::new(request, "Overview", "Overview").following("all"),
            running: feed.scans().rev().filter(|scan| !scan.is_over()).map(summary).collect(),
            ended: feed.scans().rev().filter(|scan| scan.is_over()).take(ENDED_MAX).map(summary).collect(),
            recent: recent.take(RECENT_MAX).collect(),
            agents,
            form: Form::first(),
        }
    };
    page(&template)
}

#[derive(Template)]
#[template(path = "scans.html")]
struct Scans {
    frame: Frame,
    scans: Vec<Summary>,
}

/// `GET /scans`
pub async fn scans(request: HttpRequest, serving: web::Data<Serving>) -> Result<HttpResponse, Failure> {
    crate::api::ask::Query::of(&request, &[])?;
    let template = {
        let feed = serving.feed.borrow();
        let now = wall();
        let frame = Frame::new(&request, "Scans", "Scans").following("all");
        Scans { frame, scans: feed.scans().rev().map(|scan| Summary::new(scan, &feed, now)).collect() }
    };
    page(&template)
}
