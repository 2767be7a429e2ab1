//! `tcpstall` detects TCP connections that are established but make no progress, and names the
//! upstream at fault.
//!
//! In the order in which data flows:

pub mod act;
pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod engine;
pub mod forecast;
pub mod gate;
pub mod hooks;
pub mod incident;
pub mod model;
pub mod record;
pub mod sense;
pub mod serve;
pub mod state_dir;
pub mod sys;
pub mod time;
