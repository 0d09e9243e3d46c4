//! One checked `[device.NAME]`: the keys that every driver has are read here.

use std::sync::Arc;
use std::time::Duration;

use reading::{Channel, ChannelSpec, Datum, Kind, Unit, is_name};
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::alarm::{self, ALARMS_MAX, Alarm};
use crate::filters::{self, Filter};
use crate::kind::{Declared, Kinded, Pace};
use crate::output::{Failsafe, Level, Rules, Writable};
use crate::settings::{self, ConfigError, Report, meant};
use crate::{DRIVERS, Driver, DriverKind};

/// How long a device that is asked may take, unless `timeout` says otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Asking more often than this would only burn the processor.
const POLL_MIN: Duration = Duration::from_millis(1);

/// One checked `[device.NAME]` table. Two are equal when their tables are.
#[derive(Clone)]
pub struct Config {
    pub(crate) name: String,
    pub(crate) kind: &'static DriverKind,
    pub(crate) label: Option<String>,
    pub(crate) driver: Arc<dyn Driver>,
    /// How often to ask; `None` for a device that speaks on its own.
    pub(crate) poll: Option<Duration>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) channels: Vec<ChannelConfig>,
    /// The table as it was written, to tell whether it has changed.
    written: toml::Table,
}

/// One channel and what is done to its values.
#[derive(Clone, Debug)]
pub(crate) struct ChannelConfig {
    pub(crate) spec: ChannelSpec,
    pub(crate) scale: f64,
    pub(crate) offset: f64,
    pub(crate) stale: Option<Duration>,
    pub(crate) stuck: Option<Duration>,
    pub(crate) filters: Vec<Filter>,
    pub(crate) alarms: Vec<Alarm>,
    /// How it may be written; `None` when it is only read.
    pub(crate) output: Option<Rules>,
}

/// The keys of `[device.NAME]` that every driver has, but for the channels.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceSettings {
    /// The driver that speaks to it.
    #[expect(dead_code, reason = "read before, to choose the driver; here for the schema")]
    driver: String,
    /// What people call it.
    label: Option<String>,
    /// How often to ask it, for example "1s".
    #[serde(default, with = "humantime_serde::option")]
    #[schemars(with = "Option<String>")]
    poll: Option<Duration>,
    /// How long it may say nothing before it counts as lost; of a device that
    /// is asked, how long an answer may take, and then "5s" by default.
    #[serde(default, with = "humantime_serde::option")]
    #[schemars(with = "Option<String>")]
    timeout: Option<Duration>,
}

const DEVICE_KEYS: &[&str] = &["channel", "driver", "label", "poll", "timeout"];

/// The keys of a channel that every driver has.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChannelSettings {
    /// The unit, as UCUM and SenML have it: "Cel", "%RH", "V".
    pub(crate) unit: Option<String>,
    /// What people call it.
    pub(crate) label: Option<String>,
    /// The type of its values, which never changes.
    #[serde(rename = "type")]
    pub(crate) kind: Option<Type>,
    /// The number is multiplied by this.
    pub(crate) scale: Option<f64>,
    /// Then this is added.
    pub(crate) offset: Option<f64>,
    /// [low, high]; outside it the reading is bad: "out of range".
    pub(crate) range: Option<[f64; 2]>,
    /// No reading for this long is one bad reading: "stale".
    #[serde(default, with = "humantime_serde::option")]
    #[schemars(with = "Option<String>")]
    pub(crate) stale: Option<Duration>,
    /// The same value for this long is one bad reading: "stuck".
    #[serde(default, with = "humantime_serde::option")]
    #[schemars(with = "Option<String>")]
    pub(crate) stuck: Option<Duration>,
    /// What is done to the values, in order.
    #[serde(default)]
    pub(crate) filters: Vec<Filter>,
    /// When somebody is to be told, on device/channel/alarm.
    #[serde(default)]
    pub(crate) alarm: Vec<Alarm>,
    /// Of an output: what it becomes when the device is opened; false by
    /// default, and for numbers and texts whatever it is.
    pub(crate) initial: Option<Level>,
    /// Of an output: what it becomes when the gateway stops; `initial` by
    /// default.
    pub(crate) on_stop: Option<Level>,
    /// Of an output: what it becomes when no command has come for so long, as
    /// { after = "10min", value = false }.
    pub(crate) failsafe: Option<Failsafe>,
    /// Of an output: a name; of all outputs of the device that share it only
    /// one is on at a time.
    pub(crate) interlock: Option<String>,
    /// Of an output: once on it stays on for at least this long.
    #[serde(default, with = "humantime_serde::option")]
    #[schemars(with = "Option<String>")]
    pub(crate) min_on: Option<Duration>,
    /// Of an output: once off it stays off for at least this long.
    #[serde(default, with = "humantime_serde::option")]
    #[schemars(with = "Option<String>")]
    pub(crate) min_off: Option<Duration>,
    /// Of an output: once on it goes off by itself after this long.
    #[serde(default, with = "humantime_serde::option")]
    #[schemars(with = "Option<String>")]
    pub(crate) pulse: Option<Duration>,
}

