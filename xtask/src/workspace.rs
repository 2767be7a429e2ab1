//! Where things are: the sources, what is built from them, and what was installed for that.

use std::{
    env,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use anyhow::{Context as _, Result};

/// The folder that holds the workspace's `Cargo.toml`.
pub(crate) fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        // Asked at run time: two copies of the workspace that share a folder of build results
        // share this program as well.
        let xtask = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let xtask = xtask.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        xtask.parent().map(Path::to_owned).unwrap_or(xtask)
    });
    &ROOT
}

/// Where cargo puts what it builds for the host.
pub(crate) fn target() -> PathBuf {
    // Relative to the folder in which cargo was started, as cargo itself reads it.
    let chosen = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let chosen = chosen.and_then(|folder| std::path::absolute(folder).ok());
    chosen.unwrap_or_else(|| root().join("target"))
}

/// Where the kernel programs are built. Always the same place: `detector/build.rs` looks there.
pub(crate) fn kernel_target() -> PathBuf {
    root().join("target/ebpf")
}

/// Where tools live that are installed for this project alone, by name and version.
pub(crate) fn tool(name: &str, version: &str) -> Result<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME")
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set: set one, the tools that are installed go there")?;
    Ok(cache.join("tcpstall").join(format!("{name}-{version}")))
}
