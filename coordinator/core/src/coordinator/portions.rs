//! How little is divided: the end of a scan among those who work on it.
//!
//! While much is left, everybody has in hand what it settles in a few seconds. Who comes last would then work alone for that long, so once
//! less is left than all want, what is left and what is in hand is divided in proportion to what each settles, in ever smaller leases, as
//! in guided self-scheduling (Polychronopoulos and Kuck, 1987): all end at the same time.

use super::instances::Instance;
use super::scan::Scan;
use super::serve::CAPPED_WORK;
use super::{Coordinator, Pending};
use protocol::id::{InstanceId, ScanId};

/// So much everybody may have in hand, however little is left: less would leave it waiting for its link.
const PORTION_MIN: u64 = 64;
/// So many leases a portion is.
const LEASES: u64 = 4;

/// What an instance may be given of a scan of which little is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Portion {
    /// How many targets, beside those that it has.
    pub(super) targets: u64,
    /// How many of them in one lease.
    pub(super) each: u32,
}

impl Coordinator {
    /// The portion of an instance, if all hold: 1. others work on the scan too; 2. as far as is known they may have what is left of it; 3. that is less than all want.
    pub(super) fn portion(&self, scan: ScanId, instance: InstanceId) -> Option<Portion> {
        let running = self.scans.get(&scan).filter(|running| running.control.per_host_rate.is_none())?;
        // Who has nothing, though there is something, may not have it.
        let takes = |known: &Instance| known.idle_since.is_none() || running.is_whole_for(&known.allow);
        let claims = self.instances.iter().filter(|(id, known)| {
            known.session.is_some() && running.ledger.has_share(**id) && !self.drained.has(known) && takes(known)
        });
        let (mut all, mut own, mut others) = (0, 0, false);
        for (&id, known) in claims {
            let settles = running.settles(id, known);
            all += settles;
            match id == instance {
                true => own = settles,
                false => others |= settles > 0,
            }
        }
        let mut left = running.unleased();
        if !others || own == 0 || left >= all {
            return None;
        }
        let (mut held, mut in_hand) = (0, 0);
        let mut holds = |holder: InstanceId, covered: u32| {
            held += u64::from(covered);
            in_hand += if holder == instance { u64::from(covered) } else { 0 };
        };
        for lease in self.leases.values().filter(|lease| lease.scan == scan) {
            match lease.holder {
                Some(holder) => holds(holder, lease.leased.covered()),
                None => left += u64::from(lease.leased.covered()),
            }
        }
        for pending in self.pending.values() {
            if let Pending::Lease { scan: of, instance: holder, work, .. } = pending
                && *of == scan
            {
                work.iter().for_each(|leased| holds(*holder, leased.covered()));
            }
        }
        let fair = u128::from(left + held) * u128::from(own) / u128::from(all.max(1));
        let fair = u64::try_from(fair).unwrap_or(u64::MAX).max(PORTION_MIN);
        (left > 0 && left < all).then(|| Portion {
            targets: fair.saturating_sub(in_hand),
            each: u32::try_from(fair / LEASES).unwrap_or(u32::MAX),
        })
    }
}

impl Scan {
    /// How many targets an instance settles in a few seconds: by its own account, and by its share.
    fn settles(&self, instance: InstanceId, known: &Instance) -> u64 {
        let by_share = self.ledger.share(instance).map(|share| (share * CAPPED_WORK.as_secs_f64()).ceil() as u64);
        known.appetite.min(by_share.unwrap_or(u64::MAX))
    }
}
