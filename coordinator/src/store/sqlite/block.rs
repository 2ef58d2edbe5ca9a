//! A closed cohort's chunks, rewritten as one: for each pass a column of its outcomes in (address, port) order, where like stands beside
//! like, deflated. Nothing is lost: the chunks come back as they were, in the bytes of this program's encoder.
//!
//! Layout: length of the rest once inflated, and of the columns in it (u32 each, little-endian); deflated: number of chunks, then for each its epoch, pass,
//! lo, hi, agent, whether it covers all of its shard, and for each of its open ports and live hosts 0, or one more than the round-trip time
//! of its finding; then the columns, a byte a target, 255 for a target that the pass did not cover. Numbers are LEB128.

use super::failure::Failure;
use coordinator_core::store::{ChunkRecord, Shard};
use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;
use protocol::id::Epoch;
use protocol::message::Finding;
use protocol::plan::Cohort;
use protocol::probe::{Outcome, Slot};
use protocol::{chunk, covers};

/// A larger cohort keeps its chunks: rewriting takes four bytes of memory a target and one more a pass, and holds the writer up
/// meanwhile. 4,096 hosts by the default ports is less.
const TARGETS_MAX: u32 = 1 << 22;
/// The longest that is rewritten, before it is deflated.
const BYTES_MAX: usize = 1 << 27;
/// No outcome's code.
const NOT_COVERED: u8 = 255;
/// As zlib's default: higher levels gain little on columns like these.
const LEVEL: u8 = 6;

/// Packs the chunks of a cohort, which are given by pass and first index. `None` if they are better left as they are: the cohort is too
/// large, or a chunk is not what its lease covered (which the audit is to see).
pub(super) fn pack(cohort: &Cohort, chunks: &[ChunkRecord]) -> Option<Vec<u8>> {
    if cohort.len() > TARGETS_MAX {
        return None;
    }
    let places = places(cohort);
    let mut bytes = Vec::new();
    put(&mut bytes, chunks.len() as u64);
    let mut columns: Vec<(u8, Vec<u8>)> = Vec::new();
    for stored in chunks {
        let Shard { pass, lo, hi, .. } = stored.shard;
        let outcomes = chunk::decode(&stored.chunk, covers::count(&stored.covers, lo, hi)).ok()?;
        if columns.last().is_none_or(|(last, _)| *last != pass) {
            columns.push((pass, vec![NOT_COVERED; places.len()]));
        }
        let (_, column) = columns.last_mut()?;
        let (mut findings, mut times) = (stored.findings.iter().peekable(), Vec::new());
        for (index, outcome) in covers::indices(&stored.covers, lo, hi).zip(&outcomes) {
            let place = column.get_mut(*places.get(index as usize)? as usize)?;
            if *place != NOT_COVERED {
                return None;
            }
            *place = outcome.code();
            if outcome.is_finding() {
                let finding = findings.next_if(|finding| finding.index == index);
                times.push(finding.map_or(0, |finding| u64::from(finding.rtt_us) + 1));
            }
        }
        if findings.next().is_some() {
            return None;
        }
        let (whole, agent) = (stored.covers.is_empty(), stored.agent);
        for number in [stored.epoch.get(), pass.into(), lo.into(), hi.into(), agent.into(), whole.into()] {
            put(&mut bytes, number);
        }
        times.into_iter().for_each(|time| put(&mut bytes, time));
    }
    columns.iter().for_each(|(_, column)| bytes.extend(column));
    if bytes.len() > BYTES_MAX {
        return None;
    }
    let mut packed = u32::try_from(bytes.len()).ok()?.to_le_bytes().to_vec();
    packed.extend(u32::try_from(columns.len() * places.len()).ok()?.to_le_bytes());
    packed.extend(compress_to_vec(&bytes, LEVEL));
    Some(packed)
}

/// The chunks, by pass and first index.
pub(super) fn unpack(cohort: &Cohort, packed: &[u8]) -> Result<Vec<ChunkRecord>, Failure> {
    read(cohort, packed).ok_or(Failure::Malformed("cohort"))
}

