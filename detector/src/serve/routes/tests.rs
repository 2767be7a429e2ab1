use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::{
    super::{bind_socket, example, http},
    *,
};
use crate::model::Phase;

fn peer(uid: u32) -> Option<Peer> {
    Some(Peer { uid, pid: Some(1) })
}

#[test]
fn only_root_may_reset() {
    assert!(may_kill(peer(0)).is_ok());
    for other in [None, peer(1), peer(1000), peer(65_534), peer(u32::MAX)] {
        let Refusal(code, why) = may_kill(other).err().unwrap();
        assert_eq!(code, StatusCode::FORBIDDEN, "{other:?}");
        assert_eq!(why, "only root may reset connections; ask with sudo");
    }
}

/// What the socket answers to the first line of a request, and what is reset then.
async fn answer(request: &str) -> (String, Vec<ConnectionId>) {
    let (said, board) = asked(request).await;
    (said, board.kills.take())
}

/// The same, and what has become of the board.
async fn asked(request: &str) -> (String, Board) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.sock");
    let listener = bind_socket(&path).unwrap();
    let (board, _kept) = example::board();
    let kept = board.clone();
    let asked = async {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        let text = format!("{request} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        said
    };
    tokio::select! {
        () = http::serve(&listener, socket(board), http::Limits::SOCKET) => unreachable!(),
        said = asked => (said, kept),
    }
}

#[tokio::test]
async fn who_may_is_told_what_to_reset_and_it_is_remembered() {
    let (said, noted) = answer("POST /v1/kill?upstream=provider-b&limit=3").await;
    if !rustix::process::geteuid().is_root() {
        assert!(said.starts_with("HTTP/1.1 403 "), "{said}");
        assert!(noted.is_empty());
        return;
    }
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{said}");
    let targets: Vec<api::Target> = serde_json::from_str(body).unwrap();
    assert_eq!((targets.len(), noted.len()), (3, 3));
    for (target, id) in targets.iter().zip(noted) {
        assert_eq!(target.stall.id, id.to_string());
        assert_eq!((target.cookie, target.inode), (Some(id.0), Some(id.0)));
        assert_eq!(target.stall.phase, Phase::Stalled);
    }
}

#[tokio::test]
async fn nothing_is_reset_by_mistake() {
    let root = rustix::process::geteuid().is_root();
    for (request, code) in [
        ("GET /v1/kill?upstream=provider-b", 405),
        ("POST /v1/kill", if root { 400 } else { 403 }),
        ("POST /v1/kill?limit=3", if root { 400 } else { 403 }),
        (
            "POST /v1/kill?upstream=provider-b&phase=suspect",
            if root { 400 } else { 403 },
        ),
        (
            "POST /v1/kill?upstraem=provider-b",
            if root { 400 } else { 403 },
        ),
    ] {
        let (said, noted) = answer(request).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {code} ")), "{said}");
        assert!(noted.is_empty(), "{request}");
    }
}

#[tokio::test]
async fn whoever_runs_hooks_is_known_by_what_he_asks_and_no_other_is() {
    for (request, runs) in [("GET /v1/hooks", true), ("GET /v1/status", false)] {
        let (said, board) = asked(request).await;
        assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
        assert_eq!(board.hooks.are_run(clock::now()), Some(runs), "{request}");
    }
}

#[tokio::test]
async fn how_hooks_of_the_configuration_have_ended_is_counted() {
    let count = |board: &Board| {
        let page = board.metrics.page(None).unwrap();
        let series = r#"tcpstall_hook_runs_total{hook="route",outcome="failed"} 1"#;
        page.lines().any(|line| line == series)
    };
    let (said, board) = asked("POST /v1/hooks?hook=route&outcome=failed").await;
    assert!(said.starts_with("HTTP/1.1 204 "), "{said}");
    assert!(count(&board));
    for (request, code, why) in [
        (
            "hook=none&outcome=failed",
            404,
            "no hook of the configuration is called",
        ),
        ("hook=route&outcome=burnt", 400, "burnt"),
        ("hook=route", 400, "outcome"),
        ("", 400, "hook"),
    ] {
        let (said, board) = asked(&format!("POST /v1/hooks?{request}")).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {code} ")), "{said}");
        assert!(said.contains(why), "{said}");
        assert!(!count(&board), "{request}");
    }
}
