//! Rate limits of the CA that are reckoned here: who waits for them, and who does not.

use std::fs;

use marathon_acme::log::message::ORDER_HELD_BACK;
use stand_ins::ca::{Bucket, Limits, RenewalInfo, Settings, Step};
use stand_ins::driver::time_now;

use crate::Test;
use crate::process::{Outcome, expect, get, wait_until};
use crate::site::text;
use crate::stand::{Stand, stop};

pub(crate) const TESTS: &[Test] = &[
    ("an_app_whose_names_fail_leaves_others_their_orders", &[], fair),
    ("a_renewal_waits_for_no_limit_that_others_use_up", &[], renewed),
    ("a_certificate_that_is_lost_is_renewed_like_any_other", &[], lost),
];

const NAME: &str = "a.example.com";
const OTHER: &str = "b.example.com";

/// The names that orders were made for, in their order.
fn orders(stand: &Stand) -> Vec<String> {
    stand.with_ca(|ca| {
        let made = ca.seen().iter();
        let made = made.filter(|it| it.step == Some(Step::NewOrder) && it.status == 201);
        made.map(|it| it.names.join(" ")).collect()
    })
}

/// Forty names of one app fail before, while and after another app comes; a token comes every 3 s, and
/// there is none at first.
fn fair() -> Outcome {
    let bad: Vec<String> = (0..40).map(|number| format!("aa{number}.bad{number}.com")).collect();
    let failing_names = bad.iter().cloned().collect();
    let stand = Stand::new(Settings { failing_names, ..Settings::default() })?;
    let options = ["--ca-limits=orders=3600", "--allow-multiple-certs"];
    let mut first = stand.start("first", &options)?;
    first.wait_until_registered(stand.site.port)?;
    stop(&mut first)?;
    let empty_ms = time_now().unix_ms + 3 * 60 * 60 * 1000;
    let directory = stand.ca.directory.clone();
    stand.change_state(|state| state["cas"][&directory]["budget"]["orders"] = empty_ms.into())?;
    stand.site.deploy("/aa-bad", &bad.join(","));
    let mut second = stand.start("second", &options)?;
    wait_until("an order of the app whose names fail", || orders(&stand).first().cloned())?;
    stand.site.deploy("/zz-good", "good.example.com");
    second.wait_until_wanted(stand.site.port, "good.example.com")?;
    let before = orders(&stand).len();
    stand.site.wait_for_certificate(&second, "good.example.com")?;
    let orders = orders(&stand);
    let place = orders.iter().position(|names| names == "good.example.com").unwrap_or_default();
    // Two apps wait; one order may have been under way.
    expect(place <= before + 2, || format!("{before} orders, then {orders:?}"))?;
    let said = second.line(ORDER_HELD_BACK);
    expect(said.contains("limit=\"3600 orders per account in 3 h\""), || said)?;
    let limits = get(stand.site.port, "/status.json")?;
    expect(limits.contains("3600 orders per account in 3 h"), || limits)?;
    stop(&mut second)
}

/// Everything that the CA exempts from a limit is one certificate and one order above it.
fn exhausted(renewal_info: Option<RenewalInfo>) -> Settings {
    let one = Some(Bucket { capacity: 1, period_seconds: 7 * 24 * 3600 });
    let limits =
        Limits { orders_per_account: one, certificates_per_domain: one, ..Limits::default() };
    Settings { limits, renewal_info, ..Settings::default() }
}

/// One certificate, and an order that waits because of it; then `act`, and the certificate is renewed.
fn renewed_after(stand: &Stand, act: impl FnOnce() -> Outcome) -> Outcome {
    let options = ["--ca-limits=orders=1,domain=1"];
    stand.site.deploy("/a", NAME);
    let mut first = stand.start("first", &options)?;
    stand.site.wait_for_certificate(&first, NAME)?;
    stand.site.deploy("/b", OTHER);
    let held = format!("{ORDER_HELD_BACK} name={OTHER}");
    first.wait_for(&held)?;
    let line = first.line(&held);
    let limit = "limit=\"1 certificates per registered domain in 7 d (example.com)\"";
    expect(line.contains(limit), || line)?;
    stand.wait_for_memory(NAME, "/life/serial")?;
    stop(&mut first)?;
    act()?;
    let mut second = stand.start("second", &options)?;
    stand.wait_for_issued(&second, 2)?;
    second.wait_until_issued(stand.site.port, 1)?;
    let (orders, limited) = (orders(stand), stand.with_ca(|ca| ca.limited()));
    expect(orders == [NAME, NAME] && limited == 0, || format!("{orders:?}, {limited} refused"))?;
    stop(&mut second)
}

/// The window is over: `replaces` alone exempts from nothing.
fn renewed() -> Outcome {
    let stand = Stand::new(exhausted(Some(RenewalInfo::default())))?;
    renewed_after(&stand, || {
        stand.ca.ca.with(|ca, now| ca.hasten(now, |_| true));
        stand.forget_when_to_ask()
    })
}

/// Of a file that is damaged while no daemon runs only `state.json` knows.
fn lost() -> Outcome {
    let stand = Stand::new(exhausted(None))?;
    renewed_after(&stand, || fs::write(stand.site.certificate(NAME), "damaged").map_err(text))
}
