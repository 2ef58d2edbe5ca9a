//! A coordinator with an open port, and agents for it.

use crate::actors::coordinator::{Coordinator, Submit, TOLD, Told};
use crate::fleet::{AgentView, Fleet, ListenSettings, Listening, listen};
use crate::store::sqlite::SqliteStore;
use crate::store::thread;
use actix::prelude::*;
use coordinator_core::coordinator::{Coordinator as Machine, Event};
use coordinator_core::settings::Settings;
use coordinator_core::store::memory::MemoryStore;
use coordinator_core::store::{ScanRecord, ScanStatus, Store};
use portsweep_agent::clock::Clock;
use portsweep_agent::dial::{Proxies, Route};
use portsweep_agent::enrol::{self, EnrolError};
use portsweep_agent::identity::{self, Joined, StateDirectory};
use portsweep_agent::queue::{self, Reader};
use portsweep_agent::run::{self, RunError};
use protocol::enrol::{Enrolled, Join};
use protocol::id::ScanId;
use protocol::message::ProbeOptions;
use protocol::plan::{Plan, PlanParts, Slots};
use protocol::probe::{Slot, Target};
use protocol::range_set::{AddressSet, RankedRanges};
use protocol::token::JoinToken;
use protocol::version::SPOKEN;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::oneshot;

/// Longer than anything here takes, on a machine that does something else too.
const STORY_TIMEOUT: Duration = Duration::from_secs(60);
/// Where scans are kept by a store on disk.
const SCANS: &str = "scans.db";
pub(super) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(super) struct World {
    pub(super) directory: TempDir,
    pub(super) fleet: Fleet,
    pub(super) listening: Listening,
    coordinator: Addr<Coordinator>,
    events: Reader<Told>,
}

/// Runs a story in an actor system, and fails it when it does not end.
pub(super) fn story<F: Future<Output = ()>>(story: impl FnOnce() -> F) {
    System::new().block_on(async {
        tokio::time::timeout(STORY_TIMEOUT, story()).await.expect("the story ends in time");
    });
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(ListenSettings::at(SocketAddr::new(LOOPBACK, 0)), super::super::AGENT_LIFE).await
    }

    pub(super) async fn with(settings: ListenSettings, life: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self::over(Box::new(MemoryStore::new()), Settings::default(), directory, settings, life).await
    }

    /// With a store that can be looked at, see [`stored`](Self::stored), and these times.
    pub(super) async fn on_disk(settings: Settings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::create(&directory.path().join(SCANS)).unwrap();
        let port = ListenSettings::at(SocketAddr::new(LOOPBACK, 0));
        Self::over(Box::new(store), settings, directory, port, super::super::AGENT_LIFE).await
    }

    async fn over(
        store: Box<dyn Store>,
        times: Settings,
        directory: TempDir,
        settings: ListenSettings,
        life: Duration,
    ) -> Self {
        let fleet = Fleet::open_with(directory.path(), &directory.path().join("coordinator.db"), life).unwrap();
        let (store, answers) = thread::start(store).unwrap();
        let (told, events) = queue::bounded(TOLD);
        let machine = Machine::new(times);
        let coordinator = Coordinator::new(machine, Clock::Monotonic, store, answers, told).start();
        let listening = listen(settings, coordinator.clone(), fleet.clone()).await.unwrap();
        Self { directory, fleet, listening, coordinator, events }
    }

    /// Asks the coordinator, as whoever runs scans does.
    pub(super) async fn tell<M>(&self, message: M)
    where
        M: Message<Result = ()> + Send + 'static,
        Coordinator: Handler<M>,
        <Coordinator as Actor>::Context: actix::dev::ToEnvelope<Coordinator, M>,
    {
        self.coordinator.send(message).await.unwrap();
    }

    /// What becomes known of scans, next.
    pub(super) async fn event(&mut self) -> Event {
        match self.events.next().await.expect("the coordinator lives") {
            Told::Event(event) => event,
            Told::Failure(line) => panic!("{line}"),
        }
    }

    /// What is stored at one moment, as another process sees it; the store must be [on disk](Self::on_disk).
    pub(super) fn stored(&self) -> SqliteStore {
        let store = SqliteStore::open_read_only(&self.directory.path().join(SCANS)).unwrap();
        store.stand_still().unwrap();
        store
    }

    pub(super) fn state(&self, name: &str) -> StateDirectory {
        let state = StateDirectory::find(Some(&self.directory.path().join(name))).unwrap();
        std::fs::create_dir_all(state.path()).unwrap();
        state
    }

    pub(super) async fn token(&self) -> JoinToken {
        self.token_for(Duration::from_secs(900)).await
    }

    pub(super) async fn token_for(&self, ttl: Duration) -> JoinToken {
        self.fleet.make_token(vec![self.listening.address().into()], ttl, "test").await.unwrap()
    }

    /// Joins with a new token.
    pub(super) async fn join(&self, name: &str) -> StateDirectory {
        let state = self.state(name);
        join(&state, name, &self.token().await).await.unwrap();
        state
    }

    /// Scans open and closed ports of 127.0.0.1, and asserts that the result is the truth.
    pub(super) async fn scan(&mut self) {
        let open: Vec<_> = (0..3).map(|_| TcpListener::bind((LOOPBACK, 0)).unwrap()).collect();
        let mut open_ports: Vec<_> = open.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        open_ports.sort_unstable();
        // Few enough that no other test's listener is likely among those that are closed; what is found beside ours is not looked at.
        let closed = [1, 2, 3];
        let addresses = RankedRanges::try_from(&AddressSet::from(LOOPBACK)).unwrap();
        let ports = open_ports.iter().copied().chain(closed).collect();
        let plan = Plan::new(addresses, Slots::new(false, ports), 7).unwrap();
        let record = ScanRecord {
            id: ScanId::from_bytes(*uuid::Uuid::now_v7().as_bytes()),
            plan: PlanParts::from(&plan),
            options: ProbeOptions::new(900, 64),
            rate: None,
            tries: None,
            weight: 1,
            agent_wait_s: None,
            status: ScanStatus::Running,
            request: String::new(),
        };
        self.coordinator.send(Submit(Box::new(record))).await.unwrap();
        let mut found = Vec::new();
        loop {
            match self.events.next().await.expect("the coordinator lives") {
                Told::Event(Event::Committed { findings, .. }) => {
                    found.extend(findings.iter().map(|found| found.target));
                }
                Told::Event(Event::Finished { status, .. }) => {
                    assert_eq!(status, ScanStatus::Done);
                    break;
                }
                Told::Event(
                    Event::Created { .. }
                    | Event::Changed { .. }
                    | Event::Control { .. }
                    | Event::Removed { .. }
                    | Event::Drains { .. }
                    | Event::Rests { .. },
                ) => {}
                Told::Failure(line) => panic!("{line}"),
            }
        }
        let mut found: Vec<_> = found.iter().map(matches_port).collect();
        found.sort_unstable();
        assert_eq!(found, open_ports);
    }

    /// Waits until an agent is as is asked for.
    pub(super) async fn until(&self, name: &str, holds: impl Fn(&AgentView) -> bool) -> AgentView {
        let mut changes = self.fleet.changes();
        loop {
            changes.borrow_and_update();
            let view = self.fleet.agent(name).await.unwrap();
            if holds(&view) {
                return view;
            }
            changes.changed().await.unwrap();
        }
    }

    /// How often each kind of refusal was audited.
    pub(super) async fn refusals(&self, kind: &str) -> i64 {
        let rows = self.fleet.audit_rows(None, 1_000).await.unwrap();
        rows.iter().filter(|row| row.what == kind).map(|row| row.count).sum()
    }
}

