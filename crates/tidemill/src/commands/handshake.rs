//! `tidemill handshake`.

use anyhow::bail;
use forward::handshake::{self, Options, Report};

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
    /// As one JSON object, for scripts
    #[arg(long)]
    json: bool,
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
    super::print(&if args.json { json(&report) } else { report.to_string() })?;
    if !report.ok() {
        bail!("{}: the handshake failed", args.url);
    }
    Ok(())
}

fn json(report: &Report) -> String {
    let steps = report.steps.iter().map(|step| {
        serde_json::json!({ "name": step.name, "took_ms": step.took.as_secs_f64() * 1000.0 })
    });
    let checks = report.checks.iter().map(|check| {
        serde_json::json!({
            "name": check.name,
            "ok": check.ok,
            "expected": check.expected,
            "found": check.found,
            "section": check.section,
        })
    });
    let object = serde_json::json!({
        "url": report.endpoint.to_string(),
        "ok": report.ok(),
        "steps": steps.collect::<Vec<_>>(),
        "request": report.request,
        "response": String::from_utf8_lossy(&report.response),
        "accept": report.accept.value,
        "checks": checks.collect::<Vec<_>>(),
    });
    format!("{object:#}\n")
}
