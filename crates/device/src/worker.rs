//! Where what may block is done.

use std::sync::Arc;

use tokio::sync::Mutex;

/// Runs what may block, one thing at a time: a sensor that never answers holds
/// one thread, however often its device is opened again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Worker(Arc<Mutex<()>>);

impl Worker {
    /// Runs `work` on a thread of its own. A panic in it goes on here.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let turn = self.0.clone().lock_owned().await;
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        match work.await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_thing_at_a_time_blocks() {
        let worker = Worker::default();
        let (go, gate) = std::sync::mpsc::sync_channel::<()>(0);
        let hanging = worker.run(move || gate.recv().is_ok());
        let mut hanging = std::pin::pin!(hanging);
        assert!(futures_util::poll!(&mut hanging).is_pending());
        let mut second = std::pin::pin!(worker.run(|| 7));
        assert!(futures_util::poll!(&mut second).is_pending(), "it waits for its turn");
        go.send(()).unwrap();
        assert!(hanging.await);
        assert_eq!(second.await, 7);
    }
}
