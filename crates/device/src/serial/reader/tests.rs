use reading::Kind;
use tokio::io::{DuplexStream, duplex};

use super::*;
use crate::serial::bytes::Endian;
use crate::serial::checksum::{Checksum, Sum};
use crate::serial::format::{Binary, Field, FieldType, Json, KeyValue, Pattern, Place};
use crate::serial::frame::{Cobs, Delimited, Fixed, Idle, Length, Slip};

/// Lines such as `{"t":21.5}`.
fn json() -> Language {
    Language {
        framer: Framer::Line(Default::default()),
        format: Format::Json(Json::new(&[("t".to_owned(), Kind::Number)])),
        encoding: Encoding::default(),
        ignore: None,
        question: None,
        channels: 1,
        tap: Tap::default(),
    }
}

/// Lines such as `t=21.5`, of which each has one of two channels.
fn keys() -> Language {
    let keys = ["t", "h"].map(|key| (key.to_owned(), Kind::Number));
    Language { format: Format::KeyValue(KeyValue::new(&keys)), channels: 2, ..json() }
}

fn asked(language: Language) -> Language {
    let patience = Duration::from_secs(1);
    Language { question: Some(Question { request: b"READ\r\n".to_vec(), patience }), ..language }
}

/// The first byte of frames with a CRC behind it.
fn binary(framer: Framer) -> Language {
    let field =
        Field { at: 0, kind: FieldType::U8, size: 1, endian: Endian::Big, mask: None, bit: None };
    let (at, to) = (None, None);
    let checksum = Checksum { kind: Sum::Crc16Ccitt, at, from: 0, to, endian: None };
    let format = Format::Binary(Binary::new(vec![field], Some(checksum), Endian::Big));
    Language { framer, format, ..json() }
}

/// With its CRC.
fn checked(bytes: &[u8]) -> Vec<u8> {
    let sum = u16::try_from(Sum::Crc16Ccitt.of(bytes)).unwrap();
    [bytes, &sum.to_be_bytes()].concat()
}

fn over<P: AsyncRead + AsyncWrite + Send + Unpin>(port: P, name: &str) -> Reader<P> {
    Reader::over(port, name.to_owned(), json())
}

fn numbers(batch: &mut Batch) -> Vec<f64> {
    batch.samples.drain(..).filter_map(|sample| sample.value.number()).collect()
}

#[tokio::test]
async fn a_line_in_pieces_is_one_line_and_the_end_of_the_port_is_a_loss() {
    let (mut device, port) = duplex(64);
    let mut open = over(port, "/dev/pts/1");
    let mut batch = Batch::default();
    device.write_all(b"{\"t\":1}\r\n{\"t\":").await.unwrap();
    open.read(&mut batch).await.unwrap();
    device.write_all(b"2}\n").await.unwrap();
    open.read(&mut batch).await.unwrap();
    assert_eq!(numbers(&mut batch), [1.0, 2.0]);
    drop(device);
    assert_eq!(open.read(&mut batch).await.unwrap_err().fault, Fault::Absent);
}

#[tokio::test]
async fn noise_is_counted_and_the_port_goes_on() {
    let (mut device, port) = duplex(64 * 1024);
    let mut open = over(port, "/dev/pts/1");
    let mut batch = Batch::default();
    let long = vec![b'x'; 20_000];
    for bytes in [b"\xff\xfe\x00{\n{\"t\":1}\n".as_slice(), &long, b"\n{\"t\":2}\n"] {
        device.write_all(bytes).await.unwrap();
        open.read(&mut batch).await.unwrap();
    }
    assert_eq!((numbers(&mut batch), batch.noise), (vec![1.0, 2.0], 2));
}

