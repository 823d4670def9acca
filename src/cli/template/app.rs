//! `--print-app-definition`: the app that runs our image on Marathon 1.5 and later. Its labels are those
//! by which marathon-lb sends challenges to it, as the README has them. Must publish no port but the one
//! for challenges, and leave the container no privilege that the program does not use.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Map, Value, json};

use super::super::UsageError;
use super::super::options;
use super::{Choice, Choices, FIRST_FREE_PORT, Filled, PLACEHOLDER};
use crate::config::Config;

const ID: &str = "/marathon-acme";
/// What a strange group gets: every marathon-lb has this one unless it is told otherwise.
const GROUP: &str = "external";
/// Under it the challenges of every domain arrive; which it is does not matter to anybody.
const VHOST: &str = "marathon-acme.example.com";
/// In MiB. Under attack the process stays under 96 (the bound that the tests of the listener hold it
/// to); the rest is what the system has on its behalf.
const MEM: u32 = 128;
/// It waits for most of its life.
const CPUS: f64 = 0.1;
const PATH: &str = "/.well-known/acme-challenge/";
/// `http-request allow`: `HAPROXY_n_AUTH` of any app would ask for a password before every rule.
const HTTP_ACL: &str = "  acl path_{backend} path_beg {path}\n  \
                        http-request allow if path_{backend}\n  \
                        use_backend {backend} if path_{backend}\n";
const HTTPS_ACL: &str = "  http-request allow if path_{backend}\n  \
                         use_backend {backend} if path_{backend}\n";
/// Where the operator's listener is unless `--admin-listen` says so: the first that is free.
const ADMIN_PORTS: [u16; 2] = [8001, 8002];
/// The ports are mapped in this order. marathon-lb publishes the first one alone.
const ADMIN_PORT_INDEX: u32 = 1;
/// A user without a name or a right on any usual machine. The storage has to belong to it.
const UNPRIVILEGED_USER: &str = "65532:65532";
/// Files that may be closed to most users.
const SECRET_FILES: [&str; 2] = ["eab-hmac-key", "marathon-token"];

/// # Errors
/// A port is left to the system, so that nobody could be sent there.
pub(super) fn check(choices: &Choices) -> Result<(), UsageError> {
    let config = &choices.config;
    let admin = config.admin_listen.map(|admin| ("admin-listen", admin, ":8001"));
    for (option, listen, example) in [("listen", config.listen, ":8000")].into_iter().chain(admin) {
        if listen.port == 0 {
            let fix = format!("Marathon has to know the port; write --{option} {example}");
            return Err(UsageError::Value { option, value: ":0".into(), fix });
        }
    }
    Ok(())
}

/// The port of the operator's listener, and whether it is ours to choose.
fn admin_port(config: &Config) -> (u16, bool) {
    match config.admin_listen {
        Some(listen) => (listen.port, false),
        None if config.listen.port == ADMIN_PORTS[0] => (ADMIN_PORTS[1], true),
        None => (ADMIN_PORTS[0], true),
    }
}

/// The definition.
pub(super) fn app(choices: &Choices) -> Filled {
    let config = &choices.config;
    let (admin_port, is_added) = admin_port(config);
    let added = is_added.then(|| format!("--admin-listen=:{admin_port}"));
    let arguments = choices.options.iter().map(Choice::argument).chain(added);
    let arguments: Vec<String> = arguments.chain([choices.storage_dir.clone()]).collect();
    let group = if config.group == "*" { GROUP } else { &config.group };
    let image = format!("marathon-acme:{}", env!("CARGO_PKG_VERSION"));
    let app = json!({
        "id": ID,
        "args": arguments,
        "instances": 1,
        "cpus": CPUS,
        "mem": MEM,
        "networks": [{"mode": "container/bridge"}],
        "container": {
            "type": "DOCKER",
            "docker": {"image": image, "parameters": parameters([config.listen.port, admin_port])},
            "portMappings": [port("http", config.listen.port), port("admin", admin_port)],
            "volumes": [{
                "containerPath": choices.storage_dir,
                "hostPath": choices.storage_dir,
                "mode": "RW",
            }],
        },
        "labels": {
            "HAPROXY_0_GROUP": group,
            "HAPROXY_0_VHOST": VHOST,
            "HAPROXY_0_PATH": PATH,
            "HAPROXY_0_BACKEND_WEIGHT": "2",
            "HAPROXY_0_HTTP_FRONTEND_ACL_WITH_PATH": HTTP_ACL,
            "HAPROXY_0_HTTPS_FRONTEND_ACL_WITH_PATH": HTTPS_ACL,
        },
        "healthChecks": [{
            // Asked from within the container's network, on the port that marathon-lb does not publish.
            "protocol": "MESOS_HTTP",
            "path": "/health",
            "portIndex": ADMIN_PORT_INDEX,
            // It answers as soon as it runs; what takes time is to fetch the image.
            "gracePeriodSeconds": 60,
            "intervalSeconds": 20,
            "timeoutSeconds": 10,
            "maxConsecutiveFailures": 3,
        }],
        // The new one is there before the old one goes: two share the storage, and one is active.
        "upgradeStrategy": {"minimumHealthCapacity": 1, "maximumOverCapacity": 1},
        "env": environment(choices),
    });
    Filled { text: format!("{app:#}\n"), notes: notes(choices, &image) }
}

