//! A file with an allow-list (`--allow-file`): networks and addresses, one or more a line, `#` to the end of the line a comment.
//!
//! Whoever may write it aims the agent, so it is taken only if all hold; the first that does not is the error:
//! 1. it is a regular file, of this user or of root, be it by a link that is theirs too;
//! 2. group and others cannot write it;
//! 3. it is no longer than `BYTES_MAX`, and text;
//! 4. every entry is a network or an address, and there is one.

use ipnet::IpNet;
use protocol::quote::Quoted;
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The longest file that is read: an entry for each of the most that an allow-list has, with room for comments.
const BYTES_MAX: u64 = 1 << 20;

/// Why a file is not taken for an allow-list.
#[derive(Debug, thiserror::Error)]
pub enum AllowFileError {
    /// It cannot be read.
    #[error("--allow-file {} cannot be read", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// It is a directory, a pipe or a device.
    #[error("--allow-file {} is no file", .0.display())]
    NoFile(PathBuf),
    /// It, or the link to it, is somebody else's.
    #[error("--allow-file {} belongs to another user: whoever may write it says what is probed (chown it)", .0.display())]
    Foreign(PathBuf),
    /// Others may write it.
    #[error("--allow-file {} can be written by others: whoever may write it says what is probed (chmod go-w)", .0.display())]
    Writable(PathBuf),
    /// It is longer than is read.
    #[error("--allow-file {} has more than {BYTES_MAX} bytes: write wider networks", .0.display())]
    TooLong(PathBuf),
    /// It is no text.
    #[error("--allow-file {} is not UTF-8", .0.display())]
    NoText(PathBuf),
    /// A line has something else in it.
    #[error("--allow-file {}, line {line}: {entry}: {why}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What stands there.
        entry: Quoted,
        /// What should.
        why: String,
    },
    /// It has no entry.
    #[error("--allow-file {} has no network: nothing would be probed", .0.display())]
    Empty(PathBuf),
}

/// Reads an allow-list.
///
/// # Errors
/// As the head of this module says.
pub fn read(path: &Path) -> Result<Vec<IpNet>, AllowFileError> {
    let user = rustix::process::geteuid().as_raw();
    let failed = |error| AllowFileError::Read(path.to_owned(), error);
    let link = fs::symlink_metadata(path).map_err(failed)?;
    if !is_ours(link.uid(), user) {
        return Err(AllowFileError::Foreign(path.to_owned()));
    }
    // A pipe is opened without waiting for who writes to it.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    check(path, &file.metadata().map_err(failed)?, user)?;
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(AllowFileError::TooLong(path.to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|_| AllowFileError::NoText(path.to_owned()))?;
    entries(path, &text)
}

fn is_ours(owner: u32, user: u32) -> bool {
    owner == 0 || owner == user
}

/// What was opened, not what its name stands for now.
fn check(path: &Path, opened: &Metadata, user: u32) -> Result<(), AllowFileError> {
    match opened {
        opened if !opened.is_file() => Err(AllowFileError::NoFile(path.to_owned())),
        opened if !is_ours(opened.uid(), user) => Err(AllowFileError::Foreign(path.to_owned())),
        opened if opened.mode() & 0o022 != 0 => Err(AllowFileError::Writable(path.to_owned())),
        _ => Ok(()),
    }
}

fn entries(path: &Path, text: &str) -> Result<Vec<IpNet>, AllowFileError> {
    let mut allow = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default();
        for entry in line.split([' ', '\t', ',', '\r']).filter(|entry| !entry.is_empty()) {
            let failed = |why| {
                let (path, entry) = (path.to_owned(), Quoted::new(entry));
                AllowFileError::Entry { path, line: number, entry, why }
            };
            allow.push(network(entry).map_err(failed)?);
        }
    }
    if allow.is_empty() { Err(AllowFileError::Empty(path.to_owned())) } else { Ok(allow) }
}

