//! Becoming root, and only for the programs that need it.

use std::{env, ffi::OsString, os::unix::fs::MetadataExt as _};

use anyhow::{Result, bail};

use crate::command::{Invocation, find};

/// The variables that a user expects to reach a program, root or not.
const KEPT: &[&str] = &[
    "TERM",
    "COLORTERM",
    "NO_COLOR",
    "CLICOLOR_FORCE",
    "RUST_BACKTRACE",
    "RUST_LOG",
];

/// The same program as root: unchanged when we are, through `sudo` otherwise.
pub(crate) fn as_root(invocation: Invocation) -> Result<Invocation> {
    if is_root() {
        return Ok(invocation);
    }
    if find("sudo").is_none() {
        bail!("this step needs root, and there is no `sudo`: run the same command as root");
    }
    Ok(invocation.through_sudo(&kept()))
}

fn kept() -> Vec<(String, OsString)> {
    env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value)))
        .filter(|(key, _)| KEPT.contains(&key.as_str()) || key.starts_with("TCPSTALL_"))
        .collect()
}

fn is_root() -> bool {
    // A process' own folder belongs to its effective user.
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}
