//! The simulated coordinator and its disk: one queue, carried out in order, lost at a crash.

use super::*;

/// How many writes in a hundred are a process's last, while kills are left.
const KILL_PERCENT: u64 = 5;

/// When a process is killed at a write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kill {
    Before,
    /// Carried out and not committed.
    Inside,
    /// Committed, and nobody was told.
    BeforeTheAnswer,
}

impl World {
    pub(super) fn coordinator_gets(&mut self, input: Input) {
        let now = self.now;
        if let Some(coordinator) = &mut self.coordinator {
            coordinator.handle_input(now, input);
        }
        self.drain_coordinator();
    }

    pub(super) fn coordinator_timeout(&mut self) {
        self.coordinator_armed = None;
        let now = self.now;
        if let Some(coordinator) = &mut self.coordinator {
            coordinator.handle_timeout(now);
        }
        self.drain_coordinator();
        if let Some(at) = self.coordinator.as_ref().and_then(Coordinator::poll_timeout).filter(|&at| at <= now) {
            self.broke(format!("O7: the coordinator wants to be woken at {at:?}, which is past"));
        }
    }

    pub(super) fn drain_coordinator(&mut self) {
        while let Some(output) = self.coordinator.as_mut().and_then(Coordinator::poll_output) {
            match output {
                Output::Store(id, request) => self.ask_disk(id, request),
                Output::Send(session, message) => self.coordinator_sends(session, *message),
                Output::Close(session) => {
                    self.closed.insert(session);
                    if self.bug != Some(Bug::EndedRightRevived) {
                        self.close(session, true);
                    }
                }
                Output::Event(
                    Event::Created { .. } | Event::Rests { .. } | Event::Removed { .. } | Event::Drains { .. },
                ) => {}
                Output::Event(Event::Committed { progress, .. }) => self.note(progress.settled()),
                Output::Event(Event::Changed { ask, outcome, .. }) => self.answered_change(ask, outcome.ok()),
                Output::Event(Event::Control { scan, state, waits_for }) if scan == SCAN => {
                    self.hears_control(&state, &waits_for);
                }
                Output::Event(Event::Control { .. }) => {}
                Output::Event(Event::Finished { scan, status }) => {
                    let kept = self.store.scans().unwrap_or_default();
                    if kept.iter().find(|record| record.id == scan).map(|record| record.status) != Some(status) {
                        self.broke("O3: the end was announced before it was durable".into());
                    }
                    if scan == SCAN {
                        self.finished = Some(status);
                    } else {
                        self.other_finished(scan, status);
                    }
                }
            }
        }
        let wanted = self.coordinator.as_ref().and_then(Coordinator::poll_timeout);
        let timer = Happening::CoordinatorTimer { life: self.coordinator_life };
        let wanted = wanted.map(|at| (at, at.since(self.now)));
        self.coordinator_armed = self.arm(self.coordinator_armed, wanted, timer);
    }

    pub(super) fn ask_disk(&mut self, id: RequestId, request: StoreRequest) {
        let (low, high) = self.faults.disk;
        let takes = self.random.millis(low, high);
        self.disk_free_at = self.disk_free_at.max(self.now) + takes;
        let life = self.coordinator_life;
        if self.bug == Some(Bug::ReplyBeforeDurable)
            && let StoreRequest::Commit(_) = request
        {
            self.after(
                Duration::ZERO,
                Happening::StoreAnswers { life, id, reply: StoreReply::Committed(Committed::Applied) },
            );
        }
        if self.bug == Some(Bug::ControlBeforeDurable)
            && let StoreRequest::SetControl(..) = request
        {
            self.after(Duration::ZERO, Happening::StoreAnswers { life, id, reply: StoreReply::Done });
        }
        self.at(self.disk_free_at, Happening::StoreCarriesOut { life, id, request });
    }

