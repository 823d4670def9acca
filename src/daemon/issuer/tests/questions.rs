//! Questions about renewals, and revocations.

use super::*;

const WITH_ALL: &str = r#"{"newNonce":"https://ca/nonce","newAccount":"https://ca/account",
    "newOrder":"https://ca/new-order","revokeCert":"https://ca/revoke",
    "renewalInfo":"https://ca/renewal"}"#;

fn registered() -> Case {
    let mut case = Case::new();
    case.directory = WITH_ALL;
    let pem = Secret::new("PRIVATE KEY".into());
    case.issuer.start(&mut case.bench.cx(), Some(&pem), None);
    case.run();
    case.asked.clear();
    case
}

fn name(number: usize) -> Domain {
    Domain::parse(&format!("n{number}.org")).unwrap()
}

#[test]
fn questions_are_plain_and_a_few_at_a_time() {
    let mut case = registered();
    assert!(
        case.said.iter().any(|said| matches!(said, IssuerOutput::Offers { renewal_info: true }))
    );
    (0..20).for_each(|number| case.issuer.ask(name(number), format!("aki.serial{number}")));
    case.drain();
    assert_eq!(case.calls.len(), 4);
    case.run();
    assert_eq!(case.asked.len(), 20);
    assert_eq!(case.asked[0], "GET renewal/aki.serial0");
    let answers = case.said.iter().filter(
        |said| matches!(said, IssuerOutput::Advised { answer: Err(error), .. } if !error.temporary),
    );
    assert_eq!(answers.count(), 20, "an answer of {{}} is none");
}

#[test]
fn a_question_that_is_lost_has_an_answer_too() {
    let mut case = registered().trick("renewal", &[Trick::Lost]);
    case.issuer.ask(name(1), "aki.serial".into());
    case.run();
    let answer = case.said.iter().find_map(|said| match said {
        IssuerOutput::Advised { cert_id, answer: Err(error), .. } => Some((cert_id, error)),
        _ => None,
    });
    let (cert_id, error) = answer.expect("an answer");
    assert!(cert_id == "aki.serial" && error.temporary && error.text.contains("reset"));
}

fn revoked(case: &Case) -> Option<Result<(), String>> {
    case.said.iter().find_map(|said| match said {
        IssuerOutput::Revoked(result) => Some(result.clone()),
        _ => None,
    })
}

#[test]
fn the_account_revokes_and_else_the_certificates_own_key() {
    let mut case = registered();
    case.issuer.revoke(&mut case.bench.cx(), vec![1, 2, 3], None);
    case.run();
    assert_eq!(revoked(&case), Some(Ok(())));
    assert_eq!(case.payloads["revoke"]["certificate"], "AQID");

    let own = case.issuer.key.clone();
    let mut case = registered().trick("revoke", &[Trick::Problem("unauthorized", 403)]);
    case.issuer.revoke(&mut case.bench.cx(), vec![1, 2, 3], own);
    case.run();
    assert_eq!((revoked(&case), case.asked_for("POST revoke")), (Some(Ok(())), 2));

    let mut case = registered().trick("revoke", &[Trick::Problem("unauthorized", 403)]);
    case.issuer.revoke(&mut case.bench.cx(), vec![1], None);
    case.run();
    assert!(revoked(&case).unwrap().unwrap_err().contains("unauthorized"));

    let mut case = registered().trick("revoke", &[Trick::Problem("alreadyRevoked", 400)]);
    case.issuer.revoke(&mut case.bench.cx(), vec![1], None);
    case.run();
    assert_eq!(revoked(&case), Some(Ok(())), "done already is done");
}

#[test]
fn a_revocation_by_an_account_that_the_ca_forgets_again_and_again_ends() {
    let forgetting = [Trick::Problem("accountDoesNotExist", 400); 100];
    let mut case = registered().trick("revoke", &forgetting[..1]);
    case.issuer.revoke(&mut case.bench.cx(), vec![1], None);
    case.run();
    assert_eq!((revoked(&case), case.asked_for("POST account")), (Some(Ok(())), 1));

    let mut case = registered().trick("revoke", &forgetting);
    case.issuer.revoke(&mut case.bench.cx(), vec![1], None);
    case.run();
    assert!(revoked(&case).unwrap().unwrap_err().contains("accountDoesNotExist"));
    assert_eq!((case.asked_for("POST revoke"), case.asked_for("POST account")), (2, 1));

    let mut case = registered().trick("revoke", &forgetting[..2]);
    let own = case.issuer.key.clone();
    case.issuer.revoke(&mut case.bench.cx(), vec![1], own);
    case.run();
    assert_eq!((revoked(&case), case.asked_for("POST revoke")), (Some(Ok(())), 3));
}

#[test]
fn a_revocation_waits_for_the_account_and_hears_when_there_is_none() {
    let mut case = Case::new();
    case.directory = WITH_ALL;
    case.issuer.revoke(&mut case.bench.cx(), vec![1], None);
    let pem = Secret::new("PRIVATE KEY".into());
    case.issuer.start(&mut case.bench.cx(), Some(&pem), None);
    case.run();
    assert_eq!(revoked(&case), Some(Ok(())));
    let mut case = Case::new();
    case.issuer.revoke(&mut case.bench.cx(), vec![1], None);
    case.issuer.start(&mut case.bench.cx(), Some(&Secret::new("rubbish".into())), None);
    case.run();
    assert!(revoked(&case).unwrap().unwrap_err().contains("client.key"));
}
