//! What lies in `certs/` and is not ours: named by what it does to HAProxy, and never touched. And what
//! of ours another has spoilt: found and replaced.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use marathon_acme::log::message::{CERTIFICATE_MISNAMED, FOREIGN_FILE, FOREIGN_FILE_GONE};
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use stand_ins::ca::Settings;

use crate::process::{Outcome, Process, Signal, expect, get, wait_until};
use crate::site::{check_file, text};
use crate::stand::Stand;
use crate::{Test, Tool};

pub(crate) const TESTS: &[Test] = &[
    ("what_is_not_ours_in_certs_is_named_and_left_alone", &[], strangers),
    ("what_is_said_to_block_is_what_haproxy_refuses", &[Tool::HaProxy], by_haproxy),
    ("a_file_of_ours_that_another_spoils_is_replaced", &[], spoilt),
];

const NAME: &str = "a.example.com";
const VERDICTS: [&str; 5] = ["blocks", "shadows", "unknown", "expired", "harmless"];

/// A key and a certificate that has expired.
fn expired() -> Outcome<String> {
    let key = KeyPair::generate().map_err(text)?;
    let mut params = CertificateParams::new(vec!["z.example.org".into()]).map_err(text)?;
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 2, 1);
    let certificate = params.self_signed(&key).map_err(text)?;
    Ok(key.serialize_pem() + &certificate.pem())
}

/// What is there, with all that changes when it is touched, where it leads, and what is in it.
fn state(certs: &Path) -> Outcome<BTreeMap<PathBuf, String>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(certs).map_err(text)? {
        let path = entry.map_err(text)?.path();
        let seen = fs::symlink_metadata(&path).map_err(text)?;
        let (link, content) = (fs::read_link(&path).ok(), fs::read(&path).ok());
        let times = (seen.ino(), seen.mode(), seen.ctime(), seen.ctime_nsec());
        all.insert(path, format!("{times:?} {link:?} {content:?}"));
    }
    Ok(all)
}

fn status(stand: &Stand) -> Outcome<Value> {
    let answer = get(stand.site.port, "/status.json")?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("no body")?;
    serde_json::from_str(body).map_err(text)
}

/// How many there are of each verdict, by `/metrics`.
fn counts(stand: &Stand) -> Outcome<Vec<String>> {
    let answer = get(stand.site.port, "/metrics")?;
    let name = "marathon_acme_foreign_files{";
    let lines = answer.lines().filter(|line| line.starts_with(name));
    Ok(lines.map(|line| line.replace(name, "").replace("verdict=", "")).collect())
}

fn look(daemon: &Process) -> Outcome {
    daemon.signal(Signal::HUP)
}

