//! A CA that will not, or not yet, or not for this name; and orders that are cut off by the program's
//! end.

use std::fs;
use std::process::Command;

use marathon_acme::hint::Hint;
use marathon_acme::log::Level;
use marathon_acme::log::message::{
    ACCOUNT_FORGOTTEN, CA_OVERLOADED, CANNOT_ORDER, NAME_LEFT_OUT, ORDER_FAILED, ORDER_STARTED,
};
use stand_ins::ca::{AcmeRequest, Bucket, Limits, Problem, Refusal, RetryAfter, Settings};
use stand_ins::driver::time_now;

use crate::Test;
use crate::process::{Outcome, Process, expect, get, wait_until};
use crate::site::text;
use crate::stand::{Stand, kill, stop};

pub(crate) const TESTS: &[Test] = &[
    ("a_paused_name_waits_for_a_person", &[], paused),
    ("a_rate_limit_is_kept_to_over_restarts", &[], limited),
    ("a_ca_that_is_overloaded_gets_no_new_orders", &[], overloaded),
    ("a_deactivated_account_is_said_with_what_to_do", &[], deactivated),
    ("an_account_key_of_a_size_that_cannot_sign_is_said", &[], key_size),
    ("a_forgotten_account_is_registered_anew", &[], forgotten),
    ("an_account_that_is_forgotten_between_two_runs", &[], forgotten_between),
    ("names_that_caa_forbids_are_left_out", &[], forbidden),
    ("an_order_that_is_processed_is_looked_at_when_the_ca_says", &[], processed),
    ("an_order_that_is_handed_back_is_gone_on_with", &[], handed_back),
    ("an_order_that_was_cut_off_is_resumed", &[], resumed),
    ("an_order_that_is_cut_off_ten_times_is_one_order", &[], resumed_often),
    ("an_order_that_was_cut_off_after_its_request_is_made_anew", &[], key_lost),
];

const NAME: &str = "a.example.com";
const OTHER: &str = "b.example.com";

fn paused() -> Outcome {
    let paused_names = [NAME.to_string()].into();
    let stand = Stand::new(Settings { paused_names, ..Settings::default() })?;
    let refused = |count: usize, daemon: &Process| {
        let found = stand.count("POST", "/new-order", 429);
        expect(found == count, || format!("{found} orders refused\n{}", daemon.output()))
    };
    stand.site.deploy("/a", NAME);
    let mut first = stand.start("first", &[])?;
    let failed = format!("{ORDER_FAILED} name={NAME}");
    first.wait_for(&failed)?;
    let line = first.line(&failed);
    let advice = "next_try=\"when the CA has been asked to unpause it and the app was restarted\"";
    expect(line.contains("/unpause") && line.contains(advice), || line)?;
    wait_until("the pause in state.json", || {
        let trouble = stand.remembered(NAME).ok()?["left_out"][NAME].clone();
        (trouble["retry"] == "never").then_some(())
    })?;
    stop(&mut first)?;

    let mut second = stand.start("second", &[])?;
    stand.let_time_pass(&second, "b")?;
    refused(1, &second)?;
    // The app was restarted, but nobody has asked the CA.
    stand.site.deploy("/a", NAME);
    wait_until("a second refusal", || (stand.count("POST", "/new-order", 429) == 2).then_some(()))?;
    stand.let_time_pass(&second, "c")?;
    refused(2, &second)?;
    stop(&mut second)?;
    // More than a minute later, so that the next restart counts at once.
    stand.change_state(|state| {
        let trouble = &mut state["certificates"][NAME]["left_out"][NAME];
        trouble["app_changes"] = serde_json::Value::Null;
    })?;
    stand.with_ca(|ca| ca.settings.paused_names.clear());
    let third = stand.start("third", &[])?;
    stand.site.deploy("/a", NAME);
    stand.site.wait_for_certificate(&third, NAME)?;
    refused(2, &third)
}

/// One order an hour.
fn miserly(retry_after: RetryAfter) -> Settings {
    let orders_per_account = Some(Bucket { capacity: 2, period_seconds: 2 * 3600 });
    let limits = Limits { orders_per_account, ..Limits::default() };
    Settings { limits, retry_after, ..Settings::default() }
}