const CHANNEL_KEYS: &[&str] = &[
    "alarm",
    "failsafe",
    "filters",
    "initial",
    "interlock",
    "label",
    "min_off",
    "min_on",
    "offset",
    "on_stop",
    "pulse",
    "range",
    "scale",
    "stale",
    "stuck",
    "type",
    "unit",
];

/// The type of a channel's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Type {
    /// Numbers.
    Number,
    /// Truths.
    Boolean,
    /// Texts.
    Text,
}

impl From<Type> for Kind {
    fn from(kind: Type) -> Kind {
        match kind {
            Type::Number => Kind::Number,
            Type::Boolean => Kind::Boolean,
            Type::Text => Kind::Text,
        }
    }
}

impl Config {
    /// Checks a `[device.NAME]` table, without touching any hardware, and adds
    /// everything that is wrong with it to `errors`; then there may be none.
    pub fn parse(
        name: &str,
        table: Spanned<DeTable<'_>>,
        errors: &mut Vec<ConfigError>,
    ) -> Option<Config> {
        let path = format!("device.{name}");
        let before = errors.len();
        let mut report = Report::new(table.clone(), &path, errors);
        if !is_name(name) {
            report.at(&[], not_a_name(name));
        }
        let kind = match table.get_ref().get("driver").map(Spanned::get_ref) {
            Some(DeValue::String(driver)) => {
                let kind = DRIVERS.iter().find(|kind| kind.name == driver);
                if kind.is_none() {
                    report.at(&["driver"], unknown_driver(driver));
                }
                kind?
            }
            Some(_) => {
                report.at(&["driver"], format!("expected a driver's name: {}", driver_names()));
                return None;
            }
            None => {
                report.at(&["driver"], format!("missing key `driver`: one of {}", driver_names()));
                return None;
            }
        };
        let config = (kind.parse)(kind, name, table, errors);
        // In the order of the file, whatever order they were found in.
        errors[before..].sort_by_key(|error| error.span.as_ref().map(|span| span.start));
        config.filter(|_| errors.len() == before)
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its driver.
    pub fn driver(&self) -> &'static str {
        self.kind.name
    }

    /// What people call it.
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// Bus and address, when it is a part on an I2C bus.
    pub fn i2c(&self) -> Option<(&str, u8)> {
        self.driver.i2c()
    }

    /// Its table as it was written.
    pub fn written(&self) -> &toml::Table {
        &self.written
    }

    /// Its channels, in the order of the file, each followed by that of its alarms.
    pub fn channels(&self) -> Vec<ChannelSpec> {
        let specs = |channel: &ChannelConfig| {
            let alarm = (!channel.alarms.is_empty()).then(|| alarm::spec(&channel.spec));
            [channel.spec.clone()].into_iter().chain(alarm)
        };
        self.channels.iter().flat_map(specs).collect()
    }

    /// The outputs that its alarms drive, and where each stands in the table.
    pub fn driven(&self) -> Vec<(Vec<String>, Channel)> {
        let mut driven = Vec::new();
        for channel in &self.channels {
            for (place, alarm) in channel.alarms.iter().enumerate() {
                let output = alarm.output.as_ref().and_then(|name| name.parse().ok());
                let name = channel.spec.channel.name();
                let path = ["channel", name, "alarm", &place.to_string(), "output"];
                driven.extend(output.map(|output| (path.map(str::to_owned).to_vec(), output)));
            }
        }
        driven
    }
}

impl PartialEq for Config {
    fn eq(&self, other: &Config) -> bool {
        self.name == other.name && self.written == other.written
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("name", &self.name).field("driver", &self.kind).finish()
    }
}

fn driver_names() -> String {
    DRIVERS.iter().map(|kind| format!("\"{}\"", kind.name)).collect::<Vec<_>>().join(", ")
}

fn unknown_driver(found: &str) -> String {
    let names: Vec<&str> = DRIVERS.iter().map(|kind| kind.name).collect();
    match meant(found, &names) {
        Some(meant) => format!("unknown driver \"{found}\"; did you mean \"{meant}\"?"),
        None => format!("unknown driver \"{found}\"; there are {}", driver_names()),
    }
}

