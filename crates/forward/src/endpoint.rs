use std::fmt;

/// Where a broker listens and how to speak to it there.
///
/// Path and query are kept to the letter: some brokers sign them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// MQTT over WebSocket, or over the stream itself.
    pub websocket: bool,
    /// Over TLS.
    pub tls: bool,
    /// A name or an address, without brackets.
    pub host: String,
    /// The port of the URL, or the scheme's own.
    pub port: u16,
    /// With the query; `/` when the URL has none.
    pub path: String,
}

/// Why a text is no URL of a broker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// The part before `://`.
    #[error("{0:?} doesn't begin with ws://, wss://, mqtt:// or mqtts://")]
    Scheme(String),
    /// Nothing between `://` and the path.
    #[error("it names no host")]
    Host,
    /// Not a number from 1 to 65535.
    #[error("{0:?} is not a port: use a number from 1 to 65535")]
    Port(String),
    /// A name or a password before an `@`.
    #[error("it holds a user name or a password: use `username` and `password_file` instead")]
    Userinfo,
    /// A space, a control character or a non-ASCII one.
    #[error("it holds a space or another character that a URL can't hold: percent-encode it")]
    Character,
    /// A `#` and what follows.
    #[error("it holds a '#': RFC 6455, section 3, has no fragments; write %23")]
    Fragment,
    /// A path where there is no WebSocket.
    #[error("a path is only for ws:// and wss://: remove it")]
    Path,
}

impl Endpoint {
    /// Reads `scheme://host[:port][/path][?query]`.
    ///
    /// # Errors
    /// When it isn't such a URL.
    pub fn parse(url: &str) -> Result<Endpoint, InvalidUrl> {
        if !url.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(InvalidUrl::Character);
        }
        if url.contains('#') {
            return Err(InvalidUrl::Fragment);
        }
        let (scheme, rest) =
            url.split_once("://").ok_or_else(|| InvalidUrl::Scheme(url.to_owned()))?;
        let (websocket, tls, default) = match scheme.to_ascii_lowercase().as_str() {
            "ws" => (true, false, 80),
            "wss" => (true, true, 443),
            "mqtt" => (false, false, 1883),
            "mqtts" => (false, true, 8883),
            _ => return Err(InvalidUrl::Scheme(scheme.to_owned())),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(InvalidUrl::Userinfo);
        }
        if !websocket && !matches!(path, "" | "/") {
            return Err(InvalidUrl::Path);
        }
        let (host, port) = split_authority(authority)?;
        let port = match port {
            None | Some("") => default,
            Some(text) => text
                .parse()
                .ok()
                .filter(|&port| port != 0)
                .ok_or_else(|| InvalidUrl::Port(text.to_owned()))?,
        };
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Endpoint { websocket, tls, host: host.to_owned(), port, path })
    }

    /// `host:port`, as the `Host` header and people have it.
    pub fn authority(&self) -> String {
        let brackets = self.host.contains(':');
        let host = if brackets { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == self.default_port() { host } else { format!("{host}:{}", self.port) }
    }

    /// The URL with path and query, for the handshake alone: a query may be a
    /// signature.
    pub(crate) fn full(&self) -> String {
        format!("{}://{}{}", self.scheme(), self.authority(), self.path)
    }

    fn scheme(&self) -> &'static str {
        match (self.websocket, self.tls) {
            (true, false) => "ws",
            (true, true) => "wss",
            (false, false) => "mqtt",
            (false, true) => "mqtts",
        }
    }

    fn default_port(&self) -> u16 {
        match (self.websocket, self.tls) {
            (true, false) => 80,
            (true, true) => 443,
            (false, false) => 1883,
            (false, true) => 8883,
        }
    }
}

/// The URL for people, without its query.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.authority())?;
        match self.path.split_once('?') {
            Some((path, _)) => f.write_str(path),
            None if self.websocket => f.write_str(&self.path),
            None => Ok(()),
        }
    }
}

fn split_authority(authority: &str) -> Result<(&str, Option<&str>), InvalidUrl> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(InvalidUrl::Host)?;
        match after.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if after.is_empty() => (host, None),
            None => return Err(InvalidUrl::Host),
        }
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    if host.is_empty() { Err(InvalidUrl::Host) } else { Ok((host, port)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_query_are_kept_to_the_letter() {
        let url = "wss://hub.example/$iothub/websocket?iothub-no-client-cert=true&a=%2F/..//b";
        let endpoint = Endpoint::parse(url).unwrap();
        assert_eq!(endpoint.path, "/$iothub/websocket?iothub-no-client-cert=true&a=%2F/..//b");
        assert_eq!((endpoint.port, endpoint.full().as_str()), (443, url));
        assert_eq!(endpoint.to_string(), "wss://hub.example/$iothub/websocket");
    }

    #[test]
    fn each_scheme_has_its_port() {
        for (url, port, shown) in [
            ("ws://a", 80, "ws://a/"),
            ("wss://a:8884/mqtt", 8884, "wss://a:8884/mqtt"),
            ("mqtt://10.0.0.1", 1883, "mqtt://10.0.0.1"),
            ("mqtts://[::1]:9", 9, "mqtts://[::1]:9"),
            ("ws://a?x=1", 80, "ws://a/"),
        ] {
            let endpoint = Endpoint::parse(url).unwrap();
            assert_eq!((endpoint.port, endpoint.to_string().as_str()), (port, shown));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (url, expected) in [
            ("broker", InvalidUrl::Scheme("broker".into())),
            ("http://a/", InvalidUrl::Scheme("http".into())),
            ("ws://", InvalidUrl::Host),
            ("ws://:80/", InvalidUrl::Host),
            ("ws://a:0/", InvalidUrl::Port("0".into())),
            ("ws://a:b/", InvalidUrl::Port("b".into())),
            ("ws://pi:secret@a/", InvalidUrl::Userinfo),
            ("ws://a/b c", InvalidUrl::Character),
            ("ws://a/b#c", InvalidUrl::Fragment),
            ("mqtt://a/b", InvalidUrl::Path),
        ] {
            assert_eq!(Endpoint::parse(url), Err(expected), "{url}");
        }
    }
}