fn matches_port(target: &Target) -> u16 {
    assert_eq!(target.address, LOOPBACK);
    let Slot::Tcp(port) = target.slot else { panic!("ports are asked for") };
    port
}

/// What an agent says to join.
pub(super) fn saying(state: &StateDirectory, name: &str, token: &JoinToken) -> Join {
    Join {
        versions: SPOKEN,
        secret: *token.secret().as_bytes(),
        name: name.to_owned().try_into().unwrap(),
        name_chosen: true,
        vantage: None,
        labels: vec!["site=lab".parse().unwrap()],
        software: "0.1.0".to_owned(),
        request: identity::request(&state.key().unwrap()).unwrap(),
    }
}

pub(super) async fn join(state: &StateDirectory, name: &str, token: &JoinToken) -> Result<Enrolled, EnrolError> {
    let route = Route::new(token.addresses().to_vec(), Proxies::default());
    let enrolled = enrol::join(&route, token.pin(), saying(state, name, token)).await?;
    let joined = Joined {
        agent: enrolled.agent,
        name: enrolled.name.clone(),
        vantage: enrolled.vantage.clone(),
        coordinator: token.addresses().to_vec(),
        allow: vec!["127.0.0.0/8".parse().unwrap()],
    };
    state.keep(&enrolled, &joined).unwrap();
    Ok(enrolled)
}

/// An agent that runs, and how it is told to end.
pub(super) struct Running {
    end: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<Result<(), RunError>>,
}

pub(super) fn start(state: &StateDirectory) -> Running {
    start_through(state, Proxies::default())
}

pub(super) fn start_through(state: &StateDirectory, proxies: Proxies) -> Running {
    let joined = state.joined().unwrap().expect("it has joined");
    let route = Route::new(joined.coordinator.clone(), proxies);
    let (end, told) = oneshot::channel();
    let told = async {
        let _said_or_dropped = told.await;
    };
    let ended = tokio::task::spawn_local(run::run(state.clone(), joined, route, told));
    Running { end, ended }
}

impl Running {
    /// Ends as by SIGTERM.
    pub(super) async fn end(self) {
        self.end.send(()).expect("it runs");
        self.ended.await.expect("it did not panic").expect("it ended in order");
    }
}

/// Copies a directory of files.
pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
