//! Renewal when the CA says (RFC 9773): asked, remembered, hastened, and what a CA may do wrong there.

use std::collections::BTreeSet;

use marathon_acme::log::message::{UP_TO_DATE, WINDOW_MOVED, WINDOW_UNKNOWN, WINDOWS_UNKNOWN};
use stand_ins::ca::{
    AcmeRequest, Bucket, Limits, Problem, Refusal, RenewalInfo, RenewalInfoFault, RetryAfter,
    Settings,
};

use crate::Test;
use crate::process::{Outcome, expect, wait_until};
use crate::stand::{Stand, kill, stop};

pub(crate) const TESTS: &[Test] = &[
    ("the_ca_is_asked_when_to_renew_and_the_answer_is_kept", &[], asked),
    ("certificates_that_the_ca_hastens_are_renewed_at_once", &[], hastened),
    ("a_renewal_goes_on_without_replaces_where_that_is_refused", &[], without_replaces),
    ("a_renewal_that_was_cut_off_replaces_all_the_same", &[], cut_off),
    ("a_renewal_that_was_cut_off_is_fetched", &[], key_kept),
    ("a_renewal_whose_key_was_lost_is_made_once_more", &[], key_lost),
    ("bad_renewal_information_is_said_once_and_lived_with", &[], faults),
    ("once_asks_when_to_renew_and_renews_what_the_ca_hastens", &[], run_mode),
    ("once_ends_well_though_the_ca_does_not_say_when_to_renew", &[], run_mode_failed),
];

const NAME: &str = "a.example.com";
const PAGE: &str = "https://ca.example.org/incident-7";

fn informing(info: RenewalInfo) -> Settings {
    Settings { renewal_info: Some(info), ..Settings::default() }
}

/// When the CA was asked about one of its certificates.
fn questions(stand: &Stand, index: usize) -> Vec<AcmeRequest> {
    stand.with_ca(|ca| {
        let path = format!("/renewal-info/{}", ca.issued()[index].cert_id);
        ca.seen().iter().filter(|seen| seen.path == path).cloned().collect()
    })
}

/// A moment that `state.json` remembers of [`NAME`]'s life, in milliseconds since 1970.
fn moment(stand: &Stand, member: &str) -> Outcome<i64> {
    let found = stand.remembered(NAME)?.pointer(&format!("/life/{member}")).cloned();
    found.and_then(|value| value.as_i64()).ok_or(format!("no {member}"))
}

/// What was asked last was answered with `seconds`.
fn expect_asked_again(stand: &Stand, seconds: i64) -> Outcome {
    let asked_at = questions(stand, 0).last().map(|seen| seen.at.unix_ms).ok_or("not asked")?;
    let pause = (moment(stand, "advice/ask_at")? - asked_at) / 1000;
    // An answer takes its time on a busy machine, and a date has no milliseconds.
    expect((seconds - 2..seconds + 30).contains(&pause), || format!("asked again in {pause} s"))
}

fn asked() -> Outcome {
    let retry_after = RetryAfter::Seconds(1);
    let stand = Stand::new(informing(RenewalInfo { retry_after, ..RenewalInfo::default() }))?;
    stand.site.deploy("/a", NAME);
    let mut first = stand.start("first", &[])?;
    stand.site.wait_for_certificate(&first, NAME)?;
    stand.wait_for_memory(NAME, "/life/advice/start")?;
    stop(&mut first)?;
    // A minute is the least.
    expect_asked_again(&stand, 60)?;
    let window = (moment(&stand, "advice/start")?, moment(&stand, "advice/end")?);
    let suggested = stand.with_ca(|ca| ca.window_ms(0));
    expect(suggested == Some(window), || format!("{window:?}, not {suggested:?}"))?;
    let renewal = moment(&stand, "renewal")?;
    expect((window.0..window.1).contains(&renewal), || format!("{renewal} not in {window:?}"))?;

    stand.with_ca(|ca| {
        let retry_after = RetryAfter::Date(7200);
        ca.settings.renewal_info = Some(RenewalInfo { retry_after, ..RenewalInfo::default() });
    });
    stand.forget_when_to_ask()?;
    let mut second = stand.start("second", &[])?;
    wait_until("a second question", || (questions(&stand, 0).len() == 2).then_some(()))?;
    stand.let_time_pass(&second, "second")?;
    stop(&mut second)?;
    expect_asked_again(&stand, 7200)?;
    let kept = moment(&stand, "renewal")?;
    expect(kept == renewal, || format!("{renewal} became {kept}"))?;

    // And now it is not yet time to ask.
    let mut third = stand.start("third", &[])?;
    stand.let_time_pass(&third, "third")?;
    wait_until("a question about another", || questions(&stand, 2).first().cloned())?;
    stop(&mut third)?;
    let count = questions(&stand, 0).len();
    expect(count == 2, || format!("{count} questions"))?;
    let kept = moment(&stand, "renewal")?;
    expect(kept == renewal, || format!("{renewal} became {kept} in the third run"))
}

