use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use reading::Pattern;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{Endpoint, backoff, check};

/// `[forward.X]`: one broker, and what goes to it.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the broker listens: ws, wss, mqtt or mqtts.
    pub url: Option<String>,
    /// The nodes of a cluster instead, tried in turn.
    pub urls: Vec<String>,
    /// The version of MQTT: 5, or 4 for 3.1.1.
    #[schemars(with = "u8", extend("enum" = [4, 5]))]
    pub version: Version,
    /// Unique on the broker; by default the gateway's id, a hyphen and the
    /// forwarder's name.
    pub client_id: Option<String>,
    /// The user's name on the broker.
    pub username: Option<String>,
    /// A file that holds the password, read at each connect.
    pub password_file: Option<PathBuf>,
    /// The name of a systemd credential (`LoadCredential`) that holds it.
    pub credential: Option<String>,
    /// The environment variable that holds it.
    pub password_env: Option<String>,
    /// The `Origin` header of the WebSocket handshake; none by default.
    pub origin: Option<String>,
    /// Further headers of the handshake.
    pub headers: BTreeMap<String, String>,
    /// The WebSocket subprotocol: mqtt, or the legacy mqttv3.1.
    pub subprotocol: Subprotocol,
    /// How readings are written: json (one a message), senml (RFC 8428, many) or
    /// sparkplug-b (many, in Sparkplug's own topics).
    pub format: Format,
    /// The group of a Sparkplug B edge node; by default tidemill.
    pub group: Option<String>,
    /// How senml packs are compressed: none, deflate or zstd.
    pub compress: Compress,
    /// Which channels, as globs over device/channel.
    #[serde(deserialize_with = "patterns")]
    pub channels: Vec<String>,
    /// oldest-first, or live-first: fresh readings in a lane of their own, the
    /// backlog behind them.
    pub order: Order,
    /// Readings a second of a backlog, at most; 0 for as many as the link and
    /// the broker take.
    pub drain_rate: u32,
    /// Messages a second, at most, for a broker that bills or throttles; 0 for
    /// no limit.
    pub rate_limit: u32,
    /// The most messages sent and not yet acknowledged, 1 to 65535; the broker
    /// may allow fewer.
    #[schemars(range(min = 1, max = 65535))]
    pub inflight: u16,
    /// Describe the channels for Home Assistant, retained under homeassistant/.
    pub homeassistant: bool,
    /// Before every topic; {gateway} stands for the gateway's id.
    pub topic_prefix: String,
    /// How long the link may be silent before it is tested with a ping.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub keep_alive: Duration,
    /// How long DNS, TCP, TLS, the handshakes and CONNECT may take together.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub connect_timeout: Duration,
    /// How long a message or a ping may stay unanswered, or a write stuck,
    /// before the link is given up.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub ack_timeout: Duration,
    /// No MQTT packet is larger; the broker may allow less.
    #[schemars(with = "String")]
    pub max_packet: ByteSize,
    /// A PEM file of certificate authorities trusted beside the system's.
    pub ca: Option<PathBuf>,
    /// A PEM file of the client's certificate chain.
    pub cert: Option<PathBuf>,
    /// The PEM file of its private key.
    pub key: Option<PathBuf>,
}

/// A version of MQTT, by its protocol level.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(try_from = "u8", into = "u8")]
pub enum Version {
    /// MQTT 3.1.1.
    V4,
    /// MQTT 5.
    #[default]
    V5,
}

/// What the WebSocket handshake offers.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub enum Subprotocol {
    /// As MQTT 3.1.1, section 6, has it.
    #[default]
    #[serde(rename = "mqtt")]
    Mqtt,
    /// As brokers of 2013 had it.
    #[serde(rename = "mqttv3.1")]
    MqttV31,
}

/// How readings become payloads.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One reading a message.
    #[default]
    Json,
    /// Many readings a message: RFC 8428.
    Senml,
    /// Many readings of a device a message: Sparkplug B 3.0.0.
    #[serde(rename = "sparkplug-b")]
    SparkplugB,
}

/// How packs are compressed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Compress {
    /// They aren't.
    #[default]
    None,
    /// RFC 1950.
    Deflate,
    /// RFC 8878.
    Zstd,
}

/// What goes first when readings have waited.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// All in the order in which they were read.
    #[default]
    OldestFirst,
    /// Fresh ones at once, what has waited behind them; each in its order.
    LiveFirst,
}

