//! ICMP echo (RFC 792, RFC 4443): hosts are asked for life, and only an echo reply to our own request, from the address that was
//! asked, is a sign of it.
//!
//! - [`Echoes`] is how it is done on Linux: one socket an IP version, on an engine's thread. [`packet`] reads and writes the bytes,
//!   [`socket`] moves them, [`judge`] says what they mean.
//! - [`IcmpProber`] does the same through surge-ping, a future a request, and is for systems that have no epoll.
//!
//! What arrives faster than it is read is dropped by the kernel once the socket's buffer is full; see [`buffer`].

mod buffer;
mod client;
#[cfg(target_os = "linux")]
mod echoes;
mod judge;
#[cfg(target_os = "linux")]
mod packet;
#[cfg(target_os = "linux")]
mod socket;

pub use client::IcmpProber;
#[cfg(target_os = "linux")]
pub(super) use echoes::Echoes;
