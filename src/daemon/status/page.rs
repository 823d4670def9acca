//! `/`: everything, for people, in one page without a script and without anything from elsewhere. What
//! needs attention stands first. However many certificates there are, a page has a hundred of them, and
//! costs a bounded time.

use crate::daemon::certificates::{Next, State, Task, View, Why};
use crate::daemon::guard;
use crate::daemon::model::When;
use crate::daemon::reloader::{BalancerView, NameView};
use crate::domain::Domain;
use crate::hint::Hint;
use crate::http::ServerResponse;
use crate::pki::guard::Verdict;

use super::Sources;
use super::bar::Bar;
use super::html::Html;
use super::overview::Selection;
use super::query::{Query, STATES};
use super::words::{away, counted};

/// Certificates on one page.
const ROWS: usize = 100;
/// A choice is looked for among so many certificates, the first ones by name.
const SEARCHED_MAX: usize = 20_000;
const STYLE: &str = include_str!("page.css");
/// Nothing is loaded, nothing runs, nobody frames it; the one style sheet is named by its hash.
const POLICY: &str = "default-src 'none'; \
                      style-src 'sha256-P3g/sc/O2eazQQilrOBB1+++EJTEoSSaupbUzWg3yeI='; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

pub(super) fn response(sources: &Sources<'_>, query: &str) -> ServerResponse {
    let mut html = Html::default();
    page(&mut html, sources, &Query::parse(query));
    ServerResponse::new(200, "text/html; charset=utf-8", html.finish())
        .with_header("Content-Security-Policy", POLICY)
        .with_header("X-Content-Type-Options", "nosniff")
        .with_header("Referrer-Policy", "no-referrer")
        .with_header("Cache-Control", "no-store")
        .with_header("Refresh", "60")
}