/// A key that can't be as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct Invalid {
    /// Which key of `[forward.X]`.
    pub key: &'static str,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            url: None,
            urls: Vec::new(),
            version: Version::V5,
            client_id: None,
            username: None,
            password_file: None,
            credential: None,
            password_env: None,
            origin: None,
            headers: BTreeMap::new(),
            subprotocol: Subprotocol::Mqtt,
            format: Format::Json,
            group: None,
            compress: Compress::None,
            channels: vec!["*".into()],
            order: Order::OldestFirst,
            drain_rate: 0,
            rate_limit: 0,
            inflight: 100,
            homeassistant: false,
            topic_prefix: "tidemill/{gateway}".into(),
            keep_alive: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(15),
            ack_timeout: Duration::from_secs(20),
            // What AWS IoT Core takes, the least of the large brokers.
            max_packet: ByteSize::kib(128),
            ca: None,
            cert: None,
            key: None,
        }
    }
}

impl Config {
    /// Everything that can be checked without the network.
    ///
    /// # Errors
    /// Every key that can't be as it is.
    pub fn check(&self) -> Result<(), Vec<Invalid>> {
        let errors = check::check(self);
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Which channels go to this broker.
    pub fn patterns(&self) -> Vec<Pattern> {
        self.channels.iter().filter_map(|text| text.parse().ok()).collect()
    }

    /// Where to connect, in the order of trying. What isn't a URL is left out:
    /// see [`Config::check`].
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.all_urls().filter_map(|url| Endpoint::parse(url).ok()).collect()
    }

    /// The first URL for people: no query, which may be a signature.
    pub fn shown_url(&self) -> String {
        self.endpoints().first().map(ToString::to_string).unwrap_or_default()
    }

    /// The longest that one turn of the forwarder can take by its own deadlines:
    /// whoever watches it for stalls waits longer than this.
    pub fn patience(&self) -> Duration {
        self.connect_timeout + self.ack_timeout + self.keep_alive + 2 * backoff::CAP
    }

    pub(crate) fn all_urls(&self) -> impl Iterator<Item = &String> {
        self.url.iter().chain(&self.urls)
    }
}

impl Subprotocol {
    /// As the header has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Subprotocol::Mqtt => "mqtt",
            Subprotocol::MqttV31 => "mqttv3.1",
        }
    }
}

impl TryFrom<u8> for Version {
    type Error = String;

    fn try_from(level: u8) -> Result<Version, String> {
        match level {
            4 => Ok(Version::V4),
            5 => Ok(Version::V5),
            _ => Err(format!("{level} is not a version of MQTT: use 5, or 4 for 3.1.1")),
        }
    }
}

impl From<Version> for u8 {
    fn from(version: Version) -> u8 {
        match version {
            Version::V4 => 4,
            Version::V5 => 5,
        }
    }
}

/// Refused here rather than in `check`, so that the error has a line and column.
fn patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    for text in &texts {
        text.parse::<Pattern>().map_err(serde::de::Error::custom)?;
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_manual_is_read() {
        let config: Config = toml::from_str(
            r#"
            urls = ["wss://a.example:8884/mqtt", "ws://b.example/mqtt?x=1"]
            version = 4
            client_id = "greenhouse"
            username = "pi"
            credential = "cloud-password"
            origin = "https://example.com"
            headers = { Authorization = "Bearer x" }
            subprotocol = "mqttv3.1"
            format = "senml"
            compress = "zstd"
            homeassistant = false
            channels = ["weather/*"]
            order = "live-first"
            drain_rate = 500
            rate_limit = 100
            inflight = 20
            topic_prefix = "site/{gateway}"
            keep_alive = "1min"
            connect_timeout = "5s"
            ack_timeout = "7s"
            max_packet = "64KiB"
            ca = "/etc/ca.pem"
            cert = "/etc/cert.pem"
            key = "/etc/key.pem"
            "#,
        )
        .unwrap();
        assert_eq!(config.check(), Ok(()));
        assert_eq!((config.version, config.format), (Version::V4, Format::Senml));
        assert_eq!(config.keep_alive, Duration::from_secs(60));
        assert_eq!(config.endpoints().len(), 2);
        assert_eq!(config.shown_url(), "wss://a.example:8884/mqtt");
    }

    #[test]
    fn what_there_is_not_is_an_error() {
        for text in ["format = \"xml\"", "order = \"newest-first\"", "version = 3"] {
            assert!(toml::from_str::<Config>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_channel_that_no_channel_could_match_is_an_error() {
        let error = toml::from_str::<Config>("channels = [\"A/#\"]").unwrap_err();
        assert!(error.message().contains("is not a pattern"), "{error}");
    }
}
