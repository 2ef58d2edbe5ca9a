//! Connects to sockets of this process on loopback: what is open, closed, refused locally.

use super::*;
use crate::scope::Scope;
use agent_core::attempt::ProbeId;
use agent_core::round_trip::Wait;
use protocol::id::{Epoch, ScanId};
use protocol::probe::Target;
use protocol::range_set::AddressSet;
use std::net::TcpListener;
use std::sync::Arc;

fn gate(allowed: &[&str]) -> Admission {
    let allowed: AddressSet = allowed.iter().map(|address| address.parse::<IpAddr>().unwrap()).collect();
    Admission::new(Clock::Boottime, Arc::new(Scope::typed(allowed)))
}

fn probe(address: &str, port: u16) -> Probe {
    Probe {
        id: ProbeId { epoch: Epoch::new(1), index: 0 },
        scan: ScanId::from_bytes([1; 16]),
        target: Target { address: address.parse().unwrap(), slot: Slot::Tcp(port) },
        wait: Wait::fixed(Duration::from_secs(5)),
    }
}

#[tokio::test]
async fn a_listening_port_is_open_and_one_that_nobody_listens_on_is_closed() {
    for address in ["127.0.0.1", "::1"] {
        let Ok(listener) = TcpListener::bind((address, 0)) else {
            assert_eq!(address, "::1", "only IPv6 may be missing here");
            continue;
        };
        let gate = gate(&[address]);
        let prober = ConnectProber::new();
        let port = listener.local_addr().unwrap().port();
        let open = prober.probe(&probe(address, port), Time::NEVER, &gate).await;
        assert_eq!(open.outcome, Outcome::OPEN);
        assert!(open.rtt.is_some_and(|rtt| rtt < Duration::from_secs(5)));
        drop(listener);
        let closed = prober.probe(&probe(address, port), Time::NEVER, &gate).await;
        assert_eq!(closed.outcome, Outcome::CLOSED);
        assert!(closed.rtt.is_some());
    }
}

#[tokio::test]
async fn an_open_connection_is_ended_by_a_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let open = ConnectProber::new().probe(&probe("127.0.0.1", port), Time::NEVER, &gate(&["127.0.0.1"])).await;
    assert_eq!(open.outcome, Outcome::OPEN);
    let (mut accepted, _) = listener.accept().unwrap();
    let read = io::Read::read(&mut accepted, &mut [0; 1]);
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_listener_whose_queue_is_full_is_silent() {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    // A backlog of 0 holds one connection.
    let _held = std::net::TcpStream::connect(address).unwrap();
    let (prober, gate) = (ConnectProber::new(), gate(&["127.0.0.1"]));
    let silent = Probe { wait: Wait::fixed(Duration::from_millis(60)), ..probe("127.0.0.1", address.port()) };
    let found = prober.probe(&silent, Time::NEVER, &gate).await;
    assert_eq!(found, Found { outcome: Outcome::FILTERED, rtt: None });
}

#[tokio::test]
async fn nothing_is_sent_that_is_not_admitted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let target = probe("127.0.0.1", listener.local_addr().unwrap().port());
    let prober = ConnectProber::new();
    let elsewhere = prober.probe(&target, Time::NEVER, &gate(&["127.0.0.2"])).await;
    assert_eq!(elsewhere.outcome, Outcome::not_probed(Cause::OutOfScope));
    let ended = prober.probe(&target, Clock::Boottime.now(), &gate(&["127.0.0.1"])).await;
    assert_eq!(ended.outcome, Outcome::not_probed(Cause::Interrupted));
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock, "nobody knocked");
}

#[tokio::test]
async fn a_broadcast_address_is_told_as_such() {
    let found =
        ConnectProber::new().probe(&probe("127.255.255.255", 9), Time::NEVER, &gate(&["127.255.255.255"])).await;
    assert_eq!(found.outcome, Outcome::not_probed(Cause::Broadcast));
}

/// A socket that is bound to a port and connects to it meets itself: the kernel calls that connected.
#[tokio::test]
async fn a_connection_to_itself_is_no_open_port() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let itself = socket.local_addr().unwrap().as_socket().unwrap();
    let admitted = gate(&["127.0.0.1"]).admit(ScanId::from_bytes([1; 16]), itself.ip(), Time::NEVER).unwrap();
    let Started::Pending(stream) = connect(socket, &admitted, itself.port()).unwrap() else {
        panic!("the kernel accepts");
    };
    let found = answer(&stream, Clock::Boottime, Clock::Boottime.now(), Duration::from_secs(5)).await;
    assert!(stream.peer_addr().is_ok(), "it did connect");
    assert_eq!(found.outcome, Outcome::CLOSED);
}
