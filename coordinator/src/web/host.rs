//! A host's page: everything that a scan knows of one address.

use super::frame::{Failure, Frame, page};
use super::words::number;
use crate::api::ask::{Query, scan_id};
use crate::api::problem::Problem;
use crate::api::{Serving, scans};
use crate::report::quantity::round_trip;
use crate::serve;
use crate::state::StoredRequest;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use coordinator_core::host::{Host, Place};
use coordinator_core::rows;
use coordinator_core::store::Store;
use protocol::id::ScanId;
use protocol::plan::Plan;
use protocol::port::service_name;
use protocol::probe::{Outcome, Slot, State};
use protocol::quote::Quoted;
use std::io;
use std::net::IpAddr;

/// The most targets of a cohort that is folded for the page of one of its hosts: half a second's work.
const FOLDED_MAX: u64 = 8 << 20;

#[derive(Template)]
#[template(path = "host.html")]
struct Page {
    frame: Frame,
    id: String,
    title: String,
    address: String,
    names: Vec<String>,
    known: Known,
    vantages: Vec<String>,
}

/// What is known of a host.
#[derive(Default)]
struct Known {
    state: &'static str,
    why: String,
    rtt: Option<String>,
    ping_by: Option<String>,
    ports: Vec<Port>,
    /// States and reasons of which ports are only counted.
    counted: Vec<(String, String, String)>,
    /// What vantages see differently: the slot, and a state for each.
    differing: Vec<(String, Vec<(String, String)>)>,
    differing_more: u64,
    all_open: bool,
    /// It is in no target of the scan's plan.
    is_outside: bool,
    /// Its cohort is too large to be folded here.
    is_large: bool,
}

struct Port {
    port: u16,
    service: &'static str,
    state: &'static str,
    reason: &'static str,
    rtt: String,
    seen_by: String,
}

/// `GET /scans/{id}/hosts/{address}`
pub async fn show(
    request: HttpRequest,
    serving: web::Data<Serving>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Failure> {
    Query::of(&request, &[])?;
    let (id, address) = path.into_inner();
    let id = scan_id(&id)?;
    let scan = scans::known(&serving, id)?;
    let read: Result<IpAddr, _> = address.parse();
    let address = read.map_err(|_| Problem::missing(format!("{} is no address", Quoted::new(&address))))?;
    let looked = serving.store.look(move |store| look(store, id, address)).await;
    let (known, vantages) =
        looked.map_err(|error| Problem::failed(&error))?.map_err(|error| Problem::failed(&error))?;
    let frame = Frame::new(&request, address.to_string(), "Scans");
    page(&Page {
        frame: if scan.is_over() { frame } else { frame.following(format!("scan={id}")) },
        id: id.to_string(),
        title: scan.specs.join(", "),
        address: address.to_string(),
        names: scan.names.get(&address).cloned().unwrap_or_default(),
        known,
        vantages,
    })
}

fn look(store: &dyn Store, id: ScanId, address: IpAddr) -> io::Result<(Known, Vec<String>)> {
    let record = serve::record(store, id).map_err(io::Error::other)?;
    let status = record.status;
    let _request = StoredRequest::read(&record).map_err(io::Error::other)?;
    let plan = Plan::try_from(record.plan).map_err(io::Error::other)?;
    let vantages = plan.vantages().iter().map(ToString::to_string).collect::<Vec<_>>();
    let Some(number) = plan.cohort_of(address) else {
        return Ok((Known { is_outside: true, ..Known::default() }, vantages));
    };
    let agents: Vec<_> = store.agents(id).map_err(io::Error::other)?.into_iter().map(|agent| agent.name).collect();
    let len = u64::from(plan.cohort_len(number).unwrap_or(u32::MAX)) * plan.views();
    if len > FOLDED_MAX {
        return Ok((Known { is_large: true, ..Known::default() }, vantages));
    }
    let hosts = rows::of_cohort(store, id, &plan, number, status).map_err(io::Error::other)?;
    let host = hosts.into_iter().find(|host| host.address == address);
    Ok((host.map_or_else(Known::default, |host| Known::of(&host, &agents, &vantages)), vantages))
}

impl Known {
    fn of(host: &Host, agents: &[String], vantages: &[String]) -> Self {
        let agent = |number: u32| agents.get(number as usize).cloned().unwrap_or_default();
        let (state, why) = match host.place() {
            Place::Host(reason) => ("up", reason.as_str().to_owned()),
            Place::Silent(Some(outcome)) => ("down", outcome.why().to_owned()),
            Place::Silent(None) => ("unknown", "no ping was asked".to_owned()),
            Place::NotProbed(outcome) => ("not-probed", outcome.why().to_owned()),
        };
        let ping = host.ping.filter(|answer| answer.outcome.state() == State::Up);
        let open = host.open.iter().map(|open| Port {
            port: open.port,
            service: service_name(open.port).unwrap_or_default(),
            state: "open",
            reason: "syn-ack",
            rtt: open.rtt_us.map(round_trip).unwrap_or_default(),
            seen_by: agent(open.seen_by),
        });
        let others = host.groups.iter().flat_map(|group| {
            group.ports.iter().map(|port| Port {
                port: *port,
                service: service_name(*port).unwrap_or_default(),
                state: group.outcome.state().as_str(),
                reason: group.outcome.why(),
                rtt: String::new(),
                seen_by: String::new(),
            })
        });
        let mut ports: Vec<_> = open.chain(others).collect();
        ports.sort_by_key(|port| port.port);
        let counted = host.groups.iter().filter(|group| group.ports.is_empty() && group.outcome != Outcome::OPEN);
        let counted = counted.map(|group| {
            (number(group.count.into()), group.outcome.state().as_str().to_owned(), group.outcome.why().to_owned())
        });
        let differing = host.views.iter().flat_map(|views| &views.differing).map(|differing| {
            let slot = match differing.slot {
                Slot::Ping => "ping".to_owned(),
                Slot::Tcp(port) => format!("{port}/tcp"),
            };
            let seen = differing.seen.iter().map(|seen| {
                let state = seen.map_or("none", |answer| answer.outcome.state().as_str());
                (state.to_owned(), seen.map_or_else(String::new, |answer| answer.outcome.why().to_owned()))
            });
            (slot, seen.collect())
        });
        let differing: Vec<_> = differing.collect();
        let differ = host.views.as_ref().map_or(0, |views| u64::from(views.differ));
        debug_assert!(differing.iter().all(|(_, seen): &(String, Vec<_>)| seen.len() == vantages.len()));
        Self {
            state,
            why,
            rtt: ping.and_then(|answer| answer.rtt_us).map(round_trip),
            ping_by: ping.map(|answer| agent(answer.seen_by)),
            ports,
            counted: counted.collect(),
            differing_more: differ.saturating_sub(differing.len() as u64),
            differing,
            all_open: host.is_all_open_suspect(),
            is_outside: false,
            is_large: false,
        }
    }
}
