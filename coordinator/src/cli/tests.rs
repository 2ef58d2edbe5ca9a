//! Command lines and what they mean, or why they are refused. One line each: what was typed, what came of it.

mod bad_inputs;
mod settings;

use super::*;
use std::io::Cursor;
use std::net::IpAddr;

/// `www.example` has an address, other names have none.
struct Names;

impl LookUp for Names {
    fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, NameError> {
        let known = name == "www.example";
        Ok(if known { vec!["192.0.2.80".parse().unwrap()] } else { vec![] })
    }
}

/// An environment with nothing but a home, which nobody looks into.
fn home() -> Environment {
    [("HOME", "/home/nobody-here")].into_iter().collect()
}

fn invocation(line: &str, stdin: &str) -> Result<Invocation, CliError> {
    invocation_in(&home(), line, stdin)
}

fn invocation_in(environment: &Environment, line: &str, stdin: &str) -> Result<Invocation, CliError> {
    let words = line.split(' ').filter(|word| !word.is_empty()).map(|word| match word {
        "''" => OsString::new(),
        word => OsString::from(word),
    });
    parse(words, environment, &mut Cursor::new(stdin.to_owned()), &Names)
}

fn scan(line: &str) -> ScanRequest {
    match invocation(line, "") {
        Ok(Invocation::Scan(request)) => *request,
        other => panic!("{line}: {other:?}"),
    }
}

fn refused(line: &str) -> String {
    match invocation(line, "") {
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains(|char: char| char.is_control()), "{line}: {text}");
            assert!(text.len() < 400, "{line}: {text}");
            assert_eq!(error.exit().code(), 2);
            text
        }
        Ok(other) => panic!("{line}: {other:?}"),
    }
}

/// `targets; kinds; ports`.
fn meaning(line: &str) -> String {
    let request = scan(line);
    let kinds: Vec<_> = request.kinds().iter().map(|kind| kind.as_str()).collect();
    format!("{}; {}; {}", request.targets(), kinds.join("+"), request.ports())
}

#[test]
fn the_forerunners_command_line_works() {
    let line = "-f tcp -f ping -ip 192.0.2.11-192.0.2.14 -w result.json -p 22,80";
    assert_eq!(meaning(line), "192.0.2.11-192.0.2.14; ping+tcp; 22,80");
    let request = scan(line);
    assert_eq!(request.write(), Some(&Write::File("result.json".into())));
    assert_eq!(request.command(), format!("portsweep {line}"));
    assert_eq!(request.typed_targets(), ["192.0.2.11-192.0.2.14"]);
}

#[test]
fn targets_are_united() {
    assert_eq!(
        meaning("scan -p 1 -ip 192.0.2.1,192.0.2.3 -ip=192.0.2.2 192.0.2.1-2 2001:db8::/127"),
        "192.0.2.1-192.0.2.3,2001:db8::-2001:db8::1; ping+tcp; 1"
    );
    assert_eq!(meaning("-p 1 192.0.2.0/29 --exclude 192.0.2.0/30,192.0.2.7"), "192.0.2.4-192.0.2.6; ping+tcp; 1");
    assert_eq!(meaning("-p 1 www.example localhost"), "127.0.0.1,192.0.2.80; ping+tcp; 1");
    let named = scan("www.example");
    assert_eq!(named.names()[&"192.0.2.80".parse::<IpAddr>().unwrap()], ["www.example"]);
}

#[test]
fn kinds_are_separate_questions() {
    let kinds = |options: &str| {
        let line = format!("{options} 192.0.2.1");
        scan(&line).kinds().iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join("+")
    };
    assert_eq!(kinds(""), "ping+tcp");
    assert_eq!(kinds("-f tcp,ping"), "ping+tcp");
    assert_eq!(kinds("-f tcp"), "tcp");
    assert_eq!(kinds("-sT"), "tcp");
    assert_eq!(kinds("-f ping"), "ping");
    assert_eq!(kinds("-sn"), "ping");
    assert_eq!(kinds("-sn -sT"), "ping+tcp");
    assert_eq!(kinds("-Pn"), "tcp");
    assert_eq!(kinds("-Pn -f tcp -n"), "tcp");
    assert_eq!(refused("-Pn -sn 192.0.2.1"), "-Pn leaves ping out, and -sn asks for it: drop one of them");
    assert!(refused("-Pn -f ping 192.0.2.1").contains("-f ping"));
    for option in ["-p 22", "-F", "--top-ports 5", "--exclude-ports 5", "-p-"] {
        let text = refused(&format!("-sn {option} 192.0.2.1"));
        assert!(text.contains("is for tcp, and only ping is asked for"), "{text}");
    }
}

