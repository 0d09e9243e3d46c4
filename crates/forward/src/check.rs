//! What serde can't see of `[forward.X]`: keys that exclude or need each other.

use std::time::Duration;

use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};

use crate::config::{Compress, Config, Format, Invalid, Version};
use crate::{Endpoint, InvalidUrl};

/// Room for the prefix beside two names in the 65,535 bytes of a topic; nobody
/// needs more.
const PREFIX_MAX: usize = 512;
/// MQTT's keep-alive is 16 bits of seconds.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(65_535);
/// Smaller, not even the CONNECT fits.
const PACKET_MIN: u64 = 1024;
/// Larger, a Pi Zero would notice.
const PACKET_MAX: u64 = 16 * 1024 * 1024;
/// Headers that make a handshake what it is (RFC 6455, section 4.1).
const RESERVED: [&str; 4] = ["host", "upgrade", "connection", "origin"];

pub(crate) fn check(config: &Config) -> Vec<Invalid> {
    let mut errors = Vec::new();
    let endpoints = urls(config, &mut errors);
    passwords(config, &mut errors);
    websocket(config, &endpoints, &mut errors);
    tls(config, &endpoints, &mut errors);
    limits(config, &mut errors);
    if let Some(message) = prefix(&config.topic_prefix) {
        errors.push(Invalid { key: "topic_prefix", message });
    }
    errors
}

fn urls(config: &Config, errors: &mut Vec<Invalid>) -> Vec<Endpoint> {
    let mut invalid =
        |key, message: &str| errors.push(Invalid { key, message: message.to_owned() });
    if config.url.is_some() && !config.urls.is_empty() {
        invalid("urls", "both `url` and `urls` are given: use one of them");
    }
    if config.all_urls().next().is_none() {
        invalid("url", "missing: where does the broker listen? such as wss://broker.example/mqtt");
    }
    let key = if config.url.is_some() { "url" } else { "urls" };
    let parsed: Vec<Result<Endpoint, InvalidUrl>> =
        config.all_urls().map(|url| Endpoint::parse(url)).collect();
    for error in parsed.iter().filter_map(|result| result.as_ref().err()) {
        errors.push(Invalid { key, message: error.to_string() });
    }
    parsed.into_iter().flatten().collect()
}

fn passwords(config: &Config, errors: &mut Vec<Invalid>) {
    let given = [
        ("password_file", config.password_file.is_some()),
        ("credential", config.credential.is_some()),
        ("password_env", config.password_env.is_some()),
    ];
    let given: Vec<&'static str> =
        given.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect();
    if given.len() > 1 {
        let message = format!("{} are given: keep one", given.join(" and "));
        errors.push(Invalid { key: given[1], message });
    }
    // MQTT 3.1.1, 3.1.2.9: without a user name there is no password.
    if let (Some(&key), None, Version::V4) = (given.first(), &config.username, config.version) {
        let message = "MQTT 3.1.1 has no password without a user: add `username`".to_owned();
        errors.push(Invalid { key, message });
    }
    if config.credential.as_ref().is_some_and(|name| name.is_empty() || name.contains('/')) {
        let message = "not the name of a credential: as in LoadCredential=NAME:FILE".to_owned();
        errors.push(Invalid { key: "credential", message });
    }
}

fn websocket(config: &Config, endpoints: &[Endpoint], errors: &mut Vec<Invalid>) {
    let plain = !endpoints.is_empty() && endpoints.iter().all(|endpoint| !endpoint.websocket);
    let only = "only for ws:// and wss://: remove it, or change the URL";
    if plain && config.origin.is_some() {
        errors.push(Invalid { key: "origin", message: only.to_owned() });
    }
    if plain && !config.headers.is_empty() {
        errors.push(Invalid { key: "headers", message: only.to_owned() });
    }
    if config.origin.as_ref().is_some_and(|origin| HeaderValue::from_str(origin).is_err()) {
        let message = "not the value of a header: such as https://example.com".to_owned();
        errors.push(Invalid { key: "origin", message });
    }
    for (name, value) in &config.headers {
        let lower = name.to_ascii_lowercase();
        let message = if HeaderName::try_from(name).is_err() {
            format!("{name:?} is not the name of a header")
        } else if RESERVED.contains(&lower.as_str()) || lower.starts_with("sec-websocket-") {
            format!("{name} belongs to the handshake itself: remove it (`origin`, `subprotocol`)")
        } else if HeaderValue::from_str(value).is_err() {
            // The value may be a secret: it isn't shown.
            format!("the value of {name} can't stand in a header")
        } else {
            continue;
        };
        errors.push(Invalid { key: "headers", message });
    }
}

fn tls(config: &Config, endpoints: &[Endpoint], errors: &mut Vec<Invalid>) {
    let plain = !endpoints.is_empty() && endpoints.iter().all(|endpoint| !endpoint.tls);
    let given = [("ca", &config.ca), ("cert", &config.cert), ("key", &config.key)];
    for (key, _) in given.into_iter().filter(|(_, path)| plain && path.is_some()) {
        let message = "only for wss:// and mqtts://: remove it, or change the URL".to_owned();
        errors.push(Invalid { key, message });
    }
    match (&config.cert, &config.key) {
        (Some(_), None) => {
            errors.push(Invalid { key: "cert", message: "needs its `key` beside it".into() });
        }
        (None, Some(_)) => {
            errors.push(Invalid { key: "key", message: "needs its `cert` beside it".into() });
        }
        _ => (),
    }
}

