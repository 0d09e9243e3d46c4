use std::io::Write;

use reading::Value;

use super::*;
use crate::Config;

async fn open(settings: &str) -> Box<dyn Device> {
    let mut errors = Vec::new();
    let table = toml::de::DeTable::parse(settings).unwrap();
    let config = Config::parse("panel", table, &mut errors);
    assert_eq!(errors, []);
    config.unwrap().driver.open().await.unwrap()
}

async fn next(device: &mut dyn Device) -> Vec<(usize, bool)> {
    let mut batch = Batch::default();
    device.read(&mut batch).await.unwrap();
    let active = |value: &Value| value.datum() == Some(&Datum::Boolean(true));
    batch.samples.iter().map(|sample| (sample.channel, active(&sample.value))).collect()
}

#[tokio::test]
async fn the_levels_come_first_and_then_every_change() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("panel");
    let mut device = open(&format!(
        "driver = 'gpio'\nchip = 'sim'\ncommands = '{}'\n[channel]\n\
         door = {{ line = 17, bias = 'pull-up', active = 'low' }}\nalarm = {{ line = 'A' }}",
        pipe.display()
    ))
    .await;
    assert_eq!(next(&mut *device).await, [(0, false), (1, false)]);
    let mut commands = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    commands.write_all(b"17=0\nnonsense\nA=1\nA=1\nA=0\n").unwrap();
    assert_eq!(next(&mut *device).await, [(0, true), (1, true), (1, false)]);
    commands.write_all(b"17=1\n").unwrap();
    assert_eq!(next(&mut *device).await, [(0, false)]);
}

#[tokio::test(start_paused = true)]
async fn a_bounce_is_no_change_and_a_line_may_toggle_by_itself() {
    let mut device = open(
        "driver = 'gpio'\nchip = 'sim'\n[channel]\n\
         slow = { line = 1, toggle = '1s', debounce = '300ms' }\n\
         fast = { line = 2, toggle = '200ms', debounce = '300ms' }",
    )
    .await;
    assert_eq!(next(&mut *device).await, [(0, false), (1, false)]);
    let begin = tokio::time::Instant::now();
    assert_eq!(next(&mut *device).await, [(0, true)], "the fast one never lasts");
    assert_eq!(begin.elapsed().as_millis(), 1300);
}

#[tokio::test]
async fn an_output_is_driven_by_writing_alone_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("panel");
    let mut device = open(&format!(
        "driver = 'gpio'\nchip = 'sim'\ncommands = '{}'\n[channel]\n\
         pump = {{ line = 22, direction = 'output', active = 'low', initial = true }}\n\
         door = {{ line = 17 }}",
        pipe.display()
    ))
    .await;
    assert_eq!(next(&mut *device).await, [(1, false)], "the inputs alone");
    // The pipe moves inputs only, and moving one drives nothing.
    let mut commands = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    commands.write_all(b"22=1\n17=1\n").unwrap();
    assert_eq!(next(&mut *device).await, [(1, true)]);
    for on in [true, false, false, true] {
        let taken = device.write(0, &on.into()).await.unwrap();
        assert_eq!(taken, Taken::State(on.into()));
    }
}

#[tokio::test]
async fn a_counter_counts_goes_on_and_is_set() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("panel");
    let mut device = open(&format!(
        "driver = 'gpio'\nchip = 'sim'\ncommands = '{}'\n[channel]\n\
         water = {{ line = 5, direction = 'counter', every = '20ms', scale = 0.5 }}\n\
         flow = {{ line = 5, direction = 'frequency', every = '1h' }}",
        pipe.display()
    ))
    .await;
    device.restore(0, &Datum::Number(41.000_000_1));
    assert_eq!(numbers(&mut *device).await, [(0, 41.0)]);
    let mut commands = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    commands.write_all(b"5=1\n5=0\n5=1\n5=0\n").unwrap();
    assert_eq!(numbers(&mut *device).await, [(0, 43.0)]);
    let taken = device.write(0, &Datum::Number(7.0)).await.unwrap();
    assert_eq!(taken, Taken::State(Datum::Number(7.0)));
    commands.write_all(b"5=1\n").unwrap();
    assert_eq!(numbers(&mut *device).await, [(0, 8.0)]);
}

/// 100 kHz on one line: a bounded queue, counted, and not a reading each.
#[tokio::test]
async fn noise_on_a_line_is_counted_and_no_flood() {
    let mut device = open(
        "driver = 'gpio'\nchip = 'sim'\n[channel]\n\
         noise = { line = 1, toggle = '5us' }\n\
         total = { line = 2, toggle = '5us', direction = 'counter', every = '100ms' }",
    )
    .await;
    let (begin, mut batch, mut levels) = (Instant::now(), Batch::default(), 0);
    let mut total = 0.0;
    while begin.elapsed() < Duration::from_millis(1500) {
        device.read(&mut batch).await.unwrap();
        levels += batch.samples.iter().filter(|sample| sample.channel == 0).count();
        let totals = batch.samples.iter().filter(|sample| sample.channel == 1);
        total = totals.filter_map(|sample| sample.value.number()).fold(total, f64::max);
        assert!(batch.samples.capacity() < 10_000, "{}", batch.samples.capacity());
        batch.samples.clear();
    }
    // A second makes a hundred levels and one that stands for all others.
    assert!((100..=320).contains(&levels), "{levels} levels");
    assert!(batch.missed > 50_000, "{} told as one", batch.missed);
    // 100,000 rising edges a second; a slow machine is late, and not wrong.
    assert!((50_000.0..160_000.0).contains(&total), "{total}");
}

