use proptest::prelude::*;

use super::*;

fn frames_of(framer: &Framer, bytes: &[u8], piece: usize) -> Vec<Vec<u8>> {
    let mut frames = Frames::new(framer.clone());
    let mut found = Vec::new();
    for piece in bytes.chunks(piece) {
        frames.room()[..piece.len()].copy_from_slice(piece);
        frames.filled(piece.len());
        while let Some(piece) = frames.next() {
            if let Piece::Frame(frame) = piece {
                found.push(frame.to_vec());
            }
        }
        assert!(frames.room().len() >= CHUNK, "no room for the next chunk");
    }
    found
}

fn lines(bytes: &[u8], piece: usize) -> Vec<String> {
    let frames = frames_of(&Framer::Line(Line::default()), bytes, piece);
    frames.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect()
}

#[test]
fn every_end_of_line_is_one_and_empty_lines_are_none() {
    for piece in [1, 2, 3, 100] {
        assert_eq!(lines(b"\r\na\nb\r\nc\r\rd\n\ne", piece), ["a", "b", "c", "d"], "{piece}");
    }
}

proptest! {
    /// However the bytes arrive, the lines are the same as of all at once.
    #[test]
    fn pieces_make_no_difference(
        text in "([a-z]{0,8}[\r\n]{0,2}){0,40}", piece in 1_usize..50,
    ) {
        let ends = |c| c == '\n' || c == '\r';
        let mut expected: Vec<&str> = text.split(ends).collect();
        expected.pop();
        expected.retain(|line| !line.is_empty());
        prop_assert_eq!(lines(text.as_bytes(), piece), expected);
    }
}
