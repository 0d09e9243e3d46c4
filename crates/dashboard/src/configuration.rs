//! The configuration that runs: shown without its secrets, and tried through the
//! control socket.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, StatusCode};
use serde::{Deserialize, Serialize};

use crate::api::{self, Shown};
use crate::guard::Refusal;
use crate::{body, frame};

/// The largest text, escaped as JSON, bytes: a gateway takes files of 4 MiB.
const TEXT_MAX: u64 = 8 << 20;

/// How long a trial may last, seconds.
const TRIAL_MAX: u64 = 24 * 3600;

/// What somebody wants of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// To know what this text would change.
    Compare(String),
    /// To run with this text, and go back unless it is kept within the time.
    Try(String, Duration),
    /// To stay with what is tried.
    Keep,
}

/// What became of it: what changes, a line each, or a sentence for people.
pub type Answer = Pin<Box<dyn Future<Output = Result<Vec<String>, String>> + Send>>;

/// The configuration, as the dashboard sees it.
#[derive(Clone)]
pub struct Configuration {
    /// What runs, as TOML without comments and secrets.
    pub shown: Arc<dyn Fn() -> String + Send + Sync>,
    /// Does what somebody wants.
    pub ask: Arc<dyn Fn(Ask) -> Answer + Send + Sync>,
}

#[derive(Serialize)]
struct Text {
    text: String,
}

#[derive(Serialize)]
struct Changes {
    changes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    text: String,
    #[serde(default)]
    confirm_s: u64,
}

/// `GET /api/v1/config`.
pub(crate) async fn show(State(Shown { configuration, .. }): State<Shown>) -> Response<Body> {
    api::ok(frame::json(&Text { text: (configuration.shown)() }))
}

/// `POST /api/v1/config`.
pub(crate) async fn change(
    State(Shown { configuration, .. }): State<Shown>,
    request: Request<Body>,
) -> Result<Response<Body>, Refusal> {
    let shape = r#"{"text":"…","confirm_s":300}"#;
    let Wish { text, confirm_s } = body::json_of(request, shape, TEXT_MAX).await?;
    let ask = match confirm_s {
        0 => Ask::Compare(text),
        1..=TRIAL_MAX => Ask::Try(text, Duration::from_secs(confirm_s)),
        _ => return Err(Refusal::new(StatusCode::BAD_REQUEST, "a trial lasts a day at most")),
    };
    answer((configuration.ask)(ask).await)
}

/// `POST /api/v1/config/keep`.
pub(crate) async fn keep(
    State(Shown { configuration, .. }): State<Shown>,
) -> Result<Response<Body>, Refusal> {
    answer((configuration.ask)(Ask::Keep).await)
}

fn answer(done: Result<Vec<String>, String>) -> Result<Response<Body>, Refusal> {
    let changes = done.map_err(|why| Refusal::new(StatusCode::CONFLICT, why))?;
    Ok(api::ok(frame::json(&Changes { changes })))
}
