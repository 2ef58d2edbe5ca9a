//! Promise: no byte that a peer or a user sends makes a decoder or a parser panic, take more memory than it read, or come to a value
//! that does not come back the same when it is written again.
//!
//! Each test is a fuzz target of bolero. `cargo test` runs its corpus and some thousand inputs drawn at random, for a few seconds at
//! most; `cargo bolero test -p portsweep-tests fuzz::NAME -s NONE` lets libFuzzer look for as long as one likes, guided by coverage, on
//! stable Rust. The corpus lies in `__fuzz__/NAME/corpus`, and begins with the golden frames.

use bolero::check;
use portsweep_agent::frames::{framed, hear};
use protocol::enrol::{EnrolReply, EnrolRequest};
use protocol::message::{AgentMessage, CoordinatorMessage, Grant};
use protocol::probe::Outcome;
use protocol::token::{DialAddress, JoinToken};
use protocol::{address, chunk, codec, covers, port};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

/// How long a target runs within `cargo test`.
const TEST_TIME: Duration = Duration::from_secs(2);
const ITERATIONS: usize = 20_000;

const GOLDEN: &str = include_str!("../../protocol/testdata/frames-1.txt");

/// The golden frames, by name.
fn golden() -> Vec<(&'static str, Vec<u8>)> {
    let byte = |hex: &str| u8::from_str_radix(hex, 16).expect("two hexadecimal digits");
    GOLDEN
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, hex)| (name, (0..hex.len()).step_by(2).map(|at| byte(&hex[at..at + 2])).collect()))
        .collect()
}

/// What decodes is one value, whichever way it is written: what its own encoding decodes to is the same.
fn decodes_to_what_comes_back<M: Serialize + DeserializeOwned + PartialEq + Debug>(frame: &[u8]) -> Option<M> {
    let message: M = codec::decode(frame).ok()?;
    // A frame near the bound may be longer in our own spelling: then it is refused, which is no panic.
    if let Ok(again) = codec::encode(&message) {
        assert_eq!(codec::decode::<M>(&again).expect("our own frame"), message);
    }
    Some(message)
}

fn look_at_frame(frame: &[u8]) {
    decodes_to_what_comes_back::<AgentMessage>(frame);
    decodes_to_what_comes_back::<EnrolRequest>(frame);
    decodes_to_what_comes_back::<EnrolReply>(frame);
    if let Some(CoordinatorMessage::Grant(grant)) = decodes_to_what_comes_back(frame)
        && grant.is_sound()
    {
        look_at_grant(&grant);
    }
}

/// A sound grant's targets can be told, each once and within its cohort.
fn look_at_grant(grant: &Grant) {
    let hi = grant.hi.min(grant.lo.saturating_add(256));
    let indices: Vec<_> = grant.cohort.targets(grant.lo, hi).map(|item| item.index).collect();
    assert!(indices.iter().copied().eq(grant.lo..hi));
    assert_eq!(grant.covered() as usize, covers::indices(&grant.covers, grant.lo, grant.hi).count());
}

#[test]
fn frames() {
    check!().with_iterations(ITERATIONS).with_test_time(TEST_TIME).for_each(look_at_frame);
}

/// Whole connections: frames with their lengths, cut anywhere. What is heard of one is heard in the same order however its bytes come.
#[test]
fn streams() {
    // The first byte says into how many pieces at a time.
    check!().with_iterations(ITERATIONS / 4).with_test_time(TEST_TIME).for_each(|bytes: &[u8]| {
        let Some((&piece, bytes)) = bytes.split_first() else { return };
        let whole = heard(bytes, bytes.len().max(1));
        assert_eq!(heard(bytes, usize::from(piece).max(1)), whole);
        // With a length in front that fits, it is one frame: heard if it is a message.
        let length = u32::try_from(bytes.len()).expect("a short input").to_be_bytes();
        let is_message = codec::decode::<AgentMessage>(bytes).is_ok();
        assert_eq!(heard(&[&length[..], bytes].concat(), usize::from(piece).max(1)).len(), usize::from(is_message));
    });
}

/// The messages of a connection on which these bytes come, `piece` at a time, until it ends or breaks.
fn heard(bytes: &[u8], piece: usize) -> Vec<AgentMessage> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let (mut peer, ours) = tokio::io::duplex(piece);
        let saying = async {
            // A reader that gave up hears no more.
            let _broken = tokio::io::AsyncWriteExt::write_all(&mut peer, bytes).await;
            drop(peer);
        };
        let hearing = async {
            let (mut framed, mut heard) = (framed(ours, codec::FRAME_BYTES_MAX), Vec::new());
            while let Ok(Some(message)) = hear::<_, AgentMessage>(&mut framed).await {
                heard.push(message);
            }
            heard
        };
        tokio::join!(saying, hearing).1
    })
}

/// What is read as a token, or as an address to dial, is written and read again as the same; an error is one line.
#[test]
fn join_tokens() {
    check!().with_iterations(ITERATIONS).with_test_time(TEST_TIME).for_each(|bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let prefixed = format!("psj_{text}");
        for text in [&*text, &prefixed] {
            match text.parse::<JoinToken>() {
                Ok(token) => {
                    let again: JoinToken = token.to_string().parse().expect("our own token");
                    assert_eq!((again.addresses(), again.pin()), (token.addresses(), token.pin()));
                    assert_eq!(again.secret().as_bytes(), token.secret().as_bytes());
                }
                Err(error) => assert!(!error.to_string().chars().any(char::is_control)),
            }
        }
        match text.parse::<DialAddress>() {
            Ok(address) => assert_eq!(address.to_string().parse::<DialAddress>().expect("our own address"), address),
            Err(error) => assert!(!error.to_string().chars().any(char::is_control)),
        }
    });
}

