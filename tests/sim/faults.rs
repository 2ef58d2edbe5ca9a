//! What may go wrong in a run, drawn from its seed, and the bugs that are put in on purpose.

use crate::world::Which;
use std::time::Duration;

/// A small generator (SplitMix64): the same numbers for the same seed on every machine.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1_e995)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// `low..=high`.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.within(low, high))
    }
}

/// How a run goes wrong, and how its machines are.
#[derive(Clone, Debug)]
pub struct Faults {
    pub agents: usize,
    /// Agents that start only later.
    pub late_joiners: usize,
    pub coordinator_crashes: u64,
    pub agent_crashes: u64,
    pub cuts: u64,
    pub freezes: u64,
    /// When faults end; then everything heals and the scan must finish.
    pub until: Duration,
    pub latency: (u64, u64),
    pub disk: (u64, u64),
    /// The clocks' rates differ by up to this many millionths.
    pub drift_ppm: u64,
    /// How many tries in a hundred are lost on their way.
    pub loss_percent: u64,
    /// How often a silent target is tried; `None` while the measured loss says.
    pub tries: Option<u8>,
    /// How long a right lasts.
    pub ttl: Duration,
    /// Which store the coordinator has.
    pub store: Which,
    /// How often the coordinator is killed at a write of its store: before it, inside it, or before its answer.
    pub kills_at_writes: u64,
    /// Whether the scan is in stages: ports only of hosts that are up.
    pub discover: bool,
    /// The scan's budget over all agents, in probes a second.
    pub rate: Option<u32>,
    /// How often the user wants something else of the scan.
    pub changes: u64,
    /// How often an agent is told to go.
    pub drains: u64,
    /// How many scans there are beside the one that is looked at most.
    pub others: u64,
    /// Whether the user cancels the scan.
    pub cancel: bool,
    /// How late timers are, at most.
    pub late_ms: u64,
    /// How often the user drains an agent for a while.
    pub user_drains: u64,
    /// Whether all agents but one may probe only a half of the addresses.
    pub narrow: bool,
    /// Whether one target kills every agent that probes it.
    pub lethal: bool,
}

impl Faults {
    pub fn none() -> Self {
        Self {
            agents: 1,
            late_joiners: 0,
            coordinator_crashes: 0,
            agent_crashes: 0,
            cuts: 0,
            freezes: 0,
            until: Duration::ZERO,
            latency: (0, 5),
            disk: (1, 10),
            drift_ppm: 0,
            loss_percent: 0,
            tries: Some(1),
            ttl: Duration::from_secs(10),
            store: Which::Memory,
            kills_at_writes: 0,
            discover: false,
            rate: None,
            changes: 0,
            drains: 0,
            others: 0,
            cancel: false,
            late_ms: 20,
            user_drains: 0,
            narrow: false,
            lethal: false,
        }
    }

    pub fn drawn(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0xfa17);
        let slowest = random.within(1, 300);
        let disk = random.within(1, 400);
        Self {
            agents: random.within(1, 4) as usize,
            late_joiners: random.within(0, 1) as usize,
            coordinator_crashes: random.within(0, 3),
            agent_crashes: random.within(0, 4),
            cuts: random.within(0, 4),
            freezes: random.within(0, 3),
            until: Duration::from_secs(60),
            latency: (slowest / 10, slowest),
            disk: (disk / 10, disk),
            drift_ppm: random.within(0, 500),
            loss_percent: [0, 0, 1, 5, 20][random.within(0, 4) as usize],
            tries: None,
            ttl: random.millis(1_500, 10_000),
            store: Which::Memory,
            kills_at_writes: random.within(0, 2),
            discover: random.chance(33),
            rate: random.chance(40).then(|| random.within(2, 80) as u32),
            changes: [0, 0, 1, 3, 6][random.within(0, 4) as usize],
            drains: [0, 0, 1, 3][random.within(0, 3) as usize],
            narrow: random.chance(25),
            lethal: random.chance(15),
            late_ms: 20,
            user_drains: [0, 0, 1, 2][random.within(0, 3) as usize],
            others: [0, 0, 0, 1, 2][random.within(0, 4) as usize],
            cancel: random.chance(6),
        }
    }
}

