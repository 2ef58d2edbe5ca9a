//! Port lists line by line, the set against a naive model, and the selection of ports as a whole.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_bytes::ByteBuf;

use super::table::{self, lines};
use super::{
    DEFAULT_PORTS, FAST_PORTS, PORTS_BYTES_MAX, PortSet, TopPortsError, default_ports, fast_ports, parse_ports,
    service_name, top_ports,
};
use crate::codec::{decode, encode};

fn read(text: &str) -> String {
    parse_ports(text).expect(text).to_string()
}

/// Checks the message of a list that is refused: one short line that has the wanted part.
fn refused(text: &str, says: &str) {
    let message = parse_ports(text).map_err(|error| error.to_string()).expect_err(text);
    assert!(message.contains(says), "{text}: {message}");
    assert!(message.lines().count() == 1 && message.chars().count() < 220, "{message}");
}

#[test]
fn lists_mean_what_nmap_says() {
    let cases = [
        ("22", "22"),
        ("22,80,443", "22,80,443"),
        ("443,80,22,80", "22,80,443"),
        ("80-90", "80-90"),
        ("80-90,85-100,101", "80-101"),
        ("-", "1-65535"),
        ("-100", "1-100"),
        ("60000-", "60000-65535"),
        ("0", "0"),
        ("0-3", "0-3"),
        ("0,-", "0-65535"),
        ("0080", "80"),
        ("T:21-25,80,T:139", "21-25,80,139"),
        ("t:-", "1-65535"),
        ("22, 80 ,443", "22,80,443"),
        ("ssh", "22"),
        ("SSH,25", "22,25"),
        ("T:ssh", "22"),
        ("[22]", "22"),
        ("T: [22] , 9", "9,22"),
    ];
    for (text, expected) in cases {
        assert_eq!(read(text), expected, "{text}");
    }
}

/// Port 0 is one, as nmap has it, and is only meant where it is named; above 65,535 there is none, however it is spelled.
#[test]
fn bad_input_64_there_is_no_port_65536_and_0_is_one_only_where_it_is_named() {
    for beyond in ["65536", "1-65536", "65536-", "-65536", "99999999999999999999", "-1-5"] {
        assert!(parse_ports(beyond).is_err(), "{beyond}");
    }
    assert!(!read("-").split(',').any(|range| range.starts_with("0")));
    // On the wire a port is two bytes: a third makes it torn, a number is no set.
    let wire = |bytes: &[u8]| decode::<PortSet>(&encode(&ByteBuf::from(bytes)).unwrap());
    assert_eq!(wire(&[0, 0, 0xff, 0xff]).unwrap().len(), 65_536);
    for torn in [&[1][..], &[0, 22], &[0, 1, 0], &[0, 22, 0, 22, 1], &[0xff, 0xff, 0, 0], &[0, 1, 0, 2, 0, 3, 0, 4]] {
        assert!(wire(torn).is_err(), "{torn:?}");
    }
    assert!(decode::<PortSet>(&encode(&65_536_u32).unwrap()).is_err());
    assert!(decode::<PortSet>(&encode(&vec![65_536_u32]).unwrap()).is_err());
}

#[test]
fn names_and_brackets_are_those_of_our_list() {
    let http = parse_ports("http*").expect("names");
    for port in http.iter() {
        let name = service_name(port).expect("listed");
        assert!(name.starts_with("http"), "{name}");
    }
    assert!(http.contains(80) && http.contains(443) && http.len() > 2);
    assert_eq!(parse_ports("htt?"), parse_ports("http"));
    assert_eq!(read("ms-wbt-server"), "3389");
    let listed = default_ports();
    let low = parse_ports("[-1024]").expect("brackets");
    assert_eq!(low, listed.intersect(&PortSet::from_iter([(1u16, 1024)])));
    assert!(low.len() > 100 && low.len() < 1024);
    assert_eq!(parse_ports("[-]"), Ok(listed.clone()));
    assert_eq!(parse_ports("[*]"), Ok(listed.clone()));
    let mixed = parse_ports("[1-100,http*],64999,T:[3306]").expect("brackets");
    assert!(mixed.contains(22) && mixed.contains(64999) && mixed.contains(3306));
    refused("nosuchservice", "no tcp service of our list has this name");
    refused("xyz*", "no tcp service of our list has this name");
    refused("0x50", "no tcp service of our list has this name");
    refused("[0]", "no port of our list lies in these brackets");
    for text in ["[1-100", "1-100]", "[1-10]0", "[[1]]", "8[0]"] {
        refused(text, "the brackets do not match");
    }
}

