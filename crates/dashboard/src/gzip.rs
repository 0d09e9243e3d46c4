//! History compressed as it is sent (RFC 1952): a table of readings is a tenth
//! of its size then.

use std::io::Write as _;

use axum::http::header::{self, HeaderMap};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

/// Whether the client can read it (RFC 9110, section 12.5.3).
pub(crate) fn is_accepted(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(header::ACCEPT_ENCODING).into_iter();
    let lists = lists.filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = quality.trim().strip_prefix("q=").and_then(|q| q.trim().parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && refused != Some(0.0)
    })
}

/// The same text compressed, piece by piece.
pub(crate) fn squeeze(
    texts: impl Iterator<Item = Bytes> + Send + 'static,
) -> impl Iterator<Item = Bytes> + Send + 'static {
    let mut encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut texts = texts.fuse();
    std::iter::from_fn(move || {
        loop {
            match texts.next() {
                Some(text) => {
                    let encoder = encoder.as_mut()?;
                    // Writing to a vector can't fail.
                    let _ = encoder.write_all(&text);
                    if !encoder.get_ref().is_empty() {
                        return Some(Bytes::from(std::mem::take(encoder.get_mut())));
                    }
                }
                None => return encoder.take()?.finish().ok().map(Bytes::from),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn who_accepts_it() {
        for (value, expected) in [
            ("gzip, deflate, br", true),
            ("br;q=1.0, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("identity", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, value.parse().unwrap());
            assert_eq!(is_accepted(&headers), expected, "{value}");
        }
        assert!(!is_accepted(&HeaderMap::new()));
    }

    #[test]
    fn what_is_squeezed_is_the_same_again() {
        let texts: Vec<_> = (0..100).map(|n| format!("{n} of many, ").repeat(300)).collect();
        let pieces = squeeze(texts.clone().into_iter().map(Bytes::from));
        let small: Vec<u8> = pieces.flatten().collect();
        let mut text = String::new();
        flate2::read::GzDecoder::new(&small[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, texts.concat());
        assert!(small.len() * 10 < text.len());
    }
}
