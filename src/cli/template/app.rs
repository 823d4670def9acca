//! `--print-app-definition`: the app that runs our image on Marathon 1.5 and later. Its labels are those
//! by which marathon-lb sends challenges to it, as the README has them.

use serde_json::{Map, Value, json};

use super::super::UsageError;
use super::super::options;
use super::{Choice, Choices, Filled, PLACEHOLDER};

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
const HTTP_ACL: &str =
    "  acl path_{backend} path_beg {path}\n  use_backend {backend} if path_{backend}\n";
const HTTPS_ACL: &str = "  use_backend {backend} if path_{backend}\n";

/// # Errors
/// The port is left to the system, so that nobody could be sent there.
pub(super) fn check(choices: &Choices) -> Result<(), UsageError> {
    match choices.config.listen.port {
        0 => {
            let fix = "Marathon has to know the port; write --listen :8000".to_string();
            Err(UsageError::Value { option: "listen", value: ":0".into(), fix })
        }
        _ => Ok(()),
    }
}

/// The definition.
pub(super) fn app(choices: &Choices) -> Filled {
    let config = &choices.config;
    let arguments = choices.options.iter().map(Choice::argument);
    let arguments: Vec<String> = arguments.chain([choices.storage_dir.clone()]).collect();
    let group = if config.group == "*" { GROUP } else { &config.group };
    let image = format!("marathon-acme:{}", env!("CARGO_PKG_VERSION"));
    let mut app = json!({
        "id": ID,
        "args": arguments,
        "instances": 1,
        "cpus": CPUS,
        "mem": MEM,
        "networks": [{"mode": "container/bridge"}],
        "container": {
            "type": "DOCKER",
            "docker": {"image": image},
            "portMappings": [
                {"containerPort": config.listen.port, "hostPort": 0, "protocol": "tcp", "name": "http"}
            ],
            "volumes": [{
                "containerPath": choices.storage_dir,
                "hostPath": choices.storage_dir,
                "mode": "RW",
            }],
        },
        "labels": {
            "HAPROXY_GROUP": group,
            "HAPROXY_0_VHOST": VHOST,
            "HAPROXY_0_PATH": PATH,
            "HAPROXY_0_BACKEND_WEIGHT": "2",
            "HAPROXY_0_HTTP_FRONTEND_ACL_WITH_PATH": HTTP_ACL,
            "HAPROXY_0_HTTPS_FRONTEND_ACL_WITH_PATH": HTTPS_ACL,
        },
        "healthChecks": [{
            "protocol": "MARATHON_HTTP",
            "path": "/health",
            "portIndex": 0,
            // It answers as soon as it runs; what takes time is to fetch the image.
            "gracePeriodSeconds": 60,
            "intervalSeconds": 20,
            "timeoutSeconds": 10,
            "maxConsecutiveFailures": 3,
        }],
        // The new one is there before the old one goes: two share the storage, and one is active.
        "upgradeStrategy": {"minimumHealthCapacity": 1, "maximumOverCapacity": 1},
    });
    let env = environment(choices);
    if !env.is_empty() {
        app["env"] = Value::Object(env);
    }
    Filled { text: format!("{app:#}\n"), notes: notes(choices, &image) }
}

/// What is no argument: passwords, since everybody sees those, and the user to switch to.
fn environment(choices: &Choices) -> Map<String, Value> {
    let secrets = choices.secrets.iter().map(|it| (it.variable(), json!(it.value)));
    let user = choices.config.user.as_ref();
    let mut environment = Map::new();
    environment
        .extend(secrets.chain(user.map(|user| (options::variable(options::USER), json!(user)))));
    environment
}

/// What the operator has to look at, for the program cannot know it.
fn notes(choices: &Choices, image: &str) -> Vec<String> {
    let dir = &choices.storage_dir;
    let mut notes = vec![
        format!("image {image}: write where your agents find it"),
        format!("hostPath {dir}: has to be what every marathon-lb shares, on every agent"),
    ];
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
