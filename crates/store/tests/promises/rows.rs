//! What `sqlite3` shows: the shape is one of the promises (docs/protocol.md).

use std::fmt::Write;
use std::path::Path;

use reading::{Body, Datum, Doubt, Fault, Reading, Value};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Column, Connection, Row, TypeInfo, ValueRef};

use crate::support::*;

/// Every row, as `sqlite3` prints them, with the type of the value.
async fn select(path: &Path, sql: &str) -> String {
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    let mut db = SqliteConnection::connect_with(&options).await.unwrap();
    let mut table = String::new();
    let rows: Vec<SqliteRow> = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut db).await.unwrap();
    for row in rows {
        if table.is_empty() {
            let names: Vec<_> = row.columns().iter().map(Column::name).collect();
            writeln!(table, "{}", names.join("|")).unwrap();
        }
        let cell = |i: usize| {
            let kind = row.try_get_raw(i).unwrap().type_info().name().to_owned();
            if row.try_get_raw(i).unwrap().is_null() {
                return "NULL".to_owned();
            }
            let text = match kind.as_str() {
                "REAL" => row.get_unchecked::<f64, _>(i).to_string(),
                "INTEGER" => row.get_unchecked::<i64, _>(i).to_string(),
                _ => row.get_unchecked::<String, _>(i),
            };
            if row.columns()[i].name() == "value" { format!("{text} {kind}") } else { text }
        };
        let cells: Vec<_> = (0..row.len()).map(cell).collect();
        writeln!(table, "{}", cells.join("|")).unwrap();
    }
    table
}

fn reading(name: &str, seconds: f64, value: Value) -> Body {
    Body::Reading(Reading { channel: channel(name), at: at(seconds), value })
}

#[tokio::test]
async fn the_views_show_what_the_contract_says() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let mut gateway = open(&config, &[]).await;
    let door = Value::Uncertain(Datum::Boolean(true), Doubt::EdgesMissed);
    let before_1970 = reading::Timestamp::from_micros(-1);
    let bodies = vec![
        reading("weather/temperature", 0.123_456, Value::Good(Datum::Number(21.0))),
        reading("panel/door", 1.0, door),
        reading("panel/mode", 1.5, Value::Good("night".into())),
        reading("weather/temperature", 2.0, Value::Bad(Fault::Absent)),
        gap(3.0, 5, Some("weather/temperature")),
        gap(4.0, 7, None),
        number("new/number", before_1970, -0.5),
    ];
    gateway.append(bodies).await.unwrap();
    gateway.settle().await;
    // While the service runs.
    let readings = select(&config.path, "SELECT * FROM readings").await;
    expect_test::expect![[r#"
        seq|time|device|channel|value|unit|quality|reason
        1|2026-11-24T08:20:00.123456Z|weather|temperature|21 REAL|Cel|good|NULL
        2|2026-11-24T08:20:01.000000Z|panel|door|1 INTEGER||uncertain|edges missed
        3|2026-11-24T08:20:01.500000Z|panel|mode|night TEXT||good|NULL
        4|2026-11-24T08:20:02.000000Z|weather|temperature|NULL|Cel|bad|absent
        7|1969-12-31T23:59:59.999999Z|new|number|-0.5 REAL||good|NULL
    "#]]
    .assert_eq(&readings);
    let epoch = gateway.store.epoch().to_string();
    let gaps = select(&config.path, "SELECT * FROM gaps").await.replace(&epoch, "EPOCH");
    expect_test::expect![[r#"
        seq|epoch|from_time|to_time|count|channel|reason
        5|EPOCH|2026-11-24T08:20:03.000000Z|2026-11-24T08:20:04.000000Z|5|weather/temperature|line down
        6|EPOCH|2026-11-24T08:20:04.000000Z|2026-11-24T08:20:05.000000Z|7|NULL|line down
    "#]]
    .assert_eq(&gaps);
    gateway.stop().await;
}

#[tokio::test]
async fn what_was_appended_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let mut gateway = open(&config, &[forwarder("cloud", &["*"])]).await;
    let value = |value| reading("weather/temperature", 1.0, value);
    let mut bodies: Vec<_> = Fault::ALL.iter().map(|fault| value(Value::Bad(*fault))).collect();
    bodies
        .extend(Doubt::ALL.iter().map(|doubt| value(Value::Uncertain(Datum::Number(1.0), *doubt))));
    for number in [0.0, -0.0, 1e-300, f64::MAX, f64::MIN_POSITIVE, 0.1, 9e15] {
        bodies.push(value(Value::Good(Datum::Number(number))));
    }
    for text in ["", "ä ' \" \\ \n \u{1F30A}", "null", "1"] {
        bodies.push(reading("panel/mode", 2.0, Value::Good(text.into())));
    }
    bodies.push(reading("panel/door", 2.0, Value::Good(false.into())));
    bodies.push(gap(3.0, u64::from(u32::MAX), None));
    gateway.append(bodies.clone()).await.unwrap();
    gateway.settle().await;
    let (from_memory, _) = drain(&gateway.cursors[0], reading::Seq(0), 1_000).await;
    gateway.stop().await;
    let gateway = open(&config, &[forwarder("cloud", &["*"])]).await;
    let (from_file, _) = drain(&gateway.cursors[0], reading::Seq(0), 1_000).await;
    assert_eq!(from_memory, from_file);
    let got: Vec<_> = from_file.into_iter().map(|record| record.body).collect();
    assert_eq!(got, bodies);
    gateway.stop().await;
}
