//! The network without its socket: frames of an ordinary scanner in, the frames of hosts out, in virtual time.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use protocol::port::parse_ports;

use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SCANNER: [u8; 4] = [192, 0, 2, 1];

fn world(hosts: &str) -> Arc<World> {
    Arc::new(World::parse(&format!("seed = 3\nprefix = \"198.51.100.0/24\"\n{hosts}")).unwrap())
}

fn network(hosts: &str) -> Network {
    Network::new(world(hosts))
}

fn syn(to: u8, port: u16) -> Vec<u8> {
    let packet = PacketBuilder::ethernet2(MAC, frame::GATEWAY)
        .ipv4(SCANNER, [198, 51, 100, to], 64)
        .tcp(40_000, port, 7, 9)
        .syn();
    let mut bytes = Vec::new();
    packet.write(&mut bytes, &[]).unwrap();
    bytes
}

fn echo(to: u8) -> Vec<u8> {
    let packet =
        PacketBuilder::ethernet2(MAC, frame::GATEWAY).ipv4(SCANNER, [198, 51, 100, to], 64).icmpv4_echo_request(5, 6);
    let mut bytes = Vec::new();
    packet.write(&mut bytes, b"payload").unwrap();
    bytes
}

/// What comes out by `until`: time of sending in milliseconds, and the frame read by a receiver that checks checksums.
fn answers(network: &mut Network, until_ms: u64) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    while let Some(at) = network.next_at().filter(|at| *at <= Duration::from_millis(until_ms)) {
        let mut batch = Vec::with_capacity(1);
        network.pop_due(at, &mut batch);
        all.extend(batch.iter().map(|frame| (at.as_millis() as u64, described(frame.bytes()))));
    }
    all
}

fn described(bytes: &[u8]) -> String {
    let sliced = SlicedPacket::from_ethernet(bytes).unwrap();
    let Some(NetSlice::Ipv4(ip)) = &sliced.net else { panic!("no IPv4") };
    let header = ip.header();
    assert_eq!(header.destination(), SCANNER);
    assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
    let from = header.source_addr().octets()[3];
    match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            assert_eq!(tcp.checksum(), tcp.calc_checksum_ipv4(header.source(), header.destination()).unwrap());
            assert_eq!(tcp.destination_port(), 40_000);
            assert_eq!(tcp.acknowledgment_number(), 8);
            let flags = [(tcp.syn(), "syn"), (tcp.rst(), "rst"), (tcp.ack(), "ack")];
            let flags: Vec<_> = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
            format!("{from}:{} {}", tcp.source_port(), flags.join("+"))
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            let (kind, code) = (icmp.type_u8(), icmp.code_u8());
            format!("{from} icmp {kind}/{code} {} bytes", icmp.payload().len())
        }
        other => panic!("{other:?}"),
    }
}

fn ask(network: &mut Network, frames: &[Vec<u8>]) -> Vec<String> {
    for frame in frames {
        network.receive(Duration::ZERO, frame);
    }
    answers(network, 20_000).into_iter().map(|(_, text)| text).collect()
}

#[test]
fn a_host_answers_by_its_truth() {
    let mut refusing = network("[[hosts]]\nshare = 1.0\nopen = \"22\"");
    assert_eq!(
        ask(&mut refusing, &[syn(5, 22), syn(5, 23), echo(5)]),
        ["5:22 syn+ack", "5:23 rst+ack", "5 icmp 0/0 7 bytes"]
    );
    let mut dropping = network("[[hosts]]\nshare = 1.0\nopen = \"22\"\nclosed = \"drop\"\necho = false");
    assert_eq!(ask(&mut dropping, &[syn(5, 22), syn(5, 23), echo(5)]), ["5:22 syn+ack"]);
    let mut prohibiting = network("[[hosts]]\nshare = 1.0\nclosed = \"prohibit\"");
    assert_eq!(ask(&mut prohibiting, &[syn(5, 23)]), ["5 icmp 3/13 28 bytes"]);
    let mut empty = network("");
    assert_eq!(ask(&mut empty, &[syn(5, 22), echo(5)]), [""; 0]);
    assert_eq!(empty.account().total(), Received { tcp: 1, ping: 1 });
}

