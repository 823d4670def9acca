//! The gate before `certs/`: what HAProxy or a client would not take never gets there, and what is in
//! service stays.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use stand_ins::ca::{BadChain, Effect, Fault, Settings, Step};

use crate::Test;
use crate::process::{Outcome, expect, get};
use crate::site::text;
use crate::stand::Stand;

pub(crate) const TESTS: &[Test] =
    &[("a_renewal_whose_chain_is_forged_stays_outside", &[], forged_renewal)];

const NAME: &str = "a.example.com";
const REASON: &str =
    "the signature of certificate 2 of its chain is not that of the next one's key";

/// The body of an answer, as JSON.
fn object(answer: &str) -> Outcome<Value> {
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("no body")?;
    serde_json::from_str(body).map_err(text)
}

fn forged_renewal() -> Outcome {
    let stand = Stand::new(Settings::default())?;
    stand.site.deploy("/a", NAME);
    let mut daemon = stand.start("daemon", &["--san"])?;
    stand.site.wait_for_certificate(&daemon, NAME)?;
    daemon.wait_for("reload acknowledged")?;
    let in_service = fs::read(stand.site.certificate(NAME)).map_err(text)?;
    stand.with_ca(|ca| {
        let effect = Effect::Chain(BadChain::Forged);
        ca.settings.faults.push(Fault { step: Step::Certificate, effect, times: 9, tag: 1 });
    });
    // A name more is a reason to renew at once.
    stand.site.deploy("/a", &format!("{NAME},b.example.com"));
    daemon.wait_for("the CA's certificate is not usable name=a.example.com")?;
    let line = daemon.line("the CA's certificate is not usable name=a.example.com");
    expect(line.contains("ERROR") && line.contains(REASON), || line)?;
    daemon.wait_for("failed name=a.example.com")?;
    daemon.wait_for("the refused certificate is kept in archive/ name=a.example.com")?;

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
