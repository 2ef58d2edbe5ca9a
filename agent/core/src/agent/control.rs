//! What holds for scans: put in force here and at everyone who sends, then acknowledged.

use super::awake::Awake;
use super::{Agent, Output, Scan, Session};
use crate::lease::Lease;
use crate::orders::{Orders, ScanOrders};
use crate::pacer::Pacer;
use protocol::message::{AgentMessage, Control, Run};
use protocol::probe::Cause;
use protocol::time::Time;
use std::time::Duration;

/// How long a stopped scan is remembered: longer than anything that was handed out of it can wait to be sent.
const STOPPED_FOR: Duration = Duration::from_secs(60);

impl Agent {
    /// Puts a control state in force here: nothing that it forbids is handed out from now on. What was handed out before may still be
    /// sent, until everyone who sends has the orders: only then it is acknowledged.
    pub(super) fn control(&mut self, now: Time, control: Control) {
        let Control { scan: id, version, run, exclude, share, per_host_rate } = control;
        let orders = ScanOrders { run, exclude };
        let known = self.scans.get(&id).is_some_and(|scan| scan.orders == orders);
        let scan = self.scans.entry(id).or_insert_with(|| Scan {
            orders: orders.clone(),
            per_host_rate: None,
            pacer: None,
            waits_for: None,
            stopped_at: None,
            awake: Awake::default(),
        });
        (scan.orders, scan.per_host_rate) = (orders, per_host_rate);
        match (share, &mut scan.pacer) {
            (Some(share), Some(pacer)) => pacer.set_rate(now, share),
            (Some(share), None) => scan.pacer = Some(Pacer::new(now, share)),
            (None, _) => scan.pacer = None,
        }
        scan.stopped_at = (run == Run::Stop).then(|| scan.stopped_at.unwrap_or(now));
        if known {
            match &mut scan.waits_for {
                Some((_, waiting)) => *waiting = version,
                None => self.send(AgentMessage::Acknowledge { scan: id, version }),
            }
        } else {
            self.last_orders += 1;
            scan.waits_for = Some((self.last_orders, version));
            self.order(now);
        }
        if run == Run::Stop {
            let of_it = |lease: &&Lease| lease.grant().scan == id;
            let stopped: Vec<_> = self.leases.values().filter(of_it).map(|lease| lease.grant().epoch).collect();
            for epoch in stopped {
                self.report(now, epoch, Cause::Interrupted);
            }
        }
    }

    /// Tells everyone who sends what holds now.
    fn order(&mut self, now: Time) {
        self.scans.retain(|_, scan| scan.stopped_at.is_none_or(|at| now < at + STOPPED_FOR));
        let scans = self.scans.iter().map(|(&id, scan)| (id, scan.orders.clone())).collect();
        self.outputs.push_back(Output::Orders(Orders { number: self.last_orders, scans }));
    }

    /// Acknowledges what waited for these orders. In a session that is not open yet nothing need be: its welcome says all again.
    pub(super) fn in_force(&mut self, orders: u64) {
        let in_force: Vec<_> = self
            .scans
            .iter_mut()
            .filter_map(|(&id, scan)| {
                let (_, version) = scan.waits_for.take_if(|(number, _)| *number <= orders)?;
                Some((id, version))
            })
            .collect();
        for (scan, version) in in_force {
            if self.session == Session::Open {
                self.send(AgentMessage::Acknowledge { scan, version });
            }
        }
    }
}
