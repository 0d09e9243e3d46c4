//! `tidemill schema`.

/// Prints the JSON Schema of the configuration.
pub(crate) fn run() -> anyhow::Result<()> {
    super::print(&format!("{:#}\n", tidemill::config::schema()))
}
