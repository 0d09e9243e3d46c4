//! What a probe found: a line for people, an object for scripts.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// As it should be.
    Ok,
    /// It works, or may: somebody should look.
    Warn,
    /// It doesn't work.
    Fail,
}

/// One line of `tidemill doctor`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Finding {
    pub(crate) verdict: Verdict,
    /// What was looked at: `store`, `device weather`, `forward cloud TLS`.
    pub(crate) probe: String,
    pub(crate) found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mend: Option<String>,
    /// How long it took, where that says something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) took_ms: Option<f64>,
}

impl Finding {
    pub(crate) fn ok(probe: impl Into<String>, found: impl Into<String>) -> Finding {
        Finding {
            verdict: Verdict::Ok,
            probe: probe.into(),
            found: found.into(),
            mend: None,
            took_ms: None,
        }
    }

    pub(crate) fn warn(
        probe: impl Into<String>,
        found: impl Into<String>,
        mend: impl Into<String>,
    ) -> Finding {
        Finding { verdict: Verdict::Warn, mend: Some(mend.into()), ..Finding::ok(probe, found) }
    }

    pub(crate) fn fail(
        probe: impl Into<String>,
        found: impl Into<String>,
        mend: impl Into<String>,
    ) -> Finding {
        Finding { verdict: Verdict::Fail, mend: Some(mend.into()), ..Finding::ok(probe, found) }
    }

    /// With the time it took.
    pub(crate) fn took(mut self, took: Duration) -> Finding {
        self.took_ms = Some((took.as_secs_f64() * 10_000.0).round() / 10.0);
        self
    }
}

/// One line each, and a sum.
pub(crate) fn text(findings: &[Finding], coloured: bool) -> String {
    let width = findings.iter().map(|finding| finding.probe.len()).max().unwrap_or(0);
    let mut out = String::new();
    for Finding { verdict, probe, found, mend, took_ms } in findings {
        let (word, colour) = match verdict {
            Verdict::Ok => ("ok  ", "\x1b[32m"),
            Verdict::Warn => ("warn", "\x1b[33m"),
            Verdict::Fail => ("fail", "\x1b[31m"),
        };
        let word = if coloured { format!("{colour}{word}\x1b[0m") } else { word.to_owned() };
        let took = took_ms.map_or(String::new(), |ms| format!(" ({ms:.1} ms)"));
        let mend = mend.as_ref().map_or(String::new(), |mend| format!("; {mend}"));
        let line = format!("{found}{took}{mend}");
        // One finding is one line, whatever a server or a driver says.
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        writeln!(out, "{word}  {probe:<width$}  {line}").expect("a string takes all");
    }
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (ok, warn, fail) = (count(Verdict::Ok), count(Verdict::Warn), count(Verdict::Fail));
    writeln!(out, "\n{ok} ok, {warn} warn, {fail} fail").expect("a string takes all");
    out
}

/// One object.
pub(crate) fn json(findings: &[Finding]) -> String {
    let failed = findings.iter().any(|finding| finding.verdict == Verdict::Fail);
    let object = serde_json::json!({ "ok": !failed, "findings": findings });
    format!("{object:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_with_its_mend() {
        let findings = [
            Finding::ok("clock", "synchronized"),
            Finding::ok("forward cloud DNS", "a is 10.0.0.1").took(Duration::from_micros(1_234)),
            Finding::fail("store", "a\x1b[31m\nb is read-only", "mount it writable"),
        ];
        expect_test::expect![[r#"
            ok    clock              synchronized
            ok    forward cloud DNS  a is 10.0.0.1 (1.2 ms)
            fail  store              a [31m b is read-only; mount it writable

            2 ok, 0 warn, 1 fail
        "#]]
        .assert_eq(&text(&findings, false));
        assert!(text(&findings, true).contains("\x1b[31mfail\x1b[0m"));
        let object: serde_json::Value = serde_json::from_str(&json(&findings)).unwrap();
        assert_eq!(object["ok"], false);
        assert_eq!(object["findings"][1]["took_ms"], 1.2);
        assert_eq!(object["findings"][2]["verdict"], "fail");
        assert_eq!(object["findings"][2]["mend"], "mount it writable");
    }
}
