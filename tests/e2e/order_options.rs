//! What an operator may ask for: a profile, a chain, a kind of key, an account of theirs, a contact,
//! several names in one certificate.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use marathon_acme::log::Level;
use marathon_acme::log::message::{
    CANNOT_ORDER, CHAIN_NOT_OFFERED, DOMAIN_WANTED, NAME_LEFT_OUT, ORDER_STARTED,
};
use stand_ins::ca::{Profile, Settings};
use stand_ins::driver::Options;
use stand_ins::http::{Reply, Request};
use stand_ins::pki::Identity;
use stand_ins::tls::{client_config, server_config, shown};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::Test;
use crate::fixed::Fixed;
use crate::process::{Outcome, PATIENCE, Process, expect, get, wait_until};
use crate::site::{Site, play, text};
use crate::stand::{File, Stand, stop};

pub(crate) const TESTS: &[Test] = &[
    ("a_profile_is_ordered", &[], profile),
    ("a_profile_that_the_ca_has_not_is_status_2", &[], unknown_profile),
    ("the_preferred_chain_is_stored", &[], preferred_chain),
    ("keys_are_p384_where_that_is_wished", &[], p384),
    ("an_external_account_is_bound", &[], bound),
    ("a_wrong_or_missing_binding_is_said_and_lived_with", &[], not_bound),
    ("a_file_without_a_binding_key_is_status_2", &[], no_binding_key),
    ("a_changed_contact_reaches_the_ca_once", &[], contact),
    ("a_name_that_fails_does_not_keep_the_others_waiting", &[], names_that_fail),
    ("a_name_that_goes_leaves_the_certificate", &[], name_goes),
    ("more_names_than_a_certificate_has_are_split", &[], split),
];

const NAME: &str = "a.example.com";
const CURVE_P384: &str = "1.3.132.0.34";
const MAC_KEY: [u8; 32] = [0xfb; 32];

fn profiles() -> Settings {
    let profile = |description: &str, days: u32| {
        let (description, lifetime_seconds) = (description.to_string(), days * 24 * 3600);
        Profile { description, lifetime_seconds, names_max: 25 }
    };
    let profiles = [
        ("long".to_string(), profile("The usual", 90)),
        ("short".to_string(), profile("Six days", 6)),
    ];
    Settings { profiles: profiles.into(), ..Settings::default() }
}

fn profile() -> Outcome {
    let stand = Stand::new(profiles())?;
    stand.site.deploy("/a", NAME);
    let daemon = stand.start("daemon", &["--profile=short"])?;
    stand.site.wait_for_certificate(&daemon, NAME)?;
    let issued = stand.with_ca(|ca| ca.issued()[0].clone());
    let days = (issued.not_after_ms - issued.not_before_ms) / (24 * 3600 * 1000);
    let fits = issued.profile.as_deref() == Some("short") && days < 7;
    expect(fits, || format!("{:?}, {days} days", issued.profile))
}

/// Starts a daemon that will not live, and waits for its end.
fn ends(stand: &Stand, name: &str, more: &[&str]) -> Outcome<(Option<i32>, String)> {
    let mut command = Site::command();
    let command = command.args(stand.arguments()).args(more);
    let mut daemon = Process::start(stand.site.folder(), name, command)?;
    let status = daemon.wait(PATIENCE)?;
    Ok((status.code(), daemon.output()))
}

fn unknown_profile() -> Outcome {
    for (settings, offered) in [
        (profiles(), "it offers: long (The usual), short (Six days)"),
        (Settings::default(), "it offers: none"),
    ] {
        let stand = Stand::new(settings)?;
        stand.site.deploy("/a", NAME);
        let (status, output) = ends(&stand, "daemon", &["--profile=tlsserver"])?;
        let critical = output.lines().filter(|line| line.contains(Level::Critical.name()));
        let critical: Vec<&str> = critical.collect();
        let said = critical.len() == 1
            && critical[0].contains("--profile tlsserver")
            && critical[0].contains(offered);
        expect(status == Some(2) && said, || format!("{status:?}\n{output}"))?;
        let asked = stand.ca.requests();
        expect(asked == ["GET /directory"], || asked.join("\n"))?;
    }
    Ok(())
}

