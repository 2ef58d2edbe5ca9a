//! The target syntax line by line: what is written, and what it means or which error it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::list::{ListProblem, TargetListParser, parse_target_list};
use super::{AddressClass, TargetItem, WORD_BYTES_MAX, WORD_RANGES_MAX, class_of, parse_targets};
use crate::range_set::AddressSet;

/// The ranges of a word that has no names.
fn ranges(word: &str) -> String {
    match parse_targets(word).as_deref() {
        Ok([TargetItem::Addresses(set)]) => set.to_string(),
        other => panic!("{word}: {other:?}"),
    }
}

fn set_of(items: &[TargetItem]) -> &AddressSet {
    match items {
        [TargetItem::Addresses(set), ..] => set,
        other => panic!("{other:?}"),
    }
}

fn names(items: &[TargetItem]) -> Vec<(&str, Option<u8>)> {
    let name = |item| match item {
        &TargetItem::Name { ref name, prefix } => Some((name.as_str(), prefix)),
        TargetItem::Addresses(_) => None,
    };
    items.iter().filter_map(name).collect()
}

/// Checks the message of a word that is refused: one short line that has the wanted part.
fn refused(word: &str, says: &str) {
    let message = parse_targets(word).map_err(|error| error.to_string()).expect_err(word);
    assert!(message.contains(says), "{word}: {message}");
    assert!(message.lines().count() == 1 && message.chars().count() < 220, "{message}");
    assert!(!message.contains(char::is_control), "{message:?}");
}

#[test]
fn words_mean_what_nmap_says() {
    let cases = [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("192.0.2.40/24", "192.0.2.0-192.0.2.255"),
        ("192.0.2.40/32", "192.0.2.40"),
        ("2001:db8::7/126", "2001:db8::4-2001:db8::7"),
        ("2001:db8::7/128", "2001:db8::7"),
        ("192.0.2.11-192.0.2.14", "192.0.2.11-192.0.2.14"),
        ("2001:db8::1-2001:db8::9", "2001:db8::1-2001:db8::9"),
        ("192.0.2.11-14", "192.0.2.11-192.0.2.14"),
        ("192.0.2-5,7.1", "192.0.2.1,192.0.3.1,192.0.4.1,192.0.5.1,192.0.7.1"),
        ("192.0.2.1,5", "192.0.2.1,192.0.2.5"),
        ("192.0.2.250-", "192.0.2.250-192.0.2.255"),
        ("192.0.2.-3", "192.0.2.0-192.0.2.3"),
        ("10.0.0,1,3-4.-", "10.0.0.0-10.0.1.255,10.0.3.0-10.0.4.255"),
        ("10.1-2.*.*", "10.1.0.0-10.2.255.255"),
        ("*.*.*.*", "0.0.0.0-255.255.255.255"),
        ("0-255.-.0-.-255", "0.0.0.0-255.255.255.255"),
        ("192.0.2.1,192.0.2.9", "192.0.2.1,192.0.2.9"),
        ("192.0.2.0/30,192.0.2.4-192.0.2.5,192.0.2.6-7,::1", "192.0.2.0-192.0.2.7,::1"),
        ("192.0.2.1,192.0.2.1", "192.0.2.1"),
    ];
    for (word, expected) in cases {
        assert_eq!(ranges(word), expected, "{word}");
    }
}

#[test]
fn what_is_no_address_is_a_name() {
    let cases = [
        ("localhost", "localhost", None),
        ("Host.Example", "host.example", None),
        ("scanme.example/16", "scanme.example", Some(16)),
        ("v6.example/120", "v6.example", Some(120)),
        ("a-b.example", "a-b.example", None),
        ("192.0.2.1-host.example", "192.0.2.1-host.example", None),
        ("12345.example", "12345.example", None),
        ("1e100.example.", "1e100.example.", None),
        ("_dmarc.example", "_dmarc.example", None),
        ("deadbeef", "deadbeef", None),
    ];
    for (word, name, prefix) in cases {
        let items = parse_targets(word).expect(word);
        assert_eq!(names(&items), [(name, prefix)], "{word}");
        assert_eq!(items.len(), 1);
    }
    let items = parse_targets("b.example,192.0.2.1,a.example/30,192.0.2.2").expect("a list");
    assert_eq!(set_of(&items).to_string(), "192.0.2.1-192.0.2.2");
    assert_eq!(names(&items), [("b.example", None), ("a.example", Some(30))]);
}

