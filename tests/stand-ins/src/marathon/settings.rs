//! How a Marathon answers: who it is in its cluster, which version it plays, and its troubles.

use super::HEARTBEAT_MS;
use super::apps::AppsAnswer;

/// The knobs of one Marathon. The default is a healthy leader of a recent version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its place in the cluster.
    pub role: Role,
    /// Its own `host:port`, as it names itself.
    pub address: String,
    /// User and password, where they are asked for.
    pub basic_auth: Option<(String, String)>,
    /// The token, where DC/OS stands in front and asks for it.
    pub token: Option<String>,
    /// What stands before `/v2` in every path; starts with `/` unless it is empty.
    pub base_path: String,
    /// Nobody listens.
    pub down: bool,
    /// Every request is answered 503.
    pub unavailable: bool,
    /// Every reply but the event stream waits so long.
    pub delay_ms: u64,
    /// How `/v2/apps` is answered.
    pub apps: AppsAnswer,
    /// How `/v2/events` is answered.
    pub events: StreamAnswer,
    /// Whether the stream has its heartbeat; without it, it is silent.
    pub heartbeats: bool,
    /// How long the stream is silent between two heartbeats.
    pub heartbeat_ms: u64,
    /// Whether `event_type` is heeded; versions before 1.3.7 send everything.
    pub event_filter: bool,
    /// Whether events have an `event:` line; very old versions have none.
    pub event_lines: bool,
    /// Whether apps have explicit nulls for what they do not have, as versions up to 1.4 write
    /// them.
    pub explicit_nulls: bool,
    /// JSON that stands in the list of apps as it is, behind the real ones.
    pub strange_apps: Vec<String>,
    /// How long a deployment takes. `None` leaves out `deployment_info`, `deployment_success` and
    /// `app_terminated_event` altogether.
    pub deployment_ms: Option<u64>,
    /// Whether requests are remembered; a run of a year does without.
    pub keep_seen: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            role: Role::Leader,
            address: "marathon.mesos:8080".to_string(),
            basic_auth: None,
            token: None,
            base_path: String::new(),
            down: false,
            unavailable: false,
            delay_ms: 0,
            apps: AppsAnswer::Normal,
            events: StreamAnswer::Normal,
            heartbeats: true,
            heartbeat_ms: HEARTBEAT_MS,
            event_filter: true,
            event_lines: true,
            explicit_nulls: false,
            strange_apps: Vec::new(),
            deployment_ms: None,
            keep_seen: true,
        }
    }
}

/// A Marathon's place in its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Answers everything itself.
    Leader,
    /// Sends clients of the event stream to the leader, and answers the rest on its behalf.
    Standby {
        /// The leader's scheme, host and port: `http://10.0.0.2:8080`.
        leader: String,
    },
    /// Holds requests for a while and then answers 502.
    NoLeader,
}

/// How `/v2/events` is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamAnswer {
    /// As it should be.
    Normal,
    /// 200 and an open stream without `event_stream_attached`.
    Silent,
    /// 200, and then the connection ends without an event, as a fresh leader does.
    CloseAtOnce,
    /// 200 with an HTML page.
    Html,
    /// An HTML page with this status.
    Error(u16),
}
