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
    tool,
    toolchain::{Compiler, rustup_toolchains},
    workspace,
};

const VERSION: &str = "0.10.3";

/// The major version of LLVM that this bpf-linker is made for.
pub(crate) const LLVM: u32 = 22;

/// Find bpf-linker, or install it for this project alone.
pub(crate) fn bpf_linker() -> Result<PathBuf> {
    tool::cargo("bpf-linker", VERSION, &[])
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
