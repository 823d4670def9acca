//! Keeps an eye on `certs/`, which HAProxy loads as it finds it: what there is not ours and what that
//! does, and what of ours another has changed. Says what it finds once; never touches it.
//!
//! `Off → Due → Looking → Due → …`, and `Looking → Outdated → Due` where somebody asks meanwhile.

use std::time::Duration;

use crate::certs_scan::Look;
use crate::daemon::model::Shadowed;

use crate::context::Context;
use crate::domain::Domain;
use crate::hint::{Hint, advised};
use crate::keys::jittered;
use crate::log::{Level, Record, message};
use crate::machine::StoreError;
use crate::pki::guard::{ForeignFileReport, Verdict, judge};
use crate::time::Instant;

/// From one look to the next.
const PAUSE: Duration = Duration::from_secs(5 * 60);
/// The first pauses after a file was found that keeps certificates from being served, since an operator who
/// removes it waits for the reload; they grow to a quarter of the time that has passed.
const HARMED_PAUSE: Duration = Duration::from_secs(5);
/// So many files are named where all is said in one answer.
const REASONS_MAX: usize = 8;

/// What is known of `certs/`.
#[derive(Debug, Default)]
pub struct Guard {
    state: State,
    found: Vec<ForeignFileReport>,
    /// Since when one of them keeps certificates from being served.
    harmed_since: Option<Instant>,
    /// How many more there are that are not ours.
    more: usize,
    /// The next look is made at once, when files that the last one found are read.
    follows_up: bool,
    /// Why it could not be looked through the last time.
    trouble: Option<StoreError>,
}

#[derive(Debug, Default)]
enum State {
    /// This instance is not the active one.
    #[default]
    Off,
    /// The next look is at that time.
    Due(Instant),
    /// The answer is on its way.
    Looking,
    /// Likewise, and the next look follows at once.
    Outdated,
}

impl Guard {
    /// Looks as soon as it can: at the start, or since somebody asks for it. A look that is under way may
    /// have passed what it is asked for.
    pub fn look_soon(&mut self, now: Instant) {
        self.state = match self.state {
            State::Off | State::Due(_) => State::Due(now),
            State::Looking | State::Outdated => State::Outdated,
        };
    }

