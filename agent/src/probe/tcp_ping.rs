//! Life asked by TCP where ICMP is not permitted: two connects, to 443 and 80, together. Whoever accepts or refuses one lives.

use super::{ConnectProber, Found};
use crate::scope::Admission;
use agent_core::attempt::Probe;
use agent_core::packets::TCP_PING_CONNECTS;
use futures_util::future::{Either, select};
use protocol::probe::{Outcome, State};
use protocol::time::Time;
use std::pin::pin;

/// The ports that are asked: of these at least one mostly answers, even from behind a firewall.
pub const TCP_PING_PORTS: [u16; 2] = [443, 80];

/// As many are charged to the pacer.
const _: () = assert!(TCP_PING_PORTS.len() == TCP_PING_CONNECTS as usize);

/// Asks hosts for life by connecting.
#[derive(Debug, Default)]
pub struct TcpPingProber {
    connect: ConnectProber,
}

impl TcpPingProber {
    /// A prober that has sent nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) async fn probe(&self, probe: &Probe, right_ends_at: Time, admission: &Admission) -> Found {
        let ask = |port| self.connect.ask(probe, port, right_ends_at, admission);
        let [https, http] = TCP_PING_PORTS;
        // The first sign of life is enough: the other connect is dropped.
        let (https, http) = (pin!(ask(https)), pin!(ask(http)));
        let (first, second) = match select(https, http).await {
            Either::Left((first, http)) if !first.outcome.is_sign_of_life() => (first, Some(http.await)),
            Either::Right((first, https)) if !first.outcome.is_sign_of_life() => (first, Some(https.await)),
            Either::Left((first, _)) | Either::Right((first, _)) => (first, None),
        };
        judge(first, second.unwrap_or(first))
    }
}

/// Of two connects, what they say of the host: up if either shows life, the quicker one's time; else down if either was made, with
/// the reason that says more than silence; else why neither was.
fn judge(first: Found, second: Found) -> Found {
    let (better, other) = if rank(second) < rank(first) { (second, first) } else { (first, second) };
    if better.outcome.is_sign_of_life() {
        let reason = better.outcome.reason().and_then(|reason| Outcome::found(State::Up, reason));
        let rtts =
            [better, other].into_iter().filter(|found| found.outcome.is_sign_of_life()).filter_map(|found| found.rtt);
        return Found { outcome: reason.unwrap_or(Outcome::UP), rtt: rtts.min() };
    }
    match better.outcome.reason() {
        Some(reason) => {
            Found { outcome: Outcome::found(State::Down, reason).unwrap_or(Outcome::DOWN), rtt: better.rtt }
        }
        None => better,
    }
}

fn rank(found: Found) -> u8 {
    match found.outcome {
        outcome if outcome.state() == State::Open => 0,
        outcome if outcome.is_sign_of_life() => 1,
        outcome if outcome.is_probed() && !outcome.is_silence() => 2,
        outcome if outcome.is_probed() => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::probe::{Cause, Reason};
    use std::time::Duration;

    #[test]
    fn a_host_is_up_by_any_answer_and_not_probed_only_if_neither_was_asked() {
        let ms = |millis| Some(Duration::from_millis(millis));
        let found = |outcome, rtt| Found { outcome, rtt };
        let open = found(Outcome::OPEN, ms(9));
        let closed = found(Outcome::CLOSED, ms(4));
        let silent = found(Outcome::FILTERED, None);
        let prohibited = found(Outcome::found(State::Filtered, Reason::AdminProhibited).unwrap(), ms(3));
        let unsent = found(Outcome::not_probed(Cause::LocalLimit), None);
        let up = |reason, rtt| found(Outcome::found(State::Up, reason).unwrap(), rtt);
        let cases = [
            (open, closed, up(Reason::SynAck, ms(4))),
            (closed, silent, up(Reason::ConnRefused, ms(4))),
            (closed, unsent, up(Reason::ConnRefused, ms(4))),
            (silent, silent, found(Outcome::DOWN, None)),
            (silent, prohibited, found(Outcome::found(State::Down, Reason::AdminProhibited).unwrap(), ms(3))),
            (silent, unsent, found(Outcome::DOWN, None)),
            (unsent, unsent, unsent),
        ];
        for (first, second, expected) in cases {
            assert_eq!(judge(first, second), expected);
            assert_eq!(judge(second, first), expected);
        }
    }
}
