//! The simulated name server: answers A and AAAA questions about the peers (RFC 1035 section 4).

use std::collections::BTreeMap;
use std::net::IpAddr;

use marathon_acme::seam::Loaded;

/// Where it listens.
const RESOLV_CONF: &str = "nameserver 10.0.0.53\noptions timeout:1 attempts:3\n";

/// Which name has which addresses.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<String, Vec<IpAddr>>);

impl Names {
    /// Says what a name resolves to.
    pub(crate) fn set(&mut self, name: &str, addresses: &[IpAddr]) {
        self.0.insert(name.to_string(), addresses.to_vec());
    }

    /// How the daemon's machines are told to ask it.
    pub(crate) fn service(&self) -> Loaded {
        let hosts = b"127.0.0.1 localhost\n".to_vec();
        Loaded::NameService { resolv_conf: RESOLV_CONF.into(), hosts }
    }

    /// The answer to a query with one question.
    pub(crate) fn answer(&self, query: &[u8]) -> Vec<u8> {
        let (name, question_end) = question(query);
        let a_question = query[question_end - 3] == 1;
        let addresses = self.0.get(&name);
        let fits = |address: &&IpAddr| address.is_ipv4() == a_question;
        let found: Vec<&IpAddr> = addresses.into_iter().flatten().filter(fits).collect();
        let rcode = if addresses.is_some() { 0 } else { 3 };
        let count = u8::try_from(found.len()).expect("few addresses");
        let mut answer = vec![query[0], query[1], 0x81, 0x80 | rcode, 0, 1, 0, count, 0, 0, 0, 0];
        answer.extend(&query[12..question_end]);
        for address in found {
            let bytes = match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            let kind = if a_question { 1 } else { 28 };
            answer.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0]);
            answer.push(u8::try_from(bytes.len()).expect("4 or 16"));
            answer.extend(bytes);
        }
        answer
    }
}

/// The name that a query asks about, and where the question ends.
fn question(query: &[u8]) -> (String, usize) {
    let (mut parts, mut at) = (Vec::new(), 12);
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        parts.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    (parts.join("."), at + 5)
}
