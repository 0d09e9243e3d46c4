//! A small vocabulary for the tests: a dashboard, and its clients.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use reading::{
    Body, Channel, ChannelSpec, Datum, Kind, Reading, Record, Seq, Timestamp, Unit, Value,
};
use serde_json::Value as Json;
use store::{Appender, Store};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::sync::CancellationToken;

use crate::feed::Patience;
use crate::http::{Limits, serve_within};
use crate::{Access, App, Config, Hub, Status};

/// Longer than anything here takes on a busy machine.
pub(super) const LONG: Duration = Duration::from_secs(20);

/// Limits that a test can wait for.
pub(super) fn quick() -> Limits {
    let ms = Duration::from_millis;
    let feed = Patience { ping: ms(200), silence: ms(1500), write: ms(1500), close: ms(500) };
    Limits { connections: 100, head: ms(500), answer: LONG, write: ms(1500), grace: ms(2000), feed }
}

pub(super) struct Dashboard {
    pub(super) address: SocketAddr,
    pub(super) control: PathBuf,
    /// What outputs were given.
    pub(super) written: Arc<Mutex<Vec<(Channel, Datum)>>>,
    pub(super) hub: Hub,
    pub(super) store: Store,
    pub(super) appender: Appender,
    pub(super) stop: CancellationToken,
    pub(super) tasks: JoinSet<()>,
    seq: u64,
    _folder: TempDir,
}

/// What a request was answered with.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
    /// As it is: its case matters.
    pub(super) cookie: Option<String>,
}

impl Answer {
    pub(super) fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The cookie that it sets, as a header of the next request.
    pub(super) fn cookie(&self) -> String {
        let set = self.cookie.as_ref().unwrap_or_else(|| panic!("no cookie: {self:?}"));
        format!("Cookie: {}", set.split(';').next().unwrap())
    }
}

/// A WebSocket client of the feed.
pub(super) struct Client<S>(pub(super) WebSocketStream<S>);

impl Dashboard {
    pub(super) async fn start() -> Dashboard {
        Dashboard::with(Config::default(), Limits::default()).await
    }

    pub(super) async fn with(config: Config, limits: Limits) -> Dashboard {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("tidemill.db");
        let specs = [
            spec("weather/temperature", Kind::Number, "Cel"),
            spec("panel/door", Kind::Boolean, ""),
            ChannelSpec { output: true, ..spec("panel/pump", Kind::Boolean, "") },
        ];
        let settings = store::Config { path, ..store::Config::default() };
        let (store, appender, writer, _) = Store::open(&settings, &specs, &[]).await.unwrap();
        let hub = Hub::new("greenhouse", store.epoch(), specs.to_vec());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let control = folder.path().join("control.sock");
        let socket = UnixListener::bind(&control).unwrap();
        let status: crate::StatusFn = {
            let store = store.clone();
            let gateway = "greenhouse".to_owned();
            Arc::new(move || Status {
                gateway: gateway.clone(),
                store: store.status(),
                time: Timestamp::now().to_string(),
                ..Status::default()
            })
        };
        let access = Access::open(&folder.path().join("access.json"));
        let written = Arc::new(Mutex::new(Vec::new()));
        let set: crate::SetFn = {
            let written = written.clone();
            Arc::new(move |channel, datum| {
                written.lock().unwrap().push((channel, datum));
                Box::pin(async { Ok(()) })
            })
        };
        let configuration = crate::Configuration {
            shown: Arc::new(|| "[gateway]\nid = \"greenhouse\"\n".to_owned()),
            ask: Arc::new(|ask| {
                Box::pin(async move {
                    match ask {
                        crate::Ask::Compare(text) if text.is_empty() => Err("it is empty".into()),
                        other => Ok(vec![format!("{other:?}")]),
                    }
                })
            }),
        };
        let app = App {
            config,
            hub: hub.clone(),
            store: store.clone(),
            status,
            access,
            set,
            line: Arc::new(|device| Err(format!("{device} can't be recorded"))),
            configuration,
        };
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { writer.run().await.unwrap() });
        let stopped = stop.clone();
        tasks.spawn(async move {
            serve_within(limits, listener, Some(socket), app, stopped).await.unwrap();
        });
        Dashboard {
            address,
            control,
            written,
            hub,
            store,
            appender,
            stop,
            tasks,
            seq: 0,
            _folder: folder,
        }
    }

    /// So many records of one channel, numbered on.
    pub(super) fn records(&mut self, channel: &str, count: u64) -> Vec<Record> {
        let channel: Channel = channel.parse().unwrap();
        let record = |seq| Record {
            epoch: self.store.epoch(),
            seq: Seq(seq),
            body: Body::Reading(Reading {
                channel: channel.clone(),
                at: Timestamp::now(),
                value: Value::Good(match channel.name() {
                    "door" => Datum::from(seq % 2 == 0),
                    _ => Datum::Number(seq as f64),
                }),
            }),
        };
        let first = self.seq + 1;
        self.seq += count;
        (first..=self.seq).map(record).collect()
    }

    pub(super) fn publish(&mut self, channel: &str, count: u64) {
        let records = self.records(channel, count);
        self.hub.publish(&records);
    }

    /// Keeps so many readings and waits until they are on disk.
    pub(super) async fn keep(&mut self, channel: &str, count: u64) {
        let records = self.records(channel, count);
        let last = records.last().unwrap().seq;
        self.hub.publish(&records);
        self.appender.append(records).await.unwrap();
        let mut committed = self.store.committed();
        timeout(LONG, committed.wait_for(|seq| *seq >= last)).await.unwrap().unwrap();
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A request with the right Host and these further headers.
    pub(super) async fn ask(&self, line: &str, headers: &[&str]) -> Answer {
        let mut head =
            format!("{line} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        for header in headers {
            head += &format!("{header}\r\n");
        }
        talk(self.connect().await, &head).await
    }

    /// A request with a body of JSON and these further headers.
    pub(super) async fn send(&self, line: &str, body: &str, headers: &[&str]) -> Answer {
        let length = format!("Content-Length: {}", body.len());
        let mut all = vec!["Content-Type: application/json", length.as_str()];
        all.extend(headers);
        let mut head = format!("{line} HTTP/1.1\r\nHost: {}\r\n", self.address);
        head += "Connection: close\r\n";
        for header in all {
            head += &format!("{header}\r\n");
        }
        talk_with(self.connect().await, &head, body).await
    }

    /// The same through the control socket, as the commands do.
    pub(super) async fn command(&self, line: &str, body: &str) -> Answer {
        let stream = UnixStream::connect(&self.control).await.unwrap();
        let head = format!(
            "{line} HTTP/1.1\r\nHost: tidemill\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        );
        talk_with(stream, &head, body).await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), &[]).await
    }

    pub(super) async fn json(&self, path: &str) -> Json {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_str(&answer.body).unwrap()
    }

    pub(super) async fn feed(&self) -> Client<TcpStream> {
        open(self.connect().await, &self.address.to_string(), &[]).await.unwrap()
    }
}

