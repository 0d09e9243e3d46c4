//! Commands for outputs: `{prefix}/{device}/{channel}/set`.
//!
//! A command is acknowledged to the broker when it is taken in and carried out
//! once; one that the broker delivers again is known by its `id`. What has
//! become of it is answered on `{prefix}/{device}/{channel}/result`.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use reading::{Channel, Datum, Kind, Timestamp};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tokio::time;
use tracing::info;

use crate::codec::Delivery;
use crate::{Config, Gateway, outbox};

/// Writes an output: Ok when the device has taken the value, else why it hasn't,
/// for people.
pub type SetFn = Arc<
    dyn Fn(Channel, Datum) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>>
        + Send
        + Sync,
>;

/// Commands being carried out; further ones are refused.
const RUNNING_MAX: usize = 16;
/// Bytes of a command.
const COMMAND_MAX: usize = 4_096;
/// Bytes of an `id`.
const ID_MAX: usize = 128;
/// Answers kept for commands that are delivered twice.
const ANSWERS_MAX: usize = 64;
/// No device takes longer, or the command has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What becomes of commands.
pub(crate) struct Commands {
    prefix: String,
    /// By the channel's full name.
    outputs: HashMap<String, (Channel, Kind)>,
    set: Option<SetFn>,
    running: FuturesUnordered<Pin<Box<dyn Future<Output = Answer> + Send>>>,
    /// Of commands with an id, the last ones.
    answered: VecDeque<Answer>,
    /// Those with an id that are being carried out.
    pending: Vec<(String, Json)>,
}

/// What has become of a command.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    channel: String,
    id: Option<Json>,
    result: Result<(), String>,
}

/// A command that isn't the bare value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Full {
    value: Json,
    #[serde(default)]
    id: Option<Json>,
    #[serde(default)]
    expires: Option<String>,
}

impl Commands {
    pub(crate) fn new(config: &Config, gateway: &Gateway) -> Commands {
        let mut commands = Commands {
            prefix: outbox::prefix(config, gateway),
            outputs: HashMap::new(),
            set: None,
            running: FuturesUnordered::new(),
            answered: VecDeque::new(),
            pending: Vec::new(),
        };
        commands.describe(config, gateway);
        commands
    }

    /// The outputs are those of these channels.
    pub(crate) fn describe(&mut self, config: &Config, gateway: &Gateway) {
        let patterns = config.patterns();
        let ours = |channel| patterns.iter().any(|pattern| pattern.matches(channel));
        let outputs = gateway
            .channels
            .iter()
            .filter(|spec| spec.output && ours(&spec.channel))
            .map(|spec| (spec.channel.as_str().to_owned(), (spec.channel.clone(), spec.kind)));
        self.outputs = outputs.collect();
    }

    pub(crate) fn carried_out_by(&mut self, set: SetFn) {
        self.set = Some(set);
    }

    /// What to subscribe to; nothing when there is no output.
    pub(crate) fn filter(&self) -> Option<String> {
        let any = self.set.is_some() && !self.outputs.is_empty();
        any.then(|| format!("{}/+/+/set", self.prefix))
    }

    /// Takes a command in: an answer at once, or later from `next`.
    pub(crate) fn take(&mut self, delivery: &Delivery, now: Timestamp) -> Option<Answer> {
        let name = delivery.topic.strip_prefix(&self.prefix)?.strip_prefix('/')?;
        let channel = name.strip_suffix("/set")?.to_owned();
        let refuse = |id, why: String| {
            info!(channel, why, "a command is refused");
            Some(Answer { channel: channel.clone(), id, result: Err(why) })
        };
        let (set, (output, kind)) = match (&self.set, self.outputs.get(&channel)) {
            (Some(set), Some(output)) => (set, output),
            // No topic of an answer is made of what only looks like a name.
            _ if channel.parse::<Channel>().is_err() => return None,
            _ => return refuse(None, format!("{channel}: no such output")),
        };
        // What the clock shows before it is set says nothing of an expiry.
        let now = (!reading::clock::is_detached()).then_some(now);
        let (id, wanted) = parse(&delivery.payload, *kind, now);
        if delivery.retained {
            let why = "it is retained, so nobody knows how old it is: publish it without retain";
            return refuse(id, why.to_owned());
        }
        let datum = match wanted {
            Ok(datum) => datum,
            Err(why) => return refuse(id, why),
        };
        if let Some(id) = &id {
            let same =
                |answer: &&Answer| answer.channel == channel && answer.id.as_ref() == Some(id);
            if let Some(known) = self.answered.iter().find(same) {
                return Some(known.clone());
            }
            if self.pending.iter().any(|(other, pending)| *other == channel && pending == id) {
                return None;
            }
        }
        if self.running.len() >= RUNNING_MAX {
            return refuse(id, format!("{RUNNING_MAX} commands are being carried out already"));
        }
        if let Some(id) = &id {
            self.pending.push((channel.clone(), id.clone()));
        }
        let setting = set(output.clone(), datum.clone());
        self.carry_out(channel, id, &datum, setting);
        None
    }

