//! Starting other programs: each is printed before it runs, and a failure names it.
//!
//! **Invariant:** a program never sees the variables that `cargo run` set for xtask itself; they
//! describe xtask, and another cargo would take them for its own.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt::Write as _,
    io::{ErrorKind, IsTerminal as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, ensure};

/// A program with its arguments, not started yet.
pub(crate) struct Invocation {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(String, OsString)>,
    unset: Vec<&'static str>,
    folder: Option<PathBuf>,
}

/// Start with a program; add arguments and variables, then run it.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Invocation {
    Invocation {
        program: program.as_ref().to_owned(),
        args: Vec::new(),
        env: Vec::new(),
        unset: Vec::new(),
        folder: None,
    }
}

/// The cargo that started xtask, with the toolchain that the user chose.
pub(crate) fn cargo() -> Invocation {
    command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

impl Invocation {
    /// Add one argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Add arguments.
    pub(crate) fn args<T: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Set a variable of the environment.
    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Hide variables of the environment.
    pub(crate) fn unset(mut self, keys: &[&'static str]) -> Self {
        self.unset.extend_from_slice(keys);
        self
    }

    /// Run in another folder.
    pub(crate) fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// The same program as root: through `sudo`, which does not hand on variables by itself.
    pub(crate) fn through_sudo(self, kept: &[(String, OsString)]) -> Self {
        let assignments = kept.iter().chain(&self.env).map(|(key, value)| {
            let mut assignment = OsString::from(key);
            assignment.push("=");
            assignment.push(value);
            assignment
        });
        let mut sudo = command("sudo").arg("env").args(assignments);
        sudo.args.push(self.program);
        sudo.args.extend(self.args);
        sudo.folder = self.folder;
        sudo
    }

    /// Run it, with its output on the terminal; anything but success is an error.
    pub(crate) fn run(self) -> Result<()> {
        self.announce();
        let status = self.prepare().status();
        self.judge(status.map_err(|error| self.absent(error))?)
    }

    /// Run it, with only its messages on the terminal, and take what it prints.
    pub(crate) fn read(self) -> Result<String> {
        self.announce();
        let output = self
            .prepare()
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| self.absent(error))?;
        self.judge(output.status)?;
        String::from_utf8(output.stdout)
            .with_context(|| format!("`{}` printed something that is not text", self.short()))
    }

    /// Run it unannounced, with only its messages on the terminal.
    pub(crate) fn quietly(self) -> Result<()> {
        let status = self.prepare().stdout(Stdio::null()).status();
        self.judge(status.map_err(|error| self.absent(error))?)
    }

    /// Start it, and go on.
    pub(crate) fn start(self) -> Result<Child> {
        self.announce();
        let child = self.prepare().stdin(Stdio::null()).spawn();
        child.map_err(|error| self.absent(error))
    }

    /// Ask a question, unannounced: what it prints when it is there and succeeds.
    pub(crate) fn ask(self) -> Option<String> {
        let output = self.prepare().stderr(Stdio::null()).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then_some(text)
    }

    /// Become this program; comes back only when it cannot be started.
    pub(crate) fn become_it(self) -> Result<()> {
        self.announce();
        let error = self.prepare().exec();
        Err(self.absent(error))
    }

    fn judge(&self, status: ExitStatus) -> Result<()> {
        ensure!(
            status.success(),
            "`{}` failed ({status}): its own message is above, and before that the whole command",
            self.short()
        );
        Ok(())
    }

    fn prepare(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        for key in env::vars_os().map(|(key, _)| key) {
            if key.to_str().is_some_and(describes_xtask) {
                command.env_remove(key);
            }
        }
        for key in &self.unset {
            command.env_remove(key);
        }
        for (key, value) in &self.env {
            command.env(key, value);
        }
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }

    fn announce(&self) {
        dim(&format!("$ {}", self.line()));
    }

    /// The command as one would type it.
    fn line(&self) -> String {
        let mut line = String::new();
        if let Some(folder) = &self.folder {
            let _ = write!(line, "cd {} && ", quoted(folder.as_os_str()));
        }
        if !self.unset.is_empty() || !self.env.is_empty() {
            line.push_str("env ");
        }
        for key in self.unset.iter().filter(|key| env::var_os(key).is_some()) {
            let _ = write!(line, "-u {key} ");
        }
        for (key, value) in &self.env {
            let _ = write!(line, "{key}={} ", quoted(value));
        }
        line.push_str(&quoted(&self.program));
        for arg in &self.args {
            line.push(' ');
            line.push_str(&quoted(arg));
        }
        line
    }

    /// Program and first argument: enough to know which of the printed commands is meant.
    fn short(&self) -> String {
        let name = Path::new(&self.program)
            .file_name()
            .unwrap_or(&self.program);
        let words = [name]
            .into_iter()
            .chain(self.args.iter().take(2).map(OsString::as_os_str));
        words.map(quoted).collect::<Vec<_>>().join(" ")
    }

    fn absent(&self, error: std::io::Error) -> anyhow::Error {
        let program = self.program.display();
        if error.kind() == ErrorKind::NotFound {
            anyhow::anyhow!(
                "`{program}` was needed and is not there: install it, then run this again"
            )
        } else {
            anyhow::anyhow!("`{program}` cannot be started: {error}")
        }
    }
}

/// Whether `cargo run` set this variable to describe the package that it runs.
fn describes_xtask(key: &str) -> bool {
    [
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_BIN_",
        "CARGO_CRATE_",
    ]
    .iter()
    .any(|prefix| key.starts_with(prefix))
        || matches!(key, "CARGO_PRIMARY_PACKAGE" | "OUT_DIR")
}

/// `$'…'` when it holds bytes that a terminal would not show, `'…'` when a shell would split it.
pub(crate) fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    if !word.chars().any(char::is_control) {
        return format!("'{}'", word.replace('\'', r"'\''"));
    }
    let escaped = word.chars().map(|c| match c {
        '\'' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    });
    format!("$'{}'", escaped.collect::<String>())
}

