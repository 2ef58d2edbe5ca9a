//! Frames that a hostile peer makes out of good ones: each golden frame is read as a tree of MessagePack, one place of it is changed, and
//! what is written again must be refused, or mean the very same.

use super::*;
use crate::message::{AgentMessage, CoordinatorMessage, TEXT_BYTES_MAX};

const GOLDEN: &str = include_str!("../../testdata/frames-1.txt");

/// A value of MessagePack, as far as golden frames have some; anything else stands as its own bytes.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Map(Vec<(Value, Value)>),
    Array(Vec<Value>),
    Text(Vec<u8>),
    Bin(Vec<u8>),
    Int(u64),
    Raw(Vec<u8>),
}

impl Value {
    fn text(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }

    fn write(&self, out: &mut Vec<u8>) {
        let be32 = |len: usize| u32::try_from(len).unwrap().to_be_bytes();
        match self {
            Self::Map(pairs) => {
                out.push(0xdf);
                out.extend(be32(pairs.len()));
                pairs.iter().for_each(|(key, value)| {
                    key.write(out);
                    value.write(out);
                });
            }
            Self::Array(items) => {
                out.push(0xdd);
                out.extend(be32(items.len()));
                items.iter().for_each(|item| item.write(out));
            }
            Self::Text(bytes) => {
                out.push(0xdb);
                out.extend(be32(bytes.len()));
                out.extend(bytes);
            }
            Self::Bin(bytes) => {
                out.push(0xc6);
                out.extend(be32(bytes.len()));
                out.extend(bytes);
            }
            Self::Int(number) => {
                out.push(0xcf);
                out.extend(number.to_be_bytes());
            }
            Self::Raw(bytes) => out.extend(bytes),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }
}

/// Reads a value of a golden frame; those use few of the tags.
fn read(bytes: &mut &[u8]) -> Value {
    fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(count);
        *bytes = rest;
        taken
    }
    fn number(bytes: &mut &[u8], width: usize) -> u64 {
        take(bytes, width).iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
    }
    let map = |count: u64, bytes: &mut &[u8]| Value::Map((0..count).map(|_| (read(bytes), read(bytes))).collect());
    let tag = take(bytes, 1)[0];
    match tag {
        0x00..=0x7f => Value::Int(u64::from(tag)),
        0x80..=0x8f => map(u64::from(tag & 0x0f), bytes),
        0x90..=0x9f => Value::Array((0..tag & 0x0f).map(|_| read(bytes)).collect()),
        0xa0..=0xbf => Value::Text(take(bytes, usize::from(tag & 0x1f)).to_vec()),
        0xc0 | 0xc2 | 0xc3 => Value::Raw(vec![tag]),
        0xc4 => {
            let len = number(bytes, 1);
            Value::Bin(take(bytes, len as usize).to_vec())
        }
        0xcc..=0xcf => Value::Int(number(bytes, 1 << (tag - 0xcc))),
        0xd9 => {
            let len = number(bytes, 1);
            Value::Text(take(bytes, len as usize).to_vec())
        }
        _ => panic!("no golden frame has the tag {tag:#x}"),
    }
}

/// The golden frames, by name.
fn golden() -> Vec<(&'static str, Value)> {
    let byte = |hex: &str| u8::from_str_radix(hex, 16).unwrap();
    let frames = GOLDEN.lines().filter_map(|line| line.split_once(' '));
    frames
        .map(|(name, hex)| {
            let bytes: Vec<_> = (0..hex.len()).step_by(2).map(|at| byte(&hex[at..at + 2])).collect();
            let mut rest = &bytes[..];
            let value = read(&mut rest);
            assert!(rest.is_empty(), "{name}");
            (name, value)
        })
        .collect()
}

/// The tree with the value at `place` (counted in the order in which values are written, keys of maps left out) made into another;
/// `None` beyond the last, or where `change` has nothing to change.
fn changed(tree: &Value, place: usize, change: &dyn Fn(&Value) -> Option<Value>) -> Option<Value> {
    fn walk(value: &Value, at: &mut usize, place: usize, change: &dyn Fn(&Value) -> Option<Value>) -> Option<Value> {
        let here = *at;
        *at += 1;
        if here == place {
            return change(value);
        }
        match value {
            Value::Map(pairs) => pairs.iter().enumerate().find_map(|(i, (key, value))| {
                let changed = walk(value, at, place, change)?;
                let mut pairs = pairs.clone();
                pairs[i] = (key.clone(), changed);
                Some(Value::Map(pairs))
            }),
            Value::Array(items) => items.iter().enumerate().find_map(|(i, item)| {
                let changed = walk(item, at, place, change)?;
                let mut items = items.clone();
                items[i] = changed;
                Some(Value::Array(items))
            }),
            Value::Text(_) | Value::Bin(_) | Value::Int(_) | Value::Raw(_) => None,
        }
    }
    walk(tree, &mut 0, place, change)
}

