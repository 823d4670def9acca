//! Counts what one place showed, and reports it: what is the same for several names on one line.

use super::super::report::{Finding, Verdict};
use super::comparison::{DefaultLeaf, Difference};
use super::{SUBJECT, Target};
use crate::check::{LISTED_MAX, counted};

/// This many different things are reported of one place.
const GROUPS_MAX: usize = 16;
const UNREACHABLE: &str = "check --lb-verify-port or --lb-verify: HAProxy has to speak TLS there";

/// What one place showed.
#[derive(Debug, Default)]
pub(super) struct Tally {
    right: usize,
    wrong: usize,
    failed: usize,
    groups: Vec<Group>,
    /// What was shown for the unknown name.
    pub(super) default: Option<DefaultLeaf>,
    /// Why it ended before everything was compared.
    pub(super) ended: Option<String>,
}

/// Names of which the same is to be said.
#[derive(Debug)]
struct Group {
    difference: Difference,
    items: Vec<String>,
    count: usize,
}

impl Tally {
    /// Counts a certificate that was shown.
    pub(super) fn add(&mut self, target: &Target, difference: Option<Difference>) {
        let Some(difference) = difference else {
            self.right += 1;
            return;
        };
        self.wrong += 1;
        let item = format!("{}{}", target.name, difference.detail);
        self.group(difference, Some(item));
    }

    /// Counts a handshake that failed; without a target, for the unknown name.
    pub(super) fn add_failure(&mut self, target: Option<&Target>, shown: String) {
        self.failed += usize::from(target.is_some());
        let (verdict, detail) = (Verdict::Fail, String::new());
        let difference = Difference { verdict, shown, detail, remedy: UNREACHABLE };
        self.group(difference, target.map(|it| it.name.to_string()));
    }

    fn group(&mut self, difference: Difference, item: Option<String>) {
        let known = self.groups.iter().position(|it| {
            (it.difference.verdict, &it.difference.shown) == (difference.verdict, &difference.shown)
        });
        let index = known.unwrap_or_else(|| {
            if self.groups.len() < GROUPS_MAX {
                let (items, count) = (Vec::new(), 0);
                self.groups.push(Group { difference, items, count });
            }
            self.groups.len() - 1
        });
        let Some(group) = self.groups.get_mut(index) else { return };
        group.count += usize::from(item.is_some());
        if group.items.len() < LISTED_MAX {
            group.items.extend(item);
        }
    }

    /// What is to be said of the place, where `targets` names were to be compared.
    pub(super) fn findings(&self, here: &str, targets: usize, default: &str) -> Vec<Finding> {
        let mut findings: Vec<Finding> = self.groups.iter().map(|it| it.finding(here)).collect();
        let left = targets.saturating_sub(self.right + self.wrong + self.failed);
        let names = counted(targets as u64, "name");
        if left > 0 {
            let reason = self.ended.as_deref().unwrap_or("handshakes failed");
            let seen = format!("{here}: {left} of {names} not compared: {reason}");
            findings.push(Finding::warn(SUBJECT, seen, "check again"));
        }
        if findings.is_empty() && targets > 0 {
            let seen = format!("{here}: serves what is stored, compared for {names}");
            findings.push(Finding::ok(SUBJECT, seen));
        }
        findings.extend(self.default.as_ref().map(|shown| {
            let seen = format!("{here}: shows {} for an unknown name", shown.shown);
            if shown.is_ours {
                Finding::ok(SUBJECT, seen)
            } else {
                let remedy = shown.remedy.unwrap_or(default);
                Finding::warn(SUBJECT, format!("{seen}, and not default.pem"), remedy)
            }
        }));
        findings
    }
}

impl Group {
    fn finding(&self, here: &str) -> Finding {
        let Difference { verdict, shown, remedy, .. } = &self.difference;
        let mut seen = format!("{here}: {shown}");
        if self.count > 0 {
            seen = format!("{seen} for {}", self.items.join(", "));
        }
        if self.count > self.items.len() {
            seen = format!("{seen} and {} more", self.count - self.items.len());
        }
        Finding { verdict: *verdict, ..Finding::fail(SUBJECT, seen, *remedy) }
    }
}