#[tokio::test(start_paused = true)]
async fn lines_that_follow_closely_are_taken_together_and_one_alone_at_once() {
    let (mut device, port) = duplex(64 * 1024);
    let mut open = over(port, "/dev/pts/1");
    let mut batch = Batch::default();
    let start = Instant::now();
    for pause in [1_000, 1] {
        device.write_all(b"{\"t\":1}\n").await.unwrap();
        open.read(&mut batch).await.unwrap();
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    assert_eq!(start.elapsed(), Duration::from_millis(1_001), "a line alone waited");
    for _ in 0..3 {
        device.write_all(b"{\"t\":2}\n").await.unwrap();
    }
    open.read(&mut batch).await.unwrap();
    assert_eq!(numbers(&mut batch), [1.0, 1.0, 2.0, 2.0, 2.0]);
    assert_eq!(start.elapsed(), Duration::from_millis(1_005));

    // One that never stops isn't made to wait.
    device.write_all(&b"{\"t\":3}\n".repeat(1_000)).await.unwrap();
    open.read(&mut batch).await.unwrap();
    device.write_all(b"{\"t\":4}\n").await.unwrap();
    let flooded = Instant::now();
    open.read(&mut batch).await.unwrap();
    assert_eq!(flooded.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_first_line_of_a_port_may_be_cut_and_is_no_noise() {
    for (after, name, noise) in [(0, "/dev/ttyS0", 0), (21, "/dev/ttyS0", 1), (0, "/dev/pts/1", 1)]
    {
        let (mut device, port) = duplex(64);
        let mut open = over(port, name);
        let mut batch = Batch::default();
        tokio::time::sleep(Duration::from_millis(after)).await;
        device.write_all(b"\":1}\n{\"t\":2}\n").await.unwrap();
        open.read(&mut batch).await.unwrap();
        assert_eq!((numbers(&mut batch), batch.noise), (vec![2.0], noise), "{name} {after}");
    }
}

/// Asks once; the device says each of these so long after the question.
async fn answer(
    open: &mut Reader<DuplexStream>,
    device: &mut DuplexStream,
    answers: &[(u64, &[u8])],
) -> (Batch, Duration) {
    let mut batch = Batch::default();
    let start = Instant::now();
    let say = async {
        let mut question = [0; 6];
        device.read_exact(&mut question).await.unwrap();
        assert_eq!(&question, b"READ\r\n");
        for (after, bytes) in answers {
            time::sleep_until(start + Duration::from_millis(*after)).await;
            device.write_all(bytes).await.unwrap();
        }
    };
    let (_, read) = tokio::join!(say, open.read(&mut batch));
    read.unwrap();
    (batch, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_device_is_asked_and_its_answer_may_be_several_frames() {
    let (mut device, port) = duplex(1024);
    let mut open = Reader::over(port, "/dev/ttyS0".to_owned(), asked(keys()));
    // What it says unasked is no answer.
    device.write_all(b"t=9\n").await.unwrap();
    let answers: [(u64, &[u8]); 2] = [(10, b"t=1\n"), (40, b"h=2\n")];
    let (mut batch, took) = answer(&mut open, &mut device, &answers).await;
    // Every channel has its value: it is over at once.
    assert_eq!((numbers(&mut batch), took.as_millis()), (vec![1.0, 2.0], 40));
    // One has none this time.
    let (mut batch, took) = answer(&mut open, &mut device, &[(10, b"t=3\n")]).await;
    assert_eq!((numbers(&mut batch), took.as_millis()), (vec![3.0], 110));
    // Two wires: the question itself is heard first, here in two pieces.
    let answers: [(u64, &[u8]); 2] = [(1, b"REA"), (2, b"D\r\nt=4 h=5\n")];
    let (mut batch, took) = answer(&mut open, &mut device, &answers).await;
    assert_eq!((numbers(&mut batch), batch.noise, took.as_millis()), (vec![4.0, 5.0], 0, 2));
}

#[tokio::test(start_paused = true)]
async fn no_answer_is_bad_once_and_a_late_one_is_no_answer_to_the_next_question() {
    let (mut device, port) = duplex(1024);
    let mut open = Reader::over(port, "/dev/ttyS0".to_owned(), asked(json()));
    let (batch, took) = answer(&mut open, &mut device, &[]).await;
    let values: Vec<_> = batch.samples.into_iter().map(|sample| sample.value).collect();
    assert_eq!((values, took.as_secs()), (vec![Value::Bad(Fault::Timeout)], 1));
    device.write_all(b"{\"t\":1}\n").await.unwrap();
    let (batch, _) = answer(&mut open, &mut device, &[]).await;
    assert!(batch.samples.is_empty() && batch.noise == 0, "the same silence, told twice");
    let (mut batch, _) = answer(&mut open, &mut device, &[(5, b"{\"t\":2}\n")]).await;
    assert_eq!(numbers(&mut batch), [2.0]);
    // What can't be understood is noise, and the rest of it isn't waited for.
    let (batch, took) = answer(&mut open, &mut device, &[(5, b"?\n")]).await;
    assert_eq!((batch.samples.len(), batch.noise, took.as_secs()), (0, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_frame() {
    let (mut device, port) = duplex(1024);
    let gap = Duration::from_millis(20);
    let language = binary(Framer::Idle(Idle::new(gap)));
    let mut open = Reader::over(port, "/dev/pts/1".to_owned(), language);
    let mut batch = Batch::default();
    let say = async {
        // A pause that is shorter is none.
        for (pause, bytes) in [(0, &checked(&[7, 1])[..2]), (15, &checked(&[7, 1])[2..])] {
            time::sleep(Duration::from_millis(pause)).await;
            device.write_all(bytes).await.unwrap();
        }
        time::sleep(Duration::from_millis(25)).await;
        device.write_all(&checked(&[8])).await.unwrap();
    };
    let listen = async {
        while batch.samples.len() < 2 {
            open.read(&mut batch).await.unwrap();
        }
    };
    let start = Instant::now();
    tokio::join!(say, listen);
    assert_eq!((numbers(&mut batch), batch.noise), (vec![7.0, 8.0], 0));
    assert_eq!(start.elapsed().as_millis(), 15 + 25 + 20);
}

#[tokio::test(start_paused = true)]
async fn what_only_looks_like_a_beginning_holds_nothing_up() {
    let start = b"BM".to_vec();
    let length = Length { start, at: 2, size: 1, endian: Endian::Big, add: 0, max: 64 };
    let (mut device, port) = duplex(1024);
    let mut open = Reader::over(port, "/dev/pts/1".to_owned(), binary(Framer::Length(length)));
    let mut batch = Batch::default();
    // It says 60 bytes, and a frame follows, whose own are all there.
    let frame = checked(b"BM\x06x");
    device.write_all(&[b"BM\x3c", &frame[..]].concat()).await.unwrap();
    let start = Instant::now();
    while batch.samples.is_empty() {
        open.read(&mut batch).await.unwrap();
    }
    assert_eq!((numbers(&mut batch), batch.noise), (vec![f64::from(b'B')], 1));
    assert_eq!(start.elapsed().as_millis(), 250);
}

#[tokio::test]
async fn texts_may_be_of_older_devices() {
    let pattern = Format::Regex(
        Pattern::new("(?<t>[0-9.]+) °C", &[(Place::Name("t".into()), Kind::Number)]).unwrap(),
    );
    for (encoding, line, expected) in [
        (Encoding::Latin1, &b"21.5 \xb0C\n"[..], vec![21.5]),
        (Encoding::Utf8, "21.5 °C\n".as_bytes(), vec![21.5]),
        (Encoding::Utf8, b"21.5 \xb0C\n", vec![]),
    ] {
        let (mut device, port) = duplex(1024);
        let language = Language { encoding, format: pattern.clone(), ..json() };
        let mut open = Reader::over(port, "/dev/pts/1".to_owned(), language);
        let mut batch = Batch::default();
        device.write_all(line).await.unwrap();
        open.read(&mut batch).await.unwrap();
        assert_eq!((batch.noise, numbers(&mut batch)), (u64::from(expected.is_empty()), expected));
    }
}

/// A flood is given in portions: what one takes is bounded.
#[tokio::test]
async fn a_flood_is_given_in_portions() {
    let (mut device, port) = duplex(64 * 1024);
    let mut open = over(port, "/dev/pts/1");
    device.write_all(&b"{\"t\":1}\n".repeat(2_000)).await.unwrap();
    let (mut batch, mut all) = (Batch::default(), 0);
    while all < 2_000 {
        open.read(&mut batch).await.unwrap();
        assert!(!batch.samples.is_empty());
        all += numbers(&mut batch).len();
    }
    let held = batch.samples.capacity() * size_of::<crate::Sample>();
    assert!(held <= 32 * 1024, "{held} bytes");
    assert_eq!((all, batch.noise), (2_000, 0));
}

/// How many MiB of noise each framer hears; `TIDEMILL_NOISE_MIB` for more.
const NOISE_MIB: usize = 8;

/// Noise that is nothing but marks every now and then, and random else.
struct Noise(u64);

impl Noise {
    fn fill(&mut self, bytes: &mut [u8]) {
        let marks = [0, 1, 2, 3, 0x10, b'B', b'M', b'\n', 0xc0, 0xdb, 0xdc, 0x1b, b'/', b'!'];
        let mut word = 0;
        for (at, byte) in bytes.iter_mut().enumerate() {
            if at % 8 == 0 {
                // xorshift64: Marsaglia, 2003.
                self.0 ^= self.0 << 13;
                self.0 ^= self.0 >> 7;
                self.0 ^= self.0 << 17;
                word = self.0;
            }
            *byte = word as u8;
            // Every third block is marks alone.
            if self.0.is_multiple_of(3) {
                *byte = marks[usize::from(*byte) % marks.len()];
            }
            word >>= 8;
        }
    }
}

/// Whatever comes, and however much of it: no panic, bounded memory, and the next
/// good frame is read.
#[test]
fn no_amount_of_noise_is_too_much() {
    let mebibytes = std::env::var("TIDEMILL_NOISE_MIB").map(|text| text.parse().unwrap());
    let portions = mebibytes.unwrap_or(NOISE_MIB) * 64;
    let start = b"BM".to_vec();
    let length = Length { start, at: 2, size: 1, endian: Endian::Big, add: 0, max: 255 };
    // Nothing in it is a mark.
    let good = checked(b"\x07\x23");
    let stx = |bytes: &[u8]| [&[2], bytes, &[3]].concat();
    let cobs = |bytes: &[u8]| [&[bytes.len() as u8 + 1], bytes, &[0]].concat();
    let mut state = 0x9e37_79b9_7f4a_7c15;
    for (framer, ends, frame) in [
        (Framer::Line(Default::default()), &b"\n"[..], [&good[..], b"\n"].concat()),
        (Framer::Slip(Slip::default()), b"\xc0", [&good[..], b"\xc0"].concat()),
        (Framer::Cobs(Cobs::default()), b"\0", cobs(&good)),
        (Framer::Delimited(Delimited::new(vec![2], vec![3], None)), b"", stx(&good)),
        (Framer::Fixed(Fixed::new(good.len(), vec![7], vec![])), b"", good.clone()),
        (Framer::Fixed(Fixed::new(good.len(), vec![], vec![])), b"", good.clone()),
        (Framer::Length(length), b"", checked(b"BM\x06x")),
        (Framer::Idle(Idle::new(Duration::from_millis(20))), b"", good.clone()),
        (Framer::Readout, b"", vec![]),
        (Framer::Sml, b"", vec![]),
        (Framer::VeDirect, b"", vec![]),
    ] {
        let began = std::time::Instant::now();
        let (_device, port) = duplex(1);
        let shown = format!("{framer:?}");
        let mut open = Reader::over(port, "/dev/pts/1".to_owned(), binary(framer));
        let mut batch = Batch::default();
        let mut noise = Noise(state);
        for _ in 0..portions {
            let room = open.frames.room();
            let portion = room.len().min(16 * 1024);
            noise.fill(&mut room[..portion]);
            open.frames.filled(portion);
            while {
                open.understand(&mut batch);
                open.left
            } {
                batch.samples.clear();
            }
            batch.samples.clear();
        }
        state = noise.0;
        assert!(batch.noise > 0, "{shown}");
        let held = open.frames.held()
            + open.text.capacity()
            + batch.samples.capacity() * size_of::<crate::Sample>();
        assert!(held < 64 * 1024, "{shown}: {held} bytes");
        open.frames.silence();
        open.understand(&mut batch);
        batch.samples.clear();
        if !frame.is_empty() {
            let bytes = [ends, &frame].concat();
            open.frames.room()[..bytes.len()].copy_from_slice(&bytes);
            open.frames.filled(bytes.len());
            open.frames.silence();
            open.understand(&mut batch);
            assert_eq!(numbers(&mut batch).pop(), Some(f64::from(frame_value(&frame))), "{shown}");
        }
        let seconds = began.elapsed().as_secs_f64();
        println!("{seconds:6.2} s, {held} bytes: {shown}");
    }
}

/// The number that a frame of the test says.
fn frame_value(frame: &[u8]) -> u8 {
    if frame.starts_with(b"BM") { b'B' } else { 7 }
}
