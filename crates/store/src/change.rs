//! Other channels and forwarders than the store was opened with, while it runs.

use std::sync::{Arc, PoisonError};

use reading::ChannelSpec;
use tokio::sync::oneshot;

use crate::state::{Forwarder, Shared};
use crate::{Cursor, Error, Store, Subscription, Writer, commit, open};

/// What the writer is to take up.
pub(crate) struct Change {
    channels: Vec<ChannelSpec>,
    gone: Vec<String>,
    forwarders: Vec<Subscription>,
    done: oneshot::Sender<()>,
}

impl Store {
    /// Takes up the configuration's channels and forwarders as they are now. A
    /// forwarder that is `gone` keeps its position in the file, and nothing is
    /// kept for it any more; one of `forwarders` is new, or its cursor has been
    /// dropped. Their cursors are in that order.
    ///
    /// Everything appended before is committed durably first, so that what waits
    /// for a forwarder is counted whole. Dropping the future takes the change
    /// back, unless it has been made.
    ///
    /// # Errors
    /// When the store has closed.
    pub async fn change(
        &self,
        channels: &[ChannelSpec],
        gone: &[String],
        forwarders: &[Subscription],
    ) -> Result<Vec<Cursor>, Error> {
        let (done, outcome) = oneshot::channel();
        let change = Change {
            channels: channels.to_vec(),
            gone: gone.to_vec(),
            forwarders: forwarders.to_vec(),
            done,
        };
        {
            let mut state = self.shared.state();
            if state.appender_gone {
                return Err(Error::Closed);
            }
            state.change = Some(change);
        }
        self.shared.work.notify_one();
        outcome.await.map_err(|_| Error::Closed)?;
        let cursor = |subscription| Cursor::new(Arc::clone(&self.shared), subscription);
        Ok(forwarders.iter().map(cursor).collect())
    }
}

impl Writer {
    /// Makes the change that waits; while the disk is at fault it goes on
    /// waiting.
    pub(crate) async fn change(&mut self) -> Result<(), sqlx::Error> {
        // The counts below are of the file, and a forwarder's row is read back.
        self.commit(true, false).await?;
        let Some(change) = self.shared.take_change() else { return Ok(()) };
        commit::begin(&mut self.db).await?;
        let outcome = self.take_up(&change).await;
        let outcome = match outcome {
            Ok(taken_up) => commit::finish(&mut self.db, Ok(())).await.map(|()| taken_up),
            Err(error) => commit::finish(&mut self.db, Err(error)).await.map(|()| Vec::new()),
        };
        match outcome {
            Ok(taken_up) => {
                self.changed(change, taken_up);
                Ok(())
            }
            Err(error) => {
                self.shared.state().change.get_or_insert(change);
                Err(error)
            }
        }
    }

    async fn take_up(&mut self, change: &Change) -> Result<Vec<Forwarder>, sqlx::Error> {
        let known = open::save_channels(&mut self.db, &change.channels).await?;
        let ledger = self.shared.state().ledger;
        let mut taken_up = Vec::with_capacity(change.forwarders.len());
        for subscription in &change.forwarders {
            let forwarder =
                open::take_up_forwarder(&mut self.db, subscription, &known, ledger, false).await?;
            taken_up.push(forwarder);
        }
        let mut channels = self.shared.channels.write().unwrap_or_else(PoisonError::into_inner);
        self.next_id = known.keys().max().map_or(self.next_id, |id| self.next_id.max(id + 1));
        channels.extend(known);
        Ok(taken_up)
    }

    /// The change is in the file: the figures follow.
    fn changed(&mut self, change: Change, taken_up: Vec<Forwarder>) {
        let mut state = self.shared.state();
        state.configured = change.channels.into_iter().map(|spec| spec.channel).collect();
        let renewed = |name: &String| taken_up.iter().any(|forwarder| forwarder.name == *name);
        // A removal that waits to be tried again knows the positions before it.
        let mut before = std::mem::take(&mut self.retention.reserved).into_iter();
        state.forwarders.retain(|old| {
            let before = before.next().flatten();
            let kept = !change.gone.contains(&old.name) && !renewed(&old.name);
            if kept {
                self.retention.reserved.push(before);
            }
            kept
        });
        state.cursors += taken_up.len();
        state.forwarders.extend(taken_up);
        self.positions = state.forwarders.iter().map(|forwarder| forwarder.position).collect();
        drop(state);
        // Which forwarders a channel is for is found out anew.
        self.channels.clear();
        let _ = change.done.send(());
    }
}

impl Shared {
    /// The change that somebody still waits for.
    fn take_change(&self) -> Option<Change> {
        self.state().change.take().filter(|change| !change.done.is_closed())
    }
}
