//! The messages of the agent link. Control messages are named maps, so that fields can be added; outcomes travel packed (see
//! [`chunk`](crate::chunk)). No type here is recursive, and every list has a bound that decoding enforces.

use crate::covers;
use crate::id::{AgentName, Epoch, InstanceId, ScanId};
use crate::plan::{Cohort, SHARD_TARGETS_MAX};
use crate::probe::ProbeKind;
use crate::range_set::AddressSet;
use crate::rate::Rate;
use crate::version::VersionRange;
use serde::{Deserialize, Deserializer, Serialize};

/// The most leases that one agent instance may hold, and so that a hello may name.
pub const LEASES_MAX: usize = 1_024;
/// The most scans that may run at once, and so that a welcome may name.
pub const SCANS_MAX: usize = 1_024;
/// The longest text in a message, in bytes.
pub const TEXT_BYTES_MAX: usize = 1_024;

/// From an agent to its coordinator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AgentMessage {
    /// The first frame of a session: who this is and what it holds.
    Hello(Hello),
    /// A request for shards. It renews the right, as each answered claim does.
    Claim(Claim),
    /// Renews the right and asks for nothing.
    Renew {
        /// The number of this request, rising within the session.
        number: u64,
        /// What it has used of its shares.
        #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "bounded_list::<_, _, SCANS_MAX>")]
        used: Vec<UsedShare>,
        /// How long the last request that was answered took to be, in microseconds: the round trip of the link.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rtt_us: Option<u32>,
    },
    /// The outcomes of one lease: settles it whole.
    Report(Report),
    /// A control state is in force at this agent.
    Acknowledge {
        /// The scan.
        scan: ScanId,
        /// The version of its control state.
        version: u64,
    },
    /// It has reported everything and takes no more work.
    Leaving,
}

/// The first frame of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol versions that the agent speaks.
    pub versions: VersionRange,
    /// The agent's name.
    pub agent: AgentName,
    /// The process.
    pub instance: InstanceId,
    /// The place in the network it sees from; several agents may share one.
    pub vantage: AgentName,
    /// The version of its software.
    #[serde(deserialize_with = "bounded_text")]
    pub software: String,
    /// The probe kinds it can make.
    #[serde(deserialize_with = "bounded_list::<_, _, 8>")]
    pub kinds: Vec<ProbeKind>,
    /// How it asks for life.
    pub ping_method: PingMethod,
    /// What it may probe.
    pub allow: AddressSet,
    /// The leases it works on or has reports of that were not acknowledged.
    #[serde(deserialize_with = "bounded_list::<_, _, LEASES_MAX>")]
    pub holds: Vec<Epoch>,
    /// The shares that it may be using of scans that it knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "bounded_list::<_, _, SCANS_MAX>")]
    pub shares: Vec<HeldShare>,
    /// The grant that its session before this one ended with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Box<RefusedGrant>>,
}

/// A grant that an agent refused, which ended its session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedGrant {
    /// The scan.
    pub scan: ScanId,
    /// The lease.
    pub epoch: Epoch,
    /// Why: one line for a person.
    #[serde(deserialize_with = "bounded_text")]
    pub reason: String,
}

/// What an agent may be using of a scan's budget: the larger of its share and of what is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldShare {
    /// The scan.
    pub scan: ScanId,
    /// Packets per second; without one, only windows and caps limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Rate>,
}

/// How an agent asks a host for life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PingMethod {
    /// ICMP echo requests.
    Icmp,
    /// TCP connects to ports 443 and 80, where ICMP is not permitted.
    Tcp,
}

impl PingMethod {
    /// The name that the result shows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Icmp => "icmp",
            Self::Tcp => "tcp",
        }
    }
}

/// A request for work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The number of this request, rising within the session.
    pub number: u64,
    /// How many more targets the agent wants, in however many leases; it replaces what an earlier claim wanted. What cannot be
    /// granted at once is remembered and granted when there is work. 0 withdraws.
    pub targets: u32,
    /// How many targets a shard should have at most, by the agent's measured speed: half a second to a second of work.
    pub targets_each: u32,
    /// What it has used of its shares.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "bounded_list::<_, _, SCANS_MAX>")]
    pub used: Vec<UsedShare>,
}

