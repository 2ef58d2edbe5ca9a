//! The API, `/api/v1`: JSON over HTTP. Reads are GET, changes POST, PATCH and DELETE; errors are `application/problem+json`.
//!
//! Handlers only carry what is asked to the coordinator's actor, the store's thread or `Access`, and the answer back. [`guard`] looks at every
//! request first, [`ask`] reads queries and bodies, [`shape`] is what is shown. [`description`] lists all operations; [`openapi`] is made of it.

pub mod agents;
pub mod ask;
pub mod change;
pub mod description;
mod events;
pub mod guard;
pub mod health;
pub mod lists;
pub mod maps;
mod metrics;
pub mod openapi;
pub mod problem;
pub mod receipt;
mod results;
pub mod scans;
pub mod shape;
pub mod targets;
pub mod tokens;

#[cfg(test)]
mod bad_input_tests;
#[cfg(test)]
mod contract_tests;
#[cfg(test)]
mod map_tests;

use crate::actors::coordinator::Coordinator;
use crate::cli::ServeRequest;
use crate::fleet::Fleet;
use crate::maps::Maps;
use crate::serve::access::Access;
use crate::serve::feed::Feed;
use crate::serve::lists::Lists;
use crate::store::thread::StoreHandle;
use crate::web as pages;
use crate::web::found::Finder;
use actix::Addr;
use actix_web::dev::Server;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName};
use actix_web::middleware::{Compress, DefaultHeaders, from_fn};
use actix_web::{App, HttpServer, web};
use agents::OwnAgent;
use hyper::http::uri::Authority;
use problem::Problem;
use protocol::range_set::AddressSet;
use protocol::token::{DialAddress, Pin};
use rustls::ServerConfig;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// How many connections are open at once: people, their pages, and scripts.
const CONNECTIONS_MAX: usize = 512;
/// A request's head that takes longer is given up.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long requests may take to end when the process does, in seconds.
const SHUTDOWN_S: u64 = 5;

/// What handlers work with.
#[derive(Clone)]
pub struct Serving {
    /// Runs the scans.
    pub coordinator: Addr<Coordinator>,
    /// What is stored.
    pub store: StoreHandle,
    /// What maps are made of.
    pub maps: Maps,
    /// Where a result is put that is about to be sent: beside what is stored, as a container may have no other place to write to.
    pub spool: Arc<Path>,
    /// What is known of scans, and became known.
    pub feed: Arc<watch::Sender<Feed>>,
    /// Who may ask.
    pub access: Addr<Access>,
    /// What scans found, for the page.
    pub finder: Addr<Finder>,
    /// What no scan probes.
    pub exclude: Arc<AddressSet>,
    /// The values of `Host` that name this coordinator, in lower case.
    pub hosts: Arc<Vec<String>>,
    /// The agents of other machines.
    pub fleet: Fleet,
    /// Where page and API are: a URL without a path.
    pub page: Arc<str>,
    /// By what they are known in TLS; `None` without.
    pub pin: Option<Pin>,
    /// The agent of this process.
    pub own: OwnAgent,
    /// Where they dial, as join tokens say.
    pub advertise: Arc<[DialAddress]>,
    /// Target lists that were uploaded, for scans that are to come.
    pub lists: Addr<Lists>,
    /// Places for those who upload one.
    pub uploads: Arc<Semaphore>,
    /// How many changes were asked for.
    pub asks: Arc<AtomicU64>,
}

impl Serving {
    /// Names a change, which no other change of this process has.
    #[must_use]
    pub fn next_ask(&self) -> u64 {
        self.asks.fetch_add(1, Ordering::Relaxed)
    }
}

/// The values of `Host` under which a coordinator is asked for.
#[must_use]
pub fn hosts(request: &ServeRequest) -> Vec<String> {
    let port = request.listen.port();
    let loopback = ["127.0.0.1", "localhost", "[::1]"].map(|name| format!("{name}:{port}"));
    let mut hosts: Vec<_> = loopback.into_iter().chain([request.listen.to_string()]).collect();
    hosts.extend(request.allowed_hosts.iter().flat_map(|name| [name.clone(), format!("{name}:{port}")]));
    hosts
}

