//! Rollouts of new certificates: what was there before is kept, goes back, and makes room again.

use super::*;

use crate::daemon::model::Catalog;
use crate::hint::Complaint;
use crate::pki::{Bundle, Fingerprint};
use crate::testing::{ODD_CERTIFICATE, ODD_KEY};

const HOUR: Duration = minutes(60);

fn leaf(pem: &Secret) -> Fingerprint {
    Fingerprint::of(Bundle::parse(pem.expose()).unwrap().leaf_der())
}

fn reason() -> Complaint {
    Complaint::from("it serves something else")
}

impl Case {
    /// The next file that is to be written, if there is one; what is asked for before it.
    fn next_write(&mut self) -> (Vec<String>, Option<Secret>) {
        let mut others = Vec::new();
        let mut steps = crate::testing::Steps::default();
        while let Some(output) = self.certificates.poll_output() {
            steps.count();
            match output {
                CertificatesOutput::Write(_, pem) => return (others, Some(pem)),
                output => others.push(show(&output)),
            }
        }
        (others, None)
    }

    /// A certificate in service, and its successor just written.
    fn renewed(&mut self) -> [Secret; 2] {
        self.certificates.keep_before(true);
        self.want(&[("a.org", "1")]);
        let (key, chain_pem) = self.file(&names("a.org"), 90);
        let issue = |case: &mut Case, id, (key, chain_pem): (Secret, String)| {
            let names = names("a.org");
            let issued = Issued { names, key, chain_pem, replaced: None, told_time: None };
            case.certificates.finished(&mut case.bench.cx(), OrderId(id), Ok(issued));
            case.next_write()
        };
        let (read, before) = issue(self, 0, (key, chain_pem));
        assert_eq!(read, Vec::<String>::new(), "there was nothing before");
        let before = before.unwrap();
        assert_eq!(self.written("a.org"), ["changed"]);
        let (_, ordered) = self.sleep();
        assert_eq!(ordered, ["order 1 a.org"]);
        let file = self.file(&names("a.org"), 90);
        let (read, after) = issue(self, 1, file);
        assert_eq!(read, ["read a.org"], "ahead of the write");
        let after = after.unwrap();
        self.certificates.read(&mut self.bench.cx(), &name("a.org"), Ok(before.clone()));
        assert_eq!(self.written("a.org"), ["changed"]);
        assert_eq!(self.certificates.expected(&name("a.org")), Some(leaf(&after)));
        [before, after]
    }

    fn unserved(&mut self) -> bool {
        self.certificates.unserved(&mut self.bench.cx(), &[name("a.org")], &reason())
    }
}

#[test]
fn one_that_is_not_served_makes_room_for_the_one_of_before_and_is_tried_again_without_an_order() {
    let mut case = Case::new();
    let [before, after] = case.renewed();
    let mut pauses = Vec::new();
    for round in 0..3 {
        let asked = case.bench.now.mono;
        assert!(case.unserved());
        let (others, returned) = case.next_write();
        let archived = others == ["reject a.org: it serves something else"];
        assert_eq!((archived, others.is_empty()), (round == 0, round > 0), "{others:?}");
        assert_eq!(returned.as_ref().map(leaf), Some(leaf(&before)));
        assert_eq!(case.certificates.states_of_a(), State::Failing);
        case.written("a.org");
        assert_eq!(case.certificates.expected(&name("a.org")), Some(leaf(&before)));
        assert!(!case.unserved(), "it is back already");
        // No order, but the same file again.
        let mut steps = crate::testing::Steps::default();
        let (again, placed) = loop {
            steps.count();
            let at = case.certificates.poll_timeout(case.bench.now).expect("it is tried again");
            case.bench.pass(at.since(case.bench.now.mono));
            case.certificates.handle_timeout(&mut case.bench.cx());
            if let (others, Some(pem)) = case.next_write() {
                break (others, pem);
            }
        };
        assert_eq!((again, leaf(&placed)), (vec!["read a.org".to_string()], leaf(&after)));
        pauses.push(case.bench.now.mono.since(asked));
        case.certificates.read(&mut case.bench.cx(), &name("a.org"), Ok(before.clone()));
        assert_eq!(case.written("a.org"), ["changed"], "round {round}");
        assert_eq!(case.certificates.states_of_a(), State::Valid);
    }
    assert!(pauses[0] < minutes(2) && pauses[1] > minutes(7) && pauses[2] > minutes(44));
    case.certificates.seen_served(case.bench.now.wall, &[name("a.org")]);
    assert!(!case.unserved(), "what was before is forgotten");
    let counts = case.certificates.order_counts();
    assert_eq!((counts.issued, counts.failed), (2, 0));
}

