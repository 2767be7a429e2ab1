//! `tcpstall` detects TCP connections that are established but make no progress, and names the
//! upstream at fault.
//!
//! In the order in which data flows:

pub mod time;
pub mod model;
pub mod api;
pub mod config;
pub mod engine;
pub mod sense;
pub mod clock;
pub mod serve;
pub mod daemon;
pub mod sys;
pub mod cli;
