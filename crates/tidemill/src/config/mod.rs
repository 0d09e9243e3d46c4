//! The configuration file, checked whole before anything runs.

mod invalid;
mod ports;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context;
use device::settings::{self, ConfigError, Report};
use reading::{Channel, ChannelSpec, Kind, is_name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::Subscription;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use invalid::{Invalid, Problem};
use ports::Ports;

use crate::gateway;

/// The tables that a configuration may have.
const SECTIONS: &[&str] = &["gateway", "store", "dashboard", "forward", "device"];

/// A file is a few kilobytes. A larger one is not a configuration.
const FILE_MAX: u64 = 4 << 20;

/// Everything that the gateway is told.
#[derive(Clone, Default)]
pub struct Config {
    /// As it was written.
    pub text: String,
    /// `[gateway]`.
    pub gateway: Gateway,
    /// `[store]`.
    pub store: store::Config,
    /// `[dashboard]`.
    pub dashboard: dashboard::Config,
    /// `[forward.X]`, by name.
    pub forwarders: BTreeMap<String, forward::Config>,
    /// `[device.X]`, by name.
    pub devices: Vec<device::Config>,
}

/// The outputs that alarms of a device drive, and the keys that say so.
type Driven = Vec<(Vec<String>, Channel)>;

/// `[gateway]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Gateway {
    /// The name of this machine in topics and payloads: a-z, 0-9, '-' and '_'.
    /// By default the host name.
    pub id: String,
}

impl Default for Gateway {
    fn default() -> Gateway {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Gateway { id: name_of(&host) }
    }
}

/// A host name as a gateway's: `Pi.local` is `pi`.
fn name_of(host: &str) -> String {
    let first = host.trim().split('.').next().unwrap_or_default().to_ascii_lowercase();
    let keep = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' };
    let name: String = first.chars().map(keep).skip_while(|c| !c.is_alphanumeric()).collect();
    let name: String = name.chars().take(64).collect();
    if is_name(&name) { name } else { "tidemill".to_owned() }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`Invalid`] with everything that is wrong in it; any other error when it
    /// can't be read.
    pub fn load(path: &Path) -> anyhow::Result<Config> {
        let bytes = bytes_of(path)?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let valid = String::from_utf8_lossy(&error.as_bytes()[..at]).into_owned();
            let message = "not UTF-8; save the file as UTF-8".to_owned();
            let error = ConfigError { span: Some(at..at), path: String::new(), message };
            Invalid::new(path, &valid, vec![error])
        })?;
        Ok(Config::parse(&text, path)?)
    }

    /// Checks a text; `path` is where it is from, for the errors.
    ///
    /// # Errors
    /// Everything that is wrong in it.
    pub fn parse(text: &str, path: &Path) -> Result<Config, Invalid> {
        let (table, syntax) = DeTable::parse_recoverable(text);
        let mut errors: Vec<ConfigError> = syntax
            .iter()
            .map(|error| ConfigError {
                span: error.span(),
                path: String::new(),
                message: syntax_of(error, text),
            })
            .collect();
        // What could be parsed of a broken file says nothing about the rest.
        let config = errors.is_empty().then(|| Config::of(table, &mut errors));
        match config {
            Some(config) if errors.is_empty() => Ok(Config { text: text.to_owned(), ..config }),
            _ => Err(Invalid::new(path, text, errors)),
        }
    }

    fn of(table: Spanned<DeTable<'_>>, errors: &mut Vec<ConfigError>) -> Config {
        let mut config = Config::default();
        let mut devices = None;
        for (key, value) in table.into_inner() {
            let name = key.get_ref().as_ref();
            if !SECTIONS.contains(&name) {
                let meant = settings::meant(name, SECTIONS);
                let mend = meant.map_or_else(
                    || format!("expected one of {}", SECTIONS.join(", ")),
                    |meant| format!("did you mean `{meant}`?"),
                );
                errors.push(ConfigError {
                    span: Some(key.span()),
                    path: name.to_owned(),
                    message: format!("unknown section; {mend}"),
                });
                continue;
            }
            let Some(section) = table_of(value, name, errors) else { continue };
            match name {
                "gateway" => config.gateway = gateway_of(section, errors),
                "store" => config.store = store_of(section, errors),
                "dashboard" => config.dashboard = dashboard_of(section, errors),
                "forward" => {
                    for (name, section) in named(section, "forward", errors) {
                        if let Some(forwarder) = forwarder_of(&name, section, errors) {
                            config.forwarders.insert(name, forwarder);
                        }
                    }
                }
                // They are told where the store is, which may stand behind them.
                _ => devices = Some(section),
            }
        }
        let mut ports = Ports::default();
        let devices = devices.map(|all| named(all, "device", errors)).unwrap_or_default();
        let (mut drivers, mut broken) = (Vec::new(), Vec::new());
        for (name, mut section) in devices {
            ports.take(&name, &section, errors);
            watch(&mut section, &config.store.path);
            let (span, table) = (section.span(), section.clone());
            if let Some(device) = device::Config::parse(&name, section, errors) {
                ports::take_part(&config.devices, &device, span, errors);
                drivers.push((device.driven(), table));
                config.devices.push(device);
            } else {
                broken.push(name);
            }
        }
        config.check_driven(drivers, &broken, errors);
        config
    }

    /// An alarm can only switch what there is to be switched. What a device has
    /// that is wrong itself nobody knows.
    fn check_driven(
        &self,
        drivers: Vec<(Driven, Spanned<DeTable<'_>>)>,
        broken: &[String],
        errors: &mut Vec<ConfigError>,
    ) {
        for (device, (driven, table)) in self.devices.iter().zip(drivers) {
            let path = format!("device.{}", device.name());
            let known = |output: &Channel| !broken.iter().any(|name| name == output.device());
            for (keys, output) in driven.into_iter().filter(|(_, output)| known(output)) {
                let specs = self.devices.iter().flat_map(device::Config::channels);
                let wrong = match specs.into_iter().find(|spec| spec.channel == output) {
                    Some(spec) if !spec.output => format!("{output} is measured, not switched"),
                    Some(spec) if spec.kind != Kind::Boolean => {
                        format!(
                            "{output} is a {}: only what is on or off follows",
                            spec.kind.as_str()
                        )
                    }
                    Some(_) => continue,
                    None => format!("there is no channel {output}"),
                };
                let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                Report::new(table.clone(), &path, errors).at(&keys, wrong);
            }
        }
    }

    /// Every channel there is: the devices', then the gateway's own.
    pub fn channels(&self) -> Vec<ChannelSpec> {
        let devices = self.devices.iter().flat_map(device::Config::channels);
        devices.chain(self.own_channels()).collect()
    }

    /// The channels of the gateway itself.
    pub(crate) fn own_channels(&self) -> Vec<ChannelSpec> {
        gateway::channels(self.forwarders.keys().map(String::as_str))
            .expect("names were checked when the file was")
    }

    /// Who forwards what, in the order of `forwarders`.
    pub(crate) fn subscriptions(&self) -> Vec<Subscription> {
        let of = |(name, config): (&String, &forward::Config)| Subscription {
            forwarder: name.clone(),
            channels: config.patterns(),
        };
        self.forwarders.iter().map(of).collect()
    }
}

