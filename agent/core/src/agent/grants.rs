//! Grants: which are taken, and what the coordinator is told of one that is not.

use super::Agent;
use crate::lease::Lease;
use protocol::message::{Grant, RefusedGrant};
use protocol::range_set::AddressSet;
use protocol::time::Time;

impl Agent {
    /// Takes a grant if all hold: 1. it keeps its bounds; 2. every address that it covers is allowed here; 3. the right lasts; 4. it is
    /// new. One that breaks 1 or 2 costs the session: it is refused whole, and the next hello says so.
    pub(super) fn granted(&mut self, now: Time, grant: Grant) {
        if let Some(reason) = self.why_refused(&grant) {
            self.refused = Some(Box::new(RefusedGrant { scan: grant.scan, epoch: grant.epoch, reason }));
            return self.redial();
        }
        self.asked = self.asked.saturating_sub(u64::from(grant.covered()));
        if self.leases.is_empty() {
            self.speed.idle(now);
        }
        if self.right.lasts(now) && !self.leases.contains_key(&grant.epoch) {
            let epoch = grant.epoch;
            self.turns.add(grant.scan, grant.pass, epoch);
            self.leases.insert(epoch, Lease::new(now, grant));
            if self.draining {
                self.give_back(now, epoch);
            }
        }
    }

    /// Why a grant is refused, for a person; `None` if it is not.
    fn why_refused(&self, grant: &Grant) -> Option<String> {
        if !grant.is_sound() {
            return Some("a grant does not keep its bounds".to_owned());
        }
        let allow = &self.identity.allow;
        let mut asked = AddressSet::new();
        let whole = grant.cohort.addresses().ranges().all(|(first, last)| asked.insert_range(first, last).is_ok());
        if whole && asked.is_subset(allow) {
            return None;
        }
        let covered = (grant.lo..grant.hi).filter(|&index| grant.covers(index));
        let targets = covered.map(|index| grant.cohort.target(index));
        let outside =
            targets.map(|it| it.map(|target| target.address)).find(|it| it.is_none_or(|it| !allow.contains(it)))?;
        let address = outside.map_or_else(|| "what is no address".to_owned(), |address| address.to_string());
        Some(format!("a grant covers {address}, which the agent's allow-list does not hold"))
    }
}