fn spec(channel: &str, kind: Kind, unit: &'static str) -> ChannelSpec {
    let (channel, unit) = (channel.parse().unwrap(), Unit::of(unit));
    ChannelSpec { channel, kind, unit, label: None, range: None, output: false }
}

/// Sends a head (without its empty line) and reads until the end.
pub(super) async fn talk(stream: impl AsyncRead + AsyncWrite + Unpin, head: &str) -> Answer {
    talk_with(stream, head, "").await
}

async fn talk_with(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    head: &str,
    body: &str,
) -> Answer {
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).await.unwrap();
    let mut text = Vec::new();
    timeout(LONG, stream.read_to_end(&mut text)).await.unwrap().unwrap();
    // Compressed bodies aren't asked for.
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let mut body = body.to_owned();
    if head.to_lowercase().contains("transfer-encoding: chunked") {
        body = unchunked(&body);
    }
    let cookie = head.lines().find(|line| line.to_lowercase().starts_with("set-cookie: "));
    let cookie = cookie.map(|line| line["set-cookie: ".len()..].to_owned());
    Answer { status, head: head.to_lowercase(), body, cookie }
}

fn unchunked(mut text: &str) -> String {
    let mut whole = String::new();
    loop {
        let (size, rest) = text.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return whole;
        }
        whole += &rest[..size];
        text = &rest[size + 2..];
    }
}

/// Opens the feed over any stream.
pub(super) async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    host: &str,
    headers: &[(&'static str, &str)],
) -> Result<Client<S>, Error> {
    let mut request = format!("ws://{host}/api/v1/live").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let (socket, _) = tokio_tungstenite::client_async(request, stream).await?;
    Ok(Client(socket))
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(super) async fn message(&mut self) -> Option<Result<Message, Error>> {
        timeout(LONG, self.0.next()).await.expect("a message in time")
    }

    /// The next frame of a type; frames of other types are passed over.
    pub(super) async fn frame(&mut self, kind: &str) -> Json {
        loop {
            let message = self.message().await.expect("still open").expect("no error");
            let Message::Text(text) = message else { continue };
            let frame: Json = serde_json::from_str(&text).unwrap();
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// The sequence numbers of the next `readings` frame.
    pub(super) async fn seqs(&mut self) -> Vec<u64> {
        seqs(&self.frame("readings").await)
    }

    pub(super) async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// Reads until the end; gives the close code, or 0 when there was none.
    pub(super) async fn end(&mut self) -> u16 {
        loop {
            match self.message().await {
                Some(Ok(Message::Close(frame))) => return frame.map_or(0, |f| f.code.into()),
                Some(Ok(_)) => (),
                Some(Err(_)) | None => return 0,
            }
        }
    }
}

pub(super) fn seqs(frame: &Json) -> Vec<u64> {
    frame["readings"].as_array().unwrap().iter().map(|r| r["seq"].as_u64().unwrap()).collect()
}
