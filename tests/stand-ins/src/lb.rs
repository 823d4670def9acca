//! marathon-lb as its control port 9090 shows it: the signals, HAProxy's process ids, its
//! configuration. A reload is recorded with its time; whoever plays port 443 reads the certificates
//! again when the count of [`LoadBalancer::reloads`] grows.

use crate::http::{Reply, Request, Seen, Server};
use crate::peer::{Action, DialError, Peer, Time};

/// How long the short-lived process is seen that checks the configuration before a reload.
const CHECKER_MS: u64 = 100;
/// The id of the master process, where there is one: workers have higher ones.
const MASTER_PID: u32 = 31;

/// The knobs of one load balancer. The default is healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Nobody listens.
    pub down: bool,
    /// So many signals are answered 500, and nothing is reloaded.
    pub failures: u32,
    /// So many signals are answered 200 although nothing is reloaded: marathon-lb swallows a signal
    /// that coincides with an event of Marathon's.
    pub swallowed: u32,
    /// Signals are answered 200 and nothing is reloaded, for as long as this is so: HAProxy refuses its
    /// configuration, or a file that it names.
    pub deaf: bool,
    /// Every reply waits so long.
    pub delay_ms: u64,
    /// From the signal to the new process.
    pub reload_ms: u64,
    /// How long an old process stays to finish its connections.
    pub linger_ms: u64,
    /// Whether the configuration differs from what runs: only then does HUP reload.
    pub configuration_changed: bool,
    /// Whether `/_haproxy_getpids` is offered.
    pub offers_pids: bool,
    /// HAProxy runs as `haproxy -W`: the place among the ids at which the master process is shown, which
    /// stays over every reload. A place behind the last one is the last one.
    pub master_at: Option<usize>,
    /// What it says there in place of the ids that it has made up.
    pub real_pids: Option<Vec<u32>>,
    /// Whether what it says there are words instead.
    pub garbled_pids: bool,
    /// So many requests do not get there: whatever stands before it answers with a page.
    pub html: u32,
    /// What `/_haproxy_getconfig` shows.
    pub configuration: String,
    /// Whether requests are remembered; a run of a year does without.
    pub keep_seen: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            down: false,
            failures: 0,
            swallowed: 0,
            deaf: false,
            delay_ms: 0,
            reload_ms: 180,
            linger_ms: 500,
            configuration_changed: false,
            offers_pids: true,
            master_at: None,
            real_pids: None,
            garbled_pids: false,
            html: 0,
            configuration: "frontend marathon_https_in\n  bind *:443 ssl crt /certs/certs crt \
                            /certs/default.pem\n  mode http\n"
                .to_string(),
            keep_seen: true,
        }
    }
}

/// How often each knob told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Signals that were answered 500.
    pub failures: u64,
    /// Signals that were answered 200 and swallowed.
    pub swallowed: u64,
    /// Answers with a page of something else.
    pub html: u64,
    /// Questions for process ids that were not answered.
    pub no_pids: u64,
    /// Questions for process ids that were answered with words.
    pub garbled_pids: u64,
    /// Answers that came later than at once.
    pub delayed: u64,
}

/// One marathon-lb.
#[derive(Debug)]
pub struct LoadBalancer {
    /// How it answers; may be changed at any time.
    pub settings: Settings,
    counts: Counts,
    server: Server,
    processes: Vec<Process>,
    last_pid: u32,
    started: Time,
    pending_ms: Vec<u64>,
    reloads: Vec<Time>,
    seen: Vec<Seen>,
}

/// A process of HAProxy's, from its start until its end.
#[derive(Debug)]
struct Process {
    pid: u32,
    from_ms: u64,
    until_ms: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Signal {
    Hup,
    Usr1,
}

impl Signal {
    const fn name(self) -> &'static str {
        match self {
            Signal::Hup => "SIGHUP",
            Signal::Usr1 => "SIGUSR1",
        }
    }
}

