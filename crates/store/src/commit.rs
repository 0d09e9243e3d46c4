//! The statements of a commit.

use std::sync::LazyLock;

use reading::{Channel, Datum, Gap, Seq};
use sqlx::{Executor, SqliteConnection};

use crate::losses::Losses;
use crate::quality;
use crate::row::{LogRow, integer};
use crate::state::{Forwarder, Ledger, OfChannel};

/// Rows a statement: few statements, so that each stays prepared, and few trips
/// to SQLite's thread, which cost more than a row does.
pub(crate) const ROWS: [usize; 4] = [512, 64, 8, 1];

/// `OR IGNORE`: a commit that failed may have reached the disk all the same, and
/// is then tried again.
static INSERTS: LazyLock<[String; 4]> = LazyLock::new(|| {
    ROWS.map(|rows| {
        let mut sql =
            "INSERT OR IGNORE INTO log (seq, channel, time, value, quality) VALUES (?,?,?,?,?)"
                .to_owned();
        sql.push_str(&",(?,?,?,?,?)".repeat(rows - 1));
        sql
    })
});

/// Not sqlx's own: on a full disk SQLite rolls back by itself, sqlx's roll-back
/// then fails, and its count of open transactions stays wrong for ever.
pub(crate) async fn begin(db: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    db.execute("BEGIN IMMEDIATE").await?;
    Ok(())
}

/// Commits when all went well, else undoes it.
pub(crate) async fn finish<T>(
    db: &mut SqliteConnection,
    outcome: Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    let committed = match outcome {
        Ok(value) => db.execute("COMMIT").await.map(|_| value),
        Err(error) => Err(error),
    };
    if committed.is_err() {
        // It fails when SQLite has rolled back already: the outcome is the same.
        drop(db.execute("ROLLBACK").await);
    }
    committed
}

/// The statements that add so many rows to the log as [`ROWS`] says.
pub(crate) fn inserts() -> &'static [String; 4] {
    &INSERTS
}

