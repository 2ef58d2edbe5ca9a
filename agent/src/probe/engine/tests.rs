//! Engines against sockets of this process on loopback, used again and fresh; and against a way of asking that panics where a test
//! tells it to. Each test of an invariant carries its number.

use super::*;
use crate::clock::Clock;
use crate::scope::Scope;
use agent_core::attempt::ProbeId;
use agent_core::round_trip::Wait;
use protocol::id::{Epoch, ScanId};
use protocol::message::Run;
use protocol::probe::{Cause, ProbeKind, Slot, Target};
use protocol::range_set::AddressSet;
use protocol::time::Time;
use socket2::{Domain, Socket, Type};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_millis(40);
const BOTH: [Sockets; 2] = [Sockets::Reused, Sockets::Fresh];

fn gate() -> Admission {
    let allowed: AddressSet = ["127.0.0.1", "::1"].iter().map(|address| address.parse::<IpAddr>().unwrap()).collect();
    Admission::new(Clock::Boottime, Arc::new(Scope::typed(allowed)))
}

fn probe(index: u32, address: SocketAddr) -> Probe {
    Probe {
        id: ProbeId { epoch: Epoch::new(1), index },
        scan: ScanId::from_bytes([1; 16]),
        target: Target { address: address.ip(), slot: Slot::Tcp(address.port()) },
        wait: Wait::fixed(TIMEOUT),
    }
}

/// Hands in what is asked of these, in batches of 50, and waits until each is settled, for the first time.
fn ask(hands: &Hands, up: &mut mpsc::Receiver<Up>, targets: &[SocketAddr]) -> BTreeMap<u32, Settled> {
    let probes: Vec<_> = (0..).zip(targets).map(|(index, &address)| probe(index, address)).collect();
    for probes in probes.chunks(50) {
        hands.run(Batch { kind: ProbeKind::Tcp, right_ends_at: Time::NEVER, probes: probes.to_vec() }).unwrap();
    }
    settled(up, targets.len())
}

fn settled(up: &mut mpsc::Receiver<Up>, count: usize) -> BTreeMap<u32, Settled> {
    let mut all = BTreeMap::new();
    while all.len() < count {
        let Some(Up::Settled { settled, .. }) = up.blocking_recv() else { panic!("a thread died") };
        for settled in settled {
            assert!(all.insert(settled.id.index, settled).is_none(), "{settled:?} a second time");
        }
    }
    all
}

/// Everything is told, and nobody is there any more.
fn ends(hands: Hands, mut up: mpsc::Receiver<Up>) {
    drop(hands);
    assert!(up.blocking_recv().is_none());
}

fn closed_port(address: &str) -> SocketAddr {
    // Bound and dropped: nobody listens there, and the kernel gives it to nobody else so soon.
    TcpListener::bind((address, 0)).unwrap().local_addr().unwrap()
}

/// A listener whose queue is full: silent.
struct Silent {
    address: SocketAddr,
    _listener: Socket,
    _held: TcpStream,
}

impl Silent {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        // A backlog of 0 holds one connection.
        let held = TcpStream::connect(address).unwrap();
        Self { address, _listener: listener, _held: held }
    }
}

/// Accepts whatever comes, and tells how often that was when it is stopped.
fn count_connections(listener: TcpListener) -> impl FnOnce() -> usize {
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = std::sync::mpsc::sync_channel::<()>(1);
    let counting = std::thread::spawn(move || {
        let mut count = 0;
        while listener.accept().is_ok() {
            if stopped.try_recv().is_ok() {
                break;
            }
            count += 1;
        }
        count
    });
    move || {
        stop.send(()).unwrap();
        drop(TcpStream::connect(address).unwrap());
        counting.join().unwrap()
    }
}

#[test]
fn answers_become_states_over_both_ip_versions() {
    for sockets in BOTH {
        let listeners: Vec<_> =
            ["127.0.0.1:0", "[::1]:0"].iter().filter_map(|any| TcpListener::bind(any).ok()).collect();
        let open: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let closed: Vec<_> = open.iter().map(|address| closed_port(&address.ip().to_string())).collect();
        let (hands, mut up) = Engine::connects(sockets).start(&gate(), 10).unwrap();
        let targets: Vec<_> = open.iter().chain(&closed).copied().collect();
        for settled in ask(&hands, &mut up, &targets).values() {
            let expected = if (settled.id.index as usize) < open.len() { Outcome::OPEN } else { Outcome::CLOSED };
            assert_eq!(settled.outcome, expected, "{sockets:?}: {}", targets[settled.id.index as usize]);
            assert!(settled.rtt.is_some_and(|rtt| rtt < TIMEOUT));
        }
        ends(hands, up);
    }
}

