//! The law of a host's window, its rate, who is woken when, and what is forgotten.

use super::*;
use std::net::Ipv4Addr;

const TRY: Why = Why::Try { again: false };
const PLAIN: Limits = Limits { window: 128, rate: None, law: false };

fn at(millis: u64) -> Time {
    Time::from_nanos(millis * 1_000_000)
}

fn host(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0xc000_0200 + number))
}

fn target(number: u32) -> Target {
    Target { address: host(number), slot: Slot::Tcp(80) }
}

fn back(number: u32, outcome: Outcome, rtt: Option<Duration>, overdue: bool) -> Back {
    Back { target: target(number), outcome, rtt, overdue, why: TRY, sent_at: at(0) }
}

/// Takes as much as there is.
fn take_all(table: &mut HostTable, limits: Limits) -> u32 {
    (0..10_000).take_while(|_| table.take(at(0), host(1), limits, 1) == Room::Taken).count() as u32
}

fn settle(table: &mut HostTable, count: u32, outcome: Outcome) {
    for _ in 0..count {
        table.settled(at(0), back(1, outcome, None, false));
    }
}

#[test]
fn h1_a_host_that_never_answered_doubles_its_window_when_a_whole_one_timed_out() {
    let mut table = HostTable::default();
    for window in [128, 256, 512, 1_024, 1_024] {
        assert_eq!(take_all(&mut table, PLAIN), window);
        assert_eq!(table.in_flight(host(1)), window);
        settle(&mut table, window - 1, Outcome::FILTERED);
        assert_eq!(take_all(&mut table, PLAIN), window - 1, "not before the whole window timed out");
        settle(&mut table, 1, Outcome::FILTERED);
        settle(&mut table, window - 1, Outcome::not_probed(protocol::probe::Cause::LocalLimit));
    }
}

#[test]
fn h1_an_answer_takes_the_window_back_and_keeps_it() {
    let mut table = HostTable::default();
    for window in [128, 256] {
        assert_eq!(take_all(&mut table, PLAIN), window);
        settle(&mut table, window, Outcome::FILTERED);
    }
    assert_eq!(take_all(&mut table, PLAIN), 512);
    settle(&mut table, 1, Outcome::CLOSED);
    assert_eq!(take_all(&mut table, PLAIN), 0, "more is in flight than it may have now");
    settle(&mut table, 511, Outcome::FILTERED);
    for _ in 0..4 {
        assert_eq!(take_all(&mut table, PLAIN), 128);
        settle(&mut table, 128, Outcome::FILTERED);
    }
}

#[test]
fn h1_a_window_that_was_asked_for_is_kept_even_beyond_the_largest() {
    for window in [1, 3, 5_000] {
        let mut table = HostTable::default();
        assert_eq!(take_all(&mut table, Limits { window, rate: None, law: false }), window);
    }
}

#[test]
fn h2_h3_a_rate_is_kept_and_what_waits_is_woken_in_time() {
    let mut table = HostTable::default();
    let limits = Limits { window: 128, rate: Some(Rate::per_second(10)), law: false };
    assert_eq!(table.take(at(0), host(1), limits, 1), Room::Taken);
    assert_eq!(table.take(at(50), host(1), limits, 1), Room::Wait);
    table.put_aside(at(50), host(1), 1);
    assert_eq!(table.next_at(), Some(at(100)));
    assert_eq!(table.next_woken(at(99)), None);
    assert_eq!(table.next_woken(at(100)), Some(host(1)));
    assert_eq!((table.next_woken(at(100)), table.next_at()), (None, None));
    assert_eq!(table.room(at(100), host(1), 1), 1);
    table.take_back(host(1), 1);
    assert_eq!(table.take(at(100), host(1), limits, 1), Room::Taken);
    assert_eq!(table.take(at(100), host(2), limits, 1), Room::Taken, "another host has its own");
}

#[test]
fn h3_what_waits_for_the_window_is_woken_by_what_settles() {
    let mut table = HostTable::default();
    let limits = Limits { window: 2, rate: None, law: false };
    assert_eq!(take_all(&mut table, limits), 2);
    table.put_aside(at(0), host(1), 1);
    assert_eq!((table.next_woken(at(0)), table.next_at()), (None, None));
    settle(&mut table, 2, Outcome::FILTERED);
    assert_eq!(table.next_woken(at(0)), Some(host(1)), "once, however many settled");
    assert_eq!(table.next_woken(at(0)), None);
    assert_eq!(table.room(at(0), host(1), 1), 4);
    table.wake_all();
    assert_eq!(table.next_woken(at(0)), Some(host(1)));
    table.take_back(host(1), 1);
    table.wake_all();
    assert_eq!(table.next_woken(at(0)), None, "nothing waits any more");
}