/// What the TOML parser says, in the words of those who write the file.
fn syntax_of(error: &toml::de::Error, text: &str) -> String {
    let at = error.span().unwrap_or_default();
    let key = text.get(at).unwrap_or_default().trim();
    match error.message() {
        "duplicate key" => format!("`{key}` stands here for the second time; leave one out"),
        "string values must be quoted, expected literal string" => {
            "a text must be in quotes: \"…\"".to_owned()
        }
        "invalid basic string, expected `\"`" => {
            "the text doesn't end: a quotation mark is missing".to_owned()
        }
        "key with no value, expected `=`" => "expected `key = value`".to_owned(),
        other => other.to_owned(),
    }
}

/// The bytes of a file that is small enough to be one of ours.
fn bytes_of(path: &Path) -> anyhow::Result<Vec<u8>> {
    let name = path.display();
    let size = fs::metadata(path).map(|about| about.len()).unwrap_or(0);
    if path.is_file() && size > FILE_MAX {
        anyhow::bail!("{name}: {size} bytes is too large for a configuration");
    }
    fs::read(path).with_context(|| {
        let mend = match path {
            path if path.is_dir() => "it is a folder: name a file with --config",
            path if path.exists() => "try it with sudo, or name another with --config",
            _ => "name another with --config",
        };
        format!("the configuration {name} can't be read; {mend}")
    })
}

/// A `system` device watches the disk that the store is on, unless its table
/// names another.
fn watch(section: &mut Spanned<DeTable<'_>>, store: &Path) {
    let span = section.span();
    let table = section.get_mut();
    let is_system = table.get("driver").and_then(|driver| driver.get_ref().as_str());
    if is_system != Some("system") || table.contains_key("disk") {
        return;
    }
    let Some(folder) = store.parent().and_then(Path::to_str) else { return };
    let disk = DeValue::String(folder.to_owned().into());
    table.insert(Spanned::new(span.clone(), "disk".into()), Spanned::new(span, disk));
}

