//! Who may ask for what, and the answers.
//!
//! **Invariant:** every answer is made from the newest [`Published`]; nothing here waits, save for
//! the next event.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{Query, State, rejection::QueryRejection},
    http::{StatusCode, Uri, header},
    response::{
        Html, IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::{get, post},
};
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};

use super::{Board, Filter, Published, Which, http::Peer, json, metrics, words::clean};
use crate::{api, clock, model::ConnectionId};

/// Streams of events at a time; they last, and must leave connections for questions.
const STREAMS: usize = 32;
const KEEP_ALIVE: Duration = Duration::from_secs(15);

const WELCOME: &str = "<!doctype html><title>tcpstall</title><h1>tcpstall</h1>\
    <p><a href=/metrics>/metrics</a> for Prometheus\
    <p><a href=/v1/status>/v1/status</a> the judgement, as JSON\
    <p><a href=/-/healthy>/-/healthy</a> <a href=/-/ready>/-/ready</a>\n";

#[derive(Clone)]
struct Answers {
    board: Board,
    streams: Arc<Semaphore>,
}

/// Everything: for those who may open the socket.
pub(super) fn socket(board: Board) -> Router {
    let answers = answers(board);
    shared()
        .route("/v1/stalls", get(stalls))
        .route("/v1/incidents", get(incidents))
        .route("/v1/events", get(events))
        .route("/v1/record", get(record))
        .route("/v1/kill", post(kill))
        .route("/v1/hooks", get(hooks).post(hook_ended))
        .with_state(answers)
}

/// What harms nobody: for whoever reaches the address.
pub(super) fn tcp(board: Board) -> Router {
    shared()
        .route("/", get(async || Html(WELCOME)))
        .with_state(answers(board))
}

fn answers(board: Board) -> Answers {
    Answers {
        board,
        streams: Arc::new(Semaphore::new(STREAMS)),
    }
}

fn shared() -> Router<Answers> {
    Router::new()
        .route("/v1/status", get(status))
        .route("/metrics", get(metrics_page))
        .route("/-/healthy", get(async || "tcpstall is healthy\n"))
        .route("/-/ready", get(ready))
        .fallback(nothing_here)
}

impl Answers {
    fn latest(&self) -> Result<Arc<Published>, Refusal> {
        self.board.latest.borrow().clone().ok_or(Refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "tcpstall has just started and has seen nothing yet; ask again in a second".to_owned(),
        ))
    }
}

async fn status(State(answers): State<Answers>) -> Result<Json<api::Status>, Refusal> {
    let latest = answers.latest()?;
    Ok(Json(json::status(&latest.snapshot, &latest.facts)))
}

async fn stalls(
    State(answers): State<Answers>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<Vec<api::Stall>>, Refusal> {
    let Query(filter) =
        filter.map_err(|rejection| Refusal(StatusCode::BAD_REQUEST, rejection.body_text()))?;
    let latest = answers.latest()?;
    Ok(Json(json::stalls(&latest.snapshot, &latest.facts, &filter)))
}

async fn incidents(
    State(answers): State<Answers>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Json<Vec<api::Incident>>, Refusal> {
    let Query(which) =
        which.map_err(|rejection| Refusal(StatusCode::BAD_REQUEST, rejection.body_text()))?;
    let latest = answers.board.latest.borrow().clone();
    let now = latest.map(|it| it.facts.wall);
    let all = answers.board.incidents.borrow().clone();
    Ok(Json(super::incidents::incidents(&all, &which, now)))
}

async fn metrics_page(State(answers): State<Answers>) -> Result<Response, Refusal> {
    let latest = answers.board.latest.borrow().clone();
    let page = answers
        .board
        .metrics
        .page(latest.as_deref())
        .map_err(|error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response())
}

async fn ready(State(answers): State<Answers>) -> Result<&'static str, Refusal> {
    let swept = answers.latest()?.snapshot.swept_at.is_some();
    swept.then_some("tcpstall is ready\n").ok_or(Refusal(
        StatusCode::SERVICE_UNAVAILABLE,
        "tcpstall has not walked over all connections yet; ask again in a second".to_owned(),
    ))
}

async fn events(State(answers): State<Answers>) -> Result<Response, Refusal> {
    let permit = Arc::clone(&answers.streams)
        .try_acquire_owned()
        .map_err(|_| {
            Refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{STREAMS} others are watching already; end one of them"),
            )
        })?;
    let events = BroadcastStream::new(answers.board.events.subscribe());
    let events = events.map(move |event| sent(event, &permit));
    Ok(Sse::new(events)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response())
}

