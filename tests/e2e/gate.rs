//! The gate before `certs/`: what HAProxy or a client would not take never gets there, and what is in
//! service stays.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use marathon_acme::log::message::{
    CERTIFICATE_MISNAMED, CERTIFICATE_REFUSED, CERTIFICATE_UNVERIFIABLE, REFUSED_KEPT,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use serde_json::Value;
use stand_ins::ca::{BadChain, Effect, Fault, Settings, Step};

use crate::Test;
use crate::process::{Outcome, expect, get};
use crate::site::text;
use crate::stand::{Stand, stop};

pub(crate) const TESTS: &[Test] = &[
    ("a_renewal_whose_chain_is_forged_stays_outside", &[], forged_renewal),
    ("a_critical_extension_costs_no_certificate", &[], critical_extension),
];

const NAME: &str = "a.example.com";
const REASON: &str =
    "the signature of certificate 2 of its chain is not that of the next one's key";

/// The body of an answer, as JSON.
fn object(answer: &str) -> Outcome<Value> {
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("no body")?;
    serde_json::from_str(body).map_err(text)
}

/// `certificatePolicies` (RFC 5280 section 4.2.1.4), and a precertificate's poison (RFC 6962 section 3.1).
const POLICIES: &[u64] = &[2, 5, 29, 32];
const POISON: &[u64] = &[1, 3, 6, 1, 4, 1, 11129, 2, 4, 3];

/// A key and a certificate for this name, which has the poison.
fn poisoned(name: &str) -> Outcome<String> {
    let key = KeyPair::generate().map_err(text)?;
    let mut params = CertificateParams::new([name.to_string()]).map_err(text)?;
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2100, 1, 1);
    let mut poison = CustomExtension::from_oid_content(POISON, vec![5, 0]);
    poison.set_criticality(true);
    params.custom_extensions.push(poison);
    Ok(key.serialize_pem() + &params.self_signed(&key).map_err(text)?.pem())
}

fn critical_extension() -> Outcome {
    const FOUND: &str = "found.example.com";
    const OTHER: &str = "other.example.com";
    let stand = Stand::new(Settings::default())?;
    let fault = |oid, times| {
        let effect = Effect::Chain(BadChain::Critical(oid));
        Fault { step: Step::Certificate, effect, times, tag: 1 }
    };
    stand.with_ca(|ca| ca.settings.faults.push(fault(POLICIES, 1)));
    // HAProxy serves what is there already: it is judged by its names, dates and key.
    fs::create_dir_all(stand.site.storage.join("certs")).map_err(text)?;
    let found = poisoned(FOUND)?;
    fs::write(stand.site.certificate(FOUND), &found).map_err(text)?;
    stand.site.deploy("/found", FOUND);
    stand.site.deploy("/a", NAME);
    let mut daemon = stand.start("daemon", &[])?;
    stand.site.wait_for_certificate(&daemon, NAME)?;
    daemon.wait_until_reloaded(stand.site.port, 1)?;
    stop(&mut daemon)?;
    expect(stand.with_ca(|ca| ca.fired().len()) == 1, || "the chain was as usual".into())?;
    // What was stored is taken for what it is by the next run, too.
    let mut second = stand.start("second", &[])?;
    second.wait_until_wanted(stand.site.port, NAME)?;
    stand.with_ca(|ca| ca.settings.faults.push(fault(POISON, 9)));
    stand.site.deploy("/b", OTHER);
    let line = format!("{CERTIFICATE_REFUSED} name={OTHER}");
    second.wait_for(&line)?;
    let said = second.line(&line);
    let reason = "certificate 1 of its chain cannot be verified: no client knows its critical \
                  extension 1.3.6.1.4.1.11129.2.4.3";
    expect(said.contains(reason), || said.clone())?;
    let output = daemon.output() + &second.output();
    let wrong =
        ["key mismatch", "not that of the first", CERTIFICATE_MISNAMED, CERTIFICATE_UNVERIFIABLE];
    expect(!wrong.iter().any(|words| output.contains(words)), || output.clone())?;
    let kept = fs::read_to_string(stand.site.certificate(FOUND)).map_err(text)?;
    let orders = stand.count("POST", "/new-order", 201);
    expect(kept == found && orders == 2, || format!("{orders} orders\n{output}"))?;
    expect(!stand.site.certificate(OTHER).exists(), || output)?;
    stop(&mut second)
}

fn forged_renewal() -> Outcome {
    let stand = Stand::new(Settings::default())?;
    stand.site.deploy("/a", NAME);
    let mut daemon = stand.start("daemon", &["--san"])?;
    stand.site.wait_for_certificate(&daemon, NAME)?;
    daemon.wait_until_reloaded(stand.site.port, 1)?;
    let in_service = fs::read(stand.site.certificate(NAME)).map_err(text)?;
    stand.with_ca(|ca| {
        let effect = Effect::Chain(BadChain::Forged);
        ca.settings.faults.push(Fault { step: Step::Certificate, effect, times: 9, tag: 1 });
    });
    // A name more is a reason to renew at once.
    stand.site.deploy("/a", &format!("{NAME},b.example.com"));
    let refused = format!("{CERTIFICATE_REFUSED} name={NAME}");
    daemon.wait_for(&refused)?;
    let line = daemon.line(&refused);
    expect(line.contains("ERROR") && line.contains(REASON), || line)?;
    daemon.wait_until_failed(stand.site.port, NAME)?;
    daemon.wait_for(&format!("{REFUSED_KEPT} name={NAME}"))?;

    let now = fs::read(stand.site.certificate(NAME)).map_err(text)?;
    expect(now == in_service && stand.files() == 1, || "certs/ has changed".into())?;
    let path = stand.site.storage.join(format!("archive/{NAME}.pem"));
    let mode = fs::metadata(&path).map_err(text)?.permissions().mode() & 0o777;
    expect(mode == 0o600, || format!("mode {mode:o}"))?;
    let archived = fs::read_to_string(&path).map_err(text)?;
    let lines: Vec<&str> = archived.lines().take(3).collect();
    let expected = [
        "# marathon-acme did not put this into certs/a.example.com.pem:",
        &format!("# {REASON}"),
        "-----BEGIN PRIVATE KEY-----",
    ];
    expect(lines == expected, || format!("{lines:?}"))?;
    let sections = archived.matches("-----BEGIN CERTIFICATE-----").count();
    expect(sections == 3, || format!("{sections} certificates"))?;

    let status = object(&get(stand.site.port, "/status.json")?)?;
    let problem = status["certificates"][0]["problems"][0].clone();
    expect(problem["error"] == REASON && problem["failures"] == 1, || problem.to_string())?;
    let in_service = &status["certificates"][0]["in_service"];
    expect(*in_service == true, || status.to_string())?;

    // The CA mends its chain, and the next order is stored.
    stand.with_ca(|ca| ca.settings.faults.clear());
    stand.site.deploy("/a", &format!("{NAME},b.example.com"));
    stand.wait_for_names(&daemon, &[NAME, "b.example.com"]).map(drop)
}
