//! The lab does what tests rely on: what listens answers, what is silenced says nothing, what is
//! counted arrived, what ends leaves nothing behind, and nothing can leave.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use portsweep_tests::lab::{self, Counted, Host, Need};

use crate::judge::port_truth;
use crate::world::{PORTS, Truth, V4, V6, World};

/// Long enough for an answer over a wire of this machine, short enough to wait for silence.
const TRY: Duration = Duration::from_secs(1);

pub(crate) fn trials() -> Vec<Trial> {
    let hosts = &[Need::Hosts];
    vec![
        lab::trial("lab_world_is_as_its_truth_says", hosts, world_is_true),
        lab::trial("lab_listeners_answer_on_both_families", hosts, listeners_answer),
        lab::trial("lab_ports_without_listener_refuse", hosts, ports_refuse),
        lab::trial("lab_silenced_ports_and_addresses_say_nothing", hosts, silenced),
        lab::trial("lab_counts_each_probe_once", hosts, counted),
        lab::trial("lab_refuses_addresses_of_others", hosts, documentation_only),
        lab::trial("lab_hosts_have_no_way_out", hosts, no_way_out),
        lab::trial("lab_programs_run_in_their_host", hosts, programs),
        lab::trial("lab_programs_are_ended_at_their_timeout", hosts, timeout),
        lab::trial("lab_programs_can_run_without_privilege", hosts, unprivileged),
        lab::trial("lab_leaves_nothing_behind_after_a_panic", hosts, after_panic),
    ]
}

fn pair() -> anyhow::Result<(Host, Host)> {
    let (scanner, target) = (Host::new("scanner")?, Host::new("target")?);
    lab::wire(
        (&scanner, &["192.0.2.1/24", "2001:db8::1/64"]),
        (&target, &["192.0.2.11/24", "192.0.2.12/24", "2001:db8::11/64"]),
    )?;
    Ok((scanner, target))
}

/// What becomes of one connect: `Ok`, or the kind of the error.
fn connect(from: &Host, to: &str) -> anyhow::Result<Result<(), io::ErrorKind>> {
    let address: SocketAddr = to.parse()?;
    let result = from.enter(|| Ok(TcpStream::connect_timeout(&address, TRY)))?;
    Ok(result.map(drop).map_err(|error| error.kind()))
}

