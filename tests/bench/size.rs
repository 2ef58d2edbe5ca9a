//! `size`: 10.0.0.0/8 by all ports. First the program itself, on a network of which nobody is there: when does the first probe leave, how
//! much memory is there then, and how much more a minute later? Then its parts at full speed, with probers whose network is made up.
//!
//! The one place where addresses that may be somebody's are probed: from a namespace whose only wire ends at the simulator.

use std::env;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use portsweep_tests::lab::simulated::{Simulated, World};
use portsweep_tests::lab::{self, Host, Process};

use crate::FULL_SPEED;
use crate::measure::{now, status_bytes};

const WORLD: &str = "seed = 1\nprefix = \"10.0.0.0/8\"";
/// Whatever is filled at the start is full by then.
const SETTLED: Duration = Duration::from_secs(10);
const WATCHED: Duration = Duration::from_secs(60);
const ENDS_WITHIN: Duration = Duration::from_secs(120);

pub(crate) fn run() -> anyhow::Result<String> {
    Ok(silent()? + &full_speed()?)
}

fn silent() -> anyhow::Result<String> {
    let scanner = Host::new("scanner")?;
    let network = Simulated::start(&scanner, World::parse(WORLD)?)?;
    let directory = tempfile::tempdir()?;
    let command = (scanner.command(lab::bin()?))
        .args(["-f", "tcp", "-p-", "--yes", "-q", "-w", "result.json", "10.0.0.0/8"])
        .directory(directory.path())
        .env("PORTSWEEP_STATE", directory.path().join("state"));
    let before = network.age();
    let process = command.start()?;
    let watched = Watched::of(&process)?;
    process.signal(libc::SIGINT)?;
    let ended = process.wait(ENDS_WITHIN)?;
    let account = network.stop()?;
    let Some(first_at) = account.first_at else { bail!("nothing was probed\n{}", ended.transcript()) };
    Ok(format!(
        "silent: first probe after {:.3} s; {watched}; {:.0} probes a second; exit code {:?}\n",
        (first_at - before).as_secs_f64(),
        account.total().tcp as f64 / watched.all.as_secs_f64(),
        ended.code,
    ))
}

fn full_speed() -> anyhow::Result<String> {
    let nowhere = Host::new("no network")?;
    let directory = tempfile::tempdir()?;
    let program = env::current_exe()?;
    let process = nowhere.command(&program).args([FULL_SPEED.as_ref(), directory.path()]).start()?;
    let watched = Watched::of(&process)?;
    process.signal(libc::SIGKILL)?;
    let ended = process.wait(ENDS_WITHIN)?;
    let committed = committed(directory.path()).with_context(|| ended.transcript())?;
    Ok(format!(
        "full speed: {watched}; {committed} targets committed, {:.0} a second\n",
        committed as f64 / watched.all.as_secs_f64()
    ))
}

/// How many targets were committed, by the database that was left behind.
fn committed(directory: &std::path::Path) -> anyhow::Result<u64> {
    use coordinator_core::resume::Resumed;
    let store = portsweep::store::sqlite::SqliteStore::open(&directory.join("scan.db"))?;
    Ok(Resumed::load(&store, crate::full_speed::SCAN)?.progress.settled())
}

/// The memory of a process over a minute, in MiB.
struct Watched {
    at_first: f64,
    early: f64,
    late: f64,
    passed: Duration,
    all: Duration,
}

impl Watched {
    fn of(process: &Process) -> anyhow::Result<Self> {
        let began = now();
        let resident = |at: Duration| {
            let from = now();
            thread::sleep(at);
            let bytes = status_bytes(process.id(), "VmRSS:").context("it has ended")?;
            anyhow::Ok((now() - from, bytes as f64 / f64::from(1 << 20)))
        };
        let (_, at_first) = resident(Duration::from_secs(1))?;
        let (_, early) = resident(SETTLED)?;
        let (passed, late) = resident(WATCHED)?;
        Ok(Self { at_first, early, late, passed, all: now() - began })
    }
}

impl std::fmt::Display for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { at_first, early, late, passed, .. } = self;
        let a_minute = (late - early) * 60.0 / passed.as_secs_f64();
        write!(
            f,
            "RSS {at_first:.1} MiB after 1 s, {early:.1} MiB after 11 s, {late:.1} MiB {:.0} s later: {a_minute:+.2} MiB a minute",
            passed.as_secs_f64()
        )
    }
}
