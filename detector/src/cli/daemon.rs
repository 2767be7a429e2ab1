//! `tcpstall daemon`.

use std::{io::IsTerminal, net::SocketAddr, path::PathBuf, process::ExitCode};

use tracing_subscriber::EnvFilter;

use super::{Common, output};
use crate::{
    config::{Config, Overrides, Source},
    sense::Sensor,
};

/// Names the file that is read when no flag does.
pub(super) const CONFIG_VARIABLE: &str = "TCPSTALL_CONFIG";

/// Watch the TCP connections of this host, in the foreground
///
/// Needs root, or CAP_BPF and CAP_PERFMON; `tcpstall doctor` says whether this host allows it. No
/// configuration is needed: without one, every next hop is an upstream of its own. SIGHUP reads
/// the configuration again, SIGTERM and Ctrl-C end it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:\n  \
    sudo tcpstall daemon\n  \
    sudo tcpstall daemon --check && sudo systemctl reload tcpstall")]
pub(super) struct Args {
    /// Configuration [default: /etc/tcpstall/tcpstall.toml, when it exists]
    #[arg(long, value_name = "FILE", env = CONFIG_VARIABLE, hide_env_values = true)]
    config: Option<PathBuf>,
    /// Only say whether the configuration is valid
    #[arg(long)]
    check: bool,
    /// Folder for what outlives a restart [default: /var/lib/tcpstall]
    #[arg(
        long,
        value_name = "DIR",
        env = "TCPSTALL_STATE_DIR",
        hide_env_values = true
    )]
    state_dir: Option<PathBuf>,
    /// TCP address of the metrics page [default: 127.0.0.1:19293]
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "TCPSTALL_METRICS_ADDRESS",
        hide_env_values = true
    )]
    metrics_address: Option<SocketAddr>,
    /// What sees the connections: programs in the kernel, or netlink, which needs no right and tells less
    #[arg(long, value_enum, default_value_t = SensorName::Ebpf)]
    sensor: SensorName,
    /// What to log: error, warn, info, debug, trace, or per module such as `info,detector=debug`
    #[arg(
        long,
        value_name = "LEVEL",
        env = "TCPSTALL_LOG",
        hide_env_values = true,
        default_value = "info",
        value_parser = level
    )]
    log: String,
}

/// As it is written.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum SensorName {
    /// Programs in the kernel (CAP_BPF and CAP_PERFMON)
    Ebpf,
    /// Netlink, polled: no right needed; no events, no processes, no containers, mtu is not told
    SockDiag,
}

pub(super) fn run(args: &Args, common: &Common) -> anyhow::Result<ExitCode> {
    let source = Source {
        file: args.config.clone(),
        overrides: Overrides {
            socket: common.socket.clone(),
            state_dir: args.state_dir.clone(),
            metrics_address: args.metrics_address,
        },
    };
    let config = source.load()?;
    if args.check {
        output::print(&valid(&config, &source))?;
    } else {
        log_to_stderr(&args.log)?;
        let sensor = match args.sensor {
            SensorName::Ebpf => Sensor::Ebpf,
            SensorName::SockDiag => Sensor::SockDiag,
        };
        crate::daemon::run(config, &source, sensor)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn valid(config: &Config, source: &Source) -> String {
    let names: Vec<_> = config.upstreams.iter().map(|it| it.name.as_str()).collect();
    let upstreams = match names.as_slice() {
        [] => "no upstream is named: every next hop is one of its own".to_owned(),
        names => format!(
            "upstreams, the first that matches wins: {}",
            names.join(", ")
        ),
    };
    let path = source.path().display();
    let found = if source.path().exists() {
        "is valid"
    } else {
        "does not exist, which is fine"
    };
    format!("{path} {found}; {upstreams}\n")
}

fn level(text: &str) -> Result<String, String> {
    match EnvFilter::builder().parse(text) {
        Ok(_) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err("expected error, warn, info, debug, trace, or module=level".to_owned()),
    }
}

/// Journald stamps lines itself; colours are for terminals.
pub(super) fn log_to_stderr(level: &str) -> anyhow::Result<()> {
    tracing_log::LogTracer::init()?;
    let plain = std::env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty());
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::builder().parse(level)?)
        .with_writer(std::io::stderr)
        .with_ansi(!plain && std::io::stderr().is_terminal());
    let subscriber: Box<dyn tracing::Subscriber + Send + Sync> =
        if std::env::var_os("JOURNAL_STREAM").is_some() {
            Box::new(log.without_time().finish())
        } else {
            Box::new(log.finish())
        };
    Ok(tracing::subscriber::set_global_default(subscriber)?)
}
