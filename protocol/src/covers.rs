//! Which targets of a shard a pass covers: a bitmap over `lo..hi`, bit by bit, most significant first; empty for all of them.

/// True if a bitmap fits `lo..hi`: empty, or as long as the shard, covering something and nothing beyond it.
#[must_use]
pub fn fits(covers: &[u8], lo: u32, hi: u32) -> bool {
    let len = hi.saturating_sub(lo);
    covers.is_empty()
        || (covers.len() == len.div_ceil(8) as usize
            && covers.iter().any(|&byte| byte != 0)
            && (len..covers.len() as u32 * 8).all(|bit| !bit_at(covers, bit)))
}

/// True if the target at `index`, which lies in `lo..hi`, is covered.
#[must_use]
pub fn contains(covers: &[u8], lo: u32, hi: u32, index: u32) -> bool {
    (lo..hi).contains(&index) && (covers.is_empty() || bit_at(covers, index - lo))
}

/// How many targets are covered.
#[must_use]
pub fn count(covers: &[u8], lo: u32, hi: u32) -> u32 {
    match covers {
        [] => hi.saturating_sub(lo),
        covers => covers.iter().map(|byte| byte.count_ones()).sum(),
    }
}

/// The covered indices, ascending.
pub fn indices(covers: &[u8], lo: u32, hi: u32) -> impl Iterator<Item = u32> + '_ {
    (lo..hi).filter(move |index| covers.is_empty() || bit_at(covers, index - lo))
}

/// The bitmap of `lo..hi` that covers what `covered` says.
#[must_use]
pub fn bitmap(lo: u32, hi: u32, covered: impl Fn(u32) -> bool) -> Vec<u8> {
    let mut bits = vec![0; hi.saturating_sub(lo).div_ceil(8) as usize];
    for index in (lo..hi).filter(|&index| covered(index)) {
        bits[(index - lo) as usize / 8] |= 1 << (7 - (index - lo) % 8);
    }
    bits
}

fn bit_at(covers: &[u8], bit: u32) -> bool {
    covers.get(bit as usize / 8).is_some_and(|byte| byte >> (7 - bit % 8) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bitmap_says_what_it_was_made_of() {
        for (lo, hi) in [(0, 1), (3, 11), (5, 22), (100, 100 + 32_768)] {
            let third = |index: u32| index % 3 == lo % 3;
            let covers = bitmap(lo, hi, third);
            assert!(fits(&covers, lo, hi));
            assert!(indices(&covers, lo, hi).eq((lo..hi).filter(|&index| third(index))));
            assert_eq!(count(&covers, lo, hi) as usize, indices(&covers, lo, hi).count());
            assert!(
                (lo.saturating_sub(2)..hi + 2)
                    .all(|i| contains(&covers, lo, hi, i) == ((lo..hi).contains(&i) && third(i)))
            );
            assert_eq!(indices(&[], lo, hi).count() as u32, count(&[], lo, hi));
        }
        assert!(!fits(&bitmap(0, 9, |_| false), 0, 9), "it covers nothing");
        assert!(!fits(&[0xff], 0, 7) && !fits(&[0xff, 0], 0, 8));
    }
}