#[test]
fn names_that_cannot_be_are_refused() {
    let long_label = format!("{}.example", "a".repeat(64));
    let long_name = format!("{}example", "a.".repeat(124));
    for word in ["a..b", ".a", "-a.example", "a-.example", "a b", "a@b", "a*", "a.example..", &long_label, &long_name] {
        refused(word, "neither an address nor a name");
    }
    refused("b\u{fc}cher.example", "xn--");
    refused("\u{430}pple.example", "xn--");
    refused("https://host.example/", "URL");
    refused("host.example:80", "a target has no port");
    refused("192.0.2.1:80", "a target has no port");
    refused("[2001:db8::1]:80", "without brackets");
    refused("host.example/129", "use /0 to /128");
}

#[test]
fn bad_input_74_prefixes() {
    refused("10.0.0.0/33", "/33 is longer than an IPv4 address: use /0 to /32");
    refused("10.0.0.0/4294967295", "/4294967295 is longer");
    refused("2001:db8::/129", "/129 is longer than an IPv6 address: use /0 to /128");
    for word in [
        "10.0.0.0/-1",
        "10.0.0.0/",
        "10.0.0.0/24/24",
        "10.0.0.0/+8",
        "10.0.0.0/08",
        "10.0.0.0/255.0.0.0",
        "10.0.0.0/99999999999",
    ] {
        refused(word, "not a prefix length: use /0 to /32");
    }
    refused("2001:db8::/-1", "not a prefix length: use /0 to /128");
    refused("10.0.0.1-10.0.0.9/24", "a range takes no /prefix");
    refused("10.0.0.1-9/24", "a range takes no /prefix");
    refused("2001:db8::1-2001:db8::9/64", "a range takes no /prefix");
    refused("10.0.0.300/24", "at most 255");
    assert_eq!(ranges("1.2.3.4/0"), "0.0.0.0-255.255.255.255");
    assert_eq!(ranges("2001:db8::/0").matches('-').count(), 2, "all of IPv6 but the mapped block");
}

#[test]
fn bad_input_75_numbers_that_are_no_address() {
    for word in [
        "0x7f.1",
        "127.1",
        "2130706433",
        "1.2.3",
        "0x7f000001",
        "0x7f.0.0.1",
        "1.2.3.4.5",
        "foo.7",
        "192.0.2.1-host",
        "017700000001",
        "127.1/8",
        "1.2.3.4a",
    ] {
        refused(word, "four decimal octets, as in 192.0.2.1");
    }
    refused("0177.0.0.1", "leading zero");
    refused("192.0.2.01", "leading zero");
    refused("192.0.2.00", "leading zero");
    refused("192.0.2.1-010", "leading zero");
    refused("192.0.2.010/24", "leading zero");
    refused("192.0.2.1,0x7f.1", "\"0x7f.1\": ");
}

#[test]
fn bad_input_76_spellings_of_ipv6() {
    assert_eq!(ranges("::ffff:127.0.0.1"), "127.0.0.1");
    assert_eq!(ranges("::ffff:7f00:1"), "127.0.0.1");
    assert_eq!(ranges("::ffff:192.0.2.0/120"), "192.0.2.0-192.0.2.255");
    assert_eq!(ranges("::ffff:192.0.2.1-::ffff:192.0.2.4"), "192.0.2.1-192.0.2.4");
    assert_eq!(ranges("64:ff9b::7f00:1"), "64:ff9b::7f00:1");
    let class = |text: &str| class_of(text.parse().expect("an address"));
    assert_eq!(class("::ffff:127.0.0.1"), Some(AddressClass::Loopback));
    assert_eq!(class("64:ff9b::7f00:1"), Some(AddressClass::Loopback));
    assert_eq!(class("::"), Some(AddressClass::Unspecified));
    assert_eq!(ranges("::"), "::");
    refused("fe80::1%eth0", "zones (%interface) are not supported yet");
    refused("fe80::1%1/64", "zones");
    refused("2001:db8::1-9", "IPv6 has no octet ranges");
    refused("2001:db8::1-192.0.2.1", "not of the same IP version");
    refused("2001:db8::9-2001:db8::1", "write the lower address first");
    refused("2001:db8:::1", "not an IPv6 address");
    refused("2001:db8", "not an IPv6 address");
    refused(":", "not an IPv6 address");
}

