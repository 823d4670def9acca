//! Marathon, as far as marathon-acme meets it: the event stream, the list of apps, and the ways in
//! which real Marathons of ten years answer badly. Behaves like the project's protocol notes, to
//! the byte; what an operator does with the Marathon (deploy, delete) are methods here.

mod apps;
mod events;
mod settings;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::http::{Body, Reply, Request, Seen, Server};
use crate::peer::{Action, DialError, Peer, Time};

pub use apps::AppsAnswer;
pub use settings::{Role, Settings, StreamAnswer};

/// A heartbeat is due after so long on each stream, unless the settings say otherwise: CR and LF,
/// in two writes.
pub const HEARTBEAT_MS: u64 = 10_000;
/// How long a request is held while there is no leader, before it is answered 502.
pub const NO_LEADER_MS: u64 = 2_750;

/// One Marathon.
#[derive(Debug, Default)]
pub struct Marathon {
    /// How it answers; may be changed at any time.
    pub settings: Settings,
    server: Server,
    apps: BTreeMap<String, Value>,
    /// The apps as they are sent, with explicit nulls or without, until one changes; and how many
    /// strange ones are among them.
    written: Option<((bool, usize), Vec<u8>)>,
    streams: BTreeMap<u64, Stream>,
    deployments: Vec<Deployment>,
    deployment_count: u64,
    seen: Vec<Seen>,
    published: Vec<Published>,
    clock: Time,
}

/// An event that was published, whether anybody listened or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// When.
    pub at: Time,
    /// The name of the event.
    pub name: String,
}

/// One client of the event stream.
#[derive(Debug)]
struct Stream {
    /// The events it wants; empty for all.
    wanted: BTreeSet<String>,
    heartbeat_ms: u64,
}

/// What is being carried out, and how it ends.
#[derive(Debug)]
struct Deployment {
    due_ms: u64,
    events: Vec<(&'static str, String)>,
}

impl Marathon {
    /// A Marathon without apps.
    pub fn new(settings: Settings) -> Marathon {
        Marathon { settings, ..Marathon::default() }
    }

    /// Creates or changes one app, as `PUT /v2/apps/ID` does: `api_post_event` and
    /// `group_change_success`. An app without `id` is not taken.
    pub fn put_app(&mut self, now: Time, app: Value) {
        self.clock = now;
        let Some(id) = self.keep(now, app) else { return };
        let app = self.rendered(&self.apps[&id]);
        self.publish("api_post_event", &events::api_post(now, &id, &app));
        self.publish("group_change_success", &events::group_change(now, events::parent(&id)));
        self.deploy(now, "StartApplication", &[id], Vec::new());
    }

    /// Creates or changes several apps at once, as `PUT /v2/apps` does: `group_change_success`
    /// alone.
    pub fn put_apps(&mut self, now: Time, apps: Vec<Value>) {
        self.clock = now;
        let ids: Vec<String> = apps.into_iter().filter_map(|app| self.keep(now, app)).collect();
        self.publish("group_change_success", &events::group_change(now, "/"));
        self.deploy(now, "StartApplication", &ids, Vec::new());
    }

    /// Deletes an app, as `DELETE /v2/apps/ID` does: `group_change_success`, and
    /// `app_terminated_event` when the deployment is over. Says whether there was such an app.
    pub fn delete_app(&mut self, now: Time, id: &str) -> bool {
        self.clock = now;
        if self.apps.remove(id).is_none() {
            return false;
        }
        self.written = None;
        self.publish("group_change_success", &events::group_change(now, events::parent(id)));
        let end = vec![("app_terminated_event", events::app_terminated(now, id))];
        self.deploy(now, "StopApplication", &[id.to_string()], end);
        true
    }

    /// Restarts an app, as `POST /v2/apps/ID/restart` does: `group_change_success` alone.
    pub fn restart_app(&mut self, now: Time, id: &str) {
        self.clock = now;
        self.publish("group_change_success", &events::group_change(now, events::parent(id)));
        self.deploy(now, "RestartApplication", &[id.to_string()], Vec::new());
    }

    /// Changes the apps and tells nobody, as when an event was lost.
    pub fn put_app_silently(&mut self, now: Time, app: Value) {
        self.keep(now, app);
    }

    /// Publishes any event to those who want it; `data` is JSON on one line.
    pub fn publish(&mut self, name: &str, data: &str) {
        let bytes = events::frame(name, data, self.settings.event_lines);
        let filtered = self.settings.event_filter;
        for (conn, stream) in &self.streams {
            if !filtered || stream.wanted.is_empty() || stream.wanted.contains(name) {
                self.server.send(*conn, bytes.clone());
            }
        }
        self.published.push(Published { at: self.clock, name: name.to_string() });
    }

    /// Sends bytes to every client of the event stream, as they are.
    pub fn emit(&mut self, bytes: &[u8]) {
        for conn in self.streams.keys() {
            self.server.send(*conn, bytes);
        }
    }

    /// Closes every event stream, as a Marathon does that is not the leader any more.
    pub fn drop_streams(&mut self) {
        for conn in std::mem::take(&mut self.streams).into_keys() {
            self.server.close(conn);
        }
    }