/// More places than any golden frame has.
const PLACES: usize = 100;

/// Every frame that comes of a golden one by changing one value; at least `at_least` of them.
fn every_change(at_least: usize, change: &dyn Fn(&Value) -> Option<Value>) -> Vec<(&'static str, Vec<u8>)> {
    let frames: Vec<_> = golden()
        .iter()
        .flat_map(|(name, tree)| (0..PLACES).filter_map(|place| Some((*name, changed(tree, place, change)?.bytes()))))
        .collect();
    assert!(frames.len() >= at_least, "{} frames", frames.len());
    frames
}

fn is_refused(bytes: &[u8]) -> bool {
    decode::<AgentMessage>(bytes).is_err() && decode::<CoordinatorMessage>(bytes).is_err()
}

/// Refused, or what it means is written by us as `golden`'s is.
fn means_the_same(bytes: &[u8], golden: &[u8]) -> bool {
    fn same<M: DeserializeOwned + PartialEq>(bytes: &[u8], golden: &[u8]) -> bool {
        decode::<M>(bytes).is_ok_and(|message| decode::<M>(golden).is_ok_and(|golden| golden == message))
    }
    same::<AgentMessage>(bytes, golden) || same::<CoordinatorMessage>(bytes, golden)
}

/// The other tests rest on it: what is read and written again means the same, in the longest spelling of everything.
#[test]
fn golden_frames_are_read_as_trees() {
    for (name, tree) in golden() {
        assert!(means_the_same(&tree.bytes(), &tree.bytes()), "{name}");
    }
}

#[test]
fn bad_input_33_extensions_stand_for_nothing() {
    let mut extensions: Vec<Vec<u8>> = (0..=u8::MAX).map(|kind| vec![0xd4, kind, 0]).collect();
    for (tag, len) in [(0xd5, 2), (0xd6, 4), (0xd7, 8), (0xd8, 16)] {
        extensions.push([&[tag, 0xff][..], &vec![0; len]].concat());
    }
    extensions.push(vec![0xc7, 3, 1, 0, 0, 0]);
    extensions.push(vec![0xc8, 0, 3, 1, 0, 0, 0]);
    extensions.push(vec![0xc9, 0, 0, 0, 3, 1, 0, 0, 0]);
    extensions.push(vec![0xc9, 0xff, 0xff, 0xff, 0xff, 1]);
    for extension in extensions {
        assert!(is_refused(&extension), "{extension:x?}");
        for (name, frame) in every_change(60, &|_| Some(Value::Raw(extension.clone()))) {
            assert!(is_refused(&frame), "{name}: {extension:x?}");
        }
    }
}

#[test]
fn bad_input_34_a_key_that_comes_twice_is_refused() {
    let twice = |value: &Value| match value {
        Value::Map(pairs) => Some(Value::Map([&pairs[..], &pairs[..1]].concat())),
        _ => None,
    };
    for (name, frame) in every_change(15, &twice) {
        assert!(is_refused(&frame), "{name}: {frame:x?}");
    }
}

#[test]
fn bad_input_35_an_unknown_field_is_passed_over_but_not_to_any_depth() {
    let with = |deep: Value| {
        move |value: &Value| match value {
            Value::Map(pairs) => {
                Some(Value::Map([&pairs[..], &[(Value::text("of a later version"), deep.clone())]].concat()))
            }
            _ => None,
        }
    };
    let nested = |depth| (0..depth).fold(Value::Int(1), |inner, _| Value::Array(vec![inner]));
    for (name, frame) in every_change(15, &with(nested(10_000))) {
        assert!(is_refused(&frame), "{name}");
    }
    // A later version may add a field; a flat one does no harm. (The outermost map names the message, and has one key.)
    let golden: Vec<_> = golden();
    let mut understood = 0;
    for (name, frame) in every_change(15, &with(Value::Int(7))) {
        let of = golden.iter().find(|(of, _)| *of == name).map(|(_, tree)| tree.bytes()).unwrap();
        let same = means_the_same(&frame, &of);
        assert!(same || is_refused(&frame), "{name}");
        understood += usize::from(same);
    }
    assert!(understood >= 8, "{understood}");
}