/// Silent targets are given up by `connect(AF_UNSPEC)`, which makes an event of its own on a socket that is used again at once. Whoever
/// took it for an answer would call the next silent target closed.
#[test]
fn e3_c1_what_happened_to_a_socket_before_says_nothing_of_its_next_target() {
    let silent = Silent::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (open, closed) = (listener.local_addr().unwrap(), closed_port("127.0.0.1"));
    for sockets in BOTH {
        let connections = count_connections(listener.try_clone().unwrap());
        // Every pair of neighbours occurs.
        let order = [0, 0, 1, 0, 2, 1, 1, 2, 2, 0, 1, 2, 0, 2, 1];
        let rounds = if sockets == Sockets::Reused { 12 } else { 4 };
        let targets: Vec<_> =
            (0..order.len() * rounds).map(|at| [silent.address, open, closed][order[at % order.len()]]).collect();
        for in_flight_max in [1, 7] {
            let (hands, mut up) = Engine::connects(sockets).threads(1).start(&gate(), in_flight_max).unwrap();
            for (index, settled) in ask(&hands, &mut up, &targets) {
                let expected = [Outcome::FILTERED, Outcome::OPEN, Outcome::CLOSED][order[index as usize % order.len()]];
                assert_eq!(settled.outcome, expected, "{sockets:?}, {in_flight_max} in flight, number {index}");
            }
            ends(hands, up);
        }
        let asked = targets.iter().filter(|&&target| target == open).count();
        assert_eq!(connections(), asked * 2, "each was connected to once");
    }
}

#[test]
fn an_open_connection_is_ended_by_a_reset() {
    for sockets in BOTH {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (hands, mut up) = Engine::connects(sockets).start(&gate(), 10).unwrap();
        ask(&hands, &mut up, &[listener.local_addr().unwrap()]);
        let (mut accepted, _) = listener.accept().unwrap();
        let read = io::Read::read(&mut accepted, &mut [0; 1]);
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset, "{sockets:?}");
        ends(hands, up);
    }
}

#[test]
fn e1_nothing_is_sent_that_is_not_admitted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let (hands, mut up) = Engine::connects(Sockets::Reused).start(&gate(), 10).unwrap();
    let elsewhere = SocketAddr::new("127.0.0.2".parse().unwrap(), address.port());
    assert_eq!(ask(&hands, &mut up, &[elsewhere])[&0].outcome, Outcome::not_probed(Cause::OutOfScope));
    let right_ends_at = Clock::Boottime.now();
    hands.run(Batch { kind: ProbeKind::Tcp, right_ends_at, probes: vec![probe(0, address)] }).unwrap();
    assert_eq!(settled(&mut up, 1)[&0].outcome, Outcome::not_probed(Cause::Interrupted));
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock, "nobody knocked");
    ends(hands, up);
}

#[tokio::test]
async fn e2_orders_that_were_answered_are_in_force_on_every_thread() {
    let silent = Silent::new();
    let (hands, mut up) = Engine::connects(Sockets::Reused).threads(3).start(&gate(), 30).unwrap();
    // Whatever is not in the air yet when the order is answered must hear it: thirty are.
    let probes: Vec<_> = (0..3_000).map(|index| probe(index, silent.address)).collect();
    for probes in probes.chunks(100) {
        hands.run(Batch { kind: ProbeKind::Tcp, right_ends_at: Time::NEVER, probes: probes.to_vec() }).unwrap();
    }
    hands.set_orders(&Arc::new(Orders { run: Run::Stop, ..Orders::default() })).await;
    let after = (3_000..3_030).map(|index| probe(index, silent.address)).collect();
    hands.run(Batch { kind: ProbeKind::Tcp, right_ends_at: Time::NEVER, probes: after }).unwrap();
    let mut all = Vec::new();
    while all.len() < 3_030 {
        let Some(Up::Settled { settled, .. }) = up.recv().await else { panic!("a thread died") };
        all.extend(settled);
    }
    let asked = all.iter().filter(|settled| settled.outcome == Outcome::FILTERED).count();
    assert!(asked < 1_000, "{asked} were sent");
    assert!(all.iter().all(|settled| settled.id.index < 3_000 || settled.outcome.cause() == Some(Cause::Interrupted)));
}

#[test]
fn what_waits_when_the_supervisor_lets_go_is_settled_and_what_is_in_the_air_ends() {
    let silent = Silent::new();
    let (hands, mut up) = Engine::connects(Sockets::Reused).threads(2).start(&gate(), 10).unwrap();
    for first in [0, 500] {
        let probes = (first..first + 500).map(|index| probe(index, silent.address)).collect();
        hands.run(Batch { kind: ProbeKind::Tcp, right_ends_at: Time::NEVER, probes }).unwrap();
    }
    drop(hands);
    let settled = settled(&mut up, 1_000);
    let interrupted = settled.values().filter(|it| it.outcome == Outcome::not_probed(Cause::Interrupted)).count();
    let asked = settled.values().filter(|it| it.outcome == Outcome::FILTERED).count();
    assert_eq!(interrupted + asked, 1_000);
    assert!(asked <= 20, "{asked} were sent");
    assert!(up.blocking_recv().is_none());
}

