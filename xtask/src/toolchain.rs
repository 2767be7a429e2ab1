//! Which compiler turns the kernel programs into eBPF, and how to get one.
//!
//! eBPF needs `core` built from source, so the compiler must come with the source of the standard
//! library, and its LLVM must be the one that bpf-linker speaks. Both a toolchain of rustup and
//! the compiler of the distribution will do. They are called by their paths: the user's default
//! toolchain is neither changed nor needed.
//!
//! **Invariant:** what to do next is decided by [`next`] from [`Facts`] alone.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

use crate::{
    command::{command, find, say, warn},
    linker, packages,
};

/// The oldest compiler that the workspace allows (`rust-version` in `Cargo.toml`).
const OLDEST: (u32, u32) = (1, 95);

/// Debian's newest compiler, its cargo, and the source of the standard library.
const DEBIAN: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];

/// Debian's clippy of the same version; only `check` asks for it.
const DEBIAN_CLIPPY: &str = "rust-web-clippy";

/// A nightly whose LLVM is [`linker::LLVM`]: a date, so that it is the same compiler everywhere and
/// the user's own `nightly` is left alone.
const NIGHTLY: &str = "nightly-2026-05-20";

/// A compiler with the source of its standard library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compiler {
    /// Who installed it.
    pub(crate) origin: Origin,
    /// Its folder: `bin/rustc`, `bin/cargo` and `lib` are in it.
    pub(crate) sysroot: PathBuf,
    /// Its version, the first two numbers.
    pub(crate) release: (u32, u32),
    /// The major version of its LLVM.
    pub(crate) llvm: u32,
}

/// Who installed a compiler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// rustup, under this name.
    Rustup(String),
    /// The distribution.
    System,
}

/// What is known about this machine.
#[derive(Debug, Clone, Default)]
struct Facts {
    /// Compilers that have the source of the standard library, rustup's first.
    compilers: Vec<Compiler>,
    /// What may be asked for more.
    apt: Source,
    rustup: Source,
}

/// Somewhere compilers come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Source {
    /// Not on this machine, or without what we look for.
    #[default]
    Absent,
    /// There, but its list of packages must be fetched before it can be asked.
    Stale,
    /// It offers what we look for.
    Offers,
    /// It was asked, and that did not help.
    Failed,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Use(Compiler),
    AptUpdate,
    AptInstall,
    RustupInstall,
    GiveUp,
}

/// Decide what to do next.
///
/// In order; the first that applies wins:
/// 1. a compiler that will do is there: use it, rustup's nightlies before rustup's others before
///    the distribution's
/// 2. apt does not know yet what it offers: fetch its lists
/// 3. apt offers Debian's compiler: install it
/// 4. rustup is there: let it install a nightly
/// 5. otherwise a human must decide
fn next(facts: &Facts) -> Step {
    let usable = facts.compilers.iter().filter(|compiler| will_do(compiler));
    if let Some(compiler) = usable.min_by_key(|compiler| preference(&compiler.origin)) {
        return Step::Use(compiler.clone());
    }
    match (facts.apt, facts.rustup) {
        (Source::Stale, _) => Step::AptUpdate,
        (Source::Offers, _) => Step::AptInstall,
        (_, Source::Offers) => Step::RustupInstall,
        _ => Step::GiveUp,
    }
}

fn will_do(compiler: &Compiler) -> bool {
    compiler.release >= OLDEST && compiler.llvm == linker::LLVM
}

fn preference(origin: &Origin) -> u8 {
    match origin {
        Origin::Rustup(name) if name.starts_with("nightly") => 0,
        Origin::Rustup(_) => 1,
        Origin::System => 2,
    }
}

