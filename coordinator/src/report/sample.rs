//! Results to test writers with.

use super::facts::{AgentFacts, Counts, PingMethod, ScanFacts, Status};
use coordinator_core::host::{Answer, Host};
use protocol::id::ScanId;
use protocol::probe::{Cause, Outcome, ProbeKind, Reason, Slot, State};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// A row of these outcomes; each open port and live host answered after 418 µs.
pub(super) fn row(address: &str, outcomes: &[(Slot, Outcome)]) -> Host {
    let mut host = Host::new(address.parse().unwrap());
    for &(slot, outcome) in outcomes {
        let rtt_us = outcome.is_finding().then_some(418);
        host.fold(slot, Answer { outcome, rtt_us, seen_by: 0 });
    }
    host
}

/// Facts that fit the rows.
pub(super) fn facts(rows: &[Host], kinds: &[ProbeKind]) -> ScanFacts {
    let mut counts = Counts::default();
    rows.iter().for_each(|host| counts.add_host(host));
    let gap = counts.not_probed().any(|(cause, _)| cause.is_gap());
    ScanFacts {
        id: ScanId::from_bytes(*b"\x01\x93\x45\x67\x89\xab\x7c\xde\x8f\x01\x23\x45\x67\x89\xab\xcd"),
        command: "portsweep 192.0.2.11-14 '2001:db8::/127' -w 'a \"b\".json'".to_owned(),
        version: "0.1.0".to_owned(),
        status: if gap { Status::Partial } else { Status::Done },
        started: "2026-01-02T03:04:05.678Z".parse().unwrap(),
        updated: "2026-01-02T03:04:08.9Z".parse().unwrap(),
        finished: Some("2026-01-02T03:04:08.9Z".parse().unwrap()),
        targets: vec!["192.0.2.11-14".to_owned(), "2001:db8::/127".to_owned()],
        exclude: vec![],
        ports: if kinds.contains(&ProbeKind::Tcp) { "1-100,443,61234" } else { "" }.to_owned(),
        kinds: kinds.to_vec(),
        discover: false,
        rate: None,
        seed: 1,
        plan: "c0ffee".repeat(10) + "cafe",
        vantages: vec![],
        names: BTreeMap::new(),
        single_try: counts.probed(),
        counts,
        estimated_loss: None,
        estimated_loss_interval: None,
        window: Some(8_192),
        elapsed: Duration::from_micros(3_222_400),
        agents: vec![AgentFacts {
            name: "here".to_owned(),
            vantage: None,
            version: "0.1.0".to_owned(),
            ping_method: Some(PingMethod::Icmp),
            probed: rows.iter().map(|host| host.targets() - host.not_probed()).sum(),
        }],
    }
}

/// Hosts with open, closed and filtered ports, silent addresses, and some that were not probed; IPv4 and IPv6.
pub(super) fn mixed() -> (ScanFacts, Vec<Host>) {
    let unreached = Outcome::not_probed(Cause::NoRoute);
    let limited = Outcome::not_probed(Cause::LocalLimit);
    let prohibited = Outcome::found(State::Filtered, Reason::AdminProhibited).unwrap();
    let mut first = vec![(Slot::Ping, Outcome::UP)];
    first.extend((1..=100).map(|port| (Slot::Tcp(port), Outcome::CLOSED)));
    first[22] = (Slot::Tcp(22), Outcome::OPEN);
    first[80] = (Slot::Tcp(80), limited);
    first.push((Slot::Tcp(443), prohibited));
    first.push((Slot::Tcp(61234), Outcome::OPEN));
    let all = |ping: Outcome, tcp: Outcome| -> Vec<_> {
        let ports = (1..=100).chain([443, 61234]).map(|port| (Slot::Tcp(port), tcp));
        [(Slot::Ping, ping)].into_iter().chain(ports).collect()
    };
    let mut v6 = all(Outcome::DOWN, Outcome::FILTERED);
    v6[101] = (Slot::Tcp(443), Outcome::OPEN);
    let rows = vec![
        row("192.0.2.11", &first),
        row("192.0.2.12", &all(Outcome::DOWN, Outcome::FILTERED)),
        row("192.0.2.13", &all(Outcome::DOWN, Outcome::FILTERED)),
        row("192.0.2.14", &all(Outcome::DOWN, unreached)),
        row("2001:db8::", &all(unreached, unreached)),
        row("2001:db8::1", &v6),
    ];
    let mut facts = facts(&rows, &ProbeKind::ALL);
    facts.names.insert("192.0.2.11".parse().unwrap(), vec!["www.example".to_owned()]);
    (facts, rows)
}

/// Each cause once, at addresses that stand apart, on a host that is up by a refused port.
pub(super) fn every_cause() -> (ScanFacts, Vec<Host>) {
    let causes = Cause::ALL.iter().zip(1..);
    let unprobed = causes.clone().map(|(&cause, port)| (Slot::Tcp(port), Outcome::not_probed(cause)));
    let mut up: Vec<_> = unprobed.collect();
    up.push((Slot::Tcp(443), Outcome::CLOSED));
    let others = causes.map(|(&cause, number)| {
        let address = Ipv4Addr::new(192, 0, 2, u8::try_from(number * 2).unwrap());
        row(&address.to_string(), &[(Slot::Tcp(443), Outcome::not_probed(cause))])
    });
    let rows: Vec<_> = [row("192.0.2.1", &up)].into_iter().chain(others).collect();
    (facts(&rows, &[ProbeKind::Tcp]), rows)
}

/// So many hosts that are up and two that are not, where only `ping` was asked.
pub(super) fn pinged(count: u32) -> (ScanFacts, Vec<Host>) {
    let first = Ipv4Addr::new(192, 0, 2, 1).to_bits();
    let rows: Vec<_> = (0..count + 2)
        .map(|rank| {
            let outcome = if rank < count { Outcome::UP } else { Outcome::DOWN };
            let address = IpAddr::V4(Ipv4Addr::from_bits(first + rank));
            row(&address.to_string(), &[(Slot::Ping, outcome)])
        })
        .collect();
    (facts(&rows, &[ProbeKind::Ping]), rows)
}