#[test]
fn ports_can_be_gated_on_life() {
    for line in
        ["--discover -p 80 192.0.2.1", "--discover -f tcp -p 80 192.0.2.1", "--discover -sn -sT -p 80 192.0.2.1"]
    {
        let request = scan(line);
        assert!(request.discover() && request.ping() && request.ports().len() == 1, "{line}");
    }
    assert!(!scan("-p 80 192.0.2.1").discover());
    let no_ping = "-Pn leaves ping out, and --discover asks for it: drop one of them";
    assert_eq!(refused("--discover -Pn 192.0.2.1"), no_ping);
    assert_eq!(refused("--discover -Pn -f tcp 192.0.2.1"), no_ping);
    let no_tcp = "--discover is for tcp, and only ping is asked for: add -f tcp, or drop --discover";
    assert_eq!(refused("--discover -sn 192.0.2.1"), no_tcp);
    assert_eq!(refused("--discover -f ping 192.0.2.1"), no_tcp);
}

#[test]
fn ports_are_nmaps() {
    let ports = |options: &str| scan(&format!("{options} 192.0.2.1")).ports().to_string();
    assert_eq!(ports("-p-"), "1-65535");
    assert_eq!(ports("-p -"), "1-65535");
    assert_eq!(ports("-p22"), "22");
    assert_eq!(ports("-p -100"), "1-100");
    assert_eq!(ports("-p 22 -p80,81"), "22,80-81");
    assert_eq!(ports("-p 20-30 --exclude-ports 22,25-29"), "20-21,23-24,30");
    assert_eq!(scan("-F 192.0.2.1").ports().len(), 100);
    assert_eq!(scan("--top-ports 7 192.0.2.1").ports().len(), 7);
    assert_eq!(scan("192.0.2.1").ports().len(), 1_000);
    assert!(refused("-F -p 22 192.0.2.1").contains("drop one of them"));
    assert!(refused("-p 22 --exclude-ports 22 192.0.2.1").starts_with("every port is excluded"));
    assert!(refused("--top-ports 1001 192.0.2.1").contains("write a whole number, 1 to 1000"));
}

#[test]
fn other_options_are_taken() {
    let request = scan("--timeout 100ms --passes 2 --window 5 --seed 7 -q --yes -w - 192.0.2.1");
    assert_eq!(request.timeout(), Some(std::time::Duration::from_millis(100)));
    assert_eq!((request.passes(), request.window(), request.seed()), (Some(2), Some(5), Some(7)));
    assert!(request.output().quiet && request.yes());
    assert_eq!(request.write(), Some(&Write::Stdout));
}

#[test]
fn the_output_is_what_was_asked_for() {
    let output = |options: &str| scan(&format!("{options} 192.0.2.1")).output().clone();
    let plain = output("");
    assert_eq!(
        (plain.format, plain.open_only, plain.by_port, plain.quiet, plain.verbosity),
        (None, false, false, false, 0)
    );
    for (options, format) in [("-o jsonl", Format::Jsonl), ("-olines", Format::Lines), ("-o=table", Format::Table)] {
        assert_eq!(output(options).format, Some(format), "{options}");
    }
    let grouped = output("--open --by port -vv");
    assert_eq!((grouped.format, grouped.by_port), (Some(Format::Table), true), "also in a pipe");
    assert!(grouped.open_only && grouped.verbosity == 2);
    assert!(!output("--by host").by_port);
    assert!(scan("-sL 192.0.2.1").dry_run() && scan("--dry-run 192.0.2.1").dry_run());

    assert_eq!(
        refused("-o xml 192.0.2.1"),
        "\"xml\" is no value for -o <FORM>: write table, lines or jsonl; the result as one JSON is -w FILE (see --help)"
    );
    assert!(refused("--by name 192.0.2.1").contains("write host or port"));
    for both in ["-w - -o jsonl", "-q -o lines", "--by port -o jsonl"] {
        assert!(
            refused(&format!("{both} 192.0.2.1")).contains("ask for different outputs: drop one of them"),
            "{both}"
        );
    }
    assert!(refused("-sn --open 192.0.2.1").starts_with("--open is for tcp"));
    assert!(refused("-sn --by port 192.0.2.1").starts_with("--by port is for tcp"));
}

