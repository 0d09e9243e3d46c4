//! Who may come in: the checks before any route is looked at.
//!
//! Host: a page of a foreign site that has its name resolved to this machine's
//! address (DNS rebinding) still sends the foreign name. Origin: a browser says
//! which site's script asks (RFC 6455, section 10.2; RFC 6454). Address: whether
//! `view` lets it look.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::uri::{Authority, Uri};
use axum::http::{Request, StatusCode};

use crate::access::{Access, Who};
use crate::routes::{self, Need};
use crate::{Config, View};

/// The largest body of a request. Nothing that the API takes is larger.
pub(crate) const BODY_MAX: u64 = 64 << 10;

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The control socket: its permissions have said enough.
    Control,
    /// A client with an address.
    Address(IpAddr),
}

/// The request goes no further.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// What is wrong, and the key to set.
    pub(crate) reason: String,
    /// When to try again.
    pub(crate) wait: Option<Duration>,
}

/// Who asks, from where, and what that lets them do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) peer: Peer,
    pub(crate) who: Who,
    /// Whether `view` lets anyone at this address look.
    pub(crate) anyone: bool,
    /// Whether the browser speaks TLS, to us or to a proxy before us.
    pub(crate) secure: bool,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, reason: impl Into<String>) -> Refusal {
        Refusal { status, reason: reason.into(), wait: None }
    }

    /// Too often; again after a while.
    pub(crate) fn later(wait: Duration) -> Refusal {
        // Rounded up: who comes back a moment too early would wait again.
        let seconds = wait.as_secs() + 1;
        let reason = format!("too many wrong attempts: try again in {seconds} s");
        let wait = Some(Duration::from_secs(seconds));
        Refusal { status: StatusCode::TOO_MANY_REQUESTS, reason, wait }
    }
}

/// What the configuration lets in.
#[derive(Debug)]
pub(crate) struct Guard {
    view: View,
    /// Whether we speak TLS ourselves, so that no page of ours is plain HTTP.
    secure: bool,
    port: u16,
    /// Lower-case names of this machine.
    names: HashSet<String>,
    /// Lower-case names that the configuration adds.
    hosts: HashSet<String>,
}

/// Scripts, styles and connections of our own alone, nothing inline, no frames:
/// also when a channel's label or a device's text contains markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     font-src 'self'; connect-src 'self'; manifest-src 'self'; worker-src 'self'; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Headers of every answer. Not `no-referrer`: it makes the Origin of our own
/// page's requests `null` (Fetch, "append a request `Origin` header").
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

impl Guard {
    /// `host_name` is this machine's own; `port` is where it listens.
    pub(crate) fn new(config: &Config, host_name: &str, port: u16) -> Guard {
        let host_name = host_name.trim().trim_end_matches('.').to_ascii_lowercase();
        let mut names = HashSet::from(["localhost".to_owned()]);
        if !host_name.is_empty() {
            // A full host name is known on the LAN by its first label.
            let short = host_name.split('.').next().unwrap_or(&host_name);
            names.extend([format!("{short}.local"), short.to_owned(), host_name]);
        }
        Guard {
            view: config.view,
            secure: config.tls.is_some(),
            port,
            names,
            hosts: config.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
        }
    }

    /// Whether a request may go on to its route.
    ///
    /// # Errors
    /// The answer to give instead.
    pub(crate) fn check<B>(&self, peer: Peer, request: &Request<B>) -> Result<(), Refusal> {
        if peer == Peer::Control {
            return Ok(());
        }
        let host = host(request.uri(), request.headers())?;
        self.check_host(&host)?;
        self.check_origin(&host, request.headers())?;
        check_body(request.headers())?;
        Ok(())
    }

    /// Who asks, if they may have what they ask for.
    ///
    /// # Errors
    /// The answer to give instead: 401 to those who may log in, 403 to those
    /// whom that wouldn't help.
    pub(crate) fn admit<B>(
        &self,
        access: &Access,
        peer: Peer,
        request: &Request<B>,
    ) -> Result<Caller, Refusal> {
        let headers = request.headers();
        let anyone = self.anyone(peer);
        let who = access.who(peer, headers)?;
        let need = routes::need(request.method(), request.uri().path());
        if !access.may(&who, need, anyone) {
            return Err(self.refusal(need, who));
        }
        let https = |origin: &HeaderValue| origin.as_bytes().starts_with(b"https://");
        let secure = self.secure || headers.get(header::ORIGIN).is_some_and(https);
        Ok(Caller { peer, who, anyone, secure })
    }

