use jiff::ToSpan;
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use super::{
    draw,
    screen::{Look, Order, Pane, Screen},
};
use crate::{
    cli::render::tests::{stalls, status},
    model::State,
    serve::example,
};

fn look() -> Look {
    Look {
        status: status(),
        stalls: stalls(),
        now: example::facts().wall,
    }
}

/// A screen that has seen trouble begin.
fn screen() -> Screen {
    let mut screen = Screen::new(true);
    for stalled in [0, 0, 4, 16, 31] {
        let mut look = look();
        look.status.upstreams[0].destinations.stalled = stalled;
        screen.looked(Ok(look));
    }
    screen
}

fn press(screen: &mut Screen, codes: &[KeyCode]) -> bool {
    codes
        .iter()
        .all(|code| screen.key(KeyEvent::new(*code, KeyModifiers::NONE)))
}

fn write(screen: &mut Screen, text: &str) {
    for letter in text.chars() {
        press(screen, &[KeyCode::Char(letter)]);
    }
}

fn drawn(screen: &mut Screen, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal
        .draw(|frame| draw::draw(frame, screen))
        .expect("drawn");
    let text = terminal.backend().to_string();
    let lines = text.lines().map(|it| it.trim_matches('"').trim_end());
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn trouble_fits_a_small_terminal() {
    insta::assert_snapshot!(drawn(&mut screen(), 80, 24));
}

#[test]
fn a_wide_terminal_has_more_columns() {
    insta::assert_snapshot!(drawn(&mut screen(), 140, 20));
}

#[test]
fn a_quiet_host_is_a_quiet_screen() {
    let mut screen = Screen::new(true);
    let mut quiet = look();
    quiet.stalls.clear();
    quiet.status.upstreams.remove(0);
    (quiet.status.state, quiet.status.scope) = (State::Ok, None);
    screen.looked(Ok(quiet));
    insta::assert_snapshot!(drawn(&mut screen, 80, 24));
}

#[test]
fn enter_explains_what_is_selected() {
    let mut screen = screen();
    press(&mut screen, &[KeyCode::Enter]);
    insta::assert_snapshot!(drawn(&mut screen, 80, 24));
    press(&mut screen, &[KeyCode::End]);
    let end = drawn(&mut screen, 80, 24);
    assert!(
        end.contains("packet too big") && !end.contains("more lines"),
        "{end}"
    );
    // Up from the end moves at once, however far beyond it the key went.
    press(&mut screen, &[KeyCode::Up]);
    assert!(drawn(&mut screen, 80, 24).contains(" 1 more lines "));
    press(
        &mut screen,
        &[KeyCode::Esc, KeyCode::Tab, KeyCode::Down, KeyCode::Enter],
    );
    assert!(drawn(&mut screen, 80, 24).contains("c-7f3a9c02 has made no progress"));
}

#[test]
fn keys_are_told() {
    let mut screen = screen();
    press(&mut screen, &[KeyCode::Char('?')]);
    insta::assert_snapshot!(drawn(&mut screen, 80, 24));
}

#[test]
fn filters_are_those_of_the_command_line() {
    let mut screen = screen();
    write(&mut screen, "/--cause blackhole");
    assert!(drawn(&mut screen, 80, 24).ends_with("/--cause blackhole▏"));
    press(&mut screen, &[KeyCode::Enter]);
    assert_eq!(screen.stalls().len(), 1);
    let text = drawn(&mut screen, 80, 24);
    assert!(
        text.contains("1 connection stalled or suspect, oldest first   --cause blackhole"),
        "{text}"
    );
    // What is wrong is said, and what was valid stays.
    write(&mut screen, "/x");
    press(&mut screen, &[KeyCode::Enter]);
    let text = drawn(&mut screen, 120, 24);
    assert!(
        text.contains("--cause blackholex  invalid value 'blackholex'"),
        "{text}"
    );
    press(&mut screen, &[KeyCode::Esc]);
    assert_eq!(screen.stalls().len(), 1);
    press(&mut screen, &[KeyCode::Esc]);
    assert_eq!(screen.stalls().len(), 5);
    write(&mut screen, "/--dport 9");
    press(&mut screen, &[KeyCode::Enter]);
    assert!(drawn(&mut screen, 80, 24).contains("No connection that fits the filter"));
}

#[test]
fn connections_can_be_sorted() {
    let mut screen = screen();
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push((screen.order, screen.stalls()[0].id.clone()));
        press(&mut screen, &[KeyCode::Char('s')]);
    }
    assert_eq!(screen.order, Order::Age, "round and round");
    let first = |order| seen.iter().find(|it| it.0 == order).map(|it| &*it.1);
    assert_eq!(first(Order::Age), Some("c-7f3a9c01"));
    assert_eq!(first(Order::Cause), Some("c-7f3a9c03"), "blackhole");
    assert_eq!(first(Order::Process), Some("c-7f3a9c03"), "of nobody");
}

