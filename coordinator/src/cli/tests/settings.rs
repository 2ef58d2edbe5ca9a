//! Settings of the environment and the config file: which holds, and what is refused.

use super::*;
use std::fs;

/// An environment whose config file has this text, with more variables.
fn set(file: &str, variables: &[(&str, &str)]) -> (tempfile::TempDir, Environment) {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("c.toml");
    fs::write(&path, file).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let named = ("PORTSWEEP_CONFIG", path.to_str().unwrap());
    let environment = variables.iter().copied().chain([named, ("HOME", "/home/a")]).collect();
    (home, environment)
}

fn with(file: &str, variables: &[(&str, &str)], line: &str) -> Result<ScanRequest, String> {
    let (_home, environment) = set(file, variables);
    match invocation_in(&environment, line, "") {
        Ok(Invocation::Scan(request)) => Ok(*request),
        Ok(other) => panic!("{line}: {other:?}"),
        Err(error) => {
            assert_eq!(error.exit(), ExitCode::Usage);
            Err(error.to_string())
        }
    }
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let rate = |variables: &[(&str, &str)], line: &str| {
        with("rate = 5\n", variables, line).unwrap().rate().map(|rate| rate.to_string()).unwrap()
    };
    assert_eq!(rate(&[], "192.0.2.1"), "5");
    assert_eq!(rate(&[("PORTSWEEP_RATE", "6.5")], "192.0.2.1"), "6.5");
    assert_eq!(rate(&[("PORTSWEEP_RATE", "6")], "--rate 7 192.0.2.1"), "7");
    assert_eq!(rate(&[("PORTSWEEP_RATE", "6")], "-T2 192.0.2.1"), "2.5", "a template is typed");
    assert_eq!(rate(&[], "-T4 192.0.2.1"), "5", "this one says nothing of rates");
}

#[test]
fn every_setting_is_taken() {
    let file = "timeout = \"2s\"\nper-host-rate = 9\nwindow = 33\nformat = \"jsonl\"\nports = [22, \"80-81\"]\n\
                exclude-ports = 81\nkinds = \"tcp\"\n";
    let request = with(file, &[], "192.0.2.1").unwrap();
    assert_eq!(request.timeout().unwrap().as_secs(), 2);
    assert_eq!(request.per_host_rate().unwrap().to_string(), "9");
    assert_eq!((request.window(), request.output().format), (Some(33), Some(Format::Jsonl)));
    assert_eq!((request.ports().to_string().as_str(), request.ping()), ("22,80", false));
}

#[test]
fn the_state_directory_may_be_set() {
    let (home, environment) = set("state = \"kept\"\nkeep = 5\n", &[]);
    let Ok(Invocation::Scan(request)) = invocation_in(&environment, "192.0.2.1", "") else { panic!("refused") };
    assert_eq!((request.state().unwrap().directory(), request.keep()), (home.path().join("kept").as_path(), 5));
    let request = with("state = \"kept\"\n", &[("PORTSWEEP_STATE", "/s")], "192.0.2.1").unwrap();
    assert_eq!(request.state().unwrap().directory(), std::path::Path::new("/s"));
    let (_home, environment) = set("exclude = \"192.0.2.9\"\n", &[]);
    let Ok(Invocation::Resume(request)) = invocation_in(&environment, "resume", "") else { panic!("refused") };
    assert_eq!(request.exclude().to_string(), "192.0.2.9", "today's exclusions hold");
}