fn not_a_name(name: &str) -> String {
    format!(
        "\"{name}\" is not a name: 1 to 64 of a-z, 0-9, '-' and '_', beginning with a letter or digit"
    )
}

/// Checks a table whose driver is `K`.
pub(crate) fn parse<K: Kinded>(
    kind: &'static DriverKind,
    name: &str,
    table: Spanned<DeTable<'_>>,
    errors: &mut Vec<ConfigError>,
) -> Option<Config> {
    let path = format!("device.{name}");
    let written = written(&table);
    let table = K::completed(table);
    let (mut common, own) = split(table.clone(), DEVICE_KEYS);
    let channels = common.get_mut().remove("channel");
    let default = channels.as_ref().is_none_or(is_empty);
    let common: Option<DeviceSettings> = settings::parse(common, &path, &[], errors);
    let own: Option<K::Settings> = settings::parse_choice(own, &path, DEVICE_KEYS, errors);
    let mut declared = channels_of::<K>(channels, &path, errors);

    // From here on nothing ends early: what is wrong is told, and the caller
    // uses nothing of it then.
    let mut report = Report::new(table, &path, errors);
    let set = own.as_ref().map(K::pace);
    let pace = common.as_ref().map(|common| pace::<K>(set, common, &mut report));
    if default {
        declared = own.as_ref().map(K::defaults).unwrap_or_default();
        if declared.is_empty() && own.is_some() {
            let message = format!("there are no channels; declare one in [{path}.channel]");
            report.at(&["channel"], message);
        }
    }
    for channel in &mut declared {
        match K::kind(channel) {
            Ok(kind) => channel.kind = kind,
            Err(message) => report.at(&["channel", &channel.name, "type"], message),
        }
    }
    let channels: Vec<_> =
        declared.iter().map(|declared| channel::<K>(name, declared, &mut report)).collect();
    interlocks(&declared, &mut report);
    let (poll, timeout) = pace.unwrap_or_default();
    let driver = K::build(own?, declared, poll, &mut report)?;
    Some(Config {
        name: name.to_owned(),
        kind,
        label: common?.label,
        driver: driver.into(),
        poll,
        timeout,
        channels: channels.into_iter().collect::<Option<_>>()?,
        written,
    })
}

fn is_empty(value: &Spanned<DeValue<'_>>) -> bool {
    matches!(value.get_ref(), DeValue::Table(table) if table.is_empty())
}

fn written(table: &Spanned<DeTable<'_>>) -> toml::Table {
    let value = DeValue::Table(table.get_ref().clone());
    let input = ValueDeserializer::from(Spanned::new(table.span(), value));
    // What has been parsed once is TOML, so this can't fail.
    toml::Table::deserialize(input).unwrap_or_default()
}

/// The table's `keys`, and the rest.
fn split<'a>(
    table: Spanned<DeTable<'a>>,
    keys: &[&str],
) -> (Spanned<DeTable<'a>>, Spanned<DeTable<'a>>) {
    let span = table.span();
    let mut these = DeTable::new();
    let mut others = DeTable::new();
    for (key, value) in table.into_inner() {
        let ours = keys.contains(&key.get_ref().as_ref());
        let into = if ours { &mut these } else { &mut others };
        into.insert(key, value);
    }
    (Spanned::new(span.clone(), these), Spanned::new(span, others))
}

/// `poll` and `timeout`, as the driver and the file have them.
fn pace<K: Kinded>(
    set: Option<Pace>,
    common: &DeviceSettings,
    report: &mut Report<'_>,
) -> (Option<Duration>, Option<Duration>) {
    for (key, given) in [("poll", common.poll), ("timeout", common.timeout)] {
        if given.is_some_and(|given| given < POLL_MIN) {
            report.at(&[key], "expected 1ms or more");
        }
    }
    match set {
        Some(Pace::Asked(default)) => {
            (Some(common.poll.unwrap_or(default)), Some(common.timeout.unwrap_or(TIMEOUT)))
        }
        // Its own keys are wrong, and one of them might set the pace.
        None => (None, None),
        Some(Pace::Speaks) => {
            if common.poll.is_some() {
                let asked = K::ASKED_WITH.map(|key| format!(", or say in `{key}` what to ask it"));
                let message = format!(
                    "a {} device speaks on its own: leave `poll` out{}",
                    K::NAME,
                    asked.unwrap_or_default()
                );
                report.at(&["poll"], message);
            }
            (None, common.timeout)
        }
    }
}