/// The names and addresses that the certificate of page and API has, without ports.
#[must_use]
pub fn names(request: &ServeRequest) -> Vec<String> {
    let listen = (!request.listen.ip().is_unspecified()).then(|| request.listen.ip().to_string());
    let host = |name: &String| {
        let authority = name.parse::<Authority>().ok()?;
        Some(authority.host().trim_matches(['[', ']']).to_owned())
    };
    let allowed = request.allowed_hosts.iter().filter_map(host);
    listen.into_iter().chain(["127.0.0.1".to_owned(), "localhost".to_owned()]).chain(allowed).collect()
}

/// The server, to be run. With `tls` it speaks nothing else.
///
/// # Errors
/// If it cannot listen there.
pub fn start(listener: TcpListener, tls: Option<ServerConfig>, serving: Serving) -> io::Result<Server> {
    let data = web::Data::new(serving);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(data.clone())
            .app_data(web::PayloadConfig::new(ask::BODY_BYTES_MAX))
            .configure(routes)
            .wrap(from_fn(guard::guard))
            .wrap(Compress::default())
            .wrap(headers())
    })
    .workers(1)
    .max_connections(CONNECTIONS_MAX)
    .client_request_timeout(HEAD_TIMEOUT)
    .shutdown_timeout(SHUTDOWN_S)
    .disable_signals();
    let server = match tls {
        Some(tls) => server.listen_rustls_0_23(listener, tls)?,
        None => server.listen(listener)?,
    };
    Ok(server.run())
}

fn headers() -> DefaultHeaders {
    DefaultHeaders::new()
        .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .add((header::X_FRAME_OPTIONS, "DENY"))
        .add((header::REFERRER_POLICY, "same-origin"))
        .add((header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"))
        .add((HeaderName::from_static("cross-origin-resource-policy"), "same-origin"))
}

fn routes(config: &mut web::ServiceConfig) {
    let way = |path: &str| web::resource(path.to_owned()).default_service(web::to(not_this_way));
    let scan = web::scope("/scans/{id}")
        .service(way("").get(scans::show).patch(change::set).delete(change::remove))
        .service(way("/pause").post(change::pause))
        .service(way("/resume").post(change::resume))
        .service(way("/cancel").post(change::cancel))
        .service(way("/exclude").post(change::exclude))
        .service(way("/findings").get(results::findings))
        .service(way("/receipt").get(results::receipt))
        .service(way("/targets").get(targets::targets))
        .service(way("/maps/addresses").get(maps::of_addresses))
        .service(way("/maps/ports").get(maps::of_ports))
        .service(way("/results").get(results::results));
    let api = web::scope("/api/v1")
        .service(way("/openapi.json").get(health::description))
        .service(way("/scans").get(scans::list).post(scans::submit))
        .service(scan)
        .service(way("/target-lists").post(lists::upload))
        .service(way("/events").get(events::events))
        .service(way("/agents").get(agents::list))
        .service(way("/agents/{name}").get(agents::show).patch(agents::label))
        .service(way("/agents/{name}/revoke").post(agents::revoke))
        .service(way("/agents/{name}/drain").post(agents::drain).delete(agents::end_drain))
        .service(way("/join-tokens").post(agents::join_token))
        .service(way("/audit").get(agents::audit))
        .service(way("/tokens").get(tokens::list).post(tokens::make))
        .service(way("/tokens/{id}").delete(tokens::revoke));
    config
        .service(way("/healthz").get(health::healthz))
        .service(way("/readyz").get(health::readyz))
        .service(way("/metrics").get(metrics::metrics))
        .service(api)
        .configure(pages::routes)
        .default_service(web::to(nothing_here));
}

async fn nothing_here(request: actix_web::HttpRequest) -> actix_web::HttpResponse {
    let problem = Problem::missing("there is nothing here: /api/v1/openapi.json says what is where");
    if guard::is_for_people(&request) { pages::frame::Failure(problem).response() } else { problem.response() }
}

async fn not_this_way() -> Result<actix_web::HttpResponse, Problem> {
    let detail = "this is not asked for with that method: reads are GET, changes POST, PATCH and DELETE";
    Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail))
}
