//! The JSON that a request carries.

use axum::body::{Body, to_bytes};
use axum::http::header::{self, HeaderMap};
use axum::http::{Request, StatusCode};
use serde::de::DeserializeOwned;

use crate::guard::{BODY_MAX, Refusal};

/// Reads a body. `shape` shows what would be right: what stands in the body isn't
/// repeated in an error, since it may be a password.
///
/// # Errors
/// When it isn't declared as JSON, which no form of a foreign page can do; when
/// it is too large or of another shape.
pub(crate) async fn json<T: DeserializeOwned>(
    request: Request<Body>,
    shape: &str,
) -> Result<T, Refusal> {
    json_of(request, shape, BODY_MAX).await
}

/// [`json`] of at most so many bytes.
///
/// # Errors
/// As [`json`].
pub(crate) async fn json_of<T: DeserializeOwned>(
    request: Request<Body>,
    shape: &str,
    max: u64,
) -> Result<T, Refusal> {
    if !is_json(request.headers()) {
        let reason = "send JSON, with Content-Type: application/json";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, reason));
    }
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let bytes = to_bytes(request.into_body(), max).await.map_err(|_| {
        Refusal::new(StatusCode::BAD_REQUEST, "the body is too large or didn't come whole")
    })?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let place = match error.line() {
            0 => String::new(),
            line => format!(", which this isn't from line {line}, column {}", error.column()),
        };
        Refusal::new(StatusCode::BAD_REQUEST, format!("the body is to be {shape}{place}"))
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}
