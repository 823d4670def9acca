//! `--check` about what keeps challenges away: the labels of the apps against the configuration that
//! marathon-lb makes of them.

use serde_json::{Value, json};
use stand_ins::marathon_lb::{Options, written};

use crate::check::{DOMAIN, Ground, PING, PONG_LINE};
use crate::frontend::{Frontend, ListenerKind};
use crate::process::{Outcome, expect, local};
use crate::rules::{HTTP_LABEL, HTTPS_LABEL, labels, old_variants, ours, without_allow};
use crate::{Test, Tool};

pub(crate) const TESTS: &[Test] = &[
    ("a_check_names_what_keeps_challenges_away", &[Tool::LowPorts], kept_away),
    ("a_check_takes_the_old_labels_for_valid", &[Tool::LowPorts], old_labels),
];

impl Ground {
    /// Marathon has our app with these labels and `/shop` with more labels, and marathon-lb, which is in this
    /// group, makes a configuration of them.
    fn publish(&self, own: &Value, more: Value, group: &str) {
        self.publish_as(own, more, Options { group: group.into(), ..Options::default() });
    }

    /// The same of a marathon-lb that was started so.
    fn publish_as(&self, own: &Value, more: Value, options: Options) {
        let own = ours(own);
        let mut shop = crate::site::app("/shop", DOMAIN);
        if let (Some(labels), Value::Object(more)) = (shop["labels"].as_object_mut(), more) {
            labels.insert("HAPROXY_0_VHOST".into(), DOMAIN.into());
            labels.extend(more);
        }
        let mut other = crate::site::app("/other", "");
        other["labels"] =
            json!({"HAPROXY_GROUP": "internal", "HAPROXY_0_VHOST": "other.example.com"});
        let apps = [own, shop, other];
        let dir = self.site.storage.display();
        let certificates = vec![format!("{dir}/certs"), format!("{dir}/default.pem")];
        let options = Options { certificates, ..options };
        let configuration = written(&apps, &options, |_| local(self.site.port)).configuration;
        self.site.lb.with(|lb, _| lb.settings.configuration = configuration);
        for app in apps {
            self.site.marathon.with(|marathon, now| marathon.put_app(now, app));
        }
    }

    /// A check that fails, says all of that, and does not talk of weight.
    fn fails(&self, lines: &[&str]) -> Outcome {
        let (ended, said) = self.check(&[])?;
        for line in lines {
            expect(said.contains(line), || format!("{line:?} is not said:\n{said}"))?;
        }
        expect(ended == Some(1) && !said.contains("WEIGHT"), || said)
    }
}

fn kept_away() -> Outcome {
    let ground = Ground::new()?;
    let front = Frontend::start(ground.address, ListenerKind::Daemon(ground.site.port))?;
    let _daemon = ground.daemon()?;
    // A password of an app.
    let auth = json!({"HAPROXY_0_AUTH": "realm:user:hash"});
    ground.publish(&without_allow(HTTP_LABEL)?, auth.clone(), "external");
    front.open(ListenerKind::Itself("HTTP/1.1 401 Unauthorized".into()));
    let put = "put \"http-request allow if path_{backend}\\n\" before use_backend in \
               HAPROXY_0_HTTP_FRONTEND_ACL_WITH_PATH of /marathon-acme";
    ground.fails(&[
        "warn  label    /shop: HAPROXY_0_AUTH asks for a password for challenges, too: ",
        "only behind a password for www.example.com (HAPROXY_n_AUTH of its app); put",
        "status 401; HAPROXY_n_AUTH of /shop comes first; ",
        put,
    ])?;
    ground.publish(&labels()?, auth, "external");
    front.open(ListenerKind::Daemon(ground.site.port));
    ground.says(&[], 0, &[PONG_LINE, "0 warnings, 0 failed"])?;
    behind_a_redirect(&ground, &front)?;
    // Our own app, with one thing amiss at a time.
    front.open(ListenerKind::Itself("HTTP/1.1 503 Service Unavailable".into()));
    let no_rule =
        "has no rule for /.well-known/acme-challenge/ on port 80; correct the labels of /marathon";
    for (name, value, line) in [
        ("HAPROXY_0_VHOST", None, "HAPROXY_0_VHOST: is missing, and without a host"),
        ("HAPROXY_0_PATH", None, "HAPROXY_0_PATH: is missing, so that no challenge is sent"),
        (
            "HAPROXY_0_GROUP",
            Some("internal"),
            "for group \"internal\", and --group is \"external\"",
        ),
    ] {
        let mut amiss = labels()?;
        match value {
            Some(value) => amiss[name] = value.into(),
            None => drop(amiss.as_object_mut().and_then(|it| it.remove(name))),
        }
        ground.publish(&amiss, json!({}), "external");
        ground.fails(&[line, no_rule])?;
    }
    // marathon-lb in another group.
    ground.publish(&labels()?, json!({}), "internal");
    let line =
        "the apps that it publishes are in group \"internal\", and --group is \"external\"; start";
    ground.fails(&[line])
}

