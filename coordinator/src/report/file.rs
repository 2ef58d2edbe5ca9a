//! The result file that `-w` names: checked before the scan starts, valid JSON whenever one looks, never half written.
//!
//! A regular file is replaced whole: written beside its place, synced, renamed over it. What is no regular file (a FIFO,
//! `/dev/null`) cannot be replaced, so it is written once, at the end. [`Schedule`] says when a file is replaced.

use protocol::time::Time;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The mode of a new result file, from which the process's umask is taken.
const NEW_FILE_MODE: u32 = 0o666;
/// How a new file is called until it takes the name of the old one.
const PREFIX: &str = ".portsweep-";
const SUFFIX: &str = ".tmp";
/// Where the system shows the files that this process has open.
const OPEN_FILES: &str = "/proc/self/fd";

/// Why there can be no result file at a path, or why it was not written.
#[derive(Debug, thiserror::Error)]
pub enum ResultFileError {
    /// No path.
    #[error("the result file's path is empty: write -w FILE, or -w - for standard output")]
    Empty,
    /// A directory.
    #[error("{} is a directory: name a file in it", shown(.0))]
    Directory(PathBuf),
    /// There is no such directory to put a file in.
    #[error("the result file {} has no directory to be in: make it first, or name another place", shown(.0))]
    NoParent(PathBuf),
    /// A block device, a socket: nothing one wants a result in.
    #[error("{} is neither a file nor a pipe: name another place", shown(.0))]
    NotWritable(PathBuf),
    /// The system does not let us.
    #[error("the result file {} cannot be written: {why}", shown(.path))]
    Denied {
        /// The result file.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// It failed while it was written. The file that was there is there still.
    #[error("the result file {} was not written", shown(.path))]
    Write {
        /// The result file.
        path: PathBuf,
        /// What failed: the file, or the rows.
        source: io::Error,
    },
}

/// A path on one line, harmless to a terminal.
fn shown(path: &Path) -> String {
    format!("{path:?}")
}

/// A place where a result can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultFile {
    path: PathBuf,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Is a regular file, or will be one.
    Regular,
    /// A FIFO or a character device: what is written is gone.
    Stream,
}

impl ResultFile {
    /// Checks that a result can be written at `path`, and makes the path absolute. Writes nothing, opens no FIFO.
    ///
    /// Accepts if all hold: 1. it is a regular file, a FIFO or a character device, or nothing stands there; 2. a regular
    /// file can be written; 3. a new file can be made in its directory, which replacing it whole needs.
    ///
    /// # Errors
    /// The first that does not hold.
    pub fn check(path: &Path) -> Result<Self, ResultFileError> {
        if path.as_os_str().is_empty() {
            return Err(ResultFileError::Empty);
        }
        let denied = |why| ResultFileError::Denied { path: path.to_owned(), why };
        let absolute = std::path::absolute(path).map_err(denied)?;
        let (path, kind) = match fs::metadata(&absolute) {
            Ok(found) if found.is_dir() => return Err(ResultFileError::Directory(absolute)),
            Ok(found) if found.file_type().is_fifo() || found.file_type().is_char_device() => {
                return Ok(Self { path: absolute, kind: Kind::Stream });
            }
            Ok(found) if !found.is_file() => return Err(ResultFileError::NotWritable(absolute)),
            Ok(_) => {
                OpenOptions::new().append(true).open(&absolute).map_err(denied)?;
                // The file that a symbolic link names is replaced, the link stays.
                (fs::canonicalize(&absolute).map_err(denied)?, Kind::Regular)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if ends_with_separator(path) {
                    return Err(ResultFileError::NoParent(absolute));
                }
                (absolute, Kind::Regular)
            }
            Err(error) => return Err(denied(error)),
        };
        let directory = parent(&path);
        if !directory.is_dir() {
            return Err(ResultFileError::NoParent(path));
        }
        temporary(&path).map_err(denied)?;
        Ok(Self { path, kind })
    }

    /// The absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it can be written again and again. Else [`Self::write`] is for the end only, and may wait for a reader.
    #[must_use]
    pub fn is_replaceable(&self) -> bool {
        self.kind == Kind::Regular
    }

    /// Writes the result with `fill`. Blocks on the disk, and on the reader of a FIFO.
    ///
    /// A regular file keeps its old content until the new one is complete and synced. An existing file's mode is kept,
    /// and its owner where the system lets us.
    ///
    /// # Errors
    /// If it cannot be written or `fill` fails.
    pub fn write(&self, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), ResultFileError> {
        let written = match self.kind {
            Kind::Regular => replace(&self.path, fill),
            Kind::Stream => stream(&self.path, fill),
        };
        written.map_err(|source| ResultFileError::Write { path: self.path.clone(), source })
    }
}