    /// Whether to look now.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = matches!(self.state, State::Due(at) if at <= now);
        if due {
            self.state = State::Looking;
        }
        due
    }

    /// When it looks next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Due(at) => Some(at),
            State::Off | State::Looking | State::Outdated => None,
        }
    }

    /// Whether the answer to a look is awaited.
    pub fn is_looking(&self) -> bool {
        matches!(self.state, State::Looking | State::Outdated)
    }

    /// Processes what was found. `served` is each file of ours with the names that it is for; `is_reading`
    /// says that some are being read, so that they may turn out to be none. Returns whether a file that
    /// blocked or shadowed others is gone, which needs a reload.
    pub fn looked<'a>(
        &mut self,
        cx: &mut Context<'_>,
        result: Result<Look, StoreError>,
        served: impl Iterator<Item = (&'a Domain, &'a [Domain])> + Clone,
        is_reading: bool,
    ) -> bool {
        if !self.is_looking() {
            return false;
        }
        let is_outdated = matches!(self.state, State::Outdated);
        let pause = jittered(cx.keys, PAUSE);
        self.state = State::Due(cx.now.mono + if is_outdated { Duration::ZERO } else { pause });
        let look = match result {
            Ok(look) => look,
            Err(error) => {
                if self.trouble.as_ref() != Some(&error) {
                    let line = Record::warn("guard", "cannot look through certs/");
                    cx.log(line.with("error", &error).hinted(Hint::of_storage(error.kind)));
                }
                self.trouble = Some(error);
                return false;
            }
        };
        if self.trouble.take().is_some() {
            let line = Record::info("guard", "certs/ can be looked through again");
            cx.log(line.ends(&["cannot look through certs/"]));
        }
        // What is read now may turn out to be no file of ours; but once only, as what cannot be fixed is
        // read time and again.
        self.follows_up = is_reading && !self.follows_up;
        if self.follows_up {
            self.state = State::Due(cx.now.mono);
        }
        let found = judge(&look.foreign_files, served, cx.now.wall);
        self.say(cx, &found, look.more);
        let still =
            |known: &ForeignFileReport| found.iter().filter(harms).any(|it| it.file == known.file);
        let needs_reload = self.found.iter().filter(harms).any(|known| !still(known));
        (self.found, self.more) = (found, look.more);
        self.plan_harmed(cx.now.mono, pause);
        needs_reload
    }

    /// Looks sooner than after `pause` while a file keeps certificates from being served.
    fn plan_harmed(&mut self, now: Instant, pause: Duration) {
        if !self.found.iter().any(|it| harms(&it)) {
            self.harmed_since = None;
            return;
        }
        let passed = now.since(*self.harmed_since.get_or_insert(now));
        let soon = now + (passed / 4).clamp(HARMED_PAUSE, PAUSE).min(pause);
        if let State::Due(at) = &mut self.state {
            *at = soon.min(*at);
        }
    }

    /// Says what is new and what is gone.
    fn say(&self, cx: &mut Context<'_>, found: &[ForeignFileReport], more: usize) {
        let known = |file: &str| self.found.iter().find(|known| known.file == file);
        let news = found
            .iter()
            .filter(|new| known(&new.file).is_none_or(|known| known.verdict != new.verdict));
        for new in news {
            let level = if new.verdict == Verdict::Harmless { Level::Info } else { Level::Warn };
            let line = Record::new(level, "guard", message::FOREIGN_FILE);
            let line = line.with("file", &new.file).with("verdict", new.verdict.name());
            cx.log(line.with("reason", &new.reason).hinted(hint(new)));
        }
        let is_gone = |known: &&ForeignFileReport| found.iter().all(|it| it.file != known.file);
        // Of very many some are not shown, but there.
        for gone in self.found.iter().filter(is_gone).filter(|_| more == 0) {
            let line = Record::info("guard", message::FOREIGN_FILE_GONE);
            cx.log(line.with("file", &gone.file));
        }
        if more > 0 && self.more == 0 {
            let line =
                Record::warn("guard", "more files in certs/ are not ours than are looked at");
            cx.log(line.with("more", more));
        }
    }

    /// What is not ours, by name.
    pub fn found(&self) -> &[ForeignFileReport] {
        &self.found
    }

    /// How many more there are.
    pub fn more(&self) -> usize {
        self.more
    }

    /// How many of them do that.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.found.iter().filter(|it| it.verdict == verdict).count()
    }

    /// A file that keeps HAProxy from loading anything new, and why.
    pub fn blocking(&self) -> Option<String> {
        self.found.iter().find(|it| it.verdict == Verdict::Blocks).map(ToString::to_string)
    }

    /// The names that are served from files which are not ours, and a sentence about each file.
    pub fn shadowed(&self) -> Shadowed {
        let each = self.found.iter().flat_map(|it| it.shadowed.iter().map(move |name| (name, it)));
        each.map(|(name, found)| (name.clone(), found.to_string())).collect()
    }

    /// What keeps certificates from being served, a sentence each.
    pub fn troubles(&self) -> impl Iterator<Item = String> {
        let bad = || {
            let bad = |it: &&ForeignFileReport| {
                matches!(it.verdict, Verdict::Blocks | Verdict::Shadows | Verdict::Unknown)
            };
            self.found.iter().filter(bad)
        };
        let named = bad().take(REASONS_MAX).map(|it| advised(it, hint(it)));
        let rest = bad().count().saturating_sub(REASONS_MAX);
        let rest = (rest > 0).then(|| format!("certs/: {rest} more files do such things"));
        let trouble = self.trouble.as_ref();
        let trouble = trouble.map(|error| format!("certs/ cannot be looked through: {error}"));
        trouble.into_iter().chain(named).chain(rest)
    }
}

/// Whether it keeps HAProxy from reloading, or is served in place of a file of ours.
fn harms(found: &&ForeignFileReport) -> bool {
    matches!(found.verdict, Verdict::Blocks | Verdict::Shadows)
}

/// What may help.
pub fn hint(found: &ForeignFileReport) -> Option<Hint> {
    (found.verdict != Verdict::Harmless).then_some(Hint::ForeignFile)
}

#[cfg(test)]
mod tests;
