//! Whatever is wrong with the state directory is one clear line and the right exit code, and nothing that was kept is lost: a full disk, a
//! newer version, damage, no permission.

use anyhow::ensure;
use libtest_mimic::Trial;
use portsweep_tests::lab::{self, Finished, Need};

use crate::judge::{Asked, judge};
use crate::world::{PORTS, PORTS_TEXT, RUN_TIMEOUT, V4, World};

pub(crate) fn trials() -> Vec<Trial> {
    let hosts = &[Need::Hosts];
    vec![
        lab::trial("bad_state_that_cannot_be_made_ends_it_before_a_packet", hosts, unwritable),
        lab::trial("bad_state_on_a_full_disk_loses_nothing_that_was_found", hosts, full_disk),
        lab::trial("bad_state_of_a_newer_version_is_left_alone", hosts, newer),
        lab::trial("bad_state_that_is_damaged_is_told_and_others_go_on", hosts, damaged),
    ]
}

fn shell(world: &World, script: &str) -> anyhow::Result<Finished> {
    (world.scanner.command(std::path::Path::new("/bin/sh")).args(["-c", script]))
        .directory(world.directory.path())
        .env("P", lab::bin()?)
        .env("PORTSWEEP_STATE", world.directory.path().join("state"))
        .run(RUN_TIMEOUT)
}

fn one_line(run: &Finished, says: &str) -> anyhow::Result<()> {
    ensure!(run.stdout.is_empty(), "{}", run.transcript());
    ensure!(run.stderr.lines().count() == 1, "one line was expected: {}", run.transcript());
    ensure!(run.stderr.contains(says), "{says}: {}", run.transcript());
    Ok(())
}

fn unwritable() -> anyhow::Result<()> {
    let world = World::new()?;
    std::fs::write(world.directory.path().join("file"), "")?;
    for place in ["/proc/state", "file", "file/state"] {
        let run = world.portsweep(&["--state", place, "-p", "22", "192.0.2.11"])?.expect_code(1)?;
        one_line(&run, "--no-state")?;
        ensure!(run.stderr.contains(place), "{}", run.transcript());
    }
    // A directory that is there and read-only, as on a rescue system.
    let script = "mkdir disk && exec unshare -m /bin/sh -c '
        mount -t tmpfs -o ro none disk || exit 99; exec \"$P\" --state disk/state -p 22 192.0.2.11'";
    one_line(&shell(&world, script)?.expect_code(1)?, "--no-state")?;
    let counted = world.target.counted()?;
    ensure!(counted.sum() == 0, "packets were sent: {counted:?}");
    let run = world.portsweep(&["--no-state", "-p", "22", "192.0.2.11"])?.expect_code(0)?;
    ensure!(run.stdout == "192.0.2.11:22\n" && run.stderr.is_empty(), "{}", run.transcript());
    Ok(())
}

fn full_disk() -> anyhow::Result<()> {
    let world = World::new()?;
    // The disk fills while the scan runs; with room again it goes on.
    let script = format!(
        "mkdir disk && exec unshare -m /bin/sh -c '
        mount -t tmpfs -o size=1m none disk || exit 99
        \"$P\" --state disk --rate 20 -q -p {PORTS_TEXT} -w result.json 192.0.2.11-192.0.2.14 2>errors & scan=$!
        until \"$P\" scans --state disk 2>/dev/null | grep -q running; do :; done
        cat /dev/zero >disk/ballast 2>/dev/null
        wait $scan; echo $? >code
        rm disk/ballast && exec \"$P\" resume --state disk'"
    );
    let run = shell(&world, &script)?.expect_code(0)?;
    let read = |name: &str| std::fs::read_to_string(world.directory.path().join(name));
    let (code, errors) = (read("code")?, read("errors")?);
    ensure!(code == "1\n", "exit code {code}: {errors}");
    ensure!(errors.lines().count() == 1 && errors.contains("full"), "{errors}");
    ensure!(errors.contains("resume"), "{errors}");
    ensure!(run.stdout.is_empty(), "-q holds after a resume: {}", run.transcript());
    judge(&world.result("result.json")?, &V4, Asked { ping: true, ports: &PORTS })
}

/// Keeps an interrupted scan, and changes its database by a script in which `$DB` is its path.
fn changed(world: &World, script: &str) -> anyhow::Result<Finished> {
    let script = format!(
        "\"$P\" -f tcp -p 1-400 --rate 5 192.0.2.11 2>told & scan=$!
         until [ -s state/scans/*.db-wal ]; do :; done; kill -9 $scan; wait $scan 2>/dev/null
         DB=$(ls state/scans/*.db); {script}"
    );
    shell(world, &script)
}

fn newer() -> anyhow::Result<()> {
    let world = World::new()?;
    // The version of the tables is `user_version`, at offset 60 of an SQLite file; the log goes into the file when it is opened.
    let script = "\"$P\" scans >/dev/null; rm -f $DB-wal $DB-shm
        printf '\\000\\000\\003\\347' | dd of=$DB bs=1 seek=60 conv=notrunc 2>/dev/null
        sum=$(cksum <$DB); \"$P\" resume $(basename $DB .db); code=$?; [ \"$sum\" = \"$(cksum <$DB)\" ] || exit 98; exit $code";
    let run = changed(&world, script)?.expect_code(1)?;
    one_line(&run, "newer portsweep")?;
    let listed = world.portsweep(&["scans"])?.expect_code(0)?;
    ensure!(listed.stdout.contains("unreadable"), "{}", listed.transcript());
    Ok(())
}

fn damaged() -> anyhow::Result<()> {
    let world = World::new()?;
    let script = "rm -f $DB-wal $DB-shm; head -c 8192 /dev/urandom >$DB; exec \"$P\" resume $(basename $DB .db)";
    let run = changed(&world, script)?.expect_code(1)?;
    one_line(&run, "no portsweep database")?;
    // The list tells of it, and other scans are kept beside it.
    world.portsweep(&["-q", "-p", "22", "192.0.2.11"])?.expect_code(0)?;
    let listed = world.portsweep(&["scans"])?.expect_code(0)?;
    ensure!(listed.stdout.contains("unreadable") && listed.stdout.contains(" done "), "{}", listed.transcript());
    Ok(())
}
