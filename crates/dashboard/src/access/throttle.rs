//! Wrong passwords are slowed down: for each address, and for all together.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

/// Failures of one address that cost it nothing: people mistype.
const FREE: u32 = 3;

/// The longest that one address has to wait: also the owner behind the same
/// proxy as an attacker must get a turn.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Failures older than this are forgotten.
const MEMORY: Duration = Duration::from_secs(15 * 60);

/// Addresses whose failures are remembered. Of more the oldest is forgotten, and
/// [`ALL_FREE`] still holds for all together.
const ADDRESSES_MAX: usize = 1024;

/// Failures of all addresses within [`MEMORY`] before everybody's attempts take
/// [`ALL_PACE`] each.
const ALL_FREE: usize = 30;

/// An attempt each so often makes 86,400 guesses a day, from however many
/// addresses.
const ALL_PACE: Duration = Duration::from_secs(1);

/// Attempts that wait for their turn: a hash takes 20 MB and a processor, so they
/// go one by one.
const WAITING_MAX: usize = 16;

pub(super) struct Throttle {
    failures: Mutex<Failures>,
    waiting: Semaphore,
    turn: Arc<Semaphore>,
}

#[derive(Default)]
struct Failures {
    addresses: HashMap<IpAddr, Failed>,
    all: VecDeque<Instant>,
}

#[derive(Clone, Copy)]
struct Failed {
    count: u32,
    last: Instant,
}

/// Try again after this.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Later(pub(super) Duration);

impl Throttle {
    pub(super) fn new() -> Throttle {
        Throttle {
            failures: Mutex::default(),
            waiting: Semaphore::new(WAITING_MAX),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Waits for this address's turn. The turn is over when the permit is
    /// dropped, which whoever hashes takes along: a client that leaves meanwhile
    /// must not make room for another hash.
    pub(super) async fn turn(&self, address: IpAddr) -> Result<OwnedSemaphorePermit, Later> {
        self.look(address)?;
        let waiting = self.waiting.try_acquire();
        let _waiting = waiting.map_err(|_| Later(ALL_PACE * WAITING_MAX as u32))?;
        let turn = self.turn.clone().acquire_owned().await.map_err(|_| Later(WAIT_MAX))?;
        // Others of this address may have failed meanwhile.
        self.look(address)?;
        if self.many() {
            sleep(ALL_PACE).await;
        }
        Ok(turn)
    }

    fn look(&self, address: IpAddr) -> Result<(), Later> {
        let failures = self.failures.lock().expect("no holder panics");
        let wait = failures.addresses.get(&address).map_or(Duration::ZERO, Failed::wait);
        if wait.is_zero() { Ok(()) } else { Err(Later(wait)) }
    }

    fn many(&self) -> bool {
        let mut failures = self.failures.lock().expect("no holder panics");
        while failures.all.front().is_some_and(|at| at.elapsed() > MEMORY) {
            failures.all.pop_front();
        }
        failures.all.len() >= ALL_FREE
    }

    pub(super) fn failed(&self, address: IpAddr) {
        let mut failures = self.failures.lock().expect("no holder panics");
        let now = Instant::now();
        failures.all.push_back(now);
        if failures.all.len() > ALL_FREE {
            failures.all.pop_front();
        }
        failures.addresses.retain(|_, failed| failed.last.elapsed() < MEMORY);
        if failures.addresses.len() >= ADDRESSES_MAX && !failures.addresses.contains_key(&address) {
            let oldest = failures.addresses.iter().min_by_key(|(_, f)| f.last).map(|(a, _)| *a);
            oldest.map(|oldest| failures.addresses.remove(&oldest));
        }
        let failed = failures.addresses.entry(address).or_insert(Failed { count: 0, last: now });
        failed.count = failed.count.saturating_add(1);
        failed.last = now;
    }

    pub(super) fn succeeded(&self, address: IpAddr) {
        self.failures.lock().expect("no holder panics").addresses.remove(&address);
    }
}

impl Failed {
    /// 1 s after the third failure, then twice as long each time.
    fn wait(&self) -> Duration {
        let Some(doublings) = self.count.checked_sub(FREE) else { return Duration::ZERO };
        let wait = Duration::from_secs(1 << doublings.min(10)).min(WAIT_MAX);
        wait.saturating_sub(self.last.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u16) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0x0a00_0000 + u32::from(last)).into()
    }

    async fn fail(throttle: &Throttle, address: IpAddr) -> Result<(), Later> {
        let _turn = throttle.turn(address).await?;
        throttle.failed(address);
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_waits_longer_each_time_and_others_do_not() {
        let throttle = Throttle::new();
        for _ in 0..FREE {
            fail(&throttle, address(1)).await.unwrap();
        }
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let Later(wait) = fail(&throttle, address(1)).await.unwrap_err();
            assert_eq!(wait, Duration::from_secs(seconds));
            assert!(throttle.turn(address(2)).await.is_ok());
            tokio::time::advance(wait).await;
            fail(&throttle, address(1)).await.unwrap();
        }
        tokio::time::advance(WAIT_MAX).await;
        throttle.succeeded(address(1));
        fail(&throttle, address(1)).await.unwrap();
        fail(&throttle, address(1)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn many_addresses_share_one_pace_and_little_memory() {
        let throttle = Throttle::new();
        let start = Instant::now();
        for n in 0..2000 {
            fail(&throttle, address(n)).await.unwrap();
        }
        let took = start.elapsed();
        assert!(took >= ALL_PACE * (2000 - ALL_FREE as u32), "{took:?}");
        assert!(throttle.failures.lock().unwrap().addresses.len() <= ADDRESSES_MAX);
        assert!(throttle.failures.lock().unwrap().all.len() <= ALL_FREE);
        tokio::time::advance(MEMORY * 2).await;
        let start = Instant::now();
        fail(&throttle, address(1)).await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO, "all is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_go_one_by_one_and_a_crowd_is_sent_away() {
        let throttle = Throttle::new();
        let held = throttle.turn(address(1)).await.unwrap();
        let one = async |n| throttle.turn(address(n)).await.map(drop);
        let crowd = (2..30).map(one);
        let crowd = futures_util::future::join_all(crowd);
        tokio::pin!(crowd);
        let soon = Duration::from_millis(10);
        assert!(tokio::time::timeout(soon, &mut crowd).await.is_err(), "they wait");
        drop(held);
        let results = crowd.await;
        assert_eq!(results.iter().filter(|r| r.is_ok()).count(), WAITING_MAX);
    }
}
