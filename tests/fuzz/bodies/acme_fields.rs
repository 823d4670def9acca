//! The fields of a CA's answers that are acted on: `Retry-After`, `Link`, `Location`, `Replay-Nonce`,
//! and the times in them. A pause is never longer than its limit, a date reads back as it was written.

use std::time::Duration;

use marathon_acme::acme::call::{RETRY_AFTER_MAX, judge, retry_after};
use marathon_acme::acme::link::alternates;
use marathon_acme::acme::nonces::Nonces;
use marathon_acme::acme::renewal_info::{self, ASK_AGAIN_MAX};
use marathon_acme::acme::{CallError, account};
use marathon_acme::http::{Headers, Response, ResponseHead};
use marathon_acme::time::{Instant, UnixTime};
use marathon_acme::url::Url;

/// 2026-11-23T00:00:00Z.
const NOW: UnixTime = UnixTime::from_seconds(1_795_392_000);

/// The years that four digits can say.
const YEAR_0: UnixTime = UnixTime::from_seconds(-62_167_219_200);
const YEAR_10000: UnixTime = UnixTime::from_seconds(253_402_300_800);

/// The first byte says which status came; then lines of fields, an empty line, and the body.
pub fn run(bytes: &[u8]) {
    let [status, bytes @ ..] = bytes else { return };
    let status = [200, 201, 400, 403, 404, 409, 429, 500, 503][usize::from(*status % 9)];
    let text = String::from_utf8_lossy(bytes);
    let (fields, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut headers = Headers::new();
    for (name, value) in fields.lines().filter_map(|line| line.split_once(':')) {
        headers.push(name, value.trim());
    }
    let pause = retry_after(NOW, &headers);
    assert!(pause.is_none_or(|pause| pause <= RETRY_AFTER_MAX));
    links(&headers);
    nonces(&headers);
    fields.lines().for_each(times);
    let response = Response { head: ResponseHead { status, headers }, body: body.into() };
    if let Ok(account) = account::read(&response) {
        Url::parse(&account.url).expect("it was checked");
    }
    suggestion(&response, pause);
    let url = Url::parse("https://ca.example/x").expect("a URL");
    let judged = judge(NOW, &url, response);
    assert_eq!(judged.is_ok(), status < 300 && !body.trim_ascii_start().starts_with('<'));
    assert!(judged.err().is_none_or(|error| !error.to_string().contains('\n')));
}

fn links(headers: &Headers) {
    let base = Url::parse("https://ca.example/certificates/1?x=y").expect("a URL");
    let found = alternates(headers, &base);
    for (index, url) in found.iter().enumerate() {
        assert!(*url != base && !found[..index].contains(url), "{url} again");
    }
}

fn nonces(headers: &Headers) {
    let (mut nonces, now) = (Nonces::default(), Instant::START);
    nonces.bank(now, headers);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if let Some(nonce) = nonces.spend(now) {
        assert!(!nonce.is_empty() && nonce.bytes().all(fits));
    }
    assert!(nonces.is_empty() && nonces.spend(now).is_none(), "a nonce is spent twice");
}

fn times(line: &str) {
    for time in [UnixTime::from_rfc3339(line), UnixTime::from_http_date(line)].into_iter().flatten()
    {
        if (YEAR_0..YEAR_10000).contains(&time) {
            assert_eq!(UnixTime::from_rfc3339(&time.to_string()), Some(time), "{line:?}");
        }
    }
}

fn suggestion(response: &Response, pause: Option<Duration>) {
    let retry_max = ASK_AGAIN_MAX.max(Duration::from_secs(6 * 60 * 60));
    match renewal_info::read(NOW, Ok::<_, CallError>(response.clone())) {
        Ok(suggestion) => {
            let window = suggestion.window;
            assert!(window.start < window.end && pause.is_some());
            assert!((Duration::from_secs(60)..=ASK_AGAIN_MAX).contains(&suggestion.ask_again));
            for chance in [0, u64::MAX / 3, u64::MAX] {
                assert!((window.start..window.end).contains(&window.choose(chance)), "{window:?}");
            }
        }
        Err(error) => {
            for failures in [1, 5, u32::MAX] {
                assert!(renewal_info::pause(&error, failures) <= retry_max);
            }
        }
    }
}
