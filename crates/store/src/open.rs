//! From a path to an open store: connect, migrate, take up what is there.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reading::{Channel, ChannelSpec, Epoch, Seq, Timestamp};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, Row, SqliteConnection, SqlitePool};
use tokio::sync::watch;

use crate::row::{integer, number};
use crate::state::{Forwarder, Ledger, Parts, Shared};
use crate::{Appender, Config, Cursor, Error, Store, Subscription, Writer, quality, rollup};

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations");

/// Bytes of a page of a new file. A commit rewrites whole pages, and most
/// commits of a gateway are one or a few readings of 25 bytes: the smallest
/// page makes the fewest bytes to disk (measured; see the crate's page).
const PAGE_SIZE: u32 = 512;

/// How far the log beside the file grows, bytes, before it is copied into the
/// file, unless the file may only be small. A longer one is copied less often,
/// and each time a page counts once however often it was written.
const WAL_MAX: u64 = 4 * 1024 * 1024;

/// The share of `max_size` that the log beside the file may have.
pub(crate) fn wal_max(max_size: u64) -> u64 {
    WAL_MAX.min(max_size / 4)
}

impl Store {
    /// Opens the file, making and migrating it as needed; makes a new epoch
    /// durable; starts no task. The cursors are in the order of `forwarders`; a
    /// forwarder that the file doesn't know begins with what comes next.
    ///
    /// # Errors
    /// When the file can't be opened, is another gateway's, or was written by a
    /// newer version.
    pub async fn open(
        config: &Config,
        channels: &[ChannelSpec],
        forwarders: &[Subscription],
    ) -> Result<(Store, Appender, Writer, Vec<Cursor>), Error> {
        let path = config.path.clone();
        let fails = |source: sqlx::Error| Error::Open { path: config.path.clone(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| fails(sqlx::Error::Io(e)))?;
        }
        let lock = lock(&path)?;
        let mut db = connect(config).await.map_err(fails)?;
        migrate(&mut db, &path).await?;
        let (parts, next) = take_up(&mut db, config, channels, forwarders).await.map_err(fails)?;

        let last = Seq(next.0 - 1);
        let (sender, committed) = watch::channel(last);
        let reader = || reader(&path);
        let shared = Arc::new(Shared::new(parts, committed, reader(), reader()));
        let cursors = forwarders.iter().enumerate();
        let cursors = cursors.map(|(i, s)| Cursor::new(Arc::clone(&shared), i, s)).collect();
        let appender = Appender { shared: Arc::clone(&shared), next, losses: Default::default() };
        let writer = Writer::new(Arc::clone(&shared), db, lock, sender, config);
        Ok((Store { shared }, appender, writer, cursors))
    }
}

/// One gateway a file: two would give the same numbers. `sqlite3` and whoever
/// else reads is not concerned. The lock is a file of its own, because closing
/// another handle of SQLite's file would drop SQLite's own locks.
fn lock(path: &Path) -> Result<File, Error> {
    let mut name = path.as_os_str().to_owned();
    name.push("-lock");
    let fails = |source| Error::Open { path: path.to_owned(), source: sqlx::Error::Io(source) };
    let options = File::options().create(true).truncate(false).write(true).open(name);
    let file = options.map_err(fails)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(fails(error)),
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(Duration::from_secs(1))
        .foreign_keys(false)
        .pragma("temp_store", "MEMORY")
}

/// The writer's connection.
async fn connect(config: &Config) -> Result<SqliteConnection, sqlx::Error> {
    let wal_max = wal_max(config.max_size.as_u64());
    let checkpoint = (wal_max / u64::from(PAGE_SIZE)).max(1);
    let options = options(&config.path)
        .create_if_missing(true)
        .page_size(PAGE_SIZE)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", checkpoint.to_string())
        .pragma("journal_size_limit", wal_max.to_string())
        .pragma("cache_size", "-1024")
        .statement_cache_capacity(32)
        .thread_name(|_| "store-writer".to_owned());
    SqliteConnection::connect_with(&options).await
}

/// One read-only connection with little memory, opened when first used.
fn reader(path: &Path) -> SqlitePool {
    let options = options(path)
        .read_only(true)
        .pragma("cache_size", "-256")
        .statement_cache_capacity(16)
        .row_buffer_size(64)
        .thread_name(|_| "store-reader".to_owned());
    SqlitePoolOptions::new()
        .max_connections(1)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(Duration::from_secs(10))
        .connect_lazy_with(options)
}

async fn migrate(db: &mut SqliteConnection, path: &Path) -> Result<(), Error> {
    MIGRATIONS.run(db).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) => Error::Newer {
            path: path.to_owned(),
            found,
            known: MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0),
        },
        source => Error::Migrate { path: path.to_owned(), source },
    })
}

