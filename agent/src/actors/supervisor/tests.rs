//! Every probe that is handed in settles exactly once, whatever happens: answers, silence, panics, orders, the end of a right, a
//! shutdown, a death. In virtual time, in a simulated world.

use super::*;
use crate::clock::Clock;
use crate::probe::{SimulatedProber, Truth, World};
use crate::scope::Scope;
use agent_core::attempt::ProbeId;
use agent_core::round_trip::Wait;
use protocol::id::{Epoch, ScanId};
use protocol::message::Run;
use protocol::probe::{Slot, Target};
use protocol::range_set::AddressSet;
use protocol::time::Time;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_millis(500);

/// An owner that notes what it is told.
struct Desk {
    notes: mpsc::Sender<Note>,
}

#[derive(Debug)]
enum Note {
    Settled(SettledBatch),
    Died(SupervisorDied),
}

impl Actor for Desk {
    type Context = Context<Self>;
}

impl Handler<SettledBatch> for Desk {
    type Result = ();

    fn handle(&mut self, batch: SettledBatch, _: &mut Self::Context) {
        self.notes.try_send(Note::Settled(batch)).unwrap();
    }
}

impl Handler<SupervisorDied> for Desk {
    type Result = ();

    fn handle(&mut self, notice: SupervisorDied, _: &mut Self::Context) {
        self.notes.try_send(Note::Died(notice)).unwrap();
    }
}

/// A message that makes the supervisor itself panic.
#[derive(Message)]
#[rtype(result = "()")]
struct Panic;

impl Handler<Panic> for ProbeSupervisor {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Self::Context) {
        panic!("the supervisor panics where a test tells it to");
    }
}

struct Bench {
    supervisor: Addr<ProbeSupervisor>,
    notes: mpsc::Receiver<Note>,
    clock: Clock,
    /// Kept by the test: an actor ends with its last address.
    desk: Addr<Desk>,
}

impl Bench {
    fn new(world: World, in_flight_max: u32) -> Self {
        let (sender, notes) = mpsc::channel(10_000);
        let desk = Desk { notes: sender }.start();
        let clock = Clock::tokio();
        let scope = Scope::typed(AddressSet::from("192.0.2.0/24".parse::<ipnet::IpNet>().unwrap()));
        let supervisor = ProbeSupervisor::new(
            ProbeKind::Tcp,
            Prober::Simulated(SimulatedProber::new(Arc::new(world))),
            Admission::new(clock, Arc::new(scope)),
            in_flight_max,
            Owner { settled: desk.clone().recipient(), died: desk.clone().recipient() },
        );
        Self { supervisor: supervisor.start(), notes, clock, desk }
    }

    fn run(&self, targets: impl IntoIterator<Item = (u32, Target)>, right_ends_at: Time) {
        let probes = targets.into_iter().map(|(index, target)| probe(index, target)).collect();
        self.supervisor.try_send(RunBatch(Batch { kind: ProbeKind::Tcp, right_ends_at, probes })).unwrap();
    }

    /// Waits until so many are settled; each must be for the first time.
    async fn settled(&mut self, count: usize) -> BTreeMap<u32, Settled> {
        let mut all = BTreeMap::new();
        while all.len() < count {
            match self.notes.recv().await {
                Some(Note::Settled(batch)) => {
                    assert_eq!(batch.kind, ProbeKind::Tcp);
                    for settled in batch.settled {
                        assert!(all.insert(settled.id.index, settled).is_none(), "{settled:?} a second time");
                    }
                }
                other => panic!("{other:?} after {} of {count}", all.len()),
            }
        }
        all
    }

    async fn lets_go(mut self) {
        self.supervisor.send(Shutdown).await.unwrap();
        self.dies().await;
    }

    async fn dies(&mut self) {
        match self.notes.recv().await {
            Some(Note::Died(notice)) => assert_eq!(notice, SupervisorDied { kind: ProbeKind::Tcp }),
            other => panic!("{other:?} and not the obituary"),
        }
    }
}

fn probe(index: u32, target: Target) -> Probe {
    let id = ProbeId { epoch: Epoch::new(1), index };
    Probe { id, scan: ScanId::from_bytes([1; 16]), target, wait: Wait::fixed(TIMEOUT) }
}

