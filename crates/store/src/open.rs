//! From a path to an open store: connect, migrate, take up what is there.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use reading::{Channel, ChannelSpec, Epoch, Gap, Seq, Timestamp};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection, SqlitePool};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, warn};

use crate::losses::Losses;
use crate::row::{integer, number};
use crate::state::{Forwarder, Ledger, OfChannel, Parts, Renewed, Shared};
use crate::undated::Held;
use crate::{
    Appender, Config, Cursor, Error, Store, Subscription, Writer, aside, commit, damage, quality,
    rollup, salvage, sector,
};

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations");

/// Bytes of a page of a new file. A commit rewrites whole pages, and most
/// commits of a gateway are one or a few readings of 25 bytes: the smallest
/// page makes the fewest bytes to disk (measured; see the crate's page).
pub(crate) const PAGE_SIZE: u32 = 512;

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
        let sound = sound(config, channels, forwarders).await?;
        let (db, parts, next) = sound;

        let last = Seq(next.0 - 1);
        let (sender, committed) = watch::channel(last);
        let (release, ready) = watch::channel(parts.held.limit(last));
        let renewed = Renewed::default();
        let readers = [reader(&path, &renewed), reader(&path, &renewed)];
        let shared = Arc::new(Shared::new(parts, [committed, ready], readers, renewed));
        let cursors = forwarders.iter().map(|s| Cursor::new(Arc::clone(&shared), s)).collect();
        let appender = Appender { shared: Arc::clone(&shared), next };
        let writer = Writer::new(Arc::clone(&shared), db, lock, [sender, release], config);
        Ok((Store { shared }, appender, writer, cursors))
    }
}

/// A file that can be trusted, and what it has.
type Sound = (SqliteConnection, Parts, Seq);

/// How long another program may keep the file locked before it is put aside: a
/// gateway is to start within ten seconds.
const LOCKED_MAX: Duration = Duration::from_secs(3);

/// Opens the file; one that is damaged, or that another program doesn't let go,
/// is put aside, and a new one takes over what it still has.
async fn sound(
    config: &Config,
    channels: &[ChannelSpec],
    forwarders: &[Subscription],
) -> Result<Sound, Error> {
    let path = &config.path;
    let fails = |source: sqlx::Error| Error::Open { path: path.clone(), source };
    let began = Instant::now();
    aside::take_finished(path).map_err(|e| fails(sqlx::Error::Io(e)))?;
    aside::remove_unfinished(path);
    let cause = loop {
        if aside::is_orphan(path) {
            break "its file is missing or empty, beside a log that has readings".to_owned();
        }
        match attempt(config, channels, forwarders).await {
            Ok(sound) => return Ok(sound),
            Err(Attempt::Refused(error)) => return Err(error),
            Err(Attempt::Failed(error)) => {
                if damage::is_damage_at_opening(&error) {
                    break error.to_string();
                }
                if !damage::is_locked(&error) {
                    return Err(fails(error));
                }
                if began.elapsed() > LOCKED_MAX {
                    break error.to_string();
                }
                warn!(path = %path.display(), "the store is locked by another program: waiting");
            }
        }
    };
    error!(path = %path.display(), %cause, "the store is damaged: what it has goes to a new file");
    salvage::replace(config, None).await.map_err(fails)?;
    attempt(config, channels, forwarders).await.map_err(|attempt| match attempt {
        Attempt::Refused(error) => error,
        Attempt::Failed(error) => fails(error),
    })
}

/// Why an attempt to open the file failed.
enum Attempt {
    /// Another attempt would fail too, and the file is to stay as it is.
    Refused(Error),
    /// The file may be damaged.
    Failed(sqlx::Error),
}

impl From<sqlx::Error> for Attempt {
    fn from(error: sqlx::Error) -> Attempt {
        Attempt::Failed(error)
    }
}