#[test]
fn h4_idle_hosts_are_forgotten_and_a_full_table_says_so() {
    let mut table = HostTable::default();
    for number in 0..200_000 {
        assert_eq!(table.take(at(0), host(number), PLAIN, 1), Room::Taken);
        table.settled(at(0), back(number, Outcome::CLOSED, None, false));
    }
    assert!(table.len() <= FORGET_FROM, "{} hosts are remembered, and none is in use", table.len());
    // Each was sent something within the second that its rate wants: none may be forgotten.
    let mut table = HostTable::default();
    let limits = Limits { window: 128, rate: Some(Rate::per_second(1)), law: false };
    let taken = (0..100_000).take_while(|&number| table.take(at(0), host(number), limits, 1) == Room::Taken).count();
    assert_eq!((taken, table.len()), (HOSTS_MAX, HOSTS_MAX));
    for number in 0..HOSTS_MAX as u32 {
        table.settled(at(0), back(number, Outcome::CLOSED, None, false));
    }
    assert_eq!(table.next_at(), Some(at(100)));
    assert_eq!(table.take(at(500), host(100_000), limits, 1), Room::TableFull);
    assert_eq!(table.take(at(1_500), host(100_000), limits, 1), Room::Taken);
}

#[test]
fn h5_what_is_overdue_makes_room_once_and_counts_as_timed_out_once() {
    let mut table = HostTable::default();
    assert_eq!(take_all(&mut table, PLAIN), 128);
    for _ in 0..100 {
        table.overdue(at(0), target(1), TRY, at(0));
    }
    assert_eq!((table.in_flight(host(1)), take_all(&mut table, PLAIN)), (28, 100));
    for _ in 0..100 {
        table.settled(at(0), back(1, Outcome::FILTERED, None, true));
    }
    assert_eq!(table.in_flight(host(1)), 128, "none is counted twice");
    for _ in 0..28 {
        table.overdue(at(0), target(1), TRY, at(0));
    }
    assert_eq!(take_all(&mut table, PLAIN), 156, "a whole window timed out");
}

#[test]
fn h5_a_host_waits_as_long_as_its_own_answers_take_and_else_as_long_as_its_neighbours_do() {
    let longest = Duration::from_millis(900);
    let mut table = HostTable::default();
    assert_eq!(table.wait(host(1), longest), Wait::unmeasured(longest), "nothing is measured");
    for number in 1..=3 {
        assert_eq!(table.take(at(0), host(number), PLAIN, 1), Room::Taken);
    }
    let answers = |table: &mut HostTable, number: u32, millis: u64| {
        for _ in 0..30 {
            table.settled(at(0), back(number, Outcome::CLOSED, Some(Duration::from_millis(millis)), false));
        }
    };
    answers(&mut table, 1, 1);
    assert_eq!(table.wait(host(1), longest).overdue, Duration::from_millis(100));
    let guessed = table.wait(host(2), longest);
    assert_eq!((guessed.overdue, guessed.timeout), (Duration::from_millis(100), longest));
    assert_eq!(guessed.least, longest, "it may be farther than its neighbours");
    for _ in 0..FIRST {
        table.take(at(0), host(3), PLAIN, 1);
    }
    for _ in 0..TOLD {
        let wait = table.wait(host(3), longest);
        assert_eq!((wait.least, wait.timeout), (Duration::from_millis(150), longest));
        table.settled(at(0), back(3, Outcome::FILTERED, None, true));
    }
    assert_eq!(table.wait(host(3), longest).timeout, Duration::from_millis(200), "the first would have told");
    answers(&mut table, 2, 400);
    assert!(table.wait(host(2), longest).overdue > Duration::from_millis(400));
    assert_eq!(table.wait(host(1), longest).overdue, Duration::from_millis(100), "each has its own");
    assert!(table.wait(host(3), longest).overdue > Duration::from_millis(400), "neighbours differ");
    assert_eq!(table.wait(host(300), longest), Wait::unmeasured(longest), "another /24");
    table.settled(at(0), back(3, Outcome::FILTERED, Some(Duration::from_millis(1)), false));
    assert!(
        table.wait(host(3), longest).overdue > Duration::from_millis(400),
        "a router's word is no round trip of a host"
    );
}

const LAWFUL: Limits = Limits { window: 1_024, rate: None, law: true };

