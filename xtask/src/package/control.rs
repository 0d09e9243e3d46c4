//! What the package says of itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use toml::{Table, Value};

use super::Board;
use crate::root;

/// `[package.metadata.deb]`, with version and board.
pub(crate) struct Control {
    package: Table,
    deb: Table,
    version: String,
    board: Board,
}

/// One line of `assets`.
pub(crate) struct Asset {
    pub(crate) source: String,
    pub(crate) mode: u32,
    to: String,
}

impl Asset {
    /// Where a file of it is installed.
    pub(crate) fn placed(&self, source: &Path) -> PathBuf {
        let to = PathBuf::from(&self.to);
        match source.file_name() {
            Some(name) if self.to.ends_with('/') => to.join(name),
            _ => to,
        }
    }
}

impl Control {
    pub(crate) fn read(version: &str, board: Board) -> Result<Control> {
        let manifest: Table =
            std::fs::read_to_string(root().join("crates/tidemill/Cargo.toml"))?.parse()?;
        let package = manifest["package"].as_table().context("[package]")?.clone();
        let deb = package["metadata"]["deb"].as_table().context("[package.metadata.deb]")?.clone();
        Ok(Control { package, deb, version: version.to_owned(), board })
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    pub(crate) fn board(&self) -> Board {
        self.board
    }

    pub(crate) fn file_name(&self) -> String {
        format!("tidemill_{}_{}.deb", self.version, self.board.suffix)
    }

    pub(crate) fn assets(&self) -> Vec<Asset> {
        let lines = self.deb["assets"].as_array().into_iter().flatten();
        lines
            .filter_map(|line| {
                let [source, to, mode] = line.as_array()?.as_slice() else { return None };
                let mode = u32::from_str_radix(mode.as_str()?, 8).ok()?;
                let (source, to) = (source.as_str()?.to_owned(), to.as_str()?.to_owned());
                Some(Asset { source, mode, to })
            })
            .collect()
    }

    pub(crate) fn conffiles(&self) -> String {
        let files = self.deb["conf-files"].as_array().into_iter().flatten();
        files.filter_map(Value::as_str).map(|file| format!("{file}\n")).collect()
    }

    /// The file `control`; `size` in KiB.
    pub(crate) fn text(&self, binary: &Path, size: u64) -> Result<String> {
        let of = |key: &str| self.deb[key].as_str().with_context(|| format!("no {key}"));
        let depends = of("depends")?;
        let depends = match needs(binary)? {
            Some(needs) => depends.replace("$auto", &needs),
            None => depends.replace("$auto, ", ""),
        };
        let summary = self.package["description"].as_str().context("no description")?;
        // A synopsis is short, without an article and without a full stop.
        let summary = summary.split([':', '.']).next().unwrap_or(summary);
        let summary = summary.trim_start_matches("An ").trim_start_matches("A ");
        let description: String =
            of("extended-description")?.lines().fold(String::new(), |text, line| {
                text + "\n " + if line.is_empty() { "." } else { line }
            });
        Ok(format!(
            "Package: tidemill\nVersion: {}\nArchitecture: {}\nMaintainer: {}\n\
             Installed-Size: {size}\nDepends: {depends}\nRecommends: {}\nSection: {}\n\
             Priority: {}\nHomepage: https://github.com/tidemill/tidemill\n\
             Description: {summary}{description}\n",
            self.version,
            self.board.architecture,
            of("maintainer")?,
            of("recommends")?,
            of("section")?,
            of("priority")?,
        ))
    }
}

/// The Debian packages with the libraries that a binary asks for; `None` when
/// it is static.
fn needs(binary: &Path) -> Result<Option<String>> {
    let output = Command::new("readelf").args(["-d", "-V", "-W"]).arg(binary).output()?;
    if !output.status.success() {
        bail!("readelf can't read {}", binary.display());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !text.contains("(NEEDED)") {
        return Ok(None);
    }
    let libc = newest(&text, "GLIBC_").context("which libc does the binary need?")?;
    let mut needs = format!("libc6 (>= {}.{})", libc.0, libc.1);
    if text.contains("[libgcc_s.so.1]") {
        needs.push_str(", libgcc-s1 (>= 4.2)");
    }
    Ok(Some(needs))
}

/// The newest version of these symbols that a text of `readelf -V` names.
pub(crate) fn newest(text: &str, prefix: &str) -> Option<(u32, u32)> {
    let versions = text.split(prefix).skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let mut parts = rest[..end].split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    });
    versions.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_symbol_decides() {
        let text = "Name: GLIBC_2.4  Flags: none\n Name: GLIBC_2.28\n Name: GLIBC_2.3.4\n";
        assert_eq!(newest(text, "GLIBC_"), Some((2, 28)));
        assert_eq!(newest("GCC_3.0", "GLIBC_"), None);
    }

    #[test]
    fn whatever_is_below_etc_is_the_administrators() {
        let control = Control::read("1-1", super::super::arguments::BOARDS[0]).unwrap();
        let conffiles = control.conffiles();
        for asset in control.assets() {
            let to = asset.placed(Path::new(&asset.source));
            let line = format!("/{}\n", to.display());
            assert_eq!(to.starts_with("etc"), conffiles.contains(&line), "{line}");
        }
    }
}
