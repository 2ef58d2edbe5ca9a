//! A disk as strict as one may be: what was not synced may be there, or not, or in part, each write on its own; a name is there for certain
//! only once its directory was synced.

use crate::recording::Event;
use anyhow::{Context, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a disk writes whole.
const SECTOR_BYTES: usize = 512;

/// A small generator (SplitMix64).
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1b03)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % bound.max(1) as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

#[derive(Default)]
struct File {
    synced: Vec<u8>,
    unsynced: Vec<Event>,
    /// Its name is on the disk.
    named: bool,
    /// It was removed, and that is not on the disk.
    removed: bool,
}

/// Files by their path, the empty path being the directory itself.
#[derive(Default)]
pub struct Disk {
    files: BTreeMap<PathBuf, File>,
}

impl Disk {
    pub fn apply(&mut self, event: &Event, honours_syncs: bool) -> anyhow::Result<()> {
        match event {
            Event::Announce { .. } => {}
            Event::Make { file } => {
                self.files.entry(file.clone()).or_default().removed = false;
            }
            Event::Write { file, .. } | Event::Truncate { file, .. } => {
                self.files.get_mut(file).context("a write to an unknown file")?.unsynced.push(event.clone());
            }
            Event::Remove { file } => {
                self.files.get_mut(file).context("an unknown file is removed")?.removed = true;
            }
            Event::Sync { file } if file == Path::new("") => {
                self.files.retain(|_, file| !file.removed);
                self.files.values_mut().for_each(|file| file.named = true);
            }
            Event::Sync { .. } if !honours_syncs => {}
            Event::Sync { file } => {
                let file = self.files.get_mut(file).context("an unknown file is synced")?;
                for event in std::mem::take(&mut file.unsynced) {
                    change(&mut file.synced, &event, |_| true);
                }
            }
        }
        Ok(())
    }

    /// Puts the files into a directory as they may be after a power cut now. Returns how many writes are missing or torn.
    pub fn rebuild(&self, directory: &Path, random: &mut Random) -> anyhow::Result<usize> {
        let mut lost = 0;
        for (path, file) in &self.files {
            ensure!(path.components().count() == 1, "{} is in another directory", path.display());
            let mut bytes = file.synced.clone();
            for event in &file.unsynced {
                match random.below(10) {
                    0..4 => lost += 1,
                    4..8 => change(&mut bytes, event, |_| true),
                    _ => {
                        lost += 1;
                        change(&mut bytes, event, |_| random.chance(50));
                    }
                }
            }
            let is_there = if file.named { !(file.removed && random.chance(50)) } else { random.chance(50) };
            // What maps the log for running processes is made anew; its writes pass no system call.
            let is_index = path.extension().is_some_and(|extension| extension == "db-shm");
            if is_there && !is_index {
                std::fs::write(directory.join(path), bytes)?;
            }
        }
        Ok(lost)
    }
}

/// Applies the sectors of a write that `holds` is true for.
fn change(bytes: &mut Vec<u8>, event: &Event, mut holds: impl FnMut(usize) -> bool) {
    match event {
        Event::Truncate { len, .. } if holds(0) => bytes.resize(*len as usize, 0),
        Event::Write { offset, bytes: written, .. } => {
            for (number, sector) in written.chunks(SECTOR_BYTES).enumerate() {
                if holds(number) {
                    let at = *offset as usize + number * SECTOR_BYTES;
                    bytes.resize(bytes.len().max(at + sector.len()), 0);
                    bytes[at..at + sector.len()].copy_from_slice(sector);
                }
            }
        }
        _ => {}
    }
}
