//! `tidemill set`.

use anyhow::{Context, anyhow, bail};
use hyper::Method;
use reading::Channel;
use serde::Deserialize;
use serde_json::{Value, json};

use super::control::Gateway;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The output, such as panel/pump
    channel: Channel,
    /// true or false, a number, or a text, as the channel has it
    #[arg(allow_hyphen_values = true)]
    value: String,
    #[command(flatten)]
    gateway: Gateway,
}

#[derive(Deserialize)]
struct Channels {
    channels: Vec<Described>,
}

#[derive(Deserialize)]
struct Described {
    channel: String,
    kind: String,
}

/// Writes an output and waits until its device has taken the value.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let Args { channel, value, gateway } = args;
    super::runtime()?.block_on(async {
        let known = gateway.get("/api/v1/channels").await?;
        let Channels { channels } = serde_json::from_str(&known)
            .context("understand the gateway's answer; is it of the same version?")?;
        let found = channels.iter().find(|known| known.channel == channel.as_str());
        let kind = found.map(|known| known.kind.as_str());
        let kind = kind.ok_or_else(|| anyhow!("there is no channel {channel}"))?;
        let body = json!({ "value": typed(kind, &value)? });
        let path = format!("/api/v1/channels/{channel}");
        gateway.send(Method::POST, &path, &body).await?;
        Ok(())
    })
}

/// The text as the channel's type.
fn typed(kind: &str, text: &str) -> anyhow::Result<Value> {
    Ok(match (kind, text) {
        ("boolean", "true" | "on" | "1") => true.into(),
        ("boolean", "false" | "off" | "0") => false.into(),
        ("boolean", _) => bail!("{text:?} is neither true nor false"),
        ("number", _) => {
            let number: f64 = text.parse().with_context(|| format!("{text:?} is not a number"))?;
            if !number.is_finite() {
                bail!("{text:?} is not a number that can be written");
            }
            number.into()
        }
        _ => text.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_of_its_channels_type() {
        assert_eq!(typed("boolean", "on").unwrap(), json!(true));
        assert_eq!(typed("number", "-1.5").unwrap(), json!(-1.5));
        assert_eq!(typed("text", "1").unwrap(), json!("1"));
        for (kind, text) in [("boolean", "yes"), ("number", "nan"), ("number", "x")] {
            assert!(typed(kind, text).is_err(), "{kind} {text}");
        }
    }
}