#[test]
fn bad_input_78_ports() {
    assert_eq!(read("0"), "0", "only because it was named");
    assert!(!parse_ports("-").expect("all").contains(0));
    refused("65536", "above the highest port, 65535");
    refused("1-65536", "above the highest port, 65535");
    refused("99999999999999999999999", "above the highest port, 65535");
    refused("80-79", "80 is above 79: write the lower port first");
    refused("-0", "1 is above 0");
    assert_eq!(read("1-65535,1-65535"), "1-65535");
    assert_eq!(parse_ports("1-65535,1-65535").expect("all").len(), 65535);
    refused("\u{668}\u{660}", "digits 0 to 9");
    refused("\u{ff18}\u{ff10}", "digits 0 to 9");
    refused("", "no ports are given");
    refused("  ", "no ports are given");
    for text in ["80,", ",80", "80,,90", "T:", "T:,80"] {
        refused(text, "an entry between commas is empty");
    }
    for text in ["80-90-100", "--", "1--2"] {
        refused(text, "no port range");
    }
    refused("+80", "no tcp service");
    refused("8 0", "no tcp service");
    refused("80\n90", "no tcp service");
    refused("U:53", "udp ports are not available yet");
    refused("T:80,S:9", "sctp ports are not available yet");
    refused("u:[53]", "udp ports are not available yet");
    refused("X:80", "no such qualifier");
    refused("T:U:53", "udp ports are not available yet");
    refused(&"1,".repeat(PORTS_BYTES_MAX), "write ranges");
    refused(&"*,".repeat(2000), "more than 1000 service names");
    refused(&"[-],".repeat(2000), "more than 1000 service names");
    // The longest lists of the smallest pieces are read quickly.
    let long = "-,".repeat(PORTS_BYTES_MAX / 2 - 1) + "1";
    assert_eq!(read(&long), "1-65535");
    refused(&("*".repeat(PORTS_BYTES_MAX - 1) + "~"), "no tcp service");
}

#[test]
fn every_set_can_be_sent_and_only_its_one_spelling_is_read() {
    let widest: PortSet = (0..=u16::MAX).step_by(2).collect();
    let bytes = encode(&widest).expect("encodes");
    assert_eq!(decode::<PortSet>(&bytes).expect("decodes"), widest);
    let all = PortSet::from_iter([(0u16, u16::MAX)]);
    assert_eq!(all.len(), 65_536);
    assert_eq!(all.nth(65_535), Some(65_535));
    assert_eq!(decode::<PortSet>(&encode(&all).expect("encodes")).expect("decodes"), all);
    let cases: [(&[u8], &str); 6] = [
        (&[0, 80, 0, 79], "below its start"),
        (&[0, 80, 0, 80, 0, 80, 0, 81], "not ascending"),
        (&[0, 80, 0, 80, 0, 81, 0, 81], "not ascending"),
        (&[0, 80, 0, 80, 0, 22, 0, 22], "not ascending"),
        (&[0, 80, 0], "inside a range"),
        (&[0; 4 * 32_769], "more than 32768"),
    ];
    for (bytes, says) in cases {
        let bytes = encode(&ByteBuf::from(bytes)).expect("encodes");
        let error = format!("{:?}", decode::<PortSet>(&bytes).expect_err(says));
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn the_selection_is_a_thousand_ports_each_with_name_source_and_category() {
    let mut ports = BTreeSet::new();
    for line in lines() {
        let columns: Vec<_> = line.split('\t').collect();
        let &[port, service, source, category] = columns.as_slice() else {
            panic!("not four columns: {line}");
        };
        let number: u16 = port.parse().expect(line);
        assert!(number > 0 && port == number.to_string(), "{line}");
        assert!(ports.insert(number), "{port} is there twice");
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        assert!(
            !service.is_empty() && service.bytes().all(plain),
            "a name is lower case letters, digits and dashes: {line}"
        );
        assert!(service.bytes().any(|b| b.is_ascii_lowercase()), "a name of digits would be read as ports: {line}");
        let kinds = ["software default: ", "convention: "];
        assert!(source == "IANA" || kinds.iter().any(|kind| source.starts_with(kind)), "{line}");
        assert!(!category.is_empty(), "{line}");
        assert_eq!(service_name(number), Some(service));
        assert!(parse_ports(service).expect(line).contains(number));
    }
    assert_eq!(ports.len(), DEFAULT_PORTS);
    assert_eq!(default_ports(), ports.into_iter().collect());
}

#[test]
fn top_ports_are_the_first_of_the_selection() {
    let order: Vec<u16> = lines()
        .map(|line| line.split('\t').next().expect("a column"))
        .map(|port| port.parse().expect("a port"))
        .collect();
    for count in [1, 2, 99, 100, 1000] {
        let top = top_ports(count).expect("in range");
        assert_eq!(top, order[..count].iter().copied().collect());
        assert_eq!(top.len() as usize, count);
    }
    assert_eq!(Ok(fast_ports()), top_ports(FAST_PORTS));
    assert_eq!(Ok(default_ports()), top_ports(DEFAULT_PORTS));
    for count in [0, 1001, usize::MAX] {
        assert_eq!(top_ports(count), Err(TopPortsError(count)));
    }
    for port in [22, 80, 443, 3389, 5432] {
        assert!(fast_ports().contains(port), "{port}");
    }
    assert_eq!(service_name(0), None);
    assert_eq!(service_name(22), Some("ssh"));
}

/// The obvious recursive matcher.
fn matches_naively(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|skip| matches_naively(rest, &name[skip..])),
        ([b'?', rest @ ..], [_, name @ ..]) => matches_naively(rest, name),
        ([byte, rest @ ..], [first, name @ ..]) if byte.eq_ignore_ascii_case(first) => matches_naively(rest, name),
        _ => false,
    }
}

