//! The order of probes: a keyed permutation of `0..n` that needs no memory, and its inverse.
//!
//! A Feistel network over the smallest power of two that holds `n`, with cycle walking: a value outside `0..n` is fed in again
//! until it falls inside (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002, section 4). The two halves
//! may differ by one bit, so less than half of the domain is outside and a look-up takes less than two walks on average.
//! It is no cipher: it spreads probes and hides nothing.

/// Enough rounds that tiny domains reach many of their orders too; each costs about a nanosecond.
const ROUNDS: u64 = 6;

/// SplitMix64's finalizer (Steele, Lea and Flood, OOPSLA 2014): every bit of `x` reaches every bit of the result.
#[must_use]
pub(crate) const fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Derives a key for one purpose from a seed. Different purposes give orders that have nothing to do with each other.
#[must_use]
pub(crate) const fn derive(seed: u64, purpose: u64) -> u64 {
    mix(seed ^ mix(purpose.wrapping_add(0x9e37_79b9_7f4a_7c15)))
}

/// A permutation of `0..len`, the same for the same `(len, key)` on every machine and in every version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permutation {
    len: u64,
    key: u64,
    low_bits: u32,
    low_mask: u64,
    high_mask: u64,
}

impl Permutation {
    /// The permutation of `0..len` that `key` names. `len` 0 is an empty one.
    #[must_use]
    pub const fn new(len: u64, key: u64) -> Self {
        let bits = match len {
            0 | 1 => 0,
            _ => 64 - (len - 1).leading_zeros(),
        };
        let low_bits = bits.div_ceil(2);
        let high_bits = bits - low_bits;
        Self { len, key, low_bits, low_mask: (1 << low_bits) - 1, high_mask: (1 << high_bits) - 1 }
    }

    /// How many values it orders.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// True for a permutation of nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value at `position`. `None` unless `position < len`.
    #[must_use]
    pub fn at(&self, position: u64) -> Option<u64> {
        self.walk(position, Self::forward)
    }

    /// Where `value` stands: the inverse of [`at`](Self::at). `None` unless `value < len`.
    #[must_use]
    pub fn position(&self, value: u64) -> Option<u64> {
        self.walk(value, Self::backward)
    }

    fn walk(&self, start: u64, step: impl Fn(&Self, u64) -> u64) -> Option<u64> {
        if start >= self.len {
            return None;
        }
        // Ends: the step permutes the power-of-two domain, so the cycle of `start` comes back to `start`, which is inside.
        let mut value = step(self, start);
        while value >= self.len {
            value = step(self, value);
        }
        Some(value)
    }

    fn forward(&self, value: u64) -> u64 {
        let (mut high, mut low) = (value >> self.low_bits, value & self.low_mask);
        for round in 0..ROUNDS {
            if round % 2 == 0 {
                high ^= self.round(round, low) & self.high_mask;
            } else {
                low ^= self.round(round, high) & self.low_mask;
            }
        }
        // One bit or none: the high half is empty, and the rounds on the low half still flip it by the key.
        high << self.low_bits | low
    }

    fn backward(&self, value: u64) -> u64 {
        let (mut high, mut low) = (value >> self.low_bits, value & self.low_mask);
        for round in (0..ROUNDS).rev() {
            if round % 2 == 0 {
                high ^= self.round(round, low) & self.high_mask;
            } else {
                low ^= self.round(round, high) & self.low_mask;
            }
        }
        high << self.low_bits | low
    }

    fn round(&self, round: u64, half: u64) -> u64 {
        mix(half.wrapping_add(self.key ^ round.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn covers_each_once(len: u64, key: u64) {
        let permutation = Permutation::new(len, key);
        let mut seen = vec![false; usize::try_from(len).unwrap()];
        for position in 0..len {
            let value = permutation.at(position).unwrap();
            let slot = &mut seen[usize::try_from(value).unwrap()];
            assert!(!*slot, "{value} comes twice: len {len}, key {key}");
            *slot = true;
        }
        assert!(seen.iter().all(|&seen| seen), "len {len}, key {key}");
    }

    #[test]
    fn every_small_space_is_covered_once_and_inverted() {
        for len in 0..=600 {
            for key in [0, 1, u64::MAX, 0xdead_beef] {
                covers_each_once(len, key);
                let permutation = Permutation::new(len, key);
                for value in 0..len {
                    let position = permutation.position(value).unwrap();
                    assert_eq!(permutation.at(position), Some(value));
                }
                assert_eq!(permutation.at(len), None);
                assert_eq!(permutation.position(len), None);
            }
        }
    }

    #[test]
    fn large_spaces_up_to_2_pow_24_are_covered_once() {
        for len in [65_535, 65_536, 65_537, 999_983, (1 << 24) - 1, 1 << 24] {
            covers_each_once(len, 7);
        }
    }

    #[test]
    fn keys_give_different_orders_even_of_two() {
        let orders = |len: u64| {
            (0..200u64)
                .map(|key| (0..len).map(|i| Permutation::new(len, mix(key)).at(i).unwrap()).collect::<Vec<_>>())
                .collect::<std::collections::HashSet<_>>()
                .len()
        };
        assert_eq!(orders(1), 1);
        assert_eq!(orders(2), 2);
        assert!(orders(4) > 15, "{}", orders(4));
        assert_eq!(orders(64), 200);
    }

    /// Golden: a changed order would give a resumed scan's indices to other targets.
    #[test]
    fn golden_vectors() {
        let first = |len, key| (0..8).map(|i| Permutation::new(len, key).at(i).unwrap()).collect::<Vec<_>>();
        assert_eq!(first(10, 0), GOLDEN_10_0);
        assert_eq!(first(65_535, 42), GOLDEN_65535_42);
        assert_eq!(first(u64::MAX, 0x0123_4567_89ab_cdef), GOLDEN_MAX);
    }
    const GOLDEN_10_0: [u64; 8] = [8, 7, 6, 1, 3, 4, 9, 0];
    const GOLDEN_65535_42: [u64; 8] = [18223, 63456, 2479, 59462, 51130, 9134, 35168, 53659];
    const GOLDEN_MAX: [u64; 8] = [
        17540644231533987030,
        8394503172757577227,
        7927777113126231467,
        17000232630268793423,
        12897389772545841699,
        15569994800282349723,
        15049820117969327580,
        7588558516878085486,
    ];

    proptest! {
        #[test]
        fn samples_of_huge_spaces_invert(len in 1u64.., key: u64, at: u64) {
            let permutation = Permutation::new(len, key);
            let position = at % len;
            let value = permutation.at(position).unwrap();
            prop_assert!(value < len);
            prop_assert_eq!(permutation.position(value), Some(position));
        }

        #[test]
        fn odd_sized_spaces_are_covered_once(len in 0u64..20_000, key: u64) {
            covers_each_once(len, key);
        }
    }
}
