use proptest::prelude::*;
use reading::{ChannelSpec, Unit};

use super::*;

const ON: Datum = Datum::Boolean(true);
const OFF: Datum = Datum::Boolean(false);

/// Outputs `x/o0`, `x/o1`, … with these rules, opened and written as they say.
fn outputs(rules: &[Rules], now: Instant) -> Outputs {
    let mut outputs = Outputs::new();
    for (place, rules) in rules.iter().enumerate() {
        let spec = ChannelSpec {
            channel: name(place),
            kind: Kind::Boolean,
            unit: Unit::default(),
            label: None,
            range: None,
            output: true,
        };
        outputs.add(place, &spec, rules.clone());
    }
    for (place, value) in outputs.opened(now) {
        outputs.written(place, value, now);
    }
    outputs
}

fn name(place: usize) -> Channel {
    format!("x/o{place}").parse().unwrap()
}

fn off() -> Rules {
    Rules { initial: Some(OFF), on_stop: Some(OFF), ..Rules::default() }
}

/// A command, carried out when it may be.
fn command(outputs: &mut Outputs, place: usize, value: Datum, now: Instant) -> Result<(), String> {
    assert_eq!(outputs.allow(&name(place), &value, now)?, place);
    outputs.commanded(place, now);
    outputs.written(place, value, now);
    Ok(())
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_pulse_ends_by_itself_and_another_command_makes_it_longer() {
    let now = Instant::now();
    let mut outputs = outputs(&[Rules { pulse: Some(seconds(2)), ..off() }], now);
    assert_eq!(outputs.next(), None, "it is off");
    command(&mut outputs, 0, ON, now).unwrap();
    command(&mut outputs, 0, ON, now + seconds(1)).unwrap();
    assert_eq!(outputs.due(now + seconds(2)), None);
    assert_eq!(outputs.next(), Some(now + seconds(3)));
    assert_eq!(outputs.due(now + seconds(3)), Some((0, OFF, Cause::Pulse)));
    outputs.written(0, OFF, now + seconds(3));
    assert_eq!(outputs.next(), None);
}

#[test]
fn the_failsafe_counts_from_the_last_command_and_acts_once() {
    let now = Instant::now();
    let rules = Rules { failsafe: Some((seconds(10), OFF)), initial: Some(ON), ..off() };
    let mut outputs = outputs(&[rules], now);
    command(&mut outputs, 0, ON, now + seconds(6)).unwrap();
    assert_eq!(outputs.due(now + seconds(15)), None);
    assert_eq!(outputs.due(now + seconds(16)), Some((0, OFF, Cause::Failsafe)));
    outputs.written(0, OFF, now + seconds(16));
    assert_eq!(outputs.next(), None, "until the next command");
    command(&mut outputs, 0, ON, now + seconds(20)).unwrap();
    assert_eq!(outputs.next(), Some(now + seconds(30)));
}

#[test]
fn minimum_times_refuse_commands_and_delay_the_failsafe() {
    let now = Instant::now();
    let rules = Rules {
        min_on: seconds(20),
        min_off: seconds(5),
        failsafe: Some((seconds(10), OFF)),
        ..off()
    };
    let mut outputs = outputs(&[rules], now);
    let early = command(&mut outputs, 0, ON, now + Duration::from_millis(500));
    assert_eq!(early.unwrap_err(), "x/o0 must stay off for another 5s");
    command(&mut outputs, 0, ON, now + seconds(5)).unwrap();
    let early = command(&mut outputs, 0, OFF, now + seconds(6));
    assert_eq!(early.unwrap_err(), "x/o0 must stay on for another 19s");
    assert_eq!(outputs.due(now + seconds(15)), None);
    assert_eq!(outputs.next(), Some(now + seconds(25)), "when the minimum is over");
    assert_eq!(outputs.due(now + seconds(25)), Some((0, OFF, Cause::Failsafe)));
}

#[test]
fn a_value_of_another_type_and_another_channel_are_refused() {
    let now = Instant::now();
    let outputs = outputs(&[off()], now);
    let number = outputs.allow(&name(0), &Datum::Number(1.0), now).unwrap_err();
    assert_eq!(number, "x/o0 takes a boolean, not a number");
    let other = outputs.allow(&name(7), &ON, now).unwrap_err();
    assert_eq!(other, "x/o7 can't be written");
}

proptest! {
    /// Whatever is commanded and however time passes: two of an interlock are
    /// never on together, minimum times hold, and no timer spins.
    #[test]
    fn never_both_and_never_too_short(
        steps in proptest::collection::vec((0..3_usize, any::<bool>(), 0..5_u64), 1..80),
        safe in any::<bool>(),
    ) {
        let mut now = Instant::now();
        let rules = Rules {
            interlock: Some("motor".into()),
            min_on: seconds(3),
            min_off: seconds(2),
            failsafe: Some((seconds(4), Datum::Boolean(safe))),
            pulse: Some(seconds(5)),
            ..off()
        };
        let mut outputs = outputs(&[rules.clone(), rules.clone(), rules], now);
        let mut since = [(false, now); 3];
        let mut change = |place: usize, on: bool, now: Instant| {
            let (was, at) = since[place];
            if was != on {
                let least = if was { seconds(3) } else { seconds(2) };
                assert!(now >= at + least, "{place} was {was} for {:?} only", now - at);
                since[place] = (on, now);
            }
            assert!(since.iter().filter(|(on, _)| *on).count() <= 1, "two are on");
        };
        for (place, on, pause) in steps {
            let until = now + seconds(pause);
            for _ in 0..100 {
                let Some(next) = outputs.next().filter(|next| *next <= until) else { break };
                now = now.max(next);
                while let Some((place, value, _)) = outputs.due(now) {
                    change(place, is_on(&value), now);
                    outputs.written(place, value, now);
                }
                prop_assert!(outputs.next().is_none_or(|next| next > now), "a timer spins");
            }
            now = until;
            if command(&mut outputs, place, on.into(), now).is_ok() {
                change(place, on, now);
            }
        }
    }
}
