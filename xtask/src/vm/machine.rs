//! A machine: booted, watched, and ended when it hangs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Child,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{
    archive::Kernel,
    report::{self, Report},
};
use crate::command::command;

/// The longest that a machine may take.
const LIMIT: Duration = Duration::from_secs(1800);
/// From one look to the next.
const LOOK: Duration = Duration::from_millis(200);

/// Boots a kernel into an image, with these parameters more, and waits for its end.
pub(super) fn boot(
    kernel: &Kernel,
    image: &Path,
    parameters: &str,
    folder: &Path,
) -> Result<Report> {
    let [log, output] = logs(folder);
    for file in [&log, &output] {
        let _ = fs::remove_file(file);
    }
    let parameters = format!(
        "console=ttyS0 panic=-1 quiet loglevel=5 mitigations=off random.trust_cpu=on {parameters}"
    );
    // One processor: kernels rewrite their own code when the first firewall rule comes and the last one
    // goes, and an emulated processor that is in the middle of it runs into the breakpoint (`int3`) that
    // the other has just taken away, and spins or dies. Real ones have their part on the host itself.
    // The machine ends with us, however we end.
    let mut child = command("setpriv")
        .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
        .args(["-accel", "tcg,thread=multi", "-cpu", "max"])
        .args(["-m", "2048", "-smp", "1", "-display", "none", "-no-reboot"])
        .args(["-nodefaults", "-no-user-config", "-kernel"])
        .arg(kernel.folder.join("vmlinuz"))
        .arg("-initrd")
        .arg(image)
        .args(["-append", &parameters, "-serial"])
        .arg(format!("file:{}", log.display()))
        .arg("-serial")
        .arg(format!("file:{}", output.display()))
        .start()?;
    let in_time = wait(&mut child, &output, &kernel.release)?;
    let over = (!in_time).then(|| format!("it was still running after {} s", LIMIT.as_secs()));
    read(folder, over)
}

/// What a machine has said. `over` says why it was ended, if it did not end by itself.
pub(super) fn read(folder: &Path, over: Option<String>) -> Result<Report> {
    let [log, output] = logs(folder);
    let log = fs::read_to_string(log).unwrap_or_default();
    let output = fs::read(output).context("the machine said nothing")?;
    Ok(report::read(&log, &String::from_utf8_lossy(&output), over))
}

/// What the kernel says, and what the tests say.
fn logs(folder: &Path) -> [PathBuf; 2] {
    [folder.join("kernel.log"), folder.join("output.log")]
}

/// Shows what the machine says, line by line, until it is off; whether that was in time.
fn wait(child: &mut Child, output: &Path, release: &str) -> Result<bool> {
    let mut shown = 0;
    let mut looks = LIMIT.as_millis() / LOOK.as_millis();
    loop {
        let over = child.try_wait()?.is_some();
        let text = fs::read(output).unwrap_or_default();
        let new = text.get(shown..).unwrap_or_default();
        let whole = new
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        for line in String::from_utf8_lossy(&new[..whole]).lines() {
            if !line.starts_with(report::DOCTOR) {
                eprintln!("{release} | {line}");
            }
        }
        shown += whole;
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
