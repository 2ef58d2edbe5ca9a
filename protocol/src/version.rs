//! Protocol versions, and how two sides find one that both speak.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A run of protocol versions, both ends included. Hello carries one for each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRange {
    /// The oldest that is spoken.
    pub oldest: u16,
    /// The newest that is spoken.
    pub newest: u16,
}

/// What this build speaks.
pub const SPOKEN: VersionRange = VersionRange { oldest: 1, newest: 1 };

impl VersionRange {
    /// The newest version that both sides speak; `None` if their ranges do not meet, or one is no range.
    #[must_use]
    pub fn meet(self, other: Self) -> Option<u16> {
        let newest = self.newest.min(other.newest);
        let oldest = self.oldest.max(other.oldest);
        (self.oldest <= self.newest && other.oldest <= other.newest && oldest <= newest && oldest > 0).then_some(newest)
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.oldest == self.newest {
            write!(f, "{}", self.newest)
        } else {
            write!(f, "{} to {}", self.oldest, self.newest)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(oldest: u16, newest: u16) -> VersionRange {
        VersionRange { oldest, newest }
    }

    #[test]
    fn the_newest_common_version_is_taken() {
        assert_eq!(range(1, 3).meet(range(2, 5)), Some(3));
        assert_eq!(range(1, 1).meet(range(1, 1)), Some(1));
        assert_eq!(range(1, 2).meet(range(3, 4)), None);
    }

    #[test]
    fn bad_input_18_unknown_versions_do_not_meet_ours() {
        for alien in [range(0, 0), range(255, 255), range(255, 1), range(0, u16::MAX), range(2, 1)] {
            let met = SPOKEN.meet(alien);
            assert_eq!(met, (alien == range(0, u16::MAX)).then_some(1), "{alien:?}");
        }
    }
}