/// The truth that sweeps are held against, asked of the system by plain connects.
fn world_is_true() -> anyhow::Result<()> {
    let world = World::new()?;
    // Side by side, since most of the time is spent waiting for silence.
    let scanner = &world.scanner;
    thread::scope(|scope| {
        let asking: Vec<_> = (V4.iter().chain(&V6))
            .flat_map(|truth| PORTS.map(|port| (truth, port)))
            .map(|(truth, port)| scope.spawn(move || port_is_true(scanner, truth, port)))
            .collect();
        asking.into_iter().try_for_each(|asking| match asking.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

fn port_is_true(scanner: &Host, truth: &Truth, port: u16) -> anyhow::Result<()> {
    let address = SocketAddr::new(truth.address.parse()?, port);
    let found = match connect(scanner, &address.to_string())? {
        Ok(()) => "open",
        Err(io::ErrorKind::ConnectionRefused) => "closed",
        Err(io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable) => "filtered",
        Err(other) => anyhow::bail!("{address}: {other}"),
    };
    let (expected, _) = port_truth(truth, port);
    ensure!(found == expected, "{address} is {found}, not {expected}");
    Ok(())
}

fn listeners_answer() -> anyhow::Result<()> {
    let (scanner, mut target) = pair()?;
    target.listen("192.0.2.11:22")?;
    target.listen("[2001:db8::11]:22")?;
    ensure!(connect(&scanner, "192.0.2.11:22")? == Ok(()));
    ensure!(connect(&scanner, "[2001:db8::11]:22")? == Ok(()));
    Ok(())
}

fn ports_refuse() -> anyhow::Result<()> {
    let (scanner, mut target) = pair()?;
    target.listen("192.0.2.11:22")?;
    let refused = Err(io::ErrorKind::ConnectionRefused);
    ensure!(connect(&scanner, "192.0.2.11:23")? == refused);
    ensure!(connect(&scanner, "192.0.2.12:22")? == refused, "it listens on one address only");
    ensure!(connect(&scanner, "[2001:db8::11]:22")? == refused);
    Ok(())
}

fn silenced() -> anyhow::Result<()> {
    let (scanner, mut target) = pair()?;
    target.listen("192.0.2.11:22")?;
    target.listen("192.0.2.12:22")?;
    target.silence_ports("192.0.2.11", "80-81")?;
    target.silence("192.0.2.12")?;
    target.silence("2001:db8::11")?;
    let silent = Err(io::ErrorKind::TimedOut);
    ensure!(connect(&scanner, "192.0.2.11:80")? == silent);
    ensure!(connect(&scanner, "192.0.2.11:82")? == Err(io::ErrorKind::ConnectionRefused));
    ensure!(connect(&scanner, "192.0.2.11:22")? == Ok(()));
    ensure!(connect(&scanner, "192.0.2.12:22")? == silent, "an address is silenced with listeners");
    ensure!(connect(&scanner, "[2001:db8::11]:22")? == silent);
    Ok(())
}

fn counted() -> anyhow::Result<()> {
    let (scanner, target) = pair()?;
    target.silence("192.0.2.12")?;
    ensure!(target.counted()? == Counted::default(), "setting up is not counted");
    for port in 1..=5 {
        ensure!(connect(&scanner, &format!("192.0.2.11:{port}"))?.is_err());
        ensure!(connect(&scanner, &format!("[2001:db8::11]:{port}"))?.is_err());
    }
    ensure!(connect(&scanner, "192.0.2.12:1")?.is_err());
    ensure!(target.counted_at("192.0.2.11")? == Counted { tcp: 5, ping: 0 });
    ensure!(target.counted_at("2001:db8::11")? == Counted { tcp: 5, ping: 0 });
    ensure!(target.counted_at("192.0.2.12")?.tcp == 1, "what is dropped was counted before");
    ensure!(target.counted()? == Counted { tcp: 11, ping: 0 });
    ensure!(target.counted_at("192.0.2.99").is_err(), "what nobody counts is no zero");
    Ok(())
}

fn documentation_only() -> anyhow::Result<()> {
    let (scanner, target) = (Host::new("scanner")?, Host::new("target")?);
    for foreign in ["10.0.0.1/24", "100.64.0.1/24", "2001:db9::1/64", "fe80::1/64", "127.0.0.5/8"] {
        let wired = lab::wire((&scanner, &[foreign]), (&target, &["192.0.2.11/24"]));
        ensure!(wired.is_err(), "{foreign} was accepted");
    }
    ensure!(target.set("kernel/hostname", "x").is_err(), "the machine's parameters are not ours");
    Ok(())
}

fn no_way_out() -> anyhow::Result<()> {
    let (scanner, _target) = pair()?;
    for outside in ["198.51.100.1:80", "[2001:db8:1::1]:80"] {
        ensure!(connect(&scanner, outside)? == Err(io::ErrorKind::NetworkUnreachable), "{outside}");
    }
    Ok(())
}

fn programs() -> anyhow::Result<()> {
    let (scanner, _target) = pair()?;
    let script = "read line; echo \"$line $A\"; echo problem >&2; ip -brief address; exit 7";
    let run = scanner
        .command(Path::new("/bin/sh"))
        .args(["-c", script])
        .env("A", "b")
        .input("said\n")
        .run(Duration::from_secs(20))?;
    ensure!(run.code == Some(7) && run.signal.is_none(), "{}", run.transcript());
    ensure!(run.stdout.starts_with("said b\n") && run.stderr == "problem\n");
    ensure!(run.stdout.contains("192.0.2.1/24"), "another namespace: {}", run.stdout);
    ensure!(run.usage.resident_bytes_max > 0);
    Ok(())
}

fn timeout() -> anyhow::Result<()> {
    let host = Host::new("host")?;
    let sleeping = host.command(Path::new("/bin/sleep")).args(["600"]).start()?;
    let process = format!("/proc/{}", sleeping.id());
    ensure!(Path::new(&process).exists());
    let error = sleeping.wait(Duration::from_millis(100)).err().context("it ended in time")?;
    ensure!(error.to_string().contains("still ran after 100ms: /bin/sleep 600"), "{error}");
    ensure!(!Path::new(&process).exists(), "it was not ended");

    let dropped = host.command(Path::new("/bin/sleep")).args(["600"]).start()?;
    let process = format!("/proc/{}", dropped.id());
    drop(dropped);
    ensure!(!Path::new(&process).exists(), "it outlives its handle");
    Ok(())
}

fn unprivileged() -> anyhow::Result<()> {
    let host = Host::new("host")?;
    let script = "id -u; id -G; grep CapEff /proc/self/status";
    let run = host
        .command(Path::new("/bin/sh"))
        .args(["-c", script])
        .user(65_534)
        .run(Duration::from_secs(20))?
        .expect_code(0)?;
    ensure!(run.stdout == "65534\n65534\nCapEff:\t0000000000000000\n", "{}", run.stdout);
    Ok(())
}

fn after_panic() -> anyhow::Result<()> {
    let (namespace, process) = (std::sync::OnceLock::new(), std::sync::OnceLock::new());
    let story = std::panic::AssertUnwindSafe(|| -> anyhow::Result<()> {
        let (scanner, mut target) = pair()?;
        target.listen("192.0.2.11:22")?;
        let sleeping = scanner.command(Path::new("/bin/sleep")).args(["600"]).start()?;
        namespace.get_or_init(|| namespace_of(sleeping.id()));
        process.get_or_init(|| sleeping.id());
        std::panic::resume_unwind(Box::new("a test that fails"));
    });
    ensure!(std::panic::catch_unwind(story).is_err());
    let process = process.get().context("the story did not get to its end")?;
    ensure!(!Path::new(&format!("/proc/{process}")).exists(), "the program was not ended");
    let namespace = (namespace.get().cloned().flatten()).context("no namespace was seen")?;
    let held = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .any(|link| link == namespace);
    ensure!(!held, "the namespace is still held");
    Ok(())
}

fn namespace_of(process: u32) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{process}/ns/net")).ok()
}
