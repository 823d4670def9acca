//! Many certificates, orders and questions at one CA, in the way of a simulated year.

use super::*;

#[test]
fn many_orders_and_questions() {
    let mut client = Client::registered(|settings| {
        settings.renewal_info = Some(RenewalInfo::default());
        settings.keep_seen = false;
        settings.order_reuse = true;
        settings.authz_reuse_percent = 100;
    });
    let names: Vec<String> = (0..100).map(|number| format!("n{number}.example.com")).collect();
    for name in &names {
        client.issue(&[name]);
    }
    for name in &names {
        // The authorization is good still: no fetch, and a new certificate.
        client.issue(&[name]);
    }
    assert_eq!(client.ca.peer.issued().len(), 200);
    assert_eq!(client.ca.peer.checked().len(), 100);
    let ids: Vec<String> =
        client.ca.peer.issued().iter().map(|each| each.cert_id.clone()).collect();
    let conn = client.ca.connect();
    for id in ids.iter().cycle().take(10_000) {
        let head =
            format!("GET /renewal-info/{id} HTTP/1.1\r\nHost: x\r\nUser-Agent: test\r\n\r\n");
        client.ca.send(conn, head.as_bytes());
        client.ca.writes.clear();
        assert!(client.ca.text(conn).starts_with("HTTP/1.1 200 OK\r\n"));
    }
}
