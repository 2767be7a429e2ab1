//! A command on a terminal of its own: what a person would see, and the keys that they would press.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Child, Command, ExitStatus},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anstyle::{Ansi256Color, Effects, RgbColor, Style};
use anyhow::{Context, Result, ensure};
use rustix::{
    fs::{Mode, OFlags, open},
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use crate::{
    daemon::{Daemon, Starter, binary},
    namespace::Namespace,
    signal,
};

/// From look to look while waiting.
const POLL: Duration = Duration::from_millis(50);
/// How long a command may take to end.
const STOP: Duration = Duration::from_secs(10);

/// A terminal and the command on it.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    /// `None` after it was hung up.
    keyboard: Option<File>,
    /// Our own hand on the command's side: its settings outlive the command.
    other_side: OwnedFd,
    screen: Arc<Mutex<Emulator>>,
    hung_up: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
    // Last: the command is told to end when this one does.
    _starter: Starter,
}

/// What understands the bytes that a terminal is sent.
struct Emulator(vt100::Parser);

impl std::fmt::Debug for Emulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.screen().contents())
    }
}

impl Terminal {
    /// Runs a command of the program on a terminal, inside the host of `daemon`'s laboratory.
    pub fn start(
        inside: &Namespace,
        daemon: &Daemon,
        arguments: &[&str],
        (columns, rows): (u16, u16),
    ) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let side = || {
            open(
                &name,
                OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
                Mode::empty(),
            )
        };
        let other_side = side()?;
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size)?;
        let mut command = Command::new("setsid");
        command
            // So that it is the command's own terminal, as a shell would make it.
            .args(["--ctty", "setpriv", "--pdeathsig", "TERM", "--"])
            .arg(binary()?)
            .args(arguments)
            .arg("--socket")
            .arg(daemon.socket())
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .stdin(side()?)
            .stdout(side()?)
            .stderr(side()?);
        let (child, starter) = Starter::start(inside, command)?;
        let child = child.context("cannot start a command on a terminal")?;
        let mut output = File::from(master);
        let keyboard = output.try_clone()?;
        let screen = Arc::new(Mutex::new(Emulator(vt100::Parser::new(rows, columns, 0))));
        let shown = Arc::clone(&screen);
        let hung_up = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&hung_up);
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            // An error is that nobody holds the other side any more.
            // The screen is drawn at least once a second, so that the flag is seen soon.
            while !stop.load(Ordering::Relaxed)
                && let Ok(length @ 1..) = output.read(&mut bytes)
            {
                let mut emulator = shown.lock().unwrap_or_else(PoisonError::into_inner);
                emulator.0.process(&bytes[..length]);
            }
        });
        Ok(Self {
            child,
            keyboard: Some(keyboard),
            other_side,
            screen,
            hung_up,
            reader: Some(reader),
            _starter: starter,
        })
    }

    /// Presses keys, as a terminal sends them.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        let keyboard = self.keyboard.as_mut().context("it was hung up")?;
        Ok(keyboard.write_all(keys.as_bytes())?)
    }

    /// Makes it another size, and says so.
    pub fn resize(&mut self, (columns, rows): (u16, u16)) -> Result<()> {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let mut emulator = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        emulator.0.screen_mut().set_size(rows, columns);
        let keyboard = self.keyboard.as_ref().context("it was hung up")?;
        Ok(tcsetwinsize(keyboard, size)?)
    }

    /// What is on the screen.
    pub fn text(&self) -> String {
        let emulator = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        emulator.0.screen().contents()
    }

    /// The same with its colours, a line per row.
    pub fn coloured(&self) -> String {
        let emulator = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        let screen = emulator.0.screen();
        let (rows, columns) = screen.size();
        let mut text = String::new();
        for row in 0..rows {
            for cell in (0..columns).filter_map(|column| screen.cell(row, column)) {
                let style = style(cell);
                let contents = if cell.has_contents() {
                    cell.contents()
                } else {
                    " "
                };
                text.push_str(&format!("{style}{contents}{style:#}"));
            }
            text.push('\n');
        }
        text
    }

    /// Whether the command has the whole screen, and gives it back when it ends.
    pub fn is_borrowed(&self) -> bool {
        let emulator = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        emulator.0.screen().alternate_screen()
    }

    /// Whether what is typed is shown, as a shell needs it.
    pub fn echoes(&self) -> Result<bool> {
        let modes = tcgetattr(&self.other_side)?.local_modes;
        Ok(modes.contains(LocalModes::ECHO | LocalModes::ICANON))
    }

    /// Waits until the screen `holds`; fails after `limit` with what is on it.
    pub fn wait_until(
        &mut self,
        limit: Duration,
        what: &str,
        holds: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let end = Instant::now() + limit;
        loop {
            let text = self.text();
            if holds(&text) {
                return Ok(text);
            }
            let ended = self.child.try_wait()?;
            ensure!(
                ended.is_none() && Instant::now() < end,
                "{what}: not within {limit:?} ({ended:?}); on the screen:\n{text}"
            );
            signal::sleep(POLL)?;
        }
    }

    /// Closes the terminal, as a dropped session does, and waits for the command's end.
    pub fn hang_up(&mut self) -> Result<ExitStatus> {
        self.keyboard = None;
        self.hung_up.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            // It ends after the next look, and closes its side with it.
            let _ = reader.join();
        }
        self.wait()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let end = Instant::now() + STOP;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(
                Instant::now() < end,
                "it has not ended after {STOP:?}; on the screen:\n{}",
                self.text()
            );
            signal::sleep(POLL)?;
        }
    }
}

/// How a cell looks.
fn style(cell: &vt100::Cell) -> Style {
    let effects = [
        (cell.bold(), Effects::BOLD),
        (cell.dim(), Effects::DIMMED),
        (cell.underline(), Effects::UNDERLINE),
        (cell.inverse(), Effects::INVERT),
    ];
    let mut style = Style::new();
    for (_, effect) in effects.into_iter().filter(|it| it.0) {
        style |= effect;
    }
    match cell.fgcolor() {
        vt100::Color::Default => style,
        vt100::Color::Idx(number) => style.fg_color(Some(Ansi256Color(number).into())),
        vt100::Color::Rgb(r, g, b) => style.fg_color(Some(RgbColor(r, g, b).into())),
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        // The reader ends when nobody holds the other side: at the latest with this value.
        drop(self.reader.take());
    }
}
