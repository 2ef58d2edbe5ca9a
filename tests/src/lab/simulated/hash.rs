//! Maps by small integers that nobody chooses to do harm: the places and targets of a simulated network. The hash of the standard
//! library resists attackers, which here is not needed.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by an integer.
pub(super) type ByNumber<K, V> = HashMap<K, V, BuildHasherDefault<Mixed>>;

/// One multiplication and a shift (Fibonacci hashing, Knuth 6.4): the map takes its place from the upper bits and from the lower.
#[derive(Debug, Default)]
pub(super) struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ mixed >> 32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn targets_of_a_network_spread_over_upper_and_lower_bits() {
        let hashes = (0..256_u64).flat_map(|host| {
            (1..=256_u64).map(move |port| {
                let mut hasher = Mixed::default();
                hasher.write_u64(host << 32 | port);
                hasher.finish()
            })
        });
        let hashes: Vec<u64> = hashes.collect();
        // Thrown at random, 63 of 100 of as many places are hit.
        for bits in [|hash: u64| hash >> 48, |hash: u64| hash & 0xffff] {
            let places: BTreeSet<u64> = hashes.iter().map(|&hash| bits(hash)).collect();
            assert!(places.len() > 35_000, "{} of 65,536", places.len());
        }
    }
}
