//! The feed: one client's WebSocket (RFC 6455), JSON text frames both ways.
//!
//! The gateway says `hello`, then `status` and `readings` as they come, and
//! `hello` anew when the channels are others; a client may say `subscribe`,
//! `resume` and `set`. Whatever a client says or doesn't, it costs one message
//! each way, its buffers, and a position in the hub.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use reading::{Epoch, Seq};
use tokio::sync::watch;
use tokio::time::{
    Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout, timeout_at,
};
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::frame::{self, Frame, Request};
use crate::guard::{Caller, Refusal};
use crate::history::History;
use crate::hub::{self, Filter, Hub, Subscriber, Taken};
use crate::outputs::Outputs;
use crate::pulse::Pulse;
use crate::routes::Need;
use crate::upgrade::Accepted;
use crate::ws::{Broken, Code, Event, Prepared, Socket};

/// The longest message of a client: a subscription of 32 patterns fits thrice.
const MESSAGE_MAX: usize = 16 << 10;

/// A client may say this much at once, then one message each [`PACE`]. Beyond it
/// is simply not read, so that TCP slows it down.
const BURST_MAX: u32 = 32;

/// The pace of a client that has used up its burst.
const PACE: Duration = Duration::from_millis(20);

/// The longest text of an error, in characters: what a client said isn't
/// repeated to it whole.
const ERROR_MAX: usize = 200;

/// Outputs that one client may be writing at once.
const SETS_MAX: usize = 8;

/// Readings of one message of those that a client has missed.
const REPLAY_READINGS: usize = 256;

/// The longest name of a wish, in bytes.
const ID_MAX: usize = 64;

/// How patient the feed is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// How often a client is pinged.
    pub(crate) ping: Duration,
    /// A client of which nothing is heard for this long, not even a pong, is gone.
    pub(crate) silence: Duration,
    /// One message has to be taken within this.
    pub(crate) write: Duration,
    /// How long a closing handshake may take.
    pub(crate) close: Duration,
}

impl Default for Patience {
    /// A client that stops reading is closed within 30 s of it: either its pong
    /// is missing or a message isn't taken.
    fn default() -> Patience {
        Patience {
            ping: Duration::from_secs(10),
            silence: Duration::from_secs(25),
            write: Duration::from_secs(20),
            close: Duration::from_secs(1),
        }
    }
}

/// Why a feed ends.
enum End {
    /// The client has closed, is gone, or doesn't read.
    Gone,
    /// We close.
    Close(Code, &'static str),
}

impl From<Broken> for End {
    /// What a client is told that breaks the protocol (RFC 6455, section 7.4.1).
    fn from(broken: Broken) -> End {
        match broken {
            Broken::Wrong(wrong) => {
                let (code, why) = wrong.told();
                End::Close(code, why)
            }
            Broken::Gone => End::Gone,
        }
    }
}

/// What a feed is about, and ends with.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) hub: &'a Hub,
    pub(crate) pulse: &'a Pulse,
    pub(crate) history: &'a History,
    pub(crate) access: &'a Access,
    pub(crate) outputs: &'a Outputs,
    pub(crate) stop: &'a CancellationToken,
}

struct Feed<'a> {
    socket: Socket<TokioIo<Upgraded>>,
    readings: Subscriber,
    described: watch::Receiver<()>,
    status: watch::Receiver<Arc<Prepared>>,
    patience: Patience,
    caller: Caller,
    around: Around<'a>,
    /// Outputs that are being written.
    sets: FuturesUnordered<Pin<Box<dyn Future<Output = Written> + Send>>>,
    /// When something was last heard of the client.
    heard: Instant,
    /// When the client's messages so far would have come at its pace; up to a
    /// burst later it is still listened to.
    paced: Instant,
}

/// The client's name for its wish, and how it went.
type Written = (Option<String>, Result<(), Refusal>);

