//! A sweep finds the truth: every target of several addresses, over IPv4 and IPv6, ends with the
//! state and reason that it has, each was asked, what answered was asked once, and nobody else was.

use anyhow::ensure;
use libtest_mimic::Trial;
use portsweep_tests::lab::{self, Counted, Need};

use crate::judge::{Asked, judge};
use crate::world::{PORTS, PORTS_TEXT, Truth, V4, V6, World};

pub(crate) fn trials() -> Vec<Trial> {
    let hosts = &[Need::Hosts];
    vec![
        lab::trial("sweep_range_and_positional_targets_with_both_kinds", hosts, both_kinds),
        lab::trial("sweep_without_kinds_asks_both", hosts, no_kinds),
        lab::trial("sweep_of_ports_only", hosts, ports_only),
        lab::trial("sweep_of_pings_only", hosts, pings_only),
        lab::trial("sweep_asks_what_answers_once_and_nobody_else", hosts, once),
    ]
}

fn all() -> Vec<Truth> {
    V4.into_iter().chain(V6).collect()
}

fn both_kinds() -> anyhow::Result<()> {
    let world = World::new()?;
    let run = world.portsweep(&[
        "-f",
        "tcp",
        "-f",
        "ping",
        "-ip",
        "192.0.2.11-192.0.2.14",
        "-p",
        PORTS_TEXT,
        "-w",
        "result.json",
        "2001:db8::11-2001:db8::14",
    ])?;
    run.expect_code(0)?;
    let result = world.result("result.json")?;
    judge(&result, &all(), Asked { ping: true, ports: &PORTS })?;
    let kinds = &result["scan"]["kinds"];
    ensure!(*kinds == serde_json::json!(["ping", "tcp"]), "{kinds}");
    ensure!(result["agents"][0]["ping_method"] == "icmp", "{}", result["agents"]);
    Ok(())
}

fn no_kinds() -> anyhow::Result<()> {
    let world = World::new()?;
    let words = ["-p", PORTS_TEXT, "-w", "result.json", "192.0.2.11-192.0.2.14"];
    world.portsweep(&words)?.expect_code(0)?;
    judge(&world.result("result.json")?, &V4, Asked { ping: true, ports: &PORTS })
}

fn ports_only() -> anyhow::Result<()> {
    let world = World::new()?;
    let words = ["-f", "tcp", "-p", PORTS_TEXT, "-w", "result.json", "2001:db8::11-2001:db8::14"];
    world.portsweep(&words)?.expect_code(0)?;
    judge(&world.result("result.json")?, &V6, Asked { ping: false, ports: &PORTS })?;
    let counted = world.target.counted()?;
    ensure!(counted.ping == 0, "pinged without being asked to: {counted:?}");
    Ok(())
}

fn pings_only() -> anyhow::Result<()> {
    let world = World::new()?;
    let words = ["-f", "ping", "-w", "result.json", "192.0.2.11-192.0.2.14", "2001:db8::11-2001:db8::14"];
    world.portsweep(&words)?.expect_code(0)?;
    judge(&world.result("result.json")?, &all(), Asked { ping: true, ports: &[] })?;
    let counted = world.target.counted()?;
    ensure!(counted.tcp == 0, "connected without being asked to: {counted:?}");
    Ok(())
}

fn once() -> anyhow::Result<()> {
    let world = World::new()?;
    // Named three times over, as a range, a network and an address: still asked once.
    let words =
        ["-p", "22,80,80,79-81", "-w", "result.json", "-ip", "192.0.2.11-192.0.2.12", "192.0.2.12/32", "192.0.2.11"];
    world.portsweep(&words)?.expect_code(0)?;
    let ports = &[22, 79, 80, 81];
    judge(&world.result("result.json")?, &V4[..2], Asked { ping: true, ports })?;
    let counted = world.target.counted_at("192.0.2.11")?;
    ensure!(counted == Counted { tcp: 4, ping: 1 }, "{counted:?}");
    let counted = world.target.counted_at("192.0.2.12")?;
    ensure!(counted.tcp == 4 && counted.ping >= 1, "{counted:?}");
    for beside in ["192.0.2.13", "192.0.2.15", "2001:db8::11", "2001:db8::12"] {
        let counted = world.target.counted_at(beside)?;
        ensure!(counted == Counted::default(), "{beside} was probed: {counted:?}");
    }
    Ok(())
}
