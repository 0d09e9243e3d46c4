//! What goes over a device's line, while it does: for recordings.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::header::{self, HeaderValue};
use axum::http::{Response, StatusCode};
use futures_util::{Stream, StreamExt};

use crate::api::{self, Shown};

/// Lines of a recording as they come. It ends when it can't go on without a hole.
pub type Lines = Pin<Box<dyn Stream<Item = String> + Send>>;

/// Begins to record the device of that name. An error is a sentence for people.
pub type LineFn = Arc<dyn Fn(&str) -> Result<Lines, String> + Send + Sync>;

/// `GET /api/v1/devices/{device}/line`.
pub(crate) async fn follow(
    State(Shown { line, .. }): State<Shown>,
    device: Result<Path<String>, PathRejection>,
) -> Response<Body> {
    let Ok(Path(device)) = device else {
        return api::problem(StatusCode::BAD_REQUEST, "the device's name is not UTF-8");
    };
    match line(&device) {
        Ok(lines) => {
            let mut response = Response::new(Body::from_stream(lines.map(Ok::<_, Infallible>)));
            let kind = HeaderValue::from_static("text/plain; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(reason) => api::problem(StatusCode::CONFLICT, &reason),
    }
}