/// An event as it is sent; whoever reads too slowly is told how many were left out.
///
/// The stream holds its permit for as long as it lives.
fn sent(
    event: Result<api::Event, BroadcastStreamRecvError>,
    _permit: &OwnedSemaphorePermit,
) -> Result<Event, axum::Error> {
    match event {
        Ok(event) => Event::default().event("upstream").json_data(event),
        Err(BroadcastStreamRecvError::Lagged(count)) => {
            Ok(Event::default().event("lost").data(count.to_string()))
        }
    }
}

/// What the engine is told from now on; it names peers, as `/v1/stalls` does.
async fn record(State(answers): State<Answers>) -> Result<Response, Refusal> {
    let recordings = &answers.board.recordings;
    let lines = recordings
        .begin(clock::now(), clock::wall())
        .ok_or_else(|| {
            Refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                "as many recordings as are possible at a time are under way; end one of them"
                    .to_owned(),
            )
        })?;
    let body = futures_util::stream::unfold(lines, async |mut lines| {
        let line = lines.next().await?;
        Some((Ok::<_, Infallible>(line), lines))
    });
    let kind = [(header::CONTENT_TYPE, "application/jsonl")];
    Ok((kind, Body::from_stream(body)).into_response())
}

/// Which connections may be reset, by root alone. Whoever asked does it with his own rights, which the daemon
/// does not have; here it is written down, and remembered for when they end.
async fn kill(
    State(answers): State<Answers>,
    peer: Option<Extension<Peer>>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Json<Vec<api::Target>>, Refusal> {
    let peer = may_kill(peer.map(|Extension(peer)| peer))?;
    let Query(filter) =
        filter.map_err(|rejection| Refusal(StatusCode::BAD_REQUEST, rejection.body_text()))?;
    let filter = filter
        .of_stalled()
        .map_err(|why| Refusal(StatusCode::BAD_REQUEST, why.to_owned()))?;
    let latest = answers.latest()?;
    let targets = json::targets(&latest.snapshot, &latest.facts, &filter);
    let pid = peer.pid.map_or("unknown".to_owned(), |it| it.to_string());
    tracing::warn!(
        "uid {} (pid {pid}) resets stalled connections, {} of them: {}",
        peer.uid,
        targets.len(),
        clean(&filter.to_string())
    );
    let ids = targets.iter().map(|(id, _)| *id);
    answers.board.kills.note(ids.collect::<Vec<ConnectionId>>());
    Ok(Json(
        targets.into_iter().map(|(_, target)| target).collect(),
    ))
}

/// Whether that one may have connections reset: root alone, and nobody of whom the kernel tells nothing.
fn may_kill(peer: Option<Peer>) -> Result<Peer, Refusal> {
    peer.filter(|it| it.uid == 0).ok_or_else(|| {
        Refusal(
            StatusCode::FORBIDDEN,
            "only root may reset connections; ask with sudo".to_owned(),
        )
    })
}

/// The judgement, for whoever runs hooks; that somebody does is worth knowing.
async fn hooks(answers: State<Answers>) -> Result<Json<api::Status>, Refusal> {
    answers.board.hooks.asked(clock::now());
    status(answers).await
}

/// How a hook has ended: it is counted.
async fn hook_ended(
    State(answers): State<Answers>,
    ran: Result<Query<api::Ran>, QueryRejection>,
) -> Result<StatusCode, Refusal> {
    let Query(ran) =
        ran.map_err(|rejection| Refusal(StatusCode::BAD_REQUEST, rejection.body_text()))?;
    if !answers.board.hooks.names().contains(&ran.hook) {
        let why = format!(
            "no hook of the configuration is called {:?}; reload the daemon when it is new",
            ran.hook.chars().take(64).collect::<String>()
        );
        return Err(Refusal(StatusCode::NOT_FOUND, why));
    }
    answers.board.metrics.hook(&ran.hook, ran.outcome);
    Ok(StatusCode::NO_CONTENT)
}

async fn nothing_here(uri: Uri) -> Refusal {
    let path = uri.path().chars().take(100).collect::<String>();
    Refusal(
        StatusCode::NOT_FOUND,
        format!(
            "there is nothing at {path}; ask for /v1/status, /metrics, /-/healthy or /-/ready, or \
             on the socket for /v1/stalls, /v1/incidents, /v1/events, /v1/record or /v1/hooks, or POST /v1/kill"
        ),
    )
}

/// A request that cannot be served, and why.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(api::Error { error: self.1 })).into_response()
    }
}

#[cfg(test)]
mod tests;
