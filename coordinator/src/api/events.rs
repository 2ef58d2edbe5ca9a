//! `GET /events`: one stream of server-sent events (WHATWG HTML, section 9.2): `progress`, `findings`, `scan`, `agent`.
//!
//! A reader that comes back says by `Last-Event-ID` what it saw last and gets what came after it. What the ring no longer holds, or another
//! process gave, and a reader's first connection, are answered with one `snapshot`: the state now. A reader that is too slow gets one too.

use super::Serving;
use super::ask::{self, Query};
use super::description::parameters;
use super::problem::Problem;
use super::shape::Scan;
use crate::fleet::AgentView;
use crate::serve::feed::{EventId, Feed, Since};
use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::stream;
use protocol::id::ScanId;
use serde::Serialize;
use std::convert::Infallible;
use std::fmt::Write;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// A reader that left is noticed only by writing to it.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// `GET /events`
pub async fn events(request: HttpRequest, serving: web::Data<Serving>) -> Result<HttpResponse, Problem> {
    let query = Query::of(&request, &parameters("events"))?;
    let of = query.text("scan").map(ask::scan_id).transpose()?;
    if let Some(id) = of {
        super::scans::known(&serving, id)?;
    }
    // What is no id of ours is one that is unknown.
    let seen = request.headers().get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let stream = Stream { feed: serving.feed.subscribe(), seen, of, begun: false };
    let body = stream::unfold(stream, |mut stream| async {
        let text = stream.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), stream))
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header(("content-encoding", "identity"))
        .streaming(body))
}

/// A reader, and what it saw last.
struct Stream {
    feed: watch::Receiver<Feed>,
    seen: Option<EventId>,
    of: Option<ScanId>,
    begun: bool,
}

impl Stream {
    /// What is to be written next; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            let is_first = !std::mem::replace(&mut self.begun, true);
            let text = {
                let feed = self.feed.borrow_and_update();
                let since = feed.since(self.seen, self.of);
                let is_over = feed.closing || feed.failure.is_some();
                drop(feed);
                let text = self.written(since);
                if text.is_empty() && is_over {
                    return None;
                }
                text
            };
            if !text.is_empty() {
                return Some(text);
            }
            if is_first {
                // So that the reader knows at once that it is heard.
                return Some(":\n\n".to_owned());
            }
            match timeout(HEARTBEAT, self.feed.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) => return Some(":\n\n".to_owned()),
            }
        }
    }

    /// Events as they are written, and remembers the last.
    fn written(&mut self, since: Since) -> String {
        let mut text = String::new();
        match since {
            Since::Events(entries, last) => {
                for entry in entries {
                    write_event(&mut text, entry.kind, entry.id(last), &entry.data);
                }
                self.seen = Some(last);
            }
            Since::Snapshot(scans, agents, last) => {
                let agents = self.of.is_none().then_some(&*agents);
                if let Ok(data) = serde_json::to_string(&Snapshot { scans: &scans, agents }) {
                    write_event(&mut text, "snapshot", last, &data);
                }
                self.seen = Some(last);
            }
        }
        text
    }
}

#[derive(Serialize)]
struct Snapshot<'a> {
    scans: &'a [Scan],
    /// Absent for who follows one scan.
    #[serde(skip_serializing_if = "Option::is_none")]
    agents: Option<&'a [AgentView]>,
}

/// JSON holds no line end, so one `data` line is enough.
fn write_event(text: &mut String, kind: &str, id: EventId, data: &str) {
    // Writing to a string does not fail.
    let _ = write!(text, "event: {kind}\nid: {id}\ndata: {data}\n\n");
}
