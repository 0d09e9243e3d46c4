use reading::{Body, Datum, Reading, Timestamp, Value};
use tokio::task::JoinSet;

use super::*;
use crate::Store;

/// SQLite's own "database or disk is full", and the end of it.
#[tokio::test]
async fn a_full_disk_is_told_and_storing_goes_on_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tidemill.db");
    let config = Config { path: path.clone(), ..Config::default() };
    let (store, mut appender, mut writer, _) = Store::open(&config, &[], &[]).await.unwrap();
    let pages: i64 =
        sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut writer.db).await.unwrap();
    let limit = format!("PRAGMA max_page_count = {}", pages + 400);
    sqlx::query(sqlx::AssertSqlSafe(limit)).fetch_one(&mut writer.db).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(writer.run());

    let records = |appender: &crate::Appender, count: u64| -> Vec<Record> {
        let first = appender.next().0;
        let channel: Channel = "a/b".parse().unwrap();
        let value = Value::Good(Datum::Number(0.5));
        let reading = Reading { channel, at: Timestamp::now(), value };
        let record = |seq| Record {
            epoch: appender.epoch(),
            seq: Seq(seq),
            body: Body::Reading(reading.clone()),
        };
        (first..first + count).map(record).collect()
    };
    let mut committed = store.committed();
    let mut until = async |seq| {
        let wait = committed.wait_for(|committed| *committed >= Seq(seq));
        tokio::time::timeout(Duration::from_secs(8), wait).await.map(drop)
    };
    appender.append(records(&appender, 4_000)).await.unwrap();
    until(4_000).await.unwrap();
    appender.append(records(&appender, 6_000)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    let status = store.status();
    assert_eq!(status.error.as_deref(), Some("database or disk is full"));
    assert_eq!((status.stored, status.queued, status.dropped), (4_000, 6_000, 0));

    // Somebody makes room.
    let url = format!("sqlite://{}", path.display());
    let mut other = SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("DELETE FROM log WHERE seq <= 4000").execute(&mut other).await.unwrap();
    until(10_000).await.unwrap();
    assert_eq!(store.status().error, None);
    drop(appender);
    tasks.join_next().await.unwrap().unwrap().unwrap();
}
