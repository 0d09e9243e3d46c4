//! Takes secrets out of a text: those that the configuration names are looked
//! for everywhere, and what looks like one is taken out unasked.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use toml::{Table, Value};

use crate::config::Config;

/// What stands in the place of a secret.
const MASK: &str = "***";

/// Shorter texts are not looked for: they stand in half of all words.
const LENGTH_MIN: usize = 4;

/// Keys whose values nobody else needs. A user name is the token itself on some
/// brokers.
const SECRET_KEYS: &[&str] =
    &["password", "passwd", "secret", "token", "username", "authorization", "cookie", "api_key"];

/// Keys that only say where a secret is.
const PLACES: &[&str] = &["password_file", "password_env", "credential"];

/// Every secret that is known.
#[derive(Debug, Default)]
pub struct Secrets {
    known: BTreeSet<String>,
}

impl Secrets {
    /// Those that stand in the file itself, also in one that isn't valid.
    pub fn of_text(text: &str) -> Secrets {
        let mut secrets = Secrets::default();
        if let Ok(table) = text.parse::<Table>() {
            secrets.collect(&table, false);
        }
        secrets
    }

    /// And those that it names.
    pub fn add_of(&mut self, config: &Config) {
        for forwarder in config.forwarders.values() {
            for path in forwarder.password_file.iter().map(|path| path.as_path()) {
                self.add_file(path);
            }
            if let Some(name) = &forwarder.credential {
                let folder = std::env::var_os("CREDENTIALS_DIRECTORY");
                let folder = folder.unwrap_or_else(|| "/run/credentials/tidemill.service".into());
                self.add_file(&Path::new(&folder).join(name));
            }
            if let Some(word) = forwarder.password_env.as_ref().and_then(|n| std::env::var(n).ok())
            {
                self.add(&word);
            }
        }
    }

    fn add_file(&mut self, path: &Path) {
        // One that can't be read can't be anywhere in the bundle, either.
        for line in fs::read_to_string(path).unwrap_or_default().lines() {
            self.add(line.trim());
        }
    }

    fn add(&mut self, secret: &str) {
        if secret.len() >= LENGTH_MIN {
            self.known.insert(secret.to_owned());
        }
    }

    /// `Bearer x`: the whole, and what stands behind the kind.
    fn add_words(&mut self, secret: &str) {
        self.add(secret);
        for word in secret.split_ascii_whitespace().skip(1) {
            self.add(word);
        }
    }

    fn collect(&mut self, table: &Table, within: bool) {
        for (key, value) in table {
            let secret = within || is_secret(key);
            match value {
                Value::String(text) if secret => self.add_words(text),
                Value::String(text) => self.add_url(text),
                Value::Table(table) => self.collect(table, secret || key == "headers"),
                Value::Array(items) => {
                    for item in items.iter().filter_map(Value::as_str) {
                        if secret { self.add_words(item) } else { self.add_url(item) }
                    }
                }
                _ => (),
            }
        }
    }

    /// A query may be a signature, and a name before the host a password.
    fn add_url(&mut self, text: &str) {
        let Some((_, rest)) = text.split_once("://") else { return };
        if let Some((_, query)) = rest.split_once('?') {
            self.add(query);
            for (_, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
                self.add(value);
            }
        }
        if let Some((user, _)) = rest.split('/').next().unwrap_or_default().rsplit_once('@') {
            self.add(user);
        }
    }

    /// A configuration without its comments and secrets. One that can't be
    /// parsed keeps its keys alone: what its values are nobody knows.
    pub fn masked(&self, text: &str) -> String {
        let lines = text.lines().map(str::trim_end);
        if let Ok(mut table) = text.parse::<Table>() {
            mask(&mut table, false);
            return self.scrubbed(&table.to_string());
        }
        let keys = lines.filter(|line| !line.trim_start().starts_with('#')).map(|line| match line
            .split_once('=')
        {
            Some((key, _)) => format!("{}= {MASK}\n", key.trim_end().to_owned() + " "),
            None if line.starts_with('[') => format!("{line}\n"),
            None if line.is_empty() => "\n".to_owned(),
            None => format!("{MASK}\n"),
        });
        keys.collect()
    }

    /// The text without any of them, and without what looks like one.
    pub fn scrubbed(&self, text: &str) -> String {
        // Longer ones first: one secret may be part of another.
        let mut known: Vec<&String> = self.known.iter().collect();
        known.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let text = known
            .into_iter()
            .fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), MASK));
        let lines: Vec<String> = text.split('\n').map(unasked).collect();
        lines.join("\n")
    }
}

