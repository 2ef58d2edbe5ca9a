//! Agents, in the manner of Prometheus' targets page: how each is, since when, what it may, what it does; and how another one joins.

use super::ask::{form, query};
use super::frame::{Failure, Frame, page, see};
use super::words::{ago_s, number, per_second};
use crate::api::Serving;
use crate::api::agents::refused;
use crate::api::guard::Who;
use crate::api::problem::Problem;
use crate::fleet::roster::Standing;
use crate::fleet::{AgentView, TOKEN_TTL};
use crate::report::quantity::round_trip;
use crate::scan::wall;
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use coordinator_core::store::{Store, StoreError};
use jiff::Timestamp;
use portsweep_agent::clock::Clock;
use protocol::enrol::Label;
use protocol::id::ScanId;
use protocol::quote::Quoted;
use serde::Deserialize;
use std::collections::BTreeMap;

/// An agent, as it is shown.
pub struct Shown {
    /// Its name.
    pub name: String,
    /// `connected`, `away`, `resting`, `draining`, `drained`, `revoked`, `copied key`.
    pub state: &'static str,
    /// Since when, in words.
    pub since: String,
    /// From where it sees.
    pub vantage: Option<String>,
    /// Its version.
    pub software: String,
    /// How it asks for life.
    pub ping_method: String,
    /// What it may probe.
    pub allow: Vec<String>,
    /// The round-trip time of its link.
    pub rtt: Option<String>,
    /// How fast it probes now.
    pub rate: String,
    /// How many leases it has open.
    pub leases: usize,
    /// What last went wrong, and when.
    pub error: Option<(String, String)>,
    /// Its labels.
    pub labels: Vec<String>,
    /// From where it connected.
    pub peer: Option<String>,
    /// Until when its certificate holds.
    pub certificate: Option<String>,
    /// When it joined.
    pub joined: Option<String>,
    /// Whether it is that of the coordinator's process, of which nothing can be changed.
    pub is_own: bool,
    /// Whether it gets no work.
    pub is_drained: bool,
}

impl Shown {
    /// The coordinator's own, then the others by name.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn all(serving: &Serving) -> Result<Vec<Self>, Failure> {
        let others = serving.fleet.agents().await.map_err(refused)?;
        let leases = open_leases(serving).await?;
        let mut shown = vec![Self::own(serving)];
        shown.extend(others.into_iter().map(|agent| Self::other(serving, agent, wall())));
        for agent in &mut shown {
            agent.rate = rate(serving, &agent.name);
            agent.leases = leases.get(&agent.name).copied().unwrap_or(0);
        }
        Ok(shown)
    }

    fn own(serving: &Serving) -> Self {
        let own = &serving.own;
        Self {
            name: own.name.clone(),
            state: "connected",
            since: "in the coordinator's own process".to_owned(),
            vantage: Some(own.vantage.clone()),
            software: own.software.clone(),
            ping_method: own.ping_method.clone(),
            allow: own.allow.clone(),
            rtt: None,
            rate: String::new(),
            leases: 0,
            error: None,
            labels: Vec::new(),
            peer: None,
            certificate: None,
            joined: None,
            is_own: true,
            is_drained: false,
        }
    }

    fn other(serving: &Serving, agent: AgentView, now: Timestamp) -> Self {
        let rests = serving.feed.borrow().rests_until(&agent.name);
        let state = match agent.standing {
            Standing::Revoked => "revoked",
            Standing::Copied => "copied key",
            Standing::Good if agent.drained && serving.feed.borrow().is_draining(&agent) => "draining",
            Standing::Good if agent.drained => "drained",
            Standing::Good if rests.is_some() => "resting",
            Standing::Good if agent.connected => "connected",
            Standing::Good => "away",
        };
        let since = match (agent.connected, agent.connected_at, agent.seen_at) {
            (true, Some(at), _) => format!("connected {}", ago_s(at, now)),
            (_, _, Some(at)) => format!("last heard {}", ago_s(at, now)),
            _ => "never connected".to_owned(),
        };
        Self {
            state,
            since,
            vantage: Some(agent.vantage),
            software: agent.software,
            ping_method: agent.ping_method.unwrap_or_default(),
            allow: agent.allow,
            rtt: agent.rtt_us.map(round_trip),
            rate: String::new(),
            leases: 0,
            error: agent.error.map(|error| (error, agent.error_at.map_or_else(String::new, |at| ago_s(at, now)))),
            labels: agent.labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect(),
            peer: agent.peer,
            certificate: Timestamp::from_second(agent.certificate_ends_at).ok().map(super::words::moment),
            joined: Some(ago_s(agent.joined_at, now)),
            is_own: false,
            is_drained: agent.drained,
            name: agent.name,
        }
    }
}

/// What an agent probes now, over all scans, in words.
fn rate(serving: &Serving, name: &str) -> String {
    let feed = serving.feed.borrow();
    let now = Clock::Monotonic.now();
    let running = feed.scans().filter(|scan| !scan.is_over()).filter_map(|scan| feed.history(scan.key()));
    per_second(
        running
            .flat_map(|history| history.throughput(now))
            .filter(|part| part.agent == name)
            .map(|part| part.rate_per_s)
            .sum(),
    )
}

/// How many leases each agent has open, by its name.
async fn open_leases(serving: &Serving) -> Result<BTreeMap<String, usize>, Failure> {
    let running: Vec<ScanId> =
        serving.feed.borrow().scans().filter(|scan| !scan.is_over()).map(crate::api::shape::Scan::key).collect();
    if running.is_empty() {
        return Ok(BTreeMap::new());
    }
    let counted = serving.store.look(move |store| count(store, &running)).await;
    Ok(counted.map_err(|error| Problem::failed(&error))?.map_err(|error| Problem::failed(&error))?)
}

