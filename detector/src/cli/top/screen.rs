//! What is on the screen, and what keys do to it.
//!
//! **Invariant:** pure; what is selected stays selected when rows move.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use clap::Parser;
use jiff::Timestamp;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::{api, cli::render, serve::Filter};

/// Looks of which the past is shown.
pub(super) const PAST: usize = 60;
/// Connections that are asked for: the oldest. In a storm more would cost the daemon what it needs.
pub(super) const LIMIT: usize = 2000;
/// Rows that a page moves by.
const PAGE: usize = 10;

/// What one look has found.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) status: api::Status,
    pub(super) stalls: Vec<api::Stall>,
    /// The wall clock here.
    pub(super) now: Timestamp,
}

/// Which of the two tables has the cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pane {
    Upstreams,
    Stalls,
}

/// What connections are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Age,
    Queue,
    Upstream,
    Destination,
    Process,
    Cause,
}

impl Order {
    const ALL: [Self; 6] = [
        Self::Age,
        Self::Queue,
        Self::Upstream,
        Self::Destination,
        Self::Process,
        Self::Cause,
    ];

    /// As it stands above the table.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Age => "oldest first",
            Self::Queue => "largest queue first",
            Self::Upstream => "by upstream",
            Self::Destination => "by destination",
            Self::Process => "by process",
            Self::Cause => "by cause",
        }
    }

    fn next(self) -> Self {
        let place = Self::ALL.iter().position(|it| *it == self).unwrap_or(0);
        Self::ALL[(place + 1) % Self::ALL.len()]
    }
}

/// What is laid over the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Over {
    /// The evidence for an upstream, by name.
    Upstream(String),
    /// The story of a connection, by id.
    Stall(String),
    /// The keys.
    Keys,
}

/// The flags of a filter without a program's name.
#[derive(Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Flags {
    #[command(flatten)]
    filter: Filter,
}

/// Everything that is shown.
#[derive(Debug)]
pub(super) struct Screen {
    pub(super) colours: bool,
    pub(super) look: Option<Rc<Look>>,
    /// Why the last look has failed.
    pub(super) trouble: Option<String>,
    /// Stalled and active destinations of the last looks, by upstream.
    pub(super) past: BTreeMap<String, VecDeque<(u32, u32)>>,
    pub(super) pane: Pane,
    pub(super) upstream: Option<String>,
    pub(super) stall: Option<String>,
    pub(super) order: Order,
    /// The filter as it was typed.
    pub(super) flags: String,
    filter: Filter,
    /// The filter that is being typed.
    pub(super) typing: Option<String>,
    /// What is wrong with it.
    pub(super) refused: Option<String>,
    pub(super) over: Option<Over>,
    pub(super) scroll: usize,
    pub(super) paused: bool,
}

impl Screen {
    pub(super) fn new(colours: bool) -> Self {
        Self {
            colours,
            look: None,
            trouble: None,
            past: BTreeMap::new(),
            pane: Pane::Upstreams,
            upstream: None,
            stall: None,
            order: Order::Age,
            flags: String::new(),
            filter: Filter::default(),
            typing: None,
            refused: None,
            over: None,
            scroll: 0,
            paused: false,
        }
    }

    /// Takes in a look.
    pub(super) fn looked(&mut self, look: Result<Look, String>) {
        let look = match look {
            Ok(look) => look,
            Err(trouble) => {
                self.trouble = Some(trouble);
                return;
            }
        };
        self.trouble = None;
        for upstream in &look.status.upstreams {
            let past = self.past.entry(upstream.name.clone()).or_default();
            past.push_back((upstream.destinations.stalled, upstream.destinations.active));
            if past.len() > PAST {
                past.pop_front();
            }
        }
        let known = |name: &String| look.status.upstreams.iter().any(|it| it.name == *name);
        self.past.retain(|name, _| known(name));
        if !self.paused || self.look.is_none() {
            self.look = Some(Rc::new(look));
        }
    }

    /// Upstreams in the order in which they stand.
    pub(super) fn upstreams(&self) -> &[api::Upstream] {
        self.look.as_ref().map_or(&[], |it| &it.status.upstreams)
    }

    /// Connections that are wanted, in the order in which they stand.
    pub(super) fn stalls(&self) -> Vec<&api::Stall> {
        let all = self.look.iter().flat_map(|it| &it.stalls);
        let mut stalls: Vec<_> = all.filter(|it| self.filter.matches(it)).collect();
        // Stable, and the daemon tells the oldest first.
        match self.order {
            Order::Age => {}
            Order::Queue => stalls.sort_by_key(|it| Reverse(render::queue(it))),
            Order::Upstream => stalls.sort_by(|a, b| a.upstream.cmp(&b.upstream)),
            Order::Destination => stalls.sort_by_key(|it| it.remote),
            Order::Process => stalls.sort_by(|a, b| a.process.cmp(&b.process)),
            Order::Cause => stalls.sort_by_key(|it| it.cause),
        }
        stalls.truncate(self.filter.limit.unwrap_or(usize::MAX));
        stalls
    }

