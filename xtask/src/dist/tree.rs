//! The files of an installation, laid out below a folder as they will lie below `/`.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{Release, compress, folder, third_party};
use crate::{
    command::{command, say},
    workspace,
};

/// From below the workspace to below `/`. What ends in `/` is a folder, all of whose files of that kind go.
const SHIPPED: &[(&str, &str)] = &[
    (
        "packaging/tcpstall.service",
        "usr/lib/systemd/system/tcpstall.service",
    ),
    (
        "packaging/tcpstall-hooks.service",
        "usr/lib/systemd/system/tcpstall-hooks.service",
    ),
    (
        "packaging/sysusers.conf",
        "usr/lib/sysusers.d/tcpstall.conf",
    ),
    (
        "packaging/tmpfiles.conf",
        "usr/lib/tmpfiles.d/tcpstall.conf",
    ),
    ("packaging/tcpstall.toml", "etc/tcpstall/tcpstall.toml"),
    (
        "packaging/prometheus/tcpstall.rules.yml",
        "usr/share/tcpstall/prometheus/tcpstall.rules.yml",
    ),
    (
        "packaging/prometheus/scrape.yml",
        "usr/share/tcpstall/prometheus/scrape.yml",
    ),
    (
        "packaging/prometheus/alertmanager.yml",
        "usr/share/tcpstall/prometheus/alertmanager.yml",
    ),
    (
        "packaging/grafana/tcpstall.json",
        "usr/share/tcpstall/grafana/tcpstall.json",
    ),
    (
        "packaging/kubernetes/daemonset.yaml",
        "usr/share/tcpstall/kubernetes/daemonset.yaml",
    ),
    ("packaging/copyright", "usr/share/doc/tcpstall/copyright"),
    ("LICENSE-APACHE", "usr/share/doc/tcpstall/LICENSE-APACHE"),
    ("LICENSE-MIT", "usr/share/doc/tcpstall/LICENSE-MIT"),
    ("README.md", "usr/share/doc/tcpstall/README.md"),
    // What the README and the alerts point to.
    ("docs/", "usr/share/doc/tcpstall/docs"),
    ("docs/runbooks/", "usr/share/doc/tcpstall/docs/runbooks"),
    (
        "packaging/hooks/route",
        "usr/share/doc/tcpstall/examples/route",
    ),
    (
        "packaging/hooks/bird",
        "usr/share/doc/tcpstall/examples/bird",
    ),
    // Compressed, as is usual.
    ("CHANGELOG.md", "usr/share/doc/tcpstall/changelog"),
    (
        "packaging/man/tcpstall.toml.5",
        "usr/share/man/man5/tcpstall.toml.5",
    ),
];

/// Shells, and where they look for completions. For zsh a package may have to say another place.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "usr/share/bash-completion/completions/tcpstall"),
    ("zsh", "usr/share/zsh/site-functions/_tcpstall"),
    ("fish", "usr/share/fish/vendor_completions.d/tcpstall.fish"),
];

/// Lay out everything; where it is.
pub(super) fn lay_out(release: &Release, tcpstall: &Path) -> Result<PathBuf> {
    say("Laying out what is installed");
    let tree = folder().join("root");
    // Of an earlier time.
    let _ = fs::remove_dir_all(&tree);
    let binary = put(tcpstall, &tree.join("usr/bin/tcpstall"))?;
    command("strip")
        .args(["--strip-unneeded", "--remove-section=.comment"])
        .arg(&binary)
        .run()?;
    for (from, to) in SHIPPED {
        ship(&workspace::root().join(from), &tree.join(to))?;
    }
    for (shell, to) in COMPLETIONS {
        let text = command(&binary).args(["completions", shell]).read()?;
        write(&tree.join(to), &text)?;
    }
    command(&binary)
        .args(["man", "--dir"])
        .arg(tree.join("usr/share/man/man1"))
        .run()?;
    let third_party = third_party::notices()?;
    write(
        &tree.join("usr/share/doc/tcpstall/third-party"),
        &third_party,
    )?;
    for file in files(&tree)? {
        if is_compressed(&file) {
            compress(&tree.join(file))?;
        }
    }
    deb_only(release)?;
    permissions(&tree, &release.epoch)?;
    Ok(tree)
}

/// Manual pages, and the long texts of the documentation.
fn is_compressed(file: &Path) -> bool {
    file.starts_with("usr/share/man")
        || ["changelog", "third-party"]
            .iter()
            .any(|name| file == Path::new("usr/share/doc/tcpstall").join(name))
}

/// What the package for Debian has besides.
fn deb_only(release: &Release) -> Result<()> {
    let changelog = folder().join("changelog.Debian");
    write(&changelog, &super::deb::changelog(release)?)?;
    compress(&changelog)
}

fn ship(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        return put(from, to).map(drop);
    }
    for entry in fs::read_dir(from)? {
        let file = entry?.path();
        if let Some(name) = file.file_name()
            && file.extension().is_some_and(|it| it == "md")
        {
            put(&file, &to.join(name))?;
        }
    }
    Ok(())
}

fn put(from: &Path, to: &Path) -> Result<PathBuf> {
    make_room(to)?;
    fs::copy(from, to)
        .with_context(|| format!("{} cannot be copied to {}", from.display(), to.display()))?;
    Ok(to.to_owned())
}

fn write(file: &Path, text: &str) -> Result<()> {
    make_room(file)?;
    fs::write(file, text).with_context(|| format!("{} cannot be written", file.display()))
}

fn make_room(file: &Path) -> Result<()> {
    let folder = file.parent().unwrap_or(file);
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))
}

/// Every file below a folder, relative to it, sorted.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let entries =
            fs::read_dir(&next).with_context(|| format!("{} cannot be read", next.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(relative) = path.strip_prefix(folder) {
                found.push(relative.to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The same whatever the umask and the clock of whoever builds.
fn permissions(tree: &Path, epoch: &str) -> Result<()> {
    for file in files(tree)? {
        let mode = if file.starts_with("usr/bin") {
            0o755
        } else {
            0o644
        };
        let path = tree.join(&file);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        for folder in path
            .ancestors()
            .skip(1)
            .take_while(|it| it.starts_with(tree))
        {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        }
    }
    command("find")
        .arg(tree)
        .args(["-exec", "touch", "--no-dereference"])
        .arg(format!("--date=@{epoch}"))
        .args(["{}", "+"])
        .quietly()
}
