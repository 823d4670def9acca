//! Our own files: each of `certs/` is read, one at a time, and validated as the daemon does before it adopts
//! it; `default.pem` too. What else lies in `certs/` is judged by the names of our files. Never writes, moves
//! or repairs a file.

use std::collections::{BTreeMap, VecDeque};

use crate::certs_scan::{FOREIGN_FILES_MAX, ForeignFile, Found};
use crate::domain::Domain;
use crate::machine::{Load, StoreError, StoreErrorKind};
use crate::pki::guard::{ForeignFileReport, Verdict as Effect, judge};
use crate::pki::{Bundle, BundleError, Fingerprint};
use crate::secret::Secret;
use crate::survey::Survey;
use crate::time::UnixTime;

use super::report::{Finding, Verdict};
use super::storage::{SUBJECT, grouped};
use super::{counted, listed};

/// The apps that require each domain; `None` where no Marathon listed them.
pub(super) type Required<'a> = Option<&'a BTreeMap<Domain, String>>;

/// The files, as far as they were read.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// The first one is being read.
    unread: VecDeque<Domain>,
    /// Those that HAProxy can load and that are for their own names.
    sound: BTreeMap<Domain, Sound>,
    /// Each problem, with its details and the file.
    problems: Vec<(Problem, String, String)>,
    foreign: Vec<ForeignFile>,
    more_foreign: usize,
    /// The leaf of `default.pem`.
    fallback: Option<Fingerprint>,
    /// Whether reading ended early, and how many files were left.
    left: Option<(usize, String)>,
}

/// A file that HAProxy can load and that is for its own name.
#[derive(Debug)]
pub(super) struct Sound {
    /// The names that it is for.
    pub(super) names: Vec<Domain>,
    pub(super) leaf: Fingerprint,
    pub(super) not_before: UnixTime,
    pub(super) not_after: UnixTime,
    /// Whether a handshake can show whether a load balancer serves it.
    pub(super) can_be_seen: bool,
}

/// What can be wrong with a file of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    /// HAProxy neither starts nor reloads with it. (One that is cut in the last certificate of its chain is
    /// still loaded, without that certificate.)
    Blocks,
    /// The same of `default.pem`.
    FallbackBlocks,
    /// It cannot be read.
    Unread,
    /// It is for other names than its own.
    Misnamed,
    /// A certificate of its chain did not issue the one before it.
    Unlinked,
}

const PROBLEMS: [Problem; 5] = [
    Problem::Blocks,
    Problem::FallbackBlocks,
    Problem::Unread,
    Problem::Misnamed,
    Problem::Unlinked,
];

impl Files {
    pub(super) fn start(&mut self, survey: &Survey) {
        self.unread = survey.certificates.iter().cloned().collect();
        (self.foreign, self.more_foreign) = (survey.foreign.clone(), survey.more_foreign);
        if let Some(Found::File(text)) = &survey.fallback {
            match loadable(text) {
                Ok(bundle) => self.fallback = Some(Fingerprint::of(bundle.leaf_der())),
                Err(error) => self.note(Problem::FallbackBlocks, error, "default.pem".into()),
            }
        }
    }

    /// The file to read now.
    pub(super) fn next(&self) -> Option<Load> {
        self.unread.front().cloned().map(Load::Certificate)
    }

    /// Validates a file that was read.
    pub(super) fn handle_file(&mut self, name: &Domain, file: Result<Secret, StoreError>) {
        if self.unread.front() != Some(name) {
            return;
        }
        self.unread.pop_front();
        let path = format!("{name}.pem");
        match file.map(|pem| (Bundle::of_file(name, &pem), pem)) {
            Ok((Ok((bundle, names)), _)) => {
                if let Err(error) = bundle.is_linked() {
                    self.note(Problem::Unlinked, error, path);
                }
                self.sound.insert(name.clone(), Sound::of(&bundle, names));
            }
            Ok((
                Err(error @ (BundleError::MissingName(_) | BundleError::Unverifiable(_))),
                pem,
            )) => {
                self.note(Problem::Misnamed, error, path.clone());
                // It may be served in place of another file of ours, as one that is not ours.
                if self.foreign.len() < FOREIGN_FILES_MAX {
                    self.foreign.push(ForeignFile { file: path, found: Found::File(pem) });
                }
            }
            Ok((Err(error), _)) => self.note(Problem::Blocks, error, path),
            // It was archived since the directory was listed.
            Err(error) if error.kind == StoreErrorKind::Missing => {}
            Err(error) if error.kind == StoreErrorKind::Malformed => {
                self.note(Problem::Blocks, error.detail, path);
            }
            Err(error) => self.note(Problem::Unread, error.detail, path),
        }
    }

