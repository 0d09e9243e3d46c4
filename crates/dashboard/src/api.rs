//! The routes. Who may ask has been checked before: see `guard`.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{self, HeaderValue};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use axum::routing::get;
use serde::Serialize;
use store::Store;

use crate::history::History;
use crate::pulse::Pulse;
use crate::rows::Table;
use crate::{Hub, assets, frame, metrics, upgrade};

/// What the routes show.
#[derive(Clone)]
struct Shown {
    hub: Hub,
    history: Arc<History>,
    pulse: Arc<Pulse>,
}

#[derive(Serialize)]
struct Problem<'a> {
    error: &'a str,
}

#[derive(Serialize)]
struct Channels<'a> {
    channels: Vec<frame::Described<'a>>,
}

pub(crate) fn router(hub: Hub, store: Store, pulse: Arc<Pulse>) -> Router {
    let history = Arc::new(History::new(hub.clone(), store));
    Router::new()
        .route("/api/v1/status", get(status))
        .route("/api/v1/channels", get(channels))
        .route("/api/v1/readings", get(json))
        .route("/api/v1/readings.csv", get(csv))
        .route("/api/v1/live", get(live))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || text(StatusCode::OK, "ok")))
        .route("/readyz", get(ready))
        .method_not_allowed_fallback(not_allowed)
        .fallback(other)
        .with_state(Shown { hub, history, pulse })
}

async fn status(State(Shown { pulse, .. }): State<Shown>) -> Response<Body> {
    ok(frame::json(&pulse.status()))
}

async fn channels(State(Shown { hub, .. }): State<Shown>) -> Response<Body> {
    let channels = hub.channels();
    let channels = channels.iter().map(|(spec, last)| frame::Described::new(spec, last.as_ref()));
    ok(frame::json(&Channels { channels: channels.collect() }))
}

async fn json(State(Shown { history, .. }): State<Shown>, uri: Uri) -> Response<Body> {
    history.answer(&uri, Table::Json).await
}

async fn csv(State(Shown { history, .. }): State<Shown>, uri: Uri) -> Response<Body> {
    history.answer(&uri, Table::Csv).await
}

async fn live(request: Request<Body>) -> Response<Body> {
    upgrade::accept(request).unwrap_or_else(|(status, reason)| {
        let mut response = problem(status, reason);
        if status == StatusCode::UPGRADE_REQUIRED {
            let headers = response.headers_mut();
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        response
    })
}

async fn metrics(State(Shown { hub, pulse, .. }): State<Shown>) -> Response<Body> {
    let text = metrics::text(&pulse.status(), &hub);
    let mut response = Response::new(Body::from(text));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Ready is a gateway that stores what it reads.
async fn ready(State(Shown { pulse, .. }): State<Shown>) -> Response<Body> {
    match pulse.status().store.error {
        None => text(StatusCode::OK, "ok"),
        Some(_) => text(StatusCode::SERVICE_UNAVAILABLE, "nothing can be stored now: see status"),
    }
}

async fn other(method: Method, uri: Uri, headers: HeaderMap) -> Response<Body> {
    let path = uri.path();
    if is_api(path) {
        return problem(StatusCode::NOT_FOUND, &format!("there is no {path}"));
    }
    if method != Method::GET && method != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET,HEAD"));
        return response;
    }
    assets::respond(path, &headers).unwrap_or_else(|| text(StatusCode::NOT_FOUND, "not found"))
}

/// axum adds `Allow`.
async fn not_allowed(method: Method, uri: Uri) -> Response<Body> {
    let reason = format!("{} doesn't take {method}", uri.path());
    refuse(uri.path(), StatusCode::METHOD_NOT_ALLOWED, &reason)
}

/// Says why not, as a script or as a person reads it.
pub(crate) fn refuse(path: &str, status: StatusCode, reason: &str) -> Response<Body> {
    if is_api(path) { problem(status, reason) } else { text(status, reason) }
}

fn is_api(path: &str) -> bool {
    path == "/api" || path.starts_with("/api/")
}

/// `{"error":"…"}`.
pub(crate) fn problem(status: StatusCode, error: &str) -> Response<Body> {
    let mut response = ok(frame::json(&Problem { error }));
    *response.status_mut() = status;
    response
}

/// JSON.
pub(crate) fn ok(json: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(json.into());
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn text(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{text}\n")));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
