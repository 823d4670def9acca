//! A load balancer that is broken in itself in the moment of a new file: the file is good, is served by the
//! other one within seconds, and is never rolled back.

use std::fs;
use std::path::Path;
use std::time::Duration;

use marathon_acme::log::message::ROLLED_BACK;

use super::{Pair, within};
use crate::process::{Outcome, expect, free_port, get};
use crate::site::text;
use crate::{Test, Tool};

pub(crate) const TESTS: &[Test] = &[(
    "a_load_balancer_broken_in_itself_is_no_reason_to_roll_back",
    &[Tool::Pebble, Tool::HaProxy],
    broken,
)];

/// The canary keeps the others waiting for 15 s at most.
const SECONDS: Duration = Duration::from_secs(30);

/// The first one reloads this configuration from now on.
fn rewrite(pair: &Pair, config: &str) -> Outcome {
    pair.first.haproxy.as_ref().ok_or("no HAProxy")?.rewrite(config)
}

/// The app's label has one more name, which the second one serves; the first one's problem is told.
fn extended(pair: &Pair, app: &str, new: &str) -> Outcome {
    pair.real.site.deploy(&format!("/{app}"), &format!("{app}.example.com,{new}"));
    let status = || get(pair.real.site.port, "/status.json").unwrap_or_default();
    let with_log = |it: String| format!("{it}\n{}\n{}", status(), pair.daemon.output());
    let (second, trust) = (crate::process::local(pair.second.ports[1]), &pair.real.trust);
    within(SECONDS, &format!("the second one serves {new}"), || {
        stand_ins::tls::shown(second, new, trust).is_ok()
    })
    .map_err(with_log)?;
    within(SECONDS, "the first one's problem", || status().contains("it reloaded, but"))
        .map_err(with_log)
}

fn files(folder: &Path) -> Outcome<usize> {
    Ok(fs::read_dir(folder).map_err(text)?.count())
}

fn broken() -> Outcome {
    let pair = Pair::start(true)?;
    let site = &pair.real.site;
    for app in ["a", "b", "g"] {
        let name = format!("{app}.example.com");
        site.deploy(&format!("/{app}"), &name);
        pair.both_serve(&name)?;
    }
    pair.rests()?;
    let (orders, archived) = (pair.real.pebble.orders(), files(&site.storage.join("archive"))?);
    let file = pair.first.folder.join("haproxy.cfg");
    let whole = fs::read_to_string(&file).map_err(text)?;
    // It listens at another port.
    let port = |port: u16| format!("127.0.0.1:{port} ssl");
    rewrite(&pair, &whole.replace(&port(pair.first.ports[1]), &port(free_port()?)))?;
    extended(&pair, "a", "c.example.com")?;
    rewrite(&pair, &whole)?;
    pair.both_serve("c.example.com")?;
    pair.rests()?;
    // It loads the certificates of another directory.
    let empty = pair.first.folder.join("empty");
    fs::create_dir_all(empty.join("certs")).map_err(text)?;
    fs::copy(site.storage.join("default.pem"), empty.join("default.pem")).map_err(text)?;
    pair.first.sees(&empty)?;
    extended(&pair, "b", "d.example.com")?;
    // Its copy of the directory lacks the new file alone.
    fs::copy(site.certificate("a.example.com"), empty.join("certs/a.example.com.pem"))
        .map_err(text)?;
    site.deploy("/e", "e.example.com");
    let (second, trust) = (crate::process::local(pair.second.ports[1]), &pair.real.trust);
    within(SECONDS, "the second one serves e.example.com", || {
        stand_ins::tls::shown(second, "e.example.com", trust).is_ok()
    })?;
    // Likewise with strict-sni: it has no certificate for the name, and serves the others.
    fs::copy(site.certificate("b.example.com"), empty.join("certs/b.example.com.pem"))
        .map_err(text)?;
    rewrite(&pair, &whole.replace(" ssl crt ", " ssl strict-sni crt "))?;
    extended(&pair, "g", "f.example.com")?;
    rewrite(&pair, &whole)?;
    pair.first.sees(&site.storage)?;
    for name in ["d.example.com", "a.example.com", "e.example.com", "g.example.com"] {
        pair.both_serve(name)?;
    }
    pair.rests()?;
    let output = pair.daemon.output();
    expect(!output.contains(ROLLED_BACK), || output.clone())?;
    expect(pair.real.pebble.orders() == orders + 4, || "it was ordered again".into())?;
    let now = files(&site.storage.join("archive"))?;
    expect(now <= archived + 3, || format!("{archived} files in archive/, and now {now}"))
}
