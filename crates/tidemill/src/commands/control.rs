//! How a command reaches the running gateway: its API over a Unix socket.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use tidemill::Config;
use tokio::net::UnixStream;

/// Which gateway.
#[derive(clap::Args)]
pub(crate) struct Gateway {
    /// The configuration of the gateway [default: /etc/tidemill/tidemill.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Its control socket
    #[arg(long, value_name = "SOCKET", conflicts_with = "config")]
    socket: Option<PathBuf>,
}

impl Gateway {
    /// Connects to its socket.
    pub(crate) async fn connect(&self) -> anyhow::Result<UnixStream> {
        let places = self.places()?;
        let mut failed = Vec::new();
        for place in &places {
            match UnixStream::connect(place).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failed.push(format!("{}: {error}", place.display())),
            }
        }
        bail!(
            "no gateway answers ({}); is it running (systemctl status tidemill), and are you root \
             or its user? Name its socket with --socket, or its file with --config",
            failed.join("; ")
        )
    }

    fn places(&self) -> anyhow::Result<Vec<PathBuf>> {
        if let Some(socket) = &self.socket {
            return Ok(vec![socket.clone()]);
        }
        let service = PathBuf::from("/run/tidemill/control.sock");
        match &self.config {
            Some(file) => {
                let beside = tidemill::control_socket(&Config::load(file)?);
                Ok(vec![beside, service])
            }
            None => Ok(vec![service, tidemill::control_socket(&Config::default())]),
        }
    }

    /// Asks the API.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<String> {
        let io = TokioIo::new(self.connect().await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
        let request = Request::get(path).header(HOST, "localhost").body(Empty::<Bytes>::new())?;
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            anyhow::Ok((status, String::from_utf8_lossy(&body).into_owned()))
        };
        let connection = async {
            connection.await.ok();
            // The answer decides how this ends.
            std::future::pending::<()>().await
        };
        let (status, body) = tokio::select! {
            answer = answer => answer.with_context(|| format!("ask the gateway for {path}"))?,
            () = connection => unreachable!("it never completes"),
        };
        if !status.is_success() {
            bail!("the gateway answers {status} to {path}: {body}");
        }
        Ok(body)
    }
}

/// A path for messages.
impl std::fmt::Display for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named: Option<&Path> = self.socket.as_deref().or(self.config.as_deref());
        named.unwrap_or(Path::new("the local gateway")).display().fmt(f)
    }
}