    /// Sends the beginning of an event to every client of the event stream, and ends the streams.
    pub fn cut_streams(&mut self, name: &str, data: &str, length: usize) {
        let mut bytes = events::frame(name, data, self.settings.event_lines);
        bytes.truncate(length.min(bytes.len() - 1));
        self.emit(&bytes);
        self.drop_streams();
    }

    /// The list of apps as `/v2/apps` has it now: the whole body, unspoilt.
    pub fn list(&mut self) -> String {
        let apps = std::mem::take(&mut self.settings.apps);
        let reply = self.apps_reply();
        self.settings.apps = apps;
        match reply.body {
            Body::Counted(text) | Body::Chunked(text, _) => {
                String::from_utf8_lossy(&text).into_owned()
            }
            Body::Cut(..) | Body::UntilClose(_) | Body::None => String::new(),
        }
    }

    /// How many event streams are open.
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    /// The apps, by their id.
    pub fn apps(&self) -> &BTreeMap<String, Value> {
        &self.apps
    }

    /// Every request, in the order they came, as far as they are remembered.
    pub fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// Every event, in the order they were published.
    pub fn published(&self) -> &[Published] {
        &self.published
    }

    fn keep(&mut self, now: Time, mut app: Value) -> Option<String> {
        let id = app.get("id")?.as_str()?.to_string();
        if let Some(members) = app.as_object_mut() {
            let version = Value::from(crate::date::rfc3339_ms(now.unix_ms));
            members.entry("version").or_insert(version);
        }
        self.apps.insert(id.clone(), app);
        self.written = None;
        Some(id)
    }

