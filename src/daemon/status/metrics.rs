//! `/metrics`: everything that can be counted, in Prometheus' text format, version 0.0.4. Labels are
//! names of the configuration, of certificates and of small known sets, so that no peer can make up
//! series without end.

use std::fmt::{Display, Write as _};

use crate::daemon::reloader::BalancerView;
use crate::http::ServerResponse;
use crate::machine::Usage;
use crate::pki::guard::Verdict;
use crate::printable::is_unprintable;
use crate::time::UnixTime;

use super::Sources;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const PREFIX: &str = "marathon_acme_";

/// What a family of series is.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

/// The text so far.
struct Exposition(String);

type Labels<'a> = &'a [(&'a str, &'a str)];

pub(super) fn response(sources: &Sources<'_>, usage: &Usage) -> ServerResponse {
    let mut text = Exposition(String::new());
    about_program(&mut text, sources);
    about_certificates(&mut text, sources);
    about_ca(&mut text, sources);
    about_marathon(&mut text, sources);
    about_load_balancers(&mut text, sources);
    about_process(&mut text, sources, usage);
    ServerResponse::new(200, CONTENT_TYPE, text.0).with_header("Cache-Control", "no-store")
}

fn about_program(text: &mut Exposition, sources: &Sources<'_>) {
    text.ours("build_info", Kind::Gauge, "The version of the program; always 1.");
    text.sample("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    text.ours(
        "active",
        Kind::Gauge,
        "1 when this instance is the active one, 0 when it stands by.",
    );
    text.sample("active", &[], u8::from(sources.active));
    let name = "storage_writable";
    text.ours(name, Kind::Gauge, "1 unless the storage cannot be written.");
    text.sample(name, &[], u8::from(sources.health.storage.is_none()));
    let name = "challenge_requests_total";
    text.ours(name, Kind::Counter, "Requests for challenges, by what they got.");
    text.sample(name, &[("result", "served")], sources.challenges.served);
    text.sample(name, &[("result", "unknown")], sources.challenges.unknown);
}

fn about_certificates(text: &mut Exposition, sources: &Sources<'_>) {
    let counts = sources.counts();
    text.ours("certificates", Kind::Gauge, "Certificates, by how it stands with them.");
    let states = [
        ("valid", counts.valid),
        ("pending", counts.pending),
        ("failing", counts.failing),
        ("unwanted", counts.unwanted),
    ];
    for (state, count) in states {
        text.sample("certificates", &[("state", state)], count);
    }
    let name = "certificate_not_after_timestamp_seconds";
    text.ours(name, Kind::Gauge, "When the certificate in service ends, of each wanted name.");
    let wanted = || sources.certificates.views().filter(|view| view.renewal().is_some());
    for view in wanted() {
        if let Some(stored) = view.stored() {
            text.sample(name, &[("name", view.name().as_str())], seconds(stored.not_after));
        }
    }
    let name = "certificate_renewal_timestamp_seconds";
    text.ours(name, Kind::Gauge, "When the certificate in service is to be renewed.");
    for view in wanted() {
        if let Some(at) = view.renewal() {
            text.sample(name, &[("name", view.name().as_str())], seconds(at));
        }
    }
    let name = "foreign_files";
    text.ours(name, Kind::Gauge, "Files in certs/ that are not ours, by what they do to HAProxy.");
    for verdict in Verdict::ALL {
        text.sample(name, &[("verdict", verdict.name())], sources.guard.count(verdict));
    }
    let orders = sources.certificates.order_counts();
    text.ours("orders_total", Kind::Counter, "Orders that came to their end.");
    text.sample("orders_total", &[("result", "issued")], orders.issued);
    text.sample("orders_total", &[("result", "failed")], orders.failed);
}

fn about_ca(text: &mut Exposition, sources: &Sources<'_>) {
    let (counts, status) = (sources.issuer.counts(), sources.issuer.status());
    let name = "acme_requests_total";
    text.ours(name, Kind::Counter, "Requests to the CA, by the status of the answer.");
    for (status, count) in &counts.answers {
        text.sample(name, &[("status", &status.to_string())], count);
    }
    text.sample(name, &[("status", "none")], counts.unanswered);
    let name = "acme_errors_total";
    text.ours(name, Kind::Counter, "Refusals of the CA, by their ACME error types.");
    for (kind, count) in &counts.errors {
        text.sample(name, &[("type", kind)], count);
    }
    let name = "orders_in_progress";
    text.ours(name, Kind::Gauge, "Orders that the CA is at, and those that wait for room.");
    text.sample(name, &[("state", "running")], status.running);
    text.sample(name, &[("state", "queued")], status.queued);
}