/// How much an agent has used of the budget of a scan, where it has a share of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedShare {
    /// The scan.
    pub scan: ScanId,
    /// How many packets, since it has had a share.
    pub packets: u64,
}

/// The outcomes of one lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The lease.
    pub epoch: Epoch,
    /// Packed outcomes, one for each target of the lease's pass in index order.
    #[serde(with = "serde_bytes")]
    pub chunk: Vec<u8>,
    /// Round-trip times of what answered as a finding, in index order.
    #[serde(deserialize_with = "bounded_list::<_, _, { SHARD_TARGETS_MAX as usize }>")]
    pub findings: Vec<Finding>,
    /// What was measured of the loss since the report before.
    #[serde(default, skip_serializing_if = "Checks::is_none")]
    pub checks: Checks,
    /// How long ago, in milliseconds, the last try of the lease was sent that was not answered, or the lease was granted if there was none;
    /// 0 if that is not said. What is tried again rests so much less.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub quiet_ms: u32,
}

/// What was measured of the loss beside the outcomes: how often something was asked again that is known to answer, of hosts that
/// answered before and after, and what became of a sample of tries whose silent ones were repeated at once. And how much may be in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    /// How many were answered.
    pub answered: u32,
    /// How many were not.
    pub lost: u32,
    /// How many probes the agent may have in flight by then, of those that it is allowed; 0 if it does not say.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub window: u32,
}

impl Checks {
    /// True if there were none.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.answered == 0 && self.lost == 0 && self.window == 0
    }
}

/// An open port or a live host of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Its index in the cohort.
    pub index: u32,
    /// The round-trip time, in microseconds; saturates at about 71 minutes.
    pub rtt_us: u32,
}

/// From a coordinator to an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CoordinatorMessage {
    /// The answer to hello: what the instance should hold.
    Welcome(Welcome),
    /// The session ends, and why. The last frame.
    Refused {
        /// Which rule, and what mends it: one line for a person.
        #[serde(deserialize_with = "bounded_text")]
        reason: String,
    },
    /// A lease. It may come at any time after a claim that wanted one, and does not renew the right.
    Grant(Grant),
    /// A claim or a renewal is answered: the right goes on.
    Answered {
        /// The number of the request.
        number: u64,
    },
    /// A report is done with: the agent drops it.
    Committed {
        /// The lease.
        epoch: Epoch,
        /// What became of it.
        reply: CommitReply,
    },
    /// A scan's control state.
    Control(Control),
    /// The agent shall stop probing this lease, let what is in flight end, and report. What it claimed before is void: it claims again.
    GiveBack {
        /// The lease.
        epoch: Epoch,
    },
    /// There is no more work, and there will be none: the agent may go. Only an agent of a scan from here is told so.
    Finished,
}

/// The answer to hello.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The protocol version of this session.
    pub version: u16,
    /// How long a right lasts after the request that was answered was sent, in milliseconds.
    pub ttl_ms: u32,
    /// How often the agent shall renew, in milliseconds.
    pub renew_every_ms: u32,
    /// The leases that the instance should hold: the rest it drops.
    #[serde(deserialize_with = "bounded_list::<_, _, LEASES_MAX>")]
    pub keep: Vec<Epoch>,
    /// The control states of all scans.
    #[serde(deserialize_with = "bounded_list::<_, _, SCANS_MAX>")]
    pub controls: Vec<Control>,
}

/// A lease as it is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    /// The lease's number.
    pub epoch: Epoch,
    /// The scan.
    pub scan: ScanId,
    /// Which pass, from 1.
    pub pass: u8,
    /// The cohort: with it, indices give targets.
    pub cohort: Cohort,
    /// The first index of the shard.
    pub lo: u32,
    /// The index after its last.
    pub hi: u32,
    /// Which of the shard's indices the pass covers, bit by bit, most significant first; empty for all.
    #[serde(with = "serde_bytes")]
    pub covers: Vec<u8>,
    /// How the probes are made.
    pub options: ProbeOptions,
}

