//! The reports of a daemon in a state that each part was brought to by hand.

use serde_json::Value;

use crate::daemon::budget::Budget;
use crate::daemon::certificates::CertificatesOutput;
use crate::daemon::model::{CertificateState, DesiredCertificate, RetryState, Source, When};
use crate::daemon::server::Endpoint;

use crate::daemon::routes::{Finding, Place};

use crate::domain::Domain;
use crate::hint::{Complaint, Hint};
use crate::machine::Usage;
use crate::secret::Secret;
use crate::testing::{Bench, config};

use super::*;

/// What an app's id and a CA's words may hold, to somebody's harm.
const EVIL: &str = "</td><script>alert(\"x\")</script>&\n# HELP evil";

struct Case {
    bench: Bench,
    health: Health,
    guard: Guard,
    certificates: Certificates,
    issuer: Issuer,
    watcher: Watcher,
    reloader: Reloader,
    routes: Routes,
    budget: Vec<Left>,
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).expect("a test's name is one")
}

impl Case {
    /// So many certificates are wanted, and not there; the first one fails.
    fn wanting(count: usize) -> Case {
        let config = config();
        let mut case = Case {
            bench: Bench::new(),
            health: Health::default(),
            guard: Guard::default(),
            certificates: Certificates::new(&config),
            issuer: Issuer::new(&config, None),
            watcher: Watcher::new(&config),
            reloader: Reloader::new(&config),
            budget: Vec::new(),
            routes: Routes::new(&config),
        };
        let names: Vec<Domain> =
            (0..count).map(|number| domain(&format!("n{number:05}.example.org"))).collect();
        let source = || Source { app: EVIL.into(), version: "1".into() };
        let memory = names.iter().take(1).map(|name| {
            let later = case.bench.now.wall.plus(std::time::Duration::from_secs(600));
            let trouble = RetryState {
                failures: 2,
                error: Complaint::new(EVIL, Some(Hint::PortClosed)),
                retry: When::At(later),
                not_before: None,
                until_restart: false,
                app_changes: Default::default(),
            };
            let trouble = Some(trouble);
            let source = Some(source());
            (name.clone(), CertificateState { trouble, source, ..CertificateState::default() })
        });
        let memory = memory.collect();
        case.certificates.restore(&mut case.bench.cx(), memory, Budget::default());
        let desired = names.iter().map(|name| {
            (
                name.clone(),
                DesiredCertificate { names: vec![name.clone()], source: source() }.into(),
            )
        });
        case.certificates.want(&mut case.bench.cx(), &desired.collect());
        // Of very many not all are looked at in one iteration.
        let mut steps = crate::testing::Steps::default();
        while case.certificates.poll_timeout(case.bench.now) == Some(case.bench.now.mono) {
            steps.count();
            case.certificates.handle_timeout(&mut case.bench.cx());
        }
        let mut steps = crate::testing::Steps::default();
        while let Some(output) = case.certificates.poll_output() {
            steps.count();
            assert!(matches!(output, CertificatesOutput::Order(_)), "{output:?}");
        }
        case
    }

    fn ask(&self, request: &ReportRequest) -> (u16, String) {
        let mut overview = Overview::default();
        overview.refresh(self.bench.now, &self.certificates);
        self.ask_with(&overview, request)
    }

    fn ask_with(&self, overview: &Overview, request: &ReportRequest) -> (u16, String) {
        let sources = Sources {
            now: self.bench.now.wall,
            started: self.bench.now.wall,
            active: true,
            health: &self.health,
            directory: "https://ca.example/dir",
            certificates: &self.certificates,
            overview,
            guard: &self.guard,
            budget: &self.budget,
            issuer: &self.issuer,
            watcher: &self.watcher,
            reloader: &self.reloader,
            routes: &self.routes,
            challenges: ChallengeCounts { served: 3, unknown: 4 },
        };
        let response = sources.answer(request);
        (response.status, String::from_utf8(response.body).expect("it is text"))
    }

    fn page(&self, query: &str) -> String {
        self.ask(&ReportRequest::Page(query.into())).1
    }
}

#[test]
fn whatever_others_say_is_text_on_the_page() {
    let mut case = Case::wanting(2);
    case.health.troubles.push(EVIL.into());
    let page = case.page("q=%3Cscript%3Ez&state=%22");
    assert!(page.contains("None fits.") && page.contains("value=\"&lt;script&gt;z\""));
    let all = case.page("");
    for page in [page, all] {
        assert!(!page.contains("<script") && page.contains("&lt;/td&gt;&lt;script&gt;"), "{page}");
        assert!(!page.contains("http-equiv") && !page.contains("src="), "nothing from elsewhere");
    }
}

