//! A scan's maps: its addresses along a Hilbert curve, and its addresses by its ports. Drawn here, as SVG that needs no script: a click leads one
//! step in, at single addresses to the host; how far one is in stands in the URL. Beside each stands a table that says the same in words.

use super::drawing::{self, AddressDrawing, PortDrawing};
use super::frame::{Failure, Frame, page};
use crate::api::ask::{Query, scan_id};
use crate::api::maps::{AddressQuery, DEPTH_USUAL, PortQuery, look, vantages};
use crate::api::{Serving, scans};
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use coordinator_core::maps::addresses::{roots, steps};

/// What stands in the URL: where each map is, and whose view it is.
const PARAMETERS: [&str; 4] = ["prefix", "address", "port", "vantage"];

#[derive(Template)]
#[template(path = "maps.html")]
struct Page {
    frame: Frame,
    id: String,
    status: String,
    title: String,
    /// How many parts of the scan are not counted yet.
    waiting: u64,
    /// Whose view is offered: a name, where it is, and whether it is shown.
    views: Vec<(String, String, bool)>,
    addresses: AddressDrawing,
    ports: PortDrawing,
}

/// `GET /scans/{id}/maps`
pub async fn show(
    request: HttpRequest,
    serving: web::Data<Serving>,
    id: web::Path<String>,
) -> Result<HttpResponse, Failure> {
    let id = scan_id(&id)?;
    let scan = scans::known(&serving, id)?;
    let query = Query::of(&request, &PARAMETERS)?;
    let of_addresses = AddressQuery::read(&query)?;
    let of_ports = PortQuery::read(&query)?.within(of_addresses.prefix());
    let links = drawing::Links::new(id, PARAMETERS.map(|name| query.text(name).map(str::to_owned)));
    let status = scan.status.clone();
    let drawn = look(&serving, id, move |scene| {
        let map = of_addresses.map(scene)?;
        let path = steps(scene.plan(), map.prefix, DEPTH_USUAL);
        let addresses = AddressDrawing::new(&map, &path, &roots(scene.plan()), &links);
        let ports = PortDrawing::new(&of_ports.map(scene)?, &links);
        Ok((addresses, ports, links.views(&vantages(scene.plan())), scene.waiting()))
    });
    let (addresses, ports, views, waiting) = drawn.await?;
    let title = scan.specs.join(", ");
    let frame = Frame::new(&request, format!("Maps of {title}"), "Scans");
    let frame = if scan.is_over() && waiting == 0 { frame } else { frame.following(format!("scan={id}")) };
    page(&Page { frame, id: id.to_string(), status, title, waiting, views, addresses, ports })
}
