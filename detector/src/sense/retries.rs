//! How long this host's kernel keeps trying, as it is set.

use std::{fs, path::Path, str::FromStr, time::Duration};

use crate::model::Retries;

/// Where the kernel shows the settings of the reader's own network namespace.
const FOLDER: &str = "/proc/sys/net/ipv4";

/// Reads the settings of the daemon's network namespace; what cannot be read is taken as the
/// kernel's default, which is what it is on nearly every host. `hz` is the ticks in a second.
pub fn read(hz: u64) -> Retries {
    from(Path::new(FOLDER), hz)
}

fn from(folder: &Path, hz: u64) -> Retries {
    let usual = Retries::default();
    Retries {
        data: number(folder, "tcp_retries2").unwrap_or(usual.data),
        orphan: number(folder, "tcp_orphan_retries").unwrap_or(usual.orphan),
        // Since 6.15 only; before, it is fixed.
        longest: number(folder, "tcp_rto_max_ms").map_or(usual.longest, Duration::from_millis),
        jiffy: Duration::from_nanos(1_000_000_000 / hz.max(1)),
    }
}

fn number<T: FromStr>(folder: &Path, name: &str) -> Option<T> {
    let text = fs::read_to_string(folder.join(name)).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_read_and_what_is_missing_is_as_usual() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(from(folder.path(), 250), Retries::default());
        let write = |name, text| fs::write(folder.path().join(name), text).expect("a file");
        write("tcp_retries2", "8\n");
        write("tcp_orphan_retries", "no number\n");
        write("tcp_rto_max_ms", "60000\n");
        let expected = Retries {
            data: 8,
            longest: Duration::from_secs(60),
            ..Retries::default()
        };
        assert_eq!(from(folder.path(), 250), expected);
    }
}
