//! The driver on real sockets, with a peer of a few lines.

use std::io::{BufRead, BufReader, Write};
use std::sync::mpsc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;
use crate::ca::{self, Ca};
use crate::http::client::{self, Response};
use crate::marathon::Marathon;
use crate::pki::Pki;
use crate::seeded::Signer;
use crate::tls;

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

#[test]
fn marathon_on_a_socket() {
    let driver = Driver::start(listener(), Marathon::default(), Options::default()).unwrap();
    let mut stream = TcpStream::connect(driver.address()).unwrap();
    let request = "GET /v2/events HTTP/1.1\r\nHost: m\r\nAccept: text/event-stream\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "event: event_stream_attached"));
    driver.with(|marathon, now| marathon.put_app(now, json!({"id": "/www"})));
    assert!(lines.any(|line| line == "event: api_post_event"));
    driver.with(|marathon, _| marathon.drop_streams());
    assert_eq!(lines.last().unwrap(), "", "the stream ends");
}

#[test]
fn a_driver_ends_though_clients_stay() {
    let driver = Driver::start(listener(), Marathon::default(), Options::default()).unwrap();
    let address = driver.address();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /v2/ev").unwrap();
    drop(driver);
    assert!(TcpStream::connect(address).is_err());
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
}

/// A client of the CA over real TLS.
struct Account {
    address: SocketAddr,
    config: Arc<rustls::ClientConfig>,
    key: Signer,
    nonce: String,
    kid: Option<String>,
}

impl Account {
    fn ask(&mut self, start: &str, fields: &str, body: &str) -> Response {
        let mut stream = tls::connect(self.address, "ca.test", &self.config).unwrap();
        let request = format!(
            "{start} HTTP/1.1\r\nHost: ca.test\r\nUser-Agent: test\r\nConnection: close\r\n\
             {fields}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let (response, _) = client::response(&bytes, true).unwrap().unwrap();
        self.nonce = response.header("Replay-Nonce").unwrap_or_default().to_string();
        response
    }

    fn post(&mut self, path: &str, payload: &str) -> Response {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut header = json!({ "alg": "ES256", "nonce": self.nonce });
        header["url"] = json!(format!("https://ca.test{path}"));
        match &self.kid {
            Some(kid) => header["kid"] = json!(kid),
            None => {
                let (x, y) = self.key.coordinates();
                let (x, y) = (text(&x), text(&y));
                header["jwk"] = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y });
            }
        }
        let (protected, payload) = (text(header.to_string().as_bytes()), text(payload.as_bytes()));
        let signature = text(&self.key.sign_fixed(format!("{protected}.{payload}").as_bytes()));
        let jws = json!({ "protected": protected, "payload": payload, "signature": signature });
        let fields = "Content-Type: application/jose+json\r\n";
        self.ask(&format!("POST {path}"), fields, &jws.to_string())
    }
}

fn object(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap()
}

/// Answers one request with the text that comes over the channel.
fn challenge_server(answer: mpsc::Receiver<String>) -> SocketAddr {
    let listener = listener();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]).unwrap();
        let body = answer.recv().unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    });
    address
}

#[test]
fn the_ca_over_tls_validates_by_a_real_connection() {
    let (sender, receiver) = mpsc::channel();
    let challenges = challenge_server(receiver);
    let now = time_now();
    let mut pki = Pki::new(4, "Api", now);
    let identity = pki.identity(&["ca.test"], now).unwrap();
    let options = Options {
        tls: Some(tls::server_config(&identity).unwrap()),
        route: Some(Box::new(move |host, port| {
            (host == "a.example.com" && port == 80).then_some(challenges)
        })),
    };
    let peer = Ca::new(1, "https://ca.test", now, ca::Settings::default());
    let driver = Driver::start(listener(), peer, options).unwrap();
    let mut account = Account {
        address: driver.address(),
        config: tls::client_config(pki.root_der()).unwrap(),
        key: Signer::from_seed(100),
        nonce: String::new(),
        kid: None,
    };
    account.ask("GET /new-nonce", "", "");
    let response = account.post("/new-account", r#"{"termsOfServiceAgreed":true}"#);
    account.kid = response.header("Location").map(str::to_string);
    let payload = r#"{"identifiers":[{"type":"dns","value":"a.example.com"}]}"#;
    assert_eq!(account.post("/new-order", payload).status, 201);
    let authz = object(&account.post("/authz/0", ""));
    let challenges = authz["challenges"].as_array().unwrap();
    let challenge = challenges.iter().find(|each| each["type"] == "http-01").unwrap();
    let (x, y) = account.key.coordinates();
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let jwk = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, text(&x), text(&y));
    let digest = ring::digest::digest(&ring::digest::SHA256, jwk.as_bytes());
    let token = challenge["token"].as_str().unwrap();
    sender.send(format!("{token}.{}", text(digest.as_ref()))).unwrap();
    account.post("/challenge/0/http-01", "{}");
    let valid = (0..500).any(|_| {
        thread::sleep(Duration::from_millis(10));
        object(&account.post("/order/0", ""))["status"] == "ready"
    });
    assert!(valid, "{:?}", driver.with(|ca, _| ca.seen().last().cloned()));
}

#[test]
fn time_passes_on_a_socket() {
    let settings = crate::lb::Settings { reload_ms: 20, ..crate::lb::Settings::default() };
    let peer = crate::lb::LoadBalancer::new(time_now(), settings);
    let driver = Driver::start(listener(), peer, Options::default()).unwrap();
    let mut stream = TcpStream::connect(driver.address()).unwrap();
    let request = "POST /_mlb_signal/usr1 HTTP/1.0\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.ends_with("\r\n\r\nSent SIGUSR1 signal to marathon-lb"), "{response}");
    let reloaded = (0..500).any(|_| {
        thread::sleep(Duration::from_millis(10));
        driver.with(|peer, _| peer.reloads().len()) == 1
    });
    assert!(reloaded);
}
