//! Agents: who has joined, and what becomes of them; the tokens with which one joins; the audit.

use super::Serving;
use super::ask::{self, Query};
use super::description::parameters;
use super::guard::Who;
use super::problem::Problem;
use crate::fleet::roster::AuditRow;
use crate::fleet::{AgentView, FleetError, TOKEN_TTL, TOKEN_TTL_MAX};
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use protocol::enrol::Label;
use protocol::quote::Quoted;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use utoipa::ToSchema;

/// How many rows of the audit are given at once at most.
const ROWS_MAX: u32 = 1_000;

/// The agents that a coordinator knows.
#[derive(Debug, Serialize, ToSchema)]
pub struct Agents {
    /// Those that joined, by name; those that were revoked too.
    pub agents: Vec<AgentView>,
    /// The agent of the coordinator's own process.
    pub own: OwnAgent,
}

/// The agent of the coordinator's own process. It needs no certificate, and cannot be revoked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OwnAgent {
    /// Its name.
    pub name: String,
    /// The place in the network it sees from.
    pub vantage: String,
    /// The version of its software.
    pub software: String,
    /// How it asks for life: `icmp` or `tcp`.
    pub ping_method: String,
    /// What it may probe: networks.
    pub allow: Vec<String>,
    /// The nonce of its process: 16 hexadecimal digits.
    pub instance: String,
}

/// What was done and refused.
#[derive(Debug, Serialize, ToSchema)]
pub struct Audit {
    /// Newest first.
    pub rows: Vec<Row>,
}

/// Something that was done or refused.
#[derive(Debug, Serialize, ToSchema)]
pub struct Row {
    /// Its key, for `before`.
    pub key: i64,
    /// When, in seconds since 1970.
    pub at: i64,
    /// Who did it, or was refused.
    pub who: String,
    /// What.
    pub what: String,
    /// More of it.
    pub detail: String,
    /// How often in its minute.
    pub count: i64,
}

impl From<AuditRow> for Row {
    fn from(row: AuditRow) -> Self {
        let AuditRow { key, at, who, what, detail, count } = row;
        Self { key, at, who, what, detail, count }
    }
}

/// Labels that are set; null takes one away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    /// By key.
    pub labels: BTreeMap<String, Option<String>>,
}

/// A join token that is to be made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewJoinToken {
    /// How long it can be used in seconds; 900 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
}

/// A join token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MadeJoinToken {
    /// The token: it lets one agent join, once.
    pub token: String,
    /// How long it can be used in seconds.
    pub ttl_s: u64,
}

/// What the fleet answers, as a problem.
#[must_use]
pub fn refused(error: FleetError) -> Problem {
    match error {
        FleetError::NoAgent(name) => {
            Problem::missing(format!("there is no agent {name}: GET /api/v1/agents lists them"))
        }
        FleetError::Busy | FleetError::Closed => Problem::unavailable(error.to_string()),
        FleetError::Token(error) => Problem::bad(error.to_string()),
        error => Problem::failed(&error),
    }
}

/// `GET /agents`
pub async fn list(request: HttpRequest, serving: web::Data<Serving>) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let mut agents = serving.fleet.agents().await.map_err(refused)?;
    agents.iter_mut().for_each(|agent| complete(&serving, agent));
    Ok(HttpResponse::Ok().json(Agents { agents, own: serving.own.clone() }))
}

/// `GET /agents/{name}`
pub async fn show(
    request: HttpRequest,
    serving: web::Data<Serving>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let mut agent = serving.fleet.agent(&name).await.map_err(refused)?;
    complete(&serving, &mut agent);
    Ok(HttpResponse::Ok().json(agent))
}

/// What the roster does not know.
fn complete(serving: &Serving, agent: &mut AgentView) {
    let feed = serving.feed.borrow();
    agent.rests_until = feed.rests_until(&agent.name);
    agent.draining = feed.is_draining(agent);
}

/// `PATCH /agents/{name}`
pub async fn label(
    request: HttpRequest,
    serving: web::Data<Serving>,
    name: web::Path<String>,
    who: web::ReqData<Who>,
    body: Result<Bytes, actix_web::Error>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let Labels { labels } = ask::json(&request, body)?;
    let labels = labels.into_iter().map(|(key, value)| {
        let text = format!("{key}={}", value.unwrap_or_default());
        Label::try_from(text.clone()).map_err(|error| Problem::bad(format!("{}: {error}", Quoted::new(&text))))
    });
    let labels = labels.collect::<Result<Vec<_>, _>>()?;
    Ok(HttpResponse::Ok().json(serving.fleet.label(&name, labels, &who.0).await.map_err(refused)?))
}

/// `POST /agents/{name}/revoke`
pub async fn revoke(
    request: HttpRequest,
    serving: web::Data<Serving>,
    name: web::Path<String>,
    who: web::ReqData<Who>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    Ok(HttpResponse::Ok().json(serving.fleet.revoke(&name, &who.0).await.map_err(refused)?))
}

/// `POST /agents/{name}/drain`
pub async fn drain(
    request: HttpRequest,
    serving: web::Data<Serving>,
    name: web::Path<String>,
    who: web::ReqData<Who>,
) -> Result<HttpResponse, Problem> {
    set_drained(&request, &serving, &name, &who, true).await
}

/// `DELETE /agents/{name}/drain`
pub async fn end_drain(
    request: HttpRequest,
    serving: web::Data<Serving>,
    name: web::Path<String>,
    who: web::ReqData<Who>,
) -> Result<HttpResponse, Problem> {
    set_drained(&request, &serving, &name, &who, false).await
}

/// It acts as soon as the coordinator hears that the roster changed.
async fn set_drained(
    request: &HttpRequest,
    serving: &Serving,
    name: &str,
    who: &Who,
    drained: bool,
) -> Result<HttpResponse, Problem> {
    Query::of(request, &[])?;
    let mut agent = serving.fleet.drain(name, drained, &who.0).await.map_err(refused)?;
    complete(serving, &mut agent);
    Ok(HttpResponse::Ok().json(agent))
}

/// `POST /join-tokens`
pub async fn join_token(
    request: HttpRequest,
    serving: web::Data<Serving>,
    who: web::ReqData<Who>,
    body: Result<Bytes, actix_web::Error>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let NewJoinToken { ttl_s } = ask::json(&request, body)?;
    let ttl_s = ttl_s.unwrap_or(TOKEN_TTL.as_secs());
    if !(1..=TOKEN_TTL_MAX.as_secs()).contains(&ttl_s) {
        return Err(Problem::bad(format!("ttl_s: write seconds, 1 to {}", TOKEN_TTL_MAX.as_secs())));
    }
    let made = serving.fleet.make_token(serving.advertise.to_vec(), Duration::from_secs(ttl_s), &who.0).await;
    let token = made.map_err(refused)?.to_string();
    Ok(HttpResponse::Created().insert_header((CACHE_CONTROL, "no-store")).json(MadeJoinToken { token, ttl_s }))
}

/// `GET /audit`
pub async fn audit(request: HttpRequest, serving: web::Data<Serving>) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &parameters("audit"))?;
    let before = query.whole("before", 1, i64::MAX)?;
    let limit = query.whole("limit", 1, ROWS_MAX)?.unwrap_or(100);
    let rows = serving.fleet.audit_rows(before, limit).await.map_err(refused)?;
    Ok(HttpResponse::Ok().json(Audit { rows: rows.into_iter().map(Row::from).collect() }))
}