#[test]
fn one_that_is_withheld_is_tried_again_though_no_order_is_due() {
    let mut case = Case::new();
    let [_, after] = case.renewed();
    assert!(case.unserved());
    case.next_write();
    case.written("a.org");
    // The window that the order was for has moved on.
    let entry = case.certificates.entries.get_mut(&name("a.org")).unwrap();
    entry.memory.life.as_mut().unwrap().renewal = case.bench.now.wall.plus(DAY * 10);
    case.certificates.reindex(&name("a.org"));
    let at = case.certificates.poll_timeout(case.bench.now).expect("it is tried again");
    assert!(at.since(case.bench.now.mono) < minutes(2));
    case.bench.pass(at.since(case.bench.now.mono));
    case.certificates.handle_timeout(&mut case.bench.cx());
    assert_eq!(case.next_write().1.as_ref().map(leaf), Some(leaf(&after)));
}

#[test]
fn what_is_about_to_end_does_not_go_back() {
    let mut case = Case::new();
    case.renewed();
    case.bench.pass(29 * DAY + 23 * HOUR);
    assert!(!case.unserved());
    assert_eq!(case.next_write().1.map(|pem| leaf(&pem)), None);
}

#[test]
fn one_that_does_not_fit_any_more_is_ordered_anew() {
    let mut case = Case::new();
    case.renewed();
    assert!(case.unserved());
    case.next_write();
    case.written("a.org");
    assert_eq!(case.want(&[("a.org b.org", "2")]), ["order 2 a.org b.org"]);
}

#[test]
fn without_a_canary_nothing_is_kept() {
    let mut case = Case::new();
    case.want(&[("a.org", "1")]);
    case.obtain(0, "a.org", 90);
    case.sleep();
    assert_eq!(case.issue(1, "a.org", 90), ["write a.org"]);
    case.written("a.org");
    assert!(!case.unserved());
}

/// HAProxy serves the file whose own name comes first, `.pem` included.
#[test]
fn of_several_files_for_a_name_the_first_one_is_expected() {
    let mut case = Case::of(&Config { san: true, ..config() });
    let both = case.stored("a.org b.org", 90);
    let other = case.stored("b.org", 90);
    case.restart(&Config { san: true, ..config() }, &[("a.org", both.clone()), ("b.org", other)]);
    assert_eq!(case.certificates.expected(&name("b.org")), None, "nobody wants it");
    case.want(&[("a.org", "1"), ("b.org", "1")]);
    assert_eq!(case.certificates.expected(&name("b.org")), Some(leaf(&both)));
    assert_eq!(case.certificates.latest(1).len(), 1);
    let first = case.certificates.following(None);
    assert_eq!(case.certificates.following(first.as_ref()), Some(name("b.org")));
    assert_eq!(case.certificates.following(Some(&name("b.org"))), first);
}

/// A certificate for both names in rollout, where each had one of its own before; `b.org.pem` is in the
/// way of nothing, but not wanted any more.
fn joined() -> Case {
    let mut case = Case::of(&Config { san: true, ..config() });
    case.certificates.keep_before(true);
    case.want(&[("a.org", "1"), ("b.org", "1")]);
    case.obtain(0, "a.org", 90);
    case.obtain(1, "b.org", 90);
    assert_eq!(case.want(&[("a.org b.org", "2")]), ["order 2 a.org b.org"]);
    assert_eq!(case.issue(2, "a.org b.org", 90), ["read a.org", "write a.org"]);
    case.try_out();
    case
}

impl Case {
    /// What was in service is read, and its successor written.
    fn try_out(&mut self) {
        let before = self.stored("a.org", 90);
        self.certificates.read(&mut self.bench.cx(), &name("a.org"), Ok(before));
        assert_eq!(self.written("a.org"), ["changed"]);
        assert_eq!(self.wake(), Vec::<String>::new(), "nobody knows yet whether it is served");
        assert_eq!(self.want(&[("a.org b.org", "2")]), Vec::<String>::new());
    }

