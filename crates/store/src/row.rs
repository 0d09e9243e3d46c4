//! Records and rows: what is bound and what is read.

use std::sync::Arc;

use reading::{Body, Datum, Gap, Reading, Record, Seq, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, TypeInfo, ValueRef};

use crate::quality;
use crate::state::Shared;

/// A row of the table `log`, to be bound.
pub(crate) struct LogRow<'a> {
    pub(crate) seq: i64,
    pub(crate) channel: i64,
    pub(crate) reading: &'a Reading,
}

/// SQLite's integers have a sign; numbers of records never reach 2^63.
pub(crate) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What [`integer`] wrote; a negative one can only come of damage.
pub(crate) fn number(integer: i64) -> u64 {
    u64::try_from(integer).unwrap_or(0)
}

/// The number in the first column.
pub(crate) fn seq(row: &SqliteRow) -> Result<Seq, sqlx::Error> {
    Ok(Seq(number(row.try_get(0)?)))
}

/// A record of `seq, channel, time, value, quality`; `None` when its channel
/// isn't known, which can only come of damage.
pub(crate) fn record(shared: &Shared, row: &SqliteRow) -> Result<Option<Record>, sqlx::Error> {
    let seq = seq(row)?;
    let Some(channel) = shared.channel(row.try_get(1)?) else { return Ok(None) };
    let at = Timestamp::from_micros(row.try_get(2)?);
    let value = quality::value(row.try_get(4)?, datum(row, 3)?);
    let body = Body::Reading(Reading { channel, at, value });
    Ok(Some(Record { epoch: shared.epoch_of(seq), seq, body }))
}

/// The type of what is stored says what it is: REAL a number, INTEGER a truth.
fn datum(row: &SqliteRow, column: usize) -> Result<Option<Datum>, sqlx::Error> {
    let raw = row.try_get_raw(column)?;
    if raw.is_null() {
        return Ok(None);
    }
    Ok(match raw.type_info().name() {
        "REAL" => Datum::number(row.try_get_unchecked(column)?),
        "INTEGER" => Some(Datum::Boolean(row.try_get_unchecked::<i64, _>(column)? != 0)),
        "TEXT" => Some(Datum::Text(Arc::from(row.try_get_unchecked::<&str, _>(column)?))),
        _ => None,
    })
}

/// A gap of `seq, from_time, to_time, count, channel, reason`.
pub(crate) fn gap(shared: &Shared, row: &SqliteRow) -> Result<(Seq, Gap), sqlx::Error> {
    let seq = seq(row)?;
    let channel: Option<i64> = row.try_get(4)?;
    let gap = Gap {
        from: Timestamp::from_micros(row.try_get(1)?),
        to: Timestamp::from_micros(row.try_get(2)?),
        count: number(row.try_get(3)?),
        channel: channel.and_then(|id| shared.channel(id)),
        reason: row.try_get::<String, _>(5)?.into(),
    };
    Ok((seq, gap))
}
