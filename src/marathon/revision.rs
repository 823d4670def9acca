//! When an app was last changed, restarted or scaled, as one short text. Marathon gives all three a new
//! `version`; only the first two are an operator's act, for an autoscaler does the third all day.
//!
//! `VERSION`, or `VERSION/INSTANCES/CONFIGURED` where the app says when its configuration was last changed
//! (`versionInfo.lastConfigChangeAt`): that stays as it was when an app is restarted or scaled, and the
//! number of instances when it is restarted.

/// The revision of an app that says all this of itself.
pub(super) fn revision(version: &str, instances: Option<u64>, configured: &str) -> String {
    match instances {
        Some(instances) if !configured.is_empty() => format!("{version}/{instances}/{configured}"),
        _ => version.to_string(),
    }
}

/// Whether somebody has changed or restarted one of the apps between two lists of revisions, which are
/// separated by spaces and in the order of the same apps.
pub fn acted(before: &str, after: &str) -> bool {
    if before == after {
        return false;
    }
    let (before, after) = (before.split(' '), after.split(' '));
    before.clone().count() != after.clone().count()
        || before.zip(after).any(|(before, after)| before != after && !was_scaled(before, after))
}

fn was_scaled(before: &str, after: &str) -> bool {
    match (parts(before), parts(after)) {
        (Some((before, since)), Some((after, configured))) => {
            before != after && since == configured
        }
        _ => false,
    }
}

/// The number of instances, and when the configuration was last changed.
fn parts(revision: &str) -> Option<(&str, &str)> {
    revision.split_once('/')?.1.split_once('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURED: &str = "2026-05-01T09:12:33.000Z";

    fn at(day: u32, instances: u64, configured: &str) -> String {
        revision(&format!("2026-05-{day:02}T10:00:00.000Z"), Some(instances), configured)
    }

    #[test]
    fn scaling_alone_is_no_act() {
        let before = at(1, 2, CONFIGURED);
        assert!(!acted(&before, &before));
        assert!(!acted(&before, &at(2, 3, CONFIGURED)), "scaled");
        assert!(acted(&before, &at(2, 2, CONFIGURED)), "restarted");
        assert!(acted(&before, &at(2, 2, "2026-05-02T10:00:00.000Z")), "changed");
        assert!(acted(&before, &at(2, 3, "2026-05-02T10:00:00.000Z")), "changed and scaled");
    }

    #[test]
    fn who_does_not_say_what_was_done_counts_as_acting() {
        assert_eq!(revision("1", None, CONFIGURED), "1");
        assert_eq!(revision("1", Some(2), ""), "1");
        assert!(acted("1", "2"));
        assert!(acted("1", &at(1, 2, CONFIGURED)));
        assert!(acted(&at(1, 2, CONFIGURED), "2"));
        assert!(!acted("", ""));
    }

    #[test]
    fn one_of_several_apps_is_enough() {
        let (a, b) = (at(1, 2, CONFIGURED), at(3, 2, CONFIGURED));
        let both = format!("{a} {b}");
        assert!(!acted(&both, &format!("{} {}", at(4, 5, CONFIGURED), at(4, 1, CONFIGURED))));
        assert!(acted(&both, &format!("{} {}", at(4, 5, CONFIGURED), at(4, 2, CONFIGURED))));
        assert!(acted(&both, &a), "one has gone");
        assert!(acted(&a, &both), "one has come");
    }
}