#[test]
fn the_pace_is_what_was_asked_for_and_wins_over_a_template() {
    let pace = |options: &str| {
        let request = scan(&format!("{options} 192.0.2.1"));
        (request.rate().map(|rate| rate.to_string()), request.timeout().map(|timeout| timeout.as_millis()))
    };
    let rate = |text: &str| Some(text.to_owned());
    assert_eq!(pace(""), (None, None));
    assert_eq!(pace("--rate 0.5"), (rate("0.5"), None));
    assert_eq!(pace("-T0"), (rate("0.003333"), None));
    assert_eq!(pace("-T 2"), (rate("2.5"), None));
    assert_eq!(pace("-T3"), (None, None));
    assert_eq!(pace("-T5"), (None, Some(250)));
    assert_eq!(pace("-T2 --rate 10"), (rate("10"), None));
    assert_eq!(pace("--timeout 1s -T4"), (None, Some(1_000)));
    let request = scan("--per-host-rate 20 -p 1-100 192.0.2.1");
    assert_eq!(request.per_host_rate().map(|rate| rate.to_string()), rate("20"));
    assert_eq!(
        request.size().estimate.as_millis(),
        (101 + 32) * 50 + 500,
        "100 ports and a ping, and the first 32 again"
    );
    // 128, 256 and 512 in flight, and 1,024 from then on: 3 + 64,640 / 1,024 timeouts, with the ping.
    assert_eq!(scan("-p- 192.0.2.1").size().estimate.as_millis(), (67 + 1) * 300 + 500, "a window for each host");
    assert_eq!(scan("-p- 192.0.2.1").size().most.as_millis(), 8 * 67 * 300 + 7 * 500, "all of it eight times");
    assert_eq!(scan("-p- --passes 1 192.0.2.1").size().most.as_millis(), 67 * 300);
    assert_eq!(scan("-sn --rate 2.5 192.0.2.0/24").size().estimate.as_millis(), 2 * 256 * 400 + 500);
    assert_eq!(refused("-T6 192.0.2.1"), "\"6\" is no value for -T <N>: write a number, 0 (slowest) to 5 (see --help)");
    assert_eq!(
        refused("--rate 0 192.0.2.1"),
        "\"0\" is no value for --rate <N>: write probes per second, 0.000001 to 1000000000 (see --help)"
    );
    assert!(refused("--max-rate 5 192.0.2.1").contains("use --rate N"));
}

#[test]
fn lists_are_read_from_files_and_standard_input() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "192.0.2.1 192.0.2.2 # two\r\n192.0.2.9\n").unwrap();
    let path = file.path().to_str().unwrap();
    let line = format!("-iL {path} --excludefile - -p 1");
    let Ok(Invocation::Scan(request)) = invocation(&line, "192.0.2.2\n") else { panic!("{line}") };
    assert_eq!(request.targets().to_string(), "192.0.2.1,192.0.2.9");
    assert_eq!(request.typed_targets(), [format!("-iL {path}")]);
    assert!(refused("-iL - --excludefile - 192.0.2.1").contains("only one list"));
    assert!(refused("-iL /nonexistent/list").starts_with("-iL \"/nonexistent/list\" cannot be read: "));
    let error = invocation("-iL -", "192.0.2.1\n192.0.2.0/99\n").unwrap_err().to_string();
    assert!(error.starts_with("-iL \"-\", line 2: "), "{error}");
    assert!(invocation("-iL -", "# nobody\n").is_err());
}

