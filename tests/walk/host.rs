//! The host: a Debian below a folder, with the network of a laboratory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use lab::{Lab, http, namespace::Namespace, program::Program, status::Status};
use tempfile::TempDir;

/// Makes the folder a host with a name of its own, for as long as what is behind it runs: `$0` is the folder.
const ENTER: &str = "set -e; mount --rbind /sys \"$0/sys\"; mount -t proc proc \"$0/proc\"; \
                     echo mx1 > /proc/sys/kernel/hostname; \
                     exec chroot \"$0\" env -i HOME=/root LC_ALL=C.UTF-8 TZ=UTC DEBIAN_FRONTEND=noninteractive \
                     PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin sh -c \"$1\"";
/// How long a service may take until it is there.
const START: Duration = Duration::from_secs(20);

/// A Debian below a folder.
pub(crate) struct Host {
    folder: PathBuf,
    inside: Namespace,
    /// A short way to the folder: the paths of sockets are short.
    short: TempDir,
}

impl Host {
    /// The one below `folder`, with the network of `lab`.
    pub(crate) fn open(folder: &Path, lab: &Lab) -> Result<Self> {
        ensure!(
            below(folder, "/etc/debian_version").is_file(),
            "{} is no Debian; `cargo xtask walk` makes one",
            folder.display()
        );
        let short = tempfile::Builder::new().prefix("tcpstall-lab-").tempdir()?;
        std::os::unix::fs::symlink(folder.canonicalize()?, short.path().join("d"))?;
        Ok(Self {
            folder: folder.to_owned(),
            inside: Namespace::open(lab.host.name())?,
            short,
        })
    }

    /// A path of it, as this program sees it.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        below(&self.folder, path)
    }

    /// What comes back for a line, with the network of this machine.
    pub(crate) fn read(&self, line: &str) -> Result<String> {
        let mut command = Command::new("unshare");
        let output = command
            .args(self.arguments(line))
            .stdin(Stdio::null())
            .output()?;
        answer(line, &output)
    }

    /// What comes back for a line, in the laboratory's network.
    pub(crate) fn inside(&self, line: &str) -> Result<String> {
        let arguments = self.arguments(line);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        answer(line, &self.inside.output("unshare", &arguments)?)
    }

    fn arguments(&self, line: &str) -> Vec<String> {
        let folder = self.folder.display().to_string();
        let before = [
            "--mount",
            "--uts",
            "--propagation",
            "private",
            "sh",
            "-c",
            ENTER,
        ];
        let before = before.map(str::to_owned).into_iter();
        before.chain([folder, line.to_owned()]).collect()
    }

    /// Starts what an installed unit says, as the user and with the capabilities that it says.
    pub(crate) fn start(&self, unit: &str) -> Result<Program> {
        let text = fs::read_to_string(self.path(&format!("/usr/lib/systemd/system/{unit}")))?;
        let of = |key: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        };
        let program = of("ExecStart").with_context(|| format!("{unit} starts nothing"))?;
        // As it would be made for the service.
        if let (Some(folder), Some(user)) = (of("StateDirectory"), of("User")) {
            let line = format!("install -d -m 750 -o {user} -g {user} /var/lib/{folder}");
            self.read(&line)?;
        }
        let rights = match (of("User"), of("AmbientCapabilities")) {
            (Some(user), Some(capabilities)) => {
                let these: Vec<_> = capabilities
                    .split_whitespace()
                    .map(|it| it.trim_start_matches("CAP_").to_lowercase())
                    .collect();
                let these = format!("-all,+{}", these.join(",+"));
                format!(
                    "--reuid={user} --regid={user} --init-groups --inh-caps={these} --ambient-caps={these} \
                     --bounding-set={these} --no-new-privs"
                )
            }
            (None, None) => String::new(),
            other => bail!("{unit} has only one of User and AmbientCapabilities: {other:?}"),
        };
        // However this walk ends, so does it.
        let line = format!("exec setpriv --pdeathsig TERM {rights} -- {program}");
        let log = self.short.path().join(format!("{unit}.log"));
        let mut service = Program::start(
            &self.inside,
            Path::new("unshare"),
            &self.arguments(&line),
            log,
        )?;
        if unit == "tcpstall.service" {
            let socket = self.path("/run/tcpstall/tcpstall.sock");
            service.wait_until(START, || socket.exists())?;
        }
        Ok(service)
    }

    /// What the daemon says.
    pub(crate) fn status(&self) -> Result<Status> {
        let socket = self.short.path().join("d/run/tcpstall/tcpstall.sock");
        let answer = http::get_unix(&socket, "/v1/status")?;
        Ok(serde_json::from_str(&answer.body)?)
    }
}

/// A path below a folder.
fn below(folder: &Path, path: &str) -> PathBuf {
    folder.join(path.trim_start_matches('/'))
}

fn answer(line: &str, output: &std::process::Output) -> Result<String> {
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    ensure!(
        output.status.success(),
        "on mx1 `{line}` ends with {}:\n{said}",
        output.status
    );
    Ok(said)
}