/// Of the order in which ports are mapped, marathon-lb's labels count the index.
fn port(name: &str, port: u16) -> Value {
    json!({"containerPort": port, "hostPort": 0, "protocol": "tcp", "name": name})
}

/// What Docker is to take away: everything but the storage is read-only, no program has more rights than
/// the one that started it, and the only capabilities are those to bind the ports and to switch the user,
/// who has none.
fn parameters(ports: [u16; 2]) -> Vec<Value> {
    let parameter = |key: &str, value: &str| json!({"key": key, "value": value});
    let bind = ports.iter().any(|port| *port < FIRST_FREE_PORT).then_some("NET_BIND_SERVICE");
    let capabilities = ["SETUID", "SETGID"].into_iter().chain(bind);
    let mut parameters = vec![parameter("read-only", "true"), parameter("cap-drop", "ALL")];
    parameters.extend(capabilities.map(|name| parameter("cap-add", name)));
    parameters.push(parameter("security-opt", "no-new-privileges"));
    parameters
}

fn user(choices: &Choices) -> &str {
    choices.config.user.as_deref().unwrap_or(UNPRIVILEGED_USER)
}

/// What is no argument: passwords, since everybody sees those, and the user to switch to.
fn environment(choices: &Choices) -> Map<String, Value> {
    let secrets = choices.secrets.iter().map(|it| (it.variable(), json!(it.value)));
    let user = (options::variable(options::USER), json!(user(choices)));
    let mut environment = Map::new();
    environment.extend(secrets.chain([user]));
    environment
}

/// What the operator has to look at, for the program cannot know it.
fn notes(choices: &Choices, image: &str) -> Vec<String> {
    let (dir, user) = (&choices.storage_dir, user(choices));
    let mut notes = vec![
        format!("image {image}: write where your agents find it"),
        format!("hostPath {dir}: has to be what every marathon-lb shares, on every agent"),
        format!(
            "hostPath {dir}: has to belong to user {user} with all that is in it, or the storage cannot \
             be written; chown -R {user} {dir}"
        ),
    ];
    let is_reached = |ip: IpAddr| ip.is_unspecified() || ip == Ipv4Addr::LOCALHOST;
    if choices.config.admin_listen.and_then(|it| it.ip).is_some_and(|ip| !is_reached(ip)) {
        notes.push(
            "--admin-listen: Mesos asks for /health at 127.0.0.1 in the container; leave the address out"
                .to_string(),
        );
    }
    let config = &choices.config;
    if config.listen.ip.is_some_and(|ip| ip.is_loopback()) {
        notes.push("--listen: no load balancer reaches this address; leave it out".to_string());
    }
    if config.admin_listen.is_some_and(|admin| admin.port == config.listen.port) {
        notes.push("--admin-listen: has to have another port than --listen".to_string());
    }
    for file in choices.options.iter().filter(|it| SECRET_FILES.contains(&it.spec.long)) {
        notes.push(format!(
            "{} {}: has to be readable for root, which has no CAP_DAC_OVERRIDE there, and for user {user}",
            file.spec.flag(),
            file.value
        ));
    }
    for (what, path) in choices.paths().skip(1) {
        notes.push(format!("{what} {path}: is a path in the container; mount it there"));
    }
    for secret in &choices.secrets {
        let (flag, variable) = (secret.spec.flag(), secret.variable());
        notes.push(format!(
            "{flag} has a password, which is left out: write it into env {variable}, in place of \
             {PLACEHOLDER}"
        ));
    }
    notes
}
