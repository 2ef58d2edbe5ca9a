//! The coordinator's page: rendered here, readable with scripts off, and kept current by one small module that follows the events.
//!
//! A page is an askama template over what the feed and the store say; its forms change things through the same functions as the API. What
//! changes while one looks stands in elements with `data-live`: on an event the module fetches the page again and takes these over.
//! [`frame`] is what is around every page.

pub mod agents;
pub mod ask;
pub mod assets;
pub mod audit;
pub mod chart;
pub mod door;
pub mod drawing;
pub mod found;
pub mod frame;
pub mod host;
pub mod maps;
pub mod new_scan;
pub mod overview;
pub mod results;
pub mod scan;
pub mod summary;
pub mod words;

use actix_web::web;

/// Where the pages are.
pub fn routes(config: &mut web::ServiceConfig) {
    let way = |path: &str| web::resource(path.to_owned());
    config
        .service(way("/").get(door::door))
        .service(way(door::SIGN_IN).post(door::sign_in))
        .service(way("/sign-out").post(door::sign_out))
        .service(way("/assets/{name}").get(assets::asset))
        .service(way("/scans").get(overview::scans).post(new_scan::start))
        .service(way("/scans/new").get(new_scan::blank))
        .service(way("/scans/{id}").get(scan::show))
        .service(way("/scans/{id}/pause").post(scan::pause))
        .service(way("/scans/{id}/resume").post(scan::resume))
        .service(way("/scans/{id}/cancel").post(scan::cancel))
        .service(way("/scans/{id}/rate").post(scan::set))
        .service(way("/scans/{id}/exclude").post(scan::exclude))
        .service(way("/scans/{id}/results").get(results::results))
        .service(way("/scans/{id}/maps").get(maps::show))
        .service(way("/scans/{id}/hosts/{address}").get(host::show))
        .service(way("/agents").get(agents::list))
        .service(way("/agents/join-token").post(agents::join))
        .service(way("/agents/{name}").get(agents::show))
        .service(way("/agents/{name}/label").post(agents::label))
        .service(way("/agents/{name}/drain").post(agents::drain))
        .service(way("/agents/{name}/undrain").post(agents::drain))
        .service(way("/agents/{name}/revoke").post(agents::revoke))
        .service(way("/audit").get(audit::audit));
}