impl LoadBalancer {
    /// A load balancer that has just started.
    pub fn new(now: Time, settings: Settings) -> LoadBalancer {
        let first = Process { pid: 32, from_ms: now.mono_ms, until_ms: None };
        LoadBalancer {
            settings,
            counts: Counts::default(),
            server: Server::default(),
            processes: vec![first],
            last_pid: 32,
            started: now,
            pending_ms: Vec::new(),
            reloads: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// When it started.
    pub fn started(&self) -> Time {
        self.started
    }

    /// How often each knob told.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// When each reload took effect: from then on the certificates that lay on the disk at that
    /// moment are served.
    pub fn reloads(&self) -> &[Time] {
        &self.reloads
    }

    /// Every request, in the order they came, as far as they are remembered.
    pub fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// The ids of HAProxy's processes, newest first but for the master process.
    pub fn pids(&self, now: Time) -> Vec<u32> {
        let lives = |process: &&Process| {
            process.from_ms <= now.mono_ms && process.until_ms.is_none_or(|end| now.mono_ms < end)
        };
        let mut pids: Vec<u32> =
            self.processes.iter().rev().filter(lives).map(|process| process.pid).collect();
        if let Some(place) = self.settings.master_at {
            pids.insert(place.min(pids.len()), MASTER_PID);
        }
        pids
    }

    fn spawn(&mut self, from_ms: u64, until_ms: Option<u64>) {
        self.last_pid += 33;
        self.processes.push(Process { pid: self.last_pid, from_ms, until_ms });
    }

    /// Checks the configuration now; the new process is there a little later.
    fn begin_reload(&mut self, now: Time) {
        self.spawn(now.mono_ms, Some(now.mono_ms + CHECKER_MS));
        self.pending_ms.push(now.mono_ms + self.settings.reload_ms);
    }

    fn finish_reloads(&mut self, now: Time) {
        let due = self.pending_ms.extract_if(.., |due_ms| *due_ms <= now.mono_ms).count();
        for _ in 0..due {
            let end_ms = now.mono_ms + self.settings.linger_ms;
            for old in self.processes.iter_mut().filter(|process| process.until_ms.is_none()) {
                old.until_ms = Some(end_ms);
            }
            self.spawn(now.mono_ms, None);
            self.reloads.push(now);
        }
        self.processes.retain(|process| process.until_ms.is_none_or(|end| now.mono_ms < end));
    }

    fn signal(&mut self, now: Time, signal: Signal) -> Reply {
        let name = signal.name();
        if self.settings.failures > 0 {
            self.settings.failures -= 1;
            self.counts.failures += 1;
            let text = format!(
                "Failed to send {name} signal to marathon-lb (exit code 1). \
                 Is marathon-lb running in 'poll' mode?"
            );
            return Reply::new(500, "text/plain", text);
        }
        let reloads = signal == Signal::Usr1 || self.settings.configuration_changed;
        if self.settings.swallowed > 0 {
            self.settings.swallowed -= 1;
            self.counts.swallowed += 1;
        } else if reloads && !self.settings.deaf {
            self.settings.configuration_changed = false;
            self.begin_reload(now);
        }
        Reply::new(200, "text/plain", format!("Sent {name} signal to marathon-lb"))
    }

    /// What the path says; the method does not matter.
    fn answer(&mut self, now: Time, request: &Request) -> Reply {
        if self.settings.html > 0 {
            self.settings.html -= 1;
            self.counts.html += 1;
            return Reply::html(502, "Bad Gateway");
        }
        match request.path() {
            "/_mlb_signal/hup" => self.signal(now, Signal::Hup),
            "/_mlb_signal/usr1" => self.signal(now, Signal::Usr1),
            "/_haproxy_getpids" => self.say_pids(now),
            "/_haproxy_getconfig" => {
                Reply::new(200, "text/plain", self.settings.configuration.clone())
            }
            "/_haproxy_health_check" => Reply::empty(200),
            "/metrics" => Reply::new(200, "text/plain; version=0.0.4", self.metrics()),
            _ => Reply::html(503, "Service Unavailable"),
        }
    }

    fn say_pids(&mut self, now: Time) -> Reply {
        if !self.settings.offers_pids {
            self.counts.no_pids += 1;
            return Reply::html(503, "Service Unavailable");
        }
        if self.settings.garbled_pids {
            self.counts.garbled_pids += 1;
            return Reply::new(200, "text/plain", "pidof: not found");
        }
        let pids = self.settings.real_pids.clone().unwrap_or_else(|| self.pids(now));
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        Reply::new(200, "text/plain", pids.join(" "))
    }

    fn metrics(&self) -> String {
        let start = self.reloads.last().unwrap_or(&self.started).unix_ms / 1000;
        format!(
            "# HELP haproxy_process_start_time_seconds Start time in seconds.\n\
             # TYPE haproxy_process_start_time_seconds gauge\n\
             haproxy_process_start_time_seconds {start}\n"
        )
    }

    fn answer_requests(&mut self, now: Time) {
        while let Some(request) = self.server.next_request() {
            let reply = self.answer(now, &request);
            let Request { conn, method, target, .. } = request;
            if self.settings.keep_seen {
                self.seen.push(Seen { at: now, conn, method, target, status: reply.status });
            }
            match self.settings.delay_ms {
                0 => self.server.reply(conn, &reply),
                delay_ms => {
                    self.counts.delayed += 1;
                    self.server.reply_at(now.mono_ms + delay_ms, conn, reply);
                }
            }
        }
    }
}

impl Peer for LoadBalancer {
    fn refuses(&self) -> bool {
        self.settings.down
    }

    fn accepted(&mut self, _now: Time, conn: u64) {
        self.server.accepted(conn);
        if self.settings.down {
            self.server.close(conn);
        }
    }

    fn dialed(&mut self, _now: Time, _conn: u64, _result: Result<(), DialError>) {}

    fn received(&mut self, now: Time, conn: u64, bytes: &[u8]) {
        self.finish_reloads(now);
        self.server.received(conn, bytes);
        self.answer_requests(now);
    }

    fn closed(&mut self, _now: Time, conn: u64) {
        self.server.closed(conn);
    }

    fn timeout(&mut self, now: Time) {
        self.finish_reloads(now);
        self.server.timeout(now.mono_ms);
        self.answer_requests(now);
    }

    fn next_timeout(&self) -> Option<u64> {
        self.pending_ms.iter().copied().chain(self.server.next_timeout()).min()
    }

    fn poll(&mut self) -> Option<Action> {
        self.server.poll()
    }
}

#[cfg(test)]
mod tests;
