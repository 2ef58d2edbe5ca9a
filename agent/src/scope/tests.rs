//! The scope case by case, and the order in which admission refuses.

use super::*;
use protocol::id::ScanId;
use std::time::Duration;

const SCAN: ScanId = ScanId::from_bytes([1; 16]);

fn listed(entries: &[&str]) -> Scope {
    let coordinator = ["192.0.2.200".parse().unwrap(), "2001:db8::200".parse().unwrap()];
    Scope::listed(entries.iter().map(|entry| entry.parse::<IpNet>().unwrap()), &coordinator)
}

fn typed(entries: &[&str]) -> Scope {
    let mut targets = AddressSet::new();
    for entry in entries {
        targets.insert_net(entry.parse().unwrap());
    }
    Scope::typed(targets)
}

#[test]
fn an_agents_allow_list_opens_guarded_classes_only_by_an_entry_of_their_own() {
    // entries, allowed, not allowed
    let cases: &[(&[&str], &[&str], &[&str])] = &[
        (&[], &[], &["127.0.0.1", "192.0.2.1", "::1", "2001:db8::1"]),
        (&["192.0.2.0/24"], &["192.0.2.0", "192.0.2.255", "::ffff:192.0.2.7"], &["192.0.3.0", "::192.0.2.7"]),
        (
            &["0.0.0.0/0"],
            &["192.0.2.1", "203.0.113.255", "10.0.0.1", "128.0.0.0", "::ffff:192.0.2.1"],
            &[
                "127.0.0.1",
                "127.255.255.255",
                "169.254.0.0",
                "169.254.169.254",
                "224.0.0.1",
                "239.255.255.255",
                "192.0.2.200",
                "::ffff:127.0.0.1",
                "::ffff:169.254.169.254",
                "0.0.0.0",
                "::ffff:0.0.0.0",
                "2001:db8::1",
            ],
        ),
        (
            &["::/0"],
            &["2001:db8::1", "fec0::1"],
            &["::1", "::", "fe80::1", "febf::1", "ff02::1", "2001:db8::200", "192.0.2.1", "::ffff:127.0.0.1"],
        ),
        // What a translator takes for an IPv4 address is guarded as that is.
        (
            &["::/0", "64:ff9b::/96"],
            &["64:ff9b::c000:201", "64:ff9b:1::7f00:1"],
            &[
                "64:ff9b::7f00:1",
                "64:ff9b::a9fe:a9fe",
                "64:ff9b::e000:1",
                "64:ff9b::",
                "64:ff9b::ff:ffff",
                "64:ff9b::c000:2c8",
            ],
        ),
        (&["64:ff9b::7f00:0/104"], &["64:ff9b::7f00:1"], &["64:ff9b::a9fe:1", "127.0.0.1"]),
        (&["0.0.0.0/0", "127.0.0.0/8"], &["127.0.0.1", "127.9.9.9"], &["169.254.1.1", "::1"]),
        (&["126.0.0.0/7"], &["126.0.0.1"], &["127.0.0.1"]),
        (&["127.0.0.1/32"], &["127.0.0.1"], &["127.0.0.2"]),
        (&["::ffff:127.0.0.1/128"], &["127.0.0.1"], &["127.0.0.2", "::1"]),
        (&["169.254.0.0/16"], &["169.254.169.254"], &["127.0.0.1"]),
        (&["169.0.0.0/8"], &["169.253.0.1"], &["169.254.0.1"]),
        (&["fe80::/10"], &["fe80::1"], &["fec0::1"]),
        (&["192.0.2.200/32"], &["192.0.2.200"], &["192.0.2.201"]),
        (&["192.0.2.200/31"], &["192.0.2.201"], &["192.0.2.200"]),
        (&["0.0.0.0/32", "::/128"], &[], &["0.0.0.0", "::"]),
    ];
    for (entries, allowed, refused) in cases {
        let scope = listed(entries);
        for address in *allowed {
            assert!(scope.allows(address.parse().unwrap()), "{entries:?} allows {address}");
        }
        for address in *refused {
            assert!(!scope.allows(address.parse().unwrap()), "{entries:?} does not allow {address}");
        }
    }
}

#[test]
fn a_scan_from_here_allows_exactly_what_was_typed() {
    let scope = typed(&["127.0.0.1/32", "192.0.2.0/30", "::1/128"]);
    for address in ["127.0.0.1", "::ffff:127.0.0.1", "192.0.2.3", "::1"] {
        assert!(scope.allows(address.parse().unwrap()), "{address}");
    }
    for address in ["127.0.0.2", "192.0.2.4", "::2", "0.0.0.0", "::"] {
        assert!(!scope.allows(address.parse().unwrap()), "{address}");
    }
    let wide = typed(&["0.0.0.0/0"]);
    assert!(wide.allows("127.0.0.1".parse().unwrap()), "typed is typed");
    assert!(!wide.allows("0.0.0.0".parse().unwrap()), "it would reach this machine by another name");
}

