//! What a broker refuses for good is counted, told and passed.

use reading::Seq;

use crate::support::*;

#[tokio::test]
async fn what_is_refused_is_dropped_for_that_forwarder_alone_and_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let subscriptions = [forwarder("a", &["*"]), forwarder("b", &["*"])];
    let mut gateway = open(&config, &subscriptions).await;
    let mut bodies: Vec<_> =
        (0..8).map(|n| number("weather/temperature", at(f64::from(n)), 1.0)).collect();
    bodies.push(number("panel/load", at(8.0), 1.0));
    bodies.push(gap(9.0, 5, None));
    gateway.append(bodies).await.unwrap();
    gateway.settle().await;

    let (records, _) = drain(&gateway.cursors[0], Seq(0), 100).await;
    for _ in 0..2 {
        // The second time changes nothing.
        gateway.cursors[0].skip(&records[2..4], "refused by the broker");
        gateway.cursors[0].skip(&records[8..], "refused by the broker");
    }
    let pending = gateway.store.status().forwarders[0].pending;
    assert_eq!(pending, 9, "nothing before it is acknowledged yet");
    gateway.cursors[0].acknowledge(Seq(3));
    gateway.cursors[0].skip(&records[..2], "refused by the broker");
    gateway.cursors[0].acknowledge(Seq(10));
    let status = gateway.store.status();
    balanced(&status);
    let [a, b] = &status.forwarders[..] else { panic!() };
    assert_eq!((a.acknowledged, a.dropped, a.pending), (6, 3, 0));
    assert_eq!((b.acknowledged, b.dropped, b.pending), (0, 0, 9));

    let told: Vec<_> = gateway.appender.losses();
    let told: Vec<_> = told
        .iter()
        .map(|gap| {
            let channel = gap.channel.as_ref().unwrap().as_str();
            (channel, gap.from, gap.to, gap.count, &*gap.reason)
        })
        .collect();
    assert_eq!(
        told,
        [
            ("weather/temperature", at(2.0), at(3.0), 2, "refused by the broker"),
            ("panel/load", at(8.0), at(8.0), 1, "refused by the broker"),
        ]
    );
    gateway.stop().await;

    let gateway = open(&config, &subscriptions).await;
    let status = gateway.store.status();
    balanced(&status);
    assert_eq!((status.forwarders[0].dropped, status.forwarders[0].pending), (3, 0));
    gateway.stop().await;
}
