//! One run of portsweep over a simulated network: what it says, what reached the network, how long it took.

use std::time::{Duration, Instant};

use anyhow::Context;
use portsweep_tests::lab::simulated::{Account, Simulated, World};
use portsweep_tests::lab::{self, Finished, Host};
use serde_json::Value;

use crate::judge;
use crate::world::read_result;

/// Longer than any scan of a simulated network takes; what a scan may take its world says.
const TIMEOUT: Duration = Duration::from_secs(150);

/// What came of a run.
pub(crate) struct Swept {
    pub(crate) result: Value,
    pub(crate) account: Account,
    pub(crate) took: Duration,
    pub(crate) finished: Finished,
}

/// Sweeps all of `world` with `words` before the target, to its end with exit code 0. An error if the simulator did not keep up.
pub(crate) fn sweep(world: World, words: &[&str]) -> anyhow::Result<Swept> {
    let target = world.prefix.to_string();
    let scanner = Host::new("scanner")?;
    let network = Simulated::start(&scanner, world)?;
    let directory = tempfile::tempdir()?;
    let command = scanner
        .command(lab::bin()?)
        .args(words)
        .args(["-w", "result.json", &target])
        .directory(directory.path())
        .env("PORTSWEEP_STATE", directory.path().join("state"));
    let started = now();
    let finished = command.run(TIMEOUT)?.expect_code(0)?;
    let took = now() - started;
    let account = network.stop()?;
    account.expect_nothing_missed().with_context(|| finished.transcript())?;
    let result = read_result(&directory.path().join("result.json"))?;
    judge::schema(&result)?;
    Ok(Swept { result, account, took, finished })
}

#[expect(clippy::disallowed_methods, reason = "how long a scan takes is measured from outside")]
fn now() -> Instant {
    Instant::now()
}
