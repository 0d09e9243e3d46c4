//! What a broker refuses for good: passed, and counted as dropped.

use reading::{Body, Gap, Record};

use crate::Cursor;

impl Cursor {
    /// The broker will never take these: once the position passes them, their
    /// readings count as dropped rather than acknowledged. Each is told, by
    /// channel, as a gap with this reason: [`crate::Appender::losses`] has it.
    ///
    /// It moves nothing by itself: [`Cursor::acknowledge`] does, when nothing
    /// before them is owed any more. Records that the position has passed, or
    /// that were never given, stay as they are counted.
    pub fn skip(&self, records: &[Record], reason: &'static str) {
        let mut state = self.shared.state();
        for record in records {
            // A gap counts no reading: it tells of some that are counted already.
            let Body::Reading(reading) = &record.body else { continue };
            if !state.forwarder(&self.forwarder).is_some_and(|of| of.skip(record.seq.0)) {
                continue;
            }
            let gap = Gap {
                from: reading.at,
                to: reading.at,
                count: 1,
                channel: Some(reading.channel.clone()),
                reason: reason.into(),
            };
            state.losses.add(gap);
        }
    }
}
