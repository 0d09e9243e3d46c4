//! From a table of the configuration file to checked settings: every error at
//! once, each with its place, what is wrong and what would be right.
//!
//! serde stops at the first error. So the key it names is taken out and the
//! rest is tried again, until the table is accepted or only a missing key
//! remains. Needs structs with `deny_unknown_fields` and without `flatten` or
//! `untagged`, which lose the place.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use serde::de::DeserializeOwned;
use serde_path_to_error::{Path, Segment};
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// Names that differ by more than this share are not what was meant.
const ALIKE: f64 = 0.75;
/// More errors in one table are the same mistake over again; a limit keeps a
/// wrong file from costing seconds.
const ERRORS_MAX: usize = 100;

/// One thing that is wrong in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where, in bytes of the file; `None` for what has no place in it.
    pub span: Option<Range<usize>>,
    /// The key: `device.weather.channel.temperature.scale`.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

impl std::error::Error for ConfigError {}

/// Reads a table into `T` and collects all errors in it.
///
/// `path` is the table's own, such as `device.weather`; `also` are keys of the
/// table that `T` doesn't have because another reads them: they count for 'did
/// you mean'.
///
/// What is wrong is taken out, and so has its default in the settings: further
/// checks can say more. Look at `errors` before using them. Gives `None` when
/// what is left is no `T`, mostly because a key is missing.
pub fn parse<T: DeserializeOwned>(
    table: Spanned<DeTable<'_>>,
    path: &str,
    also: &[&str],
    errors: &mut Vec<ConfigError>,
) -> Option<T> {
    read(table, path, also, errors).0
}

/// The same for tables in which one key decides what the others mean: when that
/// key isn't understood, further checks would find mistakes that are none, and
/// there are no settings.
pub(crate) fn parse_choice<T: DeserializeOwned>(
    table: Spanned<DeTable<'_>>,
    path: &str,
    also: &[&str],
    errors: &mut Vec<ConfigError>,
) -> Option<T> {
    let (settings, chosen) = read(table, path, also, errors);
    settings.filter(|_| chosen)
}

/// Also tells whether every key that is one of several words was understood.
fn read<T: DeserializeOwned>(
    table: Spanned<DeTable<'_>>,
    path: &str,
    also: &[&str],
    errors: &mut Vec<ConfigError>,
) -> (Option<T>, bool) {
    let span = table.span();
    let mut root = Spanned::new(span, DeValue::Table(table.into_inner()));
    let mut removed: HashSet<String> = HashSet::new();
    let mut chosen = true;
    for _ in 0..ERRORS_MAX {
        let input = ValueDeserializer::from(root.clone());
        let error = match serde_path_to_error::deserialize::<_, T>(input) {
            Ok(settings) => return (Some(settings), chosen),
            Err(error) => error,
        };
        let (inner, keys) = (error.inner(), keys(error.path()));
        let last = keys.last().map_or("", String::as_str);
        let problem = Problem::of(inner.message(), last, also);
        // What was meant isn't missing as well.
        if let Problem::Unknown { meant: Some(meant), .. } = &problem
            && let Some((_, around)) = keys.split_last()
        {
            removed.insert([around, std::slice::from_ref(meant)].concat().join("."));
        }
        let mut place = keys.clone();
        if let Problem::Missing(name) = &problem {
            place.push(name.clone());
        }
        // A key that was taken out because its value is wrong is then missing.
        let inside = format!("{}.", place.join("."));
        let emptied = inner.message().starts_with("wanted exactly 1 element")
            && removed.iter().any(|removed| removed.starts_with(&inside));
        if !removed.contains(&place.join(".")) && !emptied {
            errors.push(ConfigError {
                span: inner.span().or_else(|| Some(span_of(&root, &keys))),
                path: join(path, &place),
                message: problem.to_string(),
            });
        }
        chosen &= !matches!(problem, Problem::Variant { .. });
        match take_out(&mut root, &keys) {
            Some(taken) => removed.insert(taken),
            None => return (None, chosen),
        };
    }
    (None, chosen)
}

