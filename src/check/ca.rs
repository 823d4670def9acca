//! Asks the CA for its directory, and for nothing else: makes no account and spends no nonce. Judges
//! what it offers, and this machine's clock by the `Date` of its answer.

use std::time::Duration;

use crate::acme::types::Directory;
use crate::client::{Client, ClientEvent, Delivery, Outgoing};
use crate::config::Config;
use crate::context::Context;
use crate::http::{Method, Request, Response};
use crate::machine::Trust;
use crate::time::UnixTime;
use crate::url::Url;

use super::report::Finding;
use super::{ANSWER_TIMEOUT, Part, counted, problem};

/// A directory is a few KiB; a CA may list many profiles. In bytes.
const DIRECTORY_BYTES_MAX: usize = 1024 * 1024;
/// A clock that is kept is off by far less, but `Date` has whole seconds (RFC 9110 section 5.6.7) and
/// the answer takes its time on the way.
const CLOCK_OFF_SOME: Duration = Duration::from_secs(5);
/// A clock that is off by more is not kept at all, and will be off by an hour one day: then a new
/// certificate, which CAs date back by that much, is not valid yet, and TLS to the CA fails.
const CLOCK_OFF_FAR: Duration = Duration::from_secs(5 * 60);

/// The question, and its answer.
#[derive(Debug, Default)]
pub(super) struct Ca {
    /// There is no answer yet.
    is_open: bool,
    answer: Option<Result<Answer, String>>,
}

#[derive(Debug)]
struct Answer {
    directory: Directory,
    /// What the CA took the time to be, and what this machine did.
    date: Option<UnixTime>,
    came: UnixTime,
}

impl Ca {
    pub(super) fn start(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Client<Part>,
        config: &Config,
    ) {
        let outgoing = Outgoing {
            request: Request::new(Method::Get, config.acme.clone()),
            trust: Trust::Acme,
            timeout: Some(ANSWER_TIMEOUT),
            silence: None,
            address: None,
            delivery: Delivery::Whole { body_bytes_max: DIRECTORY_BYTES_MAX },
        };
        client.send(cx, Part::Ca, outgoing);
        self.is_open = true;
    }

    pub(super) fn handle_event(&mut self, cx: &Context<'_>, event: ClientEvent, acme: &Url) {
        self.answer = match event {
            ClientEvent::Response(response) => Some(Answer::of(acme, cx.now.wall, &response)),
            ClientEvent::Failed(error) => Some(Err(problem(&error))),
            _ => return,
        };
        self.is_open = false;
    }

    pub(super) fn is_done(&self) -> bool {
        !self.is_open
    }

    pub(super) fn give_up(&mut self, reason: &str) {
        if std::mem::take(&mut self.is_open) {
            self.answer = Some(Err(reason.into()));
        }
    }

    pub(super) fn findings(&self, config: &Config) -> Vec<Finding> {
        match &self.answer {
            None => Vec::new(),
            Some(Err(problem)) => {
                let url = &config.acme;
                let remedy = "check --acme, --acme-ca, the way out and this machine's clock";
                vec![Finding::fail("ca", format!("{url}: {problem}"), remedy)]
            }
            Some(Ok(answer)) => {
                let Answer { directory, date, came } = answer;
                let terms = directory.terms_of_service.as_deref();
                let seen = format!("{}: terms of service {}", config.acme, terms.unwrap_or("none"));
                let profile = config.profile.as_deref();
                vec![
                    Finding::ok("ca", seen),
                    profiles(directory, profile),
                    renewal(directory),
                    account(directory, config.external_account.is_some()),
                    clock(*date, *came),
                ]
            }
        }
    }
}

impl Answer {
    fn of(from: &Url, came: UnixTime, response: &Response) -> Result<Answer, String> {
        let status = response.head.status;
        if status != 200 {
            return Err(format!("status {status}"));
        }
        let directory =
            Directory::parse(&response.body, from).map_err(|error| error.to_string())?;
        let date = response.head.headers.first("date").and_then(UnixTime::from_http_date);
        Ok(Answer { directory, date, came })
    }
}