fn limited() -> Outcome {
    for retry_after in [RetryAfter::Seconds(1), RetryAfter::Date(1)] {
        let stand = Stand::new(miserly(retry_after))?;
        stand.site.deploy("/a", NAME);
        let mut first = stand.start("first", &[])?;
        stand.site.wait_for_certificate(&first, NAME)?;
        stand.let_time_pass(&first, "second")?;
        stand.site.deploy("/b", OTHER);
        let failed = format!("{ORDER_FAILED} name={OTHER}");
        first.wait_for(&failed)?;
        let line = first.line(&failed);
        expect(line.contains("retry after") && line.contains("next_try=20"), || line)?;
        let until = stand.wait_for_memory(OTHER, "/trouble/not_before")?;
        let pause = (until.as_i64().unwrap_or_default() - time_now().unix_ms) / 1000;
        expect((3500..=3602).contains(&pause), || format!("{retry_after:?}: {pause} s"))?;
        // Neither a restart of the app nor one of the program makes it due.
        stand.site.deploy("/b", OTHER);
        stand.site.deploy("/c", "c.example.com");
        first.wait_until_failed(stand.site.port, "c.example.com")?;
        stop(&mut first)?;
        stand.with_ca(|ca| ca.settings.limits = Limits::default());
        let mut second = stand.start("second", &[])?;
        stand.site.deploy("/b", OTHER);
        stand.let_time_pass(&second, "third")?;
        let (refused, issued) = (stand.with_ca(|ca| ca.limited()), stand.issued());
        let fits = (refused, issued) == (2, 3) && !stand.site.certificate(OTHER).exists();
        expect(fits, || format!("{refused} refused, {issued} issued\n{}", second.output()))?;
        stop(&mut second)?;
    }
    Ok(())
}

fn overloaded() -> Outcome {
    for retry_after in [RetryAfter::Seconds(3600), RetryAfter::Date(3600)] {
        overloaded_until(retry_after)?;
    }
    Ok(())
}

fn overloaded_until(retry_after: RetryAfter) -> Outcome {
    let stand = Stand::new(Settings::default())?;
    let mut first = stand.start("first", &[])?;
    first.wait_until_registered(stand.site.port)?;
    stand.with_ca(|ca| ca.settings.unavailable = Some(retry_after));
    stand.site.deploy("/a", NAME);
    first.wait_for(CA_OVERLOADED)?;
    let line = first.line(CA_OVERLOADED);
    expect(line.contains("WARN ") && line.contains("status 503"), || line)?;
    first.wait_until_failed(stand.site.port, NAME)?;
    stand.with_ca(|ca| ca.settings.unavailable = None);
    let orders = || stand.with_ca(|ca| ca.count("POST", "/new-order", 201));
    let pause = |state: &serde_json::Value| {
        let until = state["cas"][&stand.ca.directory]["not_before"].as_i64();
        until.map(|until| (until - time_now().unix_ms) / 1000)
    };
    wait_until("the pause in state.json", || pause(&stand.state().ok()?))?;
    stop(&mut first)?;
    let seconds = pause(&stand.state()?).unwrap_or_default();
    expect((3500..=3600).contains(&seconds), || format!("{seconds} s"))?;

    stand.site.deploy("/b", OTHER);
    let mut second = stand.start("second", &[])?;
    second.wait_until_registered(stand.site.port)?;
    second.wait_until_wanted(stand.site.port, OTHER)?;
    // Its label comes with a later sync, when the others could long have been ordered.
    stand.site.deploy("/c", "c.example.com");
    second.wait_until_wanted(stand.site.port, "c.example.com")?;
    expect(orders() == 0, || second.output())?;
    stop(&mut second)?;
    let kept = pause(&stand.state()?).unwrap_or_default();
    expect((3400..=seconds).contains(&kept), || format!("{seconds} s became {kept} s"))?;

    // Once it is over, everything goes on.
    stand.change_state(|state| {
        if let Some(ca) = state["cas"][&stand.ca.directory].as_object_mut() {
            ca.remove("not_before");
        }
    })?;
    let third = stand.start("third", &[])?;
    stand.site.wait_for_certificate(&third, OTHER)?;
    stand.site.wait_for_certificate(&third, "c.example.com")
}

