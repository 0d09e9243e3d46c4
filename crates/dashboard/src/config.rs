//! `[dashboard]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[dashboard]`: where browsers connect, and who may look.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where browsers connect.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// Who may look without a password.
    pub view: View,
    /// Further names it answers to, for the Host and Origin checks.
    pub hosts: Vec<String>,
    /// With it, HTTPS instead of HTTP.
    pub tls: Option<Tls>,
}

/// Who may look without a password.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum View {
    /// Those with a private address: loopback, RFC 1918, link-local, RFC 4193.
    #[default]
    Lan,
    /// Everyone.
    Anyone,
    /// Nobody.
    Nobody,
}

/// `tls = { cert, key }`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate and its chain, PEM.
    pub cert: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

/// A value that is well-formed, and wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct ConfigError {
    /// The key within `[dashboard]`: `hosts[1]`.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// The longest host name, RFC 1035, section 2.3.4.
const HOST_MAX: usize = 253;

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: ([0, 0, 0, 0], 8080).into(),
            view: View::default(),
            hosts: Vec::new(),
            tls: None,
        }
    }
}

impl Config {
    /// Finds what the types can't say.
    ///
    /// # Errors
    /// Every value that is wrong.
    pub fn check(&self) -> Result<(), Vec<ConfigError>> {
        let wrong = |(at, host): (usize, &String)| ConfigError {
            key: format!("hosts[{at}]"),
            message: format!(
                "{host:?} is not a host name: use a bare name such as \"gateway.example.org\", \
                 without scheme, port or path"
            ),
        };
        let errors: Vec<_> =
            self.hosts.iter().enumerate().filter(|(_, host)| !is_host(host)).map(wrong).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}

/// Labels of letters, digits and hyphens (also underscores, which some LANs
/// have), joined by dots.
fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    text.len() <= HOST_MAX && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_bare_name() {
        let hosts = |names: &[&str]| Config {
            hosts: names.iter().map(|&name| name.to_owned()).collect(),
            ..Config::default()
        };
        assert_eq!(hosts(&["greenhouse.example.org", "pi", "10.0.0.1"]).check(), Ok(()));
        for bad in ["", "https://a.b", "a.b:8080", "a.b/", "a..b", "*.example.org", "ä.example"] {
            let errors = hosts(&["pi", bad]).check().unwrap_err();
            assert_eq!(errors.len(), 1, "{bad}");
            assert_eq!(errors[0].key, "hosts[1]");
        }
    }
}
