//! The coordinator's machine: claims, leases, commits and rights, in memory, resting on what the store has made durable.
//!
//! It asks its store by [`Output::Store`] and goes on when [`Input::Stored`] answers; requests are carried out in the order in
//! which they were asked. What it announces (a grant, a commit's reply, an event) it announces after the store's answer.

mod change;
mod drain;
mod ends;
mod instances;
mod ledger;
mod open;
mod portions;
mod reach;
mod remove;
mod reports;
mod scan;
mod serve;

use crate::control::{Change, ChangeError, ControlState};
use crate::progress::Progress;
use crate::settings::Settings;
use crate::store::{Committed, ScanRecord, ScanStatus, StoreReply, StoreRequest};
use drain::Drained;
use ends::Failures;
use instances::{Instance, Session};
use open::Leased;
use protocol::id::{AgentName, Epoch, InstanceId, ScanId};
use protocol::message::{AgentMessage, CoordinatorMessage};
use protocol::probe::{Outcome, Target};
use protocol::range_set::AddressSet;
use protocol::time::Time;
use scan::Scan;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::ops::Range;

/// A connection of an agent, numbered by the shell: never the same number twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Names a request to the store until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What happens to the coordinator.
#[derive(Debug)]
pub enum Input {
    /// A scan is to be run.
    Submit(ScanRecord),
    /// A scan is to be stopped; what is known of it stays.
    Interrupt(ScanId),
    /// What holds for a scan is to be changed. Answered by [`Event::Changed`] with the same `ask`.
    Change {
        /// Names the change, for whoever asks.
        ask: u64,
        /// The scan.
        scan: ScanId,
        /// What is to be changed.
        change: Change,
    },
    /// A scan that ended is to be removed. Answered by [`Event::Changed`] with the same `ask`.
    Remove {
        /// Names it, for whoever asks.
        ask: u64,
        /// The scan.
        scan: ScanId,
    },
    /// These agents are drained from now on, by name, and no others: they get no work.
    Drained(BTreeSet<String>),
    /// What removed scans left is to be deleted: a process before this one may not have come to it.
    Clean,
    /// An agent connected.
    Opened(SessionId),
    /// A connection is gone.
    Closed(SessionId),
    /// An agent said something.
    Message(SessionId, Box<AgentMessage>),
    /// The store answered.
    Stored(RequestId, StoreReply),
}

/// What the coordinator wants done, in this order.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Ask the store.
    Store(RequestId, StoreRequest),
    /// Tell an agent.
    Send(SessionId, Box<CoordinatorMessage>),
    /// Close a connection.
    Close(SessionId),
    /// Tell whoever follows a scan.
    Event(Event),
}

/// What became known of a scan, and is durable.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A scan is stored, and goes on whatever becomes of this process.
    Created {
        /// The scan.
        scan: ScanId,
    },
    /// A report was taken; or, at its end, what is left of a scan got its cause.
    Committed {
        /// The scan.
        scan: ScanId,
        /// Open ports and live hosts in it.
        findings: Vec<Found>,
        /// Hosts that show life with it, by something else than a finding: refused ports.
        signs: Vec<Sign>,
        /// How far the scan is with it.
        progress: Progress,
        /// The measured share of tries that is lost, 0 to 1.
        loss: Option<f64>,
        /// How many probes the agent that reported may have in flight; 0 if it does not say.
        window: u32,
        /// The name of the agent that reported; `None` for what a scan's end settled.
        agent: Option<String>,
        /// From where it was seen, where several vantages each probe everything.
        vantage: Option<AgentName>,
        /// How many of its targets were probed.
        probed: u64,
    },
    /// A scan was removed: it is nowhere any more.
    Removed {
        /// The scan.
        scan: ScanId,
    },
    /// A change was refused, or is durable.
    Changed {
        /// As it was asked for.
        ask: u64,
        /// The scan.
        scan: ScanId,
        /// The version of the control state from which on the change holds (0 of a scan that was removed), or why it is refused.
        outcome: Result<u64, ChangeError>,
    },
    /// What holds for a scan, and who has not acknowledged it. Told when it is durable, and again whenever the list changes; with an
    /// empty list it is in force everywhere.
    Control {
        /// The scan.
        scan: ScanId,
        /// What holds.
        state: Box<ControlState>,
        /// The names of the agents that may still do as before: until they acknowledge it, or their right has ended.
        waits_for: Vec<String>,
    },
    /// An agent failed again and again, and gets no work for a while.
    Rests {
        /// Its name.
        agent: String,
        /// For how long from now.
        time: std::time::Duration,
    },
    /// Of an agent that is drained: whether it still has leases in hand.
    Drains {
        /// Its name.
        agent: String,
        /// Whether it has.
        in_hand: bool,
    },
    /// The scan ended.
    Finished {
        /// The scan.
        scan: ScanId,
        /// How.
        status: ScanStatus,
    },
}

