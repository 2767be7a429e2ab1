//! A program that is run: with what it is told, for as long as it may take.
//!
//! **Invariant:** whatever it does, it ends; what is still running when nobody waits for it any more is told to end.

use std::{
    fmt, io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::model::HookOutcome;

/// Between the word that it should end and its end by force.
const GRACE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 5 });

/// From look to look.
const TICK: Duration = Duration::from_millis(20);

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    /// The program and its arguments.
    pub(super) command: Vec<String>,
    /// What is added to the environment.
    pub(super) variables: Vec<(&'static str, String)>,
    /// What it can read on its standard input.
    pub(super) input: String,
    /// How long it may take.
    pub(super) limit: Duration,
}

/// How it has ended.
#[derive(Debug)]
pub(super) enum End {
    /// By itself.
    Exited(ExitStatus),
    /// By force, after so long.
    TimedOut(Duration),
    /// It was never started.
    NotStarted(String, io::Error),
}

impl End {
    /// In a word.
    pub(super) fn outcome(&self) -> HookOutcome {
        match self {
            Self::Exited(status) if status.success() => HookOutcome::Succeeded,
            Self::Exited(_) | Self::NotStarted(..) => HookOutcome::Failed,
            Self::TimedOut(_) => HookOutcome::Timeout,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) if status.success() => f.write_str("has succeeded"),
            Self::Exited(status) => write!(f, "has failed ({status})"),
            Self::TimedOut(limit) => {
                write!(
                    f,
                    "was ended: it took longer than {} s",
                    limit.as_secs_f64()
                )
            }
            Self::NotStarted(program, error) => write!(
                f,
                "has failed: {program} cannot be started ({error}); does it exist, and may it be executed?"
            ),
        }
    }
}

/// Runs it to its end. When this is dropped before, it is told to end.
pub(super) async fn run(program: Program) -> End {
    let Some((path, arguments)) = program.command.split_first() else {
        let error = io::ErrorKind::InvalidInput.into();
        return End::NotStarted(String::new(), error);
    };
    let started = Command::new(path)
        .args(arguments)
        .envs(program.variables)
        // Its words to the manager would be taken for ours.
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::piped())
        // What it starts is ended with it, and Ctrl-C is not meant for it.
        .process_group(0)
        .spawn();
    let mut child = match started {
        Ok(child) => Group(child),
        Err(error) => return End::NotStarted(path.clone(), error),
    };
    let input = child.0.stdin.take();
    let tell = async {
        if let Some(mut input) = input {
            // Whoever does not want to know need not read.
            let _ = input.write_all(program.input.as_bytes()).await;
        }
        std::future::pending().await
    };
    let ended = async {
        tokio::select! {
            () = tell => std::future::pending().await,
            status = child.0.wait() => status,
        }
    };
    match timeout(program.limit, ended).await {
        Ok(Ok(status)) => End::Exited(status),
        // There is nothing that a parent could not know of its child.
        Ok(Err(error)) => End::NotStarted(path.clone(), error),
        Err(_) => {
            child.end().await;
            End::TimedOut(program.limit)
        }
    }
}

/// A child and those that it has started.
struct Group(Child);

impl Group {
    /// First a word, then force, to all of them. Until then nobody waits for the child, so that its number stays
    /// that of the group.
    async fn end(&mut self) {
        self.signal(Signal::TERM);
        let ended = async {
            while !self.has_ended() {
                sleep(TICK).await;
            }
        };
        // Those who are still there when the child has ended have had their word, too.
        let _ = timeout(GRACE, ended).await;
        self.signal(Signal::KILL);
        // It cannot be refused.
        let _ = self.0.wait().await;
    }

    fn has_ended(&self) -> bool {
        let Some(child) = self.pid() else {
            return true;
        };
        let looked = waitid(
            WaitId::Pid(child),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT,
        );
        !matches!(looked, Ok(None))
    }