/// Ports close together, at both ends and in the middle.
fn port() -> impl Strategy<Value = u16> {
    prop_oneof![0..20u16, 1000..1020u16, u16::MAX - 19..=u16::MAX]
}

proptest! {
    #[test]
    fn a_set_is_its_model(
        left in prop::collection::vec(port(), 0..30),
        right in prop::collection::vec(port(), 0..30),
        probe in port(),
    ) {
        let (set, other): (PortSet, PortSet) =
            (left.iter().copied().collect(), right.iter().copied().collect());
        let (model, other_model): (BTreeSet<u16>, BTreeSet<u16>) =
            (left.into_iter().collect(), right.into_iter().collect());
        prop_assert_eq!(set.len() as usize, model.len());
        prop_assert!(set.iter().eq(model.iter().copied()));
        prop_assert_eq!(set.contains(probe), model.contains(&probe));
        for (position, &port) in model.iter().enumerate() {
            prop_assert_eq!(set.nth(position as u32), Some(port));
            prop_assert_eq!(set.position(port), Some(position as u32));
        }
        prop_assert_eq!(set.nth(set.len()), None);
        prop_assert_eq!(set.position(probe).is_some(), model.contains(&probe));
        prop_assert!(set.union(&other).iter().eq(model.union(&other_model).copied()));
        prop_assert!(set.subtract(&other).iter().eq(model.difference(&other_model).copied()));
        prop_assert!(set.intersect(&other).iter().eq(model.intersection(&other_model).copied()));
        let back: PortSet = decode(&encode(&set).expect("encodes")).expect("decodes");
        prop_assert_eq!(&back, &set);
        if !set.is_empty() {
            prop_assert_eq!(parse_ports(&set.to_string()), Ok(set));
        }
    }

    #[test]
    fn any_text_is_read_or_refused_in_one_line(text in ".{0,60}", dense in "[-0-9,TU:\\[\\]*a]{0,20}") {
        for text in [text, dense] {
            match parse_ports(&text) {
                Ok(ports) => prop_assert!(!ports.is_empty()),
                Err(error) => prop_assert!(!error.to_string().contains(char::is_control)),
            }
        }
    }

    #[test]
    fn wildcards_match_as_the_obvious_matcher_does(pattern in "[ab*?]{0,8}", name in "[abA]{0,8}") {
        let fast = table::matches(pattern.as_bytes(), name.as_bytes());
        prop_assert_eq!(fast, matches_naively(pattern.as_bytes(), name.as_bytes()));
    }
}
