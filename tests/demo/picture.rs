//! What an operator sees, as pictures for the documentation.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use lab::{
    Daemon, Lab,
    daemon::{Colour, METRICS_PORT},
    monitoring::{Monitoring, Tools},
    signal,
    terminal::Terminal,
};

use crate::dashboard;

/// Columns of the terminal in the picture.
const WIDTH: usize = 100;
/// Columns and rows of the live screen.
const SCREEN: (u16, u16) = (100, 30);
/// Of healthy time, in front of the story and behind it.
const MARGIN: Duration = Duration::from_secs(15);

/// Everybody who watches along.
pub(crate) struct Pictures {
    folder: PathBuf,
    top: Terminal,
    monitoring: Monitoring,
    began: f64,
}

impl Pictures {
    /// Begins to watch.
    pub(crate) fn begin(folder: &Path, lab: &Lab, daemon: &Daemon) -> Result<Self> {
        let tools = Tools::find().context(
            "the dashboard's picture needs Prometheus and Alertmanager: `cargo xtask demo` fetches \
             them",
        )?;
        let target = [format!("127.0.0.1:{METRICS_PORT}")];
        let monitoring = Monitoring::start(&tools, &lab.host, &target, 1)?;
        let top = Terminal::start(&lab.host, daemon, &["top"], SCREEN)?;
        let began = seconds();
        signal::sleep(MARGIN)?;
        Ok(Self {
            folder: folder.to_owned(),
            top,
            monitoring,
            began,
        })
    }

    /// What the commands that answer "which, and why" say, and the live screen.
    pub(crate) fn in_the_middle(&mut self, daemon: &Daemon, upstream: &str) -> Result<()> {
        self.write("top.svg", &self.top.coloured())?;
        let mut screen = String::new();
        for arguments in [&["status"][..], &["explain", upstream]] {
            let output = daemon.cli_as(arguments, Colour::Yes)?;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            screen.push_str(&format!(
                "\x1b[1m$ tcpstall {}\x1b[0m\n",
                arguments.join(" ")
            ));
            for line in said.lines() {
                screen.push_str(&fit(line));
                screen.push('\n');
            }
            screen.push('\n');
        }
        self.write("demo.svg", screen.trim_end())
    }

    /// The dashboard, from the beginning to now.
    pub(crate) fn at_the_end(self) -> Result<()> {
        signal::sleep(MARGIN)?;
        let path = self.folder.join("dashboard.svg");
        dashboard::draw(&path, &self.monitoring, (self.began, seconds()))
    }

    fn write(&self, name: &str, screen: &str) -> Result<()> {
        let path = self.folder.join(name);
        let drawing = anstyle_svg::Term::new().render_svg(screen);
        fs::write(&path, drawing).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Since 1970.
fn seconds() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0.0, |it| it.as_secs_f64())
}

/// Breaks a line between words where a terminal would break it anywhere.
fn fit(line: &str) -> String {
    if line.contains('\x1b') || line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    let mut rows = String::new();
    let mut column = 0;
    for word in line.split_inclusive(' ') {
        let length = word.chars().count();
        if column + length > WIDTH {
            rows.push_str("\n    ");
            column = 4;
        }
        rows.push_str(word);
        column += length;
    }
    rows
}