    fn seen_served(&mut self) {
        self.certificates.seen_served(self.bench.now.wall, &[name("a.org")]);
    }
}

#[test]
fn a_file_makes_room_for_another_one_once_that_is_served() {
    let mut case = joined();
    case.seen_served();
    assert_eq!(case.wake(), ["archive b.org"]);
}

#[test]
fn a_file_stays_while_what_would_do_for_it_is_withheld() {
    let mut case = joined();
    assert!(case.unserved());
    let rejected = "reject a.org: it serves something else";
    assert_eq!(case.outputs(), [rejected, "write a.org"]);
    let none = Vec::<String>::new();
    assert_eq!(case.want(&[("a.org b.org", "2")]), none, "it is on its way out");
    assert_eq!(case.written("a.org"), ["changed"]);
    assert_eq!((case.wake(), case.want(&[("a.org b.org", "2")])), (none.clone(), none));
    assert_eq!(case.sleep().1, ["read a.org", "write a.org"]);
    case.try_out();
    case.seen_served();
    assert_eq!(case.wake(), ["archive b.org"]);
}

/// The renewal of one that does for both is tried out, too, but whichever stays does for both.
#[test]
fn a_file_need_not_wait_for_a_trial_of_what_was_there_before() {
    let mut case = Case::of(&Config { san: true, ..config() });
    case.certificates.keep_before(true);
    case.want(&[("a.org b.org", "1")]);
    case.obtain(0, "a.org b.org", 90);
    assert_eq!(case.sleep().1, ["order 1 a.org b.org"]);
    case.issue(1, "a.org b.org", 90);
    case.try_out();
    let left = case.stored("b.org", 90);
    case.certificates.compare_files(&mut case.bench.cx(), &names("a.org b.org"), &names("b.org"));
    assert_eq!(case.outputs(), ["read b.org"]);
    case.certificates.read(&mut case.bench.cx(), &name("b.org"), Ok(left));
    assert_eq!(case.wake(), ["changed", "archive b.org"]);
}

/// No handshake of ours can come to an end with it, whoever serves it.
#[test]
fn a_certificate_of_a_kind_that_we_do_not_know_is_not_looked_for() {
    let mut case = Case::new();
    let odd = Secret::new(format!("{ODD_KEY}{ODD_CERTIFICATE}"));
    let other = case.stored("b.org", 90);
    case.restart(&config(), &[("a.org", odd), ("b.org", other.clone())]);
    case.want(&[("a.org", "1"), ("b.org", "1")]);
    let certificates = &case.certificates;
    assert!(certificates.wants(&name("a.org")) && !certificates.matters(&name("a.org")));
    assert_eq!(certificates.expected(&name("a.org")), None);
    assert_eq!(certificates.expected(&name("b.org")), Some(leaf(&other)));
    assert_eq!(certificates.latest(9), names("b.org"));
    assert_eq!(certificates.following(Some(&name("b.org"))), Some(name("b.org")));
}

impl Certificates {
    fn states_of_a(&self) -> State {
        let view = self.views().next().expect("a.org");
        view.state(self.last_now.expect("a turn").wall)
    }
}

/// There may be ten thousand of them.
#[test]
fn an_entry_is_small() {
    assert!(size_of::<Entry>() <= 640, "{} bytes", size_of::<Entry>());
}

#[test]
fn a_rollback_that_does_not_help_is_taken_back_and_not_repeated() {
    let mut case = Case::new();
    let [before, after] = case.renewed();
    assert!(case.unserved());
    assert_eq!(case.next_write().1.map(|pem| leaf(&pem)), Some(leaf(&before)));
    assert_eq!(case.written("a.org"), ["changed"]);
    case.certificates.restore_rolled_back(&mut case.bench.cx());
    let (read, written) = case.next_write();
    assert_eq!((read, written.map(|pem| leaf(&pem))), (vec![], Some(leaf(&after))));
    assert_eq!(case.written("a.org"), ["changed"]);
    assert!(!case.unserved(), "nothing is kept that could be restored");
    assert_eq!(case.certificates.expected(&name("a.org")), Some(leaf(&after)));
}
