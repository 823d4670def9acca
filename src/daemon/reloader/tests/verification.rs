//! What is served, by hand: handshakes asked for, certificates shown.

use super::*;
use crate::config::{Place, Verification};
use crate::log::message;

const PORT: u16 = 443;
pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// Load balancers that can be looked at, and what each of them serves: the last that it was told to.
pub(super) struct Proof {
    pub(super) case: Case,
    pub(super) serves: BTreeMap<IpAddr, &'static str>,
    /// What each serves for other names than a.org, where that is not the same.
    pub(super) for_others: BTreeMap<IpAddr, &'static str>,
    /// What each serves once it was signaled.
    pub(super) loads: BTreeMap<IpAddr, &'static str>,
    /// Process ids; those who are not here show none.
    pub(super) pids: BTreeMap<IpAddr, u32>,
    /// These show no process ids, and answer nothing either.
    pub(super) hang: BTreeSet<IpAddr>,
    /// These let nobody finish a handshake.
    pub(super) silent: BTreeSet<IpAddr>,
    /// These refuse every connection.
    pub(super) down: BTreeSet<IpAddr>,
    /// The first processes outlive every reload, those of 32 and 31.
    pub(super) first_ones_stay: bool,
    /// HAProxy runs as master and workers; the master is not the first id.
    pub(super) master: bool,
    /// Each signal, and its time in seconds.
    pub(super) signals: Vec<(IpAddr, u64)>,
    /// Each look at what is served.
    pub(super) looks: Vec<(SocketAddr, String)>,
    pub(super) news: Vec<News>,
}

use std::net::SocketAddr;

