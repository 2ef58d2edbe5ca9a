//! The portsweep agent: probes what the coordinator leases to it, and only what it may.

pub mod actors;
pub mod allow_file;
pub mod certificate;
pub mod cli;
pub mod clock;
pub mod dial;
pub mod enrol;
pub mod frames;
pub mod health;
pub mod identity;
pub mod limits;
pub mod privilege;
pub mod probe;
pub mod queue;
pub mod run;
pub mod scope;