/// Where errors go that only a look at the whole table can find.
pub struct Report<'a> {
    /// The table, for the places of its keys.
    table: Spanned<DeValue<'a>>,
    path: &'a str,
    errors: &'a mut Vec<ConfigError>,
    /// The paths below this table that were wrong before.
    known: Vec<String>,
}

impl<'a> Report<'a> {
    /// For the table at `path`.
    pub fn new(
        table: Spanned<DeTable<'a>>,
        path: &'a str,
        errors: &'a mut Vec<ConfigError>,
    ) -> Report<'a> {
        let span = table.span();
        let table = Spanned::new(span, DeValue::Table(table.into_inner()));
        let below = |error: &&ConfigError| {
            error.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'))
        };
        let known = errors.iter().filter(below).map(|error| error.path.clone()).collect();
        Report { table, path, errors, known }
    }

    /// Something is wrong with the value of a key. When the key isn't in the
    /// file, the nearest table around it is shown. A key that is wrong already
    /// is not told of twice: its value here may be a default.
    pub fn at(&mut self, keys: &[&str], message: impl Into<String>) {
        let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
        let path = join(self.path, &keys);
        if !keys.is_empty() && self.known.iter().any(|known| same(known, &path)) {
            return;
        }
        let span = Some(span_of(&self.table, &keys));
        self.errors.push(ConfigError { span, path, message: message.into() });
    }
}

/// Whether one is the other, or within it.
fn same(one: &str, other: &str) -> bool {
    let within = |long: &str, short: &str| {
        long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    within(one, other) || within(other, one)
}

/// What serde says, understood.
enum Problem {
    Unknown { key: String, meant: Option<String>, known: Vec<String> },
    Variant { value: String, meant: Option<String>, known: Vec<String> },
    Missing(String),
    Other(String),
}

impl Problem {
    /// `key` is the last of the path: of a table that is one of several, which.
    fn of(message: &str, key: &str, also: &[&str]) -> Problem {
        if message == "invalid type: unit variant, expected newtype variant" {
            return Problem::Other(format!("expected more than its name: {{ {key} = … }}"));
        }
        if message.starts_with("wanted exactly 1 element") {
            return Problem::Other("expected a table with one key, that says which it is".into());
        }
        let mut names = backticked(message);
        if message.starts_with("missing field") && !names.is_empty() {
            return Problem::Missing(names.remove(0));
        }
        let unknown_field = message.starts_with("unknown field");
        if names.is_empty() || !(unknown_field || message.starts_with("unknown variant")) {
            return Problem::Other(plain(message));
        }
        let found = names.remove(0);
        if unknown_field {
            names.extend(also.iter().map(|&key| key.to_owned()));
            names.sort();
            names.dedup();
            Problem::Unknown { meant: meant(&found, &names), key: found, known: names }
        } else {
            Problem::Variant { meant: meant(&found, &names), value: found, known: names }
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Unknown { key, meant: Some(meant), .. } => {
                write!(f, "unknown key `{key}`; did you mean `{meant}`?")
            }
            Problem::Unknown { key, known, .. } if known.is_empty() => {
                write!(f, "unknown key `{key}`; there are none here")
            }
            Problem::Unknown { key, known, .. } => {
                let are = if known.len() == 1 { "is only" } else { "are" };
                write!(f, "unknown key `{key}`; there {are} {}", listed(known))
            }
            Problem::Variant { value, meant: Some(meant), known } => write!(
                f,
                "unknown value \"{value}\"; did you mean \"{meant}\"? there are {}",
                listed(known)
            ),
            Problem::Variant { value, known, .. } => {
                write!(f, "unknown value \"{value}\"; there are {}", listed(known))
            }
            Problem::Missing(key) => write!(f, "missing key `{key}`"),
            Problem::Other(message) => f.write_str(message),
        }
    }
}

/// The name nearest to `found`, when it is near enough to be what was meant.
pub fn meant<S: AsRef<str>>(found: &str, names: &[S]) -> Option<String> {
    let alike = |name: &str| {
        // Jaro-Winkler favours a common beginning; a transposition counts little.
        strsim::jaro_winkler(&found.to_lowercase(), name)
    };
    let best = names.iter().map(|name| (alike(name.as_ref()), name.as_ref()));
    let best = best.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= ALIKE).then(|| best.1.to_owned())
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// serde's words for types and values, in those of the file.
fn plain(message: &str) -> String {
    if message == "invalid socket address syntax" {
        return format!("expected {ADDRESS}; a name won't do");
    }
    if let Some(lengths) = message.strip_prefix("invalid length ")
        && let Some((found, expected)) = lengths.split_once(", expected an array of length ")
    {
        return format!("expected a list of {expected}, found {found}");
    }
    let Some((found, expected)) = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))
        .and_then(|rest| rest.rsplit_once(", expected "))
    else {
        return message.to_owned();
    };
    let found = found
        .replacen("string ", "the text ", 1)
        .replacen("integer ", "the number ", 1)
        .replacen("floating point ", "the number ", 1)
        .replacen("boolean ", "", 1)
        .replacen("sequence", "a list", 1)
        .replacen("map", "a table", 1)
        .replace('`', "");
    // "9600" or "true": what is meant is there, and in quotes.
    let quoted = found.strip_prefix("the text ").map(|text| text.trim_matches('"'));
    let mend = match (expected, quoted) {
        ("a boolean", Some("true" | "false")) => "; leave the quotes out",
        (_, Some(text)) if is_numeric(expected) && text.parse::<f64>().is_ok() => {
            "; leave the quotes out"
        }
        _ => "",
    };
    format!("expected {}, found {found}{mend}", expectation(expected))
}