#[test]
fn what_needs_attention_is_first_and_a_page_has_a_hundred() {
    let case = Case::wanting(250);
    let first = case.page("");
    assert!(first.contains("<p class=\"verdict bad\">1 certificate fails</p>"));
    let place = |page: &str, name: &str| page.find(&format!("<b>{name}.example.org</b>"));
    assert!(place(&first, "n00000") < place(&first, "n00001"));
    assert_eq!(first.matches("<tr><td class=\"name\"><b>n").count(), 100);
    assert!(first.contains("1 to 100 of 250") && first.contains("href=\"?page=2\""));
    let last = case.page("page=99");
    assert!(last.contains("201 to 250 of 250") && !last.contains("rel=\"next\""));
    let failing = case.page("state=failing");
    assert_eq!(failing.matches("<tr><td class=\"name\"><b>n").count(), 1);
    assert!(failing.contains("<option selected>failing</option>"));
    let chosen = case.page("q=N0012");
    assert_eq!(chosen.matches("<tr><td class=\"name\"><b>n0012").count(), 10);
}

#[test]
fn one_request_looks_at_a_bounded_number_of_certificates() {
    let count = 2 * overview::SLICE + 500;
    let mut case = Case::wanting(count);
    let mut overview = Overview::default();
    let mut page = |case: &Case, query: &str| {
        overview.refresh(case.bench.now, &case.certificates);
        let page = case.ask_with(&overview, &ReportRequest::Page(query.into())).1;
        (page, overview.summary().seen)
    };
    let shown = |page: &str| page.matches("<tr><td class=\"name\"><b>n").count();
    for (slices, unseen) in [(1, count - overview::SLICE), (2, count - 2 * overview::SLICE)] {
        case.bench.pass(std::time::Duration::from_millis(1));
        let (page, seen) = page(&case, "");
        assert_eq!((seen, shown(&page)), (slices * overview::SLICE, 100));
        assert!(page.contains(&format!(">{unseen} certificates were not looked at.<")), "{page}");
    }
    let (last, seen) = page(&case, "page=99");
    assert_eq!((seen, shown(&last)), (count, 100));
    assert!(last.contains("901 to 1000 of 20500") && last.contains(">19500 more are not listed."));
    assert!(!last.contains("rel=\"next\"") && !last.contains("not looked at"));
    let (first, _) = page(&case, "");
    assert!(first.contains("<b>n00000.example.org</b>") && first.contains("failing"));
    // A choice is looked for among the first ones by name.
    let (found, _) = page(&case, "q=n0001");
    assert_eq!(shown(&found), 10);
    assert!(found.contains(">500 certificates were not looked at.<"), "{found}");
    let (none, _) = page(&case, "q=n20499");
    assert!(none.contains("None fits.") && none.contains("not looked at"), "{none}");
}

#[test]
fn an_overview_of_many_is_used_for_a_second() {
    let mut case = Case::wanting(FEW + 2);
    let mut overview = Overview::default();
    overview.refresh(case.bench.now, &case.certificates);
    assert_eq!((overview.failing(), overview.summary().counts.pending), (1, FEW + 1));
    let wanted = case.certificates.views().skip(1).map(|view| {
        let (name, source) = (view.name(), Source { app: "/a".into(), version: "1".into() });
        (name.clone(), DesiredCertificate { names: vec![name.clone()], source }.into())
    });
    let wanted = wanted.collect();
    case.certificates.want(&mut case.bench.cx(), &wanted);
    case.bench.pass(std::time::Duration::from_millis(999));
    overview.refresh(case.bench.now, &case.certificates);
    assert_eq!(overview.failing(), 1, "of a moment ago");
    case.bench.pass(std::time::Duration::from_millis(1));
    overview.refresh(case.bench.now, &case.certificates);
    assert_eq!((overview.failing(), overview.summary().counts.pending), (0, FEW + 1));
}

#[test]
fn the_page_says_what_failed_and_what_is_next() {
    let case = Case::wanting(1);
    let page = case.page("");
    assert!(page.contains("2 failures, next try in 10 minutes"), "{page}");
    let hint = format!("<br><b>Try:</b> {}", Hint::PortClosed);
    assert!(page.contains(&hint), "{page}");
    assert!(page.contains("none in service") && page.contains("not read yet"));
    let case = Case::wanting(0);
    let page = case.page("");
    assert!(page.contains("Waiting for Marathon") && page.contains("MARATHON_ACME_0_DOMAIN"));
}

#[test]
fn json_has_everything() {
    let case = Case::wanting(2);
    let (status, body) = case.ask(&ReportRequest::Json);
    let value: Value = serde_json::from_str(&body).expect("it is JSON");
    assert_eq!((status, &value["status"]), (200, &Value::from("ok")));
    let [failing, pending] = value["certificates"].as_array().unwrap().as_slice() else {
        panic!("{value}")
    };
    assert_eq!((&failing["state"], &pending["state"]), (&"failing".into(), &"pending".into()));
    assert_eq!(failing["problems"][0]["error"], EVIL);
    assert_eq!(failing["problems"][0]["hint"], Hint::PortClosed.text());
    assert_eq!(failing["problems"][0]["next_try"], "2026-11-23T00:10:00Z");
    assert_eq!(failing["next"]["at"], "2026-11-23T00:10:00Z");
    assert_eq!((&pending["step"], pending.get("next")), (&"queued".into(), None));
    assert_eq!(value["load_balancers"][0]["url"], "http://marathon-lb.marathon.mesos:9090");
    assert!(value["marathon"].get("last_sync").is_none());
}