fn target(host: u8, port: u16) -> Target {
    Target { address: IpAddr::from([192, 0, 2, host]), slot: Slot::Tcp(port) }
}

fn all_of(hosts: u8, ports: u16) -> Vec<(u32, Target)> {
    (0..hosts).flat_map(|host| (1..=ports).map(move |port| target(host, port))).zip(0..).map(|(t, i)| (i, t)).collect()
}

/// Runs a test in an actix system whose clock stands still unless everybody waits for it.
fn in_virtual_time(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, test);
}

#[test]
fn every_probe_settles_once_with_what_the_world_answers() {
    in_virtual_time(async {
        let world = World::new(5);
        for in_flight_max in [1, 7, 5_000] {
            let mut bench = Bench::new(world.clone(), in_flight_max);
            let targets = all_of(10, if in_flight_max == 1 { 10 } else { 100 });
            for batch in targets.chunks(130) {
                bench.run(batch.iter().copied(), Time::NEVER);
            }
            let settled = bench.settled(targets.len()).await;
            for (index, target) in &targets {
                assert_eq!(settled[index].outcome, world.answer(*target, 1).0, "{target}");
            }
            bench.lets_go().await;
        }
    });
}

#[test]
fn no_more_probes_run_at_once_than_the_window_allows() {
    in_virtual_time(async {
        let silent = World::new(1).alive_ppm(0);
        let mut bench = Bench::new(silent, 10);
        let start = bench.clock.now();
        bench.run(all_of(1, 100), Time::NEVER);
        bench.settled(100).await;
        let took = bench.clock.now().since(start);
        assert!(took >= TIMEOUT * 10, "ten rounds of ten, not {took:?}");
        assert!(took < TIMEOUT * 11, "and no round is idle: {took:?}");
        bench.lets_go().await;
    });
}

#[test]
fn a_panic_costs_that_probe_only_and_a_second_try_may_mend_it() {
    in_virtual_time(async {
        let (once, twice) = (target(3, 30), target(4, 40));
        let world = World::new(5).set(once, Truth::Panics(1)).set(twice, Truth::Panics(2));
        let mut bench = Bench::new(world.clone(), 100);
        let targets = all_of(10, 50);
        bench.run(targets.clone(), Time::NEVER);
        let settled = bench.settled(targets.len()).await;
        for (index, target) in &targets {
            let expected =
                if *target == twice { Outcome::not_probed(Cause::InternalError) } else { world.expected(*target) };
            assert_eq!(settled[index].outcome, expected, "{target}");
        }
        bench.lets_go().await;
    });
}

#[test]
fn after_the_end_of_the_right_nothing_is_sent() {
    in_virtual_time(async {
        let silent = World::new(1).alive_ppm(0);
        let mut bench = Bench::new(silent, 10);
        // Two rounds of ten begin before it, the third does not.
        let right_ends_at = bench.clock.now() + TIMEOUT + TIMEOUT / 2;
        bench.run(all_of(1, 100), right_ends_at);
        let settled = bench.settled(100).await;
        let interrupted = settled.values().filter(|it| it.outcome == Outcome::not_probed(Cause::Interrupted)).count();
        let asked = settled.values().filter(|it| it.outcome == Outcome::FILTERED).count();
        assert_eq!((asked, interrupted), (20, 80));
        bench.lets_go().await;
    });
}

