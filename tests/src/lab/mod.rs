//! The lab: a network that is built in code, so that a test reads as a story.
//!
//! ```no_run
//! # use portsweep_tests::lab::{self, Host};
//! # use std::time::Duration;
//! # fn story() -> anyhow::Result<()> {
//! let scanner = Host::new("scanner")?;
//! let mut target = Host::new("target")?;
//! lab::wire((&scanner, &["192.0.2.1/24"]), (&target, &["192.0.2.11/24"]))?;
//! target.listen("192.0.2.11:22")?;
//! target.silence_ports("192.0.2.11", "8000-8003")?;
//!
//! let run = scanner
//!     .command(lab::bin()?)
//!     .args(["-p", "22,80,8000", "192.0.2.11"])
//!     .run(Duration::from_secs(30))?;
//! assert_eq!(run.stdout, "192.0.2.11:22\n");
//! assert_eq!(target.counted_at("192.0.2.11")?.tcp, 3);
//! # Ok(())
//! # }
//! ```
//!
//! Every host is a network namespace without a name and without a default route. It lives as long
//! as its [`Host`] does: the kernel takes it away with the last descriptor, so nothing is left
//! behind by a panic, and not by a `kill -9` either. Only addresses that are set aside for
//! documentation (RFC 5737, RFC 3849) are accepted: what would escape from a lab has nowhere to go.

mod binary;
mod host;
mod os;
mod packets;
mod process;
mod require;
pub mod simulated;
#[cfg(test)]
mod tests;

pub use binary::{agent_bin, bin};
pub use host::{Host, wire};
pub use os::Usage;
pub use packets::Counted;
pub use process::{Command, Finished, Process};
pub use require::{Need, missing, program, trial};