fn deactivated() -> Outcome {
    let stand = Stand::new(Settings::default())?;
    stand.site.deploy("/a", NAME);
    let mut daemon = stand.start("daemon", &[])?;
    stand.site.wait_for_certificate(&daemon, NAME)?;
    let stored = stand.file(NAME)?;
    stand.with_ca(|ca| ca.deactivate_account(0));
    stand.site.deploy("/b", OTHER);
    daemon.wait_for(CANNOT_ORDER)?;
    let line = daemon.line(CANNOT_ORDER);
    expect(line.contains(Level::Critical.name()), || line.clone())?;
    let advice = "if it was deactivated, move client.key away";
    expect(line.contains("the account is deactivated") && line.contains(advice), || line)?;
    daemon.wait_until_failed(stand.site.port, OTHER)?;
    let health = get(stand.site.port, "/health")?;
    expect(health.contains(" 200 ") && health.contains("deactivated"), || health)?;
    expect(stand.file(NAME)?.chain == stored.chain, || "the certificate has changed".into())?;
    stop(&mut daemon)?;
    // What the advice says helps.
    let key = stand.site.storage.join("client.key");
    fs::rename(&key, stand.site.folder().join("old.key")).map_err(text)?;
    let second = stand.start("second", &[])?;
    stand.let_time_pass(&second, "later")?;
    let accounts = stand.count("POST", "/new-account", 201);
    expect(accounts == 2, || format!("{accounts} accounts"))
}

/// Keys that OpenSSL makes and the program cannot sign with: `--check` says so, and so does a daemon, which
/// leaves the file as it is.
fn key_size() -> Outcome {
    let stand = Stand::new(Settings::default())?;
    fs::create_dir_all(&stand.site.storage).map_err(text)?;
    let key = stand.site.storage.join("client.key");
    for (form, bits) in [("-traditional", "1024"), ("-verbose", "1024"), ("-traditional", "4608")] {
        let path = key.display().to_string();
        let mut openssl = Command::new("openssl");
        let made = openssl.args(["genrsa", form, "-out", &path, bits]).output().map_err(text)?;
        expect(made.status.success(), || format!("{made:?}"))?;
        let before = fs::read(&key).map_err(text)?;
        let words = format!(
            "client.key: the RSA key has {bits} bits; keys of 2048, 3072 and 4096 bits are supported"
        );
        let (_, said) = stand.site.run("check", &stand.arguments(), &["--check"])?;
        let advice = Hint::AccountKey.text();
        expect(said.contains(&words) && said.contains(advice), || said.clone())?;
        let mut daemon = stand.start("daemon", &[])?;
        daemon.wait_for(CANNOT_ORDER)?;
        let line = daemon.line(CANNOT_ORDER);
        expect(line.contains(&words) && line.contains(advice), || line)?;
        stop(&mut daemon)?;
        expect(fs::read(&key).map_err(text)? == before, || "client.key has changed".into())?;
    }
    // What the advice says helps.
    fs::rename(&key, stand.site.folder().join("old.key")).map_err(text)?;
    stand.site.deploy("/a", NAME);
    let daemon = stand.start("last", &[])?;
    stand.site.wait_for_certificate(&daemon, NAME)
}

fn forgotten() -> Outcome {
    let stand = Stand::new(Settings::default())?;
    stand.site.deploy("/a", NAME);
    let mut daemon = stand.start("daemon", &["--email=me@example.com"])?;
    stand.site.wait_for_certificate(&daemon, NAME)?;
    let key = fs::read(stand.site.storage.join("client.key")).map_err(text)?;
    stand.with_ca(|ca| ca.forget_accounts());
    stand.site.deploy("/b", OTHER);
    stand.site.wait_for_certificate(&daemon, OTHER)?;
    daemon.wait_for(ACCOUNT_FORGOTTEN)?;
    let contacts = stand.with_ca(|ca| ca.account_contacts(1).map(<[String]>::to_vec));
    expect(contacts == Some(vec!["mailto:me@example.com".into()]), || format!("{contacts:?}"))?;
    let same = fs::read(stand.site.storage.join("client.key")).map_err(text)? == key;
    expect(same, || "client.key has changed".into())?;
    let failed = format!("{ORDER_FAILED} name=");
    expect(!daemon.output().contains(&failed), || daemon.output())?;
    stop(&mut daemon)?;
    let url = stand.state()?["cas"][&stand.ca.directory]["account"]["url"].to_string();
    expect(url.contains("/account/1"), || url)
}

