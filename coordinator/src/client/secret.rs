//! A secret in a file: whole or not at all, and its owner's alone.

use std::io::{self, Write};
use std::path::Path;

/// Writes a secret and a line end to a file with the mode 0600, in place of what was there.
///
/// # Errors
/// If it cannot be written; what was there stays.
pub(super) fn write(path: &Path, secret: &str) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Such a file has the mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    writeln!(file, "{secret}")?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
