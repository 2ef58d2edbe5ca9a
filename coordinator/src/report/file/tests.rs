//! The result file: what is refused before a scan starts, that it is whole at every moment, and when it is written.

use super::*;
use std::os::unix::fs::symlink;
use std::process::Command;

fn put(file: &ResultFile, text: &str) {
    file.write(|out| out.write_all(text.as_bytes())).unwrap();
}

/// What stands in a directory besides the files that are expected there.
fn names_in(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_path_that_cannot_be_a_file_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::write(root.join("plain"), "").unwrap();
    let refused = |path: &Path| ResultFile::check(path).unwrap_err();
    assert!(matches!(refused(Path::new("")), ResultFileError::Empty));
    assert!(matches!(refused(root), ResultFileError::Directory(_)));
    assert!(matches!(refused(&root.join("none/a.json")), ResultFileError::NoParent(_)));
    assert!(matches!(refused(&root.join("none/")), ResultFileError::NoParent(_)));
    assert!(matches!(refused(&root.join("plain/a.json")), ResultFileError::Denied { .. }));
    let socket = root.join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert!(matches!(refused(&socket), ResultFileError::NotWritable(_)));
    // procfs lets nobody make files, not even root.
    assert!(matches!(refused(Path::new("/proc/a.json")), ResultFileError::Denied { .. }));
    assert_eq!(names_in(root), ["plain", "socket"], "checking leaves nothing behind");
}

#[test]
fn an_error_is_one_line_and_names_the_path_harmlessly() {
    let error = ResultFile::check(Path::new("/none/\x1b[2J\n/a")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the result file \"/none/\\u{1b}[2J\\n/a\" has no directory to be in: make it first, or name another place"
    );
}

#[test]
fn a_path_is_made_absolute() {
    let file = ResultFile::check(Path::new("result.json")).unwrap();
    assert_eq!(file.path(), std::env::current_dir().unwrap().join("result.json"));
    assert!(file.is_replaceable());
    assert!(!file.path().exists(), "checking writes nothing");
}

#[test]
fn a_file_is_replaced_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.json");
    let file = ResultFile::check(&path).unwrap();
    put(&file, "first");
    let failed = file.write(|out| {
        out.write_all(&[b'x'; 1 << 20])?;
        assert_eq!(fs::read_to_string(&path)?, "first", "the old one stands while the new one is written");
        Err(io::Error::other("the rows cannot be read"))
    });
    assert!(matches!(failed, Err(ResultFileError::Write { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "first");
    put(&file, "second");
    assert_eq!(fs::read_to_string(&path).unwrap(), "second");
    assert_eq!(names_in(directory.path()), ["a.json"]);
}

#[test]
fn a_file_keeps_its_mode_and_a_link_stays_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.json");
    let link = directory.path().join("link");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    symlink(&path, &link).unwrap();
    put(&ResultFile::check(&link).unwrap(), "new");
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn a_fifo_is_written_once_and_checking_does_not_open_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    // Would wait for a reader for ever if it opened the FIFO.
    let file = ResultFile::check(&path).unwrap();
    assert!(!file.is_replaceable());
    let reader = std::thread::spawn(move || fs::read_to_string(path).unwrap());
    put(&file, "all of it");
    assert_eq!(reader.join().unwrap(), "all of it");
    let null = ResultFile::check(Path::new("/dev/null")).unwrap();
    assert!(!null.is_replaceable());
    put(&null, "gone");
}

#[test]
fn a_kill_in_the_middle_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let file = ResultFile::check(&directory.path().join("a.json")).unwrap();
    let fill = |out: &mut dyn Write| {
        out.write_all(b"half")?;
        out.flush()?;
        assert_eq!(names_in(directory.path()), Vec::<String>::new(), "what is not whole has no name");
        out.write_all(b" and half")
    };
    file.write(fill).unwrap();
    assert_eq!(names_in(directory.path()), ["a.json"]);
    assert_eq!(fs::read_to_string(file.path()).unwrap(), "half and half");
}

fn at(ms: u64) -> Time {
    Time::ZERO + Duration::from_millis(ms)
}

#[test]
fn the_first_replacement_comes_two_seconds_after_the_first_commit() {
    let mut schedule = Schedule::new();
    assert_eq!(schedule.due_at(), None);
    schedule.committed(at(100));
    schedule.committed(at(1_000));
    assert_eq!(schedule.due_at(), Some(at(2_100)));
}

#[test]
fn later_ones_follow_commits_and_leave_nineteen_twentieths_of_the_time() {
    let mut schedule = Schedule::new();
    schedule.committed(at(0));
    schedule.begun(at(2_000));
    assert_eq!(schedule.due_at(), None, "one at a time");
    schedule.ended(at(2_010), true);
    assert_eq!(schedule.due_at(), None, "nothing new");
    schedule.committed(at(2_500));
    assert_eq!(schedule.due_at(), Some(at(4_010)));
    schedule.begun(at(4_010));
    schedule.committed(at(4_100));
    schedule.ended(at(4_510), true);
    assert_eq!(schedule.due_at(), Some(at(4_510 + 20 * 500)), "a commit while writing is new");
}

#[test]
fn a_failed_writing_is_tried_again() {
    let mut schedule = Schedule::new();
    schedule.committed(at(0));
    schedule.begun(at(2_000));
    schedule.ended(at(2_000), false);
    assert_eq!(schedule.due_at(), Some(at(4_000)));
}
