//! A coordinator as a container has it: on every address, without TLS, asked for under a name that was allowed; tokens for its agents come in
//! files, and whoever watches over it asks `health`, of it and of an agent.

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use portsweep_tests::lab::{self, Finished, Need};
use std::os::unix::fs::MetadataExt;

use crate::fleet_world::{Fleet, end};
use crate::world::RUN_TIMEOUT;

pub(crate) fn trials() -> Vec<Trial> {
    let hosts = &[Need::Hosts];
    vec![lab::trial("serve_in_a_container_has_health_and_tokens_in_files", hosts, container)]
}

/// How often something is looked for: each look starts a program, so this is bounded in time too.
const LOOKS_MAX: usize = 20_000;

/// Runs a program again and again until it ends with this code.
fn until(code: i32, run: impl Fn() -> anyhow::Result<Finished>) -> anyhow::Result<Finished> {
    let mut last = run()?;
    for _ in 0..LOOKS_MAX {
        if last.code == Some(code) {
            return Ok(last);
        }
        last = run()?;
    }
    anyhow::bail!("it never ends with {code}: {}", last.transcript())
}

fn container() -> anyhow::Result<()> {
    let fleet = Fleet::new()?;
    let health = || fleet.portsweep(&["health"])?.run(RUN_TIMEOUT);
    let refused = health()?.expect_code(1)?;
    ensure!(refused.stdout.is_empty() && refused.stderr.lines().count() == 1, "{}", refused.transcript());
    let words = [
        "serve",
        "--listen",
        "0.0.0.0:7420",
        "--plain-http",
        "--allowed-host",
        "203.0.113.1",
        "--agent-listen",
        "0.0.0.0:7421",
        "--advertise",
        "203.0.113.1:7421",
    ];
    let serving = fleet.portsweep(&words)?.start()?;
    let healthy = until(0, health)?;
    ensure!(healthy.stdout.lines().count() == 1 && healthy.stderr.is_empty(), "{}", healthy.transcript());

    // Two tokens at once, each good for one agent, for their owner alone.
    std::fs::write(fleet.directory.path().join("b.token"), "what was there before")?;
    let made = fleet.ask(&["token", "agent", "-w", "a.token", "-w", "b.token"])?;
    ensure!(made.stdout.is_empty(), "a token is shown: {}", made.transcript());
    let token = |name: &str| -> anyhow::Result<String> {
        let path = fleet.directory.path().join(name);
        ensure!(std::fs::metadata(&path)?.mode() & 0o777 == 0o600, "{name} is not its owner's alone");
        Ok(std::fs::read_to_string(path)?)
    };
    ensure!(token("a.token")? != token("b.token")?, "one token for two");
    let nowhere = fleet.portsweep(&["token", "agent", "-w", "missing/a.token"])?.run(RUN_TIMEOUT)?.expect_code(1)?;
    ensure!(
        nowhere.stderr.lines().count() == 1 && nowhere.stderr.contains("missing/a.token"),
        "{}",
        nowhere.transcript()
    );

    let asked = || fleet.agent(0, &["health"])?.run(RUN_TIMEOUT);
    let alone = asked()?.expect_code(1)?;
    ensure!(alone.stderr.contains("no agent that has joined runs"), "{}", alone.transcript());
    let agent =
        fleet.agent(0, &["join", "--token-file", "a.token", "--allow", "192.0.2.0/24", "--name", "a0"])?.start()?;
    let well = until(0, asked)?;
    ensure!(well.stdout.contains("connected to its coordinator") && well.stderr.is_empty(), "{}", well.transcript());

    // From elsewhere, with a token: under the name that was allowed, and under no other.
    let api = fleet.ask(&["token", "api", "--role", "viewer"])?.stdout;
    let from_elsewhere = |url: &str| {
        let words = ["agents".to_owned(), format!("--coordinator={url}")];
        fleet.agents[0].command(lab::bin()?).args(words).env("PORTSWEEP_TOKEN", api.trim()).run(RUN_TIMEOUT)
    };
    let agents = from_elsewhere("http://203.0.113.1:7420")?.expect_code(0)?;
    ensure!(agents.stdout.contains("a0"), "{}", agents.transcript());
    let stranger = from_elsewhere("http://203.0.113.5:7420")?;
    ensure!(stranger.code != Some(0), "{}", stranger.transcript());

    let ended = end(serving)?;
    let page = ended.stderr.lines().find(|line| line.contains("/?key=")).context("no address is shown")?;
    ensure!(page.contains("http://203.0.113.1:7420/?key="), "{page}");
    let away = until(1, asked)?;
    ensure!(away.stderr.contains("not connected") && away.stdout.is_empty(), "{}", away.transcript());
    end(agent)?;
    asked()?.expect_code(1).map(drop)
}