fn table_of<'a>(
    value: Spanned<DeValue<'a>>,
    path: &str,
    errors: &mut Vec<ConfigError>,
) -> Option<Spanned<DeTable<'a>>> {
    let span = value.span();
    match value.into_inner() {
        DeValue::Table(table) => Some(Spanned::new(span, table)),
        other => {
            let found = settings::type_of(&other);
            let message = format!("expected a table [{path}], found {found}");
            errors.push(ConfigError { span: Some(span), path: path.to_owned(), message });
            None
        }
    }
}

/// The tables below `[forward]` or `[device]`, each with a valid name.
fn named<'a>(
    section: Spanned<DeTable<'a>>,
    kind: &str,
    errors: &mut Vec<ConfigError>,
) -> Vec<(String, Spanned<DeTable<'a>>)> {
    let mut tables = Vec::new();
    for (key, value) in section.into_inner() {
        let name = key.get_ref().to_string();
        let path = format!("{kind}.{name}");
        let refused = if !is_name(&name) {
            Some(
                reading::Channel::new(&name, "x").map_or_else(|e| e.to_string(), |_| String::new()),
            )
        } else if kind == "device" && name == gateway::DEVICE {
            Some("this name is the gateway's own; choose another".to_owned())
        } else if kind == "forward" && gateway::channels([name.as_str()].into_iter()).is_err() {
            Some("this name is too long for a forwarder: use at most 50 characters".to_owned())
        } else {
            None
        };
        if let Some(message) = refused {
            errors.push(ConfigError { span: Some(key.span()), path, message });
        } else if let Some(table) = table_of(value, &path, errors) {
            tables.push((name, table));
        }
    }
    // In the order of the file, as people think of them.
    tables.sort_by_key(|(_, table)| table.span().start);
    tables
}

fn gateway_of(section: Spanned<DeTable<'_>>, errors: &mut Vec<ConfigError>) -> Gateway {
    let gateway: Gateway =
        settings::parse(section.clone(), "gateway", &[], errors).unwrap_or_default();
    if !is_name(&gateway.id) {
        Report::new(section, "gateway", errors)
            .at(&["id"], reading::InvalidName(gateway.id.clone()).to_string());
    }
    gateway
}

fn store_of(section: Spanned<DeTable<'_>>, errors: &mut Vec<ConfigError>) -> store::Config {
    let config: store::Config =
        settings::parse(section.clone(), "store", &[], errors).unwrap_or_default();
    let mut report = Report::new(section, "store", errors);
    for (key, message) in config.check() {
        report.at(&[key], message);
    }
    config
}

fn dashboard_of(section: Spanned<DeTable<'_>>, errors: &mut Vec<ConfigError>) -> dashboard::Config {
    let config: dashboard::Config =
        settings::parse(section.clone(), "dashboard", &[], errors).unwrap_or_default();
    if let Err(wrong) = config.check() {
        let mut report = Report::new(section, "dashboard", errors);
        for error in wrong {
            // hosts[1] is the key `hosts`, and its second item.
            let keys: Vec<&str> =
                error.key.split(['[', ']']).filter(|part| !part.is_empty()).collect();
            report.at(&keys, error.message);
        }
    }
    config
}

fn forwarder_of(
    name: &str,
    section: Spanned<DeTable<'_>>,
    errors: &mut Vec<ConfigError>,
) -> Option<forward::Config> {
    let path = format!("forward.{name}");
    let before = errors.len();
    let config: forward::Config = settings::parse(section.clone(), &path, &[], errors)?;
    for error in &mut errors[before..] {
        // The likeliest key would be meant, and it isn't the word itself that is.
        if error.path == format!("{path}.password") {
            error.message = "a password has no place in this file: use `password_file`, \
                             `credential` or `password_env`"
                .to_owned();
        }
    }
    if let Err(wrong) = config.check() {
        let mut report = Report::new(section, &path, errors);
        for error in wrong {
            report.at(&[error.key], error.message);
        }
    }
    Some(config)
}

/// The JSON Schema of the file.
pub fn schema() -> serde_json::Value {
    let drivers: Vec<_> =
        device::DRIVERS.iter().map(|driver| (driver.schema)().to_value()).collect();
    serde_json::json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Tidemill configuration",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "gateway": schema_of::<Gateway>(),
            "store": schema_of::<store::Config>(),
            "dashboard": schema_of::<dashboard::Config>(),
            "forward": {
                "type": "object",
                "additionalProperties": schema_of::<forward::Config>(),
            },
            "device": { "type": "object", "additionalProperties": { "oneOf": drivers } },
        },
    })
}

/// Of one section, without references: they would lead out of it.
fn schema_of<T: JsonSchema>() -> serde_json::Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

#[cfg(test)]
mod tests;
