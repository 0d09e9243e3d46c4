//! Who is connected, who listens to what, and what is retained.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::behaviour::Behaviour;
use super::topic;

/// Messages that wait for one client. One that is slower is thrown out, so that
/// it costs the others neither time nor memory.
pub(crate) const QUEUE_MAX: usize = 16_384;
/// Retained topics; further ones are delivered and not kept.
const RETAINED_MAX: usize = 10_000;
/// Subscriptions of one client.
pub(crate) const SUBSCRIPTIONS_MAX: usize = 100;

/// What was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its payload.
    pub payload: Bytes,
    /// Whether it was retained: at delivery, whether it is from before the
    /// subscription.
    pub retain: bool,
    /// At which quality of service it was published: 0 or 1.
    pub qos: u8,
}

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) filter: String,
    pub(crate) qos: u8,
    /// Not what it published itself (MQTT 5).
    pub(crate) no_local: bool,
    /// With the retain flag as published (MQTT 5).
    pub(crate) as_published: bool,
}

pub(crate) struct Hub {
    state: Mutex<State>,
    pub(crate) behaviour: watch::Sender<Behaviour>,
}

#[derive(Default)]
struct State {
    members: HashMap<u64, Member>,
    retained: BTreeMap<Arc<str>, Message>,
    next: u64,
}

struct Member {
    /// Empty for a listener in the same process.
    client: String,
    subscriptions: Vec<Subscription>,
    queue: mpsc::Sender<Message>,
    ended: watch::Sender<Ended>,
}

/// Why a client is thrown out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It isn't.
    #[default]
    No,
    /// Another took its id over.
    TakenOver,
    /// It reads too slowly.
    Slow,
    /// A test cut it.
    Cut,
}

/// A client's place in the hub.
pub(crate) struct Place {
    pub(crate) number: u64,
    pub(crate) queue: mpsc::Receiver<Message>,
    pub(crate) ended: watch::Receiver<Ended>,
}

