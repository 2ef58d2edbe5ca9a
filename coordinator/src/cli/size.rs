//! How large a scan is, and whether it is meant to be.

use super::{CliError, ScanRequest};
use crate::report::quantity::{duration, grouped};
use agent_core::host_table::WINDOW_MAX as HOST_WINDOW_MAX;
use protocol::message::PER_HOST_WINDOW;
use protocol::rate::Rate;
use std::fmt;
use std::io::{BufRead, Write};
use std::time::Duration;

/// More addresses than this need a yes.
const ADDRESSES_MAX: u128 = 1 << 24;
/// More targets than this need a yes.
const TARGETS_MAX: u128 = 1_000_000_000;
/// Probes in flight over all hosts unless `--window` says otherwise, where the machine has the descriptors for it.
const WINDOW_DEFAULT: u32 = 8_192;
/// How long a try waits for an answer while nothing is measured.
const TIMEOUT_DEFAULT: Duration = Duration::from_millis(900);

/// How large a scan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// How many addresses.
    pub addresses: u128,
    /// How many targets: addresses × things asked of each.
    pub targets: u128,
    /// How long it takes if nothing answers, each target is tried once, and windows or rates are always used up.
    pub estimate: Duration,
}

impl Size {
    pub(super) fn new(addresses: u128, slots: u32, window: Option<u32>, timeout: Option<Duration>) -> Self {
        let targets = addresses.saturating_mul(u128::from(slots));
        let timeout = timeout.unwrap_or(TIMEOUT_DEFAULT);
        let window = u128::from(window.unwrap_or(WINDOW_DEFAULT).max(1));
        let estimate_ms =
            (targets.saturating_mul(timeout.as_millis()) / window).max(rounds(slots) * timeout.as_millis());
        let estimate = Duration::from_millis(u64::try_from(estimate_ms).unwrap_or(u64::MAX));
        Self { addresses, targets, estimate }
    }

    /// With rates that let it go no faster.
    pub(super) fn paced(self, slots: u32, rate: Option<Rate>, per_host_rate: Option<Rate>) -> Self {
        let takes = |targets: u128, rate: Rate| {
            let ms = targets.saturating_mul(1_000_000_000) / u128::from(rate.micros().max(1));
            Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
        };
        let paced = [rate.map(|rate| takes(self.targets, rate)), per_host_rate.map(|rate| takes(slots.into(), rate))];
        let estimate = paced.into_iter().flatten().fold(self.estimate, Duration::max);
        Self { estimate, ..self }
    }

    /// Whether a scan of this size can be a slip: above 2^24 addresses or 10^9 targets.
    #[must_use]
    pub fn needs_yes(&self) -> bool {
        self.addresses > ADDRESSES_MAX || self.targets > TARGETS_MAX
    }
}

/// How many timeouts one silent host takes: its window doubles whenever a whole one timed out, up to a bound.
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
