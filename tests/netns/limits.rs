//! What this machine lacks slows a scan and is never taken for a state: with few descriptors the result is that of an undisturbed run.

use anyhow::ensure;
use libtest_mimic::Trial;
use portsweep_tests::lab::{self, Need};

use crate::judge::{Asked, judge};
use crate::lacks::told_once;
use crate::world::{PORTS, PORTS_TEXT, RUN_TIMEOUT, Truth, V4, V6, World};

pub(crate) fn trials() -> Vec<Trial> {
    let hosts = &[Need::Hosts];
    vec![lab::trial("limits_a_scan_with_few_descriptors_is_right", hosts, few_descriptors)]
}

/// As many as are set aside for files, link and store, and fewer: then probes find the limit.
fn few_descriptors() -> anyhow::Result<()> {
    let all: Vec<Truth> = V4.into_iter().chain(V6).collect();
    for descriptors in [64, 40] {
        with_descriptors(&all, descriptors)?;
    }
    Ok(())
}

fn with_descriptors(all: &[Truth], descriptors: u32) -> anyhow::Result<()> {
    let world = World::new()?;
    // A window far above the limit is what is asked for, so that the limit is met.
    let script = format!(
        "ulimit -n {descriptors} && exec \"$P\" -q --window 5000 -p {PORTS_TEXT} -w result.json 192.0.2.11-14 2001:db8::11-2001:db8::14"
    );
    let run = (world.scanner.command(std::path::Path::new("/bin/sh")).args(["-c", &script]))
        .directory(world.directory.path())
        .env("P", lab::bin()?)
        .run(RUN_TIMEOUT)?
        .expect_code(0)?;
    ensure!(run.stdout.is_empty(), "{}", run.transcript());
    told_once(&run, "ulimit -Hn")?;
    judge(&world.result("result.json")?, all, Asked { ping: true, ports: &PORTS })
        .map_err(|error| error.context(format!("ulimit -n {descriptors}")))?;
    Ok(())
}
