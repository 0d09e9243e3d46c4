//! What storing costs the card.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// How often a card may be written over, where its maker doesn't say: cells of
/// three bits bear some 500 to 1,000 erasures, and the card itself writes more than
/// it is given, for it erases blocks of megabytes. A guess on the safe side.
pub const CYCLES_ASSUMED: u64 = 200;

/// The making of the file isn't what goes on every day; nor does less tell much.
const SPAN_MIN: Duration = Duration::from_secs(60);

/// "Today's" rate is that of the last so many marks, an hour apart.
const MARKS_MAX: usize = 25;
const MARK_EVERY: Duration = Duration::from_secs(3_600);

const DAY: f64 = 86_400.0;
const YEAR: f64 = 365.25;

/// What this process has written to disk within the last day, or since a minute
/// after it was started, and what that means for the card.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wear {
    /// Bytes for each reading stored, everything counted.
    pub bytes_per_reading: u64,
    /// Bytes a day at this rate.
    pub bytes_per_day: u64,
    /// Bytes that the card may be written in all.
    pub endurance: u64,
    /// Nobody said so: it is [`CYCLES_ASSUMED`] times the file system's size.
    pub endurance_assumed: bool,
    /// Years until a new card is worn out at this rate, by this process alone.
    pub life_years: f64,
}

/// Measures it.
pub(crate) struct Meter {
    began: Instant,
    /// What the configuration says.
    endurance: Option<u64>,
    marks: VecDeque<Mark>,
}

/// What had been written, and stored, at an instant.
#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    bytes: u64,
    readings: u64,
}

impl Meter {
    pub(crate) fn new(endurance: Option<u64>, now: Instant) -> Meter {
        Meter { began: now, endurance, marks: VecDeque::new() }
    }

    /// `bytes` have been written and `readings` stored until `now`; `None` while
    /// it is too early to tell, or where Linux doesn't count.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        bytes: u64,
        readings: u64,
        capacity: u64,
    ) -> Option<Wear> {
        if now.saturating_duration_since(self.began) < SPAN_MIN {
            return None;
        }
        let since = |mark: &Mark| now.saturating_duration_since(mark.at);
        if self.marks.back().is_none_or(|mark| since(mark) >= MARK_EVERY) {
            self.marks.push_back(Mark { at: now, bytes, readings });
            if self.marks.len() > MARKS_MAX {
                self.marks.pop_front();
            }
        }
        let first = self.marks.front()?;
        let (bytes, readings) =
            (bytes.saturating_sub(first.bytes), readings.saturating_sub(first.readings));
        if since(first) < SPAN_MIN || bytes == 0 || readings == 0 {
            return None;
        }
        let endurance = self.endurance.unwrap_or_else(|| capacity.saturating_mul(CYCLES_ASSUMED));
        #[expect(clippy::cast_precision_loss, reason = "nobody counts on the last byte")]
        let (per_day, endurance_f64) =
            (bytes as f64 * DAY / since(first).as_secs_f64(), endurance as f64);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and no disk writes 2^53 bytes a day"
        )]
        let bytes_per_day = per_day as u64;
        Some(Wear {
            bytes_per_reading: bytes / readings,
            bytes_per_day,
            endurance,
            endurance_assumed: self.endurance.is_none(),
            // Two digits: it is a guess.
            life_years: (endurance_f64 / per_day / YEAR * 100.0).round() / 100.0,
        })
    }
}

/// Bytes of the file system that has a file; 0 when it doesn't say.
pub(crate) fn capacity(path: &Path) -> u64 {
    let system = rustix::fs::statvfs(path.parent().unwrap_or(path));
    system.map_or(0, |system| system.f_blocks.saturating_mul(system.f_frsize))
}

/// Bytes that this process had written to disk, as Linux counts them: pages of
/// 4,096 bytes, once for each time that they go there.
pub(crate) fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_rate_becomes_a_span_of_life() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut meter = Meter::new(None, began);
        // The making of the file.
        assert_eq!(meter.look(at(1), 5_000_000, 10, GIB), None);
        assert_eq!(meter.look(at(60), 5_010_000, 600, GIB), None);
        assert_eq!(meter.look(at(90), 5_020_000, 900, GIB), None, "too short to tell");
        // 1,000 bytes for each of ten readings a second.
        let wear = meter.look(at(160), 6_010_000, 1_600, GIB).unwrap();
        assert_eq!((wear.bytes_per_reading, wear.bytes_per_day), (1_000, 864_000_000));
        assert_eq!((wear.endurance, wear.endurance_assumed), (200 * GIB, true));
        assert_eq!(wear.life_years, 0.68);
    }

    #[test]
    fn only_the_last_day_counts_and_what_the_maker_says() {
        let began = Instant::now();
        let mut meter = Meter::new(Some(864_000_000 * 3_652), began);
        let (mut bytes, mut wear) = (0, None);
        for hour in 1..60_u64 {
            // From the second day on a tenth.
            bytes += if hour < 30 { 360_000_000 } else { 36_000_000 };
            let now = began + Duration::from_secs(hour * 3_600);
            wear = meter.look(now, bytes, hour * 36_000, GIB);
        }
        let wear = wear.unwrap();
        assert_eq!((wear.bytes_per_reading, wear.bytes_per_day), (1_000, 864_000_000));
        assert_eq!((wear.life_years, wear.endurance_assumed), (10.0, false));
    }

    #[test]
    fn where_nothing_is_counted_nothing_is_claimed() {
        let began = Instant::now();
        let mut meter = Meter::new(None, began);
        for second in [1, 61, 200, 400] {
            assert_eq!(meter.look(began + Duration::from_secs(second), 0, second, GIB), None);
        }
    }

    #[test]
    fn the_file_system_says_how_large_it_is() {
        assert!(capacity(&std::env::temp_dir().join("any")) > 1 << 20);
    }
}
