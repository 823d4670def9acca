//! Alternate chains (RFC 8555 section 7.4.2).

use super::*;

/// The `Link` fields that are about other chains.
fn alternates(response: &Response) -> Vec<&str> {
    let fields = response.headers.iter().filter(|(name, _)| name == "Link");
    fields.map(|(_, value)| &**value).filter(|value| value.contains("alternate")).collect()
}

/// The common name of the issuer of the last certificate.
fn topmost(pem: &[u8]) -> String {
    let blocks: Vec<_> = x509_parser::pem::Pem::iter_from_buffer(pem).collect();
    assert_eq!(blocks.len(), 2);
    let last = blocks.last().unwrap().as_ref().unwrap().parse_x509().unwrap();
    last.issuer().iter_common_name().next().unwrap().as_str().unwrap().to_string()
}

#[test]
fn none_by_default() {
    let mut client = Client::registered(|_| {});
    client.issue(&["a.example.com"]);
    let chain = client.read("/cert/0");
    assert_eq!((alternates(&chain), &*topmost(&chain.body)), (vec![], "Stand-in Root"));
    assert_eq!(problem(&client.read("/cert/0/alternate/1")), kind(404, "malformed"));
}

#[test]
fn each_ends_at_a_root_of_its_own() {
    let mut client = Client::registered(|settings| settings.alternates = 3);
    client.issue(&["a.example.com"]);
    let chain = client.read("/cert/0");
    let url = |chain: u8| format!("<https://ca.test/cert/0/alternate/{chain}>;rel=\"alternate\"");
    let expected = [format!("{}, {}", url(1), url(2)), url(3)];
    assert_eq!(alternates(&chain), expected);
    let index = chain.headers.iter().filter(|(_, value)| value.contains("rel=\"index\""));
    assert_eq!(index.count(), 1);
    assert_eq!(topmost(&chain.body), "Stand-in Root");
    for number in 1..=3 {
        let other = client.read(&format!("/cert/0/alternate/{number}"));
        assert_eq!(other.header("Content-Type"), Some("application/pem-certificate-chain"));
        assert_eq!(topmost(&other.body), format!("Stand-in Root {}", number + 1));
        let leaf = |pem: &[u8]| x509_parser::pem::parse_x509_pem(pem).unwrap().1.contents;
        assert_eq!(leaf(&other.body), leaf(&chain.body));
        let root = client.ca.peer.alternate_root_pem(number);
        let (_, root) = x509_parser::pem::parse_x509_pem(root.as_bytes()).unwrap();
        let root = root.parse_x509().unwrap();
        let name = root.subject().iter_common_name().next().unwrap().as_str().unwrap();
        assert_eq!(name, format!("Stand-in Root {}", number + 1));
    }
}