/// Reads what the file has, counts what it had not counted when it was last
/// written, and notes this start, all in one durable transaction.
async fn take_up(
    db: &mut SqliteConnection,
    config: &Config,
    channels: &[ChannelSpec],
    forwarders: &[Subscription],
) -> Result<(Parts, Seq), sqlx::Error> {
    let mut tx = db.begin_with("BEGIN IMMEDIATE").await?;
    save_quality(&mut tx).await?;
    let configured = channels.iter().map(|spec| spec.channel.clone()).collect();
    let channels = save_channels(&mut tx, channels).await?;
    let next = next_seq(&mut tx).await?;
    let ledger = count(&mut tx, next).await?;
    let mut taken_up = Vec::with_capacity(forwarders.len());
    for subscription in forwarders {
        taken_up.push(take_up_forwarder(&mut tx, subscription, &channels, ledger, next).await?);
    }
    let epoch = Epoch(getrandom::u64().map_err(|e| sqlx::Error::Io(std::io::Error::other(e)))?);
    let epochs = save_epoch(&mut tx, epoch, next).await?;
    let sql = "SELECT time FROM log ORDER BY seq LIMIT 1";
    let oldest = sqlx::query_scalar(sql).fetch_optional(&mut *tx).await?;
    tx.commit().await?;
    let parts = Parts {
        path: config.path.clone(),
        max_size: config.max_size.as_u64(),
        flush: config.flush,
        epoch,
        epochs,
        configured,
        channels,
        ledger,
        forwarders: taken_up,
        oldest,
    };
    Ok((parts, next))
}

async fn save_quality(db: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let known: i64 = sqlx::query_scalar("SELECT count(*) FROM quality").fetch_one(&mut *db).await?;
    let all = quality::all();
    if number(known) == all.len() as u64 {
        return Ok(());
    }
    for (code, quality, reason) in all {
        let sql = "INSERT OR REPLACE INTO quality (code, quality, reason) VALUES (?, ?, ?)";
        sqlx::query(sql).bind(code).bind(quality).bind(reason).execute(&mut *db).await?;
    }
    Ok(())
}

/// Channels are never removed: the log has their ids.
async fn save_channels(
    db: &mut SqliteConnection,
    channels: &[ChannelSpec],
) -> Result<HashMap<i64, Channel>, sqlx::Error> {
    for spec in channels {
        let sql = "INSERT INTO channel (device, name, kind, unit, label) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (device, name) DO UPDATE
            SET kind = excluded.kind, unit = excluded.unit, label = excluded.label
            WHERE (kind, unit, label) IS NOT (excluded.kind, excluded.unit, excluded.label)";
        sqlx::query(sql)
            .bind(spec.channel.device())
            .bind(spec.channel.name())
            .bind(spec.kind.as_str())
            .bind(spec.unit.as_str())
            .bind(spec.label.as_deref())
            .execute(&mut *db)
            .await?;
    }
    let rows = sqlx::query("SELECT id, device, name FROM channel").fetch_all(db).await?;
    let mut known = HashMap::with_capacity(rows.len());
    for row in rows {
        // A name that is none can only come of damage; its rows are passed over.
        if let Ok(channel) = Channel::new(row.try_get(1)?, row.try_get(2)?) {
            known.insert(row.try_get(0)?, channel);
        }
    }
    Ok(known)
}

/// One more than every number that is known to have been given.
async fn next_seq(db: &mut SqliteConnection) -> Result<Seq, sqlx::Error> {
    let sql = "SELECT max(
        coalesce((SELECT max(seq) FROM log), 0),
        coalesce((SELECT max(seq) FROM gap), 0),
        coalesce((SELECT max(first_seq) FROM epoch), 1) - 1,
        coalesce((SELECT max(position) FROM forwarder), 0),
        coalesce((SELECT max(purged, counted) FROM ledger), 0))";
    let last: i64 = sqlx::query_scalar(sql).fetch_one(db).await?;
    Ok(Seq(number(last)).next())
}

