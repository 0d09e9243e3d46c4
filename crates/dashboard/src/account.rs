//! Logging in, the password and the tokens, over HTTP.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, State};
use axum::http::header::{self, HeaderValue};
use axum::http::{Request, Response, StatusCode};
use serde::{Deserialize, Serialize};

use crate::access::{LINK_LIFE, Listed, Scope, Who};
use crate::api::{self, Shown};
use crate::guard::{Caller, Refusal};
use crate::routes::Need;
use crate::{body, frame};

/// Who the browser is to us.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Session {
    logged_in: bool,
    password_set: bool,
    /// Whether it may look.
    look: bool,
    /// Whether it may write.
    write: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Setup {
    token: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    current: Option<String>,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    name: String,
    #[serde(default)]
    scope: Scope,
}

#[derive(Serialize)]
struct Created<'a> {
    name: &'a str,
    scope: Scope,
    token: &'a str,
}

#[derive(Serialize)]
struct Link {
    links: Vec<String>,
    expires_in_s: u64,
}

#[derive(Serialize)]
struct Tokens {
    tokens: Vec<Listed>,
}

/// `GET /api/v1/session`.
pub(crate) async fn session(
    State(shown): State<Shown>,
    Extension(caller): Extension<Caller>,
) -> Response<Body> {
    api::ok(frame::json(&state(&shown, &caller)))
}

fn state(Shown { access, .. }: &Shown, caller: &Caller) -> Session {
    let may = |need| access.may(&caller.who, need, caller.anyone);
    Session {
        logged_in: matches!(caller.who, Who::Session(_)),
        password_set: access.is_set(),
        look: may(Need::Look),
        write: may(Need::Write),
    }
}

/// What a browser is that has just logged in.
fn welcome(cookie: HeaderValue) -> Response<Body> {
    let session = Session { logged_in: true, password_set: true, look: true, write: true };
    with_cookie(&session, cookie)
}

fn with_cookie(session: &Session, cookie: HeaderValue) -> Response<Body> {
    let mut response = api::ok(frame::json(session));
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    response
}

/// `POST /api/v1/login`.
pub(crate) async fn login(
    State(Shown { access, .. }): State<Shown>,
    Extension(caller): Extension<Caller>,
    request: Request<Body>,
) -> Result<Response<Body>, Refusal> {
    let Login { password } = body::json(request, r#"{"password":"…"}"#).await?;
    Ok(welcome(access.login(caller.peer, password, caller.secure).await?))
}

/// `POST /api/v1/setup`.
pub(crate) async fn setup(
    State(Shown { access, .. }): State<Shown>,
    Extension(caller): Extension<Caller>,
    request: Request<Body>,
) -> Result<Response<Body>, Refusal> {
    let Setup { token, password } = body::json(request, r#"{"token":"…","password":"…"}"#).await?;
    Ok(welcome(access.setup(caller.peer, &token, password, caller.secure).await?))
}

/// `POST /api/v1/logout`.
pub(crate) async fn logout(
    State(shown): State<Shown>,
    Extension(caller): Extension<Caller>,
) -> Response<Body> {
    let cookie = shown.access.logout(&caller.who, caller.secure);
    // A session that has ended is nobody.
    let caller = match caller.who {
        Who::Session(_) => Caller { who: Who::Anonymous, ..caller },
        _ => caller,
    };
    with_cookie(&state(&shown, &caller), cookie)
}

/// `POST /api/v1/password`.
pub(crate) async fn password(
    State(Shown { access, .. }): State<Shown>,
    Extension(caller): Extension<Caller>,
    request: Request<Body>,
) -> Result<Response<Body>, Refusal> {
    let shape = r#"{"current":"…","password":"…"}"#;
    let Change { current, password } = body::json(request, shape).await?;
    access.change(caller.peer, caller.who, current, password).await?;
    Ok(api::ok(api::DONE))
}

/// `POST /api/v1/link`.
pub(crate) async fn link(
    State(Shown { access, links, .. }): State<Shown>,
) -> Result<Response<Body>, Refusal> {
    let links = links.with(&access.link()?);
    Ok(api::ok(frame::json(&Link { links, expires_in_s: LINK_LIFE.as_secs() })))
}

/// `GET /api/v1/tokens`.
pub(crate) async fn tokens(State(Shown { access, .. }): State<Shown>) -> Response<Body> {
    api::ok(frame::json(&Tokens { tokens: access.tokens() }))
}

/// `POST /api/v1/tokens`.
pub(crate) async fn create(
    State(Shown { access, .. }): State<Shown>,
    request: Request<Body>,
) -> Result<Response<Body>, Refusal> {
    let shape = r#"{"name":"…","scope":"read" or "write"}"#;
    let Create { name, scope } = body::json(request, shape).await?;
    let token = access.create(&name, scope).await?;
    let mut response = api::ok(frame::json(&Created { name: &name, scope, token: &token }));
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// `DELETE /api/v1/tokens/{name}`.
pub(crate) async fn revoke(
    State(Shown { access, .. }): State<Shown>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response<Body>, Refusal> {
    access.revoke(&name?).await?;
    Ok(api::ok(api::DONE))
}