fn ends_with_separator(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b"/")
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// A file beside `path`, which goes when it is dropped.
fn temporary(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new()
        .prefix(PREFIX)
        .suffix(SUFFIX)
        .permissions(Permissions::from_mode(NEW_FILE_MODE))
        .tempfile_in(parent(path))
}

fn replace(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    match nameless(parent(path)) {
        Ok(mut file) => {
            fill_new(&mut file, path, fill)?;
            name_over(&file, path)?;
        }
        // Not every file system has files without a name.
        Err(_) => {
            let mut file = temporary(path)?;
            fill_new(file.as_file_mut(), path, fill)?;
            file.persist(path).map_err(|error| error.error)?;
        }
    }
    // Without this the old name could come back after a power cut; the content is whole either way.
    File::open(parent(path))?.sync_all()
}

/// A file in a directory that has no name yet: if the process is killed while it writes, nothing stays.
fn nameless(directory: &Path) -> io::Result<File> {
    // It gets its name by way of there.
    fs::metadata(OPEN_FILES)?;
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(directory, flags, Mode::from_raw_mode(NEW_FILE_MODE))?.into())
}

fn fill_new(new: &mut File, path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    if let Ok(old) = fs::metadata(path) {
        keep_owner_and_mode(new, &old)?;
    }
    fill_buffered(new, fill)?;
    new.sync_all()
}

/// Gives a file without a name that of another, in one step: a name of its own first, as the system has no call for both.
fn name_over(file: &File, path: &Path) -> io::Result<()> {
    let open = format!("{OPEN_FILES}/{}", file.as_raw_fd());
    let named = tempfile::Builder::new().prefix(PREFIX).suffix(SUFFIX).make_in(parent(path), |name| {
        rustix::fs::linkat(CWD, &open, CWD, name, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from)
    })?;
    named.persist(path).map_err(|error| error.error)
}

fn keep_owner_and_mode(new: &File, old: &fs::Metadata) -> io::Result<()> {
    let now = new.metadata()?;
    if (now.uid(), now.gid()) != (old.uid(), old.gid()) {
        // Only root may give files away: for others the file becomes theirs, as with any editor.
        let _ = std::os::unix::fs::fchown(new, Some(old.uid()), Some(old.gid()));
    }
    // After the owner: changing that clears bits of the mode.
    new.set_permissions(Permissions::from_mode(old.mode() & 0o777))
}

fn stream(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    fill_buffered(&mut OpenOptions::new().write(true).open(path)?, fill)
}

fn fill_buffered(file: &mut File, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    /// A row is some hundred bytes: a system call for hundreds of them.
    const BUFFER_BYTES: usize = 1 << 16;
    let mut buffered = BufWriter::with_capacity(BUFFER_BYTES, file);
    fill(&mut buffered)?;
    buffered.flush()
}

/// When a result file is replaced: first [`Schedule::FIRST_AFTER`] after the first commit, then after new commits at most
/// every max([`Schedule::PAUSE_MIN`], [`Schedule::PAUSE_FACTOR`] × the time that the last writing took).
///
/// The end of a scan asks nobody: then the file is written anyway.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    /// There are commits that no writing has begun to show.
    is_behind: bool,
    /// Since when the current writing goes on.
    writing_since: Option<Time>,
    /// No writing begins before. `None` before the first commit.
    not_before: Option<Time>,
}

impl Schedule {
    /// How long after the first commit the file is first replaced: a mistaken start does not destroy yesterday's.
    pub const FIRST_AFTER: Duration = Duration::from_secs(2);
    /// The least time between two writings.
    pub const PAUSE_MIN: Duration = Duration::from_secs(2);
    /// Writing takes at most about a twentieth of the time.
    pub const PAUSE_FACTOR: u32 = 20;

    /// Of a scan without commits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Something was committed.
    pub fn committed(&mut self, now: Time) {
        self.is_behind = true;
        self.not_before.get_or_insert(now + Self::FIRST_AFTER);
    }

    /// When the next writing is to begin; `None` while there is nothing new or a writing goes on. May lie in the past.
    #[must_use]
    pub fn due_at(&self) -> Option<Time> {
        match self.writing_since {
            None if self.is_behind => self.not_before,
            _ => None,
        }
    }

    /// A writing begins, of what is committed by now.
    pub fn begun(&mut self, now: Time) {
        self.is_behind = false;
        self.writing_since = Some(now);
    }

    /// The writing ended, well or not.
    pub fn ended(&mut self, now: Time, is_written: bool) {
        let took = self.writing_since.take().map_or(Duration::ZERO, |since| now.since(since));
        let pause = took.saturating_mul(Self::PAUSE_FACTOR).max(Self::PAUSE_MIN);
        self.not_before = Some(now + pause);
        self.is_behind |= !is_written;
    }
}

#[cfg(test)]
mod tests;
