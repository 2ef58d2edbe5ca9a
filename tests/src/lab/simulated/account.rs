//! What a simulated network received, address by address and in bins of time, and whether it missed anything.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::ensure;

use super::hash::ByNumber;

/// The time that one count covers.
pub const BIN: Duration = Duration::from_millis(100);
/// Addresses that are counted one by one; of further ones only the sum is kept.
const ADDRESSES_MAX: usize = 1 << 20;
/// Bins an address; what comes later is counted in the last (a scan of a day and more).
const BINS_MAX: u64 = 1 << 20;

/// Probes that reached the network, before any was lost there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Received {
    /// SYNs, those that the scanner's system sent again among them.
    pub tcp: u64,
    /// Echo requests.
    pub ping: u64,
}

/// What a simulated network received.
#[derive(Debug, Default)]
pub struct Account {
    total: Received,
    by_address: ByNumber<u32, Of>,
    /// When the first probe arrived, counted from the network's start.
    pub first_at: Option<Duration>,
    /// What was neither SYN nor echo request for an address of the prefix: acknowledgements, RSTs, neighbour discovery.
    pub other: u64,
    /// Answers that were sent.
    pub answered: u64,
    /// Packets that the socket had no room for: the simulator did not keep up, and a scan lost them.
    pub missed: u64,
    /// Answers that could not be queued or sent: the same.
    pub unsent: u64,
    /// The most that answers were behind their time.
    pub latest: Duration,
}

#[derive(Debug, Default)]
struct Of {
    received: Received,
    /// Bins with something in them, ascending.
    bins: Vec<(u32, u32)>,
}

impl Account {
    pub(super) fn count_tcp(&mut self, offset: u32, since_first: Duration) {
        self.total.tcp += 1;
        if let Some(of) = self.of(offset, since_first) {
            of.received.tcp += 1;
        }
    }

    pub(super) fn count_ping(&mut self, offset: u32, since_first: Duration) {
        self.total.ping += 1;
        if let Some(of) = self.of(offset, since_first) {
            of.received.ping += 1;
        }
    }

    /// What reached the network.
    #[must_use]
    pub fn total(&self) -> Received {
        self.total
    }

    /// What was sent to the address at a place in the prefix.
    #[must_use]
    pub fn at(&self, offset: u32) -> Received {
        self.by_address.get(&offset).map(|of| of.received).unwrap_or_default()
    }

    /// Probes in each bin of [`BIN`] since the first of the scan, for the address at a place in the prefix; empty bins are left out.
    #[must_use]
    pub fn bins_at(&self, offset: u32) -> &[(u32, u32)] {
        self.by_address.get(&offset).map_or(&[], |of| &of.bins)
    }

    /// The most that arrived in one bin, over all addresses.
    #[must_use]
    pub fn fullest_bin(&self) -> u64 {
        let mut bins: HashMap<u32, u64> = HashMap::new();
        for (bin, count) in self.by_address.values().flat_map(|of| &of.bins) {
            *bins.entry(*bin).or_default() += u64::from(*count);
        }
        bins.into_values().max().unwrap_or(0)
    }

    /// An error if the simulator itself lost something: then nothing may be said about the scan.
    pub fn expect_nothing_missed(&self) -> anyhow::Result<()> {
        let Self { missed, unsent, .. } = self;
        ensure!(
            *missed == 0 && *unsent == 0,
            "the simulated network missed {missed} packets and {unsent} answers: too slow"
        );
        Ok(())
    }

    /// The counts as lines: address, SYNs, echo requests, and `bin:count` for each bin; `name` gives the address of a place.
    pub fn lines(&self, name: impl Fn(u32) -> IpAddr) -> impl Iterator<Item = String> {
        let mut places: Vec<_> = self.by_address.iter().collect();
        places.sort_unstable_by_key(|(offset, _)| **offset);
        places.into_iter().map(move |(offset, of)| {
            let bins: Vec<_> = of.bins.iter().map(|(bin, count)| format!("{bin}:{count}")).collect();
            format!("{} tcp={} ping={} {}", name(*offset), of.received.tcp, of.received.ping, bins.join(" "))
        })
    }

    fn of(&mut self, offset: u32, since_first: Duration) -> Option<&mut Of> {
        if self.by_address.len() >= ADDRESSES_MAX && !self.by_address.contains_key(&offset) {
            return None;
        }
        let of = self.by_address.entry(offset).or_default();
        let bin = (since_first.as_millis() / BIN.as_millis()).min(u128::from(BINS_MAX)) as u32;
        match of.bins.last_mut() {
            Some((last, count)) if *last == bin => *count += 1,
            _ => of.bins.push((bin, 1)),
        }
        Some(of)
    }
}
