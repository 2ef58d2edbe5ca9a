//! The `fleet-…` cases: what the link costs, whether a budget is one budget, what a slow agent, a dead one and a dead coordinator cost, and how
//! soon a change acts. Each prints what is demanded beside what was measured.

use std::thread;
use std::time::Duration;

use anyhow::Context;

use crate::fleet_lab::{Fleet, good_end};
use crate::measure::{median, now};

/// Rounds of each; what is printed is the median.
const ROUNDS: usize = 3;
/// A right, by default.
const TTL_S: f64 = 10.0;
/// Ports of an address.
const PORTS: u64 = 65_535;

fn medians(name: &str, mut round: impl FnMut() -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    let mut measured = Vec::new();
    for number in 1..=ROUNDS {
        let value = round().with_context(|| name.to_owned())?;
        eprintln!("round {number}: {name}: {value:.3}");
        measured.push(value);
    }
    Ok(median(measured))
}

fn line(what: &str, measured: f64, demanded: &str) -> String {
    format!("{what:<64} {measured:>10.3}  {demanded}\n")
}

/// One agent over the link, and the same scan in one process, in turn.
pub(crate) fn link() -> anyhow::Result<String> {
    const ADDRESSES: usize = 8;
    let fleet = Fleet::new(1)?;
    let (mut over, mut here) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        here.push(fleet.timed_here(ADDRESSES, &[])?.as_secs_f64());
        over.push(fleet.timed(ADDRESSES, &[])?.as_secs_f64());
        eprintln!("round {round}: {:.2} s in one process, {:.2} s over the link", here[round - 1], over[round - 1]);
    }
    let (over, here) = (median(over), median(here));
    let targets = (ADDRESSES as u64 * PORTS) as f64;
    Ok(line("one process: seconds", here, "")
        + &line("one agent over the link: seconds", over, "")
        + &line("one process: targets a second", targets / here, "")
        + &line("over the link: share of that speed", here / over, "at least 0.95"))
}

/// Four agents with a quarter of the rate each, and one with the whole.
pub(crate) fn four() -> anyhow::Result<String> {
    let (one, four) = (Fleet::new(1)?, Fleet::new(4)?);
    let words = ["--rate", "10000"];
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        alone.push(one.timed(2, &words)?.as_secs_f64());
        together.push(four.timed(2, &words)?.as_secs_f64());
        eprintln!("round {round}: {:.2} s by one, {:.2} s by four", alone[round - 1], together[round - 1]);
    }
    let (alone, together) = (median(alone), median(together));
    Ok(line("one agent with 10,000 a second: seconds", alone, "")
        + &line("four agents with 2,500 a second each: seconds", together, "")
        + &line("four against one", together / alone, "0.95 to 1.05"))
}

/// Four equal agents, of which one leaves, or runs for a twenty-fifth of the time only, from the middle on.
pub(crate) fn slow() -> anyhow::Result<String> {
    const RATE: &str = "8000";
    const MIDDLE: u64 = 2 * PORTS / 3;
    let left = medians("seconds after one left", || {
        let mut fleet = Fleet::new(4)?;
        let scan = fleet.scan(2, &["--rate", RATE])?;
        fleet.until_sent(MIDDLE)?;
        let since = now();
        fleet.running.remove(0).signal(libc::SIGTERM)?;
        good_end(scan)?;
        Ok(since.elapsed().as_secs_f64())
    })?;
    let slowed = medians("seconds after one was slowed", || {
        let fleet = Fleet::new(4)?;
        let scan = fleet.scan(2, &["--rate", RATE])?;
        fleet.until_sent(MIDDLE)?;
        let (since, slow) = (now(), &fleet.running[0]);
        let ended = std::sync::atomic::AtomicBool::new(false);
        let took = thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                    // It may have ended with the test; then there is nothing to be slowed.
                    let _gone = slow.signal(libc::SIGSTOP);
                    thread::sleep(Duration::from_millis(240));
                    let _gone = slow.signal(libc::SIGCONT);
                    thread::sleep(Duration::from_millis(10));
                }
            });
            let good = good_end(scan);
            ended.store(true, std::sync::atomic::Ordering::Relaxed);
            good.map(|_| since.elapsed())
        })?;
        Ok(took.as_secs_f64())
    })?;
    Ok(line("one of four leaves in the middle: seconds to the end", left, "")
        + &line("one of four has a twenty-fifth of its time: seconds to the end", slowed, "")
        + &line("slowed against left", slowed / left, "at most 2"))
}

