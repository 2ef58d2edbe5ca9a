//! Which probes are handed out now: right, reports, windows, pacers and hosts all have a say.

use super::{Agent, Out, Output};
use crate::attempt::{Batch, Probe, ProbeId, Settled, Why};
use crate::host_table::{HostTable, Limits, Room};
use crate::lease::Lease;
use crate::packets;
use crate::round_trip::Wait;
use protocol::id::Epoch;
use protocol::message::{PingMethod, ProbeOptions, Run};
use protocol::probe::{Cause, Outcome, ProbeKind, Target};
use protocol::rate::Rate;
use protocol::time::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// The most probes in one batch.
const BATCH_PROBES_MAX: usize = 256;
/// How many probes a second hosts bear each, without the gap between two being felt: leases beyond those that spread a share so thin wait, so
/// that the first are reported before the last begin.
const SPARED_PER_SECOND: f64 = 64.0;
/// With a share up to this it is one lease at a time, even if it is of one host alone.
const SLOW_PER_SECOND: f64 = 256.0;

impl Agent {
    /// Hands out probes while both hold: 1. the right lasts; 2. reports have room. Leases take [turns](super::turns) until none of them has
    /// a probe that may go.
    pub(super) fn fill(&mut self, now: Time) {
        self.fill_at = None;
        let Some(right_ends_at) =
            self.right.ends_at().filter(|_| self.right.lasts(now) && !self.unacknowledged.is_full())
        else {
            return;
        };
        let mut batches: BTreeMap<ProbeKind, Vec<Probe>> = BTreeMap::new();
        while let Some(probe) = self.next_check(now) {
            batches.entry(probe.target.slot.kind()).or_default().push(probe);
        }
        let checks: Vec<_> = batches.iter().map(|(&kind, probes)| (kind, probes.len())).collect();
        loop {
            self.wake_hosts(now);
            let mut round = self.turns.round(|epoch| self.wide(epoch));
            while let Some(turn) = round.next() {
                match self.next_probe(now, turn.epoch) {
                    Some(probe) => {
                        batches.entry(probe.target.slot.kind()).or_default().push(probe);
                        round.taken();
                    }
                    None if self.is_full(turn.epoch) => round.is_through(turn),
                    None => round.has_none(turn),
                }
            }
            self.turns.keep(&round);
            // A host's pacer may give more than the one for which it was woken. Ends, as each round takes something from a pacer.
            if !self.hosts.has_woken() {
                break;
            }
        }
        // Of these nothing was left but what is excluded.
        let through: Vec<_> = self.leases.iter().filter(|(_, lease)| lease.open() == 0).map(|(&id, _)| id).collect();
        for epoch in through {
            self.report(now, epoch, Cause::InternalError);
        }
        self.fill_at = self.fill_at.into_iter().chain(self.hosts.next_at()).min();
        debug_assert!(self.fill_at.is_none_or(|at| at > now), "a wake-up in the past");
        for (kind, checks) in checks {
            batches.entry(kind).and_modify(|probes| scatter(probes, checks, self.checks_made));
        }
        for (kind, probes) in batches {
            for probes in probes.chunks(BATCH_PROBES_MAX) {
                self.outputs.push_back(Output::Probe(Batch { kind, right_ends_at, probes: probes.to_vec() }));
            }
        }
    }

    /// Whether the window has no room for anything of the scan of a lease.
    fn is_full(&self, epoch: Epoch) -> bool {
        self.leases.get(&epoch).is_some_and(|lease| self.in_flight >= self.window(&lease.grant().options) as usize)
    }

    /// How many leases like this one take turns at once: with a rate as many as hurry none of their hosts, else as many as fill the window
    /// while nobody answers. The fewer they are, the sooner the first of them is reported.
    fn wide(&self, epoch: Epoch) -> usize {
        let Some(grant) = self.leases.get(&epoch).map(Lease::grant) else { return 1 };
        let hosts = f64::from(grant.cohort.hosts());
        let wide = match self.scans.get(&grant.scan).and_then(|scan| scan.pacer.as_ref()) {
            Some(share) => share.rate().as_per_second() / (SPARED_PER_SECOND * hosts).max(SLOW_PER_SECOND),
            None => f64::from(self.window(&grant.options)) / (f64::from(grant.options.per_host_window.max(1)) * hosts),
        };
        // A float that is too large saturates.
        wide.ceil() as usize
    }