fn topmost_issuer(file: &File) -> Outcome<String> {
    let last = file.chain.last().ok_or("no certificate")?;
    let (_, last) = X509Certificate::from_der(last).map_err(text)?;
    let name = last.issuer().iter_common_name().next().ok_or("an issuer without a name")?;
    name.as_str().map(str::to_string).map_err(text)
}

fn preferred_chain() -> Outcome {
    let stand = Stand::new(Settings { alternates: 2, ..Settings::default() })?;
    stand.site.deploy("/a", NAME);
    let mut first = stand.start("first", &["--preferred-chain=Stand-in Root 2"])?;
    stand.site.wait_for_certificate(&first, NAME)?;
    let file = stand.file(NAME)?;
    let issuer = topmost_issuer(&file)?;
    expect(issuer == "Stand-in Root 2", || issuer)?;
    expect(file.chain[0] == stand.with_ca(|ca| ca.issued()[0].der.clone()), || first.output())?;
    expect(!first.output().contains(CHAIN_NOT_OFFERED), || first.output())?;
    stop(&mut first)?;

    let other = "b.example.com";
    stand.site.deploy("/b", other);
    let mut second = stand.start("second", &["--preferred-chain=Stand-in Root 9"])?;
    stand.site.wait_for_certificate(&second, other)?;
    let issuer = topmost_issuer(&stand.file(other)?)?;
    let default = "Stand-in Root";
    expect(issuer == default, || issuer)?;
    let words = format!("{CHAIN_NOT_OFFERED} name={other}");
    second.wait_for(&words)?;
    let line = second.line(&words);
    let offered = ["Stand-in Root; ", "Stand-in Root 2", "Stand-in Root 3", "Stand-in Root 9"];
    expect(offered.iter().all(|name| line.contains(name)), || line)
}

fn p384() -> Outcome {
    let stand = Stand::new(Settings::default())?;
    stand.site.deploy("/a", NAME);
    let daemon = stand.start("daemon", &["--key-type=p384"])?;
    stand.site.wait_for_certificate(&daemon, NAME)?;
    let File { key, chain, .. } = stand.file(NAME)?;
    let (_, leaf) = X509Certificate::from_der(&chain[0]).map_err(text)?;
    let curve = leaf.public_key().algorithm.parameters.as_ref().ok_or("no curve")?;
    let curve = curve.as_oid().map_err(text)?.to_id_string();
    expect(curve == CURVE_P384, || curve)?;
    // And it serves: a client that trusts the root shakes hands with it.
    let tls = Some(server_config(&Identity { chain, key }).map_err(text)?);
    let page = |_: &Request| Reply::new(200, "text/plain", "hello");
    let server = play(Fixed::new(page), Options { tls, route: None })?;
    let trust = client_config(&stand.with_ca(|ca| ca.root_der().to_vec())).map_err(text)?;
    let (leaf, page) = shown(server.address(), NAME, &trust).map_err(text)?;
    expect(leaf.names == [NAME] && page.ends_with("hello"), || format!("{leaf}: {page}"))
}

/// A CA that wants accounts to be bound.
fn binding() -> Settings {
    let external_accounts = [("kid-1".to_string(), MAC_KEY.to_vec())].into();
    Settings { external_accounts, external_account_required: true, ..Settings::default() }
}

/// The words for a binding whose key is in a file of this text.
fn bind_with(folder: &Path, key: &str) -> Outcome<[String; 2]> {
    let file = folder.join("hmac-key");
    fs::write(&file, key).map_err(text)?;
    Ok(["--eab-kid=kid-1".into(), format!("--eab-hmac-key={}", file.display())])
}

