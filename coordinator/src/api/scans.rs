//! Scans: submitted, listed, shown, ended.

use super::Serving;
use super::ask::{self, Query};
use super::description::parameters;
use super::problem::Problem;
use super::shape::{Scan, Scans, Submitted};
use crate::actors::coordinator::Submit;
use crate::cli::{CliError, ScanRequest, ScanSpec, SystemNames, spec};
use crate::fleet::roster::Standing;
use crate::scan::{prepare, wall};
use crate::serve::lists::{Find, LISTS_MAX, Uploaded, Used};
use crate::state::StoredRequest;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use protocol::id::{AgentName, ScanId};
use protocol::quote::Quoted;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;

/// How long a scan may take to be stored: a disk that is slower is as good as none.
const STORED_TIMEOUT: Duration = Duration::from_secs(30);
/// How many scans run at once at most: each has its open cohorts in memory.
const RUNNING_MAX: usize = 256;

/// A scan, as it is submitted: a document, or a command line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Wanted {
    /// `{"command": "portsweep -p 22 192.0.2.0/24"}`: it may hold only what shapes the plan.
    Command(Command),
    /// What is to be scanned.
    Spec(Box<ScanSpec>),
}

/// A command line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// As it would be typed, with quotes as a shell has them.
    pub command: String,
}

impl Wanted {
    /// The target lists that it names.
    fn lists(&self) -> Vec<String> {
        match self {
            Self::Command(_) => Vec::new(),
            Self::Spec(spec) => spec.target_lists.clone(),
        }
    }

    /// The scan that is meant. Looks names up: it blocks.
    fn request(&self, serving: &Serving, lists: Vec<Arc<File>>) -> Result<ScanRequest, CliError> {
        match self {
            Self::Command(Command { command }) => spec::of_command(command, &serving.exclude, &SystemNames),
            Self::Spec(spec) => spec.request(&serving.exclude, &SystemNames, &mut Uploaded::new(lists)),
        }
    }
}

/// Reads what is wanted, so that an error names the member that is wrong: `untagged` would only say that nothing fits.
fn wanted(request: &HttpRequest, body: Result<Bytes, actix_web::Error>) -> Result<Wanted, Problem> {
    let body = body.map(|body| (is_command(&body), body));
    match body {
        Ok((true, body)) => ask::json(request, Ok(body)).map(Wanted::Command),
        Ok((false, body)) => ask::json(request, Ok(body)).map(|spec| Wanted::Spec(Box::new(spec))),
        Err(error) => ask::json(request, Err(error)).map(Wanted::Command),
    }
}

/// Whether a body is an object with a command and no targets.
fn is_command(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Members {
        command: Option<serde::de::IgnoredAny>,
        targets: Option<serde::de::IgnoredAny>,
    }
    serde_json::from_slice::<Members>(body).is_ok_and(|members| members.command.is_some() && members.targets.is_none())
}

/// `POST /scans`
pub async fn submit(
    request: HttpRequest,
    serving: web::Data<Serving>,
    body: Result<Bytes, actix_web::Error>,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    let submitted = take(&serving, wanted(&request, body)?).await?;
    let location = format!("/api/v1/scans/{}", submitted.scan.id);
    Ok(HttpResponse::Created().insert_header(("location", location)).json(submitted))
}

/// What a scan would be, and its plan is checked for: nothing is stored.
///
/// # Errors
/// What cannot be meant, in one line.
pub async fn checked(serving: &web::Data<Serving>, wanted: Wanted) -> Result<ScanRequest, Problem> {
    let agents = serving.fleet.agents().await.map_err(super::agents::refused)?;
    let lists = found(serving, wanted.lists()).await?;
    let serving = serving.clone();
    let checked = web::block(move || {
        let may_connect = agents.into_iter().filter(|agent| agent.standing == Standing::Good);
        let vantages = may_connect.filter_map(|agent| AgentName::try_from(agent.vantage).ok()).collect();
        let request = wanted.request(&serving, lists).and_then(|request| request.from_vantages(&vantages));
        request.map_err(|error| Problem::bad(error.to_string()))
    });
    checked.await.map_err(|error| Problem::failed(&error))?
}