#[test]
fn what_is_typed_replaces_kinds_and_ports_and_quiets_the_form() {
    let file = "kinds = [\"tcp\"]\nports = \"22\"\nformat = \"lines\"\n";
    let typed = |line: &str| {
        let request = with(file, &[], line).unwrap();
        let kinds: Vec<_> = request.kinds().iter().map(|kind| kind.as_str()).collect();
        format!("{} {}", kinds.join("+"), request.ports())
    };
    assert_eq!(typed("192.0.2.1"), "tcp 22");
    assert_eq!(typed("-p 80 192.0.2.1"), "tcp 80");
    assert_eq!(typed("-sn 192.0.2.1"), "ping ", "ports that were set are no contradiction");
    assert_eq!(typed("-f ping,tcp 192.0.2.1"), "ping+tcp 22");
    assert!(with(file, &[], "--top-ports 3 192.0.2.1").unwrap().ports().len() == 3);
    let form = |line: &str| with(file, &[], line).unwrap().output().format;
    assert_eq!(form("--by port 192.0.2.1"), Some(Format::Table));
    assert_eq!(form("-o jsonl 192.0.2.1"), Some(Format::Jsonl));
    assert_eq!(form("-q -w - 192.0.2.1"), Some(Format::Lines), "which nothing is written in");
}

#[test]
fn standing_exclusions_always_hold() {
    let file = "exclude = \"192.0.2.0/30,www.example\"\nexclude-ports = \"9100\"\n";
    let variables = [("PORTSWEEP_EXCLUDE", "192.0.2.5")];
    let request = with(file, &variables, "-p 80,9100 192.0.2.0/29 192.0.2.80 --exclude 192.0.2.7").unwrap();
    assert_eq!(request.targets().to_string(), "192.0.2.4,192.0.2.6");
    assert_eq!(request.ports().to_string(), "80");
    assert_eq!(request.typed_exclude(), ["192.0.2.7", "192.0.2.5", "192.0.2.0/30,www.example"]);
    let refused = with(file, &variables, "192.0.2.1").unwrap_err();
    assert!(refused.contains("exclusions cover every target"), "{refused}");
}

#[test]
fn a_file_of_exclusions_is_found_beside_the_config() {
    let (home, environment) = set("excludefile = \"never.txt\"\n", &[]);
    let refused = invocation_in(&environment, "192.0.2.1", "").unwrap_err().to_string();
    assert!(refused.contains("excludefile in") && refused.contains("cannot be read"), "{refused}");
    fs::write(home.path().join("never.txt"), "192.0.2.1 # the printer\n").unwrap();
    let Ok(Invocation::Scan(request)) = invocation_in(&environment, "192.0.2.1-2", "") else { panic!("refused") };
    assert_eq!(request.targets().to_string(), "192.0.2.2");
}

#[test]
fn settings_that_cannot_be_meant_are_refused_with_their_place() {
    for (file, says) in [
        ("rate = 0\n", "\"0\" is no value for rate in \"FILE\": write probes per second, 0.000001 to 1000000000"),
        ("timeout = [1, 2]\n", "\"1, 2\" is no value for timeout in \"FILE\": write one value, no list"),
        ("format = \"xml\"\n", "\"xml\" is no value for format in \"FILE\": write table, lines or jsonl"),
        ("ports = \"0-99999\"\n", "ports in \"FILE\" \"0-99999\""),
        ("exclude = \"192.0.2.0/99\"\n", "exclude in \"FILE\" \"192.0.2.0/99\""),
        ("exclude = \"none.example\"\n", "none.example"),
        ("kinds = \"syn\"\n", "\"syn\" is no probe kind"),
    ] {
        let (home, environment) = set(file, &[]);
        let error = invocation_in(&environment, "192.0.2.1", "").unwrap_err().to_string();
        let error = error.replace(&format!("{}/c.toml", home.path().display()), "FILE");
        assert!(error.contains(says), "{file}: {error}");
    }
    let error = with("", &[("PORTSWEEP_TIMEOUT", "soon")], "192.0.2.1").unwrap_err();
    assert!(error.starts_with("\"soon\" is no value for PORTSWEEP_TIMEOUT: "), "{error}");
    let error = with("rate = 0\n", &[], "--rate 5 192.0.2.1").unwrap_err();
    assert!(error.contains("rate in"), "a slip is found where it does not count too: {error}");
}
