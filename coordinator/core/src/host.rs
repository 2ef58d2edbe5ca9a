//! What is known of one address, folded from its targets: the row that every report is made of.

use protocol::probe::{Outcome, Reason, Slot, State};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The most open ports that a host row names; the rest is counted.
pub const OPEN_PORTS_MAX: usize = 1_024;
/// Another outcome names its ports only while no more of the host's ports share it; then it is counted.
pub const PORTS_NAMED_MAX: usize = 25;

/// The most targets of a host of which it is told what each vantage saw, where they differ; the rest is counted.
pub const DIFFERING_MAX: usize = 1_024;

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
    /// What the vantages saw, where each probed everything. What stands above is then what says most of a target.
    pub views: Option<Box<Views>>,
}

/// What several vantages saw of one address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Views {
    /// Outcomes, with how many targets have them: each slot is as many targets as there are vantages.
    pub counts: BTreeMap<Outcome, u64>,
    /// What the vantages see differently: `ping`, then the lowest ports, ascending, at most [`DIFFERING_MAX`].
    pub differing: Vec<Differing>,
    /// How many there are of these.
    pub differ: u32,
}

/// A slot of a host in which vantages found different states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differing {
    /// Which.
    pub slot: Slot,
    /// What each vantage found, in the plan's order of them; `None` where it is no target.
    pub seen: Vec<Option<Answer>>,
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
        Self { address, ping: None, open: Vec::new(), groups: Vec::new(), views: None }
    }

    /// Takes in what each vantage found, in the plan's order of them; `None` from one for which it is no target. Each slot is folded once.
    pub fn fold_views(&mut self, slot: Slot, seen: &[Option<Answer>]) {
        let views = self.views.get_or_insert_default();
        let answers = seen.iter().flatten();
        for answer in answers.clone() {
            *views.counts.entry(answer.outcome).or_default() += 1;
        }
        let state = |seen: &Option<Answer>| seen.map(|answer| answer.outcome.state());
        if seen.windows(2).any(|pair| state(&pair[0]) != state(&pair[1])) {
            views.differ += 1;
            let at = views.differing.partition_point(|differing| differing.slot < slot);
            views.differing.insert(at, Differing { slot, seen: seen.to_vec() });
            views.differing.truncate(DIFFERING_MAX);
        }
        // What was found goes before what was not, an accepted connection before all.
        if let Some(most) = answers.min_by_key(|answer| says_most(answer.outcome)) {
            self.fold(slot, *most);
        }
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

    /// Ports that vantages see differently and that are not named above, each with the outcome under which it is counted there.
    #[must_use]
    pub fn differing_unnamed(&self) -> Vec<(u16, Outcome)> {
        let differing = self.views.iter().flat_map(|views| &views.differing);
        let ports = differing.filter_map(|differing| match differing.slot {
            Slot::Ping => None,
            Slot::Tcp(port) => Some((
                port,
                differing
                    .seen
                    .iter()
                    .flatten()
                    .map(|answer| answer.outcome)
                    .min_by_key(|&outcome| says_most(outcome))?,
            )),
        });
        let is_named = |&(port, outcome): &(u16, Outcome)| {
            let named = self.groups.iter().filter(|group| group.outcome == outcome).flat_map(|group| &group.ports);
            self.open.iter().map(|open| open.port).chain(named.copied()).any(|named| named == port)
        };
        ports.filter(|port| !is_named(port)).collect()
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
        let by_vantage = self.views.iter().flat_map(|views| &views.counts).map(|(&outcome, &count)| (outcome, count));
        let is_spread = self.views.is_none();
        let ping = self.ping.filter(|_| is_spread).map(|answer| (answer.outcome, 1));
        let groups = self.groups.iter().filter(move |_| is_spread);
        ping.into_iter().chain(groups.map(|group| (group.outcome, u64::from(group.count)))).chain(by_vantage)
    }
}

/// Orders what vantages found by how much it says, most first.
fn says_most(outcome: Outcome) -> (bool, Outcome) {
    (!outcome.is_probed(), outcome)
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
    fn what_vantages_see_differently_is_told_and_each_of_their_targets_is_counted() {
        let mut host = host();
        host.fold_views(Slot::Tcp(80), &[Some(answer(Outcome::FILTERED)), Some(answer(Outcome::OPEN))]);
        host.fold_views(Slot::Tcp(22), &[Some(answer(Outcome::CLOSED)), Some(answer(Outcome::CLOSED))]);
        host.fold_views(Slot::Ping, &[Some(answer(Outcome::UP)), Some(answer(Outcome::not_probed(Cause::NoAgent)))]);
        assert_eq!(host.place(), Place::Host(Reason::EchoReply));
        assert_eq!(host.open.iter().map(|open| open.port).collect::<Vec<_>>(), [80], "what says most");
        assert_eq!((host.targets(), host.not_probed()), (6, 1));
        let views = host.views.as_ref().expect("two vantages");
        assert_eq!(views.differ, 2);
        assert_eq!(
            views.differing.iter().map(|differing| differing.slot).collect::<Vec<_>>(),
            [Slot::Ping, Slot::Tcp(80)]
        );
        assert_eq!(views.differing[1].seen[1].map(|answer| answer.outcome), Some(Outcome::OPEN));
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
