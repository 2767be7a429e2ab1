//! Puts the kernel programs and the revision into the daemon.
//!
//! **Invariant:** it builds nothing itself: finding a compiler for eBPF is `cargo xtask`'s work.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

fn main() -> ExitCode {
    println!("cargo:rustc-env=TCPSTALL_REVISION={}", revision());
    match carry_kernel_programs() {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            println!("cargo:warning={sentence}");
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

/// Copy the object to where `include_bytes_aligned!` finds it.
fn carry_kernel_programs() -> Result<(), String> {
    println!("cargo:rerun-if-env-changed=TCPSTALL_EBPF_OBJECT");
    let object = env::var_os("TCPSTALL_EBPF_OBJECT").map_or_else(
        || workspace().join("target/ebpf/tcpstall.bpf.o"),
        PathBuf::from,
    );
    println!("cargo:rerun-if-changed={}", object.display());
    if !object.is_file() {
        return Err(format!(
            "{} is not there, the kernel programs are not built: run `cargo xtask build`, which \
             also finds or installs the compiler they need",
            object.display()
        ));
    }
    let folder = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: cargo alone runs this")?;
    let copy = PathBuf::from(folder).join("tcpstall.bpf.o");
    fs::copy(&object, &copy).map(drop).map_err(|error| {
        format!(
            "cannot copy {} to {}: {error}",
            object.display(),
            copy.display()
        )
    })
}

/// The commit that this is built from, or `unknown` outside a repository or without git.
fn revision() -> String {
    // Asked first: the sources may lie, without a history of their own, in another repository.
    if !workspace().join(".git").exists() {
        return "unknown".to_owned();
    }
    // HEAD changes with a checkout, and what it points to with a commit; each is where git says.
    let head = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "packed-refs"].into_iter().chain(head.as_deref()) {
        let file = git(&["rev-parse", "--git-path", name]).map(|path| workspace().join(path));
        // Naming a file that is not there would run this at every build.
        if let Some(file) = file.filter(|file| file.is_file()) {
            println!("cargo:rerun-if-changed={}", file.display());
        }
    }
    git(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "unknown".to_owned())
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(args)
        .current_dir(workspace())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// The folder above the one in which cargo runs this.
fn workspace() -> PathBuf {
    env::var_os("CARGO_MANIFEST_DIR").map_or_else(
        || "..".into(),
        |detector| PathBuf::from(detector).join(".."),
    )
}