/// An open port or a live host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub target: Target,
    /// What.
    pub outcome: Outcome,
    /// The round-trip time in microseconds.
    pub rtt_us: u32,
}

/// The first sign of life of a host, if it is no finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sign {
    /// Which.
    pub address: IpAddr,
    /// What it answered.
    pub outcome: Outcome,
}

/// How often something was refused or came to nothing. They only rise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reports that were taken.
    pub applied: u64,
    /// Reports that had been taken before.
    pub duplicate: u64,
    /// Reports whose lease was no more.
    pub fenced: u64,
    /// Reports of scans that had ended.
    pub closed: u64,
    /// Frames that broke the protocol, and cost their session.
    pub refused: u64,
    /// Rights that ended.
    pub rights_ended: u64,
}

/// A lease as the machine knows it: the store's row, and whose scan.
#[derive(Debug, Clone)]
struct Lease {
    scan: ScanId,
    leased: Leased,
    holder: Option<InstanceId>,
    /// Who was told of it, and stays so when it is returned. `None` where a process before this one told it.
    granted_to: Option<InstanceId>,
    granted_at: Time,
    /// Whether its holder was asked to give it back.
    asked_back: bool,
    /// Whether a right ended on it since it was cut.
    to_be_cut: bool,
}

impl Lease {
    fn new(now: Time, scan: ScanId, leased: Leased, holder: Option<InstanceId>) -> Self {
        Self { scan, leased, holder, granted_to: holder, granted_at: now, asked_back: false, to_be_cut: false }
    }
}

/// What is to be done when the store answers.
#[derive(Debug)]
enum Pending {
    Lease { scan: ScanId, instance: InstanceId, session: SessionId, work: Vec<Leased> },
    BeginPass { scan: ScanId, cohort: u64, pass: u8 },
    Survey { scan: ScanId, cohort: u64, indices: Range<u32> },
    Split { scan: ScanId, work: Vec<Leased> },
    Commit { scan: ScanId, epoch: Epoch, session: Option<SessionId>, outcomes: Vec<Outcome>, findings: Vec<Found> },
    CloseCohort { scan: ScanId, cohort: u64 },
    Create { scan: ScanId },
    Control { scan: ScanId, ask: u64, state: Box<ControlState> },
    Finish { scan: ScanId, status: ScanStatus },
    Remove { scan: ScanId, ask: u64 },
    Clean,
    Nothing,
}

/// The coordinator. See the contract at the head of `agent-core`.
pub struct Coordinator {
    settings: Settings,
    scans: BTreeMap<ScanId, Scan>,
    leases: BTreeMap<Epoch, Lease>,
    instances: BTreeMap<InstanceId, Instance>,
    sessions: BTreeMap<SessionId, Session>,
    pending: BTreeMap<RequestId, Pending>,
    last_request: u64,
    /// When this process took over from another, if it did.
    resumed_at: Option<Time>,
    /// Whether there may be work for who wants some, since that was last looked for.
    work: bool,
    /// How far the scans' turns are, in targets by weight.
    served: f64,
    /// When it was last looked whether something was waited for long enough.
    waited_until: Time,
    /// What agents may probe that went, from where, and when they did: it is kept for them for a while.
    departed: Vec<(Time, String, AddressSet)>,
    /// How agents did lately that lost a right, by name.
    failures: BTreeMap<String, Failures>,
    /// Who gets no work.
    drained: Drained,
    /// When a lease will be so far behind that it is asked back.
    ask_back_at: Option<Time>,
    /// The number of the last control message.
    last_control: u64,
    /// Whether somebody may have to be told what holds for a scan, or what is told of it has changed.
    retell: bool,
    /// Whether somebody wants more, and has as many leases or as large a portion as may be.
    full: bool,
    outputs: VecDeque<Output>,
    counters: Counters,
}

impl Coordinator {
    /// A coordinator of nothing.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            scans: BTreeMap::new(),
            leases: BTreeMap::new(),
            instances: BTreeMap::new(),
            sessions: BTreeMap::new(),
            pending: BTreeMap::new(),
            last_request: 0,
            resumed_at: None,
            served: 0.0,
            waited_until: Time::ZERO,
            departed: Vec::new(),
            failures: BTreeMap::new(),
            drained: Drained::default(),
            ask_back_at: None,
            last_control: 0,
            retell: false,
            work: false,
            full: false,
            outputs: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Takes one input in.
    pub fn handle_input(&mut self, now: Time, input: Input) {
        self.end_rights(now);
        match input {
            Input::Submit(record) => self.submit(record),
            Input::Interrupt(scan) => self.interrupt(now, scan),
            Input::Change { ask, scan, change } => self.change(ask, scan, &change),
            Input::Remove { ask, scan } => self.remove(now, ask, scan),
            Input::Drained(names) => self.drain(now, names),
            Input::Clean => self.clean(),
            Input::Opened(session) => {
                self.sessions.insert(session, Session { instance: None, heard_at: now, last_number: 0 });
            }
            Input::Closed(session) => self.forget_session(now, session),
            Input::Message(session, message) => self.message(now, session, *message),
            Input::Stored(request, reply) => self.stored(now, request, reply),
        }
        self.advance(now);
    }

