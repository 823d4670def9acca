//! `/status.json`: everything, for programs. Times are RFC 3339, what is not known is left out.

use std::net::IpAddr;

use serde::{Serialize, Serializer};

use crate::challenge;
use crate::daemon::certificates::{Next, View};
use crate::daemon::guard;
use crate::daemon::model::When;
use crate::daemon::reloader::{BalancerView, NameView};
use crate::daemon::watcher::SkippedCounts;
use crate::domain::Domain;
use crate::hint::Hint;
use crate::http::ServerResponse;
use crate::pki::guard::ForeignFileReport;
use crate::time::UnixTime;

use super::Sources;

pub(super) fn response(sources: &Sources<'_>) -> ServerResponse {
    let body = serde_json::to_vec(&Status::of(sources)).expect("every map key is a string");
    challenge::json(200, body).with_header("Cache-Control", "no-store")
}

#[derive(Serialize)]
struct Status<'a> {
    version: &'static str,
    now: Time,
    started: Time,
    active: bool,
    status: &'static str,
    reasons: Vec<String>,
    ca: Ca<'a>,
    marathon: Marathon<'a>,
    load_balancers: Vec<LoadBalancer<'a>>,
    skipped_domains: Skipped,
    rejected: Vec<Rejected<'a>>,
    foreign_files: Vec<Foreign<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    more_foreign_files: usize,
    certificates: Vec<Certificate<'a>>,
}

#[derive(Serialize)]
struct Ca<'a> {
    directory: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
    orders_running: usize,
    orders_queued: usize,
    limits: Vec<Limit>,
}

#[derive(Serialize)]
struct Limit {
    limit: String,
    left: u32,
    of: u32,
}

#[derive(Serialize)]
struct Marathon<'a> {
    attached: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sync: Option<Time>,
    apps: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
}

#[derive(Serialize)]
struct LoadBalancer<'a> {
    url: String,
    in_sync: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
    addresses: Vec<Address<'a>>,
}

#[derive(Serialize)]
struct Address<'a> {
    address: IpAddr,
    in_sync: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reloaded: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    serves: Option<Serves<'a>>,
}

/// What a load balancer was last seen to serve.
#[derive(Serialize)]
struct Serves<'a> {
    seen: usize,
    wrong: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_not_after: Option<Time>,
    old_processes: usize,
}

/// Domains without a certificate, by reason; `rejected` says which.
#[derive(Serialize)]
struct Skipped {
    app_limit: usize,
    total_limit: usize,
    other_app: usize,
}

#[derive(Serialize)]
struct Rejected<'a> {
    app: &'a str,
    label: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
}

#[derive(Serialize)]
struct Foreign<'a> {
    file: &'a str,
    verdict: &'static str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
}

#[derive(Serialize)]
struct Certificate<'a> {
    name: &'a str,
    domains: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<&'a str>,
    state: &'static str,
    in_service: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suggested_window: Option<[Time; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    renewal: Option<Time>,
    step: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Step>,
    problems: Vec<Problem<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<Held<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<Waiting<'a>>,
}

#[derive(Serialize)]
struct Step {
    at: Time,
    task: String,
    why: String,
}

#[derive(Serialize)]
struct Problem<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
    failures: u32,
    /// Nothing when a person must act.
    next_try: Option<Time>,
}

/// Where a challenge would not reach us.
#[derive(Serialize)]
struct Route<'a> {
    domain: &'a str,
    /// Whose addresses they are.
    of: &'static str,
    addresses: &'a [IpAddr],
    problem: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
}

#[derive(Serialize)]
struct Held<'a> {
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
    until: Time,
}

/// Names without a certificate that wait for others, which fail and are in service.
#[derive(Serialize)]
struct Waiting<'a> {
    domains: Vec<&'a str>,
    r#for: Vec<&'a str>,
}

