//! `tidemill drivers`.

mod reference;

use anyhow::bail;
use device::{DRIVERS, PRESETS, Preset, settings};

/// Arguments.
#[derive(clap::Args)]
#[command(after_help = "\
Example: tidemill drivers gpio >> /etc/tidemill/tidemill.toml")]
pub(crate) struct Args {
    /// Print the sample configuration of a driver, or of a device that is known
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// As one JSON object, for scripts
    #[arg(long)]
    json: bool,
    /// As docs/drivers.md has them
    #[arg(long, hide = true, conflicts_with_all = ["name", "json"])]
    markdown: bool,
}

/// Lists the drivers, or prints one's sample.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.markdown {
        return super::print(&reference::markdown());
    }
    if let Some(preset) = args.name.as_ref().and_then(|name| preset(name)) {
        let text = format!("# {}\n# {}\n{}", preset.summary, preset.wiring, preset.sample());
        return match args.json {
            false => super::print(&text),
            true => super::print(&format!("{:#}\n", as_json(preset))),
        };
    }
    let drivers = DRIVERS.iter().map(|driver| driver.name);
    let names: Vec<&str> = drivers.chain(PRESETS.iter().map(|preset| preset.name)).collect();
    if let Some(name) = &args.name
        && !names.contains(&name.as_str())
    {
        match settings::meant(name, &names) {
            Some(meant) => bail!("there is no driver or preset {name:?}; did you mean {meant:?}?"),
            None => bail!("there is no driver or preset {name:?}; there are {}", names.join(", ")),
        }
    }
    let chosen =
        DRIVERS.iter().filter(|driver| args.name.as_ref().is_none_or(|n| n == driver.name));
    if args.json {
        let all: Vec<_> = chosen
            .map(|driver| {
                serde_json::json!({
                    "name": driver.name,
                    "summary": driver.summary,
                    "sample": driver.sample,
                    "schema": (driver.schema)().to_value(),
                })
            })
            .collect();
        let presets: Vec<_> = PRESETS.iter().map(as_json).collect();
        let all = match args.name {
            Some(_) => serde_json::json!({ "drivers": all }),
            None => serde_json::json!({ "drivers": all, "presets": presets }),
        };
        return super::print(&format!("{all:#}\n"));
    }
    let text: String = match args.name {
        Some(_) => {
            chosen.map(|driver| format!("# {}\n{}", driver.summary, driver.sample)).collect()
        }
        None => {
            let line = |name: &str, summary: &str| format!("{name:<12}  {summary}\n");
            let drivers = chosen.map(|driver| line(driver.name, driver.summary));
            let presets = PRESETS.iter().map(|preset| line(preset.name, preset.summary));
            let heading = "\nDevices at a serial port that are known, as preset = \"NAME\":\n";
            drivers.chain([heading.to_owned()]).chain(presets).collect()
        }
    };
    super::print(&text)
}

fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

fn as_json(preset: &Preset) -> serde_json::Value {
    serde_json::json!({
        "name": preset.name,
        "summary": preset.summary,
        "wiring": preset.wiring,
        "sample": preset.sample(),
    })
}
