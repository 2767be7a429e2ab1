//! bpf-linker, and the LLVM that it loads when it runs.
//!
//! bpf-linker takes the first `libLLVM*` of the first folder on `LD_LIBRARY_PATH`. A system's
//! folder may hold several versions, so it is given a folder with a link to the right one alone:
//! preferably the very library of the compiler, because an older one need not understand what the
//! compiler wrote.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{
    command::{cargo, command, find, say},
    toolchain::{Compiler, rustup_toolchains},
    workspace,
};

const VERSION: &str = "0.10.3";

/// The major version of LLVM that this bpf-linker is made for.
pub(crate) const LLVM: u32 = 22;

/// Find bpf-linker, or install it for this project alone.
pub(crate) fn bpf_linker() -> Result<PathBuf> {
    let folder = workspace::tool("bpf-linker", VERSION)?;
    let installed = folder.join("bin/bpf-linker");
    if installed.is_file() {
        return Ok(installed);
    }
    if let Some(found) = find("bpf-linker") {
        let version = command(&found).arg("--version").ask();
        if version.is_some_and(|text| text.split_whitespace().nth(1) == Some(VERSION)) {
            return Ok(found);
        }
    }
    say(&format!(
        "Installing bpf-linker {VERSION} into {} (about a minute)",
        folder.display()
    ));
    install("bpf-linker", VERSION, &folder)?;
    Ok(installed)
}

/// Build a tool of crates.io into a folder of its own, as its authors tested it.
pub(crate) fn install(name: &str, version: &str, folder: &Path) -> Result<()> {
    cargo()
        .args(["install", name, "--version", version, "--locked", "--root"])
        .arg(folder)
        .run()
        .with_context(|| format!("{name} {version} could not be built from crates.io"))
}

/// A folder that holds the LLVM for this compiler and nothing else.
pub(crate) fn llvm_folder(compiler: &Compiler) -> Result<PathBuf> {
    let library = llvm_folders(&compiler.sysroot)
        .into_iter()
        .chain(rustup_toolchains().iter().map(|sysroot| sysroot.join("lib")))
        .find_map(|folder| llvm_in(&folder))
        .with_context(|| {
            format!(
                "bpf-linker needs the shared library of LLVM {LLVM} (`libLLVM.so.{LLVM}.…`), and it \
                 is in no toolchain: install it (Debian: `apt-get install libllvm{LLVM}`), or a \
                 toolchain of rustup, which brings it along"
            )
        })?;
    let folder = workspace::kernel_target().join("llvm");
    let link = folder.join(format!("libLLVM.so.{LLVM}"));
    if fs::read_link(&link).is_ok_and(|present| present == library) {
        return Ok(folder);
    }
    let _ = fs::remove_file(&link);
    fs::create_dir_all(&folder)
        .and_then(|()| symlink(&library, &link))
        .with_context(|| format!("cannot write {}", link.display()))?;
    Ok(folder)
}

/// Where a toolchain or a distribution keeps its LLVM, the likeliest first.
fn llvm_folders(sysroot: &Path) -> Vec<PathBuf> {
    let arch = std::env::consts::ARCH;
    [
        "lib".to_owned(),
        format!("lib/{arch}-linux-gnu"),
        "lib64".to_owned(),
        format!("lib/llvm-{LLVM}/lib"),
        format!("lib/llvm{LLVM}/lib"),
        format!("lib64/llvm{LLVM}/lib64"),
    ]
    .map(|folder| sysroot.join(folder))
    .into()
}

fn llvm_in(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|file| {
            file.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(is_llvm)
        })
}

/// `libLLVM.so.22.1` and `libLLVM.so.22.1-rust-1.95.0-stable`; rustup's `libLLVM-22-….so` is a
/// script for linkers and cannot be loaded.
fn is_llvm(name: &str) -> bool {
    let version = name.strip_prefix("libLLVM.so.");
    let major = version.and_then(|version| version.split(['.', '-']).next());
    major.is_some_and(|major| major == LLVM.to_string())
}

#[cfg(test)]
mod tests {
    use super::is_llvm;

    #[test]
    fn only_the_shared_library_of_the_right_version_is_taken() {
        assert!(is_llvm("libLLVM.so.22.1"));
        assert!(is_llvm("libLLVM.so.22.1-rust-1.95.0-stable"));
        assert!(!is_llvm("libLLVM.so.21.1"));
        assert!(!is_llvm("libLLVM-14.so.1"));
        assert!(!is_llvm("libLLVM-22-rust-1.95.0-stable.so"));
        assert!(!is_llvm("libLLVMCore.so.22.1"));
    }
}
