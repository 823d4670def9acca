//! Every lifetime: no pause, floor, window or limit puts a renewal off until the certificate has expired.

use super::*;
use crate::acme::renewal_info::{Suggestion, Window};
use crate::hint::Complaint;
use crate::log::message;

const HOUR: Duration = minutes(60);

/// From when to when, counted from now: so long ago, and so long ahead.
type Span = (Duration, Duration);

/// What CAs issue, and what they might: the last one has little of its lifetime left from the start.
const SPANS: [Span; 5] = [
    (HOUR, minutes(90 * 24 * 60)),
    (HOUR, minutes(160 * 60)),
    (HOUR, DAY),
    (minutes(0), minutes(10)),
    (DAY, minutes(55)),
];

impl Case {
    /// Key and chain of a certificate that is valid from then to then.
    fn spanning(&mut self, list: &str, (back, ahead): Span) -> (Secret, String) {
        let key = Signer::draw(&mut self.random);
        let names: Vec<_> = list.split(' ').map(String::from).collect();
        let names = rcgen::CertificateParams::new(names).unwrap().subject_alt_names;
        // The authority dates it back by an hour.
        let now = self.bench.now.wall.minus(back).plus(HOUR).as_millis();
        let now = Time { mono_ms: 0, unix_ms: now };
        let seconds = u32::try_from((back + ahead).as_secs()).unwrap();
        let leaf = self.pki.issue(&key, &names, now, seconds).unwrap();
        (Secret::new(pem("PRIVATE KEY", &key.pkcs8_der())), leaf.chain_pem)
    }

    /// Issued just now, and on the disk.
    fn obtain_spanning(&mut self, id: u64, list: &str, span: Span) {
        let (key, chain_pem) = self.spanning(list, span);
        let issued = Issued { names: names(list), key, chain_pem, replaced: None, told_time: None };
        self.certificates.finished(&mut self.bench.cx(), OrderId(id), Ok(issued));
        let first = list.split(' ').next().unwrap();
        assert_eq!(self.outputs().last(), Some(&format!("write {first}")));
        self.written(first);
    }

    fn not_after(&self, domain: &str) -> UnixTime {
        self.certificates.entries[&name(domain)].stored.as_ref().unwrap().not_after
    }

    fn left(&self) -> Duration {
        self.not_after("a.org").since(self.bench.now.wall)
    }
}

fn lost() -> OrderError {
    OrderError::Call(CallError::Transport { text: "reset".into(), lasting: false })
}

#[test]
fn no_renewal_is_planned_after_the_expiry() {
    for span in SPANS {
        let mut case = Case::new();
        case.want(&[("a.org", "1")]);
        case.obtain_spanning(0, "a.org", span);
        let issued = case.bench.now.wall;
        let (_, outputs) = case.sleep();
        assert_eq!(outputs, ["order 1 a.org"]);
        let left = case.left();
        assert!(left >= span.1 / 5, "{span:?}: {left:?} left");
        // Nor is a certificate renewed as soon as it is there.
        assert!(case.bench.now.wall.since(issued) >= span.1 / 4, "{span:?}");
    }
}

#[test]
fn no_window_puts_a_renewal_off_until_after_the_expiry() {
    for span in SPANS {
        for (start, end) in [(200, 300), (1, 2), (0, 40_000)] {
            let mut case = Case::new();
            case.certificates.advice_offered(true);
            case.want(&[("a.org", "1")]);
            case.obtain_spanning(0, "a.org", span);
            let issued = case.bench.now.wall;
            let cert_id = case.certificates.entries[&name("a.org")].stored.as_ref().unwrap();
            let cert_id = cert_id.cert_id.clone().unwrap();
            let window = Window {
                start: case.not_after("a.org").plus(minutes(start)),
                end: case.not_after("a.org").plus(minutes(end)),
            };
            let answer = Ok(Suggestion { window, explanation: None, ask_again: HOUR * 24 });
            let cx = &mut case.bench.cx();
            case.certificates.advised(cx, &name("a.org"), &cert_id, answer);
            let renewal = case.certificates.entries[&name("a.org")].renewal().unwrap();
            let left = case.not_after("a.org").since(renewal);
            assert!(left >= span.1 / 5 - minutes(1), "{span:?}: {left:?} left");
            assert!(renewal.since(issued) >= span.1 / 4, "{span:?}: at once");
        }
    }
}

