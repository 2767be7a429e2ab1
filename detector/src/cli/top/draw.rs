//! The screen as cells of a terminal.
//!
//! **Invariant:** decides nothing; fits any size; colours have names, so that dark and light terminals
//! show their own.

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Clear, HighlightSpacing, Paragraph, Row, Table, TableState, Wrap},
};

use super::screen::{LIMIT, Look, Over, PAST, Pane, Screen};
use crate::{
    api,
    cli::render,
    model::{Phase, State},
    serve::words::{clean, count},
};

/// From this width on there are more columns.
const WIDE: u16 = 110;
/// In front of the row that is selected.
const MARK: &str = "▸";
/// A name of an upstream that is longer is cut.
const LONGEST_NAME: usize = 20;

const KEYS: &[(&str, &str)] = &[
    ("Tab", "upstreams or connections"),
    ("↑ ↓  PgUp PgDn  Home End", "move"),
    ("Enter", "explain what is selected"),
    ("s", "sort connections by something else"),
    ("/", "filter them, such as --cause mtu --dport 25"),
    ("Esc", "back; without anything open, no filter"),
    ("Space", "hold the picture still, or go on"),
    ("q", "leave"),
];

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &mut Screen) {
    let [top, middle, bottom] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    title(frame, top, screen);
    if let Some(look) = screen.look.clone() {
        match screen.over.clone() {
            Some(over) => laid_over(frame, middle, screen, &look, &over),
            None => tables(frame, middle, screen, &look),
        }
    }
    foot(frame, bottom, screen);
}

fn title(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let Some(look) = &screen.look else { return };
    let left = Line::from(vec![
        Span::styled("tcpstall", bold()),
        Span::raw(format!(" on {}", clean(&look.status.host))),
    ]);
    let held = if screen.paused { "held still  " } else { "" };
    let at = look.status.observed_at.strftime("%H:%M:%S UTC");
    frame.render_widget(Paragraph::new(left), area);
    let right = Line::from(format!("{held}{at}")).alignment(Alignment::Right);
    frame.render_widget(Paragraph::new(right), area);
}

/// The sentence, the upstreams and the connections.
fn tables(frame: &mut Frame<'_>, area: Rect, screen: &Screen, look: &Look) {
    let sentence = match (&screen.trouble, render::stale(&look.status, look.now)) {
        (Some(trouble), _) => Paragraph::new(clean(trouble)).style(colour(screen, Color::Red)),
        (None, Some(stale)) => Paragraph::new(stale).style(colour(screen, Color::Yellow)),
        (None, None) => Paragraph::new(render::sentence(&look.status))
            .style(of_state(screen, look.status.state)),
    };
    let sentence = sentence.wrap(Wrap { trim: true });
    let upstreams = u16::try_from(look.status.upstreams.len()).unwrap_or(u16::MAX);
    // Half of the screen belongs to the connections.
    let most = (area.height / 2).saturating_sub(3).max(2);
    let [words, first, rest] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(upstreams.saturating_add(1).min(most)),
        Constraint::Fill(1),
    ])
    .areas(area);
    frame.render_widget(sentence, words);
    upstreams_table(frame, first, screen, look);
    stalls_table(frame, rest, screen, look);
}

