//! What holds for a scan: changed durably, told to every agent, accounted until all have acknowledged it or their rights have ended.

use super::ledger::Told;
use super::scan::Scan;
use super::{Coordinator, Event, Output, Pending};
use crate::control::{Change, ChangeError, ControlState, Intent};
use crate::store::{ScanStatus, StoreRequest};
use protocol::id::{InstanceId, ScanId};
use protocol::message::{Control, CoordinatorMessage, HeldShare, Run, UsedShare};
use protocol::range_set::AddressSet;
use protocol::rate::Rate;
use protocol::time::Time;

/// What a hello says that bears on control states.
pub(super) struct Hailed {
    pub(super) instance: InstanceId,
    pub(super) vantage: String,
    pub(super) allow: AddressSet,
    pub(super) shares: Vec<HeldShare>,
    /// It holds no lease: it learns what holds before it is granted anything.
    pub(super) fresh: bool,
    /// It gets no work.
    pub(super) is_drained: bool,
}

impl Coordinator {
    /// Takes a scan in that goes on. One that was being cancelled still is; who goes on with one that was cancelled wants it no more.
    pub(super) fn go_on_with(&mut self, now: Time, id: ScanId, mut scan: Scan, status: ScanStatus) {
        if scan.control.intent == Intent::Cancel {
            if status == ScanStatus::Running {
                scan.stop(now + self.settings.stop_within);
            } else {
                scan.control = ControlState { version: scan.control.version + 1, intent: Intent::Go, ..scan.control };
                scan.wanted = scan.control.clone();
                let control = Box::new(scan.control.clone());
                self.ask_store(StoreRequest::SetControl(id, control), Pending::Nothing);
            }
        }
        if status != ScanStatus::Running {
            self.ask_store(StoreRequest::SetStatus(id, ScanStatus::Running), Pending::Nothing);
        }
        self.scans.insert(id, scan);
    }

    /// A change is kept before anybody is told of it. It builds on those that are on their way to the store.
    pub(super) fn change(&mut self, ask: u64, scan: ScanId, change: &Change) {
        let refused = |error| Output::Event(Event::Changed { ask, scan, outcome: Err(error) });
        let Some(running) = self.scans.get_mut(&scan).filter(|running| !running.finishing) else {
            return self.outputs.push_back(refused(ChangeError::NotRunning));
        };
        let stopping = running.version().1 && *change != Change::Cancel;
        match running.wanted.with(change) {
            Ok(_) if stopping => self.outputs.push_back(refused(ChangeError::Stopping)),
            Err(error) => self.outputs.push_back(refused(error)),
            Ok(state) => {
                running.wanted = state.clone();
                let state = Box::new(state);
                let request = StoreRequest::SetControl(scan, state.clone());
                self.ask_store(request, Pending::Control { scan, ask, state });
            }
        }
    }

    /// A change is durable.
    pub(super) fn changed(&mut self, now: Time, scan: ScanId, ask: u64, state: ControlState) {
        let stop_at = now + self.settings.stop_within;
        let outcome = match self.scans.get_mut(&scan) {
            Some(running) => {
                let version = state.version;
                if state.intent == Intent::Cancel {
                    running.stop(stop_at);
                }
                // Answers of the store may overtake each other; what it keeps is the newest.
                if running.control.version < version {
                    running.control = state;
                }
                (self.work, self.retell) = (true, true);
                Ok(version)
            }
            None => Err(ChangeError::NotRunning),
        };
        self.outputs.push_back(Output::Event(Event::Changed { ask, scan, outcome }));
    }

    /// The store has a new scan: agents may be told.
    pub(super) fn created(&mut self, scan: ScanId) {
        if let Some(running) = self.scans.get_mut(&scan) {
            running.created = true;
            for (&instance, known) in self.instances.iter().filter(|(_, known)| known.session.is_some()) {
                let useful = !self.drained.has(known) && running.is_for(known.vantage(), &known.allow);
                running.ledger.hello(instance, None, useful, true, running.version());
            }
            (self.retell, self.work) = (true, true);
        }
    }