#[test]
fn a_send_is_refused_for_the_first_condition_that_does_not_hold() {
    let scope = typed(&["192.0.2.0/24"]);
    let now = Time::ZERO + Duration::from_secs(100);
    let later = now + Duration::from_nanos(1);
    let orders = |run, excluded: &[&str]| Orders {
        run,
        exclude: excluded.iter().map(|address| address.parse::<IpAddr>().unwrap()).collect(),
        ..Orders::default()
    };
    let cases: &[(&str, Time, Orders, Result<(), Refusal>)] = &[
        ("192.0.2.1", later, orders(Run::Go, &[]), Ok(())),
        ("::ffff:192.0.2.1", later, orders(Run::Go, &[]), Ok(())),
        ("192.0.2.1", now, orders(Run::Go, &[]), Err(Refusal::RightEnded)),
        ("192.0.2.1", Time::ZERO, orders(Run::Go, &[]), Err(Refusal::RightEnded)),
        ("192.0.2.1", later, orders(Run::Pause, &[]), Err(Refusal::Halted)),
        ("192.0.2.1", later, orders(Run::Stop, &[]), Err(Refusal::Halted)),
        ("192.0.2.1", later, orders(Run::Go, &["192.0.2.1"]), Err(Refusal::Excluded)),
        ("::ffff:192.0.2.1", later, orders(Run::Go, &["192.0.2.1"]), Err(Refusal::Excluded)),
        ("192.0.2.1", later, orders(Run::Go, &["::ffff:192.0.2.1"]), Err(Refusal::Excluded)),
        ("192.0.2.2", later, orders(Run::Go, &["192.0.2.1"]), Ok(())),
        ("198.51.100.1", later, orders(Run::Go, &[]), Err(Refusal::OutOfScope)),
        ("198.51.100.1", now, orders(Run::Stop, &["198.51.100.1"]), Err(Refusal::OutOfScope)),
        ("192.0.2.1", now, orders(Run::Stop, &["192.0.2.1"]), Err(Refusal::Excluded)),
    ];
    for (address, right_ends_at, orders, expected) in cases {
        let admitted = decide(&scope, orders, now, SCAN, address.parse().unwrap(), *right_ends_at);
        if let Ok(admitted) = &admitted {
            assert!(admitted.address().is_ipv4(), "{address} is sent to as IPv4");
        }
        assert_eq!(admitted.map(|_| ()), *expected, "{address} {right_ends_at:?} {orders:?}");
    }
}

#[test]
fn orders_hold_from_the_moment_they_are_set() {
    let admission = Admission::new(Clock::Monotonic, Arc::new(typed(&["192.0.2.0/24"])));
    let address = "192.0.2.9".parse().unwrap();
    assert!(admission.admit(SCAN, address, Time::NEVER).is_ok());
    admission.set_orders(Arc::new(Orders { exclude: AddressSet::from(address), ..Orders::default() }));
    assert_eq!(admission.admit(SCAN, address, Time::NEVER), Err(Refusal::Excluded));
    admission.stop();
    assert_eq!(admission.admit(SCAN, address, Time::NEVER), Err(Refusal::Excluded));
    assert_eq!(admission.admit(SCAN, "192.0.2.8".parse().unwrap(), Time::NEVER), Err(Refusal::Halted));
}

#[test]
fn what_holds_for_one_scan_holds_for_no_other() {
    let admission = Admission::new(Clock::Monotonic, Arc::new(typed(&["192.0.2.0/24"])));
    let (nine, eight) = ("192.0.2.9".parse().unwrap(), "192.0.2.8".parse().unwrap());
    let other = ScanId::from_bytes([2; 16]);
    let excluded = ScanOrders { run: Run::Go, exclude: AddressSet::from(nine) };
    let paused = ScanOrders { run: Run::Pause, exclude: AddressSet::new() };
    admission.set_orders(Arc::new(Orders::of_scans([(SCAN, excluded), (other, paused)].into())));
    assert_eq!(admission.admit(SCAN, nine, Time::NEVER), Err(Refusal::Excluded));
    assert!(admission.admit(SCAN, eight, Time::NEVER).is_ok());
    assert_eq!(admission.admit(other, nine, Time::NEVER), Err(Refusal::Halted));
    assert!(admission.admit(ScanId::from_bytes([3; 16]), nine, Time::NEVER).is_ok(), "nothing was ordered of it");
}

#[test]
fn refusals_are_the_causes_of_the_closed_list() {
    assert_eq!(Refusal::OutOfScope.outcome(), Outcome::not_probed(Cause::OutOfScope));
    assert_eq!(Refusal::Excluded.outcome(), Outcome::not_probed(Cause::Excluded));
    assert_eq!(Refusal::RightEnded.outcome(), Outcome::not_probed(Cause::Interrupted));
    assert_eq!(Refusal::Halted.outcome(), Outcome::not_probed(Cause::Interrupted));
}
