//! What is known of one address, folded from its targets: the row that every report is made of.

use protocol::probe::{Outcome, Reason, Slot, State};
use std::net::IpAddr;

/// The most open ports that a host row names; the rest is counted.
pub const OPEN_PORTS_MAX: usize = 1_024;
/// Another outcome names its ports only while no more of the host's ports share it; then it is counted.
pub const PORTS_NAMED_MAX: usize = 25;

/// What is known of one address. Folded from outcomes in any order; its size is bounded whatever is folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The address.
    pub address: IpAddr,
    /// What `ping` found, where it was asked.
    pub ping: Option<Answer>,
    /// The lowest open ports, ascending, at most [`OPEN_PORTS_MAX`].
    pub open: Vec<OpenPort>,
    /// Outcomes of ports, `open` included, each with how many there are; ordered by outcome.
    pub groups: Vec<PortGroup>,
}

/// What one probe found, when it answered and who saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What was found.
    pub outcome: Outcome,
    /// The round-trip time in microseconds, where something answered.
    pub rtt_us: Option<u32>,
    /// Who saw it: its place in the scan's list of agents.
    pub seen_by: u32,
}

/// An open port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenPort {
    /// Its number.
    pub port: u16,
    /// The round-trip time in microseconds.
    pub rtt_us: Option<u32>,
    /// Who saw it: its place in the scan's list of agents.
    pub seen_by: u32,
}

/// The ports of a host that share an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortGroup {
    /// What they share.
    pub outcome: Outcome,
    /// How many there are.
    pub count: u32,
    /// Which, ascending, while they are at most [`PORTS_NAMED_MAX`]; else empty. Always empty for `open` (see [`Host::open`]) and `not-probed`.
    pub ports: Vec<u16>,
}

/// Which of the result's three lists an address stands in. Every address stands in exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It gave a sign of life: up, by the reason.
    Host(Reason),
    /// All its targets were probed and it gave none. `down` with what `ping` found, or `unknown` (`None`) where no `ping` was asked.
    Silent(Option<Outcome>),
    /// It gave none, and a target of it was not probed; with the commonest cause.
    NotProbed(Outcome),
}