/// How a scan's probes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeOptions {
    /// How long a try waits, in milliseconds; the longest that it waits, if `adaptive`.
    pub timeout_ms: u32,
    /// Whether tries wait no longer than the measured round trips suggest.
    #[serde(default, skip_serializing_if = "is_false")]
    pub adaptive: bool,
    /// Whether the window of a host that answers follows what is measured of its loss.
    #[serde(default, skip_serializing_if = "is_false")]
    pub law: bool,
    /// The most probes in flight at one agent.
    pub window: u32,
    /// The most probes in flight to one host, while nothing is known of it.
    #[serde(default = "per_host_window_default")]
    pub per_host_window: u32,
    /// The most packets per second to one host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_host_rate: Option<Rate>,
}

/// The most probes in flight to one host, all kinds together, while nothing is known of it and nobody says otherwise.
pub const PER_HOST_WINDOW: u32 = 128;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(value: &u32) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

fn per_host_window_default() -> u32 {
    PER_HOST_WINDOW
}

impl ProbeOptions {
    /// A fixed timeout and a window, and as much to each host as is the custom.
    #[must_use]
    pub const fn new(timeout_ms: u32, window: u32) -> Self {
        Self { timeout_ms, adaptive: false, law: false, window, per_host_window: PER_HOST_WINDOW, per_host_rate: None }
    }
}

/// The longest timeout of a try, in milliseconds.
pub const TIMEOUT_MS_MAX: u32 = 10_000;

impl Grant {
    /// True if shard, bitmap and options keep their bounds: `lo < hi ≤ len`, at most 32,768 targets, a bitmap as long as the
    /// shard that covers something and nothing beyond it, a timeout of 1 to 10,000 ms, windows of at least 1, no rate
    /// of zero.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let shard = self.lo < self.hi && self.hi <= self.cohort.len() && self.hi - self.lo <= SHARD_TARGETS_MAX;
        let covers = shard && covers::fits(&self.covers, self.lo, self.hi);
        let options = (1..=TIMEOUT_MS_MAX).contains(&self.options.timeout_ms)
            && self.options.window > 0
            && self.options.per_host_window > 0
            && self.options.per_host_rate != Some(Rate::ZERO);
        shard && covers && options && self.pass > 0
    }

    /// True if the pass covers the target at `index`, which lies in the shard.
    #[must_use]
    pub fn covers(&self, index: u32) -> bool {
        covers::contains(&self.covers, self.lo, self.hi, index)
    }

    /// How many targets the pass covers in this shard.
    #[must_use]
    pub fn covered(&self) -> u32 {
        covers::count(&self.covers, self.lo, self.hi)
    }
}

/// What became of a report. On either the agent drops it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommitReply {
    /// It was taken: now or, where its reply was lost, before.
    Applied,
    /// Its lease is no more; nothing was taken.
    Gone,
}

/// What a scan's agents must keep to: one versioned state, sent whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// The scan.
    pub scan: ScanId,
    /// Rises with each message of a session: what an acknowledgement names.
    pub version: u64,
    /// Whether probes may be sent.
    pub run: Run,
    /// What was excluded while the scan ran.
    pub exclude: AddressSet,
    /// The part of the scan's budget that the agent may use: packets per second. Zero lets it wait; without one, only windows and
    /// caps limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Rate>,
    /// The most packets per second to one host; a grant's own cap holds beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_host_rate: Option<Rate>,
}

/// Whether a scan's probes may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Run {
    /// They may.
    Go,
    /// Not now: leases are kept.
    Pause,
    /// Never again: leases are reported with what they have.
    Stop,
}

/// Decodes a list of at most `MAX` elements, and allocates no more than has been read.
pub(crate) fn bounded_list<'de, D, T, const MAX: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Bounded<T, const MAX: usize>(std::marker::PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MAX: usize> serde::de::Visitor<'de> for Bounded<T, MAX> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "a list of at most {MAX} elements")
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut list = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(64));
            while let Some(element) = seq.next_element()? {
                if list.len() == MAX {
                    return Err(serde::de::Error::invalid_length(MAX + 1, &self));
                }
                list.push(element);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_seq(Bounded::<T, MAX>(std::marker::PhantomData))
}

/// Decodes a text of at most [`TEXT_BYTES_MAX`] bytes.
pub(crate) fn bounded_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.len() > TEXT_BYTES_MAX {
        return Err(serde::de::Error::custom(format_args!("a text of more than {TEXT_BYTES_MAX} bytes")));
    }
    Ok(text)
}
