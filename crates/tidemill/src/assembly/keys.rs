//! In which keys two configurations differ.

use std::collections::BTreeSet;

use toml::{Table, Value};

use crate::redact::{Secrets, is_secret};

/// A line a key: `+ device.well.poll = "1s"`, `- …`, `~ … = old -> new`, without
/// secrets. Comments and layout are no difference.
pub(super) fn differences(before: &str, now: &str) -> Vec<String> {
    let mut lines = Vec::new();
    // Both were parsed before.
    let table = |text: &str| text.parse::<Table>().unwrap_or_default();
    compare("", &table(before), &table(now), &mut lines);
    let (old, new) = (Secrets::of_text(before), Secrets::of_text(now));
    lines.iter().map(|line| new.scrubbed(&old.scrubbed(line))).collect()
}

fn compare(path: &str, before: &Table, now: &Table, lines: &mut Vec<String>) {
    let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    for key in keys {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match (before.get(key), now.get(key)) {
            (Some(Value::Table(before)), Some(Value::Table(now))) => {
                compare(&path, before, now, lines);
            }
            (Some(before), Some(now)) if before == now => (),
            (Some(_), Some(_)) if is_secret(key) => lines.push(format!("~ {path}: another")),
            (Some(before), Some(now)) => lines.push(format!("~ {path} = {before} -> {now}")),
            (Some(before), None) => one("-", &path, key, before, lines),
            (None, Some(now)) => one("+", &path, key, now, lines),
            (None, None) => (),
        }
    }
}

/// A key that came or went; of a section each part by itself.
fn one(sign: &str, path: &str, key: &str, value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Table(parts) if parts.values().all(Value::is_table) && !parts.is_empty() => {
            for (name, part) in parts {
                one(sign, &format!("{path}.{name}"), name, part, lines);
            }
        }
        _ if is_secret(key) => lines.push(format!("{sign} {path}")),
        _ => lines.push(format!("{sign} {path} = {value}")),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::differences;

    #[test]
    fn each_key_is_told_and_no_secret() {
        let before = "# a comment\n[store]\nkeep = \"30d\"\n[forward.cloud]\n\
            url = \"wss://a/mqtt\"\nheaders = { X-Key = \"verborgen\" }\n[device.a]\ndriver = \"sim\"\n";
        let now = "[store]\nkeep='30d'\n[forward.cloud]\nurl = \"wss://b/mqtt\"\n\
            headers = { X-Key = \"geheim\" }\n[device.b]\ndriver = \"sim\"\n";
        expect![[r#"
            - device.a = { driver = "sim" }
            + device.b = { driver = "sim" }
            ~ forward.cloud.headers.X-Key = "***" -> "***"
            ~ forward.cloud.url = "wss://a/mqtt" -> "wss://b/mqtt""#]]
        .assert_eq(&differences(before, now).join("\n"));
        assert_eq!(differences(before, before), Vec::<String>::new());
    }
}
