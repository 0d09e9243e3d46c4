//! Known devices: what one would write in the file, already written.
//!
//! A preset is a piece of a `[device.NAME]` table. Whatever the file says itself
//! counts instead; a channel of the preset that the file names has the preset's
//! keys below its own. To add one, write a file here, or an entry in one, with
//! frames from the device's data sheet in its test, and list it in [`PRESETS`].

mod meters;
mod mh_z19;
mod nmea;
mod plantower;
mod sds011;
mod vedirect;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::LazyLock;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// A device that is known.
pub struct Preset {
    /// The `preset = "…"` that selects it.
    pub name: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// How it is connected: levels, and what is easily got wrong.
    pub wiring: &'static str,
    /// Keys of the device as TOML: `baud`, `frame`, `format` …; the channels that it
    /// has unless the file names some, in `[channel]`; those that the file may name
    /// besides, in `[more]`.
    pub settings: &'static str,
}

/// Every preset, by name.
pub const PRESETS: &[Preset] = &[
    meters::D0,
    meters::D0_PUSH,
    meters::DSMR,
    meters::DSMR2,
    mh_z19::MH_Z19,
    nmea::NMEA_GPS,
    plantower::PMS5003,
    plantower::PMS7003,
    sds011::SDS011,
    meters::SML,
    nmea::UBLOX,
    vedirect::VEDIRECT,
    vedirect::VEDIRECT_BMV,
];

impl Preset {
    /// A `[device.NAME]` table with it, as one would write it, and what it stands
    /// for.
    pub fn sample(&self) -> String {
        let (device, channels) = self.settings.split_once("[channel]").unwrap_or_default();
        let (channels, more) = channels.split_once("[more]").unwrap_or((channels, ""));
        let mut sample = format!(
            "[device.{0}]\ndriver = \"serial\"\nport = \"/dev/ttyUSB0\"\npreset = \"{0}\"\n\n\
             # It stands for these; what you write yourself counts instead.\n",
            self.name
        );
        let mut commented = |text: &str, before: &str| {
            for line in text.lines().filter(|line| !line.is_empty()) {
                let line = line.strip_prefix("# ").unwrap_or(line);
                sample += &format!("{before}{line}\n");
            }
        };
        commented(device, "# ");
        commented("And for these channels, unless you name some.", "# ");
        commented(&format!("[device.{}.channel]", self.name), "# ");
        commented(channels, "# ");
        if !more.is_empty() {
            commented(
                "These you may name besides, under any name: house = { field = \"…\" }",
                "# ",
            );
            commented(more, "# ");
        }
        sample
    }
}

/// The name of a preset that there is.
#[derive(Clone, Debug)]
pub(crate) struct PresetName;

static NAMES: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| PRESETS.iter().map(|preset| preset.name).collect());

/// Completes a `[device.NAME]` table that names a preset. What comes of the preset
/// stands, for errors, where its name does.
pub(crate) fn completed(mut table: Spanned<DeTable<'_>>) -> Spanned<DeTable<'_>> {
    let Some(given) = table.get_ref().get("preset") else { return table };
    let (DeValue::String(name), span) = (given.get_ref(), given.span()) else { return table };
    let preset = PRESETS.iter().find(|preset| preset.name == name.as_ref());
    let Some(Ok(keys)) = preset.map(|preset| DeTable::parse(preset.settings)) else {
        return table;
    };
    let mut keys = moved(keys.into_inner(), &span);
    let mut ours = table_of(keys.remove("channel"));
    let more = table_of(keys.remove("more"));
    let device = table.get_mut();
    match device.get_mut("channel").map(Spanned::get_mut) {
        Some(DeValue::Table(theirs)) if !theirs.is_empty() => {
            ours.extend(more);
            for (name, channel) in theirs.iter_mut() {
                let DeValue::Table(channel) = channel.get_mut() else { continue };
                if let Some(known) = known(&ours, name.get_ref(), channel) {
                    fill(channel, table_of(Some(known.clone())));
                }
            }
        }
        // Not a table: told elsewhere.
        Some(other) if !matches!(other, DeValue::Table(_)) => {}
        _ => {
            let channels = Spanned::new(span.clone(), DeValue::Table(ours));
            device.insert(Spanned::new(span, "channel".into()), channels);
        }
    }
    fill(device, keys);
    table
}

/// The channel of the preset that one of the file is: by its name or, under
/// another name, by the field that it asks for.
fn known<'t, 'a>(
    ours: &'t DeTable<'a>,
    name: &str,
    theirs: &DeTable<'_>,
) -> Option<&'t Spanned<DeValue<'a>>> {
    let field = |table: &DeTable<'_>| match table.get("field")?.get_ref() {
        DeValue::String(field) => Some(field.to_string()),
        _ => None,
    };
    let Some(wanted) = field(theirs) else { return ours.get(name) };
    let has = |(name, channel): &(&Spanned<_>, &Spanned<DeValue<'_>>)| match channel.get_ref() {
        DeValue::Table(channel) => {
            let name: &std::borrow::Cow<'_, str> = name.get_ref();
            field(channel).as_deref().unwrap_or(name) == wanted
        }
        _ => false,
    };
    ours.iter().find(has).map(|(_, channel)| channel)
}

/// Adds the keys that aren't there.
fn fill<'a>(table: &mut DeTable<'a>, with: DeTable<'a>) {
    for (key, value) in with {
        if !table.contains_key(key.get_ref().as_ref()) {
            table.insert(key, value);
        }
    }
}

fn table_of(value: Option<Spanned<DeValue<'_>>>) -> DeTable<'_> {
    match value.map(Spanned::into_inner) {
        Some(DeValue::Table(table)) => table,
        _ => DeTable::new(),
    }
}

/// The same table at another place.
fn moved<'a>(table: DeTable<'a>, to: &Range<usize>) -> DeTable<'a> {
    let entry = |(key, value): (Spanned<_>, Spanned<_>)| {
        (Spanned::new(to.clone(), key.into_inner()), moved_value(value, to))
    };
    table.into_iter().map(entry).collect()
}

fn moved_value<'a>(value: Spanned<DeValue<'a>>, to: &Range<usize>) -> Spanned<DeValue<'a>> {
    let value = match value.into_inner() {
        DeValue::Table(table) => DeValue::Table(moved(table, to)),
        DeValue::Array(list) => DeValue::Array(
            list.into_iter().map(|value| moved_value(value, to)).collect::<DeArray<'_>>(),
        ),
        value => value,
    };
    Spanned::new(to.clone(), value)
}

impl<'de> Deserialize<'de> for PresetName {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<PresetName, D::Error> {
        struct Known;
        impl Visitor<'_> for Known {
            type Value = PresetName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a preset in quotes")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<PresetName, E> {
                let known = NAMES.contains(&name);
                known.then_some(PresetName).ok_or_else(|| E::unknown_variant(name, &NAMES))
            }
        }
        input.deserialize_str(Known)
    }
}

impl JsonSchema for PresetName {
    fn schema_name() -> Cow<'static, str> {
        "Preset".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = |preset: &Preset| serde_json::json!({ "const": preset.name, "description": preset.summary });
        json_schema!({ "oneOf": PRESETS.iter().map(one).collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests;
