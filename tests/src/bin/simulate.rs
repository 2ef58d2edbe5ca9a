//! A simulated network by hand: what is true of it, and what reached it while a program ran.
//!
//!     simulate truth WORLD.toml              a line for each host
//!     simulate run WORLD.toml PROGRAM ...    the program, in a namespace from which the network is reached; then a line for each
//!                                            address that was probed (SYNs, echo requests, and probes by bin of 100 ms), on stderr
//!
//! WORLD.toml is a file of `tests/worlds/`. `run` needs root (see `lab`).

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, bail};
use portsweep_tests::lab::Host;
use portsweep_tests::lab::simulated::{Simulated, World};

const TIMEOUT: Duration = Duration::from_secs(3_600);

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["truth", world] => {
            let mut stdout = io::stdout().lock();
            for host in read(world)?.all_hosts() {
                writeln!(stdout, "{host}")?;
            }
            Ok(())
        }
        ["run", world, program, args @ ..] => run(read(world)?, program, args),
        _ => bail!("say `truth WORLD.toml` or `run WORLD.toml PROGRAM ...`"),
    }
}

fn read(path: &str) -> anyhow::Result<World> {
    let file: toml::Table = toml::from_str(&fs::read_to_string(path).with_context(|| path.to_owned())?)?;
    let world = file.get("world").with_context(|| format!("{path} has no [world]"))?;
    World::parse(&toml::to_string(world)?)
}

fn run(world: World, program: &str, args: &[&str]) -> anyhow::Result<()> {
    let scanner = Host::new("scanner")?;
    let network = Simulated::start(&scanner, world.clone())?;
    let here = env::current_dir()?;
    let ended = scanner.command(Path::new(program)).args(args).directory(&here).run(TIMEOUT)?;
    let account = network.stop()?;
    io::stdout().write_all(ended.stdout.as_bytes())?;
    let mut stderr = io::stderr().lock();
    stderr.write_all(ended.stderr.as_bytes())?;
    for line in account.lines(|offset| world.address(offset)) {
        writeln!(stderr, "{line}")?;
    }
    let (total, used) = (account.total(), ended.usage);
    writeln!(
        stderr,
        "{} SYNs, {} echo requests, {} answers, {} others",
        total.tcp, total.ping, account.answered, account.other
    )?;
    writeln!(stderr, "missed {}, unsent {}, late {:?}", account.missed, account.unsent, account.latest)?;
    writeln!(stderr, "exit code {:?}, {:?} CPU, {} KiB", ended.code, used.cpu, used.resident_bytes_max >> 10)?;
    account.expect_nothing_missed()
}
