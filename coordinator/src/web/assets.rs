//! What pages load: style, one ES module, the icon. Part of the program; in a debug build read from the source tree.

use super::frame::Failure;
use crate::api::problem::Problem;
use actix_web::http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use actix_web::{HttpRequest, HttpResponse, web};
use rust_embed::Embed;

#[derive(Embed)]
#[folder = "assets/"]
struct Assets;

/// `GET /assets/{name}`
pub async fn asset(request: HttpRequest, name: web::Path<String>) -> Result<HttpResponse, Failure> {
    let Some(file) = Assets::get(&name) else {
        return Err(Problem::missing("there is no such file").into());
    };
    let content_type = match name.rsplit_once('.').map(|(_, kind)| kind) {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    };
    let tag: String = file.metadata.sha256_hash()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{tag}\"");
    let is_known = request.headers().get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut answer = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    answer.insert_header((ETAG, tag)).insert_header((CACHE_CONTROL, "no-cache"));
    Ok(if is_known { answer.finish() } else { answer.content_type(content_type).body(file.data.into_owned()) })
}
