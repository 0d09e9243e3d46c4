//! `tidemill check`.

use serde_json::json;
use tidemill::{Config, Invalid};

/// Arguments.
#[derive(clap::Args)]
#[command(after_help = "\
Exit status: 0 when it is valid, 78 when it isn't, 1 when it can't be read.

Example: tidemill check --config new.toml && sudo cp new.toml /etc/tidemill/tidemill.toml")]
pub(crate) struct Args {
    #[command(flatten)]
    place: crate::Place,
    /// As one JSON object, for scripts and editors
    #[arg(long)]
    json: bool,
}

/// Says what the configuration amounts to, or every error in it.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let path = args.place.path();
    let loaded = Config::load(path);
    if args.json {
        let problems = match &loaded {
            Ok(_) => Some([].as_slice()),
            Err(error) => error.downcast_ref::<Invalid>().map(Invalid::problems),
        };
        if let Some(problems) = problems {
            let object = json!({ "file": path, "valid": loaded.is_ok(), "errors": problems });
            super::print(&format!("{object:#}\n"))?;
        }
    }
    let config = loaded?;
    if args.json {
        return Ok(());
    }
    let channels = config.channels().len();
    let (devices, forwarders) = (config.devices.len(), config.forwarders.len());
    super::print(&format!(
        "{}: valid: gateway {:?}, {devices} device(s) with {channels} channel(s), {forwarders} forwarder(s)\n",
        path.display(),
        config.gateway.id,
    ))
}