#[test]
fn answers_come_after_the_round_trip_of_their_host() {
    let mut far = network("[[hosts]]\nshare = 1.0\nrtt_ms = [10, 80]");
    let mut seen = Vec::new();
    for to in 0..=255 {
        far.receive(Duration::from_secs(1), &echo(to));
    }
    let world = world("[[hosts]]\nshare = 1.0\nrtt_ms = [10, 80]");
    for (at, text) in answers(&mut far, 20_000) {
        let to: u8 = text.split(' ').next().unwrap().parse().unwrap();
        let truth = world.host(IpAddr::from([198, 51, 100, to])).unwrap();
        assert_eq!(u128::from(at), 1_000 + truth.round_trip.as_millis());
        seen.push(at);
    }
    let (least, most) = (seen[0], seen[255]);
    assert!((1_010..1_015).contains(&least) && (1_075..=1_080).contains(&most), "{least} to {most}");
}

#[test]
fn shares_of_hosts_and_of_ports_are_as_the_world_says() {
    let world = World::parse(
        "seed = 9\nprefix = \"198.18.0.0/16\"\n[[hosts]]\nshare = 0.25\nopen = \"1-10\"\nopen_share = 0.3\n[[hosts]]\nshare = 0.5\nclosed = \"drop\"",
    )
    .unwrap();
    let mut hosts = BTreeMap::<_, u32>::new();
    let mut open = 0;
    for host in world.all_hosts() {
        *hosts.entry(host.kind.closed == Closed::Drop).or_default() += 1;
        open += (1..=10).filter(|port| host.port(*port) == PortTruth::Open).count();
    }
    let (refusing, dropping) = (hosts[&false], hosts[&true]);
    // Five standard deviations of a binomial draw.
    assert!(refusing.abs_diff(16_384) < 555 && dropping.abs_diff(32_768) < 640, "{hosts:?}");
    let expected = f64::from(refusing) * 3.0;
    assert!((open as f64 - expected).abs() < 5.0 * (expected * 0.7).sqrt(), "{open} of {expected}");
}

#[test]
fn loss_each_way_is_drawn_for_each_try_and_by_the_seed() {
    let hosts = "[[hosts]]\nshare = 1.0\nloss = [0.1, 0.2]";
    let answered = |mut network: Network| {
        let frames: Vec<_> = (0..=255).flat_map(|to| (1..=40).map(move |port| syn(to, port))).collect();
        let first = ask(&mut network, &frames);
        let second = ask(&mut network, &frames);
        (first, second)
    };
    let (first, second) = answered(network(hosts));
    let all = 256.0 * 40.0;
    for answers in [&first, &second] {
        let lost = 1.0 - answers.len() as f64 / all;
        assert!((lost - 0.28).abs() < 0.022, "{lost} was lost of a round trip");
    }
    assert_ne!(first, second, "the second try has the same luck");
    assert_eq!(answered(network(hosts)), (first, second), "the same seed, another fate");
}

#[test]
fn rates_of_a_host_drop_what_is_beyond() {
    let over_a_second = |hosts: &str, frame: fn(u8, u16) -> Vec<u8>| {
        let mut network = network(hosts);
        for at in 0..1_000_u16 {
            network.receive(Duration::from_millis(at.into()), &frame(5, at + 1));
        }
        answers(&mut network, 20_000).len()
    };
    let ping: fn(u8, u16) -> Vec<u8> = |to, _| echo(to);
    // A tenth of a second at once, then the rate.
    assert_eq!(over_a_second("[[hosts]]\nshare = 1.0\nanswers_per_s = 100", syn), 109);
    assert_eq!(over_a_second("[[hosts]]\nshare = 1.0\nrst_per_s = 50", syn), 54);
    assert_eq!(over_a_second("[[hosts]]\nshare = 1.0\nrst_per_s = 50", ping), 1_000);
    assert_eq!(over_a_second("[[hosts]]\nshare = 1.0\nicmp_per_s = 50", ping), 54);
    assert_eq!(over_a_second("[[hosts]]\nshare = 1.0\nicmp_per_s = 50", syn), 1_000);
}

