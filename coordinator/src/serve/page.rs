//! Where this machine reaches its coordinator: `serve` leaves it in `STATE/page`, so that whoever types commands where it runs names neither
//! address nor authority.

use crate::cli::ServeRequest;
use crate::fleet::authority::kept_pin;
use crate::state::State;
use protocol::token::Pin;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// The file in the state directory.
const FILE: &str = "page";
/// Where the authority lies there.
pub(super) const AUTHORITY: &str = "authority";
/// The longest URL that is one.
const URL_BYTES_MAX: usize = 128;

/// Leaves where it is.
///
/// # Errors
/// If it cannot be written.
pub(super) fn keep(directory: &Path, request: &ServeRequest, bound: SocketAddr) -> io::Result<()> {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let scheme = if request.tls { "https" } else { "http" };
    fs::write(directory.join(FILE), format!("{scheme}://{}\n", SocketAddr::new(ip, bound.port())))
}

/// Takes that back: it runs no more.
pub(super) fn forget(directory: &Path) {
    // What stays leads to an address where nobody answers, as without it.
    let _gone = fs::remove_file(directory.join(FILE));
}

/// Where the coordinator of this state is, or was when it last ran; `None` if none left word.
#[must_use]
pub fn kept(state: &State) -> Option<String> {
    let text = fs::read_to_string(state.directory().join(FILE)).ok()?;
    let url = text.trim();
    let address = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    (url.len() <= URL_BYTES_MAX && address.parse::<SocketAddr>().is_ok()).then(|| url.to_owned())
}

/// By what the coordinator of this state is known in TLS.
#[must_use]
pub fn pin(state: &State) -> Option<Pin> {
    kept_pin(&state.directory().join(AUTHORITY))
}
