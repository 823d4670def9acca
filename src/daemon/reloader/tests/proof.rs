//! What is served, by hand: handshakes asked for, certificates shown.

use super::*;
use crate::config::{Place, Verification};

const PORT: u16 = 443;
const MINUTE: Duration = Duration::from_secs(60);

/// Load balancers that can be looked at, and what each of them serves: the last that it was told to.
struct Proof {
    case: Case,
    serves: BTreeMap<IpAddr, &'static str>,
    /// What each serves once it was signalled.
    loads: BTreeMap<IpAddr, &'static str>,
    /// Process ids; those who are not here show none.
    pids: BTreeMap<IpAddr, u32>,
    /// The first processes outlive every reload.
    first_ones_stay: bool,
    /// Each signal, and its time in seconds.
    signals: Vec<(IpAddr, u64)>,
    /// Each look at what is served.
    looks: Vec<(SocketAddr, String)>,
    news: Vec<News>,
}

use std::net::SocketAddr;

fn ip(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn name(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

impl Proof {
    fn new(count: u8, verify: bool) -> Proof {
        let url = |last| Url::parse(&format!("http://{}:9090", ip(last))).unwrap();
        let lb_verify = Verification { port: verify.then_some(PORT), elsewhere: Vec::new() };
        let lb = (1..=count).map(url).collect();
        let mut case = Case::of(&Config { lb, lb_verify, ..config() });
        case.shows_pids = true;
        let loads = (1..=count).map(|last| (ip(last), "new")).collect();
        let pids = (1..=count).map(|last| (ip(last), 32)).collect();
        let (serves, signals, looks, news) = (BTreeMap::new(), vec![], vec![], vec![]);
        let first_ones_stay = false;
        Proof { case, serves, loads, pids, first_ones_stay, signals, looks, news }
    }

    fn write(&mut self, text: &'static str) {
        let at = self.case.files.0.len() as u64;
        self.case.files.0.insert(name("a.org"), (at, text));
        let Case { wire, reloader, .. } = &mut self.case;
        reloader.certificate_changed(&mut wire.bench.turn(), &name("a.org"), text == "new");
    }

    fn now_s(&self) -> u64 {
        self.case.wire.bench.now.mono.since(Instant::START).as_secs()
    }

    /// Lets the load balancers answer until then.
    fn pass(&mut self, duration: Duration) {
        let end = self.case.wire.bench.now.mono + duration;
        loop {
            let now = self.case.wire.bench.now.mono;
            let own = [self.case.reloader.poll_timeout(), self.case.wire.transport.poll_timeout()];
            let next = own.into_iter().flatten().min().map_or(end, |at| at.max(now).min(end));
            let sent = self.case.pass(next.since(now));
            self.answer(sent);
            while let Some(news) = self.case.reloader.poll_news() {
                self.news.push(news);
            }
            if self.case.wire.bench.now.mono >= end {
                return;
            }
        }
    }

    fn answer(&mut self, mut sent: Vec<Sent>) {
        while !sent.is_empty() || !self.case.wire.glances.is_empty() {
            let mut next = Vec::new();
            for request in std::mem::take(&mut sent) {
                let address = request.to.ip();
                if request.text.contains(PIDS) {
                    let (status, body) = match self.pids.get(&address) {
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
                self.looks.push((at, name));
                match self.serves.get(&at.ip()) {
                    Some(text) => {
                        let der = text.as_bytes().to_vec();
                        self.case.wire.transport.handle_presented(conn, der);
                    }
                    None => self.case.wire.close(conn, CloseReason::Refused),
                }
                next.extend(self.case.settle());
            }
            sent = next;
        }
    }

    fn problem(&self, place: usize) -> String {
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
    proof.pass(GATHER);
    assert_eq!(proof.signals.len(), 1);
    assert!(!proof.case.reloader.is_clean(), "200 says nothing");
    proof.pass(2 * SECOND);
    assert!(proof.case.reloader.is_clean());
    assert_eq!(proof.looks, [(SocketAddr::new(ip(1), PORT), "a.org".to_string())]);
    let view = proof.case.reloader.views().next().unwrap();
    assert!(view.verified && view.balancers[0].lingering == 0);
}

#[test]
fn processes_that_outlive_the_reload_are_counted() {
    let mut proof = Proof::new(1, true);
    proof.first_ones_stay = true;
    let lingering =
        |proof: &Proof| proof.case.reloader.views().next().unwrap().balancers[0].lingering;
    proof.write("new");
    proof.pass(MINUTE);
    assert!(proof.case.reloader.is_clean());
    assert_eq!(lingering(&proof), 2);
    // They have ended by the next one.
    proof.first_ones_stay = false;
    proof.write("new");
    proof.pass(MINUTE);
    assert_eq!((proof.case.reloader.is_clean(), lingering(&proof)), (true, 0));
}

#[test]
fn one_that_swallows_the_signal_is_signalled_again_and_then_told_from_one_that_reloads() {
    let mut proof = Proof::new(1, true);
    proof.serves.insert(ip(1), "old");
    proof.loads.insert(ip(1), "deaf");
    proof.write("new");
    proof.pass(GATHER + 2 * MINUTE + 5 * SECOND);
    assert!((5..8).contains(&proof.signals.len()), "{:?}", proof.signals);
    let problem = proof.problem(0);
    assert!(problem.contains("did not reload within 120 s") && problem.contains("a.org"));
    // It reloads, with an old directory.
    proof.loads.insert(ip(1), "old");
    proof.pass(3 * MINUTE);
    let problem = proof.problem(0);
    assert!(problem.starts_with("it reloaded, but") && problem.contains("a.org"), "{problem}");
    let before = proof.signals.len();
    proof.loads.insert(ip(1), "new");
    proof.pass(15 * MINUTE);
    assert!(proof.case.reloader.is_clean());
    assert_eq!(proof.signals.len(), before + 1, "{:?}", proof.signals);
    assert_eq!(proof.problem(0), "");
}

#[test]
fn where_nothing_is_seen_that_is_said() {
    let mut proof = Proof::new(1, true);
    proof.loads.insert(ip(1), "deaf");
    proof.pids.clear();
    proof.write("new");
    proof.pass(3 * MINUTE);
    assert!(proof.problem(0).contains("it said 200, but nothing is seen"), "{}", proof.problem(0));
    assert!(!proof.case.reloader.is_clean());
}

#[test]
fn the_first_one_goes_before_the_others() {
    let mut proof = Proof::new(3, true);
    proof.loads.insert(ip(1), "deaf");
    proof.serves.insert(ip(1), "old");
    proof.write("new");
    proof.pass(MINUTE);
    assert!(proof.signals.iter().all(|(address, _)| *address == ip(1)), "{:?}", proof.signals);
    proof.loads.insert(ip(1), "new");
    proof.pass(MINUTE);
    assert!(proof.case.reloader.is_clean(), "{:?}", proof.signals);
    assert_eq!(proof.news, [News::Served(vec![name("a.org")])]);
}

#[test]
fn one_that_cannot_be_signalled_is_no_canary() {
    let mut proof = Proof::new(2, true);
    proof.write("new");
    // Its answer never comes.
    let sent = proof.case.pass(GATHER);
    assert_eq!((sent.len(), sent[0].to.ip()), (1, ip(1)));
    proof.pass(20 * SECOND);
    assert!(proof.signals.iter().any(|(address, _)| *address == ip(2)), "{:?}", proof.signals);
    proof.pass(MINUTE);
    assert!(proof.case.reloader.is_clean());
}

#[test]
fn what_the_first_one_does_not_serve_goes_back_before_the_others_have_it() {
    let mut proof = Proof::new(2, true);
    for last in [1, 2] {
        proof.serves.insert(ip(last), "old");
    }
    proof.loads.insert(ip(1), "old");
    proof.write("new");
    proof.pass(GATHER + 2 * MINUTE + 5 * SECOND);
    let [News::Unserved { names, reason }] = &proof.news[..] else { panic!("{:?}", proof.news) };
    assert_eq!(*names, [name("a.org")]);
    assert!(reason.starts_with("http://10.0.0.1:9090 (10.0.0.1): it reloaded, but"), "{reason}");
    assert!(proof.signals.iter().all(|(address, _)| *address == ip(1)), "{:?}", proof.signals);
    // The file of before goes back; that one serves it, and the other one is told.
    proof.case.reloader.judged(true);
    proof.write("old");
    proof.loads.insert(ip(2), "old");
    let first = proof.signals.len();
    proof.pass(MINUTE);
    assert_eq!(proof.signals[first].0, ip(1), "{:?}", proof.signals);
    assert!(proof.signals[first + 1..].iter().any(|(address, _)| *address == ip(2)));
    assert!(proof.case.reloader.is_clean());
    // The next time another one is the first.
    let first = proof.signals.len();
    proof.loads.insert(ip(2), "new");
    proof.write("new");
    proof.pass(GATHER);
    assert_eq!(proof.signals[first].0, ip(2), "{:?}", proof.signals);
}

#[test]
fn what_does_not_go_back_is_for_all() {
    let mut proof = Proof::new(2, true);
    proof.loads.insert(ip(1), "old");
    proof.write("new");
    proof.pass(GATHER + 2 * MINUTE + 5 * SECOND);
    assert_eq!(proof.news.len(), 1);
    proof.case.reloader.judged(false);
    proof.pass(10 * SECOND);
    assert_eq!(proof.serves[&ip(2)], "new");
}

#[test]
fn who_has_not_failed_does_not_share_the_pause_of_one_that_has() {
    let mut proof = Proof::new(2, true);
    let lb = vec![Url::parse("http://lb.example:9090").unwrap()];
    let lb_verify = Verification { port: Some(PORT), elsewhere: Vec::new() };
    proof.case = Case::of(&Config { lb, lb_verify, ..config() });
    proof.case.shows_pids = true;
    proof.case.wire.hosts = "10.0.0.1 lb.example\n10.0.0.2 lb.example\n".into();
    proof.loads.insert(ip(1), "old");
    proof.write("new");
    while proof.news.is_empty() {
        proof.pass(SECOND);
    }
    assert!(proof.signals.iter().all(|(address, _)| *address == ip(1)), "{:?}", proof.signals);
    proof.case.reloader.judged(false);
    proof.pass(SECOND);
    assert_eq!(proof.signals.last().map(|(address, _)| *address), Some(ip(2)));
    proof.pass(2 * SECOND);
    assert_eq!(proof.serves[&ip(2)], "new");
    assert!(!proof.case.reloader.is_clean(), "the other one still lies");
}

#[test]
fn one_that_drifts_is_found_and_signalled() {
    let mut proof = Proof::new(2, true);
    proof.write("new");
    proof.pass(MINUTE);
    assert!(proof.case.reloader.is_clean());
    let signals = proof.signals.len();
    // It was started again, with what lay there before.
    proof.serves.insert(ip(2), "stale");
    proof.pass(7 * MINUTE);
    assert!(proof.case.reloader.is_clean());
    assert_eq!(proof.serves[&ip(2)], "new");
    assert_eq!(proof.signals.len(), signals + 1, "{:?}", proof.signals);
    let name = "a load balancer serves something else than it loaded";
    assert_eq!(proof.case.wire.bench.logged(name), 1);
    // Who asks for it has not to wait.
    proof.serves.insert(ip(1), "stale");
    let Case { wire, reloader, files, .. } = &mut proof.case;
    reloader.look_at_all(&wire.bench.turn(), files);
    proof.pass(10 * SECOND);
    assert_eq!((proof.case.reloader.is_clean(), proof.serves[&ip(1)]), (true, "new"));
    // One look each minute at most, while all is well.
    let looks = proof.looks.len();
    proof.pass(60 * MINUTE);
    assert!((36..=60).contains(&(proof.looks.len() - looks)), "{}", proof.looks.len() - looks);
    // One that is away is said once, and not signalled.
    proof.serves.remove(&ip(1));
    let signals = proof.signals.len();
    proof.pass(30 * MINUTE);
    assert_eq!(proof.case.wire.bench.logged("a load balancer cannot be looked at"), 1);
    assert_eq!(proof.signals.len(), signals);
    proof.serves.insert(ip(1), "new");
    proof.pass(10 * MINUTE);
    assert_eq!(proof.problem(0), "");
    // What nobody wants any more is not shown any longer.
    proof.case.files.0.clear();
    proof.pass(2 * MINUTE);
    assert!(proof.case.reloader.views().all(|view| view.balancers[0].served.is_empty()));
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
