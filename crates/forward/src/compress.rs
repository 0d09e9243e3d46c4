//! Packs made smaller. MQTT has no content encoding: with MQTT 5 a user property
//! names it, and either kind is known by its first bytes, which no JSON has.

use flate2::{Compress as Deflater, Compression, FlushCompress};
use ruzstd::encoding::{CompressionLevel, compress};

use crate::config::Compress;

/// How packs are compressed.
pub(crate) enum Packer {
    None,
    /// RFC 1950, as HTTP's `deflate` is. Kept, because its tables are large.
    Deflate(Box<Deflater>),
    /// RFC 8878.
    Zstd,
}

impl Packer {
    pub(crate) fn new(kind: Compress) -> Packer {
        match kind {
            Compress::None => Packer::None,
            Compress::Deflate => {
                Packer::Deflate(Box::new(Deflater::new(Compression::default(), true)))
            }
            Compress::Zstd => Packer::Zstd,
        }
    }

    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Packer::None)
    }

    /// MQTT 5's properties of such a payload, encoded (2.2.2.2): its content
    /// type, and a user property `content-encoding`.
    pub(crate) fn properties(&self) -> &'static [u8] {
        match self {
            Packer::None => &[],
            Packer::Deflate(_) => {
                b"\x03\x00\x16application/senml+json\x26\x00\x10content-encoding\x00\x07deflate"
            }
            Packer::Zstd => {
                b"\x03\x00\x16application/senml+json\x26\x00\x10content-encoding\x00\x04zstd"
            }
        }
    }

    /// Puts the smaller payload in the place of the larger one.
    pub(crate) fn pack(&mut self, payload: &mut Vec<u8>, spare: &mut Vec<u8>) {
        spare.clear();
        match self {
            Packer::None => return,
            Packer::Deflate(deflater) => {
                deflater.reset();
                // What can't be compressed grows by five bytes a block.
                spare.reserve(payload.len() + payload.len() / 1_000 + 64);
                let done = deflater.compress_vec(payload, spare, FlushCompress::Finish);
                debug_assert_eq!(done.ok(), Some(flate2::Status::StreamEnd), "there is room");
            }
            Packer::Zstd => compress(payload.as_slice(), &mut *spare, CompressionLevel::Fastest),
        }
        std::mem::swap(payload, spare);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_was_packed_is_unpacked() {
        let record =
            r#"{"n":"weather/temperature","t":1795508403.123456,"v":21.5,"u":"Cel","seq":"#;
        let text: String = (0..500).map(|n| format!("{record}{n}}},")).collect();
        for (kind, first) in [(Compress::Deflate, 0x78), (Compress::Zstd, 0x28)] {
            let mut packer = Packer::new(kind);
            for text in [text.as_str(), "[]", &text[..200]] {
                let (mut payload, mut spare) = (text.as_bytes().to_vec(), Vec::new());
                packer.pack(&mut payload, &mut spare);
                assert_eq!(payload[0], first);
                let mut unpacked = Vec::new();
                match kind {
                    Compress::Deflate => {
                        let mut reader = flate2::read::ZlibDecoder::new(payload.as_slice());
                        reader.read_to_end(&mut unpacked).unwrap();
                    }
                    _ => {
                        let mut source = payload.as_slice();
                        let reader = ruzstd::decoding::StreamingDecoder::new(&mut source);
                        reader.unwrap().read_to_end(&mut unpacked).unwrap();
                    }
                }
                assert_eq!(unpacked, text.as_bytes(), "{kind:?}");
                if text.len() > 10_000 {
                    let (before, after) = (text.len(), payload.len());
                    assert!(after * 4 < before, "{kind:?}: {before} to {after}");
                }
            }
        }
    }

    #[test]
    fn the_properties_say_how_long_they_are() {
        for kind in [Compress::Deflate, Compress::Zstd] {
            let properties = Packer::new(kind).properties();
            assert_eq!((properties[0], properties[2]), (3, 22));
            let user = &properties[3 + 22..];
            assert_eq!((user[0], user[2]), (0x26, 16));
            let value = &user[3 + 16..];
            assert_eq!(usize::from(value[1]), value.len() - 2);
        }
    }
}