/// Find a compiler for the kernel programs, or install one.
pub(crate) fn ebpf_compiler() -> Result<Compiler> {
    let mut facts = look();
    loop {
        match next(&facts) {
            Step::Use(compiler) => return Ok(compiler),
            Step::AptUpdate => {
                say("No compiler for eBPF yet: asking apt what it has");
                let updated = attempt(packages::apt_update());
                let offers = updated && DEBIAN.iter().all(|name| packages::apt_offers(name));
                facts.apt = if offers {
                    Source::Offers
                } else {
                    Source::Failed
                };
            }
            Step::AptInstall => {
                say(
                    "Installing Debian's compiler for eBPF (fetches 150 MB; it lives beside any rustup)",
                );
                attempt(packages::apt_install(DEBIAN));
                facts.apt = Source::Failed;
                facts.compilers = compilers();
            }
            Step::RustupInstall => {
                say(&format!(
                    "Installing {NIGHTLY} for eBPF (your default toolchain stays as it is)"
                ));
                attempt(rustup_install().run());
                facts.rustup = Source::Failed;
                facts.compilers = compilers();
            }
            Step::GiveUp => bail!("{}", advice(&facts)),
        }
    }
}

/// A failed attempt is not the end: there may be another way.
fn attempt(outcome: Result<()>) -> bool {
    if let Err(error) = &outcome {
        warn(&format!("{error:#}"));
    }
    outcome.is_ok()
}

fn rustup_install() -> crate::command::Invocation {
    command("rustup")
        .args([
            "toolchain",
            "install",
            NIGHTLY,
            "--profile",
            "minimal",
            "--no-self-update",
        ])
        .args(["--component", "rust-src", "--component", "clippy"])
}

fn advice(facts: &Facts) -> String {
    let mut advice = format!(
        "no compiler for eBPF: needed is rustc {}.{} or newer with LLVM {} and the source of its \
         standard library. Run one of these, then this again:\n  \
         rustup toolchain install {NIGHTLY} --profile minimal --component rust-src\n  \
         apt-get update && apt-get install --no-install-recommends {}   (Debian 12)",
        OLDEST.0,
        OLDEST.1,
        linker::LLVM,
        DEBIAN.join(" "),
    );
    for unfit in &facts.compilers {
        advice.push_str(&format!(
            "\nFound, but unfit: {} is rustc {}.{} with LLVM {}",
            unfit.rustc().display(),
            unfit.release.0,
            unfit.release.1,
            unfit.llvm,
        ));
    }
    advice
}

fn look() -> Facts {
    Facts {
        compilers: compilers(),
        apt: if packages::has_apt() {
            Source::Stale
        } else {
            Source::Absent
        },
        rustup: if find("rustup").is_some() {
            Source::Offers
        } else {
            Source::Absent
        },
    }
}

/// Every compiler on this machine that has the source of its standard library.
fn compilers() -> Vec<Compiler> {
    let rustup = rustup_toolchains().into_iter().map(|sysroot| {
        let name = sysroot
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        (Origin::Rustup(name), sysroot)
    });
    rustup
        .chain([(Origin::System, PathBuf::from("/usr"))])
        .filter_map(|(origin, sysroot)| Compiler::at(origin, sysroot))
        .collect()
}

/// The folders of rustup's toolchains; reading them is faster than asking rustup.
pub(crate) fn rustup_toolchains() -> Vec<PathBuf> {
    let home = env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".rustup")));
    let entries = home.and_then(|home| fs::read_dir(home.join("toolchains")).ok());
    let mut folders: Vec<_> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    folders.sort();
    folders
}

impl Compiler {
    fn at(origin: Origin, sysroot: PathBuf) -> Option<Self> {
        let source = sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs");
        let cargo = sysroot.join("bin/cargo");
        if !source.is_file() || !cargo.is_file() {
            return None;
        }
        let version = command(sysroot.join("bin/rustc")).arg("-vV").ask()?;
        let (release, llvm) = versions(&version)?;
        Some(Self {
            origin,
            sysroot,
            release,
            llvm,
        })
    }

    /// The compiler.
    pub(crate) fn rustc(&self) -> PathBuf {
        self.sysroot.join("bin/rustc")
    }

    /// Its cargo.
    pub(crate) fn cargo(&self) -> PathBuf {
        self.sysroot.join("bin/cargo")
    }

    /// Where its standard library's source is.
    pub(crate) fn library(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib/src/rust")
    }

    /// Its clippy: found, or installed where that changes nothing else; `None` when it has none.
    pub(crate) fn clippy(&self) -> Option<PathBuf> {
        let clippy = self.sysroot.join("bin/cargo-clippy");
        let driver = self.sysroot.join("bin/clippy-driver");
        let there = |file: &Path| file.is_file();
        if !there(&driver) && self.origin == Origin::System && packages::has_apt() {
            say("Installing clippy for Debian's compiler, to check the kernel programs");
            attempt(packages::apt_update().and_then(|()| packages::apt_install(&[DEBIAN_CLIPPY])));
        }
        (there(&driver) && there(&clippy)).then_some(clippy)
    }
}