fn bound() -> Outcome {
    let stand = Stand::new(binding())?;
    stand.site.deploy("/a", NAME);
    let key = URL_SAFE.encode(MAC_KEY);
    expect(key.ends_with('='), || "the key is not padded".into())?;
    let [kid, file] = bind_with(stand.site.folder(), &format!("{key}\n"))?;
    let mut first = stand.start("first", &[&kid, &file])?;
    stand.site.wait_for_certificate(&first, NAME)?;
    expect(!first.output().contains(&key), || "the key is in the log".into())?;
    stop(&mut first)?;
    // Once bound, the account lives without the words.
    let mut second = stand.start("second", &[])?;
    second.wait_until_registered(stand.site.port)?;
    stand.let_time_pass(&second, "later")?;
    stop(&mut second)?;
    let asked = stand.ca.requests().iter().filter(|line| line.contains("/new-account")).count();
    expect(asked == 1, || format!("{asked} registrations"))
}

fn not_bound() -> Outcome {
    for bind in [true, false] {
        let stand = Stand::new(binding())?;
        stand.site.deploy("/a", NAME);
        let words = bind_with(stand.site.folder(), &URL_SAFE.encode([1; 32]))?;
        let words: Vec<&str> = words.iter().filter(|_| bind).map(String::as_str).collect();
        let mut daemon = stand.start("daemon", &words)?;
        daemon.wait_for(CANNOT_ORDER)?;
        let line = daemon.line(CANNOT_ORDER);
        expect(line.contains(Level::Critical.name()), || line.clone())?;
        expect(line.contains("--eab-kid") && line.contains("--eab-hmac-key"), || line)?;
        daemon.wait_until_failed(stand.site.port, NAME)?;
        let health = get(stand.site.port, "/health")?;
        expect(health.contains(" 200 ") && health.contains("--eab-kid"), || health)?;
        let asked = stand.ca.requests().iter().filter(|line| line.contains("/new-account")).count();
        expect(asked == 1, || format!("{asked} registrations"))?;
        stop(&mut daemon)?;
        // Once it is fixed, nothing waits.
        let [kid, file] = bind_with(stand.site.folder(), &URL_SAFE.encode(MAC_KEY))?;
        let mut mended = stand.start("mended", &[&kid, &file])?;
        mended.wait_until_issued(stand.site.port, 1)?;
        stand.let_time_pass(&mended, "later")?;
        let said = mended.output();
        let place = |message: &str, name: &str| said.find(&format!("{message} name={name}"));
        let at_once = place(ORDER_STARTED, NAME) < place(DOMAIN_WANTED, "later.example.net");
        expect(at_once, || said.clone())?;
    }
    Ok(())
}

fn no_binding_key() -> Outcome {
    let stand = Stand::new(binding())?;
    let missing = ["--eab-kid=kid-1", "--eab-hmac-key=/no/such/key"];
    let [kid, empty] = bind_with(stand.site.folder(), "\n")?;
    let key = URL_SAFE.encode(MAC_KEY);
    let itself = format!("--eab-hmac-key={key}");
    let mistakes = [
        (missing, "--eab-hmac-key /no/such/key: No such file"),
        ([&*kid, &*empty], "it holds no key"),
        ([&*kid, &*itself], "--eab-hmac-key names no file, and may be the key itself"),
        ([&*kid, "--log-level=info"], "--eab-hmac-key"),
    ];
    for (words, said) in mistakes {
        let (status, output) = ends(&stand, "daemon", &words)?;
        let fits = status == Some(2) && output.lines().count() == 1 && output.contains(said);
        expect(fits && !output.contains(&key), || format!("{words:?}: {status:?}\n{output}"))?;
    }
    expect(stand.ca.requests().is_empty(), || "the CA was asked".into())
}