/// The declared channels that can be read, in the order of the file.
fn channels_of<K: Kinded>(
    table: Option<Spanned<DeValue<'_>>>,
    path: &str,
    errors: &mut Vec<ConfigError>,
) -> Vec<Declared<K::Channel>> {
    let Some(table) = table else { return Vec::new() };
    let path = format!("{path}.channel");
    let wrong = |span, path: &str, message: &str| ConfigError {
        span: Some(span),
        path: path.to_owned(),
        message: message.to_owned(),
    };
    let span = table.span();
    let DeValue::Table(table) = table.into_inner() else {
        errors.push(wrong(span, &path, "expected tables by name: channel.NAME = { … }"));
        return Vec::new();
    };
    let mut tables: Vec<_> = table.into_iter().collect();
    tables.sort_by_key(|(key, _)| key.span().start);
    let mut declared = Vec::new();
    for (key, value) in tables {
        let name = key.get_ref().to_string();
        let path = format!("{path}.{name}");
        if !is_name(&name) {
            errors.push(wrong(key.span(), &path, &not_a_name(&name)));
        }
        let span = value.span();
        let DeValue::Table(table) = value.into_inner() else {
            errors.push(wrong(span, &path, "expected a table, such as { unit = \"Cel\" }"));
            continue;
        };
        let keys: Vec<&str> =
            CHANNEL_KEYS.iter().copied().filter(|key| !K::MEANT_OTHERWISE.contains(key)).collect();
        let (common, own) = split(Spanned::new(span, table), &keys);
        let common: Option<ChannelSettings> = settings::parse_choice(common, &path, &[], errors);
        let own: Option<K::Channel> = settings::parse_choice(own, &path, CHANNEL_KEYS, errors);
        if let (Some(common), Some(own)) = (common, own) {
            // The driver is asked for the kind once all are read.
            declared.push(Declared { name, kind: Kind::default(), common, own });
        }
    }
    declared
}

fn channel<K: Kinded>(
    device: &str,
    declared: &Declared<K::Channel>,
    report: &mut Report<'_>,
) -> Option<ChannelConfig> {
    let (name, common) = (declared.name.as_str(), &declared.common);
    let mut wrong = |key: &str, message: String| report.at(&["channel", name, key], message);
    let given = [
        ("scale", common.scale.is_some()),
        ("offset", common.offset.is_some()),
        ("range", common.range.is_some()),
    ];
    for (key, _) in given.into_iter().filter(|(_, given)| *given) {
        if declared.kind != Kind::Number {
            wrong(key, format!("only numbers have it, and this is a {}", declared.kind.as_str()));
        }
    }
    for (key, number) in [("scale", common.scale), ("offset", common.offset)] {
        if number.is_some_and(|number| !number.is_finite()) {
            wrong(key, "expected a finite number".into());
        }
    }
    if common.scale == Some(0.0) {
        wrong("scale", "a scale of 0 makes every value the same; leave it out for 1".into());
    }
    if let Some([low, high]) = common.range
        && (low > high || low.is_nan() || high.is_nan())
    {
        wrong("range", format!("expected [low, high], and {low} is not below {high}"));
    }
    if common.stale.is_some_and(|stale| stale.is_zero()) {
        wrong(
            "stale",
            "expected a duration such as 250ms, 1s, 15min, 30d; leave it out for never".into(),
        );
    }
    if common.stuck.is_some_and(|stuck| stuck.is_zero()) {
        wrong("stuck", "expected a duration such as 15min, 2h; leave it out for never".into());
    }
    if common.alarm.len() > ALARMS_MAX {
        wrong("alarm", format!("{} are too many: at most {ALARMS_MAX}", common.alarm.len()));
    }
    for (place, one) in common.alarm.iter().enumerate() {
        if let Some((key, message)) = alarm::check(one, declared.kind) {
            report.at(&["channel", name, "alarm", &place.to_string(), key], message);
        }
    }
    for (place, filter) in common.filters.iter().enumerate() {
        if let Some(message) = filters::check(filter, declared.kind) {
            report.at(&["channel", name, "filters", &place.to_string()], message);
        }
    }
    let writable = K::writable(declared);
    let output = rules(declared, writable, K::off(declared), report);
    // A name that isn't one has been reported.
    let channel = Channel::new(device, name).ok()?;
    let unit = common.unit.clone().or_else(|| K::unit(declared).map(str::to_owned));
    Some(ChannelConfig {
        spec: ChannelSpec {
            channel,
            kind: declared.kind,
            unit: unit.map(Unit::from).unwrap_or_default(),
            label: common.label.clone(),
            range: common.range.map(|[low, high]| low..=high),
            output: writable != Writable::No,
        },
        output,
        scale: common.scale.unwrap_or(1.0),
        offset: common.offset.unwrap_or(0.0),
        stale: common.stale,
        stuck: common.stuck,
        alarms: common.alarm.clone(),
        filters: common.filters.clone(),
    })
}

