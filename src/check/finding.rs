//! What was found, one thing a line: `rlogind check` and `rlogind doctor` speak alike.

use std::fmt;

use serde::Serialize;

/// How good or bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Worth knowing, and often right.
    Note,
    /// Somebody will miss something.
    Warn,
    /// It does not work so.
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Warn => "WARN",
            Verdict::Fail => "FAIL",
        })
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it is.
    pub verdict: Verdict,
    /// What was looked at, in one or two words.
    pub what: &'static str,
    /// What was seen.
    pub text: String,
    /// What mends it, in one line.
    pub mend: Option<String>,
}

impl Finding {
    /// Says what mends it.
    pub fn mend(&mut self, how: impl Into<String>) {
        self.mend = Some(how.into());
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<4}  {:<13}  {}", self.verdict, self.what, self.text)
    }
}

/// All that was found, in the order in which it was looked at.
#[derive(Debug, Default)]
pub struct Report {
    /// The findings.
    pub findings: Vec<Finding>,
}

impl Report {
    /// As it should be.
    pub fn ok(&mut self, what: &'static str, text: impl Into<String>) {
        self.add(Verdict::Ok, what, text);
    }

    /// Worth knowing.
    pub fn note(&mut self, what: &'static str, text: impl Into<String>) -> &mut Finding {
        self.add(Verdict::Note, what, text)
    }

    /// Somebody will miss something.
    pub fn warn(&mut self, what: &'static str, text: impl Into<String>) -> &mut Finding {
        self.add(Verdict::Warn, what, text)
    }

    /// It does not work so.
    pub fn fail(&mut self, what: &'static str, text: impl Into<String>) -> &mut Finding {
        self.add(Verdict::Fail, what, text)
    }

    /// One more finding.
    fn add(&mut self, verdict: Verdict, what: &'static str, text: impl Into<String>) -> &mut Finding {
        let at = self.findings.len();
        self.findings.push(Finding { verdict, what, text: text.into(), mend: None });
        &mut self.findings[at]
    }

    /// How many findings are like that.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == verdict).count()
    }
}
