//! Promise: a power cut loses at most the open leases' probing. A writer with the real store is recorded (strace), and at seeded moments its
//! files are rebuilt as a disk may hold them then: with every write that was synced, and any part of those that were not. They must
//! open, pass the audit, and hold all that the writer had announced.
//!
//! Needs strace; without it the tests are listed as ignored, with `PORTSWEEP_TEST_REQUIRE=all` they fail.

mod disk;
mod recording;
mod writer;

use anyhow::{Context, bail, ensure};
use coordinator_core::resume::Resumed;
use coordinator_core::store::Store;
use disk::{Disk, Random};
use libtest_mimic::{Arguments, Trial};
use portsweep::store::sqlite::SqliteStore;
use portsweep_tests::lab::{Need, trial};
use protocol::id::Epoch;
use recording::Recording;
use std::path::Path;
use writer::{Announces, SCAN};

/// How many cuts are tried.
const CUTS: u64 = 40;

fn main() {
    if let Some(directory) = std::env::var_os(writer::DIRECTORY) {
        return writer::run(Path::new(&directory));
    }
    let arguments = Arguments::from_args();
    let trials: Vec<Trial> = vec![
        trial("what_was_announced_survives_a_power_cut", &[Need::Program("strace")], survives),
        trial("a_disk_that_only_says_it_synced_is_caught", &[Need::Program("strace")], lying_disk_is_caught),
        trial("an_announcement_before_the_commit_is_caught", &[Need::Program("strace")], early_announcement_is_caught),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

fn survives() -> anyhow::Result<()> {
    let recording = Recording::make(Announces::AfterCommit)?;
    let mut lost = 0;
    for seed in 0..CUTS {
        let cut = Cut::drawn(&recording, seed);
        lost += cut.check(&recording, true).with_context(|| format!("cut {seed}, at event {}", cut.at))?;
    }
    ensure!(lost > 0, "no cut found a write that was not synced: nothing was tried");
    Ok(())
}

/// As with `synchronous=OFF`: the syncs say nothing.
fn lying_disk_is_caught() -> anyhow::Result<()> {
    is_caught(&Recording::make(Announces::AfterCommit)?, false)
}

fn early_announcement_is_caught() -> anyhow::Result<()> {
    is_caught(&Recording::make(Announces::BeforeCommit)?, true)
}

fn is_caught(recording: &Recording, honours_syncs: bool) -> anyhow::Result<()> {
    let noticed: Vec<_> = (0..CUTS)
        .filter_map(|seed| Cut::drawn(recording, seed).check(recording, honours_syncs).err())
        .map(|error| format!("{error:#}"))
        .collect();
    eprintln!("noticed at {} of {CUTS} cuts, as: {}", noticed.len(), noticed.first().map_or("", String::as_str));
    ensure!(!noticed.is_empty(), "{CUTS} cuts and none was noticed");
    Ok(())
}

/// A moment at which the power goes.
struct Cut {
    /// Before this event.
    at: usize,
    random: Random,
}

impl Cut {
    /// Half of them right after something was announced: that is when a promise is fresh.
    fn drawn(recording: &Recording, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let at = if seed.is_multiple_of(2) {
            random.below(recording.events.len()) + 1
        } else {
            let announced: Vec<_> = recording.announcements().map(|(at, _)| at).collect();
            announced[random.below(announced.len())] + 1
        };
        Self { at, random }
    }

    /// Returns how many writes were lost with the power.
    fn check(&self, recording: &Recording, honours_syncs: bool) -> anyhow::Result<usize> {
        let mut disk = Disk::default();
        for event in &recording.events[..self.at] {
            disk.apply(event, honours_syncs)?;
        }
        let directory = tempfile::tempdir()?;
        let lost = disk.rebuild(directory.path(), &mut self.random.clone())?;
        let announced: Vec<_> =
            recording.announcements().take_while(|(at, _)| *at < self.at).map(|(_, line)| line).collect();
        let path = directory.path().join(writer::FILE);
        if !path.exists() && announced.is_empty() {
            return Ok(lost);
        }
        let store = SqliteStore::open(&path)?;
        if store.scans()?.is_empty() {
            ensure!(announced.is_empty(), "{} things were announced, and there is no scan", announced.len());
            return Ok(lost);
        }
        store.audit(SCAN)?;
        for line in announced {
            match line.split_once(' ') {
                Some(("taken", epoch)) => {
                    let epoch = Epoch::new(epoch.parse()?);
                    ensure!(store.is_taken(SCAN, epoch)?, "lease {epoch} was announced as taken and is not there");
                }
                Some(("created", _)) => {}
                _ => bail!("the writer announced {line:?}"),
            }
        }
        let resumed = Resumed::load(&store, SCAN)?;
        ensure!(resumed.record == writer::record(), "the scan's record changed");
        Ok(lost)
    }
}
