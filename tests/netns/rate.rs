//! `--rate` and `--per-host-rate` hold on the wire, as the target's packet filter sees it: its counter is read again and again
//! while the scan runs, and a token bucket in the kernel looks at every interval.
//!
//! What is allowed beyond rate × time, and why. The pacer hands out at most one burst (10 ms of the rate, at least one probe) beyond
//! it. Between that and the SYN lies the scanner's thread: if it is stopped there, what it had handed out arrives together with what
//! the next look at the clock allows. As nothing is handed out while it is stopped, that is one burst more, however long the stop.
//! So two bursts, and nothing for anybody's clock: each reading of the counter is known to lie between two looks at one clock.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use libtest_mimic::Trial;
use portsweep_tests::lab::{self, Need};

use crate::world::World;

const HOST: &str = "192.0.2.11";
/// As many SYNs: over three seconds at 500 a second.
const PORTS: u64 = 1_600;
const RATE: u64 = 500;
/// 10 ms of the rate.
const BURST: u64 = RATE / 100;
const BIN: Duration = Duration::from_millis(100);

pub(crate) fn trials() -> Vec<Trial> {
    let hosts = &[Need::Hosts];
    vec![
        lab::trial("rate_holds_in_every_tenth_of_a_second", hosts, scan_rate),
        lab::trial("rate_per_host_holds_for_each", hosts, per_host_rate),
        lab::trial("rate_of_a_slow_template_spaces_its_probes", hosts, slow_template),
    ]
}

/// A reading of the counter, made between two moments.
struct Reading {
    begun: Instant,
    ended: Instant,
    count: u64,
}

fn read(world: &World) -> anyhow::Result<Reading> {
    let begun = now();
    let count = world.target.counted_at(HOST)?.tcp;
    Ok(Reading { begun, ended: now(), count })
}

fn scan_rate() -> anyhow::Result<()> {
    let world = World::new()?;
    world.target.count_excess(HOST, "500/second", 2 * BURST as u32)?;
    let ports = format!("1-{PORTS}");
    let words = ["-f", "tcp", "-p", &ports, "--rate", "500", "-w", "result.json", HOST];
    let readings = thread::scope(|scope| {
        let scan = scope.spawn(|| world.portsweep(&words)?.expect_code(0));
        let mut readings = Vec::new();
        while !scan.is_finished() {
            readings.push(read(&world)?);
        }
        scan.join().map_err(|_| anyhow::anyhow!("the scan's thread panicked"))??;
        anyhow::Ok(readings)
    })?;

    let total = world.target.counted_at(HOST)?.tcp;
    ensure!(total == PORTS, "{total} SYNs for {PORTS} targets");
    let excess = world.target.excess()?;
    ensure!(excess == 0, "{excess} SYNs were beyond {RATE} a second and {} at once", 2 * BURST);

    // From each reading to the first that is a bin later.
    let mut fullest = 0;
    for (place, first) in readings.iter().enumerate() {
        let Some(last) = readings[place..].iter().find(|last| last.begun - first.ended >= BIN) else { break };
        let (count, time) = (last.count - first.count, last.ended - first.begun);
        let allowed = RATE as f64 * time.as_secs_f64() + 2.0 * BURST as f64;
        ensure!(count as f64 <= allowed, "{count} SYNs in {time:?}, where {allowed:.1} are allowed");
        fullest = fullest.max(count);
    }
    // It is reached as well: else nothing was proved.
    ensure!(fullest >= RATE / 10, "the fullest tenth of a second had {fullest} SYNs");
    let mut sending = readings.iter().filter(|reading| (1..PORTS).contains(&reading.count));
    let (Some(first), Some(last)) = (sending.next(), sending.next_back()) else {
        anyhow::bail!("no reading fell into the scan")
    };
    let mean = (last.count - first.count) as f64 / (last.ended - first.begun).as_secs_f64();
    ensure!(mean >= 0.9 * RATE as f64, "only {mean:.1} SYNs a second");

    let result = world.result("result.json")?;
    ensure!(result["scan"]["rate"].as_f64() == Some(500.0), "{}", result["scan"]["rate"]);
    Ok(())
}

fn per_host_rate() -> anyhow::Result<()> {
    let world = World::new()?;
    let hosts = [HOST, "192.0.2.12", "192.0.2.13"];
    for host in hosts {
        // 10 ms of 20 a second is less than a probe: a burst is one.
        world.target.count_excess(host, "20/second", 2)?;
    }
    let words = ["-f", "tcp", "-p", "1-40", "--per-host-rate", "20", "192.0.2.11-192.0.2.13"];
    world.portsweep(&words)?.expect_code(0)?;
    let excess = world.target.excess()?;
    ensure!(excess == 0, "{excess} SYNs were beyond 20 a second for their host");
    for host in hosts {
        let counted = world.target.counted_at(host)?;
        ensure!(counted.tcp >= 40, "{host}: {counted:?}");
    }
    Ok(())
}

fn slow_template() -> anyhow::Result<()> {
    let world = World::new()?;
    // One every 0.4 s.
    world.target.count_excess(HOST, "150/minute", 2)?;
    let began = now();
    world.portsweep(&["-T2", "-f", "tcp", "-p", "1-6", HOST])?.expect_code(0)?;
    let took = now() - began;
    ensure!(took >= Duration::from_millis(5 * 400), "six probes 0.4 s apart took {took:?}");
    let (excess, counted) = (world.target.excess()?, world.target.counted_at(HOST)?);
    ensure!(excess == 0 && counted.tcp == 6, "{excess} too early, {counted:?}");
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "what arrives in which time is measured from outside")]
fn now() -> Instant {
    Instant::now()
}
