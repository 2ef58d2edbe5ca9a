//! What cannot be meant is refused before anything is sent: exit code 2, one line on stderr,
//! nothing on stdout. The numbers are those of the project's list of bad inputs.

use anyhow::ensure;
use libtest_mimic::Trial;
use portsweep_tests::lab::{self, Need};
use serde_json::json;

use crate::judge::schema;
use crate::world::{RUN_TIMEOUT, World};

/// Many times what these inputs need, and less than they would need if all of them were kept. (The kernel counts in what the test
/// itself had in memory when it started the program, so that a test must not have much.)
const RESIDENT_BYTES_MAX: u64 = 96 << 20;

pub(crate) fn trials() -> Vec<Trial> {
    let hosts = &[Need::Hosts];
    vec![
        lab::trial("bad_input_74_prefix_lengths", hosts, prefixes),
        lab::trial("bad_input_75_numbers_that_other_programs_read_as_addresses", hosts, numbers),
        lab::trial("bad_input_76_spellings_of_ipv6", hosts, ipv6),
        lab::trial("bad_input_77_lists_of_any_length_and_coding", hosts, lists),
        lab::trial("bad_input_79_sizes_that_nobody_can_mean", hosts, sizes),
        lab::trial("bad_input_80_names_that_lead_inside", hosts, names),
        lab::trial("bad_input_89_every_port_open", hosts, every_port_open),
        lab::trial("bad_input_77_targets_that_are_none", hosts, targets),
        lab::trial("bad_input_78_ports_that_are_none", hosts, ports),
        lab::trial("bad_usage_is_one_line_and_exit_2", hosts, usage),
    ]
}

/// Runs portsweep with each command line, which must be refused; then with one that is accepted,
/// so that it is known to be the command line that is refused.
fn refused(command_lines: &[&[&str]]) -> anyhow::Result<()> {
    let world = World::new()?;
    for words in command_lines {
        // A word of a command line can be long: the message shows that it is not echoed whole.
        let shown: Vec<String> = words.iter().map(|word| word.chars().take(60).collect()).collect();
        let run = world.portsweep(words)?;
        let told = || format!("{shown:?}: {}", run.transcript().chars().take(2000).collect::<String>());
        ensure!(run.code == Some(2), "exit code 2 was expected: {}", told());
        ensure!(run.stdout.is_empty(), "{}", told());
        ensure!(run.stderr.lines().count() == 1, "one line was expected: {}", told());
        ensure!(run.stderr.len() < 600, "a long line: {}", told());
        let control = run.stderr.trim_end_matches('\n').chars().any(char::is_control);
        ensure!(!control, "what was typed reaches the terminal unescaped: {}", told());
        let counted = world.target.counted()?;
        ensure!(counted.sum() == 0, "packets were sent: {counted:?}: {}", told());
    }
    world.portsweep(&["-p", "22", "192.0.2.11"])?.expect_code(0)?;
    ensure!(world.target.counted()?.sum() == 2, "the accepted command line asked nothing");
    Ok(())
}

fn prefixes() -> anyhow::Result<()> {
    refused(&[
        &["-p", "22", "192.0.2.0/33"],
        &["-p", "22", "192.0.2.0/-1"],
        &["-p", "22", "-ip", "/-1"],
        &["-p", "22", "192.0.2.0/"],
        &["-p", "22", "192.0.2.0/x"],
        &["-p", "22", "2001:db8::/129"],
        // The whole of IPv4 needs a `yes` that nobody is there to give.
        &["-p", "22", "192.0.2.0/0"],
    ])
}

fn numbers() -> anyhow::Result<()> {
    refused(&[
        &["-p", "22", "0x7f.1"],
        &["-p", "22", "0177.0.0.1"],
        &["-p", "22", "127.1"],
        &["-p", "22", "2130706433"],
        &["-p", "22", "192.0.2.11", "--exclude", "127.1"],
    ])
}

fn ipv6() -> anyhow::Result<()> {
    refused(&[
        &["-p", "22", "fe80::1%eth0"],
        &["-p", "22", "fe80::1%1"],
        &["-p", "22", "::"],
        &["-p", "22", "::ffff:192.0.2.11", "--exclude", "192.0.2.0/24"],
    ])?;
    // What is another spelling of an IPv4 address is that address.
    let world = World::new()?;
    let run = world.portsweep(&["-p", "22", "::ffff:192.0.2.11"])?.expect_code(0)?;
    ensure!(run.stdout == "192.0.2.11:22\n", "{}", run.transcript());
    Ok(())
}

fn lists() -> anyhow::Result<()> {
    let world = World::new()?;
    let with = |list: &[u8]| -> anyhow::Result<lab::Finished> {
        let command = world.scanner.command(lab::bin()?).args(["-p", "22", "-iL", "-"]);
        command.directory(world.directory.path()).input(list).run(RUN_TIMEOUT)
    };
    let utf16: Vec<u8> = "\u{feff}192.0.2.11\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for list in [&b"1".repeat(1 << 20)[..], &utf16, b"\0", b"192.0.2.11\n192.0.2.0/33\n", b"", b"# nobody\r\n"] {
        let run = with(list)?.expect_code(2)?;
        ensure!(run.stderr.lines().count() == 1 && run.stdout.is_empty(), "{}", run.transcript());
    }
    ensure!(world.target.counted()?.sum() == 0, "packets were sent");
    let run = with(b"\xef\xbb\xbf192.0.2.11\r\n")?.expect_code(0)?;
    ensure!(run.stdout == "192.0.2.11:22\n", "{}", run.transcript());
    // Ten million lines: read in time, and none of them kept.
    let script = "yes 192.0.2.11 | head -n 10000000 | \"$P\" -p 22 -iL -";
    let run = (world.scanner.command(std::path::Path::new("/bin/sh")).args(["-c", script]))
        .directory(world.directory.path())
        .env("P", lab::bin()?)
        .run(RUN_TIMEOUT)?
        .expect_code(0)?;
    ensure!(run.stdout == "192.0.2.11:22\n", "{}", run.transcript());
    let bytes = run.usage.resident_bytes_max;
    ensure!(bytes < RESIDENT_BYTES_MAX, "{bytes} bytes were in memory");
    Ok(())
}

