use reading::{Channel, Epoch, Record, Seq};

use crate::row::{self, integer};
use crate::{Error, Store};

impl Store {
    /// Readings numbered after `after` and through `through`, in order; of more
    /// than `max` the newest.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn between(
        &self,
        after: Seq,
        through: Seq,
        max: usize,
    ) -> Result<Vec<Record>, Error> {
        let sql = "SELECT seq, channel, time, value, quality FROM log
            WHERE seq > ? AND seq <= ? ORDER BY seq DESC LIMIT ?";
        let rows = sqlx::query(sql)
            .bind(integer(after.0))
            .bind(integer(through.0))
            .bind(i64::try_from(max).unwrap_or(i64::MAX))
            .fetch_all(&self.shared.history)
            .await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in rows.iter().rev() {
            found.extend(row::record(&self.shared, row)?);
        }
        Ok(found)
    }

    /// The start of the gateway in which a number was given, as far as the store
    /// knows; after a power cut the tail of a start may be gone, and its numbers
    /// are of the next.
    pub fn epoch_of(&self, seq: Seq) -> Epoch {
        self.shared.epoch_of(seq)
    }

    /// Whether the channel has ever been configured.
    pub fn knows(&self, channel: &Channel) -> bool {
        self.shared.channel_id(channel).is_some()
    }
}
