//! What deny.toml says of licences and of banned crates, checked against what
//! `cargo metadata` says of the libraries we ship. cargo-deny does the same, and
//! more; this is for machines that don't have it.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{root, step};

/// Reads deny.toml and the dependencies.
///
/// # Errors
/// Every library whose licence isn't allowed, and every banned crate.
pub(crate) fn check() -> Result<()> {
    let rules = std::fs::read_to_string(root().join("deny.toml")).context("deny.toml")?;
    let rules: toml::Table = rules.parse().context("deny.toml")?;
    let output = step::cargo(&["metadata", "--format-version", "1", "--locked"]).output()?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let (count, wrong) = judge(&rules, &metadata);
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    if count == 0 {
        bail!("cargo metadata names no library: nothing was checked");
    }
    println!("{count} libraries, all under an allowed licence, none banned");
    Ok(())
}

/// How many libraries were looked at, and what is wrong with which.
fn judge(rules: &toml::Table, metadata: &Value) -> (usize, Vec<String>) {
    let allowed: BTreeSet<&str> =
        list(rules, "licenses", "allow").filter_map(toml::Value::as_str).collect();
    let banned: BTreeSet<&str> = list(rules, "bans", "deny").filter_map(crate_name).collect();
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut wrong = Vec::new();
    for package in packages {
        let (name, version) = (text(&package["name"]), text(&package["version"]));
        if banned.contains(name) {
            wrong.push(format!("{name} {version} is banned in deny.toml"));
        }
        let mut allowed = allowed.clone();
        let exceptions = list(rules, "licenses", "exceptions");
        for exception in exceptions.filter(|exception| crate_name(exception) == Some(name)) {
            let more = exception.get("allow").and_then(toml::Value::as_array);
            allowed.extend(more.into_iter().flatten().filter_map(toml::Value::as_str));
        }
        match package["license"].as_str() {
            None => wrong.push(format!("{name} {version} names no licence")),
            Some(licence) if !is_allowed(licence, &allowed) => {
                wrong.push(format!("{name} {version}: {licence:?} is not allowed in deny.toml"));
            }
            Some(_) => {}
        }
    }
    (packages.len(), wrong)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list<'a>(
    rules: &'a toml::Table,
    section: &str,
    key: &str,
) -> impl Iterator<Item = &'a toml::Value> + use<'a> {
    let list = rules.get(section).and_then(|section| section.get(key));
    list.and_then(toml::Value::as_array).into_iter().flatten()
}

/// An entry is a name, or a table that has one.
fn crate_name(entry: &toml::Value) -> Option<&str> {
    entry.as_str().or_else(|| entry.get("crate")?.as_str())
}

/// Whether an SPDX expression can be met with allowed licences alone. `AND`
/// binds tighter than `OR` (SPDX 2.3, annex D.4); old crates write `/` for `OR`.
fn is_allowed(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let met = any_of(&mut rest, allowed);
    met.unwrap_or(false) && rest.is_empty()
}

fn any_of(rest: &mut &[&str], allowed: &BTreeSet<&str>) -> Option<bool> {
    let mut met = all_of(rest, allowed)?;
    while rest.first() == Some(&"OR") {
        *rest = &rest[1..];
        // Not short-circuited: the other side has to be read in any case.
        met |= all_of(rest, allowed)?;
    }
    Some(met)
}

fn all_of(rest: &mut &[&str], allowed: &BTreeSet<&str>) -> Option<bool> {
    let mut met = one(rest, allowed)?;
    while rest.first() == Some(&"AND") {
        *rest = &rest[1..];
        met &= one(rest, allowed)?;
    }
    Some(met)
}

fn one(rest: &mut &[&str], allowed: &BTreeSet<&str>) -> Option<bool> {
    let (&word, mut after) = rest.split_first()?;
    if word == "(" {
        let met = any_of(&mut after, allowed)?;
        let (&close, after) = after.split_first()?;
        *rest = after;
        return (close == ")").then_some(met);
    }
    // An exception only adds permissions, so what it is added to decides, but
    // the list may name the two together.
    if let [with, exception, beyond @ ..] = after
        && *with == "WITH"
    {
        *rest = beyond;
        let both = format!("{word} WITH {exception}");
        return Some(allowed.contains(word) || allowed.contains(both.as_str()));
    }
    *rest = after;
    Some(allowed.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_met_as_spdx_says() {
        let allowed = BTreeSet::from(["MIT", "Apache-2.0", "Unicode-3.0"]);
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("MIT OR GPL-3.0", true),
            ("MIT/Apache-2.0", true),
            ("MIT AND GPL-3.0", false),
            ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
            ("GPL-3.0 OR MIT AND GPL-3.0", false),
            ("GPL-3.0 AND MIT OR Apache-2.0", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("GPL-2.0 WITH Classpath-exception-2.0", false),
            ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", true),
            ("(MIT", false),
            ("MIT GPL-3.0", false),
            ("", false),
        ] {
            assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
        }
    }

    #[test]
    fn what_is_banned_or_unlicensed_is_named() {
        let rules = "bans.deny = [{ crate = 'openssl' }, 'rand']\n[licenses]\nallow = ['MIT']\n\
            exceptions = [{ crate = 'port', allow = ['MPL-2.0'] }]";
        let metadata = serde_json::json!({ "packages": [
            { "name": "good", "version": "1.0.0", "license": "MIT" },
            { "name": "port", "version": "1.0.0", "license": "MPL-2.0" },
            { "name": "openssl", "version": "0.10.0", "license": "MIT" },
            { "name": "odd", "version": "2.0.0", "license": null },
            { "name": "viral", "version": "3.0.0", "license": "AGPL-3.0" },
        ]});
        let (count, wrong) = judge(&rules.parse().unwrap(), &metadata);
        assert_eq!(count, 5);
        assert_eq!(
            wrong,
            [
                "openssl 0.10.0 is banned in deny.toml",
                "odd 2.0.0 names no licence",
                "viral 3.0.0: \"AGPL-3.0\" is not allowed in deny.toml",
            ]
        );
    }
}
