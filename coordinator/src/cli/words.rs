//! The one pass before clap: nmap's single-dash words become words that clap knows (`-iL FILE` → `--iL=FILE`), and what we
//! lack is refused with what to use instead. Nothing is passed over: a flag is carried out, or refused.

use super::CliError;
use protocol::quote::Quoted;
use std::ffi::{OsStr, OsString};

/// Single-dash words that are more than one letter, as they are typed, with the name that clap knows them by.
/// [`as_typed`] is the way back.
const SINGLE_DASH: &[(&str, &str, Value)] = &[
    ("-ip", "--ip", Value::Needed),
    ("-iL", "--iL", Value::Needed),
    ("-sn", "--sn", Value::None),
    ("-sP", "--sn", Value::None),
    ("-sT", "--sT", Value::None),
    ("-Pn", "--Pn", Value::None),
    ("-PN", "--Pn", Value::None),
    ("-P0", "--Pn", Value::None),
];

/// nmap's words that are the same as one of ours.
const SAME: &[(&str, &str)] = &[("-sL", "--dry-run")];

/// How `-o` can be typed: with what follows it attached it looks like nmap's `-oX`.
const OUTPUTS: &[&str] = &["-o", "-otable", "-olines", "-ojsonl"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    None,
    Needed,
}

/// Words that clap knows and that take the next word as their value, whatever it looks like.
const WITH_VALUE: &[&str] = &[
    "-f",
    "-p",
    "-w",
    "-o",
    "--by",
    "--ip",
    "--iL",
    "--exclude",
    "--excludefile",
    "--exclude-ports",
    "--top-ports",
    "--timeout",
    "--passes",
    "--rate",
    "--per-host-rate",
    "-T",
    "--window",
    "--seed",
    "--vantage",
    "--weight",
    "--agent-wait",
    "--config",
    "--state",
    "--keep",
];

/// What will be offered and is not yet: never passed over.
const NOT_YET: &[(&str, &str)] = &[
    ("-oX", "use -w FILE for JSON"),
    ("-oG", "use -w FILE for JSON, or a pipe for lines"),
    ("-oN", "use -w FILE for JSON"),
    ("-oA", "use -w FILE for JSON"),
    ("-oJ", "use -w FILE for JSON"),
];