/// One of three agents dies in the middle.
pub(crate) fn killed() -> anyhow::Result<String> {
    const RATE: f64 = 6_000.0;
    const ADDRESSES: usize = 3;
    let (mut lost, mut waits) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let mut fleet = Fleet::new(3)?;
        let before = fleet.target.counted()?.sum();
        let scan = fleet.scan(ADDRESSES, &["--rate", "6000"])?;
        fleet.until_sent(PORTS / 3)?;
        let since = now();
        fleet.running.remove(0).signal(libc::SIGKILL)?;
        // The share of the dead one is the others' again: they go on at the whole rate, with what it had.
        let wait = fleet.rate_is_within(since, RATE * 0.9, RATE * 1.2, &[1, 2])?;
        good_end(scan)?;
        let probed = fleet.target.counted()?.sum() - before;
        let again = probed.saturating_sub(ADDRESSES as u64 * PORTS) as f64 / (RATE / 3.0);
        eprintln!("round {round}: {:.2} s until the others go on, {again:.2} s probed again", wait.as_secs_f64());
        waits.push(wait.as_secs_f64());
        lost.push(again);
    }
    Ok(line("lost work, in seconds of the dead agent's probing", median(lost), "under 10")
        + &line("going on elsewhere after, seconds", median(waits), &format!("at most {:.1}", TTL_S + 5.0)))
}

/// The coordinator dies in the middle, and is started again at once.
pub(crate) fn restart() -> anyhow::Result<String> {
    let again = medians("seconds until all probe again", || {
        let mut fleet = Fleet::new(3)?;
        let scan = fleet.scan(4, &["--rate", "6000"])?;
        fleet.until_sent(PORTS / 3)?;
        let since = now();
        fleet.kill_coordinator()?;
        fleet.serve()?;
        fleet.until_connected()?;
        let connected = since.elapsed();
        // Each at its share again, which it had not without a right.
        let rate = fleet.rate_is_within(since, 6_000.0 * 0.9, 6_000.0 * 1.2, &[0, 1, 2])?;
        good_end(scan)?;
        Ok(connected.max(rate).as_secs_f64())
    })?;
    Ok(line("connected and probing again after, seconds", again, &format!("at most {:.1}", TTL_S + 3.0)))
}

/// How soon a change acts on connected agents, from the start of the command that asks for it.
pub(crate) fn changes() -> anyhow::Result<String> {
    let fleet = Fleet::new(3)?;
    let (mut rates, mut exclusions, mut pauses) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let scan = fleet.scan(8, &["--rate", "6000"])?;
        fleet.until_sent(6_000)?;
        let id = fleet.id()?;
        fleet.rate_is_within(now(), 6_000.0 * 0.8, 6_000.0 * 1.2, &[0, 1, 2])?;
        let since = now();
        fleet.change("set", &id, &["--rate", "1500"])?;
        let rate = fleet.rate_is_within(since, 0.0, 1_500.0 * 1.1, &[0, 1, 2])?;
        let excluded = fleet.probed_now()?;
        let since = now();
        fleet.change("exclude", &id, &[excluded])?;
        let exclusion = fleet.last_change(since, || Ok(fleet.target.counted_at(excluded)?.sum()))?;
        let since = now();
        fleet.change("pause", &id, &[])?;
        let pause = fleet.last_change(since, || Ok(fleet.target.counted()?.sum()))?;
        fleet.change("cancel", &id, &[])?;
        scan.wait(Duration::from_secs(60))?;
        let [rate, exclusion, pause] = [rate, exclusion, pause].map(|took| took.as_secs_f64());
        eprintln!("round {round}: rate {rate:.3} s, exclusion {exclusion:.3} s, pause {pause:.3} s");
        rates.push(rate);
        exclusions.push(exclusion);
        pauses.push(pause);
    }
    Ok(line("a lower rate acts after, seconds", median(rates), "at most 1")
        + &line("an exclusion acts after, seconds", median(exclusions), "at most 1")
        + &line("a pause acts after, seconds", median(pauses), "at most 1"))
}
