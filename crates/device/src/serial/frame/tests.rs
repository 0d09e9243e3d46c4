use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::delimited::Escape;
use super::*;
use crate::serial::bytes::Endian;

/// The bytes as they come in pieces, and then silence: the frames that `is_one`.
fn found(
    framer: &Framer,
    bytes: &[u8],
    piece: usize,
    mut is_one: impl FnMut(&[u8]) -> bool,
) -> Vec<Vec<u8>> {
    let mut frames = Frames::new(framer.clone());
    let mut found = Vec::new();
    let mut drain = |frames: &mut Frames| {
        while let Some(piece) = frames.next() {
            match piece {
                Piece::Frame(frame) if is_one(frame) => found.push(frame.to_vec()),
                Piece::Frame(_) => _ = frames.reject(),
                Piece::Noise(noise) => assert!(!noise.is_empty()),
            }
        }
        assert!(frames.room().len() >= CHUNK, "no room for the next chunk");
    };
    for piece in bytes.chunks(piece) {
        frames.room()[..piece.len()].copy_from_slice(piece);
        frames.filled(piece.len());
        drain(&mut frames);
    }
    if frames.pause().is_some() {
        frames.silence();
        drain(&mut frames);
        assert_eq!(frames.pause(), None, "silence leaves nothing");
    }
    found
}

fn lines(bytes: &[u8], piece: usize) -> Vec<String> {
    let lines = found(&Framer::Line(Line::default()), bytes, piece, |_| true);
    lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect()
}

const STX: u8 = 2;
const ETX: u8 = 3;
const ESC: u8 = 0x10;

fn delimited(start: &[u8], end: &[u8], escape: Option<Escape>) -> Framer {
    Framer::Delimited(Delimited::new(start.to_vec(), end.to_vec(), escape))
}

fn fixed(length: usize, start: &[u8], end: &[u8]) -> Framer {
    Framer::Fixed(Fixed::new(length, start.to_vec(), end.to_vec()))
}

/// `B M`, a length that counts what follows it, and so many bytes.
fn length(max: usize) -> Framer {
    let start = b"BM".to_vec();
    Framer::Length(Length { start, at: 2, size: 1, endian: Endian::Big, add: 3, max })
}

fn every_framer() -> Vec<Framer> {
    let escape = |xor| Some(Escape { byte: ESC, xor });
    vec![
        Framer::Line(Line::default()),
        Framer::Slip(Slip::default()),
        Framer::Cobs(Cobs::default()),
        Framer::Idle(Idle::new(PAUSE)),
        delimited(&[STX], &[ETX], None),
        delimited(&[], &[ETX, b'B'], None),
        delimited(&[STX], &[ETX], escape(0x20)),
        delimited(&[STX], &[STX], escape(0)),
        fixed(5, b"BM", &[]),
        fixed(5, b"B", &[ETX]),
        fixed(3, &[], &[]),
        length(64),
    ]
}

/// Bytes that are marks, escapes and lengths more often than not.
fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    let marks = [0, 1, STX, ETX, 4, ESC, b'B', b'M', b'\n', b'\r', 0xc0, 0xdb, 0xdc, 0xdd];
    vec(prop_oneof![4 => select(marks.to_vec()), 1 => any::<u8>()], 0..most)
}

#[test]
fn every_end_of_line_is_one_and_empty_lines_are_none() {
    for piece in [1, 2, 3, 100] {
        assert_eq!(lines(b"\r\na\nb\r\nc\r\rd\n\ne", piece), ["a", "b", "c", "d"], "{piece}");
    }
}

#[test]
fn slip_and_cobs_are_what_their_papers_say() {
    let slip = |bytes: &[u8]| found(&Framer::Slip(Slip::default()), bytes, 1, |_| true);
    // RFC 1055: END before a frame as well, and both escapes.
    assert_eq!(slip(b"\xc0a\xdb\xdcb\xdb\xddc\xc0"), [b"a\xc0b\xdbc".to_vec()]);
    // An escape that is none spoils its frame.
    assert_eq!(slip(b"a\xdbb\xc0c\xc0"), [b"c".to_vec()]);

    let cobs = |bytes: &[u8]| found(&Framer::Cobs(Cobs::default()), bytes, 2, |_| true);
    // The examples of Cheshire and Baker, section 3, and of Wikipedia.
    let many: Vec<u8> = (1..=254).collect();
    for (plain, coded) in [
        (&[0][..], &[1, 1][..]),
        (&[0, 0], &[1, 1, 1]),
        (&[0x11, 0x22, 0, 0x33], &[3, 0x11, 0x22, 2, 0x33]),
        (&[0x11, 0, 0, 0], &[2, 0x11, 1, 1, 1]),
        (&many, &[&[0xff], &many[..]].concat()),
    ] {
        assert_eq!(cobs(&[coded, &[0]].concat()), [plain.to_vec()]);
    }
    let longer: Vec<u8> = (1..=255).collect();
    let coded = [&[0xff], &longer[..254], &[2, 255, 0]].concat();
    assert_eq!(cobs(&coded), [longer]);
    // A block that reaches beyond the end.
    assert_eq!(cobs(&[5, 1, 2, 0, 2, 7, 0]), [[7]]);
}

