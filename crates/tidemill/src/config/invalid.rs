use std::fmt;
use std::path::{Path, PathBuf};

use device::settings::ConfigError;
use serde::Serialize;

/// Everything that is wrong in a configuration, each with its place.
#[derive(Debug)]
pub struct Invalid {
    file: PathBuf,
    problems: Vec<Problem>,
}

/// One thing that is wrong, and where.
#[derive(Debug, Serialize)]
pub struct Problem {
    /// From 1.
    pub line: usize,
    /// In characters, from 1, as editors count.
    pub column: usize,
    /// The key: `device.weather.channel.temperature.scale`.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Invalid {
    /// Finds the line and column of each error in the text.
    pub(crate) fn new(file: &Path, text: &str, errors: Vec<ConfigError>) -> Invalid {
        let mut problems: Vec<Problem> = errors
            .into_iter()
            .map(|error| {
                let (line, column) = place(text, error.span.map_or(0, |span| span.start));
                let message = readable(&error.message);
                Problem { line, column, path: error.path, message }
            })
            .collect();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        Invalid { file: file.to_owned(), problems }
    }

    /// What is wrong, in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

/// One line of what a parser says on several: of a regular expression it draws
/// where it broke.
fn readable(message: &str) -> String {
    match message.split_once("error: ") {
        Some((drawn, why)) if drawn.starts_with("regex parse error") => {
            format!("not a regular expression: {why}")
        }
        _ => message.to_owned(),
    }
}

fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before[start..].chars().count() + 1)
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Problem { line, column, path, message } in &self.problems {
            let file = self.file.display();
            // One error is one line, whatever a parser makes of it.
            let message = message.trim().replace('\n', "; ");
            match path.as_str() {
                "" => writeln!(f, "{file}:{line}:{column}: {message}")?,
                path => writeln!(f, "{file}:{line}:{column}: {path}: {message}")?,
            }
        }
        let count = self.problems.len();
        let errors = if count == 1 { "error" } else { "errors" };
        writeln!(f, "{}: {count} {errors}", self.file.display())
    }
}

impl std::error::Error for Invalid {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_counted_in_characters_from_one() {
        let text = "a = 1\nüü = 2\n";
        assert_eq!(place(text, 0), (1, 1));
        assert_eq!(place(text, 6), (2, 1));
        assert_eq!(place(text, text.find('=').unwrap()), (1, 3));
        assert_eq!(place(text, text.rfind('=').unwrap()), (2, 4));
        assert_eq!(place(text, 999), (3, 1));
    }
}