/// With an order that was cut off: it is lost with the account, and another one is made.
fn forgotten_between() -> Outcome {
    let stand = Stand::new(Settings { refusals: vec![busy()], ..Settings::default() })?;
    stand.site.deploy("/a", NAME);
    let mut first = stand.start("first", &[])?;
    stand.wait_for_memory(NAME, "/attempt/order")?;
    stand.wait_for_refusals(1)?;
    kill(&mut first)?;
    stand.with_ca(|ca| {
        ca.settings.refusals.clear();
        ca.forget_accounts();
    });
    let mut second = stand.start("second", &[])?;
    second.wait_for(ACCOUNT_FORGOTTEN)?;
    stand.site.wait_for_certificate(&second, NAME)?;
    let failed = format!("{ORDER_FAILED} name=");
    expect(!second.output().contains(&failed), || second.output())
}

fn forbidden() -> Outcome {
    for subproblems in [true, false] {
        let caa_names = ["c.example.com".to_string()].into();
        let stand = Stand::new(Settings { caa_names, subproblems, ..Settings::default() })?;
        stand.site.deploy("/a", "a.example.com c.example.com b.example.com");
        let mut daemon = stand.start("daemon", &["--san"])?;
        stand.wait_for_names(&daemon, &[NAME, OTHER])?;
        let words = format!("{NAME_LEFT_OUT} name={NAME} domain=c.example.com");
        daemon.wait_for(&words)?;
        let line = daemon.line(&words);
        expect(line.contains("CAA record of c.example.com forbids it"), || line)?;
        let blamed = daemon.output().matches(NAME_LEFT_OUT).count();
        expect(blamed == 1 && stand.files() == 1, || daemon.output())?;
    }
    Ok(())
}

fn processed() -> Outcome {
    for retry_after in [RetryAfter::Seconds(2), RetryAfter::Date(3)] {
        let stand = Stand::new(Settings {
            processing_polls: 2,
            finalize_location: false,
            retry_after,
            ..Settings::default()
        })?;
        stand.site.deploy("/a", NAME);
        let daemon = stand.start("daemon", &[])?;
        stand.site.wait_for_certificate(&daemon, NAME)?;
        let seen: Vec<AcmeRequest> = stand.with_ca(|ca| ca.seen().to_vec());
        let finalized = seen.iter().position(|seen| seen.path.ends_with("/finalize"));
        let after = &seen[finalized.ok_or("not finalized")?..];
        let paths: Vec<&str> = after.iter().map(|seen| &*seen.path).collect();
        let expected = ["/order/0/finalize", "/order/0", "/order/0", "/cert/0"];
        expect(paths == expected, || paths.join("\n"))?;
        // Two seconds, as a number; a date has no milliseconds.
        let pauses = after.windows(2).take(2).map(|two| two[1].at.mono_ms - two[0].at.mono_ms);
        let pauses: Vec<u64> = pauses.collect();
        expect(pauses.iter().all(|pause| *pause >= 1900), || format!("pauses: {pauses:?} ms"))?;
    }
    Ok(())
}

/// A CA whose authorizations cannot be read at present.
fn busy() -> Refusal {
    let problem = Problem::new(500, "serverInternal", "come back later");
    Refusal { path: "/authz", problem, times: u32::MAX }
}