#[test]
fn h6_every_64th_try_is_in_the_sample_and_a_silent_one_is_repeated_until_it_answers() {
    let mut table = HostTable::default();
    assert_eq!(take_all(&mut table, LAWFUL), 1_024);
    let answers =
        |table: &mut HostTable, why| table.settled(at(0), Back { why, ..back(1, Outcome::CLOSED, None, false) });
    for _ in 0..SAMPLED {
        assert_eq!(answers(&mut table, TRY), None);
    }
    assert_eq!(table.take_checked(), Checks { answered: 1, ..Checks::default() });
    let asked: Vec<_> = (0..SAMPLED).filter_map(|_| table.overdue(at(0), target(1), TRY, at(0))).collect();
    let repeats: Vec<_> = asked.iter().filter(|again| again.why != Why::Check).collect();
    assert_eq!(repeats, [&Again { target: target(1), why: Why::Repeat(1) }], "one of 64");
    let later = (0..SAMPLED).filter_map(|_| table.overdue(at(0), target(1), Why::Try { again: true }, at(0)));
    assert!(later.into_iter().all(|again| again.why == Why::Check), "it was silent before");
    let again = table.overdue(at(0), target(1), Why::Repeat(1), at(0));
    assert_eq!(again, Some(Again { target: target(1), why: Why::Repeat(2) }), "it may be lost like the try");
    assert_eq!(answers(&mut table, Why::Repeat(2)), None);
    assert_eq!(table.take_checked(), Checks::default(), "the try is listened for still");
    table.settled(at(0), back(1, Outcome::FILTERED, None, true));
    assert_eq!(table.take_checked(), Checks { lost: 1, ..Checks::default() }, "the try was lost");
    assert_eq!(table.overdue(at(0), target(1), Why::Repeat(3), at(0)), None, "nobody is there: it says nothing");
    assert_eq!(table.take_checked(), Checks::default());
}

#[test]
fn h6_an_answer_that_comes_late_was_not_lost_whether_the_repeat_is_answered_before_or_after() {
    let late = back(1, Outcome::CLOSED, None, true);
    let repeat = Back { why: Why::Repeat(1), ..back(1, Outcome::CLOSED, None, false) };
    for (first, second) in [(late, repeat), (repeat, late)] {
        let mut table = HostTable::default();
        assert_eq!(take_all(&mut table, LAWFUL), 1_024);
        settle(&mut table, 1, Outcome::CLOSED);
        let overdue = (1..SAMPLED).filter_map(|_| table.overdue(at(0), target(1), TRY, at(0)));
        assert!(overdue.into_iter().any(|again| again.why == Why::Repeat(1)), "one of 64");
        table.settled(at(0), first);
        table.settled(at(0), second);
        let checked = table.take_checked();
        assert_eq!((checked.answered, checked.lost), (1, 0), "{first:?}, then {second:?}");
    }
}

#[test]
fn h7_a_host_that_met_its_limit_is_paced_and_what_waits_for_it_is_woken_in_time() {
    let mut table = HostTable::default();
    let (mut level, mut came, mut flying, mut paced) = (10.0_f64, 0, std::collections::VecDeque::new(), false);
    // A host that answers 100 a second after a millisecond, or never: for eight seconds.
    for now in 0..8_000_u64 {
        level = (level + 0.1).min(10.0);
        while let Some(&(due, answered, why, sent_at)) = flying.front()
            && due <= now
        {
            flying.pop_front();
            let again = match answered {
                true => table.settled(
                    at(now),
                    Back { why, sent_at, ..back(1, Outcome::CLOSED, Some(Duration::from_millis(1)), false) },
                ),
                false => table.overdue(at(now), target(1), why, sent_at),
            };
            if let Some(again) = again
                && table.take_check(at(now), host(1), LAWFUL, 1) == Room::Taken
            {
                flying.push_back((now + 100, false, again.why, at(now)));
            }
        }
        while table.take(at(now), host(1), LAWFUL, 1) == Room::Taken {
            let answered = level >= 1.0;
            level -= f64::from(u8::from(answered));
            came += u32::from(now >= 4_000);
            flying.push_back((now + if answered { 1 } else { 100 }, answered, TRY, at(now)));
            flying.make_contiguous().sort_by_key(|(due, ..)| *due);
        }
        if now == 7_999 {
            table.put_aside(at(now), host(1), 1);
            paced = table.next_at().is_some_and(|due| due > at(now) && due < at(now + 100));
        }
    }
    assert!((200..1_200).contains(&came), "{came} tries in four seconds of a host that answers 100 a second");
    assert!(paced, "what waits is due at {:?}", table.next_at());
}