    fn refusal(&self, need: Need, who: Who) -> Refusal {
        let reason = match (need, self.view) {
            (Need::Look, View::Lan) => {
                "dashboard.view = \"lan\" lets only the local network look without a login: log \
                 in, or set it to \"anyone\""
            }
            (Need::Look | Need::Nothing, _) => {
                "dashboard.view = \"nobody\" lets nobody look without a login: log in, or set it \
                 to \"lan\" or \"anyone\""
            }
            (Need::Write, _) => "writing needs a login, or a token made with --write",
            (Need::Login, _) => "this needs a login",
            (Need::Control, _) => {
                "only the gateway's own user may do this: use the tidemill command"
            }
        };
        let helps = need != Need::Control && !matches!(who, Who::Token(_));
        let status = if helps { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
        Refusal::new(status, reason)
    }

    fn check_host(&self, host: &Authority) -> Result<(), Refusal> {
        let name = bare(host);
        let known = is_address(&name) || self.names.contains(&name) || self.hosts.contains(&name);
        known.then_some(()).ok_or_else(|| {
            let reason = format!(
                "this gateway doesn't answer to the name {name:?}: use its address, or add the \
                 name to dashboard.hosts"
            );
            Refusal::new(StatusCode::MISDIRECTED_REQUEST, reason)
        })
    }

    /// No Origin is fine: only browsers send one, and they always do from a
    /// foreign page that could read the answer or open a WebSocket.
    fn check_origin(&self, host: &Authority, headers: &HeaderMap) -> Result<(), Refusal> {
        let origins: Vec<_> = headers.get_all(header::ORIGIN).iter().collect();
        let (shown, ours) = match origins[..] {
            [] => return Ok(()),
            [origin] => (String::from_utf8_lossy(origin.as_bytes()), self.is_ours(host, origin)),
            _ => ("several".into(), false),
        };
        ours.then_some(()).ok_or_else(|| {
            let reason = format!(
                "a page of {shown:?} may not ask this gateway: open the gateway's own page, or \
                 add that page's host to dashboard.hosts"
            );
            Refusal::new(StatusCode::FORBIDDEN, reason)
        })
    }

    fn is_ours(&self, host: &Authority, origin: &HeaderValue) -> bool {
        let Some((scheme, origin)) = origin.to_str().ok().and_then(|text| text.split_once("://"))
        else {
            return false;
        };
        let default = match scheme {
            "https" => 443,
            "http" if !self.secure => 80,
            _ => return false,
        };
        // An origin is a host and a port, nothing else (RFC 6454, section 6.2).
        let Some(origin) = origin.parse::<Authority>().ok().filter(|o| !o.as_str().contains('@'))
        else {
            return false;
        };
        let port = origin.port_u16().unwrap_or(default);
        let name = bare(&origin);
        // The browser leaves the port out of Host as it does out of Origin, also
        // when a proxy before us speaks TLS.
        let same = name == bare(host) && port == host.port_u16().unwrap_or(default);
        // A proxy may have replaced Host: then the name has to be configured.
        same || (self.hosts.contains(&name) && (port == default || port == self.port))
    }

    /// Whether anyone at this address may look.
    fn anyone(&self, peer: Peer) -> bool {
        match (self.view, peer) {
            (View::Anyone, _) | (_, Peer::Control) => true,
            (View::Lan, Peer::Address(address)) => is_private(address),
            (View::Nobody, Peer::Address(_)) => false,
        }
    }
}

/// Adds what every answer carries.
pub(crate) fn protect(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// The host that is asked. The target's own, when it has one, overrides the
/// header (RFC 9112, section 3.2.2).
fn host(uri: &Uri, headers: &HeaderMap) -> Result<Authority, Refusal> {
    let bad = |reason: &str| Refusal::new(StatusCode::BAD_REQUEST, reason);
    let given: Vec<_> = headers.get_all(header::HOST).iter().collect();
    let [given] = given[..] else {
        return Err(bad("a request needs exactly one Host header"));
    };
    let parsed = match uri.authority() {
        Some(authority) => Some(authority.clone()),
        None => Authority::try_from(given.as_bytes()).ok(),
    };
    parsed
        .filter(|host| !host.as_str().contains('@'))
        .ok_or_else(|| bad("the Host header is not a host and a port"))
}

fn check_body(headers: &HeaderMap) -> Result<(), Refusal> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = length.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let chunked = headers.contains_key(header::TRANSFER_ENCODING);
    if length <= BODY_MAX && !chunked {
        return Ok(());
    }
    let reason = format!("the body is too large or of unknown length: at most {BODY_MAX} bytes");
    Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason))
}