#[test]
fn marks_escapes_and_lengths() {
    let all = |framer: &Framer, bytes: &[u8]| found(framer, bytes, 3, |_| true);
    let stx_etx = delimited(&[STX], &[ETX], None);
    assert_eq!(all(&stx_etx, b"x\x02ab\x03y\x02\x03\x02c\x03"), [b"ab".to_vec(), b"c".to_vec()]);
    let escaped = delimited(&[STX], &[ETX], Some(Escape { byte: ESC, xor: 0 }));
    assert_eq!(all(&escaped, b"\x02a\x10\x03\x10\x10\x03"), [b"a\x03\x10".to_vec()]);
    // One that has lost its end.
    assert_eq!(all(&escaped, b"\x02ab\x02c\x03"), [b"c".to_vec()]);
    // HDLC (RFC 1662, 4): one flag between two frames, 0x7e escaped as 7d 5e.
    let hdlc = delimited(&[0x7e], &[0x7e], Some(Escape { byte: 0x7d, xor: 0x20 }));
    assert_eq!(all(&hdlc, b"x\x7ea\x7d\x5e\x7eb\x7e\x7ec\x7e"), [&b"a\x7e"[..], b"b", b"c"]);
    assert_eq!(all(&delimited(b"", b";;", None), b"a;b;;;c;;"), [&b"a;b"[..], b";c"]);

    assert_eq!(all(&fixed(3, &[], &[]), b"abcdef"), [b"abc", b"def"]);
    assert_eq!(all(&fixed(4, b"B", b"\n"), b"xB12\nB1\nBB3\n"), [b"B12\n", b"BB3\n"]);
    // Four bytes are said, and eight are there.
    assert_eq!(
        all(&length(64), b"BM\x02abBM\x00BM\xf0BM\x01z"),
        [&b"BM\x02ab"[..], b"BM\x00", b"BM\x01z"]
    );
}

/// What never ends is skipped, with bounded memory, and what follows is read.
#[test]
fn a_frame_that_never_ends_is_skipped_and_the_next_is_read() {
    let long = vec![b'x'; 5 * CHUNK];
    for (framer, end, frame) in [
        (Framer::Line(Line::default()), &b"\n"[..], &b"b\n"[..]),
        (Framer::Slip(Slip::default()), b"\xc0", b"b\xc0"),
        (Framer::Cobs(Cobs::default()), b"\0", b"\x02b\0"),
        (delimited(&[STX], &[ETX], None), b"", b"\x02b\x03"),
        (delimited(&[], &[ETX], None), b"\x03", b"b\x03"),
        (delimited(&[STX], &[ETX], Some(Escape { byte: ESC, xor: 0 })), b"", b"\x02b\x03"),
    ] {
        for piece in [1000, CHUNK] {
            let begins = if framer.knows_beginnings() { &[STX][..] } else { b"" };
            let bytes = [frame, begins, &long, end, frame].concat();
            assert_eq!(found(&framer, &bytes, piece, |_| true), [b"b", b"b"], "{framer:?}");
        }
    }
    // And of one that is only just short enough nothing is missing.
    let longest = [&vec![b'y'; FRAME_MAX], &b"\n"[..]].concat();
    assert_eq!(lines(&longest, CHUNK)[0].len(), FRAME_MAX);
}