/// Flags of nmap that we lack: how the word begins, and what to use instead. The first that fits counts.
const LACKING: &[(&str, Fit, &str)] = &[
    ("-sS", Fit::Whole, "use -sT, a full TCP connect, which needs no privilege"),
    ("-sU", Fit::Whole, "only TCP ports can be probed, with -sT"),
    ("-sV", Fit::Whole, "only states are found, no versions: leave it out"),
    ("-sC", Fit::Whole, "there are no scripts: leave it out"),
    ("-s", Fit::Start, "use -sT for TCP connects, -sn for ping alone"),
    ("-P", Fit::Start, "use -f ping, which asks by ICMP echo"),
    ("-A", Fit::Whole, "only states are found: use -f tcp -f ping"),
    ("-O", Fit::Whole, "operating systems are not guessed: leave it out"),
    ("--osscan", Fit::Start, "operating systems are not guessed: leave it out"),
    ("--version-", Fit::Start, "only states are found, no versions: leave it out"),
    ("--script", Fit::Start, "there are no scripts: leave it out"),
    ("-D", Fit::Start, "portsweep scans as itself, without decoys: leave it out"),
    ("-S", Fit::Start, "the system chooses the source address: leave it out"),
    ("-e", Fit::Start, "the system's routes choose the interface: leave it out"),
    ("-g", Fit::Start, "the system chooses the source port: leave it out"),
    ("--source-port", Fit::Start, "the system chooses the source port: leave it out"),
    ("--spoof-mac", Fit::Start, "portsweep scans as itself: leave it out"),
    ("--data", Fit::Start, "probes carry no payload: leave it out"),
    ("--ttl", Fit::Start, "packets are the system's own: leave it out"),
    ("--mtu", Fit::Start, "packets are the system's own: leave it out"),
    ("--badsum", Fit::Whole, "packets are the system's own: leave it out"),
    ("--ip-options", Fit::Start, "packets are the system's own: leave it out"),
    ("--scanflags", Fit::Start, "use -sT, a full TCP connect"),
    ("--proxies", Fit::Start, "portsweep scans directly: leave it out"),
    ("-b", Fit::Start, "use -sT, a full TCP connect"),
    ("-iR", Fit::Start, "name the targets that you may scan"),
    ("-iflist", Fit::Start, "use `ip address` and `ip route`"),
    ("--iflist", Fit::Start, "use `ip address` and `ip route`"),
    ("-o", Fit::Start, "use -o table, lines or jsonl, or -w FILE for JSON"),
    ("-r", Fit::Whole, "the order is always shuffled: use --seed to have the same one again"),
    ("--randomize-hosts", Fit::Whole, "the order is always shuffled: leave it out"),
    ("-R", Fit::Whole, "addresses are not looked up: leave it out"),
    ("--dns-servers", Fit::Start, "names are looked up as the system is set up to: leave it out"),
    ("--system-dns", Fit::Whole, "names are looked up as the system is set up to: leave it out"),
    ("--traceroute", Fit::Start, "use traceroute"),
    ("--reason", Fit::Whole, "reasons are always shown: leave it out"),
    ("--host-timeout", Fit::Start, "use --timeout for each probe"),
    ("--max-retries", Fit::Start, "use --passes N, which counts the first try too"),
    ("--min-rtt-timeout", Fit::Start, "use --timeout for each probe"),
    ("--max-rtt-timeout", Fit::Start, "use --timeout for each probe"),
    ("--initial-rtt-timeout", Fit::Start, "use --timeout for each probe"),
    ("--min-parallelism", Fit::Start, "use --window for the probes in flight"),
    ("--max-parallelism", Fit::Start, "use --window for the probes in flight"),
    ("--min-hostgroup", Fit::Start, "use --window for the probes in flight"),
    ("--max-hostgroup", Fit::Start, "use --window for the probes in flight"),
    ("--scan-delay", Fit::Start, "use --per-host-rate N, in probes a second"),
    ("--max-scan-delay", Fit::Start, "use --per-host-rate N, in probes a second"),
    ("--max-rate", Fit::Start, "use --rate N, in probes a second"),
    ("--min-rate", Fit::Start, "a scan is as fast as it can be: use --window for the probes in flight"),
    ("--port-ratio", Fit::Start, "use --top-ports N"),
    ("--resume", Fit::Start, "use the command: portsweep resume"),
    ("--packet-trace", Fit::Whole, "use tcpdump"),
    ("--append-output", Fit::Whole, "a result file is always replaced: name another with -w"),
    ("--stylesheet", Fit::Start, "use -w FILE for JSON"),
    ("--webxml", Fit::Whole, "use -w FILE for JSON"),
    ("--privileged", Fit::Whole, "what this machine permits is found out: leave it out"),
    ("--unprivileged", Fit::Whole, "what this machine permits is found out: leave it out"),
    ("-d", Fit::Start, "leave it out"),
];

#[derive(Clone, Copy)]
enum Fit {
    /// The word is this.
    Whole,
    /// The word begins so.
    Start,
}

/// Commands that are not carried out yet.
const COMMANDS_NOT_YET: &[&str] = &["login"];