fn about_marathon(text: &mut Exposition, sources: &Sources<'_>) {
    let (counts, status) = (sources.watcher.counts(), sources.watcher.status());
    let name = "event_stream_connected";
    text.ours(name, Kind::Gauge, "1 while Marathon's event stream is open.");
    text.sample(name, &[], u8::from(status.attached));
    let name = "event_stream_reconnects_total";
    text.ours(name, Kind::Counter, "How often the event stream was opened again.");
    text.sample(name, &[], counts.attachments.saturating_sub(1));
    text.ours("events_total", Kind::Counter, "Events that can mean that apps changed.");
    for (event, count) in &counts.events {
        text.sample("events_total", &[("type", event)], count);
    }
    text.ours("syncs_total", Kind::Counter, "Readings of all apps.");
    text.sample("syncs_total", &[("result", "complete")], counts.syncs_complete);
    text.sample("syncs_total", &[("result", "failed")], counts.syncs_failed);
    if let Some(at) = status.last_sync {
        let name = "last_sync_timestamp_seconds";
        text.ours(name, Kind::Gauge, "When all apps were read last.");
        text.sample(name, &[], seconds(at));
    }
    text.ours("apps", Kind::Gauge, "Apps in the last complete list.");
    text.sample("apps", &[], counts.apps);
    let name = "rejected_domains";
    text.ours(name, Kind::Gauge, "Names in labels that no public CA could certify.");
    text.sample(name, &[], counts.rejected_domains);
    let name = "skipped_domains";
    text.ours(name, Kind::Gauge, "Domains in labels without a certificate, by reason.");
    text.sample(name, &[("reason", "app_limit")], counts.skipped.app_limit);
    text.sample(name, &[("reason", "total_limit")], counts.skipped.total_limit);
    text.sample(name, &[("reason", "other_app")], counts.skipped.other_app);
}

fn about_load_balancers(text: &mut Exposition, sources: &Sources<'_>) {
    let origins: Vec<String> =
        sources.reloader.views().map(|view| view.url.origin().to_string()).collect();
    let named = || origins.iter().zip(sources.reloader.views());
    let name = "lb_reloads_total";
    text.ours(name, Kind::Counter, "Reload signals, by what came of them.");
    for (origin, view) in named() {
        let labels = |result| [("lb", origin.as_str()), ("result", result)];
        text.sample(name, &labels("acknowledged"), view.counts.acknowledged);
        text.sample(name, &labels("failed"), view.counts.failed);
    }
    let name = "lb_in_sync";
    text.ours(name, Kind::Gauge, "1 when every address has loaded what was written last.");
    for (origin, view) in named() {
        text.sample(name, &[("lb", origin)], u8::from(view.in_sync));
    }
    let name = "lb_drift_total";
    text.ours(
        name,
        Kind::Counter,
        "How often a load balancer was seen to serve another certificate than it loaded.",
    );
    for (origin, view) in named() {
        text.sample(name, &[("lb", origin)], view.counts.drifted);
    }
    let each = |text: &mut Exposition, name: &str, value: &dyn Fn(&BalancerView<'_>) -> usize| {
        for (origin, view) in named() {
            for it in &view.balancers {
                let labels = [("lb", origin.as_str()), ("address", &it.address.to_string())];
                text.sample(name, &labels, value(it));
            }
        }
    };
    let name = "lb_wrong_certificates";
    text.ours(name, Kind::Gauge, "Names that it was last seen to serve another certificate for.");
    each(text, name, &|it| it.wrong().count());
    let name = "lb_old_processes";
    text.ours(
        name,
        Kind::Gauge,
        "HAProxy workers that still run although the last reload has replaced them.",
    );
    each(text, name, &|it| it.old_workers);
    if !sources.reloader.views().any(|view| view.verified) {
        return;
    }
    let name = "lb_certificate_not_after_timestamp_seconds";
    text.ours(
        name,
        Kind::Gauge,
        "When the certificate ends that a load balancer was seen to serve.",
    );
    for (origin, view) in named() {
        for it in &view.balancers {
            let address = it.address.to_string();
            for (domain, served) in it.served {
                let labels =
                    [("lb", origin.as_str()), ("address", &address), ("name", domain.as_str())];
                text.sample(name, &labels, seconds(served.not_after));
            }
        }
    }
}

/// These have the names that every Prometheus client gives them.
fn about_process(text: &mut Exposition, sources: &Sources<'_>, usage: &Usage) {
    let name = "process_start_time_seconds";
    text.family(name, Kind::Gauge, "When the process started.");
    text.raw(name, &[], seconds(sources.started));
    if let Some(bytes) = usage.resident_bytes {
        let name = "process_resident_memory_bytes";
        text.family(name, Kind::Gauge, "Memory of the process in RAM.");
        text.raw(name, &[], bytes);
    }
    if let Some(time) = usage.processor_time {
        let name = "process_cpu_seconds_total";
        text.family(name, Kind::Counter, "Time of the process on a processor.");
        text.raw(name, &[], format_args!("{}.{:03}", time.as_secs(), time.subsec_millis()));
    }
    if let Some(count) = usage.descriptors {
        let name = "process_open_fds";
        text.family(name, Kind::Gauge, "Open file descriptors.");
        text.raw(name, &[], count);
    }
}

fn seconds(at: UnixTime) -> i64 {
    at.as_seconds()
}

impl Exposition {
    /// A family of our own.
    fn ours(&mut self, name: &str, kind: Kind, help: &str) {
        self.family(&format!("{PREFIX}{name}"), kind, help);
    }

    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        // Writing to a text cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// A series of a family of our own.
    fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        self.0.push_str(PREFIX);
        self.raw(name, labels, value);
    }

    fn raw(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        self.0.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"", if index == 0 { '{' } else { ',' });
            for c in value.chars() {
                match c {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    c if is_unprintable(c) => self.0.push(char::REPLACEMENT_CHARACTER),
                    c => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }
}
