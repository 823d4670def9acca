//! Times as text, in the three forms that the stand-ins send.

use time::OffsetDateTime;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The calendar date of a time in milliseconds since 1970; the epoch beyond year 9999.
pub fn calendar(unix_ms: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(unix_ms.div_euclid(1000))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// RFC 3339 with seconds: `2026-11-23T17:00:00Z`.
pub fn rfc3339(unix_ms: i64) -> String {
    let date = calendar(unix_ms);
    let (day, clock) = (date.date(), date.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        day.year(),
        u8::from(day.month()),
        day.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    )
}

/// RFC 3339 with milliseconds, as Marathon writes times: `2026-11-23T17:00:00.123Z`.
pub fn rfc3339_ms(unix_ms: i64) -> String {
    let seconds = rfc3339(unix_ms);
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), unix_ms.rem_euclid(1000))
}

/// An HTTP date (RFC 9110 section 5.6.7): `Mon, 23 Nov 2026 17:00:00 GMT`.
pub fn http_date(unix_ms: i64) -> String {
    let date = calendar(unix_ms);
    format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
        DAYS[usize::from(date.weekday().number_days_from_monday())],
        date.day(),
        MONTHS[usize::from(u8::from(date.month()) - 1)],
        date.year(),
        date.hour(),
        date.minute(),
        date.second()
    )
}

/// The moment that [`http_date`] wrote.
pub fn from_http_date(text: &str) -> Option<i64> {
    let parts: Vec<&str> = text.split([' ', ':']).collect();
    let [_, day, month, year, hour, minute, second, "GMT"] = parts[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let month = time::Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = time::Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()?;
    let clock = (hour.parse().ok()?, minute.parse().ok()?, second.parse().ok()?);
    let moment = date.with_hms(clock.0, clock.1, clock.2).ok()?;
    Some(moment.assume_utc().unix_timestamp() * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_moment_in_three_forms() {
        let moment = 784_111_777_045;
        assert_eq!(rfc3339(moment), "1994-11-06T08:49:37Z");
        assert_eq!(rfc3339_ms(moment), "1994-11-06T08:49:37.045Z");
        assert_eq!(http_date(moment), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(from_http_date(&http_date(moment)), Some(784_111_777_000));
        assert_eq!(from_http_date("Sun, 06 Nov 1994 08:49:37"), None);
    }
}
