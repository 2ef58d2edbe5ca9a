//! The control state of a running scan: what holds for it beside its plan, and how that is changed.
//!
//! It is one state with one version: durable before any agent is told, sent whole, and in force when every agent instance that may
//! probe has acknowledged it or its right has ended.

use protocol::range_set::AddressSet;
use protocol::rate::Rate;
use serde::{Deserialize, Serialize};

/// The most address ranges that may be excluded from one running scan: all of them travel in one frame.
pub const EXCLUDED_RANGES_MAX: usize = 16_384;
/// The largest weight of a scan.
pub const WEIGHT_MAX: u32 = 1_000;

/// What its owner wants of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Intent {
    /// That it goes on.
    Go,
    /// That it waits: leases are kept.
    Pause,
    /// That it ends for good. What was found stays.
    Cancel,
}

/// What holds for a running scan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ControlState {
    /// Rises with each change, from 1.
    pub version: u64,
    /// Whether it goes on.
    pub intent: Intent,
    /// Its budget over all agents, in packets per second; `None` where only windows and caps limit.
    pub rate: Option<Rate>,
    /// The most packets per second to one host, over all agents.
    pub per_host_rate: Option<Rate>,
    /// Its part of the fleet beside other scans, 1 to [`WEIGHT_MAX`].
    pub weight: u32,
    /// What was excluded while it ran: not probed from then on. The plan stays as it is, and so do states found before.
    pub exclude: AddressSet,
}

/// A change of what holds for a scan.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Another budget over all agents.
    Rate(Option<Rate>),
    /// Another cap for each host. A host that is known keeps the gentlest that it had while it is remembered.
    PerHostRate(Option<Rate>),
    /// Another part of the fleet.
    Weight(u32),
    /// These addresses too are not to be probed.
    Exclude(AddressSet),
    /// It waits, and keeps its leases.
    Pause,
    /// It goes on after a pause.
    Resume,
    /// It ends for good.
    Cancel,
}

/// Why a change is refused. Nothing of it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// No such scan runs.
    #[error("the scan does not run")]
    NotRunning,
    /// It was cancelled or interrupted before.
    #[error("the scan is being stopped")]
    Stopping,
    /// A rate of zero would never end.
    #[error("a rate must be more than zero: pause the scan if it is to wait")]
    ZeroRate,
    /// A weight that is none.
    #[error("a weight is a number from 1 to {WEIGHT_MAX}")]
    Weight,
    /// It is to be removed, and runs.
    #[error("the scan runs: cancel it first")]
    Runs,
    /// It is to be removed, and somebody may still be probing for it.
    #[error("an agent that may still be probing holds a part of the scan: try again when its right has ended")]
    Held,
    /// More ranges than one frame takes.
    #[error("no more than {EXCLUDED_RANGES_MAX} ranges can be excluded from a running scan")]
    TooManyRanges,
}

impl ControlState {
    /// What holds at first.
    #[must_use]
    pub fn initial(rate: Option<Rate>, per_host_rate: Option<Rate>, weight: u32) -> Self {
        let weight = weight.clamp(1, WEIGHT_MAX);
        Self { version: 1, intent: Intent::Go, rate, per_host_rate, weight, exclude: AddressSet::new() }
    }

    /// What holds after a change; the same version if the change changes nothing.
    ///
    /// # Errors
    /// If the change cannot be made.
    pub fn with(&self, change: &Change) -> Result<Self, ChangeError> {
        if self.intent == Intent::Cancel && *change != Change::Cancel {
            return Err(ChangeError::Stopping);
        }
        let mut next = self.clone();
        match change {
            Change::Rate(Some(rate)) | Change::PerHostRate(Some(rate)) if *rate == Rate::ZERO => {
                return Err(ChangeError::ZeroRate);
            }
            Change::Rate(rate) => next.rate = *rate,
            Change::PerHostRate(rate) => next.per_host_rate = *rate,
            Change::Weight(weight) if (1..=WEIGHT_MAX).contains(weight) => next.weight = *weight,
            Change::Weight(_) => return Err(ChangeError::Weight),
            Change::Exclude(more) => {
                next.exclude.extend(more);
                if next.exclude.range_count() > EXCLUDED_RANGES_MAX {
                    return Err(ChangeError::TooManyRanges);
                }
            }
            Change::Pause => next.intent = Intent::Pause,
            Change::Resume => next.intent = Intent::Go,
            Change::Cancel => next.intent = Intent::Cancel,
        }
        if next != *self {
            next.version += 1;
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> ControlState {
        ControlState::initial(Some(Rate::per_second(10)), None, 1)
    }

    #[test]
    fn a_change_raises_the_version_and_what_changes_nothing_does_not() {
        let paused = state().with(&Change::Pause).unwrap();
        assert_eq!((paused.version, paused.intent), (2, Intent::Pause));
        assert_eq!(paused.with(&Change::Pause).unwrap(), paused);
        let excluded = paused.with(&Change::Exclude("192.0.2.1".parse::<std::net::IpAddr>().unwrap().into())).unwrap();
        assert_eq!(excluded.with(&Change::Exclude(AddressSet::new())).unwrap().version, 3);
        let gone_on = excluded.with(&Change::Resume).unwrap();
        assert_eq!((gone_on.version, gone_on.exclude.len()), (4, 1), "exclusions only grow");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(state().with(&Change::Rate(Some(Rate::ZERO))), Err(ChangeError::ZeroRate));
        assert_eq!(state().with(&Change::Weight(0)), Err(ChangeError::Weight));
        let many = (0..=EXCLUDED_RANGES_MAX as u32).map(|n| std::net::IpAddr::from((n * 2).to_be_bytes()));
        assert_eq!(state().with(&Change::Exclude(many.collect())), Err(ChangeError::TooManyRanges));
        let cancelled = state().with(&Change::Cancel).unwrap();
        assert_eq!(cancelled.with(&Change::Resume), Err(ChangeError::Stopping));
        assert_eq!(cancelled.with(&Change::Cancel), Ok(cancelled));
    }
}
