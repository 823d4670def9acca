//! Instants and wall time as our own types, so that pure code can be handed any time at all.
//!
//! Nothing here reads a clock: only `io/` does, once per iteration of the loop.

use std::fmt;
use std::time::Duration;

use time::{Date, Month, OffsetDateTime, Time};

/// A point on the monotonic clock, in nanoseconds since the process started. Deadlines use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The moment the process started.
    pub const START: Instant = Instant(0);

    /// The instant `nanos` nanoseconds after the process started.
    pub const fn from_nanos(nanos: u64) -> Instant {
        Instant(nanos)
    }

    /// Nanoseconds since the process started.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this instant; zero when `earlier` is later.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_add(nanos))
    }
}

/// Wall time in milliseconds since 1970-01-01T00:00:00Z, leap seconds ignored. It may jump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(i64);

impl UnixTime {
    /// The time `millis` milliseconds after the epoch.
    pub const fn from_millis(millis: i64) -> UnixTime {
        UnixTime(millis)
    }

    /// The time `seconds` seconds after the epoch.
    pub const fn from_seconds(seconds: i64) -> UnixTime {
        UnixTime(seconds.saturating_mul(1000))
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The time from `earlier` to this one; zero when `earlier` is later.
    pub fn since(self, earlier: UnixTime) -> Duration {
        let millis = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }

    /// This time, `duration` later.
    pub fn plus(self, duration: Duration) -> UnixTime {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        UnixTime(self.0.saturating_add(millis))
    }

    /// This time, `duration` earlier.
    pub fn minus(self, duration: Duration) -> UnixTime {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        UnixTime(self.0.saturating_sub(millis))
    }

    /// The time of a UTC calendar date; `None` where there is no such date.
    pub fn from_calendar(date: Calendar) -> Option<UnixTime> {
        let month = Month::try_from(date.month).ok()?;
        let day = Date::from_calendar_date(date.year, month, date.day).ok()?;
        let clock = Time::from_hms(date.hour, date.minute, date.second).ok()?;
        Some(UnixTime::from_seconds(day.with_time(clock).assume_utc().unix_timestamp()))
    }

    /// The UTC calendar date; years outside -9999..=9999 are shown as the epoch.
    pub fn calendar(self) -> Calendar {
        let date = OffsetDateTime::from_unix_timestamp(self.as_seconds())
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Calendar {
            year: date.year(),
            month: u8::from(date.month()),
            day: date.day(),
            hour: date.hour(),
            minute: date.minute(),
            second: date.second(),
        }
    }

    /// Reads the three date forms of HTTP (RFC 9110 section 5.6.7), as in `Retry-After`.
    pub fn from_http_date(text: &str) -> Option<UnixTime> {
        let words: Vec<&str> = text.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        match words.as_slice() {
            // Sun, 06 Nov 1994 08:49:37 GMT
            [_, day, month, year, clock, "GMT"] => http_date(year, month, day, clock),
            // Sunday, 06-Nov-94 08:49:37 GMT
            [_, date, clock, "GMT"] => {
                let mut parts = date.split('-');
                let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
                // Two digits name the year of this century up to 50 years ahead of now; all the
                // dates a CA sends are recent, so the century is this one.
                let year: i32 = year.parse().ok()?;
                http_date(&(2000 + year % 100).to_string(), month, day, clock)
            }
            // Sun Nov  6 08:49:37 1994
            [_, month, day, clock, year] => http_date(year, month, day, clock),
            _ => None,
        }
    }

    /// Reads an RFC 3339 time such as `2026-11-23T17:00:00.123+01:00`; fractions are dropped.
    pub fn from_rfc3339(text: &str) -> Option<UnixTime> {
        let (date, rest) = text.split_once(['T', 't', ' '])?;
        let mut date_parts = date.splitn(3, '-');
        let clock_end =
            rest.find(|c: char| !(c.is_ascii_digit() || c == ':')).unwrap_or(rest.len());
        let (clock, zone) = rest.split_at(clock_end);
        let zone = match zone.strip_prefix('.') {
            Some(fraction) => fraction.trim_start_matches(|c: char| c.is_ascii_digit()),
            None => zone,
        };
        let (hour, minute, second) = clock_parts(clock)?;
        let local = UnixTime::from_calendar(Calendar {
            year: date_parts.next()?.parse().ok()?,
            month: date_parts.next()?.parse().ok()?,
            day: date_parts.next()?.parse().ok()?,
            hour,
            minute,
            second,
        })?;
        Some(UnixTime::from_seconds(local.as_seconds().checked_sub(zone_seconds(zone)?)?))
    }
}

/// `Z`, `+HH:MM` or `-HH:MM` as seconds east of UTC.
fn zone_seconds(zone: &str) -> Option<i64> {
    let (sign, rest) = match zone.as_bytes().first()? {
        b'Z' | b'z' if zone.len() == 1 => return Some(0),
        b'+' => (1, &zone[1..]),
        b'-' => (-1, &zone[1..]),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes): (u8, u8) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours < 24 && minutes < 60)
        .then_some(sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60))
}

