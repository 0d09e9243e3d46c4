//! GPIO chips, by the kernel's character devices.

use std::path::Path;

use gpiocdev::line::Direction;
use serde::Serialize;

use super::{Holders, Process, entries, slug};

/// Channels in a snippet: enough to show how it goes on.
const SNIPPET_LINES: usize = 3;

/// A GPIO chip.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Chip {
    /// `gpiochip0`.
    pub name: String,
    /// What its driver calls it; empty when it can't be asked.
    pub label: String,
    /// Why it can't be asked.
    pub error: Option<String>,
    /// Its lines, by offset.
    pub lines: Vec<Line>,
    /// A configuration that reads lines which are free.
    pub snippet: Option<String>,
}

/// A line of a chip.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Line {
    /// Its number on the chip, from 0.
    pub offset: u32,
    /// What the board calls it, such as `GPIO17`; often nothing.
    pub name: String,
    /// Whether it drives its pin.
    pub output: bool,
    /// Whether somebody holds it: the kernel or a process.
    pub used: bool,
    /// What the holder calls itself.
    pub consumer: String,
    /// The process that holds it, where that is known.
    pub process: Option<Process>,
}

impl Line {
    /// Who holds it, for people: `"w1" (…)`.
    pub fn holder(&self) -> String {
        let process = self.process.as_ref().map(|p| format!(", {p}")).unwrap_or_default();
        let consumer = if self.consumer.is_empty() { "the kernel" } else { &self.consumer };
        format!("\"{consumer}\"{process}")
    }
}

pub(super) fn chips(root: &Path, holders: &Holders) -> Vec<Chip> {
    entries(&root.join("dev"), "gpiochip")
        .into_iter()
        // A link is the same chip under an old name, as on the Pi 5.
        .filter(|(_, path)| !path.is_symlink())
        .map(|(name, path)| {
            let asked = ask(&path, &name, holders);
            let (label, lines, error) = match asked {
                Ok((label, lines)) => (label, lines, None),
                Err(error) => (String::new(), Vec::new(), Some(error.to_string())),
            };
            let snippet = snippet(&name, &lines);
            Chip { name, label, error, lines, snippet }
        })
        .collect()
}

fn ask(path: &Path, name: &str, holders: &Holders) -> gpiocdev::Result<(String, Vec<Line>)> {
    let chip = gpiocdev::Chip::from_path(path)?;
    let about = chip.info()?;
    let lines = (0..about.num_lines).map(|offset| {
        let info = chip.line_info(offset)?;
        Ok(Line {
            offset,
            name: info.name,
            output: info.direction == Direction::Output,
            used: info.used,
            consumer: info.consumer,
            process: holders.of_line(name, offset).cloned(),
        })
    });
    Ok((about.label, lines.collect::<gpiocdev::Result<_>>()?))
}

/// Inputs only: a snippet that is pasted must not drive anything.
pub(super) fn snippet(chip: &str, lines: &[Line]) -> Option<String> {
    let free: Vec<&Line> = lines.iter().filter(|line| !line.used).collect();
    // Lines that the board names lead to a pin more often than others do.
    let named = free.iter().filter(|line| !line.name.is_empty()).copied();
    let nameless = free.iter().filter(|line| line.name.is_empty()).copied();
    let shown: Vec<&Line> = named.chain(nameless).take(SNIPPET_LINES).collect();
    if shown.is_empty() {
        return None;
    }
    let mut text = format!(
        "[device.{}]\ndriver = \"gpio\"\nchip = \"{chip}\"\n[device.{0}.channel]\n",
        slug(chip)
    );
    for line in shown {
        let Line { offset, name, .. } = line;
        let label = if name.is_empty() { String::new() } else { format!(", label = {name:?}") };
        text += &format!("line{offset} = {{ line = {offset}, direction = \"input\"{label} }}\n");
    }
    Some(text)
}