async fn attempt(
    config: &Config,
    channels: &[ChannelSpec],
    forwarders: &[Subscription],
) -> Result<Sound, Attempt> {
    let mut db = connect(config, &config.path).await?;
    match take(&mut db, config, channels, forwarders).await {
        Ok((parts, next)) => Ok((db, parts, next)),
        Err(error) => {
            // Before another file is put in its place: SQLite deletes the log
            // beside a file by its name. One at fault can't be closed in good order.
            drop(db.close().await);
            Err(error)
        }
    }
}

async fn take(
    db: &mut SqliteConnection,
    config: &Config,
    channels: &[ChannelSpec],
    forwarders: &[Subscription],
) -> Result<(Parts, Seq), Attempt> {
    check(db, &config.path).await?;
    // After a cut the log goes on within a sector that has what is durable, and
    // writing there could spoil it: it is in the file first, and the log begins
    // anew.
    sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut *db).await?;
    migrate(db, &config.path).await?;
    check_numbers(db).await?;
    Ok(take_up(db, config, channels, forwarders).await?)
}

/// A file up to this size is checked whole, which takes a tenth of a second.
const CHECK_MAX: u64 = 16 * 1024 * 1024;

/// Looks for damage: of a small file everywhere, of a large one where the
/// gateway is going to work. What lies elsewhere is found when it is used.
async fn check(db: &mut SqliteConnection, path: &Path) -> Result<(), sqlx::Error> {
    let corrupt = |found: String| sqlx::Error::Decode(found.into());
    let tables: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *db).await?;
    if tables == 0 {
        return Ok(());
    }
    if std::fs::metadata(path).map_or(0, |file| file.len()) <= CHECK_MAX {
        let found: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut *db).await?;
        return if found == "ok" { Ok(()) } else { Err(corrupt(found)) };
    }
    for sql in [
        "SELECT count(*) FROM (SELECT * FROM log ORDER BY seq LIMIT 1000)",
        "SELECT max(time) FROM (SELECT time FROM log ORDER BY seq DESC LIMIT 10000)",
        "SELECT count(*) FROM (SELECT * FROM gap ORDER BY seq DESC LIMIT 1000)",
        "SELECT count(*) FROM channel, ledger",
        "SELECT count(*) FROM forwarder",
    ] {
        sqlx::query(sql).execute(&mut *db).await?;
    }
    Ok(())
}

