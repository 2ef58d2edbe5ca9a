//! Scans in two stages (`--discover`): which ports are targets follows from what `ping` found, and from nothing else.
//!
//! A cohort's first pass covers `ping` of its hosts. Its later passes cover silent pings again, and the ports of the hosts that have
//! given a sign of life by then: a host that answers late, or only after `resume`, gets its ports in the pass after. The live hosts need
//! not be stored beside the chunks: they are those whose stored `ping` is a sign of life, which no later pass takes back
//! ([`History::then`]), so what was once leased stays right whatever crashes.

use crate::passes::History;
use crate::store::{Store, StoreError};
use protocol::id::ScanId;
use protocol::plan::Cohort;
use protocol::probe::{Cause, Outcome};

/// What the ports of a host are, by what its `ping` was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// It is up: they are targets.
    Asked,
    /// It is down: they are none.
    NoTargets,
    /// Nothing was found out of it: they are targets that are not probed, with this cause.
    NotProbed(Outcome),
}

impl Ports {
    /// By the outcome of `ping`. What the ports of a host have not, its turn or a permission to be probed, is their cause too; else
    /// it is `no-discovery`.
    #[must_use]
    pub fn of(ping: Outcome) -> Self {
        match ping.cause() {
            None if ping.is_sign_of_life() => Self::Asked,
            None => Self::NoTargets,
            Some(cause) if cause.is_gap() && cause != Cause::Pending => {
                Self::NotProbed(Outcome::not_probed(Cause::NoDiscovery))
            }
            Some(_) => Self::NotProbed(ping),
        }
    }

    /// What is known of one of them; `None` for what is no target. `stored` is what its own probes found.
    #[must_use]
    pub fn known(self, stored: History) -> Option<History> {
        match self {
            Self::Asked => Some(stored),
            Self::NoTargets => None,
            Self::NotProbed(outcome) => Some(History { outcome, ..History::PENDING }),
        }
    }

    /// What the ports of each host of a cohort are, by the host's rank; `None` for a scan without stages.
    ///
    /// # Errors
    /// As [`History::of`].
    pub fn of_cohort<S: Store + ?Sized>(
        store: &S,
        scan: ScanId,
        cohort: &Cohort,
    ) -> Result<Option<Vec<Self>>, StoreError> {
        if !cohort.slots().discover() {
            return Ok(None);
        }
        let pings = History::of(store, scan, cohort.number(), 0..cohort.hosts())?;
        let mut ports = vec![Self::NoTargets; pings.len()];
        for (index, ping) in (0..).zip(pings) {
            if let Some(ports) = cohort.host_at(index).and_then(|rank| ports.get_mut(rank as usize)) {
                *ports = Self::of(ping.outcome);
            }
        }
        Ok(Some(ports))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::probe::{Reason, State};

    #[test]
    fn only_a_sign_of_life_makes_ports_targets() {
        assert_eq!(Ports::of(Outcome::UP), Ports::Asked);
        let refused = Outcome::found(State::Up, Reason::ConnRefused).unwrap();
        assert_eq!(Ports::of(refused), Ports::Asked, "ping by TCP");
        let unreachable = Outcome::found(State::Down, Reason::NetUnreach).unwrap();
        assert_eq!([Outcome::DOWN, unreachable].map(Ports::of), [Ports::NoTargets; 2]);
    }

    #[test]
    fn what_was_not_found_out_is_a_gap_only_where_the_ping_is_one() {
        for &cause in Cause::ALL {
            let Ports::NotProbed(outcome) = Ports::of(Outcome::not_probed(cause)) else { panic!("{cause}") };
            assert_eq!(outcome.cause().map(Cause::is_gap), Some(cause.is_gap()), "{cause}");
        }
        let no_discovery = Outcome::not_probed(Cause::NoDiscovery);
        assert_eq!(Ports::of(Outcome::not_probed(Cause::NoRoute)), Ports::NotProbed(no_discovery));
    }
}