#[test]
fn what_is_no_host_is_left_out_or_refused() {
    let request = scan("-p 1 0.0.0.0-0.0.0.9 224.0.0.0/30");
    assert_eq!(request.targets().to_string(), "0.0.0.1-0.0.0.9");
    assert_eq!(request.notices(), ["left out 1 unspecified and 4 multicast addresses: they are no hosts'"]);
    assert_eq!(scan("192.0.2.1").notices(), [""; 0]);
    assert!(refused("224.0.0.1").starts_with("224.0.0.1 is no host's address"));
    assert!(refused("::").contains("no host's address"));
    assert!(refused("192.0.2.0/30 --exclude 192.0.2.0/24").contains("exclusions cover every target"));
}

#[test]
fn a_large_scan_is_confirmed_or_not_begun() {
    let answer = |line: &str, ask, answer: &str| {
        let mut asked = Vec::new();
        let confirmed = confirm(&scan(line), ask, &mut Cursor::new(answer.to_owned()), &mut asked);
        (confirmed.map_err(|error| error.to_string()), String::from_utf8(asked).unwrap())
    };
    assert_eq!(answer("10.0.0.0/24", true, ""), (Ok(()), String::new()));
    assert_eq!(answer("10.0.0.0/7 -sn --yes", true, ""), (Ok(()), String::new()));
    let (confirmed, asked) = answer("10.0.0.0/7 -sn", true, "y\n");
    assert_eq!(confirmed, Ok(()));
    assert_eq!(
        asked,
        "portsweep: 33,554,432 addresses with 33,554,432 targets (about 30 min 44 s if nothing answers) are to be scanned. \
         Go on? [y/N] "
    );
    let refusal = "33,554,432 addresses with 33,554,432 targets (about 30 min 44 s if nothing answers): add --yes if that \
                   is what you want";
    for no in ["n\n", "\n", "", "yesterday\n"] {
        assert_eq!(answer("10.0.0.0/7 -sn", true, no).0.unwrap_err(), refusal, "{no:?}");
    }
    assert_eq!(answer("10.0.0.0/7 -sn", false, "y\n"), (Err(refusal.to_owned()), String::new()), "nobody is there");
}

#[test]
fn a_slip_is_one_clear_line() {
    assert_eq!(
        refused("--timeot 1s 192.0.2.1"),
        "there is no option \"--timeot\": do you mean --timeout? (see --help)"
    );
    assert_eq!(refused("-z"), "there is no option \"-z\" (see --help)");
    assert_eq!(refused("-f syn 192.0.2.1"), "\"syn\" is no probe kind: use -f tcp, -f ping or both");
    assert_eq!(refused("192.0.2.1 -ip"), "-ip <SPEC> needs a value (see --help)");
    assert_eq!(
        refused("--timeout 11s 192.0.2.1"),
        "\"11s\" is no value for --timeout <TIME>: a probe waits 1ms to 10s (see --help)"
    );
    assert_eq!(refused("-q -q 192.0.2.1"), "--quiet can be given once only");
    assert_eq!(refused("-sn -sn 192.0.2.1"), "-sn can be given once only");
    assert_eq!(refused("--quiet=3 192.0.2.1"), "--quiet takes no value (see --help)");
    for wrong in ["0", "-1", "+1", "x", "1.5", "4294967296"] {
        let text = refused(&format!("--window={wrong} 192.0.2.1"));
        assert!(text.contains("no value for --window <N>: write a whole number, 1 to 4294967295"), "{text}");
    }
    for wrong in ["0", "9", "256", "-1", "two"] {
        let text = refused(&format!("--passes={wrong} 192.0.2.1"));
        assert!(text.contains("no value for --passes <N>: write a whole number, 1 to 8"), "{text}");
    }
    assert!(refused("--max-retries 2 192.0.2.1").contains("use --passes N"));
    assert!(refused("--seed 9007199254740992 192.0.2.1").contains("9007199254740991"));
}