/// Submits a scan, and waits until it is stored.
///
/// # Errors
/// What cannot be meant; too many scans; a disk that does not take it.
pub async fn take(serving: &web::Data<Serving>, wanted: Wanted) -> Result<Submitted, Problem> {
    let running = serving.feed.borrow().scans().filter(|scan| !scan.is_over()).count();
    if running >= RUNNING_MAX {
        return Err(Problem::conflict(format!("{RUNNING_MAX} scans are running: wait for one to end, or cancel one")));
    }
    let named = wanted.lists();
    let request = checked(serving, wanted).await?;
    let planned = web::block(move || {
        let stored = StoredRequest::new(&request, wall(), None);
        let (_, record) = prepare::record(&request, &stored).map_err(|error| Problem::bad(format!("{error:#}")))?;
        let shown = Scan::new(&record, &stored, None).ok_or_else(|| Problem::bad("the plan cannot be made"))?;
        Ok((record, shown, request.notices().to_vec()))
    });
    let (record, shown, notices) = planned.await.map_err(|error| Problem::failed(&error))??;
    let id = record.id;
    let event = serving.feed.borrow().last().to_string();
    let mut stored = serving.feed.subscribe();
    serving.feed.send_modify(|feed| feed.expect(shown));
    let sent = serving.coordinator.send(Submit(Box::new(record))).await;
    sent.map_err(|_| Problem::unavailable("the coordinator is about to end"))?;
    let is_known = stored.wait_for(|feed| feed.scan(id).is_some() || feed.failure.is_some());
    let scan = match tokio::time::timeout(STORED_TIMEOUT, is_known).await {
        Ok(Ok(feed)) => feed.scan(id).cloned(),
        Ok(Err(_)) | Err(_) => None,
    };
    let scan = scan.ok_or_else(|| Problem::unavailable("the scan cannot be stored"))?;
    // Should this fail, they wait until their time is over.
    let _wait_no_longer = serving.lists.send(Used(named)).await;
    Ok(Submitted { scan, notices, event })
}

/// The target lists that a scan names.
async fn found(serving: &Serving, named: Vec<String>) -> Result<Vec<Arc<File>>, Problem> {
    if named.len() > LISTS_MAX {
        return Err(Problem::bad(format!("target_lists: name at most {LISTS_MAX}")));
    }
    let found = serving.lists.send(Find(named)).await;
    found.map_err(|_| Problem::unavailable("the coordinator is about to end"))?.map_err(|id| {
        let id = Quoted::new(&id);
        Problem::bad(format!("target_lists: there is no list {id}: it was not uploaded here, or its time is over"))
    })
}

/// `GET /scans`
pub async fn list(request: HttpRequest, serving: web::Data<Serving>) -> Result<web::Json<Scans>, Problem> {
    let query = Query::of(&request, &parameters("listScans"))?;
    let states = ["running", "paused", "partial", "interrupted", "done", "cancelled"].map(|status| (status, status));
    let status = query.one_of("status", &states)?;
    let feed = serving.feed.borrow();
    let scans = feed.scans().rev().filter(|scan| status.is_none_or(|status| scan.status == status));
    Ok(web::Json(Scans { scans: scans.cloned().collect() }))
}

/// `GET /scans/{id}`
pub async fn show(
    request: HttpRequest,
    serving: web::Data<Serving>,
    id: web::Path<String>,
) -> Result<web::Json<Scan>, Problem> {
    Query::of(&request, &[])?;
    let id = ask::scan_id(&id)?;
    known(&serving, id).map(web::Json)
}

/// A scan that there is.
pub fn known(serving: &Serving, id: ScanId) -> Result<Scan, Problem> {
    serving.feed.borrow().scan(id).cloned().ok_or_else(|| ask::no_scan(&id.to_string()))
}
