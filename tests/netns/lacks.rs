//! What this machine lacks while it scans is told in one line on stderr, with what mends it, however often it is met; and it is never
//! taken for a state.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;
use std::{fs, io, thread};

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use portsweep_tests::lab::simulated::{Simulated, World as Network};
use portsweep_tests::lab::{self, Finished, Host, Need};

use crate::ping_permission::{NOBODY, for_nobody};
use crate::world::{RUN_TIMEOUT, World, read_result};

pub(crate) fn trials() -> Vec<Trial> {
    let hosts = &[Need::Hosts];
    vec![
        lab::trial("lacks_local_ports_are_told_and_no_state", hosts, local_ports),
        lab::trial("lacks_room_to_send_is_told_and_loses_nothing", &[Need::Hosts, Need::Program("tc")], room_to_send),
        lab::trial("lacks_room_for_answers_is_told", hosts, room_for_answers),
        lab::trial("lacks_room_in_the_table_of_connections_is_told", hosts, conntrack),
    ]
}

/// One line tells it, and says what mends it.
pub(crate) fn told_once(ended: &Finished, mend: &str) -> anyhow::Result<()> {
    let lines = ended.stderr.lines().filter(|line| line.contains(mend)).count();
    ensure!(lines == 1, "{lines} lines name {mend}: {}", ended.transcript());
    Ok(())
}

/// Every port that a connect may start from is taken: nothing can be asked, and that is what the result says, after 30 s without hope.
fn local_ports() -> anyhow::Result<()> {
    let mut world = World::new()?;
    world.scanner.set("net/ipv4/ip_local_port_range", "60000 60003")?;
    for port in 60_000..=60_003 {
        world.scanner.listen(&format!("192.0.2.1:{port}"))?;
    }
    let ended = (world.scanner.command(lab::bin()?))
        .args(["-q", "-f", "tcp", "-p", "80,81", "-w", "result.json", "192.0.2.11"])
        .directory(world.directory.path())
        .run(RUN_TIMEOUT)?
        .expect_code(3)?;
    told_once(&ended, "net.ipv4.ip_local_port_range")?;
    let summary = &world.result("result.json")?["summary"];
    ensure!(summary["not_probed"]["local-limit"] == 2 && summary["probed"] == 0, "{summary}");
    ensure!(world.target.counted_at("192.0.2.11")?.sum() == 0, "something was sent");
    Ok(())
}

/// The queue before the wire holds 30 requests of 256, and drops the others: each is sent again, and none is taken for silence.
fn room_to_send() -> anyhow::Result<()> {
    let scanner = Host::new("scanner")?;
    let network = Simulated::start(
        &scanner,
        Network::parse("seed = 3\nprefix = \"198.51.100.0/24\"\n[[hosts]]\nshare = 1.0\nrtt_ms = [1, 5]\n")?,
    )?;
    scanner.narrow(network.scanner_interface(), "1mbit", 1_800)?;
    let directory = tempfile::tempdir()?;
    let ended = (scanner.command(lab::bin()?))
        .args(["-q", "-f", "ping", "--passes", "1", "-w", "result.json", "198.51.100.0/24"])
        .directory(directory.path())
        .run(RUN_TIMEOUT)?
        .expect_code(0)?;
    told_once(&ended, "txqueuelen")?;
    let account = network.stop()?;
    let summary = &read_result(&directory.path().join("result.json"))?["summary"];
    ensure!(summary["states"]["up"] == 256, "{summary}");
    ensure!(account.total().ping == 256, "{} requests arrived", account.total().ping);
    Ok(())
}

/// The buffer holds 512 answers to 10,000, by what the machine permits an ordinary user, and 24,576 come while the scanner is stopped.
fn room_for_answers() -> anyhow::Result<()> {
    let scanner = Host::new("scanner")?;
    scanner.set("net/ipv4/ping_group_range", "0 2147483647")?;
    let world =
        "seed = 4\nprefix = \"198.18.0.0/19\"\n[[hosts]]\nshare = 1.0\nrtt_ms = [4000, 4000]\nodd = [\"duplicate\"]\n";
    let network = Simulated::start(&scanner, Network::parse(world)?)?;
    let directory = tempfile::tempdir()?;
    let (program, home) = for_nobody(directory.path())?;
    let process = (scanner.command(&program))
        .args(["-q", "-f", "ping", "--timeout", "8s", "--passes", "1", "-w", "result.json", "198.18.0.0/19"])
        .directory(&home)
        .user(NOBODY)
        .start()?;
    // All are asked by then, and none has answered.
    thread::sleep(Duration::from_secs(2));
    process.signal(libc::SIGSTOP)?;
    thread::sleep(Duration::from_secs(4));
    process.signal(libc::SIGCONT)?;
    let ended = process.wait(RUN_TIMEOUT)?.expect_code(0)?;
    network.stop()?.expect_nothing_missed()?;
    told_once(&ended, "net.core.rmem_max")?;
    let summary = &read_result(&home.join("result.json"))?["summary"];
    // What found room was not lost to the stop.
    let up = summary["states"]["up"].as_u64().context("no count")?;
    ensure!((256..8_192).contains(&up), "{summary}");
    Ok(())
}

/// The table is full of what somebody else on this machine sent before.
fn conntrack() -> anyhow::Result<()> {
    let scanner = Host::new("scanner")?;
    let network = Simulated::start(
        &scanner,
        Network::parse("seed = 5\nprefix = \"198.18.0.0/24\"\n[[hosts]]\nshare = 1.0\nrtt_ms = [1, 5]\n")?,
    )?;
    scanner.track_connections()?;
    scanner.set("net/netfilter/nf_conntrack_udp_timeout", "300")?;
    scanner.enter(fill_conntrack)?;
    let directory = tempfile::tempdir()?;
    let ended = (scanner.command(lab::bin()?))
        .args(["-q", "-f", "ping", "-f", "tcp", "-p", "1-20", "-w", "result.json", "198.18.0.0/28"])
        .directory(directory.path())
        .run(RUN_TIMEOUT)?
        .expect_code(0)?;
    network.stop()?;
    told_once(&ended, "net.netfilter.nf_conntrack_max")
}

/// A datagram for each entry, to addresses of the simulated network.
fn fill_conntrack() -> io::Result<()> {
    let text = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max")?;
    let entries: u32 = text.trim().parse().map_err(io::Error::other)?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_write_timeout(Some(Duration::from_secs(1)))?;
    for entry in 0..entries + 256 {
        let to = Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + entry % 256);
        // Where the table is full the kernel says so; others may find room still.
        let _ = socket.send_to(b"x", (to, 1 + (entry / 256 % 65_535) as u16));
    }
    Ok(())
}