/// An entry of an allow-list: a network without stray bits, or an address.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    let net = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address.to_canonical()),
        Err(_) => text.parse::<IpNet>().map_err(|_| "write a network as 192.0.2.0/24 or 2001:db8::/64".to_owned())?,
    };
    if net.trunc() != net {
        return Err(format!("it has bits beyond its prefix: write {}, or {}", net.trunc(), net.addr()));
    }
    Ok(net)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn place(name: &str) -> tempfile::TempDir {
        tempfile::Builder::new().prefix(name).tempdir().unwrap()
    }

    #[test]
    fn an_allow_list_holds_networks_and_addresses_without_stray_bits() {
        for (text, net) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ] {
            assert_eq!(network(text).unwrap().to_string(), net);
        }
        for wrong in ["", "192.0.2.1/24", "192.0.2.0/33", "192.0.2.0/-1", "127.1", "0x7f.1", "host", "fe80::1%eth0"] {
            assert!(network(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bad_input_81_a_scope_file_that_others_may_write_is_not_taken_by_any_name() {
        let directory = place("allow");
        let (path, link) = (directory.path().join("allow"), directory.path().join("link"));
        fs::write(&path, "192.0.2.0/24\n").unwrap();
        symlink(&path, &link).unwrap();
        let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        for (name, bits) in [(&path, 0o666), (&link, 0o666), (&path, 0o602), (&link, 0o642), (&link, 0o620)] {
            mode(bits);
            let error = read(name).unwrap_err();
            assert!(matches!(error, AllowFileError::Writable(_)), "{bits:o}: {error}");
        }
        for bits in [0o600, 0o644, 0o400] {
            mode(bits);
            assert_eq!(read(&path).unwrap(), read(&link).unwrap());
        }
        // Of another user.
        let opened = fs::metadata(&path).unwrap();
        let other = check(&path, &opened, opened.uid() + 1);
        assert_eq!(matches!(other, Err(AllowFileError::Foreign(_))), opened.uid() != 0, "{other:?}");
        assert!(!is_ours(1, 2) && is_ours(2, 2) && is_ours(0, 2));
    }

    #[test]
    fn bad_input_81_a_scope_file_that_is_none_is_not_taken_and_where_is_said() {
        let directory = place("allow");
        let path = directory.path().join("allow");
        let refused = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.lines().count() == 1 && error.starts_with("--allow-file "), "{error}");
            error
        };
        for empty in ["", "\n\n", "# 192.0.2.0/24\n", " \t\r\n"] {
            assert!(refused(empty.as_bytes()).ends_with("has no network: nothing would be probed"), "{empty:?}");
        }
        for (wrong, line) in [
            ("192.0.2.0/24\n\n10.0.0.0/33\n", 3),
            ("192.0.2.1/24", 1),
            ("localhost", 1),
            ("192.0.2.0/24 127.1", 1),
            ("192.0.2.0/24\n\u{1b}[2J", 2),
            ("192.0.2.1-192.0.2.4", 1),
            ("\u{feff}192.0.2.0/24", 1),
        ] {
            let error = refused(wrong.as_bytes());
            assert!(error.contains(&format!("line {line}: ")) && !error.contains('\u{1b}'), "{error}");
        }
        assert!(refused(b"\xff\xfe1\0").contains("not UTF-8"));
        assert!(refused(&vec![b'\n'; BYTES_MAX as usize + 1]).contains("more than"));
        fs::remove_file(&path).unwrap();
        assert!(matches!(read(&path), Err(AllowFileError::Read(..))));
        symlink(directory.path().join("nowhere"), &path).unwrap();
        assert!(matches!(read(&path), Err(AllowFileError::Read(..))), "a link to nothing");
        assert!(matches!(read(directory.path()), Err(AllowFileError::NoFile(_))));
        assert!(matches!(read(Path::new("/dev/null")), Err(AllowFileError::NoFile(_))));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "192.0.2.0/24, 192.0.2.7 # two\r\n2001:db8::/64\n").unwrap();
        let read: Vec<_> = read(&path).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(read, ["192.0.2.0/24", "192.0.2.7/32", "2001:db8::/64"]);
    }
}