fn upstreams_table(frame: &mut Frame<'_>, area: Rect, screen: &Screen, look: &Look) {
    let wide = area.width >= WIDE;
    let names = look.status.upstreams.iter();
    let longest = names.map(|it| clean(&it.name).chars().count()).max();
    let longest = longest.unwrap_or(0).clamp(8, LONGEST_NAME);
    let mut columns = vec![
        ("STATE", 8),
        ("UPSTREAM", longest as u16),
        ("CAUSE", 12),
        ("DESTS", 9),
        ("TRAPPED", 8),
        ("FOR", 8),
    ];
    if wide {
        columns.push(("CONNS", 11));
        columns.push(("VIA", 28));
    }
    // One behind each.
    let taken: u16 = columns.iter().map(|it| it.1 + 1).sum::<u16>() + 1;
    let room = area.width.saturating_sub(taken).min(PAST as u16);
    columns.push(("LATELY", room));
    let columns: Vec<_> = columns
        .into_iter()
        .map(|(name, width)| (name, Constraint::Length(width)))
        .collect();
    let rows = look.status.upstreams.iter().map(|it| {
        let mut cells = vec![
            Span::styled(it.state.to_string(), of_state(screen, it.state)),
            Span::raw(clean(&it.name)),
            Span::raw(it.cause.map_or("-".to_owned(), |it| it.to_string())),
            Span::raw(format!(
                "{}/{}",
                it.destinations.stalled, it.destinations.active
            )),
            Span::raw(render::bytes(it.outstanding_bytes)),
            Span::raw(render::since(it, &look.status)),
        ];
        if wide {
            let stuck = it.connections.stalled + it.connections.suspect;
            cells.push(Span::raw(format!("{stuck}/{}", it.connections.active)));
            cells.push(Span::raw(render::all_via(it)));
        }
        let past = past(screen, it, room.into());
        cells.push(Span::styled(past, of_state(screen, it.state)));
        Row::new(cells)
    });
    let table = framed(rows.collect(), &columns, screen, Pane::Upstreams);
    let mut state = TableState::default().with_selected(Some(screen.upstream_row()));
    frame.render_stateful_widget(table, area, &mut state);
}

/// The share of destinations that was stalled, a bar per look; the newest at the right.
fn past(screen: &Screen, upstream: &api::Upstream, room: usize) -> String {
    let known = screen.past.get(&upstream.name);
    let too_old = known.map_or(0, |it| it.len().saturating_sub(room));
    let bars = known.into_iter().flatten().skip(too_old);
    let bars: String = bars
        .map(|(stalled, active)| render::bar(*stalled, *active))
        .collect();
    format!("{bars:>room$}")
}

fn stalls_table(frame: &mut Frame<'_>, area: Rect, screen: &Screen, look: &Look) {
    let stalls = screen.stalls();
    let [words, rest] = Layout::vertical([Constraint::Length(2), Constraint::Fill(1)]).areas(area);
    let number = u32::try_from(stalls.len()).unwrap_or(u32::MAX);
    let mut about = match (look.stalls.len(), stalls.len()) {
        (0, _) => "No connection is stalled or suspect.".to_owned(),
        (LIMIT, _) if stalls.len() == LIMIT => {
            format!(
                "The {LIMIT} oldest stalled or suspect, {}",
                screen.order.word()
            )
        }
        (_, 0) => "No connection that fits the filter is stalled or suspect.".to_owned(),
        _ => format!(
            "{} stalled or suspect, {}",
            count(number, "connection"),
            screen.order.word()
        ),
    };
    if !screen.flags.is_empty() {
        about.push_str(&format!("   {}", clean(&screen.flags)));
    }
    let about = Paragraph::new(vec![Line::raw(""), Line::styled(about, bold())]);
    frame.render_widget(about, words);
    if stalls.is_empty() {
        return;
    }
    let wide = area.width >= WIDE;
    let mut columns = vec![
        ("ID", Constraint::Length(10)),
        ("CAUSE", Constraint::Length(12)),
        ("AGE", Constraint::Length(8)),
        ("REMOTE", Constraint::Min(21)),
        ("QUEUE", Constraint::Length(8)),
        ("PROCESS", Constraint::Max(18)),
    ];
    if wide {
        columns.push(("PHASE", Constraint::Length(8)));
        columns.push(("UPSTREAM", Constraint::Max(18)));
    }
    let row = screen.stall_row(&stalls);
    // Of thousands only those that can be seen are made.
    let room = usize::from(rest.height);
    let first = row.saturating_sub(room / 2);
    let shown = stalls.iter().skip(first).take(room.max(1));
    let rows = shown.map(|it| {
        let mut cells = vec![
            Span::raw(clean(&it.id)),
            Span::styled(it.cause.to_string(), of_phase(screen, it.phase)),
            Span::raw(render::age(it.stalled_seconds)),
            Span::raw(it.remote.to_string()),
            Span::raw(render::bytes(render::queue(it))),
            Span::raw(render::process(it)),
        ];
        if wide {
            cells.push(Span::raw(it.phase.to_string()));
            cells.push(Span::raw(clean(&it.upstream)));
        }
        Row::new(cells)
    });
    let table = framed(rows.collect(), &columns, screen, Pane::Stalls);
    let mut state = TableState::default().with_selected(Some(row - first));
    frame.render_stateful_widget(table, rest, &mut state);
}