    /// Takes in a value that an output is to have, said in another way than ours:
    /// an answer when it is refused at once.
    pub(crate) fn wanted(&mut self, channel: String, value: &Datum) -> Option<Answer> {
        let refuse = |channel: String, why: String| {
            info!(channel, why, "a command is refused");
            Some(Answer { channel, id: None, result: Err(why) })
        };
        let (set, (output, kind)) = match (&self.set, self.outputs.get(&channel)) {
            (Some(set), Some(output)) => (set, output),
            _ => return refuse(channel, "no such output".to_owned()),
        };
        if value.kind() != *kind {
            return refuse(channel, format!("it takes another kind of value than {value:?}"));
        }
        if self.running.len() >= RUNNING_MAX {
            let why = format!("{RUNNING_MAX} commands are being carried out already");
            return refuse(channel, why);
        }
        let setting = set(output.clone(), value.clone());
        self.carry_out(channel, None, value, setting);
        None
    }

    fn carry_out(
        &mut self,
        channel: String,
        id: Option<Json>,
        datum: &Datum,
        setting: impl Future<Output = Result<(), String>> + Send + 'static,
    ) {
        info!(channel, value = %datum, "a command");
        self.running.push(Box::pin(async move {
            let result = time::timeout(PATIENCE, setting).await;
            let late = || Err(format!("the device didn't take it within {PATIENCE:?}"));
            Answer { channel, id, result: result.unwrap_or_else(|_| late()) }
        }));
    }

    /// Whether nothing is being carried out.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// What has become of the next command that is done; waits for ever when
    /// there is none.
    pub(crate) async fn next(&mut self) -> Answer {
        let Some(answer) = self.running.next().await else { return std::future::pending().await };
        if let Some(id) = &answer.id {
            self.pending.retain(|(channel, other)| *channel != answer.channel || other != id);
            if self.answered.len() == ANSWERS_MAX {
                self.answered.pop_front();
            }
            self.answered.push_back(answer.clone());
        }
        answer
    }

    /// Where an answer goes, and what it says.
    pub(crate) fn message(&self, answer: &Answer) -> (String, Vec<u8>) {
        let mut body = serde_json::Map::new();
        body.extend(answer.id.clone().map(|id| ("id".to_owned(), id)));
        body.insert("ok".to_owned(), answer.result.is_ok().into());
        body.extend(answer.result.as_ref().err().map(|why| ("error".to_owned(), json!(why))));
        let topic = format!("{}/{}/result", self.prefix, answer.channel);
        (topic, Json::Object(body).to_string().into_bytes())
    }
}

/// The id of a command, if it has one, and what it wants.
fn parse(
    payload: &[u8],
    kind: Kind,
    now: Option<Timestamp>,
) -> (Option<Json>, Result<Datum, String>) {
    if payload.len() > COMMAND_MAX {
        return (None, Err(format!("a command is {COMMAND_MAX} bytes at most")));
    }
    let Ok(text) = std::str::from_utf8(payload) else {
        return (None, Err("a command is UTF-8".to_owned()));
    };
    // A text may be whatever it likes, but for an object with a value.
    let object = text.trim_start().starts_with('{');
    if kind == Kind::Text && !(object && serde_json::from_str::<Full>(text).is_ok()) {
        return (None, Ok(Datum::from(text)));
    }
    if !object {
        let value = serde_json::from_str(text.trim()).unwrap_or(Json::Null);
        return (None, datum(&value, kind, text));
    }
    let full: Full = match serde_json::from_str(text) {
        Ok(full) => full,
        Err(error) => return (None, Err(format!("not a command: {error}"))),
    };
    let id = match full.id {
        Some(id @ (Json::String(_) | Json::Number(_))) if id.to_string().len() <= ID_MAX => {
            Some(id)
        }
        Some(_) => {
            return (None, Err(format!("`id` is a text or a number of {ID_MAX} bytes at most")));
        }
        None => None,
    };
    let wanted = expiry(full.expires.as_deref(), now);
    let wanted = wanted.and_then(|()| datum(&full.value, kind, &full.value.to_string()));
    (id, wanted)
}

