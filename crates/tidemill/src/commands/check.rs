//! `tidemill check`.

use std::path::Path;

use tidemill::Config;

/// Says what the configuration amounts to, or every error in it.
pub(crate) fn run(path: &Path) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    let channels = config.channels().len();
    let (devices, forwarders) = (config.devices.len(), config.forwarders.len());
    super::print(&format!(
        "{}: valid: gateway {:?}, {devices} device(s) with {channels} channel(s), {forwarders} forwarder(s)\n",
        path.display(),
        config.gateway.id,
    ))
}
