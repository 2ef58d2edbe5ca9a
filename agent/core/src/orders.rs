//! What everyone who sends must keep to while probes run: scan by scan, sent whole, the newest holds.

use protocol::id::ScanId;
use protocol::message::Run;
use protocol::range_set::AddressSet;
use std::collections::BTreeMap;

/// What holds for a scan.
#[derive(Clone, Debug, PartialEq)]
pub struct ScanOrders {
    /// Whether its probes may be sent.
    pub run: Run,
    /// What was excluded while it runs.
    pub exclude: AddressSet,
}

/// What holds for all scans.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Orders {
    /// Rises with each change.
    pub number: u64,
    /// By scan. Of one that is not here nothing was ordered.
    pub scans: BTreeMap<ScanId, ScanOrders>,
}