    /// Lets the time act.
    pub fn handle_timeout(&mut self, now: Time) {
        self.end_rights(now);
        let silent: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.heard_at + self.settings.silent_after <= now)
            .map(|(&id, _)| id)
            .collect();
        for session in silent {
            self.close(now, session);
        }
        self.advance(now);
    }

    /// What to do next; until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is wanted.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let margin = self.margin();
        let rights = self.instances.values().filter_map(|instance| Some(instance.right? + margin));
        let silences = self.sessions.values().map(|session| session.heard_at + self.settings.silent_after);
        let stops = self.scans.values().filter_map(|scan| scan.wakes_at(self.waited_until));
        let waits = self.gives_up_at().into_iter().chain(self.rests_until());
        rights.chain(silences).chain(stops).chain(self.ask_back_at).chain(waits).min()
    }

    /// What was refused or came to nothing so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn stored(&mut self, now: Time, request: RequestId, reply: StoreReply) {
        let Some(pending) = self.pending.remove(&request) else {
            debug_assert!(false, "the store answered {request:?} twice");
            return;
        };
        match (pending, reply) {
            (Pending::Lease { scan, instance, session, work }, StoreReply::Leased(epochs)) => {
                self.leased(now, scan, instance, session, work, &epochs);
            }
            (Pending::Split { scan, work }, StoreReply::Leased(epochs)) => self.was_split(now, scan, work, &epochs),
            (Pending::BeginPass { scan, cohort, pass }, StoreReply::Done) => {
                if let Some(scan) = self.scans.get_mut(&scan) {
                    scan.pass_began(cohort, pass);
                }
            }
            (Pending::Survey { scan, cohort, indices }, StoreReply::Surveyed(histories)) => {
                let reach = self.scans.get(&scan).map(|scan| self.reach(now, scan));
                if let (Some(scan), Some(reach)) = (self.scans.get_mut(&scan), reach) {
                    let reach = reach.of(scan.plan.vantage_of(cohort)).clone();
                    scan.surveyed(cohort, indices, &histories, &reach);
                    self.work = true;
                }
            }
            (Pending::Commit { scan, epoch, session, outcomes, findings }, StoreReply::Committed(committed)) => {
                self.committed(session, scan, epoch, committed, outcomes, findings);
            }
            (Pending::CloseCohort { scan, cohort }, StoreReply::Done) => {
                if let Some(scan) = self.scans.get_mut(&scan) {
                    scan.cohort_closed(cohort);
                }
            }
            (Pending::Finish { scan, status }, StoreReply::Done) => {
                self.tell_end(scan);
                if let Some(ended) = self.scans.remove(&scan) {
                    let progress = ended.progress.at_end(status);
                    if progress != ended.progress {
                        let (findings, signs, loss) = (Vec::new(), Vec::new(), ended.loss());
                        self.outputs.push_back(Output::Event(Event::Committed {
                            scan,
                            findings,
                            signs,
                            progress,
                            loss,
                            window: ended.window(),
                            agent: None,
                            vantage: None,
                            probed: 0,
                        }));
                    }
                }
                self.forget_leases_of(scan);
                self.outputs.push_back(Output::Event(Event::Finished { scan, status }));
                // Without it the margin may be shorter.
                self.end_rights(now);
            }
            (Pending::Create { scan }, StoreReply::Done) => {
                self.created(scan);
                self.outputs.push_back(Output::Event(Event::Created { scan }));
            }
            (Pending::Control { scan, ask, state }, StoreReply::Done) => self.changed(now, scan, ask, *state),
            (Pending::Remove { scan, ask }, StoreReply::Removed(is_gone)) => self.removed(scan, ask, is_gone),
            (Pending::Clean, StoreReply::Cleaned(more)) if more => self.clean(),
            (Pending::Clean, StoreReply::Cleaned(_)) | (Pending::Nothing, StoreReply::Done) => {}
            (pending, reply) => debug_assert!(false, "the store answered {pending:?} with {reply:?}"),
        }
    }

    fn committed(
        &mut self,
        session: Option<SessionId>,
        scan: ScanId,
        epoch: Epoch,
        committed: Committed,
        outcomes: Vec<Outcome>,
        findings: Vec<Found>,
    ) {
        use protocol::message::CommitReply;
        let reply = match committed {
            Committed::Applied => {
                self.counters.applied += 1;
                self.succeeded(session);
                let agent = self.name_of(session).map(str::to_owned);
                if let (Some(lease), Some(running)) = (self.leases.remove(&epoch), self.scans.get_mut(&scan)) {
                    let signs = running.settled(&lease.leased, &outcomes);
                    self.work |= self.full;
                    let (progress, loss, window) = (running.progress.clone(), running.loss(), running.window());
                    let vantage = running.plan.vantage_of(lease.leased.shard.cohort).cloned();
                    self.outputs.push_back(Output::Event(Event::Committed {
                        scan,
                        findings,
                        signs,
                        progress,
                        loss,
                        window,
                        agent,
                        vantage,
                        probed: outcomes.iter().filter(|outcome| outcome.is_probed()).count() as u64,
                    }));
                }
                CommitReply::Applied
            }
            Committed::Duplicate => {
                self.counters.duplicate += 1;
                CommitReply::Gone
            }
            Committed::Fenced => {
                self.counters.fenced += 1;
                CommitReply::Gone
            }
        };
        if let Some(session) = session {
            self.send(session, CoordinatorMessage::Committed { epoch, reply });
        }
    }

    /// Whatever the last input made possible: grants, closed cohorts, ended scans.
    fn advance(&mut self, now: Time) {
        self.go_on(now);
        self.end_rests(now);
        self.give_up_waiting(now);
        if std::mem::take(&mut self.retell) {
            self.retell();
        }
        if std::mem::take(&mut self.work) {
            self.serve(now);
        }
        self.ask_back(now);
        self.finish_scans(now);
        self.tell_drained();
        self.dismiss();
    }

    /// Tells an agent, if the session still is.
    fn send(&mut self, session: SessionId, message: CoordinatorMessage) {
        if self.sessions.contains_key(&session) {
            self.outputs.push_back(Output::Send(session, Box::new(message)));
        }
    }

    fn ask_store(&mut self, request: StoreRequest, pending: Pending) {
        self.last_request += 1;
        let id = RequestId(self.last_request);
        self.pending.insert(id, pending);
        self.outputs.push_back(Output::Store(id, request));
    }

    fn submit(&mut self, record: ScanRecord) {
        let Some(scan) = Scan::new(&record, self.settings.agent_wait) else {
            debug_assert!(false, "a record's plan was checked when it was made");
            return;
        };
        self.scans.insert(record.id, scan);
        self.work = true;
        let id = record.id;
        self.ask_store(StoreRequest::CreateScan(record), Pending::Create { scan: id });
    }

    fn interrupt(&mut self, now: Time, scan: ScanId) {
        let stop_at = now + self.settings.stop_within;
        let Some(running) = self.scans.get_mut(&scan) else { return };
        self.retell |= running.stop(stop_at);
    }

    /// A scan is finished if all hold: 1. nothing of it waits for the store; 2. every cohort is closed, or it was stopped and
    /// no lease has a holder or its time to stop is up.
    fn finish_scans(&mut self, now: Time) {
        let ended: Vec<_> = self
            .scans
            .iter()
            .filter(|(id, scan)| {
                let held = self.leases.values().any(|lease| lease.scan == **id && lease.holder.is_some());
                let waiting = self.pending.values().any(|pending| pending.concerns(**id));
                !scan.finishing
                    && !waiting
                    && (scan.is_through() || scan.given_up || scan.stops_at().is_some_and(|at| !held || at <= now))
            })
            .map(|(&id, scan)| (id, scan.final_status()))
            .collect();
        for (id, status) in ended {
            if let Some(scan) = self.scans.get_mut(&id) {
                scan.finishing = true;
            }
            self.ask_store(StoreRequest::SetStatus(id, status), Pending::Finish { scan: id, status });
        }
    }
}

impl Pending {
    /// True if the scan's account may still change by it.
    fn concerns(&self, id: ScanId) -> bool {
        match self {
            Self::Lease { scan, .. }
            | Self::Split { scan, .. }
            | Self::BeginPass { scan, .. }
            | Self::Survey { scan, .. }
            | Self::Commit { scan, .. }
            | Self::CloseCohort { scan, .. }
            | Self::Create { scan }
            | Self::Control { scan, .. }
            | Self::Finish { scan, .. } => *scan == id,
            Self::Remove { .. } | Self::Clean | Self::Nothing => false,
        }
    }
}

#[cfg(test)]
mod tests;
