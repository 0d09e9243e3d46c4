//! Other channels and forwarders than at the start, while it runs.

use reading::{Body, Kind, Seq};
use sqlx::{Connection, SqliteConnection};

use crate::support::*;

fn both(count: u64) -> Vec<Body> {
    let one = |n: u64| number(["a/a", "b/b"][n as usize % 2], at(n as f64), n as f64);
    (0..count).map(one).collect()
}

#[tokio::test]
async fn forwarders_come_and_go_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let first = [forwarder("stays", &["*"]), forwarder("goes", &["*"])];
    let mut gateway = open(&config, &first).await;
    gateway.append(both(10)).await.unwrap();
    gateway.settle().await;
    let (_, through) = drain(&gateway.cursors[0], Seq(0), 4).await;
    gateway.cursors[0].acknowledge(through);
    drain(&gateway.cursors[1], Seq(0), 4).await;
    gateway.cursors[1].acknowledge(Seq(6));
    gateway.cursors.pop();

    let specs = [spec("a/a", Kind::Number, "Cel"), spec("c/c", Kind::Number, "V")];
    let new = [forwarder("new", &["b/*"])];
    let cursors = gateway.store.change(&specs, &["goes".to_owned()], &new).await.unwrap();
    gateway.cursors.extend(cursors);
    gateway.append(both(4)).await.unwrap();
    let status = gateway.settle().await;
    balanced(&status);
    let names: Vec<_> = status.forwarders.iter().map(|f| (f.name.as_str(), f.pending)).collect();
    assert_eq!(names, [("stays", 4), ("new", 2)]);
    let (records, _) = drain(&gateway.cursors[1], gateway.cursors[1].position(), 4).await;
    assert_eq!(seqs(&records), [12, 14], "it begins with what comes next");
    let (records, _) = drain(&gateway.cursors[0], Seq(10), 4).await;
    assert_eq!(seqs(&records), [11, 12, 13, 14], "whoever stays isn't disturbed");

    // Who comes back goes on where it was, with all that came meanwhile, and one
    // with other patterns likewise.
    gateway.cursors.pop();
    let back = [forwarder("goes", &["*"]), forwarder("new", &["*"])];
    let cursors = gateway.store.change(&specs, &[], &back).await.unwrap();
    gateway.cursors.extend(cursors);
    let status = gateway.store.status();
    balanced(&status);
    let figures = status.forwarders.iter().map(|f| (f.name.as_str(), f.acknowledged, f.pending));
    assert_eq!(figures.collect::<Vec<_>>(), [("stays", 10, 4), ("goes", 6, 8), ("new", 0, 4)]);
    let (records, through) = drain(&gateway.cursors[1], gateway.cursors[1].position(), 4).await;
    assert_eq!(seqs(&records), (7..=14).collect::<Vec<_>>());
    gateway.cursors[1].acknowledge(through);
    gateway.stop().await;

    // The file has all of it.
    let all = ["goes", "new", "stays"].map(|name| forwarder(name, &["*"]));
    let gateway = open(&config, &all).await;
    let status = gateway.store.status();
    balanced(&status);
    let pending: Vec<_> = status.forwarders.iter().map(|f| f.pending).collect();
    assert_eq!(pending, [0, 4, 4]);
    gateway.stop().await;
}

#[tokio::test]
async fn a_channel_that_comes_bears_its_unit() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let mut gateway = open(&config, &[]).await;
    let specs = [spec("c/c", Kind::Number, "V")];
    assert_eq!(gateway.store.change(&specs, &[], &[]).await.unwrap().len(), 0);
    gateway.append(vec![number("c/c", at(0.0), 3.3)]).await.unwrap();
    gateway.settle().await;
    assert_eq!(gateway.store.latest().await.unwrap().len(), 1);
    let path = config.path.clone();
    gateway.stop().await;
    let url = format!("sqlite://{}", path.display());
    let mut db = SqliteConnection::connect(&url).await.unwrap();
    let sql = "SELECT device || '/' || channel || ' ' || value || ' ' || unit FROM readings";
    let row: String = sqlx::query_scalar(sql).fetch_one(&mut db).await.unwrap();
    assert_eq!(row, "c/c 3.3 V");
}
