//! `tcpstall top`: a live screen.
//!
//! **Invariant:** the terminal is as it was when this ends, however that comes; what happens faster than it
//! can be shown waits with whoever brings it.

mod draw;
mod screen;
#[cfg(test)]
mod tests;

use std::{
    io::{self, IsTerminal, Stdout},
    panic,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        event::{self, Event, KeyEventKind},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Common, client};
use crate::{clock, serve::Filter};
use screen::{LIMIT, Look, Screen};

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(1);
/// Whoever writes to a terminal that takes nothing any more is ended after this.
const GRACE: Duration = Duration::from_secs(2);

/// Watch upstreams and stalled connections on a live screen
///
/// Upstreams with the share of their destinations that was stalled lately, and below them the connections
/// that hang. Enter explains what is selected, / filters with the flags of `tcpstall stalls`, ? shows all
/// keys.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example:\n  tcpstall top")]
pub(super) struct Args {}

/// What can happen.
enum News {
    /// The daemon has answered, or has not.
    Looked(Box<Result<Look, String>>),
    /// A key was pressed, or the window has changed.
    Terminal(Event),
    /// Somebody wants this to end.
    End,
}

pub(super) fn run(common: &Common) -> anyhow::Result<ExitCode> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        bail!("top needs a terminal; `tcpstall status` and `tcpstall watch` do without one");
    }
    let socket = common.socket();
    // Without a daemon there is nothing to look at: said as everywhere, and not on a screen.
    let first = look(&socket)?;
    let colours = anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never;
    let mut screen = Screen::new(colours);
    screen.looked(Ok(first));
    // One at a time: who brings more waits until it is shown.
    let (send, news) = sync_channel(1);
    // Before anything is changed that they would leave behind.
    end_at_signals(&send)?;
    let borrowed = Borrowed::take()?;
    hand_on_keys(&send);
    ask(socket, send);
    let shown = turn(borrowed.terminal()?, &mut screen, &news);
    drop(borrowed);
    shown?;
    Ok(ExitCode::SUCCESS)
}

type Shown = Terminal<CrosstermBackend<Stdout>>;

/// The terminal, borrowed from the shell until this is dropped.
struct Borrowed;

impl Borrowed {
    fn take() -> anyhow::Result<Self> {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            give_back();
            usual(panic);
        }));
        enable_raw_mode().context("the terminal cannot be used")?;
        let borrowed = Self;
        execute!(io::stdout(), EnterAlternateScreen)?;
        Ok(borrowed)
    }

    fn terminal(&self) -> anyhow::Result<Shown> {
        Ok(Terminal::new(CrosstermBackend::new(io::stdout()))?)
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        give_back();
    }
}

/// Leaves the terminal as it was. One that has gone away needs nothing any more.
fn give_back() {
    let _ = disable_raw_mode();
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
}

fn turn(mut terminal: Shown, screen: &mut Screen, news: &Receiver<News>) -> anyhow::Result<()> {
    loop {
        terminal.draw(|frame| draw::draw(frame, screen))?;
        // All threads are gone: nothing can happen any more.
        let Ok(first) = news.recv() else {
            return Ok(());
        };
        for it in [first].into_iter().chain(news.try_iter()) {
            let goes_on = match it {
                News::Looked(look) => {
                    screen.looked(*look);
                    true
                }
                News::Terminal(Event::Key(key)) if key.kind == KeyEventKind::Press => {
                    screen.key(key)
                }
                // The next turn draws for the new size.
                News::Terminal(_) => true,
                News::End => false,
            };
            if !goes_on {
                return Ok(());
            }
        }
    }
}

/// One look at everything, or at the oldest of very many.
fn look(socket: &Path) -> anyhow::Result<Look> {
    let oldest = Filter {
        limit: Some(LIMIT),
        ..Filter::default()
    };
    Ok(Look {
        status: client::status(socket)?,
        stalls: client::stalls(socket, &oldest)?,
        now: clock::wall(),
    })
}

/// Looks again and again, on a thread of its own: a daemon that hangs must not freeze the screen.
fn ask(socket: PathBuf, send: SyncSender<News>) {
    thread::spawn(move || {
        loop {
            thread::sleep(EVERY);
            let look = look(&socket).map_err(|error| format!("{error:#}"));
            if send.send(News::Looked(Box::new(look))).is_err() {
                return;
            }
        }
    });
}

fn hand_on_keys(send: &SyncSender<News>) {
    let send = send.clone();
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            if send.send(News::Terminal(event)).is_err() {
                return;
            }
        }
        let _ = send.send(News::End);
    });
}

/// Signals that would leave the terminal as it must not be.
fn end_at_signals(send: &SyncSender<News>) -> anyhow::Result<()> {
    let send = send.clone();
    let runtime = client::runtime()?;
    let inside = runtime.enter();
    let mut hangup = signal(SignalKind::hangup())?;
    let mut others = [
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
        signal(SignalKind::quit())?,
    ];
    drop(inside);
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                // Nobody is left to show anything to, or to complain to.
                _ = hangup.recv() => {}
                () = any(&mut others) => {
                    let _ = send.try_send(News::End);
                    tokio::time::sleep(GRACE).await;
                }
            }
        });
        // Nothing is written: that may be just what the other thread waits for, with the terminal in its hands.
        let _ = disable_raw_mode();
        std::process::exit(0);
    });
    Ok(())
}

/// Waits for the first of some signals.
async fn any(signals: &mut [Signal; 3]) {
    let [one, two, three] = signals;
    tokio::select! {
        _ = one.recv() => {}
        _ = two.recv() => {}
        _ = three.recv() => {}
    }
}
