//! The agent's decisions, as pure and synchronous state machines.
//!
//! # The contract of a machine
//! The same in both cores; shells, simulation and tests obey it.
//! 1. `handle_input(now, input)` or `handle_timeout(now)`: one mutation. `now` never goes back.
//! 2. `poll_output()` until it gives `None`: a complete drain. What comes out is carried out in that order.
//! 3. `poll_timeout()`: arm one timer for that moment, in place of the one before. After `handle_timeout(now)` and a complete
//!    drain it is later than `now`.
//! 4. A timer may be late, never early; a spurious `handle_timeout` does no harm.
//!
//! A machine reads no clock, draws no random number, does no I/O.

pub mod agent;
pub mod attempt;
pub mod backoff;
pub mod host_table;
pub mod lease;
pub mod orders;
pub mod overall;
pub mod pacer;
pub mod packets;
pub mod right;
pub mod round_trip;
pub mod simulated;
pub mod speed;
pub mod unacknowledged;
pub mod window;