impl Hub {
    pub(crate) fn new() -> Arc<Hub> {
        Arc::new(Hub { state: Mutex::default(), behaviour: watch::Sender::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done where it could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client comes; an older one of the same id goes (MQTT 3.1.1, 3.1.4).
    pub(crate) fn enter(&self, client: &str) -> Place {
        let mut state = self.state();
        state.members.retain(|_, member| {
            let same = member.client == client;
            if same {
                member.ended.send_replace(Ended::TakenOver);
            }
            !same
        });
        state.place(client, Vec::new(), QUEUE_MAX)
    }

    /// A client is gone.
    pub(crate) fn leave(&self, number: u64) {
        self.state().members.remove(&number);
    }

    /// Subscribes a client; returns whether the filter is new to it.
    pub(crate) fn subscribe(&self, number: u64, subscription: Subscription) -> Option<bool> {
        let mut state = self.state();
        let known = &mut state.members.get_mut(&number)?.subscriptions;
        let place = known.iter().position(|other| other.filter == subscription.filter);
        match place {
            Some(place) => {
                known[place] = subscription;
                Some(false)
            }
            None if known.len() < SUBSCRIPTIONS_MAX => {
                known.push(subscription);
                Some(true)
            }
            None => None,
        }
    }

    /// Whether there was such a subscription.
    pub(crate) fn unsubscribe(&self, number: u64, filter: &str) -> bool {
        let mut state = self.state();
        let Some(member) = state.members.get_mut(&number) else { return false };
        let before = member.subscriptions.len();
        member.subscriptions.retain(|subscription| subscription.filter != filter);
        member.subscriptions.len() < before
    }

    /// Puts what is retained under a filter into a client's queue.
    pub(crate) fn replay(&self, number: u64, filter: &str, qos: u8) {
        let mut state = self.state();
        let State { members, retained, .. } = &mut *state;
        let Some(member) = members.get(&number) else { return };
        for message in retained.values().filter(|m| topic::matches(filter, &m.topic)) {
            member.give(Message { qos: message.qos.min(qos), ..message.clone() });
        }
    }

    /// Delivers to everyone who listens, and keeps what is to be retained.
    pub(crate) fn publish(&self, message: Message, from: Option<u64>) {
        let mut state = self.state();
        let mut deaf = Vec::new();
        for (number, member) in &state.members {
            let own = Some(*number) == from;
            // Overlapping filters deliver once, at the best quality asked for.
            let best = member
                .subscriptions
                .iter()
                .filter(|s| !(own && s.no_local) && topic::matches(&s.filter, &message.topic))
                .max_by_key(|subscription| subscription.qos);
            if let Some(subscription) = best {
                let retain = message.retain && subscription.as_published;
                let qos = message.qos.min(subscription.qos);
                let given = member.give(Message { retain, qos, ..message.clone() });
                if !given && member.client.is_empty() {
                    deaf.push(*number);
                }
            }
        }
        // A listener in the same process sees the end of its queue.
        state.members.retain(|number, _| !deaf.contains(number));
        if message.retain && message.payload.is_empty() {
            state.retained.remove(&message.topic);
        } else if message.retain
            && (state.retained.len() < RETAINED_MAX || state.retained.contains_key(&message.topic))
        {
            state.retained.insert(Arc::clone(&message.topic), message);
        }
    }

    /// A listener in the same process.
    pub(crate) fn listen(&self, filter: &str, capacity: usize) -> mpsc::Receiver<Message> {
        let all =
            Subscription { filter: filter.to_owned(), qos: 1, no_local: false, as_published: true };
        let place = self.state().place("", vec![all], capacity);
        self.replay(place.number, filter, 1);
        place.queue
    }

    pub(crate) fn clients(&self) -> Vec<String> {
        let state = self.state();
        let mut ids: Vec<String> = state
            .members
            .values()
            .filter(|member| !member.client.is_empty() && *member.ended.borrow() == Ended::No)
            .map(|member| member.client.clone())
            .collect();
        ids.sort_unstable();
        ids
    }

    pub(crate) fn cut(&self) {
        for member in self.state().members.values().filter(|member| !member.client.is_empty()) {
            member.ended.send_replace(Ended::Cut);
        }
    }
}

impl State {
    fn place(&mut self, client: &str, subscriptions: Vec<Subscription>, capacity: usize) -> Place {
        // Listeners whose receiver is gone.
        self.members.retain(|_, member| !member.queue.is_closed());
        self.next += 1;
        let (sender, queue) = mpsc::channel(capacity.max(1));
        let (ended, end) = watch::channel(Ended::No);
        let client = client.to_owned();
        self.members.insert(self.next, Member { client, subscriptions, queue: sender, ended });
        Place { number: self.next, queue, ended: end }
    }
}

impl Member {
    /// Queues a message; `false` when the client is too slow, which ends it.
    fn give(&self, message: Message) -> bool {
        let given = self.queue.try_send(message).is_ok();
        if !given {
            self.ended.send_if_modified(|ended| {
                let first = *ended == Ended::No;
                if first {
                    *ended = Ended::Slow;
                }
                first
            });
        }
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str) -> Message {
        Message { topic: topic.into(), payload: Bytes::new(), retain: false, qos: 1 }
    }

    #[test]
    fn a_listener_that_does_not_listen_is_ended_and_costs_nothing() {
        let hub = Hub::new();
        let mut slow = hub.listen("#", 2);
        let mut quick = hub.listen("#", 10);
        (0..5).for_each(|_| hub.publish(message("a"), None));
        let count = |queue: &mut mpsc::Receiver<Message>| {
            std::iter::from_fn(|| queue.try_recv().ok()).count()
        };
        assert_eq!((count(&mut slow), count(&mut quick)), (2, 5));
        assert_eq!(slow.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
    }

    #[test]
    fn a_slow_client_is_told_to_go() {
        let hub = Hub::new();
        let place = hub.enter("slow");
        let all =
            Subscription { filter: "#".to_owned(), qos: 0, no_local: false, as_published: false };
        assert_eq!(hub.subscribe(place.number, all), Some(true));
        (0..QUEUE_MAX).for_each(|_| hub.publish(message("a"), None));
        assert_eq!(*place.ended.borrow(), Ended::No);
        hub.publish(message("a"), None);
        assert_eq!(*place.ended.borrow(), Ended::Slow);
    }

    #[test]
    fn no_local_and_as_published_are_kept_to() {
        let hub = Hub::new();
        let mut place = hub.enter("self");
        for (filter, no_local, as_published) in [("own", true, false), ("flag", false, true)] {
            let filter = filter.to_owned();
            let subscription = Subscription { filter, qos: 0, no_local, as_published };
            hub.subscribe(place.number, subscription);
        }
        hub.publish(message("own"), Some(place.number));
        hub.publish(Message { retain: true, ..message("flag") }, Some(place.number));
        let got =
            place.queue.try_recv().map(|message| (message.topic, message.retain, message.qos));
        assert_eq!(got, Ok(("flag".into(), true, 0)));
        assert!(place.queue.try_recv().is_err());
    }
}