#[test]
fn what_is_selected_stays_selected() {
    let mut screen = screen();
    press(&mut screen, &[KeyCode::Down]);
    assert_eq!(screen.upstream.as_deref(), Some("provider-a"));
    let mut look = look();
    look.status.upstreams.reverse();
    screen.looked(Ok(look));
    assert_eq!(screen.upstream_row(), 1);
    press(&mut screen, &[KeyCode::Tab, KeyCode::Down, KeyCode::Down]);
    assert_eq!(
        (screen.pane, screen.stall.as_deref()),
        (Pane::Stalls, Some("c-7f3a9c03"))
    );
    // It recovers: the cursor goes to the first.
    let mut look = self::look();
    look.stalls.remove(2);
    screen.looked(Ok(look));
    assert_eq!(screen.stall_row(&screen.stalls()), 0);
}

#[test]
fn a_picture_can_be_held_still() {
    let mut screen = screen();
    press(&mut screen, &[KeyCode::Char(' ')]);
    let mut quiet = look();
    quiet.stalls.clear();
    screen.looked(Ok(quiet.clone()));
    assert_eq!(screen.stalls().len(), 5);
    assert!(drawn(&mut screen, 80, 24).contains("held still"));
    press(&mut screen, &[KeyCode::Char(' ')]);
    screen.looked(Ok(quiet));
    assert_eq!(screen.stalls().len(), 0);
}

#[test]
fn a_daemon_that_goes_away_or_hangs_is_told() {
    let mut screen = screen();
    screen.looked(Err("no tcpstall daemon answers\x1b[2J".to_owned()));
    let text = drawn(&mut screen, 80, 24);
    assert!(
        text.contains(r"no tcpstall daemon answers\u{1b}[2J"),
        "{text}"
    );
    assert!(text.contains("c-7f3a9c01"), "what was known stays: {text}");
    let mut old = look();
    old.now += 10.minutes();
    screen.looked(Ok(old));
    let text = drawn(&mut screen, 80, 24);
    assert!(
        text.contains("the newest judgement is 10m 00s old"),
        "{text}"
    );
}

#[test]
fn any_size_and_any_key_is_no_trouble() {
    for (width, height) in [(1, 1), (10, 3), (40, 10), (80, 5), (300, 100)] {
        for keys in [
            &[][..],
            &[KeyCode::Enter],
            &[KeyCode::Tab, KeyCode::End, KeyCode::Enter],
        ] {
            let mut screen = screen();
            press(&mut screen, keys);
            drawn(&mut screen, width, height);
        }
    }
    let mut empty = Screen::new(false);
    for code in [
        KeyCode::Enter,
        KeyCode::Tab,
        KeyCode::Down,
        KeyCode::PageUp,
        KeyCode::Enter,
    ] {
        assert!(press(&mut empty, &[code]));
        drawn(&mut empty, 80, 24);
    }
    assert!(!press(&mut empty, &[KeyCode::Char('q')]));
    let stop = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert!(!screen().key(stop));
}

#[test]
fn names_from_outside_steer_nothing() {
    let bad = "\x1b]0;x\x07\u{202e}";
    let mut screen = Screen::new(true);
    let mut look = look();
    look.status.host = bad.to_owned();
    look.status.upstreams[0].name = bad.to_owned();
    look.stalls[0].process = Some(bad.to_owned());
    screen.looked(Ok(look));
    for keys in [&[][..], &[KeyCode::Enter]] {
        press(&mut screen, keys);
        let text = drawn(&mut screen, 140, 40);
        assert!(
            !text.lines().any(|it| it.contains(crate::config::hidden)),
            "{text:?}"
        );
    }
}
