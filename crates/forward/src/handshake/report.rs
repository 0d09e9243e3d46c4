//! What `tidemill handshake` prints.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::{Accept, GUID};
use crate::Endpoint;

/// What was sent, what came back, and what is right about it. Its `Display` is
/// what `tidemill handshake` prints.
#[derive(Clone, Debug)]
pub struct Report {
    /// Where to.
    pub endpoint: Endpoint,
    /// How long each step took.
    pub steps: Vec<Step>,
    /// The request as sent.
    pub request: String,
    /// The head of the response as received.
    pub response: Vec<u8>,
    /// The right value of `Sec-WebSocket-Accept`, and how it comes about.
    pub accept: Accept,
    /// Every check, those that failed included.
    pub checks: Vec<Check>,
}

/// One thing that must hold of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is checked: mostly the name of a header.
    pub name: &'static str,
    /// Whether it holds.
    pub ok: bool,
    /// What must be there.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// Where it is written.
    pub section: &'static str,
}

/// A step of the connection and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which step.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// Whether every check passed.
    pub fn ok(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }
}

impl Check {
    pub(crate) fn new(
        name: &'static str,
        section: &'static str,
        expected: &str,
        found: Result<String, String>,
    ) -> Check {
        let ok = found.is_ok();
        let found = found.unwrap_or_else(|wrong| wrong);
        Check { name, ok, expected: expected.to_owned(), found, section }
    }
}

impl Step {
    pub(crate) fn since(name: &'static str, begun: Instant) -> Step {
        Step { name, took: begun.elapsed() }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: Vec<String> = self.steps.iter().map(ToString::to_string).collect();
        writeln!(f, "{} ({})\n", self.endpoint, steps.join(", "))?;
        for line in self.request.trim_end().split("\r\n") {
            writeln!(f, "> {line}")?;
        }
        writeln!(f, ">")?;
        let response = String::from_utf8_lossy(&self.response);
        for line in response.trim_end().split("\r\n") {
            writeln!(f, "< {}", harmless(line))?;
        }
        writeln!(f, "<\n")?;
        let Accept { key, joined, sha1, value } = &self.accept;
        writeln!(f, "Sec-WebSocket-Accept, computed (RFC 6455, section 4.2.2):")?;
        writeln!(f, "  key     {key}")?;
        writeln!(f, "  GUID    {GUID}")?;
        writeln!(f, "  joined  {joined}")?;
        writeln!(f, "  SHA-1   {sha1}")?;
        writeln!(f, "  base64  {value}\n")?;
        for check in &self.checks {
            writeln!(f, "{check}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Check { name, expected, section, .. } = self;
        let found = harmless(&self.found);
        if self.ok {
            write!(f, "ok    {name:<24}  {found}")
        } else {
            write!(f, "fail  {name:<24}  expected {expected}, found {found} ({section})")
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:.1} ms", self.name, self.took.as_secs_f64() * 1000.0)
    }
}

/// A server's text, which must not steer the terminal.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::answer::Head;
    use super::*;

    #[test]
    fn what_a_person_sees() {
        let accept = Accept::of("OfMWmQZlMFBWe/o7k1CzZg==");
        let response = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Accept: \x1b[31mwrong\r\n\r\n"
            .to_vec();
        let report = Report {
            endpoint: Endpoint::parse("ws://broker.mqttdashboard.com:8000/mqtt").unwrap(),
            steps: vec![Step { name: "DNS and TCP", took: Duration::from_micros(1234) }],
            request: "GET /mqtt HTTP/1.1\r\nHost: broker.mqttdashboard.com:8000\r\n\r\n".into(),
            checks: Head::parse(&response).checks(&accept, None),
            response,
            accept,
        };
        assert!(!report.ok());
        expect![[r#"
            ws://broker.mqttdashboard.com:8000/mqtt (DNS and TCP 1.2 ms)

            > GET /mqtt HTTP/1.1
            > Host: broker.mqttdashboard.com:8000
            >
            < HTTP/1.1 101 Switching Protocols
            < Upgrade: websocket
            < Connection: Upgrade
            < Sec-WebSocket-Accept: �[31mwrong
            <

            Sec-WebSocket-Accept, computed (RFC 6455, section 4.2.2):
              key     OfMWmQZlMFBWe/o7k1CzZg==
              GUID    258EAFA5-E914-47DA-95CA-C5AB0DC85B11
              joined  OfMWmQZlMFBWe/o7k1CzZg==258EAFA5-E914-47DA-95CA-C5AB0DC85B11
              SHA-1   3ea7d5f956f7983b6932567f6cef86073c97e0df
              base64  PqfV+Vb3mDtpMlZ/bO+GBzyX4N8=

            ok    status                    HTTP/1.1 101 Switching Protocols
            ok    Upgrade                   websocket
            ok    Connection                Upgrade
            fail  Sec-WebSocket-Accept      expected PqfV+Vb3mDtpMlZ/bO+GBzyX4N8=, found �[31mwrong (RFC 6455 4.2.2)
            ok    Sec-WebSocket-Protocol    nothing
            ok    Sec-WebSocket-Extensions  nothing
        "#]].assert_eq(&report.to_string());
    }
}