/// Each is told overdue once, before it settles; what is overdue leaves its place to the next, and its socket only if there is no other.
#[test]
fn what_is_overdue_is_listened_for_until_its_time_is_over_or_its_socket_is_wanted() {
    let silent = Silent::new();
    let (overdue, timeout) = (Duration::from_millis(20), Duration::from_millis(400));
    let least = overdue * 3;
    for (listening, least, least_all_take) in [(4, overdue, timeout), (0, overdue, overdue * 5), (0, least, least * 5)]
    {
        let wait = Wait { overdue, least, timeout };
        let engine = Engine::connects(Sockets::Reused).threads(1).listening(listening);
        let (hands, mut up) = engine.start(&gate(), 1).unwrap();
        let began = Clock::Boottime.now();
        let probes = (0..5).map(|index| Probe { wait, ..probe(index, silent.address) }).collect();
        hands.run(Batch { kind: ProbeKind::Tcp, right_ends_at: Time::NEVER, probes }).unwrap();
        let (mut told, mut settled) = (Vec::new(), Vec::new());
        while settled.len() < 5 {
            let Some(Up::Settled { overdue, settled: some, .. }) = up.blocking_recv() else { panic!("a thread died") };
            told.extend(overdue.iter().map(|id| id.index));
            assert!(some.iter().all(|settled| told.contains(&settled.id.index)), "{some:?} before it was overdue");
            settled.extend(some);
        }
        let took = Clock::Boottime.now().since(began);
        assert!(settled.iter().all(|settled| settled.outcome == Outcome::FILTERED));
        assert_eq!(told, [0, 1, 2, 3, 4], "each once, one after the other");
        assert!(took >= least_all_take, "{listening} listened for: {took:?}");
        // One after the other and each listened for to its end would be five timeouts.
        assert!(took < timeout * 4, "{listening} listened for: {took:?}");
        ends(hands, up);
    }
}

/// Answers at once by the port: `n × 10 + 1` panics when it is sent, `+ 2` when it is heard, `+ 3` when it is given up, each n times.
struct Panicking {
    times: BTreeMap<u16, u16>,
    flights: BTreeMap<u32, (Name, u16)>,
    next: u32,
    event: Arc<OwnedFd>,
}

impl Panicking {
    fn panics(&mut self, port: u16, where_to: u16) {
        let times = self.times.entry(port).or_default();
        if port % 10 == where_to && *times < port / 10 {
            *times += 1;
            std::panic::panic_any("a way of asking panics where it is told to");
        }
    }
}

impl Means for Panicking {
    fn ready(&mut self, epoll: &OwnedFd, _: &Probe) -> io::Result<u32> {
        use rustix::event::epoll::{EventData, EventFlags, add, modify};
        self.next += 1;
        let data = EventData::new_u64(u64::from(self.next));
        // A descriptor that is always ready: one event for the newest flight.
        if self.next == 1 {
            add(epoll, &self.event, data, EventFlags::OUT)?;
        } else {
            modify(epoll, &self.event, data, EventFlags::OUT)?;
        }
        Ok(self.next)
    }

    fn send(&mut self, way: u32, name: Name, probe: &Probe, _: &Admitted) -> io::Result<()> {
        let Slot::Tcp(port) = probe.target.slot else { return Ok(()) };
        self.panics(port, 1);
        self.flights.insert(way, (name, port));
        Ok(())
    }

    fn hear(&mut self, token: u64, answers: &mut Vec<Answer>) {
        let Some(&(name, port)) = self.flights.get(&(token as u32)) else { return };
        self.panics(port, 2);
        if port % 10 != 3 {
            self.flights.remove(&(token as u32));
            answers.push(Answer { name, outcome: Outcome::CLOSED });
        }
    }

    fn give_up(&mut self, way: u32, _: Name, probe: &Probe, _: bool) -> Outcome {
        let Slot::Tcp(port) = probe.target.slot else { return Outcome::FILTERED };
        self.panics(port, 3);
        self.flights.remove(&way);
        Outcome::FILTERED
    }

    fn release(&mut self, _: u32) {}

    fn mend(&mut self, way: Option<u32>, token: Option<u64>) -> Option<Name> {
        self.flights.remove(&way.or_else(|| u32::try_from(token?).ok())?).map(|(name, _)| name)
    }
}

#[test]
fn e4_a_panic_costs_that_probe_only_and_a_second_try_may_mend_it() {
    let event = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap());
    let means = Panicking { times: BTreeMap::new(), flights: BTreeMap::new(), next: 0, event };
    let (up, mut settled) = mpsc::channel(UP_MAX);
    let hands = Hands(vec![spawn(0, means, gate(), thread::Room::new(1, 0), up).unwrap()]);
    let port = |port| SocketAddr::new("127.0.0.1".parse().unwrap(), port);
    let targets: Vec<_> = [9, 11, 21, 12, 22, 13, 23, 9].map(port).to_vec();
    let outcomes: Vec<_> = ask(&hands, &mut settled, &targets).values().map(|settled| settled.outcome).collect();
    let lost = Outcome::not_probed(Cause::InternalError);
    let (closed, silent) = (Outcome::CLOSED, Outcome::FILTERED);
    assert_eq!(outcomes, [closed, closed, lost, closed, lost, silent, lost, closed]);
    ends(hands, settled);
}
