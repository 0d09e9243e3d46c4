//! Files of older versions.

use std::borrow::Cow;
use std::path::Path;

use reading::{Epoch, Record, Seq};
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};

use crate::support::*;

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations");

pub(crate) const EPOCH: Epoch = Epoch(0x9f2c_44e0_1a7b_3d58);
pub(crate) const RECORDS: u64 = 50;
pub(crate) const ACKNOWLEDGED: u64 = 20;

/// A file as the first version wrote it, then brought up to `version`: readings
/// and a gap, some of them acknowledged.
pub(crate) async fn file_of(version: i64, folder: &Path) -> Vec<Record> {
    let path = config(folder).path;
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut db = SqliteConnection::connect_with(&options.pragma("journal_mode", "WAL")).await;
    let db = db.as_mut().unwrap();
    migrate(db, 1).await;
    sqlx::raw_sql(
        "INSERT INTO channel VALUES (1, 'weather', 'temperature', 'number', 'Cel', NULL);
        INSERT INTO epoch VALUES (1, '9f2c44e01a7b3d58', 1, 0, NULL);
        INSERT INTO forwarder VALUES ('cloud', '*', 20, 50, 49, 20, 0);
        UPDATE ledger SET counted = 50, stored = 49;
        INSERT INTO gap VALUES (30, 1795508430000000, 1795508431000000, 3, NULL, 'line down')",
    )
    .execute(&mut *db)
    .await
    .unwrap();
    let mut records = Vec::new();
    for seq in 1..=RECORDS {
        let seconds = seq as f64;
        let body = if seq == 30 {
            gap(seconds, 3, None)
        } else {
            let sql = "INSERT INTO log VALUES (?, 1, ?, ?, 0)";
            let query = sqlx::query(sql).bind(seq.cast_signed()).bind(at(seconds).as_micros());
            query.bind(seconds).execute(&mut *db).await.unwrap();
            number("weather/temperature", at(seconds), seconds)
        };
        records.push(Record { epoch: EPOCH, seq: Seq(seq), body });
    }
    migrate(db, version).await;
    records
}

/// Up to a version, as a program of that time did it.
async fn migrate(db: &mut SqliteConnection, version: i64) {
    let known = MIGRATIONS.iter().filter(|migration| migration.version <= version).cloned();
    let migrator = Migrator { migrations: Cow::Owned(known.collect()), ..Migrator::DEFAULT };
    migrator.run_direct(None, db, false).await.unwrap();
}

#[tokio::test]
async fn a_file_of_any_older_version_keeps_every_row() {
    let versions: Vec<i64> = MIGRATIONS.iter().map(|migration| migration.version).collect();
    assert!(versions.len() > 1 && versions[0] == 1, "{versions:?}");
    for version in versions {
        let folder = tempfile::tempdir().unwrap();
        let records = file_of(version, folder.path()).await;
        let mut gateway = open(&config(folder.path()), &[forwarder("cloud", &["*"])]).await;
        let status = gateway.store.status();
        balanced(&status);
        assert_eq!((status.stored, status.readings, status.dropped), (49, 49, 0), "{version}");
        assert_eq!(gateway.cursors[0].position(), Seq(ACKNOWLEDGED));
        assert_eq!(status.forwarders[0].pending, 29);
        let (found, _) = drain(&gateway.cursors[0], Seq(0), 10).await;
        assert_eq!(found, records, "{version}");
        assert_eq!(gateway.appender.next(), Seq(RECORDS + 1));
        gateway.append(vec![number("weather/temperature", at(51.0), 51.0)]).await.unwrap();
        gateway.stop().await;
    }
}
