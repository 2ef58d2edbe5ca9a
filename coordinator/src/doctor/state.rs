//! Whether scans can be kept: the state directory, or the one that it would be made in.

use super::Finding;
use crate::report::quantity::bytes;
use rustix::fs::{Access, access, statvfs};
use std::path::Path;

/// A scan of a /16 by 1,000 ports takes some thirty megabytes.
const FREE_BYTES_WANTED: u64 = 100_000_000;

/// Looks at the state directory. Nothing is made.
#[must_use]
pub fn state(directory: &Path) -> Finding {
    const SUBJECT: &str = "state";
    let mend = "portsweep --state DIR, or --no-state";
    // What does not exist is made below what does.
    let Some(existing) = directory.ancestors().find(|path| path.exists()) else {
        return Finding::warn(SUBJECT, format!("{directory:?} cannot be made"), mend);
    };
    if !existing.is_dir() || access(existing, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        return Finding::warn(SUBJECT, format!("{directory:?} cannot be written"), mend);
    }
    let Ok(disk) = statvfs(existing) else { return Finding::fine(SUBJECT, format!("{directory:?}")) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let said = format!("{} free in {}", bytes(free.into()), directory.display());
    if free < FREE_BYTES_WANTED { Finding::warn(SUBJECT, said, mend) } else { Finding::fine(SUBJECT, said) }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_directory_that_can_be_made_is_fine_and_none_is_made() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("a/b");
        let found = state(&directory);
        assert!(found.verdict != Verdict::Stop && found.said.contains(" free in "), "{found:?}");
        assert!(!home.path().join("a").exists());
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_told_with_what_to_do() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for directory in [file.path().join("state"), "/proc/nothing/state".into()] {
            let found = state(&directory);
            assert_eq!(found.verdict, Verdict::Warn, "{found:?}");
            assert!(found.mend.is_some_and(|mend| mend.contains("--no-state")));
        }
    }
}
