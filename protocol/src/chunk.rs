//! The outcomes of one lease, packed: what a report carries and what is stored.
//!
//! Layout, version 1: version byte; count of outcomes (u32, big-endian); number of states s (1 to 32); s outcome codes, the
//! commonest first; coding byte; then bits, most significant first, padded with zeros:
//! - coding 255: for each outcome its place in the table, in ⌈log2 s⌉ bits (none where s = 1);
//! - coding k < 32: the exceptions to the commonest, each as the gap before it in Rice code with parameter k (unary quotient
//!   of ones closed by a zero, k bits of remainder; Rice and Plaunt, 1971), then its place in the table less one, in
//!   ⌈log2 (s − 1)⌉ bits. Whatever follows the last exception is the commonest; the number of exceptions stands before, in 32 bits.
//!
//! The shorter of the two is taken, so a chunk is at most half a byte a target while no more than sixteen outcomes occur.

use crate::plan::SHARD_TARGETS_MAX;
use crate::probe::Outcome;

const VERSION: u8 = 1;
const FIXED: u8 = 255;
const STATES_MAX: usize = 32;
/// A longer unary run than a chunk has targets is nonsense.
const QUOTIENT_MAX: u32 = SHARD_TARGETS_MAX;

/// Why bytes are no chunk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// It is of a later version.
    #[error("chunk version {0} is not known here: upgrade this side")]
    Version(u8),
    /// It ends too early.
    #[error("the chunk is truncated")]
    Truncated,
    /// Something follows it, or padding is not zero.
    #[error("the chunk has surplus bits")]
    Surplus,
    /// It holds other than the expected number of outcomes.
    #[error("the chunk holds {actual} outcomes, not {expected}")]
    Count {
        /// How many the shard's pass covers.
        expected: u32,
        /// How many it says.
        actual: u32,
    },
    /// Its table of states is empty, too long, repeats one, or names one that does not exist.
    #[error("the chunk's table of states is malformed")]
    Table,
    /// A state or a gap outside what there is.
    #[error("the chunk's outcomes are malformed")]
    Outcomes,
}

/// Packs outcomes, in the order of their indices.
#[must_use]
pub fn encode(outcomes: &[Outcome]) -> Vec<u8> {
    let table = table_of(outcomes);
    let place = |outcome: Outcome| table.iter().position(|&known| known == outcome).unwrap_or(0);
    let mut head = vec![VERSION];
    head.extend(u32::try_from(outcomes.len()).unwrap_or(u32::MAX).to_be_bytes());
    head.push(table.len() as u8);
    head.extend(table.iter().map(|outcome| outcome.code()));

    let gaps = gaps_of(outcomes, table.first().copied());
    let state_bits = bits_for(table.len().saturating_sub(1));
    let fixed_bits = bits_for(table.len()) as usize * outcomes.len();
    let gap_bits =
        |k: u32| 32 + gaps.iter().map(|&(gap, _)| (gap >> k) as usize + 1 + (k + state_bits) as usize).sum::<usize>();
    let best = (0..16).min_by_key(|&k| gap_bits(k)).unwrap_or(0);
    let mut bits = BitWriter::default();
    if gap_bits(best) < fixed_bits {
        head.push(best as u8);
        bits.put(gaps.len() as u32, 32);
        for (gap, outcome) in gaps {
            for _ in 0..gap >> best {
                bits.put(1, 1);
            }
            bits.put(0, 1);
            bits.put(gap & ((1 << best) - 1), best);
            bits.put(place(outcome).saturating_sub(1) as u32, state_bits);
        }
    } else {
        head.push(FIXED);
        for &outcome in outcomes {
            bits.put(place(outcome) as u32, bits_for(table.len()));
        }
    }
    head.extend(bits.bytes);
    head
}

/// Unpacks a chunk that must hold exactly `expected` outcomes. Memory and time are bounded by `expected` and the bytes' length.
///
/// # Errors
/// If the bytes are not such a chunk to the last bit.
pub fn decode(bytes: &[u8], expected: u32) -> Result<Vec<Outcome>, ChunkError> {
    let (&version, rest) = bytes.split_first().ok_or(ChunkError::Truncated)?;
    if version != VERSION {
        return Err(ChunkError::Version(version));
    }
    let (count, rest) = rest.split_first_chunk().ok_or(ChunkError::Truncated)?;
    let actual = u32::from_be_bytes(*count);
    if actual != expected || expected > SHARD_TARGETS_MAX {
        return Err(ChunkError::Count { expected, actual });
    }
    let (&states, rest) = rest.split_first().ok_or(ChunkError::Truncated)?;
    let (codes, rest) = rest.split_at_checked(usize::from(states)).ok_or(ChunkError::Truncated)?;
    let table = read_table(codes, expected)?;
    let (&coding, rest) = rest.split_first().ok_or(ChunkError::Truncated)?;
    let mut bits = BitReader { bytes: rest, at: 0 };
    let outcomes = match coding {
        FIXED => read_fixed(&mut bits, &table, expected)?,
        0..32 => read_gaps(&mut bits, &table, expected, u32::from(coding))?,
        _ => return Err(ChunkError::Outcomes),
    };
    bits.finish()?;
    Ok(outcomes)
}

