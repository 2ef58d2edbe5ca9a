//! What holds for a running scan is changed: pause, resume, cancel, rates, weight, exclusions. One that ended is removed.
//!
//! A change is answered once it is durable: with 200 where it is in force everywhere, with 202 and the names of the agents that have not
//! acknowledged it where some may still do as before. They do so until their right ends, at the latest.

use super::ask::{self, Query};
use super::problem::Problem;
use super::shape::{Changed, Scan};
use super::{Serving, scans};
use crate::actors::coordinator::{Alter, Coordinator, Remove};
use crate::cli::{SystemNames, spec};
use actix::{Handler, Message};
use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use coordinator_core::control::{Change, ChangeError};
use protocol::id::ScanId;
use protocol::rate::Rate;
use serde::{Deserialize, Deserializer, Serialize};
use std::time::Duration;
use utoipa::ToSchema;

/// How long a change may take to be durable.
const DURABLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long agents that are connected may take to acknowledge it before the answer names them.
const IN_FORCE_TIMEOUT: Duration = Duration::from_secs(1);

/// What is to be changed. What is left out stays; null takes a limit away.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// The most packets per second over all agents.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub rate: Option<Option<f64>>,
    /// The most packets per second to one host, over all agents.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub per_host_rate: Option<Option<f64>>,
    /// Its part of the fleet beside other scans, 1 to 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

/// Addresses that are not to be probed any more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Exclusion {
    /// Specs, as for targets.
    pub exclude: Vec<String>,
}

/// Tells a member that is null from one that is left out.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<f64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A limit, or none.
///
/// # Errors
/// A 400 that names the member.
pub fn rate(name: &str, rate: Option<f64>) -> Result<Option<Rate>, Problem> {
    let read = |rate| {
        Rate::from_per_second(rate)
            .ok_or_else(|| Problem::bad(format!("{name}: write a number of packets per second above 0, or null")))
    };
    rate.map(read).transpose()
}

impl Setting {
    fn changes(&self) -> Result<Vec<Change>, Problem> {
        let mut changes = Vec::new();
        if let Some(asked) = self.rate {
            changes.push(Change::Rate(rate("rate", asked)?));
        }
        if let Some(asked) = self.per_host_rate {
            changes.push(Change::PerHostRate(rate("per_host_rate", asked)?));
        }
        changes.extend(self.weight.map(Change::Weight));
        if changes.is_empty() {
            return Err(Problem::bad("nothing is to be changed: name rate, per_host_rate or weight"));
        }
        Ok(changes)
    }
}

/// `POST /scans/{id}/pause`
pub async fn pause(
    request: HttpRequest,
    serving: web::Data<Serving>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    plain(&request, &serving, &id, Change::Pause).await
}

/// `POST /scans/{id}/resume`
pub async fn resume(
    request: HttpRequest,
    serving: web::Data<Serving>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    plain(&request, &serving, &id, Change::Resume).await
}

/// `POST /scans/{id}/cancel`
pub async fn cancel(
    request: HttpRequest,
    serving: web::Data<Serving>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    plain(&request, &serving, &id, Change::Cancel).await
}

/// `PATCH /scans/{id}`
pub async fn set(
    request: HttpRequest,
    serving: web::Data<Serving>,
    id: web::Path<String>,
    body: Result<Bytes, actix_web::Error>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let id = ask::scan_id(&id)?;
    let changes = ask::json::<Setting>(&request, body)?.changes()?;
    carry_out(&serving, id, changes).await.map(|changed| changed.response())
}

