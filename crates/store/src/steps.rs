//! What a simulation has to know of the store. SQLite works in threads of its
//! own, in true time, while everything else waits in simulated time: that has to
//! stand still as long as the store is at its file. A release has none of this.

#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Whether the store is at its file.
#[derive(Default)]
pub(crate) struct Steps {
    #[cfg(debug_assertions)]
    at_file: AtomicUsize,
    /// Of these, in the midst of a transaction, where others may go on.
    #[cfg(debug_assertions)]
    pausing: AtomicUsize,
    /// Grows with each time that it is at its file, and when it goes on there.
    #[cfg(debug_assertions)]
    times: AtomicUsize,
    #[cfg(debug_assertions)]
    simulated: AtomicBool,
}

impl Steps {
    #[cfg(debug_assertions)]
    pub(crate) fn simulate(&self) {
        self.simulated.store(true, Ordering::Relaxed);
    }

    #[cfg(debug_assertions)]
    pub(crate) fn is_at_file(&self) -> bool {
        self.at_file.load(Ordering::Acquire) > self.pausing.load(Ordering::Acquire)
    }

    #[cfg(debug_assertions)]
    pub(crate) fn times(&self) -> usize {
        self.times.load(Ordering::Acquire)
    }

    /// Work at the file.
    pub(crate) async fn at_file<T>(&self, work: impl Future<Output = T>) -> T {
        #[cfg(debug_assertions)]
        {
            self.times.fetch_add(1, Ordering::AcqRel);
            self.at_file.fetch_add(1, Ordering::AcqRel);
        }
        let outcome = work.await;
        #[cfg(debug_assertions)]
        self.at_file.fetch_sub(1, Ordering::AcqRel);
        outcome
    }

    /// A point within a transaction at which a simulation may let others go on.
    pub(crate) async fn pause(&self) {
        #[cfg(debug_assertions)]
        if self.simulated.load(Ordering::Relaxed) {
            self.pausing.fetch_add(1, Ordering::AcqRel);
            let mut paused = false;
            std::future::poll_fn(|context| {
                context.waker().wake_by_ref();
                match std::mem::replace(&mut paused, true) {
                    false => std::task::Poll::Pending,
                    true => std::task::Poll::Ready(()),
                }
            })
            .await;
            self.pausing.fetch_sub(1, Ordering::AcqRel);
            self.times.fetch_add(1, Ordering::AcqRel);
        }
    }
}
