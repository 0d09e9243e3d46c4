//! What is in the binary: every library with version, licence and checksum, as
//! CycloneDX 1.5, and the texts of their licences.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::Board;
use crate::{root, step};

/// One library of the binary or of the page.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Library {
    name: String,
    version: String,
    licence: String,
    /// `cargo` or `npm`, as package URLs have it.
    kind: &'static str,
    /// Where its sources lie.
    folder: PathBuf,
    checksum: Option<String>,
}

impl Library {
    /// <https://github.com/package-url/purl-spec>
    fn url(&self) -> String {
        format!("pkg:{}/{}@{}", self.kind, self.name.replace('@', "%40"), self.version)
    }
}

/// All of them, in order.
pub(crate) fn all(board: Board) -> Result<Vec<Library>> {
    let mut libraries = crates(board)?;
    libraries.extend(page()?);
    libraries.sort();
    Ok(libraries)
}

fn crates(board: Board) -> Result<Vec<Library>> {
    let arguments =
        ["metadata", "--format-version", "1", "--locked", "--filter-platform", board.triple];
    let output = step::cargo(&arguments).output()?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let lock: toml::Table = fs::read_to_string(root().join("Cargo.lock"))?.parse()?;
    Ok(linked(&metadata, &sums(&lock)))
}

/// Checksums by name and version.
fn sums(lock: &toml::Table) -> BTreeMap<(String, String), String> {
    let packages = lock.get("package").and_then(toml::Value::as_array).into_iter().flatten();
    packages
        .filter_map(|package| {
            let of = |key: &str| Some(package.get(key)?.as_str()?.to_owned());
            Some(((of("name")?, of("version")?), of("checksum")?))
        })
        .collect()
}

/// What the binary is linked from: everything that `tidemill` needs, without
/// what only builds or tests it.
fn linked(metadata: &Value, sums: &BTreeMap<(String, String), String>) -> Vec<Library> {
    let nodes = metadata["resolve"]["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let start = packages.iter().find(|package| package["name"] == "tidemill");
    let mut waiting: Vec<String> = start.map(|package| of(package, "id")).into_iter().collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        let node = nodes.iter().find(|node| node["id"] == id.as_str());
        let needed = node.and_then(|node| node["deps"].as_array()).into_iter().flatten();
        for dependency in needed {
            let kinds = dependency["dep_kinds"].as_array().into_iter().flatten();
            if kinds.into_iter().any(|kind| kind["kind"].is_null()) {
                waiting.push(of(dependency, "pkg"));
            }
        }
    }
    let ours = |package: &&Value| seen.contains(package["id"].as_str().unwrap_or_default());
    let libraries = packages.iter().filter(ours).filter(|package| !package["source"].is_null());
    libraries
        .map(|package| {
            let (name, version) = (of(package, "name"), of(package, "version"));
            Library {
                checksum: sums.get(&(name.clone(), version.clone())).cloned(),
                licence: of(package, "license").replace('/', " OR "),
                folder: Path::new(&of(package, "manifest_path")).with_file_name(""),
                kind: "cargo",
                name,
                version,
            }
        })
        .collect()
}

/// What is bundled into the page.
fn page() -> Result<Vec<Library>> {
    let web = root().join("crates/dashboard/web");
    let lock = fs::read(web.join("package-lock.json")).context("package-lock.json")?;
    let lock: Value = serde_json::from_slice(&lock)?;
    let packages = lock["packages"].as_object().context("package-lock.json has no packages")?;
    let bundled = packages.iter().filter_map(|(path, package)| {
        let name = path.strip_prefix("node_modules/")?;
        if package["dev"] == true {
            return None;
        }
        Some(Library {
            name: name.to_owned(),
            version: package["version"].as_str()?.to_owned(),
            licence: package["license"].as_str().unwrap_or("MIT").to_owned(),
            kind: "npm",
            folder: web.join(path),
            checksum: None,
        })
    });
    Ok(bundled.collect())
}