fn contact() -> Outcome {
    let stand = Stand::new(Settings::default())?;
    let knows = |email: &str| {
        let contacts = stand.with_ca(|ca| ca.account_contacts(0).map(<[String]>::to_vec));
        let wanted = [format!("mailto:{email}")];
        expect(contacts.as_deref() == Some(&wanted[..]), || format!("{contacts:?}"))
    };
    let mut first = stand.start("first", &["--email=first@example.com"])?;
    first.wait_until_registered(stand.site.port)?;
    wait_until("the account in state.json", || {
        let state = stand.state().ok()?;
        state["cas"][&stand.ca.directory]["account"]["url"].as_str().map(|_| ())
    })?;
    knows("first@example.com")?;
    stop(&mut first)?;
    for (run, label) in [("second", "b"), ("third", "c")] {
        let mut daemon = stand.start(run, &["--email=second@example.com"])?;
        if run == "second" {
            let changed = || knows("second@example.com").ok();
            daemon.wait_until("the CA has the new contact", changed)?;
        }
        stand.let_time_pass(&daemon, label)?;
        knows("second@example.com")?;
        stop(&mut daemon)?;
    }
    let (made, told) = (stand.count("POST", "/new-account", 201), stand.ca.requests());
    let told = told.iter().filter(|line| line.contains("account")).count();
    expect((made, told) == (1, 2), || format!("{made} accounts, {told} requests about them"))?;
    let accounts = stand.with_ca(|ca| ca.account_count());
    expect(accounts == 1, || format!("{accounts} accounts"))
}

fn names_that_fail() -> Outcome {
    let failing_names = ["c.example.com".to_string()].into();
    let stand = Stand::new(Settings { failing_names, ..Settings::default() })?;
    let names = [NAME, "c.example.com", "b.example.com"];
    stand.site.deploy("/a", &names.join(","));
    let mut daemon = stand.start("daemon", &["--san"])?;
    stand.wait_for_names(&daemon, &[NAME, "b.example.com"])?;
    let words = format!("{NAME_LEFT_OUT} name={NAME} domain=c.example.com");
    daemon.wait_for(&words)?;
    let line = daemon.line(&words);
    expect(line.contains("the route is broken") && line.contains("next_try=20"), || line)?;
    expect(stand.files() == 1, || format!("{} files", stand.files()))?;
    daemon.wait_until_issued(stand.site.port, 1)?;

    // It works now, which the CA is told once the app was restarted.
    stand.with_ca(|ca| ca.settings.failing_names.clear());
    stand.site.deploy("/a", &names.join(","));
    stand.wait_for_names(&daemon, &names)?;
    stand.let_time_pass(&daemon, "later")?;
    let issued = stand.issued();
    expect(issued == 3 && stand.files() == 2, || format!("{issued} issued\n{}", daemon.output()))?;
    let trouble = stand.remembered(NAME)?["left_out"].clone();
    expect(trouble.is_null(), || trouble.to_string())
}

fn name_goes() -> Outcome {
    let stand = Stand::new(Settings::default())?;
    stand.site.deploy("/a", "a.example.com b.example.com c.example.com");
    let daemon = stand.start("daemon", &["--san"])?;
    let before = stand.wait_for_names(&daemon, &[NAME, "b.example.com", "c.example.com"])?;
    stand.site.deploy("/a", "a.example.com c.example.com");
    let after = stand.wait_for_names(&daemon, &[NAME, "c.example.com"])?;
    expect(before.key != after.key, || "the key served twice".into())?;
    stand.let_time_pass(&daemon, "later")?;
    let issued = stand.issued();
    expect(issued == 3 && stand.files() == 2, || format!("{issued} issued\n{}", daemon.output()))
}

fn split() -> Outcome {
    let stand = Stand::new(Settings::default())?;
    let names: Vec<String> = (0..120).map(|number| format!("n{number}.example.com")).collect();
    stand.site.deploy("/a", &names.join(" "));
    let mut daemon = stand.start("daemon", &["--san"])?;
    daemon.wait_until_rejected(stand.site.port, "/a")?;
    let words: Vec<&str> = names.iter().map(String::as_str).collect();
    let first = stand.wait_for_names(&daemon, &words[..100])?;
    let second = stand.wait_for_names(&daemon, &words[100..])?;
    expect(stand.files() == 2, || format!("{} files", stand.files()))?;
    let both: BTreeSet<&String> = first.names.iter().chain(&second.names).collect();
    expect(both == names.iter().collect(), || "a name is missing".into())?;
    daemon.wait_until_issued(stand.site.port, 2)?;
    stop(&mut daemon)
}
