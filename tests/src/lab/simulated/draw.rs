//! Dice without memory: a number that follows from a seed, what it is for, and whom it is about.

/// What is drawn. One draw says nothing about another.
#[derive(Debug, Clone, Copy)]
pub(super) enum For {
    Kind = 1,
    RoundTrip,
    Port,
    LossOut,
    LossBack,
    Jitter,
    Sequence,
}

/// Any number, each as likely.
pub(super) fn number(seed: u64, purpose: For, about: u64, further: u64) -> u64 {
    let mut mixed = mix(seed ^ (purpose as u64).wrapping_mul(0xA076_1D64_78BD_642F));
    mixed = mix(mixed ^ about);
    mix(mixed ^ further.wrapping_mul(0xE703_7ED1_A0B4_28DB))
}

/// From 0 to below 1.
pub(super) fn share(seed: u64, purpose: For, about: u64, further: u64) -> f64 {
    // 53 bits are what a float holds.
    (number(seed, purpose, about, further) >> 11) as f64 / (1_u64 << 53) as f64
}

/// SplitMix64 (Steele, Lea, Flood 2014): every bit of what goes in turns half of those that come out.
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_even_and_draws_say_nothing_of_each_other() {
        let draws = |purpose| (0..20_000_u64).map(move |about| share(5, purpose, about, 0));
        let mean = draws(For::Kind).sum::<f64>() / 20_000.0;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
        let both = draws(For::Kind).zip(draws(For::Port)).filter(|(a, b)| *a < 0.5 && *b < 0.5).count();
        assert!((4_700..5_300).contains(&both), "{both} of 20,000 are in the low half twice");
        assert_eq!(number(5, For::Kind, 7, 0), number(5, For::Kind, 7, 0));
        assert_ne!(number(5, For::Kind, 7, 0), number(6, For::Kind, 7, 0));
        assert_ne!(number(5, For::Kind, 7, 0), number(5, For::Kind, 7, 1));
    }
}