#[test]
fn bad_input_36_bytes_in_place_of_a_struct_are_refused_whatever_they_hold() {
    let struct_as_bytes = |surplus: &'static [u8]| {
        move |value: &Value| match value {
            Value::Map(_) => Some(Value::Bin([&value.bytes()[..], surplus].concat())),
            _ => None,
        }
    };
    for surplus in [&[][..], &[0xc0], &[0; 64]] {
        for (name, frame) in every_change(15, &struct_as_bytes(surplus)) {
            assert!(is_refused(&frame), "{name}");
        }
    }
    // The same of an array of structs, of a text and of a number: nothing that is not bytes may come as bytes.
    let others = |value: &Value| match value {
        Value::Array(items) if matches!(items[..], [Value::Map(_), ..]) => Some(Value::Bin(value.bytes())),
        Value::Int(_) => Some(Value::Bin([&value.bytes()[..], &[0]].concat())),
        _ => None,
    };
    for (name, frame) in every_change(20, &others) {
        assert!(is_refused(&frame), "{name}");
    }
}

#[test]
fn bad_input_37_a_struct_as_an_array_means_the_same_or_is_refused() {
    let golden: Vec<_> = golden();
    let as_array = |value: &Value| match value {
        Value::Map(pairs) => Some(Value::Array(pairs.iter().map(|(_, value)| value.clone()).collect())),
        _ => None,
    };
    for (name, frame) in every_change(15, &as_array) {
        let of = golden.iter().find(|(of, _)| *of == name).map(|(_, tree)| tree.bytes()).unwrap();
        assert!(is_refused(&frame) || means_the_same(&frame, &of), "{name}");
    }
    let longer = |value: &Value| match as_array(value) {
        Some(Value::Array(items)) => Some(Value::Array([&items[..], &vec![Value::Int(0); 20]].concat())),
        _ => None,
    };
    for (name, frame) in every_change(15, &longer) {
        assert!(is_refused(&frame), "{name}");
    }
}

#[test]
fn bad_input_38_a_kind_by_a_number_that_none_has_is_refused() {
    for number in [20, 255, u64::MAX] {
        let body = Value::Int(number);
        assert!(is_refused(&body.bytes()));
        assert!(is_refused(&Value::Map(vec![(body, Value::Map(Vec::new()))]).bytes()));
        let by_number = |value: &Value| match value {
            Value::Text(text) if [&b"Pause"[..], b"Gone", b"icmp", b"tcp"].contains(&&text[..]) => {
                Some(Value::Int(number))
            }
            _ => None,
        };
        for (name, frame) in every_change(4, &by_number) {
            assert!(is_refused(&frame), "{name}: {number}");
        }
    }
}

#[test]
fn bad_input_39_text_that_is_no_utf_8_is_refused() {
    for bytes in [&[0xff][..], &[0xc0, 0xaf], &[0xed, 0xa0, 0x80], &[0xf4, 0x90, 0x80, 0x80]] {
        let not_utf8 = |value: &Value| match value {
            Value::Text(_) => Some(Value::Text(bytes.to_vec())),
            _ => None,
        };
        for (name, frame) in every_change(8, &not_utf8) {
            assert!(is_refused(&frame), "{name}: {bytes:x?}");
        }
    }
}

#[test]
fn bad_input_40_a_number_with_a_point_is_no_number_here() {
    let floats = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, 1.0, 1e300];
    for float in floats {
        for raw in [[&[0xcb][..], &float.to_be_bytes()].concat(), [&[0xca][..], &(float as f32).to_be_bytes()].concat()]
        {
            let as_float = |value: &Value| matches!(value, Value::Int(_)).then(|| Value::Raw(raw.clone()));
            for (name, frame) in every_change(20, &as_float) {
                assert!(is_refused(&frame), "{name}: {float}");
            }
        }
    }
}

#[test]
fn bad_input_41_numbers_at_their_ends_are_refused_or_kept_as_they_are() {
    for raw in [
        [&[0xd3][..], &i64::MIN.to_be_bytes()].concat(),
        vec![0xff],
        [&[0xcf][..], &u64::MAX.to_be_bytes()].concat(),
        [&[0xce][..], &u32::MAX.to_be_bytes()].concat(),
    ] {
        let is_negative = matches!(raw[0], 0xd3 | 0xff);
        let at_its_end = |value: &Value| matches!(value, Value::Int(_)).then(|| Value::Raw(raw.clone()));
        for (name, frame) in every_change(20, &at_its_end) {
            assert!(!is_negative || is_refused(&frame), "{name}: {raw:x?}");
            if let Ok(message) = decode::<CoordinatorMessage>(&frame) {
                assert_eq!(decode::<CoordinatorMessage>(&encode(&message).unwrap()).unwrap(), message, "{name}");
                // What a grant counts with is bounded before anybody counts with it.
                if let CoordinatorMessage::Grant(grant) = message
                    && grant.is_sound()
                {
                    assert_eq!(grant.cohort.targets(grant.lo, grant.hi).count() as u32, grant.hi - grant.lo);
                }
            } else if let Ok(message) = decode::<AgentMessage>(&frame) {
                assert_eq!(decode::<AgentMessage>(&encode(&message).unwrap()).unwrap(), message, "{name}");
            }
        }
    }
}

