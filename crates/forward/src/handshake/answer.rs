//! The head of a server's answer, and what must hold of it.

use super::{Accept, Check};

/// A response's first line and headers, as lenient as possible: what is wrong
/// is told by the checks.
pub(crate) struct Head {
    status: String,
    headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn parse(response: &[u8]) -> Head {
        let text = String::from_utf8_lossy(response);
        let mut lines = text.split("\r\n");
        let status = lines.next().unwrap_or_default().to_owned();
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Head { status, headers }
    }

    /// The values of a header; those of the same name belong together.
    fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> = self
            .headers
            .iter()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect();
        if values.is_empty() { None } else { Some(values.join(", ")) }
    }

    /// RFC 6455, section 4.1, the client's checks 1 to 6.
    pub(crate) fn checks(&self, accept: &Accept, offered: Option<&str>) -> Vec<Check> {
        let check = |name: &'static str, section, expected: &str, right: &dyn Fn(&str) -> bool| {
            let found = match self.header(name) {
                Some(value) if right(&value) => Ok(value),
                Some(value) => Err(value),
                None => Err("nothing".to_owned()),
            };
            Check::new(name, section, expected, found)
        };
        let absent = |name: &'static str, section, why: &str| {
            let found = self.header(name).map_or(Ok("nothing".to_owned()), Err);
            Check::new(name, section, why, found)
        };
        let token = |value: &str, wanted: &str| {
            value.split(',').any(|token| token.trim().eq_ignore_ascii_case(wanted))
        };
        let mut status = self.status.split_ascii_whitespace();
        let right = status.next().is_some_and(|version| version.starts_with("HTTP/1.1"))
            && status.next() == Some("101");
        let found = if right { Ok(self.status.clone()) } else { Err(self.status.clone()) };
        let mut checks = vec![
            Check::new("status", "RFC 6455 4.2.2", "HTTP/1.1 101", found),
            check("Upgrade", "RFC 6455 4.2.2", "websocket", &|value| {
                value.eq_ignore_ascii_case("websocket")
            }),
            check("Connection", "RFC 6455 4.2.2", "Upgrade", &|value| token(value, "upgrade")),
            check("Sec-WebSocket-Accept", "RFC 6455 4.2.2", &accept.value, &|value| {
                value == accept.value
            }),
        ];
        checks.push(match offered {
            Some(offered) => {
                check("Sec-WebSocket-Protocol", "RFC 6455 4.1", offered, &|value| {
                    // One of those offered, and only one.
                    offered.split(',').any(|name| name.trim() == value)
                })
            }
            None => {
                absent("Sec-WebSocket-Protocol", "RFC 6455 4.1", "nothing, as none was offered")
            }
        });
        let none = "nothing, as none was offered";
        checks.push(absent("Sec-WebSocket-Extensions", "RFC 6455 4.1", none));
        checks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(response: &str, offered: Option<&str>) -> Vec<&'static str> {
        let accept = Accept::of("OfMWmQZlMFBWe/o7k1CzZg==");
        let checks = Head::parse(response.as_bytes()).checks(&accept, offered);
        checks.into_iter().filter(|check| !check.ok).map(|check| check.name).collect()
    }

    const RIGHT: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\n\
        Connection: keep-alive, upgrade\r\nSec-WebSocket-Accept: PqfV+Vb3mDtpMlZ/bO+GBzyX4N8=\r\n\
        Sec-WebSocket-Protocol: mqtt\r\n\r\n";

    #[test]
    fn a_right_answer_passes_whatever_its_case() {
        assert!(failed(RIGHT, Some("mqtt")).is_empty());
        assert!(failed(RIGHT, Some("mqttv3.1, mqtt")).is_empty());
    }

    #[test]
    fn each_wrong_line_fails_its_own_check() {
        for (from, to, expected) in [
            ("101", "200", "status"),
            ("HTTP/1.1", "HTTP/1.0", "status"),
            ("WebSocket", "h2c", "Upgrade"),
            ("keep-alive, upgrade", "close", "Connection"),
            ("PqfV", "pqfV", "Sec-WebSocket-Accept"),
            (": mqtt\r\n", ": mqttv3.1\r\n", "Sec-WebSocket-Protocol"),
            ("Sec-WebSocket-Protocol: mqtt\r\n", "", "Sec-WebSocket-Protocol"),
            ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: x\r\n\r\n", "Sec-WebSocket-Extensions"),
        ] {
            assert_eq!(failed(&RIGHT.replacen(from, to, 1), Some("mqtt")), [expected], "{to}");
        }
        assert_eq!(failed(RIGHT, None), ["Sec-WebSocket-Protocol"]);
    }

    #[test]
    fn no_answer_at_all_fails_what_must_be_there() {
        assert_eq!(failed("", None), ["status", "Upgrade", "Connection", "Sec-WebSocket-Accept"]);
    }
}