/// However it came there: a damaged memory, another version of this program, a clock that jumped.
#[test]
fn a_date_that_is_remembered_is_bounded_by_the_expiry_as_well() {
    for span in SPANS {
        let mut case = Case::new();
        case.want(&[("a.org", "1")]);
        case.obtain_spanning(0, "a.org", span);
        let not_after = case.not_after("a.org");
        let entry = case.certificates.entries.get_mut(&name("a.org")).unwrap();
        entry.memory.life.as_mut().unwrap().renewal = not_after.plus(DAY);
        case.certificates.reindex(&name("a.org"));
        assert_eq!(case.sleep().1, ["order 1 a.org"]);
        let left = case.left();
        assert!(left >= span.1 / 5 - minutes(1), "{span:?}: {left:?} left");
        // A clock that was ahead when it was issued, and is set right.
        let entry = case.certificates.entries.get_mut(&name("a.org")).unwrap();
        entry.memory.life.as_mut().unwrap().issued = Some(not_after.plus(DAY * 365));
        entry.clamp(case.bench.now.wall);
        let renewal = entry.renewal().unwrap();
        assert!(renewal < not_after, "{span:?}");
    }
}

/// A clock that shows a time after the expiry makes every certificate look expired from its first moment.
#[test]
fn a_clock_that_is_far_ahead_does_not_make_orders_without_end() {
    for ahead in [DAY * 44 + HOUR * 22, DAY * 45, DAY * 400] {
        let mut case = Case::new();
        case.want(&[("a.org", "1")]);
        let (key, chain_pem) = case.spanning("a.org", (HOUR, DAY * 45));
        let told_time = Some(case.bench.now.wall);
        case.bench.now.wall = case.bench.now.wall.plus(ahead);
        let issued = Issued { names: names("a.org"), key, chain_pem, replaced: None, told_time };
        case.certificates.finished(&mut case.bench.cx(), OrderId(0), Ok(issued));
        assert_eq!(case.outputs(), ["write a.org"]);
        case.written("a.org");
        let (slept, _) = case.sleep();
        assert!(slept >= HOUR * 10, "{ahead:?}: {slept:?}");
    }
}

#[test]
fn a_pause_is_at_most_a_tenth_of_the_lifetime_left() {
    for span in SPANS {
        let mut case = Case::new();
        case.want(&[("a.org", "1")]);
        case.obtain_spanning(0, "a.org", span);
        assert_eq!(case.sleep().1, ["order 1 a.org"]);
        let mut id = 1;
        let mut steps = crate::testing::Steps::default();
        while case.left() > minutes(3) {
            steps.count();
            let left = case.left();
            // As a whole, and by the name alone.
            if id % 2 == 0 {
                case.end(id, lost())
            } else {
                case.refuse(id, "a.org")
            };
            let next = case.next("a.org").unwrap();
            let pause = next.at.since(case.bench.now.wall);
            assert!(pause <= left / 10, "{span:?}: {pause:?} with {left:?} left");
            assert!(pause <= pause_after(u32::try_from(id).unwrap()) * 5 / 4);
            assert!(pause >= Duration::from_secs(7), "{pause:?}: it does not spin");
            let (_, outputs) = case.sleep();
            id += 1;
            assert_eq!(outputs.len(), 1, "{outputs:?}");
            assert!(id < 200, "{span:?}");
            // What counts of an order here is when it is tried.
            case.certificates.budget = Budget::of(&config());
        }
        // After the expiry the table applies.
        case.bench.pass(minutes(4));
        case.end(id, lost());
        let pause = case.next("a.org").unwrap().at.since(case.bench.now.wall);
        assert!(pause >= pause_after(u32::try_from(id).unwrap()) * 3 / 4, "{span:?}: {pause:?}");
    }
}

#[test]
fn a_retry_after_is_longer_than_a_tenth_where_the_ca_says_so() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    case.obtain_spanning(0, "a.org", (HOUR, DAY));
    case.sleep();
    case.fail(1, Some(HOUR * 5));
    let (slept, _) = case.sleep();
    assert!((HOUR * 5..HOUR * 5 + minutes(1)).contains(&slept), "{slept:?}");
}

/// A pause that an earlier run remembered, from before there was such a certificate.
#[test]
fn a_pause_that_is_remembered_is_bounded_when_the_file_is_read() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    for id in 0..5 {
        case.fail(id, None);
        case.sleep();
    }
    // The program ends before the CA answers.
    let (key, chain_pem) = case.spanning("a.org", (HOUR * 20, HOUR * 4));
    let file = Secret::new(format!("{}{chain_pem}", key.expose()));
    case.restart(&config(), &[("a.org", file)]);
    case.want(&[("a.org", "1")]);
    let left = case.left();
    let pause = case.next("a.org").unwrap().at.since(case.bench.now.wall);
    assert!(pause <= left / 10, "{pause:?} with {left:?} left");
}