/// The folder of `PATH`, or of the administrator's programs, that holds a program.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Say what happens next and why.
pub(crate) fn say(message: &str) {
    styled("1", message);
}

/// Say what must not be overlooked.
pub(crate) fn warn(message: &str) {
    styled("1;33", message);
}

/// Say what went wrong, and why, a line for each reason.
pub(crate) fn fail(error: &anyhow::Error) {
    styled("1;31", &format!("error: {error}"));
    for reason in error.chain().skip(1) {
        eprintln!("  because {reason}");
    }
}

fn dim(message: &str) {
    styled("2", message);
}

fn styled(code: &str, message: &str) {
    let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if std::io::stderr().is_terminal() && !plain {
        eprintln!("\x1b[{code}m{message}\x1b[0m");
    } else {
        eprintln!("{message}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_command_can_be_typed() {
        let invocation = command("/bin/echo")
            .env("FLAGS", "a\u{1f}b")
            .args(["plain", "two words", "it's", ""])
            .folder(Path::new("/tmp"));
        assert_eq!(
            invocation.line(),
            r"cd /tmp && env FLAGS=$'a\u001fb' /bin/echo plain 'two words' 'it'\''s' ''"
        );
    }

    #[test]
    fn sudo_is_given_the_variables_as_arguments() {
        let kept = [("TERM".to_owned(), OsString::from("xterm"))];
        let invocation = command("id").arg("-u").env("A", "1").through_sudo(&kept);
        assert_eq!(invocation.line(), "sudo env TERM=xterm A=1 id -u");
    }

    #[test]
    fn variables_of_the_user_are_handed_on() {
        assert!(describes_xtask("CARGO_PKG_NAME"));
        assert!(describes_xtask("CARGO_MANIFEST_DIR"));
        assert!(!describes_xtask("CARGO_HOME"));
        assert!(!describes_xtask("CARGO_TARGET_DIR"));
        assert!(!describes_xtask("CARGO_TERM_COLOR"));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = command("/nowhere/no-such-program").run().unwrap_err();
        assert!(
            error.to_string().contains("/nowhere/no-such-program"),
            "{error}"
        );
    }
}
