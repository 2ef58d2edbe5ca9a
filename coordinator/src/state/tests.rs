//! Scans that are kept: found by the beginning of their id, gone on with by one process only, removed when they are old and finished.

use super::*;
use coordinator_core::store::conformance::example;
use coordinator_core::store::{ScanRecord, Store};
use std::os::unix::fs::PermissionsExt;

fn request() -> StoredRequest {
    StoredRequest {
        command: "portsweep 192.0.2.1-2".into(),
        started: "2026-01-02T03:04:05Z".parse().unwrap(),
        targets: vec!["192.0.2.1-2".into()],
        exclude: vec![],
        names: std::iter::once(("192.0.2.1".parse().unwrap(), vec!["www.example".into()])).collect(),
        ask: Ask::default(),
        resumed: None,
        ran_before_ms: 0,
    }
}

/// Ids that begin alike, but for their last byte.
fn id(number: u8) -> ScanId {
    let mut bytes = [7; 16];
    bytes[15] = number;
    ScanId::from_bytes(bytes)
}

/// Keeps a scan of this status, and lets go of it.
fn keep(state: &State, number: u8, status: ScanStatus) {
    let mut store = state.create(id(number)).unwrap();
    let record = ScanRecord { id: id(number), request: request().to_text().unwrap(), status, ..example() };
    store.create_scan(&record).unwrap();
}

fn place() -> (tempfile::TempDir, State) {
    let home = tempfile::tempdir().unwrap();
    let state = State::named(&home.path().join("a/state"), true).unwrap();
    (home, state)
}