/// A redirect of an app, and no rule on port 443.
fn behind_a_redirect(ground: &Ground, front: &Frontend) -> Outcome {
    let mut lacking = labels()?;
    lacking.as_object_mut().ok_or("no labels")?.remove(HTTPS_LABEL);
    ground.publish(&lacking, json!({"HAPROXY_0_REDIRECT_TO_HTTPS": "true"}), "external");
    let location = format!("Location: https://{DOMAIN}{PING}");
    front.open(ListenerKind::Itself(format!("HTTP/1.1 301 x\r\n{location}")));
    let give = "give /marathon-acme HAPROXY_0_HTTPS_FRONTEND_ACL_WITH_PATH as in the README";
    let route = format!("HAPROXY_n_REDIRECT_TO_HTTPS of /shop comes first; {give}");
    ground.fails(&[
        "/shop: HAPROXY_0_REDIRECT_TO_HTTPS sends challenges to port 443, and ",
        &route,
    ])?;
    // The label for port 443 is there, and marathon-lb has a front end there for each host.
    let redirect = json!({"HAPROXY_0_REDIRECT_TO_HTTPS": "true"});
    let options = Options { group: "external".into(), groups_https: true, ..Options::default() };
    ground.publish_as(&labels()?, redirect, options);
    ground.fails(&[
        "HAPROXY_n_REDIRECT_TO_HTTPS of /shop comes first, and with --group-https-by-vhost \
                    marathon-lb has no rule for challenges on port 443; take \
                    HAPROXY_n_REDIRECT_TO_HTTPS off /shop, or start marathon-lb without",
    ])
}

fn old_labels() -> Outcome {
    let ground = Ground::new()?;
    let _front = Frontend::start(ground.address, ListenerKind::Daemon(ground.site.port))?;
    let _daemon = ground.daemon()?;
    for (name, http, https) in old_variants() {
        let mut labels = labels()?;
        labels[HTTP_LABEL] = http.into();
        match https {
            Some(https) => labels[HTTPS_LABEL] = https.into(),
            None => drop(labels.as_object_mut().and_then(|it| it.remove(HTTPS_LABEL))),
        }
        ground.publish(&labels, json!({}), "external");
        let (status, said) = ground.check(&[])?;
        let is_well = status == Some(0) && said.contains("0 warnings, 0 failed");
        expect(is_well && said.contains(PONG_LINE), || format!("{name}\n{said}"))?;
        // A password of an app comes before both.
        ground.publish(&labels, json!({"HAPROXY_0_AUTH": "realm:user:hash"}), "external");
        let blocked = "/shop: HAPROXY_0_AUTH asks for a password for challenges, too";
        ground.fails(&[blocked, "only behind a password for www.example.com"])?;
    }
    Ok(())
}
