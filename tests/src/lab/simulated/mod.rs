//! A simulated network: a thread at the far end of a wire that answers SYNs and echo requests for a whole prefix, as hosts would
//! whose truth is drawn from a seed.
//!
//! The kernel here can neither delay nor (beyond a packet filter's dice) lose packets, and a namespace for each of 65,536 hosts is
//! out of reach. So the far end is read as raw frames (AF_PACKET) and answered by a model:
//!
//! - [`World`]: what the network is like, read from TOML: kinds of hosts, each with its share of the addresses.
//! - [`HostTruth`]: what is true of an address; a pure function of world and address, so that any number of hosts costs no memory.
//! - [`Network`]: frames in, frames with a time to send them out; pure, its clock is an argument.
//! - [`Simulated`]: the thread with the socket. It must keep up with the scanner: what it lost itself is in its [`Account`], and
//!   whoever draws conclusions from a scan looks there first ([`Account::expect_nothing_missed`]).
//! - [`load`]: how much the machine at hand lets it take.
//! - [`Score`]: what was found held against what is true.

mod account;
mod draw;
mod frame;
mod hash;
mod load;
mod network;
mod queue;
mod running;
mod score;
mod socket;
#[cfg(test)]
mod tests;
mod truth;
mod world;

pub use account::{Account, BIN, Received};
pub use load::{Loaded, load};
pub use network::{Limits, Network};
pub use running::Simulated;
pub use score::{Asked, Score, Seen, Tally};
pub use truth::{HostTruth, PortTruth};
pub use world::{Closed, HostKind, Odd, World};