fn page(html: &mut Html, sources: &Sources<'_>, query: &Query) {
    let (class, verdict) = verdict(sources);
    html.raw("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
    html.raw("<meta name=\"viewport\" content=\"width=device-width\">");
    html.element("<title>", &verdict, " – marathon-acme</title>");
    html.raw("<style>").raw(STYLE).raw("</style></head><body><header><h1>marathon-acme</h1>");
    html.element("<p class=\"verdict ", class, "\">").element("", &verdict, "</p></header><main>");
    let mut reasons = sources.health.reasons().peekable();
    if reasons.peek().is_some() {
        html.raw("<ul class=\"reasons\">");
        for reason in reasons {
            html.element("<li>", reason, "</li>");
        }
        html.raw("</ul>");
    }
    facts(html, sources);
    certificates(html, sources, query);
    load_balancers(html, sources);
    rejected(html, sources);
    foreign_files(html, sources);
    html.raw("</main><footer>");
    html.element("marathon-acme ", env!("CARGO_PKG_VERSION"), ", ");
    html.element("started ", away(sources.now, sources.started), "");
    html.element(". This is how it stood at ", sources.now, ". ");
    html.raw("The same for programs: <a href=\"/status.json\">status.json</a>, ");
    html.raw(
        "<a href=\"/metrics\">metrics</a>, <a href=\"/health\">health</a>.</footer></body></html>",
    );
}

/// The one sentence to read, and its colour.
fn verdict(sources: &Sources<'_>) -> (&'static str, String) {
    let counts = sources.overview.summary().counts;
    if !sources.active {
        return ("faint", "Standing by for another instance".into());
    }
    if counts.failing > 0 {
        let verb = if counts.failing == 1 { "fails" } else { "fail" };
        return ("bad", format!("{} {verb}", counted(counts.failing, "certificate")));
    }
    if sources.health.reasons().next().is_some() {
        return ("bad", "Not all is well".into());
    }
    if sources.watcher.status().last_sync.is_none() {
        return ("wait", "Waiting for Marathon".into());
    }
    match counts.pending {
        0 => ("ok", "All is well".into()),
        pending => ("wait", format!("{} to come", counted(pending, "certificate"))),
    }
}

fn facts(html: &mut Html, sources: &Sources<'_>) {
    let counts = sources.overview.summary().counts;
    html.raw("<dl class=\"facts\"><div><dt>Certificates</dt><dd>");
    html.text(format_args!("{} valid", counts.valid));
    for (count, what) in
        [(counts.failing, "failing"), (counts.pending, "pending"), (counts.unwanted, "unwanted")]
    {
        if count > 0 {
            html.text(format_args!(", {count} {what}"));
        }
    }
    html.raw("</dd></div>");
    marathon(html, sources);
    ca(html, sources);
    html.raw("</dl>");
}

fn marathon(html: &mut Html, sources: &Sources<'_>) {
    let (status, counts) = (sources.watcher.status(), sources.watcher.counts());
    html.raw("<div><dt>Marathon</dt><dd>");
    match status.last_sync {
        Some(at) => {
            html.text(counted(counts.apps, "app")).element(", read ", away(sources.now, at), "")
        }
        None => html.raw("not read yet"),
    };
    let stream = if status.attached { "event stream open" } else { "event stream closed" };
    html.element("<br><span class=\"small faint\">", stream, "</span></dd></div>");
}

fn ca(html: &mut Html, sources: &Sources<'_>) {
    let status = sources.issuer.status();
    html.element("<div><dt>Certificate authority</dt><dd>", sources.directory, "");
    html.raw("<br><span class=\"small faint\">");
    html.raw(if status.account.is_some() { "registered" } else { "no account yet" });
    if status.running + status.queued > 0 {
        html.text(format_args!(", {} under way", counted(status.running, "order")));
        html.text(format_args!(", {} waiting", status.queued));
    }
    html.raw("</span></dd></div>");
    let limits = &sources.overview.summary().limits;
    if limits.is_empty() {
        return;
    }
    html.raw("<div><dt>Left of its limits</dt><dd class=\"small\">");
    for left in limits {
        html.element("", left.tokens, " of ").element("", &left.limit, "<br>");
    }
    html.raw("</dd></div>");
}

fn certificates(html: &mut Html, sources: &Sources<'_>, query: &Query) {
    html.raw("<h2>Certificates</h2>");
    if sources.certificates.is_empty() {
        html.raw("<p class=\"faint\">None yet. Give an app the label <code>MARATHON_ACME_0_DOMAIN");
        html.raw("</code>, and its certificate appears here.</p>");
        return;
    }
    if sources.certificates.len() > ROWS / 10 || query.is_choosy() {
        form(html, query);
    }
    let found = find(sources, query);
    if found.names.is_empty() {
        html.raw("<p class=\"faint\">None fits.</p>");
        return left_out(html, &found);
    }
    let pages = found.names.len().div_ceil(ROWS);
    let page = query.page.min(pages - 1);
    html.raw("<table><thead><tr><th class=\"name\">Name</th><th class=\"life-of\">Life</th>");
    html.raw("<th>State</th></tr></thead><tbody>");
    for name in found.names.iter().skip(page * ROWS).take(ROWS) {
        if let Some(view) = sources.certificates.view(name) {
            certificate(html, sources, &view);
        }
    }
    html.raw("</tbody></table>");
    pager(html, query, page, pages, &found);
    left_out(html, &found);
    html.raw(
        "<p class=\"legend small faint\">A bar is a certificate’s life, from its issue to its ",
    );
    html.raw("expiry. Green is when it is renewed, the line is now.</p>");
}

/// What a query asks for.
struct Found {
    /// Those that are listed, in their order.
    names: Vec<Domain>,
    /// How many there are.
    count: usize,
    /// How many were not looked at.
    unseen: usize,
}

fn find(sources: &Sources<'_>, query: &Query) -> Found {
    let len = sources.certificates.len();
    if !query.is_choosy() {
        let summary = sources.overview.summary();
        let (names, unseen) = (summary.first.clone(), len.saturating_sub(summary.seen));
        return Found { names, count: summary.seen, unseen };
    }
    let mut selection = Selection::default();
    for view in sources.certificates.views().take(SEARCHED_MAX) {
        if query.fits(sources.now, &view) {
            selection.add(sources.now, &view);
        }
    }
    let (count, unseen) = (selection.count, len.saturating_sub(SEARCHED_MAX));
    Found { names: selection.into_names(), count, unseen }
}

/// Says what is not in the table.
fn left_out(html: &mut Html, found: &Found) {
    let more = found.count - found.names.len();
    if more > 0 {
        let text = format!("{more} more are not listed. Search for a name or an app.");
        html.element("<p class=\"small faint\">", text, "</p>");
    }
    if found.unseen > 0 {
        let text = format!("{} certificates were not looked at.", found.unseen);
        html.element("<p class=\"small faint\">", text, "</p>");
    }
}

fn form(html: &mut Html, query: &Query) {
    html.raw(
        "<form><input type=\"search\" name=\"q\" placeholder=\"Name or app\" aria-label=\"Name",
    );
    html.element(" or app\" value=\"", &query.text, "\">");
    html.raw("<select name=\"state\" aria-label=\"State\"><option value=\"\">all states</option>");
    for state in STATES {
        html.raw(if query.state == Some(state) { "<option selected>" } else { "<option>" });
        html.text(state.name()).raw("</option>");
    }
    html.raw("</select><button>Show</button></form>");
}

fn pager(html: &mut Html, query: &Query, page: usize, pages: usize, found: &Found) {
    if pages == 1 {
        return;
    }
    html.raw("<nav class=\"pages\">");
    if page > 0 {
        html.element("<a rel=\"prev\" href=\"", query.of_page(page - 1), "\">Before</a>");
    }
    let last = (page + 1).saturating_mul(ROWS).min(found.names.len());
    let shown = format_args!("{} to {last} of {}", page * ROWS + 1, found.count).to_string();
    html.element("<span class=\"faint\">", shown, "</span>");
    if page + 1 < pages {
        html.element("<a rel=\"next\" href=\"", query.of_page(page + 1), "\">Next</a>");
    }
    html.raw("</nav>");
}

fn certificate(html: &mut Html, sources: &Sources<'_>, view: &View<'_>) {
    html.element("<tr><td class=\"name\"><b>", view.name(), "</b>");
    let others: Vec<&str> =
        view.domains().iter().filter(|it| *it != view.name()).map(|it| it.as_str()).collect();
    if !others.is_empty() {
        html.element("<br><span class=\"small\">", others.join(", "), "</span>");
    }
    if let Some(app) = view.app() {
        html.element("<br><span class=\"small faint\">", app, "</span>");
    }
    html.raw("</td><td class=\"life-of\">");
    life(html, sources, view);
    html.raw("</td><td>");
    state(html, sources, view);
    html.raw("</td></tr>");
}

fn life(html: &mut Html, sources: &Sources<'_>, view: &View<'_>) {
    let Some(stored) = view.stored() else {
        html.raw("<span class=\"faint\">none in service</span>");
        return;
    };
    let now = sources.now;
    let (not_before, not_after) = (stored.not_before, stored.not_after);
    let (window, renewal) = (view.window().filter(|_| view.renewal().is_some()), view.renewal());
    Bar { now, not_before, not_after, window, renewal }.draw(html);
    html.raw("<span class=\"small faint\">");
    let verb = if not_after > now { "expires" } else { "expired" };
    html.text(format_args!("{verb} {}", away(now, not_after)));
    if !stored.issuer.is_empty() {
        html.element(", by ", &stored.issuer, "");
    }
    html.raw("</span>");
}

fn state(html: &mut Html, sources: &Sources<'_>, view: &View<'_>) {
    let state = view.state(sources.now);
    let is_served = sources.reloader.serves(view.name(), sources.now);
    let is_stored = view.is_in_service(sources.now);
    let class = match (state, is_stored && is_served) {
        (State::Failing, _) | (State::Valid | State::Pending, false) if view.stored().is_some() => {
            "bad"
        }
        (State::Failing, _) => "bad",
        (State::Pending, _) => "wait",
        (State::Valid, _) => "ok",
        (State::Unwanted, _) => "faint",
    };
    html.element("<span class=\"", class, "\">").text(state.name()).raw("</span>");
    html.element("<br><span class=\"small\">", next(sources, view), "</span>");
    if is_stored && !is_served {
        html.raw("<p class=\"said small\">Stored, not served by any load balancer yet</p>");
    }
    if let Some((reason, until)) = view.held() {
        let held = format!("held back by {reason} until {until}");
        html.element("<p class=\"small\">", held, "");
        hint(html, reason.hint);
        html.raw("</p>");
    }
    waiting(html, sources, view);
    routes(html, sources, view);
    for (domain, trouble) in view.troubles() {
        html.raw("<p class=\"said small\">");
        if let Some(domain) = domain {
            html.element("", domain, ": ");
        }
        html.text(&trouble.error);
        hint(html, trouble.error.hint);
        let times = counted(usize::try_from(trouble.failures).unwrap_or(usize::MAX), "failure");
        html.element("<br><span class=\"faint\">", times, "");
        match trouble.retry {
            When::At(at) => html.element(", next try ", away(sources.now, at), ""),
            When::Never => html.raw(", waits until the app is restarted"),
        };
        html.raw("</span></p>");
    }
}

/// Which names have no certificate for another one's sake.
fn waiting(html: &mut Html, sources: &Sources<'_>, view: &View<'_>) {
    let Some((waiting, others)) = view.waiting(sources.now) else { return };
    let list = |names: &[&Domain]| {
        let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        names.join(", ")
    };
    html.element("<p class=\"small\">", list(&waiting), " can be ordered, but has to wait for ");
    html.element("", list(&others), ": to go on without would take that out of service.</p>");
}

/// Where a challenge would not reach us, as far as that can be seen from here.
fn routes(html: &mut Html, sources: &Sources<'_>, view: &View<'_>) {
    for finding in sources.routes.findings(view.name()) {
        html.element("<p class=\"said small\">The route of ", &finding.domain, "");
        if !finding.addresses.is_empty() {
            html.element(" by ", finding.place.word(), "").element(" ", finding.listed(), "");
        }
        html.element(": ", &finding.complaint, "");
        hint(html, finding.complaint.hint);
        html.raw("</p>");
    }
}

/// What may help, below what went wrong.
fn hint(html: &mut Html, hint: Option<Hint>) {
    if let Some(hint) = hint {
        html.element("<br><b>Try:</b> ", hint, "");
    }
}

/// What happens next with a certificate.
fn next(sources: &Sources<'_>, view: &View<'_>) -> String {
    match view.next() {
        Some(Next { at, task: Task::Order, why: why @ (Why::Window | Why::Lifetime) }) => {
            format!("renews {}, {}", away(sources.now, at), why.of_a_renewal())
        }
        Some(next) if next.at <= sources.now => format!("{} now: {}", next.task, next.why),
        Some(next) => format!("{} {}: {}", next.task, away(sources.now, next.at), next.why),
        None => view.step().to_string(),
    }
}

fn load_balancers(html: &mut Html, sources: &Sources<'_>) {
    html.raw("<h2>Load balancers</h2><table><thead><tr><th class=\"name\">Name</th>");
    html.raw("<th class=\"life-of\">Last reload</th><th>State</th></tr></thead><tbody>");
    for view in sources.reloader.views() {
        if view.balancers.is_empty() {
            nobody(html, &view);
        }
        for balancer in &view.balancers {
            load_balancer(html, sources, &view, balancer);
        }
    }
    html.raw("</tbody></table>");
}

fn nobody(html: &mut Html, view: &NameView<'_>) {
    html.element(
        "<tr><td class=\"name\"><b>",
        view.url.origin(),
        "</b></td><td class=\"life-of\">",
    );
    match view.problem {
        Some(problem) => {
            html.element("</td><td><p class=\"said small\">", problem, "");
            hint(html, problem.hint);
            html.raw("</p>")
        }
        None => html.raw("</td><td><span class=\"faint\">not looked up yet</span>"),
    };
    html.raw("</td></tr>");
}

fn load_balancer(
    html: &mut Html,
    sources: &Sources<'_>,
    view: &NameView<'_>,
    balancer: &BalancerView<'_>,
) {
    html.element("<tr><td class=\"name\"><b>", balancer.address, "</b>");
    html.element("<br><span class=\"small faint\">", view.url.origin(), "</span></td>");
    html.raw("<td class=\"life-of\">");
    match balancer.reloaded {
        Some(at) => html.text(away(sources.now, at)),
        None => html.raw("<span class=\"faint\">none since the start</span>"),
    };
    html.raw(match balancer.in_sync {
        true if !balancer.served.is_empty() => {
            "</td><td><span class=\"ok\">in sync, seen to serve it</span>"
        }
        true => "</td><td><span class=\"ok\">in sync</span>",
        false => "</td><td><span class=\"bad\">reload pending</span>",
    });
    if balancer.old_workers > 0 {
        html.element("<p class=\"said small\">", balancer.old_workers, "");
        html.raw(" HAProxy workers still run that the last reload has replaced</p>");
    }
    if let Some(problem) = balancer.problem {
        html.element("<p class=\"said small\">", problem, "");
        hint(html, problem.hint);
        html.raw("</p>");
    }
    html.raw("</td></tr>");
}

fn rejected(html: &mut Html, sources: &Sources<'_>) {
    let oddities = sources.watcher.oddities();
    if oddities.len() == 0 {
        return;
    }
    html.raw("<h2>Passed over</h2><table><thead><tr><th class=\"name\">App</th>");
    html.raw("<th>What and why</th></tr></thead><tbody>");
    for oddity in oddities.take(ROWS) {
        html.element("<tr><td class=\"name\">", &oddity.app, "");
        html.element("<br><span class=\"small faint\">", &oddity.label, "</span></td>");
        html.element("<td>", &oddity.text, "");
        hint(html, oddity.hint);
        html.raw("</td></tr>");
    }
    html.raw("</tbody></table>");
}

fn foreign_files(html: &mut Html, sources: &Sources<'_>) {
    let found = sources.guard.found();
    if found.is_empty() {
        return;
    }
    html.raw("<h2>Not ours in certs/</h2><table><thead><tr><th class=\"name\">File</th>");
    html.raw("<th>What it does to HAProxy</th></tr></thead><tbody>");
    for judgement in found {
        html.element("<tr><td class=\"name\">", &judgement.file, "</td><td>");
        let class = match judgement.verdict {
            Verdict::Blocks | Verdict::Shadows => "bad",
            Verdict::Unknown | Verdict::Expired => "wait",
            Verdict::Harmless => "faint",
        };
        html.element("<span class=\"", class, "\">").text(judgement.verdict.name());
        html.element("</span><p class=\"small\">", &judgement.reason, "");
        hint(html, guard::hint(judgement));
        html.raw("</p></td></tr>");
    }
    html.raw("</tbody></table>");
    if sources.guard.more() > 0 {
        html.element("<p class=\"small faint\">And ", sources.guard.more(), " more.</p>");
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    #[test]
    fn the_policy_names_this_style_sheet() {
        let hash = ring::digest::digest(&ring::digest::SHA256, STYLE.as_bytes());
        let hash = BASE64_STANDARD.encode(hash);
        assert!(POLICY.contains(&format!("'sha256-{hash}'")), "the hash is {hash}");
    }
}