/// What `listen` is.
const ADDRESS: &str = "an address and a port such as \"0.0.0.0:8080\"";

/// serde's name of a type of numbers.
fn is_numeric(expected: &str) -> bool {
    let types = ["u8", "u16", "u32", "u64", "usize", "i8", "i16", "i32", "i64", "isize"];
    types.contains(&expected) || matches!(expected, "f32" | "f64")
}

/// What a value of the file is, for people.
pub fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn expectation(expected: &str) -> Cow<'_, str> {
    Cow::Borrowed(match expected {
        "socket address" => ADDRESS,
        "a duration" => "a duration such as 250ms, 1s, 15min, 30d",
        "parsable string" => "a size such as 64MiB, 2GiB",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, not negative",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" => "a text in quotes",
        "a sequence" => "a list",
        "a map" => "a table",
        struct_name if struct_name.starts_with("struct ") => "a table",
        other => return Cow::Borrowed(other),
    })
}

fn backticked(message: &str) -> Vec<String> {
    message.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The keys of a path as far as they name tables and lists; indices as digits.
fn keys(path: &Path) -> Vec<String> {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Map { key } => Some(key.clone()),
            Segment::Seq { index } => Some(index.to_string()),
            // The key of a table that is one of several: { median = 5 }.
            Segment::Enum { variant } => Some(variant.clone()),
            Segment::Unknown => None,
        })
        .collect()
}

fn join(path: &str, keys: &[String]) -> String {
    let mut full = path.to_owned();
    for key in keys {
        if !full.is_empty() {
            full.push('.');
        }
        full.push_str(key);
    }
    full
}

/// The place of the value that the keys lead to, or as far as they lead.
fn span_of(root: &Spanned<DeValue<'_>>, keys: &[String]) -> Range<usize> {
    let mut at = root;
    for key in keys {
        let next = match at.get_ref() {
            DeValue::Table(table) => table.get(key.as_str()),
            DeValue::Array(array) => key.parse().ok().and_then(|i: usize| array.get(i)),
            _ => None,
        };
        match next {
            Some(next) => at = next,
            None => break,
        }
    }
    at.span()
}

