use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use reading::{Datum, Gap};
use tokio::sync::oneshot;
use tracing::span;

use super::*;
use crate::{Driver, Taken};

/// What a scripted device does at one call.
#[derive(Clone, Debug)]
enum Act {
    Say(f64),
    Noise(u64),
    Silence(Duration),
    Fail(Fault),
    Panic,
}
use Act::{Fail, Noise, Panic, Say, Silence};

/// Opening fails, or gives a device that does this and is then silent.
type Opening = Result<Vec<Act>, Fault>;

struct Scripted {
    openings: Vec<Opening>,
    opened: AtomicUsize,
}

struct Open(std::vec::IntoIter<Act>);

#[async_trait]
impl Driver for Scripted {
    async fn open(&self) -> Result<Box<dyn Device>, Failure> {
        let n = self.opened.fetch_add(1, Ordering::Relaxed);
        match self.openings.get(n) {
            Some(Ok(acts)) => Ok(Box::new(Open(acts.clone().into_iter()))),
            Some(Err(fault)) => Err(Failure::new(*fault, format!("opening {n} failed"))),
            None => Ok(Box::new(Open(Vec::new().into_iter()))),
        }
    }
}

#[async_trait]
impl Device for Open {
    async fn read(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        match self.0.next() {
            Some(Say(number)) => batch.good(0, Datum::Number(number)),
            Some(Noise(count)) => (0..count).for_each(|_| batch.noise(|| "@#!".into())),
            Some(Silence(duration)) => time::sleep(duration).await,
            Some(Fail(fault)) => return Err(Failure::new(fault, "as the script says")),
            Some(Panic) => panic!("a bug, as the script says"),
            None => std::future::pending().await,
        }
        Ok(())
    }
}

/// `keys` are more keys of the device and its channels `a` and `b`.
fn config(driver: Option<Scripted>, keys: &str) -> Config {
    let file = format!("driver = 'sim'\n{keys}\n");
    let table = toml::de::DeTable::parse(&file).unwrap();
    let mut errors = Vec::new();
    let mut config = Config::parse("x", table, &mut errors).unwrap_or_else(|| panic!("{errors:?}"));
    if let Some(driver) = driver {
        config.driver = Arc::new(driver);
        config.poll = None;
        config.timeout = None;
    }
    config
}

fn scripted(openings: &[Opening]) -> Option<Scripted> {
    Some(Scripted { openings: openings.to_vec(), opened: AtomicUsize::new(0) })
}

/// Runs for `seconds` of paused time: the readings as `a=1`, with the second
/// each came in, and the health at the end.
async fn run(config: Config, seconds: u64) -> (Vec<String>, Health) {
    let (runner, health, _commands) = Runner::new(config);
    let (sender, mut receiver) = mpsc::channel::<Vec<Reading>>(1);
    let stop = CancellationToken::new();
    let begin = Instant::now();
    let collect = async {
        let mut seen = Vec::new();
        while let Some(readings) = receiver.recv().await {
            assert!(!readings.is_empty(), "an empty vector was sent");
            for Reading { channel, value, .. } in readings {
                let value = match (&value, value.reason()) {
                    (Value::Good(Datum::Number(number)), _) => number.to_string(),
                    (_, reason) => reason.unwrap_or("other").to_owned(),
                };
                seen.push(format!("{}s {}={value}", begin.elapsed().as_secs(), channel.name()));
            }
        }
        seen
    };
    let end = async {
        time::sleep(Duration::from_secs(seconds)).await;
        stop.cancel();
    };
    let ((), (), seen) = tokio::join!(runner.run(sender, stop.clone()), end, collect);
    (seen, health.borrow().clone())
}

/// Answers after a while, each time.
struct Slow(Duration);

#[async_trait]
impl Driver for Slow {
    async fn open(&self) -> Result<Box<dyn Device>, Failure> {
        Ok(Box::new(Slow(self.0)))
    }
}

#[async_trait]
impl Device for Slow {
    async fn read(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        time::sleep(self.0).await;
        batch.good(0, Datum::Number(1.0));
        Ok(())
    }
}