#[test]
fn a_link_passes_on_so_many_a_second_and_drops_what_its_queue_cannot_hold() {
    let world = "seed = 1\nprefix = \"198.51.100.0/24\"\nlink = { packets_per_s = 100, queue = 3 }\n[[hosts]]\nshare = 1.0\nrtt_ms = [0, 0]\n";
    let mut network = Network::new(Arc::new(World::parse(world).unwrap()));
    for to in 1..=5 {
        network.receive(Duration::ZERO, &syn(to, 80));
    }
    let times: Vec<_> = answers(&mut network, 1_000).into_iter().map(|(at, _)| at).collect();
    assert_eq!(times, [10, 20, 30], "the fourth and the fifth find no room");
    network.receive(Duration::from_millis(15), &syn(4, 80));
    let times: Vec<_> = answers(&mut network, 1_000).into_iter().map(|(at, _)| at).collect();
    assert_eq!(times, [40], "by then there is some, behind those that wait");
}

#[test]
fn a_host_begins_and_stops_counted_from_the_first_probe() {
    let mut network = network("[[hosts]]\nshare = 1.0\nfrom_s = 1.0\nuntil_s = 2.0");
    for (at, to) in [(5_000, 1), (5_999, 2), (6_000, 3), (6_999, 4), (7_000, 5)] {
        network.receive(Duration::from_millis(at), &echo(to));
    }
    let heard: Vec<_> = answers(&mut network, 20_000).into_iter().map(|(_, text)| text).collect();
    assert_eq!(heard, ["3 icmp 0/0 7 bytes", "4 icmp 0/0 7 bytes"]);
}

#[test]
fn what_arrives_is_counted_by_address_and_bin() {
    let mut network = network("[[hosts]]\nshare = 1.0");
    for (at, frame) in [(0, syn(5, 1)), (99, syn(5, 2)), (100, echo(5)), (730, syn(5, 1)), (730, syn(6, 1))] {
        network.receive(Duration::from_millis(at), &frame);
    }
    network.receive(Duration::ZERO, &[0; 60]);
    let account = network.into_account();
    assert_eq!(account.at(5), Received { tcp: 3, ping: 1 });
    assert_eq!(account.bins_at(5), [(0, 2), (1, 1), (7, 1)]);
    assert_eq!((account.at(9), account.bins_at(9)), (Received::default(), [].as_slice()));
    assert_eq!((account.total(), account.other), (Received { tcp: 4, ping: 1 }, 1));
    assert_eq!(account.fullest_bin(), 2);
    let lines: Vec<_> = account.lines(|offset| Ipv4Addr::from(offset).into()).collect();
    assert_eq!(lines, ["0.0.0.5 tcp=3 ping=1 0:2 1:1 7:1", "0.0.0.6 tcp=1 ping=0 7:1"]);
}

#[test]
fn odd_hosts_do_what_they_are_named_for() {
    let odd = |name: &str, frames: &[Vec<u8>]| {
        ask(&mut network(&format!("[[hosts]]\nshare = 1.0\nopen = \"22\"\nodd = [\"{name}\"]")), frames)
    };
    assert_eq!(odd("wrong-port", &[syn(5, 22)]), ["5:23 syn+ack"]);
    assert_eq!(odd("reset-after-accept", &[syn(5, 22)]), ["5:22 syn+ack", "5:22 rst+ack"]);
    assert_eq!(odd("duplicate", &[echo(5)]), ["5 icmp 0/0 7 bytes"; 3]);
    assert_eq!(odd("late-contradiction", &[syn(5, 22)]), ["5:22 syn+ack", "5:22 syn+ack", "5:22 rst+ack"]);
    assert_eq!(odd("truncated-error", &[syn(5, 22)]), ["5 icmp 3/13 20 bytes"]);
    assert_eq!(odd("foreign-error", &[syn(5, 22), echo(5)]), ["5 icmp 3/13 28 bytes"; 2]);
    let flood = odd("flood", &[syn(5, 22)]);
    assert_eq!(flood.len(), 41);
    assert!(flood.contains(&"6:22 syn+ack".to_owned()) && flood.contains(&"25:22 rst+ack".to_owned()), "{flood:?}");
}