fn read(cohort: &Cohort, packed: &[u8]) -> Option<Vec<ChunkRecord>> {
    let (lengths, deflated) = packed.split_at_checked(8)?;
    let length = |bytes: &[u8]| Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize);
    let (bytes_len, columns_len) = (length(&lengths[..4])?, length(&lengths[4..])?);
    if bytes_len > BYTES_MAX {
        return None;
    }
    let bytes = decompress_to_vec_with_limit(deflated, bytes_len).ok()?;
    let (mut head, columns) = bytes.split_at_checked(bytes_len.checked_sub(columns_len)?)?;
    let places = places(cohort);
    let mut columns = columns.chunks_exact(places.len());
    let (mut last_pass, mut column): (u8, &[u8]) = (0, &[]);
    let mut chunks = Vec::new();
    for _ in 0..take(&mut head)? {
        let epoch = Epoch::new(take(&mut head)?);
        let pass = u8::try_from(take(&mut head)?).ok()?;
        let mut number = || u32::try_from(take(&mut head)?).ok();
        let (lo, hi, agent, whole) = (number()?, number()?, number()?, number()? != 0);
        if pass != last_pass {
            (last_pass, column) = (pass, columns.next()?);
        }
        let codes: Vec<u8> =
            places.get(lo as usize..hi as usize)?.iter().map(|&place| column[place as usize]).collect();
        let covers = if whole {
            Vec::new()
        } else {
            covers::bitmap(lo, hi, |index| codes[(index - lo) as usize] != NOT_COVERED)
        };
        let (mut outcomes, mut findings) = (Vec::with_capacity(codes.len()), Vec::new());
        for (index, &code) in (lo..hi).zip(&codes).filter(|(_, code)| **code != NOT_COVERED) {
            let outcome = Outcome::from_code(code)?;
            if outcome.is_finding()
                && let Some(rtt_us) = take(&mut head)?.checked_sub(1)
            {
                findings.push(Finding { index, rtt_us: u32::try_from(rtt_us).ok()? });
            }
            outcomes.push(outcome);
        }
        let shard = Shard { cohort: cohort.number(), pass, lo, hi };
        chunks.push(ChunkRecord { epoch, shard, covers, agent, chunk: chunk::encode(&outcomes), findings });
    }
    Some(chunks)
}

/// By index: the target's place in (address, port) order, `ping` before the ports.
fn places(cohort: &Cohort) -> Vec<u32> {
    let slots = cohort.slots();
    let ping = u32::from(slots.ping());
    let mut rank_of_port = vec![0u32; 1 << 16];
    for (port, rank) in slots.ports().iter().zip(ping..) {
        rank_of_port[usize::from(port)] = rank;
    }
    let targets = cohort.targets(0, cohort.len());
    let place = |host: u32, slot| match slot {
        Slot::Ping => host * slots.len(),
        Slot::Tcp(port) => host * slots.len() + rank_of_port[usize::from(port)],
    };
    targets.map(|item| place(item.host, item.target.slot)).collect()
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use coordinator_core::store::conformance::example;
    use protocol::plan::{Plan, PlanParts, Slots};
    use protocol::probe::Cause;

    fn cohort() -> Cohort {
        let parts = PlanParts { slots: Slots::new(true, (1..=300).collect()), ..example().plan };
        Plan::try_from(parts).expect("a plan").cohort(1).expect("a cohort")
    }

    fn chunk_of(epoch: u64, pass: u8, lo: u32, hi: u32, covered: impl Fn(u32) -> bool) -> ChunkRecord {
        let covers = if pass == 1 { Vec::new() } else { covers::bitmap(lo, hi, covered) };
        let outcome = |index| match index % 7 {
            0 => Outcome::OPEN,
            1 | 2 => Outcome::not_probed(Cause::LocalLimit),
            _ => Outcome::FILTERED,
        };
        let outcomes: Vec<_> = covers::indices(&covers, lo, hi).map(outcome).collect();
        let found = covers::indices(&covers, lo, hi).zip(&outcomes).filter(|(_, outcome)| outcome.is_finding());
        // A host that is open everywhere has findings of some of its ports only.
        let kept = found.filter(|(index, _)| index % 3 > 0);
        let findings = kept.map(|(index, _)| Finding { index, rtt_us: u32::MAX - index }).collect();
        let shard = Shard { cohort: 1, pass, lo, hi };
        ChunkRecord {
            epoch: Epoch::new(epoch),
            shard,
            covers,
            agent: pass.into(),
            chunk: chunk::encode(&outcomes),
            findings,
        }
    }

    #[test]
    fn chunks_come_back_as_they_were() {
        assert_eq!(Outcome::from_code(NOT_COVERED), None);
        let chunks = [
            chunk_of(9, 1, 0, 100, |_| true),
            chunk_of(3, 1, 100, 301, |_| true),
            chunk_of(u64::MAX, 2, 5, 90, |index| index == 5 || index % 3 == 0 || index == 89),
            chunk_of(12, 2, 200, 201, |_| true),
            chunk_of(13, 4, 0, 301, |index| index % 100 == 0),
        ];
        let packed = pack(&cohort(), &chunks).expect("a block");
        assert_eq!(unpack(&cohort(), &packed).expect("chunks"), chunks);
        for cut in 0..packed.len() {
            assert!(unpack(&cohort(), &packed[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_wrong_is_left_for_the_audit() {
        let whole = chunk_of(1, 1, 0, 301, |_| true);
        let other_findings = ChunkRecord { findings: vec![Finding { index: 1, rtt_us: 1 }], ..whole.clone() };
        let other_count = ChunkRecord { chunk: chunk::encode(&[Outcome::OPEN]), ..whole.clone() };
        let twice = [whole.clone(), whole];
        for wrong in [&[other_findings][..], &[other_count], &twice] {
            assert_eq!(pack(&cohort(), wrong), None);
        }
    }
}