/// Feeds one client until it leaves, may no longer look, or `stop` says so.
pub(crate) async fn run(accepted: Accepted, around: Around<'_>, patience: Patience) {
    let Accepted { upgrade, caller, deflate } = accepted;
    let Ok(upgraded) = upgrade.await else { return };
    let socket = Socket::new(TokioIo::new(upgraded), MESSAGE_MAX, deflate);
    let described = around.hub.described();
    let (hello, readings) = around.hub.subscribe();
    let (first, status) = around.pulse.subscribe();
    let (now, sets) = (Instant::now(), FuturesUnordered::new());
    let (heard, paced) = (now, now);
    let mut feed =
        Feed { socket, readings, described, status, patience, caller, around, sets, heard, paced };
    let Err(end) = feed.talk(hello.into(), &first).await;
    if let End::Close(code, reason) = end {
        feed.close(code, reason).await;
    }
}

impl Feed<'_> {
    async fn talk(
        &mut self,
        hello: Prepared,
        status: &Prepared,
    ) -> Result<std::convert::Infallible, End> {
        self.send(&hello).await?;
        drop(hello);
        self.send(status).await?;
        let mut pings = interval_at(Instant::now() + self.patience.ping, self.patience.ping);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let ahead = self.paced.saturating_duration_since(Instant::now());
            // Each branch only waits, so that dropping it loses nothing.
            tokio::select! {
                () = self.around.stop.cancelled() => return Err(AWAY),
                () = sleep_until(self.heard + self.patience.silence) => return Err(End::Gone),
                event = async {
                    sleep(ahead.saturating_sub(PACE * BURST_MAX)).await;
                    self.socket.receive().await
                } => self.hear(event?).await?,
                () = self.readings.wait() => {
                    let taken = self.readings.take();
                    self.pass(taken).await?;
                }
                Ok(()) = self.described.changed() => {
                    self.send(&self.around.hub.hello().into()).await?;
                }
                Ok(()) = self.status.changed() => {
                    let status = self.status.borrow_and_update().clone();
                    self.send(&status).await?;
                }
                Some((id, done)) = self.sets.next() => self.answer(id, done).await?,
                _ = pings.tick() => {
                    if !self.may(Need::Look) {
                        return Err(End::Close(Code::POLICY, "no longer logged in"));
                    }
                    self.within(async |socket| socket.ping().await).await?;
                }
            }
        }
    }

    async fn pass(&mut self, taken: Taken) -> Result<(), End> {
        if taken.skipped > 0 {
            self.say(&Frame::Skipped { count: taken.skipped }).await?;
        }
        if let Some(frame) = taken.frame {
            self.send(&frame).await?;
        }
        Ok(())
    }

    async fn hear(&mut self, event: Event) -> Result<(), End> {
        self.heard = Instant::now();
        self.paced = self.paced.max(self.heard) + PACE;
        match event {
            Event::Text(text) => self.obey(&text).await,
            Event::Binary(_) => self.complain("send JSON in text frames").await,
            Event::Ping(payload) => self.within(async |socket| socket.pong(&payload).await).await,
            Event::Pong => Ok(()),
            Event::Close(code) => {
                self.within(async |socket| socket.close(code, "").await).await?;
                Err(End::Gone)
            }
        }
    }

    /// Whether the client still may: sessions end and tokens are revoked.
    fn may(&self, need: Need) -> bool {
        self.around.access.may(&self.caller.who, need, self.caller.anyone)
    }

    async fn obey(&mut self, text: &str) -> Result<(), End> {
        match serde_json::from_str(text) {
            Ok(Request::Subscribe { channels }) => match Filter::parse(&channels) {
                Ok(filter) => {
                    let taken = self.readings.filter(filter);
                    self.pass(taken).await
                }
                Err(error) => self.complain(&error).await,
            },
            Ok(Request::Resume { epoch, seq }) => self.resume(&epoch, Seq(seq)).await,
            Ok(Request::Set { channel, value, id }) => self.set(channel, value, id).await,
            Err(error) => self.complain(&error.to_string()).await,
        }
    }

    /// Begins to write an output; the answer comes when its device has taken the
    /// value, and readings go on meanwhile.
    async fn set(
        &mut self,
        channel: String,
        value: serde_json::Value,
        id: Option<String>,
    ) -> Result<(), End> {
        let refused = if id.as_ref().is_some_and(|id| id.len() > ID_MAX) {
            return self.complain("an id may have 64 bytes").await;
        } else if !self.may(Need::Write) {
            "writing needs a login, or a token made with --write"
        } else if self.sets.len() >= SETS_MAX {
            "too many outputs are being written: wait for a result"
        } else {
            let outputs = self.around.outputs.clone();
            self.sets.push(Box::pin(async move { (id, outputs.set(&channel, &value).await) }));
            return Ok(());
        };
        self.answer(id, Err(Refusal::new(StatusCode::FORBIDDEN, refused))).await
    }

    async fn answer(&mut self, id: Option<String>, done: Result<(), Refusal>) -> Result<(), End> {
        let error = done.as_ref().err().map(|refusal| refusal.reason.as_str());
        self.say(&Frame::Result { id: id.as_deref(), ok: done.is_ok(), error }).await
    }

    async fn complain(&mut self, error: &str) -> Result<(), End> {
        let error: String = error.chars().take(ERROR_MAX).collect();
        self.say(&Frame::Error { error: &error }).await
    }

    /// Tells what a client has missed that was here before, as far as it is kept.
    async fn resume(&mut self, epoch: &str, after: Seq) -> Result<(), End> {
        let Ok(epoch) = epoch.parse::<Epoch>() else {
            return self.complain("an epoch has 16 hexadecimal digits").await;
        };
        let missed = self.around.history.missed(epoch, after, self.readings.joined).await;
        let missed = match missed {
            Ok(missed) => missed,
            Err(reason) => return self.complain(&reason).await,
        };
        if missed.forgotten > 0 {
            self.say(&Frame::Skipped { count: missed.forgotten }).await?;
        }
        for records in missed.records.chunks(REPLAY_READINGS) {
            let wanted = self.readings.wanted();
            let wanted = records.iter().filter(|record| {
                record.reading().is_some_and(|reading| wanted.matches(&reading.channel))
            });
            if let Some(frame) = hub::readings(wanted) {
                self.send(&frame).await?;
            }
        }
        self.say(&Frame::Resumed { seq: missed.through.0 }).await
    }

    async fn say(&mut self, frame: &Frame<'_>) -> Result<(), End> {
        self.send(&frame::json(frame).into()).await
    }

    async fn send(&mut self, message: &Prepared) -> Result<(), End> {
        self.within(async |socket| socket.send(message).await).await
    }

    /// The client has to take a message in time.
    async fn within(
        &mut self,
        send: impl AsyncFnOnce(&mut Socket<TokioIo<Upgraded>>) -> Result<(), Broken>,
    ) -> Result<(), End> {
        let due = (Instant::now() + self.patience.write).min(self.heard + self.patience.silence);
        tokio::select! {
            sent = timeout_at(due, send(&mut self.socket)) => match sent {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(End::Gone),
            },
            () = self.around.stop.cancelled() => Err(AWAY),
        }
    }

    /// Says why and waits for the client to say so too (RFC 6455, section 7.1.2).
    async fn close(&mut self, code: Code, reason: &'static str) {
        let socket = &mut self.socket;
        let closing = pin!(async move {
            if socket.close(Some(code), reason).await.is_ok() {
                while !matches!(socket.receive().await, Ok(Event::Close(_)) | Err(_)) {}
            }
            socket.shutdown().await;
        });
        // Without an answer in time the connection is simply dropped.
        let _ = timeout(self.patience.close, closing).await;
    }
}

const AWAY: End = End::Close(Code::AWAY, "the gateway stops");