/// A PWM channel of the kernel's, in percent, from the opening to the stop.
#[tokio::test(start_paused = true)]
async fn a_pwm_follows_the_rules_of_outputs() {
    const CHANNEL: &str = "sys/class/pwm/pwmchip0/pwm1";
    let file = |name: &str| format!("{CHANNEL}/{name}");
    let root = crate::sysfs::tree(&[
        (&file("period"), "0\n"),
        (&file("duty_cycle"), "0\n"),
        (&file("enable"), "0\n"),
    ]);
    let text = format!(
        "driver = 'gpio'\nroot = '{}'\n[channel]\nlamp = {{ line = 1, direction = 'pwm', \
         frequency = 100, scale = 100, unit = '%', on_stop = 5, \
         failsafe = {{ after = '10s', value = 20 }} }}",
        root.path().display()
    );
    let table = toml::de::DeTable::parse(&text).unwrap();
    let config = Config::parse("x", table, &mut Vec::new()).unwrap();
    let (runner, _health, commander) = crate::Runner::new(config);
    let (sender, mut readings) = tokio::sync::mpsc::channel::<Vec<reading::Reading>>(16);
    let stop = tokio_util::sync::CancellationToken::new();
    let seen = async || readings.recv().await.unwrap()[0].value.number().unwrap().round();
    let duty = || std::fs::read_to_string(root.path().join(file("duty_cycle"))).unwrap();
    let script = async {
        let mut seen = seen;
        assert_eq!((seen().await, duty().as_str()), (0.0, "0"), "off until it is told");
        for (value, outcome) in [(75.0, Ok(())), (101.0, Err(()))] {
            let (reply, answer) = tokio::sync::oneshot::channel();
            let (channel, value) = ("x/lamp".parse().unwrap(), Datum::Number(value));
            commander.send(crate::Command { channel, value, reply }).await.unwrap();
            assert_eq!(answer.await.unwrap().map_err(|_| ()), outcome);
        }
        assert_eq!((seen().await, duty().as_str()), (75.0, "7500000"), "of 10 ms");
        assert_eq!((seen().await, duty().as_str()), (20.0, "2000000"), "the failsafe");
        stop.cancel();
        assert_eq!((seen().await, duty().as_str()), (5.0, "500000"), "as it is to be left");
    };
    tokio::join!(runner.run(sender, stop.clone()), script);
}

#[test]
fn the_keys_of_a_pwm_are_checked() {
    let text = "driver = 'gpio'\n[channel]\n\
        a = { line = 'PWM', direction = 'pwm', frequency = 0.0, initial = 2.0 }\n\
        b = { line = 1, direction = 'pwm', scale = 100, failsafe = { after = '1s', value = 101 } }\n\
        c = { line = 1, direction = 'pwm', bias = 'pull-up', debounce = '1s', pulse = '1s' }\n\
        d = { line = 1, direction = 'output', frequency = 5.0 }\n\
        e = { line = 2, direction = 'pwm', every = '1s', on_stop = true, edge = 'both' }";
    let mut errors = Vec::new();
    Config::parse("x", toml::de::DeTable::parse(text).unwrap(), &mut errors);
    let errors: Vec<String> =
        errors.iter().map(|error| error.to_string().replace("device.x.channel.", "")).collect();
    expect_test::expect![[r#"
        a.line: a PWM channel has no name: expected its number, such as 0
        a.frequency: expected pulses a second, more than 0 and at most 10000000
        a.initial: expected 0 (off) to 1 (on)
        b.failsafe.value: expected 0 (off) to 100 (on)
        c.line: it is that of a channel above
        c.bias: a "pwm" doesn't have it: it is driven
        c.debounce: an output doesn't have it: it is driven
        c.pulse: only an output that is on or off has it, and this is a number
        d.frequency: only a "pwm" has it
        e.every: only a "counter", "frequency" or "pulse-width" has it
        e.on_stop: expected a number, as the output is
        e.edge: only a "counter" or "frequency" has it
    "#]]
    .assert_eq(&format!("{}\n", errors.join("\n")));
}

async fn numbers(device: &mut dyn Device) -> Vec<(usize, f64)> {
    let mut batch = Batch::default();
    device.read(&mut batch).await.unwrap();
    batch.samples.iter().filter_map(|s| Some((s.channel, s.value.number()?))).collect()
}