/// `DELETE /scans/{id}`
pub async fn remove(
    request: HttpRequest,
    serving: web::Data<Serving>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let id = ask::scan_id(&id)?;
    let scan = scans::known(&serving, id)?;
    if !scan.is_over() {
        return Err(Problem::conflict(format!("scan {id} is {}: cancel it first", scan.status)));
    }
    answer(&serving, |ask| Remove { ask, scan: id }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `POST /scans/{id}/exclude`
pub async fn exclude(
    request: HttpRequest,
    serving: web::Data<Serving>,
    id: web::Path<String>,
    body: Result<Bytes, actix_web::Error>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let id = ask::scan_id(&id)?;
    scans::known(&serving, id)?;
    let Exclusion { exclude } = ask::json(&request, body)?;
    exclude_from(&serving, id, exclude).await.map(|changed| changed.response())
}

/// Excludes what these specs mean from a scan.
///
/// # Errors
/// If they mean nothing, or the scan does not run.
pub async fn exclude_from(serving: &Serving, id: ScanId, exclude: Vec<String>) -> Result<Changed, Problem> {
    let read =
        web::block(move || spec::excluded(&exclude, &SystemNames).map_err(|error| Problem::bad(error.to_string())));
    let excluded = read.await.map_err(|error| Problem::failed(&error))??;
    if excluded.is_empty() {
        return Err(Problem::bad("nothing is to be excluded: name addresses"));
    }
    carry_out(serving, id, vec![Change::Exclude(excluded)]).await
}

async fn plain(request: &HttpRequest, serving: &Serving, id: &str, change: Change) -> Result<HttpResponse, Problem> {
    Query::of(request, &[])?;
    carry_out(serving, ask::scan_id(id)?, vec![change]).await.map(|changed| changed.response())
}

impl Changed {
    /// As it is answered: 202 while somebody may still do as before.
    fn response(&self) -> HttpResponse {
        let status = if self.in_force { StatusCode::OK } else { StatusCode::ACCEPTED };
        HttpResponse::build(status).json(self)
    }
}

/// Has changes made one after the other, and waits for them.
///
/// # Errors
/// If the scan is unknown or over, or a change is refused or cannot be kept.
pub async fn carry_out(serving: &Serving, id: ScanId, changes: Vec<Change>) -> Result<Changed, Problem> {
    let scan = scans::known(serving, id)?;
    if scan.is_over() {
        return Err(Problem::conflict(format!("scan {id} is {} already", scan.status)));
    }
    let mut version = 0;
    for change in changes {
        version = make(serving, id, change).await?;
    }
    let mut feed = serving.feed.subscribe();
    let is_in_force =
        |scan: &Scan| scan.is_over() || scan.waits_for.is_empty() && (version <= 1 || scan.version >= version);
    let settled = feed.wait_for(|feed| feed.scan(id).is_none_or(is_in_force));
    // What it is after that time is answered.
    let _in_time = tokio::time::timeout(IN_FORCE_TIMEOUT, settled).await;
    let scan = scans::known(serving, id)?;
    let in_force = is_in_force(&scan);
    Ok(Changed { in_force, waits_for: scan.waits_for.clone(), scan })
}

/// Makes one change; the version from which on it holds, once that is durable.
async fn make(serving: &Serving, scan: ScanId, change: Change) -> Result<u64, Problem> {
    answer(serving, |ask| Alter { ask, scan, change }).await
}

/// Asks the coordinator for something, and waits for what becomes of it.
async fn answer<M>(serving: &Serving, asked: impl FnOnce(u64) -> M) -> Result<u64, Problem>
where
    M: Message<Result = ()> + Send + 'static,
    Coordinator: Handler<M>,
{
    let ending = |_| Problem::unavailable("the coordinator is about to end");
    let mut feed = serving.feed.subscribe();
    let ask = serving.next_ask();
    serving.coordinator.send(asked(ask)).await.map_err(ending)?;
    let answered = feed.wait_for(|feed| feed.answer(ask).is_some() || feed.failure.is_some());
    let answer = match tokio::time::timeout(DURABLE_TIMEOUT, answered).await {
        Ok(Ok(feed)) => feed.answer(ask),
        Ok(Err(_)) | Err(_) => None,
    };
    match answer {
        Some(Ok(version)) => Ok(version),
        Some(Err(
            error @ (ChangeError::NotRunning | ChangeError::Stopping | ChangeError::Runs | ChangeError::Held),
        )) => Err(Problem::conflict(error.to_string())),
        Some(Err(error)) => Err(Problem::bad(error.to_string())),
        None => Err(Problem::unavailable("the change cannot be stored")),
    }
}