#[test]
fn bad_input_46_a_map_with_a_million_keys_is_refused() {
    // As many as fit: a key and a value of a byte each.
    let keys = (FRAME_BYTES_MAX - 64) / 2;
    let many =
        Value::Raw([&[0xdf][..], &u32::try_from(keys).unwrap().to_be_bytes(), &[0xa0, 0xc0].repeat(keys)].concat());
    assert!(is_refused(&many.bytes()));
    let as_body = |value: &Value| matches!(value, Value::Map(_)).then(|| many.clone());
    for (name, frame) in every_change(15, &as_body) {
        assert!(is_refused(&frame), "{name}");
    }
    let million = [&[0xdf][..], &1_000_000_u32.to_be_bytes(), &[0xa0, 0xc0].repeat(1_000_000)].concat();
    assert!(matches!(decode::<AgentMessage>(&million), Err(DecodeError::TooLong(_))));
}

#[test]
fn bad_input_47_nil_in_place_of_what_must_be_there_is_refused() {
    let golden: Vec<_> = golden();
    let nil = |_: &Value| Some(Value::Raw(vec![0xc0]));
    for (name, frame) in every_change(60, &nil) {
        // Only what may be left out may be nil: a share, a rate to one host.
        let may = matches!(name, "grant" | "control" | "welcome");
        let of = golden.iter().find(|(of, _)| *of == name).map(|(_, tree)| tree.bytes()).unwrap();
        assert!(is_refused(&frame) || (may && !means_the_same(&frame, &of)), "{name}");
    }
    // And a field that is left out altogether, unless it came with a later version.
    let without = |value: &Value| match value {
        Value::Map(pairs) if pairs.len() > 1 => Some(Value::Map(pairs[1..].to_vec())),
        _ => None,
    };
    for (name, frame) in every_change(9, &without) {
        assert!(is_refused(&frame), "{name}");
    }
}

#[test]
fn bad_input_48_a_moment_is_no_part_of_any_message() {
    // The extension -1 of MessagePack in its three lengths: 1677, 2262 and the end of its range.
    let before = [&[0xc7, 12, 0xff][..], &0_u32.to_be_bytes(), &(-9_223_372_037_i64).to_be_bytes()].concat();
    let after = [&[0xc7, 12, 0xff][..], &999_999_999_u32.to_be_bytes(), &i64::MAX.to_be_bytes()].concat();
    let short = [&[0xd6, 0xff][..], &u32::MAX.to_be_bytes()].concat();
    let middle = [&[0xd7, 0xff][..], &u64::MAX.to_be_bytes()].concat();
    for moment in [before, after, short, middle] {
        assert!(is_refused(&moment));
        for (name, frame) in every_change(60, &|_| Some(Value::Raw(moment.clone()))) {
            assert!(is_refused(&frame), "{name}: {moment:x?}");
        }
    }
}

#[test]
fn bad_input_49_text_with_a_nul_is_refused_where_it_names_and_quoted_where_it_is_shown() {
    let golden: Vec<_> = golden();
    let with_nul = |value: &Value| match value {
        Value::Text(text) => Some(Value::Text([&text[..], &[0]].concat())),
        _ => None,
    };
    let mut shown = 0;
    for (name, frame) in every_change(8, &with_nul) {
        let of = golden.iter().find(|(of, _)| *of == name).map(|(_, tree)| tree.bytes()).unwrap();
        if is_refused(&frame) {
            continue;
        }
        assert!(!means_the_same(&frame, &of), "{name}");
        shown += 1;
        let text = match (decode(&frame), decode(&frame)) {
            (Ok(AgentMessage::Hello(hello)), _) => hello.software,
            (_, Ok(CoordinatorMessage::Refused { reason })) => reason,
            other => panic!("{name}: {other:?}"),
        };
        assert!(text.len() <= TEXT_BYTES_MAX);
        assert!(!crate::quote::Quoted::new(&text).to_string().chars().any(char::is_control), "{name}");
    }
    assert_eq!(shown, 2, "the software's version and the reason of a refusal are for people");
}
