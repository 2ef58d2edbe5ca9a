//! Opening a database: who may write, and whether it is ours.
//!
//! `NAME.db` has `NAME.lock` beside it. Whoever writes holds an exclusive lock on that file (flock); it goes with the process, so
//! whoever gets it knows the former writer dead. It is no lock on the database itself: SQLite's own locks there are POSIX locks, and
//! closing any other handle of the same file would drop them. Readers lock nothing.

use super::schema;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A checkpoint or a reader that comes up holds the database for moments only.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// The log is cut back to this after a reader held it for long.
const LOG_BYTES_KEPT: i64 = 16 << 20;

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A live process writes to it.
    #[error("{} is in use by another portsweep: wait for it to end, or stop it", path.display())]
    Locked {
        /// The database.
        path: PathBuf,
    },
    /// It was to be made and is there.
    #[error("{} exists already", path.display())]
    Exists {
        /// The database.
        path: PathBuf,
    },
    /// It is not there.
    #[error("there is no {}", path.display())]
    Missing {
        /// The database.
        path: PathBuf,
    },
    /// A later version of this program made it.
    #[error("{} was made by a newer portsweep: upgrade, or use another --state", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
    },
    /// It is another kind of file.
    #[error("{} is no portsweep database: use another --state, or move it away", path.display())]
    NotOurs {
        /// The database.
        path: PathBuf,
    },
    /// It is ours, and damaged.
    #[error("{} is damaged: restore it from a copy, or remove it and scan again", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// There is no room.
    #[error("the disk of {} is full: make room", path.display())]
    Full {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// The file, or the one of its lock, cannot be made or opened.
    #[error("cannot open {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// SQLite cannot open it.
    #[error("cannot open {}", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
}

/// The file whose lock says that a database has a writer.
pub(super) fn lock_path(path: &Path) -> PathBuf {
    path.with_extension("lock")
}

/// Takes the lock of a database that is to be written; it is held until the file is dropped.
pub(super) fn lock(path: &Path) -> Result<File, OpenError> {
    let beside = lock_path(path);
    let failed = |source| OpenError::File { path: beside.clone(), source };
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&beside).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Makes the empty file, readable by its owner alone; its log takes the same rights from it.
pub(super) fn make(path: &Path) -> Result<(), OpenError> {
    let made = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path);
    match made {
        Ok(file) => file.sync_all().map_err(|source| OpenError::File { path: path.to_owned(), source })?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(OpenError::Exists { path: path.to_owned() });
        }
        Err(source) => return Err(OpenError::File { path: path.to_owned(), source }),
    }
    // Its name is durable with its directory only.
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let failed = |source| OpenError::File { path: directory.to_owned(), source };
    File::open(directory).map_err(failed)?.sync_all().map_err(failed)
}

/// Opens for writing, and brings the tables to this version.
pub(super) fn writer(path: &Path) -> Result<Connection, OpenError> {
    let failed = |source| classified(path, source);
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    check_ours(&connection, path)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT).map_err(failed)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
    connection.pragma_update(None, "application_id", schema::APPLICATION_ID).map_err(failed)?;
    schema::MIGRATIONS.to_latest(&mut connection).map_err(|error| match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => failed(err),
        error => failed(rusqlite::Error::ToSqlConversionFailure(error.into())),
    })?;
    Ok(connection)
}

/// Opens for reading only. What a writer commits meanwhile is seen. Tables of an earlier version are brought to this one first, for which
/// nobody may be writing.
pub(super) fn reader(path: &Path) -> Result<Connection, OpenError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    if check_ours(&connection, path)? == schema::VERSION {
        return Ok(connection);
    }
    drop(connection);
    let _lock = lock(path)?;
    writer(path)?;
    connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, OpenError> {
    if !path.exists() {
        return Err(OpenError::Missing { path: path.to_owned() });
    }
    let failed = |source| classified(path, source);
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    connection.pragma_update(None, "mmap_size", 0).map_err(failed)?;
    connection.pragma_update(None, "trusted_schema", false).map_err(failed)?;
    connection.pragma_update(None, "cell_size_check", true).map_err(failed)?;
    Ok(connection)
}

/// A database is ours if one holds: 1. it says so, and its tables are of a version that is known; 2. it is empty: a process died while
/// it made it. Returns the version of its tables, 0 for none.
fn check_ours(connection: &Connection, path: &Path) -> Result<usize, OpenError> {
    let failed = |source| classified(path, source);
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).map_err(failed);
    let (id, version) = (number("application_id")?, number("user_version")?);
    let is_empty = id == 0 && version == 0 && number("schema_version")? == 0;
    if id != i64::from(schema::APPLICATION_ID) && !is_empty {
        return Err(OpenError::NotOurs { path: path.to_owned() });
    }
    match usize::try_from(version) {
        Ok(version) if version <= schema::VERSION => Ok(version),
        _ => Err(OpenError::Newer { path: path.to_owned() }),
    }
}

fn classified(path: &Path, source: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::NotOurs { path },
        Some(ErrorCode::DatabaseCorrupt) => OpenError::Damaged { path, source },
        Some(ErrorCode::DiskFull) => OpenError::Full { path, source },
        _ => OpenError::Sqlite { path, source },
    }
}
