//! The routes. Who may ask has been checked before: see `guard`.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::header::{self, HeaderValue};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use axum::response::IntoResponse;
use axum::routing::{delete, get, post};
use serde::Serialize;

use crate::access::Access;
use crate::guard::Refusal;
use crate::history::History;
use crate::links::Links;
use crate::outputs::{self, Outputs};
use crate::pulse::Pulse;
use crate::routes::is_api;
use crate::rows::Table;
use crate::{
    Configuration, Hub, LineFn, account, assets, configuration, frame, line, metrics, upgrade,
};

/// What the routes show.
#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) hub: Hub,
    pub(crate) history: Arc<History>,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) access: Access,
    pub(crate) outputs: Outputs,
    pub(crate) line: LineFn,
    pub(crate) links: Arc<Links>,
    pub(crate) configuration: Configuration,
}

/// The answer where there is nothing more to say.
pub(crate) const DONE: &str = r#"{"ok":true}"#;

/// What the API is, for programs.
const OPENAPI: &str = include_str!("../openapi.json");

#[derive(Serialize)]
struct Problem<'a> {
    error: &'a str,
}

#[derive(Serialize)]
struct Channels<'a> {
    channels: Vec<frame::Described<'a>>,
}

pub(crate) fn router(shown: Shown) -> Router {
    Router::new()
        .route("/api/v1/status", get(status))
        .route("/api/v1/channels", get(channels))
        .route("/api/v1/readings", get(json))
        .route("/api/v1/readings.csv", get(csv))
        .route("/api/v1/gaps", get(gaps))
        .route("/api/v1/live", get(live))
        .route("/api/v1/config", get(configuration::show).post(configuration::change))
        .route("/api/v1/config/keep", post(configuration::keep))
        .route("/api/v1/channels/{device}/{channel}", post(outputs::set))
        .route("/api/v1/devices/{device}/line", get(line::follow))
        .route("/api/v1/session", get(account::session))
        .route("/api/v1/setup", post(account::setup))
        .route("/api/v1/login", post(account::login))
        .route("/api/v1/logout", post(account::logout))
        .route("/api/v1/password", post(account::password))
        .route("/api/v1/link", post(account::link))
        .route("/api/v1/tokens", get(account::tokens).post(account::create))
        .route("/api/v1/tokens/{name}", delete(account::revoke))
        .route("/api/openapi.json", get(async || ok(OPENAPI)))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || text(StatusCode::OK, "ok")))
        .route("/readyz", get(ready))
        .method_not_allowed_fallback(not_allowed)
        .fallback(other)
        .with_state(shown)
}

async fn status(State(Shown { pulse, .. }): State<Shown>) -> Response<Body> {
    ok(frame::json(&pulse.status()))
}

async fn channels(State(Shown { hub, .. }): State<Shown>) -> Response<Body> {
    let channels = hub.channels();
    let channels = channels.iter().map(|(spec, last)| frame::Described::new(spec, last.as_ref()));
    ok(frame::json(&Channels { channels: channels.collect() }))
}

async fn json(
    State(Shown { history, .. }): State<Shown>,
    uri: Uri,
    headers: HeaderMap,
) -> Response<Body> {
    history.answer(&uri, &headers, Table::Json).await
}

async fn csv(
    State(Shown { history, .. }): State<Shown>,
    uri: Uri,
    headers: HeaderMap,
) -> Response<Body> {
    history.answer(&uri, &headers, Table::Csv).await
}

async fn gaps(State(Shown { history, .. }): State<Shown>, uri: Uri) -> Response<Body> {
    history.gaps(&uri).await
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
    refuse(uri.path(), &Refusal::new(StatusCode::METHOD_NOT_ALLOWED, reason))
}

/// Says why not, as a script or as a person reads it.
pub(crate) fn refuse(path: &str, refusal: &Refusal) -> Response<Body> {
    let mut response = match is_api(path) {
        true => problem(refusal.status, &refusal.reason),
        false => text(refusal.status, &refusal.reason),
    };
    let headers = response.headers_mut();
    if refusal.status == StatusCode::UNAUTHORIZED {
        // RFC 9110, section 11.6.1. A browser asks nobody for this scheme.
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(wait) = refusal.wait {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs()));
    }
    response
}

/// What a route of the API refuses itself.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response<Body> {
        refuse("/api", &self)
    }
}

impl From<PathRejection> for Refusal {
    fn from(_: PathRejection) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, "the path is not UTF-8")
    }
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