fn profiles(directory: &Directory, wanted: Option<&str>) -> Finding {
    let names: Vec<&str> = directory.profiles.keys().map(String::as_str).collect();
    let offered = if names.is_empty() { "none".to_string() } else { names.join(", ") };
    match wanted {
        None => Finding::ok("profile", format!("none is asked for; offered: {offered}")),
        Some(wanted) if directory.profiles.contains_key(wanted) => {
            Finding::ok("profile", format!("{wanted} is offered"))
        }
        Some(wanted) => {
            let seen = format!("{wanted} is not offered; offered: {offered}");
            Finding::fail("profile", seen, "choose one of these with --profile, or none")
        }
    }
}

fn renewal(directory: &Directory) -> Finding {
    let seen = match directory.renewal_info {
        Some(_) => "the CA says when to renew (RFC 9773)",
        None => "the CA does not say when to renew, so the lifetime decides",
    };
    Finding::ok("renewal", seen)
}

fn account(directory: &Directory, bound: bool) -> Finding {
    let seen = match (directory.external_account_required, bound) {
        (true, false) => {
            let seen = "the CA wants accounts bound to one that it gave out elsewhere";
            let remedy = "get a key from the CA, and give --eab-kid and --eab-hmac-key";
            return Finding::fail("account", seen, remedy);
        }
        (true, true) => "bound to an external one, as the CA wants it",
        (false, true) => "bound to an external one, which the CA does not ask for",
        (false, false) => "the CA asks for no external one",
    };
    Finding::ok("account", seen)
}

fn clock(date: Option<UnixTime>, here: UnixTime) -> Finding {
    let Some(there) = date else {
        let seen = "cannot be compared: the CA's answer bears no date";
        return Finding::warn("clock", seen, "compare this machine's clock with another one");
    };
    let (off, way) =
        if here > there { (here.since(there), "ahead of") } else { (there.since(here), "behind") };
    let seen = format!("{} {way} the CA's", counted(off.as_secs(), "second"));
    let remedy = "let this machine keep its clock by NTP";
    match off {
        off if off > CLOCK_OFF_FAR => Finding::fail("clock", seen, remedy),
        off if off > CLOCK_OFF_SOME => Finding::warn("clock", seen, remedy),
        _ => Finding::ok("clock", "agrees with the CA's"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    fn directory(meta: &str) -> Directory {
        let url = |name: &str| format!(r#""{name}":"https://ca.example/{name}""#);
        let urls: Vec<String> = ["newNonce", "newAccount", "newOrder"].map(url).into();
        let text = format!("{{{},\"meta\":{{{meta}}}}}", urls.join(","));
        Directory::parse(text.as_bytes(), &Url::parse("https://ca.example/dir").unwrap()).unwrap()
    }

    #[test]
    fn clocks_that_differ() {
        let at = UnixTime::from_seconds(1_795_392_000);
        let verdict = |seconds: i64| {
            let here = UnixTime::from_seconds(1_795_392_000 + seconds);
            clock(Some(at), here).verdict
        };
        for (seconds, expected) in [
            (0, Verdict::Ok),
            (5, Verdict::Ok),
            (-5, Verdict::Ok),
            (6, Verdict::Warn),
            (-300, Verdict::Warn),
            (301, Verdict::Fail),
            (-90_000, Verdict::Fail),
        ] {
            assert_eq!(verdict(seconds), expected, "{seconds}");
        }
        let slow = clock(Some(at), UnixTime::from_seconds(1_795_392_000 - 7));
        assert_eq!(slow.seen, "7 seconds behind the CA's");
        assert_eq!(clock(None, at).verdict, Verdict::Warn);
    }

    #[test]
    fn profiles_that_are_offered_or_not() {
        let some = directory(r#""profiles":{"classic":"x","tlsserver":"y"}"#);
        assert_eq!(profiles(&some, None).seen, "none is asked for; offered: classic, tlsserver");
        assert_eq!(profiles(&some, Some("classic")).verdict, Verdict::Ok);
        let missing = profiles(&some, Some("clasic"));
        assert_eq!(missing.verdict, Verdict::Fail);
        assert_eq!(missing.seen, "clasic is not offered; offered: classic, tlsserver");
        assert_eq!(profiles(&directory(""), Some("x")).seen, "x is not offered; offered: none");
    }

    #[test]
    fn external_accounts_that_are_wanted_or_not() {
        let wanting = directory(r#""externalAccountRequired":true"#);
        assert_eq!(account(&wanting, false).verdict, Verdict::Fail);
        for (directory, bound) in
            [(&wanting, true), (&directory(""), true), (&directory(""), false)]
        {
            assert_eq!(account(directory, bound).verdict, Verdict::Ok);
        }
    }
}
