//! Serial line → store, read as a person would while the service runs, and by
//! the API.

use crate::support::{Home, Port, eventually};

#[test]
fn every_line_is_a_row_that_sqlite3_reads_while_the_service_runs() {
    let mut port = Port::new();
    let home = Home::new(&port.config());
    let gateway = home.start();
    port.opened();
    port.count(0..2_000);
    let where_n = "from readings where device = 'weather' and channel = 'n'";
    let count = || home.sqlite(&format!("select count(*) {where_n}")).concat();
    eventually("all lines are rows", || (count() == "2000").then_some(()));

    let values = home.sqlite(&format!("select cast(value as integer) {where_n} order by seq"));
    let expected: Vec<String> = (0..2_000).map(|n| n.to_string()).collect();
    assert_eq!(values, expected, "once, in order");
    let row = home.sqlite(&format!(
        "select typeof(seq), time, device, channel, value, unit, quality, reason is null \
         {where_n} order by seq limit 1"
    ));
    let columns: Vec<&str> = row[0].split('|').collect();
    assert_eq!(columns[0], "integer");
    assert!(columns[1].ends_with('Z') && columns[1].starts_with("20"), "{}", columns[1]);
    assert_eq!(columns[2..4], ["weather", "n"]);
    assert_eq!(columns[4].parse::<f64>().unwrap(), 0.0);
    assert_eq!(columns[5..], ["Cel", "good", "1"]);
    assert_eq!(home.sqlite("select count(*) from gaps"), ["0"]);
    balanced(&gateway.status());
}

/// `read = stored + dropped`, and the same for each forwarder.
#[track_caller]
fn balanced(status: &serde_json::Value) {
    let number = |key: &str| status["ledger"][key].as_u64().unwrap();
    assert!(number("read") >= 2_000, "{}", status["ledger"]);
    assert_eq!(number("read"), number("stored") + number("dropped"), "{}", status["ledger"]);
}

#[test]
fn history_is_given_whole_and_reduced_and_survives_a_restart() {
    let mut port = Port::new();
    let home = Home::new(&port.config());
    let gateway = home.start();
    port.opened();
    port.count(0..500);
    let path = "/api/v1/readings?channel=weather/n&from=10min";
    let whole = eventually("the API gives all", || {
        let answer = gateway.get(path).json();
        (answer["readings"].as_array()?.len() >= 500).then_some(answer)
    });
    assert_eq!((&whole["channel"], &whole["unit"]), (&"weather/n".into(), &"Cel".into()));
    let readings = whole["readings"].as_array().unwrap();
    for (n, reading) in readings.iter().enumerate() {
        assert_eq!(reading["value"].as_f64(), Some(n as f64), "{reading}");
        assert_eq!(reading["quality"], "good");
        assert_eq!(reading["epoch"].as_str().map(str::len), Some(16));
    }
    gateway.stop();

    let gateway = home.start();
    assert_eq!(gateway.get(path).json()["readings"].as_array().unwrap().len(), 500);
    let reduced = gateway.get(&format!("{path}&points=10")).json();
    let buckets = reduced["buckets"].as_array().expect("buckets");
    assert!((1..=10).contains(&buckets.len()), "{reduced}");
    let total: u64 = buckets.iter().map(|bucket| bucket["count"].as_u64().unwrap()).sum();
    assert_eq!(total, 500);
    let lowest = buckets.iter().filter_map(|bucket| bucket["min"].as_f64()).reduce(f64::min);
    let highest = buckets.iter().filter_map(|bucket| bucket["max"].as_f64()).reduce(f64::max);
    assert_eq!((lowest, highest), (Some(0.0), Some(499.0)));

    let channels = gateway.get("/api/v1/channels").json();
    let channels = channels["channels"].as_array().unwrap();
    let n = channels.iter().find(|channel| channel["channel"] == "weather/n").unwrap();
    assert_eq!(n["last"]["value"].as_f64(), Some(499.0), "the last value from before: {n}");
    assert_eq!((&n["kind"], &n["output"]), (&"number".into(), &false.into()));
}

#[test]
fn a_question_that_makes_no_sense_is_told_why() {
    let home = Home::new(&Port::new().config());
    let gateway = home.start();
    for (path, status) in [
        ("/api/v1/readings", 400),
        ("/api/v1/readings?channel=no/such", 404),
        ("/api/v1/readings?channel=weather/n&from=yesterday", 400),
        ("/api/v1/readings?channel=weather/n&points=-1", 400),
        ("/api/v1/nothing", 404),
    ] {
        let answer = gateway.get(path);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(!error.is_empty(), "{path}: {}", answer.text());
    }
}