    /// Puts what waited for a host that may have room now back in front of its lease.
    fn wake_hosts(&mut self, now: Time) {
        while let Some(address) = self.hosts.next_woken(now) {
            for epoch in self.turns.all() {
                let Some(lease) = self.leases.get_mut(&epoch) else { continue };
                let Some(target) = lease.first_aside(address) else { continue };
                let mut options = lease.grant().options;
                let scan = self.scans.get(&lease.grant().scan);
                options.per_host_rate = gentler(options.per_host_rate, scan.and_then(|scan| scan.per_host_rate));
                let cost = cost(target, self.identity.ping_method, options);
                let room = self.hosts.room(now, address, cost);
                if room == 0 {
                    break;
                }
                let woken = lease.wake(address, room);
                self.hosts.take_back(address, woken);
                if woken == room {
                    break;
                }
            }
        }
    }

    /// The next check, if all hold: 1. its lease is held; 2. its scan is known, runs, and does not exclude it; 3. the window has room; 4. the
    /// scan's pacer has; 5. its host has. It waits for 4; without the others it is not made.
    fn next_check(&mut self, now: Time) -> Option<Probe> {
        while let Some((epoch, again)) = self.checks.pop_front() {
            let target = again.target;
            let Some(grant) = self.leases.get(&epoch).map(Lease::grant) else { continue };
            let window = self.window(&grant.options);
            let Some(scan) = self.scans.get_mut(&grant.scan).filter(|scan| scan.orders.run == Run::Go) else {
                continue;
            };
            let (of, mut options) = (grant.scan, grant.options);
            options.per_host_rate = gentler(options.per_host_rate, scan.per_host_rate);
            if scan.orders.exclude.contains(target.address) || self.in_flight >= window as usize {
                continue;
            }
            let cost = cost(target, self.identity.ping_method, options);
            if let Some(pacer) = scan.pacer.as_ref().filter(|pacer| !pacer.has(now, cost)) {
                self.fill_at = self.fill_at.into_iter().chain(pacer.next_at(cost)).min();
                self.checks.push_front((epoch, again));
                return None;
            }
            if self.hosts.take_check(now, target.address, Limits::from(&options), cost) != Room::Taken {
                continue;
            }
            let paced = scan.pacer.as_mut().is_none_or(|pacer| pacer.take(now, cost));
            debug_assert!(paced, "A6: the pacer had room");
            let wait = wait(&self.hosts, target, &options);
            let id = ProbeId::check(epoch, self.checks_made);
            self.checks_made = self.checks_made.wrapping_add(1);
            self.in_flight += 1;
            self.out.insert(id, Out { target, why: again.why, sent_at: now, overdue: false });
            return Some(Probe { id, scan: of, target, wait });
        }
        None
    }

