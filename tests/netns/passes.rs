//! `--passes N` is how often a silent target is tried: what drops the first SYN is found by the second, and only by that.

use anyhow::ensure;
use libtest_mimic::Trial;
use portsweep_tests::lab::{self, Need};

use crate::judge;
use crate::world::World;

pub(crate) fn trials() -> Vec<Trial> {
    vec![lab::trial("passes_a_second_try_finds_what_drops_the_first_syn", &[Need::Hosts], second_try)]
}

fn second_try() -> anyhow::Result<()> {
    for (passes, state, probes) in [("1", "filtered", 1), ("2", "open", 2)] {
        let world = World::new()?;
        world.target.drop_first_syn("192.0.2.11")?;
        let words = ["-f", "tcp", "-p", "22", "--passes", passes, "-w", "result.json", "192.0.2.11"];
        let run = world.portsweep(&words)?.expect_code(0)?;
        let result = world.result("result.json")?;
        judge::schema(&result)?;
        ensure!(result["summary"]["states"][state] == 1, "--passes {passes}: {}", result["summary"]);
        let expected = if state == "open" { "192.0.2.11:22\n" } else { "" };
        ensure!(run.stdout == expected, "--passes {passes}: {}", run.transcript());
        let counted = world.target.counted_at("192.0.2.11")?;
        ensure!(counted.tcp == probes, "--passes {passes}: {counted:?}");
    }
    Ok(())
}