pub(super) fn ip(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn name(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

impl Proof {
    pub(super) fn new(count: u8, verify: bool) -> Proof {
        let url = |last| Url::parse(&format!("http://{}:9090", ip(last))).unwrap();
        let lb_verify = Verification { port: verify.then_some(PORT), elsewhere: Vec::new() };
        let lb = (1..=count).map(url).collect();
        let mut case = Case::of(&Config { lb, lb_verify, ..config() });
        case.shows_pids = true;
        let loads = (1..=count).map(|last| (ip(last), "new")).collect();
        let pids = (1..=count).map(|last| (ip(last), 32)).collect();
        let (serves, signals, looks, news) = (BTreeMap::new(), vec![], vec![], vec![]);
        let (first_ones_stay, master) = (false, false);
        Proof {
            case,
            serves,
            for_others: BTreeMap::new(),
            loads,
            pids,
            hang: BTreeSet::new(),
            silent: BTreeSet::new(),
            down: BTreeSet::new(),
            first_ones_stay,
            master,
            signals,
            looks,
            news,
        }
    }

    pub(super) fn write(&mut self, text: &'static str) {
        self.write_for("a.org", text);
    }

    pub(super) fn write_for(&mut self, of: &str, text: &'static str) {
        let at = self.case.files.0.len() as u64;
        self.case.files.0.insert(name(of), (at, text));
        let Case { wire, reloader, files, .. } = &mut self.case;
        reloader.certificate_changed(&mut wire.bench.cx(), files, &name(of), text != "old");
    }

    fn now_s(&self) -> u64 {
        self.case.wire.bench.now.mono.since(Instant::START).as_secs()
    }

    /// Lets the load balancers answer until then.
    pub(super) fn pass(&mut self, duration: Duration) {
        let end = self.case.wire.bench.now.mono + duration;
        let mut steps = crate::testing::Steps::default();
        loop {
            steps.count();
            let now = self.case.wire.bench.now.mono;
            let own = [self.case.reloader.poll_timeout(), self.case.wire.client.poll_timeout()];
            let next = own.into_iter().flatten().min().map_or(end, |at| at.max(now).min(end));
            let sent = self.case.pass(next.since(now));
            self.answer(sent);
            let mut steps = crate::testing::Steps::default();
            while let Some(news) = self.case.reloader.poll_news() {
                steps.count();
                self.news.push(news);
            }
            if self.case.wire.bench.now.mono >= end {
                return;
            }
        }
    }

    fn answer(&mut self, mut sent: Vec<Sent>) {
        let mut steps = crate::testing::Steps::default();
        while !sent.is_empty() || !self.case.wire.glances.is_empty() {
            steps.count();
            let mut next = Vec::new();
            for request in std::mem::take(&mut sent) {
                let address = request.to.ip();
                if self.down.contains(&address) {
                    self.case.wire.close(request.conn, CloseReason::Refused);
                    next.extend(self.case.settle());
                    continue;
                }
                if request.text.contains(PIDS) {
                    if self.hang.contains(&address) {
                        continue;
                    }
                    let (status, body) = match self.pids.get(&address) {
                        Some(pid) if self.master => (200, format!("{pid} 7")),
                        Some(pid) if self.first_ones_stay => (200, format!("{pid} 32 31")),
                        Some(pid) => (200, pid.to_string()),
                        None => (503, "<html>".into()),
                    };
                    self.case.wire.answer(request.conn, &counted(status, "text/plain", &body));
                } else {
                    self.signals.push((address, self.now_s()));
                    if let Some(text) = self.loads.get(&address).filter(|text| **text != "deaf") {
                        self.serves.insert(address, text);
                        self.pids.entry(address).and_modify(|pid| *pid += 33);
                    }
                    self.case.wire.answer(request.conn, &counted(200, "text/plain", "Sent"));
                }
                next.extend(self.case.settle());
            }
            for (conn, (at, name)) in std::mem::take(&mut self.case.wire.glances) {
                let other = self.for_others.get(&at.ip()).filter(|_| name != "a.org");
                self.looks.push((at, name));
                if self.silent.contains(&at.ip()) {
                    continue;
                }
                let served = other.or_else(|| self.serves.get(&at.ip()));
                match served.filter(|_| !self.down.contains(&at.ip())) {
                    Some(&"closed") => self.case.wire.close(conn, CloseReason::Refused),
                    Some(&"unrecognized") => {
                        let alert = rustls::AlertDescription::UnrecognisedName;
                        let alert = rustls::Error::AlertReceived(alert).to_string();
                        self.case.wire.close(conn, CloseReason::Tls(alert));
                    }
                    Some(&"alert") => {
                        self.case.wire.close(conn, CloseReason::Tls("handshake failure".into()));
                    }
                    Some(text) => {
                        let der = foreign::der(text);
                        self.case.wire.client.handle_presented(conn, der);
                    }
                    None => self.case.wire.close(conn, CloseReason::Refused),
                }
                next.extend(self.case.settle());
            }
            sent = next;
        }
    }

    pub(super) fn problem(&self, place: usize) -> String {
        let view = self.case.reloader.views().nth(place).expect("a load balancer");
        let problem = view.balancers.first().and_then(|it| it.problem);
        problem.map(ToString::to_string).unwrap_or_default()
    }
}

#[test]
fn with_the_checks_off_nobody_is_looked_at() {
    let mut proof = Proof::new(2, false);
    proof.write("new");
    proof.pass(10 * MINUTE);
    assert!(proof.case.reloader.is_clean());
    assert_eq!((proof.signals.len(), proof.looks.len()), (2, 0));
    assert!(proof.case.reloader.poll_timeout().is_none(), "and nothing is due any more");
}

#[test]
fn one_counts_as_loaded_once_it_serves_the_leaf() {
    let mut proof = Proof::new(1, true);
    proof.write("new");
    proof.pass(Duration::ZERO);
    assert_eq!(proof.signals.len(), 1);
    assert!(!proof.case.reloader.is_clean(), "200 says nothing");
    proof.pass(SECOND);
    assert!(proof.case.reloader.is_clean());
    let seen = (SocketAddr::new(ip(1), PORT), "a.org".to_string());
    assert_eq!(proof.looks.last(), Some(&seen));
    assert!(proof.case.reloader.views().next().unwrap().verified);
    assert!(proof.case.reloader.troubles(proof.case.wire.bench.now.mono).is_empty());
}

#[test]
fn one_that_loses_the_signal_is_told_from_one_that_reloads_an_old_directory() {
    let mut proof = Proof::new(1, true);
    proof.serves.insert(ip(1), "old");
    proof.loads.insert(ip(1), "deaf");
    let begin = proof.now_s();
    proof.write("new");
    proof.pass(50 * SECOND);
    let times: Vec<u64> = proof.signals.iter().map(|(_, at)| at - begin).collect();
    assert!(matches!(times[..], [0, 3, 9 | 10, 21..=23, 45..=49]), "{times:?}");
    assert!(proof.problem(0).starts_with("no new HAProxy process"), "{}", proof.problem(0));
    assert_eq!(proof.case.wire.bench.logged(message::NOT_RELOADED), 1);
    // It reloads, with an old directory.
    proof.loads.insert(ip(1), "old");
    proof.pass(2 * MINUTE);
    let problem = proof.problem(0);
    assert!(problem.starts_with("it reloaded, but") && problem.contains("a.org"), "{problem}");
    assert_eq!(proof.case.wire.bench.logged(message::NOT_RELOADED), 2);
    // The directory shows the file.
    proof.loads.insert(ip(1), "new");
    proof.pass(2 * MINUTE);
    assert!(proof.case.reloader.is_clean());
    assert_eq!(proof.problem(0), "");
    assert!(
        !proof.news.iter().any(|news| matches!(news, News::Rejected { .. })),
        "{:?}",
        proof.news
    );
}

#[test]
fn a_file_that_is_seen_late_is_served_within_ten_seconds_of_being_visible() {
    for late_s in [1, 5, 25, 70, 100] {
        let mut proof = Proof::new(2, true);
        for last in [1, 2] {
            proof.serves.insert(ip(last), "old");
            proof.loads.insert(ip(last), "old");
        }
        proof.write("new");
        proof.pass(late_s * SECOND);
        proof.loads.insert(ip(1), "new");
        proof.loads.insert(ip(2), "new");
        proof.pass(10 * SECOND);
        assert!(proof.case.reloader.is_clean(), "{late_s} s late: {:?}", proof.signals);
        proof.news.retain(|it| *it != News::Unexplained);
        assert_eq!(proof.news, [News::Served(vec![name("a.org")])], "and never rolled back");
    }
}

#[test]
fn a_verification_compares_with_its_own_generation() {
    let mut proof = Proof::new(2, true);
    for last in [1, 2] {
        proof.serves.insert(ip(last), "old");
        proof.loads.insert(ip(last), "old");
    }
    proof.write("new");
    proof.pass(SECOND);
    // The reload of the first file has not begun when the second one is written.
    proof.write("newer");
    proof.loads.insert(ip(1), "new");
    proof.loads.insert(ip(2), "new");
    proof.pass(SECOND * 3 / 2);
    proof.loads.insert(ip(1), "newer");
    proof.loads.insert(ip(2), "newer");
    proof.pass(8 * SECOND);
    assert!(proof.case.reloader.is_clean(), "{:?}", proof.signals);
    assert_eq!([proof.serves[&ip(1)], proof.serves[&ip(2)]], ["newer", "newer"]);
    assert_eq!(proof.news, [News::Unexplained, News::Served(vec![name("a.org")])]);
}

#[test]
fn a_label_that_flaps_keeps_no_load_balancer_from_its_latest_file() {
    let mut proof = Proof::new(2, true);
    for last in [1, 2] {
        proof.serves.insert(ip(last), "old");
    }
    for round in 0..40 {
        let text = ["new", "newer", "newest"][round % 3];
        proof.write(text);
        proof.loads.insert(ip(1), text);
        proof.loads.insert(ip(2), text);
        proof.pass(SECOND * 14 / 10);
    }
    proof.pass(3 * SECOND);
    assert!(proof.case.reloader.is_clean(), "{:?}", proof.signals);
    assert!(
        !proof.news.iter().any(|news| matches!(news, News::Rejected { .. })),
        "{:?}",
        proof.news
    );
    let of_first = proof.signals.iter().filter(|(address, _)| *address == ip(1)).count();
    assert!(of_first <= 30, "one signal in two seconds at most: {of_first}");
}

#[test]
fn the_backlog_of_one_that_was_down_is_served_within_five_seconds() {
    let mut proof = Proof::new(2, true);
    proof.write("new");
    proof.pass(SECOND);
    assert!(proof.case.reloader.is_clean());
    // It is down for two generations.
    proof.down.insert(ip(2));
    for text in ["newer", "newest"] {
        proof.loads.insert(ip(1), text);
        proof.write(text);
        proof.pass(10 * MINUTE);
        assert_eq!((proof.serves[&ip(1)], proof.serves[&ip(2)]), (text, "new"));
    }
    let failing = proof.case.reloader.failing(proof.case.wire.bench.now.mono);
    assert_eq!(failing, ["http://10.0.0.2:9090"]);
    proof.down.remove(&ip(2));
    proof.loads.insert(ip(2), "newest");
    proof.pass(5 * SECOND);
    assert!(proof.case.reloader.is_clean(), "{:?}", proof.signals);
    assert!(
        !proof.news.iter().any(|news| matches!(news, News::Rejected { .. })),
        "{:?}",
        proof.news
    );
}

#[test]
fn the_canary_goes_before_the_others_for_a_short_time() {
    let mut proof = Proof::new(3, true);
    proof.loads.insert(ip(1), "deaf");
    proof.serves.insert(ip(1), "old");
    proof.write("new");
    proof.pass(2 * SECOND);
    assert!(proof.signals.iter().all(|(address, _)| *address == ip(1)), "{:?}", proof.signals);
    proof.pass(2 * SECOND);
    assert_eq!((proof.serves[&ip(2)], proof.serves[&ip(3)]), ("new", "new"), "it lags");
    assert_eq!(proof.news.last(), Some(&News::Served(vec![name("a.org")])));
    proof.loads.insert(ip(1), "new");
    proof.pass(MINUTE);
    assert!(proof.case.reloader.is_clean(), "{:?}", proof.signals);
}

#[test]
fn one_that_cannot_be_signaled_is_no_canary() {
    let mut proof = Proof::new(2, true);
    proof.write("new");
    // Its answer never comes.
    let sent = proof.case.pass(Duration::ZERO);
    assert_eq!((sent.len(), sent[0].to.ip()), (1, ip(1)));
    proof.pass(20 * SECOND);
    assert!(proof.signals.iter().any(|(address, _)| *address == ip(2)), "{:?}", proof.signals);
    proof.pass(MINUTE);
    assert!(proof.case.reloader.is_clean());
    // One that has a problem is not chosen.
    proof.down.insert(ip(1));
    proof.write("newer");
    proof.loads.insert(ip(2), "newer");
    proof.pass(5 * SECOND);
    assert_eq!(proof.serves[&ip(2)], "newer");
}

/// Two load balancers that serve the previous file, of which the first one fails the handshake once it has
/// loaded the new one, and still serves another name.
fn rejecting() -> Proof {
    let mut proof = reference::serving_both();
    proof.loads.insert(ip(1), "alert");
    proof.loads.insert(ip(2), "new");
    proof.write("new");
    proof
}

#[test]
fn what_two_reloads_do_not_serve_is_rolled_back_before_the_others_have_it() {
    let mut proof = rejecting();
    proof.pass(14 * SECOND);
    let [News::Rejected { names, reason }] = &proof.news[..] else { panic!("{:?}", proof.news) };
    assert_eq!(*names, [name("a.org")]);
    assert!(reason.starts_with("http://10.0.0.1:9090 (10.0.0.1): it reloaded, but"), "{reason}");
    assert!(proof.signals.len() >= 2, "{:?}", proof.signals);
    assert!(proof.signals.iter().all(|(address, _)| *address == ip(1)), "{:?}", proof.signals);
    // The previous file is restored; that one serves it, and the other one is signaled.
    proof.case.reloader.decided(&proof.case.wire.bench.cx(), true);
    proof.write("old");
    for last in [1, 2] {
        proof.loads.insert(ip(last), "old");
    }
    let first = proof.signals.len();
    proof.pass(MINUTE);
    assert_eq!(proof.signals[first].0, ip(1), "{:?}", proof.signals);
    assert!(proof.signals[first + 1..].iter().any(|(address, _)| *address == ip(2)));
    assert!(proof.case.reloader.is_clean());
    // The next time another one is the canary.
    let first = proof.signals.len();
    proof.loads.insert(ip(2), "new");
    proof.write("new");
    proof.pass(Duration::ZERO);
    assert_eq!(proof.signals[first].0, ip(2), "{:?}", proof.signals);
}

#[test]
fn what_is_not_rolled_back_is_for_all() {
    let mut proof = rejecting();
    proof.pass(14 * SECOND);
    assert!(matches!(proof.news[..], [News::Rejected { .. }]), "{:?}", proof.news);
    proof.case.reloader.decided(&proof.case.wire.bench.cx(), false);
    proof.pass(2 * SECOND);
    assert_eq!(proof.serves[&ip(2)], "new");
}

#[test]
fn without_evidence_nothing_is_rolled_back() {
    // No process ids; one reload only; the previous file was never seen to work.
    for case in 0..3 {
        let mut proof = rejecting();
        match case {
            0 => proof.pids.clear(),
            1 => {
                proof.pass(SECOND * 3 / 2);
                proof.loads.insert(ip(1), "deaf");
            }
            _ => drop(proof.serves.insert(ip(1), "other")),
        }
        proof.pass(MINUTE);
        assert_eq!(
            proof.news.iter().filter(|it| matches!(it, News::Rejected { .. })).count(),
            0,
            "{case}"
        );
        assert_eq!(proof.serves[&ip(2)], "new", "{case}: it lags, and keeps no other waiting");
    }
}

#[test]
fn one_without_a_problem_does_not_wait_for_one_that_has_one() {
    let mut proof = Proof::new(2, true);
    let lb = vec![Url::parse("http://lb.example:9090").unwrap()];
    let lb_verify = Verification { port: Some(PORT), elsewhere: Vec::new() };
    proof.case = Case::of(&Config { lb, lb_verify, ..config() });
    proof.case.shows_pids = true;
    proof.case.wire.hosts = "10.0.0.1 lb.example\n10.0.0.2 lb.example\n".into();
    proof.loads.insert(ip(1), "old");
    proof.write("new");
    proof.pass(20 * SECOND);
    assert_eq!(proof.serves[&ip(2)], "new");
    assert!(!proof.case.reloader.is_clean(), "the other one still sees the old file");
    // It is still signaled when the name cannot be resolved any more.
    proof.case.wire.hosts = String::new();
    proof.write("newer");
    proof.loads.insert(ip(2), "newer");
    proof.pass(40 * SECOND);
    assert_eq!(proof.serves[&ip(2)], "newer");
}

#[test]
fn a_certificate_that_no_load_balancer_serves_is_told_from_one_that_is_served() {
    let mut proof = Proof::new(2, true);
    let serves = |proof: &Proof, text| {
        let now = proof.case.wire.bench.now.wall;
        proof.case.reloader.serves(&name(text), now)
    };
    proof.loads.insert(ip(1), "deaf");
    proof.loads.insert(ip(2), "deaf");
    proof.write("new");
    proof.pass(MINUTE);
    assert!(!serves(&proof, "a.org"));
    let unverified = Proof::new(2, false);
    assert!(serves(&unverified, "a.org"));
}

#[test]
fn they_may_be_looked_at_elsewhere() {
    let lb = Url::parse("http://10.0.0.1:9090").unwrap();
    let place =
        Place::Host(Url::parse("http://edge.example/").unwrap().origin().host.clone(), 8443);
    let elsewhere = vec![(lb.origin().clone(), place)];
    let lb_verify = Verification { port: None, elsewhere };
    let mut proof = Proof::new(1, false);
    proof.case = Case::of(&Config { lb: vec![lb], lb_verify, ..config() });
    proof.case.shows_pids = true;
    proof.case.wire.hosts = "10.1.0.1 edge.example\n10.1.0.2 edge.example\n".into();
    for last in [1, 2] {
        proof.serves.insert([10, 1, 0, last].into(), "new");
    }
    proof.write("new");
    proof.pass(MINUTE);
    assert!(proof.case.reloader.is_clean());
    let places: BTreeSet<String> = proof.looks.iter().map(|(at, _)| at.to_string()).collect();
    assert_eq!(Vec::from_iter(places), ["10.1.0.1:8443", "10.1.0.2:8443"]);
}
