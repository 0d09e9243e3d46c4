//! A file found damaged while the gateway runs.

use std::sync::PoisonError;

use reading::Seq;
use sqlx::{Connection as _, SqliteConnection};
use tracing::error;

use crate::losses::Losses;
use crate::salvage::{self, Known, Salvaged};
use crate::state::{Forwarder, Ledger};
use crate::{Writer, aside, commit, open, undated};

impl Writer {
    /// Puts the file aside and goes on with a new one that has what could be
    /// saved. What is in memory stays: the queue, the numbers, the ledger.
    pub(crate) async fn mend(&mut self) -> Result<(), sqlx::Error> {
        let path = self.config.path.clone();
        error!(path = %path.display(), "the store is damaged: what it has goes to a new file");
        // Closed before the new one is opened: SQLite deletes the log beside a
        // file by its name.
        let nothing = SqliteConnection::connect("sqlite::memory:").await?;
        // A file at fault can't be closed in good order.
        drop(std::mem::replace(&mut self.db, nothing).close().await);
        let known = self.known();
        let replaced = salvage::replace(&self.config, Some(&known)).await;
        if replaced.is_err() && aside::is_half_done(&path) {
            // What would be stored in the old file now would go with it.
            return replaced.map(drop);
        }
        self.db = open::connect(&self.config, &path).await?;
        self.full = true;
        let renewed = &self.shared.renewed;
        *renewed.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::time::Instant::now());
        let salvaged = replaced?;

        let counts = self.in_file().await?;
        let (ledger, losses, rows) = self.count(salvaged, &counts);
        let held = self.shared.state().held.rows();
        // The channels are numbered as before, also those just met.
        for (id, channel, kind) in &self.unsaved {
            commit::insert_channel(&mut self.db, *id, channel, kind.as_str()).await?;
        }
        commit::begin(&mut self.db).await?;
        let outcome = match save(&mut self.db, &ledger, &rows, &losses).await {
            Ok(()) => undated::save(&mut self.db, &held).await,
            Err(error) => Err(error),
        };
        commit::finish(&mut self.db, outcome).await?;
        self.losses_saved = losses.version;
        self.saved(&rows);
        self.measure();
        Ok(())
    }

    /// What is gone is counted, and the figures are as the file is to have them.
    fn count(&self, salvaged: Salvaged, counts: &[u64]) -> (Ledger, Losses, Vec<Forwarder>) {
        let mut state = self.shared.state();
        state.damaged = false;
        state.ledger.removed += salvaged.lost;
        for (forwarder, lost) in state.forwarders.iter_mut().zip(counts) {
            forwarder.dropped += lost;
        }
        salvaged.gaps.into_iter().for_each(|gap| state.losses.add(gap));
        let rows = state.forwarders.iter().map(Forwarder::row).collect();
        (state.ledger, state.losses.clone(), rows)
    }

    fn known(&self) -> Known {
        let state = self.shared.state();
        let channels = self.shared.channels.read().unwrap_or_else(PoisonError::into_inner);
        Known {
            ledger: state.ledger,
            channels: channels.iter().map(|(id, channel)| (*id, channel.clone())).collect(),
            epochs: self.shared.epochs.clone(),
            recent: state.ring.all(),
        }
    }

    /// By forwarder: readings that are neither in its hands, nor in the file any
    /// more.
    async fn in_file(&mut self) -> Result<Vec<u64>, sqlx::Error> {
        let waiting: Vec<_> = {
            let state = self.shared.state();
            let counts = |f: &Forwarder| (f.row(), f.pending().saturating_sub(f.in_hand()));
            state.forwarders.iter().map(counts).collect()
        };
        let channels = {
            let channels = self.shared.channels.read();
            channels.unwrap_or_else(PoisonError::into_inner).clone()
        };
        let mut lost = Vec::with_capacity(waiting.len());
        for (forwarder, waits) in waiting {
            let after = forwarder.looked.max(forwarder.position).0;
            let there = open::matching(&mut self.db, &forwarder, &channels, after).await?;
            lost.push(waits.saturating_sub(there));
        }
        Ok(lost)
    }
}

async fn save(
    db: &mut SqliteConnection,
    ledger: &Ledger,
    rows: &[Forwarder],
    losses: &Losses,
) -> Result<(), sqlx::Error> {
    commit::save_ledger(db, ledger).await?;
    for row in rows {
        commit::save_forwarder(db, row, Seq(ledger.counted)).await?;
    }
    commit::save_losses(db, losses).await?;
    commit::mark(db, false).await
}