// As serde calls it.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// A time that may lie in a past beyond all clocks, which means now.
struct Time(UnixTime);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'a> Status<'a> {
    fn of(sources: &Sources<'a>) -> Status<'a> {
        let reasons: Vec<String> = sources.health.reasons().collect();
        let oddities = sources.watcher.oddities();
        let rejected = oddities.map(|it| Rejected {
            app: &it.app,
            label: &it.label,
            reason: &it.text,
            hint: it.hint.map(Hint::text),
        });
        Status {
            version: env!("CARGO_PKG_VERSION"),
            now: Time(sources.now),
            started: Time(sources.started),
            active: sources.active,
            status: if reasons.is_empty() { "ok" } else { "degraded" },
            reasons,
            ca: Ca::of(sources),
            marathon: Marathon::of(sources),
            load_balancers: sources.reloader.views().map(LoadBalancer::of).collect(),
            skipped_domains: Skipped::of(sources.watcher.counts().skipped),
            rejected: rejected.collect(),
            foreign_files: sources.guard.found().iter().map(Foreign::of).collect(),
            more_foreign_files: sources.guard.more(),
            certificates: sources
                .certificates
                .views()
                .map(|view| Certificate::of(sources, &view))
                .collect(),
        }
    }
}

impl<'a> Ca<'a> {
    fn of(sources: &Sources<'a>) -> Ca<'a> {
        let status = sources.issuer.status();
        let left = sources.budget.iter();
        Ca {
            directory: sources.directory,
            account: status.account.map(|url| url.to_string()),
            hint: status.problem.as_ref().and_then(|it| it.hint).map(Hint::text),
            problem: status.problem.map(|it| it.text),
            orders_running: status.running,
            orders_queued: status.queued,
            limits: left
                .map(|it| Limit { limit: it.limit.clone(), left: it.tokens, of: it.of })
                .collect(),
        }
    }
}

impl<'a> Marathon<'a> {
    fn of(sources: &Sources<'a>) -> Marathon<'a> {
        let status = sources.watcher.status();
        Marathon {
            attached: status.attached,
            last_sync: status.last_sync.map(Time),
            apps: sources.watcher.counts().apps,
            problem: status.problem.as_deref(),
            hint: status.problem.as_ref().and_then(|it| it.hint).map(Hint::text),
        }
    }
}

impl<'a> LoadBalancer<'a> {
    fn of(view: NameView<'a>) -> LoadBalancer<'a> {
        let serves = |it: &BalancerView<'a>| Serves {
            seen: it.served.len(),
            wrong: it.wrong().map(Domain::as_str).collect(),
            first_not_after: it.not_after().map(Time),
            old_processes: it.old_workers,
        };
        let addresses = view.balancers.iter().map(|it| Address {
            address: it.address,
            in_sync: it.in_sync,
            reloaded: it.reloaded.map(Time),
            problem: it.problem.map(|it| &**it),
            hint: it.problem.and_then(|it| it.hint).map(Hint::text),
            serves: view.verified.then(|| serves(it)),
        });
        LoadBalancer {
            url: view.url.origin().to_string(),
            in_sync: view.in_sync,
            problem: view.problem.map(|it| &**it),
            hint: view.problem.and_then(|it| it.hint).map(Hint::text),
            addresses: addresses.collect(),
        }
    }
}

impl Skipped {
    fn of(counts: SkippedCounts) -> Skipped {
        let SkippedCounts { app_limit, total_limit, other_app } = counts;
        Skipped { app_limit, total_limit, other_app }
    }
}

impl<'a> Foreign<'a> {
    fn of(found: &'a ForeignFileReport) -> Foreign<'a> {
        let ForeignFileReport { file, verdict, reason, .. } = found;
        let hint = guard::hint(found).map(Hint::text);
        Foreign { file, verdict: verdict.name(), reason, hint }
    }
}

impl<'a> Certificate<'a> {
    fn of(sources: &Sources<'a>, view: &View<'a>) -> Certificate<'a> {
        let (now, stored) = (sources.now, view.stored());
        let routes = sources.routes.findings(view.name()).iter().map(|finding| Route {
            domain: finding.domain.as_str(),
            of: finding.place.word(),
            addresses: &finding.addresses,
            problem: &finding.complaint,
            hint: finding.complaint.hint.map(Hint::text),
        });
        let problems = view.troubles().map(|(domain, trouble)| Problem {
            domain: domain.map(Domain::as_str),
            error: &trouble.error,
            hint: trouble.error.hint.map(Hint::text),
            failures: trouble.failures,
            next_try: match trouble.retry {
                When::At(at) => Some(Time(at)),
                When::Never => None,
            },
        });
        Certificate {
            name: view.name().as_str(),
            domains: view.domains().iter().map(Domain::as_str).collect(),
            app: view.app(),
            state: view.state(now).name(),
            in_service: view.is_in_service(now) && sources.reloader.serves(view.name(), now),
            issuer: stored.map(|stored| stored.issuer.as_str()),
            not_before: stored.map(|stored| Time(stored.not_before)),
            not_after: stored.map(|stored| Time(stored.not_after)),
            suggested_window: view.window().map(|it| [Time(it.start), Time(it.end)]),
            renewal: view.renewal().map(Time),
            step: view.step(),
            next: view.next().map(|next| Step::of(now, next)),
            problems: problems.collect(),
            routes: routes.collect(),
            held: view.held().map(|(reason, until)| Held {
                reason,
                hint: reason.hint.map(Hint::text),
                until: Time(until),
            }),
            waiting: view.waiting(now).map(|(domains, others)| Waiting {
                domains: domains.into_iter().map(Domain::as_str).collect(),
                r#for: others.into_iter().map(Domain::as_str).collect(),
            }),
        }
    }
}

impl Step {
    fn of(now: UnixTime, Next { at, task, why }: Next) -> Step {
        Step { at: Time(at.max(now)), task: task.to_string(), why: why.to_string() }
    }
}
