//! An agent that joined, was granted leases, and reports what cannot be: nothing of it is stored, its session ends or goes on as the lease
//! contract says, and it is audited once. The agents here speak the protocol and send no packet: what they claim is made up.

use super::fixture::{World, story};
use super::nonsense::{hello, link};
use crate::actors::coordinator::{Alter, Submit};
use bytes::Bytes;
use coordinator_core::control::Change;
use coordinator_core::coordinator::Event;
use coordinator_core::settings::Settings;
use coordinator_core::store::{ChunkRecord, CohortRecord, LeaseRecord, ScanRecord, ScanStatus, Store};
use futures_util::SinkExt;
use portsweep_agent::frames::{framed, hear};
use portsweep_agent::identity::StateDirectory;
use protocol::chunk;
use protocol::codec::{FRAME_BYTES_MAX, encode};
use protocol::id::{Epoch, ScanId};
use protocol::message::{
    AgentMessage, Checks, Claim, CommitReply, CoordinatorMessage, Finding, Grant, Hello, ProbeOptions, Report,
};
use protocol::plan::{Plan, PlanParts, SHARD_TARGETS_MAX, Slots};
use protocol::probe::Outcome;
use protocol::range_set::{AddressSet, RankedRanges};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

const SCAN: ScanId = ScanId::from_bytes([7; 16]);
/// What the scan covers: ten ports of a host that nobody has.
const HOST: &str = "192.0.2.1";
const PORTS: u16 = 10;
/// How many targets a lease has at most: leases of four, four and two.
const EACH: u32 = 4;

/// All that is stored of the scan.
#[derive(Debug, PartialEq)]
struct Stored {
    status: ScanStatus,
    cohorts: Vec<CohortRecord>,
    leases: Vec<LeaseRecord>,
    chunks: Vec<ChunkRecord>,
}

impl Stored {
    /// Without who holds a lease: who reports for a scan that is over lets go of it, which is stored sooner or later.
    fn without_holders(mut self) -> Self {
        self.leases.iter_mut().for_each(|lease| lease.holder = None);
        self
    }

    fn of(world: &World) -> Self {
        let store = world.stored();
        store.audit(SCAN).unwrap();
        Self {
            status: store.scans().unwrap()[0].status,
            cohorts: store.cohorts(SCAN).unwrap().0,
            leases: store.leases(SCAN).unwrap(),
            chunks: store.chunks(SCAN, 0, 0..u32::from(PORTS)).unwrap(),
        }
    }
}

/// A coordinator with the scan.
async fn world(settings: Settings) -> World {
    let mut world = World::on_disk(settings).await;
    let addresses = RankedRanges::try_from(&AddressSet::from(HOST.parse::<std::net::IpAddr>().unwrap())).unwrap();
    let plan = Plan::new(addresses, Slots::new(false, (1..=PORTS).collect()), 1).unwrap();
    let record = ScanRecord {
        id: SCAN,
        plan: PlanParts::from(&plan),
        options: ProbeOptions::new(900, 64),
        rate: None,
        tries: Some(1),
        weight: 1,
        agent_wait_s: None,
        status: ScanStatus::Running,
        request: String::new(),
    };
    world.tell(Submit(Box::new(record))).await;
    while !matches!(world.event().await, Event::Created { .. }) {}
    world
}

/// The agent's end of a link.
struct Speaker(Framed<TlsStream<TcpStream>, LengthDelimitedCodec>);

impl Speaker {
    /// Says hello, as this instance of this agent.
    async fn new(world: &World, state: &StateDirectory, name: &str, instance: u64, holds: Vec<Epoch>) -> Self {
        let mut speaker = Self(framed(link(world, state).await, FRAME_BYTES_MAX));
        let allow = AddressSet::from("192.0.2.0/24".parse::<ipnet::IpNet>().unwrap());
        speaker.say(&AgentMessage::Hello(Hello { allow, holds, ..hello(name, instance) })).await;
        let heard = speaker.hear().await;
        assert!(matches!(heard, Some(CoordinatorMessage::Welcome(_))), "{heard:?}");
        speaker
    }

    async fn say(&mut self, message: &AgentMessage) {
        self.bytes(encode(message).unwrap()).await;
    }

    /// Says what is perhaps no message.
    async fn bytes(&mut self, body: Vec<u8>) {
        // One who was refused cannot say more: what it hears shows that.
        let _closed = self.0.send(Bytes::from(body)).await;
    }