/// Whether what stands under a key is nobody else's business.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    !PLACES.contains(&key.as_str()) && SECRET_KEYS.iter().any(|secret| key.contains(secret))
}

fn mask(table: &mut Table, within: bool) {
    for (key, value) in table.iter_mut() {
        let secret = within || is_secret(key);
        match value {
            Value::Table(table) => mask(table, secret || key == "headers"),
            _ if secret => *value = Value::String(MASK.to_owned()),
            _ => (),
        }
    }
}

/// `password=…`, `token: …`, `Bearer …` and `://user:word@` of one line.
fn unasked(line: &str) -> String {
    let mut out = line.to_owned();
    for word in ["password", "passwd", "secret", "token", "authorization", "cookie", "bearer"] {
        let mut from = 0;
        while let Some(at) = out.get(from..).and_then(|rest| rest.to_ascii_lowercase().find(word)) {
            let after = from + at + word.len();
            from = after;
            let rest = &out[after..];
            let sign = rest.trim_start_matches(['"', '\'']).chars().next();
            let is_value = matches!(sign, Some('=' | ':')) || word == "bearer" && sign == Some(' ');
            if !is_value {
                continue;
            }
            let value = rest.trim_start_matches(['"', '\'', '=', ':', ' ']);
            // `Authorization: Bearer x`: the kind stays, what follows goes.
            let value = ["Bearer ", "bearer ", "Basic ", "basic "]
                .iter()
                .find_map(|kind| value.strip_prefix(kind))
                .unwrap_or(value);
            let start = out.len() - value.len();
            let length = value.find(['"', '\'', ' ', ',', ';', '}', '&']).unwrap_or(value.len());
            if length > 0 && &value[..length] != MASK {
                out.replace_range(start..start + length, MASK);
            }
        }
    }
    let mut from = 0;
    while let Some(at) = out.get(from..).and_then(|rest| rest.find("://")) {
        let start = from + at + 3;
        let rest = &out[start..];
        let end = rest.find(['/', ' ', '"', '\'', ')', '?']).unwrap_or(rest.len());
        from = start;
        if let Some(user) = rest[..end].rfind('@') {
            out.replace_range(start..start + user, MASK);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "kanarienvogel";

    #[test]
    fn no_secret_of_the_file_is_left_in_it() {
        let text = format!(
            "# password = \"{CANARY}\"\n[forward.cloud]\nurl = \"wss://a.example/mqtt?sig={CANARY}\"\n\
             urls = [\"ws://pi:{CANARY}@b.example/mqtt\"]\nusername = \"{CANARY}\"\n\
             password = \"{CANARY}\"\npassword_file = \"/etc/tidemill/word\"\n\
             headers = {{ Authorization = \"Bearer {CANARY}\", X-Key = \"{CANARY}\" }}\n\
             inflight = 20\n"
        );
        for text in
            [text.clone(), format!("{text}\nbroken = [\n"), format!("{text}\npassword = {CANARY}")]
        {
            let masked = Secrets::of_text(&text).masked(&text);
            assert!(!masked.contains(CANARY), "{masked}");
            assert!(masked.contains("inflight"), "{masked}");
        }
        let masked = Secrets::of_text(&text).masked(&text);
        assert!(masked.contains("/etc/tidemill/word") && masked.contains("a.example"), "{masked}");
    }

    #[test]
    fn a_known_secret_is_found_everywhere() {
        let secrets = Secrets::of_text(&format!("[forward.a]\npassword = \"{CANARY}\""));
        assert_eq!(secrets.scrubbed(&format!("the broker says {CANARY}!")), "the broker says ***!");
    }

    #[test]
    fn what_looks_like_a_secret_goes_unasked() {
        let none = Secrets::default();
        for (line, left) in [
            ("password=hunter2 user=pi", "password=*** user=pi"),
            ("{\"token\":\"abc\",\"n\":1}", "{\"token\":\"***\",\"n\":1}"),
            ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
            ("Cookie: session=abc; b=c", "Cookie: ***; b=c"),
            ("connect to ws://pi:word@a.example/mqtt", "connect to ws://***@a.example/mqtt"),
            (
                "it refuses the user name or the password",
                "it refuses the user name or the password",
            ),
            ("set password_file or credential", "set password_file or credential"),
        ] {
            assert_eq!(none.scrubbed(line), left);
        }
    }
}
