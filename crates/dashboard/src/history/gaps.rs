//! `GET /api/v1/gaps`: what is known to be missing, of every channel or of one.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Response, StatusCode, Uri};
use reading::{Channel, Timestamp};
use serde::Serialize;
use store::Query;
use tokio::time::timeout;

use super::{History, Refused, TURN, channel, parameters, span};
use crate::api;
use crate::frame::{self, Missing};

/// Gaps in one answer, the newest: more than anybody reads.
const GAPS_MAX: usize = 1_000;

/// The span without `from`: what a page tells of.
const SPAN: Duration = Duration::from_secs(24 * 3600);

/// The answer.
#[derive(Serialize)]
struct Gaps<'a> {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    gaps: Vec<Missing<'a>>,
}

/// What is asked for.
#[derive(Debug, PartialEq)]
struct Question {
    /// Every one, without it.
    channel: Option<Channel>,
    from: Timestamp,
    to: Timestamp,
}

impl History {
    /// Gaps, or what is wrong with the question.
    pub(crate) async fn gaps(&self, uri: &Uri) -> Response<Body> {
        match self.find_gaps(uri).await {
            Ok(json) => api::ok(json),
            Err(Refused(status, reason)) => api::problem(status, &reason),
        }
    }

    async fn find_gaps(&self, uri: &Uri) -> Result<String, Refused> {
        let Question { channel, from, to } = Question::parse(uri, Timestamp::now())?;
        let turn = timeout(TURN, self.queries.acquire()).await;
        let _turn = turn.map_err(|_| Refused::busy("too many queries at once"))?;
        let found = match channel {
            // One more than is given tells whether there are more.
            None => self.store.all_gaps(from, to, GAPS_MAX + 1).await,
            Some(channel) => self.store.gaps(&Query { channel, from, to }).await,
        };
        let found = found.map_err(|error| Refused::failed(&error))?;
        let truncated = found.len() > GAPS_MAX;
        let newest = &found[found.len().saturating_sub(GAPS_MAX)..];
        let gaps = newest.iter().map(|(epoch, seq, gap)| Missing::new(*epoch, *seq, gap));
        Ok(frame::json(&Gaps { truncated, gaps: gaps.collect() }))
    }
}

impl Question {
    fn parse(uri: &Uri, now: Timestamp) -> Result<Question, Refused> {
        let [name, from, to] = parameters(uri, ["channel", "from", "to"])?;
        let channel = name.filter(|name| !name.is_empty()).map(|name| channel(&name));
        let (from, to) = span(from, to, now, SPAN)?;
        Ok(Question { channel: channel.transpose()?, from, to })
    }
}

impl Refused {
    pub(super) fn busy(what: &str) -> Refused {
        let reason = format!("{what}: try again in a few seconds");
        Refused(StatusCode::SERVICE_UNAVAILABLE, reason)
    }

    pub(super) fn failed(error: &store::Error) -> Refused {
        Refused(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot read the store: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_word_it_is_the_last_day_of_everything() {
        let now: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        let parse = |query: &str| Question::parse(&query.parse().unwrap(), now);
        let day = Question { channel: None, from: now - SPAN, to: now };
        assert_eq!(parse("/api/v1/gaps").unwrap(), day);
        let question = parse("/api/v1/gaps?channel=a/b&from=15min").unwrap();
        assert_eq!(question.channel, Some("a/b".parse().unwrap()));
        assert_eq!(now.since(question.from), Duration::from_secs(900));
        let Refused(status, reason) = parse("/api/v1/gaps?points=5").unwrap_err();
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(reason, "unknown parameter \"points\": use channel, from and to");
    }
}
