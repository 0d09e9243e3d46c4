//! The page, from inside the binary: it works with no internet and no files.
//!
//! The build script bundles `web/` and writes the table of its files. Each is
//! held as it is and packed with gzip: browsers ask for brotli over TLS alone,
//! and the gateway mostly speaks plain HTTP on a LAN.

use axum::body::Body;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;

/// A file of the page.
struct Asset {
    /// Its path on the server: `/assets/index-4fT2a9.js`.
    path: &'static str,
    /// A strong validator (RFC 9110, section 8.8.3), quotes included.
    etag: &'static str,
    /// Its bytes.
    plain: &'static [u8],
    /// The same, in gzip, when that is smaller.
    packed: Option<&'static [u8]>,
}

const ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The page's file at a path; `None` when there is no such file. `/` is the
/// page itself, whose views live behind `#`, so no other path stands for it.
///
/// The answer is complete but for what every answer of the dashboard carries
/// (its security headers). It is 304 when the client has the file already.
pub(crate) fn respond(path: &str, headers: &HeaderMap) -> Option<Response> {
    let path = if path == "/" { "/index.html" } else { path };
    let asset = ASSETS.iter().find(|asset| asset.path == path)?;
    let mut response = Response::new(Body::empty());
    let mut set = |name: HeaderName, value: &'static str| {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    };
    set(ETAG, asset.etag);
    set(VARY, "accept-encoding");
    // Vite puts a hash of the content into the names of what it bundles, and
    // into no other name.
    let forever = path.starts_with("/assets/");
    set(CACHE_CONTROL, if forever { "public, max-age=31536000, immutable" } else { "no-cache" });
    if known(headers, asset.etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Some(response);
    }
    set(CONTENT_TYPE, content_type(path));
    let bytes = match asset.packed.filter(|_| accepts_gzip(headers)) {
        Some(packed) => {
            set(CONTENT_ENCODING, "gzip");
            packed
        }
        None => asset.plain,
    };
    *response.body_mut() = Body::from(bytes);
    Some(response)
}

/// Whether `If-None-Match` names the file (RFC 9110, section 13.1.2: compared
/// weakly).
fn known(headers: &HeaderMap, etag: &str) -> bool {
    elements(headers, IF_NONE_MATCH)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// Whether `Accept-Encoding` lets gzip be sent (RFC 9110, section 12.5.3).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let mut any = false;
    for element in elements(headers, ACCEPT_ENCODING) {
        let mut parts = element.split(';').map(str::trim);
        let coding = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=")).map(str::parse::<f32>);
        let wanted = weight.is_none_or(|weight| weight.is_ok_and(|weight| weight > 0.0));
        if coding.eq_ignore_ascii_case("gzip") {
            return wanted;
        }
        any |= coding == "*" && wanted;
    }
    any
}

fn elements(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("webmanifest") => "application/manifest+json",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The most the whole page may cost a phone, packed, in bytes.
    const PAGE_MAX: usize = 120_000;

    fn ask(path: &str, headers: &[(HeaderName, &'static str)]) -> Option<Response> {
        let pairs = headers.iter().cloned();
        respond(path, &pairs.map(|(name, value)| (name, HeaderValue::from_static(value))).collect())
    }

    fn header(response: &Response, name: HeaderName) -> &str {
        response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    async fn body(response: Response) -> Vec<u8> {
        axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap().into()
    }

    fn script() -> &'static str {
        ASSETS.iter().find(|asset| asset.path.ends_with(".js")).unwrap().path
    }

    #[tokio::test]
    async fn the_page_names_only_files_that_are_there() {
        let page = ask("/", &[]).unwrap();
        assert_eq!(page.status(), StatusCode::OK);
        assert_eq!(header(&page, CONTENT_TYPE), "text/html; charset=utf-8");
        assert_eq!(header(&page, CACHE_CONTROL), "no-cache");
        let page = String::from_utf8(body(page).await).unwrap();
        let links = page.split([' ', '\n', '>']).filter_map(|word| {
            word.strip_prefix("src=\"").or(word.strip_prefix("href=\""))?.strip_suffix('"')
        });
        let links: Vec<&str> = links.collect();
        assert!(links.len() >= 2, "{page}");
        for link in links {
            assert!(ask(&link.replacen("./", "/", 1), &[]).is_some(), "{link}");
        }
    }

    #[test]
    fn nothing_on_the_page_needs_an_exception_from_a_strict_policy() {
        let page = ASSETS.iter().find(|asset| asset.path == "/index.html").unwrap();
        let page = std::str::from_utf8(page.plain).unwrap();
        assert!(!page.contains("<style") && !page.contains("style="), "{page}");
        for script in page.split("<script").skip(1) {
            let (tag, text) = script.split_once('>').unwrap();
            assert!(tag.contains("src=\""), "{tag}");
            assert!(text.starts_with("</script>"), "{text}");
        }
    }

    #[tokio::test]
    async fn what_has_a_hash_in_its_name_is_kept_for_ever_and_packed() {
        let plain = ask(script(), &[]).unwrap();
        assert_eq!(header(&plain, CONTENT_ENCODING), "");
        assert_eq!(header(&plain, CACHE_CONTROL), "public, max-age=31536000, immutable");
        assert_eq!(header(&plain, CONTENT_TYPE), "text/javascript; charset=utf-8");
        let packed = ask(script(), &[(ACCEPT_ENCODING, "br, gzip;q=0.8")]).unwrap();
        assert_eq!(header(&packed, CONTENT_ENCODING), "gzip");
        assert_eq!(header(&packed, VARY), "accept-encoding");
        let (plain, packed) = (body(plain).await, body(packed).await);
        assert!(packed.len() * 2 < plain.len(), "{} of {}", packed.len(), plain.len());
        assert_eq!(packed[..2], [0x1f, 0x8b], "gzip's magic number, RFC 1952");
    }

    #[tokio::test]
    async fn a_client_that_has_it_is_told_so() {
        let etag = ASSETS.iter().find(|asset| asset.path == "/index.html").unwrap().etag;
        for known in [etag.to_owned(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".into()] {
            let headers = [(IF_NONE_MATCH, HeaderValue::try_from(&known).unwrap())];
            let answer = respond("/", &headers.into_iter().collect()).unwrap();
            assert_eq!(answer.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(header(&answer, ETAG), etag);
            assert!(body(answer).await.is_empty());
        }
        assert_eq!(ask("/", &[(IF_NONE_MATCH, "\"x\"")]).unwrap().status(), StatusCode::OK);
    }

    #[test]
    fn gzip_is_sent_to_those_alone_who_take_it() {
        for (accept, expected) in [
            ("gzip", true),
            ("GZIP;q=0.1", true),
            ("*", true),
            ("*;q=0, gzip", true),
            ("gzip;q=0, *", false),
            ("gzip; q=0.000", false),
            ("br", false),
            ("gzip;q=much", false),
            ("", false),
        ] {
            let headers = [(ACCEPT_ENCODING, HeaderValue::from_static(accept))];
            assert_eq!(accepts_gzip(&headers.into_iter().collect()), expected, "{accept:?}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn no_other_path_is_a_file() {
        for path in ["", "/nothing", "/../Cargo.toml", "/assets/", "/assets/../index.html", "//"] {
            assert!(ask(path, &[]).is_none(), "{path}");
        }
    }

    #[test]
    fn the_whole_page_is_small() {
        let sizes = ASSETS.iter().map(|asset| asset.packed.unwrap_or(asset.plain).len());
        let sum: usize = sizes.sum();
        assert!(sum < PAGE_MAX, "{sum} bytes");
    }
}
