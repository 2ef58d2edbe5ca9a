//! Promised: what a network answers, and what this machine refuses, come out as the states and causes of DESIGN.md; and a scan with
//! few descriptors is right, only slower. Tested with the real probers on loopback in a network namespace of its own, where packet
//! filters play the network.
//!
//! The harness runs itself again inside `unshare -rn`. Where that is not possible its tests are ignored, and say why; with
//! `PORTSWEEP_TEST_REQUIRE=all` they fail.

use actix::prelude::*;
use agent_core::attempt::{Batch, Probe, ProbeId, Settled};
use agent_core::round_trip::Wait;
use anyhow::{Context as _, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use portsweep_agent::actors::supervisor::{Owner, ProbeSupervisor, RunBatch, SettledBatch, SupervisorDied};
use portsweep_agent::clock::Clock;
use portsweep_agent::limits::Descriptors;
use portsweep_agent::probe::{ConnectProber, Engine, IcmpProber, Prober, Sockets, TcpPingProber};
use portsweep_agent::scope::{Admission, Scope};
use protocol::id::{Epoch, ScanId};
use protocol::probe::{Slot, Target};
use protocol::range_set::AddressSet;
use protocol::time::Time;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// In the environment of the run inside the namespace: which scenario it plays.
const SCENARIO: &str = "PORTSWEEP_NAMESPACE_SCENARIO";

/// Loopback addresses by what becomes of a packet to them.
const NETWORK: &str = "
table ip net {
    chain input {
        type filter hook input priority 0;
        ip daddr 127.0.0.2 drop
        ip daddr 127.0.0.3 icmp type echo-request reject with icmp host-unreachable
        ip daddr 127.0.0.3 tcp flags syn reject with icmp host-unreachable
        ip daddr 127.0.0.4 icmp type echo-request reject with icmp net-unreachable
        ip daddr 127.0.0.4 tcp flags syn reject with icmp net-unreachable
        ip daddr 127.0.0.5 icmp type echo-request reject with icmp admin-prohibited
        ip daddr 127.0.0.6 tcp flags syn reject with icmp prot-unreachable
        ip daddr 127.0.0.7 tcp flags syn reject with icmp port-unreachable
        ip daddr 127.0.0.8 tcp dport 443 drop
    }
}
table ip6 net {
    chain input {
        type filter hook input priority 0;
        ip6 daddr ::1 tcp dport 81 reject with icmpv6 admin-prohibited
        ip6 daddr ::1 tcp dport 82 reject with icmpv6 addr-unreachable
        ip6 daddr ::1 tcp dport 83 reject with icmpv6 no-route
    }
}
";

/// Its name, the most descriptors (0 for as many as there are), what it does.
type Scenario = (&'static str, u32, fn() -> anyhow::Result<()>);

const SCENARIOS: [Scenario; 12] = [
    ("connect_answers_become_states", 0, || connect_answers_become_states(plain)),
    ("connect_answers_become_states_by_reused_sockets", 0, || connect_answers_become_states(reused)),
    ("connect_answers_become_states_by_fresh_sockets", 0, || connect_answers_become_states(fresh)),
    ("echo_answers_become_states", 0, || echo_answers_become_states(plain_echoes)),
    ("echo_answers_become_states_by_an_engine", 0, || echo_answers_become_states(echoes)),
    ("echo_answers_become_states_by_a_ping_socket", 0, || echo_answers_become_states(echoes)),
    ("a_burst_of_echo_requests_loses_no_answer", 0, || a_burst_of_echo_requests_loses_no_answer(plain_echoes)),
    ("a_burst_of_echo_requests_by_an_engine_loses_no_answer", 0, || a_burst_of_echo_requests_loses_no_answer(echoes)),
    ("life_is_asked_by_tcp", 0, life_is_asked_by_tcp),
    ("few_descriptors_slow_a_scan_and_change_nothing", 64, || few_descriptors(plain)),
    ("few_descriptors_slow_reused_sockets_and_change_nothing", 64, || few_descriptors(reused)),
    ("few_descriptors_slow_fresh_sockets_and_change_nothing", 64, || few_descriptors(fresh)),
];

fn main() -> ExitCode {
    if let Ok(wanted) = std::env::var(SCENARIO) {
        let played = SCENARIOS.iter().find(|(name, ..)| *name == wanted).map(|(_, _, play)| play());
        return match played {
            Some(Ok(())) => ExitCode::SUCCESS,
            Some(Err(error)) => fail(&format!("{error:#}")),
            None => fail("no such scenario"),
        };
    }
    let lacking = lacking();
    let require_all = std::env::var_os("PORTSWEEP_TEST_REQUIRE").is_some_and(|value| value == "all");
    let trials = SCENARIOS.iter().map(|&(name, descriptors, _)| match &lacking {
        None => Trial::test(name, move || enter(name, descriptors)),
        Some(reason) => {
            let reason = reason.clone();
            Trial::test(format!("{name} (needs {reason})"), move || Err(Failed::from(reason)))
                .with_ignored_flag(!require_all)
        }
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

#[expect(clippy::print_stderr, reason = "the outer run shows it")]
fn fail(why: &str) -> ExitCode {
    eprintln!("{why}");
    ExitCode::FAILURE
}

fn lacking() -> Option<String> {
    let tried = Command::new("unshare").args(["-rn", "sh", "-c", "ip link set lo up && nft list tables"]).output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("unshare -rn, ip and nft: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Some(format!("unshare: {error}")),
    }
}

fn enter(name: &str, descriptors: u32) -> Result<(), Failed> {
    let limit = if descriptors == 0 { String::new() } else { format!("ulimit -n {descriptors}; ") };
    // Without the right to open raw sockets, and with the group that may open ping sockets.
    let unprivileged = if name.ends_with("by_a_ping_socket") {
        "echo 0 0 > /proc/sys/net/ipv4/ping_group_range; exec setpriv --inh-caps=-net_raw --bounding-set=-net_raw "
    } else {
        "exec "
    };
    let script = format!(
        "set -e; ip link set lo up; printf %s \"$1\" | nft -f -; ip route add prohibit 198.51.100.0/25; \
         ip route add blackhole 203.0.113.0/24; {limit}{unprivileged}\"$0\""
    );
    let itself = std::env::current_exe()?;
    let output = Command::new("unshare")
        .args(["-rn", "sh", "-c", &script])
        .arg(itself)
        .arg(NETWORK)
        .env(SCENARIO, name)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned().into()) }
}

struct Desk(mpsc::Sender<SettledBatch>);

impl Actor for Desk {
    type Context = Context<Self>;
}

impl Handler<SettledBatch> for Desk {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, batch: SettledBatch, _: &mut Self::Context) -> Self::Result {
        let sender = self.0.clone();
        Box::pin(async move { drop(sender.send(batch).await) })
    }
}

impl Handler<SupervisorDied> for Desk {
    type Result = ();

    fn handle(&mut self, _: SupervisorDied, _: &mut Self::Context) {}
}

/// Has a supervisor probe all targets, and gives what became of each.
fn probe_all(
    prober: fn() -> Prober,
    in_flight_max: u32,
    timeout: Duration,
    targets: &[Target],
) -> anyhow::Result<BTreeMap<Target, Settled>> {
    System::new().block_on(async {
        let (sender, mut batches) = mpsc::channel(64);
        let desk = Desk(sender).start();
        let owner = Owner { settled: desk.clone().recipient(), died: desk.recipient() };
        let allowed: AddressSet = targets.iter().map(|target| target.address).collect();
        let admission = Admission::new(Clock::Boottime, Arc::new(Scope::typed(allowed)));
        let kind = targets.first().context("no targets")?.slot.kind();
        let supervisor = ProbeSupervisor::new(kind, prober(), admission, in_flight_max, owner).start();
        let probes = (0..).zip(targets);
        let probes = probes.map(|(index, &target)| Probe {
            id: ProbeId { epoch: Epoch::new(1), index },
            scan: ScanId::from_bytes([1; 16]),
            target,
            wait: Wait::fixed(timeout),
        });
        let batch = Batch { kind, right_ends_at: Time::NEVER, probes: probes.collect() };
        supervisor.send(RunBatch(batch)).await?;
        let mut found = BTreeMap::new();
        while found.len() < targets.len() {
            let batch =
                tokio::time::timeout(Duration::from_secs(30), batches.recv()).await?.context("no more comes")?;
            for settled in batch.settled {
                let target = targets[settled.id.index as usize];
                ensure!(found.insert(target, settled).is_none(), "{target} settled twice");
            }
        }
        Ok(found)
    })
}

/// Checks `(address, port or 0 for ping, outcome)`, all at once.
fn expect(prober: fn() -> Prober, cases: &[(&str, u16, &str)]) -> anyhow::Result<()> {
    let target = |&(address, port, _): &(&str, u16, &str)| -> anyhow::Result<Target> {
        Ok(Target { address: address.parse()?, slot: if port == 0 { Slot::Ping } else { Slot::Tcp(port) } })
    };
    let targets = cases.iter().map(target).collect::<anyhow::Result<Vec<_>>>()?;
    let clock = Clock::Monotonic;
    let began = clock.now();
    let found = probe_all(prober, 100, Duration::from_millis(300), &targets)?;
    // A busy machine may look late at what came in time: no bound but this one is sure.
    let took = clock.now().since(began);
    let mut wrong = Vec::new();
    for (target, (.., expected)) in targets.iter().zip(cases) {
        let outcome = found[target].outcome;
        if outcome.to_string() != *expected {
            wrong.push(format!("{target} is {outcome}, not {expected}"));
        }
        ensure!(found[target].rtt.is_none_or(|rtt| rtt <= took), "{target}: {:?} of {took:?}", found[target].rtt);
        ensure!(!outcome.is_sign_of_life() || found[target].rtt.is_some(), "{target} answered without a time");
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

// Every way of connecting: they must agree.

fn plain() -> Prober {
    Prober::Connect(ConnectProber::new())
}

fn reused() -> Prober {
    Prober::Engine(Engine::connects(Sockets::Reused))
}

fn fresh() -> Prober {
    Prober::Engine(Engine::connects(Sockets::Fresh))
}

fn connect_answers_become_states(connecting: fn() -> Prober) -> anyhow::Result<()> {
    let _v4 = TcpListener::bind("0.0.0.0:80")?;
    let _v6 = TcpListener::bind("[::1]:80")?;
    expect(
        connecting,
        &[
            ("127.0.0.1", 80, "open (syn-ack)"),
            ("127.0.0.1", 81, "closed (conn-refused)"),
            ("127.0.0.2", 80, "filtered (no-response)"),
            ("127.0.0.3", 80, "filtered (host-unreach)"),
            ("127.0.0.4", 80, "filtered (net-unreach)"),
            ("127.0.0.6", 80, "filtered (proto-unreach)"),
            ("127.0.0.7", 80, "closed (conn-refused)"),
            ("127.255.255.255", 80, "not-probed (broadcast)"),
            ("192.0.2.1", 80, "not-probed (no-route)"),
            ("198.51.100.1", 80, "not-probed (perm-denied)"),
            ("203.0.113.1", 80, "not-probed (no-route)"),
            ("::1", 80, "open (syn-ack)"),
            ("::1", 81, "filtered (admin-prohibited)"),
            ("::1", 82, "filtered (host-unreach)"),
            ("::1", 83, "filtered (net-unreach)"),
            ("::1", 84, "closed (conn-refused)"),
            ("2001:db8::1", 80, "not-probed (no-route)"),
        ],
    )
}

// The ways of asking for life.

fn plain_echoes() -> Prober {
    Prober::Icmp(IcmpProber::new(1))
}

fn echoes() -> Prober {
    Prober::Engine(Engine::echoes(0x1234_5678_9abc_def0))
}

fn echo_answers_become_states(asking: fn() -> Prober) -> anyhow::Result<()> {
    expect(
        asking,
        &[
            ("127.0.0.1", 0, "up (echo-reply)"),
            ("127.0.0.2", 0, "down (no-response)"),
            ("127.0.0.3", 0, "down (host-unreach)"),
            ("127.0.0.4", 0, "down (net-unreach)"),
            ("127.0.0.5", 0, "down (admin-prohibited)"),
            ("127.255.255.255", 0, "not-probed (broadcast)"),
            ("192.0.2.1", 0, "not-probed (no-route)"),
            ("198.51.100.1", 0, "not-probed (perm-denied)"),
            ("::1", 0, "up (echo-reply)"),
            ("2001:db8::1", 0, "not-probed (no-route)"),
        ],
    )
}

fn a_burst_of_echo_requests_loses_no_answer(asking: fn() -> Prober) -> anyhow::Result<()> {
    let targets: Vec<_> = (0x7f01_0000..0x7f01_4000_u32)
        .map(|bits| Target { address: IpAddr::V4(Ipv4Addr::from_bits(bits)), slot: Slot::Ping })
        .collect();
    let found = probe_all(asking, 8_192, Duration::from_secs(2), &targets)?;
    let down: Vec<_> = found.iter().filter(|(_, settled)| !settled.outcome.is_finding()).collect();
    ensure!(down.is_empty(), "{} of {} lost, the first: {:?}", down.len(), targets.len(), down[0]);
    Ok(())
}

fn life_is_asked_by_tcp() -> anyhow::Result<()> {
    let _listener = TcpListener::bind("127.0.0.9:443")?;
    expect(
        || Prober::TcpPing(TcpPingProber::new()),
        &[
            ("127.0.0.1", 0, "up (conn-refused)"),
            ("127.0.0.2", 0, "down (no-response)"),
            ("127.0.0.3", 0, "down (host-unreach)"),
            ("127.0.0.8", 0, "up (conn-refused)"),
            ("192.0.2.1", 0, "not-probed (no-route)"),
        ],
    )
}

fn few_descriptors(connecting: fn() -> Prober) -> anyhow::Result<()> {
    ensure!(Descriptors::raise()?.count() == 64, "the limit is {:?}", Descriptors::read()?);
    let _listeners =
        (4_000..4_020).map(|port| TcpListener::bind(("127.0.0.1", port))).collect::<Result<Vec<_>, _>>()?;
    let on = |host: u8, ports: std::ops::Range<u16>| {
        ports.map(move |port| Target { address: IpAddr::from([127, 0, 0, host]), slot: Slot::Tcp(port) })
    };
    // The silent ones hold descriptors, so that the others run out of them.
    let targets: Vec<_> = on(2, 1..100).chain(on(1, 3_000..6_000)).collect();
    let found = probe_all(connecting, 500, Duration::from_millis(200), &targets)?;
    let mut states = BTreeMap::new();
    for (target, settled) in &found {
        *states.entry((target.address.to_string(), settled.outcome.to_string())).or_insert(0) += 1;
    }
    let count = |address: &str, outcome: &str| states.get(&(address.to_owned(), outcome.to_owned())).copied();
    ensure!(states.len() == 3, "{states:?}");
    ensure!(count("127.0.0.1", "open (syn-ack)") == Some(20), "{states:?}");
    ensure!(count("127.0.0.1", "closed (conn-refused)") == Some(2_980), "{states:?}");
    ensure!(count("127.0.0.2", "filtered (no-response)") == Some(99), "{states:?}");
    Ok(())
}
