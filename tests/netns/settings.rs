//! The config file and the environment: standing exclusions hold for every scan, and a config that cannot be used ends a scan
//! before anything is sent.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::ensure;
use libtest_mimic::Trial;
use portsweep_tests::lab::{self, Finished, Need};

use crate::world::{RUN_TIMEOUT, World};

pub(crate) fn trials() -> Vec<Trial> {
    let hosts = &[Need::Hosts];
    vec![
        lab::trial("settings_standing_exclusions_hold_for_every_scan", hosts, standing_exclusions),
        lab::trial("settings_that_cannot_be_used_end_it_before_a_packet", hosts, unusable),
    ]
}

/// Writes the config of the world's home.
fn config(world: &World, text: &[u8], mode: u32) -> anyhow::Result<()> {
    let path = world.directory.path().join(".config/portsweep/config.toml");
    fs::create_dir_all(path.parent().unwrap_or(&path))?;
    fs::write(&path, text)?;
    Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
}

fn standing_exclusions() -> anyhow::Result<()> {
    let world = World::new()?;
    config(
        &world,
        b"exclude = \"192.0.2.11\"\nexcludefile = \"never.txt\"\nexclude-ports = 80\nports = \"22,80,8080\"\n",
        0o644,
    )?;
    fs::write(world.directory.path().join(".config/portsweep/never.txt"), "2001:db8::/32 # not ours\n")?;
    let run = world.portsweep(&["-w", "result.json", "192.0.2.11-192.0.2.13", "2001:db8::11"])?.expect_code(0)?;
    ensure!(run.stdout == "192.0.2.12:8080\n", "{}", run.transcript());
    for excluded in ["192.0.2.11", "2001:db8::11"] {
        ensure!(world.target.counted_at(excluded)?.sum() == 0, "{excluded} was probed");
    }
    let scan = &world.result("result.json")?["scan"];
    ensure!(scan["ports"] == "22,8080", "{scan}");
    ensure!(scan["exclude"].to_string().contains("192.0.2.11"), "{scan}");
    Ok(())
}

fn refused(world: &World, set: &[(&str, &str)], words: &[&str]) -> anyhow::Result<Finished> {
    let command = world.scanner.command(lab::bin()?).args(words).directory(world.directory.path());
    let command = set.iter().fold(command, |command, (name, value)| command.env(name, value));
    let run = command.run(RUN_TIMEOUT)?.expect_code(2)?;
    ensure!(run.stdout.is_empty() && run.stderr.lines().count() == 1, "{}", run.transcript());
    let counted = world.target.counted()?;
    ensure!(counted.sum() == 0, "packets were sent: {counted:?}: {}", run.transcript());
    Ok(run)
}

fn unusable() -> anyhow::Result<()> {
    let world = World::new()?;
    let words = ["-p", "22", "192.0.2.11"];
    let cases: [(&[u8], u32, &str); 7] = [
        (b"exlude = \"192.0.2.12\"\n", 0o644, "exlude"),
        (b"exclude = \n", 0o644, "line 1"),
        (b"exclude = \"192.0.2.0/99\"\n", 0o644, "192.0.2.0/99"),
        (b"excludefile = \"missing\"\n", 0o644, "missing"),
        (b"rate = \"fast\"\n", 0o644, "rate"),
        (b"\xff\xfe", 0o644, "UTF-8"),
        (b"rate = 5\n", 0o666, "chmod"),
    ];
    for (text, mode, says) in cases {
        config(&world, text, mode)?;
        let run = refused(&world, &[], &words)?;
        ensure!(run.stderr.contains(says), "{}", run.transcript());
    }
    config(&world, b"", 0o644)?;
    refused(&world, &[("PORTSWEEP_CONFIG", "/nonexistent")], &words)?;
    refused(&world, &[("PORTSWEEP_RATE", "0")], &words)?;
    refused(&world, &[], &["--config", "/nonexistent", "-p", "22", "192.0.2.11"])?;
    world.portsweep(&words)?.expect_code(0)?;
    Ok(())
}