#[test]
fn what_is_found_on_the_way_of_a_challenge_stands_beside_its_certificate() {
    let mut case = Case::wanting(2);
    let name = domain("n00001.example.org");
    let finding = Finding {
        domain: domain("www.example.org"),
        place: Place::Balancer,
        addresses: vec![[192, 0, 2, 7].into()],
        complaint: Complaint::new(EVIL, Some(Hint::PortFiltered)),
        said: false,
    };
    case.routes.found(&name, finding);
    let (_, body) = case.ask(&ReportRequest::Json);
    let value: Value = serde_json::from_str(&body).expect("it is JSON");
    assert!(value["certificates"][0].get("routes").is_none());
    let expected = serde_json::json!([{
        "domain": "www.example.org", "of": "load balancer", "addresses": ["192.0.2.7"],
        "problem": EVIL, "hint": Hint::PortFiltered.text(),
    }]);
    assert_eq!(value["certificates"][1]["routes"], expected);
    let page = case.page("");
    assert!(
        page.contains("The route of www.example.org by load balancer 192.0.2.7: &lt;"),
        "{page}"
    );
    assert!(page.contains(&format!("<b>Try:</b> {}", Hint::PortFiltered)), "{page}");
}

/// One name of a label, in service, fails; another one has been added.
#[test]
fn who_waits_for_whom_is_said() {
    let mut case = Case::wanting(0);
    let names = ["a.org", "b.org", "c.org"];
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["a.org", "b.org"].map(String::from)).unwrap();
    params.not_after = rcgen::date_time_ymd(2027, 2, 1);
    params.not_before = rcgen::date_time_ymd(2026, 11, 1);
    let file = key.serialize_pem() + &params.self_signed(&key).unwrap().pem();
    let [owner, failing, _] = names.map(domain);
    let trouble = RetryState {
        failures: 1,
        error: Complaint::from("gone"),
        retry: When::At(case.bench.now.wall.plus(std::time::Duration::from_secs(60))),
        not_before: None,
        until_restart: false,
        app_changes: Default::default(),
    };
    let mut memory = CertificateState::default();
    memory.left_out.insert(failing, trouble);
    let (certificates, memory) = (&mut case.certificates, [(owner.clone(), memory)].into());
    certificates.restore(&mut case.bench.cx(), memory, Budget::default());
    certificates.found(vec![owner.clone()]);
    certificates.read(&mut case.bench.cx(), &owner, Ok(Secret::new(file)));
    let source = Source { app: "/app".into(), version: "1".into() };
    let desired = DesiredCertificate { names: names.map(domain).to_vec(), source };
    certificates.want(&mut case.bench.cx(), &[(owner, desired.into())].into());
    let value: Value = serde_json::from_str(&case.ask(&ReportRequest::Json).1).expect("it is JSON");
    let expected = serde_json::json!({"domains": ["c.org"], "for": ["b.org"]});
    assert_eq!(value["certificates"][0]["waiting"], expected);
    let sentence = "c.org can be ordered, but has to wait for b.org: to go on without would";
    assert!(case.page("").contains(sentence));
}

#[test]
fn metrics_are_families_with_their_samples() {
    let mut case = Case::wanting(2);
    case.health.storage = Some(EVIL.into());
    let usage = Usage { resident_bytes: Some(4096), processor_time: None, descriptors: Some(9) };
    let (_, text) = case.ask(&ReportRequest::Metrics(usage));
    let mut family = "";
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().unwrap();
            assert_eq!(text.matches(&format!("# TYPE {family} ")).count(), 1, "{family}");
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            assert_eq!(name, family, "{line}");
            let value = line.rsplit(' ').next().unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    let samples = [
        "marathon_acme_certificates{state=\"failing\"} 1",
        "marathon_acme_certificates{state=\"pending\"} 1",
        "marathon_acme_challenge_requests_total{result=\"unknown\"} 4",
        "marathon_acme_lb_in_sync{lb=\"http://marathon-lb.marathon.mesos:9090\"} 1",
        "marathon_acme_storage_writable 0",
        "process_resident_memory_bytes 4096",
        "process_open_fds 9",
    ];
    for sample in samples {
        assert!(text.lines().any(|line| line == sample), "{sample}: {text}");
    }
    assert!(!text.contains("evil") && !text.contains("process_cpu_seconds_total"));
}

#[test]
fn health_never_costs_anything() {
    assert_eq!(answers_max(&ReportRequest::Health { status_only: false }, usize::MAX), None);
    let limits =
        [FEW, FEW + 1, 1_500, 20_000].map(|count| answers_max(&ReportRequest::Json, count));
    assert_eq!(limits, [None, Some(40), Some(20), Some(8)]);
    let topics = ["/health", "/metrics", "/status.json", "/"].map(Endpoint::of);
    assert!(topics.iter().all(Option::is_some));
    assert_eq!(Endpoint::of("/status"), None);
}
