//! A CA that names this machine's own servers as its resources.

use super::*;

const HERE: &str = r#"{"status":"pending","authorizations":["http://127.0.0.1:9090/_mlb_signal/usr1"],
    "finalize":"https://ca/finalize/1"}"#;

impl Case {
    /// All orders are answered with this.
    fn answering_orders(mut self, body: &'static str) -> Case {
        self.order_object = Some(body);
        self
    }
}

#[test]
fn a_resource_on_this_machine_is_not_asked_where_the_directory_is_elsewhere() {
    let mut case = Case::registered().answering_orders(HERE);
    case.order(1);
    case.run();
    assert_eq!(case.asked_for("_mlb_signal/usr1"), 0, "{:?}", case.asked);
    let [(_, Err(error))] = &case.finished[..] else { panic!("{:?}", case.finished) };
    let said = "the CA's answer has no proper https URL; it begins with \"http://127.0.0.1:9090/";
    assert!(error.to_string().contains(said), "{error}");

    // One that an earlier run has noted.
    let mut case = Case::registered();
    let url = Url::parse("http://127.0.0.1:9090/order/1").unwrap();
    let resume = Some(Resume { url, certificate: None });
    let names = vec![Domain::parse("a.example.org").unwrap()];
    let order = OrderId(1);
    let app = "/app".into();
    let new = NewOrder { order, app, names, replaces: None, resume, failed_before: false };
    case.issuer.order(&mut case.bench.cx(), new);
    case.run();
    assert_eq!(case.asked, Vec::<String>::new());
}

#[test]
fn where_the_directory_is_on_this_machine_so_are_its_resources() {
    let acme = Url::parse("http://localhost:14000/dir").unwrap();
    let mut case = Case::of(&Config { acme, ..config() }, None);
    case.directory = r#"{"newNonce":"http://localhost:14000/nonce",
        "newAccount":"http://127.0.0.1:14000/account","newOrder":"https://ca/new-order"}"#;
    let pem = Secret::new("PRIVATE KEY".into());
    case.issuer.start(&mut case.bench.cx(), Some(&pem), None);
    case.run();
    assert_eq!(case.asked, ["GET dir", "HEAD nonce", "POST account"]);
    case.order(1);
    case.run();
    assert_eq!(case.issued(), 1);
}
