//! A scan's page: how far it is, how fast it goes and through whom, what it finds, what it did not see and why, and the levers on it.

use super::ask::{form, query};
use super::chart::Curve;
use super::frame::{Failure, Frame, page, see};
use super::overview::Recent;
use super::summary::Summary;
use super::words::{number, per_second};
use crate::api::ask::scan_id;
use crate::api::change::{carry_out, exclude_from, rate};
use crate::api::problem::Problem;
use crate::api::shape::Changed;
use crate::api::{Serving, scans};
use crate::scan::wall;
use crate::serve;
use crate::state::StoredRequest;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use coordinator_core::control::Change;
use coordinator_core::store::Store;
use portsweep_agent::clock::Clock;
use protocol::id::ScanId;
use protocol::plan::Plan;
use serde::Deserialize;
use std::io;

/// How many open leases are listed.
const LEASES_MAX: usize = 20;

#[derive(Template)]
#[template(path = "scan.html")]
struct Page {
    frame: Frame,
    scan: Summary,
    facts: Stored,
    /// The rate over all and that to one host, as their fields hold them: what a form does not change it sends as it is.
    limits: [String; 2],
    curve: Option<Curve>,
    throughput: Vec<Share>,
    recent: Vec<Recent>,
}

/// What an agent does for the scan.
struct Share {
    agent: String,
    rate: String,
    settled: String,
    /// Its part of the fastest agent's rate, in thousandths.
    width: u64,
}

/// What is read of the store.
#[derive(Default)]
struct Stored {
    plan: String,
    seed: u64,
    ports: String,
    exclude: String,
    discover: bool,
    vantages: Vec<String>,
    leases: Vec<Lease>,
    leases_more: usize,
}

/// A lease that is open.
struct Lease {
    epoch: u64,
    cohort: u64,
    pass: u8,
    targets: String,
    /// Its holder; `None` for one that was returned.
    agent: Option<String>,
    ends: u8,
}

impl Stored {
    fn read(store: &dyn Store, id: ScanId) -> io::Result<Self> {
        let record = serve::record(store, id).map_err(io::Error::other)?;
        let request = StoredRequest::read(&record).map_err(io::Error::other)?;
        let plan = Plan::try_from(record.plan).map_err(io::Error::other)?;
        let agents = store.agents(id).map_err(io::Error::other)?;
        let leases = store.leases(id).map_err(io::Error::other)?;
        let leases_more = leases.len().saturating_sub(LEASES_MAX);
        let shown = leases.into_iter().take(LEASES_MAX).map(|lease| Lease {
            epoch: lease.epoch.get(),
            cohort: lease.shard.cohort,
            pass: lease.shard.pass,
            targets: number(lease.shard.len().into()),
            agent: lease.holder.and_then(|_| agents.get(lease.agent as usize)).map(|agent| agent.name.clone()),
            ends: lease.ends,
        });
        Ok(Self {
            plan: plan.digest().to_string(),
            seed: plan.seed(),
            ports: plan.slots().ports().to_string(),
            exclude: request.exclude.join(", "),
            discover: plan.slots().discover(),
            vantages: plan.vantages().iter().map(ToString::to_string).collect(),
            leases: shown.collect(),
            leases_more,
        })
    }
}

/// What the page is told of the change that led to it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    did: Option<String>,
}

/// `GET /scans/{id}`
pub async fn show(
    request: HttpRequest,
    serving: web::Data<Serving>,
    id: web::Path<String>,
) -> Result<HttpResponse, Failure> {
    let id = scan_id(&id)?;
    let Told { did } = query(request.query_string())?;
    let notice =
        did.as_deref().and_then(|did| DEEDS.iter().find(|(name, _)| *name == did)).map(|(_, says)| (*says).to_owned());
    scans::known(&serving, id)?;
    let read = serving.store.look(move |store| Stored::read(store, id)).await;
    let facts = read.map_err(|error| Problem::failed(&error))?.map_err(|error| Problem::failed(&error))?;
    let shown = scans::known(&serving, id)?;
    let template = {
        let feed = serving.feed.borrow();
        let (history, now) = (feed.history(id), Clock::Monotonic.now());
        let frame = Frame::new(&request, format!("Scan of {}", shown.specs.join(", ")), "Scans");
        let is_over = shown.is_over();
        let curve = history.and_then(|history| {
            let (each, rates) = history.curve(now);
            Curve::new(each, &rates).filter(|_| !is_over)
        });
        let parts: Vec<_> = history.map(|history| history.throughput(now).collect()).unwrap_or_default();
        let most = parts.iter().map(|part| part.rate_per_s).fold(0.001, f64::max);
        let throughput = parts.iter().map(|part| Share {
            agent: part.agent.clone(),
            rate: if is_over { "0/s".to_owned() } else { per_second(part.rate_per_s) },
            settled: number(part.settled),
            width: (part.rate_per_s / most * 1_000.0) as u64,
        });
        Page {
            scan: Summary::new(&shown, &feed, wall()),
            frame: frame.following(format!("scan={id}")).noting(notice),
            facts,
            limits: [shown.rate, shown.per_host_rate].map(|rate| rate.map(|rate| rate.to_string()).unwrap_or_default()),
            curve,
            throughput: throughput.collect(),
            recent: history
                .map(|history| history.recent().map(|finding| Recent::new(&shown.id, finding)).collect())
                .unwrap_or_default(),
        }
    };
    page(&template)
}