fn clock_parts(clock: &str) -> Option<(u8, u8, u8)> {
    let mut parts = clock.split(':');
    let mut next = || parts.next()?.parse::<u8>().ok();
    // A leap second is the second before it: calendars here have none.
    Some((next()?, next()?, next()?.min(59)))
}

fn http_date(year: &str, month: &str, day: &str, clock: &str) -> Option<UnixTime> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (hour, minute, second) = clock_parts(clock)?;
    let month = MONTHS.iter().position(|name| *name == month)?;
    UnixTime::from_calendar(Calendar {
        year: year.parse().ok()?,
        month: u8::try_from(month + 1).ok()?,
        day: day.parse().ok()?,
        hour,
        minute,
        second,
    })
}

/// A UTC date and time of day, months and days counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Calendar {
    pub year: i32,
    pub month: u8,
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
}

/// RFC 3339 with seconds, in UTC: `2026-11-23T17:00:00Z`.
impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Calendar { year, month, day, hour, minute, second } = self.calendar();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// The time of one iteration of the loop, read once and passed down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For deadlines and pauses: never jumps.
    pub mono: Instant,
    /// For dates of certificates and of `Retry-After`: may jump.
    pub wall: UnixTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates_in_the_three_forms_of_rfc_9110() {
        let expected = Some(UnixTime::from_seconds(784_111_777));
        assert_eq!(UnixTime::from_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), expected);
        assert_eq!(UnixTime::from_http_date("Sun Nov  6 08:49:37 1994"), expected);
        assert_eq!(
            UnixTime::from_http_date("Sunday, 06-Nov-26 08:49:37 GMT").map(|t| t.to_string()),
            Some("2026-11-06T08:49:37Z".to_string())
        );
        for bad in ["", "120", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 31 Feb 1994 08:49:37 GMT"] {
            assert_eq!(UnixTime::from_http_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn rfc3339_with_zones_and_fractions() {
        let utc = |text| UnixTime::from_rfc3339(text).map(|time| time.to_string());
        let expected = Some("2026-11-23T17:00:00Z".to_string());
        assert_eq!(utc("2026-11-23T17:00:00Z"), expected);
        assert_eq!(utc("2026-11-23T18:00:00.123456+01:00"), expected);
        assert_eq!(utc("2026-11-23T12:30:00-04:30"), expected);
        for bad in [
            "",
            "2026-11-23",
            "2026-11-23T17:00:00",
            "2026-13-23T17:00:00Z",
            "T",
            "2026-11-23T17:00Z",
            "2026-11-23T17:00:00+24:00",
            "2026-11-23T17:00:00+-1:00",
            "2026-11-23T17:00:00+-9223372036854775808:00",
        ] {
            assert_eq!(utc(bad), None, "{bad}");
        }
    }

    #[test]
    fn arithmetic_saturates() {
        let instant = Instant::from_nanos(5);
        assert_eq!(instant.since(Instant::from_nanos(7)), Duration::ZERO);
        assert_eq!((instant + Duration::MAX).as_nanos(), u64::MAX);
        assert_eq!(UnixTime::from_seconds(5).since(UnixTime::from_seconds(9)), Duration::ZERO);
        assert_eq!(UnixTime::from_millis(-1).as_seconds(), -1);
    }
}