fn handed_back() -> Outcome {
    let settings = Settings { order_reuse: true, refusals: vec![busy()], ..Settings::default() };
    let stand = Stand::new(settings)?;
    stand.site.deploy("/a", NAME);
    let mut first = stand.start("first", &[])?;
    stand.wait_for_memory(NAME, "/attempt/order")?;
    stand.wait_for_refusals(1)?;
    kill(&mut first)?;
    // Nothing is remembered of the order, but by the CA.
    fs::remove_file(stand.site.storage.join("state.json")).map_err(text)?;
    stand.with_ca(|ca| ca.settings.refusals.clear());
    let mut second = stand.start("second", &[])?;
    stand.site.wait_for_certificate(&second, NAME)?;
    second.wait_until_issued(stand.site.port, 1)?;
    let (made, seen) = (stand.count("POST", "/new-order", 201), stand.ca.requests());
    let other = seen.iter().any(|line| line.contains("/order/1"));
    expect(made == 2 && !other, || seen.join("\n"))
}

/// The order of [`NAME`] went on, and there was no other.
fn expect_one_order(stand: &Stand, daemon: &mut Process) -> Outcome {
    stand.site.wait_for_certificate(daemon, NAME)?;
    daemon.wait_until_issued(stand.site.port, 1)?;
    let (made, issued) = (stand.count("POST", "/new-order", 201), stand.issued());
    let said = daemon.output();
    let fits = (made, issued) == (1, 1) && !said.contains(&format!("{ORDER_STARTED} name="));
    expect(fits, || format!("{made} orders, {issued} certificates\n{said}"))?;
    let stored = stand.file(NAME)?;
    expect(stored.chain[0] == stand.with_ca(|ca| ca.issued()[0].der.clone()), || said)?;
    wait_until("the attempt's end in state.json", || {
        stand.remembered(NAME).ok()?["attempt"].is_null().then_some(())
    })
}

fn resumed() -> Outcome {
    // So long that a new run has its time to answer the challenge of the first one.
    let stand = Stand::new(Settings { validation_delay_ms: 6000, ..Settings::default() })?;
    stand.site.deploy("/a", NAME);
    let mut first = stand.start("first", &[])?;
    stand.wait_for_memory(NAME, "/attempt/order")?;
    let answered = || (stand.count("POST", "/challenge/", 200) == 1).then_some(());
    wait_until("the challenge", answered)?;
    kill(&mut first)?;
    let mut second = stand.start("second", &[])?;
    expect_one_order(&stand, &mut second)?;
    let checked = stand.with_ca(|ca| ca.checked().to_vec());
    let once = checked.len() == 1 && checked[0].error.is_none();
    expect(once, || format!("{checked:?}"))
}

fn resumed_often() -> Outcome {
    let stand = Stand::new(Settings { refusals: vec![busy()], ..Settings::default() })?;
    stand.site.deploy("/a", NAME);
    for round in 0..10 {
        let refused = stand.count("POST", "/authz", 500);
        let mut daemon = stand.start(&format!("run{round}"), &[])?;
        let url = stand.wait_for_memory(NAME, "/attempt/order")?;
        stand.wait_for_refusals(refused + 1)?;
        expect(url.as_str().is_some_and(|url| url.ends_with("/order/0")), || url.to_string())?;
        kill(&mut daemon)?;
    }
    stand.with_ca(|ca| ca.settings.refusals.clear());
    let mut last = stand.start("last", &[])?;
    expect_one_order(&stand, &mut last)
}

/// The key of a certificate is lost, which earlier versions kept in memory alone: so is the certificate.
fn key_lost() -> Outcome {
    let stand = Stand::new(Settings { never_done: true, ..Settings::default() })?;
    stand.site.deploy("/a", NAME);
    let mut first = stand.start("first", &[])?;
    stand.wait_for_memory(NAME, "/attempt/order")?;
    stand.wait_for_issued(&first, 1)?;
    kill(&mut first)?;
    stand.forget_key(NAME)?;
    stand.with_ca(|ca| ca.settings.never_done = false);
    let mut second = stand.start("second", &[])?;
    let failed = format!("{ORDER_FAILED} name={NAME}");
    second.wait_for(&failed)?;
    let line = second.line(&failed);
    expect(line.contains("or its key is gone") && line.contains("next_try=20"), || line)?;
    stand.site.deploy("/a", NAME);
    stand.site.wait_for_certificate(&second, NAME)?;
    let stored = stand.file(NAME)?;
    expect(stored.chain[0] == stand.with_ca(|ca| ca.issued()[1].der.clone()), || second.output())
}