/// What was done to a scan, and how its page says so.
const DEEDS: [(&str, &str); 8] = [
    ("started", "The scan is stored, and begins."),
    ("paused", "It waits: no agent sends anything for it any more."),
    ("resumed", "It goes on."),
    ("cancelled", "It is ended for good. What it found stays."),
    ("changed", "The change is in force at every agent."),
    ("excluded", "The exclusion is in force at every agent."),
    (
        "waits",
        "The change is kept. It is not in force yet at the agents named below: there it holds once they acknowledge it, or when their right has ended.",
    ),
    ("signed", "Signed in."),
];

fn done(id: ScanId, deed: &str, changed: &Changed) -> HttpResponse {
    let deed = if changed.in_force { deed } else { "waits" };
    see(&format!("/scans/{id}?did={deed}"))
}

async fn plain(serving: &Serving, id: &str, change: Change, deed: &str) -> Result<HttpResponse, Failure> {
    let id = scan_id(id)?;
    let changed = carry_out(serving, id, vec![change]).await?;
    Ok(done(id, deed, &changed))
}

/// `POST /scans/{id}/pause`
pub async fn pause(serving: web::Data<Serving>, id: web::Path<String>) -> Result<HttpResponse, Failure> {
    plain(&serving, &id, Change::Pause, "paused").await
}

/// `POST /scans/{id}/resume`
pub async fn resume(serving: web::Data<Serving>, id: web::Path<String>) -> Result<HttpResponse, Failure> {
    plain(&serving, &id, Change::Resume, "resumed").await
}

/// `POST /scans/{id}/cancel`
pub async fn cancel(serving: web::Data<Serving>, id: web::Path<String>) -> Result<HttpResponse, Failure> {
    plain(&serving, &id, Change::Cancel, "cancelled").await
}

/// Limits; what is empty is no limit.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rates {
    rate: String,
    per_host_rate: String,
}

/// `POST /scans/{id}/rate`
pub async fn set(
    request: HttpRequest,
    serving: web::Data<Serving>,
    id: web::Path<String>,
    body: Result<Bytes, actix_web::Error>,
) -> Result<HttpResponse, Failure> {
    let id = scan_id(&id)?;
    let Rates { rate: over_all, per_host_rate } = form(&request, body)?;
    let read = |name: &str, text: &str| match text.trim() {
        "" => Ok(None),
        text => {
            let number =
                text.parse().map_err(|_| Problem::bad(format!("{name}: write packets per second, or nothing")));
            rate(name, Some(number?))
        }
    };
    let changes =
        vec![Change::Rate(read("rate", &over_all)?), Change::PerHostRate(read("rate per host", &per_host_rate)?)];
    let changed = carry_out(&serving, id, changes).await?;
    Ok(done(id, "changed", &changed))
}

/// Addresses that are probed no more.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exclude {
    exclude: String,
}

/// `POST /scans/{id}/exclude`
pub async fn exclude(
    request: HttpRequest,
    serving: web::Data<Serving>,
    id: web::Path<String>,
    body: Result<Bytes, actix_web::Error>,
) -> Result<HttpResponse, Failure> {
    let id = scan_id(&id)?;
    scans::known(&serving, id)?;
    let Exclude { exclude } = form(&request, body)?;
    let specs = super::new_scan::specs(&exclude);
    let changed = exclude_from(&serving, id, specs).await?;
    Ok(done(id, "excluded", &changed))
}
