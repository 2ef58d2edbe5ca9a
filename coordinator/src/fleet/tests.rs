//! The link over loopback TCP, within one process: agents join, scan, restart, renew and are shut out, and whoever speaks nonsense at the
//! port, or reports what cannot be, changes nothing. Only loopback is ever dialled.

mod fixture;
mod lifecycle;
mod nonsense;
mod reports;
