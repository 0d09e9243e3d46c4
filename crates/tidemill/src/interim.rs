//! A gateway whose store can't be opened because the disk is full, read-only or
//! fails. It measures and shows all the same, with a small store in memory, and
//! tries again; when the disk can be written it starts anew on it, and what was
//! read meanwhile goes there. Forwarders wait: the name of a start has to be
//! durable before a broker learns it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Context;
use reading::{ChannelSpec, Pattern, Record, Seq, Timestamp};
use store::{Appender, Cursor, Store, Subscription, Writer};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::time;
use tracing::{error, info, warn};

use crate::config::Config;

/// How often the disk is tried.
const RETRY: Duration = Duration::from_secs(1);

/// Readings handed over at a time.
const BATCH: u64 = 1_000;

/// An open store.
pub(crate) type Opened = (Store, Appender, Writer, Vec<Cursor>);

/// How the interim ended.
pub(crate) enum End {
    /// The store is open, and so much was read before.
    Opened(Box<Opened>, Kept),
    /// The gateway was stopped, or is to start anew as configured.
    Over(Option<Config>),
}

/// Opens the store of the configuration.
pub(crate) async fn open(config: &Config) -> Result<Opened, store::Error> {
    Store::open(&config.store, &config.channels(), &config.subscriptions()).await
}

/// Runs the gateway without its store until that can be opened.
///
/// # Errors
/// When there is no memory for it either, when the store can't be opened for
/// another reason, or a part ends by a bug.
pub(crate) async fn run(
    config: &Config,
    cause: store::Error,
    control: Option<UnixListener>,
    changes: &mut mpsc::Receiver<Config>,
    shutdown: Pin<&mut impl Future<Output = ()>>,
) -> anyhow::Result<End> {
    let interim = Config { forwarders: BTreeMap::new(), ..config.clone() };
    let (kept, opened) = match Kept::open(&interim).await {
        Some(kept) => kept,
        None => return Err(cause).context("there is no place for an interim store either"),
    };
    let interim = Config { store: kept.config.clone(), ..interim };
    error!("{cause}; until it can, readings are kept in memory and nothing is forwarded");
    opened.0.stand_in_for(config.store.path.clone(), cause.to_string());
    let store = opened.0.clone();
    let mut outcome = None;
    let until = async {
        tokio::select! {
            () = shutdown => (),
            opened = openable(config) => outcome = Some(opened),
        }
    };
    let over = crate::gateway(interim, control, opened, None, changes, until).await?;
    match outcome {
        Some(opened) => {
            let opened = opened.context("open the store")?;
            info!(path = %config.store.path.display(), "the store can be opened");
            Ok(End::Opened(Box::new(opened), kept))
        }
        None => {
            let lost = store.status().readings;
            error!(lost, "the store could not be opened before the end: its readings are lost");
            Ok(End::Over(over))
        }
    }
}

/// Waits until the store can be opened, or can't for another reason than the disk.
async fn openable(config: &Config) -> Result<Opened, store::Error> {
    loop {
        time::sleep(RETRY).await;
        match open(config).await {
            Err(error) if error.is_of_the_disk() => (),
            outcome => return outcome,
        }
    }
}

/// What is read meanwhile.
pub(crate) struct Kept {
    config: store::Config,
    channels: Vec<ChannelSpec>,
    _folder: Folder,
}

/// Removed with what is in it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            warn!(folder = %self.0.display(), %error, "the interim store is not removed");
        }
    }
}

impl Folder {
    /// A new one, which nobody else may enter.
    fn make(within: &str) -> Option<Folder> {
        let name = format!("tidemill-{}-{}", std::process::id(), Timestamp::now().as_micros());
        let path = PathBuf::from(within).join(name);
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.is_ok().then_some(Folder(path))
    }
}

impl Kept {
    /// A store in the first place where one can be.
    async fn open(config: &Config) -> Option<(Kept, Opened)> {
        let runtime = std::env::var("RUNTIME_DIRECTORY").unwrap_or_default();
        let runtime = runtime.split(':').next().unwrap_or_default();
        let temporary = std::env::temp_dir();
        // The first two are in memory wherever there is systemd.
        let places = [runtime, "/dev/shm", temporary.to_str().unwrap_or("/tmp")];
        for folder in places.into_iter().filter(|place| !place.is_empty()).flat_map(Folder::make) {
            let store = config.store.stand_in(folder.0.join("interim.db"));
            // What doesn't fit counts as lost, as if somebody was to get it.
            let all = Subscription { forwarder: "store".into(), channels: vec![Pattern::any()] };
            let channels = config.channels();
            if let Ok(opened) = Store::open(&store, &channels, &[all]).await {
                return Some((Kept { config: store, channels, _folder: folder }, opened));
            }
        }
        None
    }

    /// Has it stored, before anything else is.
    pub(crate) async fn hand_over(self, appender: &mut Appender) {
        match self.append_to(appender).await {
            Ok(readings) => info!(readings, "what was read before the store was open is stored"),
            Err(error) => error!(%error, "what was read before the store was open is lost"),
        }
    }

    async fn append_to(&self, appender: &mut Appender) -> Result<u64, store::Error> {
        let (store, ..) = Store::open(&self.config, &self.channels, &[]).await?;
        // Each of these gaps was counted as a loss, and is to be here.
        let ever = (Timestamp::from_micros(i64::MIN), Timestamp::from_micros(i64::MAX));
        for (_, _, gap) in store.all_gaps(ever.0, ever.1, usize::MAX).await? {
            appender.lose(gap);
        }
        let last = store.committed().borrow().0;
        let mut count = 0;
        for after in (0..last).step_by(usize::try_from(BATCH).unwrap_or(usize::MAX)) {
            let through = Seq((after + BATCH).min(last));
            let records = store.between(Seq(after), through, usize::MAX).await?;
            let (epoch, first) = (appender.epoch(), appender.next().0);
            let readings = records.into_iter().filter(|record| record.reading().is_some());
            let number = |(seq, record): (u64, Record)| Record { epoch, seq: Seq(seq), ..record };
            let records: Vec<Record> = (first..).zip(readings).map(number).collect();
            count += records.len() as u64;
            // What has no room is counted and told by it.
            let _ = appender.append(records).await;
        }
        Ok(count)
    }
}
