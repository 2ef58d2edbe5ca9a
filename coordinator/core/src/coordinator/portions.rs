//! How little is divided: the end of a scan among those who work on it.
//!
//! While much is left, everybody has in hand what it settles in a few seconds, and who comes last would work alone for that long. So once
//! less is left than twice what all want, nobody has more in hand than half of its proportion of what is left: leases get ever smaller, as
//! in factoring (Hummel, Schonberg and Flynn, 1992), and all end at about the same time.

use super::instances::Instance;
use super::scan::Scan;
use super::serve::CAPPED_WORK;
use super::{Coordinator, Pending};
use protocol::id::{InstanceId, ScanId};

/// So much everybody may have in hand, however little is left: a part of what it settles in a few seconds, and so many targets, if they are
/// no more than a larger part. Less would leave it waiting for its link; more would hold up the end where it is slow.
const LEAST_PART: u64 = 16;
const LEAST: u64 = 32;
const LEAST_PART_OF_SLOW: u64 = 4;
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
    /// The portion of an instance, if all hold: 1. others may work on the scan too; 2. as far as is known they may have what is left of it; 3. that
    /// is something, and less than twice what all want, where others want some, or this one wants more than its share.
    pub(super) fn portion(&self, scan: ScanId, instance: InstanceId) -> Option<Portion> {
        // Cohorts whose hosts have a cap are not shared, and what is seen from one vantage is not for who is at another.
        let is_shared = |running: &&Scan| running.control.per_host_rate.is_none() && running.plan.vantages().is_empty();
        let running = self.scans.get(&scan).filter(is_shared)?;
        // Who has nothing, though there is something, may not have it.
        let takes = |known: &Instance| known.idle_since.is_none() || running.is_whole_for(&known.allow);
        let working = self.instances.iter().filter(|(id, known)| {
            known.session.is_some() && running.ledger.has_share(**id) && !self.drained.has(known) && takes(known)
        });
        let (mut all, mut own, mut wants, mut others) = (0, 0, 0, false);
        for (&id, known) in working {
            let settles = running.settles(id, known);
            all += settles;
            match id == instance {
                true => (own, wants) = (settles, known.appetite),
                false => others = true,
            }
        }
        if !others || own == 0 {
            return None;
        }
        let returned = self.leases.values().filter(|lease| lease.scan == scan && lease.holder.is_none());
        let returned: u64 = returned.map(|lease| u64::from(lease.leased.covered())).sum();
        let left = running.unleased().saturating_add(returned);
        let most = if left > 0 && left / 2 < all && own < all {
            let half = u128::from(left) * u128::from(own) / u128::from(all) / 2;
            u64::try_from(half).unwrap_or(u64::MAX).max(own / LEAST_PART)
        } else if left > 0 && own < wants {
            own
        } else {
            return None;
        };
        let most = most.max(LEAST.min(own / LEAST_PART_OF_SLOW)).max(1);
        Some(Portion {
            targets: most.saturating_sub(self.held(scan, instance)),
            each: u32::try_from((most / LEASES).max(1)).unwrap_or(u32::MAX),
        })
    }

    /// How many targets of a scan an instance has, or is about to have.
    pub(super) fn held(&self, scan: ScanId, instance: InstanceId) -> u64 {
        let of_it = self.leases.values().filter(|lease| lease.scan == scan && lease.holder == Some(instance));
        let held: u64 = of_it.map(|lease| u64::from(lease.leased.covered())).sum();
        let coming = self.pending.values().filter_map(|pending| match pending {
            Pending::Lease { scan: of, instance: holder, work, .. } if *of == scan && *holder == instance => {
                Some(work.iter().map(|leased| u64::from(leased.covered())).sum::<u64>())
            }
            _ => None,
        });
        held + coming.sum::<u64>()
    }
}

impl Scan {
    /// How many targets an instance settles in a few seconds: by its own account, and by its share.
    fn settles(&self, instance: InstanceId, known: &Instance) -> u64 {
        let by_share = self.ledger.share(instance).map(|share| (share * CAPPED_WORK.as_secs_f64()).ceil() as u64);
        known.appetite.min(by_share.unwrap_or(u64::MAX))
    }
}