    /// The disk's next request, alone or with some of those that wait: one transaction, or none of it if the process is killed in it.
    pub(super) fn store_carries_out(&mut self, id: RequestId, request: StoreRequest) {
        let mut group = vec![(id, request)];
        if self.random.chance(30) {
            let room = self.random.within(1, 8) as usize;
            self.take_waiting(room, &mut group);
        }
        let kill = self.draw_kill();
        if kill == Some(Kill::Before) {
            self.reached.killed_before_a_write += 1;
            return self.crash_coordinator();
        }
        if kill == Some(Kill::Inside) {
            self.store.remember();
        }
        let is_group = group.len() > 1 || kill == Some(Kill::Inside);
        if is_group && let Err(error) = self.store.begin_group() {
            return self.broke(format!("no group can be begun: {error}"));
        }
        let answers: Vec<_> = group.iter().filter_map(|(id, request)| Some((*id, self.carry_out(request)?))).collect();
        let early = self.bug == Some(Bug::AnsweredBeforeCommit);
        if early {
            for (id, reply) in answers.iter().cloned() {
                self.coordinator_gets(Input::Stored(id, reply));
            }
        }
        if kill == Some(Kill::Inside) {
            self.reached.killed_inside_a_write += 1;
            return self.crash_coordinator();
        }
        if is_group && let Err(error) = self.store.commit_group() {
            return self.broke(format!("a group cannot be committed: {error}"));
        }
        if kill == Some(Kill::BeforeTheAnswer) {
            self.reached.killed_before_the_answer += 1;
            return self.crash_coordinator();
        }
        for (id, reply) in answers.into_iter().filter(|_| !early) {
            let delay = self.random.millis(0, 5);
            self.after(delay, Happening::StoreAnswers { life: self.coordinator_life, id, reply });
        }
    }

    /// Moves up to `room` of the requests that wait for the disk to the group.
    fn take_waiting(&mut self, room: usize, group: &mut Vec<(RequestId, StoreRequest)>) {
        let now = self.coordinator_life;
        let waits =
            |happening: &Happening| matches!(happening, Happening::StoreCarriesOut { life, .. } if *life == now);
        let keys: Vec<_> = self.queue.iter().filter(|(_, next)| waits(next)).map(|(&key, _)| key).take(room).collect();
        for key in keys {
            if let Some(Happening::StoreCarriesOut { id, request, .. }) = self.queue.remove(&key) {
                group.push((id, request));
            }
        }
    }

    /// Whether, and when, this write is the process's last.
    fn draw_kill(&mut self) -> Option<Kill> {
        let may = self.kills_left > 0 && self.now < Time::ZERO + self.faults.until && self.coordinator.is_some();
        if !may || !self.random.chance(KILL_PERCENT) {
            return None;
        }
        self.kills_left -= 1;
        Some([Kill::Before, Kill::Inside, Kill::BeforeTheAnswer][self.random.within(0, 2) as usize])
    }

    /// One request; `None` if it was answered before, by a bug, or refused.
    fn carry_out(&mut self, request: &StoreRequest) -> Option<StoreReply> {
        if let StoreRequest::Commit(commit) = request {
            self.look_at_commit(commit);
            if self.bug == Some(Bug::StaleEpochAccepted) {
                self.force(commit);
            }
        }
        if let StoreRequest::Release { ended: false, .. } = request {
            self.reached.leases_let_go += 1;
        }
        if self.bug == Some(Bug::ReturnedShardForgotten) && matches!(request, StoreRequest::Release { .. }) {
            return Some(StoreReply::Done);
        }
        match request.carry_out(&mut *self.store) {
            Ok(_) if self.bug == Some(Bug::ReplyBeforeDurable) && matches!(request, StoreRequest::Commit(_)) => None,
            Ok(_) if self.bug == Some(Bug::ControlBeforeDurable) && matches!(request, StoreRequest::SetControl(..)) => {
                None
            }
            Ok(StoreReply::Surveyed(known)) if self.bug == Some(Bug::PassSkipped) => {
                let settled = |mut it: coordinator_core::passes::History| {
                    (it.outcome, it.tries) = (Outcome::CLOSED, it.tries.max(1));
                    it
                };
                Some(StoreReply::Surveyed(known.into_iter().map(settled).collect()))
            }
            Ok(reply) => Some(reply),
            Err(error) => {
                self.broke(format!("the store refused what the machine asked: {error}"));
                None
            }
        }
    }

    pub(super) fn look_at_commit(&mut self, commit: &Commit) {
        let leases = self.store.leases(commit.scan).unwrap_or_default();
        let of_lease = leases.iter().find(|lease| lease.epoch == commit.epoch);
        let covered = of_lease.map(|it| protocol::covers::count(&it.covers, it.shard.lo, it.shard.hi)).unwrap_or(0);
        let outcomes = protocol::chunk::decode(&commit.chunk, covered).unwrap_or_default();
        let out_of_scope = outcomes.iter().filter(|it| it.cause() == Some(Cause::OutOfScope)).count();
        self.reached.out_of_scope += out_of_scope as u64;
        match of_lease {
            Some(lease) => self.reached.late_reports_of_returned_leases += u64::from(lease.holder.is_none()),
            None => self.reached.fenced_or_duplicate += 1,
        }
    }

