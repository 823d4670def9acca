//! Reloads by hand: writes and answers in, signals out.

use crate::log::message;
use std::collections::BTreeMap;

use super::*;
use crate::daemon::wire::{Sent, Wire, counted};
use crate::machine::CloseReason;
use crate::pki::Fingerprint;
use crate::testing::config;
use crate::url::Url;

mod drift;
mod foreign;
mod hanging;
mod reference;
mod verification;

const PIDS: &str = "/_haproxy_getpids";
const SECOND: Duration = Duration::from_secs(1);

struct Case {
    wire: Wire,
    reloader: Reloader,
    files: Files,
    shows_pids: bool,
}

/// What was written, and when; the certificates are texts.
#[derive(Default)]
struct Files(BTreeMap<Domain, (u64, &'static str)>);

impl Catalog for Files {
    fn expected(&self, name: &Domain) -> Option<Fingerprint> {
        self.0.get(name).map(|(_, text)| Fingerprint::of(text.as_bytes()))
    }

    fn stored(&self, name: &Domain) -> Option<Fingerprint> {
        self.expected(name)
    }

    fn previous(&self, _: &Domain) -> Option<Fingerprint> {
        Some(Fingerprint::of(b"old"))
    }

    fn matters(&self, name: &Domain) -> bool {
        self.0.contains_key(name)
    }

    fn latest(&self, count: usize) -> Vec<Domain> {
        let mut names: Vec<_> = self.0.iter().collect();
        names.sort_by_key(|(_, (at, _))| std::cmp::Reverse(*at));
        names.into_iter().take(count).map(|(name, _)| name.clone()).collect()
    }

    fn following(&self, name: Option<&Domain>) -> Option<Domain> {
        let behind = self.0.keys().find(|it| name.is_none_or(|name| *it > name));
        behind.or(self.0.keys().next()).cloned()
    }
}

impl Case {
    fn new(urls: &[&str]) -> Case {
        let urls: Vec<Url> = urls.iter().map(|url| Url::parse(url).unwrap()).collect();
        Case::of(&Config { lb: urls, ..config() })
    }

    fn of(config: &Config) -> Case {
        let reloader = Reloader::new(config);
        Case { wire: Wire::new(), reloader, files: Files::default(), shows_pids: false }
    }

    fn changed(&mut self) {
        self.reloader.changed(&mut self.wire.bench.cx());
    }

    /// Lets time pass and everything happen that is due; the signals sent meanwhile.
    fn pass(&mut self, duration: Duration) -> Vec<Sent> {
        self.wire.pass(duration);
        let Case { wire, reloader, files, .. } = self;
        reloader.handle_timeout(&mut wire.bench.cx(), (&mut wire.client, files));
        self.settle()
    }

    /// Answers the next question for process ids.
    fn show(&mut self, pids: &str) -> Vec<Sent> {
        self.shows_pids = true;
        let (_, asked) = self.sleep();
        assert!(asked.len() == 1 && asked[0].text.contains(PIDS), "{asked:?}");
        self.wire.answer(asked[0].conn, &counted(200, "text/plain", pids));
        self.settle()
    }

    /// Carries on until nothing moves. Unless a test is about process ids, nobody shows any.
    fn settle(&mut self) -> Vec<Sent> {
        let mut sent = self.settle_once();
        while let Some(place) =
            sent.iter().position(|it| !self.shows_pids && it.text.contains(PIDS))
        {
            let asked = sent.remove(place);
            self.wire.answer(asked.conn, &counted(503, "text/html", "<html>"));
            sent.extend(self.settle_once());
        }
        sent
    }

    fn settle_once(&mut self) -> Vec<Sent> {
        let mut sent = self.wire.sent();
        let mut steps = crate::testing::Steps::default();
        while let Some((owner, request, event)) = self.wire.event() {
            steps.count();
            let Owner::Reloader(of) = owner else { panic!("it is the reloader's") };
            let Case { wire, reloader, files, .. } = self;
            let mut cx = wire.bench.cx();
            reloader.handle_event(&mut cx, (&mut wire.client, files), (of, request), event);
            sent.extend(self.wire.sent());
        }
        sent
    }

    fn answer(&mut self, sent: &Sent, status: u16) -> Vec<Sent> {
        self.wire.answer(sent.conn, &counted(status, "text/plain", "words"));
        self.settle()
    }

    /// Sleeps until a signal is sent; how long that took.
    fn sleep(&mut self) -> (Duration, Vec<Sent>) {
        let begin = self.wire.bench.now.mono;
        let mut steps = crate::testing::Steps::default();
        loop {
            steps.count();
            let at = self.reloader.poll_timeout().expect("a pending reload is never forgotten");
            let sent = self.pass(at.since(self.wire.bench.now.mono));
            if !sent.is_empty() {
                return (self.wire.bench.now.mono.since(begin), sent);
            }
        }
    }
}

#[test]
fn the_first_write_is_signaled_at_once_and_those_within_two_seconds_share_one_more_signal() {
    let mut case = Case::new(&["http://10.0.0.1:9090", "http://user:pw@10.0.0.2/lb"]);
    assert!(case.reloader.is_clean());
    case.changed();
    for signal in case.pass(Duration::ZERO) {
        case.answer(&signal, 200);
    }
    assert!(case.reloader.is_clean());
    case.changed();
    assert_eq!(case.pass(SECOND), []);
    case.changed();
    let sent = case.pass(SECOND);
    let heads: Vec<&str> =
        sent.iter().map(|sent| sent.text.lines().next().unwrap_or_default()).collect();
    assert_eq!(heads, ["POST /_mlb_signal/usr1 HTTP/1.1", "POST /lb/_mlb_signal/usr1 HTTP/1.1"]);
    assert!(sent[1].text.to_lowercase().contains("authorization: basic"));
    assert!(!case.reloader.is_clean());
    for signal in &sent {
        case.answer(signal, 200);
    }
    assert!(case.reloader.is_clean() && case.reloader.poll_timeout().is_none());
    let views: Vec<NameView<'_>> = case.reloader.views().collect();
    assert!(views.iter().all(|view| view.in_sync && view.balancers[0].reloaded.is_some()));
    assert_eq!(views[1].counts, ReloadCounts { acknowledged: 2, ..ReloadCounts::default() });
}

#[test]
fn a_hundred_writes_are_one_signal_in_two_seconds_at_most() {
    let mut case = Case::new(&["http://10.0.0.1:9090"]);
    let mut signals = 0;
    for _ in 0..100 {
        case.changed();
        for signal in case.pass(SECOND / 10) {
            signals += 1;
            case.answer(&signal, 200);
        }
    }
    assert_eq!(signals, 5, "in ten seconds");
    let (_, sent) = case.sleep();
    case.answer(&sent[0], 200);
    assert!(case.reloader.is_clean());
}

/// The pauses after eight failures of a kind.
fn pauses(fail: impl Fn(&mut Case, &Sent)) -> Vec<Duration> {
    let mut case = Case::new(&["http://10.0.0.1:9090"]);
    case.changed();
    let mut signal = case.pass(Duration::ZERO).remove(0);
    let mut pauses = Vec::new();
    for round in 1..=8 {
        fail(&mut case, &signal);
        let now = case.wire.bench.now.mono;
        assert_eq!(case.reloader.failing(now), ["http://10.0.0.1:9090"]);
        assert_eq!(case.reloader.failures(), round);
        assert_eq!(case.reloader.troubles(now).len(), 1);
        let view = case.reloader.views().next().expect("one");
        assert!(!view.in_sync && view.balancers[0].problem.is_some(), "{view:?}");
        assert_eq!(view.counts.failed, u64::from(round));
        let (pause, mut sent) = case.sleep();
        pauses.push(pause);
        signal = sent.remove(0);
    }
    case.answer(&signal, 200);
    let now = case.wire.bench.now.mono;
    assert!(case.reloader.is_clean() && case.reloader.failing(now).is_empty());
    assert_eq!(case.wire.bench.logged(message::NOT_RELOADED), 1, "the same problem is logged once");
    assert_eq!(case.wire.bench.logged(message::RELOADED), 1);
    pauses
}

#[test]
fn one_that_refuses_is_signaled_again_with_growing_pauses() {
    let pauses = pauses(|case, signal| {
        // A kept connection that ends is tried again on a fresh one, which is no failure.
        let refusal = "HTTP/1.1 500 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        case.wire.answer(signal.conn, refusal);
        case.settle();
    });
    assert!(pauses[0] < SECOND * 2 && pauses[7] > SECOND * 40, "{pauses:?}");
}

#[test]
fn one_that_cannot_be_reached_is_asked_every_two_seconds() {
    let pauses = pauses(|case, signal| {
        case.wire.close(signal.conn, CloseReason::Refused);
        for again in case.settle() {
            case.wire.close(again.conn, CloseReason::Refused);
            case.settle();
        }
    });
    assert!(pauses.iter().all(|pause| *pause <= SECOND * 2), "{pauses:?}");
}

#[test]
fn a_write_after_the_signal_is_pending() {
    let mut case = Case::new(&["http://10.0.0.1:9090"]);
    case.changed();
    let first = case.pass(Duration::ZERO).remove(0);
    case.changed();
    assert_eq!(case.pass(RELOAD_EVERY), [], "one signal at a time");
    let second = [case.answer(&first, 200), case.pass(Duration::ZERO)].concat();
    assert_eq!(second.len(), 1, "the answer was to what was before the write");
    assert!(!case.reloader.is_clean());
    case.answer(&second[0], 200);
    assert!(case.reloader.is_clean());
}

#[test]
fn one_that_is_down_keeps_no_other_waiting() {
    let mut case = Case::new(&["http://10.0.0.1:9090", "http://10.0.0.2:9090"]);
    case.changed();
    let sent = case.pass(Duration::ZERO);
    case.wire.close(sent[0].conn, CloseReason::Refused);
    case.settle();
    case.answer(&sent[1], 200);
    let (_, again) = case.sleep();
    assert_eq!((again.len(), again[0].to), (1, sent[0].to), "only the one with a pending reload");
}

/// Answers the next question for process ids and then the signal that follows.
fn signal_after(case: &mut Case, pids: &str) {
    let signal = case.show(pids);
    assert_eq!(case.answer(&signal[0], 200), []);
}

#[test]
fn a_signal_that_starts_no_process_is_repeated() {
    let mut case = Case::new(&["http://10.0.0.1:9090"]);
    case.changed();
    let begin = case.wire.bench.now.mono;
    signal_after(&mut case, "65 32");
    // The process that checks the configuration is there for one look, and is not the new one.
    assert_eq!(case.show("98 65 32"), []);
    let mut repeated = Vec::new();
    let mut steps = crate::testing::Steps::default();
    while repeated.len() < 4 {
        steps.count();
        assert!(!case.reloader.is_clean(), "it only acknowledged the signal");
        for signal in case.show("65 32") {
            repeated.push(case.wire.bench.now.mono.since(begin).as_secs());
            case.answer(&signal, 200);
        }
    }
    assert_eq!(repeated, [3, 9, 21, 45]);
    assert_eq!(case.wire.bench.logged(message::NOT_RELOADED), 1);
    assert_eq!(case.reloader.poll_news(), Some(News::Unexplained));
    // A look at certs/ finds the cause.
    let Case { wire, reloader, .. } = &mut case;
    let blocking = Some("broken.pem: it is empty");
    reloader.looked(&mut wire.bench.cx(), blocking, Shadowed::new());
    let trouble = reloader.troubles(wire.bench.now.mono).concat();
    assert!(
        trouble.contains("no new HAProxy process") && trouble.contains("broken.pem"),
        "{trouble}"
    );
    assert_eq!(case.wire.bench.logged(message::NOT_RELOADED), 2);
    for look in ["101 65 32", "101 65"] {
        assert!(!case.reloader.is_clean(), "one look is not enough");
        case.show(look);
    }
    let now = case.wire.bench.now.mono;
    assert!(case.reloader.is_clean() && case.reloader.failing(now).is_empty());
}

/// The answer with the process ids is lost, and then the signal.
#[test]
fn without_the_process_ids_before_it_a_200_is_not_enough() {
    let mut case = Case::new(&["http://10.0.0.1:9090"]);
    case.shows_pids = true;
    case.changed();
    let (_, asked) = case.sleep();
    assert!(asked[0].text.contains(PIDS), "{asked:?}");
    let signal = case.pass(instance::PIDS_TIMEOUT);
    case.answer(&signal[0], 200);
    let mut repeated = case.show("65 32");
    while repeated.is_empty() {
        assert!(!case.reloader.is_clean(), "it only acknowledged the signal");
        repeated = case.show("65 32");
    }
    case.answer(&repeated[0], 200);
    case.show("98 65 32");
    case.show("98 65 32");
    assert!(case.reloader.is_clean());
}

#[test]
fn one_that_shows_no_process_ids_any_more_is_signaled_once_more() {
    let mut case = Case::new(&["http://10.0.0.1:9090"]);
    case.changed();
    signal_after(&mut case, "65 32");
    // A process has appeared, and may persist.
    assert_eq!(case.show("98 65 32"), []);
    let mut repeated = Vec::new();
    while repeated.is_empty() {
        assert!(!case.reloader.is_clean());
        repeated = case.show("pidof: not found");
    }
    case.answer(&repeated[0], 200);
    assert!(case.reloader.is_clean(), "there is nothing more to be seen");
}

#[test]
fn an_answer_without_a_pending_address_does_not_forget_it() {
    let mut case = Case::new(&["http://lb.example:9090"]);
    case.wire.hosts = "10.0.0.1 lb.example\n10.0.0.2 lb.example\n".into();
    case.changed();
    let sent = [case.pass(Duration::ZERO), case.settle()].concat();
    case.answer(&sent[0], 200);
    case.wire.close(sent[1].conn, CloseReason::Refused);
    case.settle();
    // One family of addresses may be missing from an answer; that of the next one is whole again.
    case.wire.hosts = "10.0.0.1 lb.example\n".into();
    let (_, again) = case.sleep();
    assert_eq!((again.len(), again[0].to), (1, sent[1].to));
    assert!(!case.reloader.is_clean());
    // One that stays away is gone.
    case.wire.close(again[0].conn, CloseReason::Refused);
    case.settle();
    let mut seconds = 0;
    let mut steps = crate::testing::Steps::default();
    while !case.reloader.is_clean() {
        steps.count();
        for signal in case.pass(SECOND) {
            case.wire.close(signal.conn, CloseReason::Refused);
            case.settle();
        }
        seconds += 1;
        assert!(seconds < 600, "it is never forgotten");
    }
    assert!(seconds > 200, "forgotten after {seconds} s");
    assert!(case.reloader.failing(case.wire.bench.now.mono).is_empty());
}

#[test]
fn one_that_an_earlier_run_has_not_seen_load_everything_is_signaled() {
    let mut case = Case::new(&["http://lb.example:9090"]);
    case.wire.hosts = "10.0.0.1 lb.example\n10.0.0.2 lb.example\n".into();
    let known = UpToDate::from([(
        "http://lb.example:9090".to_string(),
        ["10.0.0.1", "10.0.0.3"].map(|it| it.parse().unwrap()).into(),
    )]);
    case.reloader.restore(&case.wire.bench.cx(), &known);
    assert!(!case.reloader.is_clean(), "who is there now is not known yet");
    let sent = case.pass(Duration::ZERO);
    assert_eq!((sent.len(), sent[0].to.to_string()), (1, "10.0.0.2:9090".to_string()));
    case.answer(&sent[0], 200);
    assert!(case.reloader.is_clean() && case.reloader.take_unsaved());
    let now = ["10.0.0.1", "10.0.0.2"].map(|it| it.parse().unwrap()).into();
    assert_eq!(case.reloader.up_to_date().get("http://lb.example:9090"), Some(&now));
    // One that comes back may have been away when something was written.
    case.wire.hosts += "10.0.0.3 lb.example\n";
    let (_, sent) = case.sleep();
    assert_eq!(sent[0].to.to_string(), "10.0.0.3:9090");
}

#[test]
fn an_address_that_appears_is_signaled() {
    let mut case = Case::new(&["http://lb.example:9090"]);
    case.wire.hosts = "10.0.0.1 lb.example\n".into();
    case.changed();
    let sent = [case.pass(Duration::ZERO), case.settle()].concat();
    case.answer(&sent[0], 200);
    assert!(case.reloader.is_clean());
    case.wire.hosts += "10.0.0.2 lb.example\n";
    let (pause, sent) = case.sleep();
    assert!(pause <= Duration::from_secs(75), "{pause:?}");
    assert_eq!((sent.len(), sent[0].to.to_string()), (1, "10.0.0.2:9090".to_string()));
    case.answer(&sent[0], 200);
    assert!(case.reloader.is_clean());
}
