//! A scan is right on networks that are slow, lose packets, or answer reluctantly: one trial for each file of `tests/worlds/`, which
//! says what the network is like, how it is scanned, and what is expected. A new case needs no code.
//!
//! A world whose expectation is known not to be reached says so in `unmet`; it is listed as ignored, with what it reaches.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use libtest_mimic::{Failed, Trial};
use portsweep_tests::lab::simulated::{Account, Asked, Score, Seen, Tally, World};
use portsweep_tests::lab::{self, Need};
use protocol::port::{PortSet, parse_ports};
use serde::Deserialize;

use crate::sweeping::{Swept, sweep};

const WORLDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/worlds");

/// A file of `tests/worlds/`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What it shows.
    about: String,
    /// What is reached instead of what is expected; nothing where that is reached.
    unmet: Option<String>,
    scan: Scan,
    expect: Expect,
    world: World,
}

/// How it is scanned.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scan {
    /// `ping`, `tcp`, or both.
    kinds: Vec<String>,
    /// Ports, in nmap's syntax.
    #[serde(default)]
    ports: String,
    /// Further words of the command line.
    #[serde(default)]
    words: Vec<String>,
}

/// What is expected. No finding is wrong, without exception.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    /// The least share of open ports that is found.
    open: Option<f64>,
    /// The least share of closed ports that is found.
    closed: Option<f64>,
    /// The least share of live hosts that is found.
    up: Option<f64>,
    /// The longest that it takes, from start to end.
    seconds_max: f64,
    /// The most probes for each target, on average.
    tries_max: Option<f64>,
    /// Further words of the command line with which it is missed: without the law of the windows, or with fewer tries than the measured loss
    /// asks for. Else reaching it would say nothing of these.
    #[serde(default)]
    missed_with: Vec<String>,
}

pub(crate) fn trials() -> Vec<Trial> {
    match worlds() {
        Ok(worlds) => worlds.into_iter().map(trial).collect(),
        Err(error) => vec![Trial::test("accuracy", move || Err(Failed::from(format!("{error:#}"))))],
    }
}

fn worlds() -> anyhow::Result<Vec<(String, Case)>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(WORLDS).context(WORLDS)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    ensure!(!paths.is_empty(), "{WORLDS} is empty");
    paths.iter().map(|path| read(path).with_context(|| path.display().to_string())).collect()
}

fn read(path: &Path) -> anyhow::Result<(String, Case)> {
    let case: Case = toml::from_str(&fs::read_to_string(path)?)?;
    case.world.check()?;
    ensure!(!case.about.is_empty(), "it does not say what it shows");
    let name = path.file_stem().and_then(|stem| stem.to_str()).context("no name")?;
    Ok((format!("accuracy_{name}"), case))
}

fn trial((name, case): (String, Case)) -> Trial {
    let unmet = case.unmet.clone();
    let run = move || run(&case);
    match unmet {
        None => lab::trial(&name, &[Need::Hosts], run),
        Some(reached) => Trial::test(format!("{name} (unmet: {reached})"), move || Ok(run()?)).with_ignored_flag(true),
    }
}

fn run(case: &Case) -> anyhow::Result<()> {
    let ports = if case.scan.ports.is_empty() { PortSet::new() } else { parse_ports(&case.scan.ports)? };
    let asked = Asked { ping: case.scan.kinds.iter().any(|kind| kind == "ping"), ports };
    let mut words = vec!["-q"];
    for kind in &case.scan.kinds {
        words.extend(["-f", kind]);
    }
    if !case.scan.ports.is_empty() {
        words.extend(["-p", &case.scan.ports]);
    }
    words.extend(case.scan.words.iter().map(String::as_str));
    let swept = sweep(case.world.clone(), &words)?;
    let score = Score::of(&case.world, &asked, &Seen::in_result(&swept.result)?);
    let figures = figures(&score, &swept);
    eprintln!("{}\n    {figures}", case.about);
    judge(case, &asked, &score, &swept).with_context(|| figures)?;
    if !case.expect.missed_with.is_empty() {
        missed(case, &asked, &words)?;
    }
    Ok(())
}

/// The same world, scanned with what must not do, misses what is expected.
fn missed(case: &Case, asked: &Asked, words: &[&str]) -> anyhow::Result<()> {
    let with = case.expect.missed_with.join(" ");
    let words: Vec<_> = words.iter().copied().chain(case.expect.missed_with.iter().map(String::as_str)).collect();
    let swept = sweep(case.world.clone(), &words)?;
    let score = Score::of(&case.world, asked, &Seen::in_result(&swept.result)?);
    let figures = figures(&score, &swept);
    eprintln!("    with {with}: {figures}");
    ensure!(judge(case, asked, &score, &swept).is_err(), "what is expected is reached with {with} too: {figures}");
    Ok(())
}

fn judge(case: &Case, asked: &Asked, score: &Score, swept: &Swept) -> anyhow::Result<()> {
    let expect = &case.expect;
    ensure!(score.wrong() == 0, "{} findings are wrong", score.wrong());
    for (what, least, tally) in [
        ("open ports", expect.open, score.open),
        ("closed ports", expect.closed, score.closed),
        ("live hosts", expect.up, score.up),
    ] {
        let Some(least) = least else { continue };
        ensure!(tally.there > 0, "there are no {what} to be found");
        ensure!(tally.recall() >= least, "{:.5} of the {what} were found, {least} are expected", tally.recall());
    }
    let took = swept.took.as_secs_f64();
    ensure!(took <= expect.seconds_max, "it took {took:.1} s, at most {} are expected", expect.seconds_max);
    if let Some(most) = expect.tries_max {
        let targets = f64::from(case.world.len()) * (f64::from(asked.ports.len()) + f64::from(u8::from(asked.ping)));
        let tries = sent(&swept.account) as f64 / targets;
        ensure!(tries <= most, "{tries:.2} probes for a target, at most {most} are expected");
    }
    Ok(())
}

fn figures(score: &Score, swept: &Swept) -> String {
    let loss = &swept.result["summary"]["estimated_loss"];
    let of = |tally: Tally| format!("{}/{}", tally.found, tally.there);
    format!(
        "{:.1} s, {:.1} s CPU, open {}, closed {}, up {}, wrong {}, {} probes, estimated loss {loss}, answers {:?} late at most",
        swept.took.as_secs_f64(),
        swept.finished.usage.cpu.as_secs_f64(),
        of(score.open),
        of(score.closed),
        of(score.up),
        score.wrong(),
        sent(&swept.account),
        swept.account.latest,
    )
}

fn sent(account: &Account) -> u64 {
    account.total().tcp + account.total().ping
}