/// The most orders that were open at once.
fn side_by_side(seen: &[AcmeRequest]) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for request in seen {
        match (request.path.as_str(), request.status) {
            ("/new-order", 201) => open += 1,
            (path, 200) if path.starts_with("/cert/") => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// All certificates there are, and the CA's words about each of them.
fn fleet(stand: &Stand, count: usize) -> Outcome {
    for number in 0..count {
        stand.site.deploy(&format!("/n{number}"), &format!("n{number}.example.com"));
    }
    let mut daemon = stand.start("first", &[])?;
    stand.wait_for_issued(&daemon, count)?;
    for number in 0..count {
        let name = format!("n{number}.example.com");
        stand.site.wait_for_certificate(&daemon, &name)?;
        stand.wait_for_memory(&name, "/life/advice/start")?;
    }
    stop(&mut daemon)
}

fn hastened() -> Outcome {
    const COUNT: usize = 20;
    let explanation_url = Some(PAGE.to_string());
    // What the CA asks for does not count: without `replaces` nothing could be renewed any more.
    let full = |capacity| Some(Bucket { capacity, period_seconds: 7 * 24 * 3600 });
    let limits = Limits {
        orders_per_account: full(21),
        certificates_per_domain: full(20),
        certificates_per_set: full(1),
        failed_validations_per_name: None,
    };
    let info = RenewalInfo { explanation_url, ..RenewalInfo::default() };
    let stand = Stand::new(Settings { limits, ..informing(info) })?;
    fleet(&stand, COUNT)?;
    let before = stand.ca.ca.with(|ca, now| {
        ca.settings.validation_delay_ms = 200;
        ca.hasten(now, |_| true);
        ca.seen().len()
    });
    stand.forget_when_to_ask()?;
    let mut daemon = stand.start("second", &[])?;
    stand.wait_for_issued(&daemon, 2 * COUNT)?;
    daemon.wait_until_issued(stand.site.port, COUNT)?;
    daemon.wait_until_reloaded(stand.site.port, 1)?;
    // The new ones are asked about as well, and their windows are far away.
    for index in COUNT..2 * COUNT {
        wait_until("a question", || questions(&stand, index).first().cloned())?;
    }
    stand.let_time_pass(&daemon, "later")?;
    let (count, limited) = stand.with_ca(|ca| (ca.issued().len(), ca.limited()));
    expect((count, limited) == (2 * COUNT + 1, 0), || format!("{count} issued, {limited} not"))?;

    let moved = format!("WARN  renewal  {WINDOW_MOVED} name=");
    let (output, line) = (daemon.output(), daemon.line(&moved));
    let said = output.matches(&moved).count();
    expect(said == COUNT && line.contains(PAGE), || format!("said {said} times\n{output}"))?;
    let most = stand.with_ca(|ca| side_by_side(&ca.seen()[before..]));
    expect((2..=10).contains(&most), || format!("{most} side by side"))?;
    let issued = stand.with_ca(|ca| ca.issued().to_vec());
    let keys: BTreeSet<&[u8]> = issued.iter().map(|one| &*one.public_key).collect();
    expect(keys.len() == issued.len(), || "a key served twice".into())?;
    for old in &issued[..COUNT] {
        let new = old.replaced_by.and_then(|index| issued.get(index));
        let new = new.ok_or(format!("{:?} was not replaced", old.names))?;
        let stored = stand.file(&old.names[0])?;
        expect(new.names == old.names && stored.chain[0] == new.der, || {
            format!("{:?} is not the one that is stored", new.names)
        })?;
    }
    Ok(())
}

/// A certificate that is stored, and is renewed by the daemon that is started next, at a CA that is
/// changed as a test wants.
fn one_to_renew(change: impl FnOnce(&mut Settings)) -> Outcome<Stand> {
    let stand = Stand::new(informing(RenewalInfo::default()))?;
    stand.site.deploy("/a", NAME);
    let mut first = stand.start("first", &[])?;
    stand.wait_for_memory(NAME, "/life/advice/start")?;
    stop(&mut first)?;
    stand.ca.ca.with(|ca, now| {
        change(&mut ca.settings);
        ca.hasten(now, |_| true);
    });
    stand.forget_when_to_ask()?;
    Ok(stand)
}

fn without_replaces() -> Outcome {
    let stand = one_to_renew(|settings| settings.refuse_replaces = true)?;
    let mut second = stand.start("second", &[])?;
    second.wait_until_issued(stand.site.port, 1)?;
    stand.let_time_pass(&second, "later")?;
    let (refused, made) =
        (stand.count("POST", "/new-order", 400), stand.count("POST", "/new-order", 201));
    expect((refused, made) == (1, 3), || format!("{refused} orders refused, {made} made"))?;
    let issued = stand.with_ca(|ca| ca.issued().to_vec());
    let alone = issued[0].replaced_by.is_none() && issued[0].public_key != issued[1].public_key;
    expect(alone && stand.file(NAME)?.chain[0] == issued[1].der, || second.output())
}

fn cut_off() -> Outcome {
    let problem = Problem::new(500, "serverInternal", "come back later");
    let busy = Refusal { path: "/authz", problem, times: u32::MAX };
    let stand = one_to_renew(|settings| settings.refusals = vec![busy])?;
    let mut second = stand.start("second", &[])?;
    stand.wait_for_memory(NAME, "/attempt/order")?;
    stand.wait_for_refusals(1)?;
    kill(&mut second)?;
    stand.with_ca(|ca| ca.settings.refusals.clear());
    let mut third = stand.start("third", &[])?;
    third.wait_until_issued(stand.site.port, 1)?;
    stand.let_time_pass(&third, "later")?;
    let made = stand.count("POST", "/new-order", 201);
    let issued = stand.with_ca(|ca| ca.issued().to_vec());
    let fits = (made, issued.len()) == (3, 3) && issued[0].replaced_by == Some(1);
    expect(fits, || format!("{made} orders\n{}", third.output()))?;
    expect(stand.file(NAME)?.chain[0] == issued[1].der, || third.output())
}

/// The CA has issued the successor, and the program ended; the next run fetches it.
fn key_kept() -> Outcome {
    let stand = issued_and_killed()?;
    let mut third = stand.start("third", &[])?;
    third.wait_until_issued(stand.site.port, 1)?;
    let issued = stand.with_ca(|ca| ca.issued().to_vec());
    let stored = stand.file(NAME)?;
    expect(issued.len() == 2 && stored.chain[0] == issued[1].der, || third.output())
}

/// A successor that the CA has issued, and whose order ended with the program before it was fetched.
fn issued_and_killed() -> Outcome<Stand> {
    let stand = one_to_renew(|settings| settings.never_done = true)?;
    let mut second = stand.start("second", &[])?;
    stand.wait_for_issued(&second, 2)?;
    stand.wait_for_memory(NAME, "/attempt/order")?;
    kill(&mut second)?;
    stand.with_ca(|ca| ca.settings.never_done = false);
    Ok(stand)
}

/// Likewise, and its key is lost: earlier versions kept it in memory alone.
fn key_lost() -> Outcome {
    let stand = issued_and_killed()?;
    let before = stand.file(NAME)?;
    stand.forget_key(NAME)?;
    let mut third = stand.start("third", &[])?;
    third.wait_until_failed(stand.site.port, NAME)?;
    expect(stand.file(NAME)?.chain == before.chain, || third.output())?;
    stand.site.deploy("/a", NAME);
    third.wait_until_issued(stand.site.port, 1)?;
    let issued = stand.with_ca(|ca| ca.issued().to_vec());
    let stored = stand.file(NAME)?;
    expect(issued.len() == 3 && stored.chain[0] == issued[2].der, || third.output())
}

fn faults() -> Outcome {
    for (fault, words) in [
        (RenewalInfoFault::NoRetryAfter, "no proper Retry-After"),
        (RenewalInfoFault::EmptyWindow, "window ends at"),
        (RenewalInfoFault::Html, "Welcome"),
        (RenewalInfoFault::Unavailable, "status 503"),
    ] {
        let stand = Stand::new(informing(RenewalInfo { fault, ..RenewalInfo::default() }))?;
        stand.site.deploy("/a", NAME);
        let mut first = stand.start("first", &[])?;
        let complaint = format!("renewal  {WINDOW_UNKNOWN} name={NAME}");
        first.wait_for(&complaint)?;
        let line = first.line(&complaint);
        expect(line.contains("WARN ") && line.contains(words), || line)?;
        let stored = stand.file(NAME)?;
        stop(&mut first)?;
        let renewal = moment(&stand, "renewal")?;
        stand.forget_when_to_ask()?;
        let mut second = stand.start("second", &["--log-level=debug"])?;
        second.wait_for(&complaint)?;
        stand.let_time_pass(&second, "later")?;
        stop(&mut second)?;
        let (line, count) = (second.line(&complaint), second.output().matches(&complaint).count());
        expect(count == 1 && line.contains("DEBUG "), || format!("{count} times: {line}"))?;
        let kept = stand.file(NAME)?.chain == stored.chain && moment(&stand, "renewal")? == renewal;
        expect(kept, || format!("{fault:?}: the certificate or its date has changed"))?;
    }
    Ok(())
}

/// One run of `--once` that ends well; what it said.
fn run_once(stand: &Stand, label: &str, more: &[&str]) -> Outcome<String> {
    let more: Vec<&str> = ["--once"].iter().chain(more).copied().collect();
    let (status, output) = stand.site.run(label, &stand.arguments(), &more)?;
    expect(status == Some(0) && output.contains(UP_TO_DATE), || format!("{status:?}\n{output}"))?;
    Ok(output)
}

fn run_mode() -> Outcome {
    let stand = Stand::new(informing(RenewalInfo::default()))?;
    stand.site.deploy("/a", NAME);
    stand.site.deploy("/b", "b.example.com");
    run_once(&stand, "first", &[])?;
    // The windows of the new ones are known when it ends: else the next one would be a first one.
    for name in [NAME, "b.example.com"] {
        let window = stand.remembered(name)?.pointer("/life/advice/start").cloned();
        expect(window.is_some(), || format!("no window of {name} is remembered"))?;
    }
    let asked = [0, 1].map(|index| questions(&stand, index).len());
    expect(asked == [1, 1] && stand.issued() == 2, || format!("{asked:?}"))?;

    // It is not yet time to ask.
    stand.ca.ca.with(|ca, now| ca.hasten(now, |_| true));
    run_once(&stand, "second", &[])?;
    let asked = [0, 1].map(|index| questions(&stand, index).len());
    expect(asked == [1, 1] && stand.issued() == 2, || format!("{asked:?}"))?;

    stand.forget_when_to_ask()?;
    let output = run_once(&stand, "third", &[])?;
    let moved = output.matches(WINDOW_MOVED).count();
    let issued = stand.with_ca(|ca| ca.issued().to_vec());
    let replaced = issued[..2].iter().filter_map(|old| old.replaced_by).count();
    let fits = (moved, issued.len(), replaced) == (2, 4, 2) && !output.contains(WINDOWS_UNKNOWN);
    expect(fits, || format!("{moved} moved, {} issued\n{output}", issued.len()))?;
    let stored = stand.file(NAME)?.chain[0].clone();
    expect(issued[2..].iter().any(|new| new.der == stored), || "not stored".into())
}

fn run_mode_failed() -> Outcome {
    let stand = Stand::new(informing(RenewalInfo::default()))?;
    stand.site.deploy("/a", NAME);
    run_once(&stand, "first", &[])?;
    stand.with_ca(|ca| {
        let fault = RenewalInfoFault::Unavailable;
        ca.settings.renewal_info = Some(RenewalInfo { fault, ..RenewalInfo::default() });
    });
    for label in ["second", "third"] {
        stand.forget_when_to_ask()?;
        let output = run_once(&stand, label, &[])?;
        let line = output.lines().find(|line| line.contains(WINDOWS_UNKNOWN)).unwrap_or_default();
        expect(line.contains("status 503"), || output.clone())?;
    }
    // A directory that cannot be read may be one that says that there are windows.
    stand.forget_when_to_ask()?;
    stand.ca.ca.with(|ca, _| {
        let problem = Problem::new(503, "serverInternal", "come back later");
        ca.settings.refusals = vec![Refusal { path: "/directory", problem, times: u32::MAX }];
    });
    let output = run_once(&stand, "fourth", &[])?;
    let line = output.lines().find(|line| line.contains(WINDOWS_UNKNOWN)).unwrap_or_default();
    expect(line.contains("come back later"), || output.clone())?;
    expect(stand.issued() == 1, || "a certificate was renewed".into())
}