    /// The deliberate bug: whatever lease now covers the targets of a dead epoch, the report settles it.
    pub(super) fn force(&mut self, commit: &Commit) {
        let leases = self.store.leases(commit.scan).unwrap_or_default();
        if leases.iter().any(|lease| lease.epoch == commit.epoch) {
            return;
        }
        let count = leases
            .iter()
            .find(|lease| {
                protocol::chunk::decode(
                    &commit.chunk,
                    protocol::covers::count(&lease.covers, lease.shard.lo, lease.shard.hi),
                )
                .is_ok()
            })
            .map(|lease| lease.epoch);
        if let Some(epoch) = count {
            let _ = self.store.commit(&Commit { epoch, ..commit.clone() });
        }
    }

    pub(super) fn crash_coordinator(&mut self) {
        if self.coordinator.take().is_none() {
            return;
        }
        self.reached.coordinator_crashes += 1;
        self.note(1);
        // The life ends: what waits for the disk is lost, timers and answers are void.
        self.coordinator_life += 1;
        self.disk_free_at = self.now;
        if let Err(error) = self.store.kill() {
            self.broke(format!("the store cannot be opened after a kill: {error}"));
        }
        self.audit();
        let sessions: Vec<_> = self.links.keys().copied().collect();
        for session in sessions {
            self.close(session, true);
        }
        let down = self.random.millis(10, 15_000);
        self.after(down, Happening::StartCoordinator);
    }

    pub(super) fn start_coordinator(&mut self) {
        let at = self.since_start();
        if let Some(timeline) = &mut self.timeline {
            timeline.coordinator_started.push(at);
        }
        let kept = self.store.scans().unwrap_or_default();
        let running = kept.iter().filter(|record| record.status == ScanStatus::Running);
        let resumed: Result<Vec<_>, _> = running.map(|record| Resumed::load(&*self.store, record.id)).collect();
        match resumed {
            Ok(resumed) => {
                let jumped = self.bug == Some(Bug::StoredDeadline) && self.random.chance(50);
                let no_wait = self.bug == Some(Bug::NoWaitAfterRestart) || jumped;
                self.coordinator = Some(Coordinator::resume(self.settings, self.now, &resumed, no_wait));
            }
            Err(error) => self.broke(format!("what is stored cannot be read: {error}")),
        }
        if !kept.iter().any(|record| record.id == SCAN) {
            // It crashed before the scan was durable: nobody was told of it, so the user submits it again.
            self.coordinator_gets(Input::Submit(self.record()));
        }
        self.submit_again();
        self.tell_drained();
        // An end that was durable, and that nobody was told of.
        for record in kept.iter().filter(|record| record.status != ScanStatus::Running) {
            match record.id {
                SCAN => self.finished = Some(record.status),
                id => self.other_finished(id, record.status),
            }
        }
    }

    pub(super) fn record(&self) -> ScanRecord {
        // Without a margin the coordinator does not reckon with the tries that are made.
        let options = ProbeOptions::new(if self.bug == Some(Bug::NoMargin) { 1 } else { 900 }, self.window);
        let mut plan = PlanParts::from(&self.plan);
        if self.bug == Some(Bug::StagesForgotten) {
            plan.slots = Slots::new(true, plan.slots.ports().clone());
        }
        ScanRecord {
            id: SCAN,
            plan,
            options,
            rate: self.faults.rate.map(protocol::rate::Rate::per_second),
            tries: self.faults.tries,
            weight: coordinator_core::store::WEIGHT,
            agent_wait_s: None,
            status: ScanStatus::Running,
            request: String::new(),
        }
    }

    pub(super) fn audit(&mut self) {
        for scan in self.scans() {
            if let Err(error) = self.store.audit(scan) {
                self.broke(format!("O5: {error}"));
            }
        }
        if let Some(&lost) = self.announced.iter().find(|&&epoch| !self.is_taken(epoch)) {
            self.broke(format!("O3: lease {lost} was announced as taken and is not stored"));
        }
    }
}