fn count(store: &dyn Store, scans: &[ScanId]) -> Result<BTreeMap<String, usize>, StoreError> {
    let mut counts = BTreeMap::new();
    for scan in scans {
        let agents = store.agents(*scan)?;
        for lease in store.leases(*scan)?.into_iter().filter(|lease| lease.holder.is_some()) {
            if let Some(agent) = agents.get(lease.agent as usize) {
                *counts.entry(agent.name.clone()).or_default() += 1;
            }
        }
    }
    Ok(counts)
}

#[derive(Template)]
#[template(path = "agents.html")]
struct List {
    frame: Frame,
    agents: Vec<Shown>,
    minutes: u64,
}

/// `GET /agents`
pub async fn list(request: HttpRequest, serving: web::Data<Serving>) -> Result<HttpResponse, Failure> {
    crate::api::ask::Query::of(&request, &[])?;
    let agents = Shown::all(&serving).await?;
    let frame = Frame::new(&request, "Agents", "Agents").following("all");
    page(&List { frame, agents, minutes: TOKEN_TTL.as_secs() / 60 })
}

#[derive(Template)]
#[template(path = "agent.html")]
struct One {
    frame: Frame,
    agent: Shown,
}

/// What the page is told of the change that led to it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    did: Option<String>,
}

/// `GET /agents/{name}`
pub async fn show(
    request: HttpRequest,
    serving: web::Data<Serving>,
    name: web::Path<String>,
) -> Result<HttpResponse, Failure> {
    let Told { did } = query(request.query_string())?;
    let notice = match did.as_deref() {
        Some("labelled") => Some("Its labels are set."),
        Some("drained") => Some("It gets no more work; what it has in hand is committed."),
        Some("undrained") => Some("It gets work again."),
        Some("revoked") => Some("It may not connect any more: its session is closed."),
        _ => None,
    };
    let mut agents = Shown::all(&serving).await?;
    let at = agents.iter().position(|agent| agent.name == *name);
    let agent = at
        .map(|at| agents.swap_remove(at))
        .ok_or_else(|| Problem::missing(format!("there is no agent {}", Quoted::new(&name))))?;
    let frame = Frame::new(&request, agent.name.clone(), "Agents").following("all").noting(notice.map(str::to_owned));
    page(&One { frame, agent })
}

/// Labels as they are typed: `site=lab rack=`, where an empty value takes one away.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Labels {
    labels: String,
}

/// `POST /agents/{name}/label`
pub async fn label(
    request: HttpRequest,
    serving: web::Data<Serving>,
    name: web::Path<String>,
    who: web::ReqData<Who>,
    body: Result<Bytes, actix_web::Error>,
) -> Result<HttpResponse, Failure> {
    let Labels { labels } = form(&request, body)?;
    let read = |text: &str| {
        Label::try_from(text.to_owned()).map_err(|error| Problem::bad(format!("{}: {error}", Quoted::new(text))))
    };
    let labels = labels.split_whitespace().map(read).collect::<Result<Vec<_>, _>>()?;
    serving.fleet.label(&name, labels, &who.0).await.map_err(refused)?;
    Ok(see(&format!("{}?did=labelled", request.path().trim_end_matches("/label"))))
}

/// `POST /agents/{name}/drain` and `/agents/{name}/undrain`
pub async fn drain(
    request: HttpRequest,
    serving: web::Data<Serving>,
    name: web::Path<String>,
    who: web::ReqData<Who>,
) -> Result<HttpResponse, Failure> {
    let (at, deed) = request.path().rsplit_once('/').unwrap_or_default();
    let drained = deed == "drain";
    serving.fleet.drain(&name, drained, &who.0).await.map_err(refused)?;
    Ok(see(&format!("{at}?did={}", if drained { "drained" } else { "undrained" })))
}

/// `POST /agents/{name}/revoke`
pub async fn revoke(
    request: HttpRequest,
    serving: web::Data<Serving>,
    name: web::Path<String>,
    who: web::ReqData<Who>,
) -> Result<HttpResponse, Failure> {
    serving.fleet.revoke(&name, &who.0).await.map_err(refused)?;
    Ok(see(&format!("{}?did=revoked", request.path().trim_end_matches("/revoke"))))
}

#[derive(Template)]
#[template(path = "join.html")]
struct Join {
    frame: Frame,
    token: String,
    minutes: u64,
}

/// `POST /agents/join-token`: shown this once.
pub async fn join(
    request: HttpRequest,
    serving: web::Data<Serving>,
    who: web::ReqData<Who>,
) -> Result<HttpResponse, Failure> {
    let made = serving.fleet.make_token(serving.advertise.to_vec(), TOKEN_TTL, &who.0).await;
    let token = made.map_err(refused)?.to_string();
    let frame = Frame::new(&request, "A join token", "Agents");
    let mut answer = page(&Join { frame, token, minutes: TOKEN_TTL.as_secs() / 60 })?;
    answer.headers_mut().insert(CACHE_CONTROL, actix_web::http::header::HeaderValue::from_static("no-store"));
    Ok(answer)
}

/// How many of something, in words.
impl Shown {
    /// Its open leases, in words.
    #[must_use]
    pub fn open_leases(&self) -> String {
        number(self.leases as u64)
    }
}
