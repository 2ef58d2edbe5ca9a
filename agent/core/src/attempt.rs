//! A probe on its way: what the machine hands to a supervisor, and what comes back.

use crate::round_trip::Wait;
use protocol::id::{Epoch, ScanId};
use protocol::probe::{Outcome, ProbeKind, Target};
use protocol::time::Time;
use std::time::Duration;

/// Names a probe in flight: a target of a lease. A target is in flight at most once per lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId {
    /// The lease.
    pub epoch: Epoch,
    /// The target's index in the lease's cohort.
    pub index: u32,
}

impl ProbeId {
    /// The highest bit of an index, which no target's index has: a plan's cohort has at most 4,096 addresses and 65,536 slots.
    const CHECK: u32 = 1 << 31;

    /// Names what is asked again to measure the loss: a check or a repeat (see [`Why`]). It settles nothing of its lease.
    #[must_use]
    pub const fn check(epoch: Epoch, number: u32) -> Self {
        Self { epoch, index: number | Self::CHECK }
    }

    /// True if it names such a thing.
    #[must_use]
    pub const fn is_check(self) -> bool {
        self.index & Self::CHECK != 0
    }
}

/// Why something is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// To settle a target.
    Try {
        /// In a later pass than the first: mostly it was asked in vain before, but what was given back was not.
        again: bool,
    },
    /// It answered before: does it still?
    Check,
    /// It did not answer just now, in a sample: was that try lost? The so many-th time.
    Repeat(u8),
}

impl Why {
    /// Whether it settles a target.
    #[must_use]
    pub const fn is_try(self) -> bool {
        matches!(self, Self::Try { .. })
    }
}

/// One try at one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Its name.
    pub id: ProbeId,
    /// The scan that asks.
    pub scan: ScanId,
    /// Whom to ask, and what.
    pub target: Target,
    /// How long to wait for an answer. A prober that has room to go on listening says when it is overdue; one that has not may take no
    /// notice.
    pub wait: Wait,
}

/// Probes of one kind, to be sent together. No message per probe: one per batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Their kind.
    pub kind: ProbeKind,
    /// The end of the right: nothing of the batch may be sent from then on. Checked again before each send.
    pub right_ends_at: Time,
    /// The probes.
    pub probes: Vec<Probe>,
}

/// What became of a probe. Each probe that was handed out gets exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Which.
    pub id: ProbeId,
    /// What was found, or why nothing was.
    pub outcome: Outcome,
    /// The time between sending and answer, where there was one.
    pub rtt: Option<Duration>,
}
