//! `POST /target-lists`: targets as a file has them, uploaded as they come, for a scan that names the list.
//!
//! What comes is read piece by piece and kept as ranges and names, as `-iL` does; then it is written to a file. So memory is bounded by what
//! a list may come to, and by how many are uploaded at once, whatever is sent.

use super::Serving;
use super::ask::{self, Query};
use super::problem::Problem;
use crate::cli::Lines;
use crate::serve::lists::{Keep, LIST_TTL, LISTS_MAX};
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::StreamExt;
use protocol::address::{TargetItem, TargetListParser};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;
use utoipa::ToSchema;

/// The longest list in bytes, as it is sent.
pub const LIST_BYTES_MAX: u64 = 64 << 20;
/// How many are uploaded at once: each may take 200 MB while it is read.
pub const UPLOADS_MAX: usize = 2;
/// Whoever sends nothing for so long sends nothing more.
const PIECE_TIMEOUT: Duration = Duration::from_secs(20);

/// A list that was uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetList {
    /// What a scan names it by, in `target_lists`.
    pub id: String,
    /// How long it waits for that, in seconds.
    pub expires_in_s: u64,
}

/// `POST /target-lists`
pub async fn upload(
    request: HttpRequest,
    serving: web::Data<Serving>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    Query::of(&request, &[])?;
    if !ask::content_type(&request).eq_ignore_ascii_case("text/plain") {
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send it with Content-Type: text/plain"));
    }
    let said = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if said.is_some_and(|length| length > LIST_BYTES_MAX) {
        return Err(too_long());
    }
    let Ok(_place) = serving.uploads.clone().try_acquire_owned() else {
        return Err(Problem::conflict(format!(
            "{UPLOADS_MAX} lists are being uploaded: try again when one is through"
        )));
    };
    let items = read(payload).await?;
    if items.is_empty() {
        return Err(Problem::bad("the list has no target"));
    }
    let spool = serving.spool.clone();
    let written = web::block(move || write(&spool, items)).await;
    let file = written.map_err(|error| Problem::failed(&error))?.map_err(|error| Problem::failed(&error))?;
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| Problem::unavailable(format!("no random number: {error}")))?;
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let kept = serving.lists.send(Keep(id.clone(), file)).await;
    match kept.map_err(|_| Problem::unavailable("the coordinator is about to end"))? {
        true => Ok(HttpResponse::Created().json(TargetList { id, expires_in_s: LIST_TTL.as_secs() })),
        false => {
            Err(Problem::conflict(format!("{LISTS_MAX} lists wait for a scan that names them: name them, or wait")))
        }
    }
}

fn too_long() -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("a target list has at most {LIST_BYTES_MAX} bytes: split it"))
}

/// Reads a list as it comes. What follows a fault is passed over, so that whoever sends it hears of the fault.
async fn read(mut payload: web::Payload) -> Result<Vec<TargetItem>, Problem> {
    let cut = || Problem::bad("the body does not come whole");
    let (mut parser, mut fault, mut bytes) = (TargetListParser::new(), None, 0);
    while let Some(piece) = timeout(PIECE_TIMEOUT, payload.next()).await.map_err(|_| cut())? {
        let piece = piece.map_err(|_| cut())?;
        bytes += piece.len() as u64;
        if bytes > LIST_BYTES_MAX {
            return Err(too_long());
        }
        if fault.is_none() {
            fault = parser.feed(&piece).err();
        }
    }
    let read = match fault {
        Some(fault) => Err(fault),
        None => parser.finish(),
    };
    read.map_err(|error| Problem::bad(format!("the list cannot be read: {error}")))
}

fn write(spool: &Path, items: Vec<TargetItem>) -> io::Result<File> {
    let mut file = tempfile::tempfile_in(spool)?;
    Lines::new(items).try_for_each(|piece| file.write_all(&piece))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::super::contract_tests::{Ask, World, story};
    use super::*;
    use serde_json::{Value, json};
    use std::net::Ipv4Addr;

    async fn posts(world: &World, path: &str, kind: &'static str, body: Vec<u8>) -> (u16, Value) {
        let (method, path, token) = ("POST".to_owned(), path.to_owned(), Some(world.local_token()));
        let answer = world.ask(&Ask { method, path, token, content_type: Some(kind), body }).await;
        (answer.status, serde_json::from_slice(&answer.body).expect("JSON"))
    }

    #[test]
    fn a_scan_has_the_targets_of_the_list_that_it_names_and_no_other_scan_after_it() {
        story(|world| async move {
            // More than a body of JSON may have.
            let list: String =
                (0..40_000_u32).map(|host| format!("{}\n", Ipv4Addr::from(0x7f00_0000 + 2 * host))).collect();
            assert!(list.len() > ask::BODY_BYTES_MAX);
            let (status, kept) = posts(&world, "/api/v1/target-lists", "text/plain", list.into()).await;
            assert!(status == 201 && kept["expires_in_s"] == LIST_TTL.as_secs(), "{kept}");
            let spec = json!({ "targets": ["127.1.0.1"], "target_lists": [kept["id"]], "ports": "1", "kinds": ["tcp"], "rate": 1 });
            let body = || spec.to_string().into_bytes();
            let (status, submitted) = posts(&world, "/api/v1/scans", "application/json", body()).await;
            assert!(status == 201 && submitted["scan"]["targets"] == 40_001, "{submitted}");
            let (status, problem) = posts(&world, "/api/v1/scans", "application/json", body()).await;
            let detail = problem["detail"].as_str().unwrap_or_default();
            assert!(status == 400 && detail.contains("there is no list"), "{problem}");
        });
    }

    #[test]
    fn no_more_than_two_lists_are_uploaded_at_once() {
        story(|world| async move {
            let _others: Vec<_> = (0..UPLOADS_MAX).map(|_| world.uploads.clone().try_acquire_owned()).collect();
            let (status, problem) = posts(&world, "/api/v1/target-lists", "text/plain", b"127.0.0.1".to_vec()).await;
            assert!(status == 409, "{problem}");
        });
    }
}
