//! `/v2/apps` of a large cluster as Marathon writes it: apps of different shapes, each about 4 KB of
//! environment, labels, health checks and the rest. The same bytes at each run. Never one long run of
//! the same letter: parsers are fast there.

use std::fmt::Write as _;

use stand_ins::random::Random;

const WORDS: [&str; 16] = [
    "frontend",
    "checkout",
    "session",
    "replica",
    "metrics",
    "payment",
    "catalog",
    "worker",
    "gateway",
    "billing",
    "search",
    "mailer",
    "thumbnail",
    "\u{fc}bersetzung",
    "path\\\"to\\\"",
    "line\\nbreak",
];
const VARIABLES: u64 = 28;
const LABELS: u64 = 9;

/// Writes apps, one after the other.
pub(crate) struct Cluster(Random);

impl Cluster {
    pub(crate) fn new() -> Cluster {
        Cluster(Random::new(1))
    }

    /// The whole answer.
    pub(crate) fn answer(count: usize) -> Vec<u8> {
        let mut cluster = Cluster::new();
        let apps: Vec<String> = (0..count).map(|number| cluster.app(number)).collect();
        format!("{{\"apps\":[{}]}}", apps.join(",")).into_bytes()
    }

    fn word(&mut self) -> &'static str {
        WORDS[self.0.below(WORDS.len() as u64) as usize]
    }

    /// Words and numbers, as values are.
    fn value(&mut self) -> String {
        match self.0.below(4) {
            0 => self.0.below(100_000).to_string(),
            1 => format!("{:016x}{:016x}", self.0.number(), self.0.number()),
            2 => format!("jdbc:postgresql://{}.internal:5432/{}", self.word(), self.word()),
            _ => {
                let count = self.0.between(2, 12);
                (0..count).map(|_| self.word()).collect::<Vec<_>>().join(" ")
            }
        }
    }

    fn members(&mut self, prefix: &str, count: u64) -> String {
        let mut text = String::new();
        for number in 0..self.0.between(count / 2, count * 3 / 2) {
            let (name, value) = (self.word().len(), self.value());
            let _ = write!(text, r#""{prefix}_{name}_{number}":"{value}","#);
        }
        text
    }

    /// One app.
    pub(crate) fn app(&mut self, number: usize) -> String {
        let mut environment = self.members("SERVICE", VARIABLES);
        environment += r#""LOG_LEVEL":"info","TOKEN":{"secret":"secret0"}"#;
        let mut labels = self.members("team", LABELS);
        let _ = write!(
            labels,
            r#""HAPROXY_GROUP":"external","HAPROXY_0_VHOST":"app-{number}.example.com","#
        );
        let _ = write!(labels, r#""MARATHON_ACME_0_DOMAIN":"app-{number}.example.com""#);
        let (cpus, mem) = (self.0.between(1, 40) as f64 / 10.0, self.0.between(64, 8192));
        let (path, command) = (self.word().len(), self.value());
        let tail = self.tail(number);
        format!(
            r#"{{"id":"/group-{group}/app-{number}","acceptedResourceRoles":["*"],
"backoffFactor":1.15,"backoffSeconds":1,"cmd":"{command}","constraints":[["hostname","UNIQUE"]],
"container":{{"type":"DOCKER","docker":{{"forcePullImage":true,"image":"registry.internal/app:{number}",
"parameters":[{{"key":"log-driver","value":"journald"}}],"privileged":false}},"volumes":[
{{"containerPath":"/data","hostPath":"/mnt/{number}","mode":"RW"}}],"portMappings":[
{{"containerPort":8080,"hostPort":0,"labels":{{}},"name":"http","protocol":"tcp","servicePort":{port}}},
{{"containerPort":9102,"hostPort":0,"labels":{{}},"name":"admin","protocol":"tcp","servicePort":0}}]}},
"cpus":{cpus},"disk":0,"env":{{{environment}}},"executor":"","healthChecks":[
{{"gracePeriodSeconds":300,"intervalSeconds":60,"maxConsecutiveFailures":3,"path":"/health{path}",
"portIndex":0,"protocol":"MESOS_HTTP","timeoutSeconds":20,"delaySeconds":15}},
{{"command":{{"value":"test -f /run/{number}"}},"protocol":"COMMAND"}}],"instances":{instances},
"labels":{{{labels}}},"maxLaunchDelaySeconds":3600,"mem":{mem},"gpus":0,{tail}}}"#,
            group = number % 40,
            port = 10_000 + number % 5_000,
            instances = 1 + number % 7,
        )
    }

    fn tail(&mut self, number: usize) -> String {
        let running = 1 + number % 7;
        format!(
            r#""networks":[{{"mode":"container/bridge"}}],"requirePorts":false,"upgradeStrategy":
{{"maximumOverCapacity":1,"minimumHealthCapacity":0.5}},"version":"2026-05-{day:02}T09:12:33.{ms:03}Z",
"versionInfo":{{"lastScalingAt":"2026-05-01T09:12:33.000Z","lastConfigChangeAt":"2026-05-01T09:12:33.000Z"}},
"killSelection":"YOUNGEST_FIRST","unreachableStrategy":{{"inactiveAfterSeconds":0,"expungeAfterSeconds":0}},
"tasksStaged":0,"tasksRunning":{running},"tasksHealthy":{running},"tasksUnhealthy":0,"deployments":[]"#,
            day = 1 + number % 28,
            ms = self.0.below(1_000),
        )
    }
}
