//! The binaries under test, built by cargo and found where cargo says.
//!
//! A test package cannot see the binaries of another: `cargo test` does not build them, and a path
//! under `target/` may hold yesterday's. So each is asked of cargo, once a test process.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, anyhow, bail};
use serde_json::Value;

/// `portsweep`, in the profile that this library was built in; in the release profile if
/// `PORTSWEEP_TEST_PROFILE=release`.
pub fn bin() -> anyhow::Result<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    cached(&BUILT, "portsweep")
}

/// `portsweep-agent`, as [`bin`].
pub fn agent_bin() -> anyhow::Result<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    cached(&BUILT, "portsweep-agent")
}

fn cached(built: &'static OnceLock<Result<PathBuf, String>>, name: &str) -> anyhow::Result<&'static Path> {
    match built.get_or_init(|| build(name).map_err(|error| format!("{error:#}"))) {
        Ok(path) => Ok(path),
        Err(error) => Err(anyhow!("failed to build {name}: {error}")),
    }
}

/// Builds the binary `name`, which is called as its package.
fn build(name: &str) -> anyhow::Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command
        .args(["build", "--package", name, "--bin", name])
        .args(["--message-format=json-render-diagnostics"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stdin(Stdio::null());
    let asked = env::var_os("PORTSWEEP_TEST_PROFILE").is_some_and(|profile| profile == "release");
    if asked || !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.output().context("failed to run cargo")?;
    if !output.status.success() {
        bail!("cargo ended with {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    executable(&String::from_utf8_lossy(&output.stdout), name)
        .with_context(|| format!("cargo reported no executable {name}"))
}

/// The path in cargo's messages (a JSON object a line) of the executable called `name`.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    (messages.lines())
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact")
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_path_that_cargo_reports() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"portsweep"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"other"},"executable":"/built/other"}
not json
{"reason":"build-script-executed","target":{"name":"portsweep"},"executable":"/built/script"}
{"reason":"compiler-artifact","target":{"name":"portsweep"},"executable":"/built/portsweep"}"#;
        assert_eq!(executable(messages, "portsweep"), Some(PathBuf::from("/built/portsweep")));
        assert_eq!(executable(messages, "portsweep-agent"), None);
    }
}
