//! Namespaces of laboratories whose process was killed before it could clean up.

use std::{fs, path::Path};

use crate::namespace::{FOLDER, delete};

/// Prefix of every namespace of the laboratory; the process id follows.
pub(crate) const PREFIX: &str = "ts-";

/// Removes them.
pub(crate) fn remove() {
    // Somebody else may be removing the same ones just now.
    let _ = delete(find().into_iter());
}

/// Names of namespaces that belong to a process which is no more.
fn find() -> Vec<String> {
    let Ok(entries) = fs::read_dir(FOLDER) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| owner(name).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()))
        .collect()
}

/// The process id in a name such as `ts-4711-0-host`.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn only_our_names_have_an_owner() {
        assert_eq!(owner("ts-4711-0-host"), Some(4711));
        assert_eq!(owner("ts-host"), None);
        assert_eq!(owner("vpn-12"), None);
    }
}
