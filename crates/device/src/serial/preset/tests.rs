use std::fs::File;
use std::io::{Read, Write};
use std::time::Duration;

use reading::{Datum, Timestamp, Value};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tokio::time::{self, Instant};

use super::*;
use crate::channel::Track;
use crate::settings::ConfigError;
use crate::{Batch, Config};

/// How long a frame takes that is understood, or an answer.
const PATIENCE: Duration = Duration::from_millis(500);

fn parsed(settings: &str) -> (Option<Config>, Vec<ConfigError>) {
    let settings = format!("driver = 'serial'\n{settings}");
    let mut errors = Vec::new();
    let config = Config::parse("x", DeTable::parse(&settings).unwrap(), &mut errors);
    (config, errors)
}

/// What a device with this preset and these further settings makes of bytes that
/// come over its port, or in answer to its question: the values by the names of
/// their channels.
pub(in crate::serial) fn read(preset: &str, settings: &str, bytes: &[u8]) -> Vec<(String, Value)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK).unwrap();
    let port = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let (config, errors) = parsed(&format!("port = '{port}'\npreset = '{preset}'\n{settings}"));
    assert_eq!(errors, []);
    let config = config.unwrap();
    let mut master = File::from(master);
    let talk = async {
        let mut device = config.driver.open().await.unwrap();
        let mut batch = Batch::default();
        let answer = async {
            let mut question = [0; 64];
            while config.poll.is_some() && master.read(&mut question).is_err() {
                time::sleep(Duration::from_millis(1)).await;
            }
            master.write_all(bytes).unwrap();
        };
        let read = async {
            while batch.samples.is_empty() {
                match time::timeout(PATIENCE, device.read(&mut batch)).await {
                    Ok(read) => read.unwrap(),
                    Err(_) => break,
                }
                if config.poll.is_some() {
                    break;
                }
            }
        };
        tokio::join!(answer, read);
        batch
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let samples = runtime.block_on(talk).samples;
    let scaled = |sample: crate::Sample| {
        let track = &mut Track::new(config.channels[sample.channel].clone());
        let reading = track.reading(sample.value, Timestamp::now(), Instant::now()).unwrap();
        (reading.channel.name().to_owned(), reading.value)
    };
    samples.into_iter().map(scaled).collect()
}

/// Numbers, by the names of their channels.
pub(in crate::serial) fn good(numbers: &[(&str, f64)]) -> Vec<(String, Value)> {
    let named =
        |(name, number): &(&str, f64)| ((*name).to_owned(), Value::Good(Datum::Number(*number)));
    numbers.iter().map(named).collect()
}

#[test]
fn every_preset_is_accepted_with_all_its_channels() {
    for preset in PRESETS {
        let (config, errors) = parsed(&format!("port = '/dev/x'\npreset = '{}'", preset.name));
        assert_eq!(errors, [], "{}", preset.name);
        assert!(config.is_some_and(|config| !config.channels().is_empty()));
        let keys = DeTable::parse(preset.settings).unwrap().into_inner();
        let more = keys.get("more").map(|more| table_of(Some(more.clone()))).unwrap_or_default();
        let all: String =
            more.keys().map(|name| format!("channel.{} = {{}}\n", name.get_ref())).collect();
        let (_, errors) = parsed(&format!("port = '/dev/x'\npreset = '{}'\n{all}", preset.name));
        assert_eq!(errors, [], "{}", preset.name);
    }
    assert!(NAMES.is_sorted(), "{:?}", *NAMES);
}

#[test]
fn the_file_says_more_than_the_preset_and_errors_stand_where_it_is_named() {
    let (config, errors) = parsed(
        "port = '/dev/x'\npreset = 'sds011'\nbaud = 4800\n[channel]\n\
         pm10 = { unit = 'mg/m3' }\nid = { at = 6, type = 'u16' }",
    );
    assert_eq!(errors, []);
    let channels = config.unwrap().channels();
    let units: Vec<_> = channels.iter().map(|c| (c.channel.name(), c.unit.as_str())).collect();
    assert_eq!(units, [("pm10", "mg/m3"), ("id", "")]);

    let file = "driver = 'serial'\nport = '/dev/x'\npreset = 'sds011'\nformat = 'csv'\n";
    let mut errors = Vec::new();
    Config::parse("x", DeTable::parse(file).unwrap(), &mut errors);
    let shown: Vec<_> = errors
        .iter()
        .map(|error| (&file[error.span.clone().unwrap()], error.path.as_str()))
        .collect();
    assert!(shown.contains(&("'sds011'", "device.x.channel.pm25.at")), "{shown:?}");

    let (_, errors) = parsed("port = '/dev/x'\npreset = 'sds11'");
    assert!(errors[0].message.contains("did you mean \"sds011\"?"), "{errors:?}");
}

/// What is printed to start from is what the preset says.
#[test]
fn a_sample_is_accepted_with_what_it_has_commented_out() {
    for preset in PRESETS {
        let uncommented = preset.sample().replace("\n# ", "\n");
        let is_toml =
            |line: &&str| line.contains('=') && !line.contains('…') || line.starts_with('[');
        for sample in [
            preset.sample(),
            uncommented.lines().filter(is_toml).fold(String::new(), |all, line| all + line + "\n"),
        ] {
            let file = DeTable::parse(&sample).unwrap_or_else(|error| panic!("{error}\n{sample}"));
            let device = table_of(Some(file.get_ref()["device"].clone())).remove(preset.name);
            let table = Spanned::new(0..0, table_of(device));
            let mut errors = Vec::new();
            let config = Config::parse("x", table, &mut errors);
            assert_eq!(errors, [], "{sample}");
            assert!(!config.unwrap().channels().is_empty());
        }
    }
}