impl Faults {
    /// Kills at the store's writes, and little else.
    pub fn drawn_at_writes(seed: u64, store: Which) -> Self {
        let drawn = Self::drawn(seed);
        let (agents, latency, disk) = (drawn.agents.min(2), (0, 20), (1, 20));
        Self { agents, latency, disk, coordinator_crashes: 0, cuts: 0, freezes: 0, store, kills_at_writes: 16, ..drawn }
    }

    /// Drawn so that a bug has something to break: many ends of rights for those that show only there.
    pub fn drawn_for(bug: Bug, seed: u64) -> Self {
        let drawn = Self::drawn(seed);
        match bug {
            // Where nothing else is slow, a shard is leased again as soon as the right is over, with probes of it in flight.
            Bug::NoMargin => {
                let busy = Duration::from_millis(1_500);
                let (latency, disk) = ((0, 2), (0, 2));
                Self {
                    ttl: busy,
                    agents: 4,
                    cuts: 12,
                    latency,
                    disk,
                    coordinator_crashes: 0,
                    agent_crashes: 0,
                    ..drawn
                }
            }
            Bug::BatchWithoutDeadline | Bug::ClockStopsInSuspend => {
                let busy = Duration::from_millis(1_500);
                Self { ttl: busy, agents: 3, cuts: 8, freezes: 8, coordinator_crashes: 0, agent_crashes: 0, ..drawn }
            }
            Bug::RightCountedFromTheAnswer => {
                let far = (300, 1_000);
                let ttl = Duration::from_secs(8);
                Self {
                    latency: far,
                    ttl,
                    disk: (0, 2),
                    agents: 4,
                    cuts: 8,
                    coordinator_crashes: 0,
                    agent_crashes: 0,
                    ..drawn
                }
            }
            Bug::StoredDeadline => Self { coordinator_crashes: 4, agents: 3, ..drawn },
            Bug::NewInstanceFreesLeases => {
                Self { agents: 3, agent_crashes: 12, latency: (0, 5), disk: (0, 5), ..drawn }
            }
            Bug::GivenBackInOneStep => Self { agents: 3, freezes: 8, rate: None, ..drawn },
            Bug::NoCuttingOnDeaths => Self { lethal: true, discover: false, ..drawn },
            Bug::StagesForgotten => Self { discover: true, ..drawn },
            Bug::AcknowledgedForTheAgent => Self { rate: Some(40), agents: 3, cuts: 8, changes: 4, ..drawn },
            Bug::AcknowledgedBeforeInForce | Bug::OrdersIgnoredAtSend => {
                let quick = (0, 0);
                Self { latency: quick, disk: quick, rate: None, changes: 40, agents: 3, freezes: 6, cuts: 0, ..drawn }
            }
            Bug::AllowListIgnored => Self { narrow: true, agents: 3, ..drawn },
            Bug::ControlBeforeDurable => Self { changes: 12, coordinator_crashes: 6, kills_at_writes: 4, ..drawn },
            Bug::AnsweredBeforeCommit => Self::drawn_at_writes(seed, Which::Sqlite),
            Bug::OldClaimsHonoured => {
                Self { latency: (100, 300), disk: (0, 2), cuts: 8, coordinator_crashes: 2, ..drawn }
            }
            Bug::PacerRestartsWithALease => {
                let quick = (0, 2);
                let rate = Some(6);
                Self { rate, agents: 2, late_ms: 1, latency: quick, disk: quick, lethal: false, changes: 0, ..drawn }
            }
            Bug::CancelDeletesLeases => Self { cancel: true, latency: (20, 300), rate: None, ..drawn },
            Bug::EndedRightRevived => {
                let busy = Duration::from_millis(1_500);
                Self { ttl: busy, agents: 3, cuts: 12, latency: (50, 400), coordinator_crashes: 0, ..drawn }
            }
            _ => drawn,
        }
    }
}

