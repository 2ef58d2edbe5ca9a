//! A scanner that could not run for a while (the machine was busy, it was stopped and continued) does not take for silence what
//! answered meanwhile: the answers are there, they were only not read yet.

use std::thread;
use std::time::Duration;

use anyhow::ensure;
use libtest_mimic::Trial;
use portsweep_tests::lab::simulated::{Asked, Score, Seen, Simulated, World};
use portsweep_tests::lab::{self, Host, Need};
use protocol::port::parse_ports;

use crate::world::{RUN_TIMEOUT, read_result};

const WORLD: &str = "
seed = 41
prefix = \"198.51.100.0/24\"

[[hosts]]
share = 1.0
open = \"1-300\"
open_share = 0.05
rtt_ms = [10, 80]
";
/// Longer than any timeout.
const STOPPED: Duration = Duration::from_millis(1_500);
/// How often it is stopped, so that some of them meet thousands of probes in flight.
const TIMES: usize = 3;

pub(crate) fn trials() -> Vec<Trial> {
    let hosts = &[Need::Hosts];
    vec![lab::trial("stall_of_the_scanner_is_not_taken_for_silence", hosts, stalled)]
}

fn stalled() -> anyhow::Result<()> {
    let world = World::parse(WORLD)?;
    let scanner = Host::new("scanner")?;
    let network = Simulated::start(&scanner, world.clone())?;
    let directory = tempfile::tempdir()?;
    let process = scanner
        .command(lab::bin()?)
        .args(["-q", "-f", "tcp", "-p", "1-300", "-w", "result.json", "198.51.100.0/24"])
        .directory(directory.path())
        .env("PORTSWEEP_STATE", directory.path().join("state"))
        .start()?;
    for _ in 0..TIMES {
        thread::sleep(Duration::from_millis(300));
        process.signal(libc::SIGSTOP)?;
        thread::sleep(STOPPED);
        process.signal(libc::SIGCONT)?;
    }
    process.wait(RUN_TIMEOUT)?.expect_code(0)?;
    let account = network.stop()?;
    account.expect_nothing_missed()?;
    let late = account.latest;
    let result = read_result(&directory.path().join("result.json"))?;
    let asked = Asked { ping: false, ports: parse_ports("1-300")? };
    let score = Score::of(&world, &asked, &Seen::in_result(&result)?);
    ensure!(score.wrong() == 0, "{score:?}");
    ensure!(score.open.found == score.open.there, "{score:?}, answers {late:?} late at most: {}", result["summary"]);
    ensure!(
        score.closed.found == score.closed.there,
        "{score:?}, answers {late:?} late at most: {}",
        result["summary"]
    );
    Ok(())
}
