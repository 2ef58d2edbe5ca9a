//! What is promised of the docker-compose labs and of the images: each lab is started, scanned, compared with its truth and taken away,
//! by the command that its README names.
//!
//! Needs a Docker engine, Docker Compose and `strip`. Without an engine the trials are listed as ignored, everywhere.

use anyhow::{Context, bail, ensure};
use libtest_mimic::{Arguments, Trial};
use portsweep_tests::lab::{Need, trial};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// The labs that are tried at the same time.
const AT_ONCE: usize = 3;
/// The largest image, in bytes.
const IMAGE_BYTES_MAX: u64 = 30 << 20;
/// The port of the first lab on loopback; the others follow.
const FIRST_PORT: usize = 17_420;

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let needs = [Need::Docker, Need::Program("strip")];
    let mut trials = vec![
        Trial::test("both_dockerfiles_end_in_the_same_stages", || Ok(same_stages().map_err(text)?)),
        trial("images_are_small_and_run_as_nobody", &needs, small_images),
        trial("a_container_ends_when_it_is_told_to", &needs, ends_when_told),
        trial("a_lab_whose_networks_collide_says_so_and_takes_others", &needs, collision),
    ];
    for (at, name) in names().into_iter().enumerate() {
        let what = format!("lab_{}", name.replace('-', "_"));
        trials.push(trial(&what, &needs, move || run(&name, at)));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn text(error: anyhow::Error) -> String {
    format!("{error:#}")
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// The labs that there are.
fn names() -> Vec<String> {
    let entries = fs::read_dir(deploy().join("labs")).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// `deploy/lab` with these words.
fn command(words: &[&str], at: usize) -> Command {
    let mut command = Command::new(deploy().join("lab"));
    command.args(words).env("LAB_PORT", (FIRST_PORT + at).to_string()).stdin(Stdio::null());
    command
}

fn finished(mut command: Command) -> anyhow::Result<Output> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?} ended with {}:\n{}", output.status, said(&output));
    Ok(output)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Builds the images, once for all trials.
fn images() -> anyhow::Result<()> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| finished(command(&["images"], 0)).map(drop).map_err(text));
    built.clone().map_err(|error| anyhow::anyhow!(error))
}

fn run(name: &str, at: usize) -> anyhow::Result<()> {
    images()?;
    let mut command = command(&["run", name], at);
    // Each has a network of its own, so that they do not look for one at the same time.
    command.env("LAB_SUBNET", format!("10.{}.0.0/16", 225 + at)).env("LAB_IMAGES", "built");
    let output = finished(command)?;
    let said = said(&output);
    ensure!(said.contains("targets, all as they are"), "the check did not say what it compared:\n{said}");
    Ok(())
}

/// The lab `single`, where its usual networks are taken.
fn collision() -> anyhow::Result<()> {
    images()?;
    let name = "portsweep-lab-collision";
    let network = Taken::new(name, "10.213.77.0/24")?;
    let at = names().len();
    let mut named = command(&["up", "single"], at);
    let refused = named.env("LAB_SUBNET", "10.213.0.0/16").env("LAB_IMAGES", "built").output()?;
    ensure!(!refused.status.success(), "it took what was taken");
    let line = "LAB_SUBNET=10.213.0.0/16 collides with a network of this machine: name another /16";
    ensure!(said(&refused).contains(line), "{}", said(&refused));
    let mut free = command(&["run", "single"], at);
    free.env("LAB_IMAGES", "built").env_remove("LAB_SUBNET");
    let said = said(&finished(free)?);
    ensure!(said.contains("10.213.0.0/16 collides with a network of this machine: taking another"), "{said}");
    drop(network);
    Ok(())
}

/// A network of Docker's that goes with this.
struct Taken(String);

impl Taken {
    fn new(name: &str, subnet: &str) -> anyhow::Result<Self> {
        finished(docker(&["network", "create", "--internal", "--subnet", subnet, name]))?;
        Ok(Self(name.to_owned()))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // What cannot be taken away is seen by whoever makes it the next time.
        let _ = finished(docker(&["network", "rm", &self.0]));
    }
}

fn docker(words: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.args(words).stdin(Stdio::null());
    command
}

fn small_images() -> anyhow::Result<()> {
    images()?;
    for image in ["portsweep", "portsweep-agent"] {
        let seen = finished(docker(&["image", "inspect", "--format", "{{.Size}} {{.Config.User}}", image]))?;
        let line = String::from_utf8(seen.stdout)?;
        let (size, user) = line.trim().split_once(' ').with_context(|| line.clone())?;
        ensure!(size.parse::<u64>()? < IMAGE_BYTES_MAX, "{image} has {size} bytes");
        ensure!(user == "65532:65532", "{image} runs as {user:?}");
    }
    Ok(())
}

/// A coordinator as process 1, with nothing but its volume to write to.
fn ends_when_told() -> anyhow::Result<()> {
    images()?;
    let hardened =
        ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true", "--network", "none"];
    let mut begun = docker(&["run", "--detach"]);
    let id = String::from_utf8(
        finished({
            begun.args(hardened).arg("portsweep");
            begun
        })?
        .stdout,
    )?;
    let id = id.trim();
    let ended = (|| {
        wait_until(|| {
            let state = finished(docker(&["inspect", "--format", "{{.State.Health.Status}} {{.State.Running}}", id]))?;
            let state = String::from_utf8(state.stdout)?;
            match state.trim() {
                "healthy true" => Ok(true),
                "starting true" => Ok(false),
                other => bail!("it is {other}"),
            }
        })?;
        finished(docker(&["stop", "--time", "60", id]))?;
        let code = finished(docker(&["inspect", "--format", "{{.State.ExitCode}}", id]))?;
        ensure!(code.stdout == b"0\n", "it ended with {}", said(&code));
        Ok(())
    })();
    finished(docker(&["rm", "--force", "--volumes", id]))?;
    ended
}

/// Asks until it is so. The health check itself has the bound in time: it becomes unhealthy.
fn wait_until(is_so: impl Fn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    while !is_so()? {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    Ok(())
}

fn same_stages() -> anyhow::Result<()> {
    let stages = |file: &str| -> anyhow::Result<String> {
        let text = fs::read_to_string(deploy().join("images").join(file))?;
        let begin = text.find("# -- the same from here on").with_context(|| format!("{file} has no mark"))?;
        Ok(text.split_at(begin).1.to_owned())
    };
    let (source, prebuilt) = (stages("Dockerfile")?, stages("Dockerfile.prebuilt")?);
    ensure!(source.matches("FROM scratch AS").count() == 4, "four images are made");
    ensure!(source == prebuilt, "Dockerfile and Dockerfile.prebuilt differ in their last stages");
    Ok(())
}
