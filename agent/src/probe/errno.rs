//! What an error means. The same number says different things by where it came from: what `socket`, `connect` or `send` itself
//! returns is this machine's; what SO_ERROR says later came from the network.
//!
//! Linux turns ICMP errors into these numbers (`icmp_err_convert` in net/ipv4/icmp.c, `tab_unreach` in net/ipv6/icmp.c).
//! That `connect` returns nothing from the network was tried: on loopback, where the answer is there before `connect` returns,
//! a refusal and every ICMP error still come as EINPROGRESS first.

use crate::limits::Lack;
use protocol::probe::{Cause, Outcome, Reason, State};
use std::io;

/// What an error of `socket`, `connect` or `send` itself asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Local {
    /// The connection is on its way.
    InProgress,
    /// The target refused. Only some systems say so at once.
    Refused,
    /// This machine lacks descriptors, buffers or memory, or is busy for a moment: it is tried again when there are some.
    Pressure(Option<Lack>),
    /// It lacks ports, unless it means that this machine has no address of that IP version.
    PressureOrNoAddress,
    /// This machine refused: perhaps a broadcast address, perhaps a rule. It is tried three times.
    Denied,
    /// There is no way to the target, unless it is a broadcast address.
    NoRoute,
}

/// Reads an error that `socket`, `connect` or `send` returned.
pub(super) fn local(error: &io::Error) -> Local {
    match error.raw_os_error() {
        Some(libc::EINPROGRESS) => Local::InProgress,
        Some(libc::ECONNREFUSED) => Local::Refused,
        Some(libc::EMFILE | libc::ENFILE) => Local::Pressure(Some(Lack::Descriptors)),
        Some(libc::ENOBUFS | libc::ENOMEM) => Local::Pressure(Some(Lack::SendBuffers)),
        Some(libc::EAGAIN | libc::EINTR | libc::EALREADY) => Local::Pressure(None),
        Some(libc::EADDRNOTAVAIL | libc::EADDRINUSE) => Local::PressureOrNoAddress,
        Some(libc::EACCES | libc::EPERM) => Local::Denied,
        // ENETUNREACH and EHOSTUNREACH are routes that are missing or say "unreachable", EINVAL a blackhole route or a link-local
        // address without its interface, EAFNOSUPPORT a machine without IPv6. Whatever else: nothing was sent.
        _ => Local::NoRoute,
    }
}

/// True if nothing but descriptors is lacking.
pub(super) fn is_want_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Reads what SO_ERROR says of a connect: the network's answer.
pub(super) fn from_network(errno: i32) -> Outcome {
    let reason = match errno {
        libc::ECONNREFUSED => return Outcome::CLOSED,
        // The target accepted and has reset the connection since.
        0 | libc::ECONNRESET | libc::EPIPE => return Outcome::OPEN,
        libc::ETIMEDOUT => Reason::NoResponse,
        libc::EHOSTUNREACH | libc::EHOSTDOWN => Reason::HostUnreach,
        libc::ENETUNREACH => Reason::NetUnreach,
        libc::EACCES => Reason::AdminProhibited,
        libc::ENOPROTOOPT => Reason::ProtoUnreach,
        _ => Reason::DestUnreach,
    };
    Outcome::found(State::Filtered, reason).unwrap_or(Outcome::FILTERED)
}

/// Reads an error from SO_ERROR that is not the network's after all: this machine ran out while the connection was made.
pub(super) fn late_cause(errno: i32) -> Option<Cause> {
    match errno {
        libc::ENOBUFS | libc::ENOMEM => Some(Cause::LocalLimit),
        libc::EPERM => Some(Cause::PermDenied),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_call_itself_returns_is_local_and_never_a_state() {
        let cases = [
            (libc::EINPROGRESS, Local::InProgress),
            (libc::ECONNREFUSED, Local::Refused),
            (libc::EMFILE, Local::Pressure(Some(Lack::Descriptors))),
            (libc::ENFILE, Local::Pressure(Some(Lack::Descriptors))),
            (libc::ENOBUFS, Local::Pressure(Some(Lack::SendBuffers))),
            (libc::ENOMEM, Local::Pressure(Some(Lack::SendBuffers))),
            (libc::EAGAIN, Local::Pressure(None)),
            (libc::EADDRNOTAVAIL, Local::PressureOrNoAddress),
            (libc::EACCES, Local::Denied),
            (libc::EPERM, Local::Denied),
            (libc::ENETUNREACH, Local::NoRoute),
            (libc::EHOSTUNREACH, Local::NoRoute),
            (libc::EINVAL, Local::NoRoute),
            (libc::EAFNOSUPPORT, Local::NoRoute),
        ];
        for (errno, meaning) in cases {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!(local(&error), meaning, "{error}");
        }
    }

    #[test]
    fn what_so_error_says_came_from_the_network() {
        let filtered = |reason| Outcome::found(State::Filtered, reason).unwrap();
        let cases = [
            (0, Outcome::OPEN),
            (libc::ECONNRESET, Outcome::OPEN),
            (libc::ECONNREFUSED, Outcome::CLOSED),
            (libc::ETIMEDOUT, Outcome::FILTERED),
            (libc::EHOSTUNREACH, filtered(Reason::HostUnreach)),
            (libc::ENETUNREACH, filtered(Reason::NetUnreach)),
            (libc::EACCES, filtered(Reason::AdminProhibited)),
            (libc::ENOPROTOOPT, filtered(Reason::ProtoUnreach)),
            (libc::EPROTO, filtered(Reason::DestUnreach)),
        ];
        for (errno, outcome) in cases {
            assert_eq!(from_network(errno), outcome, "{}", io::Error::from_raw_os_error(errno));
            assert_eq!(late_cause(errno), None);
        }
        assert_eq!(late_cause(libc::ENOBUFS), Some(Cause::LocalLimit));
        assert_eq!(late_cause(libc::EPERM), Some(Cause::PermDenied));
    }
}
