//! The thread behind [`Fleet`](super::Fleet): it owns the roster, the authority's key and the list of live sessions, and does one thing
//! after the other.
//!
//! Queue: requests, at most [`QUEUE_MAX`]; who finds it full is told so. The thread ends when nobody can ask any more.

use super::authority::{Authority, AuthorityError, Requested};
use super::deed;
use super::refusal::{Kind, Refusal};
use super::roster::{AgentRow, AuditRow, Facts, Joining, Roster, RosterError, Standing};
use super::{Fleet, FleetError};
use portsweep_agent::clock::Clock;
use protocol::enrol::{AgentId, EnrolReply, Enrolled, Join, LABELS_MAX, Label};
use protocol::id::AgentName;
use protocol::quote::Quoted;
use protocol::token::Secret;
use protocol::version::SPOKEN;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};
use utoipa::ToSchema;

/// Something to be done there.
pub(super) type Request = Box<dyn FnOnce(&mut Registrar) + Send>;

/// How many requests may wait.
const QUEUE_MAX: usize = 512;
/// How often counts of refusals are written.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// How many different refusals a minute are told apart; further ones are counted together.
const REFUSALS_MAX: usize = 512;
/// How many sessions one agent may have: a broken one may linger beside the next.
const SESSIONS_MAX: usize = 4;
/// The longest text of a refusal that is kept, in characters.
const DETAIL_CHARS_MAX: usize = 200;

/// An agent as the API shows it. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AgentView {
    /// Its id: 16 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The place in the network it sees from.
    pub vantage: String,
    /// Its labels, by key.
    pub labels: BTreeMap<String, String>,
    /// Whether it may connect.
    pub standing: Standing,
    /// Whether a session of it is open, and hello was said there.
    pub connected: bool,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected_at: Option<i64>,
    /// The round trip of its link in microseconds, as it measured it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u32>,
    /// Whether it gets no work, as somebody drained it.
    pub drained: bool,
    /// Whether it is drained and still has work in hand: that it gives back.
    pub draining: bool,
    /// Until when it gets no work, as its rights ended again and again; `None` where it gets some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rests_until: Option<i64>,
    /// When it was last heard; `None` if it never connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_at: Option<i64>,
    /// From where it last connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The version of its software.
    pub software: String,
    /// How it asks for life: `icmp` or `tcp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ping_method: Option<String>,
    /// What it may probe, as it last said: networks.
    pub allow: Vec<String>,
    /// The nonce of its process: 16 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// When it joined.
    pub joined_at: i64,
    /// The serial number of its newest certificate.
    pub serial: String,
    /// Until when that holds.
    pub certificate_ends_at: i64,
    /// When something last went wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_at: Option<i64>,
    /// What.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A session that is open.
#[derive(Debug)]
struct Live {
    number: u64,
    cut: mpsc::Sender<()>,
    since: i64,
    instance: Option<protocol::id::InstanceId>,
    /// The round trip of its link, as the agent measures it.
    rtt_us: Option<u32>,
}

/// A connection that was let in: hello may be said on it.
#[derive(Debug)]
pub struct Hearing {
    /// Its number.
    pub number: u64,
    /// Resolves when it is to be cut.
    pub cut: mpsc::Receiver<()>,
}

/// What is counted of a refusal in its minute.
#[derive(Debug)]
struct Counted {
    minute: i64,
    at: i64,
    detail: String,
    count: i64,
    /// The row that it has, and how much of the count is in it.
    row: Option<(i64, i64)>,
}

/// What the thread owns.
pub(super) struct Registrar {
    roster: Roster,
    authority: Authority,
    live: BTreeMap<AgentId, Vec<Live>>,
    last_session: u64,
    refusals: BTreeMap<(String, String), Counted>,
    changed: watch::Sender<u64>,
}

/// Starts the thread.
pub(super) fn start(registrar: Registrar) -> Result<SyncSender<Request>, FleetError> {
    let (queue, requests) = sync_channel(QUEUE_MAX);
    let started = thread::Builder::new().name("roster".to_owned()).spawn(move || registrar.serve(&requests));
    started.map_err(FleetError::Thread)?;
    Ok(queue)
}

impl Registrar {
    pub(super) fn new(roster: Roster, authority: Authority, changed: watch::Sender<u64>) -> Self {
        Self { roster, authority, live: BTreeMap::new(), last_session: 0, refusals: BTreeMap::new(), changed }
    }