/// A number is a reading's or a gap's: SQLite can't know.
async fn check_numbers(db: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let sql = "SELECT seq FROM (SELECT seq FROM gap ORDER BY seq DESC LIMIT 10000)
        JOIN log USING (seq) LIMIT 1";
    match sqlx::query_scalar::<_, i64>(sql).fetch_optional(db).await? {
        Some(seq) => Err(sqlx::Error::Decode(format!("number {seq} is there twice").into())),
        None => Ok(()),
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
pub(crate) async fn connect(config: &Config, path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    let wal_max = wal_max(config.max_size.as_u64());
    let checkpoint = (wal_max / u64::from(PAGE_SIZE)).max(1);
    let mut options = options(path)
        .create_if_missing(true)
        .page_size(PAGE_SIZE)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", checkpoint.to_string())
        .pragma("journal_size_limit", wal_max.to_string())
        .pragma("cache_size", "-1024")
        .statement_cache_capacity(32)
        .thread_name(|_| "store-writer".to_owned());
    if let Some(vfs) = sector::vfs() {
        options = options.vfs(vfs);
    }
    SqliteConnection::connect_with(&options).await
}

/// One read-only connection with little memory, opened when first used.
fn reader(path: &Path, renewed: &Renewed) -> SqlitePool {
    let renewed = Arc::clone(renewed);
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
        .before_acquire(move |_, connection| {
            let renewed = *renewed.lock().unwrap_or_else(PoisonError::into_inner);
            let of_this_file = renewed.is_none_or(|at| connection.age < at.elapsed());
            Box::pin(async move { Ok(of_this_file) })
        })
        .connect_lazy_with(options)
}

async fn migrate(db: &mut SqliteConnection, path: &Path) -> Result<(), Attempt> {
    match MIGRATIONS.run(&mut *db).await {
        Ok(()) => Ok(()),
        Err(MigrateError::VersionMissing(found)) if is_newer(db, found).await? => {
            let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
            Err(Attempt::Refused(Error::Newer { path: path.to_owned(), found, known }))
        }
        Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
            Err(Attempt::Failed(error))
        }
        // What its table of versions says was never written by any version.
        Err(error) => Err(Attempt::Failed(sqlx::Error::Decode(error.into()))),
    }
}

/// Whether the file has all that this version knows, and more: else its table
/// of versions is damaged.
async fn is_newer(db: &mut SqliteConnection, found: i64) -> Result<bool, sqlx::Error> {
    let applied: Vec<i64> =
        sqlx::query_scalar("SELECT version FROM _sqlx_migrations").fetch_all(db).await?;
    Ok(MIGRATIONS.iter().all(|known| applied.contains(&known.version) && found > known.version))
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
    let salvaged = commit::is_marked(&mut tx).await?;
    save_quality(&mut tx).await?;
    let configured = channels.iter().map(|spec| spec.channel.clone()).collect();
    let channels = save_channels(&mut tx, channels).await?;
    let next = next_seq(&mut tx).await?;
    let by_channel = count_channels(&mut tx, &channels).await?;
    let boot_id = boot_id();
    let held = Held::load(&mut tx, boot_id.as_deref(), next).await?;
    let ledger = count(&mut tx, next, held.limit(Seq(next.0 - 1))).await?;
    let losses = losses(&mut tx).await?;
    let mut taken_up = Vec::with_capacity(forwarders.len());
    for subscription in forwarders {
        taken_up.push(take_up_forwarder(&mut tx, subscription, &channels, ledger, salvaged).await?);
    }
    let epoch = Epoch(getrandom::u64().map_err(|e| sqlx::Error::Io(std::io::Error::other(e)))?);
    let epochs = save_epoch(&mut tx, epoch, next, boot_id.as_deref()).await?;
    let sql = "SELECT time FROM log ORDER BY seq LIMIT 1";
    let oldest = sqlx::query_scalar(sql).fetch_optional(&mut *tx).await?;
    let sql = "SELECT time FROM log ORDER BY seq DESC LIMIT 1";
    let newest = sqlx::query_scalar(sql).fetch_optional(&mut *tx).await?;
    if salvaged {
        commit::mark(&mut tx, false).await?;
    }
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
        newest,
        losses,
        held,
        boot_id,
        by_channel,
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
pub(crate) async fn save_channels(
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
pub(crate) async fn next_seq(db: &mut SqliteConnection) -> Result<Seq, sqlx::Error> {
    let sql = "SELECT max(
        coalesce((SELECT max(seq) FROM log), 0),
        coalesce((SELECT max(seq) FROM gap), 0),
        coalesce((SELECT max(first_seq) FROM epoch), 1) - 1,
        coalesce((SELECT max(position) FROM forwarder), 0),
        coalesce((SELECT max(purged, counted) FROM ledger), 0))";
    let last: i64 = sqlx::query_scalar(sql).fetch_one(db).await?;
    Ok(Seq(number(last)).next())
}

/// The ledger of each channel, with what was committed after it was last written.
async fn count_channels(
    db: &mut SqliteConnection,
    channels: &HashMap<i64, Channel>,
) -> Result<HashMap<Channel, OfChannel>, sqlx::Error> {
    let sql = "UPDATE channel SET stored = stored + more.count FROM
        (SELECT channel AS id, count(*) AS count FROM log
            WHERE seq > (SELECT counted FROM ledger) GROUP BY channel) AS more
        WHERE more.id = channel.id";
    sqlx::query(sql).execute(&mut *db).await?;
    let mut of = HashMap::with_capacity(channels.len());
    let rows = sqlx::query("SELECT id, stored, dropped FROM channel").fetch_all(db).await?;
    for row in rows {
        if let Some(channel) = channels.get(&row.try_get::<i64, _>(0)?) {
            let (stored, dropped) = (number(row.try_get(1)?), number(row.try_get(2)?));
            of.insert(channel.clone(), OfChannel { stored, dropped, changed: false });
        }
    }
    Ok(of)
}

/// What is lost, and what of it is still to be told.
async fn losses(db: &mut SqliteConnection) -> Result<Losses, sqlx::Error> {
    let mut causes = BTreeMap::new();
    for row in sqlx::query("SELECT reason, count FROM loss").fetch_all(&mut *db).await? {
        causes.insert(row.try_get(0)?, number(row.try_get(1)?));
    }
    let sql = "SELECT from_time, to_time, count, channel, reason FROM untold";
    let mut untold = Vec::new();
    for row in sqlx::query(sql).fetch_all(db).await? {
        untold.push(Gap {
            from: Timestamp::from_micros(row.try_get(0)?),
            to: Timestamp::from_micros(row.try_get(1)?),
            count: number(row.try_get(2)?),
            channel: row.try_get::<Option<&str>, _>(3)?.and_then(|name| name.parse().ok()),
            reason: row.try_get::<String, _>(4)?.into(),
        });
    }
    Ok(Losses::new(causes, untold))
}

/// The ledger, with what was committed after it was last written. Figures are
/// made through `ready`: what is held back gets them with its correction.
async fn count(db: &mut SqliteConnection, next: Seq, ready: Seq) -> Result<Ledger, sqlx::Error> {
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
    rollup::recover(&mut *db, ledger.rolled, ready.0).await?;
    ledger.counted = next.0 - 1;
    ledger.rolled = ledger.rolled.max(ready.0);
    crate::commit::save_ledger(db, &ledger).await?;
    Ok(ledger)
}

pub(crate) async fn take_up_forwarder(
    db: &mut SqliteConnection,
    subscription: &Subscription,
    channels: &HashMap<i64, Channel>,
    ledger: Ledger,
    salvaged: bool,
) -> Result<Forwarder, sqlx::Error> {
    let last = Seq(ledger.counted);
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
        if same && ledger.purged <= position && !salvaged {
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
    } else if salvaged {
        // How far it was is lost: rather everything again than nothing.
        forwarder.position = Seq(ledger.purged);
        forwarder.looked = forwarder.position;
        forwarder.stored = matching(db, &forwarder, channels, ledger.purged).await?;
    }
    crate::commit::save_forwarder(db, &forwarder, last).await?;
    Ok(forwarder)
}

/// How many readings after a number are for a forwarder.
pub(crate) async fn matching(
    db: &mut SqliteConnection,
    forwarder: &Forwarder,
    channels: &HashMap<i64, Channel>,
    after: u64,
) -> Result<u64, sqlx::Error> {
    let ids = channels.iter().filter(|(_, channel)| forwarder.matches(channel));
    let ids: Vec<String> = ids.map(|(id, _)| id.to_string()).collect();
    // Ids are integers of our own, so the text is safe. Not by groups, which
    // would sort what may be millions of rows.
    let sql = format!("SELECT count(*) FROM log WHERE seq > ? AND +channel IN ({})", ids.join(","));
    let count = sqlx::query_scalar(AssertSqlSafe(sql)).bind(integer(after)).fetch_one(db).await?;
    Ok(number(count))
}

/// Notes this start and forgets those of which nothing is left.
async fn save_epoch(
    db: &mut SqliteConnection,
    epoch: Epoch,
    first: Seq,
    boot_id: Option<&str>,
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
        .bind(boot_id)
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
