use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::Kind;

/// The longest name of a gateway, device or channel, in bytes.
const NAME_MAX: usize = 64;

/// What follows the name of a channel in that of its alarms.
const ALARM: &str = "/alarm";

/// The full name of one measured or switched quantity: `weather/temperature`.
///
/// The same text is the key in the store, the tail of the MQTT topic and the
/// key in a frame of the feed, so it is checked once, here. Cloning it copies a
/// pointer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(Arc<str>);

/// A text that can't name a gateway, device or channel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a name: use 1 to 64 of a-z, 0-9, '-' and '_', beginning with a letter or digit"
)]
pub struct InvalidName(pub String);

/// What is known of a channel before it has any reading.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelSpec {
    /// Its full name.
    pub channel: Channel,
    /// The type of its values; it never changes.
    pub kind: Kind,
    /// What its numbers count.
    pub unit: Unit,
    /// What people call it.
    pub label: Option<String>,
    /// Numbers outside make the reading bad, with the reason `out of range`.
    pub range: Option<RangeInclusive<f64>>,
    /// Whether it can be written.
    pub output: bool,
}

/// What the numbers of a channel count: a UCUM or SenML code (RFC 8428, section
/// 12.1), such as `Cel`, `%RH`, `V`, or empty for a bare number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Unit(Cow<'static, str>);

/// Whether a text may name a gateway, a device or a channel:
/// `[a-z0-9][a-z0-9_-]{0,63}`. Such names are MQTT topic levels as they are.
pub fn is_name(text: &str) -> bool {
    let inner = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    text.len() <= NAME_MAX
        && text.bytes().all(inner)
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}

impl Channel {
    /// Joins the name of a device and the short name of one of its channels, or
    /// of the alarm of one: `temperature/alarm`.
    ///
    /// # Errors
    /// When either is not a name: see [`is_name`].
    pub fn new(device: &str, name: &str) -> Result<Channel, InvalidName> {
        let measured = name.strip_suffix(ALARM).unwrap_or(name);
        match [device, measured].into_iter().find(|part| !is_name(part)) {
            Some(part) => Err(InvalidName(part.to_owned())),
            None => Ok(Channel(format!("{device}/{name}").into())),
        }
    }

    /// The channel on which the alarms of this one are told:
    /// `weather/temperature/alarm`. It has none of its own.
    #[must_use]
    pub fn alarm(&self) -> Channel {
        if self.is_alarm() { self.clone() } else { Channel(format!("{}{ALARM}", self.0).into()) }
    }

    /// Whether it tells the alarms of another.
    pub fn is_alarm(&self) -> bool {
        self.name().ends_with(ALARM)
    }

    /// The full name: `weather/temperature`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the device: `weather`.
    pub fn device(&self) -> &str {
        self.parts().0
    }

    /// The name within the device: `temperature`.
    pub fn name(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&str, &str) {
        self.0.split_once('/').expect("a channel is made with a slash")
    }
}

impl std::str::FromStr for Channel {
    type Err = InvalidName;

    fn from_str(full: &str) -> Result<Channel, InvalidName> {
        let (device, name) = full.split_once('/').ok_or_else(|| InvalidName(full.to_owned()))?;
        Channel::new(device, name)
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Unit {
    /// A unit known when the gateway is built.
    pub const fn of(code: &'static str) -> Unit {
        Unit(Cow::Borrowed(code))
    }

    /// The code; empty for a bare number.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Unit {
    fn from(code: String) -> Unit {
        Unit(Cow::Owned(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_break_a_topic_are_refused() {
        for full in ["a", "a/", "/b", "a/b/c", "a/#", "A/b", "a /b", "-a/b", "a/_b", "ä/b"] {
            assert!(full.parse::<Channel>().is_err(), "{full}");
        }
        let long = "x".repeat(NAME_MAX);
        assert!(is_name(&long) && !is_name(&format!("{long}x")));
        let channel: Channel = "0a-1/b_2".parse().unwrap();
        assert_eq!((channel.device(), channel.name()), ("0a-1", "b_2"));
    }

    #[test]
    fn an_alarm_is_a_channel_too() {
        let channel: Channel = "weather/temperature".parse().unwrap();
        let alarm = channel.alarm();
        assert_eq!(alarm, "weather/temperature/alarm".parse().unwrap());
        assert_eq!((alarm.device(), alarm.name()), ("weather", "temperature/alarm"));
        assert!(alarm.is_alarm() && !channel.is_alarm() && alarm.alarm() == alarm);
        for full in ["a/alarm/alarm/alarm", "a//alarm", "/alarm", "a/b/alarms"] {
            assert!(full.parse::<Channel>().is_err(), "{full}");
        }
        // A channel may be called so.
        assert!(!"door/alarm".parse::<Channel>().unwrap().is_alarm());
    }
}
