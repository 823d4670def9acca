//! Answers that are unlike those of the RFCs, and of which the best is made: of a CA, from which a
//! certificate comes all the same, and of a load balancer.

use std::fs;

use marathon_acme::log::message::{CHAIN_MISSING, CHAIN_REORDERED};
use serde_json::Value;
use stand_ins::ca::{Effect, Fault, Problem, RetryAfter, Settings, Step};
use stand_ins::driver::Options;
use stand_ins::http::{Reply, Request};

use crate::Test;
use crate::fixed::Fixed;
use crate::process::{Outcome, expect, get, wait_until};
use crate::site::{check_file, play, text};
use crate::stand::{Stand, kill};

pub(crate) const TESTS: &[Test] = &[
    ("what_the_ca_does_not_know_yet_is_asked_for_again", &[], not_there_yet),
    ("what_is_issued_is_fetched_after_a_restart", &[], restarted),
    ("a_chain_whose_certificates_are_joined_is_stored_whole", &[], joined),
    ("a_chain_out_of_order_is_stored_in_order", &[], out_of_order),
    ("odd_fields_of_an_answer_are_passed_over_and_compression_is_named", &[], fields),
    ("a_leaf_without_its_chain_is_stored_and_warned_of", &[], lone),
];

/// The steps of an order.
const STEPS: [Step; 6] = [
    Step::NewOrder,
    Step::Authorization,
    Step::Challenge,
    Step::Order,
    Step::Finalize,
    Step::Certificate,
];

fn not_there_yet() -> Outcome {
    let stand = Stand::new(Settings::default())?;
    let daemon = stand.start("daemon", &[])?;
    let none = RetryAfter::None;
    let problem = || Problem::new(404, "malformed", "no such object");
    let effects = [
        Effect::Refuse(problem(), none),
        Effect::Page { status: 404, html: true, retry_after: none },
        // Some answer so before all their machines know of a certificate.
        Effect::Refuse(Problem::new(403, "unauthorized", "not yours"), none),
    ];
    let mut issued = 0;
    for (place, effect) in effects.into_iter().enumerate() {
        for step in STEPS {
            if place == 2 && step != Step::Certificate {
                continue;
            }
            let times = if step == Step::Certificate { 2 } else { 1 };
            let fault = Fault { step, effect: effect.clone(), times, tag: issued };
            stand.with_ca(|ca| ca.settings.faults.push(fault));
            let name = format!("n{issued}.example.com");
            stand.site.deploy(&format!("/n{issued}"), &name);
            stand.site.wait_for_certificate(&daemon, &name)?;
            issued += 1;
            let fired = stand.with_ca(|ca| ca.fired().len());
            expect(stand.with_ca(|ca| ca.settings.faults.iter().all(|it| it.times == 0)), || {
                format!("{step:?} did not fail, {fired} fired")
            })?;
            let orders = stand.count("POST", "/new-order", 201);
            let counts = (orders, stand.issued());
            expect(counts == (issued, issued), || {
                format!("{step:?}: {counts:?}\n{}", daemon.output())
            })?;
        }
    }
    Ok(())
}

/// The program is killed between the request to issue and the download, which the CA refuses for a while: the
/// next run fetches the certificate, whose key the earlier one has made.
fn restarted() -> Outcome {
    const NAME: &str = "a.example.com";
    let stand = Stand::new(Settings::default())?;
    let refusal =
        Effect::Refuse(Problem::new(404, "malformed", "no such object"), RetryAfter::None);
    let fault = Fault { step: Step::Certificate, effect: refusal, times: u32::MAX, tag: 0 };
    stand.with_ca(|ca| ca.settings.faults.push(fault));
    stand.site.deploy("/a", NAME);
    for run in 1..=2 {
        let mut daemon = stand.start(&format!("daemon{run}"), &[])?;
        wait_until("the certificate is refused", || {
            (stand.with_ca(|ca| ca.fired().len()) >= run).then_some(())
        })?;
        kill(&mut daemon)?;
    }
    let state = stand.site.storage.join("state.json");
    let held = || fs::read_to_string(&state).map_err(text);
    expect(held()?.contains("PRIVATE KEY"), || "the key is not kept".into())?;
    stand.with_ca(|ca| ca.settings.faults.clear());
    let daemon = stand.start("daemon3", &[])?;
    stand.site.wait_for_certificate(&daemon, NAME)?;
    let counts = (stand.count("POST", "/new-order", 201), stand.issued());
    expect(counts == (1, 1), || format!("{counts:?}\n{}", daemon.output()))?;
    // The key is in its file alone from then on.
    wait_until("the key is forgotten", || {
        held().is_ok_and(|it| !it.contains("PRIVATE KEY")).then_some(())
    })
}

