//! `--dry-run`: what a scan would be, for people; nothing is sent and nothing is opened.

use super::quantity::{bytes, duration, grouped};
use super::table::write_list;
use crate::cli::ScanRequest;
use std::io::{self, Write};

/// What a database takes that holds no outcome yet.
const DATABASE_BYTES: u128 = 40_000;

/// Writes what `request` asks for: addresses, names, exclusions, ports, size, time, disk.
///
/// # Errors
/// If `out` cannot be written.
pub fn write(out: &mut dyn Write, request: &ScanRequest) -> io::Result<()> {
    let size = request.size();
    let slots = size.targets.checked_div(size.addresses).unwrap_or(0);
    let word =
        |count: u128, one: &str, many: &str| format!("{} {}", grouped(count), if count == 1 { one } else { many });
    let addresses = word(size.addresses, "address", "addresses");
    let targets = word(size.targets, "target", "targets");
    writeln!(out, "Size:      {addresses}, {} asked of each: {targets}", word(slots, "thing", "things"))?;
    let (least, most) = (duration(size.estimate), duration(size.most));
    writeln!(out, "Time:      about {least} if nothing answers, up to {most} if hosts alone do")?;
    if request.state().is_some() {
        let most = bytes(DATABASE_BYTES + size.targets.div_ceil(2));
        writeln!(out, "Disk:      at most about {most} of state (half a byte a target)")?;
    }
    write_ranges(out, "Addresses: ", request.targets())?;
    let names =
        request.names().iter().map(|(address, names)| format!("{} ({address})", names.join(", ").escape_default()));
    let names: Vec<_> = names.collect();
    if !names.is_empty() {
        write_list(out, "Names:     ", &names)?;
    }
    if !request.exclude().is_empty() {
        write_ranges(out, "Excluded:  ", request.exclude())?;
    }
    let kinds: Vec<_> = request.kinds().iter().map(ToString::to_string).collect();
    write_list(out, "Probes:    ", &kinds)?;
    if request.discover() {
        writeln!(out, "Stages:    ping everywhere, then ports where it is answered: fewer targets")?;
    }
    if !request.ports().is_empty() {
        let ranges = request.ports().ranges().map(|(low, high)| match low == high {
            true => low.to_string(),
            false => format!("{low}-{high}"),
        });
        write_list(out, "Ports:     ", &ranges.collect::<Vec<_>>())?;
    }
    writeln!(out, "Nothing was sent.")
}

fn write_ranges(out: &mut dyn Write, head: &str, set: &protocol::range_set::AddressSet) -> io::Result<()> {
    let ranges = set.ranges().map(|(low, high)| match low == high {
        true => low.to_string(),
        false => format!("{low}-{high}"),
    });
    write_list(out, head, &ranges.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{self, Invocation, LookUp, NameError};
    use std::net::IpAddr;

    struct Nobody;

    impl LookUp for Nobody {
        fn look_up(&self, _: &str) -> Result<Vec<IpAddr>, NameError> {
            Ok(vec![])
        }
    }

    fn text(line: &str) -> String {
        let invocation = cli::parse(
            line.split(' ').map(Into::into),
            &[("HOME", "/home/a")].into_iter().collect(),
            &mut io::empty(),
            &Nobody,
        );
        let Ok(Invocation::Scan(request)) = invocation else { panic!("{line}: {invocation:?}") };
        assert!(request.dry_run(), "{line}");
        let mut text = Vec::new();
        write(&mut text, &request).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn it_says_what_would_be_scanned() {
        let line = "--dry-run -p 22,80-90 --timeout 1s --window 8 192.0.2.0/29 localhost --exclude 192.0.2.3";
        assert_eq!(
            text(line),
            "Size:      8 addresses, 13 things asked of each: 104 targets\n\
             Time:      about 26.5 s if nothing answers, up to 1 min 48 s if hosts alone do\n\
             Disk:      at most about 40 KB of state (half a byte a target)\n\
             Addresses: 127.0.0.1, 192.0.2.0-192.0.2.2, 192.0.2.4-192.0.2.7\n\
             Names:     localhost (127.0.0.1)\n\
             Excluded:  192.0.2.3\n\
             Probes:    ping, tcp\n\
             Ports:     22, 80-90\n\
             Nothing was sent.\n"
        );
    }

    #[test]
    fn stages_are_said() {
        assert!(text("--dry-run --discover -p 22 192.0.2.0/29").contains("\nStages:    ping everywhere, then ports"));
        assert!(!text("--dry-run -p 22 192.0.2.0/29").contains("Stages"));
    }

    #[test]
    fn a_long_list_of_ports_keeps_within_a_terminal() {
        let text = text("-sL 192.0.2.1");
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
        assert!(text.lines().count() > 20, "{text}");
    }
}
