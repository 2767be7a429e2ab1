//! `tcpstall top` on a real terminal.

use lab::{Direction, Fault, terminal::Terminal};
use rustix::process::Signal;

use crate::world::{SOON, World, it_works};

/// A small terminal, as old as any.
const SMALL: (u16, u16) = (80, 24);
const ENTER: &str = "\r";
const ESCAPE: &str = "\x1b";

/// A host without traffic, and the screen on it.
#[track_caller]
fn shown() -> Option<(World, Terminal)> {
    let mut world = World::new(1)?;
    world.watch();
    let mut top = it_works(Terminal::start(
        &world.lab.host,
        world.daemon(),
        &["top"],
        SMALL,
    ));
    it_works(top.wait_until(SOON, "a screen", |it| it.contains("q leave")));
    Some((world, top))
}

#[test]
fn top_shows_trouble_as_it_comes_and_goes_and_gives_the_terminal_back() {
    let Some(world) = World::healthy() else {
        return;
    };
    let mut top = it_works(Terminal::start(
        &world.lab.host,
        world.daemon(),
        &["top"],
        SMALL,
    ));
    let quiet = it_works(top.wait_until(SOON, "a quiet screen", |it| {
        it.contains("All 3 upstreams are ok.")
    }));
    assert!(
        quiet.contains("No connection is stalled or suspect."),
        "{quiet}"
    );
    assert!(top.is_borrowed());

    world.break_(1, Fault::Blackhole(Direction::Both));
    it_works(top.wait_until(SOON, "trouble", |it| {
        it.contains("provider-b has been failing") && it.contains("blackhole")
    }));
    // The worst stands first, and the cursor is on it.
    it_works(top.press(ENTER));
    it_works(top.wait_until(SOON, "the evidence", |it| {
        it.contains("What speaks for trouble")
    }));
    it_works(top.press(ESCAPE));
    it_works(top.wait_until(SOON, "the tables", |it| it.contains("UPSTREAM")));
    it_works(top.press("/--upstream provider-a\r"));
    it_works(top.wait_until(SOON, "a filter", |it| {
        it.contains("No connection that fits the filter")
    }));
    it_works(top.press(ESCAPE));
    it_works(top.resize((120, 30)));
    it_works(top.wait_until(SOON, "more columns", |it| it.contains("VIA")));

    world.recovers(1);
    it_works(top.wait_until(SOON, "quiet again", |it| {
        it.contains("All 3 upstreams are ok.")
    }));
    it_works(top.press("q"));
    let status = it_works(top.wait());
    assert!(status.success(), "{status}");
    assert!(
        !top.is_borrowed() && it_works(top.echoes()),
        "as it was before"
    );
}

#[test]
fn top_gives_the_terminal_back_when_it_is_told_to_end() {
    let Some((_world, mut top)) = shown() else {
        return;
    };
    assert!(!it_works(top.echoes()));
    it_works(top.signal(Signal::TERM));
    let status = it_works(top.wait());
    assert!(status.success(), "{status}");
    assert!(
        !top.is_borrowed() && it_works(top.echoes()),
        "as it was before"
    );
}

/// A dropped ssh session: the kernel says so, and nobody is left to show anything to.
#[test]
fn top_ends_with_its_terminal() {
    let Some((_world, mut top)) = shown() else {
        return;
    };
    let status = it_works(top.hang_up());
    assert!(status.success(), "{status}");
}

#[test]
fn top_says_when_the_daemon_goes_away() {
    let Some((mut world, mut top)) = shown() else {
        return;
    };
    it_works(world.take_daemon().stop());
    it_works(top.wait_until(SOON, "no daemon", |it| {
        it.contains("no tcpstall daemon answers")
    }));
    it_works(top.press("\x03"));
    assert!(it_works(top.wait()).success());
}

#[test]
fn without_a_terminal_or_a_daemon_top_says_what_to_do() {
    let Some(mut world) = World::new(1) else {
        return;
    };
    world.watch();
    let output = it_works(world.daemon().cli(&["top"]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("top needs a terminal") && said.contains("`tcpstall status`"),
        "{said}"
    );
}