fn limits(config: &Config, errors: &mut Vec<Invalid>) {
    let mut invalid =
        |key, message: &str| errors.push(Invalid { key, message: message.to_owned() });
    if config.inflight == 0 {
        invalid("inflight", "0 would send nothing: use 1 to 65535");
    }
    if config.compress != Compress::None && config.format != Format::Senml {
        invalid("compress", "only for `format = \"senml\"`");
    }
    let level =
        |name: &str| (1..=64).contains(&name.len()) && !name.contains(['/', '+', '#', '\0']);
    if config.group.as_deref().is_some_and(|group| !level(group)) {
        invalid("group", "use 1 to 64 characters, without /, + and #");
    }
    if config.homeassistant && config.format != Format::Json {
        invalid("homeassistant", "its entities have a topic each: use `format = \"json\"`");
    }
    if config.channels.is_empty() {
        invalid("channels", "none are named: use [\"*\"] for all of them");
    }
    if config.keep_alive < Duration::from_secs(1) || config.keep_alive > KEEP_ALIVE_MAX {
        invalid("keep_alive", "use 1s to 65535s");
    }
    for (key, duration) in
        [("connect_timeout", config.connect_timeout), ("ack_timeout", config.ack_timeout)]
    {
        if duration < Duration::from_millis(100) || duration > Duration::from_secs(600) {
            invalid(key, "use 100ms to 10min");
        }
    }
    if !(PACKET_MIN..=PACKET_MAX).contains(&config.max_packet.as_u64()) {
        invalid("max_packet", "use 1KiB to 16MiB");
    }
    let long = |text: &Option<String>| {
        text.as_ref().is_some_and(|text| text.is_empty() || text.len() > 256 || text.contains('\0'))
    };
    if long(&config.client_id) {
        invalid("client_id", "use 1 to 256 bytes");
    }
    if long(&config.username) {
        invalid("username", "use 1 to 256 bytes");
    }
}

fn prefix(text: &str) -> Option<String> {
    let rest = text.replace("{gateway}", "g");
    let wrong = if rest.is_empty() {
        "it is empty: use such as tidemill/{gateway}"
    } else if rest.len() > PREFIX_MAX {
        "it is longer than 512 bytes"
    } else if rest.contains(['#', '+']) {
        "'#' and '+' are for subscriptions: no topic holds them"
    } else if rest.contains(['{', '}']) {
        "only {gateway} is known within braces"
    } else if rest.starts_with(['/', '$']) || rest.ends_with('/') || rest.contains("//") {
        "a topic begins with a name, not with '/' or '$', and has no empty level"
    } else if rest.chars().any(char::is_control) {
        "it holds a control character"
    } else {
        return None;
    };
    Some(wrong.to_owned())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn every_error_is_told_at_once() {
        let config: Config = toml::from_str(
            r##"
            url = "mqtt://pi:secret@a"
            urls = ["mqtt://b"]
            version = 4
            password_file = "/a"
            password_env = "B"
            origin = "https://example.com"
            headers = { Host = "a", "b c" = "d" }
            compress = "zstd"
            channels = []
            inflight = 0
            topic_prefix = "a/#"
            keep_alive = "0s"
            ack_timeout = "1ms"
            max_packet = "1B"
            cert = "/cert.pem"
            "##,
        )
        .unwrap();
        let errors = config.check().unwrap_err();
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        expect![[r#"
            urls: both `url` and `urls` are given: use one of them
            url: it holds a user name or a password: use `username` and `password_file` instead
            password_env: password_file and password_env are given: keep one
            password_file: MQTT 3.1.1 has no password without a user: add `username`
            origin: only for ws:// and wss://: remove it, or change the URL
            headers: only for ws:// and wss://: remove it, or change the URL
            headers: Host belongs to the handshake itself: remove it (`origin`, `subprotocol`)
            headers: "b c" is not the name of a header
            cert: only for wss:// and mqtts://: remove it, or change the URL
            cert: needs its `key` beside it
            inflight: 0 would send nothing: use 1 to 65535
            compress: only for `format = "senml"`
            channels: none are named: use ["*"] for all of them
            keep_alive: use 1s to 65535s
            ack_timeout: use 100ms to 10min
            max_packet: use 1KiB to 16MiB
            topic_prefix: '#' and '+' are for subscriptions: no topic holds them"#]]
        .assert_eq(&lines.join("\n"));
        assert!(!lines.join("\n").contains("secret"));
    }

    #[test]
    fn a_url_is_all_that_is_needed() {
        let config: Config = toml::from_str("url = \"ws://localhost:9001\"").unwrap();
        assert_eq!(config.check(), Ok(()));
        assert_eq!(Config::default().check().unwrap_err()[0].key, "url");
    }
}
