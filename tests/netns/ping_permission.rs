//! Where ICMP is not permitted, a sweep says in one line which setting mends it, asks for life by
//! connects to 80 and 443 instead, and says so in the result.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::ensure;
use libtest_mimic::Trial;
use portsweep_tests::lab::{self, Counted, Finished, Need};
use serde_json::Value;

use crate::judge::schema;
use crate::world::{RUN_TIMEOUT, World, read_result};

/// The sysctl that permits ping sockets.
const SETTING: &str = "net.ipv4.ping_group_range";

/// A user without any right, as Debian calls it `nobody`.
pub(crate) const NOBODY: u32 = 65_534;

pub(crate) fn trials() -> Vec<Trial> {
    let hosts = &[Need::Hosts];
    vec![
        lab::trial("ping_permission_missing_falls_back_to_connects", hosts, closed),
        lab::trial("ping_permission_by_group_range_is_used", hosts, open),
    ]
}

/// A copy of portsweep that `nobody` may run, in a directory that is theirs.
pub(crate) fn for_nobody(directory: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    let program = directory.join("portsweep");
    fs::copy(lab::bin()?, &program)?;
    let home = directory.join("home");
    fs::create_dir(&home)?;
    chown(&home, Some(NOBODY), Some(NOBODY))?;
    Ok((program, home))
}

fn run(world: &World, program: &Path, home: &Path, words: &[&str]) -> anyhow::Result<Finished> {
    world.scanner.command(program).args(words).directory(home).user(NOBODY).run(RUN_TIMEOUT)
}

/// State and reason of the pings: a host's status, as long as only `ping` was asked.
fn status<'a>(result: &'a Value, address: &str) -> Option<(&'a str, &'a str)> {
    let host = result["hosts"].as_array()?.iter().find(|host| host["address"] == address)?;
    Some((host["status"]["state"].as_str()?, host["status"]["reason"].as_str()?))
}

fn closed() -> anyhow::Result<()> {
    let world = World::new()?;
    world.scanner.set("net/ipv4/ping_group_range", "1 0")?;
    let (program, home) = for_nobody(world.directory.path())?;
    let words = ["-f", "ping", "-w", "result.json", "192.0.2.11-192.0.2.13"];
    let ended = run(&world, &program, &home, &words)?.expect_code(0)?;

    let telling: Vec<_> = ended.stderr.lines().filter(|line| line.contains(SETTING)).collect();
    ensure!(telling.len() == 1, "one line names {SETTING}: {}", ended.transcript());

    let result = read_result(&home.join("result.json"))?;
    schema(&result)?;
    ensure!(result["agents"][0]["ping_method"] == "tcp", "{}", result["agents"]);
    // .11 accepts on 80, .12 refuses on both, .13 says nothing.
    let found = status(&result, "192.0.2.11");
    ensure!(matches!(found, Some(("up", "syn-ack" | "conn-refused"))), "{found:?}");
    ensure!(status(&result, "192.0.2.12") == Some(("up", "conn-refused")), "{}", result["hosts"]);
    ensure!(result["silent"][0]["addresses"] == "192.0.2.13", "{}", result["silent"]);
    ensure!(result["silent"][0]["status"]["state"] == "down", "{}", result["silent"]);
    ensure!(ended.lines_sorted() == ["192.0.2.11", "192.0.2.12"], "{}", ended.transcript());

    let counted = world.target.counted_at("192.0.2.13")?;
    ensure!(counted.ping == 0 && counted.tcp >= 2, "two connects ask for life: {counted:?}");
    Ok(())
}

fn open() -> anyhow::Result<()> {
    let world = World::new()?;
    world.scanner.set("net/ipv4/ping_group_range", "0 2147483647")?;
    let (program, home) = for_nobody(world.directory.path())?;
    let words = ["-f", "ping", "-w", "result.json", "192.0.2.11", "2001:db8::12"];
    let ended = run(&world, &program, &home, &words)?.expect_code(0)?;
    ensure!(!ended.stderr.contains(SETTING), "{}", ended.transcript());
    let result = read_result(&home.join("result.json"))?;
    ensure!(result["agents"][0]["ping_method"] == "icmp", "{}", result["agents"]);
    for address in ["192.0.2.11", "2001:db8::12"] {
        ensure!(status(&result, address) == Some(("up", "echo-reply")), "{}", result["hosts"]);
        let counted = world.target.counted_at(address)?;
        ensure!(counted == Counted { tcp: 0, ping: 1 }, "{address}: {counted:?}");
    }
    Ok(())
}