#[test]
fn orders_hold_for_what_waits_from_the_moment_they_are_answered() {
    in_virtual_time(async {
        // Whatever is sent to host 1 after the first ten panics the prober, and would show as internal-error.
        let mut world = World::new(1).alive_ppm(0);
        for port in 11..=50 {
            world = world.set(target(1, port), Truth::Panics(u32::MAX));
        }
        let mut bench = Bench::new(world, 10);
        bench.run((0..50).map(|index| (index, target(1, index as u16 + 1))), Time::NEVER);
        bench.run((50..60).map(|index| (index, target(2, 1 + index as u16))), Time::NEVER);
        tokio::time::sleep(TIMEOUT / 2).await;
        let orders = Orders { exclude: AddressSet::from(IpAddr::from([192, 0, 2, 1])), ..Orders::default() };
        bench.supervisor.send(SetOrders(Arc::new(orders))).await.unwrap();
        let settled = bench.settled(60).await;
        for (index, settled) in settled {
            let expected = match index {
                0..10 | 50.. => Outcome::FILTERED,
                10..50 => Outcome::not_probed(Cause::Excluded),
            };
            assert_eq!(settled.outcome, expected, "{index}");
        }
        bench.supervisor.send(SetOrders(Arc::new(Orders { run: Run::Pause, ..Orders::default() }))).await.unwrap();
        bench.run([(0, target(2, 1))], Time::NEVER);
        assert_eq!(bench.settled(1).await[&0].outcome, Outcome::not_probed(Cause::Interrupted));
        bench.supervisor.send(SetOrders(Arc::default())).await.unwrap();
        bench.run([(0, target(2, 1))], Time::NEVER);
        assert_eq!(bench.settled(1).await[&0].outcome, Outcome::FILTERED);
        bench.lets_go().await;
    });
}

#[test]
fn what_is_out_of_scope_is_never_sent() {
    in_virtual_time(async {
        let elsewhere = Target { address: "198.51.100.1".parse().unwrap(), slot: Slot::Tcp(1) };
        let mut bench = Bench::new(World::new(1).set(elsewhere, Truth::Panics(u32::MAX)), 10);
        bench.run([(0, elsewhere)], Time::NEVER);
        assert_eq!(bench.settled(1).await[&0].outcome, Outcome::not_probed(Cause::OutOfScope));
        bench.lets_go().await;
    });
}

#[test]
fn a_shutdown_settles_what_waits_and_lets_what_is_in_flight_end() {
    in_virtual_time(async {
        let silent = World::new(1).alive_ppm(0);
        let mut bench = Bench::new(silent, 10);
        bench.run(all_of(1, 1_000), Time::NEVER);
        tokio::time::sleep(TIMEOUT / 2).await;
        let start = bench.clock.now();
        bench.supervisor.send(Shutdown).await.unwrap();
        // What comes too late is settled as well, unless the end is there first.
        bench.run([(1_000, target(2, 1))], Time::NEVER);
        let settled = bench.settled(1_001).await;
        let asked = settled.values().filter(|it| it.outcome == Outcome::FILTERED).count();
        let interrupted = settled.values().filter(|it| it.outcome == Outcome::not_probed(Cause::Interrupted)).count();
        assert_eq!((asked, interrupted), (10, 991));
        assert!(bench.clock.now().since(start) <= TIMEOUT);
        bench.dies().await;
    });
}

#[test]
fn a_supervisor_that_panics_settles_what_it_had_and_its_owner_learns_of_it() {
    let outcome = std::panic::catch_unwind(|| {
        in_virtual_time(async {
            let mut bench = Bench::new(World::new(1).alive_ppm(0), 10);
            bench.run(all_of(1, 100), Time::NEVER);
            tokio::time::sleep(TIMEOUT / 2).await;
            bench.supervisor.try_send(Panic).unwrap();
            let settled = bench.settled(100).await;
            assert_eq!(settled.values().filter(|it| it.outcome == Outcome::FILTERED).count(), 10);
            bench.dies().await;
            assert!(!bench.supervisor.connected());
        });
    });
    assert!(outcome.is_ok());
}

#[test]
fn a_supervisor_whose_owner_is_gone_stops() {
    in_virtual_time(async {
        let bench = Bench::new(World::new(1), 10);
        let Bench { supervisor, desk, mut notes, .. } = bench;
        let recipients = desk.downgrade();
        drop(desk);
        // The driver holds addresses of the desk, as it would in life: the desk ends by itself.
        recipients.upgrade().unwrap().try_send(StopDesk).unwrap();
        let probes = all_of(1, 100).into_iter().map(|(index, target)| probe(index, target)).collect();
        let _ = supervisor.try_send(RunBatch(Batch { kind: ProbeKind::Tcp, right_ends_at: Time::NEVER, probes }));
        while supervisor.connected() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(notes.recv().await.is_none(), "nobody was told anything");
    });
}

#[derive(Message)]
#[rtype(result = "()")]
struct StopDesk;

impl Handler<StopDesk> for Desk {
    type Result = ();

    fn handle(&mut self, _: StopDesk, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
