//! TLS that begins on a connection which was in the clear before, as through a proxy's tunnel.

use super::*;

const ASK: &[u8] = b"CONNECT ca.example:443 HTTP/1.1\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

/// What a machine hears that says `ASK`, wants TLS at the first answer, and says hello through it.
fn heard(
    to: SocketAddr,
    wanted: &'static [&'static str],
    acme_ca: &std::path::Path,
) -> Vec<String> {
    let (sender, receiver) = mpsc::channel();
    let mut stands = false;
    run(
        Some(acme_ca),
        Box::new(move |input| {
            let secure = |name: &&str| {
                let tls = tls(name).expect("a way to secure it");
                Output::Secure { conn: CONN, tls }
            };
            let (line, outputs) = match input {
                Input::Started { .. } => return connect(to, None),
                Input::Connected(conn) => {
                    let bytes = if stands { b"hello" } else { ASK };
                    stands = true;
                    let send = Output::Send { conn: *conn, bytes: bytes.to_vec().into() };
                    ("connected".to_string(), vec![send])
                }
                Input::Received(_, bytes) => (
                    String::from_utf8_lossy(bytes).into_owned(),
                    wanted.iter().map(secure).collect(),
                ),
                Input::Closed(_, reason) => (format!("{reason:?}"), vec![Output::Exit(0)]),
                _ => return Vec::new(),
            };
            sender.send(line).unwrap();
            outputs
        }),
    );
    receiver.iter().collect()
}

/// A proxy that is the far end itself: reads `ASK`, says something, then speaks TLS.
fn tunnel(config: Arc<ServerConfig>, says: &'static [u8]) -> (SocketAddr, JoinHandle<Vec<u8>>) {
    listening(move |mut stream| {
        stream.read_exact(&mut vec![0; ASK.len()]).unwrap();
        stream.write_all(says).unwrap();
        serve(stream, config, true)
    })
}

#[test]
fn tls_begins_on_a_connection_that_stands() {
    let mut authority = Authority::new(3);
    let (address, server) = tunnel(authority.server("ca.example"), ANSWER);
    let lines = heard(address, &["ca.example"], authority.root.path());
    let answer = String::from_utf8_lossy(ANSWER).into_owned();
    assert_eq!(lines, ["connected", &answer, "connected", "Finished"]);
    assert_eq!(server.join().unwrap(), b"hello");
}

#[test]
fn the_far_end_must_be_who_it_should_be() {
    let mut authority = Authority::new(3);
    let (address, server) = tunnel(authority.server("proxy.example"), ANSWER);
    let lines = heard(address, &["ca.example"], authority.root.path());
    assert!(lines.len() == 3 && lines[2].contains("not valid for name"), "{lines:?}");
    assert_eq!(server.join().unwrap(), b"", "nothing was said to it");
}

#[test]
fn what_can_be_no_name_and_what_is_secured_already_is_closed() {
    let mut authority = Authority::new(3);
    let cases: [(&[&str], &str); 2] =
        [(&["no name"], "invalid"), (&["ca.example", "ca.example"], "cannot begin")];
    for (wanted, words) in cases {
        let (address, server) = tunnel(authority.server("ca.example"), ANSWER);
        let lines = heard(address, wanted, authority.root.path());
        assert!(lines.len() == 3 && lines[2].contains(words), "{lines:?}");
        assert_eq!(server.join().unwrap(), b"", "nothing was said to it");
    }
}
