//! `tidemill drivers`.

mod reference;

use anyhow::bail;
use device::{DRIVERS, settings};

/// Arguments.
#[derive(clap::Args)]
#[command(after_help = "\
Example: tidemill drivers gpio >> /etc/tidemill/tidemill.toml")]
pub(crate) struct Args {
    /// Print a driver's sample configuration, with every key
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
    let names: Vec<&str> = DRIVERS.iter().map(|driver| driver.name).collect();
    if let Some(name) = &args.name
        && !names.contains(&name.as_str())
    {
        match settings::meant(name, &names) {
            Some(meant) => bail!("there is no driver {name:?}; did you mean {meant:?}?"),
            None => bail!("there is no driver {name:?}; there are {}", names.join(", ")),
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
        return super::print(&format!("{:#}\n", serde_json::json!({ "drivers": all })));
    }
    let text: String = match args.name {
        Some(_) => {
            chosen.map(|driver| format!("# {}\n{}", driver.summary, driver.sample)).collect()
        }
        None => chosen.map(|driver| format!("{:<8}  {}\n", driver.name, driver.summary)).collect(),
    };
    super::print(&text)
}
