//! Which setting holds, and which files are refused.

use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// A home with a config file of this text.
fn home(text: &str) -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(".config/portsweep/config.toml");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    (home, path)
}

fn environment(home: &Path, more: &[(&str, &str)]) -> Environment {
    let home = ("HOME", home.to_str().unwrap());
    std::iter::once(home).chain(more.iter().copied()).collect()
}

fn refused(text: &str) -> String {
    let (home, path) = home(text);
    let error = Config::load(None, &environment(home.path(), &[])).unwrap_err().to_string();
    assert!(error.contains(&format!("{path:?}")), "{error}");
    assert!(!error.contains('\n'), "{error}");
    error.replace(&format!("{path:?}"), "FILE")
}

#[test]
fn the_environment_wins_over_the_file_and_exclusions_are_united() {
    let (home, path) = home("rate = 500\nwindow = 20\nexclude = [\"192.0.2.1\", \"192.0.2.9\"]\nports = []\n");
    let set = [("PORTSWEEP_RATE", "7"), ("PORTSWEEP_EXCLUDE", "192.0.2.5"), ("PORTSWEEP_WINDOW", "")];
    let config = Config::load(None, &environment(home.path(), &set)).unwrap();
    assert_eq!(config.file(), Some(path.as_path()));
    let rate = config.get("rate").unwrap();
    assert_eq!((rate.place.as_str(), rate.values.as_slice()), ("PORTSWEEP_RATE", &["7".to_owned()][..]));
    let window = config.get("window").unwrap();
    assert_eq!((window.place.clone(), window.values[0].as_str()), (format!("window in {path:?}"), "20"));
    assert_eq!(config.get("ports"), None, "an empty list says nothing");
    let excluded: Vec<_> = config.all("exclude").flat_map(|setting| &setting.values).collect();
    assert_eq!(excluded, ["192.0.2.5", "192.0.2.1", "192.0.2.9"]);
}

#[test]
fn the_file_is_where_xdg_says_or_where_it_is_named() {
    let (home, path) = home("rate = 1\n");
    let at = |named: Option<&str>, set: &[(&str, &str)]| {
        let config = Config::load(named.map(Path::new), &environment(home.path(), set)).unwrap();
        (config.file().map(Path::to_owned), config.get("rate").map(|rate| rate.values[0].clone()))
    };
    let (other, xdg) = (home.path().join("other.toml"), home.path().join("xdg"));
    fs::write(&other, "rate = 2\n").unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(at(None, &[]), (Some(path), Some("1".into())));
    assert_eq!(at(None, &[("XDG_CONFIG_HOME", xdg.to_str().unwrap())]), (None, None), "nothing is there");
    assert_eq!(at(None, &[("XDG_CONFIG_HOME", "relative")]).1, Some("1".into()), "XDG: pass a relative path over");
    let named = other.to_str().unwrap();
    assert_eq!(at(None, &[("PORTSWEEP_CONFIG", named)]), (Some(other.clone()), Some("2".into())));
    assert_eq!(at(Some(named), &[("PORTSWEEP_CONFIG", "/nonexistent")]).1, Some("2".into()), "the flag wins");
    assert_eq!(at(Some("/dev/null"), &[]).1, None, "a way to have none");
    let missing = Config::load(Some(Path::new("/nonexistent/c.toml")), &Environment::default()).unwrap_err();
    assert!(missing.to_string().starts_with("the config file \"/nonexistent/c.toml\" cannot be read: "), "{missing}");
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    let (home, path) = home("excludefile = \"never.txt\"\n");
    let config = Config::load(None, &environment(home.path(), &[])).unwrap();
    assert_eq!(config.get("excludefile").unwrap().base.as_deref(), path.parent());
}

#[test]
fn a_file_that_makes_no_sense_is_refused_in_one_line() {
    assert_eq!(
        refused("rate = 5\nraet = 5\nexlude = \"192.0.2.1\"\n"),
        "the config file FILE has no use for \"exlude\", \"raet\": it knows exclude, excludefile, exclude-ports, kinds, \
         ports, timeout, rate, per-host-rate, window, format, state, keep"
    );
    assert!(refused("rate = 5\nwindow = = 3\n").starts_with("the config file FILE, line 2: "));
    assert!(refused("rate = 5\nrate = 6\n").contains("line 2"), "which would hold?");
    assert_eq!(refused("rate = true\n"), "the config file FILE: rate is no text, number or list of them");
    assert!(refused("[rate]\nx = 1\n").ends_with("rate is no text, number or list of them"));
    assert!(refused("exclude = [[\"192.0.2.1\"]]\n").contains("exclude is no text"));
    assert!(refused(&"#".repeat(1 << 21)).contains("is longer than 1048576 bytes"));
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    let (home, path) = home("rate = 5\n");
    for mode in [0o666, 0o664, 0o602] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        for named in [None, Some(path.as_path())] {
            let error = Config::load(named, &environment(home.path(), &[])).unwrap_err().to_string();
            assert!(error.contains("can be written by others") && error.contains("chmod go-w"), "{error}");
        }
    }
}

#[test]
fn a_file_that_is_no_text_or_no_file_is_refused() {
    let (home, path) = home("");
    fs::write(&path, b"rate = \"\xff\"\n").unwrap();
    let load = || Config::load(None, &environment(home.path(), &[])).unwrap_err().to_string();
    assert!(load().ends_with("cannot be read: it is not UTF-8"), "{}", load());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(load().contains("cannot be read: "), "{}", load());
}
