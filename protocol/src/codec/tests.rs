//! Golden frames of version 1, and what must not decode. The golden bytes stand in `testdata/frames-1.txt`, a line each.

use super::*;
use crate::id::{AgentName, Epoch, InstanceId, ScanId};
use crate::message::*;
use crate::plan::{Plan, Slots};
use crate::probe::{Outcome, ProbeKind};
use crate::range_set::{AddressSet, RankedRanges};
use crate::rate::Rate;
use crate::version::SPOKEN;
use proptest::prelude::*;

const GOLDEN: &str = include_str!("../../testdata/frames-1.txt");

fn addresses() -> AddressSet {
    let mut set = AddressSet::new();
    set.insert_net("192.0.2.0/30".parse().unwrap());
    set.insert("2001:db8::1".parse().unwrap());
    set
}

fn from_agents() -> Vec<(&'static str, AgentMessage)> {
    let name = |text: &str| AgentName::try_from(text.to_owned()).unwrap();
    let hello = Hello {
        versions: SPOKEN,
        agent: name("lab-1"),
        instance: InstanceId::new(0x0123_4567_89ab_cdef),
        vantage: name("inside"),
        software: "0.1.0".into(),
        kinds: ProbeKind::ALL.to_vec(),
        ping_method: PingMethod::Icmp,
        allow: addresses(),
        holds: vec![Epoch::new(7), Epoch::new(300)],
        shares: vec![],
        refused: None,
    };
    let report = Report {
        epoch: Epoch::new(7),
        chunk: crate::chunk::encode(&[Outcome::OPEN, Outcome::CLOSED, Outcome::FILTERED]),
        findings: vec![Finding { index: 0, rtt_us: 1_500 }],
        checks: Checks::default(),
        quiet_ms: 0,
    };
    vec![
        ("hello", AgentMessage::Hello(hello)),
        ("claim", AgentMessage::Claim(Claim { number: 1, targets: 100_000, targets_each: 32_768, used: Vec::new() })),
        ("renew", AgentMessage::Renew { number: 2, used: Vec::new(), rtt_us: None }),
        ("report", AgentMessage::Report(report)),
        ("acknowledge", AgentMessage::Acknowledge { scan: ScanId::from_bytes([1; 16]), version: 3 }),
        ("leaving", AgentMessage::Leaving),
    ]
}

fn grant() -> Grant {
    let slots = Slots::new(true, [22, 80, 443].into_iter().collect());
    let plan = Plan::new(RankedRanges::try_from(&addresses()).unwrap(), slots, 42).unwrap();
    Grant {
        epoch: Epoch::new(7),
        scan: ScanId::from_bytes([1; 16]),
        pass: 1,
        cohort: plan.cohort(2).unwrap(),
        lo: 0,
        hi: 4,
        covers: vec![0b1010_0000],
        options: ProbeOptions { per_host_rate: Some(Rate::per_second(10)), ..ProbeOptions::new(900, 8_192) },
    }
}

