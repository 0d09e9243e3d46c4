use std::time::Duration;

use reading::{Datum, Kind};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};
use toml::Spanned;
use toml::de::DeTable;

use crate::config::{self, ChannelSettings, Config, DeviceSettings};
use crate::output::Writable;
use crate::settings::{ConfigError, Report};
use crate::{Driver, DriverKind as Entry};

/// One kind of device: an entry of [`DRIVERS`](crate::DRIVERS).
pub struct DriverKind {
    /// The `driver = "…"` that selects it.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// A `[device.NAME]` table as one would write it; a test parses it.
    pub sample: &'static str,
    /// JSON Schema of a whole `[device.NAME]` table with this driver.
    pub schema: fn() -> schemars::Schema,
    pub(crate) parse: Parse,
}

/// Checks a whole `[device.NAME]` table.
pub(crate) type Parse =
    fn(&'static Entry, &str, Spanned<DeTable<'_>>, &mut Vec<ConfigError>) -> Option<Config>;

/// Who sets the pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// The runner asks, so often unless `poll` says otherwise.
    Asked(Duration),
    /// The device speaks on its own.
    Speaks,
}

/// What a driver's file says of it, so that everything else is generic.
pub(crate) trait Kinded: 'static {
    /// `driver = "…"`.
    const NAME: &'static str;
    /// One line for people.
    const SUMMARY: &'static str;
    /// A `[device.NAME]` table as one would write it.
    const SAMPLE: &'static str;
    /// Who sets the pace.
    const PACE: Pace;
    /// The key that says what to ask a device that else speaks on its own.
    const ASKED_WITH: Option<&'static str> = None;
    /// Its own keys of `[device.NAME]`.
    type Settings: DeserializeOwned + JsonSchema;
    /// Its own keys of a channel.
    type Channel: DeserializeOwned + JsonSchema;
    /// Those of them that every channel has, but that mean more here.
    const MEANT_OTHERWISE: &'static [&'static str] = &[];

    /// Its `[device.NAME]` table with what a key of it stands for.
    fn completed(table: Spanned<DeTable<'_>>) -> Spanned<DeTable<'_>> {
        table
    }

    /// Who sets the pace of a device with these settings.
    fn pace(_settings: &Self::Settings) -> Pace {
        Self::PACE
    }

    /// The channels of a device whose table has none.
    fn defaults(_settings: &Self::Settings) -> Vec<Declared<Self::Channel>> {
        Vec::new()
    }

    /// The type of a channel's values, given the `type` in the file.
    ///
    /// # Errors
    /// When the driver can't give that type.
    fn kind(channel: &Declared<Self::Channel>) -> Result<Kind, String>;

    /// The unit of a channel that has none in the file.
    fn unit(_channel: &Declared<Self::Channel>) -> Option<&'static str> {
        None
    }

    /// Whether a channel can be written.
    fn writable(_channel: &Declared<Self::Channel>) -> Writable {
        Writable::No
    }

    /// What an output is that is off: what it becomes at the opening, unless
    /// `initial` says otherwise. `None` leaves it as it is.
    fn off(channel: &Declared<Self::Channel>) -> Option<Datum> {
        (channel.kind == Kind::Boolean).then_some(Datum::Boolean(false))
    }

    /// Checks what serde can't see and makes the driver. Touches no hardware.
    /// What is wrong goes to `report`; then whatever is given is not used.
    fn build(
        settings: Self::Settings,
        channels: Vec<Declared<Self::Channel>>,
        poll: Option<Duration>,
        report: &mut Report<'_>,
    ) -> Option<Box<dyn Driver>>;
}

/// A channel as the file declares it.
#[derive(Clone, Debug)]
pub(crate) struct Declared<C> {
    /// Its short name.
    pub name: String,
    /// The type of its values.
    pub kind: Kind,
    /// The keys that every channel has.
    pub common: ChannelSettings,
    /// The driver's.
    pub own: C,
}

impl<C> Declared<C> {
    /// A channel that the file doesn't declare.
    pub(crate) fn new(name: impl Into<String>, own: C) -> Declared<C> {
        let common = ChannelSettings::default();
        Declared { name: name.into(), kind: Kind::Number, common, own }
    }

    /// The type of values that have it by their nature.
    ///
    /// # Errors
    /// When the file says another.
    pub(crate) fn always(&self, kind: Kind) -> Result<Kind, String> {
        match self.common.kind.map(Kind::from) {
            Some(given) if given != kind => {
                Err(format!("it is a \"{}\": leave `type` out", kind.as_str()))
            }
            _ => Ok(kind),
        }
    }
}

impl DriverKind {
    /// The entry for `K`.
    pub(crate) const fn of<K: Kinded>() -> DriverKind {
        DriverKind {
            name: K::NAME,
            summary: K::SUMMARY,
            sample: K::SAMPLE,
            schema: schema::<K>,
            parse: config::parse::<K>,
        }
    }
}

impl std::fmt::Debug for DriverKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("DriverKind").field(&self.name).finish()
    }
}

/// The common keys and the driver's, as one table.
fn schema<K: Kinded>() -> schemars::Schema {
    let mut channel = merged(of::<ChannelSettings>(), of::<K::Channel>());
    channel.insert("description".into(), "one measured quantity".into());
    let mut device = merged(of::<DeviceSettings>(), of::<K::Settings>());
    device.insert("description".into(), K::SUMMARY.into());
    if let Some(Json::Object(properties)) = device.get_mut("properties") {
        properties.insert("driver".into(), serde_json::json!({ "const": K::NAME }));
        properties.insert(
            "channel".into(),
            serde_json::json!({
                "description": "the channels, by name",
                "type": "object",
                "propertyNames": { "pattern": "^[a-z0-9][a-z0-9_-]{0,63}$" },
                "additionalProperties": channel,
            }),
        );
    }
    device.into()
}

fn of<T: JsonSchema>() -> Map<String, Json> {
    // Inline, so that the tables of all drivers go into one schema.
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    let mut map = schema.ensure_object().clone();
    map.remove("title");
    map
}

fn merged(mut into: Map<String, Json>, from: Map<String, Json>) -> Map<String, Json> {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Json::Object(into)), Json::Object(from)) => into.extend(from),
            (Some(Json::Array(into)), Json::Array(from)) => into.extend(from),
            (_, value) => _ = into.insert(key, value),
        }
    }
    into
}
