//! What an ICMP message says of the host that was asked.

use protocol::probe::{Outcome, Reason, State};

/// RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section 5.2.7.
pub(super) fn v4(kind: u8, code: u8) -> Outcome {
    match (kind, code) {
        (0, _) => Outcome::UP,
        (3, 0 | 6) => down(Reason::NetUnreach),
        (3, 1 | 5 | 7 | 8 | 11 | 12) => down(Reason::HostUnreach),
        (3, 2) => down(Reason::ProtoUnreach),
        (3, 9 | 10 | 13) => down(Reason::AdminProhibited),
        (3 | 11 | 12, _) => down(Reason::DestUnreach),
        // A redirect or a source quench is no answer.
        _ => Outcome::DOWN,
    }
}

/// RFC 4443 sections 3 and 4.
pub(super) fn v6(kind: u8, code: u8) -> Outcome {
    match (kind, code) {
        (129, _) => Outcome::UP,
        (1, 0 | 2) => down(Reason::NetUnreach),
        (1, 1 | 5 | 6) => down(Reason::AdminProhibited),
        (1, 3) => down(Reason::HostUnreach),
        (1..=4, _) => down(Reason::DestUnreach),
        _ => Outcome::DOWN,
    }
}

fn down(reason: Reason) -> Outcome {
    Outcome::found(State::Down, reason).unwrap_or(Outcome::DOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_echo_reply_is_a_sign_of_life() {
        let cases_v4 = [
            (0, 0, Outcome::UP),
            (3, 0, down(Reason::NetUnreach)),
            (3, 1, down(Reason::HostUnreach)),
            (3, 2, down(Reason::ProtoUnreach)),
            (3, 3, down(Reason::DestUnreach)),
            (3, 13, down(Reason::AdminProhibited)),
            (11, 0, down(Reason::DestUnreach)),
            (5, 1, Outcome::DOWN),
        ];
        for (kind, code, outcome) in cases_v4 {
            assert_eq!(v4(kind, code), outcome, "ICMP type {kind} code {code}");
        }
        let cases_v6 = [
            (129, 0, Outcome::UP),
            (1, 0, down(Reason::NetUnreach)),
            (1, 1, down(Reason::AdminProhibited)),
            (1, 3, down(Reason::HostUnreach)),
            (1, 4, down(Reason::DestUnreach)),
            (3, 0, down(Reason::DestUnreach)),
            (137, 0, Outcome::DOWN),
        ];
        for (kind, code, outcome) in cases_v6 {
            assert_eq!(v6(kind, code), outcome, "ICMPv6 type {kind} code {code}");
        }
        for (kind, code) in (0..=u8::MAX).flat_map(|kind| [(kind, 0), (kind, 1)]) {
            assert_eq!(v4(kind, code).is_sign_of_life(), kind == 0);
            assert_eq!(v6(kind, code).is_sign_of_life(), kind == 129);
        }
    }
}