fn sizes() -> anyhow::Result<()> {
    refused(&[
        &["-p-", "::/0"],
        &["-p-", "--yes", "::/0"],
        &["-sn", "--yes", "2001:db8::/64"],
        &["-p", "0-65535", "--yes", "2001:db8::/32"],
        // These need a yes that nobody is there to give.
        &["-p-", "10.0.0.0/8"],
        &["-sn", "10.0.0.0/7"],
    ])
}

fn names() -> anyhow::Result<()> {
    let world = World::new()?;
    // The system's own hosts file leads inside, in a mount namespace of this test.
    let script = "printf '127.0.0.1 inside.example\\n169.254.169.254 cloud.example\\n192.0.2.11 outside.example\\n' >hosts
        exec unshare -m /bin/sh -c 'mount --bind hosts /etc/hosts && for name in inside.example cloud.example inside.example.; do
            \"$P\" -p 22 $name 2>>refused; test $? = 2 || exit 98; done; \"$P\" -p 22 outside.example'";
    let run = (world.scanner.command(std::path::Path::new("/bin/sh")).args(["-c", script]))
        .directory(world.directory.path())
        .env("P", lab::bin()?)
        .run(RUN_TIMEOUT)?
        .expect_code(0)?;
    let told = std::fs::read_to_string(world.directory.path().join("refused"))?;
    ensure!(told.lines().count() == 3, "{told}");
    ensure!(told.lines().all(|line| line.contains("if you mean that, write the address")), "{told}");
    ensure!(run.stdout == "192.0.2.11:22\n", "{}", run.transcript());
    Ok(())
}

fn every_port_open() -> anyhow::Result<()> {
    let world = World::new()?;
    world.target.lead_all_ports_to("192.0.2.11", 22)?;
    let run = world.portsweep(&["-q", "-f", "tcp", "-p-", "-w", "result.json", "192.0.2.11"])?.expect_code(0)?;
    let bytes = run.usage.resident_bytes_max;
    ensure!(bytes < RESIDENT_BYTES_MAX, "{bytes} bytes were in memory");
    let length = std::fs::metadata(world.directory.path().join("result.json"))?.len();
    ensure!(length < 250_000, "a result of {length} bytes");
    let result = world.result("result.json")?;
    schema(&result)?;
    let host = &result["hosts"][0];
    let ports: Vec<_> = host["ports"].as_array().into_iter().flatten().map(|port| port["port"].as_u64()).collect();
    ensure!(ports.into_iter().eq((1..=1_024).map(Some)), "the lowest are named: {}", host["ports"]);
    ensure!(host["not_shown"] == json!([{"state": "open", "reason": "syn-ack", "count": 65_535 - 1_024}]), "{host}");
    ensure!(host["flags"] == json!(["all-open-suspect"]), "{}", host["flags"]);
    ensure!(result["summary"]["states"]["open"] == 65_535, "{}", result["summary"]);
    Ok(())
}

fn targets() -> anyhow::Result<()> {
    let (long, many) = ("x".repeat(100_000), "192.0.2.11,".repeat(8_000) + "!");
    refused(&[
        &["-p", "22"],
        &["-p", "22", ""],
        &["-p", "22", "-ip", ""],
        &["-p", "22", "-ip", "-"],
        &["-p", "22", "192.0.2.5-1"],
        &["-p", "22", "192.0.2.14-192.0.2.11"],
        &["-p", "22", "192.0.2.11-2001:db8::1"],
        &["-p", "22", "\u{feff}192.0.2.11"],
        &["-p", "22", "192.0.2.11\u{1b}[2J"],
        &["-p", "22", "192.0.2.256"],
        &["-p", "22", "192.0.2.11,,192.0.2.12/99"],
        &["-p", "22", "192.0.2.11", "192.0.2.12/99"],
        &["-p", "22", &long],
        &["-p", "22", &many],
    ])
}

fn ports() -> anyhow::Result<()> {
    refused(&[
        &["-p", "", "192.0.2.11"],
        &["-p", "22", "192.0.2.11", "--exclude-ports", "0-65535"],
        &["-p", "65536", "192.0.2.11"],
        &["-p", "99999999999999999999", "192.0.2.11"],
        &["-p", "80-79", "192.0.2.11"],
        &["-p", "22,,80", "192.0.2.11"],
        &["-p", "22;80", "192.0.2.11"],
        &["-p", "-1-5", "192.0.2.11"],
        &["-p", "+22", "192.0.2.11"],
        &["-p", "\u{668}\u{660}", "192.0.2.11"],
    ])
}

fn usage() -> anyhow::Result<()> {
    refused(&[
        &[],
        &["-f", "udp", "192.0.2.11"],
        &["-f", "192.0.2.11"],
        &["--no-such-flag", "192.0.2.11"],
        &["--timeout", "0", "192.0.2.11"],
        &["--timeout", "soon", "192.0.2.11"],
        &["--timeout", "11s", "192.0.2.11"],
        &["-f", "ping", "-p", "22", "192.0.2.11"],
    ])
}
