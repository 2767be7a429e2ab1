//! A machine: booted, watched, and ended when it hangs.

use std::{fs, path::Path, process::Child, thread, time::Duration};

use anyhow::{Context as _, Result};

use super::archive::Kernel;
use crate::command::command;

/// Begins the line that says how the tests ended.
pub(super) const ENDED: &str = "tcpstall-vm: ended with";
/// The longest that a machine may take.
const LIMIT: Duration = Duration::from_secs(900);
/// From one look to the next.
const LOOK: Duration = Duration::from_millis(200);
/// What a healthy kernel never says.
const TROUBLE: &[&str] = &[
    "BUG:",
    "WARNING:",
    "Oops",
    "rcu_sched self-detected stall",
    "soft lockup",
    "Kernel panic",
];

/// How it ended.
pub(super) enum End {
    /// The tests came to an end, with this code.
    Exit(i32),
    /// The kernel has complained.
    Trouble(String),
    /// Nothing was said of an end.
    Lost(String),
}

/// Boots a kernel into an image and waits for its end.
pub(super) fn boot(kernel: &Kernel, image: &Path, folder: &Path) -> Result<End> {
    let (log, output) = (folder.join("kernel.log"), folder.join("output.log"));
    for file in [&log, &output] {
        let _ = fs::remove_file(file);
    }
    let mut child = command("qemu-system-x86_64")
        .args([
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
            "-m",
            "768",
            "-smp",
            "2",
        ])
        .args([
            "-display",
            "none",
            "-no-reboot",
            "-nodefaults",
            "-no-user-config",
        ])
        .arg("-kernel")
        .arg(kernel.folder.join("vmlinuz"))
        .arg("-initrd")
        .arg(image)
        .args([
            "-append",
            "console=ttyS0 panic=-1 quiet loglevel=5 mitigations=off random.trust_cpu=on",
        ])
        .arg("-serial")
        .arg(format!("file:{}", log.display()))
        .arg("-serial")
        .arg(format!("file:{}", output.display()))
        .start()?;
    let in_time = wait(&mut child, &output)?;
    let log = fs::read_to_string(&log).unwrap_or_default();
    let output = fs::read(&output).context("the machine said nothing")?;
    Ok(read(&log, &String::from_utf8_lossy(&output), in_time))
}

/// Shows what the machine says until it is off; whether that was in time.
fn wait(child: &mut Child, output: &Path) -> Result<bool> {
    let mut shown = 0;
    let mut looks = LIMIT.as_millis() / LOOK.as_millis();
    loop {
        let over = child.try_wait()?.is_some();
        let text = fs::read(output).unwrap_or_default();
        let new = text.get(shown..).unwrap_or_default();
        eprint!("{}", String::from_utf8_lossy(new));
        shown = text.len();
        if over {
            return Ok(true);
        }
        if looks == 0 {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        looks -= 1;
        thread::sleep(LOOK);
    }
}

fn read(log: &str, output: &str, in_time: bool) -> End {
    let complains = |line: &&str| TROUBLE.iter().any(|trouble| line.contains(trouble));
    let complaints: Vec<_> = log.lines().filter(complains).take(5).collect();
    if !complaints.is_empty() {
        return End::Trouble(complaints.join("\n"));
    }
    if !in_time {
        return End::Lost(format!("it was still running after {} s", LIMIT.as_secs()));
    }
    let code = output
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix(ENDED));
    match code.and_then(|code| code.trim().parse().ok()) {
        Some(code) => End::Exit(code),
        None => End::Lost("it went off before the tests had ended".to_owned()),
    }
}
