//! Joins neighbouring addresses that have the same to say: what makes the lists `silent` and `not_probed` short.

use std::fmt;
use std::net::IpAddr;

/// Consecutive addresses with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run<K> {
    pub(super) first: IpAddr,
    pub(super) last: IpAddr,
    /// What they share.
    pub(super) key: K,
    /// How many addresses.
    pub(super) count: u64,
    /// The sum of their weights.
    pub(super) weight: u64,
}

/// `A`, or `A-B`.
impl<K> fmt::Display for Run<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.first != self.last {
            write!(f, "-{}", self.last)?;
        }
        Ok(())
    }
}

/// Joins addresses that come in ascending order. An address that does not come, be it excluded or of another list,
/// ends a run: a range never says anything of an address that is not meant.
#[derive(Debug)]
pub(super) struct Joiner<K>(Option<Run<K>>);

impl<K: Copy + PartialEq> Joiner<K> {
    pub(super) fn new() -> Self {
        Self(None)
    }

    /// Takes the next address; gives the run before it, if it does not belong to it.
    pub(super) fn push(&mut self, address: IpAddr, key: K, weight: u64) -> Option<Run<K>> {
        if let Some(run) = &mut self.0
            && run.key == key
            && follows(run.last, address)
        {
            run.last = address;
            run.count += 1;
            run.weight += weight;
            return None;
        }
        let next = Run { first: address, last: address, key, count: 1, weight };
        self.0.replace(next)
    }

    /// The last run.
    pub(super) fn finish(self) -> Option<Run<K>> {
        self.0
    }
}

/// Whether `next` is the address right after `address`.
fn follows(address: IpAddr, next: IpAddr) -> bool {
    match (address, next) {
        (IpAddr::V4(address), IpAddr::V4(next)) => address.to_bits().checked_add(1) == Some(next.to_bits()),
        (IpAddr::V6(address), IpAddr::V6(next)) => address.to_bits().checked_add(1) == Some(next.to_bits()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(addresses: &[(&str, char)]) -> String {
        let mut joiner = Joiner::new();
        let mut text = String::new();
        let mut show = |run: Run<char>| text += &format!("{run} {} x{} ", run.key, run.count);
        for (address, key) in addresses {
            if let Some(run) = joiner.push(address.parse().unwrap(), *key, 1) {
                show(run);
            }
        }
        if let Some(run) = joiner.finish() {
            show(run);
        }
        text
    }

    #[test]
    fn neighbours_with_the_same_key_are_joined() {
        assert_eq!(joined(&[]), "");
        assert_eq!(
            joined(&[("192.0.2.255", 'a'), ("192.0.3.0", 'a'), ("192.0.3.1", 'b')]),
            "192.0.2.255-192.0.3.0 a x2 192.0.3.1 b x1 "
        );
    }

    #[test]
    fn a_gap_is_never_joined_over() {
        assert_eq!(joined(&[("192.0.2.1", 'a'), ("192.0.2.3", 'a')]), "192.0.2.1 a x1 192.0.2.3 a x1 ");
        assert_eq!(joined(&[("255.255.255.255", 'a'), ("::", 'a'), ("::1", 'a')]), "255.255.255.255 a x1 ::-::1 a x2 ");
    }
}
