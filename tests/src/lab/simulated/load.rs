//! How much a simulated network takes: SYNs as raw frames at a given rate, for a given time, and what became of them.

use std::io;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::account::Account;
use super::frame::{self, Frame};
use super::running::Simulated;
use super::socket::{BATCH, PacketSocket};
use super::world::World;
use crate::lab::Host;

/// No load is heavier or longer than this.
const RATE_MAX: u32 = 1_000_000;
const TIME_MAX: Duration = Duration::from_secs(30);

/// What came of a load.
#[derive(Debug)]
pub struct Loaded {
    /// SYNs that were sent.
    pub sent: u64,
    /// How long that took.
    pub took: Duration,
    /// What the network made of them.
    pub account: Account,
}

/// Sends `rate` SYNs a second (at most a million) for `time` (at most 30 s) to the addresses of `world` in turn.
pub fn load(world: World, rate: u32, time: Duration) -> anyhow::Result<Loaded> {
    ensure!(rate <= RATE_MAX && time <= TIME_MAX, "at most {RATE_MAX} a second for {TIME_MAX:?}");
    let scanner = Host::new("load")?;
    let frames = (world.addresses())
        .map(|address| frame::syn(Simulated::scanner_address(&world), address, 40_000, 80))
        .collect::<Option<Vec<_>>>()
        .context("a SYN does not fit")?;
    let network = Simulated::start(&scanner, world)?;
    let socket = scanner.enter(|| PacketSocket::open(network.scanner_interface()))?;
    let (sent, took) = send(&socket, &frames, rate, time)?;
    Ok(Loaded { sent, took, account: network.stop()? })
}

fn send(socket: &PacketSocket, frames: &[Frame], rate: u32, time: Duration) -> io::Result<(u64, Duration)> {
    let started = now();
    let mut sent = 0_u64;
    loop {
        let took = now() - started;
        if took >= time {
            return Ok((sent, took));
        }
        let owed = (took.as_secs_f64() * f64::from(rate)) as u64 - sent;
        if owed < BATCH as u64 {
            std::hint::spin_loop();
            continue;
        }
        let first = (sent % frames.len() as u64) as usize;
        let batch = &frames[first..(first + BATCH).min(frames.len())];
        sent += socket.send(batch)? as u64;
    }
}

#[expect(clippy::disallowed_methods, reason = "a load is so much in a second of real time")]
fn now() -> Instant {
    Instant::now()
}