/// Of a device that answers after `answer` and is asked each second, while
/// nobody takes its readings for longer than `takes`: losses by cause, and how
/// many answers there were.
async fn losses(answer: Duration, takes: Duration) -> (Vec<Gap>, usize) {
    let mut config = config(None, "channel.a = {}");
    (config.driver, config.poll) = (Arc::new(Slow(answer)), Some(Duration::from_secs(1)));
    let (mut runner, _health, _commands) = Runner::new(config);
    let told = Arc::new(Mutex::new(Vec::new()));
    let lose = Arc::clone(&told);
    runner.tells_losses(Arc::new(move |gap| lose.lock().unwrap().push(gap)));
    let (sender, mut receiver) = mpsc::channel::<Vec<Reading>>(1);
    let stop = CancellationToken::new();
    let take = async {
        let mut taken = 0;
        while receiver.recv().await.is_some() {
            taken += 1;
            time::sleep(takes).await;
        }
        taken
    };
    let end = async {
        time::sleep(Duration::from_millis(30_100)).await;
        stop.cancel();
    };
    let ((), (), taken) = tokio::join!(runner.run(sender, stop.clone()), end, take);
    let told = std::mem::take(&mut *told.lock().unwrap());
    (told, taken)
}

#[tokio::test(start_paused = true)]
async fn polls_that_a_slow_device_or_a_full_queue_costs_are_told() {
    let (ms, s) = (Duration::from_millis, Duration::from_secs);
    assert_eq!(losses(ms(900), ms(0)).await, (vec![], 30), "in time");
    for (answer, takes, reason) in
        [(ms(1500), ms(0), "device too slow"), (ms(10), s(3), "intake queue full")]
    {
        let (gaps, answers) = losses(answer, takes).await;
        assert!(gaps.iter().all(|gap| gap.reason == reason), "{gaps:?}");
        assert!(gaps.iter().all(|gap| gap.channel.as_ref().unwrap().as_str() == "x/a"));
        assert!(gaps.iter().all(|gap| gap.from <= gap.to));
        let lost: u64 = gaps.iter().map(|gap| gap.count).sum();
        // One a second, taken or missed; at the end some are under way.
        let all = lost + answers as u64;
        assert!((28..=34).contains(&all) && lost >= 9, "{lost} lost, {answers} answers");
    }
}

/// Two channels of numbers.
const AB: &str = "channel.a = {}\nchannel.b = {}";

#[tokio::test(start_paused = true)]
async fn a_lost_device_is_one_bad_reading_a_channel_and_is_opened_again() {
    let openings = [
        Ok(vec![Say(1.0), Fail(Fault::Io)]),
        Err(Fault::Absent),
        Err(Fault::Denied),
        Ok(vec![Say(2.0)]),
    ];
    let (seen, health) = run(config(scripted(&openings), AB), 30).await;
    // Tried again after 0.75 to 1, 1.5 to 2 and 3 to 4 seconds.
    let back = seen.last().cloned().unwrap();
    assert_eq!(seen[..3], ["0s a=1", "0s a=i/o error", "0s b=i/o error"]);
    assert!(["5s a=2", "6s a=2"].contains(&back.as_str()) && seen.len() == 4, "{seen:?}");
    assert_eq!((health.state, health.error, health.readings, health.bad), (State::Ok, None, 4, 2));
}

