//! What coordinators and agents agree on: target and port syntax, plan and order, messages and their codec, states and reasons.
//!
//! No I/O and no clock in here. What is stored or sent has golden bytes in `testdata/` or in its module's tests.

pub mod address;
pub mod base64;
pub mod chunk;
pub mod codec;
pub mod covers;
pub mod enrol;
pub mod id;
pub mod message;
pub mod order;
pub mod plan;
pub mod port;
pub mod probe;
pub mod quote;
pub mod range_set;
pub mod rate;
pub mod time;
pub mod token;
pub mod version;