impl Host {
    /// A row to which nothing was folded yet.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        Self { address, ping: None, open: Vec::new(), groups: Vec::new() }
    }

    /// Takes in the final outcome of one of its targets. Each target is folded once.
    pub fn fold(&mut self, slot: Slot, answer: Answer) {
        match slot {
            Slot::Ping => self.ping = Some(answer),
            Slot::Tcp(port) => self.fold_port(port, answer),
        }
    }

    fn fold_port(&mut self, port: u16, answer: Answer) {
        let Answer { outcome, rtt_us, seen_by } = answer;
        let group = match self.groups.binary_search_by_key(&outcome, |group| group.outcome) {
            Ok(at) => &mut self.groups[at],
            Err(at) => {
                self.groups.insert(at, PortGroup { outcome, count: 0, ports: Vec::new() });
                &mut self.groups[at]
            }
        };
        group.count += 1;
        match outcome.state() {
            State::NotProbed => {}
            State::Open => {
                let at = self.open.partition_point(|open| open.port < port);
                self.open.insert(at, OpenPort { port, rtt_us, seen_by });
                self.open.truncate(OPEN_PORTS_MAX);
            }
            _ if group.count as usize > PORTS_NAMED_MAX => group.ports = Vec::new(),
            _ => group.ports.insert(group.ports.partition_point(|&named| named < port), port),
        }
    }

    /// How many of its targets were folded.
    #[must_use]
    pub fn targets(&self) -> u64 {
        self.counts().map(|(_, count)| count).sum()
    }

    /// Whether so many ports are open that something before the host may answer for every one of them, as firewalls with a SYN proxy do.
    #[must_use]
    pub fn is_all_open_suspect(&self) -> bool {
        let open = self.groups.iter().find(|group| group.outcome == Outcome::OPEN);
        open.is_some_and(|group| group.count as usize > OPEN_PORTS_MAX)
    }

    /// How many of its targets were not probed.
    #[must_use]
    pub fn not_probed(&self) -> u64 {
        self.counts().filter(|(outcome, _)| !outcome.is_probed()).map(|(_, count)| count).sum()
    }

    /// Which of the result's lists it stands in.
    #[must_use]
    pub fn place(&self) -> Place {
        let pinged = self.ping.map(|answer| answer.outcome);
        // `ping` comes first in the plan's order, then an accepted connection says most.
        if let Some(reason) = pinged
            .into_iter()
            .chain(self.groups.iter().map(|group| group.outcome))
            .filter(|o| o.is_sign_of_life())
            .find_map(Outcome::reason)
        {
            return Place::Host(reason);
        }
        match self
            .counts()
            .filter(|(outcome, _)| !outcome.is_probed())
            .max_by_key(|&(outcome, count)| (count, std::cmp::Reverse(outcome)))
        {
            Some((outcome, _)) => Place::NotProbed(outcome),
            None => Place::Silent(pinged),
        }
    }

    /// Outcomes with how many targets have them; one may come twice, for `ping` and for ports.
    pub fn counts(&self) -> impl Iterator<Item = (Outcome, u64)> + '_ {
        let ping = self.ping.map(|answer| (answer.outcome, 1));
        ping.into_iter().chain(self.groups.iter().map(|group| (group.outcome, u64::from(group.count))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::probe::Cause;

    fn host() -> Host {
        Host::new("192.0.2.1".parse().unwrap())
    }

    fn answer(outcome: Outcome) -> Answer {
        Answer { outcome, rtt_us: None, seen_by: 0 }
    }

    #[test]
    fn an_address_stands_in_exactly_one_list() {
        let mut refused = host();
        refused.fold(Slot::Ping, answer(Outcome::DOWN));
        refused.fold(Slot::Tcp(1), answer(Outcome::CLOSED));
        refused.fold(Slot::Tcp(2), answer(Outcome::not_probed(Cause::NoRoute)));
        assert_eq!(refused.place(), Place::Host(Reason::ConnRefused), "a refused port is a sign of life");

        let mut silent = host();
        silent.fold(Slot::Tcp(1), answer(Outcome::FILTERED));
        assert_eq!(silent.place(), Place::Silent(None), "nobody asked for life");
        silent.fold(Slot::Ping, answer(Outcome::DOWN));
        assert_eq!(silent.place(), Place::Silent(Some(Outcome::DOWN)));
        silent.fold(Slot::Tcp(2), answer(Outcome::not_probed(Cause::LocalLimit)));
        assert_eq!(silent.place(), Place::NotProbed(Outcome::not_probed(Cause::LocalLimit)));
        assert_eq!((silent.targets(), silent.not_probed()), (3, 1));
    }

    #[test]
    fn bad_input_89_a_host_with_every_port_open_has_a_bounded_row() {
        let mut host = host();
        for port in (1..=u16::MAX).rev() {
            host.fold(Slot::Tcp(port), answer(Outcome::OPEN));
        }
        assert_eq!(host.open.len(), OPEN_PORTS_MAX);
        assert_eq!(host.open.last().map(|open| open.port), Some(1024), "the lowest are named");
        assert_eq!(host.targets(), 65_535);
        assert_eq!(host.groups.len(), 1);
        assert!(host.is_all_open_suspect());
    }

    #[test]
    fn ports_are_named_while_few_share_an_outcome() {
        let mut host = host();
        for port in (1..=25).rev() {
            host.fold(Slot::Tcp(port), answer(Outcome::CLOSED));
        }
        assert_eq!(host.groups[0].ports, (1..=25).collect::<Vec<_>>());
        host.fold(Slot::Tcp(26), answer(Outcome::CLOSED));
        assert_eq!((host.groups[0].count, host.groups[0].ports.len()), (26, 0));
    }
}