#[tokio::test(start_paused = true)]
async fn the_health_says_why_a_device_is_lost() {
    let openings: Vec<Opening> = (0..20).map(|_| Err(Fault::Absent)).collect();
    let (seen, health) = run(config(scripted(&openings), AB), 100).await;
    assert_eq!(seen, ["0s a=absent", "0s b=absent"]);
    assert_eq!(health.state, State::Lost);
    // 1 + 2 + 4 + 8 + 16 + 32 seconds make six or seven more tries.
    let error = health.error.unwrap();
    assert!(["opening 6 failed", "opening 7 failed"].contains(&error.as_str()), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_caught_and_the_device_opened_again() {
    let openings = [Ok(vec![Say(1.0), Panic]), Ok(vec![Say(2.0)])];
    let (seen, health) = run(config(scripted(&openings), "channel.a = {}"), 5).await;
    assert_eq!(seen[..2], ["0s a=1", "0s a=driver bug"]);
    assert!(seen[2].ends_with("a=2"), "{seen:?}");
    assert_eq!(health.state, State::Ok);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_does_not_answer_is_lost_at_its_timeout() {
    let mut config = config(scripted(&[Ok(vec![Say(1.0)])]), "channel.a = {}");
    config.timeout = Some(Duration::from_secs(5));
    let (seen, health) = run(config, 6).await;
    assert_eq!(seen, ["0s a=1", "5s a=timeout"]);
    assert_eq!(health.error.unwrap(), "an answer took longer than 5s");
}

#[tokio::test(start_paused = true)]
async fn silence_is_stale_once_and_never_an_old_value_again() {
    let second = Duration::from_secs(1);
    let acts = vec![Say(1.0), Silence(20 * second), Say(2.0)];
    let keys = "channel.a = { stale = '5s' }\nchannel.b = { stale = '10s' }";
    let (seen, health) = run(config(scripted(&[Ok(acts)]), keys), 60).await;
    assert_eq!(seen, ["0s a=1", "5s a=stale", "10s b=stale", "20s a=2", "25s a=stale"]);
    assert_eq!(health.state, State::Ok, "a silent port is still there");
}

#[tokio::test(start_paused = true)]
async fn a_busy_device_does_not_hide_a_stale_channel() {
    let acts = (0..30).flat_map(|n| [Say(f64::from(n)), Silence(Duration::from_secs(1))]);
    let keys = "channel.a = {}\nchannel.b = { stale = '5s' }";
    let (seen, _) = run(config(scripted(&[Ok(acts.collect())]), keys), 20).await;
    let bad: Vec<_> = seen.iter().filter(|seen| seen.contains("stale")).collect();
    assert_eq!(bad, ["5s b=stale"]);
}

#[tokio::test(start_paused = true)]
async fn noise_never_closes_a_port_and_is_one_bad_reading_a_second() {
    let tenth = Duration::from_millis(100);
    let noise = (0..25).flat_map(|_| [Noise(40), Silence(tenth)]);
    let acts = noise.chain([Say(1.0)]).collect();
    let (seen, health) = run(config(scripted(&[Ok(acts)]), AB), 10).await;
    let bad = |second: u64| ["a", "b"].map(|name| format!("{second}s {name}=not understood"));
    assert_eq!(seen[..6], [bad(0), bad(1), bad(2)].concat());
    assert_eq!(seen[6..], ["2s a=1"]);
    assert_eq!((health.noise, health.bad, health.state), (1000, 6, State::Ok));
}

#[tokio::test(start_paused = true)]
async fn numbers_are_scaled_and_judged_by_their_range() {
    let acts = [1.0, 50.0, -41.0, f64::MAX].map(Say).to_vec();
    let keys = "channel.a = { scale = 10, offset = -5, range = [-5, 100] }";
    let (seen, _) = run(config(scripted(&[Ok(acts)]), keys), 1).await;
    let bad = "0s a=out of range";
    assert_eq!(seen, ["0s a=5", bad, bad, "0s a=not understood"]);
}

#[tokio::test(start_paused = true)]
async fn filters_hold_back_and_their_timers_run() {
    let second = Duration::from_secs(1);
    let acts = [Say(1.0), Silence(second), Say(2.0), Silence(10 * second), Say(2.0)];
    let keys = "channel.a = { filters = [{ debounce = '2s' }, { timeout = '5s' }] }";
    let (seen, _) = run(config(scripted(&[Ok(acts.to_vec())]), keys), 14).await;
    assert_eq!(seen, ["3s a=2", "8s a=stale", "13s a=2"]);
}

#[tokio::test(start_paused = true)]
async fn a_device_is_asked_at_its_pace() {
    let keys = "poll = '3s'\nchannel.a = { wave = 'counter' }";
    let (seen, _) = run(config(None, keys), 10).await;
    assert_eq!(seen, ["0s a=0", "3s a=1", "6s a=2", "9s a=3"]);
}

#[tokio::test(start_paused = true)]
async fn the_simulated_misfortunes_are_survived() {
    for (fault, word) in [("lost", "absent"), ("panic", "driver bug"), ("hang", "timeout")] {
        let keys = format!(
            "poll = '1s'\ntimeout = '2s'\nfault = '{fault}'\nfault_every = '5s'\n\
             channel.a = {{ wave = 'counter' }}"
        );
        let (seen, health) = run(config(None, &keys), 60).await;
        let bad = seen.iter().filter(|seen| seen.contains(&format!("a={word}"))).count();
        assert!((4..=10).contains(&bad), "{fault}: {seen:?}");
        assert_eq!(health.bad, bad as u64, "{fault}");
        // The counter goes on where it was: nothing is given twice.
        let numbers: Vec<&str> =
            seen.iter().filter_map(|s| s.split_once("a=")).map(|s| s.1).collect();
        let numbers: Vec<u64> = numbers.iter().filter_map(|n| n.parse().ok()).collect();
        assert!(numbers.iter().enumerate().all(|(n, number)| n as u64 == *number), "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_nobody_listens() {
    let (runner, _health, _) = Runner::new(config(scripted(&[Ok(vec![Say(1.0)])]), AB));
    let (sender, receiver) = mpsc::channel(1);
    drop(receiver);
    runner.run(sender, CancellationToken::new()).await;
}

#[tokio::test(start_paused = true)]
async fn the_log_has_one_line_when_lost_and_one_when_back() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let openings = [
        Ok(vec![Say(1.0), Fail(Fault::Io)]),
        Err(Fault::Absent),
        Err(Fault::Absent),
        Ok(vec![Say(2.0), Noise(500), Noise(500)]),
    ];
    run(config(scripted(&openings), AB), 30).await;
    let lines = lines.0.lock().unwrap();
    let begins = ["device is open", "device is lost", "device is back", "noise"];
    assert_eq!(lines.len(), begins.len(), "{lines:?}");
    for (line, begin) in lines.iter().zip(begins) {
        assert!(line.starts_with(begin), "{lines:?}");
    }
}

/// The messages of the log, from `info` up.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO && metadata.target().starts_with("device")
    }

    fn event(&self, event: &tracing::Event<'_>) {
        struct Message(String);
        impl tracing::field::Visit for Message {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        self.0.lock().unwrap().push(message.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// Outputs `a` and `b` of a scripted device, and what becomes of commands: each
/// with its second, its channel, its value, and what the answer is to begin
/// with.
async fn commanded(keys: &str, commands: &[(u64, &str, bool, &str)], seconds: u64) -> Vec<String> {
    let written = Arc::new(Mutex::new(Vec::new()));
    let mut config = config(None, keys);
    config.driver = Arc::new(Switches { written: written.clone() });
    (config.poll, config.timeout) = (None, None);
    let (runner, _health, commander) = Runner::new(config);
    let (sender, mut receiver) = mpsc::channel::<Vec<Reading>>(16);
    let stop = CancellationToken::new();
    let script = async {
        let begin = Instant::now();
        for &(second, channel, value, expected) in commands {
            time::sleep_until(begin + Duration::from_secs(second)).await;
            let (reply, outcome) = oneshot::channel();
            let channel = format!("x/{channel}").parse().unwrap();
            commander.send(Command { channel, value: value.into(), reply }).await.unwrap();
            let outcome = outcome.await.unwrap().map_or_else(|error| error, |()| "ok".to_owned());
            assert!(outcome.starts_with(expected), "{outcome}");
        }
        time::sleep_until(begin + Duration::from_secs(seconds)).await;
        stop.cancel();
    };
    let begin = Instant::now();
    let collect = async {
        let mut seen = Vec::new();
        while let Some(readings) = receiver.recv().await {
            for reading in readings {
                let (second, name) = (begin.elapsed().as_secs(), reading.channel.name().to_owned());
                let on = reading.value.datum() == Some(&true.into());
                seen.push(format!("{second}s {name} {}", if on { "on" } else { "off" }));
            }
        }
        seen
    };
    let (_, (), seen) = tokio::join!(runner.run(sender, stop.clone()), script, collect);
    // Every state that is read has been written, and nothing else has.
    assert_eq!(seen, *written.lock().unwrap());
    seen
}

/// Outputs that take everything, and note it with the second.
struct Switches {
    written: Arc<Mutex<Vec<String>>>,
}

struct OpenSwitches {
    written: Arc<Mutex<Vec<String>>>,
    opened: Instant,
}

#[async_trait]
impl Driver for Switches {
    async fn open(&self) -> Result<Box<dyn Device>, Failure> {
        Ok(Box::new(OpenSwitches { written: self.written.clone(), opened: Instant::now() }))
    }
}

#[async_trait]
impl Device for OpenSwitches {
    async fn read(&mut self, _: &mut Batch) -> Result<(), Failure> {
        std::future::pending().await
    }

    async fn write(&mut self, channel: usize, value: &Datum) -> Result<Taken, Failure> {
        let (second, name) = (self.opened.elapsed().as_secs(), ["a", "b"][channel]);
        let on = if *value == true.into() { "on" } else { "off" };
        self.written.lock().unwrap().push(format!("{second}s {name} {on}"));
        Ok(Taken::State(value.clone()))
    }
}

#[tokio::test(start_paused = true)]
async fn outputs_are_written_at_the_opening_by_commands_and_at_the_stop() {
    let keys = "channel.a = { output = true, on_stop = true }\nchannel.b = { output = true }";
    let seen = commanded(keys, &[(2, "a", true, "ok"), (3, "b", true, "ok")], 5).await;
    let first = ["0s a off", "0s b off", "2s a on", "3s b on"];
    assert_eq!(seen, [&first[..], &["5s b off", "5s a on"]].concat());
}

#[tokio::test(start_paused = true)]
async fn the_rules_of_outputs_hold() {
    let lock = "{ output = true, interlock = 'motor', pulse = '10s' }";
    let keys = format!("channel.a = {lock}\nchannel.b = {lock}");
    let commands = [
        (1, "a", true, "ok"),
        (2, "b", true, "x/b can't be on while x/a is"),
        (12, "b", true, "ok"),
        (13, "b", false, "ok"),
    ];
    let seen = commanded(&keys, &commands, 14).await;
    let all = ["0s a off", "0s b off", "1s a on", "11s a off", "12s b on", "13s b off"];
    assert_eq!(seen, [&all[..], &["14s a off", "14s b off"]].concat());

    let keys = "channel.a = { output = true, failsafe = { after = '5s', value = false } }\n\
                channel.b = { output = true }";
    let seen = commanded(keys, &[(1, "a", true, "ok"), (4, "a", true, "ok")], 20).await;
    assert_eq!(seen[2..5], ["1s a on", "4s a on", "9s a off"]);
}

#[tokio::test(start_paused = true)]
async fn a_command_to_a_lost_device_is_refused_and_not_kept() {
    let openings: Vec<Opening> = (0..20).map(|_| Err(Fault::Absent)).collect();
    let (runner, _health, commander) = Runner::new(config(scripted(&openings), AB));
    let (sender, _receiver) = mpsc::channel(16);
    let stop = CancellationToken::new();
    let script = async {
        time::sleep(Duration::from_millis(100)).await;
        let (reply, outcome) = oneshot::channel();
        let channel = "x/a".parse().unwrap();
        commander.send(Command { channel, value: true.into(), reply }).await.unwrap();
        let refused = outcome.await.unwrap().unwrap_err();
        assert_eq!(refused, "x is lost: opening 0 failed");
        stop.cancel();
    };
    tokio::join!(runner.run(sender, stop.clone()), script);
}
