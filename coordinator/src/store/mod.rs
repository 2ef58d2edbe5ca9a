//! Where stores live: the thread that alone writes to one.

pub mod sqlite;
pub mod thread;
