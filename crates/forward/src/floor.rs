use std::time::Duration;

use reading::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

/// The clock that certificates are checked with: never before the program was
/// built.
///
/// A machine without a battery for its clock begins in 1970, where no
/// certificate is valid. If time itself comes over the link that waits for it,
/// it would wait for ever.
#[derive(Debug)]
pub(crate) struct Floor;

impl TimeProvider for Floor {
    fn current_time(&self) -> Option<UnixTime> {
        Some(not_before_the_build(Timestamp::now()))
    }
}

fn not_before_the_build(now: Timestamp) -> UnixTime {
    let built = env!("BUILT").parse().map_or(Duration::ZERO, Duration::from_secs);
    UnixTime::since_unix_epoch(now.since(Timestamp::UNIX_EPOCH).max(built))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_never_1970() {
        let seconds = |text: &str| not_before_the_build(text.parse().unwrap()).as_secs();
        let built = seconds("1970-01-01T00:00:07Z");
        assert!(built > 1_700_000_000, "{built}");
        assert_eq!(seconds("1969-01-01T00:00:00Z"), built);
        assert_eq!(seconds("2999-01-01T00:00:00Z"), 32_472_144_000);
    }
}