/// A sound token with some letters changed: closer to one than what chance makes.
#[test]
fn changed_join_tokens() {
    let address = |text: &str| text.parse::<DialAddress>().expect("an address");
    let addresses = vec![address("192.0.2.1:7421"), address("[2001:db8::1]:7421"), address("coordinator.example:7421")];
    let pin = protocol::token::Pin::from_bytes([3; 32]);
    let secret = protocol::token::Secret::from_bytes([5; protocol::token::SECRET_BYTES]);
    let sound = JoinToken::new(addresses, pin, secret).expect("a token").to_string();
    let changes = bolero::produce::<(Vec<(u16, u8)>, Option<u16>)>();
    check!().with_generator(changes).with_iterations(ITERATIONS).with_test_time(TEST_TIME).for_each(
        |(changes, end)| {
            let mut text = sound.clone().into_bytes();
            for &(at, byte) in changes.iter().take(4) {
                let at = usize::from(at) % text.len();
                text[at] = byte;
            }
            if let Some(end) = end {
                text.truncate(usize::from(*end) % (text.len() + 1));
            }
            match String::from_utf8_lossy(&text).parse::<JoinToken>() {
                Ok(token) => assert!(token.to_string().parse::<JoinToken>().is_ok()),
                Err(error) => assert!(!error.to_string().chars().any(char::is_control)),
            }
        },
    );
}

/// Golden frames with some bytes changed and an end cut off: closer to what is decoded than what chance makes.
#[test]
fn changed_golden_frames() {
    let golden = golden();
    let changes = bolero::produce::<(u8, Vec<(u16, u8)>, Option<u16>)>();
    check!().with_generator(changes).with_iterations(ITERATIONS).with_test_time(TEST_TIME).for_each(
        |(which, changes, end)| {
            let mut frame = golden[usize::from(*which) % golden.len()].1.clone();
            for &(at, byte) in changes.iter().take(4) {
                let at = usize::from(at) % frame.len();
                frame[at] = byte;
            }
            if let Some(end) = end {
                frame.truncate(usize::from(*end) % (frame.len() + 1));
            }
            look_at_frame(&frame);
        },
    );
}

/// The first two bytes say how many outcomes are expected.
#[test]
fn chunks() {
    check!().with_iterations(ITERATIONS).with_test_time(TEST_TIME).for_each(|bytes: &[u8]| {
        let Some((count, bytes)) = bytes.split_first_chunk::<2>() else { return };
        let expected = u32::from(u16::from_le_bytes(*count));
        if let Ok(outcomes) = chunk::decode(bytes, expected) {
            assert_eq!(outcomes.len(), expected as usize);
            assert_eq!(chunk::decode(&chunk::encode(&outcomes), expected).expect("our own chunk"), outcomes);
        }
    });
}

#[test]
fn target_syntax() {
    check!().with_iterations(ITERATIONS).with_test_time(TEST_TIME).for_each(|bytes: &[u8]| {
        let word = String::from_utf8_lossy(bytes);
        let items = address::parse_targets(&word);
        let listed = address::parse_target_list(bytes);
        // An error is one line for a person, whatever the bytes are.
        for line in [items.err().map(|error| error.to_string()), listed.err().map(|error| error.to_string())] {
            assert!(line.is_none_or(|line| !line.chars().any(char::is_control)));
        }
    });
}

#[test]
fn port_syntax() {
    check!().with_iterations(ITERATIONS).with_test_time(TEST_TIME).for_each(|bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        match port::parse_ports(&text) {
            Ok(ports) => {
                assert_eq!(ports.iter().count(), ports.len() as usize);
                assert!(ports.iter().all(|port| ports.contains(port)));
            }
            Err(error) => assert!(!error.to_string().chars().any(char::is_control)),
        }
    });
}

/// What the corpus of each target of bytes begins with: golden frames, and chunks in both codings with their count in front.
fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let chunk = |outcomes: &[Outcome]| {
        let count = u16::try_from(outcomes.len()).expect("a short chunk");
        [count.to_le_bytes().to_vec(), chunk::encode(outcomes)].concat()
    };
    let mut sparse = [Outcome::FILTERED; 1_000];
    (sparse[3], sparse[700]) = (Outcome::OPEN, Outcome::CLOSED);
    let chunks = [
        ("chunks", "fixed", chunk(&[Outcome::OPEN, Outcome::CLOSED, Outcome::FILTERED])),
        ("chunks", "gaps", chunk(&sparse)),
        ("chunks", "one", chunk(&[Outcome::DOWN; 256])),
    ];
    golden().into_iter().map(|(name, frame)| ("frames", name, frame)).chain(chunks).collect()
}

/// The corpus begins with these, as they are now. `PORTSWEEP_WRITE_CORPUS=1` writes them.
#[test]
fn the_corpus_holds_the_golden_frames() {
    for (target, name, bytes) in seeds() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/__fuzz__").join(target).join("corpus").join(name);
        if std::env::var_os("PORTSWEEP_WRITE_CORPUS").is_some() {
            std::fs::write(&path, &bytes).expect("a file of the corpus");
        }
        let stored = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(stored, bytes, "{target}/{name} is out of date: run with PORTSWEEP_WRITE_CORPUS=1");
    }
}
