//! The other scanners: how each is called, and how what it writes is read. Those that are not installed are named and left out.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use portsweep_tests::lab::simulated::Seen;
use portsweep_tests::lab::{self, Finished};

use crate::measure::Tool;

/// portsweep, which writes its result to a file.
pub(crate) fn portsweep(line: &str) -> anyhow::Result<Tool> {
    let mut args = words(line);
    args.extend(words("-q -w result.json"));
    Ok(Tool { name: "portsweep", program: lab::bin()?.to_owned(), args, codes: &[0], read: portsweep_found })
}

/// This program itself, as the scanner `name`, with one word more. What it finds is not judged.
pub(crate) fn itself(name: &'static str, word: &str) -> anyhow::Result<Tool> {
    let args = vec![name.to_owned(), word.to_owned()];
    Ok(Tool { name, program: std::env::current_exe()?, args, codes: &[0], read: |_, _| Ok(Seen::default()) })
}

/// Tools that are there, and a line for each that is not.
pub(crate) fn installed(wanted: impl IntoIterator<Item = Other>) -> (Vec<Tool>, String) {
    let (mut tools, mut left_out) = (Vec::new(), String::new());
    for Other { name, program, line, codes, read } in wanted {
        match lab::program(program) {
            Some(program) => tools.push(Tool { name, program, args: words(&line), codes, read }),
            None => left_out += &format!("left out: {program}, which is not installed\n"),
        }
    }
    (tools, left_out)
}

/// A tool that may be there.
pub(crate) struct Other {
    name: &'static str,
    program: &'static str,
    line: String,
    codes: &'static [i32],
    read: fn(&Finished, &Path) -> anyhow::Result<Seen>,
}

/// nmap; what it finds is read from its standard output.
pub(crate) fn nmap(name: &'static str, line: &str) -> Other {
    Other { name, program: "nmap", line: format!("{line} -n -oG -"), codes: &[0], read: nmap_found }
}

/// RustScan, alone: without the nmap that it calls by default.
pub(crate) fn rustscan(line: &str) -> Other {
    let line = format!("--no-config --no-banner --scripts none -g -u 15000 {line}");
    Other { name: "rustscan", program: "rustscan", line, codes: &[0], read: rustscan_found }
}

/// masscan.
pub(crate) fn masscan(line: &str) -> Other {
    Other {
        name: "masscan",
        program: "masscan",
        line: format!("{line} -oL found.txt"),
        codes: &[0],
        read: masscan_found,
    }
}

/// fping, which ends with 1 where an address does not answer, and with 4 where it ran out of sequence numbers: it reserves each for 10 s,
/// and has one less than there are addresses in a /16.
pub(crate) fn fping(line: &str) -> Other {
    Other { name: "fping", program: "fping", line: format!("-a -q {line}"), codes: &[0, 1, 4], read: addresses_found }
}

/// zmap, whose list of what is never scanned has the network of the lab in it.
pub(crate) fn zmap(line: &str) -> Other {
    let line = format!("{line} -q -b /dev/null -f saddr");
    Other { name: "zmap", program: "zmap", line, codes: &[0], read: addresses_found }
}

/// Splits at single spaces: no argument here has one.
fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn portsweep_found(_: &Finished, directory: &Path) -> anyhow::Result<Seen> {
    let path: PathBuf = directory.join("result.json");
    Seen::in_result(&serde_json::from_slice(&fs::read(path)?)?)
}

/// `Host: A ()\tPorts: 22/open/tcp//ssh///, ...` and `Host: A ()\tStatus: Up`.
fn nmap_found(ended: &Finished, _: &Path) -> anyhow::Result<Seen> {
    let mut seen = Seen::default();
    for line in ended.stdout.lines() {
        let Some(rest) = line.strip_prefix("Host: ") else { continue };
        let (address, rest) = rest.split_once(' ').context("a host without a space")?;
        let address: IpAddr = address.parse()?;
        if rest.contains("Status: Up") {
            seen.up.insert(address);
        }
        let Some((_, ports)) = rest.split_once("Ports: ") else { continue };
        for entry in ports.split(", ") {
            let mut parts = entry.split('/');
            if let (Some(port), Some("open")) = (parts.next(), parts.next()) {
                seen.open.insert((address, port.trim().parse()?));
            }
        }
    }
    Ok(seen)
}

/// `A -> [22,80]`.
fn rustscan_found(ended: &Finished, _: &Path) -> anyhow::Result<Seen> {
    let mut seen = Seen::default();
    for line in ended.stdout.lines() {
        let Some((address, ports)) = line.split_once(" -> ") else { continue };
        let address: IpAddr = address.trim().parse()?;
        for port in ports.trim().trim_matches(['[', ']']).split(',').filter(|port| !port.is_empty()) {
            seen.open.insert((address, port.trim().parse()?));
        }
    }
    Ok(seen)
}

/// `open tcp 80 A 1700000000`.
fn masscan_found(_: &Finished, directory: &Path) -> anyhow::Result<Seen> {
    let mut seen = Seen::default();
    for line in fs::read_to_string(directory.join("found.txt"))?.lines() {
        if let ["open", "tcp", port, address, ..] = line.split(' ').collect::<Vec<_>>().as_slice() {
            seen.open.insert((address.parse()?, port.parse()?));
        }
    }
    Ok(seen)
}

/// An address a line, among other lines.
fn addresses_found(ended: &Finished, _: &Path) -> anyhow::Result<Seen> {
    let up = ended.stdout.lines().filter_map(|line| line.trim().parse().ok()).collect();
    Ok(Seen { up, ..Seen::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrote(stdout: &str) -> Finished {
        let usage = lab::Usage { cpu: std::time::Duration::ZERO, resident_bytes_max: 0 };
        Finished { code: Some(0), signal: None, stdout: stdout.to_owned(), stderr: String::new(), usage }
    }

    fn at(last: u8) -> IpAddr {
        [198, 51, 100, last].into()
    }

    #[test]
    fn what_the_others_write_is_read() {
        let here = Path::new(".");
        let nmap = "# Nmap\nHost: 198.51.100.7 ()\tStatus: Up\nHost: 198.51.100.7 ()\tPorts: 22/open/tcp//ssh///, 23/closed/tcp/////, 80/open/tcp//http///\tIgnored State: closed (997)\n";
        let seen = nmap_found(&wrote(nmap), here).unwrap();
        assert_eq!(seen.open, [(at(7), 22), (at(7), 80)].into());
        assert_eq!(seen.up, [at(7)].into());
        let seen = rustscan_found(&wrote("198.51.100.7 -> [22,80]\n198.51.100.9 -> [1]\n"), here).unwrap();
        assert_eq!(seen.open, [(at(7), 22), (at(7), 80), (at(9), 1)].into());
        let seen = addresses_found(&wrote("saddr\n198.51.100.7\n198.51.100.9\n"), here).unwrap();
        assert_eq!(seen.up, [at(7), at(9)].into());
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("found.txt"), "#masscan\nopen tcp 80 198.51.100.7 1700000000\n# end\n")
            .unwrap();
        assert_eq!(masscan_found(&wrote(""), directory.path()).unwrap().open, [(at(7), 80)].into());
    }
}