/// Without a `now` nobody knows what time it is.
fn expiry(expires: Option<&str>, now: Option<Timestamp>) -> Result<(), String> {
    let Some(text) = expires else { return Ok(()) };
    let until: Timestamp = text.parse().map_err(|error| format!("`expires`: {error}"))?;
    match now {
        None => Err("the clock is not set: nobody knows whether it has expired".to_owned()),
        Some(now) if until <= now => Err(format!("it expired at {until}, and it is {now}")),
        Some(_) => Ok(()),
    }
}

fn datum(value: &Json, kind: Kind, shown: &str) -> Result<Datum, String> {
    let datum = match (kind, value) {
        (Kind::Boolean, Json::Bool(truth)) => Some(Datum::Boolean(*truth)),
        (Kind::Number, Json::Number(number)) => number.as_f64().and_then(Datum::number),
        (Kind::Text, Json::String(text)) => Some(Datum::from(text.as_str())),
        _ => None,
    };
    let wanted = match kind {
        Kind::Boolean => "true or false",
        Kind::Number => "a number",
        Kind::Text => "a text",
    };
    datum.ok_or_else(|| {
        let shown: String = shown.chars().filter(|c| !c.is_control()).take(40).collect();
        format!("it takes {wanted}, not {shown}")
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_795_508_403_000_000);

    #[test]
    fn commands_in_all_their_forms() {
        let said: Vec<String> = [
            (Kind::Boolean, "true"),
            (Kind::Boolean, " false\n"),
            (Kind::Boolean, "1"),
            (Kind::Boolean, "ON"),
            (Kind::Number, "21.5"),
            (Kind::Number, "1e999"),
            (Kind::Number, "\"1\""),
            (Kind::Text, "auto"),
            (Kind::Text, "{\"mode\":1}"),
            (Kind::Text, "{\"value\":\"auto\",\"id\":7}"),
            (Kind::Boolean, r#"{"value":true,"id":"a","expires":"2026-11-24T08:20:04Z"}"#),
            (Kind::Boolean, r#"{"value":true,"id":"a","expires":"2026-11-24T08:20:03Z"}"#),
            (Kind::Boolean, r#"{"value":true,"expires":"soon"}"#),
            (Kind::Boolean, r#"{"value":true,"valid":"soon"}"#),
            (Kind::Boolean, r#"{"value":true,"id":["#),
            (Kind::Boolean, r#"{"value":true,"id":[]}"#),
            (Kind::Boolean, r#"{"value":"yes"}"#),
        ]
        .into_iter()
        .map(|(kind, text)| match parse(text.as_bytes(), kind, Some(NOW)) {
            (id, Ok(datum)) => format!("{id:?} {datum:?}"),
            (id, Err(why)) => format!("{id:?} {why}"),
        })
        .collect();
        expect![[r#"
            None Boolean(true)
            None Boolean(false)
            None it takes true or false, not 1
            None it takes true or false, not ON
            None Number(21.5)
            None it takes a number, not 1e999
            None it takes a number, not "1"
            None Text("auto")
            None Text("{\"mode\":1}")
            Some(Number(7)) Text("auto")
            Some(String("a")) Boolean(true)
            Some(String("a")) it expired at 2026-11-24T08:20:03.000000Z, and it is 2026-11-24T08:20:03.000000Z
            None `expires`: "soon" is not a time: use RFC 3339, such as 2026-11-24T08:20:03Z
            None not a command: unknown field `valid`, expected one of `value`, `id`, `expires` at line 1 column 21
            None not a command: EOF while parsing a list at line 1 column 20
            None `id` is a text or a number of 128 bytes at most
            None it takes true or false, not "yes""#]].assert_eq(&said.join("\n"));
        assert!(parse(&[b' '; 5_000], Kind::Boolean, Some(NOW)).1.is_err());
        assert!(parse(&[0xFF], Kind::Text, Some(NOW)).1.is_err());
    }

    #[test]
    fn before_the_clock_is_set_nothing_that_expires_is_carried_out() {
        let expires = br#"{"value":true,"expires":"2999-01-01T00:00:00Z"}"#;
        assert!(parse(expires, Kind::Boolean, Some(NOW)).1.is_ok());
        let why = parse(expires, Kind::Boolean, None).1.unwrap_err();
        assert!(why.starts_with("the clock is not set"), "{why}");
        assert!(parse(b"true", Kind::Boolean, None).1.is_ok(), "it doesn't expire");
    }
}
