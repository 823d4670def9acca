//! What a check found, and how it is said: a line each, plain in a pipe, coloured on a terminal, an
//! object with `--log-format json`. A peer's words are put on one line and cannot move the cursor.

use serde_json::json;

use crate::printable::printable;

/// How much is said of one finding, in characters: peers may say more than fits on any screen.
const TEXT_CHARS_MAX: usize = 600;
/// Goes back to the start of the line and empties it (ECMA-48: CR, EL).
const ANEW: &str = "\r\x1b[K";

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Odd, and maybe meant so.
    Warn,
    /// Certificates will not be had, or not be served.
    Fail,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// How bad it is.
    pub verdict: Verdict,
    /// What it is about, one word.
    pub subject: &'static str,
    /// What was seen.
    pub seen: String,
    /// What to do about it; empty where there is nothing to do.
    pub remedy: String,
}

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// For a pipe or a file.
    Plain,
    /// For somebody who watches; in colour or not.
    Terminal {
        /// Whether verdicts have colours.
        colour: bool,
    },
    /// A JSON object a line.
    Json,
}

/// Writes findings down and counts them.
#[derive(Debug)]
pub struct Report {
    look: Look,
    counts: [usize; 3],
    /// What stands on the last line of the terminal.
    progress: String,
}

impl Verdict {
    /// `ok`, `warn` or `fail`.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        }
    }

    /// Green, yellow, red (ECMA-48: SGR).
    const fn colour(self) -> &'static str {
        match self {
            Verdict::Ok => "\x1b[32m",
            Verdict::Warn => "\x1b[33m",
            Verdict::Fail => "\x1b[31m",
        }
    }
}

impl Finding {
    /// All is well.
    pub fn ok(subject: &'static str, seen: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Ok, subject, seen: seen.into(), remedy: String::new() }
    }

    /// Something is odd.
    pub fn warn(
        subject: &'static str,
        seen: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        let (seen, remedy) = (seen.into(), remedy.into());
        Finding { verdict: Verdict::Warn, subject, seen, remedy }
    }

    /// Something has to be fixed.
    pub fn fail(
        subject: &'static str,
        seen: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding { verdict: Verdict::Fail, ..Finding::warn(subject, seen, remedy) }
    }
}

impl Report {
    /// Nothing was found yet.
    pub fn new(look: Look) -> Report {
        Report { look, counts: [0; 3], progress: String::new() }
    }

    /// The line of a finding, its end included.
    pub fn line(&mut self, finding: &Finding) -> String {
        self.counts[finding.verdict as usize] += 1;
        let Finding { verdict, subject, seen, remedy } = finding;
        let (name, seen, remedy) = (verdict.name(), shown(seen), shown(remedy));
        let todo = if remedy.is_empty() { String::new() } else { format!("; {remedy}") };
        match self.look {
            Look::Json => {
                let object =
                    json!({"verdict": name, "subject": subject, "seen": seen, "remedy": remedy});
                format!("{object}\n")
            }
            Look::Terminal { colour: true } => {
                let colour = verdict.colour();
                format!("{}{colour}{name:<5}\x1b[0m {subject:<8} {seen}{todo}\n", self.clear())
            }
            Look::Plain | Look::Terminal { colour: false } => {
                format!("{}{name:<5} {subject:<8} {seen}{todo}\n", self.clear())
            }
        }
    }

    /// What is still waited for, for whoever watches; `None` where that is nobody, or is said already.
    pub fn progress(&mut self, text: &str) -> Option<String> {
        let watched = matches!(self.look, Look::Terminal { .. });
        if !watched || self.progress == text {
            return None;
        }
        self.progress = text.to_string();
        Some(format!("{ANEW}{}", printable(text)))
    }

    /// The last line; none as JSON, where all is said by the others.
    pub fn summary(&mut self) -> Option<String> {
        let [ok, warned, failed] = self.counts;
        let warnings = if warned == 1 { "1 warning".into() } else { format!("{warned} warnings") };
        let text = format!("{}{ok} ok, {warnings}, {failed} failed\n", self.clear());
        (self.look != Look::Json).then_some(text)
    }

    /// The exit status: warnings are nobody's failure.
    pub fn status(&self) -> u8 {
        u8::from(self.counts[Verdict::Fail as usize] > 0)
    }

    /// Takes the progress away, when it is shown.
    fn clear(&mut self) -> &'static str {
        if std::mem::take(&mut self.progress).is_empty() { "" } else { ANEW }
    }
}

/// On one line, and not endless.
fn shown(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    printable(&words.join(" ")).chars().take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_each_for_pipes_terminals_and_programs() {
        let odd = Finding::fail("lb", "it said \x1b[2J\r\n\"no\"", "mend it");
        let mut plain = Report::new(Look::Plain);
        let line = "fail  lb       it said \u{fffd}[2J \"no\"; mend it\n";
        assert_eq!(plain.line(&odd), line);
        assert_eq!(plain.line(&Finding::ok("ca", "well")), "ok    ca       well\n");
        assert_eq!(plain.progress("waiting"), None);
        assert_eq!(plain.summary().as_deref(), Some("1 ok, 0 warnings, 1 failed\n"));
        let mut json = Report::new(Look::Json);
        let object: serde_json::Value = serde_json::from_str(&json.line(&odd)).unwrap();
        assert_eq!((&object["verdict"], &object["remedy"]), (&json!("fail"), &json!("mend it")));
        assert_eq!(json.summary(), None);
        let mut watched = Report::new(Look::Terminal { colour: true });
        assert_eq!(watched.progress("1 left").as_deref(), Some("\r\x1b[K1 left"));
        assert_eq!(watched.progress("1 left"), None);
        let line = watched.line(&Finding::warn("ca", "odd", ""));
        assert_eq!(line, "\r\x1b[K\x1b[33mwarn \x1b[0m ca       odd\n");
        assert_eq!(watched.line(&Finding::ok("ca", "x")), "\x1b[32mok   \x1b[0m ca       x\n");
    }

    #[test]
    fn only_a_failure_is_a_failure() {
        let mut report = Report::new(Look::Plain);
        report.line(&Finding::warn("ca", "odd", ""));
        assert_eq!(report.status(), 0);
        report.line(&Finding::fail("ca", "bad", ""));
        assert_eq!(report.status(), 1);
        assert_eq!(
            report.line(&Finding::ok("ca", "x".repeat(9999))).len(),
            15 + TEXT_CHARS_MAX + 1
        );
    }
}
