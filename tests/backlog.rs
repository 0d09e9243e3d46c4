//! Days without a broker, in short: `cargo xtask backlog` has ten million.

use std::time::{Duration, Instant};

use reading::Timestamp;

use crate::support::{Broker, Home, PATIENCE, Port, eventually};

const WAITING: u64 = 100_000;

/// Readings of the backlog a second, at most.
const DRAIN_RATE: u64 = 25_000;

/// How soon a fresh reading is on the broker, whatever waits.
const FRESH_MAX: Duration = Duration::from_secs(2);

/// What an unoptimised gateway may have in memory, kB; the promise is 40 MB.
const MEMORY_MAX: u64 = 60_000;

#[test]
fn fresh_readings_pass_a_paced_backlog_that_costs_no_memory() {
    let (mut broker, mut port) = (Broker::start_with("max_inflight_messages 0"), Port::new());
    let subscriber = broker.subscribe("tidemill/greenhouse/senml");
    let keys = format!(
        "format = \"senml\"\nchannels = [\"weather/*\"]\norder = \"live-first\"\n\
         drain_rate = {DRAIN_RATE}"
    );
    let home = Home::new(&(broker.config(&keys) + &port.config()));
    broker.stop();
    let epoch = home.fill(WAITING).to_string();
    let began = Instant::now();
    let gateway = home.start();
    assert!(began.elapsed() < Duration::from_secs(5), "started after {:?}", began.elapsed());
    assert!(gateway.forwarder("cloud")["pending"].as_u64().unwrap() >= WAITING);
    port.opened();
    broker.start_again();
    gateway.forwarder_is("cloud", "online");

    let (mut seen, mut twice) = (vec![false; WAITING as usize + 1], 0);
    let (mut left, mut fresh, mut asked) = (WAITING, 0, 0);
    let (mut first, deadline) = (None, Instant::now() + PATIENCE);
    while left > 0 {
        assert!(Instant::now() < deadline, "{left} of the backlog haven't come");
        // Once in a while the sensor says what time it is.
        if asked == fresh {
            port.line(&format!("{{\"n\":{}}}", Timestamp::now().as_micros()));
            asked += 1;
        }
        let message = subscriber.next();
        let pack = message.json();
        let historical = pack[0]["historical"] == true;
        let of_backlog = pack[0]["epoch"] == epoch;
        assert_eq!(historical, of_backlog, "{}", pack[0]);
        for record in pack.as_array().unwrap() {
            if of_backlog {
                first.get_or_insert_with(Instant::now);
                let seen = &mut seen[record["seq"].as_u64().unwrap() as usize];
                twice += u64::from(*seen);
                left -= u64::from(!std::mem::replace(seen, true));
            } else if let Some(sent) = record["v"].as_f64() {
                let sent = Timestamp::from_micros(sent as i64);
                let took = message.at.since(sent);
                assert!(took < FRESH_MAX, "a fresh reading took {took:?}");
                fresh += 1;
            }
        }
    }
    let took = first.unwrap().elapsed().as_secs_f64();
    let rate = WAITING as f64 / took;
    assert!(rate < DRAIN_RATE as f64 * 1.1, "{rate} a second");
    assert!(fresh > 5 && twice == 0, "{fresh} fresh ones, {twice} of the backlog twice");
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < MEMORY_MAX, "{peak} kB");
    let cloud = eventually("all is acknowledged", || {
        let cloud = gateway.forwarder("cloud");
        (cloud["pending"].as_u64()? == 0).then_some(cloud)
    });
    assert_eq!((cloud["acknowledged"] == cloud["stored"], &cloud["dropped"]), (true, &0.into()));
    gateway.stop();
}
