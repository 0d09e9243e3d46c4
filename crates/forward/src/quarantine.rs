//! Which message breaks the connection. A broker that ends it on a certain
//! message would otherwise be met with that message for ever.

use std::collections::VecDeque;
use std::time::Duration;

use reading::Seq;
use tokio::time::Instant;

use crate::window::Span;

/// Why such a reading isn't at the broker, for the ledger and the gap.
pub(crate) const REFUSED: &str = "refused by the broker";
/// So many connections must have broken with the message in flight,
const TRIES: usize = 3;
/// within this time.
const WITHIN: Duration = Duration::from_secs(30);
/// More in a row, with nothing taken in between, are the broker's fault, or its
/// settings': then nothing more is given up, and all of it waits.
const ROW_MAX: u32 = 10;
/// While one is looked for, the connection is made again this soon.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// What was in flight when connections broke.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    losses: VecDeque<(Instant, Span)>,
    /// Messages go one by one, a record each, until the log is sent through here.
    careful: Option<Seq>,
    /// Given up since something was last taken.
    row: u32,
}

/// What a lost connection tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing yet.
    Innocent,
    /// A single message was in flight: it is tried again soon.
    Suspect,
    /// It is this message.
    Guilty(Span),
    /// Whatever is sent breaks it: it is the broker.
    Broker,
}

impl Quarantine {
    /// A connection broke with this part of the log in so many messages in
    /// flight.
    pub(crate) fn lost(&mut self, unsettled: Span, messages: usize, now: Instant) -> Verdict {
        self.forget(now);
        if self.losses.len() == TRIES {
            self.losses.pop_front();
        }
        self.losses.push_back((now, unsettled));
        let first = Seq(unsettled.after.0 + 1);
        let holds = |(_, span): &&(Instant, Span)| span.after < first && first <= span.through;
        let tries = self.losses.iter().filter(holds).count();
        let alone = self.careful.is_some() && messages == 1;
        if tries >= 2 {
            let furthest = self.losses.iter().map(|(_, span)| span.through).max();
            self.careful = self.careful.max(furthest);
        }
        match alone {
            false => Verdict::Innocent,
            true if self.row >= ROW_MAX => Verdict::Broker,
            true if tries >= TRIES => {
                self.row += 1;
                self.losses.clear();
                Verdict::Guilty(unsettled)
            }
            true => Verdict::Suspect,
        }
    }

    /// The broker has taken something.
    pub(crate) fn taken(&mut self) {
        self.row = 0;
    }

    /// Whether to send one by one, a record each, what follows a number.
    pub(crate) fn careful(&mut self, sent: Seq) -> bool {
        self.careful = self.careful.filter(|until| sent < *until);
        self.careful.is_some()
    }

    /// Whether no message is looked for.
    pub(crate) fn calm(&mut self, now: Instant) -> bool {
        self.forget(now);
        self.careful.is_none() && self.losses.len() < 2
    }

    fn forget(&mut self, now: Instant) {
        self.losses.retain(|(at, _)| now.saturating_duration_since(*at) <= WITHIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(after: u64, through: u64) -> Span {
        Span { after: Seq(after), through: Seq(through) }
    }

    #[tokio::test]
    async fn the_third_loss_with_the_message_alone_convicts_it() {
        let now = Instant::now();
        let mut quarantine = Quarantine::default();
        assert_eq!(quarantine.lost(span(0, 100), 100, now), Verdict::Innocent);
        assert!(!quarantine.careful(Seq(0)));
        assert_eq!(quarantine.lost(span(40, 140), 100, now), Verdict::Innocent);
        assert!(quarantine.careful(Seq(40)) && !quarantine.calm(now));
        assert_eq!(quarantine.lost(span(55, 56), 1, now), Verdict::Guilty(span(55, 56)));
        assert!(quarantine.careful(Seq(139)), "the others may be guilty, too");
        assert!(!quarantine.careful(Seq(140)) && quarantine.calm(now));
    }

    #[tokio::test]
    async fn a_network_that_breaks_now_and_then_convicts_nobody() {
        let mut now = Instant::now();
        let mut quarantine = Quarantine::default();
        for _ in 0..100 {
            now += WITHIN / 2 + Duration::from_secs(1);
            assert!(!matches!(quarantine.lost(span(5, 6), 1, now), Verdict::Guilty(_)));
        }
        let mut quarantine = Quarantine::default();
        for n in 0..100 {
            let verdict = quarantine.lost(span(n * 10, n * 10 + 9), 9, now);
            assert_eq!(verdict, Verdict::Innocent, "it gets on");
        }
    }

    #[tokio::test]
    async fn a_broker_that_breaks_on_everything_is_given_up_ten_and_no_more() {
        let now = Instant::now();
        let mut quarantine = Quarantine::default();
        let mut after = 0;
        for _ in 0..100 {
            if let Verdict::Guilty(span) = quarantine.lost(span(after, after + 1), 1, now) {
                after = span.through.0;
            }
        }
        assert_eq!(after, u64::from(ROW_MAX));
        assert_eq!(quarantine.lost(span(after, after + 1), 1, now), Verdict::Broker);
        quarantine.taken();
        assert!(matches!(quarantine.lost(span(after, after + 1), 1, now), Verdict::Guilty(_)));
    }
}