#[test]
fn other_commands_are_the_first_word_only() {
    assert!(matches!(invocation("doctor", ""), Ok(Invocation::Doctor(_))));
    for wrong in [
        "doctor 192.0.2.1",
        "doctor --fast",
        "completions",
        "completions csh",
        "man 3",
        "resume 1 2",
        "resume -p 22",
        "scans 192.0.2.1",
        "scans rm",
        "scans show",
        "scans export 1 -o xml",
    ] {
        refused(wrong);
    }
    assert!(refused("completions csh").contains("write bash, zsh, fish, elvish or powershell"));
    // Elsewhere they are names, and nobody has these.
    for name in ["scan doctor", "192.0.2.1 man", "-p 22 completions"] {
        assert!(refused(name).contains("no address"), "{}", refused(name));
    }
    for command in ["resume", "scans", "scans show", "scans export", "scans rm", "doctor", "completions", "man"] {
        let Ok(Invocation::Print(help)) = invocation(&format!("{command} --help"), "") else { panic!("{command}") };
        assert!(help.contains(&format!("Usage: portsweep {command}")), "{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
    }
}

#[test]
fn scans_that_are_kept_are_named_by_the_beginning_of_their_id() {
    let resume = |line: &str| match invocation(line, "") {
        Ok(Invocation::Resume(request)) => *request,
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(resume("resume").id(), None);
    let named = resume("resume --state /s 0192");
    assert_eq!((named.id(), named.state().directory()), (Some("0192"), std::path::Path::new("/s")));
    assert_eq!(resume("resume").keep(), 20);
    let action = |line: &str| match invocation(line, "") {
        Ok(Invocation::Scans(ScansRequest { state, action })) => (state.directory().to_owned(), action),
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(action("scans --state /s"), ("/s".into(), ScansAction::List));
    assert_eq!(action("scans show 01 --state /s"), ("/s".into(), ScansAction::Show("01".into())));
    assert_eq!(action("scans export 01").1, ScansAction::Export("01".into(), Export::Json));
    assert_eq!(action("scans export -o csv 01").1, ScansAction::Export("01".into(), Export::Csv));
    assert_eq!(action("scans rm 01 02").1, ScansAction::Remove(vec!["01".into(), "02".into()]));
}

#[test]
fn scans_are_kept_where_it_is_said_or_nowhere() {
    let typed = scan("--state /s --keep 3 192.0.2.1");
    assert_eq!((typed.state().unwrap().directory(), typed.keep()), (std::path::Path::new("/s"), 3));
    assert_eq!(scan("--no-state 192.0.2.1").state(), None);
    assert!(scan("192.0.2.1").state().unwrap().directory().ends_with("portsweep"));
    assert!(refused("--no-state --state /s 192.0.2.1").contains("drop one of them"));
    assert!(refused("--keep=-1 192.0.2.1").contains("write a whole number, 0 to 1000000"));
}

#[test]
fn completions_and_the_manual_have_the_options_as_they_are_typed() {
    let print = |line: &str| match invocation(line, "") {
        Ok(Invocation::Print(text)) => text,
        other => panic!("{line}: {other:?}"),
    };
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = print(&format!("completions {shell}"));
        assert!(script.contains("doctor") && script.contains("timeout"), "{shell}");
        for single in ["--iL", "--sn", "--Pn", "--ip"] {
            let wrong = script.match_indices(single).any(|(at, _)| {
                !script[at + single.len()..].starts_with(|next: char| next.is_alphanumeric() || next == '-')
            });
            assert!(!wrong, "{shell}: {single}");
        }
    }
    assert!(print("completions bash").contains(" -iL "));
    assert!(print("completions fish").contains("-o iL "));
    let page = print("man");
    assert!(page.contains(r"\fB\-iL\fR") && page.contains(r"\-\-timeout"), "{page}");
    assert!(!page.contains(r"\-\-iL"), "{page}");
}

#[test]
fn help_is_readable_on_a_terminal_and_names_every_option() {
    let Ok(Invocation::Print(help)) = invocation("--help", "") else { panic!("no help") };
    for line in help.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let expected = include_str!("testdata/help.txt");
    assert_eq!(help, expected);
    let Ok(Invocation::Print(version)) = invocation("-V", "") else { panic!("no version") };
    assert_eq!(version, format!("portsweep {}\n", env!("CARGO_PKG_VERSION")));
}
