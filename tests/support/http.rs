//! HTTP/1.1, as much as a test needs.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::PATIENCE;

/// What the server said.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// By lower-case name.
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?} ({})", self.text(), self.status))
    }
}

/// GET without anything special.
///
/// # Errors
/// When nobody answers.
pub(crate) fn get(address: &str, path: &str) -> std::io::Result<Response> {
    request(address, "GET", path, &[("Host", address)], b"")
}

/// A request with exactly these headers, and the length of the body.
///
/// # Errors
/// When nobody answers.
pub(crate) fn request(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Response> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    head += "\r\n";
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut all = Vec::new();
    read_answer(&mut stream, &mut all)?;
    parse(&all).ok_or_else(|| std::io::Error::other(String::from_utf8_lossy(&all).into_owned()))
}

/// Until the server closes, or as much as it said it would send: chromedriver
/// keeps the connection open all the same.
fn read_answer(stream: &mut TcpStream, all: &mut Vec<u8>) -> std::io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        all.extend_from_slice(&buffer[..n]);
        let whole = parse(all).is_some_and(|response| {
            let length = response.headers.get("content-length").and_then(|l| l.parse().ok());
            length.is_some_and(|length: usize| response.body.len() >= length)
        });
        if whole {
            return Ok(());
        }
    }
}

fn parse(all: &[u8]) -> Option<Response> {
    let end = all.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&all[..end]);
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let body = &all[end + 4..];
    let chunked = headers.get("transfer-encoding").is_some_and(|encoding| encoding == "chunked");
    let body = if chunked { unchunked(body) } else { body.to_vec() };
    Some(Response { status, headers, body })
}

/// RFC 9112, section 7.1, without trailers.
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|window| window == b"\r\n") {
        let size = String::from_utf8_lossy(&body[..end]).into_owned();
        let Ok(size) = usize::from_str_radix(size.trim(), 16) else { break };
        let chunk = &body[end + 2..];
        if size == 0 || chunk.len() < size {
            break;
        }
        whole.extend_from_slice(&chunk[..size]);
        body = chunk.get(size + 2..).unwrap_or_default();
    }
    whole
}
