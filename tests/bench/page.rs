//! `page`: what people who look on cost a running scan, what a reader costs that stops reading, how soon a coordinator ends with streams open,
//! and how long a page with 100,000 findings takes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::fleet_lab::Fleet;
use crate::measure::{median, now, status_bytes};

const ROUNDS: usize = 5;
/// How many follow the events at once, and how many pages are asked for a second.
const READERS: usize = 200;
const ASKS_PER_S: u32 = 50;
/// Addresses of which all ports are scanned: some seconds of work.
const ADDRESSES: usize = 8;
const PAGE: &str = "127.0.0.1:7420";
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a reader that stopped is watched.
const STOPPED: Duration = Duration::from_secs(10);

/// Asks and does not wait.
fn ask(path: &str, key: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(PAGE)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {PAGE}\r\nAuthorization: Bearer {key}\r\nAccept: text/html\r\nConnection: close\r\n\r\n"
    )?;
    Ok(stream)
}

/// Asks and takes the whole answer.
fn get(path: &str, key: &str) -> anyhow::Result<usize> {
    let mut answer = Vec::new();
    ask(path, key)?.read_to_end(&mut answer)?;
    ensure!(
        answer.starts_with(b"HTTP/1.1 200"),
        "{path}: {}",
        String::from_utf8_lossy(&answer[..answer.len().min(300)])
    );
    Ok(answer.len())
}

/// Looks on until `end`: readers of the events, and a second's worth of pages every second. How many pages came.
fn look_on(key: &str, end: &AtomicBool) -> anyhow::Result<u64> {
    let pages = AtomicU64::new(0);
    let mut readers = (0..READERS).map(|_| ask("/api/v1/events", key)).collect::<Result<Vec<_>, _>>()?;
    readers.iter().try_for_each(|reader| reader.set_nonblocking(true))?;
    thread::scope(|scope| {
        let asking = scope.spawn(|| -> anyhow::Result<()> {
            let paths = ["/", "/api/v1/scans", "/agents", "/scans", "/api/v1/agents"];
            let started = now();
            for number in 0_u32.. {
                if end.load(Ordering::Relaxed) {
                    return Ok(());
                }
                thread::sleep((Duration::from_secs(1) / ASKS_PER_S * number).saturating_sub(started.elapsed()));
                get(paths[number as usize % paths.len()], key)?;
                pages.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let mut taken = vec![0; 64 << 10];
        while !end.load(Ordering::Relaxed) {
            for reader in &mut readers {
                // Nothing there yet is no error; what was said is passed over.
                while reader.read(&mut taken).is_ok_and(|count| count == taken.len()) {}
            }
            thread::sleep(Duration::from_millis(50));
        }
        asking.join().map_err(|_| anyhow::anyhow!("asking panicked"))?
    })?;
    Ok(pages.into_inner())
}

fn looked_at(fleet: &Fleet, key: &str) -> anyhow::Result<(f64, f64)> {
    let end = AtomicBool::new(false);
    thread::scope(|scope| {
        let looking = scope.spawn(|| fleet.enter_coordinator(|| look_on(key, &end)));
        let timed = fleet.timed(ADDRESSES, &[]);
        end.store(true, Ordering::Relaxed);
        let pages = looking.join().map_err(|_| anyhow::anyhow!("looking on panicked"))??;
        let seconds = timed?.as_secs_f64();
        Ok((seconds, pages as f64 / seconds))
    })
}

fn line(what: &str, measured: f64, demanded: &str) -> String {
    format!("{what:<64} {measured:>10.3}  {demanded}\n")
}

/// The case.
pub(crate) fn run() -> anyhow::Result<String> {
    let mut fleet = Fleet::new(1)?;
    let key = fleet.key()?;
    let (mut alone, mut watched, mut pages) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        alone.push(fleet.timed(ADDRESSES, &[])?.as_secs_f64());
        let (seconds, rate) = looked_at(&fleet, &key)?;
        watched.push(seconds);
        pages.push(rate);
        eprintln!("round {round}: {:.2} s alone, {seconds:.2} s looked at, {rate:.0} pages/s", alone[round - 1]);
    }
    let (alone, watched) = (median(alone), median(watched));
    let (stopped, grown) = stopped_reader(&fleet, &key)?;
    let (ended, streams) = ended(&mut fleet, &key)?;
    Ok(line("a scan that nobody looks at: seconds", alone, "")
        + &line("with 200 readers and 50 pages a second: seconds", watched, "")
        + &line("pages a second that were answered", median(pages), "50")
        + &line("cost of that, share of the speed", 1.0 - alone / watched, "under 0.05")
        + &line("grown beside a reader that stopped reading, MiB", grown, "")
        + &line("events that it was sent meanwhile, MiB", stopped, "")
        + &line(&format!("SIGTERM with {streams} streams open to the end: seconds"), ended, "at most 5"))
}

/// A reader that never reads, during scans: how much of events another was sent meanwhile, and by how much the coordinator grew, in MiB.
fn stopped_reader(fleet: &Fleet, key: &str) -> anyhow::Result<(f64, f64)> {
    const MIB: f64 = (1 << 20) as f64;
    let resident =
        || status_bytes(fleet.coordinator_id(), "VmRSS:").context("the coordinator is gone").map(|bytes| bytes as f64);
    fleet.timed(ADDRESSES, &[])?;
    let before = resident()?;
    let streams = fleet.enter_coordinator(|| Ok([ask("/api/v1/events", key)?, ask("/api/v1/events", key)?]))?;
    let [stopped, mut reads] = streams;
    reads.set_read_timeout(Some(Duration::from_millis(100)))?;
    let (mut seen, started) = (0, now());
    while started.elapsed() < STOPPED {
        fleet.timed(ADDRESSES, &[])?;
        let mut taken = vec![0; 64 << 10];
        while let Ok(count @ 1..) = reads.read(&mut taken) {
            seen += count;
        }
    }
    let grown = resident()? - before;
    drop(stopped);
    Ok((seen as f64 / MIB, grown / MIB))
}

/// How long a coordinator with open streams takes to end.
fn ended(fleet: &mut Fleet, key: &str) -> anyhow::Result<(f64, usize)> {
    let streams = fleet
        .enter_coordinator(|| Ok((0..READERS).map(|_| ask("/api/v1/events", key)).collect::<Result<Vec<_>, _>>()?))?;
    let mut begun = 0;
    for mut stream in &streams {
        begun += usize::from(stream.read(&mut [0; 16])? > 0);
    }
    let started = now();
    fleet.end_coordinator()?;
    Ok((started.elapsed().as_secs_f64(), begun))
}
