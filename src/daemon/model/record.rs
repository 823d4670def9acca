//! What is known of each certificate and of each CA beyond one run. Data and arithmetic; how it is written
//! is the business of `state.rs`.

use std::time::Duration;

use crate::daemon::budget::Budget;
use crate::domain::Domain;
use crate::flat::FlatMap;
use crate::time::UnixTime;

use super::{Attempt, CertificateRecord, NameChanges, RetryState, Source, When};

/// What failed is remembered so much longer when nobody wants the certificate any more: a list of apps
/// that lacks it for a moment must not make the CA be asked before its time.
const KEPT_UNWANTED: Duration = Duration::from_secs(24 * 60 * 60);
/// Names that a label has no longer and that are remembered because they failed, at most; of more, those
/// that bind longest.
const REMOVED_MAX: usize = 100;
/// Clocks that differ by no more than this agree.
pub const CLOCKS_APART_MAX: Duration = Duration::from_secs(3600);

/// How soon what has changed must be on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Losing it costs a question to the CA.
    Lazy,
    /// Something waits for it, or would be done twice without it.
    Now,
}

/// What is remembered of a CA.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CaState {
    /// Our account there.
    pub account: Option<AccountState>,
    /// The CA wants no new orders before (`Retry-After`).
    pub not_before: Option<UnixTime>,
    /// How many names it accepts in one order, where it refused more: by profile, empty for none.
    pub names_max: FlatMap<String, usize>,
    /// What was spent of its limits.
    pub budget: Budget,
}

/// An account that was registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountState {
    /// Its URL, which names it to the CA.
    pub url: String,
    /// The thumbprint of its key (RFC 7638): with another `client.key` it is not ours.
    pub thumbprint: String,
    /// The contact that the CA was told last.
    pub contact: Option<String>,
}

/// What is remembered of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateState {
    /// Who asked for it last.
    pub source: Option<Source>,
    /// What for, where that was more than the name of its file.
    pub names: Box<[Domain]>,
    /// About the certificate that was stored last.
    pub life: Option<CertificateRecord>,
    /// Orders that failed as a whole.
    pub trouble: Option<RetryState>,
    /// Names that failed.
    pub left_out: FlatMap<Domain, RetryState>,
    /// Names that failed and that the label has no longer: should it have them again, they are not tried
    /// before their time.
    pub removed: FlatMap<Domain, RetryState>,
    /// How often the names of its label have changed.
    pub name_changes: Option<Box<NameChanges>>,
    /// An order that was begun and whose end is not known.
    pub attempt: Option<Box<Attempt>>,
}

impl CertificateState {
    /// What failed, as a whole and by names.
    pub fn troubles_mut(&mut self) -> impl Iterator<Item = &mut RetryState> {
        self.trouble.iter_mut().chain(self.left_out.values_mut())
    }

    /// The same, to be looked at.
    pub fn troubles(&self) -> impl Iterator<Item = &RetryState> {
        self.trouble.iter().chain(self.left_out.values())
    }

    /// The label has these names now: what is known of others that failed is put aside, and what was put
    /// aside of these counts again, for a day longer than it binds.
    pub fn keep_removed(&mut self, now: UnixTime, names: &[Domain]) {
        self.removed.retain(|_, trouble| match trouble.retry {
            When::At(at) => at.plus(KEPT_UNWANTED) > now,
            When::Never => true,
        });
        let gone = self.left_out.extract_if(|name, _| !names.contains(name));
        let gone: Vec<(Domain, RetryState)> = gone.collect();
        let back = self.removed.extract_if(|name, _| names.contains(name));
        let back: Vec<(Domain, RetryState)> = back.collect();
        for (name, trouble) in back {
            self.left_out.get_or_insert_with(name, || trouble);
        }
        for (name, trouble) in gone {
            self.removed.insert(name, trouble);
            if self.removed.len() > REMOVED_MAX {
                let binding = |(_, trouble): &(&Domain, &RetryState)| trouble.retry;
                let first = self.removed.iter().min_by_key(binding).map(|(name, _)| name.clone());
                first.and_then(|name| self.removed.remove(&name));
            }
        }
    }

    /// Until when this is worth keeping though nobody wants the certificate: a day longer than
    /// anything in it binds.
    pub fn matters_until(&self) -> When {
        let bound = self
            .troubles()
            .chain(self.removed.values())
            .map(|trouble| trouble.retry.max(trouble.not_before.map_or(When::NOW, When::At)));
        let attempt = self.attempt.iter().map(|attempt| When::At(attempt.at));
        match bound.chain(attempt).max() {
            Some(When::At(at)) => When::At(at.plus(KEPT_UNWANTED)),
            other => other.unwrap_or(When::NOW),
        }
    }

    /// Why the last order failed, wholly or for a name.
    pub fn error(&self) -> Option<String> {
        let left_out = self.left_out.iter();
        let left_out = left_out.map(|(name, trouble)| format!("{name}: {}", trouble.error)).next();
        self.trouble.as_ref().map(|trouble| trouble.error.text.clone()).or(left_out)
    }

    /// When the next order is made because the last one failed; nothing when a person must act.
    pub fn next_try(&self) -> Option<UnixTime> {
        match self.troubles().map(|trouble| trouble.retry).min()? {
            When::At(at) => Some(at),
            When::Never => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::AppChanges;
    use super::*;
    use crate::hint::Complaint;

    #[test]
    fn names_that_a_label_has_no_longer_are_remembered_up_to_a_number_and_for_a_day() {
        let mut memory = CertificateState::default();
        let name = |number: u64| Domain::parse(&format!("n{number}.org")).unwrap();
        let begin = UnixTime::from_seconds(1_795_000_000);
        for number in 0..150 {
            let retry = When::At(begin.plus(Duration::from_secs(number)));
            let error = Complaint::from("x");
            let (not_before, app_changes) = (None, AppChanges::default());
            let trouble = RetryState {
                failures: 1,
                error,
                retry,
                not_before,
                until_restart: false,
                app_changes,
            };
            memory.left_out.insert(name(number), trouble);
        }
        memory.keep_removed(begin, &[name(0)]);
        assert_eq!((memory.left_out.len(), memory.removed.len()), (1, REMOVED_MAX));
        assert!(!memory.removed.contains_key(&name(40)), "of too many, those that bind least go");
        memory.keep_removed(begin, &[name(149), name(40)]);
        assert!(memory.left_out.contains_key(&name(149)), "it is back, with what is known of it");
        memory.keep_removed(begin.plus(KEPT_UNWANTED * 2), &[]);
        assert!(!memory.removed.contains_key(&name(148)));
    }
}
