//! What a test needs of the machine, and what becomes of it where that is missing.
//!
//! A test that cannot run says so: it is listed as ignored, with what is missing in its name. With
//! `PORTSWEEP_TEST_REQUIRE=all` in the environment it fails instead, unless it is what no package can bring: a
//! Docker engine.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use libtest_mimic::{Failed, Trial};

use super::host::Host;

/// Something that not every machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Hosts: root (CAP_SYS_ADMIN and CAP_NET_ADMIN), network namespaces, `ip` and `nft`.
    Hosts,
    /// A program on the `PATH`.
    Program(&'static str),
    /// A Docker engine that answers, and Docker Compose in one of its two forms.
    Docker,
}

impl Need {
    /// Whether a machine where everything is required has to have it.
    const fn is_required(self) -> bool {
        !matches!(self, Self::Docker)
    }
}

/// Why the first of `needs` that is missing cannot be had; `None` if all are there.
#[must_use]
pub fn missing(needs: &[Need]) -> Option<String> {
    needs.iter().find_map(|need| match need {
        Need::Hosts => {
            static REASON: OnceLock<Option<String>> = OnceLock::new();
            REASON.get_or_init(hosts_missing).clone()
        }
        Need::Program(name) => program_missing(name),
        Need::Docker => {
            static REASON: OnceLock<Option<String>> = OnceLock::new();
            REASON.get_or_init(docker_missing).clone()
        }
    })
}

/// Where a program is: on the `PATH`, or where the lab looks beside it.
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // An ordinary user's PATH often lacks these two, where the lab looks too.
    let further = ["/usr/sbin", "/sbin"].map(Into::into);
    env::split_paths(&path).chain(further).map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// A test for a `libtest-mimic` harness that runs if all of `needs` are there.
pub fn trial(name: &str, needs: &[Need], test: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> Trial {
    let require_all = env::var_os("PORTSWEEP_TEST_REQUIRE").is_some_and(|value| value == "all");
    let require =
        require_all && needs.iter().filter(|need| missing(&[**need]).is_some()).all(|need| need.is_required());
    match decide(missing(needs), require) {
        Decision::Run => Trial::test(name, || test().map_err(|error| format!("{error:#}").into())),
        Decision::Ignore(reason) => lacking(name, reason).with_ignored_flag(true),
        Decision::Fail(reason) => lacking(name, reason),
    }
}

/// What becomes of a test.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Run,
    Ignore(String),
    Fail(String),
}

fn decide(missing: Option<String>, require: bool) -> Decision {
    match missing {
        None => Decision::Run,
        Some(reason) if require => Decision::Fail(reason),
        Some(reason) => Decision::Ignore(reason),
    }
}

/// A test that fails when it is run, be it because everything is required or by `--ignored`.
fn lacking(name: &str, reason: String) -> Trial {
    Trial::test(format!("{name} (missing: {reason})"), move || {
        Err(Failed::from(format!("cannot run without: {reason}")))
    })
}

/// The surest way to know whether a host can be made is to make one.
fn hosts_missing() -> Option<String> {
    (program_missing("ip").or_else(|| program_missing("nft"))).or_else(|| {
        Host::new("trial").err().map(|error| format!("root and network namespaces: {}", error.root_cause()))
    })
}

fn docker_missing() -> Option<String> {
    let is_answered = |program: &str, words: &[&str]| {
        let asked = Command::new(program).args(words).stdout(Stdio::null()).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    };
    if !is_answered("docker", &["info"]) {
        return Some("a Docker engine".to_owned());
    }
    let has_compose = is_answered("docker", &["compose", "version"]) || program("docker-compose").is_some();
    (!has_compose).then(|| "docker compose, or docker-compose".to_owned())
}

fn program_missing(name: &str) -> Option<String> {
    program(name).is_none().then(|| format!("the program {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_ignores_a_test_and_fails_it_where_everything_is_required() {
        let missing = || Some("the program x".to_owned());
        assert_eq!(decide(None, false), Decision::Run);
        assert_eq!(decide(None, true), Decision::Run);
        assert_eq!(decide(missing(), false), Decision::Ignore("the program x".to_owned()));
        assert_eq!(decide(missing(), true), Decision::Fail("the program x".to_owned()));
    }

    #[test]
    fn a_test_that_lacks_something_has_the_reason_in_its_name() {
        let trial = lacking("a", "the program x".to_owned());
        assert_eq!(trial.name(), "a (missing: the program x)");
    }

    #[test]
    fn a_program_that_nobody_has_is_missing_and_a_shell_is_not() {
        let none = missing(&[Need::Program("sh"), Need::Program("no-such-program-here")]);
        assert_eq!(none.as_deref(), Some("the program no-such-program-here"));
        assert_eq!(missing(&[Need::Program("sh")]), None);
    }
}
