use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often it wakes.
const TICK: Duration = Duration::from_millis(2);

/// Ticks that are remembered: some two seconds.
const TICKS_MAX: usize = 1_000;

/// Wakes all the time and notes by how much too late: what a machine that is
/// busy with other things takes from whoever has a deadline in milliseconds.
pub(crate) struct Metronome {
    /// When it woke, and how late that was. Its thread ends with this.
    ticks: Arc<Mutex<VecDeque<(Instant, Duration)>>>,
}

impl Metronome {
    pub(crate) fn start() -> Metronome {
        let ticks = Arc::new(Mutex::new(VecDeque::new()));
        let mine = Arc::downgrade(&ticks);
        std::thread::spawn(move || {
            let mut due = Instant::now() + TICK;
            while let Some(ticks) = mine.upgrade() {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let now = Instant::now();
                let mut ticks = ticks.lock().unwrap();
                ticks.push_back((now, now.saturating_duration_since(due)));
                if ticks.len() > TICKS_MAX {
                    ticks.pop_front();
                }
                due = now + TICK;
            }
        });
        Metronome { ticks }
    }

    /// All lateness within the last `span` together.
    pub(crate) fn late(&self, span: Duration) -> Duration {
        let now = Instant::now();
        let ticks = self.ticks.lock().unwrap();
        let recent = ticks.iter().filter(|(at, _)| now - *at < span);
        // And the tick that should have come by now.
        let last = ticks.back().map_or(now, |(at, _)| *at);
        recent.map(|(_, late)| *late).sum::<Duration>() + (now - last).saturating_sub(TICK)
    }
}