#[test]
fn silence_ends_a_frame_or_shows_that_it_was_none() {
    let mut frames = Frames::new(Framer::Idle(Idle::new(PAUSE)));
    let mut feed = |bytes: &[u8], silent: bool| -> Vec<usize> {
        let mut lengths = Vec::new();
        for piece in bytes.chunks(CHUNK) {
            frames.room()[..piece.len()].copy_from_slice(piece);
            frames.filled(piece.len());
            assert_eq!(frames.pause(), Some(PAUSE));
            while let Some(piece) = frames.next() {
                assert!(matches!(piece, Piece::Noise(_)), "no frame before silence");
            }
        }
        if silent {
            frames.silence();
        }
        while let Some(piece) = frames.next() {
            lengths.extend(matches!(piece, Piece::Frame(_)).then(|| match piece {
                Piece::Frame(bytes) | Piece::Noise(bytes) => bytes.len(),
            }));
        }
        lengths
    };
    assert_eq!(feed(b"ab", false), [0; 0]);
    assert_eq!(feed(b"c", true), [3]);
    assert_eq!(feed(&vec![0; 3 * FRAME_MAX], true), [0; 0]);
    assert_eq!(feed(b"de", true), [2]);

    // A beginning that nothing follows holds up nothing: what comes later is a frame.
    let mut frames = Frames::new(length(64));
    for (bytes, count) in [(&b"BM\x20ab"[..], 0), (b"BM\x01z", 1)] {
        frames.room()[..bytes.len()].copy_from_slice(bytes);
        frames.filled(bytes.len());
        assert_eq!(frames.pause(), Some(PAUSE));
        frames.silence();
        let pieces = std::iter::from_fn(|| Some(matches!(frames.next()?, Piece::Frame(_))));
        assert_eq!(pieces.filter(|is_frame| *is_frame).count(), count);
    }
}

proptest! {
    /// However the bytes arrive, the frames are the same as of all at once.
    #[test]
    fn pieces_make_no_difference(bytes in bytes(400), piece in 1_usize..50) {
        for framer in every_framer() {
            // Some are not understood, whatever they are.
            let is_one = |frame: &[u8]| frame.first() != Some(&4);
            let whole = found(&framer, &bytes, CHUNK, is_one);
            prop_assert_eq!(found(&framer, &bytes, piece, is_one), whole, "{:?}", framer);
        }
    }

    #[test]
    fn lines_are_what_stands_between_their_ends(
        text in "([a-z]{0,8}[\r\n]{0,2}){0,40}", piece in 1_usize..50,
    ) {
        let ends = |c| c == '\n' || c == '\r';
        let mut expected: Vec<&str> = text.split(ends).collect();
        expected.pop();
        expected.retain(|line| !line.is_empty());
        prop_assert_eq!(lines(text.as_bytes(), piece), expected);
    }

    /// Where a frame says how it begins, and a checksum that it is one, noise
    /// costs none, even noise that is full of beginnings.
    #[test]
    fn noise_costs_no_frame_that_shows_its_beginning(
        noise in bytes(200), body in vec(any::<u8>(), 3..40), piece in 1_usize..50,
    ) {
        let text: Vec<u8> = body.iter().map(|byte| byte % 64 + 32).collect();
        let says = [b"BM", &[body.len() as u8][..], &body].concat();
        for (framer, sent, seen) in [
            (fixed(2 + body.len(), b"BM", &[]), [b"BM", &body[..]].concat(), None),
            (fixed(body.len(), &[], &[]), body.clone(), None),
            (length(64), says, None),
            (delimited(&[STX], &[ETX], None), [&[STX], &text[..], &[ETX]].concat(), Some(&text)),
        ] {
            let seen = seen.unwrap_or(&sent);
            let stream = [&sent[..], &noise, &sent, &sent].concat();
            // As a checksum would: by chance noise is no frame.
            let found = found(&framer, &stream, piece, |frame| frame == *seen);
            prop_assert!(found.len() >= 3, "{:?}: {} of 3", framer, found.len());
        }
    }

    /// Where nothing says how it begins, noise spoils at most the frame that it
    /// touches.
    #[test]
    fn noise_spoils_at_most_the_frame_that_it_touches(
        noise in bytes(200), letter in b'a'..=b'z', piece in 1_usize..50,
    ) {
        let escape = Some(Escape { byte: ESC, xor: 0x20 });
        for (framer, sent) in [
            (Framer::Line(Line::default()), [letter, b'!', b'\n']),
            (Framer::Slip(Slip::default()), [letter, b'!', 0xc0]),
            (Framer::Cobs(Cobs::default()), [2, letter, 0]),
            (delimited(&[], &[ETX], None), [letter, b'!', ETX]),
            (delimited(&[STX], &[ETX], escape), [STX, letter, ETX]),
            (delimited(&[ETX], &[ETX], escape), [ETX, letter, ETX]),
        ] {
            let last = found(&framer, &sent, CHUNK, |_| true).pop().unwrap();
            let stream = [&noise[..], &sent, &sent].concat();
            let found = found(&framer, &stream, piece, |frame| *frame == last);
            prop_assert!(!found.is_empty(), "{:?}", framer);
        }
    }
}
