//! `tidemill handshake`.

use anyhow::bail;
use forward::handshake::{self, Options};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where: ws://HOST:PORT/PATH or wss://…
    #[arg(value_name = "URL")]
    url: String,
    /// The Origin header to send
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,
    /// The sub-protocol to offer: mqtt, or the older mqttv3.1
    #[arg(long, value_name = "NAME")]
    subprotocol: Option<String>,
    /// Send an MQTT CONNECT after it
    #[arg(long)]
    mqtt: bool,
}

/// Prints request and response as sent, and what is right or wrong about them.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    // MQTT over WebSocket must name the sub-protocol: MQTT 3.1.1, section 6.
    let implied = args.mqtt.then(|| "mqtt".to_owned());
    let options = Options {
        origin: args.origin.clone(),
        subprotocol: args.subprotocol.clone().or(implied),
        mqtt: args.mqtt,
        ..Options::default()
    };
    let report = super::runtime()?.block_on(handshake::perform(&args.url, &options))?;
    super::print(&report.to_string())?;
    if !report.ok() {
        bail!("{}: the handshake failed", args.url);
    }
    Ok(())
}