/// Makes words that clap knows. A leading `scan` goes: it is what no command means.
pub(super) fn split(words: Vec<OsString>) -> Result<Vec<OsString>, CliError> {
    let mut words = words.into_iter().peekable();
    if let Some(first) = words.peek().and_then(|word| word.to_str()) {
        if COMMANDS_NOT_YET.contains(&first) {
            let what = Quoted::new(first);
            return Err(CliError::NotAvailable { what, yet: " yet", instead: "only scans from here are" });
        }
        if first == "scan" || first == "help" {
            let word = words.next();
            if word.is_some_and(|word| word == "help") {
                return Ok(vec!["--help".into()]);
            }
        }
    }
    let mut split = Vec::new();
    while let Some(word) = words.next() {
        // A word that is no UTF-8 is no flag of ours; clap says so, or takes it as a path.
        let Some(text) = word.to_str().filter(|text| text.len() > 1 && text.starts_with('-')) else {
            split.push(word);
            continue;
        };
        if text == "--" {
            split.push(word);
            split.extend(words);
            break;
        }
        if let Some((long, attached)) = single_dash(text) {
            split.push(match (long.1, attached) {
                (Value::None, _) => long.0.into(),
                (Value::Needed, Some(value)) => format!("{}={value}", long.0).into(),
                (Value::Needed, None) => match words.next() {
                    Some(value) => join(long.0, &value),
                    None => long.0.into(),
                },
            });
            continue;
        }
        if let Some((_, ours)) = SAME.iter().find(|(typed, _)| *typed == text) {
            split.push(ours.into());
            continue;
        }
        refuse(text)?;
        let takes_next = WITH_VALUE.contains(&text);
        split.push(word);
        if takes_next {
            split.extend(words.next());
        }
    }
    Ok(split)
}

/// The long name of a single-dash word, and the value that is attached to it.
fn single_dash(word: &str) -> Option<((&'static str, Value), Option<&str>)> {
    SINGLE_DASH.iter().find_map(|&(typed, long, value)| match word.strip_prefix(typed)? {
        "" => Some(((long, value), None)),
        rest if value == Value::Needed => Some(((long, value), Some(rest.strip_prefix('=').unwrap_or(rest)))),
        _ => None,
    })
}

fn join(long: &str, value: &OsStr) -> OsString {
    let mut word = OsString::from(long);
    word.push("=");
    word.push(value);
    word
}

fn refuse(word: &str) -> Result<(), CliError> {
    let name = word.split_once('=').map_or(word, |(name, _)| name);
    if OUTPUTS.contains(&name) {
        return Ok(());
    }
    let not_yet = NOT_YET.iter().find(|(flag, _)| *flag == name);
    let lacking = || LACKING.iter().find(|(flag, fit, _)| fits(name, flag, *fit));
    let (yet, instead) = match not_yet {
        Some((_, instead)) => (" yet", instead),
        None => match lacking() {
            Some((_, _, instead)) => ("", instead),
            None => return Ok(()),
        },
    };
    Err(CliError::NotAvailable { what: Quoted::new(word), yet, instead })
}

fn fits(name: &str, flag: &str, fit: Fit) -> bool {
    match fit {
        Fit::Whole => name == flag,
        Fit::Start => name.starts_with(flag),
    }
}

/// Writes single-dash words as they are typed into a text of clap's.
pub(super) fn as_typed(text: &str) -> String {
    let mut text = text.to_owned();
    for (typed, long, _) in SINGLE_DASH {
        // In the list of options, the column of what follows stays.
        text = text.replace(&format!("      {long}"), &format!("       {typed}"));
        text = text.replace(&format!("'{long}"), &format!("'{typed}"));
    }
    text
}

/// Writes single-dash words as they are typed into a script or a page that clap's companions made.
pub(super) fn single_dashes(text: &str) -> String {
    let mut text = text.to_owned();
    for (typed, long, _) in SINGLE_DASH {
        let name = long.trim_start_matches('-');
        // fish has a word of its own for options with one dash.
        text = text.replace(&format!(" -l {name} "), &format!(" -o {name} "));
        let mut parts = text.split(long);
        let mut joined = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let goes_on = part.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '-');
            joined += if goes_on { long } else { typed };
            joined += part;
        }
        text = joined;
    }
    text
}

/// The command line as it can be typed into a shell again.
pub(super) fn command_line(words: &[OsString]) -> String {
    let mut line = "portsweep".to_owned();
    for word in words {
        line.push(' ');
        line += &quoted(&word.to_string_lossy());
    }
    line
}

