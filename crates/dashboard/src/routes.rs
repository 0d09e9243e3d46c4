//! What there is to ask for, and what each needs. `openapi.json` describes the
//! same, and a test keeps the two together.

use axum::http::Method;

/// What somebody must be let to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: it tells nothing of the gateway.
    Nothing,
    /// To look: `dashboard.view` says who may, and whoever is logged in or has a
    /// token.
    Look,
    /// To write: a login, or a token with the scope `write`.
    Write,
    /// To administrate: a login. A token can't make tokens.
    Login,
    /// To read the gateway's log or be its user: the control socket.
    Control,
}

/// Each route of the API: method, path, need.
pub(crate) const ROUTES: &[(&str, &str, Need)] = &[
    ("GET", "/api/v1/status", Need::Look),
    ("GET", "/api/v1/channels", Need::Look),
    ("POST", "/api/v1/channels/{device}/{channel}", Need::Write),
    ("GET", "/api/v1/readings", Need::Look),
    ("GET", "/api/v1/readings.csv", Need::Look),
    ("GET", "/api/v1/gaps", Need::Look),
    ("GET", "/api/v1/live", Need::Look),
    ("GET", "/api/v1/devices/{device}/line", Need::Control),
    ("GET", "/api/v1/session", Need::Nothing),
    ("POST", "/api/v1/setup", Need::Nothing),
    ("POST", "/api/v1/login", Need::Nothing),
    ("POST", "/api/v1/logout", Need::Nothing),
    ("POST", "/api/v1/password", Need::Login),
    ("POST", "/api/v1/link", Need::Control),
    ("GET", "/api/v1/config", Need::Login),
    ("POST", "/api/v1/config", Need::Control),
    ("POST", "/api/v1/config/keep", Need::Control),
    ("GET", "/api/v1/tokens", Need::Login),
    ("POST", "/api/v1/tokens", Need::Login),
    ("DELETE", "/api/v1/tokens/{name}", Need::Login),
    ("GET", "/api/openapi.json", Need::Nothing),
    ("GET", "/metrics", Need::Look),
    ("GET", "/healthz", Need::Nothing),
    ("GET", "/readyz", Need::Nothing),
];

/// What a request needs. The page's own files need nothing, so that it can show
/// the way in; whatever else is asked of the API tells nothing to those who may
/// not look.
pub(crate) fn need(method: &Method, path: &str) -> Need {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    let found = ROUTES.iter().find(|(m, pattern, _)| *m == method && matches(pattern, path));
    match found {
        Some((_, _, need)) => *need,
        None if is_api(path) || path == "/metrics" => Need::Look,
        None => Need::Nothing,
    }
}

/// Whether a script is to read the answer.
pub(crate) fn is_api(path: &str) -> bool {
    path == "/api" || path.starts_with("/api/")
}

fn matches(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some(part), Some(given)) if part == given => (),
            (Some(part), Some(given)) if part.starts_with('{') && !given.is_empty() => (),
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_needs() {
        for (method, path, expected) in [
            (Method::GET, "/", Need::Nothing),
            (Method::GET, "/assets/index.js", Need::Nothing),
            (Method::HEAD, "/api/v1/status", Need::Look),
            (Method::POST, "/api/v1/status", Need::Look),
            (Method::GET, "/api/v1/nothing", Need::Look),
            (Method::POST, "/api/v1/channels/panel/pump", Need::Write),
            (Method::POST, "/api/v1/channels//pump", Need::Look),
            (Method::POST, "/api/v1/channels/panel/pump/x", Need::Look),
            (Method::DELETE, "/api/v1/tokens/a%2Fb", Need::Login),
            (Method::POST, "/api/v1/link", Need::Control),
            (Method::GET, "/healthz", Need::Nothing),
        ] {
            assert_eq!(need(&method, path), expected, "{method} {path}");
        }
    }
}
