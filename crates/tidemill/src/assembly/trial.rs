//! Another configuration, tried: the gateway goes back by itself unless somebody
//! keeps it. A wrong address of the broker then costs minutes, not a journey.

use std::path::Path;
use std::time::Duration;

use dashboard::Ask;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{self, Instant};
use tracing::{info, warn};

use super::{Assembly, Change};
use crate::config::Config;

/// Wishes that wait: a person has one at a time.
const ASKED_MAX: usize = 4;

/// What a text without a file is called in an error.
const NAME: &str = "configuration";

/// Where an answer goes.
type Reply = oneshot::Sender<Result<Vec<String>, String>>;

/// A wish, and where its answer goes.
pub(super) type Asked = (Ask, Reply);

/// What the dashboard asks, and what is being tried.
pub(super) struct Trial {
    sender: mpsc::Sender<Asked>,
    asked: mpsc::Receiver<Asked>,
    /// The text to go back to, and when.
    back: Option<(String, Instant)>,
}

/// What comes next of it.
pub(super) enum Next {
    Asked(Asked),
    /// Nobody has kept what was tried.
    Back,
}

impl Default for Trial {
    fn default() -> Trial {
        let (sender, asked) = mpsc::channel(ASKED_MAX);
        Trial { sender, asked, back: None }
    }
}

impl Trial {
    /// The way for what the dashboard asks.
    pub(super) fn ask(&self) -> impl Fn(Ask) -> dashboard::Answer + Send + Sync + use<> {
        let sender = self.sender.clone();
        move |ask| {
            let sender = sender.clone();
            Box::pin(async move {
                let (reply, answer) = oneshot::channel();
                let stops = || "the gateway stops".to_owned();
                sender.send((ask, reply)).await.map_err(|_| stops())?;
                answer.await.map_err(|_| stops())?
            })
        }
    }

    /// Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Next {
        let until = self.back.as_ref().map(|(_, until)| *until);
        let over = async {
            match until {
                Some(until) => time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // We hold a sender, so it is never closed.
            Some(asked) = self.asked.recv() => Next::Asked(asked),
            () = over => Next::Back,
        }
    }

    /// The file was read again: that holds.
    pub(super) fn over(&mut self) {
        self.back = None;
    }
}

impl Assembly {
    /// Does what somebody asks, or goes back.
    ///
    /// # Errors
    /// When the change can't be made.
    pub(super) async fn proceed(&mut self, next: Next) -> anyhow::Result<()> {
        match next {
            Next::Asked((ask, reply)) => self.answer(ask, reply).await?,
            Next::Back => {
                let Some((text, _)) = self.trial.back.take() else { return Ok(()) };
                warn!("nobody has kept the configuration that was tried: back to the one before");
                let config = Config::parse(&text, Path::new(NAME))?;
                self.become_as(config, None).await?;
            }
        }
        Ok(())
    }

    async fn answer(&mut self, ask: Ask, reply: Reply) -> anyhow::Result<()> {
        let parse =
            |text: &str| Config::parse(text, Path::new(NAME)).map_err(|error| error.to_string());
        let answer = match ask {
            Ask::Compare(text) => parse(&text).map(|config| self.differences(&config)),
            Ask::Keep => match self.trial.back.take() {
                Some(_) => {
                    info!("the configuration that was tried is kept");
                    Ok(Vec::new())
                }
                None => Err("nothing is tried now, or the time was over".to_owned()),
            },
            Ask::Try(text, time) => match parse(&text) {
                Ok(config) => return self.attempt(config, time, reply).await,
                Err(why) => Err(why),
            },
        };
        // Who asked may have gone.
        let _ = reply.send(answer);
        Ok(())
    }

    async fn attempt(
        &mut self,
        config: Config,
        time: Duration,
        reply: Reply,
    ) -> anyhow::Result<()> {
        if !self.running.may_become(&config) {
            let why = "[gateway] and [store] can't be tried: write them into the file, and reload";
            let _ = reply.send(Err(why.to_owned()));
            return Ok(());
        }
        let changes = self.differences(&config);
        // The dashboard ends only when it has answered.
        let mut reply = Some(reply);
        let early = Change::between(&self.running, &config).dashboard;
        if let Some(reply) = reply.take_if(|_| early) {
            let _ = reply.send(Ok(changes.clone()));
        }
        // A second trial goes back to what was before the first.
        let before = self.trial.back.take().map(|(text, _)| text);
        let before = before.unwrap_or_else(|| self.running.text.clone());
        info!(?time, "a configuration is tried");
        self.become_as(config, None).await?;
        self.trial.back = Some((before, Instant::now() + time));
        if let Some(reply) = reply {
            let _ = reply.send(Ok(changes));
        }
        Ok(())
    }

    /// A line for each key that is another, then for what restarts.
    fn differences(&self, config: &Config) -> Vec<String> {
        let mut lines = super::keys::differences(&self.running.text, &config.text);
        lines.extend(match self.running.may_become(config) {
            true => Change::between(&self.running, config).lines(),
            false => vec!["the gateway starts anew".to_owned()],
        });
        lines
    }
}
