//! Scans that ended are removed: first they are nowhere any more, then what is left of them is deleted, a bounded lot at a time.
//!
//! What an agent holds when its scan ends stays a lease until that agent let go of it or its right ended, as ever.

use super::{Coordinator, Event, Output, Pending};
use crate::control::ChangeError;
use crate::settings::Settings;
use crate::store::StoreRequest;
use protocol::id::{Epoch, InstanceId, ScanId};
use protocol::message::TIMEOUT_MS_MAX;
use protocol::time::Time;
use std::time::Duration;

impl Coordinator {
    /// Removes a scan if both hold: 1. it does not run; 2. nobody holds a lease of it who may be probing. Who held one that another process
    /// of the coordinator granted may be, until every right of then has ended.
    pub(super) fn remove(&mut self, now: Time, ask: u64, scan: ScanId) {
        let refused = match () {
            () if self.scans.contains_key(&scan) => Some(ChangeError::Runs),
            () if self.leases.values().any(|lease| lease.scan == scan) => Some(ChangeError::Held),
            () => None,
        };
        if let Some(error) = refused {
            return self.outputs.push_back(Output::Event(Event::Changed { ask, scan, outcome: Err(error) }));
        }
        let rights_ended = self.resumed_at.is_none_or(|at| at + longest_right(&self.settings) <= now);
        self.ask_store(StoreRequest::RemoveScan { scan, rights_ended }, Pending::Remove { scan, ask });
    }

    /// The store removed it, or knows of a lease that somebody may hold.
    pub(super) fn removed(&mut self, scan: ScanId, ask: u64, is_gone: bool) {
        if is_gone {
            self.outputs.push_back(Output::Event(Event::Removed { scan }));
            self.clean();
        }
        let outcome = if is_gone { Ok(0) } else { Err(ChangeError::Held) };
        self.outputs.push_back(Output::Event(Event::Changed { ask, scan, outcome }));
    }

    /// Has the store delete a lot of what removed scans left. Asked again until nothing is left, so that commits come in between.
    pub(super) fn clean(&mut self) {
        if !self.pending.values().any(|pending| matches!(pending, Pending::Clean)) {
            self.ask_store(StoreRequest::Clean, Pending::Clean);
        }
    }

    /// Of a scan that ended only what somebody holds is known.
    pub(super) fn forget_leases_of(&mut self, scan: ScanId) {
        self.leases.retain(|_, lease| lease.scan != scan || lease.holder.is_some());
    }

    /// The holder of a lease reports it whose scan ended: nothing is taken, and it let go. False if it is something else that is reported.
    pub(super) fn let_go_of_ended(&mut self, epoch: Epoch, instance: InstanceId) -> bool {
        let ended = |lease: &super::Lease| lease.holder == Some(instance) && !self.scans.contains_key(&lease.scan);
        let is_it = self.leases.get(&epoch).is_some_and(ended);
        if is_it {
            self.release(vec![epoch], false);
        }
        is_it
    }
}

/// How long a right that was given before can last at most, with the margin of the longest try that there may be.
fn longest_right(settings: &Settings) -> Duration {
    settings.ttl + settings.with_timeout(Duration::from_millis(TIMEOUT_MS_MAX.into())).margin
}
