//! Hosts that answered the pings of a scan. In a sweep each address is asked one thing, so nothing of its own tells whether a silent one
//! was lost: some that are known to answer are asked again meanwhile, and what becomes of that tells of the network.
//!
//! - W1: they are few and spread: one for [`SILENT_EACH`] silent pings at most, each host once in [`PAUSE`] at most, whatever it answers
//!   less often than that.
//! - W2: they are the scan's own, and as many as [`HOSTS_MAX`].

use protocol::time::Time;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

const HOSTS_MAX: usize = 256;
const SILENT_EACH: u32 = 64;
/// Hosts that limit their echo replies mostly send one a second.
const PAUSE: Duration = Duration::from_secs(1);

/// The hosts, and when each was last asked, longest ago first.
#[derive(Debug, Default)]
pub(super) struct Awake {
    hosts: VecDeque<(IpAddr, Time)>,
    silent: u32,
}

impl Awake {
    /// A host answered the ping that was sent to it then.
    pub(super) fn answered(&mut self, address: IpAddr, sent_at: Time) {
        if self.hosts.len() < HOSTS_MAX {
            self.hosts.push_back((address, sent_at));
        }
    }

    /// A ping stayed without answer. Who is to be asked again because of it, if anybody.
    pub(super) fn silent(&mut self, now: Time) -> Option<IpAddr> {
        self.silent = self.silent.saturating_add(1);
        let &(address, asked_at) = self.hosts.front().filter(|_| self.silent >= SILENT_EACH)?;
        if now < asked_at + PAUSE {
            return None;
        }
        self.hosts.rotate_left(1);
        if let Some(last) = self.hosts.back_mut() {
            *last = (address, now);
        }
        self.silent = 0;
        Some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    fn host(number: u32) -> IpAddr {
        IpAddr::V4((0xc000_0200 + number).into())
    }

    #[test]
    fn w1_one_of_64_silent_pings_asks_somebody_again_and_each_once_a_second() {
        let mut awake = Awake::default();
        assert!((0..1_000).all(|_| awake.silent(at(0)).is_none()), "nobody is known");
        awake.answered(host(1), at(0));
        awake.answered(host(2), at(400));
        assert_eq!(awake.silent(at(999)), None);
        assert_eq!(awake.silent(at(1_000)), Some(host(1)), "it waited for somebody");
        let asked = |awake: &mut Awake, now| (0..SILENT_EACH).filter_map(|_| awake.silent(at(now))).collect::<Vec<_>>();
        assert!(asked(&mut awake, 1_300).is_empty(), "not so soon");
        assert_eq!(asked(&mut awake, 1_400), [host(2)]);
        assert!(asked(&mut awake, 1_999).is_empty());
        assert_eq!(asked(&mut awake, 2_000), [host(1)]);
        assert_eq!(awake.silent(at(9_000)), Some(host(2)), "it waited for somebody again");
        assert_eq!((1..SILENT_EACH).filter_map(|_| awake.silent(at(9_000))).count(), 0, "63 are too few");
        assert_eq!(awake.silent(at(9_000)), Some(host(1)));
    }

    #[test]
    fn w2_so_many_are_remembered() {
        let mut awake = Awake::default();
        (0..1_000).for_each(|number| awake.answered(host(number), at(0)));
        assert_eq!(awake.hosts.len(), HOSTS_MAX);
    }
}