/// A certificate of which the CA rewrites the chain, and the log; so many sections are stored.
fn rewritten(rewrite: fn(&str) -> String, expected: usize) -> Outcome<String> {
    const NAME: &str = "a.example.com";
    let stand = Stand::new(Settings::default())?;
    let effect = Effect::Rewritten(rewrite);
    let fault = Fault { step: Step::Certificate, effect, times: 1, tag: 0 };
    stand.with_ca(|ca| ca.settings.faults.push(fault));
    stand.site.deploy("/a", NAME);
    let mut daemon = stand.start("daemon", &[])?;
    stand.site.wait_for_certificate(&daemon, NAME)?;
    daemon.wait_until_issued(stand.site.port, 1)?;
    let path = stand.site.certificate(NAME);
    if expected > 1 {
        check_file(&path, 0o600)?;
    }
    let file = fs::read_to_string(&path).map_err(text)?;
    let sections = file.matches("-----BEGIN CERTIFICATE-----\n").count();
    expect(stand.with_ca(|ca| ca.fired().len()) == 1, || "the chain was as usual".into())?;
    expect(sections == expected && stand.issued() == 1, || file.clone())?;
    Ok(daemon.output())
}

fn joined() -> Outcome {
    let said = rewritten(|chain| chain.replace("-----\n-----BEGIN", "----------BEGIN"), 2)?;
    expect(!said.contains(CHAIN_MISSING), || said)
}

fn lone() -> Outcome {
    let first =
        |chain: &str| chain.split_inclusive("-----END CERTIFICATE-----\n").take(1).collect();
    let said = rewritten(first, 1)?;
    expect(said.contains(CHAIN_MISSING), || said)
}

fn out_of_order() -> Outcome {
    let rewrite = |chain: &str| {
        let sections = chain.split_inclusive("-----END CERTIFICATE-----\n");
        let mut sections: Vec<&str> = sections.filter(|it| it.contains("BEGIN")).collect();
        sections.reverse();
        [&sections[..], &sections[..]].concat().concat()
    };
    let said = rewritten(rewrite, 2)?;
    expect(said.contains(CHAIN_REORDERED), || said)
}

/// Load balancers behind proxies that send what no RFC allows any more, or compress what nobody asked for.
fn fields() -> Outcome {
    let stand = Stand::new(Settings::default())?;
    let odd = |_: &Request| {
        let reply = Reply::new(200, "text/plain", "Sent");
        reply.with("X-Folded", "a\r\n b").with("X Odd", "c").with("Bad[name]", "d")
    };
    let compressed =
        |_: &Request| Reply::new(200, "text/plain", "Sent").with("Content-Encoding", "gzip");
    let odd = play(Fixed::new(odd), Options::default())?;
    let compressed = play(Fixed::new(compressed), Options::default())?;
    let urls = format!("--lb=http://{},http://{}", odd.address(), compressed.address());
    stand.site.deploy("/a", "a.example.com");
    let daemon = stand.start("daemon", &[&urls])?;
    stand.site.wait_for_certificate(&daemon, "a.example.com")?;
    let status = || -> Outcome<Value> {
        let answer = get(stand.site.port, "/status.json")?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("no body")?;
        serde_json::from_str(body).map_err(text)
    };
    let told = || {
        let balancers = status().ok()?["load_balancers"].clone();
        let problem = balancers[1]["addresses"][0].to_string();
        let fits = balancers[0]["in_sync"] == true && problem.contains("Content-Encoding gzip");
        fits.then_some(())
    };
    let seen = wait_until("one is in sync, and the other's encoding is named", told);
    seen.map_err(|error| format!("{error}\n{:?}\n{}", status(), daemon.output()))
}
