//! Reports: what they must be to be taken.

use super::open::Leased;
use super::reach::Allowed;
use super::{Coordinator, Found, Pending, SessionId};
use crate::store::{Commit, StoreRequest};
use protocol::chunk;
use protocol::id::{Epoch, InstanceId};
use protocol::message::{CommitReply, CoordinatorMessage, Finding, Report};
use protocol::plan::Cohort;
use protocol::probe::Outcome;
use protocol::time::Time;
use std::sync::Arc;
use std::time::Duration;

impl Coordinator {
    /// Passes a report to the store if all hold: 1. its epoch is live as far as is known here; 2. nobody else was granted the lease;
    /// 3. it has one outcome for each target of the lease; 4. its findings are the targets that it says were found open or up, in
    /// order. A dead epoch is a value, not an error; a report that is another's, or contradicts itself, costs the session.
    pub(super) fn report(&mut self, now: Time, session: SessionId, instance: InstanceId, report: Report) {
        let lease = self.leases.get(&report.epoch).cloned();
        let known = self.instances.get(&instance);
        let allow = known.map(|known| known.allow.clone()).unwrap_or_default();
        let from = known.map(|known| known.vantage().to_owned()).unwrap_or_default();
        let cohort = lease.as_ref().and_then(|lease| {
            let running = self.scans.get(&lease.scan)?;
            let (cohort, addresses) = running.cohort_with_addresses(lease.leased.shard.cohort)?;
            let allow = running.allowed(cohort.number(), &from, &allow);
            Some((cohort.clone(), Allowed::of(cohort, addresses, &lease.leased, &allow)))
        });
        let (Some(lease), Some((cohort, allowed))) = (lease, cohort) else {
            let closed = self.let_go_of_ended(report.epoch, instance);
            *(if closed { &mut self.counters.closed } else { &mut self.counters.fenced }) += 1;
            return self.send(session, CoordinatorMessage::Committed { epoch: report.epoch, reply: CommitReply::Gone });
        };
        if lease.granted_to.is_some_and(|holder| holder != instance) {
            return self.refuse(now, session, &format!("lease {} is another instance's", report.epoch));
        }
        let outcomes = match chunk::decode(&report.chunk, allowed.reported(&lease.leased)) {
            Ok(outcomes) => allowed.complete(&lease.leased, outcomes),
            Err(error) => {
                return self.refuse(
                    now,
                    session,
                    &format!("the report of lease {} is malformed: {error}", report.epoch),
                );
            }
        };
        let Some(findings) = found(&cohort, &lease.leased, &outcomes, &report.findings) else {
            return self.refuse(
                now,
                session,
                &format!("the findings of lease {} are not those of its outcomes", report.epoch),
            );
        };
        let Report { epoch, mut chunk, findings: mut stored, checks, quiet_ms } = report;
        if allowed != Allowed::All {
            chunk = chunk::encode(&outcomes);
        }
        if let Some(running) = self.scans.get_mut(&lease.scan) {
            running.checked(checks);
            let unanswered_at = now - Duration::from_millis(quiet_ms.into());
            let rest = if left_pings(&cohort, &lease.leased, &outcomes) {
                self.settings.rest_after_ping
            } else {
                self.settings.rest
            };
            running.will_rest(cohort.number(), unanswered_at + rest);
            stored.retain(|finding| running.keeps(cohort.number(), finding.index));
        }
        let commit = Commit { scan: lease.scan, epoch, chunk, findings: stored };
        self.ask_store(
            StoreRequest::Commit(commit),
            Pending::Commit { scan: lease.scan, epoch, session: Some(session), outcomes, findings },
        );
    }

    /// Settles a lease of which its holder may probe nothing: it is told of none of it.
    pub(super) fn settle_out_of_scope(&mut self, epoch: Epoch) {
        let Some(lease) = self.leases.get(&epoch) else { return };
        let (scan, outcomes) = (lease.scan, Allowed::None.complete(&lease.leased, Vec::new()));
        let commit = Commit { scan, epoch, chunk: chunk::encode(&outcomes), findings: Vec::new() };
        let pending = Pending::Commit { scan, epoch, session: None, outcomes, findings: Vec::new() };
        self.ask_store(StoreRequest::Commit(commit), pending);
    }
}

/// Whether a ping was not answered.
fn left_pings(cohort: &Cohort, leased: &Leased, outcomes: &[Outcome]) -> bool {
    // They are the first targets of a cohort.
    let mut pings = leased.targets().zip(outcomes).take_while(|((index, _), _)| *index < cohort.hosts());
    cohort.slots().ping() && pings.any(|(_, outcome)| outcome.is_silence())
}

/// The findings as targets; `None` if they are not exactly the outcomes that are findings, in order.
fn found(cohort: &Arc<Cohort>, leased: &Leased, outcomes: &[Outcome], findings: &[Finding]) -> Option<Vec<Found>> {
    let mut given = findings.iter();
    let mut found = Vec::with_capacity(findings.len());
    let covered = leased.targets().map(|(index, _)| index).zip(outcomes);
    for (index, &outcome) in covered.filter(|(_, outcome)| outcome.is_finding()) {
        let finding = given.next().filter(|finding| finding.index == index)?;
        found.push(Found { target: cohort.target(index)?, outcome, rtt_us: finding.rtt_us });
    }
    given.next().is_none().then_some(found)
}
