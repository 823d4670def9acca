//! A rolling upgrade as Marathon makes one: behind HAProxy, in front of Pebble, the new instance is
//! started, then the old one is stopped, again and again, while labels come in.

use std::collections::BTreeSet;

use marathon_acme::log::message::{ORDER_FAILED, ORDER_RESUMED};

use crate::process::{Outcome, expect, free_port};
use crate::real::{HaProxy, Pebble};
use crate::site::Site;
use crate::stand::stop;
use crate::{Test, Tool};

use super::{chance, rounds, sleep_ms, wait_for_withdrawal};

pub(crate) const TESTS: &[Test] =
    &[("instances_replaced_in_turn_lose_no_validation", &[Tool::Pebble, Tool::HaProxy], rolling)];

/// Pebble looks at a challenge after a while of up to so many seconds.
const VALIDATION_SECONDS: &str = "2";

/// The authorizations of which Pebble's log says that they were set so, once for each look at a
/// challenge: an instance that goes on with an order may answer one a second time.
fn set<'a>(log: &'a str, status: &str) -> Vec<&'a str> {
    let words = format!(" set {status} by ");
    let line = |line: &'a str| line.split_once(&words)?.0.split(' ').next_back();
    log.lines().filter_map(line).collect()
}

fn rolling() -> Outcome {
    let (mut chance, rounds) = (chance(4), rounds(4));
    let site = Site::new()?;
    let http_port = free_port()?;
    let slow = [("PEBBLE_VA_NOSLEEP", "0"), ("PEBBLE_VA_SLEEPTIME", VALIDATION_SECONDS)];
    let pebble = Pebble::start(site.folder(), http_port, &slow)?;
    let arguments = site.arguments(&pebble.directory(), &pebble.root_file);
    let ports = [free_port()?, free_port()?];
    let mut old = site.instance("i0", ports[0], &arguments)?;
    let control = site.lb.clone();
    let _haproxy = HaProxy::start(site.folder(), &site.storage, http_port, &ports, control)?;
    let mut domains = Vec::new();
    let mut output = String::new();
    for round in 1..=rounds {
        let [old_port, port] = if round % 2 == 0 { [ports[1], ports[0]] } else { ports };
        old.wait_until_attached(old_port)?;
        let mut new = site.instance(&format!("i{round}"), port, &arguments)?;
        new.wait_until_standing_by()?;
        for _ in 0..chance.between(4, 8) {
            domains.push(format!("d{}.example.com", domains.len()));
            site.deploy(&format!("/d{}", domains.len()), &domains[domains.len() - 1]);
            sleep_ms(chance.below(700));
        }
        stop(&mut old)?;
        output += &old.output();
        old = new;
    }
    for domain in &domains {
        site.wait_for_certificate(&old, domain)?;
    }
    wait_for_withdrawal(&site)?;
    output += &old.output();

    let orders = pebble.requests().iter().filter(|line| *line == "POST /order-plz").count();
    let log = pebble.log();
    let (valid, invalid) = (set(&log, "VALID"), set(&log, "INVALID"));
    let proved = valid.iter().collect::<BTreeSet<_>>().len();
    let (domains, resumed) =
        (domains.len(), output.matches(&format!("{ORDER_RESUMED} name=")).count());
    println!(
        "{rounds} instances replaced: {domains} domains, {orders} orders, {resumed} of them gone on \
         with by another instance, {proved} authorizations valid, {} validations, {} failed",
        valid.len() + invalid.len(),
        invalid.len()
    );
    expect(orders == domains && proved == domains, || format!("{orders} orders\n{output}\n{log}"))?;
    let lost = output.contains(&format!(" {ORDER_FAILED} name=")) || !invalid.is_empty();
    expect(!lost, || format!("failed: {invalid:?}\n{output}\n{log}"))?;
    expect(resumed > 0, || "no order was under way at any replacement".into())
}
