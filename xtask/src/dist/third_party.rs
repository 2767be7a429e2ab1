//! What the program is linked with, and the notices that have to come along with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{command::cargo, workspace};

/// Files of a crate that have to be handed on begin like this.
const NOTICES: &[&str] = &["licen", "copying", "copyright", "notice", "unlicense"];

/// Who links what: a package of ours, and the target it is built for.
const LINKED: &[(&str, &str)] = &[
    ("detector", "unknown-linux-gnu"),
    // The programs in the kernel, which the daemon carries.
    ("detector-ebpf", "bpfel-unknown-none"),
];

/// A crate, by name and version.
pub(super) type Crates = BTreeMap<(String, String), Value>;

/// Every crate with its license, and the text of each notice once.
pub(super) fn notices() -> Result<String> {
    let mut crates = Crates::new();
    for (package, target) in LINKED {
        let target = match *target {
            "unknown-linux-gnu" => format!("{}-{target}", env::consts::ARCH),
            other => other.to_owned(),
        };
        crates.extend(linked_with(&metadata(&target)?, package)?);
    }
    let mut page = String::from("tcpstall is linked with these crates of crates.io.\n");
    let mut told = BTreeMap::new();
    for ((name, version), package) in &crates {
        let license = package["license"].as_str().unwrap_or("see below");
        page.push_str(&format!("\n== {name} {version}: {license}\n"));
        if let Some(repository) = package["repository"].as_str() {
            page.push_str(&format!("{repository}\n"));
        }
        for file in notices_of(package)? {
            let text = String::from_utf8_lossy(&fs::read(&file)?).into_owned();
            let of = file.file_name().unwrap_or_default().display().to_string();
            let first = told
                .entry(text.split_whitespace().collect::<Vec<_>>().join(" "))
                .or_insert_with(|| format!("{of} of {name} {version}"));
            if *first == format!("{of} of {name} {version}") {
                page.push_str(&format!("\n-- {of}\n{}\n", text.trim_end()));
            } else {
                page.push_str(&format!("-- {of}: the same as {first}\n"));
            }
        }
    }
    Ok(page)
}

fn metadata(target: &str) -> Result<Value> {
    let text = cargo()
        .args(["metadata", "--locked", "--format-version", "1"])
        .args(["--all-features", "--filter-platform", target])
        .folder(workspace::root())
        .read()?;
    serde_json::from_str(&text).context("what cargo says of the dependencies is not understood")
}

/// The crates of crates.io that end up in a package: neither its tests nor what only builds it.
pub(super) fn linked_with(metadata: &Value, root: &str) -> Result<Crates> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let by_id = |list: Vec<Value>| -> BTreeMap<String, Value> {
        let id = |it: Value| Some((it["id"].as_str()?.to_owned(), it));
        list.into_iter().filter_map(id).collect()
    };
    let packages = by_id(list(&metadata["packages"]));
    let nodes = by_id(list(&metadata["resolve"]["nodes"]));
    let root = packages.iter().find(|(_, it)| it["name"] == root);
    let (root, _) = root.context("cargo does not know our own package")?;
    let mut found = BTreeSet::new();
    let mut next = vec![root.clone()];
    while let Some(id) = next.pop() {
        if !found.insert(id.clone()) {
            continue;
        }
        for dependency in list(&nodes[&id]["deps"]) {
            let is_normal = |kind: &Value| kind["kind"].is_null();
            let id = dependency["pkg"].as_str().unwrap_or_default().to_owned();
            if list(&dependency["dep_kinds"]).iter().any(is_normal)
                && packages.get(&id).is_some_and(|it| !builds_only(it))
            {
                next.push(id);
            }
        }
    }
    let named = found.into_iter().filter_map(|id| {
        let package = packages.get(&id)?.clone();
        let of_a_registry = !package["source"].is_null();
        let text = |key: &str| Some(package[key].as_str()?.to_owned());
        let key = (text("name")?, text("version")?);
        of_a_registry.then_some((key, package))
    });
    Ok(named.collect())
}

/// A macro runs in the compiler.
fn builds_only(package: &Value) -> bool {
    let targets = package["targets"].as_array();
    targets.is_some_and(|it| it.iter().any(|target| target["kind"][0] == "proc-macro"))
}

fn notices_of(package: &Value) -> Result<Vec<PathBuf>> {
    let manifest = package["manifest_path"].as_str().unwrap_or_default();
    let folder = Path::new(manifest).parent().unwrap_or(Path::new(""));
    let mut found = Vec::new();
    let entries =
        fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        if path.is_file() && NOTICES.iter().any(|it| name.starts_with(it)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