    /// `None` once it has been waited for: after that its number may be another one's.
    fn pid(&self) -> Option<Pid> {
        let number = self.0.id().and_then(|it| i32::try_from(it).ok());
        number.and_then(Pid::from_raw)
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.pid() {
            // It may have ended by itself.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::clock;

    fn shell(script: &str) -> Program {
        Program {
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            variables: vec![("TCPSTALL_UPSTREAM", "a; touch b $(touch c)".to_owned())],
            input: "{}\n".to_owned(),
            limit: Duration::from_secs(20),
        }
    }

    async fn outcome(program: Program) -> (HookOutcome, String) {
        let end = run(program).await;
        (end.outcome(), end.to_string())
    }

    async fn gone(pid: &str) -> bool {
        for _ in 0..100 {
            if !Path::new("/proc").join(pid).exists() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }

    #[tokio::test]
    async fn it_is_told_by_environment_and_input() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("out");
        let script = format!(
            "cat > {0}; printf %s \"$TCPSTALL_UPSTREAM\" >> {0}",
            out.display()
        );
        let (outcome, words) = outcome(shell(&script)).await;
        assert_eq!(
            (outcome, words.as_str()),
            (HookOutcome::Succeeded, "has succeeded")
        );
        let told = fs::read_to_string(out).expect("it has run");
        assert_eq!(told, "{}\na; touch b $(touch c)");
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1);
    }

    #[tokio::test]
    async fn who_does_not_read_is_not_waited_for() {
        let mut program = shell("exit 0");
        program.input = "x".repeat(1 << 20);
        assert_eq!(outcome(program).await.0, HookOutcome::Succeeded);
        let mut program = shell("exec <&-; sleep 0.2");
        program.input = "x".repeat(1 << 20);
        assert_eq!(outcome(program).await.0, HookOutcome::Succeeded);
    }

    #[tokio::test]
    async fn every_end_but_exit_code_0_is_a_failure() {
        for (script, expected) in [
            ("exit 3", "has failed (exit status: 3)"),
            ("kill -SEGV $$", "has failed (signal: 11 (SIGSEGV)"),
        ] {
            let (outcome, words) = outcome(shell(script)).await;
            assert_eq!(outcome, HookOutcome::Failed);
            assert!(words.starts_with(expected), "{words}");
        }
        let folder = tempfile::tempdir().expect("a folder");
        for path in [folder.path().join("none"), folder.path().to_owned()] {
            let mut program = shell("");
            program.command = vec![path.display().to_string()];
            let (outcome, words) = outcome(program).await;
            assert_eq!(outcome, HookOutcome::Failed);
            let expected = format!("has failed: {} cannot be started (", path.display());
            assert!(words.starts_with(&expected), "{words}");
        }
    }

    #[tokio::test]
    async fn what_takes_too_long_is_ended_with_all_that_it_has_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let pids = folder.path().join("pids");
        for script in [
            "sleep 60 & echo $! > PIDS; wait; sleep 60",
            "trap '' TERM; sleep 60 & echo $! > PIDS; wait; sleep 60",
            // One that ends at a word, of a child that does not.
            "(trap '' TERM; sleep 60) & echo $! > PIDS; wait",
        ] {
            let script = script.replace("PIDS", &pids.display().to_string());
            let mut program = shell(&script);
            program.limit = Duration::from_secs(3);
            let begun = clock::now();
            let (outcome, words) = outcome(program).await;
            assert_eq!(outcome, HookOutcome::Timeout);
            assert_eq!(words, "was ended: it took longer than 3 s");
            assert!(clock::now().since(begun) < Duration::from_secs(20));
            let pid = fs::read_to_string(&pids).expect("it has begun");
            assert!(gone(pid.trim()).await, "{pid} still runs");
        }
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_told_to_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let pids = folder.path().join("pids");
        let script = format!("echo $$ > {}; exec sleep 60", pids.display());
        let waited = timeout(Duration::from_secs(3), run(shell(&script))).await;
        assert!(waited.is_err());
        let pid = fs::read_to_string(&pids).expect("it has begun");
        // Its parent is this test, which is told of its end by the runtime.
        let mut ended = gone(pid.trim()).await;
        if !ended {
            let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
            ended = stat.is_ok_and(|it| it.contains(") Z "));
        }
        assert!(ended, "{pid} still runs");
    }
}
