//! Where the log goes: to journald when systemd runs us, else to stderr.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

/// Ours at `info`, others' libraries when something is wrong.
const DEFAULT: &str = "warn,tidemill=info,device=info,store=info,forward=info,dashboard=info";

/// Starts logging. `filter` is what `--log` says, else `RUST_LOG` rules.
///
/// # Errors
/// When the filter isn't one that `tracing` users know.
pub(crate) fn start(filter: Option<&str>) -> anyhow::Result<()> {
    let from_env = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let text = filter.map(str::to_owned).or(from_env).unwrap_or_else(|| DEFAULT.to_owned());
    let filter: EnvFilter = text.parse().map_err(|error| {
        anyhow::anyhow!("log filter {text:?}: {error}; write e.g. info, or warn,forward=debug")
    })?;
    tracing_subscriber::registry().with(target().with_filter(filter)).init();
    Ok(())
}

fn target() -> Box<dyn Layer<Registry> + Send + Sync> {
    // systemd sets this for a service whose stderr is the journal.
    if std::env::var_os("JOURNAL_STREAM").is_some()
        && let Ok(journal) = tracing_journald::layer()
    {
        return Box::new(journal.with_field_prefix(None));
    }
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    Box::new(fmt::layer().with_writer(std::io::stderr).with_ansi(colour))
}
