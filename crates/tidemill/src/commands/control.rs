//! How a command reaches the running gateway: its API over a Unix socket.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request};
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
    /// The gateway of a configuration file.
    pub(crate) fn of(config: &Path) -> Gateway {
        Gateway { config: Some(config.to_owned()), socket: None }
    }

    /// The file it is configured by.
    pub(crate) fn file(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new("/etc/tidemill/tidemill.toml"))
    }

    /// Connects to its socket.
    pub(crate) async fn connect(&self) -> anyhow::Result<UnixStream> {
        let places = self.places()?;
        let (mut failed, mut absent) = (Vec::new(), true);
        for place in &places {
            match UnixStream::connect(place).await {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    absent &= is_absent(&error);
                    failed.push(refusal(place, &error));
                }
            }
        }
        Err(Unreachable { why: failed.join("; "), absent }.into())
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
        Ok(self.ask(Request::get(path).body(Full::default())?).await?.body)
    }

    /// Asks the API with a body, or to forget something.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: &serde_json::Value,
    ) -> anyhow::Result<String> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body.to_string()))?;
        Ok(self.ask(request).await?.body)
    }

    /// Asks anything.
    ///
    /// # Errors
    /// Also when the gateway refuses, with its reason.
    pub(crate) async fn ask(&self, mut request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
        request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
        let path = request.uri().path().to_owned();
        let io = TokioIo::new(self.connect().await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
        let answer = async {
            let response = sender.send_request(request).await?;
            let (head, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            anyhow::Ok((head, String::from_utf8_lossy(&body).into_owned()))
        };
        let connection = async {
            connection.await.ok();
            // The answer decides how this ends.
            std::future::pending::<()>().await
        };
        let (head, body) = tokio::select! {
            answer = answer => answer.with_context(|| format!("ask the gateway for {path}"))?,
            () = connection => unreachable!("it never completes"),
        };
        if !head.status.is_success() {
            return Err(refused(head.status, body));
        }
        Ok(Answer { headers: head.headers, body })
    }

    /// Asks for what has no end, and gives each piece of it to `each`.
    ///
    /// # Errors
    /// Also when the gateway refuses, with its reason, and whatever `each` says.
    pub(crate) async fn follow(
        &self,
        mut request: Request<Full<Bytes>>,
        mut each: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
        let io = TokioIo::new(self.connect().await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
        let follow = async {
            let response = sender.send_request(request).await?;
            let (head, mut body) = response.into_parts();
            if !head.status.is_success() {
                let body = body.collect().await?.to_bytes();
                return Err(refused(head.status, String::from_utf8_lossy(&body).into_owned()));
            }
            while let Some(frame) = body.frame().await {
                if let Some(piece) = frame?.data_ref() {
                    each(piece)?;
                }
            }
            Ok(())
        };
        let connection = async {
            connection.await.ok();
            // What came is followed to its end.
            std::future::pending::<()>().await
        };
        tokio::select! {
            followed = follow => followed,
            () = connection => unreachable!("it never completes"),
        }
    }
}

/// No gateway answers.
#[derive(Debug)]
pub(crate) struct Unreachable {
    why: String,
    /// Because none runs, as far as one can tell.
    pub(crate) absent: bool,
}

impl std::fmt::Display for Unreachable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no gateway answers: {}", self.why)
    }
}

impl std::error::Error for Unreachable {}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
}

/// Why a socket can't be had, and what to do.
fn refusal(place: &Path, error: &std::io::Error) -> String {
    let name = place.display();
    match error.kind() {
        ErrorKind::NotFound => {
            format!(
                "there is no {name} (is it running? systemctl status tidemill; --socket or --config name another)"
            )
        }
        ErrorKind::ConnectionRefused => {
            format!("{name} is left over from one that has ended (systemctl start tidemill)")
        }
        ErrorKind::PermissionDenied => {
            format!("{name} is only for root and the gateway's own user (use sudo)")
        }
        _ => format!("{name}: {}", super::words(error)),
    }
}

/// Why the gateway refuses.
fn refused(status: hyper::StatusCode, body: String) -> anyhow::Error {
    let problem: Option<Problem> = serde_json::from_str(&body).ok();
    let why = problem.map_or(body, |problem| problem.error);
    anyhow::anyhow!("the gateway refuses ({}): {}", status.as_u16(), why.trim_end())
}

/// What the gateway answered.
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

#[derive(serde::Deserialize)]
struct Problem {
    error: String,
}

/// A path for messages.
impl std::fmt::Display for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let named: Option<&Path> = self.socket.as_deref().or(self.config.as_deref());
        named.unwrap_or(Path::new("the local gateway")).display().fmt(f)
    }
}