    /// The next probe of a lease, if all hold: 1. its scan is known, and runs; 2. the window has room; 3. a target waits that is not
    /// excluded, which settles those that are; 4. the scan's pacer has room; 5. the target's host has. A target that lacks only 5 is put aside for the next of the lease.
    fn next_probe(&mut self, now: Time, epoch: Epoch) -> Option<Probe> {
        let lease = self.leases.get(&epoch)?;
        let mut options = lease.grant().options;
        let window = self.window(&options);
        let lease = self.leases.get_mut(&epoch)?;
        let scan = self.scans.get_mut(&lease.grant().scan).filter(|scan| scan.orders.run == Run::Go)?;
        options.per_host_rate = gentler(options.per_host_rate, scan.per_host_rate);
        if self.in_flight >= window as usize {
            return None;
        }
        loop {
            let target = lease.next_target()?;
            if scan.orders.exclude.contains(target.address) {
                let probe = lease.next_probe(Wait::fixed(longest(&options)))?;
                let outcome = Outcome::not_probed(Cause::Excluded);
                lease.settle(&Settled { id: probe.id, outcome, rtt: None }, now);
                continue;
            }
            let cost = cost(target, self.identity.ping_method, options);
            if let Some(pacer) = scan.pacer.as_ref().filter(|pacer| !pacer.has(now, cost)) {
                self.fill_at = self.fill_at.into_iter().chain(pacer.next_at(cost)).min();
                return None;
            }
            match self.hosts.take(now, target.address, Limits::from(&options), cost) {
                Room::Taken => {
                    let paced = scan.pacer.as_mut().is_none_or(|pacer| pacer.take(now, cost));
                    debug_assert!(paced, "A6: the pacer had room");
                    let wait = wait(&self.hosts, target, &options);
                    let probe = lease.next_probe(wait)?;
                    self.in_flight += 1;
                    let why = Why::Try { again: lease.grant().pass > 1 };
                    let twice = self.out.insert(probe.id, Out { target, why, sent_at: now, overdue: false });
                    debug_assert!(twice.is_none(), "A2: {} is in flight", probe.target);
                    return Some(probe);
                }
                Room::Wait if lease.put_aside() => self.hosts.put_aside(now, target.address, cost),
                Room::Wait | Room::TableFull => return None,
            }
        }
    }
}

/// Puts the checks, which are the first, anywhere among the tries. A queue on the way has room for the first of a burst: checks that always
/// went ahead were answered while two thirds of the tries were dropped. The places are multiples of the golden ratio (Knuth, The Art of
/// Computer Programming 3, 6.4): spread evenly however many there are, and without chance.
fn scatter(probes: &mut [Probe], checks: usize, number: u32) {
    const RATIO: u32 = 0x9e37_79b9;
    let len = probes.len();
    for place in 0..checks {
        let part = number.wrapping_add(place as u32).wrapping_mul(RATIO);
        probes.swap(place, ((u64::from(part) * len as u64) >> 32) as usize);
    }
}

fn wait(hosts: &HostTable, target: Target, options: &ProbeOptions) -> Wait {
    match options.adaptive {
        true => hosts.wait(target.address, longest(options)),
        false => Wait::fixed(longest(options)),
    }
}

fn longest(options: &ProbeOptions) -> Duration {
    Duration::from_millis(u64::from(options.timeout_ms))
}

/// The lower of two caps.
fn gentler(one: Option<Rate>, other: Option<Rate>) -> Option<Rate> {
    one.into_iter().chain(other).min()
}

fn cost(target: Target, ping_method: PingMethod, options: ProbeOptions) -> u32 {
    packets::per_probe(target.slot.kind(), ping_method, longest(&options))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::id::ScanId;
    use protocol::probe::Slot;

    #[test]
    fn checks_go_anywhere_in_a_burst_each_place_as_often_as_the_others() {
        let epoch = Epoch::new(1);
        let probe = |index| Probe {
            id: if index == 0 { ProbeId::check(epoch, 0) } else { ProbeId { epoch, index } },
            scan: ScanId::from_bytes([1; 16]),
            target: Target { address: std::net::Ipv4Addr::LOCALHOST.into(), slot: Slot::Ping },
            wait: Wait::fixed(Duration::ZERO),
        };
        let mut in_tenth = [0; 10];
        for number in 0..1_000 {
            let mut burst: Vec<_> = (0..100).map(probe).collect();
            scatter(&mut burst, 1, number);
            let place = burst.iter().position(|probe| probe.id.is_check()).unwrap();
            in_tenth[place / 10] += 1;
            let mut indices: Vec<_> =
                burst.iter().filter(|probe| !probe.id.is_check()).map(|probe| probe.id.index).collect();
            indices.sort_unstable();
            assert!(indices.into_iter().eq(1..100), "nothing is lost or doubled");
        }
        assert!(in_tenth.iter().all(|count| (95..=105).contains(count)), "{in_tenth:?}");
        scatter(&mut [], 0, 1);
    }
}
