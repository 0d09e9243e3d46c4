//! docs/drivers.md, written from what the drivers say of themselves.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use device::{DRIVERS, PRESETS};
use serde_json::Value as Json;

/// Keys, in alphabetical order, each with what the schema says of it.
type Keys = BTreeMap<String, Json>;

/// The whole page.
pub(super) fn markdown() -> String {
    let schemas: Vec<Json> = DRIVERS.iter().map(|driver| (driver.schema)().to_value()).collect();
    let device = |schema: &Json| keys(&schema["properties"]);
    let channel = |schema: &Json| {
        keys(&schema["properties"]["channel"]["additionalProperties"]["properties"])
    };
    // `channel` is a table of its own, and `driver` differs from driver to driver.
    let mut everywhere = common(&schemas.iter().map(device).collect::<Vec<_>>());
    everywhere.remove("channel");
    let of_channels = common(&schemas.iter().map(channel).collect::<Vec<_>>());

    let mut page = String::from(
        "# Drivers\n\n\
         <!-- Written by `tidemill drivers --markdown`; a test compares. UPDATE_EXPECT=1 cargo test \
         -p tidemill drivers rewrites it. -->\n\n\
         A device is a table `[device.NAME]`, its channels are the tables in `[device.NAME.channel]`. \
         `tidemill drivers NAME`\nprints a sample to start from, and `tidemill scan` one for what is \
         connected to this machine.\n\n",
    );
    for driver in DRIVERS {
        writeln!(page, "- [`{0}`](#{0}): {1}", driver.name, driver.summary).expect(STRING);
    }
    page += "\n## Keys of every device\n\n| key | default | meaning |\n| --- | --- | --- |\n";
    page += "| `driver` | | Which of the drivers below. |\n";
    page += "| `channel` | | The channels, by name. |\n";
    table(&mut page, &everywhere);
    page += "\n## Keys of every channel\n\n| key | default | meaning |\n| --- | --- | --- |\n";
    table(&mut page, &of_channels);
    if let Some(filters) = of_channels.get("filters") {
        page += "\n### Filters\n\nThey are applied in order, after `scale` and `offset`: \
                 `filters = [{ median = 5 }, { delta = 0.1 }]`.\n\n| filter | does |\n| --- | --- |\n";
        for filter in filters["items"]["oneOf"].as_array().into_iter().flatten() {
            let name = filter["required"][0].as_str().unwrap_or_default();
            writeln!(page, "| `{name}` | {} |", sentence(filter)).expect(STRING);
        }
    }
    for (driver, schema) in DRIVERS.iter().zip(&schemas) {
        write!(
            page,
            "\n## {}\n\n{}.\n\n```toml\n{}\n```\n",
            driver.name,
            capital(driver.summary),
            driver.sample.trim_end()
        )
        .expect(STRING);
        let mut own = without(device(schema), &everywhere);
        own.remove("driver");
        own.remove("channel");
        for (heading, own) in
            [("Its own keys", own), ("Keys of a channel", without(channel(schema), &of_channels))]
        {
            if !own.is_empty() {
                write!(page, "\n{heading}:\n\n| key | default | meaning |\n| --- | --- | --- |\n")
                    .expect(STRING);
                table(&mut page, &own);
            }
        }
        if driver.name == "serial" {
            presets(&mut page);
        }
    }
    page
}

/// The devices at a serial port that are known.
fn presets(page: &mut String) {
    page.push_str(
        "\n### Presets\n\n\
         With `preset = \"NAME\"` a device at a serial port needs no more than its port. `tidemill \
         drivers NAME` prints what is\nshown here. A Raspberry Pi's pins take 3.3 V and no more.\n",
    );
    for preset in PRESETS {
        write!(
            page,
            "\n#### {}\n\n{}.\n\n{}\n\n```toml\n{}\n```\n",
            preset.name,
            capital(preset.summary),
            preset.wiring,
            preset.sample().trim_end()
        )
        .expect(STRING);
    }
}

const STRING: &str = "a string takes all";

fn keys(properties: &Json) -> Keys {
    properties.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// What all of them say alike.
fn common(all: &[Keys]) -> Keys {
    let Some((first, others)) = all.split_first() else { return Keys::new() };
    let alike = |(key, value): &(&String, &Json)| others.iter().all(|o| o.get(*key) == Some(value));
    first.iter().filter(alike).map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn without(mut keys: Keys, others: &Keys) -> Keys {
    keys.retain(|key, value| others.get(key) != Some(value));
    keys
}

fn table(page: &mut String, keys: &Keys) {
    for (key, schema) in keys {
        row(page, key, schema);
    }
}

/// A key, and those of the table that it may be.
fn row(page: &mut String, key: &str, schema: &Json) {
    let default = match &schema["default"] {
        Json::Null | Json::Array(_) | Json::Object(_) => String::new(),
        Json::String(text) => format!("`\"{text}\"`"),
        other => format!("`{other}`"),
    };
    let mut meaning = sentence(schema);
    let words = words(schema);
    if !words.is_empty() {
        write!(meaning, " One of {}.", words.join(", ")).expect(STRING);
    }
    writeln!(page, "| `{key}` | {default} | {} |", meaning.trim()).expect(STRING);
    let mut inside = keys(&schema["properties"]);
    for one in ["oneOf", "anyOf"].iter().flat_map(|list| schema[*list].as_array()).flatten() {
        for (name, mut schema) in keys(&one["properties"]) {
            // Of one of several it says what this one is.
            if let (Json::Object(schema), Json::String(_)) = (&mut schema, &one["description"]) {
                schema.insert("description".into(), one["description"].clone());
            }
            inside.insert(name, schema);
        }
    }
    for (name, schema) in &inside {
        row(page, &format!("{key}.{name}"), schema);
    }
}

/// The description as one line that a table can hold.
fn sentence(schema: &Json) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// The words that a key may be, wherever the schema has them.
fn words(schema: &Json) -> Vec<String> {
    let quoted = |value: &Json| value.as_str().map(|text| format!("`\"{text}\"`"));
    let mut found: Vec<String> =
        schema["enum"].as_array().into_iter().flatten().filter_map(quoted).collect();
    for list in ["oneOf", "anyOf"] {
        for one in schema[list].as_array().into_iter().flatten() {
            found.extend(quoted(&one["const"]));
            found.extend(words(one));
            let table = one["required"].as_array().filter(|_| list == "oneOf");
            let names = table.into_iter().flatten().filter_map(Json::as_str);
            found.extend(names.map(|name| format!("`{{ {name} = … }}`")));
        }
    }
    found
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_docs_is_what_the_drivers_say() {
        expect_test::expect_file!["../../../../../docs/drivers.md"].assert_eq(&markdown());
    }

    #[test]
    fn every_driver_and_every_key_is_on_the_page() {
        let page = markdown();
        for driver in DRIVERS {
            assert!(page.contains(&format!("\n## {}\n", driver.name)), "{}", driver.name);
            let schema = (driver.schema)().to_value();
            for key in keys(&schema["properties"]).keys() {
                assert!(page.contains(&format!("| `{key}` |")), "{}: {key}", driver.name);
            }
        }
    }
}
