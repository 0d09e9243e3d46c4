//! Checks one after the other: each is told with its time, a failed one doesn't
//! keep the rest from running, and the whole can be kept as a page of the docs.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

/// What was tried so far.
pub(crate) struct Trial {
    title: &'static str,
    began: Instant,
    lines: Vec<String>,
    failed: usize,
    /// Only checks whose names have this in them, and the install.
    only: Option<String>,
}

impl Trial {
    pub(crate) fn new(title: &'static str) -> Trial {
        Trial { title, began: Instant::now(), lines: Vec::new(), failed: 0, only: None }
    }

    /// Leaves out what isn't named like this.
    pub(crate) fn only(mut self, name: Option<String>) -> Trial {
        self.only = name;
        self
    }

    /// Tries one thing; what it answers stands beside its name.
    pub(crate) fn check(&mut self, name: &str, check: impl FnOnce() -> Result<String>) {
        if self.only.as_ref().is_some_and(|only| name != "install" && !name.contains(only)) {
            return;
        }
        let began = Instant::now();
        let (mark, told) = match check() {
            Ok(told) => ("ok  ", told),
            Err(error) => {
                self.failed += 1;
                ("FAIL", format!("{error:#}"))
            }
        };
        let seconds = began.elapsed().as_secs_f64();
        self.tell(format!("{mark} {seconds:6.1} s  {name}: {told}"));
    }

    /// A line between the checks.
    pub(crate) fn tell(&mut self, line: String) {
        println!("{line}");
        self.lines.push(line);
    }

    /// Ends it; writes the page when one is asked for.
    ///
    /// # Errors
    /// When a check has failed.
    pub(crate) fn end(mut self, record: Option<&Path>) -> Result<()> {
        let checks =
            self.lines.iter().filter(|line| line.starts_with("ok") || line.starts_with("FAIL"));
        let (count, seconds) = (checks.count(), self.began.elapsed().as_secs());
        self.tell(format!("{} of {count} checks held, {seconds} s", count - self.failed));
        if let Some(path) = record {
            let mut page =
                format!("# {}\n\nThe last whole run, as it was printed.\n\n", self.title);
            write!(page, "```text\n{}\n```\n", self.lines.join("\n"))?;
            std::fs::create_dir_all(path.parent().context("a folder")?)?;
            std::fs::write(path, page)?;
        }
        if self.failed > 0 {
            bail!("{} of {count} checks failed", self.failed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_check_fails_the_trial_and_stops_nothing() {
        let mut trial = Trial::new("a trial");
        trial.check("one", || bail!("it broke"));
        trial.check("two", || Ok("fine".to_owned()));
        assert_eq!(trial.failed, 1);
        assert_eq!(trial.lines.len(), 2);
        let page = std::env::temp_dir().join(format!("trial-{}.md", std::process::id()));
        assert!(trial.end(Some(&page)).is_err());
        let text = std::fs::read_to_string(&page).unwrap();
        std::fs::remove_file(&page).unwrap();
        assert!(text.contains("it broke") && text.contains("1 of 2 checks held"), "{text}");
    }
}