/// A word as it can be typed into a shell: POSIX quoting (XCU 2.2), only where it is needed.
#[must_use]
pub fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=+:,./@%^".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The words of a line as a shell would take them apart: blanks, quotes and backslashes, and nothing that a shell would expand.
pub(super) fn unquoted(line: &str) -> Result<Vec<OsString>, &'static str> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        match char {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take().map(OsString::from)),
            '\'' => {
                let quoted = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or("a quote is not closed")? {
                        '\'' => break,
                        other => quoted.push(other),
                    }
                }
            }
            '"' => {
                let quoted = word.get_or_insert_default();
                loop {
                    match chars.next().ok_or("a quote is not closed")? {
                        '"' => break,
                        '\\' => quoted.push(chars.next().ok_or("a quote is not closed")?),
                        other => quoted.push(other),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next().ok_or("a backslash is the last character")?),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word.map(OsString::from));
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    fn after(words: &[&str]) -> Vec<OsString> {
        split(os(words)).unwrap()
    }

    fn refused(word: &str) -> String {
        split(os(&[word, "192.0.2.1"])).unwrap_err().to_string()
    }

    #[test]
    fn single_dash_words_become_ones_that_clap_knows() {
        let words = ["scan", "-ip", "A", "-ip=B", "-ipC", "-iL", "-", "-iLx", "-sn", "-sT", "-Pn", "-P0", "-f", "tcp"];
        let expected = ["--ip=A", "--ip=B", "--ip=C", "--iL=-", "--iL=x", "--sn", "--sT", "--Pn", "--Pn", "-f", "tcp"];
        assert_eq!(after(&words), os(&expected));
        assert_eq!(after(&["-p-", "-p22", "-F", "-w", "-"]), os(&["-p-", "-p22", "-F", "-w", "-"]));
        assert_eq!(after(&["-ip"]), os(&["--ip"]), "clap says that a value is missing");
        assert_eq!(after(&["help"]), os(&["--help"]));
        let words = ["-sL", "-o", "jsonl", "-ojsonl", "-o=lines", "-vv", "--by", "-x"];
        let expected = ["--dry-run", "-o", "jsonl", "-ojsonl", "-o=lines", "-vv", "--by", "-x"];
        assert_eq!(after(&words), os(&expected));
    }

    #[test]
    fn values_and_what_follows_two_dashes_are_no_flags() {
        assert_eq!(after(&["-w", "-sS", "-p", "-100"]), os(&["-w", "-sS", "-p", "-100"]));
        assert_eq!(after(&["--", "-sS", "-ip"]), os(&["--", "-sS", "-ip"]));
        assert_eq!(after(&["192.0.2.1", "scan"]), os(&["192.0.2.1", "scan"]), "only the first word is a command");
    }

    #[test]
    fn what_nmap_has_and_we_lack_is_refused_with_what_to_use_instead() {
        assert_eq!(refused("-sS"), "\"-sS\" is not available: use -sT, a full TCP connect, which needs no privilege");
        for word in [
            "-sU",
            "-sX",
            "-sTU",
            "-A",
            "-O",
            "-sV",
            "-sC",
            "-Ddecoy",
            "-S",
            "-e",
            "-g53",
            "--script=vuln",
            "-oS",
            "-PE",
            "-PS22",
            "-iR",
            "--max-rtt-timeout",
            "-d9",
            "-R",
        ] {
            assert!(refused(word).contains("is not available: "), "{word}");
        }
        for word in ["-oX", "-oG", "login"] {
            assert!(refused(word).contains("is not available yet: "), "{word}");
        }
    }

    #[test]
    fn a_command_line_survives_a_shell() {
        let words = os(&["-p", "22,80-90", "a b", "it's", "", "$(x)", "[::]"]);
        let line = command_line(&words);
        assert_eq!(line, r"portsweep -p 22,80-90 'a b' 'it'\''s' '' '$(x)' '[::]'");
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &format!("set -- {line}; printf '%s\\n' \"$@\"")]);
        let said = String::from_utf8(shell.output().unwrap().stdout).unwrap();
        assert_eq!(said, "portsweep\n-p\n22,80-90\na b\nit's\n\n$(x)\n[::]\n");
    }
}
