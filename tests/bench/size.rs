//! `size`: 10.0.0.0/8 by all ports, a network of which nobody is there. When does the first probe leave, how much memory is there
//! then, and how much more a minute later, at full speed?
//!
//! The one place where addresses that may be somebody's are probed: from a namespace whose only wire ends at the simulator.

use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use portsweep_tests::lab::simulated::{Simulated, World};
use portsweep_tests::lab::{self, Host};

use crate::measure::{now, status_bytes};

const WORLD: &str = "seed = 1\nprefix = \"10.0.0.0/8\"";
/// Whatever is filled at the start is full by then.
const SETTLED: Duration = Duration::from_secs(10);
const WATCHED: Duration = Duration::from_secs(60);

pub(crate) fn run() -> anyhow::Result<String> {
    let scanner = Host::new("scanner")?;
    let network = Simulated::start(&scanner, World::parse(WORLD)?)?;
    let directory = tempfile::tempdir()?;
    let command = (scanner.command(lab::bin()?))
        .args(["-f", "tcp", "-p-", "--yes", "-q", "-w", "result.json", "10.0.0.0/8"])
        .directory(directory.path())
        .env("PORTSWEEP_STATE", directory.path().join("state"));
    let before = network.age();
    let process = command.start()?;
    let resident = |at: Duration| {
        let from = now();
        thread::sleep(at);
        let bytes = status_bytes(process.id(), "VmRSS:").context("it has ended")?;
        anyhow::Ok((now() - from, bytes as f64 / f64::from(1 << 20)))
    };
    let (_, at_first) = resident(Duration::from_secs(1))?;
    let (_, early) = resident(SETTLED)?;
    let (passed, late) = resident(WATCHED)?;
    process.signal(libc::SIGINT)?;
    let ended = process.wait(Duration::from_secs(120))?;
    let account = network.stop()?;
    let Some(first_at) = account.first_at else { bail!("nothing was probed\n{}", ended.transcript()) };
    Ok(format!(
        "first probe after {:.3} s; RSS {at_first:.1} MiB after 1 s, {early:.1} MiB after 11 s, {late:.1} MiB {:.0} s later: {:+.2} MiB a minute\n\
         {} probes, {:.0} a second; exit code {:?}\n",
        (first_at - before).as_secs_f64(),
        passed.as_secs_f64(),
        (late - early) * 60.0 / passed.as_secs_f64(),
        account.total().tcp,
        account.total().tcp as f64 / 71.0,
        ended.code,
    ))
}
