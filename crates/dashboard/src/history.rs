//! `GET /api/v1/readings` and `readings.csv`: readings as they were.

mod gaps;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Query;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Response, StatusCode, Uri};
use bytes::Bytes;
use futures_util::stream;
use reading::{Channel, Epoch, Kind, Record, Seq, Timestamp, Unit};
use store::Store;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::rows::{Head, Rows, Table};
use crate::{Hub, api, gzip};

/// Readings in one answer: 2 weeks at one a minute, 14 h at one a second. The
/// newest of the span are given, and that there are more is said.
const READINGS_MAX: usize = 50_000;

/// The same of a channel of texts, which may be long.
const TEXTS_MAX: usize = 5_000;

/// Buckets in one answer: more than any screen has columns.
const POINTS_MAX: usize = 10_000;

/// Queries at work at once. More would only wait for the same card.
const QUERIES_MAX: usize = 2;

/// How long a query waits for its turn.
const TURN: Duration = Duration::from_secs(10);

/// An answer of more rows than this is written as it is sent, so that its text is
/// never in memory as a whole.
const SMALL_MAX: usize = 4_000;

/// Large answers on their way at once: each holds its rows, some 8 MB at most.
const LARGE_MAX: usize = 2;

/// A large answer has to be taken within this: a client that takes it by drops
/// would hold its place for ever.
const LARGE_TIME: Duration = Duration::from_secs(60);

/// Readings that a client of the feed is told again: 10 s at 1,000 a second, or
/// hours of a calm gateway. A page fetches the rest when somebody looks at it.
const MISSED_MAX: usize = 10_000;

/// How long a reading that was just told may take to the disk.
const COMMIT: Duration = Duration::from_secs(1);

/// The span without `from`.
const SPAN: Duration = Duration::from_secs(3600);

/// Says that an answer isn't the whole span: for CSV, which has no other place.
const TRUNCATED: HeaderName = HeaderName::from_static("x-truncated");

/// Reads the store for those who ask, a few at a time.
pub(crate) struct History {
    hub: Hub,
    store: Store,
    queries: Semaphore,
    large: Arc<Semaphore>,
}

/// What a client of the feed has missed.
pub(crate) struct Missed {
    /// The newest of it.
    pub(crate) records: Vec<Record>,
    /// Older ones that aren't among them.
    pub(crate) forgotten: u64,
    /// The number of the last.
    pub(crate) through: Seq,
}

/// What is asked for.
#[derive(Debug, PartialEq)]
struct Question {
    channel: Channel,
    from: Timestamp,
    to: Timestamp,
    points: Option<usize>,
}

/// Why there is no answer.
#[derive(Debug, PartialEq)]
struct Refused(StatusCode, String);

impl History {
    pub(crate) fn new(hub: Hub, store: Store) -> History {
        let (queries, large) = (Semaphore::new(QUERIES_MAX), Arc::new(Semaphore::new(LARGE_MAX)));
        History { hub, store, queries, large }
    }

    /// Readings, or what is wrong with the question.
    pub(crate) async fn answer(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        table: Table,
    ) -> Response<Body> {
        let answer = self.find(uri, table, gzip::is_accepted(headers)).await;
        answer.unwrap_or_else(|Refused(status, reason)| api::problem(status, &reason))
    }

    /// What a client of the feed has missed: the readings after `after` that were
    /// published before it `joined`.
    ///
    /// # Errors
    /// Why nobody knows.
    pub(crate) async fn missed(
        &self,
        epoch: Epoch,
        after: Seq,
        joined: Option<Seq>,
    ) -> Result<Missed, String> {
        let mut committed = self.store.committed();
        if let Some(joined) = joined {
            // What was told last may not be on disk yet. When it can't be stored,
            // what is there has to do.
            let stored = committed.wait_for(|seq| *seq >= joined);
            let _ = timeout(COMMIT, stored).await;
        }
        let committed = *committed.borrow();
        let through = joined.map_or(committed, |joined| joined.min(committed));
        if self.store.epoch_of(after) != epoch || after > through.max(joined.unwrap_or_default()) {
            // After a power cut its numbers may have been given to others.
            return Err("this reading isn't in the store: ask /api/v1/readings for what is".into());
        }
        let turn = timeout(TURN, self.queries.acquire()).await;
        let _turn = turn.map_err(|_| "too many queries at once: try again in a few seconds")?;
        let records = self.store.between(after, through, MISSED_MAX).await;
        let records = records.map_err(|error| format!("cannot read the store: {error}"))?;
        let first = records.first().map_or(through.0 + 1, |record| record.seq.0);
        let forgotten = first.saturating_sub(after.0 + 1);
        Ok(Missed { records, forgotten, through })
    }

