//! Bad inputs of a command line, by their numbers: refused in one line, or handled.

use super::*;
use std::cell::Cell;

#[test]
fn bad_input_74_prefix_lengths() {
    for target in ["10.0.0.0/33", "10.0.0.0/-1", "/-1", "192.0.2.1/", "2001:db8::/129", "::/-1"] {
        let said = refused(&format!("-ip {target}"));
        assert!(said.starts_with("target \""), "{target}: {said}");
        assert!(refused(&format!("192.0.2.1 --exclude {target}")).starts_with("--exclude \""), "{target}");
    }
    let whole = scan("1.2.3.4/0 -p 1");
    assert!(whole.size().needs_yes() && whole.size().addresses > 1 << 31, "{}", whole.size());
}

#[test]
fn bad_input_75_numbers_that_other_programs_read_as_addresses() {
    for target in ["0x7f.1", "0177.0.0.1", "127.1", "2130706433", "0x7f000001", "127.0.1"] {
        let said = refused(target);
        assert!(said.contains("decimal"), "{target}: {said}");
        assert!(refused(&format!("192.0.2.1 --exclude {target}")).starts_with("--exclude \""), "{target}");
    }
}

#[test]
fn bad_input_76_spellings_of_ipv6() {
    // The mapped address is the IPv4 address, so that an exclusion of one holds for the other.
    assert_eq!(scan("::ffff:127.0.0.1").targets().to_string(), "127.0.0.1");
    assert!(refused("::ffff:127.0.0.1 --exclude 127.0.0.0/8").contains("exclusions cover every target"));
    assert!(refused("127.0.0.1 --exclude ::ffff:127.0.0.1").contains("exclusions cover every target"));
    // Behind NAT64 it is another way to the same: what was typed is what is meant.
    assert_eq!(scan("64:ff9b::7f00:1").targets().to_string(), "64:ff9b::7f00:1");
    assert!(refused("fe80::1%eth0").contains("zones"));
    assert!(refused("::").contains("is no host's address"));
    assert!(refused("::ffff:0.0.0.0").contains("is no host's address"));
}

#[test]
fn bad_input_77_targets_that_are_none() {
    for target in ["10.0.0.5-1", "-ip -", "''", "-ip ''", "none.example", "192.0.2.1\u{1b}[2J", "\u{feff}192.0.2.1"] {
        refused(target);
    }
    assert!(refused("").starts_with("nothing to scan"));
    refused(&"x".repeat(1 << 20));
    refused(&format!("--{}", "x".repeat(1 << 20)));
}

#[test]
fn bad_input_77_lists_of_any_length_and_coding() {
    let list = |text: &[u8]| {
        let words = ["-iL", "-", "-p", "1"].map(OsString::from);
        match parse(words, &home(), &mut Cursor::new(text.to_vec()), &Names) {
            Ok(Invocation::Scan(request)) => Ok(request.targets().to_string()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    };
    assert_eq!(list(b"\xef\xbb\xbf192.0.2.1\r\n192.0.2.2\r\n").unwrap(), "192.0.2.1-192.0.2.2", "BOM and CRLF");
    let utf16: Vec<u8> = "\u{feff}192.0.2.1\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(list(&utf16).unwrap_err(), "-iL \"-\", line 1: the file is UTF-16: save it as UTF-8");
    let bare: Vec<u8> = "192.0.2.1\n".encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert!(list(&bare).unwrap_err().contains("NUL bytes"));
    assert!(list(&b"1".repeat(1 << 20)).unwrap_err().contains("line 1: more than 65536 bytes"));
    assert!(list(b"").unwrap_err().starts_with("nothing to scan"));
}

#[test]
fn bad_input_77_ten_million_lines_are_read_and_not_kept() {
    /// The same line again and again.
    struct Lines(usize);

    impl Read for Lines {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            const LINE: &[u8] = b"192.0.2.1\n";
            let lines = (buffer.len() / LINE.len()).min(self.0);
            for place in buffer[..lines * LINE.len()].chunks_mut(LINE.len()) {
                place.copy_from_slice(LINE);
            }
            self.0 -= lines;
            Ok(lines * LINE.len())
        }
    }

    let words = ["-iL", "-", "-p", "1"].map(OsString::from);
    let invocation = parse(words, &home(), &mut Lines(10_000_000), &Names);
    let Ok(Invocation::Scan(request)) = invocation else { panic!("{invocation:?}") };
    assert_eq!(request.targets().to_string(), "192.0.2.1");
    assert_eq!(request.typed_targets(), ["-iL -"]);
}