/// The outcomes that occur, the commonest first, ties by code: the same outcomes give the same bytes.
fn table_of(outcomes: &[Outcome]) -> Vec<Outcome> {
    let mut counts = [0u32; 256];
    for outcome in outcomes {
        counts[usize::from(outcome.code())] += 1;
    }
    let mut table: Vec<_> =
        (0..=u8::MAX).filter(|&code| counts[usize::from(code)] > 0).filter_map(Outcome::from_code).collect();
    table.sort_by_key(|outcome| (std::cmp::Reverse(counts[usize::from(outcome.code())]), outcome.code()));
    table
}

/// The exceptions to the commonest outcome, each with the number of commonest ones since the exception before it.
fn gaps_of(outcomes: &[Outcome], commonest: Option<Outcome>) -> Vec<(u32, Outcome)> {
    let mut gaps = Vec::new();
    let mut gap = 0;
    for &outcome in outcomes {
        if Some(outcome) == commonest {
            gap += 1;
        } else {
            gaps.push((gap, outcome));
            gap = 0;
        }
    }
    gaps
}

fn read_table(codes: &[u8], expected: u32) -> Result<Vec<Outcome>, ChunkError> {
    let table: Vec<_> = codes.iter().filter_map(|&code| Outcome::from_code(code)).collect();
    let mut distinct = table.clone();
    distinct.sort();
    distinct.dedup();
    let fits = table.len() == codes.len() && distinct.len() == table.len() && table.len() <= STATES_MAX;
    if fits && table.is_empty() == (expected == 0) { Ok(table) } else { Err(ChunkError::Table) }
}

fn read_fixed(bits: &mut BitReader<'_>, table: &[Outcome], expected: u32) -> Result<Vec<Outcome>, ChunkError> {
    let width = bits_for(table.len());
    (0..expected).map(|_| table.get(bits.take(width)? as usize).copied().ok_or(ChunkError::Outcomes)).collect()
}

fn read_gaps(bits: &mut BitReader<'_>, table: &[Outcome], expected: u32, k: u32) -> Result<Vec<Outcome>, ChunkError> {
    let &commonest = table.first().ok_or(ChunkError::Table)?;
    let exceptions = bits.take(32)?;
    let state_bits = bits_for(table.len() - 1);
    let mut outcomes = Vec::with_capacity(expected as usize);
    for _ in 0..exceptions {
        let mut quotient = 0;
        while bits.take(1)? == 1 {
            quotient += 1;
            if quotient > QUOTIENT_MAX {
                return Err(ChunkError::Outcomes);
            }
        }
        let gap = (u64::from(quotient) << k) + u64::from(bits.take(k)?);
        if gap >= u64::from(expected) - outcomes.len() as u64 {
            return Err(ChunkError::Outcomes);
        }
        outcomes.resize(outcomes.len() + gap as usize, commonest);
        outcomes.push(*table.get(bits.take(state_bits)? as usize + 1).ok_or(ChunkError::Outcomes)?);
    }
    outcomes.resize(expected as usize, commonest);
    Ok(outcomes)
}

/// ⌈log2 n⌉; 0 for 0 and 1.
fn bits_for(n: usize) -> u32 {
    match n {
        0 | 1 => 0,
        n => usize::BITS - (n - 1).leading_zeros(),
    }
}

#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    used: u32,
}

impl BitWriter {
    fn put(&mut self, value: u32, width: u32) {
        for shift in (0..width).rev() {
            if self.used == 0 {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> shift & 1) as u8) << (7 - self.used);
            }
            self.used = (self.used + 1) % 8;
        }
    }
}

struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl BitReader<'_> {
    fn take(&mut self, width: u32) -> Result<u32, ChunkError> {
        let mut value = 0;
        for _ in 0..width {
            let byte = self.bytes.get(self.at / 8).ok_or(ChunkError::Truncated)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Ok(value)
    }

    fn finish(&mut self) -> Result<(), ChunkError> {
        let padding = (8 - self.at % 8) % 8;
        if self.at.div_ceil(8) != self.bytes.len() || self.take(padding as u32)? != 0 {
            return Err(ChunkError::Surplus);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Cause;
    use proptest::prelude::*;

    fn any_outcome() -> impl Strategy<Value = Outcome> {
        prop::sample::select((0..=u8::MAX).filter_map(Outcome::from_code).collect::<Vec<_>>())
    }

    /// Mostly one outcome, as scans are, and some of anything.
    fn outcomes() -> impl Strategy<Value = Vec<Outcome>> {
        prop::collection::vec(
            prop_oneof![30 => Just(Outcome::FILTERED), 3 => Just(Outcome::CLOSED), 1 => any_outcome()],
            0..3000,
        )
    }

    #[test]
    fn golden_bytes() {
        let few = [Outcome::FILTERED, Outcome::OPEN, Outcome::CLOSED, Outcome::FILTERED];
        assert_eq!(encode(&few), GOLDEN_FIXED);
        let mut many = vec![Outcome::FILTERED; 1_000];
        many[3] = Outcome::OPEN;
        many[700] = Outcome::CLOSED;
        assert_eq!(encode(&many), GOLDEN_GAPS);
    }
    const GOLDEN_FIXED: [u8; 11] = [1, 0, 0, 0, 4, 3, 99, 33, 66, 255, 24];
    const GOLDEN_GAPS: [u8; 17] = [1, 0, 0, 3, 232, 3, 99, 33, 66, 8, 0, 0, 0, 2, 1, 181, 196];

    #[test]
    fn a_silent_shard_costs_next_to_nothing_and_a_mixed_one_at_most_half_a_byte_a_target() {
        assert!(encode(&vec![Outcome::FILTERED; 32_768]).len() < 16);
        let mixed: Vec<_> = (0..32_768u32)
            .map(|i| {
                [Outcome::FILTERED, Outcome::CLOSED, Outcome::OPEN, Outcome::not_probed(Cause::Pending)]
                    [(i.wrapping_mul(2_654_435_761) >> 30) as usize]
            })
            .collect();
        assert!(encode(&mixed).len() <= 32_768 / 2, "{}", encode(&mixed).len());
        // 90 % silent, 9.8 % closed, 0.2 % open: an entropy of 0.48 bit a target.
        let usual: Vec<_> = (0..32_768u32)
            .map(|i| match crate::order::mix(u64::from(i)) % 1000 {
                0..2 => Outcome::OPEN,
                2..100 => Outcome::CLOSED,
                _ => Outcome::FILTERED,
            })
            .collect();
        assert!(encode(&usual).len() <= 32_768 / 12, "{}", encode(&usual).len());
    }

    #[test]
    fn bad_input_65_a_chunk_cannot_claim_more_than_its_shard_has() {
        let bytes = encode(&[Outcome::OPEN; 1000]);
        assert_eq!(decode(&bytes, 10), Err(ChunkError::Count { expected: 10, actual: 1000 }));
        let mut long_table = vec![VERSION, 0, 0, 0, 1, 255];
        long_table.extend([Outcome::OPEN.code(); 255]);
        long_table.push(FIXED);
        assert_eq!(decode(&long_table, 1), Err(ChunkError::Table));
        // A gap that runs far past the end.
        let gaps = [
            VERSION,
            0,
            0,
            0,
            2,
            2,
            Outcome::FILTERED.code(),
            Outcome::OPEN.code(),
            31,
            0,
            0,
            0,
            1,
            0x7f,
            0xff,
            0xff,
            0xff,
            0xff,
        ];
        assert_eq!(decode(&gaps, 2), Err(ChunkError::Outcomes));
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_back(outcomes in outcomes()) {
            let bytes = encode(&outcomes);
            prop_assert_eq!(decode(&bytes, outcomes.len() as u32), Ok(outcomes));
        }

        #[test]
        fn truncated_or_longer_is_refused(outcomes in outcomes(), cut: prop::sample::Index) {
            let mut bytes = encode(&outcomes);
            let count = outcomes.len() as u32;
            prop_assert!(decode(&bytes[..cut.index(bytes.len())], count).is_err());
            bytes.push(0);
            prop_assert!(decode(&bytes, count).is_err());
        }

        #[test]
        fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), expected in 0..=SHARD_TARGETS_MAX) {
            if let Ok(outcomes) = decode(&bytes, expected) {
                prop_assert_eq!(outcomes.len() as u32, expected);
            }
        }
    }
}
