//! How long to wait before dialling again: doubling, bounded, with jitter so that a fleet does not come back all at once.

use std::time::Duration;

/// The wait before the next try. The random number comes from outside.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    next: Duration,
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// Begins at `first`, ends at `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, first, longest }
    }

    /// The wait before this try: between half and the whole of the present step. `random` is any number, drawn anew each time.
    pub fn wait(&mut self, random: u64) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.longest);
        step / 2 + (step / 2).mul_f64(random as f64 / u64::MAX as f64)
    }

    /// A connection held: the next wait is the first again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_its_bound_and_jitters_below() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut backoff = Backoff::new(first, longest);
        let highest: Vec<_> = (0..6).map(|_| backoff.wait(u64::MAX).as_millis()).collect();
        assert_eq!(highest, [100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.wait(0), first / 2);
    }
}
