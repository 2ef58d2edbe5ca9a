//! How large a scan is, and whether it is meant to be.

use super::{CliError, ScanRequest};
use crate::report::quantity::{duration, grouped};
use agent_core::host_table::WINDOW_MAX as HOST_WINDOW_MAX;
use agent_core::round_trip::WAIT_FIRST;
use coordinator_core::passes::{ALWAYS_AGAIN, TRIES_MAX};
use portsweep_agent::limits::WINDOW_MAX;
use protocol::message::PER_HOST_WINDOW;
use protocol::rate::Rate;
use std::fmt;
use std::io::{BufRead, Write};
use std::time::Duration;

/// More addresses than this need a yes.
const ADDRESSES_MAX: u128 = 1 << 24;
/// More targets than this need a yes.
const TARGETS_MAX: u128 = 1_000_000_000;
/// How long a place in the window is taken while nothing is measured and no `--timeout` typed: a try is listened for twice as long, by half of the
/// sockets.
const PLACE_TAKEN: Duration = Duration::from_millis(450);
/// Between a pass and the next a late answer may come.
const BETWEEN_PASSES_MS: u128 = 500;

/// How large a scan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// How many addresses.
    pub addresses: u128,
    /// How many targets: addresses × things asked of each.
    pub targets: u128,
    /// How long it takes if nothing answers, and windows or rates are always used up: then only the first few things are asked again.
    pub estimate: Duration,
    /// How long if every host shows that it is there, but answers hardly anything else, so that all is asked again as often as it may
    /// be. More only if hosts have to be asked more slowly.
    pub most: Duration,
}

/// How a scan goes about it, as far as it was said.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    pub(super) window: Option<u32>,
    pub(super) timeout: Option<Duration>,
    /// How often what is silent is tried.
    pub(super) passes: Option<u8>,
    pub(super) rate: Option<Rate>,
    pub(super) per_host_rate: Option<Rate>,
}

impl Size {
    pub(super) fn new(addresses: u128, slots: u32, pace: Pace) -> Self {
        let first = pace.takes(addresses, slots);
        let again =
            |passes: u8, slots: u32| (pace.takes(addresses, slots) + BETWEEN_PASSES_MS) * u128::from(passes - 1);
        let millis = |ms: u128| Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX));
        Self {
            addresses,
            targets: addresses.saturating_mul(u128::from(slots)),
            // While nothing answers there is one more try, of what might show that a host is there.
            estimate: millis(first + again(pace.passes.unwrap_or(2).max(1), slots.min(ALWAYS_AGAIN))),
            most: millis(first + again(pace.passes.unwrap_or(TRIES_MAX).max(1), slots)),
        }
    }

    /// Whether a scan of this size can be a slip: above 2^24 addresses or 10^9 targets.
    #[must_use]
    pub fn needs_yes(&self) -> bool {
        self.addresses > ADDRESSES_MAX || self.targets > TARGETS_MAX
    }
}

impl Pace {
    /// How many milliseconds a pass takes in which so many things are asked of each address and none is answered.
    fn takes(&self, addresses: u128, slots: u32) -> u128 {
        let targets = addresses.saturating_mul(u128::from(slots));
        let [taken, wait] = [PLACE_TAKEN, WAIT_FIRST].map(|default| self.timeout.unwrap_or(default).as_millis());
        let window = u128::from(self.window.unwrap_or(WINDOW_MAX).max(1));
        let at_rate =
            |targets: u128, rate: Rate| targets.saturating_mul(1_000_000_000) / u128::from(rate.micros().max(1));
        let by_window = (targets.saturating_mul(taken) / window).max(rounds(slots) * wait);
        let by_rate = self.rate.map_or(0, |rate| at_rate(targets, rate));
        let by_host = self.per_host_rate.map_or(0, |rate| at_rate(slots.into(), rate));
        // So that sums of several fit.
        by_window.max(by_rate).max(by_host).min(u128::from(u64::MAX))
    }
}

/// How many waits one silent host takes: its window doubles whenever a whole one timed out, up to a bound.
fn rounds(slots: u32) -> u128 {
    let (mut rounds, mut window, mut left) = (0, PER_HOST_WINDOW, slots);
    while left > 0 {
        rounds += 1;
        left = left.saturating_sub(window);
        window = (window * 2).min(HOST_WINDOW_MAX);
    }
    rounds
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (addresses, targets) = (grouped(self.addresses), grouped(self.targets));
        let estimate = duration(self.estimate);
        write!(f, "{addresses} addresses with {targets} targets (about {estimate} if nothing answers)")
    }
}

/// Asks for a yes where the scan's size needs one and `--yes` was not typed. Where `ask` is false, nobody is there to be
/// asked: that is a no. Blocks until a line is typed.
///
/// # Errors
/// If it was not confirmed.
pub fn confirm(
    request: &ScanRequest,
    ask: bool,
    answers: &mut dyn BufRead,
    questions: &mut dyn Write,
) -> Result<(), CliError> {
    /// A yes is short; the rest of a longer line is no answer.
    const ANSWER_BYTES_MAX: u64 = 16;
    let size = request.size();
    if request.yes() || !size.needs_yes() {
        return Ok(());
    }
    let mut answer = String::new();
    if ask {
        let asked = write!(questions, "portsweep: {size} are to be scanned. Go on? [y/N] ");
        if asked.and_then(|()| questions.flush()).is_ok() {
            // What is no text is no yes.
            let _ = std::io::Read::take(answers, ANSWER_BYTES_MAX).read_line(&mut answer);
        }
    }
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(CliError::Unconfirmed { size }),
    }
}