#[test]
fn neighbours_of_the_gateway_are_told_where_it_is() {
    let question = etherparse::ArpEthIpv4Packet {
        operation: etherparse::ArpOperation::REQUEST,
        sender_mac: MAC,
        sender_ipv4: SCANNER,
        target_mac: [0; 6],
        target_ipv4: [192, 0, 2, 2],
    };
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(MAC, [0xff; 6]).arp(question.into()).write(&mut bytes).unwrap();
    let mut network = network("");
    network.receive(Duration::ZERO, &bytes);
    let mut batch = Vec::with_capacity(1);
    network.pop_due(Duration::ZERO, &mut batch);
    let sliced = SlicedPacket::from_ethernet(batch[0].bytes()).unwrap();
    let Some(NetSlice::Arp(arp)) = sliced.net else { panic!("no ARP") };
    let answer = arp.to_packet().try_eth_ipv4().unwrap();
    assert_eq!((answer.sender_mac, answer.sender_ipv4, answer.target_mac), (frame::GATEWAY, [192, 0, 2, 2], MAC));
}

#[test]
fn worlds_that_cannot_be_are_refused() {
    let bad = [
        "seed = 1\nprefix = \"10.0.0.0/16\"",
        "seed = 1\nprefix = \"198.51.100.0/23\"",
        "seed = 1\nprefix = \"198.51.100.1/24\"",
        "seed = 1\nprefix = \"2001:db8::/64\"",
        "seed = 1\nprefix = \"198.51.100.0/24\"\n[[hosts]]\nshare = 1.1",
        "seed = 1\nprefix = \"198.51.100.0/24\"\n[[hosts]]\nshare = 0.6\n[[hosts]]\nshare = 0.6",
        "seed = 1\nprefix = \"198.51.100.0/24\"\n[[hosts]]\nshare = 1.0\nrtt_ms = [80, 10]",
        "seed = 1\nprefix = \"198.51.100.0/24\"\n[[hosts]]\nshare = 1.0\nloss = [0.0, 1.5]",
        "seed = 1\nprefix = \"198.51.100.0/24\"\n[[hosts]]\nshare = 1.0\nopen = \"99999\"",
        "seed = 1\nprefix = \"198.51.100.0/24\"\n[[hosts]]\nshare = 1.0\nanswers_per_s = 0",
        "seed = 1\nprefix = \"198.51.100.0/24\"\n[[hosts]]\nshare = 1.0\nfrom_s = 3\nuntil_s = 2",
        "seed = 1\nprefix = \"198.51.100.0/24\"\n[[hosts]]\nshare = 1.0\nlatency = 5",
    ];
    for text in bad {
        assert!(World::parse(text).is_err(), "{text}");
    }
    World::parse("seed = 1\nprefix = \"2001:db8:1::/112\"").unwrap();
}

#[test]
fn a_score_tells_found_missed_and_made_up() {
    let world = world("[[hosts]]\nshare = 1.0\nopen = \"22\"");
    let asked = Asked { ping: false, ports: parse_ports("22,80").unwrap() };
    let at = |last: u8| IpAddr::from([198, 51, 100, last]);
    let mut seen = Seen { closed: Some(BTreeMap::new()), ..Seen::default() };
    for last in 0..=254 {
        seen.open.insert((at(last), 22));
        seen.closed.as_mut().unwrap().insert(at(last), 1);
    }
    seen.open.insert((at(7), 80));
    seen.closed.as_mut().unwrap().insert(at(9), 2);
    let score = Score::of(&world, &asked, &seen);
    assert_eq!((score.open.there, score.open.found, score.open.wrong), (256, 255, 1));
    assert_eq!((score.closed.there, score.closed.found, score.closed.wrong), (256, 255, 1));
    assert_eq!((score.up.there, score.wrong()), (0, 2));
    let pings = Asked { ping: true, ports: protocol::port::PortSet::new() };
    let seen = Seen { up: [at(1), IpAddr::from([192, 0, 2, 9])].into(), ..Seen::default() };
    let score = Score::of(&world, &pings, &seen);
    assert_eq!((score.up.there, score.up.found, score.up.wrong), (256, 1, 1));
    assert!((score.up.recall() - 1.0 / 256.0).abs() < 1e-9);
}

#[test]
fn the_truth_of_a_host_is_one_line() {
    let world =
        world("[[hosts]]\nshare = 1.0\nopen = \"22,80\"\nrtt_ms = [5, 5]\nloss = [0.5, 0.5]\nclosed = \"drop\"");
    let host = world.host(IpAddr::from([198, 51, 100, 5])).unwrap();
    assert_eq!(host.to_string(), "198.51.100.5 rtt_ms=5.000 loss=0.7500 echo closed=drop open=22,80");
}
