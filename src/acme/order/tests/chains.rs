//! The preferred chain among those that the CA offers. Certificates are real here, keys are not.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use super::*;

/// The URL of the certificate in these tests, and its other chains.
const ALTERNATES: &[(&str, &str)] = &[
    ("Link", r#"<https://ca/dir>;rel="index", </c/1>;rel="alternate""#),
    ("Link", r#"<https://ca/c/2>;rel=alternate"#),
];
const WARNING: &str = "the preferred chain is not to be had, using the default";

/// A certificate that says who issued it.
fn issued_by(issuer: &str) -> String {
    let mut params = CertificateParams::new(["a.org".to_string()]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, issuer);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

/// A leaf, and chains of it.
struct Chains {
    leaf: String,
}

impl Chains {
    fn new() -> Chains {
        Chains { leaf: issued_by("Low CA") }
    }

    fn up_to(&self, issuer: &str) -> String {
        format!("{}{}", self.leaf, issued_by(issuer))
    }
}

/// The certificate is there, but not yet downloaded.
fn valid(preferred: &str) -> Case {
    let names = vec![Domain::parse("a.org").unwrap()];
    let preferred_chain = Some(preferred.to_string());
    let mut case = Case::of(OrderRequest { preferred_chain, ..OrderRequest::plain(names) });
    case.created(READY);
    assert_eq!(case.answer(VALID), ["https://ca/c"]);
    case
}

impl Case {
    /// The last answer comes; the chain that the order ends with.
    fn chain(&mut self, reply: Result<Response, CallError>) -> String {
        self.order.handle_reply(&mut self.bench.cx(), &self.key, reply);
        self.take_chain()
    }

    fn take_chain(&mut self) -> String {
        match self.order.poll_output() {
            Some(OrderOutput::Finished(Ok(issued))) => issued.chain_pem,
            other => panic!("{other:?}"),
        }
    }

    /// What the warning says was offered.
    fn offered(&self) -> String {
        let warning = self.bench.log.iter().find(|record| record.message == WARNING);
        let fields = &warning.expect("a warning").fields;
        fields.iter().find(|(name, _)| *name == "offered").expect("a field").1.clone()
    }
}

#[test]
fn a_default_that_is_preferred_is_taken_at_once() {
    let chains = Chains::new();
    let mut case = valid("Old Root");
    let default = chains.up_to("Old Root");
    assert_eq!(case.chain(Ok(response(ALTERNATES, &default))), default);
    assert_eq!(case.bench.logged(WARNING), 0);
}

#[test]
fn the_other_chains_are_tried_in_turn_until_one_fits() {
    let chains = Chains::new();
    let mut case = valid("New Root");
    let default = chains.up_to("Old Root");
    assert_eq!(case.reply(Ok(response(ALTERNATES, &default))), ["https://ca/c/1"]);
    assert_eq!(case.answer(chains.up_to("Other Root")), ["https://ca/c/2"]);
    let preferred = chains.up_to("New Root");
    assert_eq!(case.chain(Ok(response(&[], &preferred))), preferred);
    assert_eq!(case.bench.logged(WARNING), 0);
}

#[test]
fn any_issuer_but_the_topmost_does_not_count() {
    let chains = Chains::new();
    let mut case = valid("Low CA");
    let default = chains.up_to("Old Root");
    assert_eq!(case.chain(Ok(response(&[], &default))), default);
    assert_eq!(case.offered(), "Old Root");
}

#[test]
fn when_none_fits_the_default_serves_and_the_operator_is_told() {
    let chains = Chains::new();
    let mut case = valid("New Root");
    let default = chains.up_to("Old Root");
    case.reply(Ok(response(ALTERNATES, &default)));
    case.answer("no chain");
    let last = case.chain(Ok(response(&[], &chains.up_to("Other Root"))));
    assert_eq!(last, default);
    assert_eq!(case.offered(), "Old Root; (no name); Other Root");
}

#[test]
fn a_chain_of_another_leaf_does_not_fit() {
    let mut case = valid("New Root");
    let default = Chains::new().up_to("Old Root");
    case.reply(Ok(response(&ALTERNATES[1..], &default)));
    let foreign = Chains::new().up_to("New Root");
    assert_eq!(case.chain(Ok(response(&[], &foreign))), default);
}

#[test]
fn a_fetch_that_fails_for_good_costs_nothing() {
    let chains = Chains::new();
    let mut case = valid("New Root");
    let default = chains.up_to("Old Root");
    case.reply(Ok(response(ALTERNATES, &default)));
    assert_eq!(case.passing(), Wishes::new());
    assert_eq!(case.wait(BACKOFF_MAX), ["https://ca/c/1"], "a lost answer is asked for again");
    let gone = Err(problem(ProblemKind::Malformed, 404, None));
    assert_eq!(case.chain(gone), default);
    assert_eq!(case.offered(), "Old Root");

    let mut case = valid("New Root");
    case.reply(Ok(response(ALTERNATES, &default)));
    case.bench.pass(ORDER_DEADLINE);
    case.order.handle_timeout(case.bench.now.mono, &case.directory);
    assert_eq!(case.take_chain(), default, "nor does the deadline");
}

#[test]
fn ten_other_chains_are_tried_at_most() {
    let chains = Chains::new();
    let mut case = valid("New Root");
    let fields: Vec<String> =
        (0..30).map(|n| format!("<https://ca/c/{n}>;rel=alternate")).collect();
    let joined = fields.join(", ");
    let default = chains.up_to("Old Root");
    let mut wishes = case.reply(Ok(response(&[("Link", &joined)], &default)));
    let mut asked = 0;
    let mut steps = crate::testing::Steps::default();
    while wishes != ["issued a.org"] {
        steps.count();
        assert_eq!(wishes, [format!("https://ca/c/{asked}")]);
        asked += 1;
        wishes = case.answer(&chains.leaf);
    }
    assert_eq!(asked, 10);
}