    async fn find(&self, uri: &Uri, table: Table, gzip: bool) -> Result<Response<Body>, Refused> {
        let question = Question::parse(uri, Timestamp::now())?;
        // A channel may have been configured once, and its history is still here.
        let spec = self.hub.spec(&question.channel);
        if spec.is_none() && !self.store.knows(&question.channel) {
            let reason = format!("there is no channel {}", question.channel);
            return Err(Refused(StatusCode::NOT_FOUND, reason));
        }
        let unit = spec.as_ref().map_or_else(Unit::default, |spec| spec.unit.clone());
        let turn = timeout(TURN, self.queries.acquire()).await;
        let _turn = turn.map_err(|_| Refused::busy("too many queries at once"))?;
        let failed = |error| Refused::failed(&error);
        let Question { channel, from, to, points } = question;
        let query = store::Query { channel, from, to };
        let (rows, truncated) = match points {
            Some(points) => {
                (Rows::Buckets(self.store.reduced(&query, points).await.map_err(failed)?), false)
            }
            None => {
                let numbers = spec.is_some_and(|spec| spec.kind != Kind::Text);
                let max = if numbers { READINGS_MAX } else { TEXTS_MAX };
                // One more than is given tells whether there are more.
                let mut records = self.store.history(&query, max + 1).await.map_err(failed)?;
                let truncated = records.len() > max;
                if truncated {
                    records.remove(0);
                }
                (Rows::Records(records), truncated)
            }
        };
        let gaps = self.store.gaps(&query).await.map_err(failed)?;
        let head = Head { channel: query.channel, unit, truncated };
        let permit = match rows.len() > SMALL_MAX {
            true => {
                let permit = self.large.clone().try_acquire_owned();
                Some(permit.map_err(|_| Refused::busy("too many large answers on their way"))?)
            }
            false => None,
        };
        let name = table.file_name(&head.channel);
        let texts = table.chunks(head, rows, gaps).map(Bytes::from);
        let body = match gzip {
            true => body(gzip::squeeze(texts), permit),
            false => body(texts, permit),
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(table.content_type()));
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if let Some(name) = name.and_then(|name| HeaderValue::try_from(name).ok()) {
            headers.insert(header::CONTENT_DISPOSITION, name);
        }
        if truncated {
            headers.insert(TRUNCATED, HeaderValue::from_static("true"));
        }
        Ok(response)
    }
}

/// A small answer is made at once; a large one while it is sent.
fn body(
    mut chunks: impl Iterator<Item = Bytes> + Send + 'static,
    permit: Option<OwnedSemaphorePermit>,
) -> Body {
    let Some(permit) = permit else {
        return Body::from(chunks.flatten().collect::<Vec<u8>>());
    };
    let due = Instant::now() + LARGE_TIME;
    let late =
        || std::io::Error::new(std::io::ErrorKind::TimedOut, "the answer is taken too slowly");
    Body::from_stream(stream::iter(std::iter::from_fn(move || {
        let _held = &permit;
        if Instant::now() > due {
            return Some(Err(late()));
        }
        chunks.next().map(Ok)
    })))
}

impl Question {
    fn parse(uri: &Uri, now: Timestamp) -> Result<Question, Refused> {
        let keys = ["channel", "from", "to", "points"];
        let [name, from, to, points] = parameters(uri, keys)?;
        let channel = match name.filter(|name| !name.is_empty()) {
            None => return Err(wrong("which channel? add channel=weather/temperature".into())),
            Some(name) => channel(&name)?,
        };
        let (from, to) = span(from, to, now, SPAN)?;
        let points = match points {
            None => None,
            Some(text) => match text.parse() {
                Ok(points @ 1..=POINTS_MAX) => Some(points),
                _ => return Err(wrong(format!("points {text:?} is not 1 to {POINTS_MAX}"))),
            },
        };
        Ok(Question { channel, from, to, points })
    }
}

fn wrong(reason: String) -> Refused {
    Refused(StatusCode::BAD_REQUEST, reason)
}