    /// Publishes `deployment_info` now and the end of it later, where deployments are simulated.
    fn deploy(
        &mut self,
        now: Time,
        action: &str,
        ids: &[String],
        mut end: Vec<(&'static str, String)>,
    ) {
        let Some(pause_ms) = self.settings.deployment_ms else { return };
        self.deployment_count += 1;
        let plan = events::plan(now, self.deployment_count, action, ids);
        self.publish("deployment_info", &events::deployment_info(now, &plan));
        let later = now.plus_ms(pause_ms);
        end.push(("deployment_success", events::deployment_success(later, &plan)));
        self.deployments.push(Deployment { due_ms: later.mono_ms, events: end });
    }

    fn rendered(&self, app: &Value) -> Value {
        if self.settings.explicit_nulls { apps::with_nulls(app) } else { app.clone() }
    }

    fn answer_requests(&mut self, now: Time) {
        while let Some(request) = self.server.next_request() {
            let status = self.answer(now, &request);
            if self.settings.keep_seen {
                let Request { conn, method, target, .. } = request;
                self.seen.push(Seen { at: now, conn, method, target, status });
            }
        }
    }

    /// Answers one request and says with which status.
    fn answer(&mut self, now: Time, request: &Request) -> u16 {
        if self.settings.role == Role::NoLeader && request.path() != "/ping" {
            let reply = Reply::html(502, "Leader not available");
            self.server.reply_at(now.mono_ms + NO_LEADER_MS, request.conn, reply);
            return 502;
        }
        if let Some(refusal) = self.refusal(request) {
            return self.reply(now, request, refusal);
        }
        let base = self.settings.base_path.as_str();
        let Some(path) = request.path().strip_prefix(base) else {
            return self.reply(now, request, Reply::html(404, "Not Found"));
        };
        if request.method != "GET" && request.method != "HEAD" {
            return self.reply(now, request, Reply::html(405, "Method Not Allowed"));
        }
        let reply = match path {
            "/v2/events" => return self.attach(now, request),
            "/v2/apps" | "/v2/apps/" => self.apps_reply(),
            "/v2/info" => Reply::new(200, "application/json", self.info().to_string()),
            "/v2/leader" => self.leader_reply(),
            "/ping" => Reply::new(200, "text/plain", "pong"),
            _ => Reply::html(404, "Not Found"),
        };
        self.reply(now, request, reply)
    }

    fn reply(&mut self, now: Time, request: &Request, reply: Reply) -> u16 {
        let status = reply.status;
        if let AppsAnswer::CutAnywhere(length) = self.settings.apps
            && request.path().ends_with("/v2/apps")
        {
            self.server.reply_cut(request.conn, &reply, length);
            return status;
        }
        let reply = match &self.settings.role {
            Role::Standby { .. } if status != 302 => {
                reply.with("X-Marathon-Via", format!("1.1 {}", self.settings.address))
            }
            _ => reply,
        };
        match self.settings.delay_ms {
            0 => self.server.reply(request.conn, &reply),
            delay_ms => self.server.reply_at(now.mono_ms + delay_ms, request.conn, reply),
        }
        status
    }

    /// 401 without the right credentials, 503 while unavailable.
    fn refusal(&self, request: &Request) -> Option<Reply> {
        if let Some((user, password)) = &self.settings.basic_auth {
            let expected = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
            if request.header("Authorization") != Some(&expected) {
                let reply = Reply::html(401, "Unauthorized");
                return Some(reply.with("WWW-Authenticate", "Basic realm=\"Mesosphere\""));
            }
        }
        if let Some(token) = &self.settings.token
            && request.header("Authorization") != Some(&format!("token={token}"))
        {
            let reply = Reply::html(401, "Unauthorized");
            return Some(reply.with("WWW-Authenticate", "acsjwt"));
        }
        self.settings.unavailable.then(|| Reply::html(503, "Service Unavailable"))
    }

    /// Opens an event stream, or says why not.
    fn attach(&mut self, now: Time, request: &Request) -> u16 {
        if let Role::Standby { leader } = &self.settings.role {
            let location = format!("{}{}", leader.trim_end_matches('/'), request.target);
            return self.reply(now, request, Reply::empty(302).with("Location", location));
        }
        if !request.header_all("Accept").any(|value| value == "text/event-stream") {
            let message = "HTTP method GET is not supported by this URL";
            return self.reply(now, request, Reply::html(405, message));
        }
        let conn = request.conn;
        match self.settings.events {
            StreamAnswer::Html => {
                return self.reply(now, request, Reply::html(200, "This is no event stream"));
            }
            StreamAnswer::Error(status) => {
                return self.reply(now, request, Reply::html(status, "Error"));
            }
            StreamAnswer::Silent | StreamAnswer::Normal | StreamAnswer::CloseAtOnce => {}
        }
        let head = Reply::new(200, "text/event-stream;charset=utf-8", "");
        self.server.stream(conn, &head.with("Connection", "close"));
        if self.settings.events == StreamAnswer::CloseAtOnce {
            self.server.close(conn);
            return 200;
        }
        let query = request.query().into_iter();
        let wanted = query.filter(|(name, _)| name == "event_type").map(|(_, value)| value);
        let heartbeat_ms = now.mono_ms + self.settings.heartbeat_ms;
        self.streams.insert(conn, Stream { wanted: wanted.collect(), heartbeat_ms });
        if self.settings.events == StreamAnswer::Normal {
            self.publish("event_stream_attached", &events::attached(now));
        }
        200
    }

    fn apps_reply(&mut self) -> Reply {
        let nulls = self.settings.explicit_nulls;
        let manner = (nulls, self.settings.strange_apps.len());
        let text = match self.written.take() {
            Some((before, text)) if before == manner => text,
            _ => {
                let apps: Vec<Value> = self.apps.values().map(|app| self.rendered(app)).collect();
                let mut apps: Vec<String> = apps.iter().map(Value::to_string).collect();
                apps.extend_from_slice(&self.settings.strange_apps);
                format!("{{\"apps\":[{}]}}", apps.join(",")).into_bytes()
            }
        };
        let content_type = if nulls { "application/json; qs=2" } else { "application/json" };
        let reply = apps::reply(&self.settings.apps, content_type, text.clone());
        self.written = Some((manner, text));
        reply
    }

    fn leader(&self) -> &str {
        match &self.settings.role {
            Role::Standby { leader } => {
                leader.split_once("://").map_or(leader.as_str(), |(_, rest)| rest)
            }
            Role::Leader | Role::NoLeader => &self.settings.address,
        }
    }

    fn info(&self) -> Value {
        let version = if self.settings.explicit_nulls { "1.1.1" } else { "1.11.24" };
        json!({
            "name": "marathon",
            "version": version,
            "elected": self.settings.role == Role::Leader,
            "leader": self.leader(),
            "frameworkId": "20140730-222531-1863654316-5050-10422-0000",
        })
    }

    fn leader_reply(&self) -> Reply {
        Reply::new(200, "application/json", json!({ "leader": self.leader() }).to_string())
    }
}

impl Peer for Marathon {
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
        self.clock = now;
        self.server.received(conn, bytes);
        self.answer_requests(now);
    }

    fn closed(&mut self, _now: Time, conn: u64) {
        self.streams.remove(&conn);
        self.server.closed(conn);
    }

    fn timeout(&mut self, now: Time) {
        self.clock = now;
        self.server.timeout(now.mono_ms);
        self.answer_requests(now);
        for (conn, stream) in &mut self.streams {
            while self.settings.heartbeats && stream.heartbeat_ms <= now.mono_ms {
                stream.heartbeat_ms += self.settings.heartbeat_ms.max(1);
                self.server.send(*conn, &b"\r"[..]);
                self.server.send(*conn, &b"\n"[..]);
            }
        }
        let due: Vec<Deployment> =
            self.deployments.extract_if(.., |each| each.due_ms <= now.mono_ms).collect();
        for (name, data) in due.into_iter().flat_map(|deployment| deployment.events) {
            self.publish(name, &data);
        }
    }

    fn next_timeout(&self) -> Option<u64> {
        let heartbeats = self.streams.values().map(|stream| stream.heartbeat_ms);
        let heartbeats = heartbeats.filter(|_| self.settings.heartbeats);
        let deployments = self.deployments.iter().map(|deployment| deployment.due_ms);
        heartbeats.chain(deployments).chain(self.server.next_timeout()).min()
    }

    fn poll(&mut self) -> Option<Action> {
        self.server.poll()
    }
}

#[cfg(test)]
mod tests;