    fn serve(mut self, requests: &Receiver<Request>) {
        loop {
            match requests.recv_timeout(WRITE_EVERY) {
                Ok(request) => request(&mut self),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.write_refusals(false);
        }
        self.write_refusals(true);
    }

    pub(super) fn page_tls(&self, names: &[String]) -> Result<rustls::ServerConfig, AuthorityError> {
        self.authority.page_config(names)
    }

    fn changed(&self) {
        self.changed.send_modify(|number| *number += 1);
    }

    pub(super) fn add_token(&mut self, digest: &[u8; 32], ttl: Duration, who: &str) -> Result<(), RosterError> {
        let at = now();
        let expires_at = at + i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX / 2);
        self.roster.add_token(
            digest,
            expires_at,
            &deed(at, who, "make join token", &format!("for {} s", ttl.as_secs())),
        )
    }

    pub(super) fn agents(&self) -> Result<Vec<AgentView>, RosterError> {
        Ok(self.roster.agents()?.iter().map(|row| self.view(row)).collect())
    }

    pub(super) fn find(&self, name_or_id: &str) -> Result<AgentView, FleetError> {
        self.row(name_or_id).map(|row| self.view(&row))
    }

    fn row(&self, name_or_id: &str) -> Result<AgentRow, FleetError> {
        self.roster.find(name_or_id)?.ok_or_else(|| FleetError::NoAgent(Quoted::new(name_or_id)))
    }

    fn view(&self, row: &AgentRow) -> AgentView {
        let live = self.live.get(&row.id).into_iter().flatten();
        let live = live.filter(|live| live.instance.is_some()).max_by_key(|live| live.number);
        AgentView {
            id: row.id.to_string(),
            name: row.name.to_string(),
            vantage: row.vantage.to_string(),
            labels: row.labels.iter().map(|label| (label.key().to_owned(), label.value().to_owned())).collect(),
            standing: row.standing,
            connected: live.is_some(),
            connected_at: live.map(|live| live.since),
            rtt_us: live.and_then(|live| live.rtt_us),
            drained: row.drained,
            draining: false,
            rests_until: None,
            seen_at: if live.is_some() { Some(now()) } else { row.seen_at },
            peer: row.peer.clone(),
            software: row.software.clone(),
            ping_method: row.ping_method.clone(),
            allow: row.allow.clone(),
            instance: row.instances.first().map(ToString::to_string),
            joined_at: row.joined_at,
            serial: row.serial.clone(),
            certificate_ends_at: row.certificate_ends_at,
            error_at: row.error.as_ref().map(|(at, _)| *at),
            error: row.error.as_ref().map(|(_, error)| error.clone()),
        }
    }

    pub(super) fn label(&mut self, wanted: &str, labels: Vec<Label>, who: &str) -> Result<AgentView, FleetError> {
        let row = self.row(wanted)?;
        let mut by_key: BTreeMap<_, _> =
            row.labels.iter().map(|label| (label.key().to_owned(), label.clone())).collect();
        let said: Vec<_> = labels.iter().map(ToString::to_string).collect();
        for label in labels {
            if label.value().is_empty() {
                by_key.remove(label.key());
            } else {
                by_key.insert(label.key().to_owned(), label);
            }
        }
        let labels: Vec<_> = by_key.into_values().take(LABELS_MAX).collect();
        let detail = format!("{}: {}", row.name, said.join(" "));
        self.roster.label(row.id, &labels, &deed(now(), who, "label agent", &detail))?;
        self.changed();
        self.find(&row.id.to_string())
    }

    pub(super) fn drain(&mut self, wanted: &str, drained: bool, who: &str) -> Result<AgentView, FleetError> {
        let row = self.row(wanted)?;
        let what = if drained { "drain agent" } else { "end drain of agent" };
        self.roster.drain(row.id, drained, &deed(now(), who, what, row.name.as_str()))?;
        self.changed();
        self.find(&row.id.to_string())
    }

    pub(super) fn revoke(&mut self, wanted: &str, who: &str) -> Result<AgentView, FleetError> {
        let row = self.row(wanted)?;
        self.roster.revoke(row.id, &deed(now(), who, "revoke agent", row.name.as_str()))?;
        self.cut(row.id, |_| true);
        self.changed();
        self.find(&row.id.to_string())
    }

    fn cut(&mut self, agent: AgentId, which: impl Fn(&Live) -> bool) {
        for live in self.live.get(&agent).into_iter().flatten().filter(|live| which(live)) {
            // One order to cut is enough: a full queue has it.
            let _has_one = live.cut.try_send(());
        }
    }