/// A file's name, what is to be said of it, and why.
type Expected = (&'static str, &'static str, &'static str);

/// Puts all of it into `certs/`, beside ours; what is to be said.
fn plant(stand: &Stand, certs: &Path) -> Outcome<Vec<Expected>> {
    let ours = fs::read(stand.site.certificate(NAME)).map_err(text)?;
    let write = |file: &str, content: &[u8]| fs::write(certs.join(file), content).map_err(text);
    write("README", b"hello")?;
    write("empty.pem", b"")?;
    // Their names come before ours; the second is one that a file of ours could have.
    write("a copy", &ours)?;
    write("a.copy.pem", &ours)?;
    write("z.pem", expired()?.as_bytes())?;
    write("a.example.com.pem.ocsp", b"")?;
    symlink("/nowhere", certs.join("link.pem")).map_err(text)?;
    fs::create_dir(certs.join("folder")).map_err(text)?;
    let mut expected = vec![
        ("README", "blocks", "it holds neither a private key nor a certificate"),
        ("a copy", "shadows", "its name comes before a.example.com.pem"),
        ("a.copy.pem", "shadows", "its name comes before a.example.com.pem"),
        (
            "a.example.com.pem.ocsp",
            "harmless",
            "HAProxy loads no certificate from files of that ending",
        ),
        ("empty.pem", "blocks", "it is empty"),
        ("folder", "harmless", "HAProxy passes over what is no file"),
        ("link.pem", "unknown", "it is a symbolic link"),
        ("z.pem", "expired", "it has expired at 2020-02-01T00:00:00Z"),
    ];
    // For root, no mode forbids anything.
    if !rustix::process::geteuid().is_root() {
        write("secret.pem", &ours)?;
        let none = fs::Permissions::from_mode(0o000);
        fs::set_permissions(certs.join("secret.pem"), none).map_err(text)?;
        let place = expected.len() - 1;
        expected.insert(place, ("secret.pem", "blocks", "it cannot be read: Permission denied"));
    }
    Ok(expected)
}

fn expect_lines(daemon: &mut Process, expected: &[Expected]) -> Outcome {
    for (file, verdict, reason) in expected {
        let shown = if file.contains(' ') { format!("{file:?}") } else { file.to_string() };
        let words = format!("{FOREIGN_FILE} file={shown} verdict={verdict}");
        daemon.wait_for(&words)?;
        let line = daemon.line(&words);
        let level = if *verdict == "harmless" { "INFO" } else { "WARN" };
        let said = line.contains(level) && line.contains(reason);
        expect(said && line.contains("hint=") == (level == "WARN"), || line)?;
    }
    Ok(())
}

fn expect_answers(stand: &Stand, expected: &[Expected]) -> Outcome {
    let found = status(stand)?["foreign_files"].clone();
    let found = found.as_array().cloned().unwrap_or_default();
    expect(found.len() == expected.len(), || format!("{found:?}"))?;
    for (found, (file, verdict, reason)) in found.iter().zip(expected) {
        let said = found["reason"].as_str().is_some_and(|said| said.contains(reason));
        expect(found["file"] == *file && found["verdict"] == *verdict && said, || {
            format!("{found} and {file}: {verdict}")
        })?;
    }
    let counted = VERDICTS.map(|verdict| {
        let count = expected.iter().filter(|(_, found, _)| *found == verdict).count();
        format!("\"{verdict}\"}} {count}")
    });
    expect(counts(stand)? == counted, || format!("{:?}", counts(stand)))?;
    let health = get(stand.site.port, "/health")?;
    let told = ["degraded", "certs/README keeps HAProxy", "certs/a.copy.pem is served in place of"];
    let fits = told.iter().all(|words| health.contains(words)) && health.contains(" 200 ");
    expect(fits && !health.contains("z.pem"), || health)?;
    let page = get(stand.site.port, "/")?;
    expect(page.contains("Not ours in certs/") && page.contains("README"), || page)
}

fn strangers() -> Outcome {
    let stand = Stand::new(Settings::default())?;
    stand.site.deploy("/a", NAME);
    let mut daemon = stand.start("daemon", &[])?;
    stand.site.wait_for_certificate(&daemon, NAME)?;
    daemon.wait_until_issued(stand.site.port, 1)?;
    let none = VERDICTS.map(|verdict| format!("\"{verdict}\"}} 0"));
    expect(counts(&stand)? == none, || format!("{:?}", counts(&stand)))?;
    let certs = stand.site.storage.join("certs");
    let expected = plant(&stand, &certs)?;
    let before = state(&certs)?;
    look(&daemon)?;
    daemon.wait_for(&format!("{CERTIFICATE_MISNAMED} name=a.copy"))?;
    expect_lines(&mut daemon, &expected)?;
    expect_answers(&stand, &expected)?;
    expect(state(&certs)? == before, || "something in certs/ was touched".into())?;

    // Once more says nothing new, and what is gone is said.
    fs::remove_file(certs.join("README")).map_err(text)?;
    look(&daemon)?;
    daemon.wait_for(&format!("{FOREIGN_FILE_GONE} file=README"))?;
    let said = daemon.output().matches(FOREIGN_FILE).count();
    expect(said == expected.len(), || daemon.output())
}

/// A real HAProxy, as a rule a newer one than marathon-lb's, checks a folder with our certificate and
/// one of those files.
fn by_haproxy() -> Outcome {
    let stand = Stand::new(Settings::default())?;
    stand.site.deploy("/a", NAME);
    let daemon = stand.start("daemon", &[])?;
    stand.site.wait_for_certificate(&daemon, NAME)?;
    let (planted, tried) = (stand.site.folder().join("planted"), stand.site.folder().join("tried"));
    for folder in [&planted, &tried] {
        fs::create_dir(folder).map_err(text)?;
    }
    let mut expected = plant(&stand, &planted)?;
    let ours = fs::read_to_string(stand.site.certificate(NAME)).map_err(text)?;
    let (key, chain) = ours.split_at(ours.find("-----BEGIN CERTIFICATE").ok_or("no certificate")?);
    let other_key = KeyPair::generate().map_err(text)?.serialize_pem();
    for (file, content) in [
        ("key.pem", key.to_string()),
        ("chain.pem", chain.to_string()),
        ("mismatch.pem", other_key + chain),
        ("half.pem", ours[..ours.len() / 4].to_string()),
        ("x.pem.new", ours[..key.len() + 200].to_string()),
    ] {
        fs::write(planted.join(file), content).map_err(text)?;
        expected.push((file, "blocks", ""));
    }
    let configuration = stand.site.folder().join("haproxy.cfg");
    let bind = format!("  bind 127.0.0.1:65535 ssl crt {}\n", tried.display());
    let lines = format!("defaults\n  mode http\n  timeout client 1s\nfrontend f\n{bind}");
    fs::write(&configuration, lines).map_err(text)?;
    fs::write(tried.join(format!("{NAME}.pem")), &ours).map_err(text)?;
    let is_known = |(file, verdict, _): &&Expected| *file != "secret.pem" && *verdict != "unknown";
    for (file, verdict, _) in expected.iter().filter(is_known) {
        fs::rename(planted.join(file), tried.join(file)).map_err(text)?;
        let check = Command::new("haproxy").arg("-c").arg("-f").arg(&configuration).output();
        let check = check.map_err(text)?;
        let said = String::from_utf8_lossy(&check.stderr).into_owned();
        expect(check.status.success() == (*verdict != "blocks"), || format!("{file}: {said}"))?;
        fs::rename(tried.join(file), planted.join(file)).map_err(text)?;
    }
    Ok(())
}

fn spoilt() -> Outcome {
    let stand = Stand::new(Settings::default())?;
    stand.site.deploy("/a", NAME);
    stand.site.deploy("/b", "b.example.com");
    let mut daemon = stand.start("daemon", &[])?;
    for name in [NAME, "b.example.com"] {
        stand.site.wait_for_certificate(&daemon, name)?;
    }
    daemon.wait_until_issued(stand.site.port, 2)?;
    let (path, other) = (stand.site.certificate(NAME), stand.site.certificate("b.example.com"));
    let (whole, kept) = (fs::read(&path).map_err(text)?, fs::read(&other).map_err(text)?);
    fs::write(&path, &whole[..whole.len() / 2]).map_err(text)?;
    look(&daemon)?;
    daemon.wait_until_issued(stand.site.port, 3)?;
    check_file(&path, 0o600)?;
    let archived = stand.site.storage.join(format!("archive/{NAME}.pem"));
    let archived = fs::read(archived).map_err(text)?;
    expect(archived == whole[..whole.len() / 2], || "another file was archived".into())?;

    fs::remove_file(&path).map_err(text)?;
    look(&daemon)?;
    let back = || path.exists().then_some(());
    wait_until("a new certificate", back).map_err(|it| format!("{it}\n{}", daemon.output()))?;
    check_file(&path, 0o600)?;
    let same = fs::read(&other).map_err(text)? == kept;
    expect(same && stand.issued() == 4, || format!("{} issued", stand.issued()))
}
