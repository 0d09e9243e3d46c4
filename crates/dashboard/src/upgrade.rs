//! The server's half of a WebSocket opening handshake (RFC 6455, section 4.2).
//!
//! Not axum's: that one starts a task of its own for each socket, and loses the
//! order of the subprotocols. Here the connection's own task goes on with the
//! socket, so that whoever owns the connections also owns the feeds.

use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::header::{self, HeaderMap, HeaderName};
use axum::http::{Method, Request, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use sha1::{Digest as _, Sha1};

use crate::guard::Caller;
use crate::ws::{self, Agreed};

/// The subprotocol of the feed.
const SUBPROTOCOL: &str = "tidemill.v1";

/// Where a route leaves the upgrade for the task of its connection. Each
/// connection has one, in its requests' extensions.
#[derive(Clone, Default)]
pub(crate) struct Slot(Arc<Mutex<Option<Accepted>>>);

/// A handshake that was answered.
pub(crate) struct Accepted {
    pub(crate) upgrade: OnUpgrade,
    pub(crate) caller: Caller,
    /// Whether messages may be compressed, and how.
    pub(crate) deflate: Option<Agreed>,
}

/// What is appended to the client's key (section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

impl Slot {
    /// What a route has left.
    pub(crate) fn take(&self) -> Option<Accepted> {
        self.0.lock().expect("no holder panics").take()
    }

    fn put(&self, accepted: Accepted) {
        *self.0.lock().expect("no holder panics") = Some(accepted);
    }
}

/// Answers a handshake, and leaves the upgrade in the connection's [`Slot`].
///
/// # Errors
/// The status that a bad handshake gets, and what is wrong with it.
pub(crate) fn accept(
    mut request: Request<Body>,
) -> Result<Response<Body>, (StatusCode, &'static str)> {
    let key = check(&request)?;
    let accept = accept_value(&key);
    let slot = request.extensions().get::<Slot>().cloned();
    let caller = request.extensions().get::<Caller>().copied();
    let (slot, caller) =
        slot.zip(caller).ok_or((StatusCode::INTERNAL_SERVER_ERROR, "no connection to upgrade"))?;
    let offers = request.headers().get_all(header::SEC_WEBSOCKET_EXTENSIONS);
    let deflate = ws::agree(offers.iter().filter_map(|offer| offer.to_str().ok()));
    slot.put(Accepted { upgrade: hyper::upgrade::on(&mut request), caller, deflate });
    let mut response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, accept);
    if has_token(request.headers(), header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        response = response.header(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
    }
    if let Some(agreed) = deflate {
        response = response.header(header::SEC_WEBSOCKET_EXTENSIONS, agreed.answer());
    }
    response.body(Body::empty()).map_err(|_| (StatusCode::BAD_REQUEST, "the key is malformed"))
}

fn accept_value(key: &[u8]) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    data_encoding::BASE64.encode(&digest)
}

fn check(request: &Request<Body>) -> Result<Vec<u8>, (StatusCode, &'static str)> {
    let headers = request.headers();
    if request.method() != Method::GET || request.version() != Version::HTTP_11 {
        return Err((StatusCode::BAD_REQUEST, "a WebSocket is opened by GET and HTTP/1.1"));
    }
    if !has_token(headers, header::CONNECTION, "upgrade")
        || !has_token(headers, header::UPGRADE, "websocket")
    {
        return Err((StatusCode::UPGRADE_REQUIRED, "this is a WebSocket: ask for an upgrade"));
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err((StatusCode::UPGRADE_REQUIRED, "only version 13 of WebSocket is spoken"));
    }
    // 16 bytes in base64 (section 4.1, 7).
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    match (keys.next(), keys.next()) {
        (Some(key), None) if is_key(key.as_bytes()) => Ok(key.as_bytes().to_vec()),
        _ => Err((StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is not 16 bytes in base64")),
    }
}

fn is_key(key: &[u8]) -> bool {
    let base64 = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    key.len() == 24 && key.ends_with(b"==") && key[..22].iter().all(base64)
}

/// Whether a list of tokens, in any number of headers, has this one. Case
/// matters to none of the tokens we ask for but the subprotocol, which has one
/// spelling.
fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let lists = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|found| found.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: &str, key: &str) -> axum::http::request::Builder {
        Request::get("/api/v1/live")
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "WebSocket")
            .header("sec-websocket-version", version)
            .header("sec-websocket-key", key)
            .extension(Slot::default())
            .extension(Caller {
                peer: crate::guard::Peer::Control,
                who: crate::access::Who::Control,
                anyone: true,
                secure: false,
            })
    }

    const KEY: &str = "OfMWmQZlMFBWe/o7k1CzZg==";

    #[test]
    fn a_handshake_is_answered_with_the_accept_value() {
        let response = accept(request("13", KEY).body(Body::empty()).unwrap()).unwrap();
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()["sec-websocket-accept"], "PqfV+Vb3mDtpMlZ/bO+GBzyX4N8=");
        assert!(!response.headers().contains_key("sec-websocket-protocol"));
    }

    #[test]
    fn the_subprotocol_is_answered_when_it_is_offered() {
        for (offered, expected) in [
            ("tidemill.v1", true),
            ("mqtt, tidemill.v1", true),
            ("tidemill.v2", false),
            ("tidemill.v10", false),
        ] {
            let request = request("13", KEY).header("sec-websocket-protocol", offered);
            let response = accept(request.body(Body::empty()).unwrap()).unwrap();
            let answered = response.headers().get("sec-websocket-protocol");
            assert_eq!(answered.is_some_and(|p| p == "tidemill.v1"), expected, "{offered}");
        }
    }

    #[test]
    fn compression_is_agreed_on_when_it_is_offered() {
        let answer = |offer: &'static str| {
            let request = request("13", KEY).header("sec-websocket-extensions", offer);
            let response = accept(request.body(Body::empty()).unwrap()).unwrap();
            let answer = response.headers().get("sec-websocket-extensions").cloned();
            answer.map(|answer| answer.to_str().unwrap().to_owned())
        };
        let plain = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        assert_eq!(answer("permessage-deflate; client_max_window_bits").unwrap(), plain);
        assert_eq!(answer("permessage-bzip2"), None);
    }

    #[test]
    fn a_bad_handshake_is_refused() {
        let status = |request: axum::http::request::Builder| {
            accept(request.body(Body::empty()).unwrap()).unwrap_err().0.as_u16()
        };
        assert_eq!(status(request("8", KEY)), 426);
        assert_eq!(status(request("13", "short")), 400);
        assert_eq!(status(request("13", &KEY.replace("==", "AA"))), 400);
        assert_eq!(status(request("13", KEY).header("sec-websocket-key", KEY)), 400);
        assert_eq!(status(request("13", KEY).method(Method::POST)), 400);
        assert_eq!(status(request("13", KEY).version(Version::HTTP_10)), 400);
        assert_eq!(status(Request::get("/").extension(Slot::default())), 426);
    }
}
