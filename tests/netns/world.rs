//! The network that the tests sweep, and the truth about it.
//!
//! One target host with several addresses: some answer pings, some do not; ports are open, refuse,
//! or are dropped without a word. `192.0.2.14` and `2001:db8::14` belong to nobody. `192.0.2.15` is
//! beside what is swept, and must not hear of it.

use std::path::Path;
use std::time::Duration;

use portsweep_tests::lab::{self, Finished, Host};
use serde_json::Value;
use tempfile::TempDir;

/// Longer than any sweep here takes, on a machine that does something else too.
pub(crate) const RUN_TIMEOUT: Duration = Duration::from_secs(60);

/// What an address does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Truth {
    pub(crate) address: &'static str,
    pub(crate) answers_ping: bool,
    /// Ports that accept.
    pub(crate) open: &'static [u16],
    /// What becomes of every other port.
    pub(crate) others: Others,
}

/// What a port without a listener does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Others {
    /// They refuse, but for those that are dropped.
    RefuseBut(&'static [u16]),
    /// Nothing is heard of them.
    Silent,
}

/// The IPv4 addresses, as `-ip 192.0.2.11-192.0.2.14` names them.
pub(crate) const V4: [Truth; 4] = [
    Truth { address: "192.0.2.11", answers_ping: true, open: &[22, 80], others: Others::RefuseBut(&[]) },
    Truth { address: "192.0.2.12", answers_ping: false, open: &[8080], others: Others::RefuseBut(&[9000, 9001]) },
    Truth { address: "192.0.2.13", answers_ping: false, open: &[], others: Others::Silent },
    Truth { address: "192.0.2.14", answers_ping: false, open: &[], others: Others::Silent },
];

/// The IPv6 addresses, as `2001:db8::11-2001:db8::14` names them.
pub(crate) const V6: [Truth; 4] = [
    Truth { address: "2001:db8::11", answers_ping: true, open: &[22], others: Others::RefuseBut(&[9000]) },
    Truth { address: "2001:db8::12", answers_ping: true, open: &[], others: Others::Silent },
    Truth { address: "2001:db8::13", answers_ping: false, open: &[], others: Others::RefuseBut(&[]) },
    Truth { address: "2001:db8::14", answers_ping: false, open: &[], others: Others::Silent },
];

/// The ports that are swept, and how they are written.
pub(crate) const PORTS: [u16; 6] = [22, 80, 443, 8080, 9000, 9001];
pub(crate) const PORTS_TEXT: &str = "22,80,443,8080,9000-9001";

/// The two hosts, and a directory for what the scanner writes.
pub(crate) struct World {
    pub(crate) scanner: Host,
    pub(crate) target: Host,
    pub(crate) directory: TempDir,
}

impl World {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let (scanner, mut target) = (Host::new("scanner")?, Host::new("target")?);
        lab::wire(
            (&scanner, &["192.0.2.1/24", "2001:db8::1/64"]),
            (
                &target,
                &[
                    "192.0.2.11/24",
                    "192.0.2.12/24",
                    "192.0.2.13/24",
                    "192.0.2.15/24",
                    "2001:db8::11/64",
                    "2001:db8::12/64",
                    "2001:db8::13/64",
                ],
            ),
        )?;
        for truth in V4.iter().chain(&V6).filter(|truth| !truth.address.ends_with("14")) {
            apply(truth, &mut target)?;
        }
        Ok(Self { scanner, target, directory: TempDir::new()? })
    }

    /// Runs portsweep in the scanner with `words` as its command line, to its end.
    pub(crate) fn portsweep(&self, words: &[&str]) -> anyhow::Result<Finished> {
        self.scanner
            .command(lab::bin()?)
            .args(words)
            .directory(self.directory.path())
            .env("COLUMNS", "80")
            .env("PORTSWEEP_STATE", self.directory.path().join("state"))
            .run(RUN_TIMEOUT)
    }

    /// The JSON in a file that was written with `-w`.
    pub(crate) fn result(&self, file: &str) -> anyhow::Result<Value> {
        read_result(&self.directory.path().join(file))
    }
}

pub(crate) fn read_result(path: &Path) -> anyhow::Result<Value> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

pub(crate) fn apply(truth: &Truth, target: &mut Host) -> anyhow::Result<()> {
    for port in truth.open {
        let at = std::net::SocketAddr::new(truth.address.parse()?, *port);
        target.listen(&at.to_string())?;
    }
    if !truth.answers_ping {
        target.silence_ping(truth.address)?;
    }
    match truth.others {
        Others::Silent => target.silence_ports(truth.address, "1-65535")?,
        Others::RefuseBut(silent) => {
            for port in silent {
                target.silence_ports(truth.address, &port.to_string())?;
            }
        }
    }
    Ok(())
}