/// The name alone: no port, no brackets, no dot at the end, lower case.
fn bare(authority: &Authority) -> String {
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

fn is_address(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok()
}

/// Whether an address can't come from the internet: loopback, RFC 1918,
/// link-local (RFC 3927 and 4291), unique local (RFC 4193).
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// One host has a whole /64 of IPv6 to itself.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(view: View) -> Guard {
        let hosts = vec!["Greenhouse.example.org".to_owned()];
        Guard::new(&Config { view, hosts, ..Config::default() }, "pi4.lan", 8080)
    }

    fn request(host: &str, origin: Option<&str>) -> Request<()> {
        let mut request = Request::get("/api/v1/live").header(header::HOST, host);
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        request.body(()).unwrap()
    }

    fn answer(result: Result<(), Refusal>) -> u16 {
        result.map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
    }

    const LAN: Peer = Peer::Address(IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 7)));

    #[test]
    fn thirty_pairs_of_host_and_origin() {
        let table = [
            // Every way to reach the gateway without a browser.
            ("192.168.1.20:8080", None, 200),
            ("192.168.1.20", None, 200),
            ("[fd00::1]:8080", None, 200),
            ("localhost:8080", None, 200),
            ("LOCALHOST", None, 200),
            ("pi4:8080", None, 200),
            ("pi4.local", None, 200),
            ("pi4.local.:8080", None, 200),
            ("pi4.lan:8080", None, 200),
            ("greenhouse.example.org", None, 200),
            // Names that aren't ours: DNS rebinding.
            ("evil.example", None, 421),
            ("evil.example:8080", Some("http://evil.example:8080"), 421),
            ("pi4.local.evil.example", None, 421),
            ("localhost.evil.example", None, 421),
            ("1.2.3.4.evil.example", None, 421),
            // The gateway's own page.
            ("192.168.1.20:8080", Some("http://192.168.1.20:8080"), 200),
            ("[fd00::1]:8080", Some("http://[fd00::1]:8080"), 200),
            ("pi4.local", Some("http://pi4.local"), 200),
            ("greenhouse.example.org", Some("https://greenhouse.example.org"), 200),
            ("127.0.0.1:8080", Some("https://greenhouse.example.org"), 200),
            // Foreign pages.
            ("192.168.1.20:8080", Some("http://evil.example"), 403),
            ("192.168.1.20:8080", Some("https://192.168.1.20"), 403),
            ("192.168.1.20:8080", Some("http://192.168.1.20:3000"), 403),
            ("192.168.1.20:8080", Some("http://192.168.1.21:8080"), 403),
            ("localhost:8080", Some("http://127.0.0.1:8080"), 403),
            ("pi4.local", Some("null"), 403),
            ("pi4.local", Some("file://pi4.local"), 403),
            ("pi4.local", Some("http://pi4.local@evil.example"), 403),
            ("pi4.local", Some("http://pi4.local/"), 403),
            ("greenhouse.example.org", Some("https://greenhouse.example.org:3000"), 403),
            // Not a host at all.
            ("", None, 400),
            ("a b", None, 400),
            ("user@pi4.local", None, 400),
        ];
        for (host, origin, expected) in table {
            let got = answer(guard(View::Lan).check(LAN, &request(host, origin)));
            assert_eq!(got, expected, "Host {host:?}, Origin {origin:?}");
        }
    }

    #[test]
    fn headers_given_twice_or_not_at_all_are_refused() {
        let check = |request: Request<()>| answer(guard(View::Lan).check(LAN, &request));
        let host = |name: &'static str| Request::get("/").header(header::HOST, name);
        assert_eq!(check(Request::get("/").body(()).unwrap()), 400);
        assert_eq!(check(host("pi4").header(header::HOST, "evil.example").body(()).unwrap()), 400);
        let twice = host("pi4").header(header::ORIGIN, "http://pi4");
        assert_eq!(check(twice.header(header::ORIGIN, "http://pi4").body(()).unwrap()), 403);
        let absolute = Request::get("http://evil.example/").header(header::HOST, "pi4");
        assert_eq!(check(absolute.body(()).unwrap()), 421);
    }

    #[test]
    fn with_tls_a_plain_page_of_the_same_name_is_foreign() {
        let tls = Some(crate::Tls { cert: "c".into(), key: "k".into() });
        let guard = Guard::new(&Config { tls, ..Config::default() }, "pi4", 443);
        assert_eq!(answer(guard.check(LAN, &request("pi4", Some("https://pi4")))), 200);
        assert_eq!(answer(guard.check(LAN, &request("pi4", Some("http://pi4")))), 403);
    }

    #[test]
    fn view_says_which_addresses_may_look() {
        let table = [
            ("127.0.0.1", true),
            ("10.1.2.3", true),
            ("172.31.0.1", true),
            ("172.32.0.1", false),
            ("192.168.0.1", true),
            ("169.254.7.7", true),
            ("8.8.8.8", false),
            ("100.64.0.1", false),
            ("::1", true),
            ("fe80::1", true),
            ("fd12::1", true),
            ("2001:db8::1", false),
            ("::ffff:10.0.0.1", true),
            ("::ffff:8.8.8.8", false),
        ];
        for (address, private) in table {
            let peer = Peer::Address(address.parse().unwrap());
            let look = |view| guard(view).anyone(peer);
            assert_eq!(look(View::Lan), private, "{address}");
            assert!(look(View::Anyone), "{address}");
            assert!(!look(View::Nobody), "{address}");
        }
    }

    #[test]
    fn a_refusal_names_the_key_to_set() {
        let far = Peer::Address("8.8.8.8".parse().unwrap());
        let table = [
            (guard(View::Lan).check(LAN, &request("evil.example", None)), "dashboard.hosts"),
            (guard(View::Lan).check(LAN, &request("pi4", Some("http://e"))), "dashboard.hosts"),
        ];
        for (result, key) in table {
            let reason = result.unwrap_err().reason;
            assert!(reason.contains(key), "{reason}");
        }
        let access = Access::open("/nowhere/access.json".as_ref());
        for (view, peer) in [(View::Lan, far), (View::Nobody, LAN)] {
            let refusal = guard(view).admit(&access, peer, &request("pi4", None)).unwrap_err();
            assert_eq!(refusal.status, StatusCode::UNAUTHORIZED);
            assert!(refusal.reason.contains("dashboard.view"), "{}", refusal.reason);
        }
    }

    #[test]
    fn the_control_socket_is_trusted_and_health_is_for_all() {
        let foreign = request("evil.example", Some("http://evil.example"));
        assert_eq!(guard(View::Nobody).check(Peer::Control, &foreign), Ok(()));
        let access = Access::open("/nowhere/access.json".as_ref());
        assert!(guard(View::Nobody).admit(&access, Peer::Control, &foreign).is_ok());
        let health = Request::get("/healthz").header(header::HOST, "10.0.0.1").body(()).unwrap();
        assert!(guard(View::Nobody).admit(&access, LAN, &health).is_ok());
    }

    #[test]
    fn a_large_body_is_refused_before_it_comes() {
        let length = |length: &'static str| {
            let request = Request::post("/").header(header::HOST, "pi4");
            request.header(header::CONTENT_LENGTH, length).body(()).unwrap()
        };
        assert_eq!(answer(guard(View::Lan).check(LAN, &length("65536"))), 200);
        assert_eq!(answer(guard(View::Lan).check(LAN, &length("65537"))), 413);
    }
}