/// It is in no certificate, so that none is at stake.
#[test]
fn a_name_without_a_certificate_comes_back_by_the_table() {
    let mut case = Case::of(&Config { san: true, ..config() });
    case.want(&[("a.org b.org", "1")]);
    assert_eq!(case.refuse(0, "b.org"), ["order 1 a.org"]);
    case.obtain_spanning(1, "a.org", (HOUR, DAY));
    for (failures, id) in (1..4).zip(2..) {
        let (slept, outputs) = case.sleep();
        assert_eq!(outputs, [format!("order {id} a.org b.org")]);
        assert!(slept >= pause_after(failures) * 3 / 4, "{slept:?}");
        case.refuse(id, "b.org");
    }
}

/// What the program counts itself is a guess; the CA's own answer decides before the certificate expires.
#[test]
fn a_limit_that_is_reckoned_here_does_not_let_a_certificate_expire() {
    let url = "https://acme-v02.api.letsencrypt.org/directory";
    let mut case = Case::of(&Config { acme: Url::parse(url).unwrap(), ..config() });
    case.want(&[("a.org", "1")]);
    case.obtain_spanning(0, "a.org", (HOUR, DAY));
    let now = case.bench.now.wall;
    for _ in 0..9 {
        case.certificates.budget.order_made(now, &names("a.org"), OrderKind::New);
    }
    let (_, outputs) = case.sleep();
    assert_eq!(outputs, ["order 1 a.org"], "the first one was held back");
    assert_eq!(case.bench.logged(message::ORDER_HELD_BACK), 1);
    let left = case.left();
    assert!((minutes(60)..HOUR * 3).contains(&left), "{left:?} left");
}

#[test]
fn a_certificate_of_a_day_goes_back_as_well() {
    for (span, late) in [((HOUR, DAY), HOUR * 23), ((HOUR, HOUR * 6), minutes(350))] {
        let mut case = Case::new();
        case.certificates.keep_before(true);
        case.want(&[("a.org", "1")]);
        case.obtain_spanning(0, "a.org", span);
        let begin = case.bench.now.wall;
        assert_eq!(case.sleep().1, ["order 1 a.org"]);
        let before = case.stored("a.org", 1);
        let (key, chain_pem) = case.spanning("a.org", span);
        let (names, told_time) = (names("a.org"), None);
        let issued = Issued { names, key, chain_pem, replaced: None, told_time };
        case.certificates.finished(&mut case.bench.cx(), OrderId(1), Ok(issued));
        assert_eq!(case.outputs(), ["read a.org", "write a.org"], "{span:?}");
        case.certificates.read(&mut case.bench.cx(), &name("a.org"), Ok(before));
        case.written("a.org");
        let reason = Complaint::from("it serves something else");
        assert!(case.certificates.unserved(&mut case.bench.cx(), &[name("a.org")], &reason));
        case.outputs();
        case.written("a.org");
        // The rolled back one is tried again before the one in service expires.
        let left = case.left();
        let pause = case.next("a.org").unwrap().at.since(case.bench.now.wall);
        assert!(pause <= left / 10, "{span:?}: {pause:?} with {left:?} left");
        assert_eq!(case.sleep().1, ["read a.org", "write a.org"]);
        // What is about to end does not go back.
        let pause = late.saturating_sub(case.bench.now.wall.since(begin));
        case.bench.pass(pause);
        let before = case.stored("a.org", 1);
        case.certificates.read(&mut case.bench.cx(), &name("a.org"), Ok(before));
        case.written("a.org");
        assert!(!case.certificates.unserved(&mut case.bench.cx(), &[name("a.org")], &reason));
    }
}

/// That limit holds always, also in the last tenth of the lifetime.
#[test]
fn failed_authorizations_hold_a_renewal_back_without_a_check_every_second() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    case.obtain_spanning(0, "a.org", (HOUR, DAY));
    case.bench.pass(DAY - HOUR);
    let now = case.bench.now.wall;
    for _ in 0..6 {
        case.certificates.budget.validations_failed(now, &names("a.org"));
    }
    assert_eq!(case.wake(), Vec::<String>::new());
    let (slept, outputs) = case.sleep();
    assert_eq!(outputs, ["order 1 a.org"]);
    assert!((minutes(11)..minutes(13)).contains(&slept), "{slept:?}");
    assert_eq!(case.bench.logged(message::ORDER_HELD_BACK), 1);
}