/// The values of the parameters that there may be, each once.
fn parameters<const N: usize>(uri: &Uri, keys: [&str; N]) -> Result<[Option<String>; N], Refused> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| wrong("the query can't be decoded".into()))?;
    let mut values = [const { None }; N];
    for (key, value) in pairs {
        let Some(place) = keys.iter().position(|known| *known == key) else {
            let (last, others) = keys.split_last().unwrap_or((&"none", &[]));
            let known = format!("use {} and {last}", others.join(", "));
            return Err(wrong(format!("unknown parameter {key:?}: {known}")));
        };
        if values[place].replace(value).is_some() {
            return Err(wrong(format!("{key} is given twice")));
        }
    }
    Ok(values)
}

fn channel(text: &str) -> Result<Channel, Refused> {
    let wrong = |_| wrong(format!("channel {text:?} is not a device, a slash and a channel"));
    text.parse().map_err(wrong)
}

/// From when to when; without a word so long until now.
fn span(
    from: Option<String>,
    to: Option<String>,
    now: Timestamp,
    long: Duration,
) -> Result<(Timestamp, Timestamp), Refused> {
    let time = |key: &str, text: Option<String>| match text {
        Some(text) => instant(&text, now).map(Some).ok_or_else(|| {
            wrong(format!(
                "{key} {text:?} is neither a time (RFC 3339) nor a duration before now (15min)"
            ))
        }),
        None => Ok(None),
    };
    let to = time("to", to)?.unwrap_or(now);
    let from = time("from", from)?.unwrap_or(to - long);
    if from >= to {
        return Err(wrong(format!("from ({from}) is not before to ({to})")));
    }
    Ok((from, to))
}

/// A time, or a duration before now.
fn instant(text: &str, now: Timestamp) -> Option<Timestamp> {
    // The `+` of an offset, unless it is written %2B, arrives as a space.
    let time = text.replace(' ', "+").parse().ok();
    time.or_else(|| humantime::parse_duration(text).ok().map(|before| now - before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn parse(query: &str) -> Result<Question, Refused> {
        let uri = format!("/api/v1/readings?{query}").parse().unwrap();
        Question::parse(&uri, "2026-11-24T10:00:00Z".parse().unwrap())
    }

    #[test]
    fn times_and_durations_are_understood() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let span = |query: &str| {
            let question = parse(query).unwrap();
            (question.from, question.to)
        };
        let now = at("2026-11-24T10:00:00Z");
        assert_eq!(span("channel=a/b"), (at("2026-11-24T09:00:00Z"), now));
        assert_eq!(span("channel=a%2Fb&from=15min"), (at("2026-11-24T09:45:00Z"), now));
        assert_eq!(
            span("channel=a/b&to=1h"),
            (at("2026-11-24T08:00:00Z"), at("2026-11-24T09:00:00Z"))
        );
        let offsets = "channel=a/b&from=2026-11-24T09:00:00+01:00&to=2026-11-24T09:00:00%2B00:00";
        assert_eq!(span(offsets), (at("2026-11-24T08:00:00Z"), at("2026-11-24T09:00:00Z")));
        assert_eq!(parse("channel=a/b&points=600").unwrap().points, Some(600));
    }

    #[test]
    fn a_wrong_query_is_told_what_is_wrong() {
        let check = |query: &str, expected: Expect| {
            let Refused(status, reason) = parse(query).unwrap_err();
            assert_eq!(status, StatusCode::BAD_REQUEST);
            expected.assert_eq(&reason);
        };
        check("", expect!["which channel? add channel=weather/temperature"]);
        check(
            "channel=temperature",
            expect![[r#"channel "temperature" is not a device, a slash and a channel"#]],
        );
        check(
            "channel=a/b&from=yesterday",
            expect![[
                r#"from "yesterday" is neither a time (RFC 3339) nor a duration before now (15min)"#
            ]],
        );
        check(
            "channel=a/b&from=1h&to=2h",
            expect![
                "from (2026-11-24T09:00:00.000000Z) is not before to (2026-11-24T08:00:00.000000Z)"
            ],
        );
        check("channel=a/b&points=0", expect![[r#"points "0" is not 1 to 10000"#]]);
        check(
            "channel=a/b&form=1h",
            expect![[r#"unknown parameter "form": use channel, from, to and points"#]],
        );
        check("channel=a/b&channel=a/c", expect!["channel is given twice"]);
    }
}