/// Removes what the keys lead to and gives its path. Of a list the whole is
/// removed, or the places of its other items would be wrong.
fn take_out(root: &mut Spanned<DeValue<'_>>, keys: &[String]) -> Option<String> {
    let mut at = root;
    for (depth, key) in keys.iter().enumerate() {
        let DeValue::Table(table) = at.get_mut() else { return None };
        let last = depth + 1 == keys.len();
        if last || !matches!(table.get(key.as_str())?.get_ref(), DeValue::Table(_)) {
            table.remove(key.as_str())?;
            return Some(keys[..=depth].join("."));
        }
        at = table.get_mut(key.as_str())?;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expect_test::{Expect, expect};
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Forward {
        url: String,
        #[serde(default, with = "humantime_serde::option")]
        keep: Option<Duration>,
        tls: Option<Tls>,
        #[serde(default)]
        nodes: Vec<Tls>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Tls {
        cert: String,
        #[expect(dead_code, reason = "only its type matters here")]
        port: u16,
    }

    fn check(file: &str, expected: &Expect) -> Option<Forward> {
        let mut errors = Vec::new();
        let table = DeTable::parse(file).unwrap();
        let settings = parse(table, "forward.cloud", &["channels"], &mut errors);
        let shown = |error: &ConfigError| {
            let span = error.span.clone().unwrap_or_default();
            format!("{:?} {error}\n", file.get(span).unwrap_or("?"))
        };
        expected.assert_eq(&errors.iter().map(shown).collect::<String>());
        settings
    }

    #[test]
    fn what_is_wrong_is_left_out_and_the_rest_still_gives_settings() {
        let settings = check(
            "url = 'ws://x'\nchanels = []\nzzz = 1",
            &expect![[r#"
                "chanels" forward.cloud.chanels: unknown key `chanels`; did you mean `channels`?
                "zzz" forward.cloud.zzz: unknown key `zzz`; there are `channels`, `keep`, `nodes`, `tls`, `url`
            "#]],
        );
        assert_eq!(settings.unwrap().url, "ws://x");
        assert!(check("url = 1\nkeep = '5 moons'", &expect![[r#"
            "'5 moons'" forward.cloud.keep: expected a duration such as 250ms, 1s, 15min, 30d, found the text "5 moons"
            "1" forward.cloud.url: expected a text in quotes, found the number 1
        "#]]).is_none());
        let settings = check(
            "url = 'ws://x'\nkeep = 5",
            &expect![[r#"
            "5" forward.cloud.keep: expected a duration such as 250ms, 1s, 15min, 30d, found the number 5
        "#]],
        );
        assert_eq!(settings.unwrap().keep, None);
    }

    #[test]
    fn a_key_that_is_wrong_already_is_not_told_of_twice() {
        let table = DeTable::parse("url = 1\nnodes = [1]").unwrap();
        let wrong = |path: &str| ConfigError {
            span: None,
            path: path.to_owned(),
            message: "wrong".to_owned(),
        };
        let mut errors = vec![wrong("a.url"), wrong("a.nodes.0"), wrong("ab.keep")];
        let mut report = Report::new(table, "a", &mut errors);
        for keys in [&["url"][..], &["nodes"], &["nodes", "0"], &["keep"], &["urls"]] {
            report.at(keys, "told");
        }
        let told = errors.iter().filter(|error| error.message == "told");
        assert_eq!(told.map(|error| error.path.as_str()).collect::<Vec<_>>(), ["a.keep", "a.urls"]);
    }

    #[test]
    fn a_missing_key_is_told_once_and_not_when_its_value_was_wrong() {
        check(
            "keep = 5",
            &expect![[r#"
            "5" forward.cloud.keep: expected a duration such as 250ms, 1s, 15min, 30d, found the number 5
            "" forward.cloud.url: missing key `url`
        "#]],
        );
        check(
            "url = ''\ntls = { cert = 1, prt = 1 }",
            &expect![[r#"
            "1" forward.cloud.tls.cert: expected a text in quotes, found the number 1
            "prt" forward.cloud.tls.prt: unknown key `prt`; did you mean `port`?
        "#]],
        );
        check(
            "url = ''\nnodes = [{ cert = '', port = 1 }, { cert = '', port = 70000 }]",
            &expect![[r#"
            "70000" forward.cloud.nodes.1.port: expected a whole number from 0 to 65535, found the number 70000
        "#]],
        );
    }

    #[test]
    fn good_settings_have_no_errors() {
        let file = "url = 'ws://x'\nkeep = '15min'\ntls = { cert = 'c', port = 1 }";
        let settings = check(file, &expect![[""]]).unwrap();
        assert_eq!(settings.keep, Some(Duration::from_secs(900)));
        assert_eq!((settings.tls.unwrap().cert.as_str(), settings.nodes.len()), ("c", 0));
    }
}