    pub(super) fn audit(&mut self, who: &str, what: &str, detail: &str) -> Result<(), RosterError> {
        self.roster.audit(&deed(now(), who, what, detail), 1).map(|_| ())
    }

    pub(super) fn audit_rows(&mut self, before: Option<i64>, limit: u32) -> Result<Vec<AuditRow>, RosterError> {
        self.write_refusals(true);
        self.roster.audit_rows(before, limit)
    }

    /// An agent joins, or is refused.
    pub(super) fn join(&mut self, join: Join, peer: SocketAddr) -> Result<EnrolReply, FleetError> {
        let who = peer.ip().to_canonical().to_string();
        let joined = match self.try_join(join, &who)? {
            Ok(enrolled) => enrolled,
            Err(refusal) => return Ok(self.refuse(None, &who, refusal)),
        };
        self.changed();
        Ok(EnrolReply::Enrolled(joined))
    }

    fn try_join(&mut self, join: Join, who: &str) -> Result<Result<Enrolled, Refusal>, FleetError> {
        if SPOKEN.meet(join.versions).is_none() {
            let older = if join.versions.newest < SPOKEN.oldest { "agent" } else { "coordinator" };
            let reason = format!(
                "the agent speaks protocol version {}, the coordinator {SPOKEN}: upgrade the {older}",
                join.versions
            );
            return Ok(Err(Refusal::new(Kind::Versions, reason)));
        }
        let requested = match Requested::read(&join.request) {
            Ok(requested) => requested,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let joining = Joining {
            digest: Secret::from_bytes(join.secret).digest(),
            id: AgentId::new(getrandom::u64().map_err(FleetError::Random)?),
            public_key: requested.pin(),
            name: join.name,
            name_chosen: join.name_chosen,
            vantage: join.vantage,
            labels: join.labels,
            software: Quoted::new(&join.software).to_string().trim_matches('"').to_owned(),
            peer: who.to_owned(),
        };
        match self.roster.join(&joining, now())? {
            Ok(row) => Ok(Ok(self.enrolled(&row, &requested, who)?)),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    fn enrolled(&mut self, row: &AgentRow, requested: &Requested, who: &str) -> Result<Enrolled, FleetError> {
        let signed = self.authority.sign(row.id, requested)?;
        let detail = format!("{}, serial {}", row.name, signed.serial);
        let deed = deed(now(), who, "sign certificate", &detail);
        self.roster.certified(row.id, &signed.serial, seconds(signed.ends_at), &deed)?;
        Ok(Enrolled {
            agent: row.id,
            name: row.name.clone(),
            vantage: row.vantage.clone(),
            certificate: signed.der,
            authority: self.authority.certificate().to_vec(),
        })
    }

    /// An agent gets its next certificate, for the key that it joined with.
    pub(super) fn renew(&mut self, agent: AgentId, request: &[u8], peer: SocketAddr) -> Result<EnrolReply, FleetError> {
        let who = peer.ip().to_canonical().to_string();
        let row = match self.admitted(agent)? {
            Ok(row) => row,
            Err(refusal) => return Ok(self.refuse(Some(agent), &who, refusal)),
        };
        match Requested::read(request) {
            Ok(requested) if requested.pin() == row.public_key => {
                let enrolled = self.enrolled(&row, &requested, &who)?;
                self.changed();
                Ok(EnrolReply::Enrolled(enrolled))
            }
            Ok(_) => {
                let refusal = Refusal::new(Kind::Request, "the request is for another key than this agent joined with");
                Ok(self.refuse(Some(agent), &who, refusal))
            }
            Err(refusal) => Ok(self.refuse(Some(agent), &who, refusal)),
        }
    }

    fn refuse(&mut self, agent: Option<AgentId>, who: &str, refusal: Refusal) -> EnrolReply {
        self.note(agent, who, &refusal);
        EnrolReply::Refused { reason: refusal.reason }
    }

    /// Counts a refusal, and notes it with the agent if it is known which.
    pub(super) fn note(&mut self, agent: Option<AgentId>, who: &str, refusal: &Refusal) {
        let detail: String = refusal.reason.chars().take(DETAIL_CHARS_MAX).collect();
        self.refused(who, refusal.kind.as_str(), &detail);
        let Some(agent) = agent else { return };
        if let Err(error) = self.roster.failed(agent, &detail, now()) {
            tracing::warn!(error = %anyhow::Error::from(error), "an agent's error was not kept");
        }
        self.changed();
    }

    /// The agent's row if it may connect: 1. it is on the roster; 2. it was not revoked; 3. its key is in one place.
    fn admitted(&self, agent: AgentId) -> Result<Result<AgentRow, Refusal>, RosterError> {
        let Some(row) = self.roster.agent(agent)? else {
            let reason = "this coordinator does not know the agent: join it again, with another --state";
            return Ok(Err(Refusal::new(Kind::UnknownAgent, reason)));
        };
        Ok(match row.standing {
            Standing::Good => Ok(row),
            Standing::Revoked => Err(Refusal::new(
                Kind::Revoked,
                format!("agent {} was revoked: to join again, remove its state and use a new token", row.name),
            )),
            Standing::Copied => Err(Refusal::new(
                Kind::Copied,
                format!("the key of agent {} is in two places: revoke it, and join both anew", row.name),
            )),
        })
    }

    /// An agent with this certificate connected. It is let in if it may connect.
    pub(super) fn admit(&mut self, agent: AgentId, peer: SocketAddr) -> Result<Result<Hearing, Refusal>, RosterError> {
        if let Err(refusal) = self.admitted(agent)? {
            self.note(Some(agent), &peer.ip().to_canonical().to_string(), &refusal);
            return Ok(Err(refusal));
        }
        self.last_session += 1;
        let (cut, cutting) = mpsc::channel(1);
        let number = self.last_session;
        let sessions = self.live.entry(agent).or_default();
        if sessions.len() >= SESSIONS_MAX {
            let _has_one = sessions.remove(0).cut.try_send(());
        }
        sessions.push(Live { number, cut, since: now(), instance: None, rtt_us: None });
        Ok(Ok(Hearing { number, cut: cutting }))
    }

    /// An agent says hello. It is heard if all hold: 1. it may still connect; 2. the name is the one that its certificate's agent has;
    /// 3. its process was not superseded by another: that one's key is a copy, or this one's is, and both are shut out. The sessions of a
    /// process that this one supersedes are cut. Returns the agent's vantage, which is the roster's to say.
    pub(super) fn hello(
        &mut self,
        (agent, session): (AgentId, u64),
        name: &AgentName,
        facts: &Facts,
        peer: SocketAddr,
    ) -> Result<Result<AgentName, Refusal>, RosterError> {
        let who = peer.ip().to_canonical().to_string();
        let row = match self.admitted(agent)? {
            Ok(row) if row.name != *name => {
                let reason = format!("hello is of {name}, and the certificate of {}", row.name);
                Err(Refusal::new(Kind::Identity, reason))
            }
            Ok(row) if row.instances.iter().skip(1).any(|&superseded| superseded == facts.instance) => {
                let detail = format!("{}: process {} came back after another took its place", row.name, facts.instance);
                self.roster.copied(agent, &deed(now(), &who, "copied key", &detail))?;
                self.cut(agent, |_| true);
                self.changed();
                Err(Refusal::new(
                    Kind::Copied,
                    format!("the key of agent {} is in two places: revoke it, and join both anew", row.name),
                ))
            }
            other => other,
        };
        let row = match row {
            Ok(row) => row,
            Err(refusal) => {
                self.note(Some(agent), &who, &refusal);
                return Ok(Err(refusal));
            }
        };
        self.roster.hello(&row, facts, &peer.to_string(), now())?;
        self.cut(agent, |live| live.instance.is_some_and(|instance| instance != facts.instance));
        if let Some(live) = self.live.get_mut(&agent).into_iter().flatten().find(|live| live.number == session) {
            (live.instance, live.since) = (Some(facts.instance), now());
        }
        self.changed();
        Ok(Ok(row.vantage))
    }

    /// An agent measured its link. That is no news for who follows: it is shown with the next.
    pub(super) fn measured(&mut self, agent: AgentId, session: u64, rtt_us: u32) {
        let live = self.live.get_mut(&agent).into_iter().flatten().find(|live| live.number == session);
        if let Some(live) = live {
            live.rtt_us = Some(rtt_us);
        }
    }

    /// A session is gone.
    pub(super) fn ended(&mut self, agent: AgentId, session: u64) {
        let Some(sessions) = self.live.get_mut(&agent) else { return };
        let said_hello = sessions.iter().any(|live| live.number == session && live.instance.is_some());
        sessions.retain(|live| live.number != session);
        if sessions.is_empty() {
            self.live.remove(&agent);
        }
        if said_hello {
            if let Err(error) = self.roster.seen(agent, now()) {
                tracing::warn!(error = %anyhow::Error::from(error), "when an agent was last seen was not kept");
            }
            self.changed();
        }
    }

    /// Counts a refusal. It gets its row within a second.
    pub(super) fn refused(&mut self, who: &str, what: &str, detail: &str) {
        let at = now();
        let minute = at.div_euclid(60);
        let is_new = !self.refusals.contains_key(&(who.to_owned(), what.to_owned()));
        let who = if is_new && self.refusals.len() >= REFUSALS_MAX { "others" } else { who };
        let key = (who.to_owned(), what.to_owned());
        if self.refusals.get(&key).is_some_and(|counted| counted.minute != minute) {
            self.write_refusals(true);
        }
        let fresh = || Counted { minute, at, detail: detail.to_owned(), count: 0, row: None };
        self.refusals.entry(key).or_insert_with(fresh).count += 1;
    }

    /// Writes what is new of the counts; forgets those of minutes that are over. `all` also those of a second that is not.
    fn write_refusals(&mut self, all: bool) {
        let this_minute = now().div_euclid(60);
        let this_second = now();
        for ((who, what), counted) in &mut self.refusals {
            let written = counted.row.map_or(0, |(_, written)| written);
            if counted.count == written || !all && counted.at == this_second && counted.row.is_none() {
                continue;
            }
            let kept = match counted.row {
                Some((key, _)) => self.roster.count(key, counted.count).map(|()| key),
                None => self.roster.audit(&deed(counted.at, who, what, &counted.detail), counted.count),
            };
            match kept {
                Ok(key) => counted.row = Some((key, counted.count)),
                Err(error) => tracing::warn!(error = %anyhow::Error::from(error), "refusals were not audited"),
            }
        }
        self.refusals.retain(|_, counted| counted.minute == this_minute);
    }
}

impl Fleet {
    /// An agent joins.
    pub(super) async fn join(&self, join: Join, peer: SocketAddr) -> Result<EnrolReply, FleetError> {
        self.ask(move |registrar| registrar.join(join, peer)).await?
    }

    /// An agent gets its next certificate.
    pub(super) async fn renew(
        &self,
        agent: AgentId,
        request: Vec<u8>,
        peer: SocketAddr,
    ) -> Result<EnrolReply, FleetError> {
        self.ask(move |registrar| registrar.renew(agent, &request, peer)).await?
    }

    /// An agent connected.
    pub(super) async fn admit(&self, agent: AgentId, peer: SocketAddr) -> Result<Result<Hearing, Refusal>, FleetError> {
        Ok(self.ask(move |registrar| registrar.admit(agent, peer)).await??)
    }

    /// An agent says hello.
    pub(super) async fn hello(
        &self,
        session: (AgentId, u64),
        name: AgentName,
        facts: Facts,
        peer: SocketAddr,
    ) -> Result<Result<AgentName, Refusal>, FleetError> {
        Ok(self.ask(move |registrar| registrar.hello(session, &name, &facts, peer)).await??)
    }

    /// An agent measured its link. What cannot be queued is lost: it measures again.
    pub(super) fn measured(&self, agent: AgentId, session: u64, rtt_us: u32) {
        let request: Request = Box::new(move |registrar| registrar.measured(agent, session, rtt_us));
        let _measured_again = self.queue.try_send(request);
    }

    /// A session is gone. What cannot be queued is lost: the session is then shown until the agent connects again.
    pub(super) fn ended(&self, agent: AgentId, session: u64) {
        let request: Request = Box::new(move |registrar| registrar.ended(agent, session));
        if self.queue.try_send(request).is_err() {
            tracing::debug!("the end of a session was not noted: the roster has too much to do");
        }
    }

    /// Counts a refusal of an agent that is known.
    pub(super) fn refused_agent(&self, agent: AgentId, peer: SocketAddr, refusal: Refusal) {
        let who = peer.ip().to_canonical().to_string();
        let request: Request = Box::new(move |registrar| registrar.note(Some(agent), &who, &refusal));
        if self.queue.try_send(request).is_err() {
            tracing::debug!("a refusal was not counted: the roster has too much to do");
        }
    }
}

fn now() -> i64 {
    seconds(Clock::wall())
}

fn seconds(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(0)
}