/// The compiler's version and its LLVM's, from `rustc -vV`.
fn versions(text: &str) -> Option<((u32, u32), u32)> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let mut release = field("release: ")?.split('.');
    let release = (release.next()?.parse().ok()?, release.next()?.parse().ok()?);
    let llvm = field("LLVM version: ")?.split('.').next()?.parse().ok()?;
    Some((release, llvm))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rustup(name: &str, llvm: u32) -> Compiler {
        let origin = Origin::Rustup(name.to_owned());
        Compiler {
            origin,
            sysroot: name.into(),
            release: (1, 97),
            llvm,
        }
    }

    fn system(release: (u32, u32), llvm: u32) -> Compiler {
        Compiler {
            origin: Origin::System,
            sysroot: "/usr".into(),
            release,
            llvm,
        }
    }

    fn facts(compilers: Vec<Compiler>, apt: Source, rustup: Source) -> Facts {
        Facts {
            compilers,
            apt,
            rustup,
        }
    }

    #[test]
    fn a_compiler_that_is_there_is_used_and_nothing_installed() {
        let stable = rustup("stable-x86_64-unknown-linux-gnu", linker::LLVM);
        let nightly = rustup("nightly-x86_64-unknown-linux-gnu", linker::LLVM);
        let debian = system((1, 96), linker::LLVM);
        let choice = |compilers: &[&Compiler]| {
            let compilers = compilers.iter().map(|&compiler| compiler.clone()).collect();
            next(&facts(compilers, Source::Stale, Source::Offers))
        };
        assert_eq!(choice(&[&debian]), Step::Use(debian.clone()));
        assert_eq!(choice(&[&stable, &debian]), Step::Use(stable.clone()));
        assert_eq!(choice(&[&stable, &nightly, &debian]), Step::Use(nightly));
    }

    #[test]
    fn a_compiler_that_the_linker_cannot_read_is_not_used() {
        let unfit = vec![rustup("nightly", linker::LLVM + 1), system((1, 85), 19)];
        assert_eq!(
            next(&facts(unfit, Source::Failed, Source::Failed)),
            Step::GiveUp
        );
        let too_old = vec![system((1, 94), linker::LLVM)];
        assert_eq!(
            next(&facts(too_old, Source::Failed, Source::Failed)),
            Step::GiveUp
        );
    }

    #[test]
    fn missing_compilers_come_from_apt_then_from_rustup() {
        let step = |apt, rustup| next(&facts(Vec::new(), apt, rustup));
        assert_eq!(step(Source::Stale, Source::Offers), Step::AptUpdate);
        assert_eq!(step(Source::Offers, Source::Offers), Step::AptInstall);
        assert_eq!(step(Source::Failed, Source::Offers), Step::RustupInstall);
        assert_eq!(step(Source::Absent, Source::Offers), Step::RustupInstall);
        assert_eq!(step(Source::Failed, Source::Failed), Step::GiveUp);
        assert_eq!(step(Source::Absent, Source::Absent), Step::GiveUp);
    }

    #[test]
    fn giving_up_says_what_to_type_and_what_was_found() {
        let advice = advice(&facts(
            vec![system((1, 85), 19)],
            Source::Failed,
            Source::Failed,
        ));
        assert!(
            advice.contains("rustup toolchain install nightly-"),
            "{advice}"
        );
        assert!(
            advice.contains("rustc-web cargo-web rust-web-src"),
            "{advice}"
        );
        assert!(
            advice.contains("/usr/bin/rustc is rustc 1.85 with LLVM 19"),
            "{advice}"
        );
    }

    #[test]
    fn versions_are_read_from_the_compilers_own_words() {
        let text = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nbinary: rustc\n\
                    release: 1.97.0-nightly\nLLVM version: 22.1.4\n";
        assert_eq!(versions(text), Some(((1, 97), 22)));
        assert_eq!(versions("error: unknown"), None);
    }
}