    /// The row of the upstream that is selected.
    pub(super) fn upstream_row(&self) -> usize {
        let mut names = self.upstreams().iter();
        let place = names.position(|it| Some(&it.name) == self.upstream.as_ref());
        place.unwrap_or(0)
    }

    /// The row of the connection that is selected, among `stalls`.
    pub(super) fn stall_row(&self, stalls: &[&api::Stall]) -> usize {
        let place = stalls
            .iter()
            .position(|it| Some(&it.id) == self.stall.as_ref());
        place.unwrap_or(0)
    }

    /// What a key does; `false` when it ends everything.
    pub(super) fn key(&mut self, key: KeyEvent) -> bool {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return false;
        }
        if self.typing.is_some() {
            self.type_(key.code);
            return true;
        }
        match key.code {
            KeyCode::Char('q') if self.over.is_none() => return false,
            KeyCode::Char('q') | KeyCode::Esc | KeyCode::Backspace => self.back(),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.lay(Over::Keys),
            KeyCode::Char(' ' | 'p') => self.paused = !self.paused,
            KeyCode::Up | KeyCode::Char('k') => self.move_by(-1),
            KeyCode::Down | KeyCode::Char('j') => self.move_by(1),
            KeyCode::PageUp => self.move_by(-(PAGE as isize)),
            KeyCode::PageDown => self.move_by(PAGE as isize),
            KeyCode::Home => self.move_by(isize::MIN),
            KeyCode::End => self.move_by(isize::MAX),
            _ if self.over.is_some() => {}
            KeyCode::Tab | KeyCode::BackTab | KeyCode::Left | KeyCode::Right => {
                self.pane = match self.pane {
                    Pane::Upstreams => Pane::Stalls,
                    Pane::Stalls => Pane::Upstreams,
                };
            }
            KeyCode::Enter => self.open(),
            KeyCode::Char('s') => self.order = self.order.next(),
            KeyCode::Char('/') => self.typing = Some(self.flags.clone()),
            _ => {}
        }
        true
    }

    fn type_(&mut self, code: KeyCode) {
        let Some(text) = &mut self.typing else { return };
        match code {
            KeyCode::Char(letter) => text.push(letter),
            KeyCode::Backspace => drop(text.pop()),
            KeyCode::Esc => {
                self.typing = None;
                self.refused = None;
            }
            KeyCode::Enter => match Flags::try_parse_from(text.split_whitespace()) {
                Ok(flags) => {
                    self.filter = flags.filter;
                    self.flags = text.trim().to_owned();
                    self.typing = None;
                    self.refused = None;
                }
                Err(error) => {
                    let error = error.to_string();
                    let first = error.lines().next().unwrap_or_default();
                    self.refused = Some(first.trim_start_matches("error: ").to_owned());
                }
            },
            _ => {}
        }
    }

    fn lay(&mut self, over: Over) {
        self.over = Some(over);
        self.scroll = 0;
    }

    fn back(&mut self) {
        if self.over.take().is_none() {
            self.flags.clear();
            self.filter = Filter::default();
        }
        self.scroll = 0;
    }

    fn open(&mut self) {
        let over = match self.pane {
            Pane::Upstreams => {
                let upstream = self.upstreams().get(self.upstream_row());
                upstream.map(|it| Over::Upstream(it.name.clone()))
            }
            Pane::Stalls => {
                let stalls = self.stalls();
                let stall = stalls.get(self.stall_row(&stalls));
                stall.map(|it| Over::Stall(it.id.clone()))
            }
        };
        if let Some(over) = over {
            self.lay(over);
        }
    }

    /// Moves the cursor, or what is laid over.
    fn move_by(&mut self, rows: isize) {
        let moved =
            |row: usize, count: usize| row.saturating_add_signed(rows).min(count.saturating_sub(1));
        if self.over.is_some() {
            // The end is known when it is drawn.
            self.scroll = self.scroll.saturating_add_signed(rows);
            return;
        }
        match self.pane {
            Pane::Upstreams => {
                let row = moved(self.upstream_row(), self.upstreams().len());
                self.upstream = self.upstreams().get(row).map(|it| it.name.clone());
            }
            Pane::Stalls => {
                let stalls = self.stalls();
                let row = moved(self.stall_row(&stalls), stalls.len());
                self.stall = stalls.get(row).map(|it| it.id.clone());
            }
        }
    }
}
