//! portsweep: a port and host scanner for one machine or a fleet. This crate is the command line, the coordinator with its
//! store, and the reports; it embeds the agent for scans from here.

pub mod actors;
pub mod api;
pub mod cli;
pub mod client;
pub mod config;
pub mod doctor;
pub mod fleet;
pub mod maps;
pub mod report;
pub mod scan;
pub mod scans;
pub mod serve;
pub mod state;
pub mod store;
pub mod web;