/// The keys of an output, with their defaults; `None` when it is none.
fn rules<C>(
    declared: &Declared<C>,
    writable: Writable,
    off: Option<Datum>,
    report: &mut Report<'_>,
) -> Option<Rules> {
    let (name, common, kind) = (declared.name.as_str(), &declared.common, declared.kind);
    let mut wrong = |key: &[&str], message: String| {
        report.at(&[&["channel", name], key].concat(), message);
    };
    let given = [
        ("initial", common.initial.is_some()),
        ("on_stop", common.on_stop.is_some()),
        ("failsafe", common.failsafe.is_some()),
        ("interlock", common.interlock.is_some()),
        ("min_on", common.min_on.is_some()),
        ("min_off", common.min_off.is_some()),
        ("pulse", common.pulse.is_some()),
    ];
    let switches = ["interlock", "min_on", "min_off", "pulse"];
    for (key, _) in given.into_iter().filter(|(_, given)| *given) {
        if writable != Writable::Output {
            wrong(&[key], "only an output has it".into());
        } else if switches.contains(&key) && kind != Kind::Boolean {
            let of = kind.as_str();
            wrong(&[key], format!("only an output that is on or off has it, and this is a {of}"));
        }
    }
    let failsafe = common.failsafe.as_ref();
    let values: [(&[&str], Option<&Level>); 3] = [
        (&["initial"], common.initial.as_ref()),
        (&["on_stop"], common.on_stop.as_ref()),
        (&["failsafe", "value"], failsafe.map(|failsafe| &failsafe.value)),
    ];
    for (keys, Level(value)) in values.into_iter().filter_map(|(keys, v)| Some((keys, v?))) {
        match (value, common.range) {
            (value, _) if value.kind() != kind => {
                wrong(keys, format!("expected a {}, as the output is", kind.as_str()));
            }
            (Datum::Number(number), Some([low, high])) if !(low..=high).contains(number) => {
                wrong(keys, format!("expected {low} to {high}, as `range` has it"));
            }
            _ => {}
        }
    }
    if failsafe.is_some_and(|failsafe| failsafe.after.is_zero()) {
        wrong(&["failsafe", "after"], "expected a duration such as 30s, 10min".into());
    }
    for (key, given) in [("min_on", common.min_on), ("pulse", common.pulse)] {
        if given.is_some_and(|given| given.is_zero()) {
            wrong(&[key], "expected a duration such as 250ms, 2s; leave it out for none".into());
        }
    }
    if let (Some(pulse), Some(min_on)) = (common.pulse, common.min_on)
        && pulse < min_on
    {
        wrong(&["pulse"], "it is shorter than `min_on`, so it would be as long as that".into());
    }
    let value = |level: &Level| level.0.clone();
    let initial = common.initial.as_ref().map(value).or(off);
    match writable {
        Writable::No => None,
        Writable::Setting => Some(Rules::default()),
        Writable::Output => Some(Rules {
            on_stop: common.on_stop.as_ref().map(value).or_else(|| initial.clone()),
            initial,
            failsafe: failsafe.map(|failsafe| (failsafe.after, value(&failsafe.value))),
            interlock: common.interlock.clone(),
            min_on: common.min_on.unwrap_or_default(),
            min_off: common.min_off.unwrap_or_default(),
            pulse: common.pulse,
        }),
    }
}

/// Of those that may not be on together two can't be told to be.
fn interlocks<C>(declared: &[Declared<C>], report: &mut Report<'_>) {
    let values = |common: &ChannelSettings| {
        let on = |level: Option<&Level>| level.is_some_and(|level| level.0 == true.into());
        [
            ("initial", on(common.initial.as_ref())),
            ("on_stop", on(common.on_stop.as_ref())),
            ("failsafe", on(common.failsafe.as_ref().map(|failsafe| &failsafe.value))),
        ]
    };
    for (place, one) in declared.iter().enumerate() {
        for (key, on) in values(&one.common) {
            let earlier = declared[..place].iter().find(|other| {
                one.common.interlock.is_some()
                    && other.common.interlock == one.common.interlock
                    && values(&other.common).contains(&(key, true))
            });
            if let Some(other) = earlier.filter(|_| on) {
                let message = format!(
                    "it may not be on together with {}, which has the same; one of them is false",
                    other.name
                );
                report.at(&["channel", &one.name, key], message);
            }
        }
    }
}

#[cfg(test)]
mod tests;