#[test]
fn bad_input_78_ports_that_are_none() {
    for ports in ["65536", "80-79", "٨٠", "''", "22,,80", "+22", "-1-5", "--timeout"] {
        assert!(refused(&format!("-p {ports} 192.0.2.1")).starts_with("-p \""), "{ports}");
        assert!(refused(&format!("--exclude-ports {ports} 192.0.2.1")).starts_with("--exclude-ports \""), "{ports}");
    }
    assert_eq!(scan("-p 1-65535,1-65535 192.0.2.1").ports().len(), 65_535);
    assert_eq!(scan("-p 0 192.0.2.1").ports().to_string(), "0", "only because it was named");
}

#[test]
fn bad_input_79_a_size_that_nobody_can_mean() {
    for line in ["::/0 -p-", "::/0 -p 1-65535", "::/0 -sn", "::/1 -p 0-65535"] {
        assert!(refused(line).contains("are more than a scan can have"), "{line}: {}", refused(line));
    }
    assert!(refused("2001:db8::/64").contains("18,446,744,073,709,551,616 addresses"));
    assert!(!scan("10.0.0.0/8 -p 1 -Pn").size().needs_yes(), "2^24 addresses are the most");
    assert!(scan("10.0.0.0/7 -p 1 -Pn").size().needs_yes());
}

/// Answers once with an address outside, and from then on with one inside.
struct Rebinding(Cell<usize>);

impl LookUp for Rebinding {
    fn look_up(&self, _: &str) -> Result<Vec<IpAddr>, NameError> {
        self.0.set(self.0.get() + 1);
        let address = if self.0.get() == 1 { "192.0.2.80" } else { "127.0.0.1" };
        Ok(vec![address.parse().unwrap()])
    }
}

#[test]
fn bad_input_80_a_name_that_changes_between_checks_is_looked_up_once() {
    let names = Rebinding(Cell::new(0));
    let words = ["-p", "1", "www.example"].map(OsString::from);
    let invocation = parse(words, &home(), &mut Cursor::new(""), &names);
    let Ok(Invocation::Scan(request)) = invocation else { panic!("{invocation:?}") };
    assert_eq!((request.targets().to_string().as_str(), names.0.get()), ("192.0.2.80", 1));
}

/// Every name has one address, or ten thousand.
struct All(&'static str, u32);

impl LookUp for All {
    fn look_up(&self, _: &str) -> Result<Vec<IpAddr>, NameError> {
        let first = self.0.parse().unwrap();
        let further = (1..self.1).map(|number| IpAddr::V4((0xc000_0200 + number).into()));
        Ok(std::iter::once(first).chain(further).collect())
    }
}

#[test]
fn bad_input_80_names_that_lead_inside_are_refused_and_others_are_what_they_say() {
    let typed = |names: &dyn LookUp, line: &str| {
        let words = line.split(' ').map(OsString::from);
        match parse(words, &home(), &mut Cursor::new(""), names) {
            Ok(Invocation::Scan(request)) => Ok(request.targets().to_string()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    };
    for inside in ["127.0.0.1", "169.254.169.254", "::1", "fe80::1"] {
        let said = typed(&All(inside, 1), "evil.example").unwrap_err();
        assert!(said.contains(&format!("stands for {inside}, which is")), "{said}");
        let said = typed(&All(inside, 1), "192.0.2.1 evil.example.").unwrap_err();
        assert!(said.contains("if you mean that, write the address"), "with a dot at its end: {said}");
    }
    assert!(typed(&All("192.0.2.9", 10_000), "many.example").unwrap_err().contains("more than 64 addresses"));
    assert_eq!(typed(&All("192.0.2.9", 1), "www.example.").unwrap(), "192.0.2.9");
    // Whoever sees a name must see which one it is: only ASCII, so no letter that looks like another.
    assert!(typed(&All("192.0.2.9", 1), "b\u{fc}cher.example").unwrap_err().contains("only ASCII"));
    assert!(typed(&All("192.0.2.9", 1), "ex\u{430}mple.com").unwrap_err().contains("xn-- form"));
    assert_eq!(typed(&All("192.0.2.9", 1), "xn--bcher-kva.example").unwrap(), "192.0.2.9");
    assert!(typed(&All("127.0.0.1", 1), "localhost").is_ok(), "this one is meant");
}
