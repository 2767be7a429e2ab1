//! The kernel programs: from `detector-ebpf` to one object that the daemon carries in itself.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{
    command::{Invocation, command},
    linker, toolchain,
    toolchain::Compiler,
    workspace,
};

/// eBPF in the byte order of this machine.
const TARGET: &str = if cfg!(target_endian = "little") {
    "bpfel-unknown-none"
} else {
    "bpfeb-unknown-none"
};

/// Variables that choose another compiler or other flags than the ones meant here.
const CHOOSERS: &[&str] = &[
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

/// Build the kernel programs; the object is touched only when it changes.
pub(crate) fn build() -> Result<()> {
    let toolset = Toolset::find()?;
    toolset
        .cargo("build")
        .run()
        .context("the kernel programs (detector-ebpf) do not build")?;
    let built = workspace::kernel_target()
        .join(TARGET)
        .join("bpf/tcpstall-ebpf");
    publish(&built, &workspace::kernel_target().join("tcpstall.bpf.o"))
}

/// What building the kernel programs takes.
pub(crate) struct Toolset {
    compiler: Compiler,
    linker: PathBuf,
    llvm: PathBuf,
}

impl Toolset {
    /// Find all of it, or install what is missing.
    pub(crate) fn find() -> Result<Self> {
        let compiler = toolchain::ebpf_compiler()?;
        let linker = linker::bpf_linker()?;
        let llvm = linker::llvm_folder(&compiler)?;
        Ok(Self {
            compiler,
            linker,
            llvm,
        })
    }

    /// The compiler's clippy, when it has one.
    pub(crate) fn clippy(&self) -> Option<PathBuf> {
        self.compiler.clippy()
    }

    /// A command of the compiler's cargo for the kernel programs.
    pub(crate) fn cargo(&self, subcommand: &str) -> Invocation {
        self.invoke(command(self.compiler.cargo()).arg(subcommand))
    }

    /// The same for a program that calls that cargo.
    pub(crate) fn invoke(&self, invocation: Invocation) -> Invocation {
        let linker = format!(
            "CARGO_TARGET_{}_LINKER",
            TARGET.replace('-', "_").to_uppercase()
        );
        invocation
            .unset(CHOOSERS)
            // `-Z build-std` is for nightlies; with the matching source it works in all.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO", self.compiler.cargo())
            .env("RUSTC", self.compiler.rustc())
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags())
            .env(&linker, &self.linker)
            .env("LD_LIBRARY_PATH", &self.llvm)
            .args([
                "--profile",
                "bpf",
                "-Z",
                "build-std=core",
                "--target",
                TARGET,
            ])
            .args(["--package", "detector-ebpf", "--features", "program"])
            .args(["--bin", "tcpstall-ebpf", "--target-dir"])
            .arg(workspace::kernel_target())
            .folder(workspace::root())
    }

    /// BTF, and no trace of where the sources were: the object is the same wherever it is built.
    fn flags(&self) -> OsString {
        let mut flags = OsString::from("-Cdebuginfo=2\u{1f}-Clink-arg=--btf");
        let library = self.compiler.library();
        let real_library = library.canonicalize().unwrap_or_else(|_| library.clone());
        let crates = cargo_home();
        for (from, to) in [
            (Some(library.as_path()), "/rust"),
            (Some(real_library.as_path()), "/rust"),
            (crates.as_deref(), "/cargo"),
            (Some(workspace::root()), "/tcpstall"),
        ] {
            if let Some(from) = from {
                flags.push("\u{1f}--remap-path-prefix=");
                flags.push(from);
                flags.push("=");
                flags.push(to);
            }
        }
        flags
    }
}

fn cargo_home() -> Option<PathBuf> {
    let chosen = env::var_os("CARGO_HOME").map(PathBuf::from);
    chosen.or_else(|| env::home_dir().map(|home| home.join(".cargo")))
}

/// Copy when it differs: an object with a new date would make cargo build the daemon again.
fn publish(from: &Path, to: &Path) -> Result<()> {
    let object =
        fs::read(from).with_context(|| format!("cargo did not leave {}", from.display()))?;
    if fs::read(to).is_ok_and(|present| present == object) {
        return Ok(());
    }
    fs::write(to, object).with_context(|| format!("cannot write {}", to.display()))
}