    fn note(&mut self, problem: Problem, reason: impl ToString, file: String) {
        self.problems.push((problem, reason.to_string(), file));
    }

    pub(super) fn is_done(&self) -> bool {
        self.unread.is_empty()
    }

    pub(super) fn give_up(&mut self, reason: &str) {
        if !self.unread.is_empty() {
            self.left = Some((self.unread.len(), reason.to_string()));
            self.unread.clear();
        }
    }

    /// Those that HAProxy can load, in the order in which it loads them: of several with one name in them it
    /// serves the one whose file name comes first.
    pub(super) fn in_load_order(&self) -> Vec<(&Domain, &Sound)> {
        let mut files = BTreeMap::new();
        files.extend(self.sound.iter().map(|file| (format!("{}.pem", file.0), file)));
        files.into_values().collect()
    }

    /// Whether there is a file of that name that HAProxy can load.
    pub(super) fn has(&self, name: &Domain) -> bool {
        self.sound.contains_key(name)
    }

    /// The leaf of `default.pem`, where there is one.
    pub(super) fn fallback(&self) -> Option<Fingerprint> {
        self.fallback
    }

    /// The leaves of the files in `certs/` that are not ours or not for their own names.
    pub(super) fn foreign_leaves(&self) -> impl Iterator<Item = (Fingerprint, &str)> {
        self.foreign.iter().filter_map(|foreign| {
            let Found::File(text) = &foreign.found else { return None };
            let bundle = Bundle::as_haproxy_reads(text.expose()).ok()?;
            Some((Fingerprint::of(bundle.leaf_der()), foreign.file.as_str()))
        })
    }

    /// What is to be said of them, at this time.
    pub(super) fn findings(
        &self,
        now: UnixTime,
        required: Required<'_>,
        has_daemon: bool,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        for problem in PROBLEMS {
            let found = self.problems.iter().filter(|(it, ..)| *it == problem);
            let found = found.map(|(_, reason, file)| (reason.clone(), file.as_str()));
            for (reason, files) in grouped(found) {
                findings.push(problem.finding(&listed(&files), &reason, has_daemon));
            }
        }
        findings.extend(self.out_of_date(now, required));
        if let Some((count, reason)) = &self.left {
            let files = counted(*count as u64, "file");
            let seen = format!("certs/: {files} not validated: {reason}");
            findings.push(Finding::warn(SUBJECT, seen, "check again"));
        }
        if findings.is_empty() && !self.sound.is_empty() {
            let files = counted(self.sound.len() as u64, "certificate file");
            let seen = format!("certs/: {files} validated: key, names, chain and dates");
            findings.push(Finding::ok(SUBJECT, seen));
        }
        findings.extend(self.foreign(now));
        findings
    }

    /// Those that clients refuse by their dates.
    fn out_of_date(&self, now: UnixTime, required: Required<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for verdict in [Verdict::Fail, Verdict::Warn] {
            let is_required = |name| required.is_none_or(|it| it.contains_key(name));
            let of_verdict = self.sound.iter().filter(|(_, stored)| stored.not_after < now).filter(
                |(_, stored)| (verdict == Verdict::Fail) == stored.names.iter().any(is_required),
            );
            let files: Vec<String> = of_verdict
                .map(|(name, stored)| format!("{name}.pem ({})", stored.not_after))
                .collect();
            if files.is_empty() {
                continue;
            }
            let files: Vec<&str> = files.iter().map(String::as_str).collect();
            let seen = format!("certs/: has expired: {}", listed(&files));
            findings.push(if verdict == Verdict::Fail {
                let remedy = "start the daemon; if it runs, its log and / name what failed";
                Finding::fail(SUBJECT, seen, remedy)
            } else {
                let seen = format!("{seen}, which no app requires");
                Finding::warn(SUBJECT, seen, "the daemon archives it after --prune-after")
            });
        }
        findings
    }

