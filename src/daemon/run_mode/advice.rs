//! How long `--once` waits for the CA's word on when to renew (RFC 9773): for one answer about each
//! certificate that is to be asked about, as long as the CA gives any. A run from cron would never hear
//! otherwise that a certificate is about to be revoked. Asks nothing, and never says that the run failed:
//! without an answer, what was known before decides.

use std::time::Duration;

use crate::acme::renewal_info::{NoSuggestion, Suggestion};
use crate::time::Instant;

use super::FAILURES_MAX;

/// No answer for so long is none: a CA that is silent has failed as often as is waited for by then.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waiting for the CA's word.
#[derive(Debug, Default)]
pub(super) struct AdviceWait {
    /// It is all that is waited for, and no answer has come, since then.
    since: Option<Instant>,
    /// Questions in a row that the CA had no answer to for now.
    failures: u32,
    /// Why there was no answer the last time that there was none.
    error: Option<String>,
    given_up: bool,
}

impl AdviceWait {
    /// Takes in an answer. What is wrong with one certificate says nothing of the others.
    pub(super) fn answered(&mut self, answer: &Result<Suggestion, NoSuggestion>) {
        match answer {
            Ok(_) => (self.failures, self.since) = (0, None),
            Err(error) => {
                self.failures = if error.temporary { self.failures + 1 } else { 0 };
                self.error = Some(error.text.clone());
            }
        }
    }

    /// Something else is waited for, or nothing.
    pub(super) fn rest(&mut self) {
        self.since = None;
    }

    /// Nothing but an answer is left to wait for; whether to wait on. Where the directory is not read yet,
    /// with how often in a row it could not be, and why.
    pub(super) fn goes_on(&mut self, now: Instant, directory: Option<(u32, String)>) -> bool {
        if self.given_up {
            return false;
        }
        let since = *self.since.get_or_insert(now);
        let (failures, problem) = directory.unwrap_or_default();
        if self.failures.max(failures) < FAILURES_MAX && now.since(since) < PATIENCE {
            return true;
        }
        let problem = Some(problem).filter(|text| !text.is_empty());
        let silent = || format!("no answer within {} s", PATIENCE.as_secs());
        self.error = Some(problem.or(self.error.take()).unwrap_or_else(silent));
        (self.given_up, self.since) = (true, None);
        false
    }

    /// Why there was no answer about a certificate, if there was none about any.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// When it is given up.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.since.map(|since| since + PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::renewal_info::Window;
    use crate::time::UnixTime;

    const START: Instant = Instant::START;

    fn none(temporary: bool) -> Result<Suggestion, NoSuggestion> {
        Err(NoSuggestion { text: "status 503".into(), temporary, retry_after: None })
    }

    fn some() -> Result<Suggestion, NoSuggestion> {
        let (start, end) = (UnixTime::from_seconds(1), UnixTime::from_seconds(2));
        let window = Window { start, end };
        Ok(Suggestion { window, explanation: None, ask_again: PATIENCE })
    }

    #[test]
    fn a_silent_ca_is_given_up_in_time() {
        let mut wait = AdviceWait::default();
        assert_eq!(wait.poll_timeout(), None);
        assert!(wait.goes_on(START, None));
        let at = wait.poll_timeout().expect("it waits");
        assert!(wait.goes_on(START + PATIENCE / 2, None) && wait.poll_timeout() == Some(at));
        assert_eq!(wait.error(), None);
        assert!(!wait.goes_on(at, None));
        assert_eq!((wait.error(), wait.poll_timeout()), (Some("no answer within 120 s"), None));
        assert!(!wait.goes_on(at + PATIENCE, None), "for good");
        // What else took its time does not count.
        let mut wait = AdviceWait::default();
        assert!(wait.goes_on(START, None));
        wait.rest();
        assert_eq!(wait.poll_timeout(), None);
        assert!(wait.goes_on(START + PATIENCE * 2, None));
    }

    #[test]
    fn many_questions_may_take_long_as_long_as_there_are_answers() {
        let mut wait = AdviceWait::default();
        for number in 0..10 {
            assert!(wait.goes_on(START + PATIENCE / 2 * number, None), "{number}");
            wait.answered(&some());
        }
        assert_eq!(wait.error(), None);
    }

    #[test]
    fn failures_in_a_row_are_enough_but_not_what_is_wrong_with_one_certificate() {
        let mut wait = AdviceWait::default();
        for answer in [none(true), none(true), some(), none(true), none(false), none(true)] {
            wait.answered(&answer);
        }
        for _ in 0..10 {
            wait.answered(&none(false));
            assert!(wait.goes_on(START, None));
        }
        (0..FAILURES_MAX).for_each(|_| wait.answered(&none(true)));
        assert!(!wait.goes_on(START, None));
        assert_eq!(wait.error(), Some("status 503"));
    }

    #[test]
    fn a_directory_that_cannot_be_read_is_given_up() {
        let mut wait = AdviceWait::default();
        for failures in 0..FAILURES_MAX {
            assert!(wait.goes_on(START, Some((failures, "refused".into()))));
        }
        assert!(!wait.goes_on(START, Some((FAILURES_MAX, "refused".into()))));
        assert_eq!(wait.error(), Some("refused"));
    }
}
