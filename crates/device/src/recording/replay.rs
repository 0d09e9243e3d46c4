use std::collections::VecDeque;
use std::time::Duration;

use reading::{Reading, Timestamp};
use tokio::time::Instant;
use toml::de::DeTable;

use super::{Head, Piece, VERSION, Way, later};
use crate::channel::Track;
use crate::{Batch, Config, Rehearsal};

/// After the last piece comes silence, as long as any frame may pause.
const SILENCE: Duration = Duration::from_secs(60);

/// A recording on its way through its device's driver and filters, at once: the
/// times are those of the recording.
pub struct Replay<'a> {
    lines: std::iter::Enumerate<std::str::Lines<'a>>,
    /// What has been read of a piece that may go on in the next line.
    piece: Option<Piece>,
    device: Box<dyn Rehearsal>,
    tracks: Vec<Track>,
    began: Timestamp,
    /// Stands for when it began.
    start: Instant,
    last: Duration,
    batch: Batch,
    ready: VecDeque<Replayed>,
    ended: bool,
    /// The line that was wrong.
    wrong: Option<String>,
}

/// What comes of a recording.
#[derive(Clone, Debug, PartialEq)]
pub enum Replayed {
    /// Readings, with the times they had then.
    Readings(Vec<Reading>),
    /// Frames that were not understood, and the first of them.
    Noise {
        /// When.
        at: Timestamp,
        /// How many.
        frames: u64,
        /// The first.
        heard: String,
    },
}