#[test]
fn bad_input_77_words() {
    refused("10.0.0.5-1", "5-1 is reversed");
    refused("10.0.0.9-10.0.0.1", "write the lower address first");
    refused("-", "neither an address nor a name");
    refused("", "a target is empty");
    refused("192.0.2.1,,192.0.2.2", "a target is empty");
    refused("192.0.2.1,host.example,", "a target is empty");
    refused("192.0.2.1,", "is not an octet");
    refused("192.0..1", "is not an octet");
    refused("192.0.2.1-2-3", "is not an octet");
    refused("192.0.2.256", "at most 255");
    refused("192.0.2.99999999999999999999", "at most 255");
    refused("\u{661}\u{660}.0.0.1", "digits 0 to 9");
    refused("\u{feff}192.0.2.1", "only ASCII");
    refused("192.0.2.1\0", "neither an address nor a name");
    refused("192.0.2.1\r", "\\r");
    refused(&"1".repeat(1 << 20), "longer than 65536");
    refused(&"\x1b".repeat(WORD_BYTES_MAX), "neither an address nor a name");
    refused(&".".repeat(WORD_BYTES_MAX), "neither an address nor a name");
}

#[test]
fn bad_input_77_octets_are_not_spelled_out() {
    for word in ["0-255.0-255.-.1", "-.-.-.1-254", "10.*.*.1,3"] {
        refused(word, "more than 65536 separate ranges");
    }
    let fits = parse_targets("10.-.-.1").expect("65,536 ranges");
    assert_eq!(set_of(&fits).range_count(), WORD_RANGES_MAX);
    // The bound is the word's, so a list does not multiply it.
    refused("10.-.-.1,host.example,10.0.0.1-2", "more than 65536");
}

#[test]
fn bad_input_77_lists() {
    let list = b"\xef\xbb\xbf192.0.2.1 192.0.2.2\t192.0.2.3\r\n# a comment, 10.0.0.0/8\r\n\n192.0.2.4#10.0.0.1\n  Host.example\nhost.example";
    let items = parse_target_list(list).expect("a list");
    assert_eq!(set_of(&items).to_string(), "192.0.2.1-192.0.2.4");
    assert_eq!(names(&items), [("host.example", None)]);
    for empty in [&b""[..], b"\n\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf# only a comment", b"#", b" \t\r\n"] {
        assert_eq!(parse_target_list(empty), Ok(vec![]), "{empty:?}");
    }
    let utf16: Vec<u8> = "\u{feff}192.0.2.1\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let bare: Vec<u8> = "192.0.2.1\n".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let mut long = b"192.0.2.1\n".to_vec();
    long.resize(1 << 20, b'1');
    let cases: [(&[u8], &str); 8] = [
        (&utf16, "line 1: the file is UTF-16: save it as UTF-8"),
        (b"\xfe\xff\0h", "line 1: the file is UTF-16: save it as UTF-8"),
        (&bare, "line 1: the file has NUL bytes"),
        (&long, "line 2: more than 65536 bytes without a space"),
        (b"# \xe4 is fine here\nb\xfccher.example", "line 2: a word is not UTF-8"),
        (b"\n\r\n\n10.0.0.0/33", "line 4: \"10.0.0.0/33\": /33 is longer"),
        (b"192.0.2.1\n0x7f.1\n", "line 2: \"0x7f.1\": "),
        (b"192.0.2.1\n\xef\xbb\xbf192.0.2.2", "line 2: \"\\u{feff}192.0.2.2\": only ASCII"),
    ];
    for (list, says) in cases {
        let message = parse_target_list(list).expect_err(says).to_string();
        assert!(message.starts_with(says), "{message}");
        assert!(message.len() < 250 && message.lines().count() == 1, "{message}");
    }
}

#[test]
fn bad_input_77_ten_million_lines_stream() {
    // The ends of a /22 over and over: what is kept are its ranges, whatever the length.
    let mut block = Vec::new();
    for i in 0..1000u32 {
        block.extend_from_slice(format!("10.0.{}.{}\n", i % 4, i % 250).as_bytes());
    }
    let mut parser = TargetListParser::new();
    for _ in 0..10_000 {
        parser.feed(&block).expect("lines");
    }
    let error = parser.clone().feed(b"x y 0x7f.1\n").expect_err("a bad line");
    assert_eq!(error.line, 10_000_001);
    let items = parser.finish().expect("a list");
    assert!(set_of(&items).range_count() <= 1000);
    assert_eq!(set_of(&items).len(), 500);
}