fn framed<'a>(
    rows: Vec<Row<'a>>,
    columns: &[(&'static str, Constraint)],
    screen: &Screen,
    pane: Pane,
) -> Table<'a> {
    let headings = columns.iter().map(|it| it.0);
    // No reversed colours: bars would say the opposite.
    let (mark, selected) = if screen.pane == pane {
        (MARK, bold())
    } else {
        (" ", Style::new())
    };
    Table::new(rows, columns.iter().map(|it| it.1))
        .header(Row::new(headings).style(Style::new().add_modifier(Modifier::DIM)))
        .highlight_symbol(mark)
        .highlight_spacing(HighlightSpacing::Always)
        .row_highlight_style(selected)
}

/// The evidence, a story or the keys, with as much of it as fits.
fn laid_over(frame: &mut Frame<'_>, area: Rect, screen: &mut Screen, look: &Look, over: &Over) {
    let width = usize::from(area.width).saturating_sub(2);
    let (name, text) = match over {
        Over::Keys => ("Keys".to_owned(), keys()),
        Over::Upstream(name) => {
            let upstream = look.status.upstreams.iter().find(|it| it.name == *name);
            let of_it = look.stalls.iter().filter(|it| it.upstream == *name);
            let stalls: Vec<_> = of_it.cloned().collect();
            let text = upstream.map_or_else(
                || format!("{} is not seen any more.", clean(name)),
                |it| render::explain_upstream(it, &look.status, &stalls, width),
            );
            (clean(name), text)
        }
        Over::Stall(id) => {
            let stall = look.stalls.iter().find(|it| it.id == *id);
            let text = stall.map_or_else(
                || format!("{} makes progress again, or has ended.", clean(id)),
                |it| render::explain_connection(it, &look.status, width),
            );
            (clean(id), text)
        }
    };
    let text = anstream::adapter::strip_str(&text).to_string();
    let lines = text.lines().count();
    let room = usize::from(area.height).saturating_sub(2);
    screen.scroll = screen.scroll.min(lines.saturating_sub(room));
    let scroll = u16::try_from(screen.scroll).unwrap_or(u16::MAX);
    let more = lines.saturating_sub(room + screen.scroll);
    let mut block = Block::bordered().title(format!(" {name} "));
    if more > 0 {
        block = block.title_bottom(format!(" {more} more lines "));
    }
    frame.render_widget(Clear, area);
    let paragraph = Paragraph::new(text).block(block).scroll((scroll, 0));
    frame.render_widget(paragraph, area);
}

fn keys() -> String {
    let each = KEYS.iter().map(|(key, what)| format!("{key:<26} {what}\n"));
    each.collect()
}

fn foot(frame: &mut Frame<'_>, area: Rect, screen: &Screen) {
    let line = match (&screen.typing, &screen.refused) {
        (Some(text), Some(why)) => Line::styled(
            format!("/{}  {}", clean(text), clean(why)),
            colour(screen, Color::Red),
        ),
        (Some(text), None) => Line::raw(format!("/{}▏", clean(text))),
        (None, _) => Line::styled(
            "q leave  Tab switch  Enter explain  s sort  / filter  Space hold  ? keys",
            Style::new().add_modifier(Modifier::DIM),
        ),
    };
    frame.render_widget(Paragraph::new(line), area);
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn colour(screen: &Screen, colour: Color) -> Style {
    if screen.colours {
        Style::new().fg(colour)
    } else {
        Style::new()
    }
}

fn of_state(screen: &Screen, state: State) -> Style {
    match state {
        State::Ok => colour(screen, Color::Green),
        State::Degraded => colour(screen, Color::Yellow),
        State::Failing => colour(screen, Color::Red).add_modifier(Modifier::BOLD),
        State::Idle => Style::new().add_modifier(Modifier::DIM),
    }
}

fn of_phase(screen: &Screen, phase: Phase) -> Style {
    match phase {
        Phase::Suspect => colour(screen, Color::Yellow),
        Phase::Stalled => colour(screen, Color::Red),
    }
}