#[test]
fn the_directories_are_their_owners_alone() {
    let (home, state) = place();
    assert_eq!(state.kept().unwrap(), [], "one that is not there has none");
    keep(&state, 1, ScanStatus::Done);
    for made in ["a/state", "a/state/scans"] {
        let mode = fs::metadata(home.path().join(made)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{made}");
    }
}

#[test]
fn a_scan_is_seen_as_it_was_asked_for() {
    let (_home, state) = place();
    keep(&state, 1, ScanStatus::Partial);
    let seen = state.find(&id(1).to_string()).unwrap().look().unwrap().unwrap();
    assert_eq!(seen.request, request());
    assert_eq!((seen.status(), seen.is_live, seen.is_resumable()), (ScanStatus::Partial, false, true));
    assert!(seen.updated >= seen.request.started);
}

#[test]
fn a_scan_is_found_by_the_beginning_of_its_id() {
    let (_home, state) = place();
    keep(&state, 0x1a, ScanStatus::Done);
    keep(&state, 0x2b, ScanStatus::Done);
    let whole = id(0x2b).to_string();
    assert_eq!(state.find(&whole).unwrap().id(), id(0x2b));
    assert_eq!(state.find(&whole.replace('-', "").to_uppercase()[..31]).unwrap().id(), id(0x2b));
    assert!(matches!(state.find("0707").unwrap_err(), StateError::Ambiguous(_)));
    for unknown in ["", "8", "x", "../../etc"] {
        assert!(matches!(state.find(unknown).unwrap_err(), StateError::Unknown(_)), "{unknown}");
    }
}

#[test]
fn one_process_goes_on_with_a_scan_and_what_nobody_runs_was_interrupted() {
    let (_home, state) = place();
    keep(&state, 1, ScanStatus::Running);
    let kept = state.find("07").unwrap();
    assert_eq!(kept.look().unwrap().unwrap().status(), ScanStatus::Interrupted, "its process is dead");
    let (store, _) = kept.take().unwrap();
    let seen = kept.look().unwrap().unwrap();
    assert_eq!((seen.status(), seen.is_resumable()), (ScanStatus::Running, false));
    assert!(matches!(kept.take().map(drop).unwrap_err(), StateError::Live(_)));
    assert!(matches!(kept.remove().unwrap_err(), StateError::Live(_)));
    drop(store);
    kept.remove().unwrap();
    assert_eq!(fs::read_dir(state.scans_directory()).unwrap().count(), 0, "nothing is left beside it");
}

#[test]
fn the_newest_that_can_be_gone_on_with_is_taken() {
    let (_home, state) = place();
    assert!(matches!(state.newest_resumable().unwrap_err(), StateError::NothingToResume(_)));
    for (number, status) in [(1, ScanStatus::Partial), (2, ScanStatus::Interrupted), (3, ScanStatus::Done)] {
        keep(&state, number, status);
    }
    drop(state.create(id(4)).unwrap());
    assert_eq!(state.newest_resumable().unwrap().id(), id(2), "neither one that is done nor one that never began");
    let live = state.find(&id(2).to_string()).unwrap().take().unwrap();
    assert_eq!(state.newest_resumable().unwrap().id(), id(1));
    drop(live);
    assert!(matches!(state.find(&id(3).to_string()).unwrap().take().map(drop).unwrap_err(), StateError::Done(_)));
    assert!(matches!(state.find(&id(4).to_string()).unwrap().take().map(drop).unwrap_err(), StateError::Empty(_)));
}

#[test]
fn only_old_finished_scans_are_removed() {
    let (_home, state) = place();
    let statuses =
        [ScanStatus::Interrupted, ScanStatus::Done, ScanStatus::Partial, ScanStatus::Running, ScanStatus::Done];
    for (number, status) in (1..).zip(statuses) {
        keep(&state, number, status);
    }
    keep(&state, 6, ScanStatus::Done);
    state.trim(2).unwrap();
    let left: Vec<_> = state.kept().unwrap().iter().map(Kept::id).collect();
    assert_eq!(left, [6, 5, 4, 3, 1].map(id));
    state.trim(0).unwrap();
    assert_eq!(state.kept().unwrap().iter().map(Kept::id).collect::<Vec<_>>(), [4, 3, 1].map(id));
}

#[test]
fn a_directory_that_cannot_be_used_is_one_line_with_what_to_do() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let state = State::named(file.path(), false).unwrap();
    let error = state.create(id(1)).map(drop).unwrap_err();
    assert_eq!(error.exit(), crate::cli::ExitCode::Failed);
    let line = format!("{:#}", anyhow::Error::from(error));
    assert!(line.contains("--no-state") && !line.contains('\n'), "{line}");
    assert!(matches!(State::usual(None, false), Err(StateError::NoPlace)));
    assert_eq!(State::usual(None, true).unwrap().directory(), Path::new("/var/lib/portsweep"));
    let home = State::usual(Some("/h/.local/state".into()), false).unwrap();
    assert_eq!(home.directory(), Path::new("/h/.local/state/portsweep"));
    assert_eq!(home.resume_line(id(1)), format!("portsweep resume {}", id(1)));
    let (_home, typed) = place();
    assert!(typed.resume_line(id(1)).contains(" --state /"), "what was typed must be typed again");
}

#[test]
fn a_request_survives_being_stored() {
    let environment = crate::config::Environment::default();
    let words = ["-p", "22", "--open", "-o", "jsonl", "-v", "--no-state", "192.0.2.1"].map(Into::into);
    let invocation = crate::cli::parse(words, &environment, &mut io::empty(), &crate::cli::SystemNames).unwrap();
    let crate::cli::Invocation::Scan(asked) = invocation else { panic!("{invocation:?}") };
    let path = std::ffi::OsStr::new("/a/\u{e9}.json");
    let stored = StoredRequest::new(&asked, request().started, Some(Path::new(path)));
    let record = ScanRecord { request: stored.to_text().unwrap(), ..example() };
    let read = StoredRequest::read(&record).unwrap();
    assert_eq!(read, stored);
    let output = read.output();
    assert_eq!(output.write, Some(crate::cli::Write::File("/a/\u{e9}.json".into())));
    assert_eq!((output.format, output.open_only, output.verbosity), (Some(crate::cli::Format::Jsonl), true, 1));
    assert!(StoredRequest::read(&ScanRecord { request: "portsweep 192.0.2.1".into(), ..example() }).is_err());
}