/// The ledger, with what was committed after it was last written.
async fn count(db: &mut SqliteConnection, next: Seq) -> Result<Ledger, sqlx::Error> {
    let sql = "SELECT counted, stored, dropped, removed, purged, rolled FROM ledger";
    let row = sqlx::query(sql).fetch_one(&mut *db).await?;
    let field = |column: usize| row.try_get::<i64, _>(column).map(number);
    let mut ledger = Ledger {
        counted: field(0)?,
        stored: field(1)?,
        dropped: field(2)?,
        removed: field(3)?,
        purged: field(4)?,
        rolled: field(5)?,
    };
    let sql = "SELECT count(*) FROM log WHERE seq > ?";
    let more: i64 =
        sqlx::query_scalar(sql).bind(integer(ledger.counted)).fetch_one(&mut *db).await?;
    ledger.stored += number(more);
    rollup::recover(&mut *db, ledger.rolled).await?;
    ledger.counted = next.0 - 1;
    ledger.rolled = next.0 - 1;
    crate::commit::save_ledger(db, &ledger).await?;
    Ok(ledger)
}

async fn take_up_forwarder(
    db: &mut SqliteConnection,
    subscription: &Subscription,
    channels: &HashMap<i64, Channel>,
    ledger: Ledger,
    next: Seq,
) -> Result<Forwarder, sqlx::Error> {
    let last = Seq(next.0 - 1);
    let mut forwarder = Forwarder {
        name: subscription.forwarder.clone(),
        patterns: subscription.channels.clone(),
        position: last,
        looked: last,
        stored: 0,
        acknowledged: 0,
        dropped: 0,
        given: Default::default(),
        skipped: Default::default(),
    };
    let sql = "SELECT channels, position, counted, stored, acknowledged, dropped
        FROM forwarder WHERE name = ?";
    if let Some(row) = sqlx::query(sql).bind(&forwarder.name).fetch_optional(&mut *db).await? {
        let field = |column: usize| row.try_get::<i64, _>(column).map(number);
        let same = row.try_get::<&str, _>(0)? == forwarder.channels();
        let position = field(1)?;
        forwarder.stored = field(3)?;
        forwarder.acknowledged = field(4)?;
        forwarder.dropped = field(5)?;
        if same && ledger.purged <= position {
            forwarder.stored += matching(db, &forwarder, channels, field(2)?).await?;
        } else {
            // Other channels than before, or it was away while readings were
            // removed: what waits is counted anew.
            let known = forwarder.acknowledged + forwarder.dropped;
            let waits = matching(db, &forwarder, channels, position).await?;
            if same {
                let more = matching(db, &forwarder, channels, field(2)?).await?;
                forwarder.dropped += (forwarder.stored + more).saturating_sub(known + waits);
            }
            forwarder.stored = forwarder.acknowledged + forwarder.dropped + waits;
        }
        forwarder.position = Seq(position);
        forwarder.looked = forwarder.position;
    }
    crate::commit::save_forwarder(db, &forwarder, last).await?;
    Ok(forwarder)
}

/// How many readings after a number are for a forwarder.
async fn matching(
    db: &mut SqliteConnection,
    forwarder: &Forwarder,
    channels: &HashMap<i64, Channel>,
    after: u64,
) -> Result<u64, sqlx::Error> {
    let sql = "SELECT channel, count(*) FROM log WHERE seq > ? GROUP BY channel";
    let mut count = 0;
    for row in sqlx::query(sql).bind(integer(after)).fetch_all(db).await? {
        let channel = channels.get(&row.try_get::<i64, _>(0)?);
        if channel.is_some_and(|channel| forwarder.matches(channel)) {
            count += number(row.try_get(1)?);
        }
    }
    Ok(count)
}

/// Notes this start and forgets those of which nothing is left.
async fn save_epoch(
    db: &mut SqliteConnection,
    epoch: Epoch,
    first: Seq,
) -> Result<Vec<(Seq, Epoch)>, sqlx::Error> {
    let sql = "DELETE FROM epoch WHERE first_seq < (
        SELECT max(first_seq) FROM epoch WHERE first_seq <= min(
            coalesce((SELECT min(seq) FROM log), ?1), coalesce((SELECT min(seq) FROM gap), ?1)))
        OR first_seq >= ?1";
    sqlx::query(sql).bind(integer(first.0)).execute(&mut *db).await?;
    let sql = "INSERT INTO epoch (epoch, first_seq, started, boot_id) VALUES (?, ?, ?, ?)";
    sqlx::query(sql)
        .bind(epoch.to_string())
        .bind(integer(first.0))
        .bind(Timestamp::now().as_micros())
        .bind(boot_id())
        .execute(&mut *db)
        .await?;
    let rows = sqlx::query("SELECT first_seq, epoch FROM epoch ORDER BY id").fetch_all(db).await?;
    let mut epochs = Vec::with_capacity(rows.len());
    for row in rows {
        if let Ok(epoch) = row.try_get::<&str, _>(1)?.parse() {
            epochs.push((crate::row::seq(&row)?, epoch));
        }
    }
    Ok(epochs)
}

/// Which start of the machine this is, where Linux tells.
fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}
