//! What Marathon, the CA and the load balancer answer when all is well, and how an answer is spoiled.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// Certificates for one name or the other or both, made with the key of the cheap keys.
const CHAINS: [&str; 3] = [
    include_str!("../../fixtures/a.pem"),
    include_str!("../../fixtures/b.pem"),
    include_str!("../../fixtures/ab.pem"),
];
/// The names in them.
pub const NAMES: [&str; 2] = ["a.example.org", "b.example.org"];
/// What proxies are told, and nobody else.
pub const PROXY_PASSWORD: &str = "open-sesame";
/// What it becomes with the user `ops` before it (RFC 7617 section 2).
pub const PROXY_CREDENTIALS: &str = "b3BzOm9wZW4tc2VzYW1l";
/// Tokens of challenges; each stands for an order.
const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-o";

/// What the peers know.
#[derive(Debug, Default)]
pub struct Peers {
    orders: Vec<Order>,
    nonces: u64,
    /// Which app definitions Marathon has.
    pub apps: u8,
}

#[derive(Debug)]
struct Order {
    names: Vec<String>,
    answered: bool,
    finalized: bool,
}

/// The chain for these names; the one for both where there is no other.
pub fn chain(names: &[&str]) -> &'static str {
    match names {
        [name] if *name == NAMES[0] => CHAINS[0],
        [name] if *name == NAMES[1] => CHAINS[1],
        _ => CHAINS[2],
    }
}

