//! How many refused connects a second a supervisor and its connect prober make, on loopback: what `probe/connect.rs` is measured by.
//!
//! Only in a network namespace of its own, so that nobody else's ports are asked:
//! `unshare -rn sh -c 'ip link set lo up; cargo run --release -p portsweep-agent --example connect_rate [WINDOW]'`

use actix::prelude::*;
use agent_core::attempt::{Batch, Probe, ProbeId};
use agent_core::round_trip::Wait;
use portsweep_agent::actors::supervisor::{Owner, ProbeSupervisor, RunBatch, SettledBatch, SupervisorDied};
use portsweep_agent::clock::Clock;
use portsweep_agent::limits::Descriptors;
use portsweep_agent::probe::Prober;
use portsweep_agent::scope::{Admission, Scope};
use protocol::id::{Epoch, ScanId};
use protocol::probe::{Outcome, ProbeKind, Slot, Target};
use protocol::range_set::AddressSet;
use protocol::time::Time;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

const ROUNDS: u32 = 4;

struct Desk(mpsc::Sender<SettledBatch>);

impl Actor for Desk {
    type Context = Context<Self>;
}

impl Handler<SettledBatch> for Desk {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, batch: SettledBatch, _: &mut Self::Context) -> Self::Result {
        let sender = self.0.clone();
        Box::pin(async move { drop(sender.send(batch).await) })
    }
}

impl Handler<SupervisorDied> for Desk {
    type Result = ();

    fn handle(&mut self, _: SupervisorDied, _: &mut Self::Context) {}
}

#[expect(clippy::print_stdout, reason = "a measurement prints what it measured")]
fn main() -> anyhow::Result<()> {
    let window = std::env::args().nth(1).map_or(Ok(256), |text| text.parse::<u32>())?;
    Descriptors::raise()?;
    System::new().block_on(async move {
        let localhost = [127, 0, 0, 1].into();
        let scope = Arc::new(Scope::typed(AddressSet::from(std::net::IpAddr::V4(localhost))));
        let clock = Clock::Boottime;
        let (sender, mut settled) = mpsc::channel(64);
        let desk = Desk(sender).start();
        let owner = Owner { settled: desk.clone().recipient(), died: desk.recipient() };
        let prober = Prober::connects(0);
        let admission = Admission::new(clock, scope);
        let supervisor = ProbeSupervisor::new(ProbeKind::Tcp, prober, admission, window, owner).start();
        for round in 0..ROUNDS {
            let start = clock.now();
            let mut states: BTreeMap<Outcome, u32> = BTreeMap::new();
            let (mut next, mut done) = (1_u32, 0_u32);
            while done < 65_535 {
                while next <= 65_535 && next - done <= 2 * window {
                    let ports = next..=65_535.min(next + 63);
                    next = ports.end() + 1;
                    let probes = ports.map(|port| Probe {
                        id: ProbeId { epoch: Epoch::new(u64::from(round)), index: port },
                        scan: ScanId::from_bytes([1; 16]),
                        target: Target { address: localhost.into(), slot: Slot::Tcp(port as u16) },
                        wait: Wait::fixed(Duration::from_millis(900)),
                    });
                    let batch = Batch { kind: ProbeKind::Tcp, right_ends_at: Time::NEVER, probes: probes.collect() };
                    supervisor.send(RunBatch(batch)).await?;
                }
                let batch = settled.recv().await.ok_or_else(|| anyhow::anyhow!("the desk is gone"))?;
                done += batch.settled.len() as u32;
                for settled in batch.settled {
                    *states.entry(settled.outcome).or_default() += 1;
                }
            }
            let took = clock.now().since(start);
            println!("window {window}: {:.0} connects/s, {states:?}", 65_535.0 / took.as_secs_f64());
        }
        Ok(())
    })
}