#[test]
fn bad_input_77_what_a_list_may_keep_is_bounded() {
    let mut parser = TargetListParser::with_bounds(3, 2);
    parser.feed(b"10.0.0.0-5 10.0.0.6 10.0.1.1 10.0.2.1\n").expect("three ranges");
    let error = parser.feed(b"10.0.3.1\n").expect_err("a fourth");
    assert_eq!((error.line, error.problem), (2, ListProblem::TooManyRanges));
    let mut parser = TargetListParser::with_bounds(3, 2);
    parser.feed(b"a b a b A\n").expect("two names");
    let error = parser.feed(b"c\n").expect_err("a third");
    assert_eq!(error.problem, ListProblem::TooManyNames);
}

/// The naive meaning of four octets.
fn spelled_out(octets: &[Vec<(u8, u8)>; 4]) -> AddressSet {
    let holds = |octet: usize, value: u8| octets[octet].iter().any(|&(low, high)| (low..=high).contains(&value));
    let values = |octet: usize| (0..=255u8).filter(move |&value| holds(octet, value));
    let mut set = AddressSet::new();
    for a in values(0) {
        for b in values(1) {
            for c in values(2) {
                for d in values(3) {
                    set.insert(Ipv4Addr::new(a, b, c, d).into());
                }
            }
        }
    }
    set
}

fn octet(width: u8) -> impl Strategy<Value = Vec<(u8, u8)>> {
    let range = (0..=255u8, 0..=width).prop_map(|(low, more)| (low, low.saturating_add(more)));
    prop::collection::vec(range, 1..3)
}

fn write_octets(octets: &[Vec<(u8, u8)>; 4]) -> String {
    let range = |&(low, high): &(u8, u8)| match (low, high) {
        (0, 255) => "-".to_owned(),
        _ if low == high => low.to_string(),
        (0, _) => format!("-{high}"),
        (_, 255) => format!("{low}-"),
        _ => format!("{low}-{high}"),
    };
    let octet = |octet: &Vec<_>| octet.iter().map(range).collect::<Vec<_>>().join(",");
    octets.iter().map(octet).collect::<Vec<_>>().join(".")
}

proptest! {
    #[test]
    fn octets_are_their_product(a in octet(1), b in octet(2), c in octet(3), d in octet(4), whole in any::<bool>()) {
        let mut octets = [a, b, c, d];
        if whole {
            octets[3] = vec![(0, 255)];
        }
        let word = write_octets(&octets);
        let items = parse_targets(&word).expect("octets");
        prop_assert_eq!(set_of(&items), &spelled_out(&octets), "{}", word);
    }

    #[test]
    fn a_set_reads_back_from_its_text(v4 in prop::collection::vec(any::<(u32, u16)>(), 0..5), v6 in prop::collection::vec(any::<(u128, u16)>(), 1..5)) {
        let mut set = AddressSet::new();
        for (low, more) in v4 {
            let high = low.saturating_add(more.into());
            set.insert_range(IpAddr::V4(low.into()), IpAddr::V4(high.into())).expect("a range");
        }
        for (low, more) in v6 {
            let high = low.saturating_add(more.into());
            set.insert_range(IpAddr::V6(Ipv6Addr::from_bits(low)), IpAddr::V6(high.into())).expect("a range");
        }
        prop_assert_eq!(parse_targets(&set.to_string()).expect("its own text"), vec![TargetItem::Addresses(set)]);
    }

    #[test]
    fn any_text_is_read_or_refused_in_one_line(text in ".{0,80}", dotted in "[-0-9.,*/:a%]{0,24}") {
        for word in [text, dotted] {
            match parse_targets(&word) {
                Ok(items) => prop_assert!(!items.is_empty()),
                Err(error) => prop_assert!(!error.to_string().contains(char::is_control)),
            }
        }
    }

    #[test]
    fn a_list_reads_the_same_however_it_is_cut(text in "([0-9]{1,3}|[a-c#. \\t\\r\\n/]|192\\.0\\.2\\.1){0,40}", cut in any::<prop::sample::Index>()) {
        let bytes = text.as_bytes();
        let cut = cut.index(bytes.len() + 1);
        let mut parser = TargetListParser::new();
        let in_parts = parser.feed(&bytes[..cut]).and_then(|()| parser.feed(&bytes[cut..])).and_then(|()| parser.finish());
        prop_assert_eq!(in_parts, parse_target_list(bytes));
    }
}
