//! How many packets a probe sends: what pacers are charged, so that the kernel sends nothing that was not counted.

use protocol::message::PingMethod;
use protocol::probe::ProbeKind;
use std::time::Duration;

/// When Linux sends a SYN again that was not answered: 1 s after the first (TCP_TIMEOUT_INIT), then after twice as long each.
const SYN_AGAIN: Duration = Duration::from_secs(1);
/// A timer may be late by so much: who waits longer than [`SYN_AGAIN`] less this is charged for the second SYN.
const TIMER_LATE: Duration = Duration::from_millis(50);
/// How many connects ask for life where ICMP is not permitted.
pub const TCP_PING_CONNECTS: u32 = 2;

/// How many SYNs the kernel may send for one connect that waits so long: 1 below 950 ms, 2 below 2.95 s, then 3, 4. What exceeds
/// one is charged to the pacer beforehand.
#[must_use]
pub fn syns_within(timeout: Duration) -> u32 {
    let (mut syns, mut again_at, mut gap) = (1, SYN_AGAIN, SYN_AGAIN);
    while timeout + TIMER_LATE >= again_at {
        gap *= 2;
        again_at += gap;
        syns += 1;
    }
    syns
}

/// How many packets one probe sends at most.
#[must_use]
pub fn per_probe(kind: ProbeKind, ping_method: PingMethod, timeout: Duration) -> u32 {
    match (kind, ping_method) {
        (ProbeKind::Tcp, _) => syns_within(timeout),
        (ProbeKind::Ping, PingMethod::Tcp) => TCP_PING_CONNECTS * syns_within(timeout),
        (ProbeKind::Ping, PingMethod::Icmp) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_wait_is_charged_for_the_syns_that_the_kernel_sends_again() {
        for (millis, syns) in
            [(1, 1), (900, 1), (949, 1), (950, 2), (1_000, 2), (2_949, 2), (3_000, 3), (7_000, 4), (10_000, 4)]
        {
            assert_eq!(syns_within(Duration::from_millis(millis)), syns, "{millis} ms");
        }
    }

    #[test]
    fn a_probe_costs_what_it_may_send() {
        let cost = |kind, method, millis| per_probe(kind, method, Duration::from_millis(millis));
        assert_eq!(cost(ProbeKind::Tcp, PingMethod::Icmp, 900), 1);
        assert_eq!(cost(ProbeKind::Tcp, PingMethod::Icmp, 950), 2);
        assert_eq!(cost(ProbeKind::Tcp, PingMethod::Icmp, 10_000), 4);
        assert_eq!(cost(ProbeKind::Ping, PingMethod::Icmp, 10_000), 1);
        assert_eq!(cost(ProbeKind::Ping, PingMethod::Tcp, 900), 2);
        assert_eq!(cost(ProbeKind::Ping, PingMethod::Tcp, 3_000), 6);
    }
}