    async fn hear(&mut self) -> Option<CoordinatorMessage> {
        hear(&mut self.0).await.ok().flatten()
    }

    /// All ten targets, in their three leases.
    async fn claim(&mut self) -> Vec<Grant> {
        let targets = u32::from(PORTS);
        self.say(&AgentMessage::Claim(Claim { number: 1, targets, targets_each: EACH, used: Vec::new() })).await;
        let mut grants: Vec<Grant> = Vec::new();
        while grants.iter().map(Grant::covered).sum::<u32>() < targets {
            match self.hear().await.expect("the session goes on") {
                CoordinatorMessage::Grant(grant) => grants.push(grant),
                CoordinatorMessage::Answered { .. } | CoordinatorMessage::Control(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(grants.iter().map(|grant| (grant.lo, grant.hi)).collect::<Vec<_>>(), [(0, 4), (4, 8), (8, 10)]);
        grants
    }

    /// What became of a report.
    async fn reply(&mut self, epoch: Epoch) -> CommitReply {
        loop {
            match self.hear().await.expect("the session goes on") {
                CoordinatorMessage::Committed { epoch: of, reply } => {
                    assert_eq!(of, epoch);
                    return reply;
                }
                CoordinatorMessage::Answered { .. } | CoordinatorMessage::Control(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Reports, and what became of it.
    async fn report(&mut self, report: Report) -> CommitReply {
        let epoch = report.epoch;
        self.say(&AgentMessage::Report(report)).await;
        self.reply(epoch).await
    }

    /// The line with which the session is refused. It is the last that is said.
    async fn refusal(&mut self) -> String {
        let reason = loop {
            match self.hear().await.expect("a refusal") {
                CoordinatorMessage::Refused { reason } => break reason,
                CoordinatorMessage::Answered { .. } | CoordinatorMessage::Control(_) => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(self.hear().await, None, "the session is over");
        reason
    }
}

fn reported(epoch: Epoch, outcomes: &[Outcome], findings: &[(u32, u32)]) -> Report {
    let findings = findings.iter().map(|&(index, rtt_us)| Finding { index, rtt_us }).collect();
    Report { epoch, chunk: chunk::encode(outcomes), findings, checks: Checks::default(), quiet_ms: 0 }
}

/// What is sound of a lease: all closed.
fn closed(grant: &Grant) -> Report {
    reported(grant.epoch, &vec![Outcome::CLOSED; grant.covered() as usize], &[])
}

/// Rows of the audit for a kind of refusal are one a minute, and count all of them.
async fn assert_audited(world: &World, kind: &str, count: i64) {
    assert_eq!(world.refusals(kind).await, count, "{kind}");
    let rows = world.fleet.audit_rows(None, 1_000).await.unwrap();
    let rows = rows.iter().filter(|row| row.what == kind).count();
    // The test may run across the end of a minute.
    assert!(rows <= 2 && rows as i64 <= count, "{rows} rows of {count} refusals");
}

/// Has an agent that was granted all say this: it is refused with `why`, nothing is stored, and afterwards a sound report of the same
/// lease is taken. Twice, so that what is audited is counted and not written again.
fn refused(why: &'static str, says: impl Fn(&[Grant]) -> Report + 'static) {
    story(move || async move {
        let world = world(Settings::default()).await;
        let state = world.join("a").await;
        let mut speaker = Speaker::new(&world, &state, "a", 1, Vec::new()).await;
        let grants = speaker.claim().await;
        let holds: Vec<_> = grants.iter().map(|grant| grant.epoch).collect();
        let before = Stored::of(&world);
        for count in [1, 2] {
            speaker.say(&AgentMessage::Report(says(&grants))).await;
            let reason = speaker.refusal().await;
            assert!(reason.contains(why), "{reason}");
            assert_eq!(Stored::of(&world), before);
            world.until("a", |view| view.error.as_deref().is_some_and(|error| error.contains(why))).await;
            assert_audited(&world, "protocol", count).await;
            // The leases are its still: a lost session is no lost lease.
            speaker = Speaker::new(&world, &state, "a", 1, holds.clone()).await;
        }
        for grant in &grants {
            assert_eq!(speaker.report(closed(grant)).await, CommitReply::Applied);
        }
        let after = Stored::of(&world);
        assert_eq!((after.leases.len(), before.leases.len()), (0, 3));
    });
}

#[test]
fn bad_input_53_a_report_for_another_agents_lease() {
    story(|| async {
        let world = world(Settings::default()).await;
        let (a, b) = (world.join("a").await, world.join("b").await);
        let mut owner = Speaker::new(&world, &a, "a", 1, Vec::new()).await;
        let grants = owner.claim().await;
        let before = Stored::of(&world);
        let mut other = Speaker::new(&world, &b, "b", 2, Vec::new()).await;
        other.say(&AgentMessage::Report(closed(&grants[0]))).await;
        let reason = other.refusal().await;
        assert!(reason.contains("another instance's"), "{reason}");
        assert_eq!(Stored::of(&world), before);
        assert_audited(&world, "protocol", 1).await;
        assert_eq!(owner.report(closed(&grants[0])).await, CommitReply::Applied);
        // Nor once its holder let it go: the late report that still counts is the holder's.
        drop(owner);
        let held = vec![grants[2].epoch];
        let mut owner = Speaker::new(&world, &a, "a", 1, held).await;
        let mut other = Speaker::new(&world, &b, "b", 2, Vec::new()).await;
        other.say(&AgentMessage::Report(closed(&grants[1]))).await;
        assert!(other.refusal().await.contains("another instance's"));
        assert_eq!(owner.report(closed(&grants[1])).await, CommitReply::Applied);
    });
}

#[test]
fn bad_input_54_epochs_that_are_none_or_of_an_older_instance() {
    story(|| async {
        let world = world(Settings::default()).await;
        let state = world.join("a").await;
        let mut speaker = Speaker::new(&world, &state, "a", 1, Vec::new()).await;
        let grants = speaker.claim().await;
        let before = Stored::of(&world);
        for epoch in [0, grants[2].epoch.get() + 1, u64::MAX] {
            let report = reported(Epoch::new(epoch), &[Outcome::OPEN; 4], &[]);
            assert_eq!(speaker.report(report).await, CommitReply::Gone, "{epoch}");
        }
        // A negative number is no epoch: the frame is no message.
        let frame = encode(&AgentMessage::Report(closed(&grants[0]))).unwrap();
        let name = b"\xa5epoch";
        let at = frame.windows(name.len()).position(|window| window == name).unwrap() + name.len();
        let minus_one = [&frame[..at], &[0xff], &frame[at + 1..]].concat();
        speaker.bytes(minus_one).await;
        while speaker.hear().await.is_some() {}
        world.until("a", |view| view.error.is_some()).await;
        assert_audited(&world, "frame", 1).await;
        // A new process of the same agent waits out the old one's right; it cannot report for it.
        let mut newer = Speaker::new(&world, &state, "a", 2, Vec::new()).await;
        newer.say(&AgentMessage::Report(closed(&grants[0]))).await;
        assert!(newer.refusal().await.contains("another instance's"));
        assert_audited(&world, "protocol", 1).await;
        assert_eq!(Stored::of(&world), before);
    });
}

#[test]
fn bad_input_55_a_report_for_a_part_of_the_shard() {
    refused("malformed", |grants| reported(grants[0].epoch, &[Outcome::CLOSED; 3], &[]));
}

#[test]
fn bad_input_56_a_report_for_more_than_the_shard() {
    refused("malformed", |grants| reported(grants[0].epoch, &[Outcome::CLOSED; 5], &[]));
    // Its neighbour's too.
    refused("malformed", |grants| reported(grants[1].epoch, &[Outcome::CLOSED; 8], &[]));
    refused("malformed", |grants| {
        reported(grants[1].epoch, &vec![Outcome::CLOSED; SHARD_TARGETS_MAX as usize + 1], &[])
    });
}

#[test]
fn bad_input_57_states_that_do_not_sum_to_the_shards_targets() {
    let changed = |change: &'static dyn Fn(&mut Vec<u8>)| {
        move |grants: &[Grant]| {
            let mut report = reported(
                grants[0].epoch,
                &[Outcome::CLOSED, Outcome::FILTERED, Outcome::CLOSED, Outcome::FILTERED],
                &[],
            );
            change(&mut report.chunk);
            report
        }
    };
    // It says four, and has bits for more, or for none.
    refused("malformed", changed(&|chunk| chunk.push(0)));
    refused("malformed", changed(&|chunk| chunk.truncate(chunk.len() - 1)));
    refused("malformed", changed(&|chunk| *chunk.last_mut().unwrap() |= 1));
    // It says another number, and holds as many.
    refused("malformed", changed(&|chunk| chunk[4] = 3));
    // A state that is none, and one that comes twice.
    refused("malformed", changed(&|chunk| chunk[6] = 0xfe));
    refused("malformed", changed(&|chunk| chunk[7] = chunk[6]));
    refused("malformed", |grants| Report { chunk: Vec::new(), ..closed(&grants[0]) });
}

#[test]
fn bad_input_60_the_same_report_twice_counts_once() {
    story(|| async {
        let world = world(Settings::default()).await;
        let state = world.join("a").await;
        let mut speaker = Speaker::new(&world, &state, "a", 1, Vec::new()).await;
        let grant = speaker.claim().await.remove(0);
        // Both at once, before either is answered; and once more.
        let message = AgentMessage::Report(closed(&grant));
        speaker.say(&message).await;
        speaker.say(&message).await;
        assert_eq!(speaker.reply(grant.epoch).await, CommitReply::Applied);
        let stored = Stored::of(&world);
        assert_eq!(speaker.reply(grant.epoch).await, CommitReply::Gone);
        assert_eq!(speaker.report(closed(&grant)).await, CommitReply::Gone);
        assert_eq!(Stored::of(&world), stored);
        assert_eq!(stored.chunks.len(), 1);
        assert_audited(&world, "protocol", 0).await;
    });
}

#[test]
fn bad_input_61_the_same_epoch_with_other_outcomes_changes_nothing() {
    story(|| async {
        let world = world(Settings::default()).await;
        let state = world.join("a").await;
        let mut speaker = Speaker::new(&world, &state, "a", 1, Vec::new()).await;
        let grant = speaker.claim().await.remove(0);
        let other = reported(grant.epoch, &[Outcome::OPEN; 4], &[(0, 1), (1, 1), (2, 1), (3, 1)]);
        speaker.say(&AgentMessage::Report(closed(&grant))).await;
        speaker.say(&AgentMessage::Report(other.clone())).await;
        assert_eq!(speaker.reply(grant.epoch).await, CommitReply::Applied);
        assert_eq!(speaker.reply(grant.epoch).await, CommitReply::Gone);
        assert_eq!(speaker.report(other).await, CommitReply::Gone);
        let stored = Stored::of(&world);
        assert_eq!(chunk::decode(&stored.chunks[0].chunk, 4).unwrap(), [Outcome::CLOSED; 4]);
        assert_eq!((stored.chunks.len(), stored.chunks[0].findings.len()), (1, 0));
    });
}

/// Four outcomes of the first lease: the second and the fourth are open.
const TWO_OPEN: [Outcome; 4] = [Outcome::CLOSED, Outcome::OPEN, Outcome::FILTERED, Outcome::OPEN];

#[test]
fn bad_input_62_a_finding_outside_the_shard() {
    for outside in [4, 9, 10, u32::MAX] {
        refused("findings", move |grants| reported(grants[0].epoch, &TWO_OPEN, &[(1, 1), (outside, 1)]));
    }
}

#[test]
fn bad_input_63_a_finding_at_a_target_that_was_not_found_open() {
    let of = |findings: &'static [(u32, u32)]| move |grants: &[Grant]| reported(grants[0].epoch, &TWO_OPEN, findings);
    refused("findings", of(&[(0, 1), (3, 1)]));
    // One is missing, one too many, one twice, and in the wrong order.
    refused("findings", of(&[(1, 1)]));
    refused("findings", of(&[(1, 1), (2, 1), (3, 1)]));
    refused("findings", of(&[(1, 1), (1, 1)]));
    refused("findings", of(&[(3, 1), (1, 1)]));
    refused("findings", of(&[]));
}

#[test]
fn bad_input_65_a_million_findings_in_a_report_on_ten_targets() {
    // As many as a message may have: they are not those of four targets.
    refused("findings", |grants| {
        let findings: Vec<_> = (0..SHARD_TARGETS_MAX).map(|index| (index, 1)).collect();
        reported(grants[0].epoch, &TWO_OPEN, &findings)
    });
    story(|| async {
        let world = world(Settings::default()).await;
        let state = world.join("a").await;
        let mut speaker = Speaker::new(&world, &state, "a", 1, Vec::new()).await;
        let grants = speaker.claim().await;
        let before = Stored::of(&world);
        // In the shortest spelling three bytes each: as many as fit in a frame, and a million, which do not.
        let frame = encode(&AgentMessage::Report(closed(&grants[0]))).unwrap();
        let name = b"\xa8findings";
        let at = frame.windows(name.len()).position(|window| window == name).unwrap() + name.len();
        for (sent, said) in [(330_000, 330_000_u32), (330_000, 1_000_000), (1_000_000, 1_000_000)] {
            let findings = [&[0xdd][..], &said.to_be_bytes(), &[0x92, 0, 0].repeat(sent)].concat();
            let body = [&frame[..at], &findings, &frame[at + 1..]].concat();
            // A length beyond the bound is not even sent by our own codec: the prefix is written by hand.
            let mut stream = link(&world, &state).await;
            let hello = encode(&AgentMessage::Hello(hello("a", 1))).unwrap();
            let all: Vec<u8> = [hello, body]
                .iter()
                .flat_map(|body| [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat())
                .collect();
            // It closes as soon as it has seen the length, and perhaps before all is written.
            let _closed = tokio::io::AsyncWriteExt::write_all(&mut stream, &all).await;
            let mut rest = framed(stream, FRAME_BYTES_MAX);
            while let Ok(Some(message)) = hear::<_, CoordinatorMessage>(&mut rest).await {
                assert!(!matches!(message, CoordinatorMessage::Committed { .. }), "{message:?}");
            }
        }
        world.until("a", |view| !view.connected).await;
        assert_audited(&world, "frame", 3).await;
        // Hello that names no lease lets go of all: the rows stay, without a holder.
        let after = Stored::of(&world);
        assert_eq!((after.chunks.len(), after.leases.len()), (0, before.leases.len()));
    });
}

#[test]
fn bad_input_66_a_renewal_after_the_right_has_ended_revives_nothing() {
    story(|| async {
        let times = Settings {
            ttl: Duration::from_millis(300),
            margin: Duration::from_millis(100),
            silent_after: Duration::from_secs(30),
            ..Settings::default()
        };
        let world = world(times).await;
        let state = world.join("a").await;
        let mut speaker = Speaker::new(&world, &state, "a", 1, Vec::new()).await;
        let grants = speaker.claim().await;
        // It says nothing more, until its right is over: the coordinator closes the session.
        assert_eq!(speaker.hear().await, None);
        speaker.say(&AgentMessage::Renew { number: 2, used: Vec::new(), rtt_us: None }).await;
        assert_eq!(speaker.hear().await, None, "it is not answered");
        world.until("a", |view| !view.connected).await;
        // It says hello and holds nothing now; what it had found is taken, as nobody else was granted it.
        let holds: Vec<_> = grants.iter().map(|grant| grant.epoch).collect();
        let mut again = Speaker(framed(link(&world, &state).await, FRAME_BYTES_MAX));
        let allow = AddressSet::from("192.0.2.0/24".parse::<ipnet::IpNet>().unwrap());
        again.say(&AgentMessage::Hello(Hello { allow, holds, ..hello("a", 1) })).await;
        let Some(CoordinatorMessage::Welcome(welcome)) = again.hear().await else { panic!("no welcome") };
        assert_eq!(welcome.keep, []);
        assert_eq!(again.report(closed(&grants[0])).await, CommitReply::Applied);
        let after = Stored::of(&world);
        assert_eq!(after.leases.len(), 2);
        assert!(after.leases.iter().all(|lease| lease.holder.is_none() && lease.ends == 1), "{after:?}");
        assert_audited(&world, "protocol", 0).await;
    });
}

#[test]
fn bad_input_67_a_report_after_cancel_is_taken_while_the_scan_ends_and_not_after() {
    story(|| async {
        let mut world = world(Settings::default()).await;
        let state = world.join("a").await;
        let mut speaker = Speaker::new(&world, &state, "a", 1, Vec::new()).await;
        let grants = speaker.claim().await;
        world.tell(Alter { ask: 1, scan: SCAN, change: Change::Cancel }).await;
        loop {
            if let Event::Changed { ask: 1, outcome, .. } = world.event().await {
                outcome.unwrap();
                break;
            }
        }
        // What was probed before it was told counts: a lease goes by its report, never by cancel.
        assert_eq!(speaker.report(closed(&grants[0])).await, CommitReply::Applied);
        let status = loop {
            if let Event::Finished { status, .. } = world.event().await {
                break status;
            }
        };
        assert_eq!(status, ScanStatus::Cancelled);
        let ended = Stored::of(&world);
        assert_eq!((ended.status, ended.chunks.len()), (ScanStatus::Cancelled, 1));
        assert_eq!(speaker.report(closed(&grants[1])).await, CommitReply::Gone);
        assert_eq!(Stored::of(&world).without_holders(), ended.without_holders());
        assert_audited(&world, "protocol", 0).await;
    });
}