fn from_coordinators() -> Vec<(&'static str, CoordinatorMessage)> {
    let control = Control {
        scan: ScanId::from_bytes([1; 16]),
        version: 2,
        run: Run::Pause,
        exclude: addresses(),
        share: Some(Rate::per_second(500)),
        per_host_rate: None,
    };
    let welcome = Welcome {
        version: 1,
        ttl_ms: 10_000,
        renew_every_ms: 2_500,
        keep: vec![Epoch::new(7)],
        controls: vec![control.clone()],
    };
    vec![
        ("welcome", CoordinatorMessage::Welcome(welcome)),
        ("refused", CoordinatorMessage::Refused { reason: "a session has one hello".into() }),
        ("grant", CoordinatorMessage::Grant(grant())),
        ("answered", CoordinatorMessage::Answered { number: 1 }),
        ("committed", CoordinatorMessage::Committed { epoch: Epoch::new(7), reply: CommitReply::Gone }),
        ("control", CoordinatorMessage::Control(control)),
        ("give-back", CoordinatorMessage::GiveBack { epoch: Epoch::new(7) }),
        ("finished", CoordinatorMessage::Finished),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let agents = from_agents().into_iter().map(|(name, message)| (name, encode(&message).unwrap()));
    let coordinators = from_coordinators().into_iter().map(|(name, message)| (name, encode(&message).unwrap()));
    agents.chain(coordinators).collect()
}

/// Any difference breaks agents and coordinators that are out there: a new version is due.
#[test]
fn golden_frames_of_version_1() {
    let ours: String = frames().into_iter().map(|(name, bytes)| format!("{name} {}\n", hex(&bytes))).collect();
    assert_eq!(ours, GOLDEN, "the frames are now:\n{ours}");
}

/// What was added since takes no place where it is not said, and whoever does not know it passes over it.
#[test]
fn a_hello_that_says_more_is_one_to_a_peer_that_knows_less() {
    #[derive(serde::Deserialize)]
    struct Before {
        agent: AgentName,
        holds: Vec<Epoch>,
    }
    #[derive(serde::Deserialize)]
    enum MessageBefore {
        Hello(Before),
    }
    let Some((_, AgentMessage::Hello(hello))) = from_agents().into_iter().next() else { panic!("hello is first") };
    let refused =
        crate::message::RefusedGrant { scan: ScanId::from_bytes([1; 16]), epoch: Epoch::new(9), reason: "why".into() };
    let says_more = AgentMessage::Hello(Hello { refused: Some(Box::new(refused)), ..hello.clone() });
    let frame = encode(&says_more).unwrap();
    assert_eq!(decode::<AgentMessage>(&frame).unwrap(), says_more);
    let MessageBefore::Hello(before) = decode(&frame).unwrap();
    assert_eq!((before.agent, before.holds), (hello.agent, hello.holds));
}

#[test]
fn every_message_comes_back() {
    for (name, message) in from_agents() {
        assert_eq!(decode::<AgentMessage>(&encode(&message).unwrap()).unwrap(), message, "{name}");
    }
    for (name, message) in from_coordinators() {
        assert_eq!(decode::<CoordinatorMessage>(&encode(&message).unwrap()).unwrap(), message, "{name}");
    }
}

/// Fields that were added after version 1 went out have defaults: the frames of an older coordinator are understood.
#[test]
fn what_an_older_coordinator_leaves_out_has_its_default() {
    let old = include_str!("../../testdata/frames-1-without-pace.txt");
    for line in old.lines() {
        let (name, hex) = line.split_once(' ').unwrap();
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        match decode(&bytes).unwrap() {
            CoordinatorMessage::Grant(grant) => assert_eq!(grant.options, ProbeOptions::new(900, 8_192), "{name}"),
            CoordinatorMessage::Control(control) => assert_eq!(control.share, None, "{name}"),
            other => panic!("{name} is {other:?}"),
        }
    }
}

fn decodes(bytes: &[u8]) -> bool {
    decode::<AgentMessage>(bytes).is_ok() || decode::<CoordinatorMessage>(bytes).is_ok()
}

#[test]
fn bad_input_42_what_follows_a_message_is_an_error() {
    for (name, bytes) in frames() {
        for surplus in [&[0xc0][..], &[0], &[0; 64]] {
            assert!(!decodes(&[&bytes, surplus].concat()), "{name}");
        }
    }
}

#[test]
fn bad_input_43_two_messages_in_a_frame_are_none() {
    for (first, one) in frames() {
        for (second, other) in frames() {
            assert!(!decodes(&[&one[..], &other].concat()), "{first}, {second}");
        }
    }
}

#[test]
fn bad_input_44_every_truncation_is_an_error() {
    for (name, bytes) in frames() {
        for end in 0..bytes.len() {
            assert!(!decodes(&bytes[..end]), "{name} cut at {end}");
        }
    }
}

#[test]
fn bad_input_45_a_flipped_bit_never_does_harm() {
    for (_, mut bytes) in frames() {
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(CoordinatorMessage::Grant(grant)) = decode(&bytes) {
                assert!(!grant.is_sound() || grant.cohort.targets(grant.lo, grant.hi).count() <= 32_768);
            }
            let _ = decode::<AgentMessage>(&bytes);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

/// Neither as a whole frame, nor in the place of a message's content or of a list in it.
fn assert_refused_everywhere(hostile: &[u8]) {
    assert!(!decodes(hostile));
    for kind in ["Hello", "Claim", "Report", "Welcome", "Grant", "Control"] {
        let head = [&[0x81, 0xa0 | kind.len() as u8][..], kind.as_bytes()].concat();
        assert!(!decodes(&[&head, hostile].concat()), "{kind}");
    }
    for (kind, list) in [("Hello", "holds"), ("Hello", "kinds"), ("Report", "findings"), ("Welcome", "controls")] {
        let head = [&[0x81, 0xa0 | kind.len() as u8][..], kind.as_bytes(), &[0x81, 0xa0 | list.len() as u8]].concat();
        assert!(!decodes(&[&head, list.as_bytes(), hostile].concat()), "{kind}.{list}");
    }
}

#[test]
fn bad_input_23_arrays_within_arrays() {
    assert_refused_everywhere(&[0x91].repeat(10_000));
}

#[test]
fn bad_input_24_maps_within_maps() {
    assert_refused_everywhere(&[0x81, 0xa1, 0x41].repeat(21_846));
}

#[test]
fn bad_input_25_an_array_that_says_it_is_the_longest() {
    assert_refused_everywhere(&[0xdd, 0xff, 0xff, 0xff, 0xff]);
}

#[test]
fn bad_input_26_a_map_that_says_it_is_the_longest() {
    assert_refused_everywhere(&[0xdf, 0xff, 0xff, 0xff, 0xff]);
}

#[test]
fn bad_input_27_a_text_that_says_it_is_the_longest() {
    assert_refused_everywhere(&[0xdb, 0xff, 0xff, 0xff, 0xff]);
}

#[test]
fn bad_input_28_bytes_that_say_they_are_the_longest() {
    assert_refused_everywhere(&[0xc6, 0xff, 0xff, 0xff, 0xff]);
}

#[test]
fn bad_input_29_arrays_that_each_say_they_are_the_longest() {
    assert_refused_everywhere(&[0xdd, 0xff, 0xff, 0xff, 0xff].repeat(16));
}

#[test]
fn bad_input_30_a_list_of_empty_structs() {
    let count = FRAME_BYTES_MAX - 64;
    let list = [&[0xdd][..], &u32::try_from(count).unwrap().to_be_bytes(), &vec![0x80; count]].concat();
    assert_refused_everywhere(&list);
    assert!(!decodes(&vec![0x80; FRAME_BYTES_MAX]));
    assert!(matches!(decode::<AgentMessage>(&vec![0x80; FRAME_BYTES_MAX + 1]), Err(DecodeError::TooLong(_))));
}

#[test]
fn bad_input_31_a_list_of_empty_texts() {
    let count = FRAME_BYTES_MAX - 64;
    let list = [&[0xdd][..], &u32::try_from(count).unwrap().to_be_bytes(), &vec![0xa0; count]].concat();
    assert_refused_everywhere(&list);
}

#[test]
fn bad_input_32_the_tag_that_is_reserved() {
    assert_refused_everywhere(&[0xc1]);
}

#[test]
fn bad_input_58_grants_that_make_no_sense_are_not_sound() {
    let sound = grant();
    assert!(sound.is_sound());
    type Break = fn(&mut Grant);
    let broken: [(&str, Break); 11] = [
        ("empty", |grant| grant.hi = grant.lo),
        ("beyond the cohort", |grant| grant.hi = 5),
        ("beyond all", |grant| grant.hi = u32::MAX),
        ("a bitmap too long", |grant| grant.covers = vec![0xff, 0xff]),
        ("a bitmap beyond the shard", |grant| grant.covers = vec![0xff]),
        ("a bitmap of nothing", |grant| grant.covers = vec![0]),
        ("no timeout", |grant| grant.options.timeout_ms = 0),
        ("an endless timeout", |grant| grant.options.timeout_ms = 10_001),
        ("no window", |grant| grant.options.window = 0),
        ("no window per host", |grant| grant.options.per_host_window = 0),
        ("no rate per host", |grant| grant.options.per_host_rate = Some(Rate::ZERO)),
    ];
    for (what, break_it) in broken {
        let mut grant = sound.clone();
        break_it(&mut grant);
        assert!(!grant.is_sound(), "{what}");
    }
}

#[test]
fn bad_input_59_a_shard_that_ends_before_it_begins_is_not_sound() {
    for (lo, hi) in [(3, 1), (4, 3), (u32::MAX, 0), (u32::MAX, u32::MAX - 1)] {
        for covers in [vec![], vec![0xff], vec![0x80]] {
            assert!(!Grant { lo, hi, covers, ..grant() }.is_sound(), "{lo}..{hi}");
        }
    }
}

#[test]
fn too_long_a_list_is_refused() {
    let AgentMessage::Hello(hello) = from_agents().remove(0).1 else { unreachable!() };
    let holds =
        |count: u64| AgentMessage::Hello(Hello { holds: (0..count).map(Epoch::new).collect(), ..hello.clone() });
    assert!(decode::<AgentMessage>(&encode(&holds(LEASES_MAX as u64)).unwrap()).is_ok());
    assert!(decode::<AgentMessage>(&encode(&holds(LEASES_MAX as u64 + 1)).unwrap()).is_err());
}

proptest! {
    #[test]
    fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode::<AgentMessage>(&bytes);
        let _ = decode::<CoordinatorMessage>(&bytes);
    }
}