impl<'a> Replay<'a> {
    /// Replays a recording as the configuration in it says, or as another says.
    ///
    /// # Errors
    /// When it is none, or its configuration isn't valid; a sentence for people.
    pub fn of(recording: &'a str, config: Option<Config>) -> Result<Replay<'a>, String> {
        let mut lines = recording.lines().enumerate();
        let head = lines.next().map_or("", |(_, line)| line);
        let head: Head = serde_json::from_str(head).map_err(|error| {
            format!("line 1: expected the head of a recording, a JSON object: {error}")
        })?;
        if head.recording != VERSION {
            let found = head.recording;
            return Err(format!("it is of version {found}, and this reads {VERSION}"));
        }
        let began: Timestamp = head.began.parse().map_err(|error| format!("line 1: {error}"))?;
        let config = config.map_or_else(|| configured(&head), Ok)?;
        let device = config.driver.rehearse().ok_or_else(|| {
            format!("the driver {} can't replay: it has no line of bytes", config.driver())
        })?;
        let start = Instant::now();
        let mut tracks: Vec<_> = config.channels.iter().cloned().map(Track::new).collect();
        tracks.iter_mut().for_each(|track| track.opened(start));
        Ok(Replay {
            lines,
            piece: None,
            device,
            tracks,
            began,
            start,
            last: Duration::ZERO,
            batch: Batch::default(),
            ready: VecDeque::new(),
            ended: false,
            wrong: None,
        })
    }

    /// The name of the device in a recording.
    ///
    /// # Errors
    /// When it is none.
    pub fn device(recording: &str) -> Result<String, String> {
        let head = recording.lines().next().unwrap_or_default();
        let head: Head = serde_json::from_str(head).map_err(|error| {
            format!("line 1: expected the head of a recording, a JSON object: {error}")
        })?;
        Ok(head.device)
    }

    /// Takes a line's piece, and the piece before it if this begins another.
    fn line(&mut self, piece: Piece) {
        match &mut self.piece {
            Some(open) if open.after == piece.after && open.way == piece.way => {
                open.bytes.extend(piece.bytes);
            }
            open => {
                if let Some(whole) = open.replace(piece) {
                    self.piece(&whole);
                }
            }
        }
    }

    fn piece(&mut self, piece: &Piece) {
        let silence = piece.after.saturating_sub(self.last);
        self.device.silent(silence, &mut self.batch);
        self.emit(self.last);
        self.last = self.last.max(piece.after);
        self.due(self.last);
        match piece.way {
            Way::From => self.device.received(&piece.bytes, &mut self.batch),
            Way::To => self.device.asked(&piece.bytes),
        }
        self.emit(self.last);
    }

    /// What the passing of time says, until then.
    fn due(&mut self, until: Duration) {
        loop {
            let next = self.tracks.iter().filter_map(Track::next).min();
            let Some(next) = next.filter(|next| *next <= self.start + until) else { return };
            let at = later(self.began, next - self.start);
            let due = |track: &mut Track| track.due(at, next);
            let readings: Vec<_> = self.tracks.iter_mut().filter_map(due).collect();
            if readings.is_empty() && self.tracks.iter().filter_map(Track::next).min() == Some(next)
            {
                debug_assert!(false, "a channel that is due again and again");
                return;
            }
            if !readings.is_empty() {
                self.ready.push_back(Replayed::Readings(readings));
            }
        }
    }

    /// Passes on what the device has said, then.
    fn emit(&mut self, then: Duration) {
        let (at, now) = (later(self.began, then), self.start + then);
        if self.batch.noise > 0 {
            let frames = std::mem::take(&mut self.batch.noise);
            let heard = self.batch.heard.take().unwrap_or_default();
            self.ready.push_back(Replayed::Noise { at, frames, heard });
        }
        let tracks = &mut self.tracks;
        let readings: Vec<_> = self
            .batch
            .samples
            .drain(..)
            .filter_map(|sample| tracks.get_mut(sample.channel)?.reading(sample.value, at, now))
            .collect();
        if !readings.is_empty() {
            self.ready.push_back(Replayed::Readings(readings));
        }
    }
}

/// The device as the recording has it.
fn configured(head: &Head) -> Result<Config, String> {
    let wrong = |what: &dyn std::fmt::Display| {
        format!("the configuration in it isn't valid any more: {what}; give another with --config")
    };
    let table = toml::to_string(&head.config).map_err(|error| wrong(&error))?;
    let table = DeTable::parse(&table).map_err(|error| wrong(&error))?;
    let mut errors = Vec::new();
    let config = Config::parse(&head.device, table, &mut errors);
    match (config, errors.first()) {
        (Some(config), None) => Ok(config),
        (_, Some(error)) => Err(wrong(error)),
        (None, None) => Err(wrong(&"nothing of it is left")),
    }
}

impl Iterator for Replay<'_> {
    type Item = Result<Replayed, String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(Ok(ready));
            }
            if self.ended {
                return self.wrong.take().map(Err);
            }
            let Some((place, line)) = self.lines.next() else {
                self.ended = true;
                if let Some(last) = self.piece.take() {
                    self.piece(&last);
                }
                self.device.silent(SILENCE, &mut self.batch);
                self.emit(self.last);
                continue;
            };
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match Piece::parse(line) {
                Ok(piece) => self.line(piece),
                Err(expected) => {
                    self.ended = true;
                    if let Some(last) = self.piece.take() {
                        self.piece(&last);
                    }
                    self.wrong = Some(format!("line {}: {expected}", place + 1));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use reading::Value;

    use super::*;

    const HEAD: &str = r#"{"recording":1,"device":"air","began":"2026-11-24T08:20:03.000000Z","config":{"driver":"serial","port":"/dev/x","format":"keyvalue","channel":{"t":{"stale":"5s","filters":[{"throttle":"2s"}]}}}}"#;

    fn replayed(lines: &str) -> Vec<String> {
        let recording = format!("{HEAD}\n{lines}");
        let shown = |replayed: Result<Replayed, String>| match replayed {
            Ok(Replayed::Readings(readings)) => readings
                .iter()
                .map(|reading| match &reading.value {
                    Value::Bad(fault) => format!("{} {fault}", reading.at),
                    value => format!("{} {}", reading.at, value.number().unwrap_or_default()),
                })
                .collect::<Vec<_>>()
                .join(", "),
            Ok(Replayed::Noise { at, frames, heard }) => format!("{at} {frames} x {heard}"),
            Err(error) => error,
        };
        Replay::of(&recording, None).unwrap().map(shown).collect()
    }

    /// What comes of it is the same at any time and on any machine.
    #[test]
    fn filters_and_silence_go_by_the_times_of_the_recording() {
        let lines = "# t=1, in two pieces\n0.100000 < 743d\n0.200000 < 310a\n\n\
            1.000000 < 743d320a\n2.500000 < 743d330a\n9.000000 < 2b0a\n";
        assert_eq!(
            replayed(lines),
            [
                "2026-11-24T08:20:03.200000Z 1",
                "2026-11-24T08:20:05.500000Z 3",
                "2026-11-24T08:20:10.500000Z stale",
                "2026-11-24T08:20:12.000000Z 1 x +",
            ]
        );
    }

    #[test]
    fn a_line_that_is_none_is_told_by_its_number() {
        assert_eq!(replayed("0.1 < 743d310a\nx\n").len(), 2);
        assert!(replayed("0.1 < 743d310a\nx\n")[1].starts_with("line 3: expected seconds"));
        let of = |recording: &str| Replay::of(recording, None).err().unwrap();
        assert!(of("").starts_with("line 1: expected the head"));
        assert!(of(&HEAD.replace(":1,", ":2,")).starts_with("it is of version 2"));
        let other = HEAD.replace("keyvalue", "morse");
        assert!(of(&other).contains("device.air.format"), "{}", of(&other));
        let (before, _) = HEAD.split_once(r#""driver""#).unwrap();
        let other = format!(r#"{before}"driver":"sim","channel":{{"a":{{"wave":"sine"}}}}}}}}"#);
        assert!(of(&other).contains("driver sim can't"), "{}", of(&other));
    }
}