    /// What is not ours in `certs/`, judged as the daemon does.
    fn foreign(&self, now: UnixTime) -> Vec<Finding> {
        let ours = self.sound.iter().map(|(name, stored)| (name, stored.names.as_slice()));
        let judged: Vec<ForeignFileReport> = judge(&self.foreign, ours, now);
        let mut findings = Vec::new();
        for (effect, words) in [
            (Effect::Blocks, "keeps HAProxy from reloading"),
            (Effect::Shadows, "is served in place of ours"),
            (Effect::Unknown, "is not ours"),
            (Effect::Expired, "is not ours"),
            (Effect::Harmless, "is not ours"),
        ] {
            let found = judged.iter().filter(|it| it.verdict == effect);
            let found = found.map(|it| (it.reason.clone(), it.file.as_str()));
            for (reason, files) in grouped(found) {
                let seen = format!("certs/: {}: {words}: {reason}", listed(&files));
                let remedy = "move it to unmanaged-certs/";
                findings.push(match effect {
                    Effect::Blocks => Finding::fail(SUBJECT, seen, remedy),
                    _ => Finding::warn(SUBJECT, seen, remedy),
                });
            }
        }
        if self.more_foreign > 0 {
            let seen = format!("certs/: {} more files are not ours", self.more_foreign);
            findings.push(Finding::warn(SUBJECT, seen, "move them to unmanaged-certs/"));
        }
        findings
    }
}

impl Sound {
    fn of(bundle: &Bundle, names: Vec<Domain>) -> Sound {
        let leaf = bundle.leaf();
        Sound {
            names,
            leaf: Fingerprint::of(bundle.leaf_der()),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            can_be_seen: bundle.can_be_seen(),
        }
    }
}

impl Problem {
    fn finding(self, files: &str, reason: &str, has_daemon: bool) -> Finding {
        match self {
            Problem::Blocks => {
                let seen =
                    format!("certs/: {files}: damaged, HAProxy refuses such files: {reason}");
                let remedy = if has_daemon {
                    "the daemon archives and replaces it within 5 min, or at once after SIGHUP"
                } else {
                    "start the daemon, which archives and replaces it, or move it out of certs/"
                };
                Finding::fail(SUBJECT, seen, remedy)
            }
            Problem::FallbackBlocks => {
                let seen = format!("{files}: damaged, HAProxy refuses such files: {reason}");
                let remedy = "delete it and restart the daemon, which creates it again";
                Finding::fail(SUBJECT, seen, remedy)
            }
            Problem::Unread => {
                let seen = format!("certs/: {files}: not validated: {reason}");
                Finding::warn(SUBJECT, seen, "let the daemon's user read it")
            }
            Problem::Misnamed => {
                let seen = format!("certs/: {files}: not for its own name: {reason}");
                let remedy =
                    "move it to unmanaged-certs/; the daemon then orders what apps require";
                Finding::warn(SUBJECT, seen, remedy)
            }
            Problem::Unlinked => {
                let seen = format!("certs/: {files}: its chain is out of order: {reason}");
                let remedy =
                    "clients may refuse it; move it out of certs/ to have it ordered again";
                Finding::warn(SUBJECT, seen, remedy)
            }
        }
    }
}

/// What HAProxy can load.
fn loadable(text: &Secret) -> Result<Bundle, BundleError> {
    let bundle = Bundle::as_haproxy_reads(text.expose())?;
    bundle.can_be_loaded().map(|()| bundle)
}

#[cfg(test)]
mod tests;
