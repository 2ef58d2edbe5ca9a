//! What hosts and networks say that they should not is not taken for a result, holds nothing up and takes no memory: bad inputs 87
//! and 88 of the project's list, as far as pings and connects meet them.

use std::io::{self, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use portsweep_tests::lab::simulated::{Asked, Score, Seen, World};
use portsweep_tests::lab::{self, Need};
use protocol::port::{PortSet, parse_ports};

use crate::sweeping::{Swept, sweep};

/// Longer than a scan of so few targets takes, however it is disturbed.
const SECONDS_MAX: f64 = 30.0;
/// Far above what a scan takes, far below what a flood could.
const RESIDENT_BYTES_MAX: u64 = 200 << 20;

pub(crate) fn trials() -> Vec<Trial> {
    let hosts = &[Need::Hosts];
    let odd = |name: &str, odd: &'static str| lab::trial(name, hosts, move || ports_beside(odd).map(drop));
    vec![
        lab::trial("bad_input_87_banners_without_end", hosts, endless_banners),
        odd("bad_input_88_tarpits_that_accept_with_a_window_of_zero", "zero-window"),
        odd("bad_input_88_accepts_from_the_wrong_port", "wrong-port"),
        odd("bad_input_88_rst_after_accept", "reset-after-accept"),
        odd("bad_input_88_answers_that_come_three_times", "duplicate"),
        odd("bad_input_88_answers_that_come_late_and_contradict", "late-contradiction"),
        odd("bad_input_88_errors_cut_short_in_the_quoted_header", "truncated-error"),
        odd("bad_input_88_errors_that_quote_the_probe_of_another", "foreign-error"),
        lab::trial("bad_input_88_floods_of_answers_nobody_asked_for", hosts, flood_of_ports),
        lab::trial("bad_input_88_pings_answered_three_times_late_and_by_others", hosts, pings),
    ]
}

/// A /25 of which half are odd hosts, a quarter honest ones (what is said of them must not suffer), and a quarter empty.
fn world(odd: &str) -> anyhow::Result<World> {
    let kind = "open = \"1-40\"\nopen_share = 0.2\nrtt_ms = [5, 40]";
    World::parse(&format!(
        "seed = 31\nprefix = \"198.51.100.0/25\"\n\
         [[hosts]]\nshare = 0.5\n{kind}\nodd = [\"{odd}\"]\n\
         [[hosts]]\nshare = 0.25\n{kind}\n"
    ))
}

/// Sweeps ports of a world with odd hosts. What is open or closed by the truth is found to be, and nothing else: an odd host's ports
/// are open where it accepted, be it once or thrice, and filtered where what it said is no answer.
fn ports_beside(odd: &str) -> anyhow::Result<Swept> {
    let world = world(odd)?;
    let asked = Asked { ping: false, ports: parse_ports("1-40")? };
    let swept = sweep(world.clone(), &["-q", "-f", "tcp", "-p", "1-40"])?;
    judge(&world, &asked, &swept)?;
    Ok(swept)
}

fn flood_of_ports() -> anyhow::Result<()> {
    let swept = ports_beside("flood")?;
    // Forty for each of the 2,560 targets of odd hosts, of which some leave the network as one.
    ensure!(swept.account.answered > 51_200, "there was no flood: {} answers", swept.account.answered);
    Ok(())
}

fn pings() -> anyhow::Result<()> {
    for odd in ["duplicate", "late-contradiction", "foreign-error", "flood"] {
        let world = world(odd)?;
        let asked = Asked { ping: true, ports: PortSet::new() };
        let swept = sweep(world.clone(), &["-q", "-f", "ping"])?;
        judge(&world, &asked, &swept).context(odd)?;
    }
    Ok(())
}

fn judge(world: &World, asked: &Asked, swept: &Swept) -> anyhow::Result<()> {
    let score = Score::of(world, asked, &Seen::in_result(&swept.result)?);
    let summary = &swept.result["summary"];
    ensure!(score.wrong() == 0, "{score:?}: {summary}");
    ensure!(score.open.there + score.up.there > 0, "nothing was to be found");
    for tally in [score.open, score.closed, score.up] {
        ensure!(tally.found == tally.there, "{score:?}: {summary}");
    }
    ensure!(summary["targets"] == summary["probed"], "{summary}");
    ensure!(swept.took.as_secs_f64() < SECONDS_MAX, "it took {:?}", swept.took);
    let resident = swept.finished.usage.resident_bytes_max;
    ensure!(resident < RESIDENT_BYTES_MAX, "it took {} MiB", resident >> 20);
    Ok(())
}

/// One port sends as fast as it can, another a byte a second, as long as anybody listens.
fn endless_banners() -> anyhow::Result<()> {
    let scanner = lab::Host::new("scanner")?;
    let target = lab::Host::new("target")?;
    lab::wire((&scanner, &["192.0.2.1/24"]), (&target, &["192.0.2.11/24"]))?;
    let listen = |port: u16| target.enter(move || TcpListener::bind(("192.0.2.11", port)));
    let (fast, slow) = (listen(21)?, listen(22)?);
    let fast = thread::spawn(move || banner(&fast, &[b'x'; 65_536], Duration::ZERO));
    let slow = thread::spawn(move || banner(&slow, b"x", Duration::from_secs(1)));
    let directory = tempfile::tempdir()?;
    let run = scanner
        .command(lab::bin()?)
        .args(["-f", "tcp", "-p", "20-22", "192.0.2.11"])
        .directory(directory.path())
        .env("PORTSWEEP_STATE", directory.path().join("state"))
        .run(Duration::from_secs(20))?
        .expect_code(0)?;
    ensure!(run.lines_sorted() == ["192.0.2.11:21", "192.0.2.11:22"], "{}", run.transcript());
    ensure!(run.usage.resident_bytes_max < RESIDENT_BYTES_MAX, "{:?}", run.usage);
    for sender in [fast, slow] {
        let sent = sender.join().map_err(|_| anyhow::anyhow!("a sender panicked"))??;
        // What fits into the buffers of a connection that is reset at once.
        ensure!(sent < 64 << 20, "{sent} bytes were taken of a banner that nobody asked for");
    }
    Ok(())
}

/// Accepts once and sends `piece` again and again until the other side has enough; how much that was, in bytes.
fn banner(listener: &TcpListener, piece: &[u8], pause: Duration) -> io::Result<usize> {
    let (mut accepted, _) = listener.accept()?;
    let mut sent = 0;
    while let Ok(taken) = accepted.write(piece) {
        sent += taken;
        thread::sleep(pause);
    }
    Ok(sent)
}