pub(crate) async fn insert_log(
    db: &mut SqliteConnection,
    mut rows: &[LogRow<'_>],
) -> Result<(), sqlx::Error> {
    for (size, sql) in ROWS.iter().zip(inserts()) {
        while rows.len() >= *size {
            let (now, later) = rows.split_at(*size);
            rows = later;
            let mut query = sqlx::query(sql.as_str());
            for row in now {
                let value = &row.reading.value;
                query = query.bind(row.seq).bind(row.channel).bind(row.reading.at.as_micros());
                query = match value.datum() {
                    None => query.bind(None::<f64>),
                    Some(Datum::Number(number)) => query.bind(*number),
                    Some(Datum::Boolean(truth)) => query.bind(*truth),
                    Some(Datum::Text(text)) => query.bind(text.to_string()),
                };
                query = query.bind(quality::code(value));
            }
            query.execute(&mut *db).await?;
        }
    }
    Ok(())
}

pub(crate) async fn insert_gap(
    db: &mut SqliteConnection,
    seq: Seq,
    gap: &Gap,
    channel: Option<i64>,
) -> Result<(), sqlx::Error> {
    let sql = "INSERT OR IGNORE INTO gap (seq, from_time, to_time, count, channel, reason)
        VALUES (?, ?, ?, ?, ?, ?)";
    sqlx::query(sql)
        .bind(integer(seq.0))
        .bind(gap.from.as_micros())
        .bind(gap.to.as_micros())
        .bind(integer(gap.count))
        .bind(channel)
        .bind(gap.reason.to_string())
        .execute(db)
        .await?;
    Ok(())
}

/// A channel that the configuration doesn't name.
pub(crate) async fn insert_channel(
    db: &mut SqliteConnection,
    id: i64,
    channel: &Channel,
    kind: &str,
) -> Result<(), sqlx::Error> {
    let sql = "INSERT OR IGNORE INTO channel (id, device, name, kind, unit)
        VALUES (?, ?, ?, ?, '')";
    sqlx::query(sql)
        .bind(id)
        .bind(channel.device().to_owned())
        .bind(channel.name().to_owned())
        .bind(kind.to_owned())
        .execute(db)
        .await?;
    Ok(())
}

pub(crate) async fn save_ledger(
    db: &mut SqliteConnection,
    ledger: &Ledger,
) -> Result<(), sqlx::Error> {
    let sql = "UPDATE ledger SET counted = ?, stored = ?, dropped = ?, removed = ?, purged = ?,
        rolled = ?";
    sqlx::query(sql)
        .bind(integer(ledger.counted))
        .bind(integer(ledger.stored))
        .bind(integer(ledger.dropped))
        .bind(integer(ledger.removed))
        .bind(integer(ledger.purged))
        .bind(integer(ledger.rolled))
        .execute(db)
        .await?;
    Ok(())
}

/// Makes the row of the ledger another one, so that writing it writes: SQLite
/// leaves a page alone whose new content is the old, and a commit of no page
/// makes nothing durable, not even the commits before it.
pub(crate) async fn touch_ledger(db: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    db.execute("UPDATE ledger SET counted = -1").await?;
    Ok(())
}

/// The ledgers of channels; they count through `ledger.counted`.
pub(crate) async fn save_channels(
    db: &mut SqliteConnection,
    channels: &[(i64, Channel, OfChannel)],
) -> Result<(), sqlx::Error> {
    for (id, _, of) in channels {
        let sql = "UPDATE channel SET stored = ?, dropped = ? WHERE id = ?";
        let query = sqlx::query(sql).bind(integer(of.stored)).bind(integer(of.dropped)).bind(id);
        query.execute(&mut *db).await?;
    }
    Ok(())
}

/// What is lost, by cause, and what of it no committed record tells.
pub(crate) async fn save_losses(
    db: &mut SqliteConnection,
    losses: &Losses,
) -> Result<(), sqlx::Error> {
    for (reason, count) in losses.causes() {
        let sql = "INSERT INTO loss (reason, count) VALUES (?, ?)
            ON CONFLICT (reason) DO UPDATE SET count = excluded.count
            WHERE count <> excluded.count";
        let query = sqlx::query(sql).bind(reason.to_owned()).bind(integer(count));
        query.execute(&mut *db).await?;
    }
    db.execute("DELETE FROM untold").await?;
    for gap in losses.untold() {
        insert_untold(db, gap).await?;
    }
    Ok(())
}

/// A loss that no committed record tells.
pub(crate) async fn insert_untold(db: &mut SqliteConnection, gap: &Gap) -> Result<(), sqlx::Error> {
    let sql = "INSERT INTO untold (from_time, to_time, count, channel, reason)
        VALUES (?, ?, ?, ?, ?)";
    sqlx::query(sql)
        .bind(gap.from.as_micros())
        .bind(gap.to.as_micros())
        .bind(integer(gap.count))
        .bind(gap.channel.as_ref().map(Channel::to_string))
        .bind(gap.reason.to_string())
        .execute(db)
        .await?;
    Ok(())
}

/// Marks a file that was made of a damaged one: what its forwarders are still to
/// get is counted anew when it is opened, or else by who made it.
pub(crate) async fn mark(db: &mut SqliteConnection, salvaged: bool) -> Result<(), sqlx::Error> {
    let sql = if salvaged { "PRAGMA user_version = 1" } else { "PRAGMA user_version = 0" };
    db.execute(sql).await?;
    Ok(())
}

/// Whether it has the mark.
pub(crate) async fn is_marked(db: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(db).await?;
    Ok(version == 1)
}

/// `counted`: the last number that `forwarder.stored` counts.
pub(crate) async fn save_forwarder(
    db: &mut SqliteConnection,
    forwarder: &Forwarder,
    counted: Seq,
) -> Result<(), sqlx::Error> {
    let sql = "INSERT OR REPLACE INTO forwarder
        (name, channels, position, counted, stored, acknowledged, dropped)
        VALUES (?, ?, ?, ?, ?, ?, ?)";
    sqlx::query(sql)
        .bind(forwarder.name.clone())
        .bind(forwarder.channels())
        .bind(integer(forwarder.position.0))
        .bind(integer(counted.0))
        .bind(integer(forwarder.stored))
        .bind(integer(forwarder.acknowledged))
        .bind(integer(forwarder.dropped))
        .execute(db)
        .await?;
    Ok(())
}