/// Rules of the lease contract that are broken on purpose, at the border of the machines so that their code stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The store takes reports whose epoch is dead.
    StaleEpochAccepted,
    /// Probes are sent without a look at the end of the right.
    BatchWithoutDeadline,
    /// A restarted coordinator waits for nobody.
    NoWaitAfterRestart,
    /// The coordinator counts the right's end without a margin, and shorter than the agent does.
    NoMargin,
    /// A reply is sent before the store made its matter durable.
    ReplyBeforeDurable,
    /// A request is answered before the group that it belongs to is committed.
    AnsweredBeforeCommit,
    /// The agent's clock stops while it is frozen.
    ClockStopsInSuspend,
    /// A scan in stages is run as one without.
    StagesForgotten,
    /// A control message counts as acknowledged once it is sent.
    AcknowledgedForTheAgent,
    /// The agent acknowledges what those who send have not heard yet.
    AcknowledgedBeforeInForce,
    /// Exclusions and pauses are not looked at again before a send.
    OrdersIgnoredAtSend,
    /// A control state is told before it is durable.
    ControlBeforeDurable,
    /// What an instance holds whose connection is lost is leased again.
    LostConnectionFreesLeases,
    /// A shard whose lease ended is not kept as returned.
    ReturnedShardForgotten,
    /// An agent says that it may probe what it may not.
    AllowListIgnored,
    /// An agent counts its right from when the answer came.
    RightCountedFromTheAnswer,
    /// When a right ends is stored, by a wall clock that jumps.
    StoredDeadline,
    /// A new instance's hello frees what the one before it held.
    NewInstanceFreesLeases,
    /// What is asked back is taken back at once.
    GivenBackInOneStep,
    /// A later pass takes what it should cover for found out.
    PassSkipped,
    /// A shard whose holder died is leased again as it is.
    NoCuttingOnDeaths,
    /// A timer that fires is not acted on.
    WakeUpLeftInThePast,
    /// What was claimed in a session before counts in the next.
    OldClaimsHonoured,
    /// A share begins anew with each lease.
    PacerRestartsWithALease,
    /// What a later pass did not come to is told in place of what was found.
    NotProbedReplacesAState,
    /// What is held of a scan that is cancelled is held by nobody.
    CancelDeletesLeases,
    /// A session whose right ended goes on, and its renewals are answered.
    EndedRightRevived,
}

impl Bug {
    pub const ALL: &'static [Self] = &[
        Self::StaleEpochAccepted,
        Self::BatchWithoutDeadline,
        Self::NoWaitAfterRestart,
        Self::NoMargin,
        Self::ReplyBeforeDurable,
        Self::AnsweredBeforeCommit,
        Self::ClockStopsInSuspend,
        Self::StagesForgotten,
        Self::AcknowledgedForTheAgent,
        Self::AcknowledgedBeforeInForce,
        Self::OrdersIgnoredAtSend,
        Self::ControlBeforeDurable,
        Self::LostConnectionFreesLeases,
        Self::ReturnedShardForgotten,
        Self::AllowListIgnored,
        Self::RightCountedFromTheAnswer,
        Self::StoredDeadline,
        Self::NewInstanceFreesLeases,
        Self::GivenBackInOneStep,
        Self::PassSkipped,
        Self::NoCuttingOnDeaths,
        Self::WakeUpLeftInThePast,
        Self::OldClaimsHonoured,
        Self::PacerRestartsWithALease,
        Self::NotProbedReplacesAState,
        Self::CancelDeletesLeases,
        Self::EndedRightRevived,
    ];
}
