//! Reports that were sent, or wait for a session, and whose reply has not come. They are sent again as they are, and bounded.

use protocol::id::Epoch;
use protocol::message::Report;
use std::collections::BTreeMap;

/// At this many the agent stops probing.
pub const REPORTS_MAX: usize = 256;
/// At this many bytes of chunks and findings the agent stops probing.
pub const BYTES_MAX: usize = 8 << 20;

/// Roughly what a finding takes in memory.
const FINDING_BYTES: usize = 8;

/// Reports without reply, by epoch.
#[derive(Debug, Default)]
pub struct Unacknowledged {
    reports: BTreeMap<Epoch, Report>,
    bytes: usize,
}

impl Unacknowledged {
    /// Keeps a report until its reply comes.
    pub fn keep(&mut self, report: Report) {
        self.bytes += bytes_of(&report);
        if let Some(older) = self.reports.insert(report.epoch, report) {
            self.bytes -= bytes_of(&older);
        }
    }

    /// A reply came, whichever: the report is done with. False if there was none.
    pub fn settle(&mut self, epoch: Epoch) -> bool {
        let Some(report) = self.reports.remove(&epoch) else { return false };
        self.bytes -= bytes_of(&report);
        true
    }

    /// All of them, by epoch.
    pub fn iter(&self) -> impl Iterator<Item = &Report> {
        self.reports.values()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reports.is_empty()
    }

    /// True if no more may be made: probing stops.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.reports.len() >= REPORTS_MAX || self.bytes >= BYTES_MAX
    }
}

fn bytes_of(report: &Report) -> usize {
    report.chunk.len() + report.findings.len() * FINDING_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::message::Checks;

    fn report(epoch: u64, bytes: usize) -> Report {
        Report {
            epoch: Epoch::new(epoch),
            chunk: vec![0; bytes],
            findings: vec![],
            checks: Checks::default(),
            quiet_ms: 0,
        }
    }

    #[test]
    fn it_is_full_by_number_or_by_bytes_and_forgets_what_was_answered() {
        let mut kept = Unacknowledged::default();
        for epoch in 0..REPORTS_MAX as u64 {
            assert!(!kept.is_full());
            kept.keep(report(epoch, 1));
        }
        assert!(kept.is_full());
        assert!(kept.settle(Epoch::new(3)) && !kept.settle(Epoch::new(3)));
        assert!(!kept.is_full());
        kept.keep(report(3, BYTES_MAX));
        assert!(kept.is_full());
        kept.keep(report(3, 1));
        assert!(kept.settle(Epoch::new(3)));
        assert!(!kept.is_full());
    }
}
