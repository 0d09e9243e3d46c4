//! `tidemill watch`: the feed in the terminal.

use anyhow::{Context, bail};
use futures_util::{SinkExt, Stream, TryStreamExt};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::control::Gateway;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The feed of another gateway: ws://HOST:8080/api/v1/live, or http://HOST:8080
    #[arg(value_name = "URL")]
    url: Option<String>,
    /// One JSON object a line, a reading each
    #[arg(long)]
    json: bool,
    /// Only these channels, such as 'weather/*'; may be given more than once
    #[arg(long, value_name = "PATTERN")]
    channel: Vec<reading::Pattern>,
    #[command(flatten)]
    gateway: Gateway,
}

/// The frames that are shown; others are for browsers.
#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow, default)]
    readings: Vec<&'a RawValue>,
    count: Option<u64>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Reading {
    channel: String,
    time: String,
    value: Value,
    quality: String,
    reason: Option<String>,
}

/// Follows the feed until it ends or somebody interrupts.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    super::runtime()?.block_on(async {
        match &args.url {
            None => {
                let stream = args.gateway.connect().await?;
                follow(stream, "ws://localhost/api/v1/live", &args).await
            }
            Some(url) => {
                let url = feed(url)?;
                let request = url.as_str().into_client_request()?;
                let host = request.uri().host().unwrap_or_default().trim_matches(['[', ']']);
                let port = request.uri().port_u16().unwrap_or(80);
                let stream = TcpStream::connect((host, port)).await.with_context(|| {
                    format!("connect to {host}:{port}; is the gateway running there?")
                })?;
                follow(stream, &url, &args).await
            }
        }
    })
}

/// The address of the feed, given what a person copies from a browser.
fn feed(url: &str) -> anyhow::Result<String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        bail!("{url:?} is not a URL: write http://HOST:8080 or ws://HOST:8080/api/v1/live");
    };
    if !matches!(scheme, "http" | "ws") {
        bail!("{url:?}: the feed can be followed over http or ws, not {scheme}");
    }
    match rest.split_once('/') {
        None => Ok(format!("ws://{rest}/api/v1/live")),
        Some((host, "")) => Ok(format!("ws://{host}/api/v1/live")),
        Some(_) => Ok(format!("ws://{rest}")),
    }
}

async fn follow<S>(stream: S, url: &str, args: &Args) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut socket, _) =
        client_async(url, stream).await.with_context(|| format!("open the feed at {url}"))?;
    if !args.channel.is_empty() {
        let channels: Vec<&str> = args.channel.iter().map(reading::Pattern::as_str).collect();
        let subscribe = serde_json::json!({ "type": "subscribe", "channels": channels });
        socket.send(Message::text(subscribe.to_string())).await?;
    }
    show(&mut socket, args.json).await.with_context(|| format!("follow the feed at {url}"))
}

async fn show<S, E>(socket: &mut S, json: bool) -> anyhow::Result<()>
where
    S: Stream<Item = Result<Message, E>> + Unpin,
    E: std::error::Error + Send + Sync + 'static,
{
    while let Some(message) = socket.try_next().await? {
        let Message::Text(text) = message else { continue };
        let frame: Frame<'_> = serde_json::from_str(&text)?;
        for raw in frame.readings {
            let line = if json { raw.get().to_owned() } else { line(raw.get())? };
            super::print(&format!("{line}\n"))?;
        }
        match frame.kind.as_str() {
            "skipped" => eprintln!("tidemill: {} readings skipped", frame.count.unwrap_or(0)),
            "error" => eprintln!("tidemill: the gateway says: {}", frame.error.unwrap_or_default()),
            _ => (),
        }
    }
    bail!("the gateway closed the feed")
}

fn line(raw: &str) -> serde_json::Result<String> {
    let Reading { channel, time, value, quality, reason } = serde_json::from_str(raw)?;
    let value = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(match reason {
        None => format!("{time}  {channel:<32} {value}"),
        Some(reason) => format!("{time}  {channel:<32} {value}  ({quality}: {reason})"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_browser_shows_is_an_address_too() {
        for (given, expected) in [
            ("http://pi.local:8080/", "ws://pi.local:8080/api/v1/live"),
            ("http://pi.local:8080", "ws://pi.local:8080/api/v1/live"),
            ("ws://10.0.0.7:8080/api/v1/live", "ws://10.0.0.7:8080/api/v1/live"),
        ] {
            assert_eq!(feed(given).unwrap(), expected);
        }
        assert!(feed("pi.local").is_err() && feed("ftp://pi").is_err());
    }

    #[test]
    fn a_line_shows_a_bad_reading_with_its_reason() {
        let raw = r#"{"seq":1,"channel":"a/b","time":"2026-11-24T08:20:03.000000Z","value":null,"quality":"bad","reason":"absent"}"#;
        assert_eq!(
            line(raw).unwrap(),
            format!("2026-11-24T08:20:03.000000Z  {:<32} -  (bad: absent)", "a/b")
        );
    }
}