    /// What holds for all scans, as it is told to an instance that said hello.
    pub(super) fn controls_for(&mut self, hailed: &Hailed) -> Vec<Control> {
        let mut controls = Vec::new();
        for (&scan, running) in self.scans.iter_mut().filter(|(_, running)| running.created) {
            let share = hailed.shares.iter().find(|held| held.scan == scan).map(|held| held.share);
            let useful = !hailed.is_drained && running.is_for(&hailed.vantage, &hailed.allow);
            let version = running.version();
            running.ledger.hello(hailed.instance, share, useful, hailed.fresh, version);
            let planned = running.ledger.plan(running.control.rate, version);
            let share = planned.into_iter().find(|(instance, _)| *instance == hailed.instance);
            let share = share.map_or(Some(Rate::ZERO), |(_, share)| share);
            self.last_control += 1;
            running.ledger.tell(hailed.instance, Told { number: self.last_control, version, share });
            controls.push(control(scan, running, self.last_control, share));
        }
        (self.retell, self.work) = (true, true);
        controls
    }

    /// An instance acknowledged a control message: it does as that says.
    pub(super) fn acknowledged(&mut self, instance: InstanceId, scan: ScanId, number: u64) {
        if let Some(running) = self.scans.get_mut(&scan) {
            self.retell |= running.ledger.acknowledge(instance, number);
        }
    }

    /// What an instance has used of its shares: what it does not use goes to others.
    pub(super) fn uses(&mut self, now: Time, instance: InstanceId, used: &[UsedShare]) {
        for UsedShare { scan, packets } in used {
            let Some(running) = self.scans.get_mut(scan) else { continue };
            if running.goes_on() {
                self.retell |= running.ledger.used(now, instance, *packets);
            } else {
                running.ledger.rests(instance);
            }
        }
    }

    /// Tells those who have to do something else than they were told, and whoever follows a scan for whom it waits.
    pub(super) fn retell(&mut self) {
        let (scans, instances, last) = (&mut self.scans, &self.instances, &mut self.last_control);
        for (&scan, running) in scans.iter_mut().filter(|(_, running)| running.created) {
            let version = running.version();
            for (instance, share) in running.ledger.plan(running.control.rate, version) {
                let Some(session) = instances.get(&instance).and_then(|known| known.session) else { continue };
                *last += 1;
                running.ledger.tell(instance, Told { number: *last, version, share });
                let message = CoordinatorMessage::Control(control(scan, running, *last, share));
                self.outputs.push_back(Output::Send(session, Box::new(message)));
                self.work = true;
            }
            // Who has no right may not probe, and gets none before it has heard this.
            let may_probe = |instance: &InstanceId| instances.get(instance).is_some_and(|known| known.right.is_some());
            let name = |instance: InstanceId| {
                let facts = instances.get(&instance).and_then(|known| known.facts.as_ref());
                facts.map_or_else(|| format!("instance {instance}"), |facts| facts.name.clone())
            };
            let waits_for: Vec<_> = running.ledger.behind(version).filter(may_probe).map(name).collect();
            let news = (version.0, waits_for);
            if version.0 > 1 && news != running.announced {
                running.announced = news.clone();
                let state = Box::new(running.control.clone());
                self.outputs.push_back(Output::Event(Event::Control { scan, state, waits_for: news.1 }));
            }
        }
    }

    /// A scan has ended: agents forget it.
    pub(super) fn tell_end(&mut self, scan: ScanId) {
        let Some(running) = self.scans.get(&scan) else { return };
        let last = &mut self.last_control;
        for session in self.instances.values().filter_map(|known| known.session) {
            *last += 1;
            let control = Control { run: Run::Stop, ..control(scan, running, *last, Some(Rate::ZERO)) };
            self.outputs.push_back(Output::Send(session, Box::new(CoordinatorMessage::Control(control))));
        }
    }
}

fn control(scan: ScanId, running: &Scan, number: u64, share: Option<Rate>) -> Control {
    let run = match (running.version().1, running.control.intent) {
        (true, _) | (false, Intent::Cancel) => Run::Stop,
        (false, Intent::Pause) => Run::Pause,
        (false, Intent::Go) => Run::Go,
    };
    let ControlState { exclude, per_host_rate, .. } = &running.control;
    Control { scan, version: number, run, exclude: exclude.clone(), share, per_host_rate: *per_host_rate }
}
