use std::fmt;
use std::str::FromStr;

use crate::Channel;

/// The longest pattern, in bytes: two names, a slash, and room for stars.
const PATTERN_MAX: usize = 160;

/// A glob over full channel names: `*` stands for any run of characters, also
/// none, and also across the slash. `*`, `weather/*`, `*/temperature`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern(Box<str>);

/// A text that no channel could match.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a pattern of channels: use names and '*', such as \"*\" or \"weather/*\"")]
pub struct InvalidPattern(pub String);

impl Pattern {
    /// The pattern that every channel matches.
    pub fn any() -> Pattern {
        Pattern("*".into())
    }

    /// Whether a channel matches.
    pub fn matches(&self, channel: &Channel) -> bool {
        matches(self.0.as_bytes(), channel.as_str().as_bytes())
    }

    /// The text of the pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Goes back to the last star only, so the time is at most the product of the
/// two lengths.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, from)) = star {
            star = Some((at, from + 1));
            p = at + 1;
            t = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&b| b == b'*')
}

impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Pattern, InvalidPattern> {
        let known = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'/' | b'*');
        let slashes = text.bytes().filter(|&b| b == b'/').count();
        let possible = slashes == 1 || (slashes == 0 && text.contains('*'));
        if possible && text.len() <= PATTERN_MAX && text.bytes().all(known) {
            Ok(Pattern(text.into()))
        } else {
            Err(InvalidPattern(text.to_owned()))
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_any_run() {
        let channel: Channel = "weather/temperature".parse().unwrap();
        for (pattern, expected) in [
            ("*", true),
            ("weather/*", true),
            ("*/temperature", true),
            ("w*r/t*e", true),
            ("*e*e*e*e", true),
            ("weather/temp", false),
            ("panel/*", false),
            ("weather/temperature*", true),
        ] {
            let pattern: Pattern = pattern.parse().unwrap();
            assert_eq!(pattern.matches(&channel), expected, "{pattern}");
        }
    }

    #[test]
    fn a_text_that_no_channel_matches_is_refused() {
        for text in ["", "weather", "a/b/c", "a/+", "A/*", "#"] {
            assert!(text.parse::<Pattern>().is_err(), "{text}");
        }
    }
}