/// CycloneDX 1.5: <https://cyclonedx.org/docs/1.5/json/>
pub(crate) fn bill(libraries: &[Library], version: &str, board: Board) -> String {
    let components: Vec<Value> = libraries
        .iter()
        .map(|library| {
            let mut component = json!({
                "type": "library",
                "bom-ref": library.url(),
                "name": library.name,
                "version": library.version,
                "purl": library.url(),
                "licenses": [{ "expression": library.licence }],
            });
            if let Some(checksum) = &library.checksum {
                component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
            }
            component
        })
        .collect();
    let refs: Vec<String> = libraries.iter().map(Library::url).collect();
    let own = format!("pkg:deb/tidemill@{version}?arch={}", board.architecture);
    let bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": {
            "type": "application",
            "bom-ref": own,
            "name": "tidemill",
            "version": version,
            "purl": own,
            "licenses": [{ "expression": "MIT OR Apache-2.0" }],
        }},
        "components": components,
        "dependencies": [{ "ref": own, "dependsOn": refs }],
    });
    format!("{bill:#}\n")
}

/// The texts of the licences, each once, under the names of those who use it.
pub(crate) fn texts(libraries: &[Library]) -> Result<String> {
    let mut users: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for library in libraries {
        let mut found = false;
        let Ok(entries) = fs::read_dir(&library.folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
            let named = ["LICEN", "COPYING", "COPYRIGHT", "NOTICE"];
            if path.is_file() && named.iter().any(|start| name.starts_with(start)) {
                let text = String::from_utf8_lossy(&fs::read(&path)?).trim().to_owned();
                let user = format!("{} {}", library.name, library.version);
                users.entry(text).or_default().insert(user);
                found = true;
            }
        }
        if !found {
            let only = format!("{} (its package has no text)", library.licence);
            let user = format!("{} {}", library.name, library.version);
            users.entry(only).or_default().insert(user);
        }
    }
    let mut all = String::from("The licences of what Tidemill's binary and page are made of.\n");
    for (text, users) in users {
        let users: Vec<String> = users.into_iter().collect();
        all.push_str(&format!("\n{}\n{}\n\n{text}\n", "=".repeat(78), users.join(", ")));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_builds_or_tests_is_no_ingredient() {
        let package = |name: &str, source: Value| {
            json!({ "name": name, "id": name, "version": "1.0.0", "license": "MIT/Apache-2.0",
                "manifest_path": format!("/r/{name}/Cargo.toml"), "source": source })
        };
        let needs = |name: &str, kind: Value| json!({ "pkg": name, "dep_kinds": [{"kind": kind}] });
        let metadata = json!({
            "packages": [package("tidemill", Value::Null), package("a", json!("registry")),
                package("b", json!("registry")), package("c", json!("registry"))],
            "resolve": { "nodes": [
                { "id": "tidemill", "deps": [needs("a", Value::Null), needs("c", json!("dev"))] },
                { "id": "a", "deps": [needs("b", Value::Null), needs("c", json!("build"))] },
                { "id": "b", "deps": [needs("a", Value::Null)] },
                { "id": "c", "deps": [] },
            ]},
        });
        let sums = BTreeMap::from([(("b".to_owned(), "1.0.0".to_owned()), "ff".to_owned())]);
        let libraries = linked(&metadata, &sums);
        let names: Vec<&str> = libraries.iter().map(|library| library.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(libraries[1].checksum.as_deref(), Some("ff"));
        let bill: Value =
            serde_json::from_str(&bill(&libraries, "1-1", super::super::arguments::BOARDS[0]))
                .unwrap();
        assert_eq!(bill["components"][0]["purl"], "pkg:cargo/a@1.0.0");
        assert_eq!(bill["components"][0]["licenses"][0]["expression"], "MIT OR Apache-2.0");
    }

    #[test]
    fn the_page_has_ingredients_too() {
        let names: Vec<String> = page().unwrap().into_iter().map(|library| library.name).collect();
        assert!(names.iter().any(|name| name == "uplot"), "{names:?}");
        assert!(!names.iter().any(|name| name == "vite"), "{names:?}");
    }
}