/// A response as bytes.
pub fn response(status: u16, fields: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

impl Peers {
    /// The answer to a request, whoever it went to.
    pub fn answer(&mut self, request: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(request);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let target = head.split(' ').nth(1).unwrap_or("/");
        if head.starts_with("CONNECT ") {
            return b"HTTP/1.1 200 Connection established\r\n\r\n".to_vec();
        }
        // A proxy reads the whole URL.
        let path = target.strip_prefix("http://").and_then(|rest| rest.get(rest.find('/')?..));
        let target = path.unwrap_or(target);
        self.nonces += 1;
        let fields = format!("Replay-Nonce: n{}\r\n", self.nonces);
        match target {
            "/v2/apps" => response(200, "Content-Type: application/json\r\n", &self.apps()),
            "/directory" => response(200, &fields, &directory().to_string()),
            "/nonce" => response(200, &fields, "").into_iter().collect(),
            "/account" => {
                response(201, &format!("{fields}Location: https://ca/account/1\r\n"), "{}")
            }
            "/order" => self.new_order(&fields, body),
            "/revoke" => response(200, &fields, ""),
            "/_mlb_signal/usr1" => response(200, "", "OK"),
            _ if target.starts_with("/v2/events") => {
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n".to_vec()
            }
            _ if target.starts_with("/renewal/") => {
                response(200, "Retry-After: 21600\r\n", &window().to_string())
            }
            _ => self.of_order(&fields, target),
        }
    }

    fn apps(&self) -> String {
        let [a, b] = NAMES;
        let lists: &[&str] = match self.apps % 6 {
            0 => &[a],
            1 => &[a, b],
            2 => &["a.example.org,b.example.org"],
            3 => &[],
            4 => &[b, "bad..name"],
            _ => &[b],
        };
        let app = |(index, list): (usize, &&str)| {
            let labels = json!({"HAPROXY_GROUP": "external", "MARATHON_ACME_0_DOMAIN": list});
            json!({"id": format!("/{index}"), "ports": [0], "labels": labels, "version": "v"})
        };
        let apps: Vec<Value> = lists.iter().enumerate().map(app).collect();
        json!({"apps": apps}).to_string()
    }

    fn new_order(&mut self, fields: &str, body: &str) -> Vec<u8> {
        let payload = payload(body).unwrap_or_default();
        let names = payload["identifiers"].as_array().into_iter().flatten();
        let names = names.filter_map(|name| Some(name["value"].as_str()?.to_string())).collect();
        self.orders.push(Order { names, answered: false, finalized: false });
        let number = self.orders.len() - 1;
        let fields = format!("{fields}Location: https://ca/order/{number}\r\n");
        response(201, &fields, &self.order(number).unwrap_or_default().to_string())
    }

    fn order(&self, number: usize) -> Option<Value> {
        let Order { names, answered, finalized } = self.orders.get(number)?;
        let status = match (finalized, answered) {
            (true, _) => "valid",
            (false, true) => "ready",
            (false, false) => "pending",
        };
        let names: Vec<Value> =
            names.iter().map(|name| json!({"type": "dns", "value": name})).collect();
        let authorizations: Vec<String> = (0..names.len())
            .map(|index| format!("https://ca/authorization/{number}/{index}"))
            .collect();
        Some(json!({
            "status": status,
            "identifiers": names,
            "authorizations": authorizations,
            "finalize": format!("https://ca/finalize/{number}"),
            "certificate": format!("https://ca/certificate/{number}"),
        }))
    }

    /// What lies under an order's number.
    fn of_order(&mut self, fields: &str, target: &str) -> Vec<u8> {
        let mut parts = target.split('/').skip(1);
        let kind = parts.next().unwrap_or_default();
        let mut number = || parts.next()?.parse::<usize>().ok();
        let (Some(order), index) = (number(), number().unwrap_or(0)) else {
            return response(404, fields, "{}");
        };
        let Some(state) = self.orders.get_mut(order) else {
            return response(404, fields, "{}");
        };
        match kind {
            "challenge" => state.answered = true,
            "finalize" => state.finalized = state.answered,
            "certificate" => {
                let names: Vec<&str> = state.names.iter().map(String::as_str).collect();
                return response(200, fields, chain(&names));
            }
            "authorization" => {
                let status = if state.answered { "valid" } else { "pending" };
                let name = state.names.get(index).map_or("", String::as_str);
                let challenge = json!({
                    "type": "http-01",
                    "url": format!("https://ca/challenge/{order}/{index}"),
                    "token": format!("{TOKEN}{order}-{index}"),
                    "status": status,
                });
                let identifier = json!({"type": "dns", "value": name});
                let body =
                    json!({"status": status, "identifier": identifier, "challenges": [challenge]});
                return response(200, fields, &body.to_string());
            }
            _ => {}
        }
        response(200, fields, &self.order(order).unwrap_or_default().to_string())
    }
}

/// What a signed request says.
fn payload(body: &str) -> Option<Value> {
    let body: Value = serde_json::from_str(body).ok()?;
    let payload = URL_SAFE_NO_PAD.decode(body["payload"].as_str()?).ok()?;
    serde_json::from_slice(&payload).ok()
}

fn directory() -> Value {
    json!({
        "newNonce": "https://ca/nonce",
        "newAccount": "https://ca/account",
        "newOrder": "https://ca/order",
        "revokeCert": "https://ca/revoke",
        "renewalInfo": "https://ca/renewal",
        "meta": {"profiles": {"shortlived": "Six days"}},
    })
}

fn window() -> Value {
    let (start, end) = ("2026-12-24T00:00:00Z", "2026-12-26T00:00:00Z");
    json!({"suggestedWindow": {"start": start, "end": end}})
}

/// What comes in place of a good answer.
pub fn spoiled(which: u8, good: Vec<u8>) -> Vec<u8> {
    let problem = |status: u16, name: &str, fields: &str| {
        let kind = format!("urn:ietf:params:acme:error:{name}");
        let name = json!({"type": kind, "identifier": {"type": "dns", "value": NAMES[0]}});
        let body = json!({"type": kind, "detail": "no", "subproblems": [name]});
        response(status, &format!("Replay-Nonce: m{which}\r\n{fields}"), &body.to_string())
    };
    let object = |body: &str| response(200, "Replay-Nonce: o1\r\n", body);
    match which % 24 {
        1 => response(500, "", "<html>"),
        2 => problem(429, "rateLimited", "Retry-After: 3600\r\n"),
        3 => problem(400, "badNonce", ""),
        4 => problem(400, "accountDoesNotExist", ""),
        5 => problem(403, "unauthorized", ""),
        6 => problem(400, "rejectedIdentifier", ""),
        7 => problem(503, "serverInternal", "Retry-After: 5\r\n"),
        8 => problem(403, "orderNotReady", ""),
        9 => problem(409, "alreadyReplaced", ""),
        10 => problem(403, "userActionRequired", ""),
        11 => problem(400, "malformed", ""),
        12 => problem(400, "alreadyRevoked", ""),
        13 => object(r#"{"status":"invalid","authorizations":[],"finalize":"https://ca/f"}"#),
        14 => object(
            r#"{"status":"processing","authorizations":["https://ca/authorization/0/0"],
            "finalize":"https://ca/finalize/0"}"#,
        ),
        15 => object(
            r#"{"status":"invalid","identifier":{"type":"dns","value":"a.example.org"},
            "challenges":[{"type":"http-01","error":{"type":"urn:ietf:params:acme:error:dns"}}]}"#,
        ),
        16 => object("{"),
        17 => object(CHAINS[1]),
        18 => response(307, "Location: http://10.0.0.3:8080/v2/apps\r\n", ""),
        19 => response(301, "Location: /\r\n", ""),
        20 => good[..good.len() / 2].to_vec(),
        21 => [&good[..], b"HTTP/1.1 200 OK\r\n\r\n"].concat(),
        22 => response(503, "", "no leader"),
        23 => response(200, "Content-Type: application/json\r\n", r#"{"apps":[]}"#),
        _ => good,
    }
}
