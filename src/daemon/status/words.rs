//! Times and durations for people.

use std::time::Duration;

use crate::time::UnixTime;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// From now to then, or from then to now: `in 12 days`, `3 hours ago`, `now`.
pub(super) fn away(now: UnixTime, at: UnixTime) -> String {
    let (ahead, behind) = (at.since(now), now.since(at));
    match (ahead.as_secs(), behind.as_secs()) {
        (0, 0) => "now".into(),
        (0, _) => format!("{} ago", span(behind)),
        _ => format!("in {}", span(ahead)),
    }
}

/// A duration in its largest unit, of which there are two at least where there is a smaller one.
pub(super) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7_200 => (seconds / MINUTE, "minute"),
        7_200..172_800 => (seconds / HOUR, "hour"),
        _ => (seconds / DAY, "day"),
    };
    counted(usize::try_from(count).unwrap_or(usize::MAX), unit)
}

/// `1 day`, `2 days`.
pub(super) fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_exact_as_people_want_them() {
        let now = UnixTime::from_seconds(1_000_000);
        let at = |seconds: i64| away(now, UnixTime::from_seconds(1_000_000 + seconds));
        assert_eq!(at(0), "now");
        assert_eq!(at(1), "in 1 second");
        assert_eq!(at(-119), "119 seconds ago");
        assert_eq!(at(120), "in 2 minutes");
        assert_eq!(at(-7_200), "2 hours ago");
        assert_eq!(at(47 * 3600), "in 47 hours");
        assert_eq!(at(2 * 86_400), "in 2 days");
    }
}
